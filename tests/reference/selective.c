/* SPDX-License-Identifier: Apache-2.0
 * Mamba-1 and Mamba-2 in plain float64; see selective.h. */
#include "tests/reference/selective.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static double *doubles(size_t n)
{
    double *p = calloc(n + 1, sizeof(*p));

    assert(p);
    return p;
}

static double silu(double v)
{
    return v / (1 + exp(-v));
}

static double softplus(double v)
{
    return v > 20 ? v : log1p(exp(v));
}

/* y (T, out) = W x + b; the frames of x lie `stride` apart. */
static void project(const float *W, const float *b, size_t in, size_t out, const double *x, size_t stride, size_t T,
                    double *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t o = 0; o < out; o++) {
            double sum = b ? b[o] : 0;

            for (size_t i = 0; i < in; i++)
                sum += W[o * in + i] * x[t * stride + i];
            y[t * out + o] = sum;
        }
}

/* y (T, channels) = silu(causal depthwise convolution), the newest sample under the last tap. */
static void convolve(const float *W, const float *b, size_t channels, size_t taps, const double *x, size_t stride,
                     size_t T, double *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < channels; c++) {
            double sum = b ? b[c] : 0;

            for (size_t k = 0; k < taps; k++)
                if (t + k + 1 >= taps)
                    sum += W[c * taps + k] * x[(t + k + 1 - taps) * stride + c];
            y[t * channels + c] = silu(sum);
        }
}

void reference_mamba(const struct reference_mamba *m, const double *x, size_t T, double *y)
{
    size_t I = m->inner, N = m->state, R = m->dt_rank, mixed = R + 2 * N;
    double *xz = doubles(T * 2 * I), *u = doubles(T * I), *rBC = doubles(T * mixed), *dt = doubles(T * I);
    double *out = doubles(T * I), *h = doubles(I * N);

    project(m->in_weight, m->in_bias, m->dim, 2 * I, x, m->dim, T, xz);
    convolve(m->conv_weight, m->conv_bias, I, m->conv, xz, 2 * I, T, u);
    project(m->x_weight, NULL, I, mixed, u, I, T, rBC);
    project(m->dt_weight, m->dt_bias, R, I, rBC, mixed, T, dt);
    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < I; c++) {
            const double *B = rBC + t * mixed + R, *C = B + N;
            double step = softplus(dt[t * I + c]), sum = m->D[c] * u[t * I + c];

            for (size_t n = 0; n < N; n++) {
                double A = -exp(m->A_log[c * N + n]);

                h[c * N + n] = exp(step * A) * h[c * N + n] + step * B[n] * u[t * I + c];
                sum += C[n] * h[c * N + n];
            }
            out[t * I + c] = sum * silu(xz[t * 2 * I + I + c]);
        }
    project(m->out_weight, m->out_bias, I, m->dim, out, I, T, y);
    free(xz);
    free(u);
    free(rBC);
    free(dt);
    free(out);
    free(h);
}

/* One frame: y (inner) through the gate z and the norm of each group. */
static void norm(const struct reference_mamba2 *m, const double *z, double *y)
{
    size_t width = m->heads * m->head_dim / m->groups;

    for (size_t g = 0; g < m->groups; g++, y += width, z += width) {
        const float *weight = m->norm_weight + g * width;
        double square = 0;

        for (size_t i = 0; i < width; i++) {
            if (!m->rms_norm || !m->norm_before_gate)
                y[i] *= silu(z[i]);
            square += y[i] * y[i] / (double)width;
        }
        for (size_t i = 0; m->rms_norm && i < width; i++) {
            y[i] *= weight[i] / sqrt(square + m->eps);
            if (m->norm_before_gate)
                y[i] *= silu(z[i]);
        }
    }
}

void reference_mamba2(const struct reference_mamba2 *m, const double *x, size_t T, double *y)
{
    size_t H = m->heads, P = m->head_dim, N = m->state, I = H * P, BC = m->groups * N;
    size_t mixed = I + 2 * BC, lanes = I + mixed + H;
    double *all = doubles(T * lanes), *xBC = doubles(T * mixed), *out = doubles(T * I), *h = doubles(I * N);

    project(m->in_weight, m->in_bias, m->dim, lanes, x, m->dim, T, all);
    convolve(m->conv_weight, m->conv_bias, mixed, m->conv, all + I, lanes, T, xBC);
    for (size_t t = 0; t < T; t++) {
        for (size_t head = 0; head < H; head++) {
            size_t group = head * m->groups / H;
            const double *u = xBC + t * mixed + head * P, *B = xBC + t * mixed + I + group * N, *C = B + BC;
            double dt = softplus(all[t * lanes + I + mixed + head] + m->dt_bias[head]), decay;

            dt = fmin(fmax(dt, m->dt_min), m->dt_max);
            decay = exp(-exp(m->A_log[head]) * dt);
            for (size_t p = 0; p < P; p++) {
                double *state = h + (head * P + p) * N, sum = m->D[head] * u[p];

                for (size_t n = 0; n < N; n++) {
                    state[n] = decay * state[n] + dt * B[n] * u[p];
                    sum += C[n] * state[n];
                }
                out[t * I + head * P + p] = sum;
            }
        }
        norm(m, all + t * lanes, out + t * I);
    }
    project(m->out_weight, m->out_bias, I, m->dim, out, I, T, y);
    free(all);
    free(xBC);
    free(out);
    free(h);
}
