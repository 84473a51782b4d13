/* SPDX-License-Identifier: Apache-2.0
 *
 * The blocks of Mamba-1 and Mamba-2 as docs/MODELS.md defines them, over a whole sequence, in plain float64 and for
 * reading. Tensors are as stored; biases may be NULL but dt_proj's and dt_bias. x and y are (T, dim).
 */
#ifndef TESTS_REFERENCE_SELECTIVE_H
#define TESTS_REFERENCE_SELECTIVE_H

#include <stdbool.h>
#include <stddef.h>

struct reference_mamba {
    size_t dim, inner, state, conv, dt_rank;
    const float *in_weight, *in_bias;     /* (2 inner, dim) */
    const float *conv_weight, *conv_bias; /* (inner, 1, conv) */
    const float *x_weight;                /* (dt_rank + 2 state, inner) */
    const float *dt_weight, *dt_bias;     /* (inner, dt_rank) */
    const float *A_log, *D;               /* (inner, state), (inner) */
    const float *out_weight, *out_bias;   /* (dim, inner) */
};
void reference_mamba(const struct reference_mamba *m, const double *x, size_t T, double *y);

struct reference_mamba2 {
    size_t dim, heads, head_dim, groups, state, conv;
    double eps, dt_min, dt_max;
    bool rms_norm, norm_before_gate;
    const float *in_weight, *in_bias;     /* (2 inner + 2 groups state + heads, dim), inner = heads head_dim */
    const float *conv_weight, *conv_bias; /* (inner + 2 groups state, 1, conv) */
    const float *dt_bias, *A_log, *D;     /* (heads) */
    const float *norm_weight;             /* (inner) */
    const float *out_weight, *out_bias;   /* (dim, inner) */
};
void reference_mamba2(const struct reference_mamba2 *m, const double *x, size_t T, double *y);

#endif
