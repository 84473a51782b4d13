/* SPDX-License-Identifier: Apache-2.0
 *
 * The convolution kernels of ssm/kernel.h against the plain recurrence of the same rounded coefficients in float64: an
 * impulse through x = Abar x + Bbar u with the whole matrix written out. Shapes are random; HiPPO's own matrices come
 * from the golden cases.
 */
#include <complex.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ssm/dplr.h"
#include "ssm/kernel.h"
#include "ssm/model.h"
#include "tests/ssm/making.h"

static void *memory(size_t n, size_t size)
{
    void *p = calloc(n, size);

    assert_non_null(p);
    return p;
}

/* max |got - want| / max |want| */
static double error_of(const double *got, const double *want, size_t n)
{
    double worst = 0, scale = 0;

    for (size_t i = 0; i < n; i++) {
        if (!(fabs(got[i] - want[i]) <= worst))
            worst = fabs(got[i] - want[i]);
        scale = fmax(scale, fabs(want[i]));
    }
    return worst / scale;
}

static void s4d_impulse(const struct ssm_s4d *p, size_t h, size_t frames, double *K)
{
    for (size_t n = 0; n < p->modes; n++) {
        size_t i = h * p->padded + n;
        double complex x = 0;

        for (size_t t = 0; t < frames; t++) {
            x += (p->a_re[i] + I * (double)p->a_im[i]) * x;
            if (t == 0)
                x += p->b_re[i] + I * p->b_im[i];
            K[t] += creal((p->c_re[i] + I * (double)p->c_im[i]) * x);
        }
    }
    K[0] += p->d[h];
}

static double complex row_at(const struct ssm_s4 *p, size_t h, size_t row, size_t n)
{
    const float *re = ssm_s4_channel(p, h) + row * p->padded;

    return re[n] + I * (double)re[p->padded + n];
}

static void s4_impulse(const struct ssm_s4 *p, size_t h, size_t frames, double *K)
{
    double complex *x = memory(p->modes, sizeof(*x));

    for (size_t t = 0; t < frames; t++) {
        double fed[SSM_DPLR_RANK_MAX] = {0};

        for (size_t r = 0; r < p->rank; r++)
            for (size_t n = 0; n < p->modes; n++)
                fed[r] += creal(row_at(p, h, SSM_S4_UV + 4 * r + 2, n) * x[n]);
        for (size_t n = 0; n < p->modes; n++) {
            x[n] += row_at(p, h, SSM_S4_E, n) * x[n] + (t == 0 ? row_at(p, h, SSM_S4_B, n) : 0);
            for (size_t r = 0; r < p->rank; r++)
                x[n] -= row_at(p, h, SSM_S4_UV + 4 * r, n) * fed[r];
            K[t] += creal(row_at(p, h, SSM_S4_C, n) * x[n]);
        }
    }
    K[0] += p->d[h];
    free(x);
}

/* Every channel of the model's one layer; returns the worst error. */
static double kernels_check(const struct ssm_model *model, uint32_t frames, double bound)
{
    const struct ssm_layer *layer = &model->graph.layers[0];
    double *K = memory(frames, sizeof(*K)), *want = memory(frames, sizeof(*want)), worst = 0;

    for (uint32_t h = 0; h < layer->out; h++) {
        double error;

        for (uint32_t t = 0; t < frames; t++)
            want[t] = 0;
        if (layer->kind == &ssm_kind_s4) {
            assert_int_equal(ssm_kernel_s4(layer->params, h, frames, K), SSM_OK);
            s4_impulse(layer->params, h, frames, want);
        } else {
            assert_int_equal(ssm_kernel_s4d(layer->params, h, frames, K), SSM_OK);
            s4d_impulse(layer->params, h, frames, want);
        }
        error = error_of(K, want, frames);
        if (!(error <= bound))
            fail_msg("%s: channel %u, %u frames: error %.3g > %.3g", layer->where, h, frames, error, bound);
        worst = fmax(worst, error);
    }
    free(K);
    free(want);
    return worst;
}

static const uint32_t lengths[] = {1, 2, 3, 16, 37, 64, 65, 500, 1024};
enum { LENGTHS = sizeof(lengths) / sizeof(*lengths) };

static void kernel_s4d__random_modes__match_the_recurrence(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        uint32_t H = 1 + i % 3, M = 1 + 5 * i % 37;
        struct ssm_model *model;
        struct making m;
        float *log_dt, *imag;

        making_init(&m, 50 + i);
        log_dt = making_tensor(&m, 1, "s.log_dt", 1, H);
        making_tensor(&m, 0.5f, "s.log_A_real", 2, H, M);
        imag = making_tensor(&m, 1, "s.A_imag", 2, H, M);
        making_tensor(&m, 1, "s.C", 3, H, M, 2u);
        making_tensor(&m, 1, "s.D", 1, H);
        for (uint32_t h = 0; h < H; h++)
            log_dt[h] = -4.6f + 2.3f * log_dt[h];
        for (uint32_t n = 0; n < H * M; n++)
            imag[n] += 3.14159265f * (float)(n % M);
        making_layers(&m, "{'type':'s4d','name':'s','channels':%u,'state':%u,'discretization':'zoh'}", H, 2 * M);
        assert_int_equal(making_load(&m, &model, H, H, NULL), SSM_OK);
        kernels_check(model, lengths[i % LENGTHS], 1e-12);
        ssm_model_free(model);
        making_fini(&m);
    }
}

/* Every third one undamped, with a mode that stands still: on the unit circle its resolvent would have no value. */
static void kernel_s4__random_systems__match_the_recurrence(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 27; i++) {
        uint32_t H = 1 + i % 3, M = 1 + 5 * i % 37, rank = 1 + i % 4;
        struct ssm_model *model;
        struct making m;
        float *log_dt, *A;

        making_init(&m, 50 + i);
        log_dt = making_tensor(&m, 1, "s.log_dt", 1, H);
        A = making_tensor(&m, 1, "s.A", 3, H, M, 2u);
        making_tensor(&m, 1, "s.B", 3, H, M, 2u);
        making_tensor(&m, 1, "s.C", 3, H, M, 2u);
        making_tensor(&m, 1, "s.P", 4, rank, H, M, 2u);
        making_tensor(&m, 1, "s.D", 1, H);
        for (uint32_t h = 0; h < H; h++)
            log_dt[h] = -4.6f + 2.3f * log_dt[h];
        for (uint32_t n = 0; n < H * M; n++) {
            A[2 * n] = i % 3 == 2 ? 0 : -0.5f + 0.4f * A[2 * n];
            A[2 * n + 1] = i % 3 == 2 && n % M == 0 ? 0 : A[2 * n + 1] + 3.14159265f * (float)(n % M);
        }
        making_layers(&m, "{'type':'s4','name':'s','channels':%u,'state':%u,'rank':%u,'discretization':'bilinear'}", H,
                      2 * M, rank);
        assert_int_equal(making_load(&m, &model, H, H, NULL), SSM_OK);
        kernels_check(model, lengths[i % LENGTHS], 1e-10);
        ssm_model_free(model);
        making_fini(&m);
    }
}

static void kernel_s4__hippo_matrices__match_the_recurrence(void **state)
{
    static const char *const dirs[] = {"tests/golden/s4-legs", "tests/golden/s4-legt"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct ssm_model *model;

        assert_int_equal(ssm_model_load(&model, dirs[i], NULL, NULL), SSM_OK);
        print_message("%s: 1000 frames %.2e, 16384 frames %.2e\n", dirs[i], kernels_check(model, 1000, 1e-10),
                      kernels_check(model, 16384, 1e-10));
        ssm_model_free(model);
    }
}

static void kernel__no_or_too_many_frames__is_refused(void **state)
{
    struct ssm_model *model;
    double K;

    (void)state;
    assert_int_equal(ssm_model_load(&model, "tests/golden/s4-legs", NULL, NULL), SSM_OK);
    assert_int_equal(ssm_kernel_s4(model->graph.layers[0].params, 0, 0, &K), SSM_INVAL);
    assert_int_equal(ssm_kernel_s4(model->graph.layers[0].params, 0, SSM_KERNEL_FRAMES_MAX + 1, &K), SSM_INVAL);
    ssm_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernel_s4d__random_modes__match_the_recurrence),
        cmocka_unit_test(kernel_s4__random_systems__match_the_recurrence),
        cmocka_unit_test(kernel_s4__hippo_matrices__match_the_recurrence),
        cmocka_unit_test(kernel__no_or_too_many_frames__is_refused),
    };

    return cmocka_run_group_tests_name("kernel", tests, NULL, NULL);
}
