/* SPDX-License-Identifier: Apache-2.0
 *
 * attention over a cache of the first S and the last W frames (letters and layout: ssm/layers/attention.h).
 *
 *     score[j] = turn(q, n-1) . turn(k[j], j) / sqrt(D)       j = 0..n-1: the n kept frames, oldest first
 *     head     = sum over j of exp(score[j] - max) v[j] / sum over j of exp(score[j] - max)
 *
 * A key is turned again at every frame: once the window slides, its position falls by one each time. The query heads of
 * a group share the turned key, and the cache is read once per frame, from one end to the other.
 *
 * SHAPES   x, y (frames, dim); q (frames, Q, D); k, v (frames, K, D).
 * BITS     sums run over D in 16 lanes and over the kept frames from oldest to newest, sums of weights in 16 lanes:
 *          they depend on nothing but n, which t alone decides. The scan steps: every frame sees another cache.
 * COST     per frame 4*dim*(Q+K)*D flops for the projections, n*(4*Q + 3*K)*D and n*Q exponentials for the rest; all of
 *          the kept 2*n*K*D floats are read.
 * ERROR    of a score, (D+4) * eps * |q||k| / sqrt(D) more than of q and k; weights are at most 1. */
#include <math.h>
#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vmath.h"
#include "ssm/layers/attention.h"

/* One stream's cache at one frame, as one key head sees it. */
struct cache {
    const float *keys, *values; /* (C, D) */
    uint32_t kept;              /* n, this frame included */
    uint32_t oldest;            /* ring slot of the window's oldest frame */
};

/* Scratch, and the row strides within. */
struct work {
    float *query;         /* (group, width): turned, times scale; 0 from D on */
    float *key;           /* (width): turned; 0 from D on */
    float *score;         /* (group, stride); weights after the softmax */
    size_t width, stride; /* D and C in whole vectors */
};

/* Where the j-th oldest of the kept frames lies. */
static inline uint32_t slot_find(const struct ssm_attention *p, uint32_t oldest, uint32_t j)
{
    uint32_t ring;

    if (j < p->sinks)
        return j;
    ring = j - p->sinks + oldest;
    return p->sinks + (ring < p->window ? ring : ring - p->window);
}

/* A key or query turned by its position: each pair (i, i + D/2) as a complex number times exp(i angle). */
static inline void turn(const struct ssm_attention *p, uint32_t position, const float *restrict from,
                        float *restrict to)
{
    size_t half = p->head_dim / 2;
    const float *cosine = p->turns + position * 2 * half, *sine = cosine + half;

    for (size_t i = 0; i < half; i++) {
        to[i] = SSM_FMAF(-from[half + i], sine[i], from[i] * cosine[i]);
        to[half + i] = SSM_FMAF(from[i], sine[i], from[half + i] * cosine[i]);
    }
}

/* sum over i of a[i] b[i], in 16 lanes; width is a multiple of 16 */
static inline float dot(const float *a, const float *b, size_t width)
{
    v16 sum = v16_set(0);

    for (size_t i = 0; i < width; i += V16)
        sum = v16_fma(v16_load(a + i), v16_load(b + i), sum);
    return v16_sum(sum);
}

static void queries_turn(const struct ssm_attention *p, const struct work *w, uint32_t position, const float *q,
                         uint32_t group)
{
    size_t D = p->head_dim;

    for (uint32_t h = 0; h < group; h++) {
        float *to = w->query + h * w->width;

        if (p->turns)
            turn(p, position, q + h * D, to);
        else
            memcpy(to, q + h * D, D * sizeof(*to));
        for (size_t i = 0; i < D; i++)
            to[i] *= p->scale;
    }
}

static void keys_score(const struct ssm_attention *p, const struct work *w, const struct cache *c, uint32_t group)
{
    size_t D = p->head_dim;

    for (uint32_t j = 0; j < c->kept; j++) {
        const float *key = c->keys + slot_find(p, c->oldest, j) * D;

        if (p->turns)
            turn(p, j, key, w->key);
        else
            memcpy(w->key, key, D * sizeof(*key));
        for (uint32_t h = 0; h < group; h++)
            w->score[h * w->stride + j] = dot(w->query + h * w->width, w->key, w->width);
    }
}

/* The softmax of n scores in place; room to the end of the last vector. */
static void weights_make(float *score, uint32_t n)
{
    float most = score[0], scale;
    v16 sum = v16_set(0);

    for (uint32_t j = 1; j < n; j++)
        most = score[j] > most ? score[j] : most;
    for (uint32_t j = n; j < SSM_PAD16(n); j++)
        score[j] = -INFINITY; /* weighs nothing */
    for (uint32_t j = 0; j < n; j += V16) {
        v16 weight = v16_exp(v16_sub(v16_load(score + j), v16_set(most)));

        v16_store(score + j, weight);
        sum = v16_add(sum, weight);
    }
    scale = 1 / v16_sum(sum);
    for (uint32_t j = 0; j < n; j++)
        score[j] *= scale;
}

/* The weighted mean of the values for each head of the group, into out (group, D). */
static void values_mix(const struct ssm_attention *p, const struct work *w, const struct cache *c, uint32_t group,
                       float *restrict out)
{
    size_t D = p->head_dim;

    memset(out, 0, group * D * sizeof(*out));
    for (uint32_t j = 0; j < c->kept; j++) {
        const float *value = c->values + slot_find(p, c->oldest, j) * D;

        for (uint32_t h = 0; h < group; h++) {
            float weight = w->score[h * w->stride + j];

            for (size_t i = 0; i < D; i++)
                out[h * D + i] = SSM_FMAF(weight, value[i], out[h * D + i]);
        }
    }
}

/* One frame of one row: k and v (K, D) go into the cache, and q (Q, D) becomes what the heads make of it. */
static void frame_step(const struct ssm_attention *p, const struct work *w, float *state, uint64_t t, const float *k,
                       const float *v, float *q)
{
    uint32_t C = p->sinks + p->window, kept = t < C ? (uint32_t)t + 1 : C;
    uint32_t oldest = t < C ? 0 : (uint32_t)((t + 1 - p->sinks) % p->window);
    size_t D = p->head_dim, newest = slot_find(p, oldest, kept - 1);

    for (uint32_t g = 0; g < p->key_heads; g++) {
        float *keys = state + (size_t)g * C * D, *values = keys + (size_t)p->key_heads * C * D;
        struct cache c = {.keys = keys, .values = values, .kept = kept, .oldest = oldest};
        uint32_t first = ssm_attention_group(p, g), group = ssm_attention_group(p, g + 1) - first;

        memcpy(keys + newest * D, k + g * D, D * sizeof(*keys));
        memcpy(values + newest * D, v + g * D, D * sizeof(*values));
        queries_turn(p, w, kept - 1, q + first * D, group);
        keys_score(p, w, &c, group);
        for (uint32_t h = 0; h < group; h++)
            weights_make(w->score + h * w->stride, kept);
        values_mix(p, w, &c, group, q + first * D);
    }
}

/* The padding of queries and keys is zeroed here, once for the tile. */
static struct work work_begin(const struct ssm_attention *p, float *scratch)
{
    size_t width = SSM_PAD16(p->head_dim), group = (p->heads + p->key_heads - 1) / p->key_heads;

    memset(scratch, 0, (group + 1) * width * sizeof(*scratch));
    return (struct work){.query = scratch,
                         .key = scratch + group * width,
                         .score = scratch + (group + 1) * width,
                         .width = width,
                         .stride = SSM_PAD16(p->sinks + p->window)};
}

void SSM_CPU(ssm_cpu_attention)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_attention *p = layer->params;
    size_t queries = (size_t)p->heads * p->head_dim, shared = (size_t)p->key_heads * p->head_dim;
    float *q = tile->scratch, *k = q + SSM_TILE_FRAMES * queries, *v = k + SSM_TILE_FRAMES * shared;
    struct work w = work_begin(p, v + SSM_TILE_FRAMES * shared);

    SSM_CPU(ssm_cpu_matrix)(&p->q.weight, p->q.bias, false, x, layer->in, q, queries, tile->frames);
    SSM_CPU(ssm_cpu_matrix)(&p->k.weight, p->k.bias, false, x, layer->in, k, shared, tile->frames);
    SSM_CPU(ssm_cpu_matrix)(&p->v.weight, p->v.bias, false, x, layer->in, v, shared, tile->frames);
    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];

        for (size_t t = 0; t < row->frames; t++) {
            size_t frame = row->first + t;

            frame_step(p, &w, ssm_row_state(layer, row), row->index + t, k + frame * shared, v + frame * shared,
                       q + frame * queries);
        }
    }
    SSM_CPU(ssm_cpu_matrix)(&p->o.weight, p->o.bias, false, q, queries, y, layer->out, tile->frames);
}
