/* SPDX-License-Identifier: Apache-2.0
 *
 * rollback: a stream goes back to an index that its history reaches. It waits its turn as reset does; then the
 * checkpoint before the index is copied into the stream's slot (by the keeper), and the input kept since runs again
 * through ordinary batches, its results thrown away, up to the index. Then the epoch rises, and results from there on
 * never were. So the state is the one that the frames below the index make, cut at the index.
 */
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/history.h"
#include "daemon/log.h"
#include "daemon/reader.h"
#include "daemon/state.h"

#include <stdio.h>

#define REPLAY_FRAMES 4096 /* of one chunk that runs again */

static void rollback_answer(struct loop *loop, struct stream *stream, Ssmd__Code code, const char *text)
{
    struct control_info info;

    if (code != SSMD__CODE__OK) {
        loop_request_refuse(loop, stream, code, text);
    } else if (stream->request_conn && stream->request_id) {
        control_info_fill(stream->request_conn, stream, &info);
        control_info_send(loop, stream->request_conn, stream->request_id, &info);
    }
    stream->request = REQUEST_NONE;
    stream->request_conn = NULL;
    stream->is_replaying = false;
}

/* Results from `out` on never were; every outlet goes on from there at the latest, in the new epoch. */
static void results_cut(struct stream *stream, uint64_t out)
{
    struct outlet *outlet;

    ring_truncate(&stream->ring, out);
    if (stream->received > out)
        stream->received = out;
    TAILQ_FOREACH(outlet, &stream->outlets, of_stream)
        if (outlet->next > out)
            outlet->next = out;
}

static void rollback_finish(struct loop *loop, struct stream *stream)
{
    struct outlet *outlet;

    results_cut(stream, stream->replayed_out);
    reader_epoch(loop, stream, false);
    stream->epoch = streams_epoch_new(&loop->streams);
    tap_publish_event(&loop->tap, stream, SSMD__EVENT__KIND__EPOCH);
    stream->refused = 0;
    loop->counters.rollbacks++;
    log_event(LOG_DEBUG, "stream_rolled_back", "stream=%.*s index=%llu epoch=%llu", stream->id_size, stream->id,
              (unsigned long long)stream->next, (unsigned long long)stream->epoch);
    TAILQ_FOREACH(outlet, &stream->outlets, of_stream)
        deliver_wake(loop, outlet);
    rollback_answer(loop, stream, SSMD__CODE__OK, NULL);
}

/* More of what is to run again, as much as input_memory has room for. */
static void replay_push(struct loop *loop, struct stream *stream)
{
    uint32_t channels = stream->model->info.in_channels;

    while (stream->next < stream->rollback_to && stream->queued_bytes < loop->conf.stream_window) {
        uint64_t left = stream->rollback_to - stream->next;
        uint32_t most = left < REPLAY_FRAMES ? (uint32_t)left : REPLAY_FRAMES;
        struct chunk *chunk = input_acquire(&loop->input, (size_t)most * channels * sizeof(float));
        size_t bytes;

        if (!chunk)
            break;
        chunk->first = stream->next;
        chunk->frames =
            history_take(stream->history, stream->next, stream->rollback_to, most, chunk->samples, &chunk->backfill);
        bytes = (size_t)chunk->frames * channels * sizeof(float);
        loop_chunk_push(stream, chunk, bytes);
    }
    batcher_add(batcher_of(stream), stream);
}

static void copy_run(struct work *work)
{
    struct task *task = (struct task *)work;

    task->status = ssm_slot_copy(task->site->program, task->from, task->to);
}

static void copy_finished(struct loop *loop, struct task *task)
{
    struct stream *stream = task->stream;

    if (stream->has_ack) { /* no acknowledgement falls within an epoch */
        TAILQ_REMOVE(&stream->conn->acks, stream, of_acks);
        stream->has_ack = false;
    }
    stream->next = stream->applied = task->next;
    stream->replayed_out = task->keep;
    stream->is_replaying = true;
    history_forget(stream->history, stream->rollback_to);
    task_free(loop, task); /* looks at the stream again */
}

static void rollback_begin(struct loop *loop, struct stream *stream)
{
    struct task *task;
    struct ssm_slot from;
    uint64_t at, out;

    if (stream->rollback_to > stream->applied) {
        rollback_answer(loop, stream, SSMD__CODE__TOO_NEW, "the index lies beyond the frames that were applied");
        return;
    }
    if (!history_find(stream->history, stream->rollback_to, &from, &at, &out)) {
        rollback_answer(loop, stream, SSMD__CODE__TOO_OLD,
                        "the index lies before what the stream's history reaches: `info` names the oldest");
        return;
    }
    task = task_new(loop, NULL, 0, TASK_ROLLBACK);
    if (!task) {
        rollback_answer(loop, stream, SSMD__CODE__LIMIT, "the daemon is out of memory");
        return;
    }
    task->stream = stream;
    task->site = stream->site;
    task->from = from;
    task->to = stream->slot;
    task->next = at;
    task->keep = out;
    task_submit(loop, task, copy_run, copy_finished);
}

void rollback_turn(struct loop *loop, struct stream *stream)
{
    if (stream->is_failed) {
        rollback_answer(loop, stream, SSMD__CODE__INTERNAL,
                        "the engine refused frames of this stream: reset it and report this");
    } else if (!stream->is_replaying) {
        rollback_begin(loop, stream);
    } else if (stream->next < stream->rollback_to) {
        replay_push(loop, stream);
        if (!stream->head)
            loop_stream_settle(loop, stream); /* without memory now: the next tick tries again */
    } else {
        rollback_finish(loop, stream);
    }
}

/* ---- the history ------------------------------------------------------------------------------------------------- */

Ssmd__Code rollback_prepare(struct loop *loop, struct stream *stream, uint32_t interval, uint32_t depth, char *text,
                            size_t size)
{
    struct states *states = &loop->states;
    uint64_t bytes = history_bytes(stream->model->model, interval, depth);

    if (bytes == UINT64_MAX) {
        snprintf(text, size,
                 "history: for this model the interval is a multiple of %u up to %u frames, the depth 1 to %u frames",
                 stream->model->grid, HISTORY_INTERVAL_MAX, HISTORY_DEPTH_MAX);
        return SSMD__CODE__TOO_LARGE;
    }
    if (states->history_bytes + bytes > loop->conf.history_memory) {
        loop->counters.limit_histories++;
        snprintf(text, size,
                 "the history would take %llu bytes, and of history_memory %llu are left: ask for less depth",
                 (unsigned long long)bytes,
                 (unsigned long long)(loop->conf.history_memory > states->history_bytes
                                          ? loop->conf.history_memory - states->history_bytes
                                          : 0));
        return SSMD__CODE__LIMIT;
    }
    stream->history =
        history_new(stream->site->program, stream->slot, interval, depth, stream->applied, stream->ring.hi);
    if (!stream->history) {
        snprintf(text, size, "no memory for a history of %llu bytes", (unsigned long long)bytes);
        return SSMD__CODE__LIMIT;
    }
    states->history_bytes += bytes;
    return SSMD__CODE__OK;
}

void rollback_drop(struct loop *loop, struct stream *stream)
{
    if (stream->history)
        loop->states.history_bytes -= history_bytes_of(stream->history);
    history_free(stream->history);
    stream->history = NULL;
}
