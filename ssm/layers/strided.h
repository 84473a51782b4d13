/* SPDX-License-Identifier: Apache-2.0
 *
 * What conv1d, conv_transpose1d, downsample and upsample share: a matrix over a window of the input that moves on by a
 * stride, each place of the window giving one output frame, or several (phases).
 *
 *     place j sees the input frames j * stride - before + k * dilation, k < kernel (0 before the first one), and gives
 *     the output frames j * phases + p, p < phases
 *
 *                       kernel                     stride   phases   before
 *     conv1d            kernel                     stride   1        (kernel - 1) * dilation if causal, 0 if valid
 *     conv_transpose1d  ceil(kernel / stride)      1        stride   kernel here - 1
 *     downsample        factor                     factor   1        0
 *     upsample          1                          1        factor   0
 *
 * State: the last `past` input frames, oldest first, (past, in).
 */
#ifndef SSM_LAYERS_STRIDED_H
#define SSM_LAYERS_STRIDED_H

#include "ssm/layers/params.h"

struct ssm_strided {
    uint32_t kernel, stride, dilation, groups, phases;
    uint32_t past;            /* (kernel - 1) * dilation */
    uint32_t before;          /* past or 0 */
    struct ssm_matrix *group; /* one (phases * out/groups, kernel * in/groups) each, oldest frame first; NULL when
                                 depthwise; phases > 1 only with one group */
    float *taps;              /* depthwise (groups = in = out, one phase): (kernel, in) */
    float *bias;              /* (phases * out, +16), the layer's over and over; zeros without one */
};

/* Sets past, the layer's state, scratch and clock from p, whose kernel, stride, dilation, groups and phases are set. */
int ssm_strided_init(struct ssm_build *b, struct ssm_layer *l, struct ssm_strided *p, bool causal);
/* Packs the matrices from rows (groups, phases * out/groups, kernel * in/groups; NULL: there was no memory), which it
 * frees, and the bias. */
int ssm_strided_pack(struct ssm_build *b, struct ssm_layer *l, struct ssm_strided *p, float *rows, bool bias);
void ssm_strided_fini(struct ssm_layer *l);

#endif
