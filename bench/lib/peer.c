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

#define ANSWER_MS    20000
#define CREDIT_MAX   256 /* streams of one credit message */
#define CREDIT_SHARE 16 /* new credit when so small a part of it is used; were it said late, rings would have to grow */

/* Numbers of requests: hello, the open of the stream at a position, and behind those of peer_ask. */
enum { REQUEST_HELLO = 1, REQUEST_OPEN = 2 };
#define REQUEST_ASK (UINT64_C(1) << 32)

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

/* ---- what comes -------------------------------------------------------------------------------------------------- */

/* The position of a handle that is open on this socket. */
static uint32_t handle_find(const struct peer *peer, uint32_t handle)
{
    if (handle >= peer->handles || peer->by_handle[handle] == UINT32_MAX)
        give_up("the daemon sent something for handle %u, which it never gave", handle);
    return peer->by_handle[handle];
}

static void credit_want(struct peer *peer, uint32_t at)
{
    if (!peer->stream[at].wants_credit)
        peer->credit[peer->credit_n++] = at;
    peer->stream[at].wants_credit = true;
}

/* Whether the frames come next. Some may be missing before them, or all have come already. */
static bool result_is_next(struct peer *peer, struct peer_stream *s, uint64_t first, uint32_t frames)
{
    if (first == s->received)
        return true;
    if (!peer->is_tolerant)
        give_up("result %llu came, %llu was next", (unsigned long long)first, (unsigned long long)s->received);
    if (first < s->received) {
        peer->doubled += frames;
        return false;
    }
    peer->lost += first - s->received;
    s->received = first;
    return true;
}

static void results_take(struct peer *peer, const zmq_msg_t *header, const zmq_msg_t *payload)
{
    const unsigned char *bytes = zmq_msg_data((zmq_msg_t *)payload);
    size_t left = zmq_msg_size(payload);
    Ssmd__ResultHeader *h;

    if (proto_result_header_decode(&peer->arena, zmq_msg_data((zmq_msg_t *)header), zmq_msg_size(header), &h))
        give_up("the daemon sent a result header that does not decode");
    for (size_t i = 0; i < h->n_handle; i++) {
        uint32_t at = handle_find(peer, h->handle[i]);
        struct peer_stream *s = &peer->stream[at];
        size_t size = (size_t)h->frames[i] * s->out_channels * sizeof(float);

        if (size > left)
            give_up("the daemon sent fewer results than it says");
        s->bytes += size;
        s->time = i < h->n_time && i < h->n_flags && (h->flags[i] & PROTO_RESULT_TIME) ? h->time[i] : 0;
        if (result_is_next(peer, s, h->first[i], h->frames[i])) {
            s->received += h->frames[i];
            peer->results++;
            peer->result_frames += h->frames[i];
            if (peer->on_result)
                peer->on_result(peer, at, h->frames[i], bytes);
        }
        bytes += size;
        left -= size;
        if (s->bytes + peer->ring - peer->ring / CREDIT_SHARE > s->granted)
            credit_want(peer, at);
    }
}

static void open_take(struct peer *peer, uint32_t at, const Ssmd__Reply *reply)
{
    const Ssmd__StreamInfo *info = reply->stream;
    struct peer_stream *s = &peer->stream[at];
    uint32_t handle;

    if (reply->error)
        give_up("open of %s%u was refused: %s", peer->prefix, at, reply->error->text);
    if (s->epoch && s->epoch != info->epoch)
        give_up("%s%u is another stream than it was: was the daemon started anew?", peer->prefix, at);
    handle = s->handle = info->handle;
    s->epoch = info->epoch;
    s->rate = info->rate;
    s->in_channels = info->channels;
    s->out_channels = info->out_channels;
    s->ratio_num = info->ratio_num;
    s->ratio_den = info->ratio_den;
    s->sent = info->next;
    s->applied = info->applied;
    s->bytes = s->granted = 0;
    s->is_open = true;
    s->is_refused = false;
    if (handle >= peer->handles) {
        uint32_t before = peer->handles;

        peer->handles = 2 * handle + 64;
        peer->by_handle = realloc(peer->by_handle, peer->handles * sizeof(*peer->by_handle));
        if (!peer->by_handle)
            give_up("no memory");
        memset(peer->by_handle + before, 0xff, (peer->handles - before) * sizeof(*peer->by_handle));
    }
    peer->by_handle[handle] = at;
    peer->opened++;
    if (peer->wants_results)
        credit_want(peer, at);
    if (peer->on_open)
        peer->on_open(peer, at);
}

static void hello_take(struct peer *peer, const Ssmd__Reply *reply)
{
    if (reply->error)
        give_up("hello was refused: %s", reply->error->text);
    peer->window = reply->hello->limits->stream_window;
    peer->connection_window = reply->hello->limits->connection_window;
    peer->ring = reply->hello->limits->result_ring;
    peer->is_greeted = true;
}

static void error_note(struct peer *peer, const char *text)
{
    if (!peer->is_tolerant)
        fprintf(stderr, "refused: %s\n", text);
    if (peer->errors++ == 0)
        snprintf(peer->error, sizeof(peer->error), "%s", text);
}

/* The reply, when it is one to peer_ask. */
static Ssmd__Reply *reply_take(struct peer *peer, Ssmd__Reply *reply)
{
    if (reply->request_id == REQUEST_HELLO) {
        hello_take(peer, reply);
    } else if (reply->error && reply->error->code == SSMD__CODE__NO_HELLO) {
        peer->is_forgotten = true;
    } else if (reply->request_id >= REQUEST_OPEN && reply->request_id < REQUEST_OPEN + (uint64_t)peer->streams) {
        open_take(peer, (uint32_t)(reply->request_id - REQUEST_OPEN), reply);
    } else if (reply->error) {
        error_note(peer, reply->error->text);
    }
    return reply->request_id > REQUEST_ASK ? reply : NULL;
}

/* The stream goes on from the index that its daemon expects. */
static void refusal_take(struct peer *peer, const Ssmd__Refusal *refusal)
{
    struct peer_stream *s;

    error_note(peer, refusal->error->text);
    if (refusal->handle >= peer->handles || peer->by_handle[refusal->handle] == UINT32_MAX)
        return;
    s = &peer->stream[peer->by_handle[refusal->handle]];
    s->sent = s->expected = refusal->expected;
    s->is_refused = true;
}

static void ack_take(struct peer *peer, uint32_t handle, uint64_t applied)
{
    struct peer_stream *s = &peer->stream[handle_find(peer, handle)];

    s->applied = applied;
    s->is_refused &= applied <= s->expected;
}

static Ssmd__Reply *control_take(struct peer *peer, const zmq_msg_t *part)
{
    Ssmd__FromDaemon *m;

    if (proto_from_daemon_decode(&peer->arena, zmq_msg_data((zmq_msg_t *)part), zmq_msg_size(part), &m))
        give_up("the daemon sent a message that does not decode");
    switch (m->message_case) {
    case SSMD__FROM_DAEMON__MESSAGE_REPLY:
        return reply_take(peer, m->reply);
    case SSMD__FROM_DAEMON__MESSAGE_ACK:
        for (size_t i = 0; i < m->ack->n_handle; i++)
            ack_take(peer, m->ack->handle[i], m->ack->applied[i]);
        break;
    case SSMD__FROM_DAEMON__MESSAGE_REFUSALS:
        for (size_t i = 0; i < m->refusals->n_refusal; i++)
            refusal_take(peer, m->refusals->refusal[i]);
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
        results_take(peer, &part, &payload);
        zmq_msg_close(&payload);
    }
    zmq_msg_close(&part);
    return 1;
}

/* ---- what is said ------------------------------------------------------------------------------------------------ */

/* New credit for the streams that want it; it also says what was received. */
static void credit_grant(struct peer *peer)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Credit credit = SSMD__CREDIT__INIT;
    uint32_t handle[CREDIT_MAX];
    uint64_t received[CREDIT_MAX], limit[CREDIT_MAX];

    credit.handle = handle;
    credit.received = received;
    credit.limit = limit;
    request.request_case = SSMD__FROM_CLIENT__REQUEST_CREDIT;
    request.credit = &credit;
    while (peer->credit_n > 0) {
        uint32_t n = 0;

        while (n < CREDIT_MAX && peer->credit_n > 0) {
            struct peer_stream *s = &peer->stream[peer->credit[--peer->credit_n]];

            s->wants_credit = false;
            s->granted = s->bytes + peer->ring;
            handle[n] = s->handle;
            received[n] = s->received;
            limit[n++] = s->granted;
        }
        credit.n_handle = credit.n_received = credit.n_limit = n;
        part_send(peer, &request.base, 0);
    }
}

static void open_send(struct peer *peer, uint32_t at)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Open open = SSMD__OPEN__INIT;
    const struct peer_stream *s = &peer->stream[at];
    char id[PROTO_ID_MAX + 1];

    open.id.len = (size_t)snprintf(id, sizeof(id), "%s%u", peer->prefix, at);
    open.id.data = (uint8_t *)id;
    open.model = (char *)(uintptr_t)s->model;
    open.has_mode = s->epoch != 0;
    open.mode = SSMD__OPEN_MODE__RESUME;
    open.has_rate = s->rate > 0;
    open.rate = s->rate;
    open.has_results = open.results = peer->wants_results;
    open.has_results_from = open.has_mode && peer->wants_results;
    open.results_from = s->received;
    request.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
    request.request_id = REQUEST_OPEN + (uint64_t)at;
    request.open = &open;
    part_send(peer, &request.base, 0);
}

static void go_on(struct peer *peer)
{
    while (peer->is_greeted && peer->asked < peer->streams && peer->asked - peer->opened < peer->opens_ahead)
        open_send(peer, peer->asked++);
    credit_grant(peer);
}

static void message_clear(struct peer_message *m)
{
    m->n = 0;
    m->floats = 0;
    m->has_flags = false;
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
    if (n > 0)
        go_on(peer);
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

    request->request_id = REQUEST_ASK + ++peer->request_id;
    part_send(peer, &request->base, 0);
    for (;;) {
        if (message_take(peer, &reply)) {
            if (reply && reply->request_id == request->request_id)
                return reply;
        } else if (zmq_poll(&item, 1, ANSWER_MS) <= 0)
            give_up("no answer within %d ms", ANSWER_MS);
    }
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

void peer_init(struct peer *peer, void *zmq, const char *endpoint, const char *prefix, uint32_t streams, bool results)
{
    memset(peer, 0, sizeof(*peer));
    proto_arena_init(&peer->arena);
    peer->zmq = zmq;
    peer->endpoint = endpoint;
    snprintf(peer->prefix, sizeof(peer->prefix), "%s", prefix);
    peer->streams = streams;
    peer->wants_results = results;
    peer->opens_ahead = 1;
    peer->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    peer->stream = calloc(streams, sizeof(*peer->stream));
    peer->credit = calloc(streams, sizeof(*peer->credit));
    peer->message = malloc(sizeof(*peer->message));
    if (peer->timer_fd < 0 || !peer->stream || !peer->credit || !peer->message)
        give_up("no memory");
    if (getrandom(peer->writer, sizeof(peer->writer), 0) != sizeof(peer->writer))
        give_up("no randomness");
    message_clear(peer->message);
}

void peer_begin(struct peer *peer)
{
    Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
    Ssmd__Hello hello = SSMD__HELLO__INIT;
    int none = 0;

    if (peer->socket)
        zmq_close(peer->socket);
    peer->socket = zmq_socket(peer->zmq, ZMQ_DEALER);
    if (!peer->socket)
        give_up("no socket: %s", zmq_strerror(zmq_errno()));
    zmq_setsockopt(peer->socket, ZMQ_LINGER, &none, sizeof(none));
    if (peer->is_tolerant) /* it never waits for room to send; how much is on the way is its user's to bound */
        zmq_setsockopt(peer->socket, ZMQ_SNDHWM, &none, sizeof(none));
    if (zmq_connect(peer->socket, peer->endpoint) != 0)
        give_up("connect %s: %s", peer->endpoint, zmq_strerror(zmq_errno()));
    if (peer->by_handle)
        memset(peer->by_handle, 0xff, peer->handles * sizeof(*peer->by_handle));
    for (uint32_t i = 0; i < peer->streams; i++)
        peer->stream[i].is_open = peer->stream[i].wants_credit = false;
    message_clear(peer->message);
    peer->is_greeted = peer->is_forgotten = false;
    peer->asked = peer->opened = peer->credit_n = 0;
    hello.version_min = hello.version_max = PROTO_VERSION;
    hello.writer = (ProtobufCBinaryData){.data = peer->writer, .len = sizeof(peer->writer)};
    request.request_case = SSMD__FROM_CLIENT__REQUEST_HELLO;
    request.request_id = REQUEST_HELLO;
    request.hello = &hello;
    part_send(peer, &request.base, 0);
}

bool peer_is_open(const struct peer *peer)
{
    return peer->is_greeted && peer->opened == peer->streams;
}

void peer_open(struct peer *peer, void *zmq, const char *endpoint, const char *prefix, uint32_t streams,
               const char *model, double rate, bool results)
{
    peer_init(peer, zmq, endpoint, prefix, streams, results);
    for (uint32_t i = 0; i < streams; i++) {
        peer->stream[i].model = model;
        peer->stream[i].rate = rate;
    }
    peer_begin(peer);
    while (!peer_is_open(peer))
        if (peer_poll(peer, ANSWER_MS) == 0)
            give_up("no answer within %d ms", ANSWER_MS);
}

/* A closed stream whose results were not received would linger. */
static void received_say(struct peer *peer)
{
    for (uint32_t i = 0; i < peer->streams && peer->wants_results; i++)
        credit_want(peer, i);
    credit_grant(peer);
}

void peer_finish(struct peer *peer)
{
    received_say(peer);
    for (uint32_t i = 0; i < peer->streams; i++) {
        Ssmd__FromClient request = SSMD__FROM_CLIENT__INIT;
        Ssmd__Close request_close = SSMD__CLOSE__INIT;

        request.request_case = SSMD__FROM_CLIENT__REQUEST_CLOSE;
        request.close = &request_close;
        request_close.handle = peer->stream[i].handle;
        (void)peer_ask(peer, &request);
    }
    received_say(peer);
    (void)peer_counter(peer, "requests"); /* its answer says that the credit was taken */
}

void peer_fini(struct peer *peer)
{
    if (peer->socket)
        zmq_close(peer->socket);
    close(peer->timer_fd);
    proto_arena_fini(&peer->arena);
    free(peer->encoded);
    free(peer->message);
    free(peer->by_handle);
    free(peer->credit);
    free(peer->stream);
}

void peer_close(struct peer *peer)
{
    peer_finish(peer);
    peer_fini(peer);
}

void peer_flush(struct peer *peer)
{
    struct peer_message *m = peer->message;
    Ssmd__DataHeader h = SSMD__DATA_HEADER__INIT;
    size_t bytes = m->floats * sizeof(float);
    zmq_msg_t payload;

    if (m->n == 0)
        return;
    h.handle = m->handle;
    h.epoch = m->epoch;
    h.first = m->first;
    h.frames = m->frames;
    h.format = m->format;
    h.flags = m->flags;
    h.time = m->time;
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = h.n_format = m->n;
    h.n_flags = h.n_time = m->has_flags ? m->n : 0;
    zmq_msg_init_size(&payload, bytes);
    memcpy(zmq_msg_data(&payload), m->samples, bytes);
    part_send(peer, &h.base, ZMQ_SNDMORE);
    if (zmq_msg_send(&payload, peer->socket, 0) < 0)
        give_up("send: %s", zmq_strerror(zmq_errno()));
    message_clear(m);
}

float *peer_put(struct peer *peer, uint32_t at, uint32_t frames, uint32_t flags, int64_t time)
{
    struct peer_message *m = peer->message;
    struct peer_stream *s = &peer->stream[at];
    size_t floats = (size_t)frames * s->in_channels;

    if (floats > PEER_FLOATS_MAX)
        give_up("a chunk of %zu samples: at most %d", floats, PEER_FLOATS_MAX);
    if (m->n == PEER_CHUNKS_MAX || m->floats + floats > PEER_FLOATS_MAX)
        peer_flush(peer);
    m->handle[m->n] = s->handle;
    m->epoch[m->n] = s->epoch;
    m->first[m->n] = s->sent;
    m->frames[m->n] = frames;
    m->format[m->n] = SSMD__FORMAT__F32LE;
    m->flags[m->n] = flags | (time ? PROTO_FLAG_TIME : 0);
    m->time[m->n] = time;
    m->has_flags |= m->flags[m->n] != 0;
    m->n++;
    m->floats += floats;
    s->sent += frames;
    return m->samples + m->floats - floats;
}

void peer_send(struct peer *peer, uint32_t first, uint32_t n, uint32_t frames, const float *samples, int64_t time)
{
    for (uint32_t i = 0; i < n; i++)
        memcpy(peer_put(peer, first + i, frames, 0, time), samples, frames * sizeof(*samples));
    peer_flush(peer);
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
