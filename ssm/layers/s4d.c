/* SPDX-License-Identifier: Apache-2.0
 * s4d: H independent diagonal systems, x = Abar x + Bbar u, y = 2 Re(sum over the N/2 stored modes of C_n x_n) + D u.
 *
 * A = -exp(log_A_real) + i A_imag, dt = exp(log_dt), B = 1 unless input_matrix.
 * Source: Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models". */
#include <math.h>
#include <stdlib.h>

#include "ssm/discretize.h"
#include "ssm/layers/params.h"
#include "ssm/poles.h"

#define L SSM_SCAN_BLOCK

struct s4d_tensors {
    float *log_dt, *log_A_real, *A_imag, *B, *C;
};

static int floats_take(float **out, size_t n)
{
    *out = ssm_floats_new(n);
    return *out ? SSM_OK : SSM_NOMEM;
}

static int params_new(struct ssm_s4d *p, size_t H)
{
    size_t lanes = H * p->padded, modes = H * p->modes * L;
    int status;

    if ((status = floats_take(&p->a_re, lanes)) || (status = floats_take(&p->a_im, lanes)) ||
        (status = floats_take(&p->b_re, lanes)) || (status = floats_take(&p->b_im, lanes)) ||
        (status = floats_take(&p->c_re, lanes)) || (status = floats_take(&p->c_im, lanes)) ||
        (status = floats_take(&p->jump_re, lanes)) || (status = floats_take(&p->jump_im, lanes)) ||
        (status = floats_take(&p->kernel, H * 2 * L)) || (status = floats_take(&p->out_re, modes)) ||
        (status = floats_take(&p->out_im, modes)) || (status = floats_take(&p->in_re, lanes * L)) ||
        (status = floats_take(&p->in_im, lanes * L)))
        return status;
    return SSM_OK;
}

/* The chunk form of channel h, mode n; adds the mode's part to kernel (2L, float64). */
static void block_form(struct ssm_s4d *p, size_t h, size_t n, double *kernel)
{
    size_t lane = h * p->padded + n, mode = (h * p->modes + n) * L;
    double complex a = 1 + (double)p->a_re[lane] + I * p->a_im[lane], b = p->b_re[lane] + I * p->b_im[lane];
    double complex c = p->c_re[lane] + I * p->c_im[lane], power = 1;

    for (size_t l = 0; l < L; l++) {
        size_t in = (h * L + L - 1 - l) * p->padded + n;
        double complex reach = power * b, out;

        kernel[L + l] += creal(c * reach);
        p->in_re[in] = (float)creal(reach);
        p->in_im[in] = (float)cimag(reach);
        power *= a;
        out = c * power;
        p->out_re[mode + l] = (float)creal(out);
        p->out_im[mode + l] = (float)cimag(out);
    }
    p->jump_re[lane] = (float)(creal(power) - 1);
    p->jump_im[lane] = (float)cimag(power);
}

static int mode_derive(struct ssm_build *b, struct ssm_layer *l, const struct s4d_tensors *t, size_t h, size_t n,
                       enum ssm_discretization how)
{
    struct ssm_s4d *p = l->params;
    size_t place = h * p->modes + n, lane = h * p->padded + n;
    double complex a = -exp((double)t->log_A_real[place]) + I * (double)t->A_imag[place], abar, bbar;
    double dt = ssm_build_dt(b, exp((double)t->log_dt[h]));

    if (fabs(cimag(a)) > ssm_build_band(b, dt)) { /* B and C stay zero, as in the padding */
        ssm_build_zeroed(b, 1);
        return SSM_OK;
    }
    ssm_discretize_mode(how, dt, a, &abar, &bbar);
    if (t->B)
        bbar *= t->B[2 * place] + I * t->B[2 * place + 1];
    if (!(cabs(abar) <= SSM_POLE_LIMIT))
        return ssm_fail(
            b, l, SSM_UNSTABLE,
            "has a pole outside the unit circle: channel %zu, mode %zu of '%s.log_A_real' has |Abar| = %.9g "
            "after %s",
            h, n, l->name, cabs(abar), ssm_discretization_words[how]);
    p->a_re[lane] = (float)(creal(abar) - 1);
    p->a_im[lane] = (float)cimag(abar);
    p->b_re[lane] = (float)creal(bbar);
    p->b_im[lane] = (float)cimag(bbar);
    p->c_re[lane] = 2 * t->C[2 * place];
    p->c_im[lane] = 2 * t->C[2 * place + 1];
    if (!isfinite(p->b_re[lane]) || !isfinite(p->b_im[lane]) || !isfinite(p->c_re[lane]) || !isfinite(p->c_im[lane]))
        return ssm_fail(b, l, SSM_NONFINITE, "channel %zu, mode %zu of '%s': Bbar or 2 C is too large for float32", h,
                        n, l->name);
    return SSM_OK;
}

static int derive(struct ssm_build *b, struct ssm_layer *l, const struct s4d_tensors *t, enum ssm_discretization how)
{
    struct ssm_s4d *p = l->params;
    int status = params_new(p, l->out);

    if (status)
        return ssm_fail(b, l, status, "no memory for %u channels of %u modes", l->out, p->modes);
    for (size_t h = 0; h < l->out; h++) {
        double kernel[2 * L] = {0};

        for (size_t n = 0; n < p->modes; n++) {
            if ((status = mode_derive(b, l, t, h, n, how)))
                return status;
            block_form(p, h, n, kernel);
        }
        kernel[L] += p->d[h];
        for (size_t i = 0; i < 2 * L; i++)
            p->kernel[h * 2 * L + i] = (float)kernel[i];
    }
    return SSM_OK;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_s4d *p = l->params = calloc(1, sizeof(*p));
    struct s4d_tensors t = {0};
    uint32_t H, N;
    bool input_matrix;
    int how, status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "channels", &H, 1, 65536)) || (status = ssm_expect_in(b, l, H)) ||
        (status = ssm_key_count(b, l, keys, "state", &N, 2, 8192)) ||
        (status = ssm_key_word(b, l, keys, "discretization", ssm_discretization_words, &how, -1)) ||
        (status = ssm_key_flag(b, l, keys, "input_matrix", &input_matrix, false)))
        return status;
    if (N % 2)
        return ssm_fail(b, l, SSM_CONFIG, "has \"state\": %u, which counts conjugate pairs twice and must be even", N);
    l->out = H;
    p->modes = N / 2;
    p->padded = SSM_PAD16(p->modes);
    if ((uint64_t)H * p->padded * 2 * sizeof(float) > UINT32_MAX / 4)
        return ssm_fail(b, l, SSM_LIMIT, "has a state of %u x %u modes: too large", H, p->modes);
    l->state_bytes = (uint32_t)(H * p->padded * 2 * sizeof(float));
    if ((status = ssm_part_add(
             b, l, &(struct ssm_part){.blocks = H, .rows = 2, .columns = p->modes, .row_stride = p->padded})) ||
        (status = ssm_tensor_take(b, l, "log_dt", &t.log_dt, 1, (uint64_t[]){H})) ||
        (status = ssm_tensor_take(b, l, "log_A_real", &t.log_A_real, 2, (uint64_t[]){H, p->modes})) ||
        (status = ssm_tensor_take(b, l, "A_imag", &t.A_imag, 2, (uint64_t[]){H, p->modes})) ||
        (status = ssm_tensor_take(b, l, "C", &t.C, 3, (uint64_t[]){H, p->modes, 2})) ||
        (status = ssm_tensor_take(b, l, "D", &p->d, 1, (uint64_t[]){H})) ||
        (input_matrix && (status = ssm_tensor_take(b, l, "B", &t.B, 3, (uint64_t[]){H, p->modes, 2}))))
        goto out;
    status = derive(b, l, &t, (enum ssm_discretization)how);
out:
    free(t.log_dt);
    free(t.log_A_real);
    free(t.A_imag);
    free(t.B);
    free(t.C);
    return status;
}

static void fini(struct ssm_layer *l)
{
    struct ssm_s4d *p = l->params;

    if (!p)
        return;
    float *owned[] = {p->a_re,   p->a_im,   p->b_re,   p->b_im,  p->c_re,  p->c_im,    p->d,
                      p->kernel, p->out_re, p->out_im, p->in_re, p->in_im, p->jump_re, p->jump_im};
    for (size_t i = 0; i < sizeof(owned) / sizeof(*owned); i++)
        free(owned[i]);
}

const struct ssm_kind ssm_kind_s4d = {
    .id = SSM_KIND_s4d,
    .type = "s4d",
    .keys = (const char *const[]){"channels", "state", "discretization", "input_matrix", NULL},
    .init = init,
    .any_rate = true,
    .fini = fini,
};
