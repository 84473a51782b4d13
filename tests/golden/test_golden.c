/* SPDX-License-Identifier: Apache-2.0
 *
 * Golden cases: every directory with a case.json under tests/golden and under $GOLDEN is one test. Its input goes
 * through the library as steps, as scans and by convolution, cut into chunks of several sizes; what comes out must
 * match what somebody else's code (case.json says whose) computed in float64, within the case's own tolerance, and in
 * steps be the same bits at any size.
 *
 * A case of $GOLDEN whose layers this version does not have is skipped, with the reason. The cases of tests/golden are
 * all of layers that exist, so none of them may be skipped.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ssm/config.h"
#include "ssm/model.h"
#include "tests/golden/case.h"
#include "tests/ssm/running.h"

#define DEVICE_STEPS   8192 /* one by one they are as many launches of every layer */
#define EMULATED_STEPS 320

/* ---- running it -------------------------------------------------------------------------------------------------- */

/* The next frames of the input (NULL: zeros), as one row; their output behind what was made, as far as it counts. */
static uint64_t run_chunk(struct golden *g, struct ssm_program *program, struct ssm_row row, uint64_t made)
{
    uint64_t most = ssm_out_frames_max(ssm_program_model(program), row.frames), left = g->out_frames - made;
    float *zeros = calloc(row.frames, g->in_channels * sizeof(*zeros));
    float *out = calloc(most + 1, g->out_channels * sizeof(*out));

    assert_true(zeros && out);
    row.in = row.in ? row.in : zeros;
    row.out = out;
    assert_int_equal(ssm_advance(program, &row, 1), SSM_OK);
    assert_true(row.out_frames <= most);
    left = row.out_frames < left ? row.out_frames : left;
    memcpy(g->out + made * g->out_channels, out, left * g->out_channels * sizeof(*out));
    free(zeros);
    free(out);
    return left;
}

/* The whole input in chunks, through a fresh state. */
static void run_case(struct golden *g, struct ssm_program *program, enum ssm_view view, uint64_t chunk)
{
    const struct ssm_model_info *info = ssm_model_info(ssm_program_model(program));
    struct ssm_slot slot;
    uint64_t made = 0;
    memset(g->out, 0xff, g->out_frames * g->out_channels * sizeof(float));
    assert_int_equal(ssm_slot_acquire(program, &slot), SSM_OK);
    for (uint64_t at = 0; at < g->steps; at += chunk) {
        uint64_t now = g->steps - at < chunk ? g->steps - at : chunk;
        struct ssm_row row = {.slot = slot, .view = view, .frames = (uint32_t)now};
        row.in = (const char *)g->in + at * g->in_channels * 4;
        made += run_chunk(g, program, row, made);
    }
    if (info->lookahead > 0)
        made += run_chunk(g, program, (struct ssm_row){.slot = slot, .view = view, .frames = info->lookahead}, made);
    assert_int_equal(made, g->out_frames);
    ssm_slot_release(program, slot);
}

static const char *const view_names[] = {[SSM_STEP] = "steps", [SSM_SCAN] = "scans", [SSM_CONV] = "convolutions"};

static unsigned check_view(struct golden *g, struct ssm_program *program, enum ssm_view view, double *worst)
{
    const uint64_t chunks[] = {g->steps, 1, 7, 64, 501};
    unsigned failures = 0;
    for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]); i++) {
        run_case(g, program, view, chunks[i]);
        double error = golden_error(g);
        *worst = error <= *worst ? *worst : error;
        if (!(error <= g->tolerance)) {
            print_error("%s: %s in chunks of %llu: error %.3g, tolerance %.3g\n", g->dir, view_names[view],
                        (unsigned long long)chunks[i], error, g->tolerance);
            failures++;
        }
        size_t bytes = g->out_frames * g->out_channels * sizeof(float);
        if (i == 0) {
            memcpy(g->first, g->out, bytes);
        } else if (view == SSM_STEP && memcmp(g->first, g->out, bytes) != 0) {
            print_error("%s: steps in chunks of %llu give other bits\n", g->dir, (unsigned long long)chunks[i]);
            failures++;
        }
    }
    return failures;
}

/* The beginning of a long case, as far as nothing behind it has a say: a device takes minutes for all of one in chunks
 * of one frame, and an emulated device seconds for what a real one does in a millisecond. */
static void shorten_case(struct golden *g, const struct ssm_model *model, uint64_t steps)
{
    uint64_t lookahead = ssm_model_info(model)->lookahead;

    if (steps + lookahead >= g->steps)
        return;
    g->steps = steps + lookahead;
    g->out_frames = ssm_out_frames(model, steps);
}

/* On one instruction set, or on a device, where the convolution is the scan; "ref" is everywhere. */
static unsigned check_isa(const struct golden *whole, struct ssm_model *model, const char *isa)
{
    struct golden part = *whole, *g = &part;
    double worst[3] = {0};
    unsigned failures = 0;
    struct running r;
    enum ssm_view last = SSM_CONV;

    if (!running_isa_here(isa)) {
        assert_string_not_equal(isa, "ref");
        return 0;
    }
    running_open(&r, model, isa, 1, 1);
    if (strcmp(ssm_engine_backend(r.engine), "cpu") != 0) {
        shorten_case(g, model, strstr(ssm_engine_describe(r.engine), "emulator") ? EMULATED_STEPS : DEVICE_STEPS);
        last = SSM_SCAN;
    }
    assert_int_equal(ssm_program_prepare(r.program, last, NULL), SSM_OK);
    for (int view = SSM_STEP; view <= (int)last; view++)
        failures += check_view(g, r.program, (enum ssm_view)view, &worst[view]);
    print_message("%s: %s: step %.2e, scan %.2e", g->dir, isa, worst[SSM_STEP], worst[SSM_SCAN]);
    if (last == SSM_CONV)
        print_message(", conv %.2e", worst[SSM_CONV]);
    print_message(", tolerance %.0e\n", g->tolerance);
    running_close(&r);
    return failures;
}

static void check_model(struct golden *g, struct ssm_model *model)
{
    unsigned failures = 0;
    const struct ssm_model_info *info = ssm_model_info(model);
    assert_int_equal(info->in_channels, g->in_channels);
    assert_int_equal(info->out_channels, g->out_channels);
    assert_int_equal(ssm_out_frames(model, g->steps), g->out_frames);
    for (size_t i = 0; running_isas[i]; i++)
        failures += check_isa(g, model, running_isas[i]);
    assert_int_equal(failures, 0);
}

static void golden__in_every_view__matches_the_reference(void **state)
{
    struct golden *g = *state;
    struct ssm_model *model = NULL;
    struct ssm_error err = {0};
    int rc = ssm_model_load(&model, g->dir, NULL, &err);
    if (rc == SSM_UNSUPPORTED && g->may_skip) {
        print_message("%s\n", err.text);
        skip();
    }
    if (rc)
        print_error("%s\n", err.text);
    assert_int_equal(rc, SSM_OK);
    golden_load(g);
    check_model(g, model);
    ssm_model_free(model);
    golden_free(g);
}

/* ---- the tolerances are tight ------------------------------------------------------------------------------------ */

/* Sets `key` of the first layer of that type, at any depth. */
static bool change_layer(json_t *layers, const char *type, const char *key, json_t *value)
{
    size_t i;
    json_t *layer;
    json_array_foreach(layers, i, layer)
    {
        if (json_is_array(layer)) { /* one of several branches */
            if (change_layer(layer, type, key, value))
                return true;
        } else if (strcmp(json_string_value(json_object_get(layer, "type")), type) == 0) {
            return json_object_set(layer, key, value) == 0;
        } else if (change_layer(json_object_get(layer, "layers"), type, key, value) ||
                   change_layer(json_object_get(layer, "branches"), type, key, value)) {
            return true;
        }
    }
    return false;
}

/* The error of the case once one key of its configuration is another. */
static void check_change_shows(const char *name, const char *type, const char *key, json_t *value)
{
    struct golden g = {.may_skip = false};
    char path[600];
    json_t *config = NULL;
    struct ssm_model *model = NULL;
    struct ssm_engine *engine = NULL;
    struct ssm_program *program = NULL;
    snprintf(g.dir, sizeof(g.dir), "tests/golden/%s", name);
    snprintf(path, sizeof(path), "%s/config.json", g.dir);
    golden_load(&g);
    assert_int_equal(ssm_config_load(&config, path, NULL), SSM_OK);
    assert_true(change_layer(json_object_get(config, "layers"), type, key, value));
    assert_int_equal(ssm_model_build(&model, config, g.dir, path, 0, NULL), SSM_OK);
    assert_int_equal(ssm_engine_new(&engine, &(struct ssm_engine_options){0}, NULL), SSM_OK);
    assert_int_equal(ssm_program_new(&program, engine, model, 1, NULL), SSM_OK);
    run_case(&g, program, SSM_STEP, g.steps);
    double error = golden_error(&g);
    print_message("%s with another %s of %s: error %.2e\n", name, key, type, error);
    assert_true(error > g.tolerance);
    ssm_program_free(program);
    ssm_engine_free(engine);
    ssm_model_free(model);
    json_decref(config);
    json_decref(value);
    golden_free(&g);
}

static void golden__wrong_eps_gelu_or_rule__fails(void **state)
{
    (void)state;
    check_change_shows("s4d-prenorm", "layernorm", "eps", json_real(1e-5));
    check_change_shows("mixed-tokens", "activation", "fn", json_string("gelu_tanh"));
    check_change_shows("widths", "rmsnorm", "eps", json_real(1e-5));
    check_change_shows("widths", "batchnorm", "eps", json_real(1e-5));
    check_change_shows("s4d-legs", "s4d", "discretization", json_string("bilinear"));
    check_change_shows("s5-zoh", "s5", "discretization", json_string("bilinear"));
    check_change_shows("s5-conj", "s5", "conjugate_symmetry", json_false());
    check_change_shows("mamba2-groups", "mamba2", "dt_limit", json_pack("[f,n]", 0.0));
    check_change_shows("mamba2-groups", "mamba2", "norm_before_gate", json_true());
    check_change_shows("mamba2-signal", "mamba2", "eps", json_real(1e-3));
    check_change_shows("lti-zoh", "lti", "discretization", json_string("bilinear"));
    check_change_shows("hippo-legt", "hippo", "discretization", json_string("zoh"));
    check_change_shows("attention", "attention", "rope_theta", json_real(20000));
    check_change_shows("attention", "attention", "window", json_integer(13));
    check_change_shows("attention", "attention", "sinks", json_integer(3));
    check_change_shows("attention-nope", "attention", "rope_theta", json_real(10000));
    check_change_shows("multirate", "conv1d", "padding", json_string("causal"));
    check_change_shows("rate-quarter", "conv1d", "padding", json_string("valid"));
}

int main(void)
{
    static struct golden cases[CASES_MAX];
    static struct CMUnitTest tests[CASES_MAX + 1];
    size_t n = golden_find_all(cases, tests, golden__in_every_view__matches_the_reference);

    tests[n++] = (struct CMUnitTest)cmocka_unit_test(golden__wrong_eps_gelu_or_rule__fails);
    return _cmocka_run_group_tests("golden", tests, n, NULL, NULL);
}
