/* SPDX-License-Identifier: Apache-2.0
 *
 * Convolution kernels; see kernel.h.
 *
 * s4d in Vandermonde form: K[l] = Re sum over modes of C Bbar Abar^l.
 *
 * s4 by the generating function of its first n values, on a circle a little inside the unit circle:
 *
 *     sum over l < n of K[l] z^l = C~ (I - z Abar)^-1 Bbar,   C~ = C (I - z^n Abar^n),   z = rho exp(-2 pi i k / n)
 *
 * With Abar = diag(a) - U V^T and G = (I - z diag(a))^-1, Woodbury's identity leaves sums of Cauchy's kind and a solve
 * of size r:   C~ G Bbar - z C~ G U (I + z V^T G U)^-1 V^T G Bbar.   z^n = rho^n for every k, so C~ is one vector, and
 * an inverse Fourier transform of length n gives K[l] rho^l.
 *
 * Why rho < 1: on the unit circle itself an undamped mode of LegT or FouT may meet a root of unity, where G has no
 * value, and near one it loses digits. With rho^n = 1e-3 a pole of a stable system stays 6.9 / n away, and dividing by
 * rho^l costs three digits of sixteen. That is also why the transform is in float64: three of seven would be too many.
 *
 * Source: Gu, Goel, Re 2022, appendix C, there with the continuous system; the discrete one needs no special case for
 * z = -1, and its coefficients are those of the step. */
#include "ssm/kernel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/dplr.h"
#include "ssm/discretize.h"

#define RADIUS_TO_N 1e-3 /* rho^n */

int ssm_kernel_s4d(const struct ssm_s4d *p, uint32_t h, uint32_t frames, double *K)
{
    if (frames == 0 || frames > SSM_KERNEL_FRAMES_MAX)
        return SSM_INVAL;
    memset(K, 0, frames * sizeof(*K));
    for (uint32_t n = 0; n < p->modes; n++) {
        size_t lane = (size_t)h * p->padded + n;
        double complex a = 1 + (double)p->a_re[lane] + I * p->a_im[lane];
        double complex term = (p->c_re[lane] + I * p->c_im[lane]) * ((double)p->b_re[lane] + I * p->b_im[lane]);

        for (uint32_t l = 0; l < frames; l++, term *= a)
            K[l] += creal(term);
    }
    K[0] += p->d[h];
    return SSM_OK;
}

/* Bits reversed, then butterflies in place. */
void ssm_kernel_transform(double complex *x, const double complex *turn, size_t n)
{
    for (size_t i = 1, j = 0; i < n; i++) {
        size_t bit = n / 2;

        for (; j & bit; bit /= 2)
            j ^= bit;
        j ^= bit;
        if (i < j) {
            double complex t = x[i];

            x[i] = x[j];
            x[j] = t;
        }
    }
    for (size_t half = 1; half < n; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half)
            for (size_t k = 0; k < half; k++) {
                double complex a = x[i + k], b = x[i + k + half] * turn[k * (n / 2 / half)];

                x[i + k] = a + b;
                x[i + k + half] = a - b;
            }
}

/* One channel in float64. Left vectors are C~, V_0, V_1, ..., right ones Bbar, U_0, U_1, ...; each stands for itself
 * and its conjugate. */
struct channel {
    size_t M, R;
    double complex *e;     /* (M): a - 1 */
    double complex *left;  /* (R+1, M) */
    double complex *right; /* (R+1, M) */
    double complex *pair;  /* (R+1, R+1, M): left times right */
};

static void row_read(const struct ssm_s4 *p, uint32_t h, int row, double times, double complex *out)
{
    const float *re = ssm_s4_channel(p, h) + (size_t)row * p->padded, *im = re + p->padded;

    for (size_t n = 0; n < p->modes; n++)
        out[n] = times * re[n] + I * (times * im[n]);
}

/* C <- C (I - rho^n Abar^n), by squaring, over the coordinates (Re x, Im x), where C is (2 Re C, -2 Im C). */
static int readout_cut(const struct channel *c, size_t n)
{
    uint32_t N = (uint32_t)(2 * c->M);
    double *power = malloc((size_t)N * N * sizeof(*power)), *next = malloc((size_t)N * N * sizeof(*next));
    double *C = malloc(2 * (size_t)N * sizeof(*C)), *cut = C + N;
    int status = power && next && C ? SSM_OK : SSM_NOMEM;

    if (status)
        goto out;
    ssm_dplr_dense((uint32_t)c->M, (uint32_t)c->R, c->e, c->right + c->M, c->left + c->M, power);
    for (; n > 1; n /= 2) {
        ssm_multiply_f64(power, power, N, N, N, next);
        memcpy(power, next, (size_t)N * N * sizeof(*power));
    }
    for (size_t k = 0; k < c->M; k++) {
        C[k] = 2 * creal(c->left[k]);
        C[c->M + k] = -2 * cimag(c->left[k]);
    }
    ssm_multiply_f64(C, power, 1, N, N, cut);
    for (size_t k = 0; k < c->M; k++)
        c->left[k] -= RADIUS_TO_N / 2 * (cut[k] - I * cut[c->M + k]);
out:
    free(power);
    free(next);
    free(C);
    return status;
}

static int channel_init(struct channel *c, const struct ssm_s4 *p, uint32_t h, size_t n)
{
    size_t M = c->M = p->modes, R = c->R = p->rank, vectors = R + 1;
    int status;

    c->e = malloc((1 + 2 * vectors + vectors * vectors) * M * sizeof(*c->e));
    if (!c->e)
        return SSM_NOMEM;
    c->left = c->e + M;
    c->right = c->left + vectors * M;
    c->pair = c->right + vectors * M;
    row_read(p, h, SSM_S4_E, 1, c->e);
    row_read(p, h, SSM_S4_C, 0.5, c->left);
    row_read(p, h, SSM_S4_B, 1, c->right);
    for (size_t r = 0; r < R; r++) {
        row_read(p, h, SSM_S4_UV + 4 * (int)r, 1, c->right + (r + 1) * M);
        row_read(p, h, SSM_S4_UV + 4 * (int)r + 2, 0.5, c->left + (r + 1) * M);
    }
    if ((status = readout_cut(c, n)))
        return status;
    for (size_t q = 0; q < vectors; q++)
        for (size_t r = 0; r < vectors; r++)
            for (size_t k = 0; k < M; k++)
                c->pair[(q * vectors + r) * M + k] = c->left[q * M + k] * c->right[r * M + k];
    return SSM_OK;
}

/* The generating function at z, `rest` being 1 - z. */
static int generate(const struct channel *c, double complex z, double complex rest, double complex *out)
{
    enum { VECTORS = SSM_DPLR_RANK_MAX + 1 };
    double complex sums[VECTORS * VECTORS] = {0}, core[SSM_DPLR_RANK_MAX * SSM_DPLR_RANK_MAX];
    double complex fed[SSM_DPLR_RANK_MAX];
    size_t R = c->R, vectors = R + 1;
    int status;

    for (size_t k = 0; k < c->M; k++) {
        double complex g = 1 / (rest - z * c->e[k]), mirrored = 1 / (rest - z * conj(c->e[k]));

        for (size_t i = 0; i < vectors * vectors; i++)
            sums[i] += c->pair[i * c->M + k] * g + conj(c->pair[i * c->M + k]) * mirrored;
    }
    for (size_t q = 0; q < R; q++) {
        for (size_t r = 0; r < R; r++)
            core[q * R + r] = (q == r) + z * sums[(q + 1) * vectors + r + 1];
        fed[q] = sums[(q + 1) * vectors];
    }
    if ((status = ssm_dplr_solve(core, fed, (uint32_t)R)))
        return status;
    *out = sums[0];
    for (size_t r = 0; r < R; r++)
        *out -= z * sums[r + 1] * fed[r];
    return SSM_OK;
}

int ssm_kernel_s4_matrix(const struct ssm_s4 *p, uint32_t h, double *Abar)
{
    size_t M = p->modes, R = p->rank;
    double complex *e = malloc((1 + 2 * R) * M * sizeof(*e)), *U = e + M, *V = U + R * M;

    if (!e)
        return SSM_NOMEM;
    row_read(p, h, SSM_S4_E, 1, e);
    for (size_t r = 0; r < R; r++) {
        row_read(p, h, SSM_S4_UV + 4 * (int)r, 1, U + r * M);
        row_read(p, h, SSM_S4_UV + 4 * (int)r + 2, 0.5, V + r * M);
    }
    ssm_dplr_dense(p->modes, p->rank, e, U, V, Abar);
    free(e);
    return SSM_OK;
}

int ssm_kernel_s4(const struct ssm_s4 *p, uint32_t h, uint32_t frames, double *K)
{
    struct channel c = {0};
    double complex *values, *turn;
    double log_rho, rho;
    size_t n = 2;
    int status = SSM_NOMEM;

    if (frames == 0 || frames > SSM_KERNEL_FRAMES_MAX)
        return SSM_INVAL;
    while (n < frames)
        n *= 2;
    values = malloc((n + n / 2) * sizeof(*values));
    if (!values || (status = channel_init(&c, p, h, n)))
        goto out;
    turn = values + n;
    log_rho = log(RADIUS_TO_N) / (double)n;
    rho = exp(log_rho);
    for (size_t k = 0; k < n / 2; k++)
        turn[k] = cexp(I * (2 * M_PI * (double)k / (double)n));
    for (size_t k = 0; k <= n / 2; k++) { /* K is real: the other half mirrors this one */
        double angle = 2 * M_PI * (double)k / (double)n, half = sin(angle / 2);
        double complex z = rho * cexp(-I * angle);

        if ((status = generate(&c, z, -expm1(log_rho) + 2 * rho * half * half - I * cimag(z), &values[k])))
            goto out;
        values[(n - k) % n] = conj(values[k]);
    }
    ssm_kernel_transform(values, turn, n);
    for (size_t l = 0; l < frames; l++)
        K[l] = creal(values[l]) / (double)n * exp(-log_rho * (double)l);
    K[0] += p->d[h];
out:
    free(values);
    free(c.e);
    return status;
}
