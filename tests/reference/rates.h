/* SPDX-License-Identifier: Apache-2.0
 *
 * The layers that change the rate, and joins, as docs/MODELS.md defines them, over a whole sequence at once in plain
 * float64; and for every frame the last input frame of the model that it depends on, from the definitions alone.
 *
 * A track is a sequence long enough for what is asked of it: what it would need beyond its end is not made. Nothing is
 * shared with libssm.
 */
#ifndef TESTS_REFERENCE_RATES_H
#define TESTS_REFERENCE_RATES_H

#include <stdbool.h>
#include <stddef.h>

struct track {
    size_t T, channels;
    double *x;  /* (T, channels) */
    long *need; /* (T): the last input frame that it depends on; -1: none */
};

struct track track_new(size_t T, size_t channels);
void track_free(struct track *t);

/* Each returns a new track of what y can be made of. bias may be NULL. */
struct reference_strided {
    size_t in, out, kernel, stride, groups, dilation;
    bool causal;
    const float *weight, *bias; /* (out, in/groups, kernel), (out) */
};
struct track reference_strided(const struct reference_strided *c, const struct track *x);
/* weight (in, out, kernel) */
struct track reference_transposed(const float *weight, const float *bias, size_t in, size_t out, size_t kernel,
                                  size_t stride, const struct track *x);
/* weight (in, out, factor) */
struct track reference_downsample(const float *weight, size_t in, size_t out, size_t factor, const struct track *x);
struct track reference_upsample(const float *weight, size_t in, size_t out, size_t factor, const struct track *x);
/* a becomes a + b or a * b as far as both go. */
void reference_join(struct track *a, const struct track *b, bool multiply);

#endif
