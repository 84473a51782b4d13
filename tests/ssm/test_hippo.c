/* SPDX-License-Identifier: Apache-2.0
 *
 * HiPPO: the matrices against values worked out by hand, and the memories against what they are defined to remember;
 * and the impulse responses of the linear layers against C Abar^k Bbar.
 */
#include <complex.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/hippo.h"
#include "tests/ssm/making.h"
#include "tests/ssm/running.h"

static void assert_near(double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound))
        fail_msg("%.9g is not %.9g within %g", got, want, bound);
}

static void assert_matrices(enum ssm_measure measure, uint32_t N, const double *A, const double *B)
{
    double got_a[16], got_b[4];

    ssm_hippo_matrices(measure, N, got_a, got_b);
    for (uint32_t i = 0; i < N * N; i++)
        assert_near(got_a[i], A[i], 1e-14);
    for (uint32_t i = 0; i < N; i++)
        assert_near(got_b[i], B[i], 1e-14);
}

static const double r3 = 1.7320508075688772, r5 = 2.2360679774997897, r15 = 3.872983346207417, r2 = 1.4142135623730951;

static void matrices__legs_of_3__by_hand(void **state)
{
    (void)state;
    assert_matrices(SSM_LEGS, 3, (const double[]){-1, 0, 0, -r3, -2, 0, -r5, -r15, -3}, (const double[]){1, r3, r5});
}

static void matrices__legt_of_3__by_hand(void **state)
{
    const double A[] = {-0.5, r3 / 2, -r5 / 2, -r3 / 2, -1.5, r15 / 2, -r5 / 2, -r15 / 2, -2.5};

    (void)state;
    assert_matrices(SSM_LEGT, 3, A, (const double[]){0.5, r3 / 2, r5 / 2});
}

static void matrices__lagt_of_4__by_hand(void **state)
{
    const double A[] = {-0.5, 0, 0, 0, -1, -0.5, 0, 0, -1, -1, -0.5, 0, -1, -1, -1, -0.5};

    (void)state;
    assert_matrices(SSM_LAGT, 4, A, (const double[]){1, 1, 1, 1});
}

/* Rows: the constant; the sine of frequency 0, always 0; the cosine and the sine of frequency 1. */
static void matrices__fout_of_4__by_hand(void **state)
{
    const double A[] = {-1, 0, -r2, 0, 0, 0, 0, 0, -r2, 0, -2, -M_PI, 0, 0, M_PI, 0};

    (void)state;
    assert_matrices(SSM_FOUT, 4, A, (const double[]){1, 0, r2, 0});
}

/* ---- memories ---------------------------------------------------------------------------------------------------- */

/* The model of one layer, run over in (frames, 1) to out (frames, channels). */
static void layer_run(struct making *m, enum ssm_view view, const float *in, uint32_t frames, float *out,
                      uint32_t channels)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct running r;

    if (making_load(m, &model, 1, channels, &err))
        fail_msg("%s", err.text);
    running_open(&r, model, NULL, 1, 1);
    running_pass(&r, view, in, frames, out, NULL, frames, 1);
    running_close(&r);
    ssm_model_free(model);
    making_fini(m);
}

static double legendre(int n, double x)
{
    double before = 1, now = x;

    if (n == 0)
        return 1;
    for (int k = 1; k < n; k++) {
        double next = ((2 * k + 1) * x * now - k * before) / (k + 1);

        before = now;
        now = next;
    }
    return now;
}

/* legt holds x_n, R_n times the mean over its window of f times P_n: f(now - s) = sum over n of x_n R_n P_n(1 - 2 s), s
 * being the fraction of the window. After the window has passed, a cubic is given back at every delay. The published
 * matrices' window is 2 long, not 1. */
static void legt__cubic_signal__is_given_back_at_every_delay(void **state)
{
    enum { N = 6, WINDOW = 400, FRAMES = 5 * WINDOW };
    static float in[FRAMES], out[FRAMES][N];
    struct making m;

    (void)state;
    making_init(&m, 1);
    making_layers(&m, "{'type':'hippo','measure':'legt','channels':1,'order':%d,'dt':%.17g,'discretization':'zoh'}", N,
                  2.0 / WINDOW);
    for (int t = 0; t < FRAMES; t++) {
        double s = 2.0 * t / FRAMES - 1;

        in[t] = (float)(0.3 + s - 2 * s * s + 1.5 * s * s * s);
    }
    layer_run(&m, SSM_STEP, in, FRAMES, out[0], N);
    for (int delay = 0; delay <= WINDOW - 1; delay += 57) {
        int t = FRAMES - 1;
        double s = (double)delay / WINDOW, f = 0;

        for (int n = 0; n < N; n++)
            f += out[t][n] * sqrt(2.0 * n + 1) * legendre(n, 1 - 2 * s);
        assert_near(f, in[t - delay], 0.01); /* zoh holds each sample: half a sample of delay */
    }
}

/* The mean of all history is 1 and every higher coefficient 0, from the first frame on, whatever the rule. */
static void legs_scaled__constant_signal__is_constant_and_nothing_else(void **state)
{
    static const char *const hows[] = {"zoh", "bilinear", "forward", "backward"};
    enum { N = 5, FRAMES = 300 };
    static float in[FRAMES], out[FRAMES][N];

    (void)state;
    for (int h = 0; h < 4; h++) {
        struct making m;

        making_init(&m, 1);
        making_layers(&m,
                      "{'type':'hippo','measure':'legs','channels':1,'order':%d,'discretization':'%s','scaled':true}",
                      N, hows[h]);
        for (int t = 0; t < FRAMES; t++)
            in[t] = 0.75f;
        layer_run(&m, SSM_SCAN, in, FRAMES, out[0], N);
        for (int t = 0; t < FRAMES; t++)
            for (int n = 0; n < N; n++)
                assert_near(out[t][n], n == 0 ? 0.75 : 0, 1e-6);
    }
}

/* Coefficient 0 of legs is the mean of what was seen, whatever the signal: backward makes it exact. */
static void legs_scaled__any_signal__begins_with_its_mean(void **state)
{
    enum { N = 4, FRAMES = 200 };
    static float in[FRAMES], out[FRAMES][N];
    uint32_t seed = 3;
    double sum = 0;
    struct making m;

    (void)state;
    making_init(&m, 1);
    making_layers(&m,
                  "{'type':'hippo','measure':'legs','channels':1,'order':4,'discretization':'forward','scaled':true}");
    for (int t = 0; t < FRAMES; t++)
        in[t] = making_noise(&seed);
    layer_run(&m, SSM_STEP, in, FRAMES, out[0], N);
    for (int t = 1; t < FRAMES; t++) { /* forward: x0 += (u - x0) / t, the mean of u_1..u_t */
        sum += in[t];
        assert_near(out[t][0], sum / t, 1e-6);
    }
}

/* ---- impulse responses ------------------------------------------------------------------------------------------- */

enum { IMPULSE = 100 };

static const float *impulse(void)
{
    static float in[IMPULSE] = {1};

    return in;
}

/* Diagonal A, so that C Abar^k Bbar is a sum of powers: zoh Abar = exp(dt a), Bbar = (exp(dt a) - 1) / a. */
static void lti__impulse__is_c_abar_k_bbar(void **state)
{
    static const float poles[] = {-0.1f, -2, -30};
    static float out[IMPULSE];
    const double dt = 0.05;

    (void)state;
    for (int view = 0; view < 2; view++) {
        struct making m;
        float *A, *D;

        making_init(&m, 8);
        A = making_tensor(&m, 0, "s.A", 2, 3u, 3u);
        const float *B = making_tensor(&m, 1, "s.B", 2, 3u, 1u), *C = making_tensor(&m, 1, "s.C", 2, 1u, 3u);
        D = making_tensor(&m, 1, "s.D", 2, 1u, 1u);
        D[0] = 0.25f;
        for (int i = 0; i < 3; i++)
            A[i * 4] = poles[i];
        double want[IMPULSE] = {0.25};

        for (int t = 0; t < IMPULSE; t++)
            for (int i = 0; i < 3; i++)
                want[t] += C[i] * exp(dt * poles[i] * t) * expm1(dt * poles[i]) / poles[i] * B[i];
        making_layers(&m, "{'type':'lti','name':'s','in':1,'state':3,'out':1,'dt':0.05,'discretization':'zoh'}");
        layer_run(&m, view ? SSM_SCAN : SSM_STEP, impulse(), IMPULSE, out, 1);
        assert_true(running_error(out, want, IMPULSE) < 1e-6);
    }
}

static void s4d__impulse__is_c_abar_k_bbar(void **state)
{
    enum { MODES = 3 };
    static float out[IMPULSE];

    (void)state;
    for (int view = 0; view < 2; view++) {
        double want[IMPULSE] = {0};
        struct making m;
        float *log_dt, *real, *imag;
        const float *C, *D;

        making_init(&m, 9);
        log_dt = making_tensor(&m, 0, "s.log_dt", 1, 1u);
        real = making_tensor(&m, 0, "s.log_A_real", 2, 1u, (uint32_t)MODES); /* log 1: A = -1 + i imag */
        imag = making_tensor(&m, 0, "s.A_imag", 2, 1u, (uint32_t)MODES);
        C = making_tensor(&m, 1, "s.C", 3, 1u, (uint32_t)MODES, 2u);
        D = making_tensor(&m, 1, "s.D", 1, 1u);
        log_dt[0] = logf(0.04f);
        for (int n = 0; n < MODES; n++) {
            double dt = exp((double)log_dt[0]);
            double complex a = -exp((double)real[n]) + I * (imag[n] = 7.0f * (float)n), c = C[2 * n] + I * C[2 * n + 1];

            for (int t = 0; t < IMPULSE; t++)
                want[t] += 2 * creal(c * cexp(dt * a * t) * (cexp(dt * a) - 1) / a);
        }
        want[0] += D[0];
        making_layers(&m, "{'type':'s4d','name':'s','channels':1,'state':6,'discretization':'zoh'}");
        layer_run(&m, view ? SSM_SCAN : SSM_STEP, impulse(), IMPULSE, out, 1);
        assert_true(running_error(out, want, IMPULSE) < 2e-6);
    }
}

/* The last tap meets the newest sample: the response runs through the taps backwards, `dilation` frames apart. */
static void conv1d__impulse__is_the_taps_reversed(void **state)
{
    static float out[IMPULSE];
    struct making m;
    const float *w;
    float taps[4];

    (void)state;
    making_init(&m, 10);
    w = making_tensor(&m, 1, "c.weight", 3, 1u, 1u, 4u);
    memcpy(taps, w, sizeof(taps));
    making_layers(
        &m, "{'type':'conv1d','name':'c','in':1,'out':1,'kernel':4,'dilation':3,'bias':false,'padding':'causal'}");
    layer_run(&m, SSM_STEP, impulse(), IMPULSE, out, 1);
    for (int t = 0; t < IMPULSE; t++)
        assert_true(out[t] == (t % 3 == 0 && t <= 9 ? taps[3 - t / 3] : 0));
}

/* What a plain float32 sum would lose: 2^24 + 1 = 2^24. Half of the frames are 1 and half 0.25, the mean goes from 1 to
 * 0.625. */
static void mean__beyond_the_float32_integers__stays_exact(void **state)
{
    enum { CHUNK = 1 << 16, CHUNKS = 320 }; /* 2.1e7 frames; 2^24 is 1.7e7 */
    float *in = malloc(CHUNK * sizeof(*in)), *out = malloc(CHUNK * sizeof(*out));
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct ssm_slot slot;
    struct running r;
    struct making m;

    (void)state;
    making_init(&m, 1);
    making_layers(&m, "{'type':'mean'}");
    assert_int_equal(making_load(&m, &model, 1, 1, &err), SSM_OK);
    running_open(&r, model, NULL, 1, 1);
    slot = running_acquire(&r);
    assert_true(in && out);
    for (int k = 0; k < CHUNKS; k++) {
        double ones = (k < CHUNKS / 2 ? k + 1 : CHUNKS / 2), rest = k + 1 - ones;

        for (int i = 0; i < CHUNK; i++)
            in[i] = k < CHUNKS / 2 ? 1 : 0.3f;
        running_advance(&r, slot, SSM_SCAN, in, CHUNK, out);
        assert_near(out[CHUNK - 1], (ones + rest * (double)0.3f) / (k + 1), 1e-7);
    }
    running_close(&r);
    ssm_model_free(model);
    making_fini(&m);
    free(in);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matrices__legs_of_3__by_hand),
        cmocka_unit_test(matrices__legt_of_3__by_hand),
        cmocka_unit_test(matrices__lagt_of_4__by_hand),
        cmocka_unit_test(matrices__fout_of_4__by_hand),
        cmocka_unit_test(legt__cubic_signal__is_given_back_at_every_delay),
        cmocka_unit_test(legs_scaled__constant_signal__is_constant_and_nothing_else),
        cmocka_unit_test(legs_scaled__any_signal__begins_with_its_mean),
        cmocka_unit_test(lti__impulse__is_c_abar_k_bbar),
        cmocka_unit_test(s4d__impulse__is_c_abar_k_bbar),
        cmocka_unit_test(conv1d__impulse__is_the_taps_reversed),
        cmocka_unit_test(mean__beyond_the_float32_integers__stays_exact),
    };
    return cmocka_run_group_tests_name("hippo", tests, NULL, NULL);
}
