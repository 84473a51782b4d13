/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens through the whole daemon: top-k results, and generations held against libssm fed its own output by hand, bit
 * for bit, alone, among fifty, beside live streams, with slow readers, and ended in every way there is.
 */
#include "tests/sys/generating.h"
#include "tests/sys/serving.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL "mamba-lm-n8"

static struct reference model;
static struct sys_daemon *server;
static struct ssm_top want[GENERATING_MOST];

static int group_open(void **state)
{
    serving_group_open(state);
    reference_load(&model, MODEL);
    server = serving_start("");
    return 0;
}

static int group_close(void **state)
{
    serving_stop(server);
    reference_free(&model);
    return serving_group_close(state);
}

/* A connection with the feature, whose streams generate. */
static struct wire *generator_new(const char *writer)
{
    struct wire *w = wire_connect(sys_daemon_endpoint(server), writer);

    w->feature = "tokens";
    w->generates = true;
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    assert_int_equal(w->reply->hello->n_features, 1);
    return w;
}

/* The stream is closed and its results received, so that its id is free again. */
static void finish(struct wire *w, struct wire_stream *s)
{
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    wire_credit(w, s, s->next, s->limit);
}

/* The generation's tokens are `n` of `want` from `skip` on, at the indices from `first` on, bit for bit. */
static void tokens_check(const struct wire_stream *s, uint64_t first, uint32_t skip, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct ssm_top got = generating_token(s, first + i);

        assert_int_equal(got.token, want[skip + i].token);
        assert_memory_equal(&got, &want[skip + i], sizeof(got));
    }
}

static void tokens_push(struct wire *w, struct wire_stream *s, const int32_t *tokens, uint32_t n, uint32_t flags)
{
    struct wire_chunk chunk = {
        .stream = s, .first = s->sent, .frames = n, .format = SSMD__FORMAT__I32LE, .flags = flags, .samples = tokens};

    wire_send(w, &chunk, 1);
    s->sent += n;
}

/* ---- top-k ------------------------------------------------------------------------------------------------------- */

static void results__with_top_k__are_the_most_probable_of_every_frame(void **state)
{
    enum { K = 5 };
    struct wire *w = generator_new("a");
    struct wire_stream *s;
    struct ssm_top top[K];

    (void)state;
    w->generates = false;
    w->top_k = K;
    s = wire_open(w, "top", model.name, WIRE_RESULTS);
    assert_int_equal(w->reply->stream->top_k, K);
    assert_int_equal(s->out_channels, 2 * K);
    tokens_push(w, s, model.in, model.frames, 0);
    WIRE_UNTIL(w, s->results == model.frames);
    for (uint32_t i = 0; i < model.frames; i++) {
        assert_int_equal(ssm_top_k(model.step + (size_t)i * model.vocab, model.vocab, K, top), SSM_OK);
        assert_memory_equal(s->out + (size_t)i * 2 * K, top, sizeof(top));
    }
    finish(w, s);
    wire_free(w);
}

static void results__with_top_k_and_generates__begin_with_the_drawn_token(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s;
    struct generating g;

    (void)state;
    w->top_k = 3;
    s = wire_open(w, "both", model.name, WIRE_RESULTS);
    assert_int_equal(s->out_channels, 8);
    generating_init(&g, &model, 5, 6, 20);
    g.request.temperature = 0;
    g.request.has_temperature = true;
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
    generating_wait(w, s, 0);
    for (uint64_t i = 0; i < 25; i++) {
        const struct ssm_top *frame = (const struct ssm_top *)(const void *)(s->out + i * 8);

        assert_int_equal(frame[0].token, i < 5 ? -1 : frame[1].token); /* greedy: the most probable */
        if (i >= 5)
            assert_memory_equal(&frame[0], &frame[1], sizeof(*frame));
    }
    finish(w, s);
    wire_free(w);
}

/* ---- generations ------------------------------------------------------------------------------------------------- */

static void generation__with_a_seed__is_reproducible(void **state)
{
    struct wire *w = generator_new("a");
    struct ssm_top first[100];
    uint32_t differ = 0;

    (void)state;
    for (int round = 0; round < 3; round++) {
        struct wire_stream *s = wire_open(w, "again", model.name, WIRE_RESULTS);
        struct generating g;

        generating_init(&g, &model, 7, 10, 100);
        g.request.has_seed = true;
        g.request.seed = round < 2 ? 42 : 43;
        assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
        assert_int_equal(generating_wait(w, s, (size_t)round)->ending, SSMD__ENDING__MAXIMUM);
        for (uint32_t i = 0; i < 100; i++) {
            struct ssm_top got = generating_token(s, 9 + i);

            if (round == 0)
                first[i] = got;
            else if (round == 1)
                assert_memory_equal(&got, &first[i], sizeof(got));
            else
                differ += got.token != first[i].token;
        }
        finish(w, s);
    }
    assert_true(differ > 30);
    wire_free(w);
}

static void generation__under_any_options__equals_feeding_its_output_back_by_hand(void **state)
{
    static const struct {
        float temperature, top_p, min_p, penalty;
        uint32_t top_k, window, prompt;
    } cases[] = {{0, 1, 0, 1, 0, 64, 1},    {1, 1, 0, 1, 0, 64, 3},       {3, 1, 0, 1, 20, 64, 17},
                 {5, 0.8f, 0, 1, 0, 64, 2}, {4, 1, 0.1f, 1, 0, 64, 64},   {3, 0.95f, 0.02f, 1.3f, 40, 16, 5},
                 {1, 1, 0, 2, 0, 1024, 30}, {6, 0.5f, 0.5f, 1, 96, 0, 33}};
    struct wire *w = generator_new("a");

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct wire_stream *s = wire_open(w, "hand", model.name, WIRE_RESULTS);
        uint32_t recent[] = {1, 2, 3, 50, 96};
        const struct wire_event *event;
        struct generating g;

        generating_init(&g, &model, 100 + (uint32_t)i, cases[i].prompt, 300);
        g.request.temperature = cases[i].temperature;
        g.request.top_p = cases[i].top_p;
        g.request.min_p = cases[i].min_p;
        g.request.repetition_penalty = cases[i].penalty;
        g.request.top_k = cases[i].top_k;
        g.request.repetition_window = cases[i].window;
        g.request.seed = UINT64_C(1) << 40 | i;
        g.request.has_temperature = g.request.has_top_p = g.request.has_min_p = g.request.has_repetition_penalty =
            g.request.has_top_k = g.request.has_repetition_window = g.request.has_seed = true;
        g.request.recent = recent;
        g.request.n_recent = 5;
        assert_int_equal(generating_by_hand(&model, &g.request, want), 300);
        assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
        event = generating_wait(w, s, i);
        assert_int_equal(event->first, cases[i].prompt - 1);
        assert_int_equal(event->next, cases[i].prompt - 1 + 300);
        tokens_check(s, event->first, 0, 300);
        finish(w, s);
    }
    wire_free(w);
}

static void generation__that_draws_a_stop_token__delivers_it_and_ends(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s = wire_open(w, "stop", model.name, WIRE_RESULTS);
    uint32_t stop[] = {3, 5, 96};
    const struct wire_event *event;
    struct generating g;
    uint32_t n;

    (void)state;
    generating_init(&g, &model, 11, 8, 2000);
    g.request.stop = stop;
    g.request.n_stop = 3;
    n = generating_by_hand(&model, &g.request, want);
    assert_in_range(n, 2, 1999);
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
    event = generating_wait(w, s, 0);
    assert_int_equal(event->ending, SSMD__ENDING__STOP_TOKEN);
    assert_int_equal(event->next - event->first, n);
    tokens_check(s, event->first, 0, n);
    s->sent = event->next; /* the stop token is not consumed */
    tokens_push(w, s, model.in, 1, 0);
    WIRE_UNTIL(w, s->applied == s->sent);
    finish(w, s);
    wire_free(w);
}

/* One long generation, and the same in three requests: an empty prompt, and the last token by hand. */
static void generation__continued__is_as_if_it_had_not_ended(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s = wire_open(w, "goes-on", model.name, WIRE_RESULTS);
    uint32_t seen[GENERATING_MOST];
    struct generating g;
    uint64_t at;

    (void)state;
    generating_init(&g, &model, 21, 9, 90);
    g.request.seed = 5;
    g.request.has_seed = true;
    g.request.repetition_penalty = 1.2f;
    g.request.has_repetition_penalty = true;
    assert_int_equal(generating_by_hand(&model, &g.request, want), 90);
    for (uint32_t i = 0; i < 9; i++)
        seen[i] = g.prompt[i];
    for (uint32_t i = 0; i < 90; i++)
        seen[9 + i] = (uint32_t)want[i].token;
    g.request.maximum = 30;
    for (uint32_t part = 0; part < 3; part++) {
        assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
        at = generating_wait(w, s, part)->next;
        assert_int_equal(at, 8 + 30 * (part + 1));
        s->sent = at;
        tokens_check(s, 8 + 30 * part, 30 * part, 30);
        g.request.n_prompt = part; /* then empty, then the last token */
        g.prompt[0] = seen[at];
        g.request.recent = seen;
        g.request.n_recent = (size_t)at; /* all but what is consumed now */
    }
    finish(w, s);
    wire_free(w);
}

/* The rest of the stream is what libssm gives for prompt, tokens and rest sent by hand. */
static void data__after_a_generation__finds_the_state_of_prompt_and_tokens(void **state)
{
    enum { REST = 40 };
    struct wire *w = generator_new("a");
    struct wire_stream *s;
    struct generating g;
    int32_t tokens[10 + 50 + REST];
    float *logits = malloc(sizeof(tokens) / sizeof(*tokens) * model.vocab * sizeof(float));
    struct ssm_top top[4];

    (void)state;
    assert_non_null(logits);
    w->top_k = 4;
    s = wire_open(w, "state", model.name, WIRE_RESULTS);
    generating_init(&g, &model, 31, 10, 50);
    assert_int_equal(generating_by_hand(&model, &g.request, want), 50);
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
    s->sent = generating_wait(w, s, 0)->next;
    for (uint32_t i = 0; i < 10; i++)
        tokens[i] = (int32_t)g.prompt[i];
    for (uint32_t i = 0; i < 50; i++)
        tokens[10 + i] = want[i].token;
    for (uint32_t i = 0; i < REST; i++)
        tokens[60 + i] = (int32_t)(i * 7 % model.vocab);
    assert_int_equal(s->sent, 59); /* all but the last token */
    tokens_push(w, s, tokens + 59, 1 + REST, 0);
    WIRE_UNTIL(w, s->results == 60 + REST);
    reference_step(&model, tokens, 60 + REST, logits); /* the scan of mamba is its step (docs/MODELS.md) */
    for (uint32_t i = 0; i < 60 + REST; i++) {
        assert_int_equal(ssm_top_k(logits + (size_t)i * model.vocab, model.vocab, 4, top), SSM_OK);
        assert_memory_equal(s->out + (size_t)i * 10 + 2, top, sizeof(top));
    }
    finish(w, s);
    free(logits);
    wire_free(w);
}

static void generations__fifty_beside_live_streams__are_each_their_own(void **state)
{
    enum { MANY = 50, LIVE = 10, TOKENS = 120 };
    struct wire *w = generator_new("many"), *live = wire_new(sys_daemon_endpoint(server), "live");
    struct wire_stream *s[MANY], *l[LIVE];
    struct generating g[MANY];
    uint32_t at = 0;
    char id[16];

    (void)state;
    for (uint32_t i = 0; i < LIVE; i++) {
        snprintf(id, sizeof(id), "live-%u", i);
        l[i] = wire_open(live, id, model.name, WIRE_RESULTS);
    }
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(id, sizeof(id), "many-%u", i);
        s[i] = wire_open(w, id, model.name, WIRE_RESULTS);
        generating_init(&g[i], &model, 500 + i, 1 + i % 40, TOKENS);
        g[i].request.has_seed = true;
        g[i].request.seed = i;
    }
    for (uint32_t i = 0; i < MANY; i++) {
        assert_int_equal(wire_generate(w, s[i], &g[i].request), SSMD__CODE__OK);
        for (uint32_t k = 0; i % 2 && at < model.frames && k < LIVE; k++)
            tokens_push(live, l[k], (const int32_t *)model.in + at, 1, 0);
        at += i % 2 && at < model.frames;
    }
    for (; at < model.frames; at++)
        for (uint32_t k = 0; k < LIVE; k++)
            tokens_push(live, l[k], (const int32_t *)model.in + at, 1, 0);
    for (uint32_t i = 0; i < MANY; i++)
        generating_wait(w, s[i], i);
    for (uint32_t i = 0; i < MANY; i++) {
        WIRE_UNTIL(w, s[i]->next >= g[i].request.n_prompt - 1 + TOKENS);
        assert_int_equal(generating_by_hand(&model, &g[i].request, want), TOKENS);
        tokens_check(s[i], g[i].request.n_prompt - 1, 0, TOKENS);
    }
    for (uint32_t k = 0; k < LIVE; k++) {
        WIRE_UNTIL(live, l[k]->results == model.frames);
        assert_memory_equal(l[k]->out, model.step, (size_t)model.frames * model.vocab * sizeof(float));
        finish(live, l[k]);
    }
    for (uint32_t i = 0; i < MANY; i++)
        finish(w, s[i]);
    wire_free(w);
    wire_free(live);
}

/* ---- its end ----------------------------------------------------------------------------------------------------- */

static void generating_long(struct wire *w, struct wire_stream *s, struct generating *g)
{
    generating_init(g, &model, 41, 4, UINT64_C(1) << 40);
    assert_int_equal(wire_generate(w, s, &g->request), SSMD__CODE__OK);
    WIRE_UNTIL(w, s->results > 20);
}

static void data__to_a_generating_stream__is_busy(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s = wire_open(w, "busy", model.name, WIRE_RESULTS);
    struct wire_chunk chunk = {.stream = s, .frames = 1, .format = SSMD__FORMAT__I32LE, .samples = model.in};
    struct generating g, second;

    (void)state;
    generating_long(w, s, &g);
    chunk.first = UINT64_C(1) << 41;
    wire_send(w, &chunk, 1);
    WIRE_UNTIL(w, wire_refusals(w, SSMD__CODE__BUSY) == 1);
    assert_non_null(strstr(wire_last_refusal(w)->text, "generating"));
    generating_init(&second, &model, 1, 1, 1);
    assert_int_equal(wire_generate(w, s, &second.request), SSMD__CODE__BUSY);
    assert_int_equal(wire_cancel(w, s), SSMD__CODE__OK);
    s->sent = generating_wait(w, s, 0)->next;
    tokens_push(w, s, model.in, 1, 0);
    WIRE_UNTIL(w, s->applied == s->sent);
    finish(w, s);
    wire_free(w);
}

static void cancel__of_a_running_generation__ends_it_where_the_event_says(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s = wire_open(w, "cancel", model.name, WIRE_RESULTS);
    const struct wire_event *event;
    struct generating g;
    uint32_t n;

    (void)state;
    generating_long(w, s, &g);
    assert_int_equal(wire_cancel(w, s), SSMD__CODE__OK);
    event = generating_wait(w, s, 0);
    assert_int_equal(event->ending, SSMD__ENDING__CANCELLED);
    n = (uint32_t)(event->next - event->first);
    assert_true(n > 16 && s->next == event->next);
    g.request.maximum = n < GENERATING_MOST ? n : GENERATING_MOST;
    generating_by_hand(&model, &g.request, want);
    tokens_check(s, event->first, 0, (uint32_t)g.request.maximum);
    assert_int_equal(wire_cancel(w, s), SSMD__CODE__OK); /* there is none: nothing to do */
    s->sent = event->next;
    g.request.n_prompt = 0;
    g.request.maximum = 3;
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
    assert_int_equal(generating_wait(w, s, 1)->next, event->next + 3);
    finish(w, s);
    wire_free(w);
}

static void reader__that_takes_nothing__stops_its_own_generation_only(void **state)
{
    struct sys_daemon *group = server;
    struct wire *w, *other;
    struct wire_stream *slow, *fast;
    struct generating g;
    uint64_t stopped;

    (void)state;
    server = serving_start("result_ring = 16K\n");
    w = generator_new("slow");
    other = generator_new("fast");
    slow = wire_open(w, "slow", model.name, WIRE_RESULTS | WIRE_NO_CREDIT);
    fast = wire_open(other, "fast", model.name, WIRE_RESULTS);
    generating_init(&g, &model, 51, 5, GENERATING_MOST);
    assert_int_equal(generating_by_hand(&model, &g.request, want), GENERATING_MOST);
    assert_int_equal(wire_generate(w, slow, &g.request), SSMD__CODE__OK);
    WIRE_UNTIL(w, wire_counter(w, "rings_full") > 0);
    stopped = slow->applied;
    assert_in_range(stopped, 1000, 2048); /* 16 KiB of 8-byte results */
    assert_int_equal(wire_generate(other, fast, &g.request), SSMD__CODE__OK);
    generating_wait(other, fast, 0);
    tokens_check(fast, 4, 0, GENERATING_MOST);
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    assert_int_equal(slow->applied, stopped);
    slow->grant = 4096;
    wire_credit(w, slow, 0, 4096);
    generating_wait(w, slow, 0);
    tokens_check(slow, 4, 0, GENERATING_MOST);
    wire_free(w);
    wire_free(other);
    serving_stop(server);
    server = group;
}

static void close__during_a_generation__ends_it_first(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s = wire_open(w, "close", model.name, WIRE_RESULTS);
    struct generating g;

    (void)state;
    generating_long(w, s, &g);
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    assert_int_equal(generating_wait(w, s, 0)->ending, SSMD__ENDING__STREAM_CLOSED);
    assert_int_equal(w->reply->stream->result_next, s->next);
    wire_credit(w, s, s->next, s->limit);
    wire_free(w);
}

static void reset__during_a_generation__ends_it_and_begins_again(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s = wire_open(w, "reset", model.name, WIRE_RESULTS);
    struct generating g;

    (void)state;
    generating_long(w, s, &g);
    assert_int_equal(wire_reset(w, s), SSMD__CODE__OK);
    assert_int_equal(wire_events(w, SSMD__EVENT__KIND__GENERATED), 1);
    assert_int_equal(s->sent, 0);
    s->begin = s->results = 0; /* of the new epoch */
    g.request.maximum = 10;
    assert_int_equal(generating_by_hand(&model, &g.request, want), 10);
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
    assert_int_equal(generating_wait(w, s, 1)->next, 3 + 10);
    tokens_check(s, 3, 0, 10);
    finish(w, s);
    wire_free(w);
}

static void connection__that_breaks_during_a_generation__finds_it_again(void **state)
{
    struct wire *w = generator_new("comes-back");
    struct wire_stream *s = wire_open(w, "broken", model.name, WIRE_RESULTS);
    struct generating g;
    uint64_t had;

    (void)state;
    generating_init(&g, &model, 61, 6, 3000);
    assert_int_equal(generating_by_hand(&model, &g.request, want), 3000);
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
    WIRE_UNTIL(w, s->results > 50);
    had = s->next;
    wire_free(w);
    w = generator_new("comes-back");
    assert_int_equal(wire_try_open(w, &s, "broken", model.name, WIRE_RESULTS | WIRE_FROM, had), SSMD__CODE__OK);
    assert_non_null(w->reply->stream->generation);
    assert_int_equal(w->reply->stream->generation->first, 5);
    s->sent = 5 + 3000;
    WIRE_UNTIL(w, s->next == 5 + 3000);
    tokens_check(s, had, (uint32_t)(had - 5), (uint32_t)(5 + 3000 - had));
    finish(w, s);
    wire_free(w);
}

static void take_over__during_a_generation__ends_it_silently(void **state)
{
    struct wire *w = generator_new("old"), *next = generator_new("new");
    struct wire_stream *s = wire_open(w, "taken", model.name, WIRE_RESULTS), *t;
    struct generating g;

    (void)state;
    generating_long(w, s, &g);
    assert_int_equal(wire_try_open(next, &t, "taken", model.name, WIRE_RESULTS | WIRE_TAKE_OVER, 0), SSMD__CODE__OK);
    t->sent += 1000;
    WIRE_UNTIL(w, s->is_taken_over);
    finish(next, t);
    assert_int_equal(next->reply->stream->generation->ending, SSMD__ENDING__STREAM_CLOSED);
    assert_int_equal(wire_events(next, SSMD__EVENT__KIND__GENERATED), 0);
    wire_free(w);
    wire_free(next);
}

static void daemon__that_is_stopped__finishes_within_its_time(void **state)
{
    struct sys_daemon *group = server;
    struct wire_stream *s;
    struct generating g;
    struct wire *w;

    (void)state;
    server = serving_start("drain_ms = 300\n");
    w = generator_new("a");
    s = wire_open(w, "drain", model.name, WIRE_RESULTS);
    generating_long(w, s, &g);
    sys_daemon_signal(server, 15);
    WIRE_UNTIL(w, w->is_going_away);
    assert_int_equal(sys_daemon_wait(server, WIRE_MS), 0);
    sys_daemon_free(server);
    wire_free(w);
    server = group;
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void requests__with_a_bad_option__name_it(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s = wire_open(w, "bad", model.name, WIRE_RESULTS);
    static uint32_t many[2000], outside[] = {1, 97};
    struct generating g;

    (void)state;
#define CHECK_REFUSED(code, word, ...)                                                                                 \
    do {                                                                                                               \
        generating_init(&g, &model, 1, 3, 10);                                                                         \
        __VA_ARGS__;                                                                                                   \
        assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__##code);                                         \
        assert_non_null(strstr(w->reply->error->text, word));                                                          \
    } while (0)
    CHECK_REFUSED(BAD_OPTION, "temperature", g.request.has_temperature = 1, g.request.temperature = -1);
    CHECK_REFUSED(BAD_OPTION, "temperature", g.request.has_temperature = 1, g.request.temperature = NAN);
    CHECK_REFUSED(BAD_OPTION, "top_p", g.request.has_top_p = 1, g.request.top_p = 0);
    CHECK_REFUSED(BAD_OPTION, "top_p", g.request.has_top_p = 1, g.request.top_p = 1.5f);
    CHECK_REFUSED(BAD_OPTION, "min_p", g.request.has_min_p = 1, g.request.min_p = -0.5f);
    CHECK_REFUSED(BAD_OPTION, "repetition_penalty", g.request.has_repetition_penalty = 1,
                  g.request.repetition_penalty = 0);
    CHECK_REFUSED(BAD_OPTION, "repetition_window", g.request.has_repetition_window = 1,
                  g.request.repetition_window = 1025);
    CHECK_REFUSED(BAD_OPTION, "maximum", g.request.maximum = 0);
    CHECK_REFUSED(BAD_OPTION, "stop", g.request.n_stop = 65, g.request.stop = many);
    CHECK_REFUSED(BAD_OPTION, "recent", g.request.n_recent = 1025, g.request.recent = many);
    CHECK_REFUSED(BAD_OPTION, "prompt", g.request.n_prompt = 0);
    CHECK_REFUSED(BAD_SAMPLE, "stop: element 1", g.request.n_stop = 2, g.request.stop = outside);
    CHECK_REFUSED(BAD_SAMPLE, "recent: element 1", g.request.n_recent = 2, g.request.recent = outside);
    CHECK_REFUSED(BAD_SAMPLE, "prompt: element 1", g.request.n_prompt = 2, g.request.prompt = outside);
#undef CHECK_REFUSED
    generating_init(&g, &model, 1, 3, 10);
    s->epoch++;
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__STALE_EPOCH);
    s->epoch--;
    s->sent++;
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__GAP);
    s->sent--;
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK); /* and nothing had changed */
    assert_int_equal(generating_wait(w, s, 0)->first, 2);
    finish(w, s);
    wire_free(w);
}

static void prompt__over_a_limit__is_refused_and_says_what_to_do(void **state)
{
    struct sys_daemon *group = server;
    static uint32_t prompt[300];
    struct wire_stream *s;
    struct generating g;
    struct wire *w;

    (void)state;
    server = serving_start("chunk_frames = 256\n");
    w = generator_new("a");
    s = wire_open(w, "long", model.name, WIRE_RESULTS);
    generating_init(&g, &model, 1, 1, 10);
    g.request.prompt = prompt;
    g.request.n_prompt = 257;
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__TOO_LARGE);
    assert_non_null(strstr(w->reply->error->text, "backfill"));
    tokens_push(w, s, (const int32_t *)(const void *)prompt, 200, PROTO_FLAG_BACKFILL);
    g.request.n_prompt = 256;
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__OK);
    assert_int_equal(generating_wait(w, s, 0)->first, 455);
    g.request.n_prompt = 300;
    g.request.prompt = prompt;
    assert_int_equal(generating_token(s, 454).token, -1);
    assert_in_range(generating_token(s, 455).token, 0, 96);
    wire_free(w);
    serving_stop(server);
    server = group;
}

static void opens__with_bad_options__name_them(void **state)
{
    struct wire *w = generator_new("a");
    struct wire_stream *s, *t;

    (void)state;
    assert_int_equal(wire_try_open(w, &s, "o", "twice", WIRE_RESULTS, 0), SSMD__CODE__BAD_OPTION);
    assert_non_null(strstr(w->reply->error->text, "signal"));
    assert_int_equal(wire_try_open(w, &s, "o", "case-mixed-tokens", WIRE_RESULTS, 0), SSMD__CODE__BAD_OPTION);
    assert_non_null(strstr(w->reply->error->text, "7 outputs"));
    w->top_k = 98;
    assert_int_equal(wire_try_open(w, &s, "o", model.name, WIRE_RESULTS, 0), SSMD__CODE__BAD_OPTION);
    assert_non_null(strstr(w->reply->error->text, "97"));
    w->top_k = 97;
    s = wire_open(w, "o", model.name, WIRE_RESULTS);
    w->top_k = 96;
    assert_int_equal(wire_try_open(w, &t, "o", model.name, WIRE_RESULTS, 0), SSMD__CODE__EXISTS);
    assert_non_null(strstr(w->reply->error->text, "top_k 97"));
    finish(w, s);
    wire_free(w);
}

static void requests__without_the_feature__are_refused(void **state)
{
    struct wire *w = wire_new(sys_daemon_endpoint(server), "plain");
    struct wire_stream *s = wire_open(w, "plain", model.name, WIRE_RESULTS), *t;
    struct generating g;

    (void)state;
    generating_init(&g, &model, 1, 3, 10);
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__FEATURE);
    assert_int_equal(wire_cancel(w, s), SSMD__CODE__FEATURE);
    w->top_k = 1;
    assert_int_equal(wire_try_open(w, &t, "other", model.name, WIRE_RESULTS, 0), SSMD__CODE__FEATURE);
    w->top_k = 0;
    w->feature = "tokens";
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    assert_int_equal(wire_generate(w, s, &g.request), SSMD__CODE__BAD_OPTION); /* not opened for it */
    assert_non_null(strstr(w->reply->error->text, "generates"));
    assert_int_equal(wire_cancel(w, s), SSMD__CODE__OK);
    finish(w, s);
    wire_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results__with_top_k__are_the_most_probable_of_every_frame),
        cmocka_unit_test(results__with_top_k_and_generates__begin_with_the_drawn_token),
        cmocka_unit_test(generation__with_a_seed__is_reproducible),
        cmocka_unit_test(generation__under_any_options__equals_feeding_its_output_back_by_hand),
        cmocka_unit_test(generation__that_draws_a_stop_token__delivers_it_and_ends),
        cmocka_unit_test(generation__continued__is_as_if_it_had_not_ended),
        cmocka_unit_test(data__after_a_generation__finds_the_state_of_prompt_and_tokens),
        cmocka_unit_test(generations__fifty_beside_live_streams__are_each_their_own),
        cmocka_unit_test(data__to_a_generating_stream__is_busy),
        cmocka_unit_test(cancel__of_a_running_generation__ends_it_where_the_event_says),
        cmocka_unit_test(reader__that_takes_nothing__stops_its_own_generation_only),
        cmocka_unit_test(close__during_a_generation__ends_it_first),
        cmocka_unit_test(reset__during_a_generation__ends_it_and_begins_again),
        cmocka_unit_test(connection__that_breaks_during_a_generation__finds_it_again),
        cmocka_unit_test(take_over__during_a_generation__ends_it_silently),
        cmocka_unit_test(daemon__that_is_stopped__finishes_within_its_time),
        cmocka_unit_test(requests__with_a_bad_option__name_it),
        cmocka_unit_test(prompt__over_a_limit__is_refused_and_says_what_to_do),
        cmocka_unit_test(opens__with_bad_options__name_them),
        cmocka_unit_test(requests__without_the_feature__are_refused),
    };

    return cmocka_run_group_tests_name("generate", tests, group_open, group_close);
}
