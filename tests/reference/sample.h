/* SPDX-License-Identifier: Apache-2.0
 *
 * Sampling by its definition (ssm/sample.h): everything in float64, everything sorted, every option a list that the one
 * before left. What the library's selection without sorting is held against.
 */
#ifndef TESTS_REFERENCE_SAMPLE_H
#define TESTS_REFERENCE_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "ssm/sample.h"

/* order[i]: the i-th most probable token; logprobs[token] of every one. Both have `vocab` elements. */
void reference_top(const float *logits, uint32_t vocab, uint32_t *order, double *logprobs);

/* The probability with which every token is drawn. */
void reference_probabilities(const struct ssm_sampling *s, const int32_t *recent, uint32_t recent_n,
                             const float *logits, uint32_t vocab, double *out);

#endif
