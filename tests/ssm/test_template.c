/* SPDX-License-Identifier: Apache-2.0
 *
 * The built-in templates: what is refused and what the sentence names, canonical names, and the configuration they
 * become.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/model.h"
#include "tests/ssm/running.h"

#define FORECAST_360                                                                                                   \
    "forecast:rate=360,channels=1,order=16,window=1,horizon=0.05,memory=14,ridge=0.0003,short=0.111,long=20"

static json_t *config_of(const char *spec, double rate, uint32_t channels)
{
    struct ssm_model_hint hint = {rate, channels};
    struct ssm_error err = {""};
    json_t *config = NULL;
    int status = ssm_template_config(&config, spec, &hint, &err);

    if (status) {
        fail_msg("'%s' was refused: %s", spec, err.text);
    }
    return config;
}

static void expect_name(const char *spec, double rate, uint32_t channels, const char *name)
{
    json_t *config = config_of(spec, rate, channels);

    assert_string_equal(json_string_value(json_object_get(config, "name")), name);
    json_decref(config);
}

/* The spec is refused with a sentence that holds every one of the words (separated by '|'). */
static void expect_refusal(const char *spec, double rate, uint32_t channels, const char *words)
{
    struct ssm_model_hint hint = {rate, channels};
    struct ssm_error err = {""};
    json_t *config = NULL;
    char list[256], *save = NULL;

    int status = ssm_template_config(&config, spec, &hint, &err);
    if (status >= 0) {
        fail_msg("'%s' was accepted", spec);
    }
    assert_null(config);
    snprintf(list, sizeof(list), "%s", words);
    for (char *word = strtok_r(list, "|", &save); word; word = strtok_r(NULL, "|", &save)) {
        if (strstr(err.text, word) == NULL) {
            fail_msg("'%s': the sentence \"%s\" does not say \"%s\"", spec, err.text, word);
        }
    }
}

static void template__names__are_listed_and_recognised(void **state)
{
    const char *const *names = ssm_template_names();

    (void)state;
    assert_string_equal(names[0], "memory");
    assert_string_equal(names[1], "forecast");
    assert_null(names[2]);
    assert_true(ssm_is_template("forecast") && ssm_is_template("memory:order=3") && ssm_is_template("forecast:"));
    assert_false(ssm_is_template("forecasts") || ssm_is_template("./forecast") || ssm_is_template("") ||
                 ssm_is_template("fore") || ssm_is_template(NULL));
}

static void template__unknown_name__is_refused(void **state)
{
    (void)state;
    expect_refusal("oracle:rate=1", 0, 0, "oracle|memory|forecast");
}

static void template__missing_rate__says_how_to_give_it(void **state)
{
    (void)state;
    expect_refusal("forecast", 0, 0, "forecast:rate=HZ");
    expect_refusal("memory:order=8", 0, 2, "memory:rate=HZ");
}

static void template__hint__fills_rate_and_channels(void **state)
{
    (void)state;
    expect_name("forecast", 360, 0, FORECAST_360);
    expect_name("forecast", 360, 1, FORECAST_360);
    expect_name("memory", 48000.5, 2, "memory:rate=48000.5,channels=2,order=16,window=0.0075");
}

static void template__no_hint__is_accepted(void **state)
{
    json_t *config = NULL;

    (void)state;
    assert_int_equal(ssm_template_config(&config, "forecast:rate=360", NULL, NULL), SSM_OK);
    assert_string_equal(json_string_value(json_object_get(config, "name")), FORECAST_360);
    json_decref(config);
    assert_true(ssm_template_config(&config, "forecast", NULL, NULL) < 0);
    assert_true(ssm_template_config(&config, NULL, NULL, NULL) < 0);
}

static void template__contradiction_with_the_stream__is_refused(void **state)
{
    (void)state;
    expect_refusal("forecast:rate=360", 500, 0, "rate=360|500|leave rate out");
    expect_refusal("forecast:rate=360,channels=2", 360, 3, "channels=2|3|leave channels out");
    expect_name("forecast:rate=360,channels=1", 360, 1, FORECAST_360);
}

static void template__hint_out_of_range__is_refused(void **state)
{
    (void)state;
    expect_refusal("memory", -5, 1, "rate=-5|of the stream|0.001 to 10000000 Hz");
    expect_refusal("memory", 360, 65, "channels=65|1 to 64");
    expect_refusal("memory", NAN, 1, "rate|out of range");
    expect_refusal("memory:rate=360", NAN, 1, "rate=360|contradicts");
    expect_refusal("memory:rate=360", INFINITY, 1, "rate=360|contradicts");
}

static void template__unknown_parameter__lists_the_known_ones(void **state)
{
    (void)state;
    expect_refusal("forecast:rat=360", 0, 0,
                   "'rat'|rate, channels, order, window, horizon, memory, ridge, short and long");
    expect_refusal("memory:rate=360,horizon=1", 0, 0, "'horizon'|rate, channels, order and window");
    expect_refusal("forecast:=3", 360, 0, "''|rate, channels");
    expect_refusal("forecast:Rate=3", 0, 0, "'Rate'");
}

static void template__malformed_parameter__is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "abc",
                                      "1x",
                                      "0x10",
                                      "nan",
                                      "inf",
                                      "Infinity",
                                      "1,",
                                      " 1",
                                      "1 ",
                                      "--1",
                                      "1e",
                                      "1e999",
                                      ".5",
                                      "1.2.3",
                                      "=1",
                                      "true",
                                      "[1]",
                                      "\"1\"",
                                      "+1",
                                      "1e+",
                                      "0.1.",
                                      "11111111111111111111111111111111111111111"};
    char spec[128];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(spec, sizeof(spec), "forecast:rate=360,window=%s", bad[i]);
        expect_refusal(spec, 0, 0, strcmp(bad[i], "1,") ? "window" : "empty parameter");
    }
    expect_refusal("forecast:rate=360,window", 0, 0, "window|not a number");
    expect_refusal("forecast:", 360, 0, "empty parameter");
    expect_refusal("forecast:,rate=360", 0, 0, "empty parameter");
    expect_refusal("forecast:rate=360,,order=3", 0, 0, "empty parameter");
}

static void template__parameter_given_twice__is_refused(void **state)
{
    (void)state;
    expect_refusal("forecast:rate=360,order=8,order=8", 0, 0, "order is given twice");
}

static void template__parameter_out_of_range__names_the_range(void **state)
{
    (void)state;
    expect_refusal("forecast:rate=0", 0, 0, "rate=0|0.001 to 10000000 Hz");
    expect_refusal("forecast:rate=360,order=0", 0, 0, "order=0|1 to 256");
    expect_refusal("forecast:rate=360,order=257", 0, 0, "order=257|1 to 256");
    expect_refusal("forecast:rate=360,order=2.5", 0, 0, "order=2.5|whole number");
    expect_refusal("forecast:rate=360,channels=65", 0, 0, "channels=65|1 to 64");
    expect_refusal("forecast:rate=360,window=-1", 0, 0, "window=-1|seconds");
    expect_refusal("forecast:rate=360,ridge=0", 0, 0, "ridge=0");
}

static void template__parameters_that_do_not_fit_together__are_refused(void **state)
{
    (void)state;
    expect_refusal("forecast:rate=360,horizon=0.001", 0, 0, "horizon=0.001|samples at 360 Hz");
    expect_refusal("forecast:rate=10,short=0.01", 0, 0, "short=0.01|samples at 10 Hz");
    expect_refusal("memory:rate=1,window=0.5", 0, 0, "window=0.5|samples at 1 Hz");
    expect_refusal("forecast:rate=360,long=1e9", 0, 0, "long");
    expect_refusal("forecast:rate=360,channels=64,order=32", 0, 0, "channels * order = 2048|1024");
}

static void template__spelling_and_order__do_not_change_the_name(void **state)
{
    (void)state;
    expect_name("forecast:order=16,horizon=5e-2,rate=3.6e2", 0, 0, FORECAST_360);
    expect_name("forecast:window=1.0000000001,rate=360", 0, 0, FORECAST_360);
    expect_name("forecast:window=1.0,rate=360.0", 0, 0, FORECAST_360);
}

static void template__name__gives_the_same_configuration_again(void **state)
{
    static const char *const specs[] = {"forecast:rate=44100", "forecast:rate=44100,horizon=0.0123456789",
                                        "forecast:rate=0.5", "memory:rate=7",
                                        "forecast:rate=16000,channels=3,window=0.03"};

    (void)state;
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        json_t *first = config_of(specs[i], 0, 0);
        json_t *second = config_of(json_string_value(json_object_get(first, "name")), 0, 0);
        assert_true(json_equal(first, second));
        json_decref(first);
        json_decref(second);
    }
}

static double number_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void template__forecast__counts_times_in_samples(void **state)
{
    json_t *config =
        config_of("forecast:rate=1000,channels=2,order=8,window=0.25,horizon=0.0104,memory=2,short=0.05,long=3", 0, 0);
    json_t *layers = json_object_get(config, "layers");
    json_t *hippo = json_array_get(layers, 0), *rls = json_array_get(layers, 1);

    (void)state;
    assert_int_equal(json_array_size(layers), 2);
    assert_string_equal(json_string_value(json_object_get(hippo, "measure")), "legt");
    assert_true(number_at(hippo, "channels") == 2 && number_at(hippo, "order") == 8);
    assert_float_equal(number_at(hippo, "dt"), 0.008, 1e-12);
    assert_true(number_at(rls, "targets") == 2 && number_at(rls, "horizon") == 10);
    assert_true(number_at(rls, "short") == 50 && number_at(rls, "long") == 3000);
    assert_float_equal(number_at(rls, "forgetting"), 0.99950012497916927, 1e-15); /* exp(-1/2000) */
    assert_true(number_at(json_object_get(config, "output"), "channels") == 6);
    assert_int_equal(json_array_size(json_object_get(json_object_get(config, "output"), "labels")), 6);
    json_decref(config);
}

static void template__memory__gives_out_the_coefficients(void **state)
{
    json_t *config = config_of("memory:channels=3,order=5,window=2", 100, 0);

    (void)state;
    assert_int_equal(json_array_size(json_object_get(config, "layers")), 1);
    assert_true(number_at(json_object_get(config, "output"), "channels") == 15);
    assert_true(number_at(json_object_get(config, "output"), "sample_rate") == 100);
    assert_float_equal(number_at(json_array_get(json_object_get(config, "layers"), 0), "dt"), 0.01, 1e-15);
    json_decref(config);
}

static void template__every_template__loads_as_a_model(void **state)
{
    struct ssm_model_hint hint = {16000, 2};
    struct ssm_error err = {""};
    struct ssm_model *model = NULL;

    (void)state;
    for (const char *const *name = ssm_template_names(); *name; name++) {
        if (ssm_model_load(&model, *name, &hint, &err)) {
            fail_msg("%s: %s", *name, err.text);
        }
        const struct ssm_model_info *info = ssm_model_info(model);
        assert_int_equal(strncmp(info->name, *name, strlen(*name)), 0);
        assert_true(info->in_rate == 16000 && info->in_channels == 2 && info->hop == 1 && info->lookahead == 0);
        assert_int_equal(info->out_channels, strcmp(*name, "memory") ? 6 : 32);
        ssm_model_free(model);
    }
}

static double legendre(int n, double x)
{
    double before = 1, now = n ? x : 1;

    for (int k = 1; k < n; k++) {
        double next = ((2 * k + 1) * x * now - k * before) / (k + 1);

        before = now;
        now = next;
    }
    return now;
}

/* The signal: slow against a window of a second, and never the same in any two. */
static double slow_signal(double t)
{
    return 0.2 + 0.3 * t - 0.05 * t * t + 0.5 * sin(3 * t);
}

enum { SLOW_ORDER = 8, SLOW_RATE = 400, SLOW_FRAMES = 5 * SLOW_RATE };

/* The coefficients after the last frame of the slow signal. */
static void remember(const char *spec, float *last)
{
    static float in[SLOW_FRAMES], out[SLOW_FRAMES * SLOW_ORDER];
    struct ssm_error err = {""};
    struct ssm_model *model = NULL;
    struct running r;

    for (int t = 0; t < SLOW_FRAMES; t++) {
        in[t] = (float)slow_signal((double)t / SLOW_RATE);
    }
    if (ssm_model_load(&model, spec, NULL, &err)) {
        fail_msg("%s: %s", spec, err.text);
    }
    running_open(&r, model, NULL, 1, 1);
    running_pass(&r, SSM_STEP, in, SLOW_FRAMES, out, NULL, SLOW_FRAMES, 1);
    running_close(&r);
    ssm_model_free(model);
    memcpy(last, out + (SLOW_FRAMES - 1) * SLOW_ORDER, SLOW_ORDER * sizeof(*last));
}

/* The largest error of sum over n of x_n sqrt(2n+1) P_n(1 - 2 s / window) against the signal s seconds ago, for s from
 * 0 to `window`. */
static double recall_error(const float *x, double window)
{
    double worst = 0;

    for (int k = 0; k <= 40; k++) {
        double s = window * k / 40, f = 0;

        for (int n = 0; n < SLOW_ORDER; n++) {
            f += x[n] * sqrt(2.0 * n + 1) * legendre(n, 1 - 2 * s / window);
        }
        worst = fmax(worst, fabs(f - slow_signal((SLOW_FRAMES - 1.0) / SLOW_RATE - s)));
    }
    return worst;
}

static void template__memory__holds_the_window_it_names(void **state)
{
    static const double windows[] = {0.5, 1, 2};
    float x[SLOW_ORDER];
    char spec[64];

    (void)state;
    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        snprintf(spec, sizeof(spec), "memory:rate=%d,window=%g,order=%d", SLOW_RATE, windows[i], SLOW_ORDER);
        remember(spec, x);
        assert_true(recall_error(x, windows[i]) < 0.005);
        assert_true(recall_error(x, 2 * windows[i]) > 0.05 && recall_error(x, windows[i] / 2) > 0.05);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(template__names__are_listed_and_recognised),
        cmocka_unit_test(template__unknown_name__is_refused),
        cmocka_unit_test(template__missing_rate__says_how_to_give_it),
        cmocka_unit_test(template__hint__fills_rate_and_channels),
        cmocka_unit_test(template__no_hint__is_accepted),
        cmocka_unit_test(template__contradiction_with_the_stream__is_refused),
        cmocka_unit_test(template__hint_out_of_range__is_refused),
        cmocka_unit_test(template__unknown_parameter__lists_the_known_ones),
        cmocka_unit_test(template__malformed_parameter__is_refused),
        cmocka_unit_test(template__parameter_given_twice__is_refused),
        cmocka_unit_test(template__parameter_out_of_range__names_the_range),
        cmocka_unit_test(template__parameters_that_do_not_fit_together__are_refused),
        cmocka_unit_test(template__spelling_and_order__do_not_change_the_name),
        cmocka_unit_test(template__name__gives_the_same_configuration_again),
        cmocka_unit_test(template__forecast__counts_times_in_samples),
        cmocka_unit_test(template__memory__gives_out_the_coefficients),
        cmocka_unit_test(template__memory__holds_the_window_it_names),
        cmocka_unit_test(template__every_template__loads_as_a_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
