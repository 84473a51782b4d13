/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking requests apart, and those that are short: credit, close, reset, ping, bye.
 */
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/features.h"
#include "daemon/generate.h"
#include "daemon/log.h"
#include "daemon/reader.h"
#include "daemon/state.h"

#include <string.h>

/* ---- credit ------------------------------------------------------------------------------------------------------ */

static void credit_writer(struct loop *loop, struct stream *stream, struct outlet *outlet, uint64_t received,
                          uint64_t limit)
{
    if (received > outlet->next)
        received = outlet->next; /* nobody received what was not sent */
    if (limit > outlet->limit)
        outlet->limit = limit;
    if (received > stream->received) {
        stream->received = received;
        if (stream->place == PLACE_STALLED)
            batcher_add(batcher_of(stream), stream);
    }
    deliver_wake(loop, outlet);
    /* Now, so that a request behind this one finds the id free; a request that waits is answered first, at the tick's
     * end. */
    if (stream->is_closed && stream->request == REQUEST_NONE)
        loop_closed_check(loop, stream);
}

static void credit_take(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Credit *credit)
{
    for (size_t i = 0; i < credit->n_handle; i++) {
        struct handle *handle = conn_handle_find(conn, credit->handle[i]);

        if (!handle || !handle->outlet) /* ended in the meantime, or a writer that wants no results */
            continue;
        if (handle->state == HANDLE_WRITES) {
            credit_writer(loop, handle->stream, handle->outlet, credit->received[i], credit->limit[i]);
        } else {
            if (credit->limit[i] > handle->outlet->limit)
                handle->outlet->limit = credit->limit[i];
            deliver_wake(loop, handle->outlet);
        }
    }
    deliver_done(loop, conn, request_id);
}

/* ---- close and reset --------------------------------------------------------------------------------------------- */

static void stream_request(struct loop *loop, struct conn *conn, uint64_t request_id, uint32_t number,
                           enum stream_request request, uint64_t index)
{
    struct handle *handle = conn_handle_find(conn, number);
    struct stream *stream = handle ? handle->stream : NULL;
    struct control_info info;

    if (!handle || handle->state == HANDLE_DEAD) {
        deliver_error(loop, conn, request_id, SSMD__CODE__BAD_HANDLE, "not a handle of this connection");
        return;
    }
    if (handle->state == HANDLE_READS && request == REQUEST_CLOSE) {
        reader_close(loop, handle->outlet);
        deliver_done(loop, conn, request_id);
        return;
    }
    if (handle->state == HANDLE_READS) {
        deliver_error(loop, conn, request_id, SSMD__CODE__BAD_HANDLE,
                      "a reader cannot reset, move or take back a stream");
        return;
    }
    if (stream->request != REQUEST_NONE && (stream->request_conn || stream->request != request)) {
        deliver_error(loop, conn, request_id, SSMD__CODE__BUSY,
                      "another reset, move, rollback or close of this stream is under way");
        return;
    }
    if (stream->is_closing && request != REQUEST_CLOSE) {
        deliver_error(loop, conn, request_id, SSMD__CODE__CLOSED, "the stream is closed");
        return;
    }
    if (request == REQUEST_ROLLBACK && !stream->history) {
        deliver_error(loop, conn, request_id, SSMD__CODE__TOO_OLD,
                      "the stream keeps no history: ask for one when it is opened");
        return;
    }
    if (request == REQUEST_MOVE && version_is_newest(stream->model)) {
        control_info_fill(conn, stream, &info);
        control_info_send(loop, conn, request_id, &info);
        return;
    }
    if (stream->request == REQUEST_NONE)
        stream->rollback_to = index;
    generate_stop(loop, stream, SSMD__ENDING__STREAM_CLOSED);
    stream->request = request;
    stream->request_id = request_id;
    stream->request_conn = conn;
    stream->is_closing |= request == REQUEST_CLOSE;
    loop_stream_settle(loop, stream);
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

static void ping_answer(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Ping *ping)
{
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__Pong pong = SSMD__PONG__INIT;

    if (request_id == 0)
        return;
    pong.has_time = ping->has_time;
    pong.time = ping->time;
    pong.daemon_ns = clock_now_ns();
    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_PONG;
    reply.pong = &pong;
    deliver_reply(loop, conn, &reply);
}

static void request_run(struct loop *loop, struct conn *conn, const Ssmd__FromClient *message)
{
    uint64_t id = message->request_id;

    if (features_needed(message) & ~conn->features) {
        deliver_error(loop, conn, id, SSMD__CODE__FEATURE, "a feature that hello did not ask for, or was not granted");
        return;
    }
    switch (message->request_case) {
    case SSMD__FROM_CLIENT__REQUEST_OPEN:
        control_open(loop, conn, id, message->open);
        break;
    case SSMD__FROM_CLIENT__REQUEST_CLOSE:
        stream_request(loop, conn, id, message->close->handle, REQUEST_CLOSE, 0);
        break;
    case SSMD__FROM_CLIENT__REQUEST_RESET:
        stream_request(loop, conn, id, message->reset->handle, REQUEST_RESET, 0);
        break;
    case SSMD__FROM_CLIENT__REQUEST_LIST:
        control_list(loop, conn, id, message->list);
        break;
    case SSMD__FROM_CLIENT__REQUEST_INFO:
        control_info(loop, conn, id, message->info);
        break;
    case SSMD__FROM_CLIENT__REQUEST_STATS:
        control_stats(loop, conn, id);
        break;
    case SSMD__FROM_CLIENT__REQUEST_CREDIT:
        credit_take(loop, conn, id, message->credit);
        break;
    case SSMD__FROM_CLIENT__REQUEST_READ:
        reader_open(loop, conn, id, message->read);
        break;
    case SSMD__FROM_CLIENT__REQUEST_PING:
        ping_answer(loop, conn, id, message->ping);
        break;
    case SSMD__FROM_CLIENT__REQUEST_GENERATE:
        control_generate(loop, conn, id, message->generate);
        break;
    case SSMD__FROM_CLIENT__REQUEST_CANCEL:
        control_cancel(loop, conn, id, message->cancel);
        break;
    case SSMD__FROM_CLIENT__REQUEST_BYE:
        deliver_done(loop, conn, id);
        conn->is_gone = true;
        conn_touch(&loop->conns, conn);
        break;
    case SSMD__FROM_CLIENT__REQUEST_SNAPSHOT:
        control_snapshot(loop, conn, id, message->snapshot);
        break;
    case SSMD__FROM_CLIENT__REQUEST_FETCH:
        control_fetch(loop, conn, id, message->fetch);
        break;
    case SSMD__FROM_CLIENT__REQUEST_PUT:
        control_put(loop, conn, id, message->put);
        break;
    case SSMD__FROM_CLIENT__REQUEST_RESTORE:
        control_restore(loop, conn, id, message->restore);
        break;
    case SSMD__FROM_CLIENT__REQUEST_FORK:
        control_fork(loop, conn, id, message->fork);
        break;
    case SSMD__FROM_CLIENT__REQUEST_RELOAD:
        versions_reload(loop, conn, id, message->reload->model);
        break;
    case SSMD__FROM_CLIENT__REQUEST_MOVE:
        stream_request(loop, conn, id, message->move->handle, REQUEST_MOVE, 0);
        break;
    case SSMD__FROM_CLIENT__REQUEST_ROLLBACK:
        stream_request(loop, conn, id, message->rollback->handle, REQUEST_ROLLBACK, message->rollback->index);
        break;
    default: /* hello was taken before, and the codec refuses a message without a request */
        break;
    }
}

void control_take(struct loop *loop, struct conn *conn, const struct peer *peer, const void *bytes, size_t size)
{
    Ssmd__FromClient *message;
    int status = proto_from_client_decode(&loop->arena, bytes, size, &message);

    if (status < 0) {
        Ssmd__Code code = status == PROTO_UNKNOWN ? SSMD__CODE__FEATURE : SSMD__CODE__MALFORMED;

        loop->counters.messages_malformed++;
        if (conn)
            deliver_error(loop, conn, 0, code, proto_status_text(status));
        else
            deliver_error_to(peer, 0, code, proto_status_text(status));
        return;
    }
    loop->counters.requests++;
    if (message->request_case == SSMD__FROM_CLIENT__REQUEST_HELLO) {
        control_hello(loop, conn, peer, message->request_id, message->hello);
    } else if (conn) {
        request_run(loop, conn, message);
    } else if (message->request_case != SSMD__FROM_CLIENT__REQUEST_BYE) {
        loop->counters.messages_unknown++;
        deliver_error_to(peer, message->request_id, SSMD__CODE__NO_HELLO,
                         "the daemon does not know this connection: say hello");
    }
}
