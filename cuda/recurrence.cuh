/* SPDX-License-Identifier: Apache-2.0
 *
 * A state that goes through a dense matrix from frame to frame: what rnn, gru, lstm, lti and hippo have in common.
 *
 *     h <- cell(in, W h + bias, h),   h (H), W (G*H, H)
 *
 * The frames of a row follow one another on the device, without a launch between them. A row may have several channels,
 * each with an h of its own and the same W (hippo).
 */
#ifndef CUDA_RECURRENCE_CUH
#define CUDA_RECURRENCE_CUH

#include "cuda/kind.cuh"
#include "ssm/matrix.h"

enum cuda_cell {
    CUDA_CELL_RNN,    /* G = 1: h <- tanh(in + Wh) */
    CUDA_CELL_LINEAR, /* G = 1: h <- h + (in + Wh), W less the identity: a slow mode keeps its difference from 1 */
    CUDA_CELL_GRU,    /* G = 3: r, z, n; the reset gate stands before the recurrent part of n, its bias included */
    CUDA_CELL_LSTM    /* G = 4: i, f, g, o; the state is h, then c */
};

struct cuda_recurrence {
    enum cuda_cell cell;
    uint32_t units, gates; /* H, G */
    uint32_t shared;       /* bytes of shared memory that a block can have */
    const float4 *weights; /* device: (ceil(H/16), G*H, 16), zeros beyond H */
    const float *bias;     /* device: (G*H), or NULL */
};

/* hidden (G*H, H); bias (G*H) or NULL. */
void cuda_recurrence_build(struct cuda_build *b, enum cuda_cell cell, const struct ssm_matrix *hidden,
                           const float *bias, struct cuda_recurrence *out);

/* Rows through it. Of a frame, channel c: in is in[frame * in_stride + c * in_channel + (0..G*H)], or with `factor`
 * (H) in[frame * in_stride + c * in_channel] * factor; h goes to out[frame * out_stride + c * H + (0..H)], and may
 * replace the in that it comes from. The state of channel c lies at (c, H) in the layer's. */
struct cuda_recurrence_run {
    const struct cuda_span *span;
    uint32_t state_offset, channels;
    const float *in;
    size_t in_stride, in_channel;
    const float *factor;
    float *out;
    size_t out_stride;
};

cudaError_t cuda_recurrence_launch(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                   cudaStream_t stream);

#endif
