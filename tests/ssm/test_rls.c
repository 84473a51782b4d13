/* SPDX-License-Identifier: Apache-2.0
 *
 * rls through the engine: against its definition in plain float64, at any chunking, and over a long life of signal,
 * silence and clipping. RLS_FRAMES=100000000 in the environment makes that life longer than the million frames of
 * every day.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/model.h"
#include "tests/reference/rls.h"
#include "tests/ssm/trial.h"

enum { FRAMES = 3000, FEATURES_MOST = 7 };

struct runner {
    struct ssm_model *model;
    struct ssm_engine *engine;
    struct ssm_program *program;
    struct ssm_slot slot;
};

/* xorshift32, uniform in [-1, 1). */
static float noise(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return (float)(int32_t)*seed / 2147483648.0f;
}

static void runner_open(struct runner *r, struct ssm_model *model, const char *isa)
{
    struct ssm_engine_options options = {.backend = "cpu", .isa = isa};
    struct ssm_error err = {""};

    r->model = model;
    if (ssm_engine_new(&r->engine, &options, &err) || ssm_program_new(&r->program, r->engine, model, 1, &err) ||
        ssm_slot_acquire(r->program, &r->slot)) {
        fail_msg("no engine: %s", err.text);
    }
}

static void runner_close(struct runner *r)
{
    ssm_slot_release(r->program, r->slot);
    ssm_program_free(r->program);
    ssm_engine_free(r->engine);
    ssm_model_free(r->model);
}

static void runner_advance(struct runner *r, enum ssm_view view, const float *in, float *out, uint32_t frames)
{
    struct ssm_row row = {.slot = r->slot, .view = view, .frames = frames, .in = in, .out = out};

    assert_int_equal(ssm_advance(r->program, &row, 1), SSM_OK);
    assert_int_equal(row.out_frames, frames);
}

/* All frames in chunks of `chunk`. */
static void runner_pass(struct runner *r, enum ssm_view view, const float *in, float *out, uint32_t chunk)
{
    uint32_t ins = ssm_model_info(r->model)->in_channels, outs = ssm_model_info(r->model)->out_channels;

    assert_int_equal(ssm_slot_reset(r->program, r->slot), SSM_OK);
    for (uint32_t t = 0; t < FRAMES; t += chunk) {
        uint32_t frames = FRAMES - t < chunk ? FRAMES - t : chunk;
        runner_advance(r, view, in + (size_t)t * ins, out + (size_t)t * outs, frames);
    }
}

/* A model that is one rls layer: its features are the model's input. */
static int model_new(struct ssm_model **out, const struct reference_rls *p, struct ssm_error *err)
{
    json_t *config = json_pack(
        "{s:s, s:i, s:s, s:{s:s, s:i, s:i}, s:{s:s, s:i, s:i}, s:[{s:s, s:i, s:i, s:f, s:f, s:i, s:i}]}", "model_type",
        "ssmd", "format_version", 1, "name", "test", "input", "kind", "signal", "channels", p->inputs, "sample_rate",
        100, "output", "kind", "signal", "channels", 3 * p->targets, "sample_rate", 100, "layers", "type", "rls",
        "targets", p->targets, "horizon", p->horizon, "forgetting", p->forgetting, "regularization", p->regularization,
        "short", (int)p->short_frames, "long", (int)p->long_frames);
    assert_non_null(config);
    int status = ssm_model_build(out, config, NULL, "test", 0, err);
    json_decref(config);
    return status;
}

static struct ssm_model *model_must(const struct reference_rls *p)
{
    struct ssm_error err = {""};
    struct ssm_model *model = NULL;

    if (model_new(&model, p, &err)) {
        fail_msg("%s", err.text);
    }
    return model;
}

/* Coupled oscillations and noise; quiet for a sixth of the time, clipped for another. */
static void signal_fill(float *in, int channels, uint32_t seed)
{
    for (int t = 0; t < FRAMES; t++) {
        int part = t * 6 / FRAMES;
        for (int c = 0; c < channels; c++) {
            float x = 0.6f * sinf(0.07f * (float)(t * (c + 1))) + 0.3f * noise(&seed);
            in[t * channels + c] = part == 3 ? 0 : part == 4 ? copysignf(0.5f, x) : x;
        }
    }
}

static struct reference_rls shape_random(uint32_t *seed)
{
    static const double forgettings[] = {0.9, 0.98, 0.999, 1};
    static const double ridges[] = {1e-3, 0.1, 10};
    struct reference_rls p;
    uint32_t draw[8];

    for (int i = 0; i < 8; i++) {
        noise(seed);
        draw[i] = *seed >> 8;
    }
    p.inputs = 1 + (int)(draw[0] % FEATURES_MOST);
    p.features = p.inputs;
    p.targets = 1 + (int)(draw[1] % (uint32_t)(p.inputs < 3 ? p.inputs : 3));
    p.horizon = 1 + (int)(draw[2] % 17);
    p.forgetting = forgettings[draw[3] % 4];
    p.regularization = ridges[draw[4] % 3];
    p.short_frames = 1 + draw[5] % 50;
    p.long_frames = 1 + draw[6] % 1000;
    return p;
}

static void compare_shape(const struct reference_rls *p, const char *isa, uint32_t seed)
{
    int width = 3 * p->targets;
    size_t values = (size_t)FRAMES * (size_t)width;
    float *in = calloc((size_t)FRAMES * (size_t)p->inputs, sizeof(*in)), *out = calloc(values, sizeof(*out));
    double *expected = calloc(values, sizeof(*expected));
    struct runner r;

    assert_true(in && out && expected);
    signal_fill(in, p->inputs, seed);
    assert_int_equal(reference_rls_run(p, FRAMES, in, in, expected), 0);
    runner_open(&r, model_must(p), isa);
    runner_pass(&r, SSM_STEP, in, out, FRAMES);
    for (size_t i = 0; i < values; i++) {
        /* predictions and errors are of the signal's size; a score is a ratio */
        double bound = 1e-5 * (1 + fabs(expected[i]));
        if (!(fabs(out[i] - expected[i]) <= bound)) {
            fail_msg("%s, %d of %d channels, horizon %d, l %g, d %g, short %g, long %g: frame %zu column %zu is %.9g, "
                     "not %.9g",
                     isa ? isa : "best", p->targets, p->inputs, p->horizon, p->forgetting, p->regularization,
                     p->short_frames, p->long_frames, i / (size_t)width, i % (size_t)width, out[i], expected[i]);
        }
    }
    runner_close(&r);
    free(in);
    free(out);
    free(expected);
}

static void rls__random_shapes__equal_the_definition(void **state)
{
    uint32_t seed = 2463534242u;

    (void)state;
    for (uint32_t i = 0; i < 40; i++) {
        struct reference_rls p = shape_random(&seed);
        compare_shape(&p, i % 2 ? NULL : "ref", seed);
    }
}

/* ---- trials ------------------------------------------------------------------------------------------------------ */

static void trial_make(struct trial *t, int features, int targets)
{
    static const double forgettings[] = {0.9, 0.98, 0.999, 1};
    struct reference_rls p = {.features = features,
                              .inputs = features,
                              .targets = targets,
                              .horizon = (int)trial_between(t, 1, 17),
                              .forgetting = TRIAL_PICK(t, forgettings),
                              .regularization = 0.1,
                              .short_frames = trial_between(t, 1, 50),
                              .long_frames = trial_between(t, 1, 1000)};

    making_layers(&t->model,
                  "{'type':'rls','targets':%d,'horizon':%d,'forgetting':%.17g,'regularization':%.17g,'short':%u,"
                  "'long':%u}",
                  p.targets, p.horizon, p.forgetting, p.regularization, (unsigned)p.short_frames,
                  (unsigned)p.long_frames);
    trial_input(t, (uint32_t)features, 3 * (uint32_t)targets, 1);
    assert_int_equal(reference_rls_run(&p, (int)t->frames, t->x, t->x, t->want), 0);
}

static void rls(struct trial *t)
{
    int features = (int)trial_size(t);

    trial_make(t, features, 1 + (int)making_number(&t->seed, (uint32_t)features));
}

/* A state that no device keeps in a block's own memory. */
static void rls_wide(struct trial *t)
{
    t->frames = 40;
    trial_make(t, 100 + 30 * (int)t->number, 2);
}

static const struct trial_kind kinds[] = {
    {"rls", rls, 20, 1e-5},
    {"rls_wide", rls_wide, 4, 1e-5},
};

/* ---- properties -------------------------------------------------------------------------------------------------- */

static void rls__any_chunking_and_view__gives_the_same_bits(void **state)
{
    static const uint32_t chunks[] = {1, 7, 64, 127, 1000};
    const struct reference_rls p = {3, 2, 5, 3, 0.995, 0.01, 10, 200};
    float *in = calloc((size_t)FRAMES * 3, sizeof(*in)), *whole = calloc((size_t)FRAMES * 6, sizeof(*whole));
    float *cut = calloc((size_t)FRAMES * 6, sizeof(*cut));
    struct runner r;

    (void)state;
    assert_true(in && whole && cut);
    signal_fill(in, 3, 88172645u);
    runner_open(&r, model_must(&p), NULL);
    runner_pass(&r, SSM_STEP, in, whole, FRAMES);
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        for (int view = SSM_STEP; view <= SSM_SCAN; view++) {
            memset(cut, 0x55, (size_t)FRAMES * 6 * sizeof(*cut));
            runner_pass(&r, (enum ssm_view)view, in, cut, chunks[i]);
            assert_memory_equal(cut, whole, (size_t)FRAMES * 6 * sizeof(*cut));
        }
    }
    runner_close(&r);
    free(in);
    free(whole);
    free(cut);
}

static void rls__before_the_horizon__is_silent(void **state)
{
    const struct reference_rls p = {1, 1, 9, 1, 0.99, 0.01, 5, 50};
    float *in = calloc(FRAMES, sizeof(*in)), *out = calloc((size_t)FRAMES * 3, sizeof(*out));
    struct runner r;

    (void)state;
    assert_true(in && out);
    signal_fill(in, 1, 362436069u);
    runner_open(&r, model_must(&p), NULL);
    runner_pass(&r, SSM_STEP, in, out, FRAMES);
    for (size_t i = 0; i < 9 * 3; i++) {
        assert_true(out[i] == 0); /* nothing learned, nothing to compare with */
    }
    assert_true(out[9 * 3 + 1] == in[9]); /* the error of a prediction of 0 */
    assert_true(out[9 * 3 + 2] == 1);     /* both means are that one error */
    runner_close(&r);
    free(in);
    free(out);
}

/* What a sensor does over a life: signal, silence, clipping, a stuck value, spikes, a very quiet signal. */
static float life(uint64_t t, uint32_t *seed)
{
    float x = 0.5f * sinf((float)(t % 360) * 0.0174533f * 7) + 0.1f * noise(seed);

    switch (t / 20000 % 6) {
    case 0:
        return x;
    case 1:
        return 0;
    case 2:
        return x > 0 ? 1 : -1;
    case 3:
        return 1;
    case 4:
        return t % 997 == 0 ? 1000 : x;
    default:
        return 1e-6f * x;
    }
}

/* Live for so many frames, then listen to a tone: the worst error of its last thousand frames. */
static float live(const char *spec, uint64_t frames)
{
    uint64_t t = 0;
    struct ssm_error err = {""};
    struct ssm_model *model = NULL;
    struct runner r;
    float in[1000], out[3000], worst = 0;
    uint32_t seed = 521288629u;

    if (ssm_model_load(&model, spec, NULL, &err)) {
        fail_msg("%s", err.text);
    }
    runner_open(&r, model, NULL);
    for (; t < frames; t += 1000) {
        for (uint32_t i = 0; i < 1000; i++) {
            in[i] = life(t + i, &seed);
        }
        runner_advance(&r, SSM_STEP, in, out, 1000);
        for (uint32_t i = 0; i < 3000; i++) {
            if (!isfinite(out[i])) {
                fail_msg("frame %llu is not finite", (unsigned long long)(t + i / 3));
            }
        }
    }
    for (uint32_t part = 0; part < 30; part++, t += 1000) {
        for (uint32_t i = 0; i < 1000; i++) {
            in[i] = 0.5f * sinf((float)((t + i) % 360) * 0.0174533f * 7);
        }
        runner_advance(&r, SSM_STEP, in, out, 1000);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        worst = fmaxf(worst, fabsf(out[3 * i + 1]));
    }
    runner_close(&r);
    return worst;
}

static void rls__long_life__stays_finite_and_still_learns(void **state)
{
    const char *asked = getenv("RLS_FRAMES");

    (void)state;
    /* a tenth of the tone's amplitude, 30,000 frames after the worst */
    assert_true(live("forecast:rate=360", asked ? strtoull(asked, NULL, 10) : 1000000) < 0.05f);
}

/* Silence of 20,000 frames is 555 times this memory: without the ridge P would have grown by e^555. */
static void rls__silence_far_longer_than_the_memory__stays_finite_and_still_learns(void **state)
{
    (void)state;
    assert_true(live("forecast:rate=360,memory=0.1", 240000) < 0.05f);
}

/* The largest finite samples: numbers at every frame, and a score again when the means have forgotten them. */
static void rls__samples_near_the_largest_float__stay_finite(void **state)
{
    const struct reference_rls p = {1, 1, 3, 1, 0.98, 0.01, 5, 50};
    float *in = calloc(FRAMES, sizeof(*in)), *out = calloc((size_t)FRAMES * 3, sizeof(*out));
    uint32_t seed = 123456789u;
    struct runner r;

    (void)state;
    assert_true(in && out);
    for (int t = 0; t < FRAMES; t++) {
        in[t] = noise(&seed);
    }
    for (int t = 500; t < 520; t++) {
        in[t] = copysignf(3.4e38f, in[t]);
    }
    in[600] = 1e25f;
    runner_open(&r, model_must(&p), NULL);
    runner_pass(&r, SSM_STEP, in, out, FRAMES);
    for (int t = 0; t < FRAMES; t++) {
        assert_true(isfinite(out[3 * t]) && isfinite(out[3 * t + 1]) && isfinite(out[3 * t + 2]));
    }
    assert_true(out[3 * FRAMES - 1] > 0);
    runner_close(&r);
    free(in);
    free(out);
}

static void expect_refused(struct reference_rls p, const char *word)
{
    struct ssm_error err = {""};
    struct ssm_model *model = NULL;

    assert_true(model_new(&model, &p, &err) < 0);
    assert_null(model);
    if (strstr(err.text, word) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
    }
}

static void rls__key_out_of_range__is_refused_by_name(void **state)
{
    const struct reference_rls good = {2, 1, 5, 2, 0.99, 0.01, 5, 50};
    struct reference_rls p;

    (void)state;
    p = good, p.targets = 3;
    expect_refused(p, "targets");
    p = good, p.horizon = 0;
    expect_refused(p, "horizon");
    p = good, p.forgetting = 1.01;
    expect_refused(p, "forgetting");
    p = good, p.forgetting = 0;
    expect_refused(p, "forgetting");
    p = good, p.regularization = 0;
    expect_refused(p, "regularization");
    p = good, p.short_frames = 0;
    expect_refused(p, "short");
    p = good, p.long_frames = -1;
    expect_refused(p, "long");
}

static void rls__state_too_large__is_refused_with_its_size(void **state)
{
    struct reference_rls p = {8, 1, 1 << 26, 8, 0.99, 0.01, 5, 50};

    (void)state;
    expect_refused(p, "2415"); /* (8 + 1) * 4 * 2^26 bytes and what is small beside them */
    p = (struct reference_rls){2000, 1, 1, 2000, 0.99, 0.01, 5, 50};
    expect_refused(p, "1024");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rls__random_shapes__equal_the_definition),
        cmocka_unit_test(rls__any_chunking_and_view__gives_the_same_bits),
        cmocka_unit_test(rls__before_the_horizon__is_silent),
        cmocka_unit_test(rls__long_life__stays_finite_and_still_learns),
        cmocka_unit_test(rls__silence_far_longer_than_the_memory__stays_finite_and_still_learns),
        cmocka_unit_test(rls__samples_near_the_largest_float__stay_finite),
        cmocka_unit_test(rls__key_out_of_range__is_refused_by_name),
        cmocka_unit_test(rls__state_too_large__is_refused_with_its_size),
    };
    int plain = cmocka_run_group_tests_name("rls: definition and properties", tests, NULL, NULL);

    return trial_main("rls", kinds, sizeof(kinds) / sizeof(*kinds)) + plain;
}
