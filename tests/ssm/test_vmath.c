/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of ssm/cpu/vmath.h through the layers that show them (activation), on every instruction set: a dense
 * sweep against libm's float64, in units of the last place; the ends; and the same bits wherever in a frame a value
 * lies.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/making.h"
#include "tests/ssm/running.h"

#define CHANNELS 997u /* odd, so that a frame's end falls into every lane */
#define FRAMES   512u
#define N        (CHANNELS * FRAMES)

static double sigmoid(double v)
{
    return 1 / (1 + exp(-v));
}

static double silu(double v)
{
    return v / (1 + exp(-v));
}

static double softplus(double v)
{
    return v > 0 ? v + log1p(exp(-v)) : log1p(exp(v));
}

static double gelu(double v)
{
    return 0.5 * v * erfc(-v / sqrt(2));
}

static double gelu_tanh(double v)
{
    return v / (1 + exp(-2 * sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v)));
}

/* Bounds in 2^-24 of the result. Below `from` the results leave float32's normal range. gelu_tanh's argument is worked
 * out in float32, so its error grows with it. */
static const struct sweep {
    const char *fn;
    double (*want)(double v);
    double bound, from;
} sweeps[] = {{"sigmoid", sigmoid, 3, -87.3}, {"silu", silu, 3, -88},   {"softplus", softplus, 4, -86.6},
              {"tanh", tanh, 5, -1e30},       {"gelu", gelu, 8, -12.5}, {"gelu_tanh", gelu_tanh, 10, -2}};

static void run(const char *fn, const char *isa, uint32_t channels, uint32_t frames, const float *x, float *y)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct making made;
    struct running r;

    making_init(&made, 1);
    making_layers(&made, "{'type':'activation','fn':'%s'}", fn);
    if (making_load(&made, &model, channels, channels, &err))
        fail_msg("%s", err.text);
    running_open(&r, model, isa, 1, 1);
    running_advance(&r, running_acquire(&r), SSM_STEP, x, frames, y);
    running_close(&r);
    ssm_model_free(model);
    making_fini(&made);
}

static float *floats(size_t n)
{
    float *p = calloc(n, sizeof(*p));

    assert_non_null(p);
    return p;
}

/* Values from -100 to 100, dense near 0, and small powers of two. */
static void sweep_fill(float *x)
{
    for (size_t i = 0; i < N; i++) {
        double v = 2.0 * (double)i / (N - 1) - 1;

        x[i] = (float)(i % 3 == 0 ? 100 * v : i % 3 == 1 ? 4 * v * v * v : copysign(exp2(-30 + 30 * fabs(v)), v));
    }
}

static void vmath__dense_sweep__is_within_a_few_units_of_the_last_place(void **state)
{
    float *x = floats(N), *y = floats(N);

    (void)state;
    sweep_fill(x);
    for (int k = 0; running_isas[k]; k++)
        for (size_t s = 0; running_isa_here(running_isas[k]) && s < sizeof(sweeps) / sizeof(*sweeps); s++) {
            double worst = 0, at = 0;

            run(sweeps[s].fn, running_isas[k], CHANNELS, FRAMES, x, y);
            for (size_t i = 0; i < N; i++) {
                double want = sweeps[s].want(x[i]), error = fabs(y[i] - want) / (fabs(want) + 1e-300) * 0x1p24;

                if (x[i] == 0)
                    error = y[i] == (float)want ? 0 : INFINITY;
                if (x[i] >= sweeps[s].from && !(error <= worst)) {
                    worst = error;
                    at = x[i];
                }
            }
            print_message("%s %s: %.2f of 2^-24 at %.9g\n", sweeps[s].fn, running_isas[k], worst, at);
            if (!(worst <= sweeps[s].bound))
                fail_msg("%s on %s is off by %g of 2^-24 at %.9g", sweeps[s].fn, running_isas[k], worst, at);
        }
    free(x);
    free(y);
}

static void vmath__at_the_ends__saturates_without_nan(void **state)
{
    static const float ends[] = {-3e38f, -1e6f, -200, -104, -90, 20.5f, 88, 90, 104, 200, 1e6f, 3e38f};
    enum { ENDS = sizeof(ends) / sizeof(*ends) };
    float y[ENDS];

    (void)state;
    for (int k = 0; running_isas[k]; k++) {
        if (!running_isa_here(running_isas[k]))
            continue;
        run("sigmoid", running_isas[k], ENDS, 1, ends, y);
        for (int i = 0; i < ENDS; i++)
            assert_true(y[i] == (ends[i] < 0 ? 0 : 1));
        run("silu", running_isas[k], ENDS, 1, ends, y);
        for (int i = 0; i < ENDS; i++)
            assert_true(y[i] == (ends[i] < 0 ? 0 : ends[i]));
        run("softplus", running_isas[k], ENDS, 1, ends, y);
        for (int i = 0; i < ENDS; i++)
            assert_true(y[i] == (ends[i] < 0 ? 0 : ends[i]));
        run("tanh", running_isas[k], ENDS, 1, ends, y);
        for (int i = 0; i < ENDS; i++)
            assert_true(y[i] == (ends[i] < 0 ? -1 : 1));
        run("gelu", running_isas[k], ENDS, 1, ends, y);
        for (int i = 0; i < ENDS; i++)
            assert_true(y[i] == (ends[i] < 0 ? 0 : ends[i]));
        run("gelu_tanh", running_isas[k], ENDS, 1, ends, y);
        for (int i = 0; i < ENDS; i++)
            assert_true(y[i] == (ends[i] < 0 ? 0 : ends[i]));
    }
}

static void vmath__any_place_in_a_frame__gives_the_same_bits(void **state)
{
    static const char *const fns[] = {"relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "softplus"};
    enum { WIDTH = 37 };
    float x[WIDTH], y[WIDTH], alone;
    uint32_t seed = 7;

    (void)state;
    for (int k = 0; running_isas[k]; k++)
        for (size_t f = 0; running_isa_here(running_isas[k]) && f < sizeof(fns) / sizeof(*fns); f++) {
            for (int i = 0; i < WIDTH; i++)
                x[i] = 5 * making_noise(&seed);
            run(fns[f], running_isas[k], WIDTH, 1, x, y);
            for (int i = 0; i < WIDTH; i++) {
                run(fns[f], running_isas[k], 1, 1, &x[i], &alone);
                assert_memory_equal(&alone, &y[i], sizeof(alone));
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vmath__dense_sweep__is_within_a_few_units_of_the_last_place),
        cmocka_unit_test(vmath__at_the_ends__saturates_without_nan),
        cmocka_unit_test(vmath__any_place_in_a_frame__gives_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
