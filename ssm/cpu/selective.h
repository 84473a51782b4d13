/* SPDX-License-Identifier: Apache-2.0
 * What the kernels of mamba and mamba2 share: the projections, and the convolution in front of the recurrence. */
#ifndef SSM_CPU_SELECTIVE_H
#define SSM_CPU_SELECTIVE_H

#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vmath.h"
#include "ssm/layers/selective.h"

static inline void selective_project(const struct ssm_linear *p, const float *x, size_t x_stride, float *y,
                                     size_t y_stride, uint32_t frames)
{
    SSM_CPU(ssm_cpu_matrix)(&p->weight, p->bias, false, x, x_stride, y, y_stride, frames);
}

/* A row's frames through convolution and silu, in place; `past`, the last K-1 inputs of the stream, becomes those after
 * the row.
 *
 * SHAPES   past: (K-1, L); line: (K-1+frames, L), scratch; x: (frames, L), frames `stride` floats apart.
 * BITS     every output sums its K taps, oldest first, wherever the cuts were. */
static inline void selective_window(const struct ssm_window *w, float *past, float *line, float *x, size_t stride,
                                    uint32_t frames)
{
    size_t L = w->lanes, kept = (w->kernel - 1) * L;

    memcpy(line, past, kept * sizeof(*line));
    for (size_t t = 0; t < frames; t++)
        memcpy(line + kept + t * L, x + t * stride, L * sizeof(*line));
    memcpy(past, line + frames * L, kept * sizeof(*past));
    for (size_t t = 0; t < frames; t++)
        for (size_t i = 0; i < L; i += V16) {
            const float *from = line + t * L + i, *tap = w->taps + i;
            v16 sum = v16_load(w->bias + i);

            for (uint32_t k = 0; k < w->kernel; k++, from += L, tap += L)
                sum = v16_fma(v16_load(tap), v16_load(from), sum);
            v16_store(x + t * stride + i, v16_silu(sum));
        }
}

#endif
