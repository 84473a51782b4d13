/* SPDX-License-Identifier: Apache-2.0
 *
 * What comes after the logits (ssm/sample.h), in microseconds a token: the k most probable with their log-probabilities,
 * and one drawn token under usual options; and beside them qsort of the same logits, which the selection avoids.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/report.h"
#include "ssm/sample.h"
#include "tests/ssm/making.h"

#define TRIES 31

static const float *sort_logits;

static int logit_compare(const void *a, const void *b)
{
    float x = sort_logits[*(const uint32_t *)a], y = sort_logits[*(const uint32_t *)b];

    return (x < y) - (x > y);
}

static void sorted(const float *logits, uint32_t vocab, uint32_t *order)
{
    for (uint32_t i = 0; i < vocab; i++)
        order[i] = i;
    sort_logits = logits;
    qsort(order, vocab, sizeof(*order), logit_compare);
}

static void vocab_measure(uint32_t vocab)
{
    static const struct {
        const char *name;
        struct ssm_sampling s;
    } cases[] = {{"greedy", {1, 64, 0, 0, 1, 0, 1}},
                 {"temperature", {1, 64, 0.8f, 0, 1, 0, 1}},
                 {"top_k 40", {1, 64, 0.8f, 40, 1, 0, 1}},
                 {"top_p 0.95", {1, 64, 0.8f, 0, 0.95f, 0, 1}},
                 {"all options", {1.1f, 64, 0.8f, 40, 0.95f, 0.05f, 1}}};
    static struct ssm_sampler sampler;
    struct ssm_top top[40];
    float *logits = malloc(vocab * sizeof(*logits)), *scratch = malloc(ssm_sample_floats(vocab) * sizeof(*scratch));
    double us[TRIES];
    uint32_t seed = 1, bad = 0;

    if (!logits || !scratch)
        exit(1);
    for (uint32_t i = 0; i < vocab; i++) /* a sum of uniforms: near normal, as logits are */
        logits[i] = 3 * (making_noise(&seed) + making_noise(&seed) + making_noise(&seed));
#define MEASURE(name, call)                                                                                            \
    for (int i = 0; i < TRIES; i++) {                                                                                  \
        uint64_t begin = bench_now_ns();                                                                               \
        call;                                                                                                          \
        us[i] = (double)(bench_now_ns() - begin) / 1e3;                                                                \
    }                                                                                                                  \
    bench_report("sample", "\"vocab\": %u, \"what\": \"%s\", \"us\": %.1f", vocab, name, bench_quantile(us, TRIES, 0.5))
    MEASURE("top 40 with log-probabilities", bad += ssm_top_k(logits, vocab, 40, top) != SSM_OK);
    for (size_t c = 0; c < sizeof(cases) / sizeof(*cases); c++) {
        ssm_sampler_init(&sampler, &cases[c].s);
        for (int i = 0; i < 64; i++)
            ssm_sampler_push(&sampler, i);
        MEASURE(cases[c].name, bad += ssm_sample(&sampler, logits, vocab, (uint64_t)i, scratch, top) != SSM_OK);
    }
    MEASURE("qsort", sorted(logits, vocab, (uint32_t *)(void *)scratch));
#undef MEASURE
    if (bad)
        exit(1);
    free(logits);
    free(scratch);
}

int main(void)
{
    vocab_measure(50280);
    vocab_measure(256000);
    return 0;
}
