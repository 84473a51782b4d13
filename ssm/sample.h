/* SPDX-License-Identifier: Apache-2.0
 *
 * From the logits of a token model to tokens: the k most probable with their log-probabilities, and one drawn at random
 * under the usual options.
 *
 * A drawn token is a function of the options, the recent tokens, the logits and the position, and of nothing else: the
 * random number of position n is Philox4x32-10 of (seed, n), so that any position may be drawn again, alone, and a
 * sequence may be interrupted anywhere. Sums run in float64 in the order of the tokens. Of equal logits the lower token
 * comes first, everywhere.
 *
 * Threads: everything is reentrant; a sampler and a scratch belong to one thread at a time.
 * Memory: the caller's, and fixed; nothing here allocates.
 */
#ifndef SSM_SAMPLE_H
#define SSM_SAMPLE_H

#include "ssm/ssm.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SSM_TOP_MAX    1024 /* most probable tokens that can be asked for */
#define SSM_RECENT_MAX 1024 /* longest window of the repetition penalty */

struct ssm_top {
    int32_t token;
    float logprob; /* natural logarithm of softmax over the whole vocabulary */
};

/* The k most probable tokens, falling: 1 <= k <= SSM_TOP_MAX and <= vocab. SSM_NONFINITE when a logit is not finite;
 * *out is then undefined. COST two passes and k log k; the exponentials are most of it. */
SSM_API SSM_MUST_CHECK int ssm_top_k(const float *logits, uint32_t vocab, uint32_t k, struct ssm_top *out);

/* How a token is drawn. The options apply in the order in which they stand here, which is that of transformers
 * (llama.cpp applies the temperature last by default): each sees what the one before it left, renormalised. */
struct ssm_sampling {
    float repetition_penalty; /* > 0, 1 for none: logits of recent tokens are divided by it, negative ones multiplied */
    uint32_t repetition_window; /* recent tokens that count, each once; at most SSM_RECENT_MAX */
    float temperature;          /* >= 0: logits are divided by it; 0: the most probable token, and no more options */
    uint32_t top_k;             /* the k most probable; 0 for all */
    float top_p;                /* 0 < p <= 1: the fewest most probable whose probabilities reach p; 1 for all */
    float min_p;                /* 0 <= p <= 1: those of at least p times the most probable's; 0 for all */
    uint64_t seed;
};

/* Temperature 1, no filter, no penalty, a window of 64, seed 0. */
SSM_API void ssm_sampling_init(struct ssm_sampling *out);
/* SSM_INVAL, and err (may be NULL) names the option and its range. */
SSM_API SSM_MUST_CHECK int ssm_sampling_check(const struct ssm_sampling *sampling, struct ssm_error *err);

/* Options and the recent tokens; caller's memory. */
struct ssm_sampler {
    struct ssm_sampling sampling;
    uint64_t seen; /* tokens pushed so far */
    int32_t recent[SSM_RECENT_MAX];
};

/* Options that ssm_sampling_check passed; nothing is recent. */
SSM_API void ssm_sampler_init(struct ssm_sampler *sampler, const struct ssm_sampling *sampling);
/* The model was given this token, or will be. */
SSM_API void ssm_sampler_push(struct ssm_sampler *sampler, int32_t token);

/* Floats of the scratch for a vocabulary. */
SSM_API size_t ssm_sample_floats(uint32_t vocab);
/* Draws the token of `position` and does not push it. `logprob` is the model's own, before any option. SSM_NONFINITE
 * when a logit is not finite, SSM_INVAL when a recent token is outside the vocabulary. */
SSM_API SSM_MUST_CHECK int ssm_sample(const struct ssm_sampler *sampler, const float *logits, uint32_t vocab,
                                      uint64_t position, float *scratch, struct ssm_top *out);

/* The number in [0, 1) of a position: 53 bits of Philox4x32-10 with key `seed` and counter `position`. */
SSM_API double ssm_random(uint64_t seed, uint64_t position);

#ifdef __cplusplus
}
#endif
#endif
