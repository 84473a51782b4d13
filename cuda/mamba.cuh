/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba on the device: what its kernels are given, and the arithmetic that they share, so that a stream has the same
 * bits whichever of them its frames come to.
 *
 *     dt[c] = softplus(bias[c] + sum over r of w[c,r] mixed[r])
 *     h[c,n] <- h[c,n] + (exp2(dt[c] rate[c,n]) - 1) h[c,n] + dt[c] u[c] B[n];   y[c] = sum over n of C[n] h[c,n]
 *     y[c] <- (y[c] + D[c] u[c]) silu(z[c])
 *
 * BITS     dt: one chain over the first half of the ranks, beginning with the bias, one over the second, then both.
 *          y: state n belongs to lane n % 8; a lane's states in index order, then the lanes, near ones first, then
 *          chunks of 128 states in index order.
 */
#ifndef CUDA_MAMBA_CUH
#define CUDA_MAMBA_CUH

#include "cuda/selective.cuh"
#include "ssm/layers/mamba.h"

struct mamba_system {
    uint32_t lanes, states, rank; /* L, N, R */
    uint32_t mixed_stride;        /* R + 2N, padded to whole quads */
    uint32_t offset;              /* of h in a row's state, in bytes */
    const float *rate;            /* (L/16, N, 16) */
    const float *d;               /* (L) */
    const float *dt_weight;       /* (L/16, ceil(R/4), 16, 4) */
    const float *dt_bias;         /* (L) */
};

/* Activations: xz (frames, 2L), mixed (frames, mixed_stride): dt, B, C; u (frames, L), which becomes y. */
struct mamba_signal {
    const float *xz, *mixed;
    float *u;
};

/* Of whole blocks that are taken side by side: what each leaves when it begins with zeros, (slots, L/16, N, 16), which
 * becomes the state that enters it; the sum of its dt, (slots, L). */
struct mamba_blocks {
    float *state, *dt;
};

/* Whether cuda_mamba_step takes them: what a block shares has room. */
bool cuda_mamba_steps(const struct mamba_system *sys);
/* Rows of one frame, all of them. */
cudaError_t cuda_mamba_step(const struct mamba_system *sys, const struct mamba_signal *sig,
                            const struct cuda_span *span, cudaStream_t stream);
/* Rows of any number of frames. blocks->state NULL: those of a row follow one another. */
cudaError_t cuda_mamba_rows(const struct mamba_system *sys, const struct mamba_signal *sig,
                            const struct mamba_blocks *blocks, const struct cuda_tile *tile,
                            const struct cuda_span *span);

/* 2^x - 1 for x <= 0. From -1/2 on a polynomial, which keeps the digits near 0; below, where 2^x and 1 are far enough
 * apart, the special function unit. 4 units of 2^-24 of the result on the polynomial's side, 8 on the other: as good as
 * cuda_exp2m1 for half the instructions, of which the scan has one for each state and frame. */
__device__ static inline float mamba_change(float x)
{
    float q = fmaf(x, 0x1.2ea1fcp-10f, 0x1.38a612p-7f), far = cuda_exp2(x) - 1;

    q = fmaf(x, q, 0x1.c693d2p-5f);
    q = fmaf(x, q, 0x1.ebfb6cp-3f);
    q = fmaf(x, q, 0x1.62e430p-1f);
    return x < -0.5f ? far : x * q;
}

__device__ static inline float mamba_advance(float h, float change, float drive, float b)
{
    return fmaf(drive, b, fmaf(change, h, h));
}

/* The state after a block, of what entered it, its rate times the sum of its dt, and what it leaves from zero. */
__device__ static inline float mamba_carry(float h, float exponent, float left)
{
    return fmaf(mamba_change(exponent), h, h) + left;
}

__host__ __device__ static inline uint32_t mamba_rank_quads(const struct mamba_system *sys)
{
    return (sys->rank + 3) / 4;
}

/* Ranks 4i..4i+3 of a frame, zeros beyond the last, where the frame has other numbers. */
__device__ static inline float4 mamba_rank_load(const struct mamba_system *sys, const float *mixed, uint32_t i)
{
    float4 v = reinterpret_cast<const float4 *>(mixed)[i];

    if (i * 4 + 4 > sys->rank) {
        v.y = i * 4 + 1 < sys->rank ? v.y : 0;
        v.z = i * 4 + 2 < sys->rank ? v.z : 0;
        v.w = 0;
    }
    return v;
}

__device__ static inline float mamba_rank_sum(float4 w, float4 r, float sum)
{
    return fmaf(w.w, r.w, fmaf(w.z, r.z, fmaf(w.y, r.y, fmaf(w.x, r.x, sum))));
}

/* Part 0 or 1 of a channel's dt before softplus, for F frames that are `apart` floats of `mixed` from one another.
 * weight: the channel's first, of (ceil(R/4), 16) quads. */
template <uint32_t F>
__device__ static inline void mamba_dt_part(const struct mamba_system *sys, const float4 *weight, float bias,
                                            const float *mixed, size_t apart, uint32_t part, float *sum)
{
    uint32_t quads = mamba_rank_quads(sys), half = (quads + 1) / 2, from = part ? half : 0, to = part ? quads : half;

#pragma unroll
    for (uint32_t f = 0; f < F; f++)
        sum[f] = part ? 0 : bias;
#pragma unroll(F == 1 ? 4 : F == 2 ? 3 : 1)
    for (uint32_t i = from; i < to; i++) {
        float4 w = weight[i * CUDA_PANEL];

#pragma unroll
        for (uint32_t f = 0; f < F; f++)
            sum[f] = mamba_rank_sum(w, mamba_rank_load(sys, mixed + f * apart, i), sum[f]);
    }
}

/* What leaves the layer's recurrence, of the sum over states. */
__device__ static inline float mamba_finish(float sum, float d, float u, float z)
{
    return fmaf(d, u, sum) * cuda_silu(z);
}

#endif
