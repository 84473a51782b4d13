/* SPDX-License-Identifier: Apache-2.0
 *
 * Slots acquired, reset, released and advanced on one thread while another advances others, as the daemon does (also
 * for the thread sanitizer); teams that start and stop; and the product behind every dense layer, row by row and thread
 * by thread.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/pool.h"
#include "ssm/team.h"
#include "tests/ssm/deep.h"
#include "tests/ssm/making.h"
#include "tests/ssm/running.h"

enum { ADVANCES = 100, CHUNK = 24, FRAMES = ADVANCES * CHUNK, STREAMS = 3, COMERS = 5 * (int)SSM_SLAB_SLOTS };

struct mover {
    struct running *r;
    atomic_bool *stop;
    uint32_t rounds;
    const float *in, *want; /* of the stream that it advances itself */
    int failed;             /* calls that did not do what they should; asserted by the main thread */
};

/* A stream that is advanced beside all this, a frame at a time, over its whole input: whether its bits are `want`. */
static int beside_run(struct running *r, const float *in, const float *want)
{
    static float out[FRAMES][DEEP_OUT];
    struct ssm_row rows[2] = {{.slot = {.index = -1}}};
    int failed = ssm_slot_acquire(r->program, &rows[0].slot) != SSM_OK;

    for (int t = 0; t < FRAMES; t++) {
        rows[0] = (struct ssm_row){.slot = rows[0].slot, .frames = 1, .in = in + t * DEEP_IN, .out = out[t]};
        failed += ssm_advance_beside(r->program, rows, 1) != SSM_OK;
    }
    failed += memcmp(out, want, sizeof(out)) != 0;
    rows[1] = rows[0];
    failed += ssm_advance_beside(r->program, rows, 2) != SSM_INVAL || rows[1].status != SSM_INVAL;
    ssm_slot_release(r->program, rows[0].slot);
    failed += ssm_advance_beside(r->program, rows, 1) != SSM_STALE;
    return failed;
}

/* Fills the pool over several slabs and empties it again, until told to stop, three times at least. */
static void *mover_run(void *argument)
{
    static struct ssm_slot slot[COMERS];
    struct mover *m = argument;
    uint64_t frames;

    for (m->rounds = 0; m->rounds < 3 || !atomic_load(m->stop); m->rounds++) {
        for (int i = 0; i < COMERS; i++)
            m->failed += ssm_slot_acquire(m->r->program, &slot[i]) != SSM_OK;
        for (int i = 0; i < COMERS; i += 3)
            m->failed += ssm_slot_reset(m->r->program, slot[i]) != SSM_OK;
        for (int i = 0; i < COMERS; i++) {
            m->failed += ssm_slot_frames(m->r->program, slot[i], &frames) != SSM_OK || frames != 0;
            ssm_slot_release(m->r->program, slot[i]);
        }
        m->failed += beside_run(m->r, m->in, m->want);
    }
    return NULL;
}

static void slots__come_go_and_advance_during_advances__streams_keep_their_bits(void **state)
{
    static float in[STREAMS][FRAMES][DEEP_IN], alone[STREAMS][FRAMES][DEEP_OUT], out[STREAMS][FRAMES][DEEP_OUT];
    struct ssm_model *model = deep_new();
    struct ssm_slot slot[STREAMS];
    atomic_bool stop = false;
    struct running r;
    struct mover mover = {.r = &r, .stop = &stop, .in = in[0][0], .want = alone[0][0]};
    uint32_t seed = 11;
    pthread_t thread;

    (void)state;
    running_open(&r, model, NULL, 2, STREAMS + COMERS);
    for (int s = 0; s < STREAMS; s++) {
        for (int t = 0; t < FRAMES; t++)
            for (int c = 0; c < DEEP_IN; c++)
                in[s][t][c] = making_noise(&seed);
        running_pass(&r, SSM_STEP, in[s], FRAMES, alone[s][0], NULL, FRAMES, 1);
    }
    for (int s = 0; s < STREAMS; s++)
        slot[s] = running_acquire(&r);
    assert_int_equal(pthread_create(&thread, NULL, mover_run, &mover), 0);
    for (int t = 0; t < FRAMES; t += CHUNK) {
        struct ssm_row rows[STREAMS];

        for (int s = 0; s < STREAMS; s++)
            rows[s] = (struct ssm_row){.slot = slot[s], .frames = CHUNK, .in = in[s][t], .out = out[s][t]};
        assert_int_equal(ssm_advance(r.program, rows, STREAMS), SSM_OK);
    }
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(mover.failed, 0);
    assert_memory_equal(out, alone, sizeof(out));
    running_close(&r);
    ssm_model_free(model);
}

enum { CUTS = 6 };

/* Two streams through `in`: one in rows of the lengths of `cuts`, and beside every second of them a short row. */
static void rows_long_run(struct ssm_model *model, uint32_t threads, enum ssm_view view, float (*in)[DEEP_IN],
                          const uint32_t cuts[CUTS], float (*out)[FRAMES][DEEP_OUT])
{
    struct ssm_slot slot[2];
    struct running r;
    uint32_t at = 0;

    running_open(&r, model, NULL, threads, 2);
    slot[0] = running_acquire(&r);
    slot[1] = running_acquire(&r);
    for (uint32_t i = 0; i < CUTS; at += cuts[i++]) {
        struct ssm_row rows[2] = {
            {.slot = slot[0], .view = view, .frames = cuts[i], .in = in[at], .out = out[0][at]},
            {.slot = slot[1], .view = view, .frames = 3, .in = in[at], .out = out[1][at]},
        };

        assert_int_equal(ssm_advance(r.program, rows, 1 + i % 2), SSM_OK);
        assert_int_equal(rows[0].out_frames, cuts[i]);
    }
    running_close(&r);
}

/* Rows longer than a tile, also from a frame off the grid, in both views: whoever shares them, the bits of one
 * thread. */
static void advance__long_rows_shared_by_threads__have_the_bits_of_one(void **state)
{
    static const uint32_t cuts[CUTS] = {5, 1000, 64, 65, 700, FRAMES - 1834};
    static float in[FRAMES][DEEP_IN], out[2][FRAMES][DEEP_OUT], want[2][FRAMES][DEEP_OUT];
    struct ssm_model *model = deep_new();
    uint32_t seed = 5;

    (void)state;
    for (int t = 0; t < FRAMES; t++)
        for (int c = 0; c < DEEP_IN; c++)
            in[t][c] = making_noise(&seed);
    for (int view = 0; view < 2; view++) {
        rows_long_run(model, 1, view ? SSM_SCAN : SSM_STEP, in, cuts, want);
        for (uint32_t threads = 2; threads <= 5; threads++) {
            rows_long_run(model, threads, view ? SSM_SCAN : SSM_STEP, in, cuts, out);
            if (memcmp(out, want, sizeof(out)) != 0)
                fail_msg("%u threads, view %d: other bits than one thread", threads, view);
        }
    }
    ssm_model_free(model);
}

/* ---- teams ------------------------------------------------------------------------------------------------------- */

enum { PARTS = 50 };

struct parts {
    atomic_uint next;
    atomic_uint done[PARTS];
    atomic_uint came; /* workers */
    bool wait;        /* the caller, for a worker */
};

static void parts_take(void *context, uint32_t member)
{
    struct parts *p = context;
    unsigned i;

    atomic_fetch_add(&p->came, member > 0);
    while (p->wait && member == 0 && atomic_load(&p->came) == 0)
        sched_yield();
    while ((i = atomic_fetch_add(&p->next, 1)) < PARTS)
        atomic_fetch_add(&p->done[i], 1);
}

static void team__many_runs__do_every_part_once(void **state)
{
    (void)state;
    for (uint32_t members = 1; members <= 16; members += 5) {
        struct ssm_team *team = NULL;

        assert_int_equal(ssm_team_new(&team, members), SSM_OK);
        for (uint32_t round = 1; round <= 200; round++) {
            struct parts p = {.wait = members > 1 && round % 50 == 0};

            ssm_team_run(team, parts_take, &p);
            for (int i = 0; i < PARTS; i++)
                assert_int_equal(p.done[i], 1);
            assert_true(p.came < members && (!p.wait || p.came > 0));
        }
        ssm_team_free(team);
    }
    ssm_team_free(NULL);
}

static void engine__impossible_options__are_refused(void **state)
{
    static const struct ssm_engine_options wrong[] = {{.backend = "gpu"}, {.isa = "mmx"}, {.threads = 100000}};
    static const char *const words[] = {"gpu", "mmx", "100000"};
    static const int statuses[] = {SSM_UNSUPPORTED, SSM_UNSUPPORTED, SSM_INVAL};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct ssm_engine *engine = (void *)&state;
        struct ssm_error err = {""};

        assert_int_equal(ssm_engine_new(&engine, &wrong[i], &err), statuses[i]);
        assert_null(engine);
        assert_non_null(strstr(err.text, words[i]));
        assert_int_equal(ssm_engine_new(&engine, &wrong[i], NULL), statuses[i]);
    }
}

/* ---- the dense product ------------------------------------------------------------------------------------------- */

enum { ROWS = 37 };

/* One frame of each of ROWS streams through W (out, in): in one batch on some threads, in batches of a few, and
 * alone. */
static void product_check(const char *isa, uint32_t in, uint32_t out, uint32_t threads)
{
    float *x = calloc((size_t)ROWS * in, sizeof(*x)), *y = calloc((size_t)ROWS * out, sizeof(*y));
    float *alone = calloc((size_t)ROWS * out, sizeof(*alone));
    struct ssm_slot slot[ROWS];
    struct ssm_row rows[ROWS];
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct running r;
    struct making m;

    assert_true(x && y && alone);
    making_init(&m, in * 100 + out);
    making_tensor(&m, 1, "l.weight", 2, out, in);
    making_tensor(&m, 1, "l.bias", 1, out);
    making_layers(&m, "{'type':'linear','name':'l','in':%u,'out':%u}", in, out);
    assert_int_equal(making_load(&m, &model, in, out, &err), SSM_OK);
    running_open(&r, model, isa, threads, ROWS);
    for (uint32_t i = 0; i < ROWS * in; i++)
        x[i] = making_noise(&m.seed);
    for (uint32_t i = 0; i < ROWS; i++) {
        slot[i] = running_acquire(&r);
        running_advance(&r, slot[i], SSM_STEP, x + (size_t)i * in, 1, alone + (size_t)i * out);
    }
    for (uint32_t batch = 2; batch <= ROWS; batch += batch < 10 ? 1 : 9) {
        memset(y, 0, (size_t)ROWS * out * sizeof(*y));
        for (uint32_t first = 0; first < ROWS; first += batch) {
            uint32_t n = batch < ROWS - first ? batch : ROWS - first;

            for (uint32_t i = 0; i < n; i++)
                rows[i] = (struct ssm_row){.slot = slot[first + i],
                                           .view = i % 2 ? SSM_SCAN : SSM_STEP,
                                           .frames = 1,
                                           .in = x + (size_t)(first + i) * in,
                                           .out = y + (size_t)(first + i) * out};
            assert_int_equal(ssm_advance(r.program, rows, n), SSM_OK);
        }
        if (memcmp(y, alone, (size_t)ROWS * out * sizeof(*y)) != 0)
            fail_msg("%s, %u x %u, %u threads, batches of %u", isa, out, in, threads, batch);
    }
    running_close(&r);
    ssm_model_free(model);
    making_fini(&m);
    free(x);
    free(y);
    free(alone);
}

static void linear__rows_and_threads__change_no_bit(void **state)
{
    static const uint32_t widths[] = {1, 7, 16, 31, 32, 33, 64, 67};
    static const uint32_t threads[] = {1, 2, 3, 5, 8};

    (void)state;
    for (int i = 0; running_isas[i]; i++)
        for (uint32_t k = 0; running_isa_here(running_isas[i]) && k < 8; k++)
            product_check(running_isas[i], widths[(k * 3 + 1) % 8], widths[k], threads[k % 5]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots__come_go_and_advance_during_advances__streams_keep_their_bits),
        cmocka_unit_test(advance__long_rows_shared_by_threads__have_the_bits_of_one),
        cmocka_unit_test(team__many_runs__do_every_part_once),
        cmocka_unit_test(engine__impossible_options__are_refused),
        cmocka_unit_test(linear__rows_and_threads__change_no_bit),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
