/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon of fake.h.
 */
#include "tests/clients/fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "proto/codec.h"

static void must(bool is_true, const char *what)
{
    if (is_true)
        return;
    fprintf(stderr, "fake daemon: %s: %s\n", what, strerror(errno));
    abort();
}

void fake_lock(struct fake *f)
{
    pthread_mutex_lock(&f->mutex);
}

void fake_unlock(struct fake *f)
{
    pthread_mutex_unlock(&f->mutex);
}

/* ---- sending ----------------------------------------------------------------------------------------------------- */

static void send_parts(struct fake *f, const void *head, size_t head_size, const void *body, size_t body_size)
{
    if (f->client_size == 0 || zmq_send(f->router, f->client, f->client_size, ZMQ_SNDMORE) < 0)
        return;
    (void)zmq_send(f->router, head, head_size, body ? ZMQ_SNDMORE : 0);
    if (body)
        (void)zmq_send(f->router, body, body_size, 0);
}

static void send_message(struct fake *f, Ssmd__FromDaemon *message)
{
    size_t size = proto_size(&message->base);
    uint8_t *bytes = malloc(size);
    must(bytes != NULL, "malloc");
    proto_encode(&message->base, bytes);
    if (f->truncates > 0) {
        f->truncates--;
        size = size / 2 | 1;
    }
    send_parts(f, bytes, size, NULL, 0);
    free(bytes);
}

static void send_reply(struct fake *f, Ssmd__Reply *reply)
{
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;
    reply->request_id = f->hello_request;
    message.message_case = SSMD__FROM_DAEMON__MESSAGE_REPLY;
    message.reply = reply;
    send_message(f, &message);
}

static void send_error(struct fake *f, uint32_t code)
{
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__Error error = SSMD__ERROR__INIT;
    error.code = (Ssmd__Code)code;
    error.text = (char *)"the fake daemon refuses";
    reply.error = &error;
    send_reply(f, &reply);
}

static void send_stream(struct fake *f, bool created)
{
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__StreamInfo info = SSMD__STREAM_INFO__INIT;
    info.id = (ProtobufCBinaryData){1, (uint8_t *)"s"};
    info.model = (char *)"identity";
    info.epoch = f->epoch;
    info.next = f->next;
    info.applied = info.durable = info.result_next = f->applied;
    info.rate = info.out_rate = 100;
    info.channels = info.out_channels = info.ratio_num = info.ratio_den = info.hop = 1;
    info.has_handle = info.has_created = 1;
    info.handle = f->handle;
    info.created = created;
    info.has_results_from = f->wants_results;
    info.results_from = f->sent;
    reply.answer_case = SSMD__REPLY__ANSWER_STREAM;
    reply.stream = &info;
    send_reply(f, &reply);
}

static void send_ack(struct fake *f, uint64_t applied)
{
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;
    Ssmd__Ack ack = SSMD__ACK__INIT;
    ack.n_handle = ack.n_epoch = ack.n_applied = ack.n_durable = 1;
    ack.handle = &f->handle;
    ack.epoch = &f->epoch;
    ack.applied = ack.durable = &applied;
    message.message_case = SSMD__FROM_DAEMON__MESSAGE_ACK;
    message.ack = &ack;
    send_message(f, &message);
}

static void send_refusal(struct fake *f, uint32_t code, uint64_t first)
{
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;
    Ssmd__Refusals refusals = SSMD__REFUSALS__INIT;
    Ssmd__Refusal refusal = SSMD__REFUSAL__INIT, *list = &refusal;
    Ssmd__Error error = SSMD__ERROR__INIT;
    error.code = (Ssmd__Code)code;
    error.text = (char *)"the fake daemon refuses the chunk";
    refusal.handle = f->handle;
    refusal.epoch = f->epoch;
    refusal.expected = f->next;
    refusal.first = first;
    refusal.error = &error;
    refusals.n_refusal = 1;
    refusals.refusal = &list;
    message.message_case = SSMD__FROM_DAEMON__MESSAGE_REFUSALS;
    message.refusals = &refusals;
    send_message(f, &message);
}

/* What credit allows, in one chunk. */
static void send_results(struct fake *f)
{
    uint64_t due = f->applied - f->sent, credit = (f->credit_limit - f->sent_bytes) / sizeof(float);
    uint32_t frames = (uint32_t)(due < credit ? due : credit), flags = f->gives_times;
    int64_t time = (int64_t)f->sent;
    if (!f->wants_results || frames == 0)
        return;
    if (f->skips > 0) {
        f->sent += f->skips;
        frames -= f->skips;
        f->skips = 0;
    }
    Ssmd__ResultHeader h = SSMD__RESULT_HEADER__INIT;
    uint8_t head[128];
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = h.n_flags = 1;
    h.handle = &f->handle;
    h.epoch = &f->epoch;
    h.first = &f->sent;
    h.frames = &frames;
    h.flags = &flags;
    h.n_time = f->gives_times;
    h.time = &time;
    proto_encode(&h.base, head);
    send_parts(f, head, proto_size(&h.base), f->samples + f->sent, frames * sizeof(float));
    f->sent += frames;
    if (f->sent - f->received > f->unreceived_max)
        f->unreceived_max = f->sent - f->received;
    f->sent_bytes += frames * sizeof(float);
}

/* ---- receiving --------------------------------------------------------------------------------------------------- */

static void take_hello(struct fake *f)
{
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__HelloReply hello = SSMD__HELLO_REPLY__INIT;
    Ssmd__Limits limits = SSMD__LIMITS__INIT;
    f->hellos++;
    hello.version = 1;
    hello.daemon = (char *)"fake 0";
    hello.incarnation = (ProtobufCBinaryData){16, f->incarnation};
    hello.limits = &limits;
    limits.message_bytes = f->message_bytes;
    limits.chunk_frames = f->chunk_frames;
    limits.stream_window = f->stream_window;
    limits.connection_window = f->connection_window;
    limits.result_ring = 1 << 20;
    limits.streams = 1;
    limits.idle_ms = 30000;
    reply.answer_case = SSMD__REPLY__ANSWER_HELLO;
    reply.hello = &hello;
    send_reply(f, &reply);
}

static void take_open(struct fake *f, const Ssmd__Open *open)
{
    f->opens++;
    f->modes[open->mode]++;
    if (f->open_error || (open->mode == SSMD__OPEN_MODE__CREATE && f->exists)) {
        send_error(f, f->open_error ? f->open_error : SSMD__CODE__EXISTS);
        return;
    }
    if (open->mode == SSMD__OPEN_MODE__RESUME && !f->exists) {
        send_error(f, SSMD__CODE__NO_STREAM);
        return;
    }
    bool created = !f->exists;
    if (created) {
        f->exists = true;
        f->epoch++;
        f->next = f->applied = f->sent = 0;
    }
    f->handle++;
    f->wants_results = open->results;
    f->had_results_from = open->has_results_from;
    f->results_from = open->results_from;
    f->sent = open->has_results_from ? open->results_from : f->received;
    f->sent_bytes = f->credit_limit = 0;
    send_stream(f, created);
}

static void take_chunk(struct fake *f, const struct proto_chunk *chunk, const float *samples)
{
    f->chunks++;
    f->last_first = chunk->first;
    f->backfills += (chunk->flags & PROTO_FLAG_BACKFILL) != 0;
    if (chunk->frames > f->chunk_frames_max)
        f->chunk_frames_max = chunk->frames;
    if (f->refuses) {
        uint32_t code = f->refuses;
        f->refuses = 0;
        send_refusal(f, code, chunk->first);
    } else if (chunk->first > f->next) {
        if (f->gaps++ == 0)
            send_refusal(f, SSMD__CODE__GAP, chunk->first);
    } else if (chunk->first + chunk->frames > f->next) {
        must(chunk->first + chunk->frames <= FAKE_FRAMES, "more samples than the fake keeps");
        memcpy(f->samples + chunk->first, samples, chunk->frames * sizeof(float));
        f->next = chunk->first + chunk->frames;
        f->gaps = 0;
    }
}

static void apply(struct fake *f)
{
    uint64_t before = f->applied;
    if (f->holds)
        return;
    f->applied = f->next;
    if (f->repeats_acks)
        send_ack(f, before);
    send_ack(f, f->acks_too_much ? f->applied + 1000000 : f->applied);
    f->acks_too_much = false;
    if (f->repeats_acks)
        send_ack(f, f->applied);
    send_results(f);
}

static void take_request(struct fake *f, const void *bytes, size_t size, struct proto_arena *arena)
{
    Ssmd__FromClient *m;
    must(proto_from_client_decode(arena, bytes, size, &m) == PROTO_OK, "a request that cannot be decoded");
    f->hello_request = m->request_id;
    if (f->forgets && m->request_case != SSMD__FROM_CLIENT__REQUEST_HELLO) {
        send_error(f, SSMD__CODE__NO_HELLO);
        return;
    }
    f->forgets = false;
    if (f->applied < f->next && f->exists)
        apply(f);
    switch (m->request_case) {
    case SSMD__FROM_CLIENT__REQUEST_HELLO:
        take_hello(f);
        break;
    case SSMD__FROM_CLIENT__REQUEST_OPEN:
        take_open(f, m->open);
        break;
    case SSMD__FROM_CLIENT__REQUEST_CLOSE:
        f->closes++;
        f->is_closing = true;
        send_results(f);
        send_stream(f, false);
        break;
    case SSMD__FROM_CLIENT__REQUEST_RESET:
        f->epoch++;
        f->next = f->applied = f->sent = f->received = 0;
        send_stream(f, false);
        break;
    case SSMD__FROM_CLIENT__REQUEST_CREDIT:
        f->credit_limit = m->credit->limit[0];
        f->received = m->credit->received[0];
        send_results(f);
        break;
    case SSMD__FROM_CLIENT__REQUEST_PING: {
        Ssmd__Reply reply = SSMD__REPLY__INIT;
        Ssmd__Pong pong = SSMD__PONG__INIT;
        f->pings++;
        reply.answer_case = SSMD__REPLY__ANSWER_PONG;
        reply.pong = &pong;
        send_reply(f, &reply);
        break;
    }
    case SSMD__FROM_CLIENT__REQUEST_BYE:
        f->byes++;
        break;
    default:
        send_error(f, SSMD__CODE__INTERNAL);
    }
}

static void take_data(struct fake *f, zmq_msg_t *head, zmq_msg_t *body, struct proto_arena *arena)
{
    Ssmd__DataHeader *h;
    const uint8_t *at = zmq_msg_data(body);
    must(proto_data_header_decode(arena, zmq_msg_data(head), zmq_msg_size(head), &h) == PROTO_OK, "a data header");
    f->data_messages++;
    if (f->swallows > 0) {
        f->swallows--;
        return;
    }
    if (f->forgets) {
        f->hello_request = 0;
        send_error(f, SSMD__CODE__NO_HELLO);
        return;
    }
    float copy[4096];
    for (size_t i = 0; i < h->n_handle; i++) {
        struct proto_chunk chunk;
        proto_chunk_take(h, i, &chunk);
        must(chunk.format == SSMD__FORMAT__F32LE && chunk.frames <= 4096,
             "a chunk of another kind than the tests send");
        memcpy(copy, at, chunk.frames * sizeof(float));
        at += chunk.frames * sizeof(float);
        if (chunk.handle == f->handle && chunk.epoch == f->epoch && f->exists)
            take_chunk(f, &chunk, copy);
    }
    apply(f);
}

static void take_message(struct fake *f, zmq_msg_t *id, struct proto_arena *arena)
{
    zmq_msg_t head, body;
    zmq_msg_init(&head);
    zmq_msg_init(&body);
    must(zmq_msg_recv(&head, f->router, 0) >= 0, "receive");
    bool has_body = zmq_msg_more(&head);
    if (has_body)
        must(zmq_msg_recv(&body, f->router, 0) >= 0, "receive");
    fake_lock(f);
    if (!f->is_silent) {
        f->client_size = zmq_msg_size(id);
        memcpy(f->client, zmq_msg_data(id), f->client_size);
        if (has_body)
            take_data(f, &head, &body, arena);
        else
            take_request(f, zmq_msg_data(&head), zmq_msg_size(&head), arena);
    }
    fake_unlock(f);
    zmq_msg_close(&head);
    zmq_msg_close(&body);
}

static void *run(void *context)
{
    struct fake *f = context;
    struct proto_arena arena;
    zmq_msg_t id;
    proto_arena_init(&arena);
    zmq_msg_init(&id);
    for (;;) {
        fake_lock(f);
        bool stops = f->stops;
        fake_unlock(f);
        if (stops)
            break;
        if (zmq_msg_recv(&id, f->router, 0) >= 0)
            take_message(f, &id, &arena);
    }
    zmq_msg_close(&id);
    proto_arena_fini(&arena);
    return NULL;
}

/* ---- the test's side --------------------------------------------------------------------------------------------- */

struct fake *fake_start(void)
{
    const int linger = 0, wait_ms = 20;
    struct fake *f = calloc(1, sizeof *f);
    must(f != NULL, "calloc");
    pthread_mutex_init(&f->mutex, NULL);
    strcpy(f->directory, "/tmp/ssmd-fake-XXXXXX");
    must(mkdtemp(f->directory) != NULL, "mkdtemp");
    snprintf(f->endpoint, sizeof f->endpoint, "ipc://%s/socket", f->directory);
    memset(f->incarnation, 1, sizeof f->incarnation);
    f->message_bytes = 1 << 16;
    f->chunk_frames = 1024;
    f->stream_window = 16384;
    f->connection_window = 20000;
    f->zmq = zmq_ctx_new();
    f->router = zmq_socket(f->zmq, ZMQ_ROUTER);
    zmq_setsockopt(f->router, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(f->router, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    must(zmq_bind(f->router, f->endpoint) == 0, "bind");
    must(pthread_create(&f->thread, NULL, run, f) == 0, "pthread_create");
    return f;
}

void fake_stop(struct fake *f)
{
    char path[128];
    fake_lock(f);
    f->stops = true;
    fake_unlock(f);
    pthread_join(f->thread, NULL);
    zmq_close(f->router);
    zmq_ctx_term(f->zmq);
    snprintf(path, sizeof path, "%s/socket", f->directory);
    unlink(path);
    rmdir(f->directory);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}

void fake_take_over(struct fake *f)
{
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;
    Ssmd__Event event = SSMD__EVENT__INIT;
    fake_lock(f);
    event.kind = SSMD__EVENT__KIND__TAKEN_OVER;
    event.has_handle = event.has_epoch = 1;
    event.handle = f->handle;
    event.epoch = ++f->epoch;
    f->open_error = SSMD__CODE__OWNED;
    message.message_case = SSMD__FROM_DAEMON__MESSAGE_EVENT;
    message.event = &event;
    send_message(f, &message);
    fake_unlock(f);
}

void fake_crash(struct fake *f)
{
    fake_lock(f);
    memset(f->incarnation, f->incarnation[0] + 1, sizeof f->incarnation);
    f->exists = false;
    f->received = 0;
    f->forgets = true;
    fake_unlock(f);
}
