/* SPDX-License-Identifier: Apache-2.0
 * Windowed attention in plain float64; see attention.h. */
#include "tests/reference/attention.h"

#include <complex.h>
#include <math.h>
#include <stdlib.h>

#include "tests/reference/layers.h"

/* Channels i and i + D/2 of a head are the two parts of a complex number, which its position multiplies by
 * exp(i position theta^(-2i/D)); this is channel i of the product. */
static double turned(const struct reference_attention *a, const double *head, size_t i, size_t position)
{
    size_t half = a->head_dim / 2, pair = i < half ? i : i - half;
    double complex number;

    if (a->rope_theta == 0)
        return head[i];
    number = (head[pair] + I * head[pair + half]) *
             cexp(I * ((double)position * pow(a->rope_theta, -2 * (double)pair / (double)a->head_dim)));
    return i < half ? creal(number) : cimag(number);
}

static double score(const struct reference_attention *a, const double *q, size_t at, const double *k, size_t position)
{
    double sum = 0;

    for (size_t i = 0; i < a->head_dim; i++)
        sum += turned(a, q, i, at) * turned(a, k, i, position);
    return sum / sqrt((double)a->head_dim);
}

static int sees(const struct reference_attention *a, size_t t, size_t s)
{
    return s < a->sinks || s + a->window > t;
}

/* Head h at frame t, into out (head_dim); scores has room for t + 1. q (T, heads, head_dim), k, v (T, kv_heads,
 * head_dim). */
static void head_at(const struct reference_attention *a, size_t h, size_t t, const double *q, const double *k,
                    const double *v, double *scores, double *out)
{
    size_t D = a->head_dim, key = h * a->kv_heads / a->heads, kept = 0, position = 0;
    double most = -INFINITY, total = 0;

    for (size_t s = 0; s <= t; s++)
        kept += (size_t)sees(a, t, s);
    for (size_t s = 0; s <= t; s++)
        if (sees(a, t, s)) {
            scores[s] = score(a, q + (t * a->heads + h) * D, kept - 1, k + (s * a->kv_heads + key) * D, position++);
            most = fmax(most, scores[s]);
        }
    for (size_t i = 0; i < D; i++)
        out[i] = 0;
    for (size_t s = 0; s <= t; s++)
        if (sees(a, t, s)) {
            double weight = exp(scores[s] - most);

            total += weight;
            for (size_t i = 0; i < D; i++)
                out[i] += weight * v[(s * a->kv_heads + key) * D + i];
        }
    for (size_t i = 0; i < D; i++)
        out[i] /= total;
}

int reference_attention(const struct reference_attention *a, const double *x, size_t T, double *y)
{
    size_t queries = a->heads * a->head_dim, shared = a->kv_heads * a->head_dim;
    double *q = calloc(T * queries, sizeof(*q)), *k = calloc(T * shared, sizeof(*k));
    double *v = calloc(T * shared, sizeof(*v)), *mixed = calloc(T * queries, sizeof(*mixed));
    double *scores = calloc(T, sizeof(*scores));
    int status = q && k && v && mixed && scores ? 0 : -1;

    if (status == 0) {
        reference_linear(a->q.weight, a->q.bias, a->dim, queries, x, T, q);
        reference_linear(a->k.weight, a->k.bias, a->dim, shared, x, T, k);
        reference_linear(a->v.weight, a->v.bias, a->dim, shared, x, T, v);
        for (size_t t = 0; t < T; t++)
            for (size_t h = 0; h < a->heads; h++)
                head_at(a, h, t, q, k, v, scores, mixed + t * queries + h * a->head_dim);
        reference_linear(a->o.weight, a->o.bias, queries, a->dim, mixed, T, y);
    }
    free(q);
    free(k);
    free(v);
    free(mixed);
    free(scores);
    return status;
}
