/* SPDX-License-Identifier: Apache-2.0
 *
 * What residual, add and multiply do to activations (ssm/cpu/join.c gives the meaning). cuda/graph.cu runs the branches
 * and calls these.
 */
#ifndef CUDA_JOIN_CUH
#define CUDA_JOIN_CUH

#include "cuda/kind.cuh"

enum cuda_joining { CUDA_TAKE, CUDA_ADD, CUDA_MULTIPLY }; /* y = x, y += x, y *= x */

/* All frames of the span. */
cudaError_t cuda_join_same(enum cuda_joining how, const struct cuda_span *span, uint32_t channels, const float *x,
                           float *y, cudaStream_t stream);
/* One side of layer->join, whose frames at the side's clock are x, into y at layer->out_clock; its last frames pass into
 * its ring in the state. */
cudaError_t cuda_join_side(const struct ssm_layer *layer, const struct cuda_tile *tile, uint32_t side,
                           enum cuda_joining how, const float *x, float *y);
/* Sides 0 and 1 in one pass: what CUDA_TAKE of x0 and then `how` of x1 give, with 3 units of bytes moved in place of 5. */
cudaError_t cuda_join_pair(const struct ssm_layer *layer, const struct cuda_tile *tile, enum cuda_joining how,
                           const float *x0, const float *x1, float *y);

#endif
