/* SPDX-License-Identifier: Apache-2.0
 *
 * From a message to the stream that it is about.
 *
 * A message that cannot be decoded, or that cannot be true (results with a hole, an acknowledgement of frames that were
 * never pushed), restarts the link: what was lost with it comes again after the streams are reopened. The caller sees
 * one SSMC_PROTOCOL and may go on. What still comes for a stream that the caller freed is passed over.
 */
#include "clients/c/client.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <zmq.h>

enum { MESSAGES_MAX = 256 }; /* of one ssmc_poll */

static int broken(struct ssmc *c, const char *what)
{
    fail(c, SSMC_PROTOCOL, "%s: %s", c->endpoint, what);
    link_restart(c, -1, c->error);
    return SSMC_PROTOCOL;
}

static int take_acks(struct ssmc *c, const Ssmd__Ack *ack)
{
    for (size_t i = 0; i < ack->n_handle; i++) {
        struct ssmc_stream *s = handle_find(c, ack->handle[i]);
        if (!s || s->reader || s->is_freed || s->info.epoch != ack->epoch[i])
            continue;
        if (!generate_take_ack(s, ack->applied[i]))
            return broken(c, "the daemon acknowledged frames that were never sent");
        stream_acknowledge(s, ack->applied[i], ack->durable[i]);
    }
    return 0;
}

/* A chunk was not taken. A gap is cured by sending again from where the daemon stands; what the stream cannot recover
 * from ends it. */
static int take_refusal(struct ssmc *c, const Ssmd__Refusal *refusal)
{
    const Ssmd__Error *error = refusal->error;
    if (error->code == SSMD__CODE__NO_HELLO) {
        link_restart(c, 0, error->text);
        return -1;
    }
    struct ssmc_stream *s = handle_find(c, refusal->handle);
    if (!s || s->reader || s->is_freed)
        return 0;
    switch (error->code) {
    case SSMD__CODE__GAP:
    case SSMD__CODE__OVERFLOW:
    case SSMD__CODE__LIMIT:
    case SSMD__CODE__BUSY:
        if (kept_rewind(&s->kept, refusal->expected) != 0) {
            stream_kill(s, SSMC_LOST,
                        "stream %s: the daemon expects frame %" PRIu64 ", kept are %" PRIu64 " to %" PRIu64, s->info.id,
                        refusal->expected, kept_first(&s->kept), s->kept.next);
            return 0;
        }
        if (error->code == SSMD__CODE__GAP)
            transmit_mark(s);
        else
            stream_hold(s, refusal->expected);
        return 0;
    case SSMD__CODE__BAD_HANDLE:
    case SSMD__CODE__STALE_EPOCH:
    case SSMD__CODE__NO_STREAM:
        transmit_forget(s);
        handle_remove(c, s);
        s->state = STREAM_OPENING;
        resume_enqueue(s);
        return 0;
    case SSMD__CODE__DRAINING:
        return 0; /* the connection ends soon, and what was not taken is sent on the next */
    default:
        c->error_code = (int)error->code;
        stream_kill(s, SSMC_REFUSED, "%s", error->text);
        return 0;
    }
}

static void take_event(struct ssmc *c, const Ssmd__Event *event)
{
    if (event->kind == SSMD__EVENT__KIND__READING) {
        reader_reading(c, event);
        return;
    }
    struct ssmc_stream *s = event->has_handle ? handle_find(c, event->handle) : NULL;
    if (!s || s->is_freed)
        return;
    switch (event->kind) {
    case SSMD__EVENT__KIND__TAKEN_OVER:
        handle_remove(c, s);
        if (s->reader)
            s->is_ended = true;
        else
            stream_kill(s, SSMC_TAKEN, "stream %s: another writer took it", s->info.id);
        break;
    case SSMD__EVENT__KIND__ENDED:
        s->is_ended = true;
        snprintf(s->info.ended, sizeof s->info.ended, "%s", event->text ? event->text : "");
        handle_remove(c, s);
        break;
    case SSMD__EVENT__KIND__LOST:
        if (event->has_next && event->next > s->result_next) {
            s->lost += event->next - s->result_next;
            s->result_next = event->next;
        }
        break;
    case SSMD__EVENT__KIND__GENERATED:
        if (event->has_epoch && event->epoch == s->info.epoch)
            generate_take_end(s, event->generation);
        break;
    case SSMD__EVENT__KIND__EPOCH:
        if (s->reader && event->has_epoch && event->epoch > s->result_epoch) {
            s->result_epoch = s->info.epoch = event->epoch;
            s->result_next = event->has_first ? event->first : 0; /* a take-over goes on */
        }
        break;
    default:
        break;
    }
}

/* What we sent was not understood, as a whole. */
static bool is_about_a_message(Ssmd__Code code)
{
    return code == SSMD__CODE__MALFORMED || code == SSMD__CODE__FEATURE || code == SSMD__CODE__TOO_LARGE ||
           code == SSMD__CODE__BAD_HANDLE || code == SSMD__CODE__BAD_FORMAT;
}

static int take_control(struct ssmc *c, const void *bytes, size_t size)
{
    Ssmd__FromDaemon *message;
    int rc = proto_from_daemon_decode(&c->arena, bytes, size, &message);
    if (rc != PROTO_OK)
        return broken(c, proto_status_text(rc));
    switch (message->message_case) {
    case SSMD__FROM_DAEMON__MESSAGE_REPLY:
        if (message->reply->error && message->reply->error->code == SSMD__CODE__NO_HELLO && c->link == LINK_UP) {
            link_restart(c, 0, message->reply->error->text);
            return 0;
        }
        if (message->reply->error && message->reply->request_id == 0 && is_about_a_message(message->reply->error->code))
            return broken(c, message->reply->error->text);
        request_answer(c, message->reply);
        return 0;
    case SSMD__FROM_DAEMON__MESSAGE_ACK:
        return take_acks(c, message->ack);
    case SSMD__FROM_DAEMON__MESSAGE_REFUSALS:
        for (size_t i = 0; i < message->refusals->n_refusal; i++)
            if (take_refusal(c, message->refusals->refusal[i]) != 0)
                return 0; /* the link was restarted */
        return 0;
    case SSMD__FROM_DAEMON__MESSAGE_EVENT:
        take_event(c, message->event);
        return 0;
    case SSMD__FROM_DAEMON__MESSAGE_GOING_AWAY:
        c->backoff_ms = message->going_away->has_reconnect_ms && message->going_away->reconnect_ms < BACKOFF_MAX_MS
                            ? message->going_away->reconnect_ms
                            : c->backoff_ms;
        return 0;
    default:
        return broken(c, "an empty message");
    }
}

/* One stream's results. What came before is trimmed, what is missing cannot be: results are complete. */
static int take_chunk(struct ssmc_stream *s, struct result_chunk *chunk, const uint8_t *samples)
{
    if (chunk->epoch < s->result_epoch)
        return 0;
    if (chunk->epoch > s->result_epoch) {
        s->result_epoch = chunk->epoch;
        s->result_next = chunk->first;
    }
    size_t frame_bytes = s->results.channels * sizeof(float);
    s->arrived_bytes += chunk->frames * frame_bytes;
    if (chunk->first > s->result_next && s->reader) {
        s->lost += chunk->first - s->result_next;
        s->result_next = chunk->first;
    }
    if (chunk->first > s->result_next)
        return -1;
    uint64_t again = s->result_next - chunk->first;
    if (again > 0)
        transmit_credit_mark(s); /* nobody takes what is trimmed */
    if (again >= chunk->frames)
        return 0;
    chunk->first += again;
    chunk->frames -= (uint32_t)again;
    chunk->lost = s->lost;
    if (results_push(&s->results, chunk, samples + again * frame_bytes) != 0)
        return -1; /* no memory: the daemon keeps it until it is received */
    s->lost = 0;
    s->result_next += chunk->frames;
    return 0;
}

static int take_results(struct ssmc *c, zmq_msg_t *head, zmq_msg_t *body)
{
    Ssmd__ResultHeader *h;
    int rc = proto_result_header_decode(&c->arena, zmq_msg_data(head), zmq_msg_size(head), &h);
    if (rc != PROTO_OK)
        return broken(c, proto_status_text(rc));
    const uint8_t *samples = zmq_msg_data(body); /* at any alignment */
    size_t left = zmq_msg_size(body);
    for (size_t i = 0; i < h->n_handle; i++) {
        struct ssmc_stream *s = handle_find(c, h->handle[i]);
        if (!s) /* its width is not known, so neither is where the next one begins */
            return h->n_handle == 1 ? 0 : broken(c, "results of a stream that was not opened");
        size_t frame_bytes = s->results.channels * sizeof(float);
        if (h->frames[i] == 0 || h->frames[i] > left / frame_bytes)
            return broken(c, "a payload shorter than its header says");
        struct result_chunk chunk = {.epoch = h->epoch[i], .first = h->first[i], .frames = h->frames[i]};
        chunk.has_time = h->n_time > 0 && (h->n_flags == 0 || (h->flags[i] & PROTO_RESULT_TIME));
        chunk.time = chunk.has_time ? h->time[i] : 0;
        size_t n = h->frames[i] * frame_bytes;
        if (!s->is_freed && take_chunk(s, &chunk, samples) != 0)
            return broken(c, "results with a hole");
        samples += n;
        left -= n;
    }
    if (left > 0)
        return broken(c, "a payload longer than its header says");
    return 0;
}

static int take_message(struct ssmc *c, zmq_msg_t *head)
{
    if (!zmq_msg_more(head))
        return take_control(c, zmq_msg_data(head), zmq_msg_size(head));
    zmq_msg_t body;
    zmq_msg_init(&body);
    int rc = 0;
    if (zmq_msg_recv(&body, c->socket, ZMQ_DONTWAIT) < 0)
        rc = broken(c, "half a message");
    else if (zmq_msg_more(&body))
        rc = broken(c, "a message of more than two parts");
    else
        rc = take_results(c, head, &body);
    zmq_msg_close(&body);
    return rc;
}

int dispatch_receive(struct ssmc *c)
{
    zmq_msg_t head;
    int n = 0, rc = 0;
    zmq_msg_init(&head);
    while (rc == 0 && n < MESSAGES_MAX && c->socket && zmq_msg_recv(&head, c->socket, ZMQ_DONTWAIT) >= 0) {
        n++;
        rc = take_message(c, &head);
    }
    zmq_msg_close(&head);
    if (n > 0)
        c->heard_ns = now_ns();
    return rc < 0 ? rc : n;
}
