/* SPDX-License-Identifier: Apache-2.0
 * Tasks and images; see state.h. */
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/failure.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/reader.h"

#define KEEPER_TASKS 64 /* in the keeper at a time; less than its rings hold */

/* ---- the keeper -------------------------------------------------------------------------------------------------- */

int states_start(struct states *states)
{
    TAILQ_INIT(&states->images);
    TAILQ_INIT(&states->tasks);
    TAILQ_INIT(&states->backlog);
    proto_arena_init(&states->arena);
    return worker_start(&states->keeper);
}

void states_stop(struct states *states)
{
    worker_stop(&states->keeper);
}

void states_fini(struct states *states)
{
    worker_fini(&states->keeper);
    proto_arena_fini(&states->arena);
}

bool states_are_busy(const struct states *states)
{
    return states->tasks_n > 0;
}

static void backlog_submit(struct states *states)
{
    struct task *task;

    while (states->in_keeper < KEEPER_TASKS && (task = TAILQ_FIRST(&states->backlog)) != NULL) {
        TAILQ_REMOVE(&states->backlog, task, of_backlog);
        states->in_keeper++;
        (void)worker_submit(&states->keeper, &task->work);
    }
}

void task_submit(struct loop *loop, struct task *task, void (*run)(struct work *work),
                 void (*step)(struct loop *loop, struct task *task))
{
    if (task->stream)
        task->stream->place = PLACE_HELD;
    task->work.run = run;
    task->step = step;
    task->is_away = true;
    TAILQ_INSERT_TAIL(&loop->states.backlog, task, of_backlog);
    backlog_submit(&loop->states);
}

void states_take(struct loop *loop)
{
    struct work *work;

    while ((work = worker_take(&loop->states.keeper)) != NULL) {
        struct task *task = (struct task *)work;

        loop->states.in_keeper--;
        task->is_away = false;
        if (task->stream)
            task->stream->place = PLACE_NONE;
        if (task->status == SSM_DEVICE)
            failure_device(loop, task->site->unit);
        task->step(loop, task);
    }
    backlog_submit(&loop->states);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

struct task *task_new(struct loop *loop, struct conn *conn, uint64_t request_id, enum task_kind kind)
{
    struct states *states = &loop->states;
    struct task *task = NULL;

    if (!conn || states->tasks_n < loop->conf.max_images)
        task = calloc(1, sizeof(*task));
    if (!task) {
        loop->counters.limit_images++;
        if (conn)
            deliver_error(loop, conn, request_id, SSMD__CODE__LIMIT,
                          "max_images snapshots, forks, restores and rollbacks are under way: wait for some");
        return NULL;
    }
    task->kind = kind;
    task->conn = conn;
    task->request_id = request_id;
    task->from.index = task->to.index = -1;
    if (conn)
        memcpy(task->writer, conn->writer, sizeof(task->writer));
    TAILQ_INSERT_TAIL(&states->tasks, task, of_all);
    states->tasks_n++;
    return task;
}

void task_wait(struct loop *loop, struct task *task, struct stream *stream)
{
    task->stream = stream;
    task->at = stream->next;
    TAILQ_INSERT_TAIL(&stream->tasks, task, of_stream);
    loop_stream_settle(loop, stream);
}

void task_free(struct loop *loop, struct task *task)
{
    struct stream *stream = task->stream;
    struct ring_budget own = {.bytes = ring_bytes(&task->ring)}; /* it is in no budget until it is a stream's */

    ring_fini(&task->ring, &own);
    if (task->model) {
        limits_slot_release(loop, task->site, task->to);
        task->model->streams--;
        task->model->used_ns = loop->now_ns;
    }
    if (task->image)
        image_free(loop, task->image);
    free(task->last);
    TAILQ_REMOVE(&loop->states.tasks, task, of_all);
    loop->states.tasks_n--;
    if (stream) {
        if (task->kind != TASK_ROLLBACK)
            TAILQ_REMOVE(&stream->tasks, task, of_stream);
        batcher_add(batcher_of(stream), stream);
        loop_stream_settle(loop, stream); /* for what is next */
    }
    if (task->kind == TASK_EVICT)
        evict_left(loop);
    free(task);
}

void task_refuse(struct loop *loop, struct task *task, Ssmd__Code code, const char *text)
{
    if (task->conn)
        deliver_error(loop, task->conn, task->request_id, code, text);
    task_free(loop, task);
}

Ssmd__Code task_code(int status)
{
    switch (status) {
    case SSM_NOMEM:
    case SSM_LIMIT:
        return SSMD__CODE__LIMIT;
    case SSM_STALE:
    case SSM_DEVICE:
        return SSMD__CODE__INTERNAL;
    default:
        return SSMD__CODE__BAD_IMAGE;
    }
}

const char *task_slot_acquire(struct loop *loop, struct task *task, struct site *site)
{
    const char *text = limits_slot_acquire(loop, site, &task->to);

    if (text)
        return text;
    if (!task->model) {
        task->model = site->model;
        site->model->streams++;
    }
    task->site = site;
    return NULL;
}

struct stream *task_stream_new(struct loop *loop, struct task *task, uint64_t next)
{
    struct model *model = task->model;
    struct stream *stream = streams_insert(&loop->streams, task->id, task->id_size, task->ring.channels);

    if (!stream)
        return NULL;
    stream->top_k = task->top_k;
    stream->generates = task->generates;
    stream->class = task->class;
    stream->model = model;
    stream->site = task->site;
    model->streams++; /* the task's own count goes with it */
    stream->slot = task->to;
    task->to.index = -1;
    stream->ring = task->ring;
    loop->rings.bytes += ring_bytes(&task->ring);
    ring_init(&task->ring, task->ring.channels);
    memcpy(stream->writer, task->writer, sizeof(stream->writer));
    stream->next = stream->applied = next;
    stream->received = stream->ring.lo;
    stream->active_ns = loop->now_ns;
    loop->counters.streams_opened++;
    return stream;
}

void states_drop(struct loop *loop)
{
    struct task *task;
    struct image *image;

    while ((task = TAILQ_FIRST(&loop->states.tasks)) != NULL)
        task_free(loop, task);
    while ((image = TAILQ_FIRST(&loop->states.images)) != NULL)
        image_free(loop, image);
}

bool state_turn(struct loop *loop, struct stream *stream)
{
    struct task *task = TAILQ_FIRST(&stream->tasks);

    if (stream->place == PLACE_HELD)
        return true;
    if (!task || stream->place != PLACE_NONE || (stream->head && stream_frames_to_stop(stream) > 0))
        return false;
    if (stream->is_failed)
        task_refuse(loop, task, SSMD__CODE__INTERNAL,
                    "the engine refused frames of this stream: there is no state to take");
    else
        task->step(loop, task);
    return true;
}

void states_stream_drop(struct loop *loop, struct stream *stream)
{
    struct task *task;

    while ((task = TAILQ_FIRST(&stream->tasks)) != NULL) {
        TAILQ_REMOVE(&stream->tasks, task, of_stream);
        task->stream = NULL;
        if (loop->is_over)
            task->conn = NULL; /* its client asks the next daemon */
        task_refuse(loop, task, SSMD__CODE__NO_STREAM, "the stream has ended");
    }
}

void states_conn_drop(struct loop *loop, struct conn *conn)
{
    struct task *task, *next_task;
    struct image *image, *next_image;

    TAILQ_FOREACH(task, &loop->states.tasks, of_all)
        if (task->image && task->image->conn == conn)
            task->image->conn = NULL; /* it goes with its task */
    for (task = TAILQ_FIRST(&loop->states.tasks); task; task = next_task) {
        next_task = TAILQ_NEXT(task, of_all);
        if (task->conn != conn)
            continue;
        task->conn = NULL;
        if (!task->is_away)
            task_free(loop, task);
    }
    for (image = TAILQ_FIRST(&loop->states.images); image; image = next_image) {
        next_image = TAILQ_NEXT(image, link);
        if (image->conn == conn)
            image_free(loop, image);
    }
}

/* ---- images ------------------------------------------------------------------------------------------------------ */

struct image *image_new(struct loop *loop, struct conn *conn, size_t bytes)
{
    struct states *states = &loop->states;
    struct image *image = NULL;

    if (!conn || (states->images_n < loop->conf.max_images && states->bytes + bytes <= loop->conf.image_memory))
        image = calloc(1, sizeof(*image));
    if (!image) {
        loop->counters.limit_images++;
        return NULL;
    }
    image->conn = conn;
    image->number = ++states->numbers;
    image->size = bytes;
    TAILQ_INSERT_TAIL(&states->images, image, link);
    states->images_n++;
    states->bytes += bytes;
    return image;
}

void image_free(struct loop *loop, struct image *image)
{
    TAILQ_REMOVE(&loop->states.images, image, link);
    loop->states.images_n--;
    loop->states.bytes -= image->size;
    free(image->bytes);
    free(image);
}

struct image *image_find(struct loop *loop, const struct conn *conn, uint32_t number)
{
    struct image *image;

    TAILQ_FOREACH(image, &loop->states.images, link)
        if (image->conn == conn && image->number == number)
            return image;
    return NULL;
}
