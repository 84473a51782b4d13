/* SPDX-License-Identifier: Apache-2.0
 *
 * The result ring: indices, growth, times, what is overwritten and what never is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "daemon/clock.h"
#include "daemon/ring.h"

static struct ring_budget budget;

static int budget_setup(void **state)
{
    (void)state;
    budget = (struct ring_budget){.limit = 1u << 20};
    return 0;
}

/* Frames of two channels whose values are their index. */
static void append(struct ring *ring, uint32_t frames, bool has_time, int64_t time)
{
    float *x = malloc(frames * 2 * sizeof(*x));

    assert_non_null(x);
    for (uint32_t i = 0; i < frames; i++)
        x[2 * i] = x[2 * i + 1] = (float)(ring->hi + i);
    ring_append(ring, x, frames, has_time, time);
    free(x);
}

/* Every frame from `from` on is there, once, in order, with its value. */
static void assert_frames(const struct ring *ring, uint64_t from)
{
    struct ring_piece piece;

    while (from < ring->hi) {
        ring_peek(ring, from, 1000, &piece);
        assert_true(piece.frames > 0);
        for (uint32_t i = 0; i < piece.frames; i++)
            assert_true(piece.samples[2 * i] == (float)(from + i) && piece.samples[2 * i + 1] == (float)(from + i));
        from += piece.frames;
    }
    assert_int_equal(from, ring->hi);
}

static void ring__appended__is_read_back_in_index_order(void **state)
{
    struct ring ring;

    (void)state;
    ring_init(&ring, 2);
    for (uint32_t n = 1; n < 60; n += 7) {
        assert_int_equal(ring_reserve(&ring, &budget, 0, n, 1024, 16), 0);
        append(&ring, n, false, 0);
        assert_frames(&ring, 0);
    }
    assert_int_equal(ring.lo, 0);
    ring_fini(&ring, &budget);
    assert_int_equal(budget.bytes, 0);
}

static void ring__full_of_what_is_not_received__takes_no_more(void **state)
{
    struct ring ring;

    (void)state;
    ring_init(&ring, 2);
    assert_int_equal(ring_reserve(&ring, &budget, 0, 60, 64, 16), 0);
    append(&ring, 60, false, 0);
    assert_int_equal(ring_room(&ring, 0, 64), 4);
    assert_int_equal(ring_reserve(&ring, &budget, 0, 5, 64, 16), -1);
    assert_int_equal(ring_room(&ring, 10, 64), 14);
    assert_int_equal(ring_reserve(&ring, &budget, 10, 14, 64, 16), 0);
    append(&ring, 14, false, 0);
    assert_int_equal(ring.lo, 10);
    assert_frames(&ring, 10);
    ring_fini(&ring, &budget);
}

static void ring__received__is_kept_until_overwritten(void **state)
{
    struct ring ring;

    (void)state;
    ring_init(&ring, 2);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(ring_reserve(&ring, &budget, ring.hi, 13, 64, 16), 0);
        append(&ring, 13, false, 0);
        assert_int_equal(ring.hi - ring.lo, ring.hi < 64 ? ring.hi : 64);
        assert_frames(&ring, ring.lo);
    }
    ring_fini(&ring, &budget);
}

static void ring__budget_spent__keeps_what_is_not_received_only(void **state)
{
    struct ring ring;

    (void)state;
    budget.limit = 100;
    ring_init(&ring, 2);
    assert_int_equal(ring_reserve(&ring, &budget, 0, 16, 1024, 16), 0); /* the floor is granted */
    append(&ring, 16, false, 0);
    assert_int_equal(ring_reserve(&ring, &budget, 0, 1, 1024, 16), -1);
    assert_int_equal(ring_reserve(&ring, &budget, 8, 8, 1024, 16), 0);
    append(&ring, 8, false, 0);
    assert_int_equal(ring.capacity, 16);
    assert_int_equal(ring.lo, 8);
    assert_frames(&ring, 8);
    ring_fini(&ring, &budget);
}

static void ring__times__stay_with_their_frames(void **state)
{
    struct ring ring;
    struct ring_piece piece;

    (void)state;
    ring_init(&ring, 2);
    assert_int_equal(ring_reserve(&ring, &budget, 0, 30, 32, 16), 0);
    append(&ring, 5, false, 0);
    append(&ring, 5, true, 100);
    append(&ring, 5, true, 101);
    append(&ring, 5, false, 0);
    append(&ring, 5, true, 101);
    ring_peek(&ring, 0, 100, &piece);
    assert_true(piece.frames == 5 && !piece.has_time);
    ring_peek(&ring, 7, 100, &piece);
    assert_true(piece.frames == 3 && piece.has_time && piece.time == 100);
    ring_peek(&ring, 10, 2, &piece);
    assert_true(piece.frames == 2 && piece.has_time && piece.time == 101);
    ring_peek(&ring, 15, 100, &piece);
    assert_true(piece.frames == 5 && !piece.has_time);
    ring_peek(&ring, 24, 100, &piece);
    assert_true(piece.frames == 1 && piece.has_time && piece.time == 101);
    ring_fini(&ring, &budget);
}

/* As many times as frames, for longer than the marks last. */
static void ring__a_time_for_every_frame__is_bounded_and_exact(void **state)
{
    struct ring ring;
    struct ring_piece piece;
    uint64_t keep = 0;

    (void)state;
    ring_init(&ring, 2);
    for (uint64_t i = 0; i < 5 * RING_MARKS_MAX; i++) {
        if (ring_room(&ring, keep, 1u << 16) == 0)
            keep = ring.hi - 100;
        assert_int_equal(ring_reserve(&ring, &budget, keep, 1, 1u << 16, 16), 0);
        append(&ring, 1, true, (int64_t)i);
        assert_true(ring.lo <= keep);
        assert_true(ring.mark_capacity <= RING_MARKS_MAX);
        ring_peek(&ring, keep, 10, &piece);
        assert_true(piece.frames == 1 && piece.has_time && piece.time == (int64_t)keep);
        ring_peek(&ring, ring.lo, 10, &piece);
        assert_true(piece.time == (int64_t)ring.lo);
    }
    ring_fini(&ring, &budget);
}

static void ring__reset__restarts_at_zero_and_release_goes_on(void **state)
{
    struct ring ring;

    (void)state;
    ring_init(&ring, 2);
    assert_int_equal(ring_reserve(&ring, &budget, 0, 10, 64, 16), 0);
    append(&ring, 10, true, 1);
    ring_release(&ring, &budget);
    assert_int_equal(budget.bytes, 0);
    assert_int_equal(ring.lo, 10);
    assert_int_equal(ring.hi, 10);
    assert_int_equal(ring_reserve(&ring, &budget, 10, 10, 64, 16), 0);
    append(&ring, 10, false, 0);
    assert_frames(&ring, 10);
    ring_reset(&ring);
    assert_int_equal(ring.hi, 0);
    append(&ring, 3, false, 0);
    assert_frames(&ring, 0);
    ring_fini(&ring, &budget);
}

/* A ring that is full: 16384 frames are 128 KiB. */
static void fill(struct ring *ring, uint32_t frames)
{
    ring_init(ring, 2);
    assert_int_equal(ring_reserve(ring, &budget, 0, frames, 1u << 20, 16), 0);
    append(ring, frames, false, 0);
    assert_int_equal(ring->capacity, frames);
}

/* One more frame, of a ring whose results before `keep` were received: its capacity then. */
static uint32_t grow_by_one(struct ring *ring, uint64_t keep)
{
    assert_int_equal(ring_reserve(ring, &budget, keep, 1, 1u << 20, 16), 0);
    append(ring, 1, false, 0);
    assert_frames(ring, keep);
    return ring->capacity;
}

/* The budget is 512 KiB of growth in a millisecond; each of these wants 256 KiB. */
static void ring__many_that_grow_for_history__take_turns(void **state)
{
    struct ring ring[5];

    (void)state;
    budget.limit = 1u << 24;
    budget.now_ns = 1000 * CLOCK_MS;
    for (int i = 0; i < 5; i++)
        fill(&ring[i], 16384);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 5; i++)
            assert_int_equal(grow_by_one(&ring[i], ring[i].hi), i < 2 * (round + 1) ? 32768 : 16384);
        budget.now_ns += 2 * CLOCK_MS;
    }
    for (int i = 0; i < 5; i++) /* who had to wait lost of the oldest, one frame each time */
        assert_int_equal(ring[i].lo, i / 2);
    for (int i = 0; i < 5; i++)
        ring_fini(&ring[i], &budget);
    assert_int_equal(budget.bytes, 0);
}

static void ring__that_must_grow_to_go_on__waits_for_nobody(void **state)
{
    struct ring ring[5];

    (void)state;
    budget.limit = 1u << 24;
    budget.now_ns = 1000 * CLOCK_MS;
    for (int i = 0; i < 5; i++)
        fill(&ring[i], 16384);
    for (int i = 0; i < 5; i++)
        assert_int_equal(grow_by_one(&ring[i], 0), 32768);
    for (int i = 0; i < 5; i++)
        ring_fini(&ring[i], &budget);
}

/* Else it would wait for ever. */
static void ring__that_grows_by_more_than_the_pace__goes_first(void **state)
{
    struct ring large, small;

    (void)state;
    budget.limit = 1u << 24;
    budget.now_ns = 1000 * CLOCK_MS;
    fill(&large, 65536);
    fill(&small, 16384);
    assert_int_equal(grow_by_one(&large, large.hi), 131072); /* 1 MiB */
    assert_int_equal(grow_by_one(&small, small.hi), 16384);
    budget.now_ns += 2 * CLOCK_MS;
    assert_int_equal(grow_by_one(&small, small.hi), 32768);
    ring_fini(&large, &budget);
    ring_fini(&small, &budget);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(ring__appended__is_read_back_in_index_order, budget_setup),
        cmocka_unit_test_setup(ring__full_of_what_is_not_received__takes_no_more, budget_setup),
        cmocka_unit_test_setup(ring__received__is_kept_until_overwritten, budget_setup),
        cmocka_unit_test_setup(ring__budget_spent__keeps_what_is_not_received_only, budget_setup),
        cmocka_unit_test_setup(ring__times__stay_with_their_frames, budget_setup),
        cmocka_unit_test_setup(ring__a_time_for_every_frame__is_bounded_and_exact, budget_setup),
        cmocka_unit_test_setup(ring__many_that_grow_for_history__take_turns, budget_setup),
        cmocka_unit_test_setup(ring__that_must_grow_to_go_on__waits_for_nobody, budget_setup),
        cmocka_unit_test_setup(ring__that_grows_by_more_than_the_pace__goes_first, budget_setup),
        cmocka_unit_test_setup(ring__reset__restarts_at_zero_and_release_goes_on, budget_setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
