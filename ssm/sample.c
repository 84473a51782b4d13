/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tokens are kept is decided without sorting: logits as integers of the same order, whose bits are fixed from the
 * top, eight at a time, by how many tokens (top-k) or how much probability (top-p) lies above. Four passes find the
 * least logit kept, whatever the logits are, and how many of those equal to it; sums run in the tokens' order, so the
 * result depends on nothing else. A full sort of 256k logits takes 20 times as long (bench/sample.c).
 *
 * SOURCE Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox); Holtzman et al. 2020, "The curious
 * case of neural text degeneration" (top-p); Keskar et al. 2019, "CTRL" (repetition penalty); Nguyen et al. 2024, "Turning
 * up the heat: min-p sampling".
 */
#include "ssm/sample.h"
#include "ssm/model.h"

#include <math.h>
#include <string.h>

/* ---- random numbers ---------------------------------------------------------------------------------------------- */

double ssm_random(uint64_t seed, uint64_t position)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)position, c1 = (uint32_t)(position >> 32), c2 = 0, c3 = 0;

    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * 0xd2511f53u, p1 = (uint64_t)c2 * 0xcd9e8d57u;

        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    return (double)(((uint64_t)c1 << 32 | c0) >> 11) * 0x1p-53;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* Rises as the logit falls, and equal logits have equal keys: -0 counts as 0. */
static inline uint32_t key_of(float logit)
{
    uint32_t bits;

    logit += 0.0f;
    memcpy(&bits, &logit, sizeof(bits));
    return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}

/* The most probable tokens of a set: those whose key is below `key`, and the first `equal` of those with that key. */
struct cut {
    uint32_t key;
    uint32_t equal;
};

static const struct cut CUT_NONE = {UINT32_MAX, UINT32_MAX};

/* Whether the next token in the order of tokens is in the set; counts `equal` down. */
static inline bool cut_keeps(struct cut *cut, float logit)
{
    uint32_t key = key_of(logit);

    if (key != cut->key)
        return key < cut->key;
    return cut->equal > 0 && cut->equal-- > 0;
}

/* The fewest most probable of the tokens that `within` keeps whose number reaches `count` or, where weights are given,
 * whose weights reach `mass`. There are some. */
static struct cut cut_find(const float *logits, const float *weights, uint32_t vocab, struct cut within, double target)
{
    struct cut out = {0, 0}, in;
    double above = 0, sums[256];
    uint32_t known = 0; /* mask of the bits of out.key that are fixed */

    for (int shift = 24; shift >= 0; shift -= 8) {
        uint32_t byte = 0, last = 0;

        memset(sums, 0, sizeof(sums));
        in = within;
        for (uint32_t i = 0; i < vocab; i++) {
            uint32_t key = key_of(logits[i]);

            if (cut_keeps(&in, logits[i]) && (key & known) == out.key)
                sums[key >> shift & 255] += weights ? (double)weights[i] : 1;
        }
        for (uint32_t b = 0; b < 256; b++)
            if (sums[b] > 0)
                last = b; /* rounding may leave the target out of reach: then all are kept */
        while (byte < last && above + sums[byte] < target)
            above += sums[byte++];
        out.key |= byte << shift;
        known |= 255u << shift;
    }
    in = within;
    for (uint32_t i = 0; i < vocab && (out.equal == 0 || above < target); i++)
        if (cut_keeps(&in, logits[i]) && key_of(logits[i]) == out.key) {
            above += weights ? (double)weights[i] : 1;
            out.equal++;
        }
    return out;
}

/* ---- probabilities ----------------------------------------------------------------------------------------------- */

/* The largest logit, or SSM_NONFINITE. */
static int logits_check(const float *logits, uint32_t vocab, float *most)
{
    float largest = -INFINITY;
    bool finite = true;

    for (uint32_t i = 0; i < vocab; i++) {
        finite &= fabsf(logits[i]) <= 3.402823466e38f;
        largest = logits[i] > largest ? logits[i] : largest;
    }
    *most = largest;
    return finite ? SSM_OK : SSM_NONFINITE;
}

/* log sum exp(logits - most). */
static double log_sum(const float *logits, uint32_t vocab, float most)
{
    double sum = 0;

    for (uint32_t i = 0; i < vocab; i++)
        sum += (double)expf(logits[i] - most);
    return log(sum);
}

static bool is_before(const struct ssm_top *a, const struct ssm_top *b)
{
    return a->logprob > b->logprob || (a->logprob == b->logprob && a->token < b->token);
}

/* Heap sort: k is small, and its worst case is bounded. */
static void top_sort(struct ssm_top *top, uint32_t n)
{
    for (uint32_t begin = n / 2, end = n; end > 1;) {
        uint32_t at, child;
        struct ssm_top moved;

        if (begin > 0) {
            moved = top[--begin];
        } else {
            moved = top[--end];
            top[end] = top[0];
        }
        for (at = begin; (child = 2 * at + 1) < end; at = child) {
            if (child + 1 < end && is_before(&top[child], &top[child + 1]))
                child++;
            if (!is_before(&moved, &top[child]))
                break;
            top[at] = top[child];
        }
        top[at] = moved;
    }
}

int ssm_top_k(const float *logits, uint32_t vocab, uint32_t k, struct ssm_top *out)
{
    struct cut cut;
    uint32_t n = 0;
    double log_z;
    float most;

    if (k < 1 || k > vocab || k > SSM_TOP_MAX)
        return SSM_INVAL;
    if (logits_check(logits, vocab, &most) != SSM_OK)
        return SSM_NONFINITE;
    log_z = log_sum(logits, vocab, most);
    cut = cut_find(logits, NULL, vocab, CUT_NONE, k);
    for (uint32_t i = 0; i < vocab && n < k; i++)
        if (cut_keeps(&cut, logits[i]))
            out[n++] = (struct ssm_top){(int32_t)i, logits[i]};
    top_sort(out, k);
    for (uint32_t i = 0; i < k; i++)
        out[i].logprob = (float)((double)out[i].logprob - (double)most - log_z);
    return SSM_OK;
}

/* ---- sampling ---------------------------------------------------------------------------------------------------- */

void ssm_sampling_init(struct ssm_sampling *out)
{
    *out = (struct ssm_sampling){.repetition_penalty = 1, .repetition_window = 64, .temperature = 1, .top_p = 1};
}

/* Each is written so that a NaN fails it. */
int ssm_sampling_check(const struct ssm_sampling *s, struct ssm_error *err)
{
    if (!(s->repetition_penalty > 0 && s->repetition_penalty <= 1e6f))
        return ssm_error_set(err, SSM_INVAL, "repetition_penalty is over 0 and at most 1e6 (1: none), and not %g",
                             (double)s->repetition_penalty);
    if (s->repetition_window > SSM_RECENT_MAX)
        return ssm_error_set(err, SSM_INVAL, "repetition_window is at most %d tokens, and not %u", SSM_RECENT_MAX,
                             s->repetition_window);
    if (!(s->temperature >= 0 && s->temperature <= 1e6f))
        return ssm_error_set(err, SSM_INVAL, "temperature is 0 (the most probable token) to 1e6, and not %g",
                             (double)s->temperature);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return ssm_error_set(err, SSM_INVAL, "top_p is over 0 and at most 1 (all), and not %g", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return ssm_error_set(err, SSM_INVAL, "min_p is 0 (all) to 1, and not %g", (double)s->min_p);
    return SSM_OK;
}

void ssm_sampler_init(struct ssm_sampler *sampler, const struct ssm_sampling *sampling)
{
    sampler->sampling = *sampling;
    sampler->seen = 0;
}

void ssm_sampler_push(struct ssm_sampler *sampler, int32_t token)
{
    sampler->recent[sampler->seen++ % SSM_RECENT_MAX] = token;
}

size_t ssm_sample_floats(uint32_t vocab)
{
    return 2 * (size_t)vocab;
}

/* Each recent token's logit once, however often it came: it is computed from the model's own. */
static int penalty_apply(const struct ssm_sampler *sampler, const float *logits, uint32_t vocab, float *out)
{
    float penalty = sampler->sampling.repetition_penalty;
    uint64_t n =
        sampler->seen < sampler->sampling.repetition_window ? sampler->seen : sampler->sampling.repetition_window;

    memcpy(out, logits, vocab * sizeof(*out));
    for (uint64_t i = sampler->seen - n; penalty != 1 && i < sampler->seen; i++) {
        int32_t token = sampler->recent[i % SSM_RECENT_MAX];

        if (token < 0 || (uint32_t)token >= vocab)
            return SSM_INVAL;
        out[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
        out[token] = fmaxf(-3e38f, fminf(out[token], 3e38f));
    }
    return SSM_OK;
}

static uint32_t most_find(const float *logits, uint32_t vocab)
{
    uint32_t most = 0;

    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[most])
            most = i;
    return most;
}

/* Weights of what top_k, top_p and min_p leave, 1 for the most probable; 0 for the others. Returns their sum. */
static double weights_fill(const struct ssm_sampling *s, const float *logits, uint32_t vocab, float most,
                           float *weights)
{
    bool some = s->top_k > 0 && s->top_k < vocab;
    struct cut cut = some ? cut_find(logits, NULL, vocab, CUT_NONE, s->top_k) : CUT_NONE, in = cut;
    double sum = 0, kept = 0;

    for (uint32_t i = 0; i < vocab; i++) {
        weights[i] = cut_keeps(&in, logits[i]) ? expf((logits[i] - most) / s->temperature) : 0;
        sum += (double)weights[i];
    }
    if (s->top_p < 1)
        cut = cut_find(logits, weights, vocab, cut, (double)s->top_p * sum);
    else if (s->min_p <= 0)
        return sum;
    in = cut;
    for (uint32_t i = 0; i < vocab; i++) {
        if (!cut_keeps(&in, logits[i]) || weights[i] < s->min_p)
            weights[i] = 0;
        kept += (double)weights[i];
    }
    return kept;
}

/* The first token at which the weights' running sum exceeds `target`; the last one with a weight when rounding leaves
 * none. */
static uint32_t weights_find(const float *weights, uint32_t vocab, double target)
{
    uint32_t found = 0;
    double sum = 0;

    for (uint32_t i = 0; i < vocab; i++) {
        if (weights[i] <= 0)
            continue;
        found = i;
        sum += (double)weights[i];
        if (sum > target)
            break;
    }
    return found;
}

int ssm_sample(const struct ssm_sampler *sampler, const float *logits, uint32_t vocab, uint64_t position,
               float *scratch, struct ssm_top *out)
{
    const struct ssm_sampling *s = &sampler->sampling;
    float *penalised = scratch, *weights = scratch + vocab, most;
    uint32_t token;

    if (logits_check(logits, vocab, &most) != SSM_OK)
        return SSM_NONFINITE;
    if (penalty_apply(sampler, logits, vocab, penalised) != SSM_OK)
        return SSM_INVAL;
    token = most_find(penalised, vocab);
    if (s->temperature > 0) {
        double sum = weights_fill(s, penalised, vocab, penalised[token], weights);

        token = weights_find(weights, vocab, ssm_random(s->seed, position) * sum);
    }
    out->token = (int32_t)token;
    out->logprob = (float)((double)logits[token] - (double)most - log_sum(logits, vocab, most));
    return SSM_OK;
}
