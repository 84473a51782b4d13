/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba2 on the device: what its kernels are given.
 *
 *     h[p,n] <- h[p,n] + (exp2(dt rate) - 1) h[p,n] + dt B[n] x[p];   y[p] = sum over n of C[n] h[p,n] + D x[p]
 *
 * Lanes of a projected frame are as ssm/layers/mamba2.h says; x, B and C of `mixed` are those behind the convolution.
 */
#ifndef CUDA_MAMBA2_CUH
#define CUDA_MAMBA2_CUH

#include "cuda/selective.cuh"
#include "ssm/layers/mamba2.h"

struct mamba2_system {
    uint32_t heads, groups, states;     /* H, G, N */
    uint32_t head_lanes;                /* P16 */
    uint32_t state_lanes, state_padded; /* N16, N4 */
    uint32_t inner, window, lanes;      /* H P16; x, B and C; all lanes of a projected frame */
    uint32_t dt;                        /* where dt begins among these */
    uint32_t offset;                    /* of h in a row's state, in bytes */
    float dt_min, dt_max;
    const float *rate, *d; /* (H) */
};

struct mamba2_signal {
    const float *all;   /* (frames, lanes) */
    const float *mixed; /* (frames, window) */
    float *y;           /* (frames, H P16) */
};

/* Of whole blocks: what each leaves when it begins with zeros, (slots, H, P16/16, N4, 16), which becomes the state that
 * enters it; the sum of its dt, (slots, H); and C of frame t times B of frame s, (slots, G, s, t). */
struct mamba2_blocks {
    float *state, *dt, *products;
};

/* Before the rows go by: products, and what blocks leave. */
cudaError_t cuda_mamba2_leave(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                              const struct mamba2_blocks *blocks, const struct cuda_span *span, cudaStream_t stream);
/* After that: their outputs. */
cudaError_t cuda_mamba2_finish(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                               const struct mamba2_blocks *blocks, const struct cuda_span *span, cudaStream_t stream);

__device__ static inline float mamba2_dt(const struct mamba2_system *sys, const struct mamba2_signal *sig, size_t frame,
                                         uint32_t head)
{
    return cuda_min(sys->dt_max, cuda_max(sys->dt_min, cuda_softplus(sig->all[frame * sys->lanes + sys->dt + head])));
}

/* Where B of a head's group begins in a frame of `mixed`; C is G N16 lanes behind. */
__device__ static inline uint32_t mamba2_group_lane(const struct mamba2_system *sys, uint32_t head)
{
    return sys->inner + head / (sys->heads / sys->groups) * sys->state_lanes;
}

__device__ static inline float *mamba2_block_state(const struct mamba2_system *sys, const struct mamba2_blocks *blocks,
                                                   uint32_t slot, uint32_t head)
{
    return blocks->state + ((size_t)slot * sys->inner + head * sys->head_lanes) * sys->state_padded;
}

#endif
