/* SPDX-License-Identifier: Apache-2.0
 *
 * Models discretised anew for a stream of another rate: in seconds they say the same. Held against closed forms, against
 * a property that holds exactly (zero-order hold does not see a held sample cut in two), and against the float64 reference
 * with every step multiplied, as the published code does.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/reference/dplr.h"
#include "tests/ssm/making.h"
#include "tests/ssm/model_dir.h"
#include "tests/ssm/running.h"

#define RATE   100.0 /* that the configurations of making.h name */
#define FRAMES 150u

/* The model at the rate; the message of a refusal is the test's failure, unless err is given. */
static struct ssm_model *load_at(const struct making *m, uint32_t in, uint32_t out, double rate, struct ssm_error *err)
{
    struct ssm_model_hint hint = {.rate = rate};
    struct ssm_error own = {""};
    struct ssm_model *model;
    struct model_dir dir;

    model_dir_init(&dir);
    making_write(m, dir.path, in, out);
    if (ssm_model_load(&model, dir.path, &hint, err ? err : &own) != SSM_OK && !err)
        fail_msg("refused at %g Hz: %s", rate, own.text);
    model_dir_fini(&dir);
    return model;
}

/* A fresh stream over all frames. */
static void pass(struct ssm_model *model, enum ssm_view view, const float *in, uint32_t frames, float *out)
{
    struct running r;

    running_open(&r, model, NULL, 1, 1);
    running_pass(&r, view, in, frames, out, NULL, frames, 1);
    running_close(&r);
}

static float *noise(struct making *m, size_t n)
{
    float *x = calloc(n, sizeof(*x));

    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = making_noise(&m->seed);
    return x;
}

/* ---- a closed form ----------------------------------------------------------------------------------------------- */

/* x'' + 2 z w x' + w^2 x = u, from rest, u = 1: the position at time t. */
static double oscillator(double w, double z, double t)
{
    double wd = w * sqrt(1 - z * z);

    return (1 - exp(-z * w * t) * (cos(wd * t) + z * w / wd * sin(wd * t))) / (w * w);
}

static void oscillator_check(const char *how, double rate, double bound)
{
    double w = 2 * M_PI * 3, z = 0.1, got, want, worst = 0;
    uint32_t frames = (uint32_t)(2 * rate);
    float *u = malloc(frames * sizeof(*u)), *y = calloc(frames, sizeof(*y));
    struct making m;
    struct ssm_model *model;

    assert_true(u && y);
    making_init(&m, 1);
    memcpy(making_tensor(&m, 0, "l.A", 2, 2, 2), (float[]){0, 1, (float)(-w * w), (float)(-2 * z * w)}, 16);
    memcpy(making_tensor(&m, 0, "l.B", 2, 2, 1), (float[]){0, 1}, 8);
    memcpy(making_tensor(&m, 0, "l.C", 2, 1, 2), (float[]){1, 0}, 8);
    (void)making_tensor(&m, 0, "l.D", 2, 1, 1);
    making_layers(&m, "{'type':'lti','name':'l','in':1,'out':1,'state':2,'dt':0.01,'discretization':'%s'}", how);
    model = load_at(&m, 1, 1, rate, NULL);
    assert_true(ssm_model_info(model)->in_rate == rate && ssm_model_info(model)->out_rate == rate);
    for (uint32_t t = 0; t < frames; t++)
        u[t] = 1;
    pass(model, SSM_STEP, u, frames, y);
    for (uint32_t t = 0; t < frames; t++) {
        got = y[t], want = oscillator(w, z, (t + 1) / rate);
        worst = fmax(worst, fabs(got - want) * w * w);
    }
    if (!(worst < bound))
        fail_msg("%s at %g Hz: off by %g of the rest position", how, rate, worst);
    ssm_model_free(model);
    making_fini(&m);
    free(u);
    free(y);
}

static void oscillator__at_three_rates__moves_in_the_same_seconds(void **state)
{
    (void)state;
    for (double rate = 50; rate <= 200; rate *= 2) {
        double step = 2 * M_PI * 3 / rate; /* what bilinear misses in the 6 turns of two seconds grows as its square */

        oscillator_check("zoh", rate, 1e-5);
        oscillator_check("bilinear", rate, 2 * step * step);
    }
}

/* ---- an exact property ------------------------------------------------------------------------------------------- */

static void lti(struct making *m)
{
    float *A = making_tensor(m, 5, "l.A", 2, 5, 5);

    for (int i = 0; i < 5; i++)
        A[i * 5 + i] -= 15;
    (void)making_tensor(m, 1, "l.B", 2, 5, 2);
    (void)making_tensor(m, 1, "l.C", 2, 3, 5);
    (void)making_tensor(m, 1, "l.D", 2, 3, 2);
    making_layers(m, "{'type':'lti','name':'l','in':2,'out':3,'state':5,'dt':0.01,'discretization':'zoh'}");
}

static void s4d(struct making *m)
{
    float *log_dt = making_tensor(m, 0.5f, "l.log_dt", 1, 3);

    for (int h = 0; h < 3; h++)
        log_dt[h] -= 3;
    (void)making_tensor(m, 0.5f, "l.log_A_real", 2, 3, 4);
    (void)making_tensor(m, 10, "l.A_imag", 2, 3, 4);
    (void)making_tensor(m, 1, "l.C", 3, 3, 4, 2);
    (void)making_tensor(m, 1, "l.D", 1, 3);
    making_layers(m, "{'type':'s4d','name':'l','channels':3,'state':8,'discretization':'zoh'}");
}

static void s5(struct making *m)
{
    float *log_step = making_tensor(m, 0.5f, "l.log_step", 1, 6), *Lambda = making_tensor(m, 5, "l.Lambda", 2, 6, 2);

    for (int p = 0; p < 6; p++) {
        log_step[p] -= 3;
        Lambda[2 * p] = -0.1f - fabsf(Lambda[2 * p]);
    }
    (void)making_tensor(m, 1, "l.B", 3, 6, 3, 2);
    (void)making_tensor(m, 1, "l.C", 3, 3, 6, 2);
    (void)making_tensor(m, 1, "l.D", 1, 3);
    making_layers(m,
                  "{'type':'s5','name':'l','channels':3,'state':6,'discretization':'zoh','conjugate_symmetry':true}");
}

static void legt(struct making *m)
{
    making_layers(m, "{'type':'hippo','measure':'legt','channels':2,'order':6,'dt':0.02,'discretization':'zoh'}");
}

static void fout(struct making *m)
{
    making_layers(m, "{'type':'hippo','measure':'fout','channels':2,'order':6,'dt':0.02,'discretization':'zoh'}");
}

static void mean(struct making *m)
{
    making_layers(m, "{'type':'mean'},{'type':'scale','value':2}");
}

static const struct exact {
    const char *name;
    void (*make)(struct making *m);
    uint32_t in, out;
} exact[] = {{"lti", lti, 2, 3},    {"s4d", s4d, 3, 3},    {"s5", s5, 3, 3},
             {"legt", legt, 2, 12}, {"fout", fout, 2, 12}, {"mean", mean, 2, 2}};

static void zoh__every_sample_twice_at_twice_the_rate__is_the_same_at_the_old_instants(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof(exact) / sizeof(*exact); k++) {
        uint32_t in = exact[k].in, out = exact[k].out;
        struct making m;
        struct ssm_model *own, *twice;

        making_init(&m, 7 + (uint32_t)k);
        exact[k].make(&m);
        float *x = noise(&m, (size_t)FRAMES * in), *xx = noise(&m, 2 * (size_t)FRAMES * in);
        float *y = noise(&m, (size_t)FRAMES * out), *yy = noise(&m, 2 * (size_t)FRAMES * out);
        double *want = calloc((size_t)FRAMES * out, sizeof(*want));

        assert_non_null(want);
        for (uint32_t t = 0; t < 2 * FRAMES; t++)
            memcpy(xx + (size_t)t * in, x + (size_t)(t / 2) * in, in * sizeof(*x));
        own = load_at(&m, in, out, RATE, NULL);
        twice = load_at(&m, in, out, 2 * RATE, NULL);
        pass(own, SSM_STEP, x, FRAMES, y);
        pass(twice, SSM_STEP, xx, 2 * FRAMES, yy);
        for (uint32_t t = 0; t < FRAMES; t++)
            memcpy(yy + (size_t)t * out, yy + (size_t)(2 * t + 1) * out, out * sizeof(*y));
        for (size_t i = 0; i < (size_t)FRAMES * out; i++)
            want[i] = y[i];
        double error = running_error(yy, want, (size_t)FRAMES * out);
        if (!(error <= 1e-5))
            fail_msg("%s: %g", exact[k].name, error);
        assert_int_equal(ssm_model_info(twice)->modes_zeroed, 0);
        ssm_model_free(own);
        ssm_model_free(twice);
        making_fini(&m);
        free(x);
        free(xx);
        free(y);
        free(yy);
        free(want);
    }
}

/* ---- the published rule: multiply dt ------------------------------------------------------------------------------ */

#define H    3u
#define M    6u
#define RANK 2u

/* An s4 whose fastest modes are above half of `rate`, and what the reference makes of it there. */
static void s4_check(double rate, uint32_t seed)
{
    struct making m;
    double dt, times = RATE / rate;
    uint32_t zeroed = 0;

    making_init(&m, seed);
    float *log_dt = making_tensor(&m, 0.3f, "l.log_dt", 1, H), *A = making_tensor(&m, 1, "l.A", 3, H, M, 2);
    float *B = making_tensor(&m, 1, "l.B", 3, H, M, 2), *C = making_tensor(&m, 1, "l.C", 3, H, M, 2);
    float *P = making_tensor(&m, 0.5f, "l.P", 4, RANK, H, M, 2), *D = making_tensor(&m, 1, "l.D", 1, H);
    for (uint32_t h = 0; h < H; h++)
        log_dt[h] -= 2;
    for (uint32_t i = 0; i < H * M; i++) {
        A[2 * i] = -0.2f - fabsf(A[2 * i]);
        A[2 * i + 1] *= 20;
    }
    making_layers(&m, "{'type':'s4','name':'l','channels':%u,'state':%u,'rank':%u,'discretization':'bilinear'}", H,
                  2 * M, RANK);
    struct ssm_model *model = load_at(&m, H, H, rate, NULL);
    float *x = noise(&m, (size_t)FRAMES * H), *y = noise(&m, (size_t)FRAMES * H);
    double *wide = calloc((size_t)FRAMES * H, sizeof(*wide)), *want = calloc((size_t)FRAMES * H, sizeof(*want));

    assert_true(wide && want);
    for (size_t i = 0; i < (size_t)FRAMES * H; i++)
        wide[i] = x[i];
    for (uint32_t h = 0; h < H; h++) {
        dt = exp((double)log_dt[h]) * times;
        log_dt[h] = (float)log(dt);
        for (uint32_t n = 0; n < M; n++)
            if (times > 1 && dt * fabs((double)A[2 * (h * M + n) + 1]) > M_PI) {
                C[2 * (h * M + n)] = C[2 * (h * M + n) + 1] = 0;
                zeroed++;
            }
    }
    reference_s4(&(struct reference_s4){H, M, RANK, log_dt, A, B, C, P, D}, wide, FRAMES, want);
    pass(model, SSM_STEP, x, FRAMES, y);
    double error = running_error(y, want, (size_t)FRAMES * H);
    if (!(error <= 2e-5))
        fail_msg("at %g Hz: %g", rate, error);
    assert_int_equal(ssm_model_info(model)->modes_zeroed, zeroed);
    assert_true((zeroed > 0) == (times > 1));
    ssm_model_free(model);
    making_fini(&m);
    free(x);
    free(y);
    free(wide);
    free(want);
}

static void s4__at_half_and_twice_the_rate__is_the_reference_with_dt_multiplied(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 5; seed++) {
        s4_check(RATE / 2, seed);
        s4_check(RATE * 2, seed);
    }
}

/* The exact models above, of the reference with their steps multiplied. */
static void reference_of(const struct making *m, const char *name, double times, const double *x, size_t T, double *y)
{
    const struct making_tensor *t = m->tensor;
    float step[6];

    for (uint32_t i = 0; i < 6 && t->rank == 1 && i < t->dims[0]; i++) /* log_dt or log_step is their first tensor */
        step[i] = (float)(t->values[i] + log(times));
    if (strcmp(name, "lti") == 0)
        reference_lti(&(struct reference_lti){2, 5, 3, 0.01 * times, REFERENCE_ZOH, t[0].values, t[1].values,
                                              t[2].values, t[3].values},
                      x, T, y);
    else if (strcmp(name, "s4d") == 0)
        reference_s4d(&(struct reference_s4d){3, 4, REFERENCE_ZOH, step, t[1].values, t[2].values, t[3].values,
                                              t[4].values, NULL},
                      x, T, y);
    else if (strcmp(name, "s5") == 0)
        reference_s5(
            &(struct reference_s5){3, 6, REFERENCE_ZOH, true, t[1].values, t[2].values, t[3].values, step, t[4].values},
            x, T, y);
    else
        reference_hippo(&(struct reference_hippo){strcmp(name, "legt") == 0 ? REFERENCE_LEGT : REFERENCE_FOUT, 2, 6,
                                                  0.02 * times, REFERENCE_ZOH, false},
                        x, T, y);
}

static void others__at_half_and_twice_the_rate__are_the_reference_with_dt_multiplied(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * (sizeof(exact) / sizeof(*exact) - 1); k++) { /* but mean, the last */
        const struct exact *e = &exact[k / 2];
        double rate = k % 2 ? RATE / 2 : RATE * 2;
        struct making m;

        making_init(&m, 11);
        e->make(&m);
        struct ssm_model *model = load_at(&m, e->in, e->out, rate, NULL);
        float *x = noise(&m, (size_t)FRAMES * e->in), *y = noise(&m, (size_t)FRAMES * e->out);
        double *wide = calloc((size_t)FRAMES * e->in, sizeof(*wide));
        double *want = calloc((size_t)FRAMES * e->out, sizeof(*want));

        assert_true(wide && want);
        for (size_t i = 0; i < (size_t)FRAMES * e->in; i++)
            wide[i] = x[i];
        reference_of(&m, e->name, RATE / rate, wide, FRAMES, want);
        pass(model, SSM_STEP, x, FRAMES, y);
        double error = running_error(y, want, (size_t)FRAMES * e->out);
        if (!(error <= 1e-5))
            fail_msg("%s at %g Hz: %g", e->name, rate, error);
        assert_int_equal(ssm_model_info(model)->modes_zeroed, 0);
        ssm_model_free(model);
        making_fini(&m);
        free(x);
        free(y);
        free(wide);
        free(want);
    }
}

/* Every golden case of continuous layers, at half and at twice its rate: the views agree as they do at its own. */
static void golden__of_continuous_layers__agrees_in_all_views_at_other_rates(void **state)
{
    static const char *const names[] = {"hippo-lagt", "hippo-legs",  "hippo-legt", "lti-bilinear", "lti-zoh",
                                        "s4-legs",    "s4-legt",     "s4d-legs",   "s4d-bilinear", "s4d-prenorm",
                                        "s4d-stack",  "s5-bilinear", "s5-conj",    "s5-zoh"};
    enum ssm_view views[] = {SSM_SCAN, SSM_CONV};

    (void)state;
    for (size_t k = 0; k < 2 * sizeof(names) / sizeof(*names); k++) {
        struct ssm_error err = {""};
        struct ssm_model *own, *model;
        struct making m;
        char path[128];

        snprintf(path, sizeof(path), "tests/golden/%s", names[k / 2]);
        if (ssm_model_load(&own, path, NULL, &err) != SSM_OK)
            fail_msg("%s", err.text);
        double rate = ssm_model_info(own)->in_rate;
        if (ssm_model_load(&model, path, &(struct ssm_model_hint){.rate = k % 2 ? rate / 2 : rate * 2}, &err) != SSM_OK)
            fail_msg("%s", err.text);
        const struct ssm_model_info *info = ssm_model_info(model);
        uint32_t frames = 700;
        size_t n = (size_t)frames * info->out_channels;

        assert_true(info->config_rate == rate && info->in_rate != rate && info->out_rate == info->in_rate);
        making_init(&m, 3);
        float *x = noise(&m, (size_t)frames * info->in_channels), *y = calloc(n, sizeof(*y));
        double *want = calloc(n, sizeof(*want));
        assert_true(y && want);
        pass(model, SSM_STEP, x, frames, y);
        for (size_t i = 0; i < n; i++)
            want[i] = y[i];
        for (int v = 0; v < 2; v++) {
            struct running r;

            running_open(&r, model, NULL, 1, 1);
            assert_int_equal(ssm_program_prepare(r.program, views[v], NULL), SSM_OK);
            running_pass(&r, views[v], x, frames, y, NULL, frames, 1);
            running_close(&r);
            double error = running_error(y, want, n);
            if (!(error <= 1e-5))
                fail_msg("%s at %g Hz, view %d: %g", names[k / 2], info->in_rate, v, error);
        }
        ssm_model_free(own);
        ssm_model_free(model);
        making_fini(&m);
        free(x);
        free(y);
        free(want);
    }
}

/* ---- modes above half the rate ------------------------------------------------------------------------------------ */

/* Models of a slow and a fast mode (the fast one only if asked for), the fast one over half of half the rate. */
static void two_s4d(struct making *m, bool fast)
{
    making_tensor(m, 0, "l.log_dt", 1, 1)[0] = logf(0.01f);
    memcpy(making_tensor(m, 0, "l.log_A_real", 2, 1, 2), (float[]){1, 1}, 8);
    memcpy(making_tensor(m, 0, "l.A_imag", 2, 1, 2), (float[]){80, 200}, 8);
    memcpy(making_tensor(m, 0, "l.C", 3, 1, 2, 2), (float[]){1, 2, fast ? 3 : 0, fast ? 4 : 0}, 16);
    (void)making_tensor(m, 1, "l.D", 1, 1);
    making_layers(m, "{'type':'s4d','name':'l','channels':1,'state':4,'discretization':'zoh'}");
}

static void two_s5(struct making *m, bool fast)
{
    memcpy(making_tensor(m, 0, "l.log_step", 1, 2), (float[]){logf(0.01f), logf(0.01f)}, 8);
    memcpy(making_tensor(m, 0, "l.Lambda", 2, 2, 2), (float[]){-1, -80, -1, -200}, 16);
    (void)making_tensor(m, 1, "l.B", 3, 2, 1, 2);
    memcpy(making_tensor(m, 0, "l.C", 3, 1, 2, 2), (float[]){1, 2, fast ? 3 : 0, fast ? 4 : 0}, 16);
    (void)making_tensor(m, 1, "l.D", 1, 1);
    making_layers(
        m, "{'type':'s5','name':'l','channels':1,'state':2,'discretization':'bilinear','conjugate_symmetry':true}");
}

/* Two oscillators and a decay in mixed coordinates: A = T S T^-1 with a triangular T; without the fast one, C T is 0
 * there. */
static void two_lti(struct making *m, bool fast)
{
    static const double S[5][5] = {
        {-1, 80, 0, 0, 0}, {-80, -1, 0, 0, 0}, {0, 0, -2, 200, 0}, {0, 0, -200, -2, 0}, {0, 0, 0, 0, -3}};
    static const double CT[5] = {1, -1, 2, 1, 1};
    double T[5][5], inverse[5][5] = {{0}};
    float *A = making_tensor(m, 0, "l.A", 2, 5, 5), *C;

    (void)making_tensor(m, 1, "l.B", 2, 5, 1);
    C = making_tensor(m, 0, "l.C", 2, 1, 5);
    (void)making_tensor(m, 1, "l.D", 2, 1, 1);
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            T[i][j] = i == j ? 1 : i < j ? 0.5 - 0.2 * i + 0.1 * j : 0;
    for (int j = 0; j < 5; j++) /* T X = I, from below */
        for (int i = 4; i >= 0; i--) {
            inverse[i][j] = i == j;
            for (int k = i + 1; k < 5; k++)
                inverse[i][j] -= T[i][k] * inverse[k][j];
        }
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) {
            double a = 0;

            for (int k = 0; k < 5; k++)
                for (int l = 0; l < 5; l++)
                    a += T[i][k] * S[k][l] * inverse[l][j];
            A[i * 5 + j] = (float)a;
            C[j] += (float)((i == 2 || i == 3) && !fast ? 0 : CT[i] * inverse[i][j]);
        }
    making_layers(m, "{'type':'lti','name':'l','in':1,'out':1,'state':5,'dt':0.01,'discretization':'zoh'}");
}

static void band_check(const char *name, void (*make)(struct making *m, bool fast))
{
    struct making with, without;
    struct ssm_model *a, *b, *own;
    float x[FRAMES], ya[FRAMES], yb[FRAMES];
    double want[FRAMES];

    making_init(&with, 5);
    making_init(&without, 5);
    make(&with, true);
    make(&without, false);
    for (uint32_t t = 0; t < FRAMES; t++)
        x[t] = making_noise(&with.seed);
    a = load_at(&with, 1, 1, RATE / 2, NULL);
    b = load_at(&without, 1, 1, RATE / 2, NULL);
    own = load_at(&with, 1, 1, RATE, NULL);
    assert_int_equal(ssm_model_info(a)->modes_zeroed, 1);
    assert_int_equal(ssm_model_info(own)->modes_zeroed, 0);
    pass(a, SSM_STEP, x, FRAMES, ya);
    pass(b, SSM_STEP, x, FRAMES, yb);
    for (uint32_t t = 0; t < FRAMES; t++)
        want[t] = yb[t];
    double error = running_error(ya, want, FRAMES);
    if (!(error <= 1e-5))
        fail_msg("%s: the fast mode is heard: %g", name, error);
    pass(own, SSM_STEP, x, FRAMES, ya);
    assert_true(running_error(ya, want, FRAMES) > 0.01);
    ssm_model_free(a);
    ssm_model_free(b);
    ssm_model_free(own);
    making_fini(&with);
    making_fini(&without);
}

static void mode__above_half_a_lower_rate__contributes_nothing_and_is_counted(void **state)
{
    (void)state;
    band_check("s4d", two_s4d);
    band_check("s5", two_s5);
    band_check("lti", two_lti);
}

/* ---- which models, and which model ---------------------------------------------------------------------------------- */

static void layer__that_counts_frames__is_named_in_the_refusal(void **state)
{
    struct ssm_error err = {""};
    struct making m;

    (void)state;
    making_init(&m, 1);
    s4d(&m);
    (void)making_tensor(&m, 1, "k.weight", 3, 3, 1, 2);
    making_layers(&m, "{'type':'residual','layers':[{'type':'conv1d','name':'k','in':3,'out':3,'kernel':2,'groups':3,"
                      "'padding':'causal',"
                      "'bias':false}]}");
    struct ssm_model *model = load_at(&m, 3, 3, RATE, NULL);
    assert_string_equal(ssm_model_info(model)->fixed_by, "layer 1.0 (conv1d 'k')");
    ssm_model_free(model);
    assert_null(load_at(&m, 3, 3, 50, &err));
    if (!strstr(err.text, "layer 1.0 (conv1d 'k')") || !strstr(err.text, "100 Hz") || !strstr(err.text, "50: resample"))
        fail_msg("%s", err.text);
    making_fini(&m);
}

static void golden__with_other_layers__is_refused_at_another_rate(void **state)
{
    static const char *const names[] = {"attention", "gru",          "lstm",          "rnn",     "mamba-signal",
                                        "multirate", "rate-quarter", "mamba2-signal", "forecast"};

    (void)state;
    for (size_t k = 0; k < sizeof(names) / sizeof(*names); k++) {
        struct ssm_error err = {""};
        struct ssm_model *model;
        char path[128];

        snprintf(path, sizeof(path), "tests/golden/%s", names[k]);
        int status = ssm_model_load(&model, path, &(struct ssm_model_hint){.rate = 123}, &err);
        if (status != SSM_INVAL || model || !strstr(err.text, "resample the stream to"))
            fail_msg("%s: %d %s", names[k], status, err.text);
    }
}

static void fingerprint__of_another_rate__differs_and_its_source_does_not(void **state)
{
    double rates[] = {0, RATE, 50, 200, 50.000000001, 50.001};
    struct ssm_model_info info[6];
    struct making m;

    (void)state;
    making_init(&m, 1);
    s4d(&m);
    for (int i = 0; i < 6; i++) {
        struct ssm_model *model = load_at(&m, 3, 3, rates[i], NULL);

        info[i] = *ssm_model_info(model);
        assert_string_equal(info[i].fixed_by, "");
        assert_memory_equal(info[i].source, info[0].fingerprint, SSM_FINGERPRINT_BYTES);
        ssm_model_free(model);
    }
    assert_memory_equal(info[1].fingerprint, info[0].fingerprint, SSM_FINGERPRINT_BYTES);
    assert_memory_equal(info[4].fingerprint, info[2].fingerprint, SSM_FINGERPRINT_BYTES);
    assert_true(info[4].in_rate == 50);
    assert_memory_not_equal(info[2].fingerprint, info[0].fingerprint, SSM_FINGERPRINT_BYTES);
    assert_memory_not_equal(info[2].fingerprint, info[3].fingerprint, SSM_FINGERPRINT_BYTES);
    assert_memory_not_equal(info[2].fingerprint, info[5].fingerprint, SSM_FINGERPRINT_BYTES);
    making_fini(&m);
}

static void rate__out_of_range__is_refused(void **state)
{
    struct ssm_error err = {""};
    struct making m;

    (void)state;
    making_init(&m, 1);
    s4d(&m);
    assert_null(load_at(&m, 3, 3, 1e12, &err));
    assert_non_null(strstr(err.text, "1e+09 Hz"));
    making_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oscillator__at_three_rates__moves_in_the_same_seconds),
        cmocka_unit_test(zoh__every_sample_twice_at_twice_the_rate__is_the_same_at_the_old_instants),
        cmocka_unit_test(s4__at_half_and_twice_the_rate__is_the_reference_with_dt_multiplied),
        cmocka_unit_test(others__at_half_and_twice_the_rate__are_the_reference_with_dt_multiplied),
        cmocka_unit_test(golden__of_continuous_layers__agrees_in_all_views_at_other_rates),
        cmocka_unit_test(mode__above_half_a_lower_rate__contributes_nothing_and_is_counted),
        cmocka_unit_test(layer__that_counts_frames__is_named_in_the_refusal),
        cmocka_unit_test(golden__with_other_layers__is_refused_at_another_rate),
        cmocka_unit_test(fingerprint__of_another_rate__differs_and_its_source_does_not),
        cmocka_unit_test(rate__out_of_range__is_refused),
    };

    return cmocka_run_group_tests_name("rates", tests, NULL, NULL);
}
