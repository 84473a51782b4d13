/* SPDX-License-Identifier: Apache-2.0
 *
 * What attention keeps after loading, and how one stream's cache lies in memory.
 *
 * Letters: D head_dim, Q query heads, K key heads (K <= Q), S sinks, W window, C = S + W kept frames at most.
 *
 * The state, all of it zero for a fresh stream:
 *     float keys[K][C][D]     as projected, not turned by their position, which changes while they are kept
 *     float values[K][C][D]
 * Frame t lies at slot t when t < S, and else at S + (t - S) mod W: the sinks stay, the window is a ring. How many
 * frames are kept and which is the oldest follow from t alone.
 */
#ifndef SSM_LAYERS_ATTENTION_H
#define SSM_LAYERS_ATTENTION_H

#include "ssm/layers/params.h"

#define SSM_ATTENTION_STATE_MAX   (1u << 28) /* bytes */
#define SSM_ATTENTION_SCRATCH_MAX (1u << 24) /* floats */

struct ssm_attention {
    uint32_t heads, key_heads, head_dim; /* Q, K, D */
    uint32_t sinks, window;              /* S, W */
    float scale;                         /* 1 / sqrt(D) */
    struct ssm_linear q, k, v, o;        /* (Q*D, dim), (K*D, dim), (K*D, dim), (dim, Q*D) */
    float *turns; /* (C, 2, D/2): cos, then sin, of position * theta^(-2i/D); NULL: no positions */
};

/* The query heads that share key head k are those h with floor(h*K/Q) = k: from this one to that of k+1. */
static inline uint32_t ssm_attention_group(const struct ssm_attention *p, uint32_t k)
{
    return (uint32_t)(((uint64_t)k * p->heads + p->key_heads - 1) / p->key_heads);
}

/* Scratch of the kernel: projections of a tile, then for one key head at a time the turned queries and the scores of
 * its group (the largest has ceil(Q/K) heads), and one turned key. Rows of whole vectors. */
static inline uint64_t ssm_attention_scratch(const struct ssm_attention *p)
{
    uint64_t width = SSM_PAD16(p->head_dim), kept = SSM_PAD16(p->sinks + p->window);
    uint64_t group = (p->heads + p->key_heads - 1) / p->key_heads;

    return SSM_TILE_FRAMES * ((uint64_t)p->heads + 2 * (uint64_t)p->key_heads) * p->head_dim + group * (width + kept) +
           width;
}

#endif
