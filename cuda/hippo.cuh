/* SPDX-License-Identifier: Apache-2.0
 *
 * The time-varying legs, which cuda/hippo_legs.cu steps for cuda/hippo.cu.
 */
#ifndef CUDA_HIPPO_CUH
#define CUDA_HIPPO_CUH

#include "cuda/kind.cuh"

struct cuda_legs {
    uint32_t channels, order; /* order at most 1024 */
    int how;                  /* enum ssm_discretization */
    uint32_t state_offset;
};

/* u (frames, channels) to y (frames, channels, order). */
cudaError_t cuda_legs_launch(const struct cuda_legs *legs, const struct cuda_span *span, const float *u, float *y,
                             cudaStream_t stream);

#endif
