/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention over the first S and the last W frames as docs/MODELS.md defines it, over a whole sequence at once, in
 * plain float64 and for reading: no cache and no ring, every frame picks its positions out of all of them.
 */
#ifndef TESTS_REFERENCE_ATTENTION_H
#define TESTS_REFERENCE_ATTENTION_H

#include <stddef.h>

struct reference_projection {
    const float *weight; /* (out, in) */
    const float *bias;   /* (out), or NULL */
};

struct reference_attention {
    size_t dim, heads, kv_heads, head_dim, window, sinks;
    double rope_theta; /* 0: no positions */
    struct reference_projection q, k, v, o;
};

/* x, y (T, dim). Returns 0, or -1 when there is no memory. */
int reference_attention(const struct reference_attention *a, const double *x, size_t T, double *y);

#endif
