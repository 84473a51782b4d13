/* SPDX-License-Identifier: Apache-2.0
 *
 * What a mamba2 layer keeps, and how one stream's state lies in memory.
 *
 * Letters: H heads of P channels, each in P16 lanes (P padded to 16); G groups of N states, N16 and N4 being N padded
 * to 16 and to 4; K taps. Lanes of the projected frame, in this order: z (H, P16), then what the convolution takes:
 * x (H, P16), B (G, N16), C (G, N16), then dt (H16).
 *
 * The state, all of it zero for a fresh stream:
 *     float past[K-1][x, B, C]      the last inputs of the convolution, oldest first
 *     float h[H][P16/16][N4][16]    16 channels of a head side by side, so that no sum crosses lanes
 */
#ifndef SSM_LAYERS_MAMBA2_H
#define SSM_LAYERS_MAMBA2_H

#include "ssm/layers/selective.h"

struct ssm_mamba2 {
    uint32_t heads, groups, state;         /* H, G, N */
    uint32_t head_dim, head_lanes;         /* P, P16 */
    uint32_t state_lanes, state_padded;    /* N16, N4 */
    uint32_t inner_lanes, dt_lanes, lanes; /* H P16, H16, and all lanes of a projected frame */
    bool rms_norm, norm_before_gate;
    float eps;
    float dt_min, dt_max;       /* dt_max may be infinite */
    struct ssm_linear in_proj;  /* (lanes, dim); the bias of dt holds dt_bias */
    struct ssm_window window;   /* over x, B, C */
    struct ssm_linear out_proj; /* (dim, H P16) */
    float *rate;                /* (H16): -exp(A_log) log2(e) */
    float *d;                   /* (H) */
    float *norm;                /* (H, P16); NULL without rms_norm */
};

#endif
