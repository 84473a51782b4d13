/* SPDX-License-Identifier: Apache-2.0
 *
 * The conv view over inputs of several wide tiles: s4d and s4 of random shape against the float64 reference, from any
 * state that other views left; a graph of every kind against its own steps, in batches and on threads; and what is
 * refused. (The trials of every other kind include the view too: tests/ssm/trial.c.)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/reference/dplr.h"
#include "tests/ssm/deep.h"
#include "tests/ssm/running.h"
#include "tests/ssm/trial.h"

#define WIDE SSM_CONV_FRAMES

static const char *const hows[] = {"zoh", "bilinear", "forward", "backward"};
static const uint32_t modes_of[] = {1, 2, 3, 8, 16, 17, 33};

/* ---- against float64 --------------------------------------------------------------------------------------------- */

/* Few frames more or less than whole wide tiles. */
static uint32_t frames_any(struct trial *t)
{
    return (1 + t->number % 3) * WIDE + trial_between(t, 0, 100) - (t->number % 4 == 3 ? 37 : 0);
}

/* The layer stands between the JSON texts `before` and `after`. */
static struct reference_s4d s4d_any(struct trial *t, uint32_t H, const char *before, const char *after)
{
    uint32_t M = TRIAL_PICK(t, modes_of);
    struct reference_s4d s = {.channels = H, .modes = M, .how = (enum reference_how)(t->number % 4)};
    bool forward = s.how == REFERENCE_FORWARD, input_matrix = trial_coin(t);
    float *log_dt = making_tensor(&t->model, 1, "s.log_dt", 1, H);
    float *real = making_tensor(&t->model, 0.5f, "s.log_A_real", 2, H, M);
    float *imag = making_tensor(&t->model, 1, "s.A_imag", 2, H, M);

    for (uint32_t h = 0; h < H; h++)
        log_dt[h] = -4.6f + 2.3f * log_dt[h]; /* 0.001 to 0.1 */
    for (uint32_t i = 0; i < H * M; i++) {
        imag[i] = forward ? 0.5f * imag[i] : 3.14159265f * (float)(i % M) + imag[i];
        real[i] -= 0.7f;
    }
    s.log_dt = log_dt;
    s.log_A_real = real;
    s.A_imag = imag;
    s.C = making_tensor(&t->model, 1, "s.C", 3, H, M, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, H);
    s.B = input_matrix ? making_tensor(&t->model, 1, "s.B", 3, H, M, 2u) : NULL;
    making_layers(&t->model,
                  "%s{'type':'s4d','name':'s','channels':%u,'state':%u,'discretization':'%s','input_matrix':%s}%s",
                  before, H, 2 * M, hows[s.how], trial_bool(input_matrix), after);
    return s;
}

static void s4d(struct trial *t)
{
    uint32_t H = trial_between(t, 1, 35);
    struct reference_s4d s = s4d_any(t, H, "", "");

    t->frames = frames_any(t);
    trial_input(t, H, H, 1);
    reference_s4d(&s, t->wide, t->frames, t->want);
}

/* Tokens reach their layer in the right order, and so does a join its branches: embedding, then x + s4d(x). */
static void s4d_tokens(struct trial *t)
{
    uint32_t H = trial_between(t, 1, 20), vocab = trial_between(t, 2, 50);
    const float *w = making_tensor(&t->model, 1, "e.weight", 2, vocab, H);
    struct reference_s4d s;
    double *x;

    t->model.vocab = vocab;
    making_layers(&t->model, "{'type':'embedding','name':'e','vocab':%u,'dim':%u}", vocab, H);
    s = s4d_any(t, H, "{'type':'add','branches':[[],[", "]]}");
    t->frames = frames_any(t);
    trial_input(t, 1, H, 1);
    t->tokens = trial_memory(t->frames, sizeof(*t->tokens));
    for (uint32_t i = 0; i < t->frames; i++)
        t->tokens[i] = (int)making_number(&t->seed, vocab);
    x = trial_memory((size_t)t->frames * H, sizeof(*x));
    reference_embedding(w, H, t->tokens, t->frames, x);
    reference_s4d(&s, x, t->frames, t->want);
    for (size_t i = 0; i < (size_t)t->frames * H; i++)
        t->want[i] += x[i];
    free(x);
}

static void s4(struct trial *t)
{
    uint32_t H = trial_between(t, 1, 19), M = TRIAL_PICK(t, modes_of), rank = 1 + t->number % 3;
    struct reference_s4 s = {.channels = H, .modes = M, .rank = rank};
    float *log_dt = making_tensor(&t->model, 1, "s.log_dt", 1, H);
    float *A = making_tensor(&t->model, 1, "s.A", 3, H, M, 2u);
    float *P = making_tensor(&t->model, 1, "s.P", 4, rank, H, M, 2u);

    for (uint32_t h = 0; h < H; h++)
        log_dt[h] = -4.6f + 2.3f * log_dt[h];
    for (uint32_t i = 0; i < H * M; i++) {
        A[2 * i] = -0.5f + 0.4f * A[2 * i];
        A[2 * i + 1] += 3.14159265f * (float)(i % M);
    }
    for (uint32_t i = 0; i < 2 * rank * H * M; i++)
        P[i] *= sqrtf((float)(i / 2 % M) + 0.5f);
    s.log_dt = log_dt;
    s.A = A;
    s.P = P;
    s.B = making_tensor(&t->model, 1, "s.B", 3, H, M, 2u);
    s.C = making_tensor(&t->model, 1, "s.C", 3, H, M, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, H);
    making_layers(&t->model, "{'type':'s4','name':'s','channels':%u,'state':%u,'rank':%u,'discretization':'bilinear'}",
                  H, 2 * M, rank);
    t->frames = frames_any(t);
    trial_input(t, H, H, 1);
    reference_s4(&s, t->wide, t->frames, t->want);
}

/* ---- against the model's own steps ------------------------------------------------------------------------------- */

static float *noise_new(size_t n)
{
    float *x = trial_memory(n, sizeof(*x));
    uint32_t seed = 11;

    for (size_t i = 0; i < n; i++)
        x[i] = making_noise(&seed);
    return x;
}

static void conv__graph_of_every_kind__agrees_with_its_steps_on_any_threads(void **state)
{
    enum { FRAMES = 4 * WIDE + 77, STREAMS = 3 };
    struct ssm_model *model = deep_new();
    float *x = noise_new((size_t)FRAMES * DEEP_IN), *want = noise_new((size_t)FRAMES * DEEP_OUT);
    float *got = noise_new((size_t)STREAMS * FRAMES * DEEP_OUT);
    double *wide = trial_memory((size_t)FRAMES * DEEP_OUT, sizeof(*wide));
    static const uint32_t threads[] = {1, 4};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct running r;
        struct ssm_slot slot, slots[STREAMS];
        uint32_t seed = 3 + (uint32_t)i;

        running_open(&r, model, NULL, threads[i], STREAMS + 1);
        assert_int_equal(ssm_program_prepare(r.program, SSM_CONV, NULL), SSM_OK);
        slot = running_acquire(&r);
        running_advance(&r, slot, SSM_STEP, x, FRAMES, want);
        for (size_t k = 0; k < (size_t)FRAMES * DEEP_OUT; k++)
            wide[k] = want[k];
        for (int s = 0; s < STREAMS; s++)
            slots[s] = running_acquire(&r);
        for (uint32_t at = 0, taken; at < FRAMES; at += taken) {
            struct ssm_row rows[STREAMS];

            taken = 1 + making_number(&seed, 3 * WIDE);
            taken = taken < FRAMES - at ? taken : FRAMES - at;
            for (int s = 0; s < STREAMS; s++)
                rows[s] = (struct ssm_row){.slot = slots[s],
                                           .view = s == 0 ? SSM_CONV : (enum ssm_view)making_number(&seed, 3),
                                           .frames = taken,
                                           .in = x + (size_t)at * DEEP_IN,
                                           .out = got + ((size_t)s * FRAMES + at) * DEEP_OUT};
            assert_int_equal(ssm_advance(r.program, rows, STREAMS), SSM_OK);
        }
        for (int s = 0; s < STREAMS; s++) {
            double error = running_error(got + (size_t)s * FRAMES * DEEP_OUT, wide, (size_t)FRAMES * DEEP_OUT);

            print_message("%u thread(s), stream %d: %.2e\n", threads[i], s, error);
            assert_true(error <= 1e-5);
        }
        running_close(&r);
    }
    ssm_model_free(model);
    free(x);
    free(want);
    free(got);
    free(wide);
}

/* x passes as a scan and in the conv view; returns whether the bits are the same. */
static bool conv_is_scan(struct ssm_model *model, uint32_t frames)
{
    const struct ssm_model_info *info = ssm_model_info(model);
    float *x = noise_new((size_t)frames * info->in_channels);
    float *scan = noise_new((size_t)frames * info->out_channels),
          *conv = noise_new((size_t)frames * info->out_channels);
    struct running r;
    bool same;

    running_open(&r, model, NULL, 1, 2);
    assert_int_equal(ssm_program_prepare(r.program, SSM_CONV, NULL), SSM_OK);
    running_advance(&r, running_acquire(&r), SSM_SCAN, x, frames, scan);
    running_advance(&r, running_acquire(&r), SSM_CONV, x, frames, conv);
    same = memcmp(scan, conv, (size_t)frames * info->out_channels * sizeof(*scan)) == 0;
    running_close(&r);
    free(x);
    free(scan);
    free(conv);
    return same;
}

/* rls also looks at the model's input. */
static void conv__model_without_a_kernel__is_the_scan(void **state)
{
    struct ssm_model *model;

    (void)state;
    assert_int_equal(ssm_model_load(&model, "forecast:rate=360,channels=2,horizon=7", NULL, NULL), SSM_OK);
    assert_true(conv_is_scan(model, 3 * WIDE + 5));
    ssm_model_free(model);
}

/* Two channels of modes that hardly forget. */
static void s4d_make(struct making *m, float loud)
{
    float *real, *C;

    making_init(m, 9);
    making_tensor(m, 1, "s.log_dt", 1, 2u);
    real = making_tensor(m, 0, "s.log_A_real", 2, 2u, 4u);
    making_tensor(m, 0, "s.A_imag", 2, 2u, 4u);
    C = making_tensor(m, 0, "s.C", 3, 2u, 4u, 2u);
    making_tensor(m, 1, "s.D", 1, 2u);
    for (int i = 0; i < 8; i++) {
        real[i] = -12;
        C[2 * i] = loud;
    }
    making_layers(m, "{'type':'s4d','name':'s','channels':2,'state':8,'discretization':'zoh'}");
}

static void conv__short_row__is_the_scan(void **state)
{
    struct ssm_model *model;
    struct making m;

    (void)state;
    s4d_make(&m, 1);
    assert_int_equal(making_load(&m, &model, 2, 2, NULL), SSM_OK);
    assert_true(conv_is_scan(model, WIDE - 1));
    assert_false(conv_is_scan(model, WIDE));
    ssm_model_free(model);
    making_fini(&m);
}

/* Above 256 states, where the dense jump would be large. */
static void conv__wide_s4__is_the_scan(void **state)
{
    static const uint32_t modes[] = {128, 129};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct ssm_model *model;
        struct making m;
        float *A;

        making_init(&m, 5);
        making_tensor(&m, 1, "s.log_dt", 1, 1u);
        A = making_tensor(&m, 1, "s.A", 3, 1u, modes[i], 2u);
        making_tensor(&m, 1, "s.B", 3, 1u, modes[i], 2u);
        making_tensor(&m, 1, "s.C", 3, 1u, modes[i], 2u);
        making_tensor(&m, 1, "s.P", 4, 1u, 1u, modes[i], 2u);
        making_tensor(&m, 1, "s.D", 1, 1u);
        for (uint32_t n = 0; n < modes[i]; n++)
            A[2 * n] = -0.5f;
        making_layers(&m, "{'type':'s4','name':'s','channels':1,'state':%u,'rank':1,'discretization':'bilinear'}",
                      2 * modes[i]);
        assert_int_equal(making_load(&m, &model, 1, 1, NULL), SSM_OK);
        assert_int_equal(conv_is_scan(model, 2 * WIDE), modes[i] > 128);
        ssm_model_free(model);
        making_fini(&m);
    }
}

/* ---- what is refused --------------------------------------------------------------------------------------------- */

static void conv__unprepared__is_refused_and_changes_nothing(void **state)
{
    struct ssm_model *model = deep_new();
    float *x = noise_new((size_t)2 * WIDE * DEEP_IN), *y = noise_new((size_t)2 * WIDE * DEEP_OUT);
    struct running r;
    struct ssm_row row = {.view = SSM_CONV, .frames = 2 * WIDE, .in = x, .out = y};
    uint64_t frames = 1;

    (void)state;
    running_open(&r, model, NULL, 1, 1);
    row.slot = running_acquire(&r);
    assert_int_equal(ssm_program_prepare(r.program, SSM_STEP, NULL), SSM_OK);
    assert_int_equal(ssm_program_prepare(r.program, SSM_SCAN, NULL), SSM_OK);
    assert_int_equal(ssm_advance(r.program, &row, 1), SSM_INVAL);
    assert_int_equal(row.status, SSM_INVAL);
    assert_int_equal(row.out_frames, 0);
    assert_int_equal(ssm_slot_frames(r.program, row.slot, &frames), SSM_OK);
    assert_int_equal(frames, 0);
    assert_int_equal(ssm_program_prepare(r.program, SSM_CONV, NULL), SSM_OK);
    assert_int_equal(ssm_program_prepare(r.program, SSM_CONV, NULL), SSM_OK);
    assert_int_equal(ssm_advance(r.program, &row, 1), SSM_OK);
    running_close(&r);
    ssm_model_free(model);
    free(x);
    free(y);
}

static void conv__kernel_beyond_float32__is_refused_naming_the_layer(void **state)
{
    float x[64] = {0}, y[64];
    struct ssm_model *model;
    struct ssm_error err = {""};
    struct running r;
    struct making m;

    (void)state;
    s4d_make(&m, 1e38f);
    assert_int_equal(making_load(&m, &model, 2, 2, NULL), SSM_OK);
    running_open(&r, model, NULL, 1, 1);
    assert_int_equal(ssm_program_prepare(r.program, SSM_CONV, &err), SSM_NONFINITE);
    assert_non_null(strstr(err.text, "'s'"));
    assert_non_null(strstr(err.text, "float32"));
    running_advance(&r, running_acquire(&r), SSM_STEP, x, 32, y);
    running_close(&r);
    ssm_model_free(model);
    making_fini(&m);
}

static const struct trial_kind kinds[] = {
    {"s4d", s4d, 24, 1e-5}, {"s4d_tokens", s4d_tokens, 8, 1e-5}, {"s4", s4, 16, 4e-6}};

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv__graph_of_every_kind__agrees_with_its_steps_on_any_threads),
        cmocka_unit_test(conv__model_without_a_kernel__is_the_scan),
        cmocka_unit_test(conv__short_row__is_the_scan),
        cmocka_unit_test(conv__wide_s4__is_the_scan),
        cmocka_unit_test(conv__unprepared__is_refused_and_changes_nothing),
        cmocka_unit_test(conv__kernel_beyond_float32__is_refused_naming_the_layer),
    };
    int failed = trial_main("conv", kinds, sizeof(kinds) / sizeof(*kinds));

    return failed + cmocka_run_group_tests_name("conv view", tests, NULL, NULL);
}
