/* SPDX-License-Identifier: Apache-2.0
 *
 * ssm/sample.h: the k most probable and the drawn token against a float64 reference that sorts everything, the random
 * numbers against the published answer, frequencies against probabilities, and the ends of every range.
 */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/reference/sample.h"
#include "tests/ssm/making.h"

static float *noise_new(uint32_t seed, uint32_t vocab, float spread)
{
    float *logits = malloc(vocab * sizeof(*logits));

    assert_non_null(logits);
    for (uint32_t i = 0; i < vocab; i++)
        logits[i] = spread * making_noise(&seed);
    return logits;
}

/* Every third logit again and again: many are equal. */
static void ties_make(float *logits, uint32_t vocab)
{
    for (uint32_t i = 0; i < vocab; i++)
        logits[i] = roundf(logits[i]);
}

static int32_t draw(const struct ssm_sampling *s, const float *logits, uint32_t vocab, uint64_t position)
{
    float *scratch = malloc(ssm_sample_floats(vocab) * sizeof(*scratch));
    static struct ssm_sampler sampler;
    struct ssm_top top;

    assert_non_null(scratch);
    ssm_sampler_init(&sampler, s);
    assert_int_equal(ssm_sample(&sampler, logits, vocab, position, scratch, &top), SSM_OK);
    free(scratch);
    return top.token;
}

/* ---- the k most probable ----------------------------------------------------------------------------------------- */

static void check_top(const float *logits, uint32_t vocab, uint32_t k)
{
    uint32_t *order = malloc(vocab * sizeof(*order));
    double *logprobs = malloc(vocab * sizeof(*logprobs));
    struct ssm_top top[SSM_TOP_MAX];

    assert_non_null(order);
    assert_non_null(logprobs);
    reference_top(logits, vocab, order, logprobs);
    assert_int_equal(ssm_top_k(logits, vocab, k, top), SSM_OK);
    for (uint32_t i = 0; i < k; i++) {
        double want = logprobs[order[i]];

        assert_int_equal(top[i].token, order[i]);
        assert_true(fabs((double)top[i].logprob - want) <= 2e-7 * (1 + fabs(want)));
    }
    free(order);
    free(logprobs);
}

static void top_k__any_vocabulary__is_the_sorted_reference(void **state)
{
    static const uint32_t vocabs[] = {1, 2, 7, 97, 1021, 50280, 256000};

    (void)state;
    for (size_t v = 0; v < sizeof(vocabs) / sizeof(*vocabs); v++) {
        uint32_t vocab = vocabs[v], most = vocab < SSM_TOP_MAX ? vocab : SSM_TOP_MAX;
        float *logits = noise_new(7 + (uint32_t)v, vocab, 12);

        check_top(logits, vocab, 1);
        check_top(logits, vocab, most < 40 ? most : 40);
        check_top(logits, vocab, most);
        ties_make(logits, vocab);
        check_top(logits, vocab, most < 40 ? most : 40);
        check_top(logits, vocab, most);
        free(logits);
    }
}

static void top_k__equal_logits__come_by_lower_token(void **state)
{
    float logits[] = {-0.0f, 0.0f, -0.0f, 0.0f, -0.0f};
    struct ssm_top top[5];

    (void)state;
    assert_int_equal(ssm_top_k(logits, 5, 5, top), SSM_OK);
    for (int32_t i = 0; i < 5; i++) {
        assert_int_equal(top[i].token, i);
        assert_true(fabs((double)top[i].logprob + log(5)) < 1e-7);
    }
}

static void top_k__one_huge_logit__has_all_the_probability(void **state)
{
    float logits[] = {-FLT_MAX, FLT_MAX, 0};
    struct ssm_top top[2];

    (void)state;
    assert_int_equal(ssm_top_k(logits, 3, 2, top), SSM_OK);
    assert_int_equal(top[0].token, 1);
    assert_true(top[0].logprob == 0);
    assert_int_equal(top[1].token, 2);
}

static void top_k__out_of_range__is_refused(void **state)
{
    float logits[4] = {0};
    struct ssm_top top[4];

    (void)state;
    assert_int_equal(ssm_top_k(logits, 4, 0, top), SSM_INVAL);
    assert_int_equal(ssm_top_k(logits, 4, 5, top), SSM_INVAL);
}

static void logits__not_finite__are_refused(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static struct ssm_sampler sampler;
    struct ssm_sampling s;
    struct ssm_top top[4];
    float scratch[8];

    (void)state;
    ssm_sampling_init(&s);
    ssm_sampler_init(&sampler, &s);
    for (size_t i = 0; i < 3; i++)
        for (size_t at = 0; at < 4; at++) {
            float logits[4] = {1, 2, 3, 4};

            logits[at] = bad[i];
            assert_int_equal(ssm_top_k(logits, 4, 2, top), SSM_NONFINITE);
            assert_int_equal(ssm_sample(&sampler, logits, 4, 0, scratch, top), SSM_NONFINITE);
        }
}

/* ---- random numbers ---------------------------------------------------------------------------------------------- */

static void random__seed_and_position_zero__is_the_published_answer(void **state)
{
    /* Random123, kat_vectors: philox 4x32 10, counter and key 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8. */
    (void)state;
    assert_true(ssm_random(0, 0) == (double)(UINT64_C(0xe169c58d6627e8d5) >> 11) * 0x1p-53);
}

static void random__neighbouring_seeds_and_positions__are_uniform(void **state)
{
    enum { BINS = 100, N = 1000 };
    uint32_t count[BINS] = {0};
    double chi = 0;

    (void)state;
    for (uint64_t seed = 0; seed < N; seed++)
        for (uint64_t at = 0; at < N; at++) {
            double u = ssm_random(seed, at);

            assert_true(u >= 0 && u < 1);
            count[(int)(u * BINS)]++;
        }
    for (int b = 0; b < BINS; b++)
        chi += pow(count[b] - (double)N * N / BINS, 2) / ((double)N * N / BINS);
    assert_true(chi > 50 && chi < 160); /* 99 degrees of freedom: 1 in 10^4 on either side */
}

/* ---- drawing ----------------------------------------------------------------------------------------------------- */

/* The token that the position's random number picks from the reference's probabilities; true when `token` is that one,
 * or the number lies on its border to within what float32 exponentials may shift it. */
static bool is_picked(const double *probabilities, uint32_t vocab, double u, int32_t token)
{
    double below = 0;

    for (int32_t i = 0; i < token; i++)
        below += probabilities[i];
    return (uint32_t)token < vocab && u >= below - 1e-6 && u <= below + probabilities[token] + 1e-6;
}

static void sample__random_options__draws_what_the_definition_says(void **state)
{
    static struct ssm_sampler sampler;
    uint32_t seed = 3;
    double *want;

    (void)state;
    for (uint32_t trial = 0; trial < 3000; trial++) {
        uint32_t vocab = 1 + making_number(&seed, trial % 10 ? 60 : 3000), pushed = making_number(&seed, 40);
        float *logits = noise_new(1000 + trial, vocab, 1 + (float)making_number(&seed, 10));
        float *scratch = malloc(ssm_sample_floats(vocab) * sizeof(*scratch));
        int32_t recent[40];
        struct ssm_sampling s;
        struct ssm_top top;

        want = malloc(vocab * sizeof(*want));
        assert_non_null(scratch);
        assert_non_null(want);
        if (trial % 3 == 0)
            ties_make(logits, vocab);
        ssm_sampling_init(&s);
        s.seed = trial;
        s.temperature = 0.25f * (float)making_number(&seed, 9);
        s.top_k = making_number(&seed, vocab + 3);
        s.top_p = trial % 2 ? 1 : 0.05f + 0.09f * (float)making_number(&seed, 10);
        s.min_p = trial % 4 < 2 ? 0 : 0.03f * (float)making_number(&seed, 20);
        s.repetition_penalty = trial % 5 ? 1 : 0.5f + 0.25f * (float)making_number(&seed, 8);
        s.repetition_window = making_number(&seed, 50);
        assert_int_equal(ssm_sampling_check(&s, NULL), SSM_OK);
        ssm_sampler_init(&sampler, &s);
        for (uint32_t i = 0; i < pushed; i++) {
            recent[i] = (int32_t)making_number(&seed, vocab);
            ssm_sampler_push(&sampler, recent[i]);
        }
        reference_probabilities(&s, recent, pushed, logits, vocab, want);
        for (uint64_t at = 0; at < 8; at++) {
            assert_int_equal(ssm_sample(&sampler, logits, vocab, at, scratch, &top), SSM_OK);
            assert_true(want[top.token] > 0);
            assert_true(is_picked(want, vocab, ssm_random(s.seed, at), top.token));
        }
        free(logits);
        free(scratch);
        free(want);
    }
}

/* Chi-square of `n` draws against the reference's probabilities, and its degrees of freedom. */
static double chi_square(const struct ssm_sampling *s, const float *logits, uint32_t vocab, uint32_t n,
                         uint32_t *freedom)
{
    double want[64], chi = 0;
    uint32_t count[64] = {0};

    reference_probabilities(s, NULL, 0, logits, vocab, want);
    for (uint32_t i = 0; i < n; i++)
        count[draw(s, logits, vocab, i)]++;
    *freedom = 0;
    for (uint32_t t = 0; t < vocab; t++) {
        if (want[t] <= 0)
            assert_int_equal(count[t], 0);
        else
            chi += pow(count[t] - n * want[t], 2) / (n * want[t]);
        *freedom += want[t] > 0;
    }
    --*freedom;
    return chi;
}

static void sample__many_positions__follow_the_distribution(void **state)
{
    static const struct ssm_sampling cases[] = {
        {1, 64, 1, 0, 1, 0, 11},    {1, 64, 0.7f, 0, 1, 0, 12}, {1, 64, 1.5f, 10, 1, 0, 13},
        {1, 64, 1, 0, 0.8f, 0, 14}, {1, 64, 1, 0, 1, 0.2f, 15}, {1, 64, 1.2f, 30, 0.9f, 0.05f, 16},
    };
    float *logits = noise_new(5, 50, 2);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint32_t freedom;
        double chi = chi_square(&cases[i], logits, 50, 100000, &freedom);

        assert_true(freedom >= 2);
        assert_true(chi < freedom + 4 * sqrt(2.0 * freedom) + 8); /* about 1 in 10^5; the seeds are fixed */
    }
    free(logits);
}

static void sample__again__is_the_same_token(void **state)
{
    float *logits = noise_new(9, 5000, 3);
    struct ssm_sampling s;
    int32_t first[100];
    uint32_t differ = 0;

    (void)state;
    ssm_sampling_init(&s);
    s.seed = UINT64_C(0xfedcba9876543210);
    for (uint32_t i = 0; i < 100; i++)
        first[i] = draw(&s, logits, 5000, i);
    for (uint32_t i = 100; i-- > 0;) /* in another order: a position depends on no other */
        assert_int_equal(draw(&s, logits, 5000, i), first[i]);
    s.seed++;
    for (uint32_t i = 0; i < 100; i++)
        differ += draw(&s, logits, 5000, i) != first[i];
    assert_true(differ > 90);
    free(logits);
}

static void sample__greedy__is_the_most_probable_and_of_equals_the_lower(void **state)
{
    float logits[] = {1, 3, 2, 3};
    struct ssm_sampling s;

    (void)state;
    ssm_sampling_init(&s);
    s.temperature = 0;
    for (uint64_t at = 0; at < 20; at++)
        assert_int_equal(draw(&s, logits, 4, at), 1);
}

static void sample__filters_that_leave_one__draw_the_most_probable(void **state)
{
    float logits[] = {1, 3, 2, 3};
    struct ssm_sampling one_k, tiny_p, full_min, cold;

    (void)state;
    ssm_sampling_init(&one_k);
    tiny_p = full_min = cold = one_k;
    one_k.top_k = 1;
    tiny_p.top_p = 1e-30f;
    full_min.min_p = 1;
    cold.temperature = 1e-30f;
    for (uint64_t at = 0; at < 50; at++) {
        assert_int_equal(draw(&one_k, logits, 4, at), 1);
        assert_int_equal(draw(&tiny_p, logits, 4, at), 1);
        assert_int_equal(draw(&full_min, logits, 4, at) % 2, 1); /* the two that are equal */
        assert_int_equal(draw(&cold, logits, 4, at) % 2, 1);
    }
}

static void sample__vocabulary_of_one__draws_it(void **state)
{
    float logit = -7;
    struct ssm_sampling s;

    (void)state;
    ssm_sampling_init(&s);
    s.top_k = 5;
    s.top_p = 0.5f;
    assert_int_equal(draw(&s, &logit, 1, 3), 0);
}

static void sample__logprob__is_the_models_own(void **state)
{
    static struct ssm_sampler sampler;
    float logits[] = {1, 3, 2}, scratch[6];
    struct ssm_sampling s;
    struct ssm_top top;

    (void)state;
    ssm_sampling_init(&s);
    s.temperature = 0;
    s.repetition_penalty = 100;
    ssm_sampler_init(&sampler, &s);
    ssm_sampler_push(&sampler, 1);
    assert_int_equal(ssm_sample(&sampler, logits, 3, 0, scratch, &top), SSM_OK);
    assert_int_equal(top.token, 2);
    assert_true(fabs((double)top.logprob - (2 - log(exp(1) + exp(3) + exp(2)))) < 1e-6);
}

static void sample__token_older_than_the_window__is_not_penalised(void **state)
{
    static struct ssm_sampler sampler;
    float logits[] = {1, 3, 2}, scratch[6];
    struct ssm_sampling s;
    struct ssm_top top;

    (void)state;
    ssm_sampling_init(&s);
    s.temperature = 0;
    s.repetition_penalty = 100;
    s.repetition_window = SSM_RECENT_MAX;
    ssm_sampler_init(&sampler, &s);
    ssm_sampler_push(&sampler, 1);
    for (int i = 0; i < SSM_RECENT_MAX - 1; i++)
        ssm_sampler_push(&sampler, 0);
    assert_int_equal(ssm_sample(&sampler, logits, 3, 0, scratch, &top), SSM_OK);
    assert_int_equal(top.token, 2);
    ssm_sampler_push(&sampler, 0);
    assert_int_equal(ssm_sample(&sampler, logits, 3, 0, scratch, &top), SSM_OK);
    assert_int_equal(top.token, 1);
    ssm_sampler_push(&sampler, 3);
    assert_int_equal(ssm_sample(&sampler, logits, 3, 0, scratch, &top), SSM_INVAL);
}

/* ---- options ----------------------------------------------------------------------------------------------------- */

static void options__out_of_range__are_refused_by_name(void **state)
{
    struct ssm_sampling good, s;
    struct ssm_error err;

    (void)state;
    ssm_sampling_init(&good);
    assert_int_equal(ssm_sampling_check(&good, &err), SSM_OK);
#define CHECK_REFUSED(member, value)                                                                                   \
    s = good, s.member = (value);                                                                                      \
    assert_int_equal(ssm_sampling_check(&s, &err), SSM_INVAL);                                                         \
    assert_non_null(strstr(err.text, #member))
    CHECK_REFUSED(repetition_penalty, 0);
    CHECK_REFUSED(repetition_penalty, NAN);
    CHECK_REFUSED(repetition_penalty, INFINITY);
    CHECK_REFUSED(repetition_window, SSM_RECENT_MAX + 1);
    CHECK_REFUSED(temperature, -0.1f);
    CHECK_REFUSED(temperature, NAN);
    CHECK_REFUSED(temperature, INFINITY);
    CHECK_REFUSED(top_p, 0);
    CHECK_REFUSED(top_p, 1.1f);
    CHECK_REFUSED(top_p, NAN);
    CHECK_REFUSED(min_p, -0.1f);
    CHECK_REFUSED(min_p, 1.1f);
    CHECK_REFUSED(min_p, NAN);
#undef CHECK_REFUSED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(top_k__any_vocabulary__is_the_sorted_reference),
        cmocka_unit_test(top_k__equal_logits__come_by_lower_token),
        cmocka_unit_test(top_k__one_huge_logit__has_all_the_probability),
        cmocka_unit_test(top_k__out_of_range__is_refused),
        cmocka_unit_test(logits__not_finite__are_refused),
        cmocka_unit_test(random__seed_and_position_zero__is_the_published_answer),
        cmocka_unit_test(random__neighbouring_seeds_and_positions__are_uniform),
        cmocka_unit_test(sample__random_options__draws_what_the_definition_says),
        cmocka_unit_test(sample__many_positions__follow_the_distribution),
        cmocka_unit_test(sample__again__is_the_same_token),
        cmocka_unit_test(sample__greedy__is_the_most_probable_and_of_equals_the_lower),
        cmocka_unit_test(sample__filters_that_leave_one__draw_the_most_probable),
        cmocka_unit_test(sample__vocabulary_of_one__draws_it),
        cmocka_unit_test(sample__logprob__is_the_models_own),
        cmocka_unit_test(sample__token_older_than_the_window__is_not_penalised),
        cmocka_unit_test(options__out_of_range__are_refused_by_name),
    };

    return cmocka_run_group_tests_name("sample", tests, NULL, NULL);
}
