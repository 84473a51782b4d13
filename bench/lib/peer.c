/* SPDX-License-Identifier: Apache-2.0
 * The least that speaks the protocol; see peer.h. */
#include "bench/lib/peer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <zmq.h>

#define ANSWER_MS 20000

static void __attribute__((noreturn, format(printf, 1, 2))) give_up(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

static void part_send(struct peer *peer, const ProtobufCMessage *message, int flags)
{
    size_t size = proto_size(message);

    if (size > peer->encoded_size) {
        peer->encoded = realloc(peer->encoded, size);
        peer->encoded_size = size;
        if (!peer->encoded)
            give_up("no memory");
    }
    proto_encode(message, peer->encoded);
    if (zmq_send(peer->socket, peer->encoded, size, flags) < 0)
        give_up("send: %s", zmq_strerror(zmq_errno()));
}

static void results_take(struct peer *peer, const zmq_msg_t *header)
{
    Ssmd__ResultHeader *h;

    if (proto_result_header_decode(&peer->arena, zmq_msg_data((zmq_msg_t *)header), zmq_msg_size(header), &h))
        give_up("the daemon sent a result header that does not decode");
    for (size_t i = 0; i < h->n_handle; i++) {
        uint32_t at = peer->by_handle[h->handle[i]];
        struct peer_stream *s = &peer->stream[at];

        if (h->first[i] != s->received)
            give_up("result %llu came, %llu was next", (unsigned long long)h->first[i],
                    (unsigned long long)s->received);
        s->received += h->frames[i];
        s->bytes += (uint64_t)h->frames[i] * sizeof(float);
        if (h->n_time > i)
            s->time = h->time[i];
        peer->results++;
        peer->result_frames += h->frames[i];
        if (peer->on_result)
            peer->on_result(peer, at, h->frames[i]);
    }
}

static Ssmd__Reply *control_take(struct peer *peer, const zmq_msg_t *part)
{
    Ssmd__FromDaemon *m;

    if (proto_from_daemon_decode(&peer->arena, zmq_msg_data((zmq_msg_t *)part), zmq_msg_size(part), &m))
        give_up("the daemon sent a message that does not decode");
    switch (m->message_case) {
    case SSMD__FROM_DAEMON__MESSAGE_REPLY:
        if (m->reply->error) {
            fprintf(stderr, "refused: %s\n", m->reply->error->text);
            peer->errors++;
        }
        return m->reply;
    case SSMD__FROM_DAEMON__MESSAGE_ACK:
        for (size_t i = 0; i < m->ack->n_handle; i++)
            peer->stream[peer->by_handle[m->ack->handle[i]]].applied = m->ack->applied[i];
        break;
    case SSMD__FROM_DAEMON__MESSAGE_REFUSALS:
        for (size_t i = 0; i < m->refusals->n_refusal; i++)
            fprintf(stderr, "refused: %s\n", m->refusals->refusal[i]->error->text);
        peer->errors += m->refusals->n_refusal;
        break;
    default:
        break;
    }
    return NULL;
}

/* One message, if there is one: 1, or 0. A reply in it goes to *reply. */
static int message_take(struct peer *peer, Ssmd__Reply **reply)
{
    zmq_msg_t part, payload;
    int more;

    zmq_msg_init(&part);
    if (zmq_msg_recv(&part, peer->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&part);
        return 0;
    }
    more = zmq_msg_more(&part);
    *reply = more ? NULL : control_take(peer, &part);
    if (more) {
        zmq_msg_init(&payload);
        if (zmq_msg_recv(&payload, peer->socket, 0) < 0)
            give_up("a result without its payload");
        results_take(peer, &part);
        zmq_msg_close(&payload);
    }
    zmq_msg_close(&part);
    return 1;
}

/* New credit for every stream that has used a sixteenth of its own, or for all. It also says what was received: were that
 * said late, rings would have to grow for it. */
static void credit_grant(struct peer *peer, bool all)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Credit credit = SSMD__CREDIT__INIT;
    uint32_t n = 0, handle[256];
    uint64_t received[256], limit[256];

    for (uint32_t i = 0; i <= peer->streams; i++) {
        struct peer_stream *s = i < peer->streams ? &peer->stream[i] : NULL;

        if (s && (all || s->bytes + peer->ring - peer->ring / 16 > s->granted)) {
            s->granted = s->bytes + peer->ring;
            handle[n] = s->handle;
            received[n] = s->received;
            limit[n++] = s->granted;
        }
        if (n == 256 || (i == peer->streams && n > 0)) {
            credit.handle = handle;
            credit.received = received;
            credit.limit = limit;
            credit.n_handle = credit.n_received = credit.n_limit = n;
            request.request_case = SSMD__FROM_CLIENT__REQUEST_CREDIT;
            request.credit = &credit;
            part_send(peer, &request.base, 0);
            n = 0;
        }
    }
}

uint32_t peer_poll(struct peer *peer, int timeout_ms)
{
    zmq_pollitem_t item = {.socket = peer->socket, .events = ZMQ_POLLIN};
    Ssmd__Reply *reply;
    uint32_t n = 0;

    while (message_take(peer, &reply))
        n++;
    if (n == 0 && timeout_ms > 0 && zmq_poll(&item, 1, timeout_ms) > 0)
        while (message_take(peer, &reply))
            n++;
    if (n > 0 && peer->ring > 0)
        credit_grant(peer, false);
    return n;
}

void peer_wait(struct peer *peer, uint64_t until_ns)
{
    zmq_pollitem_t items[2] = {{.socket = peer->socket, .events = ZMQ_POLLIN},
                               {.fd = peer->timer_fd, .events = ZMQ_POLLIN}};
    struct itimerspec due = {.it_value = {(time_t)(until_ns / 1000000000u), (long)(until_ns % 1000000000u)}};

    timerfd_settime(peer->timer_fd, TFD_TIMER_ABSTIME, &due, NULL);
    while (!(items[1].revents & ZMQ_POLLIN)) {
        (void)peer_poll(peer, 0);
        if (zmq_poll(items, 2, -1) < 0)
            return;
    }
    (void)peer_poll(peer, 0);
}

Ssmd__Reply *peer_ask(struct peer *peer, Ssmd__FromClient *request)
{
    zmq_pollitem_t item = {.socket = peer->socket, .events = ZMQ_POLLIN};
    Ssmd__Reply *reply;

    request->request_id = ++peer->request_id;
    part_send(peer, &request->base, 0);
    for (;;) {
        if (message_take(peer, &reply)) {
            if (reply && reply->request_id == request->request_id)
                return reply;
        } else if (zmq_poll(&item, 1, ANSWER_MS) <= 0)
            give_up("no answer within %d ms", ANSWER_MS);
    }
}

static void hello_say(struct peer *peer)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Hello hello = SSMD__HELLO__INIT;
    uint8_t writer[PROTO_WRITER_BYTES];
    Ssmd__Reply *reply;

    if (getrandom(writer, sizeof(writer), 0) != sizeof(writer))
        give_up("no randomness");
    hello.version_min = hello.version_max = PROTO_VERSION;
    hello.writer = (ProtobufCBinaryData){.data = writer, .len = sizeof(writer)};
    request.request_case = SSMD__FROM_CLIENT__REQUEST_HELLO;
    request.hello = &hello;
    reply = peer_ask(peer, &request);
    if (reply->error)
        give_up("hello was refused");
    peer->window = reply->hello->limits->stream_window;
    peer->ring = reply->hello->limits->result_ring;
}

static void stream_open(struct peer *peer, uint32_t at, const char *prefix, const char *model, double rate,
                        bool results)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Open open = SSMD__OPEN__INIT;
    struct peer_stream *s = &peer->stream[at];
    Ssmd__Reply *reply;
    char id[PROTO_ID_MAX + 1];
    uint32_t handle;

    open.id.len = (size_t)snprintf(id, sizeof(id), "%s%u", prefix, at);
    open.id.data = (uint8_t *)id;
    open.model = (char *)model;
    open.has_rate = rate > 0;
    open.rate = rate;
    open.has_results = open.results = results;
    request.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
    request.open = &open;
    reply = peer_ask(peer, &request);
    if (reply->error)
        give_up("open of %s was refused", id);
    handle = s->handle = reply->stream->handle;
    s->epoch = reply->stream->epoch;
    if (handle >= peer->handles) {
        peer->handles = 2 * handle + 64;
        peer->by_handle = realloc(peer->by_handle, peer->handles * sizeof(*peer->by_handle));
        if (!peer->by_handle)
            give_up("no memory");
    }
    peer->by_handle[handle] = at;
}

void peer_open(struct peer *peer, void *zmq, const char *endpoint, const char *prefix, uint32_t streams,
               const char *model, double rate, bool results)
{
    int none = 0;

    memset(peer, 0, sizeof(*peer));
    proto_arena_init(&peer->arena);
    peer->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    peer->socket = zmq_socket(zmq, ZMQ_DEALER);
    peer->stream = calloc(streams, sizeof(*peer->stream));
    if (peer->timer_fd < 0 || !peer->socket || !peer->stream)
        give_up("no memory");
    zmq_setsockopt(peer->socket, ZMQ_LINGER, &none, sizeof(none));
    if (zmq_connect(peer->socket, endpoint) != 0)
        give_up("connect %s: %s", endpoint, zmq_strerror(zmq_errno()));
    hello_say(peer);
    for (; peer->streams < streams; peer->streams++)
        stream_open(peer, peer->streams, prefix, model, rate, results);
    if (!results)
        peer->ring = 0;
    else
        credit_grant(peer, true);
}

void peer_close(struct peer *peer)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Close request_close = SSMD__CLOSE__INIT;

    if (peer->ring > 0)
        credit_grant(peer, true); /* a closed stream whose results were not received would linger */
    for (uint32_t i = 0; i < peer->streams; i++) {
        request.request_case = SSMD__FROM_CLIENT__REQUEST_CLOSE;
        request.close = &request_close;
        request_close.handle = peer->stream[i].handle;
        (void)peer_ask(peer, &request);
    }
    zmq_close(peer->socket);
    close(peer->timer_fd);
    proto_arena_fini(&peer->arena);
    free(peer->encoded);
    free(peer->by_handle);
    free(peer->stream);
}

#define BATCH_MAX 1024

void peer_send(struct peer *peer, uint32_t first, uint32_t n, uint32_t frames, const float *samples, int64_t time)
{
    Ssmd__DataHeader h = SSMD__DATA_HEADER__INIT;
    uint32_t handle[BATCH_MAX], count[BATCH_MAX], format[BATCH_MAX];
    uint64_t epoch[BATCH_MAX], from[BATCH_MAX];
    int64_t stamp[BATCH_MAX];
    size_t bytes = (size_t)frames * sizeof(*samples);
    zmq_msg_t payload;

    if (n > BATCH_MAX)
        give_up("at most %d chunks in a message", BATCH_MAX);
    zmq_msg_init_size(&payload, n * bytes);
    for (uint32_t i = 0; i < n; i++) {
        struct peer_stream *s = &peer->stream[first + i];

        handle[i] = s->handle;
        epoch[i] = s->epoch;
        from[i] = s->sent;
        count[i] = frames;
        format[i] = SSMD__FORMAT__F32LE;
        stamp[i] = time;
        s->sent += frames;
        memcpy((char *)zmq_msg_data(&payload) + i * bytes, samples, bytes);
    }
    h.handle = handle;
    h.epoch = epoch;
    h.first = from;
    h.frames = count;
    h.format = format;
    h.time = stamp;
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = h.n_format = n;
    h.n_time = time ? n : 0;
    part_send(peer, &h.base, ZMQ_SNDMORE);
    if (zmq_msg_send(&payload, peer->socket, 0) < 0)
        give_up("send: %s", zmq_strerror(zmq_errno()));
}

uint64_t peer_counter(struct peer *peer, const char *name)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Stats stats = SSMD__STATS__INIT;
    Ssmd__Reply *reply;

    request.request_case = SSMD__FROM_CLIENT__REQUEST_STATS;
    request.stats = &stats;
    reply = peer_ask(peer, &request);
    for (size_t i = 0; reply->stats && i < reply->stats->n_counters; i++)
        if (strcmp(reply->stats->counters[i]->name, name) == 0)
            return reply->stats->counters[i]->value;
    return UINT64_MAX;
}
