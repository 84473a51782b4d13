/* SPDX-License-Identifier: Apache-2.0
 *
 * How streams and connections change and end: batches that come back, resets and closes when their turn comes,
 * connections that are forgotten.
 */
#include "daemon/admission.h"
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/failure.h"
#include "daemon/generate.h"
#include "daemon/history.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/reader.h"
#include "daemon/state.h"
#include "daemon/timing.h"

#include <stdlib.h>
#include <string.h>

#define CATCH_UP_PAUSE_NS (1000 * CLOCK_MS)

/* ---- batches that come back -------------------------------------------------------------------------------------- */

/* Frames of the row's pieces, and behind them those of tokens that it drew itself, without a time. */
static void row_publish(struct loop *loop, struct stream *stream, const struct batch *batch,
                        const struct batch_piece *piece, const struct batch_row *of, const struct ssm_row *row)
{
    static const struct batch_piece drawn = {.frames = UINT32_MAX};
    uint32_t left = of->kept ? of->kept_n : row->out_frames;
    const float *out = of->kept ? of->kept : row->out;

    if (left == 0)
        return;
    loop->counters.results += left;
    batch->model->counters.results += left;
    for (uint32_t i = 0; left > 0; i++) {
        const struct batch_piece *p = i < of->pieces ? &piece[i] : &drawn;
        uint32_t n = batch->model->is_one_to_one && p->frames < left ? p->frames : left;

        tap_publish(&loop->tap, stream, stream->ring.hi, out, n, p->has_time, p->time, batch->model->info.out_rate);
        ring_append(&stream->ring, out, n, p->has_time, p->time);
        out += (size_t)n * stream->ring.channels;
        left -= n;
    }
    timing_row(batch, of);
}

uint64_t loop_chunk_due(const struct loop *loop, struct stream *stream, uint32_t frames)
{
    const struct policy_class *class = stream->class ? stream->class : stream->model->class;
    double rate = stream->model->info.in_rate;
    uint64_t duration = (uint64_t)(rate > 0 ? frames / rate * 1e9 : frames * stream->site->frame_ns);
    uint64_t deadline = class ? class->deadline_ns : rate > 0 ? duration : LANE_TOKENS_NS;

    return stream_due(stream, loop->now_ns, duration, deadline);
}

void loop_chunk_push(struct stream *stream, struct chunk *chunk, uint64_t bytes)
{
    stream_push(stream, chunk, bytes);
    stream->model->queued_bytes += bytes;
    if (stream->conn)
        stream->conn->queued_bytes += bytes;
    batcher_add(batcher_of(stream), stream);
}

/* They are applied, or will never be. */
static void queue_release(struct stream *stream, uint64_t bytes)
{
    stream->queued_bytes -= bytes;
    stream->model->queued_bytes -= bytes;
    if (stream->conn)
        stream->conn->queued_bytes -= bytes;
}

/* What is queued will never be applied. */
static void queue_drop(struct loop *loop, struct stream *stream)
{
    while (stream->head) {
        struct chunk *chunk = stream->head;

        stream->head = chunk->next;
        input_release(&loop->input, chunk);
    }
    stream->tail = NULL;
    queue_release(stream, stream->queued_bytes);
}

void loop_stream_fail(struct loop *loop, struct stream *stream, int status)
{
    log_event(LOG_ERR, "stream_failed", "stream=%.*s model=%s error=%s", stream->id_size, stream->id,
              stream->model->name, ssm_status_text(status));
    loop->counters.streams_failed++;
    stream->is_failed = true;
    generate_stop(loop, stream, SSMD__ENDING__FAILED);
    queue_drop(loop, stream);
}

/* The results of a chunk are there. */
static void deadline_check(struct loop *loop, struct stream *stream, const struct chunk *chunk, uint64_t done_ns)
{
    bool is_missed = chunk->due_ns > 0 && done_ns > chunk->due_ns;

    loop->counters.deadline_misses += is_missed;
    stream->model->counters.deadline_misses += is_missed;
    stream->misses += is_missed;
}

/* So many frames of backfill are done; after a pause the speed is measured anew. */
static void catch_up_note(struct stream *stream, const struct batch *batch, uint32_t frames)
{
    uint64_t began_ns = batch->job.began_ns;

    if (began_ns > stream->behind_last_ns + CATCH_UP_PAUSE_NS) {
        stream->behind_ns = began_ns;
        stream->caught = 0;
    }
    stream->caught += frames;
    stream->behind_last_ns = began_ns + batch->job.busy_ns;
}

static void row_finish(struct loop *loop, const struct batch *batch, uint32_t i, const struct batch_piece *piece)
{
    struct ssm_row *row = &batch->rows[i];
    struct batch_row *of = &batch->of[i];
    struct stream *stream = of->stream;
    uint64_t bytes = (uint64_t)of->queued * batch->model->info.in_channels * sizeof(float);
    struct outlet *outlet;

    if (row->status == SSM_OK && stream->history && !of->is_flush && !stream->is_replaying)
        history_keep(stream->history, of->first, row->frames, row->view == SSM_SCAN, row->in,
                     stream->ring.hi + row->out_frames, !batch->job.copies_failed);
    while (of->used) {
        struct chunk *chunk = of->used;

        of->used = chunk->next;
        deadline_check(loop, stream, chunk, batch->job.began_ns + batch->job.busy_ns);
        timing_chunk(loop, batch, chunk);
        input_release(&loop->input, chunk);
    }
    stream->place = PLACE_NONE;
    queue_release(stream, bytes);
    if (row->status != SSM_OK) {
        loop_stream_fail(loop, stream, row->status);
    } else {
        uint64_t most = ssm_out_frames(batch->model->model, stream->next) - stream->ring.hi;

        if (of->is_flush && row->out_frames > most)
            row->out_frames = of->kept_n = (uint32_t)most;
        stream->next += of->fed;
        stream->applied += of->queued + of->fed;
        if (stream->is_replaying)
            stream->replayed_out += row->out_frames;
        else
            row_publish(loop, stream, batch, piece, of, row);
        loop->counters.frames_applied += of->queued + of->fed;
        batch->model->counters.frames += of->queued + of->fed;
        loop->counters.tokens_generated += of->fed;
        loop->counters.rows_step += row->view == SSM_STEP;
        loop->counters.rows_scan += row->view == SSM_SCAN;
        if (row->view == SSM_SCAN)
            catch_up_note(stream, batch, of->queued);
    }
    TAILQ_FOREACH(outlet, &stream->outlets, of_stream)
        deliver_wake(loop, outlet);
    deliver_ack(loop, stream);
    if (generate_is_running(stream))
        generate_settle(loop, stream);
    if (generate_is_ready(stream))
        batcher_add(batcher_of(stream), stream);
    if (stream->place == PLACE_NONE && (stream->request != REQUEST_NONE || !TAILQ_EMPTY(&stream->tasks)))
        loop_stream_settle(loop, stream);
}

void loop_batch_finish(struct loop *loop, struct batch *batch)
{
    const struct batch_piece *piece = batch->pieces;
    struct unit *unit = batch->lane->site->unit;

    loop->counters.batches++;
    loop->counters.engine_busy_ns += batch->job.busy_ns;
    batch->model->counters.batches++;
    batch->model->counters.busy_ns += batch->job.busy_ns;
    unit->batches++;
    unit->busy_ns += batch->job.busy_ns;
    if (batch->job.status == SSM_DEVICE) {
        failure_batch(loop, batch);
        return;
    }
    timing_batch(loop, batch);
    batch_cost_learn(batch);
    lane_charge(&unit->batcher.lanes, batch->lane, batch->job.began_ns + batch->job.busy_ns, batch->job.busy_ns);
    for (uint32_t i = 0; i < batch->n; i++) {
        row_finish(loop, batch, i, piece);
        piece += batch->of[i].pieces;
    }
    batch->in_flight = false;
    unit->batcher.in_flight--;
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

void loop_stream_settle(struct loop *loop, struct stream *stream)
{
    if (stream->is_settling)
        return;
    stream->is_settling = true;
    TAILQ_INSERT_TAIL(&loop->settling, stream, of_settling);
}

void loop_request_refuse(struct loop *loop, struct stream *stream, Ssmd__Code code, const char *text)
{
    if (stream->request_conn && stream->request_id)
        deliver_error(loop, stream->request_conn, stream->request_id, code, text);
    stream->request_conn = NULL;
}

void loop_stream_detach(struct loop *loop, struct stream *stream)
{
    struct conn *conn = stream->conn;

    if (!conn)
        return;
    if (stream->has_ack)
        TAILQ_REMOVE(&conn->acks, stream, of_acks);
    stream->has_ack = false;
    conn->queued_bytes -= stream->queued_bytes;
    if (stream->outlet) {
        if (stream->outlet->is_ready)
            TAILQ_REMOVE(&conn->ready, stream->outlet, of_ready);
        TAILQ_REMOVE(&stream->outlets, stream->outlet, of_stream);
        free(stream->outlet);
        stream->outlet = NULL;
    }
    if (stream->request_conn == conn)
        stream->request_conn = NULL;
    conn_handle_release(conn, stream->handle, false);
    conn->writes--;
    stream->conn = NULL;
    if (stream->request != REQUEST_NONE || stream->is_closed)
        loop_stream_settle(loop, stream);
}

/* The stream's history and slot go back to its model, which counts it no more. Its queue is empty. */
static void model_leave(struct loop *loop, struct stream *stream)
{
    rollback_drop(loop, stream);
    admission_leave(stream);
    limits_slot_release(loop, stream->site, stream->slot);
    stream->model->streams--;
    stream->model->used_ns = loop->now_ns;
}

void loop_stream_remove(struct loop *loop, struct stream *stream)
{
    struct conn *conn = stream->conn;
    uint32_t handle = stream->handle;

    reader_end(loop, stream);
    tap_publish_event(&loop->tap, stream, stream->is_evicted ? SSMD__EVENT__KIND__EVICTED : SSMD__EVENT__KIND__ENDED);
    if (!loop->is_over) /* else its client asks the next daemon */
        loop_request_refuse(loop, stream, SSMD__CODE__NO_STREAM, "the stream has ended: its linger_ms have passed");
    loop_stream_detach(loop, stream);
    states_stream_drop(loop, stream);
    if (conn && !stream->is_evicted) /* else its client learns it by the event, and chunks are on their way */
        conn_handle_release(conn, handle, true);
    batcher_remove(batcher_of(stream), stream);
    if (stream->is_settling)
        TAILQ_REMOVE(&loop->settling, stream, of_settling);
    queue_drop(loop, stream);
    publish_detach(loop, stream);
    model_leave(loop, stream);
    ring_fini(&stream->ring, &loop->rings);
    streams_remove(&loop->streams, stream);
}

static void request_answer(struct loop *loop, struct stream *stream)
{
    struct control_info info;

    if (stream->request_conn && stream->request_id) {
        control_info_fill(stream->request_conn, stream, &info);
        control_info_send(loop, stream->request_conn, stream->request_id, &info);
    }
    stream->request = REQUEST_NONE;
    stream->request_conn = NULL;
}

/* The stream's state and history become fresh ones of another version, of the same shapes. False without memory. */
static bool stream_change_model(struct loop *loop, struct stream *stream, struct model *model)
{
    Ssmd__History had = SSMD__HISTORY__INIT;
    struct site *site = site_choose(loop, model);
    struct ssm_slot slot;
    char text[200];

    if (limits_slot_acquire(loop, site, &slot) != NULL)
        return false;
    if (stream->history)
        history_fill(stream->history, &had);
    model_leave(loop, stream);
    log_event(LOG_DEBUG, "stream_moved", "stream=%.*s model=%s from=%u to=%u", stream->id_size, stream->id, model->name,
              stream->model->version, model->version);
    stream->model = model;
    stream->site = site;
    stream->slot = slot;
    model->streams++;
    loop->counters.streams_moved++;
    if (had.interval && rollback_prepare(loop, stream, had.interval, had.depth, text, sizeof(text)) != SSMD__CODE__OK)
        log_event(LOG_WARNING, "history_dropped", "stream=%.*s reason=%s", stream->id_size, stream->id, text);
    return true;
}

/* The stream begins again, with the model: its own or a newer version. */
static void stream_reset(struct loop *loop, struct stream *stream, struct model *model)
{
    struct outlet *outlet = stream->outlet;

    if (ssm_slot_reset(stream->site->program, stream->slot) != SSM_OK) {
        loop_stream_fail(loop, stream, SSM_STALE);
        return;
    }
    reader_epoch(loop, stream, true);
    stream->epoch = streams_epoch_new(&loop->streams);
    free(stream->generation);
    stream->generation = NULL;
    stream->next = stream->applied = stream->received = 0;
    stream->paced_ns = 0;
    stream->refused = 0;
    stream->is_failed = stream->has_flushed = false;
    ring_reset(&stream->ring);
    if (model != stream->model && !stream_change_model(loop, stream, model))
        log_event(LOG_WARNING, "stream_stays", "stream=%.*s model=%s version=%u reason=no memory for its state",
                  stream->id_size, stream->id, model->name, stream->model->version);
    if (stream->history)
        history_reset(stream->history, stream->slot);
    if (outlet)
        outlet->next = 0;
    loop->counters.streams_reset++;
    tap_publish_event(&loop->tap, stream, SSMD__EVENT__KIND__EPOCH);
    log_event(LOG_DEBUG, "stream_reset", "stream=%.*s epoch=%llu", stream->id_size, stream->id,
              (unsigned long long)stream->epoch);
    request_answer(loop, stream);
    publish_go_on(loop, stream);
}

/* Zeros that push out what the model still holds back. True when some were queued; false when the stream is
 * complete. */
static bool tail_push(struct loop *loop, struct stream *stream)
{
    const struct ssm_model_info *info = &stream->model->info;
    uint32_t frames = info->lookahead;
    struct chunk *chunk;
    size_t n;

    if (stream->is_failed || stream->ring.hi >= ssm_out_frames(stream->model->model, stream->next))
        return false;
    n = (size_t)frames * info->in_channels;
    chunk = input_acquire(&loop->input, n * sizeof(float));
    if (!chunk)
        return true; /* without memory now: the next tick tries again */
    memset(chunk->samples, 0, n * sizeof(float));
    chunk->frames = frames;
    chunk->first = stream->next;
    chunk->flush = true;
    stream->has_flushed = true;
    loop_chunk_push(stream, chunk, 0);
    return true;
}

/* Every result of a closing stream is computed: has its writer been sent them? */
static bool tail_has_left(const struct stream *stream)
{
    return !stream->outlet || stream->outlet->next >= stream->ring.hi;
}

static bool is_received(const struct stream *stream)
{
    return !stream->wants_results || stream->received >= stream->ring.hi;
}

void loop_closed_check(struct loop *loop, struct stream *stream)
{
    struct outlet *outlet;
    bool is_read = false;

    TAILQ_FOREACH(outlet, &stream->outlets, of_stream) {
        is_read |= outlet->reader;
        deliver_wake(loop, outlet);
    }
    if (is_received(stream) && !is_read)
        loop_stream_remove(loop, stream);
}

/* A reset whose turn has come. It takes the newest version of the model if that has the stream's shapes. */
static void reset_turn(struct loop *loop, struct stream *stream)
{
    const char *text;
    Ssmd__Code code;
    struct model *model = versions_target(loop, stream, &code, &text);

    if (!model)
        return; /* it is being loaded, and comes back here */
    if (code != SSMD__CODE__OK)
        log_event(LOG_NOTICE, "stream_stays", "stream=%.*s model=%s version=%u reason=%s", stream->id_size, stream->id,
                  model->name, model->version, text);
    stream_reset(loop, stream, model);
}

/* NULL, or why there is no state of the model to be had. */
static const char *state_fits(struct loop *loop, const struct model *model)
{
    struct site *site = site_choose(loop, model);
    struct ssm_slot slot;
    const char *text = limits_slot_acquire(loop, site, &slot);

    if (!text)
        limits_slot_release(loop, site, slot);
    return text;
}

/* A move whose turn has come: when every result has been sent, the stream begins again with the newest version. */
static void move_turn(struct loop *loop, struct stream *stream)
{
    const char *text;
    Ssmd__Code code;
    struct model *model = versions_target(loop, stream, &code, &text);

    if (!model ||
        (!stream->outlet && !is_received(stream))) /* a writer that is away comes back for its results first */
        return;
    if (model != stream->model && !stream->has_flushed && code == SSMD__CODE__OK &&
        (text = state_fits(loop, model)) != NULL)
        code = SSMD__CODE__LIMIT;
    if (code != SSMD__CODE__OK && !stream->has_flushed) {
        loop_request_refuse(loop, stream, code, text);
        stream->request = REQUEST_NONE;
    } else if (model == stream->model && !stream->has_flushed) {
        request_answer(loop, stream);
    } else if (!tail_has_left(stream)) {
        return; /* deliver comes back when it has: until then the stream is what it was */
    } else if (tail_push(loop, stream)) {
        if (!stream->head)
            loop_stream_settle(loop, stream);
    } else {
        stream_reset(loop, stream, model); /* behind its tail a stream can only begin again, with what it finds */
    }
}

static void stream_settle(struct loop *loop, struct stream *stream)
{
    if (stream->is_lost)
        return; /* what was asked for has no answer: the next daemon is asked again */
    if (state_turn(loop, stream) || stream->place != PLACE_NONE || generate_is_ready(stream))
        return; /* its batch, or its task, comes back here */
    if (stream->request == REQUEST_RESET) {
        reset_turn(loop, stream);
    } else if (stream->request == REQUEST_MOVE) {
        move_turn(loop, stream);
    } else if (stream->request == REQUEST_ROLLBACK) {
        rollback_turn(loop, stream);
    } else if (stream->request == REQUEST_CLOSE) {
        if (tail_push(loop, stream)) {
            if (!stream->head)
                loop_stream_settle(loop, stream);
            return;
        }
        if (!tail_has_left(stream))
            return; /* deliver comes back when it has */
        if (!stream->is_closed)
            loop->counters.streams_closed++;
        stream->is_closed = true;
        stream->active_ns = loop->now_ns;
        request_answer(loop, stream);
    }
    if (stream->is_closed)
        loop_closed_check(loop, stream);
}

void loop_settle(struct loop *loop)
{
    struct stream *last = TAILQ_LAST(&loop->settling, stream_list), *stream;
    bool more = last != NULL;

    while (more && (stream = TAILQ_FIRST(&loop->settling)) != NULL) {
        more = stream != last;
        TAILQ_REMOVE(&loop->settling, stream, of_settling);
        stream->is_settling = false;
        stream_settle(loop, stream);
    }
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

void loop_conn_forget(struct loop *loop, struct conn *conn)
{
    loop->counters.connections_forgotten++;
    log_event(LOG_DEBUG, "connection_forgotten", "client=%s", conn->name);
    models_conn_drop(&loop->models, conn);
    states_conn_drop(loop, conn);
    control_opens_drop(loop, conn);
    for (uint32_t i = 0; i < conn->handles_n; i++) {
        struct handle *handle = &conn->handles[i];

        if (handle->state == HANDLE_WRITES) {
            loop_stream_detach(loop, handle->stream);
        } else if (handle->state == HANDLE_READS) {
            struct stream *stream = handle->stream;

            reader_close(loop, handle->outlet);
            if (stream->is_closed)
                loop_stream_settle(loop, stream);
        }
    }
    conns_remove(&loop->conns, conn);
}
