/* SPDX-License-Identifier: Apache-2.0
 *
 * The pool of states: growth, the limit, stale names.
 *
 * A name is (index, generation), and a generation has 32 bits: a name can come back to life only after its slot was
 * acquired 2^32 times more while somebody kept the old name, which is months of the busiest daemon.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/pool.h"

enum { STATE_BYTES = 100, SLOTS = 3 * (int)SSM_SLAB_SLOTS + 5 };

static void pool_open(struct ssm_pool *pool)
{
    assert_int_equal(ssm_pool_init(pool, STATE_BYTES, SLOTS), SSM_OK);
}

static struct ssm_slot must_acquire(struct ssm_pool *pool)
{
    struct ssm_slot slot;

    assert_int_equal(ssm_pool_acquire(pool, &slot), SSM_OK);
    return slot;
}

static int is_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return 0;
    return 1;
}

static void acquire__to_the_limit__gives_every_slot_once_then_refuses(void **state)
{
    struct ssm_pool pool;
    struct ssm_slot slot;
    int seen[SLOTS] = {0};

    (void)state;
    pool_open(&pool);
    for (int i = 0; i < SLOTS; i++) {
        slot = must_acquire(&pool);
        assert_in_range(slot.index, 0, SLOTS - 1);
        assert_int_equal(seen[slot.index]++, 0);
    }
    assert_int_equal(ssm_pool_acquire(&pool, &slot), SSM_LIMIT);
    assert_int_equal(slot.index, -1);
    ssm_pool_release(&pool, (struct ssm_slot){.index = 7, .generation = 1});
    slot = must_acquire(&pool);
    assert_int_equal(slot.index, 7);
    assert_int_equal(slot.generation, 2);
    ssm_pool_fini(&pool);
}

static void growth__over_slabs__leaves_states_in_place(void **state)
{
    struct ssm_pool pool;
    struct ssm_slot slot[SLOTS];
    unsigned char *at[SLOTS];

    (void)state;
    pool_open(&pool);
    for (int i = 0; i < SLOTS; i++) {
        slot[i] = must_acquire(&pool);
        at[i] = ssm_slot_states(ssm_pool_find(&pool, slot[i]));
        assert_int_equal((uintptr_t)at[i] % 64, 0);
        memset(at[i], i + 1, STATE_BYTES);
    }
    for (int i = 0; i < SLOTS; i++) {
        assert_ptr_equal(ssm_slot_states(ssm_pool_find(&pool, slot[i])), at[i]);
        for (int k = 0; k < STATE_BYTES; k++)
            assert_int_equal(at[i][k], (unsigned char)(i + 1));
    }
    ssm_pool_fini(&pool);
}

static void acquire__after_use__is_fresh(void **state)
{
    struct ssm_pool pool;
    struct ssm_slot slot;
    struct ssm_slot_head *head;

    (void)state;
    pool_open(&pool);
    slot = must_acquire(&pool);
    head = ssm_pool_find(&pool, slot);
    assert_true(head->frames == 0 && is_zero(ssm_slot_states(head), STATE_BYTES));
    memset(ssm_slot_states(head), 0xff, STATE_BYTES);
    head->frames = 5;
    assert_int_equal(ssm_pool_reset(&pool, slot), SSM_OK);
    assert_true(head->frames == 0 && is_zero(ssm_slot_states(head), STATE_BYTES));
    memset(ssm_slot_states(head), 0xff, STATE_BYTES);
    head->frames = 5;
    ssm_pool_release(&pool, slot);
    assert_ptr_equal(ssm_pool_find(&pool, must_acquire(&pool)), head);
    assert_true(head->frames == 0 && is_zero(ssm_slot_states(head), STATE_BYTES));
    ssm_pool_fini(&pool);
}

static void released_name__any_use__is_stale(void **state)
{
    struct ssm_pool pool;
    struct ssm_slot old, now;

    (void)state;
    pool_open(&pool);
    old = must_acquire(&pool);
    ssm_pool_release(&pool, old);
    assert_null(ssm_pool_find(&pool, old));
    assert_int_equal(ssm_pool_reset(&pool, old), SSM_STALE);
    now = must_acquire(&pool);
    assert_int_equal(now.index, old.index);
    assert_int_not_equal(now.generation, old.generation);
    assert_null(ssm_pool_find(&pool, old));
    assert_non_null(ssm_pool_find(&pool, now));
    ssm_pool_release(&pool, old); /* must not give away what `now` holds */
    assert_non_null(ssm_pool_find(&pool, now));
    assert_int_not_equal(must_acquire(&pool).index, now.index);
    ssm_pool_fini(&pool);
}

static void release__twice__frees_once(void **state)
{
    struct ssm_pool pool;
    struct ssm_slot slot, a, b;

    (void)state;
    pool_open(&pool);
    slot = must_acquire(&pool);
    ssm_pool_release(&pool, slot);
    ssm_pool_release(&pool, slot);
    a = must_acquire(&pool);
    b = must_acquire(&pool);
    assert_int_not_equal(a.index, b.index);
    ssm_pool_fini(&pool);
}

static void find__no_such_slot__is_null(void **state)
{
    static const int32_t wrong[] = {-1, INT32_MIN, SSM_SLAB_SLOTS, SLOTS - 1, SLOTS, INT32_MAX};
    struct ssm_pool pool;

    (void)state;
    pool_open(&pool);
    must_acquire(&pool); /* one slab of four */
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_null(ssm_pool_find(&pool, (struct ssm_slot){.index = wrong[i], .generation = 1}));
        ssm_pool_release(&pool, (struct ssm_slot){.index = wrong[i], .generation = 1});
    }
    assert_null(ssm_pool_find(&pool, (struct ssm_slot){.index = 1, .generation = 0})); /* never taken */
    ssm_pool_fini(&pool);
}

static void generation__wraps__only_the_newest_name_is_good(void **state)
{
    struct ssm_pool pool;
    struct ssm_slot slot, wrapped;

    (void)state;
    pool_open(&pool);
    slot = must_acquire(&pool);
    ssm_pool_find(&pool, slot)->generation = UINT32_MAX;
    slot.generation = UINT32_MAX;
    ssm_pool_release(&pool, slot);
    wrapped = must_acquire(&pool);
    assert_int_equal(wrapped.index, slot.index);
    assert_int_equal(wrapped.generation, 0);
    assert_non_null(ssm_pool_find(&pool, wrapped));
    assert_null(ssm_pool_find(&pool, slot));
    ssm_pool_fini(&pool);
}

static void init__impossible_sizes__are_refused(void **state)
{
    struct ssm_pool pool;

    (void)state;
    assert_int_equal(ssm_pool_init(&pool, 64, 0), SSM_INVAL);
    ssm_pool_fini(&pool);
    assert_int_equal(ssm_pool_init(&pool, 64, (uint32_t)INT32_MAX + 1), SSM_INVAL);
    ssm_pool_fini(&pool);
    assert_int_equal(ssm_pool_init(&pool, SIZE_MAX / 2, 8), SSM_INVAL);
    ssm_pool_fini(&pool);
}

static void acquire__no_memory_for_a_slab__says_so_and_stays_usable(void **state)
{
    struct ssm_pool pool;
    struct ssm_slot slot;

    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* a sanitizer ends the program where malloc says no */
#endif
    assert_int_equal(ssm_pool_init(&pool, SIZE_MAX / 1024, 8), SSM_OK);
    assert_int_equal(ssm_pool_acquire(&pool, &slot), SSM_NOMEM);
    assert_int_equal(slot.index, -1);
    assert_int_equal(ssm_pool_acquire(&pool, &slot), SSM_NOMEM);
    ssm_pool_fini(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acquire__to_the_limit__gives_every_slot_once_then_refuses),
        cmocka_unit_test(growth__over_slabs__leaves_states_in_place),
        cmocka_unit_test(acquire__after_use__is_fresh),
        cmocka_unit_test(released_name__any_use__is_stale),
        cmocka_unit_test(release__twice__frees_once),
        cmocka_unit_test(find__no_such_slot__is_null),
        cmocka_unit_test(generation__wraps__only_the_newest_name_is_good),
        cmocka_unit_test(init__impossible_sizes__are_refused),
        cmocka_unit_test(acquire__no_memory_for_a_slab__says_so_and_stays_usable),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
