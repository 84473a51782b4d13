/* SPDX-License-Identifier: Apache-2.0
 *
 * See sample.h.
 */
#include "tests/reference/sample.h"

#include <math.h>
#include <stdlib.h>

static const double *sort_values; /* of the running sort: one thread */

static int order_compare(const void *a, const void *b)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;

    if (sort_values[i] != sort_values[j])
        return sort_values[i] > sort_values[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

static void order_fill(const double *values, uint32_t n, uint32_t *order)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    sort_values = values;
    qsort(order, n, sizeof(*order), order_compare);
}

void reference_top(const float *logits, uint32_t vocab, uint32_t *order, double *logprobs)
{
    double sum = 0, most;

    for (uint32_t i = 0; i < vocab; i++)
        logprobs[i] = (double)logits[i];
    order_fill(logprobs, vocab, order);
    most = logprobs[order[0]];
    for (uint32_t i = 0; i < vocab; i++)
        sum += exp(logprobs[i] - most);
    for (uint32_t i = 0; i < vocab; i++)
        logprobs[i] -= most + log(sum);
}

void reference_probabilities(const struct ssm_sampling *s, const int32_t *recent, uint32_t recent_n,
                             const float *logits, uint32_t vocab, double *out)
{
    uint32_t *order = malloc(vocab * sizeof(*order)), n = vocab, kept = 0;
    double *value = malloc(vocab * sizeof(*value)), sum = 0, reached = 0;

    for (uint32_t i = 0; i < vocab; i++) {
        bool is_recent = false;

        value[i] = (double)logits[i];
        for (uint32_t k = 0; k < recent_n && k < s->repetition_window; k++)
            is_recent |= recent[recent_n - 1 - k] == (int32_t)i;
        if (is_recent)
            value[i] =
                value[i] > 0 ? value[i] / (double)s->repetition_penalty : value[i] * (double)s->repetition_penalty;
        out[i] = 0;
    }
    order_fill(value, vocab, order);
    if (s->temperature <= 0) {
        out[order[0]] = 1;
        goto out;
    }
    if (s->top_k > 0 && s->top_k < n)
        n = s->top_k;
    for (uint32_t i = 0; i < n; i++) {
        out[order[i]] = exp((value[order[i]] - value[order[0]]) / (double)s->temperature);
        sum += out[order[i]];
    }
    while (kept < n && (kept == 0 || s->top_p >= 1 || reached < (double)s->top_p * sum))
        reached += out[order[kept++]];
    for (uint32_t i = 0; i < n; i++)
        if (i >= kept || out[order[i]] < (double)s->min_p * out[order[0]])
            out[order[i]] = 0;
    sum = 0;
    for (uint32_t i = 0; i < vocab; i++)
        sum += out[i];
    for (uint32_t i = 0; i < vocab; i++)
        out[i] /= sum;
out:
    free(order);
    free(value);
}
