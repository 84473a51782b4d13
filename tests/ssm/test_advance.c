/* SPDX-License-Identifier: Apache-2.0
 *
 * What an advance promises whatever the model: the same bits at any chunking, with any batch-mates, on any number of
 * threads; what is refused changes nothing. The model is one that holds every kind of layer (deep.h).
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/deep.h"
#include "tests/ssm/making.h"
#include "tests/ssm/running.h"

enum { STREAMS = 9, FRAMES = 400, GRID = 16 };

static const uint32_t thread_counts[] = {1, 2, 3, 5, 8};

/* STREAMS signals and what each makes alone, in one row from a fresh state: bits to be met by everybody else. Streams
 * with an odd number scan. */
struct alone {
    struct ssm_model *model;
    float in[STREAMS][FRAMES][DEEP_IN];
    float out[STREAMS][FRAMES][DEEP_OUT];
};

static enum ssm_view view_of(uint32_t stream)
{
    return stream % 2 ? SSM_SCAN : SSM_STEP;
}

static void alone_pass(struct alone *a, const char *isa)
{
    struct running r;

    running_open(&r, a->model, isa, 1, 1);
    for (uint32_t s = 0; s < STREAMS; s++)
        running_pass(&r, view_of(s), a->in[s], FRAMES, a->out[s][0], NULL, FRAMES, 1);
    running_close(&r);
}

static int alone_open(void **state)
{
    struct alone *a = calloc(1, sizeof(*a));
    uint32_t seed = 5;

    assert_non_null(a);
    a->model = deep_new();
    for (uint32_t s = 0; s < STREAMS; s++)
        for (uint32_t t = 0; t < FRAMES; t++)
            for (uint32_t c = 0; c < DEEP_IN; c++)
                a->in[s][t][c] = making_noise(&seed);
    alone_pass(a, NULL);
    *state = a;
    return 0;
}

static int alone_close(void **state)
{
    struct alone *a = *state;

    ssm_model_free(a->model);
    free(a);
    return 0;
}

/* ---- chunking ---------------------------------------------------------------------------------------------------- */

static void cuts_check(struct alone *a, const char *isa, uint32_t stream)
{
    static float got[FRAMES][DEEP_OUT];
    uint32_t seed = 17 + stream, grid;
    struct running r;

    running_open(&r, a->model, isa, 1, 1);
    grid = view_of(stream) == SSM_STEP ? 1 : ssm_program_grid(r.program);
    for (uint32_t most = 1; most <= FRAMES; most = most * 3 + 1) {
        memset(got, 0xff, sizeof(got));
        running_pass(&r, view_of(stream), a->in[stream], FRAMES, got[0], &seed, most, grid);
        if (memcmp(got, a->out[stream], sizeof(got)) != 0)
            fail_msg("%s, stream %u, pieces of up to %u", isa, stream, most);
    }
    running_close(&r);
}

static void step__random_cuts__same_bits(void **state)
{
    struct alone *a = *state;

    for (int i = 0; running_isas[i]; i++)
        if (running_isa_here(running_isas[i])) {
            alone_pass(a, running_isas[i]);
            cuts_check(a, running_isas[i], 0);
        }
    alone_pass(a, NULL);
}

static void scan__cuts_on_the_grid__same_bits(void **state)
{
    struct alone *a = *state;

    for (int i = 0; running_isas[i]; i++)
        if (running_isa_here(running_isas[i])) {
            alone_pass(a, running_isas[i]);
            cuts_check(a, running_isas[i], 1);
        }
    alone_pass(a, NULL);
}

/* A scan that has to take the chunk form differs from the step, in rounding only; where no whole block fits, it is the
 * step. Guards against tests that compare a view with itself. */
static void scan__whole_blocks__is_the_chunk_form(void **state)
{
    struct alone *a = *state;
    static float got[FRAMES][DEEP_OUT];
    static double wide[FRAMES][DEEP_OUT];
    struct running r;

    running_open(&r, a->model, NULL, 1, 1);
    running_pass(&r, SSM_SCAN, a->in[0], FRAMES, got[0], NULL, FRAMES, 1);
    assert_int_not_equal(memcmp(got, a->out[0], sizeof(got)), 0);
    for (uint32_t t = 0; t < FRAMES; t++)
        for (uint32_t c = 0; c < DEEP_OUT; c++)
            wide[t][c] = a->out[0][t][c];
    assert_true(running_error(got[0], wide[0], FRAMES * DEEP_OUT) < 1e-4); /* rls learns from its own rounding */
    running_pass(&r, SSM_SCAN, a->in[0], FRAMES, got[0], NULL, GRID - 1, 1);
    assert_memory_equal(got, a->out[0], sizeof(got));
    running_close(&r);
}

/* The grid is of absolute indices: a scan that begins beside it steps to it, so that a cut there changes nothing, and
 * one that begins on it does not depend on the rows before. */
static void scan__row_beside_the_grid__steps_to_it(void **state)
{
    struct alone *a = *state;
    static float straight[FRAMES][DEEP_OUT], cut[FRAMES][DEEP_OUT];
    struct ssm_slot slot;
    struct running r;

    running_open(&r, a->model, NULL, 1, 2);
    for (uint32_t first = 1; first < GRID; first += 4) {
        slot = running_acquire(&r);
        running_advance(&r, slot, SSM_STEP, a->in[1], first, straight[0]);
        running_advance(&r, slot, SSM_SCAN, a->in[1][first], FRAMES - first, straight[first]);
        assert_int_equal(ssm_slot_reset(r.program, slot), SSM_OK);
        running_advance(&r, slot, SSM_SCAN, a->in[1], first, cut[0]);
        running_advance(&r, slot, SSM_STEP, a->in[1][first], GRID - first, cut[first]);
        running_advance(&r, slot, SSM_SCAN, a->in[1][GRID], FRAMES - GRID, cut[GRID]);
        assert_memory_equal(straight, cut, sizeof(cut));
        ssm_slot_release(r.program, slot);
    }
    running_close(&r);
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

/* Where a stream is. */
struct place {
    struct ssm_slot slot;
    uint32_t signal, at;
    float out[FRAMES][DEEP_OUT];
};

/* A row of up to `most` frames for the place, what is left at most; scans end on the grid or with the signal. */
static struct ssm_row row_make(const struct alone *a, struct place *p, uint32_t most, uint32_t *seed)
{
    enum ssm_view view = view_of(p->signal);
    uint32_t frames = 1 + making_number(seed, most);

    if (view == SSM_SCAN)
        frames = (frames + GRID - 1) / GRID * GRID;
    frames = frames < FRAMES - p->at ? frames : FRAMES - p->at;
    return (struct ssm_row){
        .slot = p->slot, .view = view, .frames = frames, .in = a->in[p->signal][p->at], .out = p->out[p->at]};
}

static const struct ssm_row padding = {.slot = {.index = -1}};

/* All streams to their end in batches of random mates in random order, padding among them. */
static void batches_check(const struct alone *a, uint32_t threads, uint32_t most, uint32_t seed)
{
    static struct place place[STREAMS];
    struct running r;
    uint32_t left = STREAMS;

    running_open(&r, a->model, NULL, threads, STREAMS);
    memset(place, 0, sizeof(place));
    for (uint32_t s = 0; s < STREAMS; s++) {
        place[s].slot = running_acquire(&r);
        place[s].signal = s;
    }
    while (left > 0) {
        struct ssm_row rows[2 * STREAMS];
        uint32_t n = 0, first = making_number(&seed, STREAMS);

        for (uint32_t i = 0; i < STREAMS; i++) {
            struct place *p = &place[(first + i * 2) % STREAMS];

            if (p->at == FRAMES || making_number(&seed, 4) == 0)
                continue;
            rows[n++] = row_make(a, p, most, &seed);
            p->at += rows[n - 1].frames;
            left -= p->at == FRAMES;
            if (making_number(&seed, 4) == 0)
                rows[n++] = padding;
        }
        assert_int_equal(ssm_advance(r.program, rows, n), SSM_OK);
    }
    for (uint32_t s = 0; s < STREAMS; s++)
        if (memcmp(place[s].out, a->out[s], sizeof(place[s].out)) != 0)
            fail_msg("%u threads, rows of up to %u: stream %u differs from what it is alone", threads, most, s);
    running_close(&r);
}

static void batch__any_mates_on_any_threads__same_bits(void **state)
{
    for (size_t i = 0; i < sizeof(thread_counts) / sizeof(*thread_counts); i++) {
        batches_check(*state, thread_counts[i], 1, 101 + (uint32_t)i);
        batches_check(*state, thread_counts[i], 20, 201 + (uint32_t)i);
        batches_check(*state, thread_counts[i], 190, 301 + (uint32_t)i);
    }
}

static void batch__only_padding_or_nothing__is_legal(void **state)
{
    struct alone *a = *state;
    struct ssm_row rows[3] = {padding, padding, padding};
    struct running r;

    running_open(&r, a->model, NULL, 2, 1);
    assert_int_equal(ssm_advance(r.program, rows, 3), SSM_OK);
    assert_int_equal(rows[1].status, SSM_OK);
    assert_int_equal(rows[1].out_frames, 0);
    assert_int_equal(ssm_advance(r.program, NULL, 0), SSM_OK);
    running_close(&r);
}

/* An impulse that dies away in silence ends in 0 or stays a normal number: denormals would make silence slow. The
 * caller's own arithmetic keeps them. */
static void silence__after_a_signal__leaves_no_denormals(void **state)
{
    static float in[3000] = {1}, out[3000];
    volatile float tiny = FLT_MIN;
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct running r;
    struct making m;

    (void)state;
    making_init(&m, 1);
    making_tensor(&m, 0, "s.A", 2, 1u, 1u)[0] = -0.1f;
    making_tensor(&m, 0, "s.B", 2, 1u, 1u)[0] = 1;
    making_tensor(&m, 0, "s.C", 2, 1u, 1u)[0] = 1;
    making_tensor(&m, 0, "s.D", 2, 1u, 1u);
    making_layers(&m, "{'type':'lti','name':'s','in':1,'state':1,'out':1,'dt':1,'discretization':'zoh'}");
    assert_int_equal(making_load(&m, &model, 1, 1, &err), SSM_OK);
    running_open(&r, model, NULL, 1, 1);
    running_pass(&r, SSM_STEP, in, 3000, out, NULL, 3000, 1);
    for (int t = 0; t < 3000; t++)
        assert_true(out[t] == 0 || fabsf(out[t]) >= FLT_MIN);
    assert_true(fabsf(out[2999]) < 1e-30f);
    tiny /= 4;
    assert_true(tiny > 0);
    running_close(&r);
    ssm_model_free(model);
    making_fini(&m);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

enum { PART = 50 };

/* One batch with a good row of stream 0 and a bad one of stream 2, which then must go on as if nothing had been. */
static void refusal_check(struct alone *a, uint32_t threads, void (*spoil)(struct ssm_row *, struct running *),
                          int status)
{
    static float out[3][FRAMES][DEEP_OUT];
    struct ssm_slot good, bad;
    struct ssm_row rows[3];
    uint64_t frames;
    struct running r;

    running_open(&r, a->model, NULL, threads, 3);
    good = running_acquire(&r);
    bad = running_acquire(&r);
    running_advance(&r, bad, SSM_STEP, a->in[2], PART, out[2][0]);
    rows[0] = (struct ssm_row){.slot = bad, .frames = PART, .in = a->in[2][PART], .out = out[1][0]};
    spoil(&rows[0], &r);
    rows[1] = padding;
    rows[2] = (struct ssm_row){.slot = good, .frames = PART, .in = a->in[0], .out = out[0][0]};
    memset(out[1], 0x55, sizeof(out[1]));
    assert_int_equal(ssm_advance(r.program, rows, 3), status);
    assert_int_equal(rows[0].status, status);
    assert_int_equal(rows[0].out_frames, 0);
    assert_int_equal(rows[1].status, SSM_OK);
    assert_int_equal(rows[2].status, SSM_OK);
    assert_memory_equal(out[0], a->out[0], PART * sizeof(out[0][0]));
    for (size_t i = 0; i < sizeof(out[1]); i++)
        assert_int_equal(((unsigned char *)out[1])[i], 0x55);
    assert_int_equal(ssm_slot_frames(r.program, bad, &frames), SSM_OK);
    assert_int_equal(frames, PART);
    running_advance(&r, bad, SSM_STEP, a->in[2][PART], PART, out[2][PART]);
    assert_memory_equal(out[2], a->out[2], 2 * PART * sizeof(out[0][0]));
    running_close(&r);
}

static void spoil_frames(struct ssm_row *row, struct running *r)
{
    (void)r;
    row->frames = 0;
}

static void spoil_in(struct ssm_row *row, struct running *r)
{
    (void)r;
    row->in = NULL;
}

static void spoil_out(struct ssm_row *row, struct running *r)
{
    (void)r;
    row->out = NULL;
}

static void spoil_view(struct ssm_row *row, struct running *r)
{
    (void)r;
    row->view = (enum ssm_view)7;
}

static void spoil_generation(struct ssm_row *row, struct running *r)
{
    (void)r;
    row->slot.generation++;
}

static void spoil_index(struct ssm_row *row, struct running *r)
{
    (void)r;
    row->slot.index = 3;
}

/* The third slot, given back, under its old name. */
static void spoil_released(struct ssm_row *row, struct running *r)
{
    row->slot = running_acquire(r);
    ssm_slot_release(r->program, row->slot);
}

static void spoil_reacquired(struct ssm_row *row, struct running *r)
{
    spoil_released(row, r);
    running_acquire(r);
}

static void row__impossible__is_refused_alone_and_changes_nothing(void **state)
{
    for (uint32_t threads = 1; threads <= 3; threads += 2) {
        refusal_check(*state, threads, spoil_frames, SSM_INVAL);
        refusal_check(*state, threads, spoil_in, SSM_INVAL);
        refusal_check(*state, threads, spoil_out, SSM_INVAL);
        refusal_check(*state, threads, spoil_view, SSM_INVAL);
    }
}

static void row__stale_name__is_refused_alone_and_changes_nothing(void **state)
{
    refusal_check(*state, 1, spoil_generation, SSM_STALE);
    refusal_check(*state, 1, spoil_index, SSM_STALE);
    refusal_check(*state, 1, spoil_released, SSM_STALE);
    refusal_check(*state, 1, spoil_reacquired, SSM_STALE);
}

/* The first of two rows of one stream runs, the second is refused; the next batch takes it. */
static void row__same_stream_twice__second_is_refused(void **state)
{
    struct alone *a = *state;
    static float out[FRAMES][DEEP_OUT];
    struct ssm_row rows[2];
    struct running r;

    running_open(&r, a->model, NULL, 2, 2);
    rows[0] = (struct ssm_row){.slot = running_acquire(&r), .frames = PART, .in = a->in[0], .out = out[0]};
    rows[1] = rows[0];
    rows[1].in = a->in[0][PART];
    rows[1].out = out[PART];
    assert_int_equal(ssm_advance(r.program, rows, 2), SSM_INVAL);
    assert_int_equal(rows[0].status, SSM_OK);
    assert_int_equal(rows[1].status, SSM_INVAL);
    assert_int_equal(ssm_advance(r.program, &rows[1], 1), SSM_OK);
    assert_memory_equal(out, a->out[0], 2 * PART * sizeof(out[0]));
    running_close(&r);
}

/* ---- many lives -------------------------------------------------------------------------------------------------- */

enum { SLOTS = 5, LIVES_MOST = 90 };

/* The place is to begin a new life, by reset or by release and acquisition; another signal then. */
static void life_begin(struct running *r, struct place *p, uint32_t *seed)
{
    struct ssm_slot old = p->slot;

    p->signal = making_number(seed, STREAMS);
    p->at = 0;
    if (making_number(seed, 2)) {
        assert_int_equal(ssm_slot_reset(r->program, p->slot), SSM_OK);
        return;
    }
    ssm_slot_release(r->program, p->slot);
    p->slot = running_acquire(r);
    assert_false(p->slot.index == old.index && p->slot.generation == old.generation);
}

static void interleave(const struct alone *a, struct running *r, struct place *place, uint32_t seed)
{
    for (int batch = 0; batch < 6; batch++) {
        struct ssm_row rows[SLOTS];
        struct place *of[SLOTS];
        uint32_t n = 0;

        for (uint32_t s = 0; s < SLOTS; s++) {
            struct place *p = &place[s];

            if (making_number(&seed, 8) == 0 || p->at > LIVES_MOST)
                life_begin(r, p, &seed);
            if (making_number(&seed, 3) == 0)
                continue;
            of[n] = p;
            rows[n++] = row_make(a, p, making_number(&seed, 4) ? 7 : 40, &seed);
        }
        assert_int_equal(ssm_advance(r->program, rows, n), SSM_OK);
        for (uint32_t i = 0; i < n; i++) {
            struct place *p = of[i];

            if (memcmp(p->out[p->at], a->out[p->signal][p->at], rows[i].frames * sizeof(p->out[0])) != 0)
                fail_msg("batch %d: signal %u at %u differs", batch, p->signal, p->at);
            p->at += rows[i].frames;
        }
    }
}

static void streams__1000_interleavings__each_is_what_it_is_alone(void **state)
{
    const struct alone *a = *state;
    static struct place place[SLOTS];
    struct running r[3];

    for (uint32_t k = 0; k < 3; k++)
        running_open(&r[k], a->model, NULL, k + 1, SLOTS);
    for (uint32_t i = 0; i < 1000; i++) {
        struct running *on = &r[i % 3];

        for (uint32_t s = 0; s < SLOTS; s++) {
            place[s].slot = running_acquire(on);
            place[s].signal = (s + i) % STREAMS;
            place[s].at = 0;
        }
        interleave(a, on, place, i * 2654435761u + 1);
        for (uint32_t s = 0; s < SLOTS; s++)
            ssm_slot_release(on->program, place[s].slot);
    }
    for (uint32_t k = 0; k < 3; k++)
        running_close(&r[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step__random_cuts__same_bits),
        cmocka_unit_test(scan__cuts_on_the_grid__same_bits),
        cmocka_unit_test(scan__whole_blocks__is_the_chunk_form),
        cmocka_unit_test(scan__row_beside_the_grid__steps_to_it),
        cmocka_unit_test(batch__any_mates_on_any_threads__same_bits),
        cmocka_unit_test(batch__only_padding_or_nothing__is_legal),
        cmocka_unit_test(silence__after_a_signal__leaves_no_denormals),
        cmocka_unit_test(row__impossible__is_refused_alone_and_changes_nothing),
        cmocka_unit_test(row__stale_name__is_refused_alone_and_changes_nothing),
        cmocka_unit_test(row__same_stream_twice__second_is_refused),
        cmocka_unit_test(streams__1000_interleavings__each_is_what_it_is_alone),
    };
    return cmocka_run_group_tests_name("advance", tests, alone_open, alone_close);
}
