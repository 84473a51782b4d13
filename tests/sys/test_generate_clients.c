/* SPDX-License-Identifier: Apache-2.0
 *
 * Generation through libssmclient and ssmctl, held against libssm fed its own output by hand: long prompts, a link that
 * breaks on the way, what is refused, and what a user sees.
 */
#include "clients/c/ssmclient.h"
#include "tests/clients/run.h"
#include "tests/ssm/making.h"
#include "tests/sys/generating.h"
#include "tests/sys/serving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL "mamba-lm-n8"

static struct reference model;
static struct sys_daemon *server;
static struct ssm_top want[GENERATING_MOST];

static int group_open(void **state)
{
    serving_group_open(state);
    reference_load(&model, MODEL);
    server = serving_start("idle_ms = 1000\nresult_ring = 16K\n"); /* less than the long prompt has results */
    return 0;
}

static int group_close(void **state)
{
    serving_stop(server);
    reference_free(&model);
    return serving_group_close(state);
}

static struct ssmc *client_new(void)
{
    struct ssmc_options options = {.endpoint = sys_daemon_endpoint(server), .timeout_ms = WIRE_MS};
    struct ssmc *c;

    assert_int_equal(ssmc_connect(&c, &options, NULL, 0), SSMC_OK);
    return c;
}

static struct ssmc_stream *stream_new(struct ssmc *c, const char *id, uint32_t top_k)
{
    struct ssmc_open_options options = {.id = id,
                                        .model = model.name,
                                        .results = 1,
                                        .results_from = SSMC_OLDEST,
                                        .buffer_bytes = 4096,
                                        /* credit is needed on the way */ .top_k = top_k,
                                        .generates = 1};
    struct ssmc_stream *s;

    assert_int_equal(ssmc_open(c, &s, &options, WIRE_MS), SSMC_OK);
    return s;
}

/* The request's prompt and options as libssmclient has them. */
static void options_copy(const Ssmd__Generate *from, struct ssmc_generate_options *to)
{
    *to = (struct ssmc_generate_options){
        .prompt = (const int32_t *)from->prompt, .prompt_n = from->n_prompt, .maximum = from->maximum};
    ssmc_sampling_init(&to->sampling);
    to->sampling.temperature = from->temperature;
    to->sampling.seed = from->seed;
}

/* Takes tokens until the end, which must be `ending`; the first `skip` were taken before. How many there are. */
static uint32_t tokens_take(struct ssmc *c, struct ssmc_stream *s, uint64_t first, uint32_t skip, int ending)
{
    long until = wire_now_ms() + WIRE_MS;
    uint32_t n = skip;
    struct ssmc_token token;

    for (;;) {
        int rc = ssmc_next_token(s, &token);

        if (rc == 1) {
            assert_int_equal(token.index, first + n);
            assert_int_equal(token.token, want[n].token);
            assert_memory_equal(&token.logprob, &want[n].logprob, sizeof(float));
            n++;
        } else if (rc == SSMC_ENDED) {
            assert_int_equal(ssmc_ending(s), ending);
            return n;
        } else {
            assert_int_equal(rc, 0);
            assert_true(ssmc_poll(c, 50) >= 0);
        }
        assert_true(wire_now_ms() < until);
    }
}

static void generate__of_the_library__gives_the_tokens_made_by_hand(void **state)
{
    struct ssmc *c = client_new();
    struct ssmc_stream *s = stream_new(c, "library", 2);
    struct ssmc_generate_options options;
    struct ssmc_stream_info info;
    struct generating g;

    (void)state;
    generating_init(&g, &model, 3, 20, 500);
    options_copy(&g.request, &options);
    assert_int_equal(generating_by_hand(&model, &g.request, want), 500);
    options.maximum = 200;
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK);
    assert_int_equal(tokens_take(c, s, 20, 0, SSMC_MAXIMUM), 200);
    options.prompt_n = 0;
    options.maximum = 299;
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK); /* goes on */
    assert_int_equal(tokens_take(c, s, 20, 200, SSMC_MAXIMUM), 499);
    ssmc_stream_info(s, &info);
    assert_int_equal(info.next, 20 + 498); /* the last token is not consumed */
    assert_int_equal(ssmc_push(s, SSMC_I32, &want[498].token, 1, 0, 0), SSMC_OK);
    options.prompt = &want[0].token;
    options.prompt_n = 0;
    assert_int_equal(ssmc_drain(s, WIRE_MS), SSMC_OK);
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_REFUSED); /* data came: nothing waits */
    assert_non_null(strstr(ssmc_error_text(c), "prompt is empty"));
    assert_int_equal(ssmc_close(s, WIRE_MS), SSMC_OK);
    ssmc_free(c);
}

static void generate__with_a_prompt_longer_than_a_request__is_as_by_hand(void **state)
{
    enum { LONG = 5000 };
    static uint32_t prompt[LONG];
    struct ssmc *c = client_new();
    struct ssmc_stream *s = stream_new(c, "long", 0);
    struct ssmc_generate_options options;
    struct generating g;
    uint32_t seed = 17;

    (void)state;
    for (uint32_t i = 0; i < LONG; i++)
        prompt[i] = making_number(&seed, model.vocab);
    generating_init(&g, &model, 3, 0, 50);
    g.request.prompt = prompt;
    g.request.n_prompt = LONG;
    options_copy(&g.request, &options);
    assert_int_equal(generating_by_hand(&model, &g.request, want), 50);
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK);
    assert_int_equal(tokens_take(c, s, LONG, 0, SSMC_MAXIMUM), 50);
    assert_int_equal(ssmc_close(s, WIRE_MS), SSMC_OK);
    ssmc_free(c);
}

/* The daemon forgets the silent connection in the middle; the library comes back and finds every token. */
static void generate__over_a_broken_link__misses_no_token(void **state)
{
    struct ssmc *c = client_new();
    struct ssmc_stream *s = stream_new(c, "broken", 0);
    struct ssmc_generate_options options;
    struct ssmc_daemon_info info;
    struct ssmc_token token;
    struct generating g;
    struct wire *w;

    (void)state;
    generating_init(&g, &model, 23, 4, GENERATING_MOST);
    options_copy(&g.request, &options);
    assert_int_equal(generating_by_hand(&model, &g.request, want), GENERATING_MOST);
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK);
    while (ssmc_next_token(s, &token) == 0)
        assert_true(ssmc_poll(c, 50) >= 0);
    assert_int_equal(token.token, want[0].token);
    w = wire_new(sys_daemon_endpoint(server), "counter");
    while (wire_counter(w, "connections") > 1) /* its own */
        usleep(20000);
    assert_int_equal(tokens_take(c, s, 4, 1, SSMC_MAXIMUM), GENERATING_MOST);
    ssmc_daemon_info(c, &info);
    assert_true(info.reconnects > 0);
    assert_int_equal(ssmc_close(s, WIRE_MS), SSMC_OK);
    ssmc_free(c);
    wire_free(w);
}

static void cancel__of_the_library__ends_with_the_tokens_so_far(void **state)
{
    struct ssmc *c = client_new();
    struct ssmc_stream *s = stream_new(c, "cancel", 0);
    struct ssmc_generate_options options;
    struct ssmc_token token;
    struct generating g;

    (void)state;
    generating_init(&g, &model, 29, 4, UINT64_C(1) << 50);
    options_copy(&g.request, &options);
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK);
    assert_int_equal(ssmc_push(s, SSMC_I32, g.request.prompt, 1, 0, 0), SSMC_INVAL);
    assert_non_null(strstr(ssmc_error_text(c), "generating"));
    assert_int_equal(ssmc_cancel(s, WIRE_MS), SSMC_OK);
    while (ssmc_next_token(s, &token) >= 0)
        assert_true(ssmc_poll(c, 50) >= 0);
    assert_int_equal(ssmc_ending(s), SSMC_CANCELLED);
    assert_int_equal(ssmc_cancel(s, WIRE_MS), SSMC_OK);
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK);
    assert_int_equal(ssmc_reset(s, WIRE_MS), SSMC_OK); /* ends it, too */
    options.maximum = 5;
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK);
    g.request.maximum = 5;
    generating_by_hand(&model, &g.request, want);
    assert_int_equal(tokens_take(c, s, 4, 0, SSMC_MAXIMUM), 5);
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK);
    assert_int_equal(ssmc_close(s, WIRE_MS), SSMC_OK);
    ssmc_free(c);
}

static void generate__that_cannot_be__says_why(void **state)
{
    struct ssmc *c = client_new();
    struct ssmc_stream *s = stream_new(c, "refused", 0);
    struct ssmc_generate_options options;
    static const int32_t negative = -1;
    struct generating g;

    (void)state;
    generating_init(&g, &model, 1, 4, 10);
    options_copy(&g.request, &options);
    options.sampling.top_p = 0;
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_REFUSED);
    assert_non_null(strstr(ssmc_error_text(c), "top_p"));
    options.sampling.top_p = 1;
    options.stop = &negative;
    options.stop_n = 1;
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_INVAL);
    options.stop_n = 0;
    assert_int_equal(ssmc_generate(s, &options, WIRE_MS), SSMC_OK); /* nothing had changed */
    generating_by_hand(&model, &g.request, want);
    assert_int_equal(tokens_take(c, s, 4, 0, SSMC_MAXIMUM), 10);
    assert_int_equal(ssmc_close(s, WIRE_MS), SSMC_OK);
    ssmc_free(c);
}

/* ---- ssmctl ------------------------------------------------------------------------------------------------------ */

static int ssmctl(struct run *r, const char *const *args)
{
    run_start(r, sys_daemon_endpoint(server), NULL, args);
    return run_wait(r);
}

/* Numbers of the output, one a line, are want[skip] and so on; how many. */
static uint32_t lines_check(const char *out, uint32_t skip)
{
    uint32_t n = 0;

    while (*out) {
        char *end;

        assert_int_equal(strtol(out, &end, 10), want[skip + n++].token);
        assert_int_equal(*end, '\n');
        out = end + 1;
    }
    return n;
}

static void ssmctl__generate__prints_the_tokens_made_by_hand(void **state)
{
    static uint32_t prompt[] = {5, 6, 7};
    struct generating g;
    struct run r;

    (void)state;
    generating_init(&g, &model, 1, 0, 40);
    g.request.prompt = prompt;
    g.request.n_prompt = 3;
    g.request.has_seed = true;
    g.request.seed = 9;
    generating_by_hand(&model, &g.request, want);
    assert_int_equal(ssmctl(&r, (const char *const[]){"generate", "-m", model.name, "-p", "5,6,7", "-n", "40", "--seed",
                                                      "9", "--temperature", "4", NULL}),
                     0);
    assert_int_equal(lines_check(r.out, 0), 40);
    run_fini(&r);
    assert_int_equal(ssmctl(&r, (const char *const[]){"generate", "-m", model.name, "-p", "5,6,7", "-n", "15", "--seed",
                                                      "9", "--temperature", "4", "-s", "mine", "--keep", NULL}),
                     0);
    assert_int_equal(lines_check(r.out, 0), 15);
    run_fini(&r);
    assert_int_equal(ssmctl(&r, (const char *const[]){"generate", "-m", model.name, "--resume", "-n", "25", "--seed",
                                                      "9", "--temperature", "4", "-s", "mine", "--json", NULL}),
                     0);
    assert_non_null(strstr(r.out, "\"index\":18,"));
    assert_non_null(strstr(r.out, "{\"ending\":\"maximum\",\"tokens\":25}"));
    run_fini(&r);
}

static void ssmctl__generate_with_a_bad_option__names_it(void **state)
{
    static const struct {
        const char *option, *value, *word;
        int code;
    } cases[] = {{"--temperature", "-1", "temperature", 64},  {"--top-p", "0", "top-p", 64},
                 {"--maximum", "0", "maximum", 64},           {"--min-p", "2", "min-p", 64},
                 {"--repetition-window", "2000", "1024", 64}, {"--stop", "a", "--stop", 64},
                 {"--stop", "97", "stop: element 0", 65},     {"--prompt-tokens", "97", "prompt: element 0", 65},
                 {"--prompt-tokens", "/none", "/none", 66}};
    struct run r;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        assert_int_equal(ssmctl(&r, (const char *const[]){"generate", "-m", model.name, "-p", "1", cases[i].option,
                                                          cases[i].value, NULL}),
                         cases[i].code);
        assert_non_null(strstr(r.err, cases[i].word));
        run_fini(&r);
    }
}

static void ssmctl__stream_and_read_with_top_k__give_tokens_and_log_probabilities(void **state)
{
    char path[] = "/tmp/ssmd-top-XXXXXX", named[64], input[128];
    struct ssm_top top[3];
    size_t size;
    float *out;
    struct run r;

    (void)state;
    assert_true(close(mkstemp(path)) == 0);
    snprintf(named, sizeof(named), "%s.f32", path);
    snprintf(input, sizeof(input), "%s/%s/input.i32", GOLDEN_DIRECTORY, MODEL);
    assert_int_equal(ssmctl(&r, (const char *const[]){"stream", input, "-m", model.name, "-s", "top", "--out", named,
                                                      "--top-k", "3", "--keep", "-q", NULL}),
                     0);
    run_fini(&r);
    out = (float *)(void *)run_read_file(named, &size);
    assert_int_equal(size, model.frames * 6 * sizeof(float));
    for (uint32_t i = 0; i < model.frames; i++) {
        assert_int_equal(ssm_top_k(model.step + (size_t)i * model.vocab, model.vocab, 3, top), SSM_OK);
        for (uint32_t k = 0; k < 3; k++) {
            assert_true(out[i * 6 + 2 * k] == (float)top[k].token);
            assert_true(out[i * 6 + 2 * k + 1] == top[k].logprob);
        }
    }
    assert_int_equal(ssmctl(&r, (const char *const[]){"read", "top", "-n", "1", "--csv", NULL}), 0);
    snprintf(input, sizeof(input), "top,0,%d,%.9g,", (int)out[0], (double)out[1]);
    assert_int_equal(strncmp(r.out, input, strlen(input)), 0);
    run_fini(&r);
    free(out);
    unlink(named);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(generate__of_the_library__gives_the_tokens_made_by_hand),
        cmocka_unit_test(generate__with_a_prompt_longer_than_a_request__is_as_by_hand),
        cmocka_unit_test(generate__over_a_broken_link__misses_no_token),
        cmocka_unit_test(cancel__of_the_library__ends_with_the_tokens_so_far),
        cmocka_unit_test(generate__that_cannot_be__says_why),
        cmocka_unit_test(ssmctl__generate__prints_the_tokens_made_by_hand),
        cmocka_unit_test(ssmctl__generate_with_a_bad_option__names_it),
        cmocka_unit_test(ssmctl__stream_and_read_with_top_k__give_tokens_and_log_probabilities),
    };

    return cmocka_run_group_tests_name("generate_clients", tests, group_open, group_close);
}
