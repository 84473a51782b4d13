/* SPDX-License-Identifier: Apache-2.0
 *
 * What a mamba layer keeps, and how one stream's state lies in memory.
 *
 * Letters: I inner channels, L lanes (I padded to 16), N state, R rank of dt, K taps.
 *
 * The state, all of it zero for a fresh stream:
 *     float past[K-1][L]      the last inputs of the convolution, oldest first
 *     float h[L/16][N][16]    16 channels side by side, so that no sum crosses lanes
 */
#ifndef SSM_LAYERS_MAMBA_H
#define SSM_LAYERS_MAMBA_H

#include "ssm/layers/selective.h"

struct ssm_mamba {
    uint32_t lanes, state, rank; /* L, N, R */
    struct ssm_linear in_proj;   /* (2L, dim): x, z */
    struct ssm_window window;    /* over L */
    struct ssm_linear x_proj;    /* (R + 2N, L): dt, B, C */
    struct ssm_linear dt_proj;   /* (L, R) */
    struct ssm_linear out_proj;  /* (dim, L) */
    float *rate;                 /* (L/16, N, 16): -exp(A_log) log2(e) */
    float *d;                    /* (L) */
};

#endif
