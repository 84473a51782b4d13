/* SPDX-License-Identifier: Apache-2.0
 *
 * Sending: a message leaves whole or not at all, and a peer whose queue is full is tried again later (port_send).
 */
#include "daemon/deliver.h"
#include "daemon/reader.h"
#include "daemon/timing.h"

#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX    4096    /* chunks of one result message, streams of one acknowledgement */
#define RETRY_NS       5000000 /* between tries to send to a full queue: each builds a message anew */
#define MESSAGES_FLUSH 16      /* result messages to one connection in one tick */

struct deliver {
    uint32_t handle[COLUMNS_MAX], frames[COLUMNS_MAX], flags[COLUMNS_MAX];
    uint64_t epoch[COLUMNS_MAX], first[COLUMNS_MAX], applied[COLUMNS_MAX];
    int64_t time[COLUMNS_MAX];
    struct ring_piece piece[COLUMNS_MAX];
    size_t bytes[COLUMNS_MAX];
    struct refusal_text {
        Ssmd__Refusal refusal;
        Ssmd__Error error;
    } refusal[CONN_REFUSALS_MAX];
    Ssmd__Refusal *refusals[CONN_REFUSALS_MAX];
};

struct deliver *deliver_new(void)
{
    return calloc(1, sizeof(struct deliver));
}

void deliver_free(struct deliver *deliver)
{
    free(deliver);
}

/* ---- one message ------------------------------------------------------------------------------------------------- */

/* As port_send. */
static int conn_send(struct loop *loop, struct conn *conn, zmq_msg_t *parts, int n)
{
    const struct peer peer = {conn->port, conn->id, conn->id_size};
    int sent = conn->is_gone ? -1 : port_send(&peer, conn->pipe, parts, n);

    if (sent < 0)
        conn->is_gone = true;
    if (sent <= 0)
        conn_touch(&loop->conns, conn);
    if (sent == 0) {
        loop->counters.connections_blocked += !conn->is_blocked && loop->now_ns > conn->retry_ns + RETRY_NS;
        conn->is_blocked = true;
        conn->retry_ns = loop->now_ns + RETRY_NS;
    }
    return sent;
}

/* False without memory. */
static bool message_encode(const ProtobufCMessage *message, zmq_msg_t *out)
{
    if (zmq_msg_init_size(out, proto_size(message)) != 0)
        return false;
    proto_encode(message, zmq_msg_data(out));
    return true;
}

static void outbox_push(struct loop *loop, struct conn *conn, zmq_msg_t *message)
{
    struct parcel *parcel = NULL;

    if (conn->outbox_n < CONN_OUTBOX_MESSAGES && conn->outbox_bytes + zmq_msg_size(message) <= CONN_OUTBOX_BYTES)
        parcel = malloc(sizeof(*parcel));
    if (!parcel) {
        zmq_msg_close(message);
        if (!conn->is_gone)
            loop->counters.connections_outbox_full++;
        conn->is_gone = true;
        return;
    }
    zmq_msg_init(&parcel->message);
    zmq_msg_move(&parcel->message, message);
    conn->outbox_n++;
    conn->outbox_bytes += zmq_msg_size(&parcel->message);
    STAILQ_INSERT_TAIL(&conn->outbox, parcel, link);
}

/* True when nothing is left in it. */
static bool outbox_send(struct loop *loop, struct conn *conn)
{
    struct parcel *parcel;

    while ((parcel = STAILQ_FIRST(&conn->outbox)) != NULL) {
        size_t size = zmq_msg_size(&parcel->message);

        if (conn_send(loop, conn, &parcel->message, 1) <= 0)
            return false;
        STAILQ_REMOVE_HEAD(&conn->outbox, link);
        conn->outbox_n--;
        conn->outbox_bytes -= size;
        free(parcel);
    }
    conn->is_blocked = false;
    return true;
}

void deliver_message(struct loop *loop, struct conn *conn, const ProtobufCMessage *message)
{
    zmq_msg_t part;

    if (conn->is_gone)
        return;
    if (!message_encode(message, &part)) {
        conn->is_gone = true;
        conn_touch(&loop->conns, conn);
        return;
    }
    if (conn->is_blocked || conn_send(loop, conn, &part, 1) == 0)
        outbox_push(loop, conn, &part);
    else if (conn->is_gone)
        zmq_msg_close(&part);
}

static void error_fill(Ssmd__FromDaemon *message, Ssmd__Reply *reply, Ssmd__Error *error, uint64_t request_id,
                       Ssmd__Code code, const char *text)
{
    ssmd__from_daemon__init(message);
    ssmd__reply__init(reply);
    ssmd__error__init(error);
    error->code = code;
    error->text = (char *)text;
    reply->request_id = request_id;
    reply->error = code == SSMD__CODE__OK ? NULL : error;
    message->message_case = SSMD__FROM_DAEMON__MESSAGE_REPLY;
    message->reply = reply;
}

void deliver_reply(struct loop *loop, struct conn *conn, Ssmd__Reply *reply)
{
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;

    message.message_case = SSMD__FROM_DAEMON__MESSAGE_REPLY;
    message.reply = reply;
    deliver_message(loop, conn, &message.base);
}

void deliver_done(struct loop *loop, struct conn *conn, uint64_t request_id)
{
    Ssmd__FromDaemon message;
    Ssmd__Reply reply;
    Ssmd__Error error;

    if (request_id == 0)
        return;
    error_fill(&message, &reply, &error, request_id, SSMD__CODE__OK, "");
    deliver_message(loop, conn, &message.base);
}

void deliver_error(struct loop *loop, struct conn *conn, uint64_t request_id, Ssmd__Code code, const char *text)
{
    Ssmd__FromDaemon message;
    Ssmd__Reply reply;
    Ssmd__Error error;

    loop->counters.requests_refused++;
    error_fill(&message, &reply, &error, request_id, code, text);
    deliver_message(loop, conn, &message.base);
}

void deliver_error_to(const struct peer *peer, uint64_t request_id, Ssmd__Code code, const char *text)
{
    Ssmd__FromDaemon message;
    Ssmd__Reply reply;
    Ssmd__Error error;
    zmq_msg_t part;

    error_fill(&message, &reply, &error, request_id, code, text);
    if (message_encode(&message.base, &part) && port_send(peer, NULL, &part, 1) <= 0)
        zmq_msg_close(&part);
}

void deliver_event(struct loop *loop, struct conn *conn, Ssmd__Event *event)
{
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;

    message.message_case = SSMD__FROM_DAEMON__MESSAGE_EVENT;
    message.event = event;
    deliver_message(loop, conn, &message.base);
}

/* ---- what waits for the end of the tick -------------------------------------------------------------------------- */

void deliver_ack(struct loop *loop, struct stream *stream)
{
    if (!stream->conn || stream->has_ack || stream->is_replaying)
        return;
    stream->has_ack = true;
    TAILQ_INSERT_TAIL(&stream->conn->acks, stream, of_acks);
    conn_touch(&loop->conns, stream->conn);
}

bool deliver_refusal(struct loop *loop, struct conn *conn, const struct refusal *refusal)
{
    if (!conn->refusals)
        conn->refusals = malloc(CONN_REFUSALS_MAX * sizeof(*conn->refusals));
    if (!conn->refusals || conn->refusals_n == CONN_REFUSALS_MAX)
        return false;
    conn->refusals[conn->refusals_n++] = *refusal;
    conn_touch(&loop->conns, conn);
    return true;
}

void deliver_wake(struct loop *loop, struct outlet *outlet)
{
    if (!outlet->is_ready) {
        outlet->is_ready = true;
        TAILQ_INSERT_TAIL(&outlet->conn->ready, outlet, of_ready);
    }
    conn_touch(&loop->conns, outlet->conn);
}

/* ---- acknowledgements and refusals ------------------------------------------------------------------------------- */

static bool acks_send(struct loop *loop, struct conn *conn)
{
    struct deliver *d = loop->deliver;
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;
    Ssmd__Ack ack = SSMD__ACK__INIT;
    struct stream *stream;
    zmq_msg_t part;
    size_t n = 0;

    TAILQ_FOREACH(stream, &conn->acks, of_acks) {
        if (n == COLUMNS_MAX)
            break;
        d->handle[n] = stream->handle;
        d->epoch[n] = stream->epoch;
        d->applied[n++] = stream->applied;
    }
    ack.n_handle = ack.n_epoch = ack.n_applied = ack.n_durable = n;
    ack.handle = d->handle;
    ack.epoch = d->epoch;
    ack.applied = ack.durable = d->applied;
    message.message_case = SSMD__FROM_DAEMON__MESSAGE_ACK;
    message.ack = &ack;
    if (!message_encode(&message.base, &part))
        return false;
    if (conn_send(loop, conn, &part, 1) <= 0) {
        zmq_msg_close(&part);
        return false;
    }
    loop->counters.acknowledgements += n;
    while (n-- > 0) {
        stream = TAILQ_FIRST(&conn->acks);
        TAILQ_REMOVE(&conn->acks, stream, of_acks);
        stream->has_ack = false;
    }
    return true;
}

static void refusals_send(struct loop *loop, struct conn *conn)
{
    struct deliver *d = loop->deliver;
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;
    Ssmd__Refusals refusals = SSMD__REFUSALS__INIT;

    for (uint32_t i = 0; i < conn->refusals_n; i++) {
        const struct refusal *from = &conn->refusals[i];
        Ssmd__Refusal *to = &d->refusal[i].refusal;
        Ssmd__Error *error = &d->refusal[i].error;

        ssmd__refusal__init(to);
        ssmd__error__init(error);
        to->handle = from->handle;
        to->epoch = from->epoch;
        to->expected = from->expected;
        to->first = from->first;
        to->has_index = from->has_index;
        to->index = from->index;
        error->code = from->code;
        error->text = (char *)from->text;
        to->error = error;
        d->refusals[i] = to;
    }
    refusals.n_refusal = conn->refusals_n;
    refusals.refusal = d->refusals;
    message.message_case = SSMD__FROM_DAEMON__MESSAGE_REFUSALS;
    message.refusals = &refusals;
    conn->refusals_n = 0;
    deliver_message(loop, conn, &message.base);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

/* Result frames that the outlet may send now. */
static uint64_t outlet_due(const struct outlet *outlet)
{
    const struct ring *ring = &outlet->stream->ring;
    uint64_t frame = (uint64_t)ring->channels * sizeof(float);
    uint64_t credit = outlet->limit > outlet->sent ? (outlet->limit - outlet->sent) / frame : 0;
    uint64_t there = ring->hi > outlet->next ? ring->hi - outlet->next : 0;

    return there < credit ? there : credit;
}

/* Add what fits of one outlet to columns from n on; the new n. */
static size_t outlet_collect(struct deliver *d, struct outlet *outlet, size_t n, size_t *bytes)
{
    uint64_t due = outlet_due(outlet), next = outlet->next;
    size_t frame = outlet->stream->ring.channels * sizeof(float);

    while (due > 0 && n < COLUMNS_MAX && (*bytes + frame <= DELIVER_RESULT_BYTES || *bytes == 0)) {
        uint64_t most = *bytes < DELIVER_RESULT_BYTES ? (DELIVER_RESULT_BYTES - *bytes) / frame : 0;
        struct ring_piece *piece = &d->piece[n];

        most = most == 0 ? 1 : most;
        most = most < due ? most : due;
        ring_peek(&outlet->stream->ring, next, (uint32_t)most, piece);
        d->handle[n] = outlet->handle;
        d->epoch[n] = outlet->stream->epoch;
        d->first[n] = next;
        d->frames[n] = piece->frames;
        d->flags[n] = piece->has_time ? PROTO_RESULT_TIME : 0;
        d->time[n] = piece->time;
        d->bytes[n] = piece->frames * frame;
        *bytes += d->bytes[n++];
        next += piece->frames;
        due -= piece->frames;
    }
    return n;
}

static bool results_encode(struct deliver *d, size_t n, size_t bytes, zmq_msg_t parts[2])
{
    Ssmd__ResultHeader header = SSMD__RESULT_HEADER__INIT;
    bool timed = false;
    char *to;

    for (size_t i = 0; i < n; i++)
        timed |= d->flags[i] != 0;
    header.n_handle = header.n_epoch = header.n_first = header.n_frames = n;
    header.n_flags = header.n_time = timed ? n : 0;
    header.handle = d->handle;
    header.epoch = d->epoch;
    header.first = d->first;
    header.frames = d->frames;
    header.flags = d->flags;
    header.time = d->time;
    if (!message_encode(&header.base, &parts[0]))
        return false;
    if (zmq_msg_init_size(&parts[1], bytes) != 0) {
        zmq_msg_close(&parts[0]);
        return false;
    }
    to = zmq_msg_data(&parts[1]);
    for (size_t i = 0; i < n; i++) {
        memcpy(to, d->piece[i].samples, d->bytes[i]);
        to += d->bytes[i];
    }
    return true;
}

/* After a message left: every outlet in it moves on; those with nothing more to send leave the list. */
static void results_sent(struct loop *loop, struct conn *conn, size_t outlets, size_t n)
{
    struct deliver *d = loop->deliver;
    uint64_t now_ns = n > 0 ? clock_now_ns() : 0;
    size_t i = 0;

    while (outlets-- > 0) {
        struct outlet *outlet = TAILQ_FIRST(&conn->ready);

        for (; i < n && d->handle[i] == outlet->handle; i++) {
            outlet->next += d->frames[i];
            outlet->sent += d->bytes[i];
            loop->counters.results_sent += d->frames[i];
        }
        timing_sent(loop, outlet, now_ns);
        TAILQ_REMOVE(&conn->ready, outlet, of_ready);
        outlet->is_ready = outlet_due(outlet) > 0;
        if (outlet->is_ready)
            TAILQ_INSERT_TAIL(&conn->ready, outlet, of_ready);
        else if (outlet->reader)
            reader_settle(loop, outlet); /* may free it */
        else if (outlet->stream->request != REQUEST_NONE)
            loop_stream_settle(loop, outlet->stream);
    }
    loop->counters.result_messages += n > 0;
}

/* One message of results. False when there was nothing to send, or no room for it. */
static bool results_send(struct loop *loop, struct conn *conn)
{
    struct outlet *outlet, *next;
    zmq_msg_t parts[2];
    size_t n = 0, bytes = 0, outlets = 0;

    for (outlet = TAILQ_FIRST(&conn->ready); outlet && n < COLUMNS_MAX && bytes < DELIVER_RESULT_BYTES; outlet = next) {
        next = TAILQ_NEXT(outlet, of_ready);
        if (outlet->reader)
            reader_catch_up(loop, outlet);
        n = outlet_collect(loop->deliver, outlet, n, &bytes);
        outlets++;
    }
    if (outlets == 0 || conn->is_blocked)
        return false;
    if (n > 0) {
        if (!results_encode(loop->deliver, n, bytes, parts))
            return false;
        if (conn_send(loop, conn, parts, 2) <= 0) {
            zmq_msg_close(&parts[0]);
            zmq_msg_close(&parts[1]);
            return false;
        }
    }
    results_sent(loop, conn, outlets, n);
    return !TAILQ_EMPTY(&conn->ready);
}

/* ---- flush ------------------------------------------------------------------------------------------------------- */

/* True when nothing is left to send. */
static bool conn_flush(struct loop *loop, struct conn *conn)
{
    if (!outbox_send(loop, conn))
        return false;
    for (int i = 0; i < MESSAGES_FLUSH && results_send(loop, conn); i++)
        continue;
    while (!conn->is_blocked && !conn->is_gone && !TAILQ_EMPTY(&conn->acks) && acks_send(loop, conn))
        continue;
    if (conn->refusals_n > 0 && !conn->is_blocked)
        refusals_send(loop, conn);
    return !conn->is_blocked && TAILQ_EMPTY(&conn->ready) && TAILQ_EMPTY(&conn->acks) && conn->refusals_n == 0;
}

void deliver_flush(struct loop *loop)
{
    struct conn *conn, *next, *end = TAILQ_LAST(&loop->conns.dirty, conn_list);

    loop->has_blocked = false;
    for (conn = TAILQ_FIRST(&loop->conns.dirty); conn; conn = next) {
        bool is_flushed;

        next = conn == end ? NULL : TAILQ_NEXT(conn, of_dirty);
        if (conn->is_blocked && !conn->is_gone && loop->now_ns < conn->retry_ns) {
            loop->has_blocked = true;
            continue;
        }
        is_flushed = conn_flush(loop, conn);
        if (conn->is_gone) {
            loop_conn_forget(loop, conn);
            continue;
        }
        if (conn->is_blocked)
            loop->has_blocked = true;
        else if (!is_flushed)
            loop->has_more = true;
        if (!is_flushed)
            continue;
        conn->is_dirty = false;
        TAILQ_REMOVE(&loop->conns.dirty, conn, of_dirty);
    }
}

bool deliver_is_idle(const struct loop *loop)
{
    const struct conn *conn;

    TAILQ_FOREACH(conn, &loop->conns.all, of_all)
        if (!pipe_is_idle(conn->pipe))
            return false;
    return TAILQ_EMPTY(&loop->conns.dirty);
}
