/* SPDX-License-Identifier: Apache-2.0
 * What is lost with a device; see failure.h. */
#include "daemon/failure.h"

#include "daemon/log.h"
#include "daemon/state.h"

/* Tasks that wait for the stream's turn; one that the keeper has comes back by itself. */
static void tasks_refuse(struct loop *loop, struct stream *stream)
{
    struct task *task, *next;

    for (task = TAILQ_FIRST(&stream->tasks); task; task = next) {
        next = TAILQ_NEXT(task, of_stream);
        if (task->is_away)
            continue;
        TAILQ_REMOVE(&stream->tasks, task, of_stream);
        task->stream = NULL;
        task_refuse(loop, task, SSMD__CODE__INTERNAL,
                    "the device that had the stream's state has failed: the daemon is stopping");
    }
}

/* It is in no batch. The results of a closed one are there, and its state is not needed. */
static void stream_lose(struct loop *loop, struct stream *stream)
{
    if (stream->is_lost || stream->is_closed)
        return;
    stream->is_lost = true;
    if (stream->place == PLACE_READY || stream->place == PLACE_STALLED)
        batcher_remove(batcher_of(stream), stream);
    loop_stream_fail(loop, stream, SSM_DEVICE);
    tasks_refuse(loop, stream);
}

void failure_device(struct loop *loop, struct unit *unit)
{
    uint32_t streams = 0;

    if (unit->has_failed)
        return;
    unit->has_failed = true;
    for (uint32_t i = 0; i < loop->streams.n; i++) {
        struct stream *stream = loop->streams.sorted[i];

        streams += stream->site->unit == unit;
        if (stream->site->unit == unit && stream->place != PLACE_IN_BATCH)
            stream_lose(loop, stream);
    }
    loop->counters.devices_failed++;
    loop->exit_code = UNITS_EXIT;
    log_event(LOG_ERR, "device_failed", "engine=%s is=%s streams=%u", unit->name, unit->text, streams);
    loop_drain(loop, "a device failed");
}

void failure_batch(struct loop *loop, struct batch *batch)
{
    struct unit *unit = batch->lane->site->unit;

    for (uint32_t i = 0; i < batch->n; i++) {
        struct batch_row *of = &batch->of[i];

        while (of->used) {
            struct chunk *chunk = of->used;

            of->used = chunk->next;
            input_release(&loop->input, chunk);
        }
        of->stream->place = PLACE_NONE;
        stream_lose(loop, of->stream);
    }
    batch->in_flight = false;
    unit->batcher.in_flight--;
}
