/* SPDX-License-Identifier: Apache-2.0
 *
 * s4: H systems of M complex modes, each coupled to the others by rank r alone.
 *
 *     s[r] = Re(sum over n of v[r][n] x[n])                                     (v and c hold the 2 of the pairs)
 *     x[n] <- e[n] x[n] + b[n] u - sum over r of u[r][n] s[r]                   (e kept less 1)
 *     y    = Re(sum over n of c[n] x[n]) + d u
 *
 * As s4d's step (cuda/modes.cuh), but that a frame waits for the sums s of the one before it: over a lane's modes,
 * then by shuffles over the channel's lanes, which leave the same bits in all of them. Ranks of 1 and 2 with up to 256 and
 * 128 modes keep coefficients and state in registers; other shapes go through memory, one warp for each channel.
 *
 * A chunk form would need the dense Abar^64, 4 M^2 products for 64 frames where a step takes (8 + 4 r) M: scans step.
 *
 * SHAPES   state (H, 2, M+16); rows (H, 6 + 4 r, M+16); u, y (frames, H).
 * BITS     s: modes of a lane in index order, lanes by halves; y: see cuda/modes.cuh. The numbers of modes and the rank
 *          alone decide.
 * COST     10 + 4 r operations a mode, frame and channel; r log2(lanes) shuffles and additions a lane. Bytes: the state
 *          twice for each row, 8 for each input and output. H = 64, M = 32, r = 1, 10,000 rows of 160 frames: 45.9 G
 *          operations, 1.4 ms at 33.5 T a second; 1.15 GB, 0.38 ms at 3.0 TB/s.
 * ERROR    the CPU's operations in another order of sums; its bound is in ssm/cpu/s4.c.
 * SOURCE   Gu, Goel, Re 2022, "Efficiently Modeling Long Sequences with Structured State Spaces". */
#include "cuda/diagonal.cuh"
#include "cuda/modes.cuh"
#include "ssm/layers/s4.h"

#define BLOCKS   3u  /* of a processor at least: 168 registers a thread */
#define RANK_MAX 16u /* SSM_DPLR_RANK_MAX: its header is C alone */

/* The kind's own. */
struct s4 {
    const float *rows; /* (H, SSM_S4_ROWS(rank), M+16) */
    const float *d;    /* (H) */
    uint32_t modes, padded, rank;
    uint32_t wave; /* thread blocks that run at once */
};

struct s4_work {
    struct cuda_span span;
    struct s4 p;
    uint32_t state_offset, channels;
    const float *x;
    float *y;
};

template <uint32_t MODES, uint32_t RANK> struct coefs {
    float e_re[MODES], e_im[MODES], b_re[MODES], b_im[MODES], c_re[MODES], c_im[MODES];
    float u_re[RANK][MODES], u_im[RANK][MODES], v_re[RANK][MODES], v_im[RANK][MODES];
};

template <uint32_t MODES> struct modes {
    float re[MODES], im[MODES];
};

/* ---- one lane ---------------------------------------------------------------------------------------------------- */

template <uint32_t MODES, uint32_t LANES, uint32_t RANK>
__device__ static inline void coefs_load(const struct s4_work *w, size_t channel, uint32_t g, uint32_t there,
                                         struct coefs<MODES, RANK> *c)
{
    uint32_t padded = w->p.padded;
    const float *rows = w->p.rows + channel * SSM_S4_ROWS(RANK) * padded;

    cuda_modes_load<MODES, LANES>(rows + SSM_S4_E * padded, g, there, c->e_re);
    cuda_modes_load<MODES, LANES>(rows + (SSM_S4_E + 1) * padded, g, there, c->e_im);
    cuda_modes_load<MODES, LANES>(rows + SSM_S4_B * padded, g, there, c->b_re);
    cuda_modes_load<MODES, LANES>(rows + (SSM_S4_B + 1) * padded, g, there, c->b_im);
    cuda_modes_load<MODES, LANES>(rows + SSM_S4_C * padded, g, there, c->c_re);
    cuda_modes_load<MODES, LANES>(rows + (SSM_S4_C + 1) * padded, g, there, c->c_im);
#pragma unroll
    for (uint32_t r = 0; r < RANK; r++) {
        const float *uv = rows + (SSM_S4_UV + 4 * r) * padded;

        cuda_modes_load<MODES, LANES>(uv, g, there, c->u_re[r]);
        cuda_modes_load<MODES, LANES>(uv + padded, g, there, c->u_im[r]);
        cuda_modes_load<MODES, LANES>(uv + 2 * padded, g, there, c->v_re[r]);
        cuda_modes_load<MODES, LANES>(uv + 3 * padded, g, there, c->v_im[r]);
    }
}

/* The lane's part of Re(sum of v x). */
template <uint32_t MODES>
__device__ static inline float modes_dot(const float (&v_re)[MODES], const float (&v_im)[MODES],
                                         const struct modes<MODES> *x)
{
    float sum = v_re[0] * x->re[0];

    sum = fmaf(-v_im[0], x->im[0], sum);
#pragma unroll
    for (uint32_t n = 1; n < MODES; n++)
        sum = fmaf(-v_im[n], x->im[n], fmaf(v_re[n], x->re[n], sum));
    return sum;
}

/* One frame; returns the lane's part of the output. */
template <uint32_t MODES, uint32_t LANES, uint32_t RANK>
__device__ static inline float modes_frame(const struct coefs<MODES, RANK> *c, float u, struct modes<MODES> *x)
{
    float fed[RANK];

#pragma unroll
    for (uint32_t r = 0; r < RANK; r++) {
        fed[r] = modes_dot(c->v_re[r], c->v_im[r], x);
#pragma unroll
        for (uint32_t apart = 1; apart < LANES; apart *= 2)
            fed[r] += __shfl_xor_sync(CUDA_LANES, fed[r], (int)apart);
    }
#pragma unroll
    for (uint32_t n = 0; n < MODES; n++) {
        float in_re = c->b_re[n] * u, in_im = c->b_im[n] * u;

#pragma unroll
        for (uint32_t r = 0; r < RANK; r++) {
            in_re = fmaf(-c->u_re[r][n], fed[r], in_re);
            in_im = fmaf(-c->u_im[r][n], fed[r], in_im);
        }
        cuda_diagonal_step(c->e_re[n], c->e_im[n], in_re, in_im, &x->re[n], &x->im[n]);
    }
    return modes_dot(c->c_re, c->c_im, x);
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

template <uint32_t MODES, uint32_t LANES, uint32_t RANK>
__global__ void __launch_bounds__(CUDA_MODES_THREADS, BLOCKS) s4_advance(struct s4_work w)
{
    __shared__ struct cuda_modes_shared<LANES> shared[CUDA_MODES_WARPS];
    struct cuda_modes_shared<LANES> *s = &shared[threadIdx.x / CUDA_WARP];
    struct cuda_modes_warp warp = cuda_modes_begin<LANES>(w.channels);
    uint32_t rows = w.span.count->rows, channel = warp.from + warp.lane / LANES, g = warp.lane % LANES;
    uint32_t there = channel < w.channels ? w.p.padded : 0;
    const float *in = s->in + warp.lane / LANES * CUDA_MODES_STRIDE;
    struct coefs<MODES, RANK> c;

    coefs_load<MODES, LANES, RANK>(&w, channel, g, there, &c);
    for (uint32_t i = warp.first; i < rows; i += warp.step) {
        const struct cuda_row *row = &w.span.rows[i];
        const float *x = w.x + (size_t)row->first * w.channels;
        float *y = w.y + (size_t)row->first * w.channels;
        float *at = cuda_row_state<float>(row, w.state_offset) + (size_t)channel * 2 * w.p.padded;
        struct cuda_modes_bout<LANES> next;
        struct modes<MODES> state;

        if (!row->frames)
            continue;
        cuda_modes_read<LANES>(&warp, x, row->frames, &next);
        cuda_modes_load<MODES, LANES>(at, g, there, state.re);
        cuda_modes_load<MODES, LANES>(at + w.p.padded, g, there, state.im);
        for (uint32_t left = row->frames, n; left; left -= n) {
            n = left < CUDA_MODES_BOUT ? left : CUDA_MODES_BOUT;
            cuda_modes_stage<LANES>(&warp, &next, s);
            x += n * w.channels;
            if (left > n)
                cuda_modes_read<LANES>(&warp, x, left - n, &next);
#pragma unroll 1
            for (uint32_t k = 0; k < n; k++)
                s->sum[warp.lane * CUDA_MODES_STRIDE + k] = modes_frame<MODES, LANES, RANK>(&c, in[k], &state);
            cuda_modes_write<LANES>(&warp, s, n, false, w.p.d, CUDA_NO_ACTIVATION, y);
            y += n * w.channels;
        }
        cuda_modes_store<MODES, LANES>(at, g, there, state.re);
        cuda_modes_store<MODES, LANES>(at + w.p.padded, g, there, state.im);
    }
}

__device__ static inline float warp_sum(float v)
{
#pragma unroll
    for (uint32_t apart = 1; apart < CUDA_WARP; apart *= 2)
        v += __shfl_xor_sync(CUDA_LANES, v, (int)apart);
    return v;
}

/* One frame of a channel whose modes and coefficients lie in memory: each lane has every 32nd mode. */
__device__ static inline float channel_frame(const struct s4_work *w, const float *rows, uint32_t lane, float u,
                                             float *re)
{
    uint32_t padded = w->p.padded;
    float fed[RANK_MAX], sum = 0, *im = re + padded;

#pragma unroll
    for (uint32_t r = 0; r < RANK_MAX; r++) {
        const float *v_re = rows + (SSM_S4_UV + 4 * r + 2) * padded, *v_im = v_re + padded;

        fed[r] = 0;
        if (r >= w->p.rank)
            continue;
        for (uint32_t n = lane; n < w->p.modes; n += CUDA_WARP)
            fed[r] = fmaf(v_re[n], re[n], fmaf(-v_im[n], im[n], fed[r]));
        fed[r] = warp_sum(fed[r]);
    }
    for (uint32_t n = lane; n < w->p.modes; n += CUDA_WARP) {
        const float *at = rows + n;
        float in_re = at[SSM_S4_B * padded] * u, in_im = at[(SSM_S4_B + 1) * padded] * u, x_re = re[n], x_im = im[n];

#pragma unroll
        for (uint32_t r = 0; r < RANK_MAX; r++) {
            if (r >= w->p.rank)
                continue;
            in_re = fmaf(-at[(SSM_S4_UV + 4 * r) * padded], fed[r], in_re);
            in_im = fmaf(-at[(SSM_S4_UV + 4 * r + 1) * padded], fed[r], in_im);
        }
        cuda_diagonal_step(at[SSM_S4_E * padded], at[(SSM_S4_E + 1) * padded], in_re, in_im, &x_re, &x_im);
        re[n] = x_re;
        im[n] = x_im;
        sum = fmaf(at[SSM_S4_C * padded], x_re, fmaf(-at[(SSM_S4_C + 1) * padded], x_im, sum));
    }
    return warp_sum(sum);
}

/* Any number of modes, any rank. */
__global__ void __launch_bounds__(CUDA_MODES_THREADS) s4_advance_any(struct s4_work w)
{
    struct cuda_modes_warp warp = cuda_modes_begin<CUDA_WARP>(w.channels);
    uint32_t count = w.span.count->rows;
    size_t h = warp.from;
    const float *rows = w.p.rows + h * SSM_S4_ROWS(w.p.rank) * w.p.padded;

    for (uint32_t i = warp.first; i < count; i += warp.step) {
        const struct cuda_row *row = &w.span.rows[i];
        float *re = cuda_row_state<float>(row, w.state_offset) + h * 2 * w.p.padded;

        for (uint32_t t = 0; t < row->frames; t++) {
            size_t at = ((size_t)row->first + t) * w.channels + h;
            float u = w.x[at], sum = channel_frame(&w, rows, warp.lane, u, re);

            if (warp.lane == 0)
                w.y[at] = fmaf(w.p.d[h], u, sum);
        }
    }
}

/* ---- host -------------------------------------------------------------------------------------------------------- */

/* A kernel for that rank and so many modes; the last one is for any. */
struct shape {
    uint32_t rank, modes;
    uint32_t (*groups)(uint32_t channels);
    void (*advance)(struct s4_work w);
};

#define SHAPE(MODES, LANES, RANK)                                                                                      \
    {                                                                                                                  \
        RANK, MODES *LANES, cuda_modes_groups<LANES>, s4_advance<MODES, LANES, RANK>                                   \
    }

static const struct shape shapes[] = {SHAPE(4, 1, 1),  SHAPE(8, 1, 1),
                                      SHAPE(8, 2, 1),  SHAPE(8, 4, 1),
                                      SHAPE(8, 8, 1),  SHAPE(8, 16, 1),
                                      SHAPE(8, 32, 1), SHAPE(4, 1, 2),
                                      SHAPE(4, 2, 2),  SHAPE(4, 4, 2),
                                      SHAPE(4, 8, 2),  SHAPE(4, 16, 2),
                                      SHAPE(4, 32, 2), {0, 0, cuda_modes_groups<CUDA_WARP>, s4_advance_any}};

static const struct shape *shape_find(const struct s4 *p)
{
    const struct shape *shape = shapes;

    while (shape->rank && (shape->rank != p->rank || shape->modes < p->modes))
        shape++;
    return shape;
}

static void build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_s4 *p = (const struct ssm_s4 *)layer->params;
    struct s4 *out = (struct s4 *)cuda_params(b, sizeof(*out));

    if (!out)
        return;
    out->rows = cuda_upload_floats(b, p->rows, (size_t)layer->out * SSM_S4_ROWS(p->rank) * p->padded);
    out->d = cuda_upload_floats(b, p->d, layer->out);
    out->modes = p->modes;
    out->padded = p->padded;
    out->rank = p->rank;
    out->wave = BLOCKS * cuda_processors();
    *params = out;
}

static cudaError_t launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct s4 *p = (const struct s4 *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    struct s4_work w = {*span, *p, l->layer->state_offset, l->layer->out, x, y};
    const struct shape *shape = shape_find(p);
    uint32_t grid = cuda_modes_grid(shape->groups(w.channels), span->rows_room, p->wave);

    if (grid)
        CUDA_LAUNCH(shape->advance, dim3(grid), dim3(CUDA_MODES_THREADS), 0, tile->stream, w);
    return cudaGetLastError();
}

extern const struct cuda_kind cuda_kind_s4 = {build, NULL, launch};
