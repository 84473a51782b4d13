/* SPDX-License-Identifier: Apache-2.0
 *
 * What mamba and mamba2 share on this device: projections, the short causal convolution with silu in front of the
 * recurrence, and how whole blocks of the grid are found by those who take them side by side.
 */
#ifndef CUDA_SELECTIVE_CUH
#define CUDA_SELECTIVE_CUH

#include "cuda/math.cuh"
#include "cuda/matrix.cuh"
#include "ssm/layers/selective.h"

struct cuda_projection {
    struct cuda_matrix weight;
    const float *bias; /* device: (out) */
};

void cuda_projection_build(struct cuda_build *b, const struct ssm_linear *p, struct cuda_projection *out);
/* All frames of the span; strides in floats. */
/* residual: as of struct cuda_after. */
cudaError_t cuda_projection_launch(const struct cuda_projection *p, const struct cuda_span *span, const float *x,
                                   size_t x_stride, float *y, size_t y_stride, const float *residual, cudaStream_t stream);

struct cuda_window {
    uint32_t kernel, lanes; /* K, L; L a multiple of 16 */
    const float *taps;      /* device: (K, L), oldest first */
    const float *bias;      /* device: (L) */
};

void cuda_window_build(struct cuda_build *b, const struct ssm_window *w, struct cuda_window *out);
/* x, rows x_stride floats apart, to y (frames, L): convolution and silu. The last K-1 inputs, (K-1, L) from `offset` on
 * in each row's state, become those after the row. */
cudaError_t cuda_window_launch(const struct cuda_window *w, const struct cuda_span *span, uint32_t offset,
                               const float *x, size_t x_stride, float *y, cudaStream_t stream);

/* Slots: a whole block of the grid that begins at frame f of the tile has number f / SSM_DEVICE_BLOCK, which no other has,
 * and which tells its place in scratch. */
static inline uint32_t cuda_slots(const struct cuda_span *span)
{
    return span->frames_room / SSM_DEVICE_BLOCK + 1;
}

#ifdef __cplusplus
/* The row that has the block of that number, and the frame *t of the row at which it begins; NULL when no block has
 * it. */
__device__ static inline const struct cuda_row *cuda_slot_row(const struct cuda_span *span, uint32_t slot, uint32_t *t)
{
    uint32_t from = slot * SSM_DEVICE_BLOCK, frames = span->count->frames;

    for (uint32_t f = from; f < frames && f - from < SSM_DEVICE_BLOCK;) {
        const struct cuda_row *row = &span->rows[span->owner[f]];
        uint64_t at = f - row->first; /* then the next point of the grid */

        at += (SSM_DEVICE_BLOCK - (row->index + at) % SSM_DEVICE_BLOCK) % SSM_DEVICE_BLOCK;
        if (at < row->frames && row->first + at - from < SSM_DEVICE_BLOCK && cuda_row_block(row, (uint32_t)at)) {
            *t = (uint32_t)at;
            return row;
        }
        f = row->first + row->frames;
    }
    return NULL;
}

__device__ static inline float4 cuda_quad(float v)
{
    return make_float4(v, v, v, v);
}

__device__ static inline float4 cuda_quad_add(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

__device__ static inline float4 cuda_quad_mul(float4 a, float4 b)
{
    return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

/* a b + c */
__device__ static inline float4 cuda_quad_fma(float4 a, float4 b, float4 c)
{
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}

__device__ static inline float4 cuda_quad_silu(float4 a)
{
    return make_float4(cuda_silu(a.x), cuda_silu(a.y), cuda_silu(a.z), cuda_silu(a.w));
}

/* ---- a warp has a panel of 16 channels: lane = 4 g + q has the channels 4q..4q+3 for the states that are g modulo 8 - */

#define CUDA_PANEL       16u
#define CUDA_PANEL_LANES 8u   /* lanes that share a channel's states */
#define CUDA_PANEL_CHUNK 128u /* states whose sums are added up before others are added to them */

/* The channel, of the panel, whose sum cuda_panel_sum gives this lane. */
__device__ static inline uint32_t cuda_panel_channel(uint32_t lane)
{
    uint32_t q = lane % 4, g = lane / 4;

    return q * 4 + g % 2 * 2 + g / 2 % 2;
}

/* Sums four channels over their lanes, near ones first: ((g0 + g1) + (g2 + g3)) + ((g4 + g5) + (g6 + g7)). Each exchange
 * halves what a lane still has to do with. */
__device__ static inline float cuda_panel_sum(float4 v, uint32_t lane)
{
    bool odd = lane & 4, second = lane & 8;
    float a = odd ? v.z : v.x, b = odd ? v.w : v.y, mine;

    a = a + __shfl_xor_sync(CUDA_LANES, odd ? v.x : v.z, 4);
    b = b + __shfl_xor_sync(CUDA_LANES, odd ? v.y : v.w, 4);
    mine = second ? b : a;
    mine = mine + __shfl_xor_sync(CUDA_LANES, second ? a : b, 8);
    return mine + __shfl_xor_sync(CUDA_LANES, mine, 16);
}
#endif

#endif
