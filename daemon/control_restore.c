/* SPDX-License-Identifier: Apache-2.0
 *
 * restore: an image becomes a stream. Its description names the model, which may have to be loaded; then the keeper
 * judges the image, puts its state into a slot and its results into a ring; then the stream comes to be. A client that
 * restores becomes the stream's writer, in a new epoch; the store's streams keep theirs (daemon/store.c).
 */
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/history.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/reader.h"
#include "daemon/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Who published the stream, and the frame that was the last. A client that restores is the writer itself. */
static bool publisher_take(struct task *task, const Ssmd__StreamImage *image)
{
    task->publisher.is_known = true;
    memcpy(task->publisher.run, image->source.data, PROTO_SOURCE_BYTES);
    task->publisher.next = image->source_next;
    task->last_n = image->n_last;
    task->last = malloc(image->n_last * sizeof(float) + 1);
    if (task->last && image->n_last > 0)
        memcpy(task->last, image->last, image->n_last * sizeof(float));
    return task->last != NULL;
}

/* The image as the keeper meets it: all of it is judged before the slot changes. */
static int image_take(struct task *task, struct proto_arena *arena)
{
    const struct image *from = task->image;
    struct ring_budget own = {.limit = UINT64_MAX};
    Ssmd__StreamImage *image;
    uint64_t frames;
    int status;

    if ((status = image_open(from->bytes, from->size, arena, &image, &task->sections, &task->error)) ||
        (status = image_check(from->bytes, from->size, &task->error)) ||
        (status = ssm_slot_import(task->site->program, task->to, from->bytes + task->sections.state_at,
                                  task->sections.size - task->sections.state_at - sizeof(uint64_t), &task->error)))
        return status;
    if (ssm_slot_frames(task->site->program, task->to, &frames) != SSM_OK || frames != image->next ||
        image->out_channels != task->ring.channels) {
        snprintf(task->error.text, sizeof(task->error.text),
                 "the image is damaged: its description is not that of its state");
        return SSM_FORMAT;
    }
    task->epoch = image->epoch;
    task->next = image->next;
    task->wants_results = image->wants_results;
    task->is_closed = image->closed;
    task->history_interval = image->history ? image->history->interval : 0;
    task->history_depth = image->history ? image->history->depth : 0;
    if (task->outcome)
        memcpy(task->writer, image->writer.data, sizeof(task->writer));
    if (task->outcome && image->has_source && !publisher_take(task, image))
        return SSM_NOMEM;
    return image_take_results(from->bytes, &task->sections, image, &task->ring, &own);
}

static void restore_run(struct work *work)
{
    struct task *task = (struct task *)work;
    struct proto_arena arena;

    proto_arena_init(&arena);
    task->status = image_take(task, &arena);
    proto_arena_fini(&arena);
}

static void answer(struct loop *loop, const struct task *task, const struct stream *stream)
{
    struct control_info info;

    if (!task->conn)
        return;
    control_info_fill(task->conn, stream, &info);
    control_info_send(loop, task->conn, task->request_id, &info);
}

/* Whoever asked is told why not. */
static void refuse(struct loop *loop, struct task *task, Ssmd__Code code, const char *text)
{
    task->code = code;
    if (task->outcome)
        task->outcome(loop, task, text);
    task_refuse(loop, task, code, text);
}

static void restore_finished(struct loop *loop, struct task *task)
{
    struct stream *stream;
    const char *full;
    char text[160];

    if (task->status != SSM_OK) {
        refuse(loop, task, task_code(task->status),
               task->error.text[0] ? task->error.text : ssm_status_text(task->status));
        return;
    }
    if (!task->conn && !task->outcome) { /* nobody is there to have it */
        task_free(loop, task);
        return;
    }
    if (streams_find(&loop->streams, task->id, task->id_size) ||
        (!task->outcome && evict_has(loop, task->id, task->id_size))) {
        refuse(loop, task, SSMD__CODE__EXISTS, "a stream with this id exists: close it first, or choose another id");
        return;
    }
    full = limits_stream(loop); /* others may have come meanwhile */
    if (full) {
        refuse(loop, task, SSMD__CODE__LIMIT, full);
        return;
    }
    stream = task_stream_new(loop, task, task->next);
    if (!stream) {
        refuse(loop, task, SSMD__CODE__LIMIT, "no memory for one more stream");
        return;
    }
    stream->wants_results = task->wants_results;
    if (task->outcome) {
        stream->epoch = task->epoch;
        stream->is_closing = stream->is_closed = task->is_closed;
        if (loop->streams.epochs < task->epoch)
            loop->streams.epochs = task->epoch;
        if (task->publisher.is_known)
            publish_restore(loop, stream, &task->publisher, task->last, task->last_n);
    }
    if (task->history_interval && rollback_prepare(loop, stream, task->history_interval, task->history_depth, text,
                                                   sizeof(text)) != SSMD__CODE__OK)
        log_event(LOG_WARNING, "history_dropped", "stream=%.*s reason=%s", stream->id_size, stream->id, text);
    reader_match(loop, stream);
    loop->counters.restores++;
    log_event(LOG_DEBUG, "stream_restored", "stream=%.*s model=%s next=%llu", stream->id_size, stream->id,
              stream->model->name, (unsigned long long)stream->next);
    answer(loop, task, stream);
    if (task->outcome)
        task->outcome(loop, task, NULL);
    task_free(loop, task);
}

/* The model is there, or not, and why. */
static void model_found(struct loop *loop, struct open_request *request, struct model *model, Ssmd__Code code,
                        const char *text)
{
    struct task *task = request->task;

    if (!model && code == SSMD__CODE__RATE) {
        refuse(loop, task, SSMD__CODE__BAD_IMAGE,
               "the image is of another model of this name: that one runs at another rate");
    } else if (!model) {
        refuse(loop, task, code, text);
    } else if ((task->top_k > 0 || task->generates) && (model->info.input != SSM_TOKENS || task->top_k > SSM_TOP_MAX ||
                                                        task->top_k > model->info.out_channels)) {
        refuse(loop, task, SSMD__CODE__BAD_IMAGE, "the image has results in a form that its model cannot give");
    } else if ((text = task_slot_acquire(loop, task, site_choose(loop, model))) != NULL) {
        refuse(loop, task, SSMD__CODE__LIMIT, text);
    } else {
        ring_init(&task->ring, stream_result_channels(&model->info, task->top_k, task->generates));
        task_submit(loop, task, restore_run, restore_finished);
    }
}

/* The id of the stream that is to be, if it may be. */
static Ssmd__Code id_take(struct loop *loop, struct task *task, const uint8_t *id, size_t id_size, const char **text)
{
    if (!stream_id_is_valid(id, id_size))
        return *text = "an id has 1 to 64 bytes and no NUL", SSMD__CODE__BAD_ID;
    memcpy(task->id, id, id_size);
    task->id_size = (uint8_t)id_size;
    if (loop->drain_ns)
        return *text = "the daemon is stopping: restore at the next one", SSMD__CODE__DRAINING;
    if (streams_find(&loop->streams, id, id_size))
        return *text = "a stream with this id exists: close it first, or choose another id", SSMD__CODE__EXISTS;
    if (!task->outcome && evict_has(loop, id, id_size))
        return *text = "a stream with this id was evicted: open it, or choose another id", SSMD__CODE__EXISTS;
    *text = limits_stream(loop);
    return *text ? SSMD__CODE__LIMIT : SSMD__CODE__OK;
}

/* The class that the stream had, if this daemon knows it. */
static const struct policy_class *class_find(const struct loop *loop, const Ssmd__StreamImage *image)
{
    const struct policy_class *class = image->class_ ? policy_class_find(&loop->classes, image->class_) : NULL;

    if (image->class_ && !class)
        log_event(LOG_WARNING, "class_unknown", "stream=%.*s class=%s", (int)image->id.len, image->id.data,
                  image->class_);
    return class;
}

/* The model of the image: the version and rate that it was made with, if that is in memory; else the newest version, for
 * the image's rate, which the state will be held against. */
static enum models_answer image_model_find(struct loop *loop, const struct task *task, const Ssmd__StreamImage *image,
                                           struct open_request *request, struct model **out, Ssmd__Code *code,
                                           const char **text)
{
    const unsigned char *state = task->image->bytes + task->sections.state_at;
    size_t size = task->sections.size - task->sections.state_at - sizeof(uint64_t);

    TAILQ_FOREACH(*out, &loop->models.all, of_all)
        if ((*out)->state == MODEL_LOADED && strcmp((*out)->name, image->model) == 0 &&
            ssm_image_is_of((*out)->model, state, size))
            return MODELS_READY;
    request->native_rate = !ssm_is_template(image->model);
    request->rate = request->native_rate ? image->rate : 0;
    return models_find(loop, image->model, request, out, code, text);
}

void restore_begin(struct loop *loop, struct task *task, const ProtobufCBinaryData *id)
{
    struct open_request *request = calloc(1, sizeof(*request));
    Ssmd__StreamImage *image;
    Ssmd__Code code = SSMD__CODE__OK;
    const char *text = NULL;
    struct model *model;

    task->status = request ? image_open(task->image->bytes, task->image->size, &loop->states.arena, &image,
                                        &task->sections, &task->error)
                           : SSM_NOMEM;
    if (task->status != SSM_OK)
        code = task_code(task->status), text = request ? task->error.text : "the daemon is out of memory";
    else if (id)
        code = id_take(loop, task, id->data, id->len, &text);
    else
        code = id_take(loop, task, image->id.data, image->id.len, &text);
    if (code != SSMD__CODE__OK) {
        free(request);
        refuse(loop, task, code, text);
        return;
    }
    task->top_k = image->has_top_k ? image->top_k : 0;
    task->generates = image->generates;
    task->class = class_find(loop, image);
    request->conn = task->conn;
    request->finish = model_found;
    request->task = task;
    switch (image_model_find(loop, task, image, request, &model, &code, &text)) {
    case MODELS_WAITS:
        return; /* it is theirs now */
    case MODELS_REFUSED:
        model_found(loop, request, NULL, code, text);
        break;
    case MODELS_READY:
        model_found(loop, request, model, SSMD__CODE__OK, NULL);
        break;
    }
    free(request);
}

void control_restore(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Restore *restore)
{
    struct image *image = image_find(loop, conn, restore->image);
    struct task *task;

    if (!image || !image->is_put || !image->is_ready) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_IMAGE, "no image of this connection was put to its end");
        return;
    }
    task = task_new(loop, conn, request_id, TASK_RESTORE);
    if (!task)
        return;
    task->image = image;
    image->conn = NULL; /* the task's: used up, whatever comes of it */
    restore_begin(loop, task, restore->has_id ? &restore->id : NULL);
}
