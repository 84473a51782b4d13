/* SPDX-License-Identifier: Apache-2.0
 *
 * Outlets of readers: made by `read`, fed by deliver, ended here.
 */
#include "daemon/reader.h"
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/features.h"
#include "daemon/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void reader_close(struct loop *loop, struct outlet *outlet)
{
    struct conn *conn = outlet->conn;

    TAILQ_REMOVE(&outlet->stream->outlets, outlet, of_stream);
    if (outlet->is_ready)
        TAILQ_REMOVE(&conn->ready, outlet, of_ready);
    conn_handle_release(conn, outlet->handle, true);
    conn->reads--;
    loop->readers--;
    free(outlet);
}

/* NULL and why not when a limit is reached. */
static struct outlet *outlet_new(struct loop *loop, struct conn *conn, struct stream *stream, uint64_t next,
                                 uint64_t limit, const char **text)
{
    struct outlet *outlet;
    struct handle *handle;

    *text = limits_reader(loop, conn);
    if (*text)
        return NULL;
    *text = "this connection has used up its handles: reconnect";
    outlet = calloc(1, sizeof(*outlet));
    if (!outlet || !limits_handle_acquire(loop, conn, &outlet->handle)) {
        free(outlet);
        return NULL;
    }
    outlet->stream = stream;
    outlet->conn = conn;
    outlet->reader = true;
    outlet->epoch = stream->epoch;
    outlet->next = next;
    outlet->limit = limit;
    handle = &conn->handles[outlet->handle];
    handle->state = HANDLE_READS;
    handle->stream = stream;
    handle->outlet = outlet;
    TAILQ_INSERT_TAIL(&stream->outlets, outlet, of_stream);
    loop->readers++;
    conn->reads++;
    deliver_wake(loop, outlet);
    return outlet;
}

static void reply_send(struct loop *loop, struct conn *conn, uint64_t request_id, uint32_t *handles, size_t n)
{
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__ReadReply read = SSMD__READ_REPLY__INIT;

    read.n_handle = n;
    read.handle = handles;
    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_READ;
    reply.read = &read;
    deliver_reply(loop, conn, &reply);
}

static void open_one(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Read *read)
{
    struct stream *stream = streams_find(&loop->streams, read->id.data, read->id.len);
    struct outlet *outlet;
    const char *text;

    if (!stream) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_STREAM,
                      evict_absent_text(loop, read->id.data, read->id.len));
    } else if (read->has_from && read->from < stream->ring.lo) {
        deliver_error(loop, conn, request_id, SSMD__CODE__TOO_OLD,
                      "`from` lies before the oldest result kept: `info` names it as result_first");
    } else if (read->has_from && read->from > stream->ring.hi) {
        deliver_error(loop, conn, request_id, SSMD__CODE__TOO_NEW,
                      "`from` lies beyond the next result: `info` names it as result_next");
    } else {
        outlet = outlet_new(loop, conn, stream, read->has_from ? read->from : stream->ring.lo, read->limit, &text);
        if (outlet)
            reply_send(loop, conn, request_id, &outlet->handle, 1);
        else
            deliver_error(loop, conn, request_id, SSMD__CODE__LIMIT, text);
    }
}

static bool has_prefix(const struct stream *stream, const struct prefix *prefix)
{
    return stream->id_size >= prefix->size && memcmp(stream->id, prefix->bytes, prefix->size) == 0;
}

static struct outlet *prefix_attach(struct loop *loop, struct conn *conn, struct stream *stream,
                                    const struct prefix *prefix, const char **text)
{
    return outlet_new(loop, conn, stream, prefix->has_from ? prefix->from : stream->ring.hi, prefix->limit, text);
}

static struct prefix *prefix_push(struct conn *conn, const Ssmd__Read *read)
{
    struct prefix *prefix;

    if (!conn->prefixes)
        conn->prefixes = calloc(CONN_PREFIXES_MAX, sizeof(*conn->prefixes));
    if (!conn->prefixes || conn->prefixes_n == CONN_PREFIXES_MAX)
        return NULL;
    prefix = &conn->prefixes[conn->prefixes_n++];
    *prefix = (struct prefix){
        .size = (uint8_t)read->prefix.len, .has_from = read->has_from, .from = read->from, .limit = read->limit};
    if (prefix->size)
        memcpy(prefix->bytes, read->prefix.data, prefix->size);
    return prefix;
}

static void open_prefix(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Read *read)
{
    uint32_t at = streams_seek(&loop->streams, read->prefix.data, read->prefix.len, false), from = at;
    struct prefix *prefix = prefix_push(conn, read);
    const char *text = "the daemon is out of memory";
    char sentence[200];
    uint32_t *handles;
    size_t n = 0;

    if (!prefix) {
        loop->counters.limit_prefixes++;
        deliver_error(loop, conn, request_id, SSMD__CODE__LIMIT,
                      "a connection reads 16 prefixes at most: use longer ones, or another connection");
        return;
    }
    while (at < loop->streams.n && has_prefix(loop->streams.sorted[at], prefix))
        at++;
    handles = malloc((at - from + 1) * sizeof(*handles));
    for (; handles && from < at; from++) {
        struct outlet *outlet = prefix_attach(loop, conn, loop->streams.sorted[from], prefix, &text);

        if (!outlet)
            break;
        handles[n++] = outlet->handle;
    }
    if (handles && from == at) {
        reply_send(loop, conn, request_id, handles, n);
    } else {
        prefix->is_short = true;
        snprintf(sentence, sizeof(sentence), "%s; those that fitted are announced", text);
        deliver_error(loop, conn, request_id, SSMD__CODE__LIMIT, sentence);
    }
    free(handles);
}

void reader_open(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Read *read)
{
    if (read->has_id == read->has_prefix)
        deliver_error(loop, conn, request_id, SSMD__CODE__MALFORMED, "`read` has an id or a prefix, one of them");
    else if (read->has_prefix && read->prefix.len > PROTO_ID_MAX)
        deliver_error(loop, conn, request_id, SSMD__CODE__BAD_ID, "a prefix has at most 64 bytes");
    else if (read->has_prefix)
        open_prefix(loop, conn, request_id, read);
    else if (!stream_id_is_valid(read->id.data, read->id.len))
        deliver_error(loop, conn, request_id, SSMD__CODE__BAD_ID, "an id has 1 to 64 bytes and no NUL");
    else
        open_one(loop, conn, request_id, read);
}

/* A new stream that a prefix names. When there is no room for it the connection is told so without having asked, once
 * until another one fits. */
static void prefix_match(struct loop *loop, struct conn *conn, struct stream *stream, struct prefix *prefix)
{
    const char *text;
    char sentence[300];

    if (prefix_attach(loop, conn, stream, prefix, &text)) {
        prefix->is_short = false;
    } else if (!prefix->is_short) {
        prefix->is_short = true;
        snprintf(sentence, sizeof(sentence), "a stream that a prefix names is not read (%.*s): %s", stream->id_size,
                 stream->id, text);
        deliver_error(loop, conn, 0, SSMD__CODE__LIMIT, sentence);
    }
}

void reader_match(struct loop *loop, struct stream *stream)
{
    struct conn *conn;

    TAILQ_FOREACH(conn, &loop->conns.all, of_all) {
        for (uint32_t i = 0; i < conn->prefixes_n; i++)
            if (has_prefix(stream, &conn->prefixes[i]))
                prefix_match(loop, conn, stream, &conn->prefixes[i]);
    }
}

/* ---- what readers are told --------------------------------------------------------------------------------------- */

static void event_send(struct loop *loop, struct outlet *outlet, Ssmd__Event__Kind kind, uint64_t first, uint64_t next)
{
    Ssmd__Event event = SSMD__EVENT__INIT;
    struct control_info info;

    event.kind = kind;
    event.has_handle = event.has_epoch = event.has_first = true;
    event.handle = outlet->handle;
    event.epoch = kind == SSMD__EVENT__KIND__LOST ? outlet->epoch : outlet->stream->epoch;
    event.first = first;
    event.has_next = kind == SSMD__EVENT__KIND__LOST;
    event.next = next;
    if (kind == SSMD__EVENT__KIND__READING) {
        control_info_fill(outlet->conn, outlet->stream, &info);
        event.stream = &info.message;
    }
    if (kind == SSMD__EVENT__KIND__ENDED && outlet->stream->is_evicted)
        event.text = (char *)"it was evicted: open it, and it comes back";
    deliver_event(loop, outlet->conn, &event);
}

static void lost_send(struct loop *loop, struct outlet *outlet, uint64_t first, uint64_t next)
{
    loop->counters.readers_lost += next - first;
    event_send(loop, outlet, SSMD__EVENT__KIND__LOST, first, next);
}

/* Whether everything that happened to the stream before now was told. */
static bool is_up_to_date(const struct outlet *outlet)
{
    return outlet->is_announced && outlet->epoch == outlet->stream->epoch && outlet->lost_next == outlet->lost_first;
}

/* Everything that the reader was not told yet, in order; into the outbox when its queue is full. */
static void changes_tell(struct loop *loop, struct outlet *outlet)
{
    struct stream *stream = outlet->stream;

    if (!outlet->is_announced) {
        outlet->is_announced = true;
        event_send(loop, outlet, SSMD__EVENT__KIND__READING, outlet->next, 0);
    }
    if (outlet->lost_next > outlet->lost_first)
        lost_send(loop, outlet, outlet->lost_first, outlet->lost_next);
    outlet->lost_first = outlet->lost_next = 0;
    if (outlet->epoch != stream->epoch) {
        outlet->epoch = stream->epoch;
        event_send(loop, outlet, SSMD__EVENT__KIND__EPOCH, outlet->next, 0);
    }
    if (outlet->next < stream->ring.lo) {
        lost_send(loop, outlet, outlet->next, stream->ring.lo);
        outlet->next = stream->ring.lo;
        outlet->timed.end = 0; /* what was timed was not delivered */
    }
}

void reader_catch_up(struct loop *loop, struct outlet *outlet)
{
    if (!outlet->conn->is_blocked)
        changes_tell(loop, outlet);
}

void reader_settle(struct loop *loop, struct outlet *outlet)
{
    struct stream *stream = outlet->stream;

    if (!stream->is_closed || outlet->next < stream->ring.hi)
        return;
    if (outlet->conn->is_blocked) {
        deliver_wake(loop, outlet); /* and again when there is room */
        return;
    }
    event_send(loop, outlet, SSMD__EVENT__KIND__ENDED, outlet->next, 0);
    reader_close(loop, outlet);
    loop_stream_settle(loop, stream);
}

void reader_epoch(struct loop *loop, struct stream *stream, bool is_reset)
{
    struct outlet *outlet;

    TAILQ_FOREACH(outlet, &stream->outlets, of_stream) {
        if (!outlet->reader)
            continue;
        if (is_reset) {
            if (!is_up_to_date(outlet))
                changes_tell(loop, outlet); /* an outlet remembers one reset */
            if (outlet->next < stream->ring.hi) {
                outlet->lost_first = outlet->next;
                outlet->lost_next = stream->ring.hi;
            }
            outlet->next = 0;
        }
        deliver_wake(loop, outlet);
    }
}

void reader_end(struct loop *loop, struct stream *stream)
{
    struct outlet *outlet, *next;

    for (outlet = TAILQ_FIRST(&stream->outlets); outlet; outlet = next) {
        next = TAILQ_NEXT(outlet, of_stream);
        if (!outlet->reader)
            continue;
        changes_tell(loop, outlet);
        if (outlet->next < stream->ring.hi)
            lost_send(loop, outlet, outlet->next, stream->ring.hi);
        event_send(loop, outlet,
                   stream->is_evicted && (outlet->conn->features & FEATURE_EVICTIONS) ? SSMD__EVENT__KIND__EVICTED
                                                                                      : SSMD__EVENT__KIND__ENDED,
                   stream->ring.hi, 0);
        reader_close(loop, outlet);
    }
}
