/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream: what the caller sees of it (info, push, room, results), and its beginning and end on this side.
 * Opening and reopening are in resume.c, close, reset and drain in control.c.
 */
#include "clients/c/client.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEPT_FACTOR = 4,         /* kept bytes per byte of window: float64 is twice float32, and durable lags applied */
    FLUSH_BYTES = 256 << 10, /* pushed without a poll: send */
};

struct ssmc_stream *stream_new(struct ssmc *c)
{
    struct ssmc_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->c = c;
    s->state = STREAM_OPENING;
    s->next = c->streams;
    if (s->next)
        s->next->prev = s;
    c->streams = s;
    return s;
}

void stream_info_copy(struct ssmc_stream_info *out, const Ssmd__StreamInfo *info)
{
    memset(out, 0, sizeof *out);
    out->id_size = info->id.len < sizeof out->id ? info->id.len : sizeof out->id - 1;
    if (out->id_size > 0)
        memcpy(out->id, info->id.data, out->id_size);
    snprintf(out->model, sizeof out->model, "%s", info->model);
    out->epoch = info->epoch;
    out->next = info->next;
    out->applied = info->applied;
    out->durable = info->durable;
    out->result_first = info->result_first;
    out->result_next = info->result_next;
    out->rate = info->rate;
    out->out_rate = info->out_rate;
    out->channels = info->channels;
    out->out_channels = info->out_channels;
    out->vocab = info->vocab;
    out->tokens = info->tokens;
    out->ratio_num = info->ratio_num;
    out->ratio_den = info->ratio_den;
    out->hop = info->hop;
    out->lookahead = info->lookahead;
    out->state_bytes = info->state_bytes;
    out->queued = info->queued;
    out->created = info->created;
    out->attached = info->attached;
    out->closing = info->closing;
    out->top_k = info->top_k;
    out->generates = info->generates;
    out->generating = info->generation && !info->generation->has_ending;
    out->history_interval = info->history ? info->history->interval : 0;
    out->history_depth = info->history ? info->history->depth : 0;
    out->history_bytes = info->history ? info->history->bytes : 0;
    out->history_oldest = info->history ? info->history->oldest : 0;
    snprintf(out->deadline_class, sizeof out->deadline_class, "%s", info->class_ ? info->class_ : "");
    out->deadline_misses = info->deadline_misses;
    out->catch_up = info->catch_up;
    out->config_rate = info->has_config_rate ? info->config_rate : info->rate;
    out->modes_zeroed = info->modes_zeroed;
    out->version = info->version;
    out->newest_version = info->has_newest_version ? info->newest_version : info->version;
}

int stream_id_check(struct ssmc *c, const char *id, size_t *size)
{
    *size = !id ? 0 : *size ? *size : strlen(id);
    if (*size < 1 || *size > PROTO_ID_MAX || memchr(id, 0, *size))
        return fail(c, SSMC_INVAL, "an id has 1 to 64 bytes, none of them 0");
    return SSMC_OK;
}

int stream_take_info(struct ssmc_stream *s, const Ssmd__StreamInfo *info)
{
    if (info->channels < 1 || info->out_channels < 1 || info->id.len < 1 || info->id.len > PROTO_ID_MAX)
        return fail(s->c, SSMC_PROTOCOL, "the daemon described a stream that cannot be");
    if (s->results.channels && s->results.channels != info->out_channels)
        return fail(s->c, SSMC_PROTOCOL, "stream %s changed from %" PRIu32 " to %" PRIu32 " output channels",
                    s->info.id, s->results.channels, info->out_channels);
    stream_info_copy(&s->info, info);
    s->results.channels = info->out_channels;
    return SSMC_OK;
}

void ssmc_stream_info(const struct ssmc_stream *s, struct ssmc_stream_info *out)
{
    *out = s->info;
    if (!s->reader)
        out->next = s->kept.next;
    out->generating = s->reader ? s->info.generating : s->generation.state == GENERATION_RUNNING;
    if (s->result_next > out->result_next && s->result_epoch == s->info.epoch)
        out->result_next = s->result_next;
}

int stream_check(const struct ssmc_stream *s)
{
    if (s->state != STREAM_DEAD)
        return SSMC_OK;
    return fail(s->c, s->dead_status, "%s", s->dead_text ? s->dead_text : ssmc_status_text(s->dead_status));
}

void stream_kill(struct ssmc_stream *s, int status, const char *format, ...)
{
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (s->state == STREAM_DEAD)
        return;
    s->state = STREAM_DEAD;
    s->dead_status = status;
    s->dead_text = strdup(text); /* without memory the status has a text of its own */
    transmit_forget(s);
    stream_restart_input(s, s->kept.next, s->kept.next);
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

uint64_t stream_window_bytes(const struct ssmc_stream *s, uint64_t frames)
{
    return frames * s->info.channels * 4;
}

static void release(struct ssmc_stream *s)
{
    s->c->held -= s->is_held;
    s->is_held = false;
}

void stream_restart_input(struct ssmc_stream *s, uint64_t applied, uint64_t next)
{
    release(s);
    s->c->in_flight -= stream_window_bytes(s, s->kept.next - s->info.applied);
    kept_restart(&s->kept, next);
    s->info.applied = s->info.durable = applied < next ? applied : next;
    s->c->in_flight += stream_window_bytes(s, next - s->info.applied);
}

void stream_hold(struct ssmc_stream *s, uint64_t index)
{
    if (!s->is_held && s->c->held++ == 0)
        s->c->held_ns = now_ns();
    s->is_held = true;
    s->held_index = index;
}

/* The daemon answers such a refusal once, so a second one would not be heard of: ask again until it is taken. */
void stream_retry_held(struct ssmc *c)
{
    int64_t now = now_ns();
    if (c->held == 0 || now - c->held_ns < HOLD_MS * MS_NS)
        return;
    c->held_ns = now;
    for (struct ssmc_stream *s = c->streams; s; s = s->next)
        if (s->is_held && kept_rewind(&s->kept, s->held_index) == 0)
            transmit_mark(s);
}

void stream_acknowledge(struct ssmc_stream *s, uint64_t applied, uint64_t durable)
{
    if (applied > s->info.applied) {
        s->c->in_flight -= stream_window_bytes(s, applied - s->info.applied);
        s->info.applied = applied;
        if (s->is_held && applied > s->held_index)
            release(s);
        transmit_mark(s); /* what a refusal took back */
    }
    if (durable > s->info.durable)
        s->info.durable = durable < applied ? durable : applied;
    kept_release(&s->kept, s->info.durable);
}

static uint64_t smallest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Frames that fit between what is on its way and the daemon's windows, and into what may be kept. */
static uint64_t room(const struct ssmc_stream *s, uint32_t frame_bytes)
{
    const struct ssmc_daemon_info *d = &s->c->daemon;
    uint64_t used = stream_window_bytes(s, s->kept.next - s->info.applied);
    uint64_t own = used < d->stream_window ? d->stream_window - used : 0;
    uint64_t all = s->c->in_flight < d->connection_window ? d->connection_window - s->c->in_flight : 0;
    uint64_t kept_max = KEPT_FACTOR * d->stream_window;
    uint64_t kept = fifo_size(&s->kept.samples);
    uint64_t keepable = kept < kept_max ? kept_max - kept : 0;
    return smallest(smallest(own, all) / stream_window_bytes(s, 1), keepable / frame_bytes);
}

static bool is_generating(const struct ssmc_stream *s)
{
    return s->generation.state == GENERATION_ASKING || s->generation.state == GENERATION_RUNNING;
}

uint64_t ssmc_room(const struct ssmc_stream *s)
{
    if (s->reader || s->state == STREAM_DEAD || s->is_closing || s->is_resetting || s->is_rolling || is_generating(s))
        return 0;
    return room(s, s->info.channels * 4);
}

static int check_push(const struct ssmc_stream *s, enum ssmc_format format, uint32_t frames)
{
    int rc = stream_check(s);
    if (rc != 0)
        return rc;
    if (s->reader || s->is_closing || s->is_resetting || s->is_rolling || is_generating(s))
        return fail(s->c, SSMC_INVAL, "stream %s takes no input: it is %s", s->info.id,
                    s->reader         ? "only read"
                    : s->is_closing   ? "closing"
                    : s->is_resetting ? "being reset"
                    : s->is_rolling   ? "going back"
                                      : "generating");
    if (proto_sample_bytes((uint32_t)format) == 0 || s->info.tokens != (format == SSMC_I32))
        return fail(s->c, SSMC_INVAL, "stream %s takes %s", s->info.id,
                    s->info.tokens ? "tokens (SSMC_I32)" : "samples (SSMC_F32, S16, S32 or F64)");
    if (frames == 0 ||
        stream_window_bytes(s, frames) > smallest(s->c->daemon.stream_window, s->c->daemon.connection_window))
        return fail(s->c, SSMC_INVAL, "%" PRIu32 " frames at once: 1 to %" PRIu64 " fit the daemon's window", frames,
                    smallest(s->c->daemon.stream_window, s->c->daemon.connection_window) / stream_window_bytes(s, 1));
    return SSMC_OK;
}

/* Frames of one chunk, by the daemon's limits on chunks and messages. */
static uint32_t chunk_max(const struct ssmc_stream *s, uint32_t frame_bytes)
{
    uint64_t fit = (s->c->daemon.message_bytes - 256) / frame_bytes;
    return fit < 1 ? 1 : (uint32_t)smallest(fit, s->c->chunk_frames);
}

/* Said a hundred thousand times a second by a sender that keeps the window full, so without formatting. */
static int is_full(struct ssmc *c)
{
    static const char text[] = "the window is full: poll, then push again";
    memcpy(c->error, text, sizeof text);
    return SSMC_FULL;
}

int ssmc_push(struct ssmc_stream *s, enum ssmc_format format, const void *samples, uint32_t frames, unsigned flags,
              int64_t time)
{
    struct ssmc *c = s->c;
    int rc = check_push(s, format, frames);
    if (rc != 0)
        return rc;
    uint32_t frame_bytes = (uint32_t)(proto_sample_bytes((uint32_t)format) * s->info.channels);
    if (room(s, frame_bytes) < frames)
        return is_full(c);
    uint32_t most = chunk_max(s, frame_bytes);
    const uint8_t *at = samples;
    for (uint32_t left = frames; left > 0;) {
        struct kept_chunk chunk = {.frames = left < most ? left : most,
                                   .frame_bytes = frame_bytes,
                                   .format = (uint8_t)format,
                                   .backfill = (flags & SSMC_BACKFILL) != 0,
                                   .has_time = (flags & SSMC_HAS_TIME) != 0,
                                   .time = time};
        if (kept_push(&s->kept, &chunk, at) != 0)
            return fail(c, SSMC_NOMEM, "no memory for %" PRIu32 " frames of stream %s", chunk.frames, s->info.id);
        c->in_flight += stream_window_bytes(s, chunk.frames);
        c->unsent_bytes += (size_t)chunk.frames * frame_bytes;
        at += (size_t)chunk.frames * frame_bytes;
        left -= chunk.frames;
    }
    transmit_mark(s);
    if (c->unsent_bytes >= FLUSH_BYTES)
        transmit_data(c);
    return SSMC_OK;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

void stream_restart_results(struct ssmc_stream *s, uint64_t epoch, uint64_t next)
{
    s->result_epoch = epoch;
    s->result_next = s->result_taken = next;
    s->granted_received = next;
}

void stream_receive(struct ssmc_stream *s)
{
    if (s->result_hand <= s->result_taken || s->hand_epoch != s->result_epoch)
        return;
    s->result_taken = s->result_hand;
    transmit_credit_mark(s);
}

int ssmc_next(struct ssmc_stream *s, struct ssmc_result *out)
{
    struct result_chunk chunk;
    stream_receive(s);
    const float *values;
    if (!results_take(&s->results, &chunk, &values)) {
        int rc = stream_check(s);
        if (rc == 0 && s->is_ended)
            rc = fail(s->c, SSMC_ENDED, "stream %s has ended%s%s", s->info.id, s->info.ended[0] ? ": " : "",
                      s->info.ended);
        return rc;
    }
    out->epoch = chunk.epoch;
    out->first = chunk.first;
    out->frames = chunk.frames;
    out->channels = s->results.channels;
    bool is_pairs = s->info.top_k > 0 || s->info.generates;
    out->samples = is_pairs ? NULL : values;
    out->pairs = is_pairs ? (const struct ssmc_pair *)(const void *)values : NULL;
    out->has_time = chunk.has_time;
    out->time = chunk.time;
    out->lost = chunk.lost;
    s->result_hand = chunk.first + chunk.frames;
    s->hand_epoch = chunk.epoch;
    transmit_credit_mark(s);
    return 1;
}

/* ---- end --------------------------------------------------------------------------------------------------------- */

static void free_now(struct ssmc_stream *s)
{
    struct ssmc *c = s->c;
    transmit_forget(s);
    resume_cancel(s);
    request_forget(c, &s->request);
    handle_remove(c, s);
    if (s->prev)
        s->prev->next = s->next;
    else
        c->streams = s->next;
    if (s->next)
        s->next->prev = s->prev;
    free(s->dead_text);
    free(s->model);
    kept_fini(&s->kept);
    results_fini(&s->results);
    free(s);
}

/* The daemon need not send what nobody takes. */
static void stop_reading(struct ssmc_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Close close_it = SSMD__CLOSE__INIT;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_CLOSE;
    message.close = &close_it;
    close_it.handle = s->handle;
    message.request_id = ++s->c->last_request; /* nobody waits for the answer */
    (void)link_send(s->c, &message);           /* without it credit stops them */
}

void ssmc_stream_free(struct ssmc_stream *s)
{
    if (!s)
        return;
    if (s->state != STREAM_DEAD)
        stream_restart_input(s, s->kept.next, s->kept.next);
    if (s->reader && s->has_handle && !s->is_freed)
        stop_reading(s);
    if (!s->has_handle || s->is_freed) {
        free_now(s);
        return;
    }
    if (s->wants_results) {
        stream_receive(s);
        transmit_credit(s->c, true);
    }
    if (!s->has_handle) {
        free_now(s);
        return;
    }
    /* The daemon may still send for the handle, and only its width tells where a message's next chunk begins. */
    transmit_forget(s);
    resume_cancel(s);
    request_forget(s->c, &s->request);
    kept_fini(&s->kept);
    results_clear(&s->results);
    uint32_t channels = s->results.channels;
    results_fini(&s->results);
    s->results.channels = channels;
    s->is_freed = true;
}
