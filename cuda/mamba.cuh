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
    uint32_t lanes, states; /* L, N */
    uint32_t rank;          /* R, padded to whole quads: what is beyond R is 0 */
    uint32_t mixed_stride;  /* rank + 2N, likewise */
    uint32_t offset;        /* of h in a row's state, in bytes */
    const float *rate;      /* (L/16, N, 16) */
    const float *d;         /* (L) */
    const float *dt_weight; /* (L/16, rank/4, 16, 4) */
    const float *dt_bias;   /* (L) */
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

/* Rows of one frame, all of them. */
cudaError_t cuda_mamba_step(const struct mamba_system *sys, const struct mamba_signal *sig,
                            const struct cuda_span *span, cudaStream_t stream);
/* Rows of more than one frame. blocks->state NULL: those of a row follow one another. */
cudaError_t cuda_mamba_rows(const struct mamba_system *sys, const struct mamba_signal *sig,
                            const struct mamba_blocks *blocks, const struct cuda_tile *tile,
                            const struct cuda_span *span);

/* ---- exponentials: the scan is bound by instructions, so these lean on the special function unit --------------------- */

/* 2^x - 1 for x <= 0. From -1/2 on a polynomial, which keeps the digits near 0; below, where 2^x and 1 are far enough
 * apart, the special function unit. 3 units of 2^-24 of the result on the polynomial's side, 8 on the other: as good as
 * cuda_exp2m1 for two thirds of the instructions, of which the scan has one for each state and frame. */
__device__ static inline float mamba_change(float x)
{
    float q = fmaf(x, 0x1.2ea1fcp-10f, 0x1.38a612p-7f);

    q = fmaf(x, q, 0x1.c693d2p-5f);
    q = fmaf(x, q, 0x1.ebfb6cp-3f);
    q = x * fmaf(x, q, 0x1.62e430p-1f);
    return x < -0.5f ? cuda_exp2(x) - 1 : q;
}

/* a / b to 3 units of 2^-24; 0 where b is beyond 2^126. */
__device__ static inline float mamba_quotient(float a, float b)
{
#ifdef __CUDA_ARCH__
    float r;

    asm("div.approx.ftz.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
#else
    return a / b;
#endif
}

/* v / (1 + exp(-v)): errs by 5 units of 2^-24 of itself, and below 0 of 1. */
__device__ static inline float mamba_silu(float v)
{
    return mamba_quotient(v, 1 + cuda_exp2(v * -CUDA_LOG2E));
}

/* cuda_softplus, with exp(-|v|) = 2^x (1 + rest ln 2), rest being what the product x lost: 8 units of 2^-24 of the
 * result. */
__device__ static inline float mamba_softplus(float v)
{
    float x = fabsf(v) * -CUDA_LOG2E, rest = fmaf(fabsf(v), -0x1.4ae0cp-26f, fmaf(fabsf(v), -CUDA_LOG2E, -x));
    float u = cuda_exp2(x), s, square, sum;

    u = fmaf(u * 0x1.62e430p-1f, rest, u);
    s = mamba_quotient(u, 2 + u);
    square = s * s;
    sum = fmaf(square, 0.14005993f, 0.14000903f);
    sum = fmaf(square, sum, 0.20010763f);
    sum = fmaf(square, sum, 0.33333209f);
    s = s + s;
    return cuda_max(0, v) + fmaf(s * square, sum, s);
}

/* ---- the recurrence -------------------------------------------------------------------------------------------------- */

__device__ static inline float mamba_advance(float h, float change, float drive, float b)
{
    return fmaf(drive, b, fmaf(change, h, h));
}

/* The state after a block, of what entered it, its rate times the sum of its dt, and what it leaves from zero. */
__device__ static inline float mamba_carry(float h, float exponent, float left)
{
    return fmaf(mamba_change(exponent), h, h) + left;
}

/* Part 0 or 1 of a channel's dt before softplus, for F frames that are `apart` floats of `mixed` from one another. AHEAD:
 * quads of ranks that are under way at once. */
template <uint32_t F, uint32_t AHEAD>
__device__ static inline void mamba_dt_part(const struct mamba_system *sys, uint32_t channel, const float *mixed,
                                            uint32_t apart, uint32_t part, float *sum)
{
    uint32_t quads = sys->rank / 4, half = (quads + 1) / 2, count = part ? quads - half : half;
    const float4 *weight = reinterpret_cast<const float4 *>(sys->dt_weight) + channel % CUDA_PANEL +
                           ((size_t)(channel / CUDA_PANEL) * quads + part * half) * CUDA_PANEL;

    mixed += part * half * 4;
#pragma unroll
    for (uint32_t f = 0; f < F; f++)
        sum[f] = part ? 0 : sys->dt_bias[channel];
#pragma unroll(AHEAD)
    for (uint32_t i = 0; i < count; i++, weight += CUDA_PANEL, mixed += 4) {
        float4 w = __ldg(weight);

#pragma unroll
        for (uint32_t f = 0; f < F; f++) {
            float4 r = __ldg(reinterpret_cast<const float4 *>(mixed + f * apart));

            sum[f] = fmaf(w.w, r.w, fmaf(w.z, r.z, fmaf(w.y, r.y, fmaf(w.x, r.x, sum[f]))));
        }
    }
}

/* What leaves the layer's recurrence, of the sum over states. */
__device__ static inline float mamba_finish(float sum, float d, float u, float z)
{
    return fmaf(d, u, sum) * mamba_silu(z);
}

#endif
