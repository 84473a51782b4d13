/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a stream, and opening it again after a reconnection.
 *
 * What the daemon answers to the second opening decides what happens to the frames kept here:
 *     next within what is kept   they are sent again from there, as they were, or as backfill after a long absence
 *     next below it, or the stream is not there
 *                                the daemon lost state: SSMC_LOST, or with restart_lost the stream begins again
 *     next beyond what was pushed, or the stream is another writer's
 *                                somebody else went on with it: SSMC_TAKEN
 * Streams wait their turn in a list; REOPEN_MAX are asked for at a time.
 */
#include "clients/c/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_MIN = 4096 };

void resume_enqueue(struct ssmc_stream *s)
{
    if (s->waits_reopen || s->is_freed)
        return;
    s->waits_reopen = true;
    s->reopen_next = NULL;
    if (s->c->reopen)
        s->c->reopen_tail->reopen_next = s;
    else
        s->c->reopen = s;
    s->c->reopen_tail = s;
}

void resume_cancel(struct ssmc_stream *s)
{
    struct ssmc *c = s->c;
    if (s->is_reopening) {
        s->is_reopening = false;
        c->reopening--;
    }
    if (!s->waits_reopen)
        return;
    s->waits_reopen = false;
    struct ssmc_stream *before = NULL;
    for (struct ssmc_stream *at = c->reopen; at != s; at = at->reopen_next)
        before = at;
    if (before)
        before->reopen_next = s->reopen_next;
    else
        c->reopen = s->reopen_next;
    if (c->reopen_tail == s)
        c->reopen_tail = before;
}

int resume_attach(struct ssmc_stream *s, const Ssmd__StreamInfo *info)
{
    struct ssmc *c = s->c;
    if (!info->has_handle)
        return fail(c, SSMC_PROTOCOL, "the daemon opened stream %s without a handle", s->info.id);
    handle_remove(c, s);
    if (handle_add(c, s, info->handle) != 0)
        return fail(c, SSMC_NOMEM, "no memory for a handle");
    s->state = STREAM_LIVE;
    s->arrived_bytes = 0; /* credit is counted anew for each handle */
    s->granted_limit = 0;
    s->granted_received = 0;
    if (s->wants_results || s->reader)
        transmit_credit_mark(s);
    return SSMC_OK;
}

void resume_new_epoch(struct ssmc_stream *s, const Ssmd__StreamInfo *info, uint64_t result)
{
    stream_restart_input(s, info->applied, info->next);
    s->info.epoch = info->epoch;
    s->info.result_first = info->result_first;
    s->info.result_next = info->result_next;
    s->is_resetting = s->is_rolling = false;
    s->generation = (struct generation){.state = GENERATION_NONE};
    if (s->result_epoch < info->epoch)
        stream_restart_results(s, info->epoch, result);
}

static void build_open(const struct ssmc_stream *s, Ssmd__Open *open)
{
    open->id.data = (uint8_t *)s->info.id;
    open->id.len = s->info.id_size;
    open->model = s->model;
    open->has_rate = s->rate > 0;
    open->rate = s->rate;
    open->has_native_rate = open->native_rate = s->native_rate && s->c->has_rates;
    open->has_channels = s->channels > 0;
    open->channels = s->channels;
    open->has_mode = 1;
    open->has_results = 1;
    open->results = s->wants_results;
    open->has_top_k = s->top_k > 0;
    open->top_k = s->top_k;
    open->has_generates = open->generates = s->generates;
    open->class_ = s->deadline_class[0] ? (char *)s->deadline_class : NULL;
    open->history = s->history.interval ? (Ssmd__History *)&s->history : NULL;
}

/* Where results begin on this connection. */
static uint64_t first_result(const Ssmd__StreamInfo *info)
{
    return info->has_results_from ? info->results_from : info->result_next;
}

/* The daemon no longer has what was applied: begin again where it stands, if that was asked for. */
static void restart_or_lose(struct ssmc_stream *s, const Ssmd__StreamInfo *info)
{
    if (!s->restart_lost || s->generation.state == GENERATION_ASKING || s->generation.state == GENERATION_RUNNING) {
        stream_kill(s, SSMC_LOST,
                    "stream %s: the daemon lost its state (it expects frame %" PRIu64 ", kept are %" PRIu64
                    " to %" PRIu64 ")",
                    s->info.id, info->next, kept_first(&s->kept), s->kept.next);
        return;
    }
    stream_restart_input(s, s->kept.next, s->kept.next); /* nothing is in flight, so what follows may be set */
    int rc = stream_take_info(s, info);
    if (rc != 0) {
        stream_kill(s, rc, "%s", s->c->error);
        return;
    }
    s->info.applied = s->kept.next;
    stream_restart_input(s, info->applied, info->next);
    results_clear(&s->results);
    stream_restart_results(s, info->epoch, first_result(info));
    s->result_hand = 0;
    s->is_resetting = s->is_rolling = false;
    s->close_sent = false;
    if (s->is_closing) { /* what was to be closed is not there: the caller has to push it again */
        s->is_closing = false;
        s->control_status = SSMC_LOST;
    }
}

static void reopened(struct ssmc_stream *s, const Ssmd__StreamInfo *info)
{
    if (!info->created && info->epoch == s->info.epoch)
        generate_resume(s, info);
    if (info->epoch != s->info.epoch && s->is_resetting) {
        resume_new_epoch(s, info, 0); /* the reset was done, its answer was lost */
    } else if (info->epoch != s->info.epoch && s->is_rolling) {
        resume_new_epoch(s, info, s->result_next < info->result_next ? s->result_next : info->result_next);
    } else if (info->created) {
        restart_or_lose(s, info);
    } else if (info->next > s->kept.next) {
        stream_kill(s, SSMC_TAKEN,
                    "stream %s: the daemon expects frame %" PRIu64 ", %" PRIu64 " were pushed here: it was "
                    "written by somebody else",
                    s->info.id, info->next, s->kept.next);
    } else {
        s->info.epoch = info->epoch;
        if (s->result_epoch < info->epoch)
            s->result_epoch = info->epoch; /* raised, but the index went on */
        stream_acknowledge(s, info->applied, info->durable);
        if (kept_rewind(&s->kept, info->next) != 0)
            restart_or_lose(s, info);
        else if (s->c->was_away)
            kept_mark_backfill(&s->kept);
    }
    if (s->state == STREAM_DEAD)
        return;
    int rc = resume_attach(s, info);
    if (rc != 0)
        stream_kill(s, rc, "%s", s->c->error);
    else
        transmit_mark(s);
}

static void refused(struct ssmc_stream *s, const Ssmd__Error *error)
{
    struct ssmc *c = s->c;
    bool is_gone = error->code == SSMD__CODE__NO_STREAM || error->code == SSMD__CODE__CLOSED;
    if (is_gone && s->close_sent && !s->has_new_daemon) {
        s->close_answered = s->is_ended = true; /* closed, and everything was received */
        s->state = STREAM_CLOSED;
    } else if (is_gone && s->restart_lost) {
        s->must_create = true;
        resume_enqueue(s);
    } else if (is_gone) {
        stream_kill(s, SSMC_LOST, "stream %s: the daemon lost it (%s)", s->info.id,
                    s->has_new_daemon ? "it was started anew and keeps no state" : error->text);
    } else if (error->code == SSMD__CODE__TOO_NEW || error->code == SSMD__CODE__TOO_OLD) {
        if (s->restart_lost) {
            s->from_oldest = true;
            resume_enqueue(s);
        } else {
            stream_kill(s, SSMC_LOST, "stream %s: results from %" PRIu64 " on are not there: %s", s->info.id,
                        s->result_next, error->text);
        }
    } else if (error->code == SSMD__CODE__OWNED) {
        stream_kill(s, SSMC_TAKEN, "stream %s: %s", s->info.id, error->text);
    } else if (error->code == SSMD__CODE__DRAINING || error->code == SSMD__CODE__BUSY) {
        link_restart(c, -1, error->text); /* again after the back-off, on the next daemon perhaps */
    } else {
        c->error_code = (int)error->code;
        stream_kill(s, SSMC_REFUSED, "%s", error->text);
    }
}

static void answer_reopen(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct ssmc_stream *s = r->context;
    s->is_reopening = false;
    c->reopening--;
    if (!reply)
        return; /* link_restart puts it into the list again */
    if (reply->error) {
        refused(s, reply->error);
        return;
    }
    s->must_create = s->from_oldest = false;
    if (reply->answer_case == SSMD__REPLY__ANSWER_STREAM)
        reopened(s, reply->stream);
    else
        stream_kill(s, SSMC_PROTOCOL, "the daemon answered open with something else");
}

void resume_step(struct ssmc *c)
{
    while (c->reopen && c->reopening < REOPEN_MAX) {
        struct ssmc_stream *s = c->reopen;
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__Open open = SSMD__OPEN__INIT;
        s->has_new_daemon = memcmp(s->incarnation, c->daemon.incarnation, sizeof s->incarnation) != 0;
        memcpy(s->incarnation, c->daemon.incarnation, sizeof s->incarnation);
        build_open(s, &open);
        open.mode = s->must_create ? SSMD__OPEN_MODE__CREATE : SSMD__OPEN_MODE__RESUME;
        open.has_results_from = s->wants_results && !s->must_create && !s->from_oldest && !s->is_rolling;
        open.results_from = s->result_next;
        message.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
        message.open = &open;
        if (request_send(c, &s->request, &message, answer_reopen, s) != 0)
            return;
        c->reopen = s->reopen_next;
        s->waits_reopen = false;
        s->is_reopening = true;
        c->reopening++;
    }
}

/* ---- the first opening ------------------------------------------------------------------------------------------- */

static int opened(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    struct ssmc_stream *s = context;
    const Ssmd__StreamInfo *info = reply->stream;
    int rc = stream_take_info(s, info);
    if (rc != 0)
        return rc;
    s->info.applied = s->kept.next; /* both 0: nothing is in flight */
    stream_restart_input(s, info->applied, info->next);
    stream_restart_results(s, info->epoch, first_result(info));
    s->from_oldest = false;
    memcpy(s->incarnation, c->daemon.incarnation, sizeof s->incarnation);
    s->is_new = false;
    return resume_attach(s, info);
}

static struct ssmc_stream *new_stream(struct ssmc *c, const struct ssmc_open_options *options, size_t id_size)
{
    struct ssmc_stream *s = stream_new(c);
    if (!s)
        return NULL;
    s->is_new = true;
    s->model = strdup(options->model);
    memcpy(s->info.id, options->id, id_size);
    s->info.id_size = id_size;
    s->rate = options->rate;
    s->native_rate = options->native_rate != 0;
    s->channels = options->channels;
    s->wants_results = options->results;
    s->top_k = options->top_k;
    snprintf(s->deadline_class, sizeof s->deadline_class, "%s", options->deadline_class ? options->deadline_class : "");
    s->generates = options->generates != 0;
    s->restart_lost = options->restart_lost;
    ssmd__history__init(&s->history);
    s->history.interval = options->history_interval;
    s->history.depth = options->history_depth;
    s->from_oldest = options->results_from == SSMC_OLDEST;
    s->result_next = s->from_oldest ? 0 : options->results_from;
    s->buffer_bytes = options->buffer_bytes == 0           ? BUFFER_DEFAULT
                      : options->buffer_bytes < BUFFER_MIN ? BUFFER_MIN
                                                           : options->buffer_bytes;
    if (!s->model) {
        ssmc_stream_free(s);
        return NULL;
    }
    return s;
}

int ssmc_open(struct ssmc *c, struct ssmc_stream **out, const struct ssmc_open_options *options, int timeout_ms)
{
    *out = NULL;
    size_t id_size = options->id_size;
    int rc = stream_id_check(c, options->id, &id_size);
    if (rc != 0)
        return rc;
    if (!options->model || !*options->model)
        return fail(c, SSMC_INVAL, "open needs the name of a model");
    if ((options->top_k > 0 || options->generates) && !c->has_tokens)
        return fail(c, SSMC_INVAL, "the daemon at %s knows no top_k and no generation: it is too old", c->endpoint);
    if (options->deadline_class && !c->has_schedule)
        return fail(c, SSMC_INVAL, "the daemon at %s knows no classes: it is too old", c->endpoint);
    if (options->deadline_class && strlen(options->deadline_class) >= sizeof(((struct ssmc_stream *)0)->deadline_class))
        return fail(c, SSMC_INVAL, "%s is too long for the name of a class", options->deadline_class);
    if (options->history_interval && !c->has_images)
        return fail(c, SSMC_INVAL, "the daemon at %s is too old for a history", c->endpoint);
    struct ssmc_stream *s = new_stream(c, options, id_size);
    if (!s)
        return fail(c, SSMC_NOMEM, "no memory for a stream");
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Open open = SSMD__OPEN__INIT;
    build_open(s, &open);
    open.mode = (Ssmd__OpenMode)options->mode;
    open.has_take_over = 1;
    open.take_over = options->take_over != 0;
    open.has_results_from = s->wants_results && !s->from_oldest;
    open.results_from = options->results_from;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
    message.open = &open;
    uint32_t reconnects = c->daemon.reconnects;
    int64_t until = deadline_ns(timeout_ms);
    rc = request_call(c, &message, SSMD__REPLY__ANSWER_STREAM, opened, s, timeout_ms);
    if (rc == SSMC_REFUSED && c->error_code == SSMD__CODE__EXISTS && c->daemon.reconnects != reconnects) {
        /* The first open may have created it before the link broke; RESUME without take-over finds only our own. */
        open.mode = SSMD__OPEN_MODE__RESUME;
        rc = request_call(c, &message, SSMD__REPLY__ANSWER_STREAM, opened, s, left_ms(until));
    }
    if (rc != 0) {
        ssmc_stream_free(s);
        return rc;
    }
    *out = s;
    return SSMC_OK;
}
