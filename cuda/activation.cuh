/* SPDX-License-Identifier: Apache-2.0
 *
 * The functions of enum ssm_activation_fn, for kernels that put one behind what they compute.
 */
#ifndef CUDA_ACTIVATION_CUH
#define CUDA_ACTIVATION_CUH

#include "cuda/math.cuh"
#include "ssm/layers/params.h"

/* The bits are those of the layer `activation`. */
__device__ static inline float cuda_activate(enum ssm_activation_fn fn, float v)
{
    switch (fn) {
    case SSM_RELU:
        return cuda_max(0, v);
    case SSM_GELU:
        return cuda_gelu(v);
    case SSM_GELU_TANH:
        return cuda_gelu_tanh(v);
    case SSM_SILU:
        return cuda_silu(v);
    case SSM_TANH:
        return cuda_tanh(v);
    case SSM_SIGMOID:
        return cuda_sigmoid(v);
    case SSM_SOFTPLUS:
        return cuda_softplus(v);
    }
    return v;
}

#endif
