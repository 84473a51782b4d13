/* SPDX-License-Identifier: Apache-2.0
 *
 * What mamba and mamba2 share: projections and tensors spread over whole vectors of 16 lanes, and the short causal
 * convolution with silu in front of the recurrence.
 *
 * Inside these layers every part (x, z, B, C, dt, a head) begins at a multiple of 16 lanes and ends with lanes that
 * hold nothing: their weights are 0, so they are 0 from frame to frame and add nothing to any sum. Kernels need no
 * other code for what is left of a part.
 *
 * Letters: L lanes of a part, I inner channels, K taps, N state, R rank of dt.
 */
#ifndef SSM_LAYERS_SELECTIVE_H
#define SSM_LAYERS_SELECTIVE_H

#include "ssm/layers/projection.h"

#define SSM_SELECTIVE_STATE_MAX   4096u      /* N */
#define SSM_SELECTIVE_CONV_MAX    1024u      /* K */
#define SSM_SELECTIVE_SCRATCH_MAX (1u << 26) /* floats */

/* How the stored channels of a tensor lie in lanes: `count` stretches of `length` channels, each in `lanes` lanes. A
 * list of them ends with count 0. */
struct ssm_spread {
    uint32_t count, length, lanes;
};

enum ssm_bias { SSM_BIAS_NONE, SSM_BIAS_IF_PRESENT, SSM_BIAS_REQUIRED };

/* y = silu(bias + sum over k of taps[k] x[t-(K-1)+k]), depthwise. State: the last K-1 frames, oldest first, (K-1, L).
 */
struct ssm_window {
    uint32_t kernel; /* K */
    uint32_t lanes;  /* L */
    float *taps;     /* (K, L), oldest first */
    float *bias;     /* (L) */
};

/* The lanes and the channels of a whole list. */
uint32_t ssm_spread_lanes(const struct ssm_spread *spread);
uint32_t ssm_spread_channels(const struct ssm_spread *spread);

/* inner = expand * dim, which must be whole; expand is 2 when the key is absent. */
int ssm_selective_inner(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, uint32_t dim,
                        uint32_t *inner);

/* A vector "<layer>.<suffix>" over lanes, (L+16). */
int ssm_spread_take(struct ssm_build *b, const struct ssm_layer *l, const char *suffix, const struct ssm_spread *spread,
                    float **out);
/* ssm_projection_take over lanes: "<layer>.<prefix>.weight" (out, in) and "<layer>.<prefix>.bias" (out). */
int ssm_projection_spread(struct ssm_build *b, const struct ssm_layer *l, const char *prefix,
                          const struct ssm_spread *out, const struct ssm_spread *in, enum ssm_bias bias,
                          struct ssm_linear *p);
/* "<layer>.conv1d.weight" (channels, 1, kernel), and "<layer>.conv1d.bias" if present; w->kernel is set. */
int ssm_window_take(struct ssm_build *b, const struct ssm_layer *l, const struct ssm_spread *spread,
                    struct ssm_window *w);
void ssm_window_fini(struct ssm_window *w);

/* -exp(a_log) log2(e), whose product with dt is the exponent of two that a state decays by. NaN when that is not finite
 * in float32. */
float ssm_selective_rate(float a_log);

/* Sets state_bytes and scratch_floats from counts of floats, if they may be so large. */
int ssm_selective_size(struct ssm_build *b, struct ssm_layer *l, uint64_t state, uint64_t scratch);

#endif
