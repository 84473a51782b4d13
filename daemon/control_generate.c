/* SPDX-License-Identifier: Apache-2.0
 *
 * generate and cancel, and the end of a generation. Everything is judged before anything changes; the prompt is queued
 * as a chunk of backfill, so that from there on a generation is a stream like others.
 *
 * `first` makes the request safe to repeat: one that was taken moved the stream's index, and a second is refused.
 */
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/features.h"
#include "daemon/generate.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- judging ----------------------------------------------------------------------------------------------------- */

/* Why a request is refused; a sentence may have to be made. */
struct refusal_text {
    Ssmd__Code code;
    char text[256];
};

__attribute__((format(printf, 3, 4))) static bool refuse(struct refusal_text *out, Ssmd__Code code, const char *format,
                                                         ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(out->text, sizeof(out->text), format, args);
    va_end(args);
    out->code = code;
    return false;
}

static bool tokens_check(const char *name, const uint32_t *tokens, size_t n, uint32_t vocab, struct refusal_text *out)
{
    for (size_t i = 0; i < n; i++)
        if (tokens[i] >= vocab)
            return refuse(out, SSMD__CODE__BAD_SAMPLE, "%s: element %zu is token %u, and the vocabulary has 0 to %u",
                          name, i, tokens[i], vocab - 1);
    return true;
}

static bool options_check(const struct stream *stream, const Ssmd__Generate *request, struct ssm_sampling *sampling,
                          struct refusal_text *out)
{
    uint32_t vocab = stream->model->info.vocab;
    struct ssm_error error;

    *sampling = (struct ssm_sampling){
        .repetition_penalty = request->repetition_penalty,
        .repetition_window = request->repetition_window,
        .temperature = request->temperature,
        .top_k = request->top_k,
        .top_p = request->top_p,
        .min_p = request->min_p,
        .seed = request->seed,
    };
    if (ssm_sampling_check(sampling, &error) != SSM_OK)
        return refuse(out, SSMD__CODE__BAD_OPTION, "%s", error.text);
    if (request->maximum == 0)
        return refuse(out, SSMD__CODE__BAD_OPTION, "maximum is at least 1 token");
    if (request->n_stop > GENERATE_STOPS)
        return refuse(out, SSMD__CODE__BAD_OPTION, "stop has at most %d tokens, and not %zu", GENERATE_STOPS,
                      request->n_stop);
    if (request->n_recent > SSM_RECENT_MAX)
        return refuse(out, SSMD__CODE__BAD_OPTION, "recent has at most %d tokens, and not %zu: the latest count",
                      SSM_RECENT_MAX, request->n_recent);
    return tokens_check("prompt", request->prompt, request->n_prompt, vocab, out) &&
           tokens_check("stop", request->stop, request->n_stop, vocab, out) &&
           tokens_check("recent", request->recent, request->n_recent, vocab, out);
}

/* The prompt against what the stream and its connection may queue. */
static bool prompt_check(const struct loop *loop, const struct stream *stream, const Ssmd__Generate *request,
                         struct refusal_text *out)
{
    uint64_t bytes = request->n_prompt * sizeof(int32_t);

    if (request->n_prompt == 0 && !(stream->generation && stream->generation->has_token))
        return refuse(out, SSMD__CODE__BAD_OPTION,
                      "prompt is empty, and no drawn token waits to be consumed: give at least the last token of the "
                      "prompt with the request");
    if (request->n_prompt > loop->conf.chunk_frames)
        return refuse(out, SSMD__CODE__TOO_LARGE,
                      "prompt has %zu tokens, and a chunk at most %u (chunk_frames): send its beginning as data marked "
                      "backfill",
                      request->n_prompt, loop->conf.chunk_frames);
    if (stream->queued_bytes + bytes > loop->conf.stream_window ||
        stream->conn->queued_bytes + bytes > loop->conf.connection_window ||
        stream->model->queued_bytes + bytes > stream->model->queue_limit)
        return refuse(out, SSMD__CODE__OVERFLOW,
                      "prompt does not fit stream_window, connection_window or the model's queue: wait for "
                      "acknowledgements, or send its "
                      "beginning as data marked backfill");
    return true;
}

static bool stream_check(const struct loop *loop, const struct stream *stream, const Ssmd__Generate *request,
                         struct refusal_text *out)
{
    if (!stream->generates)
        return refuse(out, SSMD__CODE__BAD_OPTION, "the stream was not opened with `generates`");
    if (request->epoch != stream->epoch)
        return refuse(out, SSMD__CODE__STALE_EPOCH, "the stream is in another epoch: it was reset or taken over");
    if (stream->is_failed)
        return refuse(out, SSMD__CODE__INTERNAL, "the engine refused frames of this stream: reset it and report this");
    if (stream->is_closing)
        return refuse(out, SSMD__CODE__CLOSED, "the stream is closed and takes no more input");
    if (stream->request != REQUEST_NONE)
        return refuse(out, SSMD__CODE__BUSY, "the stream waits to be reset");
    if (generate_is_running(stream))
        return refuse(out, SSMD__CODE__BUSY, "the stream is generating: cancel that, or wait for its end");
    if (loop->drain_ns != 0)
        return refuse(out, SSMD__CODE__DRAINING, "the daemon is stopping: ask the next one");
    if (request->first != stream->next)
        return refuse(out, SSMD__CODE__GAP, "first is %llu, and the stream expects index %llu",
                      (unsigned long long)request->first, (unsigned long long)stream->next);
    return true;
}

/* ---- generate ---------------------------------------------------------------------------------------------------- */

static void prompt_push(struct loop *loop, struct stream *stream, const Ssmd__Generate *request, struct chunk *chunk)
{
    uint64_t bytes = request->n_prompt * sizeof(int32_t);

    for (size_t i = 0; i < request->n_prompt; i++) {
        int32_t token = (int32_t)request->prompt[i];

        memcpy(&chunk->samples[i], &token, sizeof(token));
    }
    chunk->first = stream->next;
    chunk->frames = (uint32_t)request->n_prompt;
    chunk->backfill = true;
    chunk->arrived_ns = loop->now_ns;
    chunk->due_ns = loop_chunk_due(loop, stream, chunk->frames); /* somebody waits */
    loop_chunk_push(stream, chunk, bytes);
    loop->counters.chunks++;
    loop->counters.frames += chunk->frames;
}

static void generation_begin(struct generation *g, const struct stream *stream, const Ssmd__Generate *request,
                             const struct ssm_sampling *sampling)
{
    g->first = stream->next + (request->n_prompt ? request->n_prompt - 1 : 0);
    g->maximum = request->maximum;
    g->made = g->told = 0;
    g->stops = (uint32_t)request->n_stop;
    g->has_token &= request->n_prompt == 0;
    g->is_running = true;
    g->is_stopped = g->is_silent = g->is_drawn = false;
    ssm_sampler_init(&g->sampler, sampling);
    for (size_t i = 0; i < request->n_stop; i++)
        g->stop[i] = (int32_t)request->stop[i];
    for (size_t i = 0; i < request->n_recent; i++)
        ssm_sampler_push(&g->sampler, (int32_t)request->recent[i]);
    if (g->has_token)
        ssm_sampler_push(&g->sampler, g->token);
    for (size_t i = request->n_prompt < SSM_RECENT_MAX ? 0 : request->n_prompt - SSM_RECENT_MAX; i < request->n_prompt;
         i++)
        ssm_sampler_push(&g->sampler, (int32_t)request->prompt[i]);
}

/* The stream that the request names, if this connection writes it. */
static struct stream *written_find(struct loop *loop, struct conn *conn, uint64_t request_id, uint32_t number)
{
    struct handle *handle = conn_handle_find(conn, number);

    if (handle && handle->state == HANDLE_WRITES)
        return handle->stream;
    deliver_error(loop, conn, request_id, SSMD__CODE__BAD_HANDLE, "not a handle that this connection writes");
    return NULL;
}

void control_generate(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Generate *request)
{
    struct stream *stream = written_find(loop, conn, request_id, request->handle);
    struct refusal_text refusal;
    struct ssm_sampling sampling;
    struct control_info info;
    struct chunk *chunk = NULL;

    if (!stream)
        return;
    if (!stream_check(loop, stream, request, &refusal) || !options_check(stream, request, &sampling, &refusal) ||
        !prompt_check(loop, stream, request, &refusal)) {
        deliver_error(loop, conn, request_id, refusal.code, refusal.text);
        return;
    }
    if (!stream->generation)
        stream->generation = calloc(1, sizeof(*stream->generation));
    if (request->n_prompt > 0)
        chunk = input_acquire(&loop->input, request->n_prompt * sizeof(float));
    if (!stream->generation || (request->n_prompt > 0 && !chunk)) {
        input_release(&loop->input, chunk);
        deliver_error(loop, conn, request_id, SSMD__CODE__OVERFLOW,
                      "the daemon's input_memory is used up: wait, then ask again");
        return;
    }
    generation_begin(stream->generation, stream, request, &sampling);
    if (chunk)
        prompt_push(loop, stream, request, chunk);
    stream->refused = 0;
    stream->active_ns = loop->now_ns;
    loop->counters.generations++;
    control_info_fill(conn, stream, &info);
    if (request_id)
        control_info_send(loop, conn, request_id, &info);
    batcher_add(batcher_of(stream), stream);
}

/* ---- its end ----------------------------------------------------------------------------------------------------- */

void generate_info_fill(const struct generation *g, Ssmd__Generation *out)
{
    ssmd__generation__init(out);
    out->first = g->first;
    out->next = g->first + g->told;
    out->has_ending = !g->is_running;
    out->ending = g->ending;
}

static void generation_end(struct loop *loop, struct stream *stream, Ssmd__Ending ending)
{
    struct generation *g = stream->generation;
    Ssmd__Event event = SSMD__EVENT__INIT;
    Ssmd__Generation generation;

    g->is_running = false;
    g->ending = ending;
    stream->refused = 0;
    if (stream->place != PLACE_NONE && !stream->head)
        batcher_remove(batcher_of(stream), stream);
    if (!stream->conn || g->is_silent || !(stream->conn->features & FEATURE_TOKENS))
        return;
    generate_info_fill(g, &generation);
    event.kind = SSMD__EVENT__KIND__GENERATED;
    event.has_handle = event.has_epoch = true;
    event.handle = stream->handle;
    event.epoch = stream->epoch;
    event.generation = &generation;
    deliver_event(loop, stream->conn, &event);
}

void generate_stop(struct loop *loop, struct stream *stream, Ssmd__Ending ending)
{
    struct generation *g = stream->generation;

    if (!generate_is_running(stream))
        return;
    if (stream->place != PLACE_IN_BATCH) {
        generation_end(loop, stream, ending);
        return;
    }
    g->is_stopped = true;
    g->ending = ending;
}

void generate_settle(struct loop *loop, struct stream *stream)
{
    struct generation *g = stream->generation;

    g->told = g->made;
    if (g->is_drawn)
        generation_end(loop, stream, g->drawn);
    else if (g->is_stopped)
        generation_end(loop, stream, g->ending);
}

void control_cancel(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Cancel *cancel)
{
    struct stream *stream = written_find(loop, conn, request_id, cancel->handle);

    if (!stream)
        return;
    generate_stop(loop, stream, SSMD__ENDING__CANCELLED);
    deliver_done(loop, conn, request_id);
}
