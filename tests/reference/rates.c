/* SPDX-License-Identifier: Apache-2.0
 * Layers that change the rate in plain float64; see rates.h. */
#include "tests/reference/rates.h"

#include <stdlib.h>
#include <string.h>

struct track track_new(size_t T, size_t channels)
{
    struct track t = {.T = T, .channels = channels};

    t.x = calloc(T * channels + 1, sizeof(*t.x));
    t.need = calloc(T + 1, sizeof(*t.need));
    if (!t.x || !t.need)
        abort();
    for (size_t i = 0; i < T; i++)
        t.need[i] = -1;
    return t;
}

void track_free(struct track *t)
{
    free(t->x);
    free(t->need);
}

static long later(long a, long b)
{
    return a > b ? a : b;
}

struct track reference_strided(const struct reference_strided *c, const struct track *x)
{
    size_t gi = c->in / c->groups, go = c->out / c->groups, past = (c->kernel - 1) * c->dilation;
    size_t p = c->causal ? past : 0, T = 0;
    struct track y;

    while (T * c->stride + past < x->T + p) /* the last tap is there */
        T++;
    y = track_new(T, c->out);
    for (size_t j = 0; j < T; j++)
        for (size_t k = 0; k < c->kernel; k++) {
            if (j * c->stride + k * c->dilation < p)
                continue; /* before the first sample */
            size_t t = j * c->stride + k * c->dilation - p;

            y.need[j] = later(y.need[j], x->need[t]);
            for (size_t o = 0; o < c->out; o++)
                for (size_t i = 0; i < gi; i++)
                    y.x[j * c->out + o] += c->weight[(o * gi + i) * c->kernel + k] * x->x[t * c->in + o / go * gi + i];
        }
    for (size_t i = 0; c->bias && i < T * c->out; i++)
        y.x[i] += c->bias[i % c->out];
    return y;
}

struct track reference_transposed(const float *weight, const float *bias, size_t in, size_t out, size_t kernel,
                                  size_t stride, const struct track *x)
{
    struct track y = track_new(x->T * stride, out);

    for (size_t j = 0; j < x->T; j++)
        for (size_t k = 0; k < kernel && j * stride + k < y.T; k++) {
            size_t t = j * stride + k;

            y.need[t] = later(y.need[t], x->need[j]);
            for (size_t o = 0; o < out; o++)
                for (size_t c = 0; c < in; c++)
                    y.x[t * out + o] += x->x[j * in + c] * weight[(c * out + o) * kernel + k];
        }
    for (size_t i = 0; bias && i < y.T * out; i++)
        y.x[i] += bias[i % out];
    return y;
}

struct track reference_downsample(const float *weight, size_t in, size_t out, size_t factor, const struct track *x)
{
    struct track y = track_new(x->T / factor, out);

    for (size_t t = 0; t < y.T; t++)
        for (size_t j = 0; j < factor; j++) {
            y.need[t] = later(y.need[t], x->need[t * factor + j]);
            for (size_t d = 0; d < out; d++)
                for (size_t c = 0; c < in; c++)
                    y.x[t * out + d] += x->x[(t * factor + j) * in + c] * weight[(c * out + d) * factor + j];
        }
    return y;
}

struct track reference_upsample(const float *weight, size_t in, size_t out, size_t factor, const struct track *x)
{
    struct track y = track_new(x->T * factor, out);

    for (size_t t = 0; t < x->T; t++)
        for (size_t j = 0; j < factor; j++) {
            y.need[t * factor + j] = x->need[t];
            for (size_t d = 0; d < out; d++)
                for (size_t c = 0; c < in; c++)
                    y.x[(t * factor + j) * out + d] += x->x[t * in + c] * weight[(c * out + d) * factor + j];
        }
    return y;
}

void reference_join(struct track *a, const struct track *b, bool multiply)
{
    a->T = a->T < b->T ? a->T : b->T;
    for (size_t t = 0; t < a->T; t++)
        a->need[t] = later(a->need[t], b->need[t]);
    for (size_t i = 0; i < a->T * a->channels; i++)
        a->x[i] = multiply ? a->x[i] * b->x[i] : a->x[i] + b->x[i];
}
