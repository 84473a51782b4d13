/* SPDX-License-Identifier: Apache-2.0
 * Pointwise layers, norms, mean and convolution in plain float64; see layers.h. */
#include "tests/reference/layers.h"

#include <math.h>
#include <string.h>

void reference_linear(const float *weight, const float *bias, size_t in, size_t out, const double *x, size_t T,
                      double *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t o = 0; o < out; o++) {
            double sum = bias ? bias[o] : 0;

            for (size_t i = 0; i < in; i++)
                sum += weight[o * in + i] * x[t * in + i];
            y[t * out + o] = sum;
        }
}

void reference_embedding(const float *weight, size_t dim, const int *tokens, size_t T, double *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t i = 0; i < dim; i++)
            y[t * dim + i] = weight[(size_t)tokens[t] * dim + i];
}

void reference_layernorm(const float *weight, const float *bias, double eps, size_t H, const double *x, size_t T,
                         double *y)
{
    for (size_t t = 0; t < T; t++, x += H, y += H) {
        double mean = 0, var = 0;

        for (size_t h = 0; h < H; h++)
            mean += x[h] / (double)H;
        for (size_t h = 0; h < H; h++)
            var += (x[h] - mean) * (x[h] - mean) / (double)H;
        for (size_t h = 0; h < H; h++)
            y[h] = (x[h] - mean) / sqrt(var + eps) * weight[h] + bias[h];
    }
}

void reference_rmsnorm(const float *weight, double eps, size_t H, const double *x, size_t T, double *y)
{
    for (size_t t = 0; t < T; t++, x += H, y += H) {
        double square = 0;

        for (size_t h = 0; h < H; h++)
            square += x[h] * x[h] / (double)H;
        for (size_t h = 0; h < H; h++)
            y[h] = x[h] / sqrt(square + eps) * weight[h];
    }
}

void reference_batchnorm(const float *weight, const float *bias, const float *mean, const float *var, double eps,
                         size_t H, const double *x, size_t T, double *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < H; h++)
            y[t * H + h] = (x[t * H + h] - mean[h]) / sqrt(var[h] + eps) * weight[h] + bias[h];
}

static double activated(const char *fn, double v)
{
    if (strcmp(fn, "relu") == 0)
        return v > 0 ? v : 0;
    if (strcmp(fn, "gelu") == 0)
        return v * (1 + erf(v / sqrt(2))) / 2;
    if (strcmp(fn, "gelu_tanh") == 0)
        return v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))) / 2;
    if (strcmp(fn, "silu") == 0)
        return v / (1 + exp(-v));
    if (strcmp(fn, "tanh") == 0)
        return tanh(v);
    if (strcmp(fn, "sigmoid") == 0)
        return 1 / (1 + exp(-v));
    if (strcmp(fn, "softplus") == 0)
        return v > 0 ? v + log1p(exp(-v)) : log1p(exp(v));
    return NAN;
}

void reference_activation(const char *fn, const double *x, size_t n, double *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = activated(fn, x[i]);
}

void reference_glu(size_t H, const double *x, size_t T, double *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t h = 0; h < H; h++)
            y[t * H + h] = x[t * 2 * H + h] / (1 + exp(-x[t * 2 * H + H + h]));
}

void reference_slice(size_t in, size_t from, size_t to, const double *x, size_t T, double *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t c = from; c < to; c++)
            *y++ = x[t * in + c];
}

void reference_mean(size_t H, const double *x, size_t T, double *y)
{
    for (size_t h = 0; h < H; h++) {
        double sum = 0;

        for (size_t t = 0; t < T; t++) {
            sum += x[t * H + h];
            y[t * H + h] = sum / (double)(t + 1);
        }
    }
}

void reference_conv1d(const struct reference_conv1d *c, const double *x, size_t T, double *y)
{
    size_t gi = c->in / c->groups, go = c->out / c->groups, p = (c->kernel - 1) * c->dilation;

    for (size_t t = 0; t < T; t++)
        for (size_t o = 0; o < c->out; o++) {
            size_t first = o / go * gi; /* input of the group */
            double sum = c->bias ? c->bias[o] : 0;

            for (size_t k = 0; k < c->kernel; k++)
                for (size_t i = 0; i < gi; i++)
                    if (t + k * c->dilation >= p)
                        sum +=
                            c->weight[(o * gi + i) * c->kernel + k] * x[(t + k * c->dilation - p) * c->in + first + i];
            y[t * c->out + o] = sum;
        }
}
