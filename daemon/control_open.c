/* SPDX-License-Identifier: Apache-2.0
 *
 * open: make a stream, resume it, or take it over. Everything is judged before anything changes.
 */
#include "daemon/admission.h"
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/generate.h"
#include "daemon/history.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/reader.h"
#include "daemon/state.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void refuse(struct loop *loop, const struct open_request *request, Ssmd__Code code, const char *text)
{
    deliver_error(loop, request->conn, request->request_id, code, text);
}

static bool history_is_wrong(const Ssmd__History *h)
{
    return h->interval == 0 || h->interval > HISTORY_INTERVAL_MAX || h->depth == 0 || h->depth > HISTORY_DEPTH_MAX;
}

/* ---- waiting for an evicted stream, or for room ------------------------------------------------------------------ */

static void open_begin(struct loop *loop, struct open_request *request, const char *spec);

static void opens_remove(struct loop *loop, struct open_request *request)
{
    TAILQ_REMOVE(&loop->evict.opens, request, of_waiting);
    loop->evict.opens_n--;
}

static void open_waited(struct loop *loop, struct evict_wait *wait, Ssmd__Code code, const char *text)
{
    struct open_request *request = (struct open_request *)((char *)wait - offsetof(struct open_request, wait));

    opens_remove(loop, request);
    if (code == SSMD__CODE__OK) {
        open_begin(loop, request, request->spec);
        return;
    }
    refuse(loop, request, code, text);
    free(request);
}

void control_opens_drop(struct loop *loop, const struct conn *conn)
{
    struct open_request *request, *next;

    for (request = TAILQ_FIRST(&loop->evict.opens); request; request = next) {
        next = TAILQ_NEXT(request, of_waiting);
        if (request->conn != conn)
            continue;
        evict_forget(&request->wait);
        opens_remove(loop, request);
        free(request);
    }
}

/* Whether the open has to wait, and now does: open_waited gets it back; or that too many do, which it was told. */
static bool open_waits(struct loop *loop, struct open_request *request, const char *spec)
{
    bool is_evicted, needs_room;

    if (streams_find(&loop->streams, request->id, request->id_size) || strlen(spec) >= sizeof(request->spec))
        return false;
    is_evicted = evict_has(loop, request->id, request->id_size);
    needs_room = !request->has_waited && loop->streams.n >= loop->conf.max_streams &&
                 (is_evicted || request->mode != SSMD__OPEN_MODE__RESUME);
    if (!is_evicted && !needs_room)
        return false;
    if (loop->evict.opens_n >= EVICT_OPENS_MAX) {
        refuse(loop, request, SSMD__CODE__LIMIT, "too many opens wait for evicted streams or for room: try again");
        free(request);
        return true;
    }
    if (spec != request->spec)
        memcpy(request->spec, spec, strlen(spec) + 1);
    request->wait.done = open_waited;
    request->has_waited |= needs_room;
    TAILQ_INSERT_TAIL(&loop->evict.opens, request, of_waiting);
    loop->evict.opens_n++;
    if (needs_room && evict_make_room(loop, &request->wait))
        return true;
    if (is_evicted) {
        evict_return(loop, request->id, request->id_size, &request->wait);
        return true;
    }
    opens_remove(loop, request);
    return false;
}

/* Whether a stream of model `has` is one of `wants`: also of another version, or another rate, of the directory. */
static bool model_is_named(const struct model *has, const struct model *wants)
{
    return has == wants || (has->lineage && has->lineage == wants->lineage);
}

/* A stream that exists has its own version and rate, whatever a new one would get. */
static enum models_answer model_find(struct loop *loop, const char *name, struct open_request *request,
                                     struct model **out, Ssmd__Code *code, const char **text)
{
    struct stream *stream = streams_find(&loop->streams, request->id, request->id_size);

    if (stream && stream->model->lineage && strcmp(stream->model->name, name) == 0) {
        *out = stream->model;
        return MODELS_READY;
    }
    return models_find(loop, name, request, out, code, text);
}

static void open_begin(struct loop *loop, struct open_request *request, const char *spec)
{
    struct model *model;
    const char *text;
    Ssmd__Code code;

    if (open_waits(loop, request, spec))
        return;
    switch (model_find(loop, spec, request, &model, &code, &text)) {
    case MODELS_WAITS:
        return; /* it is theirs now */
    case MODELS_REFUSED:
        refuse(loop, request, code, text);
        break;
    case MODELS_READY:
        control_open_finish(loop, request, model, SSMD__CODE__OK, NULL);
        break;
    }
    free(request);
}

/* ---- the request ------------------------------------------------------------------------------------------------- */

void control_open(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Open *open)
{
    struct open_request *request = calloc(1, sizeof(*request));

    if (!request) {
        deliver_error(loop, conn, request_id, SSMD__CODE__LIMIT, "the daemon is out of memory");
        return;
    }
    *request = (struct open_request){
        .conn = conn,
        .request_id = request_id,
        .finish = control_open_finish,
        .mode = open->mode,
        .take_over = open->take_over,
        .wants_results = open->results,
        .has_results_from = open->has_results_from,
        .results_from = open->results_from,
        .history_interval = open->history ? open->history->interval : 0,
        .history_depth = open->history ? open->history->depth : 0,
        .rate = open->has_rate ? open->rate : 0,
        .channels = open->has_channels ? open->channels : 0,
        .native_rate = open->native_rate,
        .generates = open->generates,
        .top_k = open->has_top_k ? open->top_k : 0,
    };
    if (loop->drain_ns) {
        refuse(loop, request, SSMD__CODE__DRAINING, "the daemon is stopping: open the stream at the next one");
    } else if (!stream_id_is_valid(open->id.data, open->id.len)) {
        refuse(loop, request, SSMD__CODE__BAD_ID, "an id has 1 to 64 bytes and no NUL");
    } else if (open->has_top_k && open->top_k == 0) {
        refuse(loop, request, SSMD__CODE__BAD_OPTION, "top_k is at least 1: leave it out for none");
    } else if (!(request->rate >= 0 && isfinite(request->rate))) {
        refuse(loop, request, SSMD__CODE__RATE, "the rate is a positive number of frames per second");
    } else if (open->class_ && !(request->class = policy_class_find(&loop->classes, open->class_))) {
        refuse(loop, request, SSMD__CODE__BAD_OPTION, "no class of that name in the daemon's configuration");
    } else if (open->history && history_is_wrong(open->history)) {
        refuse(loop, request, SSMD__CODE__TOO_LARGE,
               "history: the interval is 1 to 2^20 frames, the depth 1 to 2^28 frames");
    } else {
        request->id_size = (uint8_t)open->id.len;
        memcpy(request->id, open->id.data, open->id.len);
        open_begin(loop, request, open->model);
        return;
    }
    free(request);
}

/* The stream's rate and channels against the model's. */
static Ssmd__Code shape_check(const struct open_request *request, const struct ssm_model_info *info, char *text,
                              size_t size)
{
    if (request->rate > 0 && info->in_rate > 0 && !models_rates_match(request->rate, info->in_rate)) {
        snprintf(text, size, "the model runs at %.9g Hz and the stream at %.9g Hz: resample the stream to %.9g Hz%s",
                 info->in_rate, request->rate, info->in_rate,
                 info->fixed_by[0] || request->native_rate ? "" : ", or open it with native_rate");
        return SSMD__CODE__RATE;
    }
    if (request->channels > 0 && request->channels != info->in_channels) {
        snprintf(text, size, "the model takes %u channels and the stream has %u", info->in_channels, request->channels);
        return SSMD__CODE__RATE;
    }
    return SSMD__CODE__OK;
}

/* What results are to be, of the model and of the stream that exists (or NULL). */
static Ssmd__Code form_check(const struct open_request *request, const struct model *model, const struct stream *stream,
                             char *text, size_t size)
{
    const struct ssm_model_info *info = &model->info;
    uint32_t most = info->out_channels < SSM_TOP_MAX ? info->out_channels : SSM_TOP_MAX;

    if ((request->top_k > 0 || request->generates) && info->input != SSM_TOKENS) {
        snprintf(text, size, "top_k and generates are for models of tokens, and this one takes a signal");
    } else if (request->top_k > most) {
        snprintf(text, size, "top_k is at most %u for this model, and not %u", most, request->top_k);
    } else if (request->generates && (!model->is_one_to_one || info->out_channels != info->vocab)) {
        snprintf(text, size,
                 "generates needs logits of the vocabulary for every token: this model has %u outputs and "
                 "%u tokens",
                 info->out_channels, info->vocab);
    } else if (request->generates && request->history_interval) {
        snprintf(text, size, "a stream that generates keeps no history: take snapshots, or fork it");
    } else if (stream && request->wants_results &&
               (stream->top_k != request->top_k || stream->generates != request->generates)) {
        snprintf(text, size, "the stream exists with results in another form: open it with top_k %u and generates %s",
                 stream->top_k, stream->generates ? "true" : "false");
        return SSMD__CODE__EXISTS;
    } else {
        return SSMD__CODE__OK;
    }
    return SSMD__CODE__BAD_OPTION;
}

/* Whether the open may have the stream that exists (or NULL). */
static Ssmd__Code access_check(struct loop *loop, const struct open_request *request, const struct stream *stream,
                               const struct model *model, const char **text)
{
    uint64_t lo = stream ? stream->ring.lo : 0, hi = stream ? stream->ring.hi : 0;

    if (!stream && request->mode == SSMD__OPEN_MODE__RESUME)
        return *text = "no such stream", SSMD__CODE__NO_STREAM;
    if (!stream && evict_has(loop, request->id, request->id_size))
        return *text = "the stream was evicted while this waited for its model: open it again", SSMD__CODE__BUSY;
    if (!stream && (*text = limits_stream(loop)) != NULL)
        return SSMD__CODE__LIMIT;
    if (stream && request->mode == SSMD__OPEN_MODE__CREATE)
        return *text = "a stream with this id exists: resume it, or choose another id", SSMD__CODE__EXISTS;
    if (stream && stream->model != model)
        return *text = "the stream exists with another model: name that, or close it first", SSMD__CODE__EXISTS;
    if (stream && stream->publication && !request->take_over)
        return *text = "publishers write this stream: take it over, or choose another id", SSMD__CODE__OWNED;
    if (stream && memcmp(stream->writer, request->conn->writer, PROTO_WRITER_BYTES) != 0 && !request->take_over)
        return *text = "another writer holds the stream: take it over, or choose another id", SSMD__CODE__OWNED;
    if (request->wants_results && request->has_results_from && request->results_from < lo)
        return *text = "results_from lies before the oldest result kept: `info` names it as result_first",
               SSMD__CODE__TOO_OLD;
    if (request->wants_results && request->has_results_from && request->results_from > hi)
        return *text = "results_from lies beyond the next result: `info` names it as result_next", SSMD__CODE__TOO_NEW;
    if ((!stream || stream->conn != request->conn) && (*text = limits_writer(loop, request->conn)) != NULL)
        return SSMD__CODE__LIMIT;
    return SSMD__CODE__OK;
}

/* The history that the open asks for: of a stream that exists, before anything else changes. */
static Ssmd__Code history_begin(struct loop *loop, const struct open_request *request, struct stream *stream,
                                char *text, size_t size)
{
    Ssmd__History has = SSMD__HISTORY__INIT;

    if (!request->history_interval)
        return SSMD__CODE__OK;
    if (!stream->history && (stream->place == PLACE_IN_BATCH || stream->place == PLACE_HELD)) {
        snprintf(text, size, "the stream is being advanced, and its history cannot begin: ask again");
        return SSMD__CODE__BUSY;
    }
    if (!stream->history)
        return rollback_prepare(loop, stream, request->history_interval, request->history_depth, text, size);
    history_fill(stream->history, &has);
    if (has.interval == request->history_interval && has.depth == request->history_depth)
        return SSMD__CODE__OK;
    snprintf(text, size, "the stream has a history of interval %u and depth %u: ask for that, or for none",
             has.interval, has.depth);
    return SSMD__CODE__EXISTS;
}

struct stream *control_stream_new(struct loop *loop, const struct stream_making *making, const char **text)
{
    struct model *model = making->model;
    struct stream *stream = streams_insert(&loop->streams, making->id, making->id_size,
                                           stream_result_channels(&model->info, making->top_k, making->generates));

    *text = "no memory for one more stream";
    if (!stream)
        return NULL;
    stream->top_k = making->top_k;
    stream->generates = making->generates;
    stream->site = site_choose(loop, model);
    *text = limits_slot_acquire(loop, stream->site, &stream->slot);
    if (*text) {
        streams_remove(&loop->streams, stream);
        return NULL;
    }
    stream->model = model;
    model->streams++;
    memcpy(stream->writer, making->writer, PROTO_WRITER_BYTES);
    loop->counters.streams_opened++;
    return stream;
}

static struct stream *stream_new(struct loop *loop, const struct open_request *request, struct model *model,
                                 const char **text)
{
    struct stream_making making = {request->id, request->id_size, request->conn->writer,
                                   model,       request->top_k,   request->generates};

    return control_stream_new(loop, &making, text);
}

/* The stream changes hands: with another writer its epoch rises, its index stays. The old handle's client is told first
 * that it died, then that nobody will answer it there. */
static void owner_change(struct loop *loop, struct stream *stream, const struct open_request *request)
{
    bool same = !stream->publication && memcmp(stream->writer, request->conn->writer, PROTO_WRITER_BYTES) == 0;

    if (!same) {
        if (generate_is_running(stream))
            stream->generation->is_silent = true; /* TAKEN_OVER tells enough */
        generate_stop(loop, stream, SSMD__ENDING__STREAM_CLOSED);
        if (stream->publication && stream->request == REQUEST_RESET)
            stream->request = REQUEST_NONE; /* behind a gap: the publisher's, not the new writer's */
        publish_detach(loop, stream);
        stream->was_told = false;
        stream->paced_ns = 0;
        memcpy(stream->writer, request->conn->writer, PROTO_WRITER_BYTES);
        reader_epoch(loop, stream, false);
        stream->epoch = streams_epoch_new(&loop->streams);
        tap_publish_event(&loop->tap, stream, SSMD__EVENT__KIND__EPOCH);
        log_event(LOG_NOTICE, "stream_taken_over", "stream=%.*s by=%s epoch=%llu", stream->id_size, stream->id,
                  request->conn->name, (unsigned long long)stream->epoch);
    }
    if (stream->conn) {
        Ssmd__Event event = SSMD__EVENT__INIT;

        event.kind = SSMD__EVENT__KIND__TAKEN_OVER;
        event.has_handle = event.has_epoch = true;
        event.handle = stream->handle;
        event.epoch = stream->epoch;
        deliver_event(loop, stream->conn, &event);
        loop_request_refuse(
            loop, stream, SSMD__CODE__BAD_HANDLE,
            "the stream was opened again while this waited; it is still done when its turn comes: ask once "
            "more on the new handle to hear when");
        loop_stream_detach(loop, stream);
    }
    if (same)
        loop->counters.streams_resumed++;
    else
        loop->counters.streams_taken_over++;
}

/* Bind the stream to the connection's new handle. */
static void stream_attach(struct loop *loop, struct stream *stream, const struct open_request *request, uint32_t number,
                          struct outlet *outlet)
{
    struct handle *handle = &request->conn->handles[number];

    stream->conn = request->conn;
    stream->conn->writes++;
    stream->handle = number;
    stream->refused = 0;
    stream->wants_results = request->wants_results;
    stream->outlet = outlet;
    stream->conn->queued_bytes += stream->queued_bytes;
    *handle = (struct handle){HANDLE_WRITES, stream->model->info.in_channels, 0, stream, outlet};
    if (request->has_results_from && request->wants_results)
        stream->received = request->results_from;
    if (stream->received < stream->ring.lo)
        stream->received = stream->ring.lo;
    if (outlet) {
        outlet->stream = stream;
        outlet->conn = request->conn;
        outlet->handle = number;
        outlet->next = stream->received;
        TAILQ_INSERT_TAIL(&stream->outlets, outlet, of_stream);
    }
    batcher_add(batcher_of(stream), stream);
    if (stream->is_closed || stream->request != REQUEST_NONE)
        loop_stream_settle(loop, stream);
}

void control_open_finish(struct loop *loop, struct open_request *request, struct model *model, Ssmd__Code code,
                         const char *text)
{
    struct stream *stream = streams_find(&loop->streams, request->id, request->id_size);
    struct outlet *outlet = NULL;
    struct control_info info;
    char sentence[320];
    bool is_new = !stream;
    uint32_t handle;

    if (stream && model && model_is_named(stream->model, model))
        model = stream->model;
    if (model) {
        code = shape_check(request, &model->info, sentence, sizeof(sentence));
        text = sentence;
        if (code == SSMD__CODE__OK)
            code = access_check(loop, request, stream, model, &text);
        if (code == SSMD__CODE__OK) {
            text = sentence;
            code = form_check(request, model, stream, sentence, sizeof(sentence));
        }
        if (code == SSMD__CODE__OK && stream)
            code = history_begin(loop, request, stream, sentence, sizeof(sentence));
        if (code == SSMD__CODE__OK && !stream)
            code = admission_check(loop, model, sentence, sizeof(sentence));
    }
    if (code != SSMD__CODE__OK) {
        refuse(loop, request, code, text);
        return;
    }
    if (request->wants_results)
        outlet = calloc(1, sizeof(*outlet));
    if ((request->wants_results && !outlet) || !limits_handle_acquire(loop, request->conn, &handle)) {
        free(outlet);
        refuse(loop, request, SSMD__CODE__LIMIT, "this connection has used up its handles: reconnect");
        return;
    }
    if (is_new)
        stream = stream_new(loop, request, model, &text);
    else
        owner_change(loop, stream, request);
    if (!stream) {
        conn_handle_release(request->conn, handle, true);
        free(outlet);
        refuse(loop, request, SSMD__CODE__LIMIT, text);
        return;
    }
    code = is_new ? history_begin(loop, request, stream, sentence, sizeof(sentence)) : SSMD__CODE__OK;
    if (code != SSMD__CODE__OK) {
        conn_handle_release(request->conn, handle, true);
        free(outlet);
        loop_stream_remove(loop, stream);
        refuse(loop, request, code, sentence);
        return;
    }
    stream->active_ns = loop->now_ns;
    if (is_new)
        admission_live(loop, stream);
    if (request->class)
        stream->class = request->class;
    stream_attach(loop, stream, request, handle, outlet);
    control_info_fill(request->conn, stream, &info);
    info.message.has_handle = info.message.has_created = true;
    info.message.handle = handle;
    info.message.created = is_new;
    info.message.has_results_from = outlet != NULL;
    info.message.results_from = outlet ? outlet->next : 0;
    control_info_send(loop, request->conn, request->request_id, &info);
    log_event(LOG_DEBUG, is_new ? "stream_opened" : "stream_resumed", "stream=%.*s model=%s client=%s next=%llu",
              stream->id_size, stream->id, model->name, request->conn->name, (unsigned long long)stream->next);
    if (is_new)
        reader_match(loop, stream);
}
