/* SPDX-License-Identifier: Apache-2.0
 *
 * Generation: the prompt goes to the daemon, drawn tokens come back as results.
 *
 * A prompt longer than PROMPT_MAX travels as backfill first, cut on the grid on which chunks show in no bit
 * (proto/PROTOCOL.md), and the request goes out when all of it is applied: then nothing is kept here, and the request
 * names the index at which the daemon stands. So it may be repeated after a broken link: one that was taken has moved
 * that index, and the reopened stream says that it generates. While it does, acknowledgements run ahead of what was
 * pushed here and take the input's index along.
 */
#include "clients/c/client.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_MAX = 1024, GRID = 64 };

void ssmc_sampling_init(struct ssmc_sampling *out)
{
    *out = (struct ssmc_sampling){.repetition_penalty = 1, .repetition_window = 64, .temperature = 1, .top_p = 1};
}

/* ---- what the daemon says ---------------------------------------------------------------------------------------- */

static void begin(struct ssmc_stream *s, const Ssmd__StreamInfo *info)
{
    stream_restart_input(s, info->applied, info->next);
    s->generation.state = GENERATION_RUNNING;
    s->generation.pushed = 0;
    s->generation.is_cancelled = false;
}

void generate_take_end(struct ssmc_stream *s, const Ssmd__Generation *generation)
{
    struct generation *g = &s->generation;
    if (g->state != GENERATION_RUNNING || !generation || !generation->has_ending || generation->first != g->first)
        return;
    g->state = GENERATION_ENDED;
    g->next = generation->next;
    g->ending = (int)generation->ending;
    if (g->next > s->kept.next)
        stream_restart_input(s, s->info.applied, g->next);
}

void generate_resume(struct ssmc_stream *s, const Ssmd__StreamInfo *info)
{
    struct generation *g = &s->generation;
    if (g->state != GENERATION_ASKING && g->state != GENERATION_RUNNING)
        return;
    if (!info->generation || info->generation->first != g->first)
        return;
    begin(s, info);
    generate_take_end(s, info->generation);
}

bool generate_take_ack(struct ssmc_stream *s, uint64_t applied)
{
    if (applied <= s->kept.next || s->generation.state != GENERATION_RUNNING)
        return applied <= s->kept.next;
    stream_restart_input(s, applied, applied);
    return true;
}

static void answer_generate(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct ssmc_stream *s = r->context;
    if (!reply || s->generation.state != GENERATION_ASKING)
        return; /* asked again on the next connection, or found by generate_resume */
    if (reply->error) {
        s->generation.state = GENERATION_NONE;
        s->generation.pushed = 0;
        s->control_status = fail_refused(c, reply->error);
    } else if (reply->answer_case != SSMD__REPLY__ANSWER_STREAM) {
        s->generation.state = GENERATION_NONE;
        s->control_status = fail(c, SSMC_PROTOCOL, "the daemon answered generate with something else");
    } else {
        begin(s, reply->stream);
    }
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* Tokens of the prompt that go as data before the request: up to a border of the grid, or none. */
static size_t prompt_head(const struct ssmc_generate_options *o, uint64_t begun)
{
    if (o->prompt_n <= PROMPT_MAX)
        return 0;
    return (size_t)((begun + o->prompt_n - 1) / GRID * GRID - begun);
}

static int check(const struct ssmc_stream *s, const struct ssmc_generate_options *o)
{
    int rc = stream_check(s);
    if (rc != 0)
        return rc;
    if (s->reader || s->is_closing || s->is_resetting)
        return fail(s->c, SSMC_INVAL, "stream %s cannot generate: it is %s", s->info.id,
                    s->reader       ? "only read"
                    : s->is_closing ? "closing"
                                    : "being reset");
    if (!s->generates)
        return fail(s->c, SSMC_INVAL, "stream %s was not opened with `generates`", s->info.id);
    if (s->generation.state == GENERATION_RUNNING)
        return fail(s->c, SSMC_INVAL, "stream %s is generating: cancel that, or take its tokens to the end",
                    s->info.id);
    for (size_t i = 0; i < o->prompt_n + o->stop_n + o->recent_n; i++) {
        int32_t token = i < o->prompt_n               ? o->prompt[i]
                        : i < o->prompt_n + o->stop_n ? o->stop[i - o->prompt_n]
                                                      : o->recent[i - o->prompt_n - o->stop_n];
        if (token < 0)
            return fail(s->c, SSMC_INVAL, "token %" PRId32 ": tokens are not negative", token);
    }
    return SSMC_OK;
}

static void ask(struct ssmc_stream *s, const struct ssmc_generate_options *o, size_t head)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Generate g = SSMD__GENERATE__INIT;
    const struct ssmc_sampling *p = &o->sampling;
    if (s->state != STREAM_LIVE || s->request.id != 0)
        return;
    g.handle = s->handle;
    g.epoch = s->info.epoch;
    g.first = s->kept.next;
    g.n_prompt = o->prompt_n - head;
    g.prompt = (uint32_t *)(uintptr_t)(o->prompt ? o->prompt + head : NULL);
    g.maximum = o->maximum;
    g.n_stop = o->stop_n;
    g.stop = (uint32_t *)(uintptr_t)o->stop;
    g.n_recent = o->recent_n;
    g.recent = (uint32_t *)(uintptr_t)o->recent;
    g.has_repetition_penalty = g.has_repetition_window = g.has_temperature = g.has_top_k = g.has_top_p = g.has_min_p =
        g.has_seed = 1;
    g.repetition_penalty = p->repetition_penalty;
    g.repetition_window = p->repetition_window;
    g.temperature = p->temperature;
    g.top_k = p->top_k;
    g.top_p = p->top_p;
    g.min_p = p->min_p;
    g.seed = p->seed;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_GENERATE;
    message.generate = &g;
    s->generation.first = g.first + (g.n_prompt ? g.n_prompt - 1 : 0);
    if (request_send(s->c, &s->request, &message, answer_generate, s) == 0)
        s->generation.state = GENERATION_ASKING;
}

/* Pushes what fits of the prompt's head. */
static int push_head(struct ssmc_stream *s, const struct ssmc_generate_options *o, size_t head)
{
    struct generation *g = &s->generation;
    while (g->pushed < head) {
        uint64_t n = ssmc_room(s) / GRID * GRID;
        int rc;
        if (n > head - g->pushed)
            n = head - g->pushed;
        if (n > s->c->chunk_frames)
            n = s->c->chunk_frames / GRID * GRID;
        if (n == 0)
            return 0;
        rc = ssmc_push(s, SSMC_I32, o->prompt + g->pushed, (uint32_t)n, SSMC_BACKFILL, 0);
        if (rc != 0)
            return rc == SSMC_FULL ? 0 : rc;
        g->pushed += (size_t)n;
    }
    return 0;
}

/* Those of the prompt, and what was not taken before: left alone they would fill the ring and stop the prompt. */
static int results_drop(struct ssmc_stream *s)
{
    int rc;
    while ((rc = ssmc_next(s, &s->generation.held)) == 1)
        continue;
    s->generation.held.frames = s->generation.at = 0;
    return rc;
}

/* What the daemon answered, once. */
static int take_status(struct ssmc_stream *s)
{
    int status = s->control_status;
    s->control_status = 0;
    return status;
}

/* One turn of waiting; 0 to look again. */
static int wait_slice(struct ssmc_stream *s, int64_t until, const char *what)
{
    int rc = poll_until(s->c, until);
    if (rc == 0 && now_ns() >= until)
        return fail(s->c, SSMC_TIMEOUT, "stream %s: %s takes longer", s->info.id, what);
    return rc < 0 ? rc : 0;
}

int ssmc_generate(struct ssmc_stream *s, const struct ssmc_generate_options *o, int timeout_ms)
{
    int64_t until = deadline_ns(timeout_ms);
    struct generation *g = &s->generation;
    size_t head;
    int rc = check(s, o);
    if (rc != 0)
        return rc;
    head = prompt_head(o, s->kept.next - g->pushed);
    if (g->state == GENERATION_ENDED)
        g->state = GENERATION_NONE;
    s->control_status = 0;
    while ((rc = stream_check(s)) == 0) {
        if (s->control_status != 0)
            return take_status(s);
        if (g->state == GENERATION_RUNNING || g->state == GENERATION_ENDED)
            return SSMC_OK;
        if ((rc = results_drop(s)) != 0 || (rc = push_head(s, o, head)) != 0)
            return rc;
        if (g->pushed == head && s->info.applied == s->kept.next)
            ask(s, o, head);
        if ((rc = wait_slice(s, until, "taking the prompt")) != 0)
            return rc;
    }
    return rc;
}

static void answer_cancel(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct ssmc_stream *s = r->context;
    if (!reply)
        return; /* asked again on the next connection, of the handle that the stream has there */
    s->generation.is_cancelled = true;
    if (reply->error)
        s->control_status = fail_refused(c, reply->error);
}

static void ask_cancel(struct ssmc_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Cancel cancel = SSMD__CANCEL__INIT;
    if (s->state != STREAM_LIVE || s->request.id != 0)
        return;
    cancel.handle = s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_CANCEL;
    message.cancel = &cancel;
    (void)request_send(s->c, &s->request, &message, answer_cancel, s);
}

int ssmc_cancel(struct ssmc_stream *s, int timeout_ms)
{
    int64_t until = deadline_ns(timeout_ms);
    int rc;
    while ((rc = stream_check(s)) == 0 && s->generation.state == GENERATION_RUNNING && !s->generation.is_cancelled) {
        ask_cancel(s);
        rc = wait_slice(s, until, "cancelling");
        if (rc != 0)
            return rc;
    }
    return rc != 0 ? rc : take_status(s);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

/* The drawn tokens among the results that the caller holds. */
static int token_take(struct ssmc_stream *s, struct ssmc_token *out)
{
    struct generation *g = &s->generation;
    while (g->at < g->held.frames) {
        const struct ssmc_pair *pairs = g->held.pairs + (size_t)g->at * (g->held.channels / 2);
        uint64_t index = g->held.first + g->at++;
        if (g->held.epoch != s->info.epoch || index < g->first || pairs->token < 0)
            continue;
        *out = (struct ssmc_token){.token = pairs->token,
                                   .logprob = pairs->logprob,
                                   .index = index + 1,
                                   .top = pairs + 1,
                                   .top_n = g->held.channels / 2 - 1};
        return 1;
    }
    return 0;
}

int ssmc_next_token(struct ssmc_stream *s, struct ssmc_token *out)
{
    static const char *const endings[] = {"a stop token was drawn", "the maximum was drawn", "it was cancelled",
                                          "the stream was closed, reset or taken over",
                                          "the model's logits are not finite"};
    struct generation *g = &s->generation;
    int rc;
    if (!s->generates)
        return fail(s->c, SSMC_INVAL, "stream %s was not opened with `generates`", s->info.id);
    do {
        if (token_take(s, out))
            return 1;
        g->held.frames = g->at = 0;
        rc = ssmc_next(s, &g->held);
    } while (rc == 1);
    if (rc == 0 && g->state == GENERATION_ENDED && s->result_next >= g->next)
        return fail(s->c, SSMC_ENDED, "the generation has ended: %s",
                    g->ending >= 0 && g->ending < (int)(sizeof endings / sizeof *endings) ? endings[g->ending]
                                                                                          : "of an unknown cause");
    return rc;
}

int ssmc_ending(const struct ssmc_stream *s)
{
    return s->generation.state == GENERATION_ENDED ? s->generation.ending : -1;
}
