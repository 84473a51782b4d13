/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes out: chunks of many streams in one message, and credit.
 *
 * Streams with something to send stand in a line. transmit_data walks it, fills a message up to the daemon's limit or
 * CHUNKS_MAX chunks, and sends; so a caller that pushes to a thousand streams and then polls sends a few messages and
 * not a thousand. Samples are copied once, from what is kept into the message.
 *
 * Credit: `limit` lets the daemon send what the buffer has room for, `received` lets it forget what the caller has
 * taken; were that said late, rings would have to grow for it. A grant goes out when it is worth a sixteenth of the
 * buffer (or of the daemon's ring), and all that is left over every 20 ms.
 */
#include "clients/c/client.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

enum {
    COLUMNS_BYTES =
        48, /* of one chunk in a header: handle, epoch, first, frames, format, flags, time at their longest */
    HEADER_BYTES = 64, /* tags and lengths of the columns */
};

struct outbox {
    uint32_t handle[CHUNKS_MAX], frames[CHUNKS_MAX], format[CHUNKS_MAX], flags[CHUNKS_MAX];
    uint64_t epoch[CHUNKS_MAX], first[CHUNKS_MAX];
    int64_t time[CHUNKS_MAX];
    const void *samples[CHUNKS_MAX];
    size_t bytes[CHUNKS_MAX];
    size_t n, payload_bytes;
    bool has_flags;
    size_t times;
};

int transmit_new(struct ssmc *c)
{
    c->outbox = malloc(sizeof *c->outbox);
    return c->outbox ? 0 : -1;
}

void transmit_free(struct ssmc *c)
{
    free(c->outbox);
}

/* ---- data -------------------------------------------------------------------------------------------------------- */

void transmit_mark(struct ssmc_stream *s)
{
    if (s->is_dirty || s->state != STREAM_LIVE || !kept_has_unsent(&s->kept))
        return;
    s->is_dirty = true;
    s->dirty_next = NULL;
    if (s->c->dirty)
        s->c->dirty_tail->dirty_next = s;
    else
        s->c->dirty = s;
    s->c->dirty_tail = s;
}

static void pop_dirty(struct ssmc *c)
{
    struct ssmc_stream *s = c->dirty;
    c->dirty = s->dirty_next;
    s->is_dirty = false;
}

void transmit_forget(struct ssmc_stream *s)
{
    struct ssmc *c = s->c;
    if (s->is_dirty) {
        struct ssmc_stream *before = NULL;
        for (struct ssmc_stream *at = c->dirty; at != s; at = at->dirty_next)
            before = at;
        if (before)
            before->dirty_next = s->dirty_next;
        else
            c->dirty = s->dirty_next;
        if (c->dirty_tail == s)
            c->dirty_tail = before;
        s->is_dirty = false;
    }
    if (s->owes_credit) {
        struct ssmc_stream **at = &c->credit;
        while (*at != s)
            at = &(*at)->credit_next;
        *at = s->credit_next;
        s->owes_credit = false;
    }
}

/* Puts a stream's next chunk into the message; false when it does not fit. */
static bool add_chunk(const struct ssmc *c, struct ssmc_stream *s)
{
    struct outbox *o = c->outbox;
    struct kept_chunk chunk;
    if (!kept_unsent(&s->kept, &chunk, &o->samples[o->n]))
        return true;
    size_t bytes = (size_t)chunk.frames * chunk.frame_bytes;
    size_t message = HEADER_BYTES + (o->n + 1) * COLUMNS_BYTES + o->payload_bytes + bytes;
    if (o->n > 0 && message > c->daemon.message_bytes)
        return false;
    size_t i = o->n++;
    o->handle[i] = s->handle;
    o->epoch[i] = s->info.epoch;
    o->first[i] = chunk.first;
    o->frames[i] = chunk.frames;
    o->format[i] = chunk.format;
    o->flags[i] = (chunk.backfill ? PROTO_FLAG_BACKFILL : 0) | (chunk.has_time ? PROTO_FLAG_TIME : 0);
    o->time[i] = chunk.time;
    o->bytes[i] = bytes;
    o->payload_bytes += bytes;
    o->has_flags |= chunk.backfill;
    o->times += chunk.has_time;
    kept_mark_sent(&s->kept);
    return true;
}

static void gather(struct ssmc *c)
{
    struct outbox *o = c->outbox;
    o->n = o->payload_bytes = o->times = 0;
    o->has_flags = false;
    while (c->dirty && o->n < CHUNKS_MAX) {
        if (!add_chunk(c, c->dirty))
            return;
        if (!kept_has_unsent(&c->dirty->kept))
            pop_dirty(c);
    }
}

static int encode(const struct outbox *o, zmq_msg_t *head, zmq_msg_t *body)
{
    Ssmd__DataHeader h = SSMD__DATA_HEADER__INIT;
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = h.n_format = o->n;
    h.handle = (uint32_t *)o->handle;
    h.epoch = (uint64_t *)o->epoch;
    h.first = (uint64_t *)o->first;
    h.frames = (uint32_t *)o->frames;
    h.format = (uint32_t *)o->format;
    h.flags = (uint32_t *)o->flags;
    h.time = (int64_t *)o->time;
    h.n_time = o->times > 0 ? o->n : 0;
    h.n_flags = o->has_flags || (o->times > 0 && o->times < o->n) ? o->n : 0;
    if (zmq_msg_init_size(head, proto_size(&h.base)) != 0)
        return -1;
    if (zmq_msg_init_size(body, o->payload_bytes) != 0) {
        zmq_msg_close(head);
        return -1;
    }
    proto_encode(&h.base, zmq_msg_data(head));
    uint8_t *at = zmq_msg_data(body);
    for (size_t i = 0; i < o->n; i++) {
        memcpy(at, o->samples[i], o->bytes[i]);
        at += o->bytes[i];
    }
    return 0;
}

static bool is_writable(struct ssmc *c)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(c->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLOUT);
}

void transmit_data(struct ssmc *c)
{
    zmq_msg_t head, body;
    while (c->link == LINK_UP && c->dirty && is_writable(c)) {
        gather(c);
        if (c->outbox->n == 0)
            continue;
        if (encode(c->outbox, &head, &body) != 0) {
            link_restart(c, -1, "no memory for a message");
            return;
        }
        if (zmq_msg_send(&head, c->socket, ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0 ||
            zmq_msg_send(&body, c->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&head);
            zmq_msg_close(&body);
            link_restart(c, 0, "the connection to the daemon broke while sending"); /* it was writable */
            return;
        }
        c->sent_ns = now_ns();
    }
    if (!c->dirty)
        c->unsent_bytes = 0;
}

/* ---- credit ------------------------------------------------------------------------------------------------------ */

void transmit_credit_mark(struct ssmc_stream *s)
{
    if (s->owes_credit || !s->has_handle || s->is_freed)
        return;
    s->owes_credit = true;
    s->credit_next = s->c->credit;
    s->c->credit = s;
}

static uint64_t limit_of(const struct ssmc_stream *s)
{
    uint64_t room = s->results.waiting < s->buffer_bytes ? s->buffer_bytes - s->results.waiting : 0;
    uint64_t limit = s->arrived_bytes + room;
    return limit > s->granted_limit ? limit : s->granted_limit;
}

static bool is_worth_a_message(const struct ssmc_stream *s)
{
    uint64_t ring = s->c->daemon.result_ring;
    uint64_t worth = (ring < s->buffer_bytes ? ring : s->buffer_bytes) / 16;
    uint64_t received_bytes = (s->result_taken - s->granted_received) * s->results.channels * sizeof(float);
    return limit_of(s) - s->granted_limit >= worth || received_bytes >= worth;
}

static int send_credit(struct ssmc *c, size_t n)
{
    struct outbox *o = c->outbox; /* handle, epoch as received, first as limit */
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Credit credit = SSMD__CREDIT__INIT;
    credit.n_handle = credit.n_received = credit.n_limit = n;
    credit.handle = o->handle;
    credit.received = o->epoch;
    credit.limit = o->first;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_CREDIT;
    message.credit = &credit;
    return link_send(c, &message);
}

/* One message, if any stream has a grant to make. False when there is none, or the socket takes nothing. */
static bool grant_some(struct ssmc *c, bool all)
{
    struct outbox *o = c->outbox;
    struct ssmc_stream **at = &c->credit, *granted[CREDIT_MAX];
    size_t n = 0;
    while (*at && n < CREDIT_MAX) {
        struct ssmc_stream *s = *at;
        if (!all && !is_worth_a_message(s)) {
            at = &s->credit_next;
            continue;
        }
        *at = s->credit_next;
        s->owes_credit = false;
        o->handle[n] = s->handle;
        o->epoch[n] = s->result_taken;
        o->first[n] = limit_of(s);
        granted[n++] = s;
    }
    bool is_sent = n > 0 && send_credit(c, n) == 0;
    for (size_t i = 0; i < n; i++) {
        if (is_sent) {
            granted[i]->granted_received = o->epoch[i];
            granted[i]->granted_limit = o->first[i];
        } else {
            transmit_credit_mark(granted[i]);
        }
    }
    return is_sent;
}

void transmit_credit(struct ssmc *c, bool all)
{
    if (c->link != LINK_UP || !c->credit)
        return;
    int64_t now = now_ns();
    all |= now - c->credit_ns >= CREDIT_SMALL_MS * MS_NS;
    bool is_sent = false;
    while (grant_some(c, all))
        is_sent = true;
    if (all && is_sent)
        c->credit_ns = now;
}
