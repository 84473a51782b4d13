/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests about states: snapshot and fork in their stream's turn, and the pieces of images. restore and rollback have
 * files of their own. Everything is judged before anything changes.
 */
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/generate.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/reader.h"
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (256u << 10) /* of one answer to fetch, at most */

static void image_answer(struct loop *loop, struct conn *conn, uint64_t request_id, const struct image *image,
                         const struct task *task)
{
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__ImageInfo info = SSMD__IMAGE_INFO__INIT;

    info.image = image->number;
    info.bytes = image->size;
    info.offset = image->moved;
    info.has_epoch = info.has_index = task != NULL;
    info.epoch = task ? task->epoch : 0;
    info.index = task ? task->at : 0;
    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_IMAGE;
    reply.image = &info;
    deliver_reply(loop, conn, &reply);
}

/* ---- snapshot and fork ------------------------------------------------------------------------------------------- */

/* The stream whose state is asked for, or NULL after answering why it has none to give. */
static struct stream *stream_find(struct loop *loop, struct conn *conn, uint64_t request_id,
                                  const ProtobufCBinaryData *id)
{
    struct stream *stream = streams_find(&loop->streams, id->data, id->len);
    Ssmd__Code code = SSMD__CODE__OK;
    const char *text = NULL;

    if (!stream)
        code = SSMD__CODE__NO_STREAM, text = evict_absent_text(loop, id->data, id->len);
    else if (loop->drain_ns)
        code = SSMD__CODE__DRAINING, text = "the daemon is stopping: ask the next one";
    else if (stream->is_failed)
        code = SSMD__CODE__INTERNAL, text = "the engine refused frames of this stream: there is no state to take";
    else if (stream->is_closing)
        code = SSMD__CODE__CLOSED, text = "the stream is closed: its state has ended";
    else if (generate_is_running(stream))
        code = SSMD__CODE__BUSY, text = "the stream generates: cancel it first, or ask again when it has ended";
    else if (stream->request != REQUEST_NONE)
        code = SSMD__CODE__BUSY, text = "a reset or rollback of this stream is under way: ask again when it is done";
    if (code == SSMD__CODE__OK)
        return stream;
    deliver_error(loop, conn, request_id, code, text);
    return NULL;
}

static void snapshot_run(struct work *work)
{
    struct task *task = (struct task *)work;

    task->status =
        image_fill(task->image->bytes, &task->sections, task->source, task->keep, task->site->program, task->from);
}

static void snapshot_finished(struct loop *loop, struct task *task)
{
    struct image *image = task->image;

    if (task->status != SSM_OK) {
        task_refuse(loop, task, task_code(task->status),
                    task->status == SSM_NONFINITE ? "a number of the state has overflowed: reset the stream"
                                                  : "the state could not be taken");
        return;
    }
    image->is_ready = true;
    if (task->conn) {
        task->image = NULL; /* the client's now */
        image_answer(loop, task->conn, task->request_id, image, task);
    }
    loop->counters.snapshots++;
    task_free(loop, task);
}

static void snapshot_begin(struct loop *loop, struct task *task)
{
    struct stream *stream = task->stream;
    unsigned char *bytes;

    task->keep = stream_keep_image(stream);
    task->epoch = stream->epoch;
    task->site = stream->site;
    task->from = stream->slot;
    task->source = &stream->ring;
    if (!image_describe(stream, task->keep, &bytes, &task->sections)) {
        task_refuse(loop, task, SSMD__CODE__LIMIT, "no memory for an image so large");
        return;
    }
    task->image = image_new(loop, task->conn, task->sections.size);
    if (!task->image) {
        free(bytes);
        task_refuse(loop, task, SSMD__CODE__LIMIT,
                    "image_memory or max_images is used up: fetch what is there, or raise it");
        return;
    }
    task->image->bytes = bytes;
    task_submit(loop, task, snapshot_run, snapshot_finished);
}

void control_snapshot(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Snapshot *snapshot)
{
    struct stream *stream = stream_find(loop, conn, request_id, &snapshot->id);
    struct task *task = stream ? task_new(loop, conn, request_id, TASK_SNAPSHOT) : NULL;

    if (!task)
        return;
    task->step = snapshot_begin;
    task_wait(loop, task, stream);
}

static void fork_run(struct work *work)
{
    struct task *task = (struct task *)work;

    task->status = ssm_slot_copy(task->site->program, task->from, task->to);
    if (task->status == SSM_OK)
        task->status = ring_copy(&task->ring, task->source);
}

/* Whether a stream of that id may come to be; else the task is refused. */
static bool id_is_free(struct loop *loop, struct task *task)
{
    const char *text;

    if (evict_has(loop, task->id, task->id_size))
        task_refuse(loop, task, SSMD__CODE__EXISTS, "a stream with this id was evicted: choose another id");
    else if (streams_find(&loop->streams, task->id, task->id_size))
        task_refuse(loop, task, SSMD__CODE__EXISTS, "a stream with this id exists: choose another id");
    else if ((text = limits_stream(loop)) != NULL)
        task_refuse(loop, task, SSMD__CODE__LIMIT, text);
    else
        return true;
    return false;
}

static void fork_finished(struct loop *loop, struct task *task)
{
    struct stream *stream = NULL;
    struct control_info info;

    if (task->status != SSM_OK) {
        task_refuse(loop, task, task_code(task->status), ssm_status_text(task->status));
        return;
    }
    if (task->conn && !id_is_free(loop, task))
        return;
    if (task->conn)
        stream = task_stream_new(loop, task, task->at);
    if (stream) {
        stream->received = stream->ring.hi; /* they were the first stream's; this one may still ask for them */
        reader_match(loop, stream);
        loop->counters.forks++;
        control_info_fill(task->conn, stream, &info);
        control_info_send(loop, task->conn, task->request_id, &info);
        log_event(LOG_DEBUG, "stream_forked", "stream=%.*s from=%.*s next=%llu", stream->id_size, stream->id,
                  task->stream->id_size, task->stream->id, (unsigned long long)stream->next);
        task_free(loop, task);
        return;
    }
    task_refuse(loop, task, SSMD__CODE__LIMIT, "no memory for the state of one more stream");
}

static void fork_begin(struct loop *loop, struct task *task)
{
    struct stream *stream = task->stream;
    const char *text;

    if (!id_is_free(loop, task))
        return;
    text = task_slot_acquire(loop, task, stream->site);
    if (text) {
        task_refuse(loop, task, SSMD__CODE__LIMIT, text);
        return;
    }
    task->from = stream->slot;
    task->source = &stream->ring;
    task->top_k = stream->top_k;
    task->generates = stream->generates;
    task->class = stream->class;
    task_submit(loop, task, fork_run, fork_finished);
}

void control_fork(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Fork *fork)
{
    struct stream *stream;
    struct task *task;

    if (!stream_id_is_valid(fork->new_id.data, fork->new_id.len)) {
        deliver_error(loop, conn, request_id, SSMD__CODE__BAD_ID, "an id has 1 to 64 bytes and no NUL");
        return;
    }
    stream = stream_find(loop, conn, request_id, &fork->id);
    task = stream ? task_new(loop, conn, request_id, TASK_FORK) : NULL;
    if (!task)
        return;
    task->id_size = (uint8_t)fork->new_id.len;
    memcpy(task->id, fork->new_id.data, fork->new_id.len);
    task->step = fork_begin;
    task_wait(loop, task, stream);
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

void control_fetch(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Fetch *fetch)
{
    struct image *image = image_find(loop, conn, fetch->image);
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__Piece piece = SSMD__PIECE__INIT;
    size_t n;

    if (!image) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_IMAGE, "no such image of this connection");
        return;
    }
    if (fetch->bytes == 0) {
        image_free(loop, image);
        deliver_done(loop, conn, request_id);
        return;
    }
    if (image->is_put || !image->is_ready || fetch->offset != image->moved) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_IMAGE,
                      "the pieces of an image are fetched in order, each once");
        return;
    }
    n = fetch->bytes < PIECE_BYTES ? fetch->bytes : PIECE_BYTES;
    n = n < image->size - image->moved ? n : image->size - image->moved;
    piece.offset = image->moved;
    piece.data = (ProtobufCBinaryData){n, image->bytes + image->moved};
    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_PIECE;
    reply.piece = &piece;
    deliver_reply(loop, conn, &reply);
    image->moved += n;
    if (image->moved == image->size)
        image_free(loop, image);
}

/* A new image that is to be put, or NULL after answering why not. */
static struct image *put_begin(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Put *put)
{
    struct image *image;

    if (put->bytes == 0 || put->bytes > IMAGE_BYTES_MAX) {
        deliver_error(loop, conn, request_id, SSMD__CODE__TOO_LARGE, "an image has 1 byte to 2 GiB");
        return NULL;
    }
    image = image_new(loop, conn, put->bytes);
    if (image && (image->bytes = malloc(put->bytes)) != NULL) {
        image->is_put = true;
        return image;
    }
    if (image)
        image_free(loop, image);
    deliver_error(loop, conn, request_id, SSMD__CODE__LIMIT,
                  "image_memory or max_images is used up: try again when others are done, or raise it");
    return NULL;
}

void control_put(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Put *put)
{
    struct image *image = NULL;

    if (put->has_image && !(image = image_find(loop, conn, put->image))) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_IMAGE, "no such image of this connection");
        return;
    }
    if (!image && !(image = put_begin(loop, conn, request_id, put)))
        return;
    if (!image->is_put || image->is_ready || put->bytes != image->size || put->offset != image->moved ||
        put->data.len > image->size - image->moved) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_IMAGE,
                      "the pieces of an image are put in order, and no more than it said it has");
        if (!put->has_image)
            image_free(loop, image);
        return;
    }
    memcpy(image->bytes + image->moved, put->data.data, put->data.len);
    image->moved += put->data.len;
    image->is_ready = image->moved == image->size;
    image_answer(loop, conn, request_id, image, NULL);
}
