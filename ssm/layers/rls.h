/* SPDX-License-Identifier: Apache-2.0
 *
 * What the on-line forecaster knows, and how one stream's state lies in memory.
 *
 * Letters: K features (the layer's input channels), n = K + 1 (the last feature is the constant 1), h horizon,
 * ld = n rounded up to 8 so that rows of float64 fill cache lines.
 *
 * The state, all of it zero for a fresh stream, one part after another:
 *     double root[n][ld]          S with P = S S'; columns n..ld-1 stay 0
 *     double weights[targets][ld] W; columns n..ld-1 stay 0
 *     double means[targets][2]    running means of the squared error: short, long
 *     float  features[h][K]       ring: the features of frame t lie at t mod h until t + h
 *     float  issued[h][targets]   ring: the predictions that left at t, for t + h
 */
#ifndef SSM_LAYERS_RLS_H
#define SSM_LAYERS_RLS_H

#include <stddef.h>
#include <stdint.h>

#define SSM_RLS_FEATURES_MAX 1024 /* the cost grows with its square */
#define SSM_RLS_TARGETS_MAX  256
#define SSM_RLS_STATE_MAX    (1u << 28) /* bytes */
#define SSM_RLS_LD(n)        (((n) + 7u) & ~7u)
#define SSM_RLS_LD_MAX       SSM_RLS_LD(SSM_RLS_FEATURES_MAX + 1u)

struct ssm_rls {
    uint32_t inputs; /* channels of the model's input; the first `targets` of them are forecast */
    uint32_t targets, features, horizon;
    uint32_t n, ld;
    double forgetting;     /* l */
    double regularization; /* d */
    double pull;           /* r = sqrt((1-l) n d), of the regularising step */
    double short_frames, long_frames;
    size_t weights_at, means_at, features_at, issued_at; /* bytes from the start of the state */
};

#endif
