/* SPDX-License-Identifier: Apache-2.0
 *
 * The link to the daemon: a DEALER socket with a monitor, hello, liveness, and coming back.
 *
 * A socket that dropped is not left to ZeroMQ to reconnect: it is closed and made anew, because what was in its queues
 * may or may not have been lost, and only the daemon's answer to open says which. The wait between attempts doubles
 * from 0.1 to 5 s and starts again at the bottom after every successful hello.
 *
 * Silence: after PING_MS without a word the daemon is pinged; unanswered for DEAD_MS it counts as gone, though its
 * socket may still be there. The clock of that runs only while the caller polls: the ping must have been sent, and the
 * socket found empty afterwards.
 */
#include "clients/c/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

enum {
    MESSAGE_MAX = 64 << 20, /* from the daemon */
    QUEUE_MESSAGES = 1000,  /* what is in them is bounded by windows and credit */
    MONITOR_MS = 10,        /* how often a busy connection looks at its monitor */
};

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int64_t deadline_ns(int timeout_ms)
{
    return timeout_ms < 0 ? INT64_MAX : now_ns() + timeout_ms * MS_NS;
}

int left_ms(int64_t until)
{
    int64_t left = until == INT64_MAX ? -1 : (until - now_ns()) / MS_NS;
    return left < 0 && until != INT64_MAX ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

int poll_until(struct ssmc *c, int64_t until)
{
    enum { SLICE_MS = 1000 };
    int64_t left = (until - now_ns()) / MS_NS + 1;
    return ssmc_poll(c, left > SLICE_MS ? SLICE_MS : left < 0 ? 0 : (int)left);
}

/* Every default that hurts, set on purpose: bounded queues and messages, no lingering, heartbeats that notice a dead
 * peer, and nothing queued for a connection that is not there. */
static int set_options(void *socket)
{
    static const struct {
        int option, value;
    } options[] = {
        {ZMQ_LINGER, 0},
        {ZMQ_SNDHWM, QUEUE_MESSAGES},
        {ZMQ_RCVHWM, QUEUE_MESSAGES},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_HANDSHAKE_IVL, 5000},
        {ZMQ_CONNECT_TIMEOUT, 5000},
        {ZMQ_HEARTBEAT_IVL, 1000},
        {ZMQ_HEARTBEAT_TIMEOUT, 3000},
        {ZMQ_HEARTBEAT_TTL, 4000},
        {ZMQ_RECONNECT_IVL, BACKOFF_MIN_MS},
        {ZMQ_RECONNECT_IVL_MAX, BACKOFF_MAX_MS},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_IPV6, 1},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (zmq_setsockopt(socket, options[i].option, &options[i].value, sizeof(int)) != 0)
            return -1;
    const int64_t message_max = MESSAGE_MAX;
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &message_max, sizeof message_max);
}

/* ssmc_fd is an epoll descriptor over those of the sockets, so that it stays while they come and go. */
static int watch(struct ssmc *c, void *socket, int operation)
{
    int fd = -1;
    size_t size = sizeof fd;
    struct epoll_event event = {.events = EPOLLIN};
    if (zmq_getsockopt(socket, ZMQ_FD, &fd, &size) != 0)
        return -1;
    return epoll_ctl(c->epoll_fd, operation, fd, &event);
}

void link_close(struct ssmc *c)
{
    if (c->monitor) {
        zmq_socket_monitor(c->socket, NULL, 0);
        watch(c, c->monitor, EPOLL_CTL_DEL);
        zmq_close(c->monitor);
    }
    if (c->socket) {
        watch(c, c->socket, EPOLL_CTL_DEL);
        zmq_close(c->socket);
    }
    c->monitor = c->socket = NULL;
}

static int link_open(struct ssmc *c)
{
    static _Thread_local unsigned serial; /* contexts are not shared, so names need only differ within one */
    char name[64];
    const int linger = 0;
    c->socket = zmq_socket(c->zmq, ZMQ_DEALER);
    if (!c->socket || set_options(c->socket) != 0 || watch(c, c->socket, EPOLL_CTL_ADD) != 0)
        goto out;
    snprintf(name, sizeof name, "inproc://ssmc-monitor-%u", ++serial);
    if (zmq_socket_monitor(c->socket, name, ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL) != 0)
        goto out;
    c->monitor = zmq_socket(c->zmq, ZMQ_PAIR);
    if (!c->monitor || zmq_setsockopt(c->monitor, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_connect(c->monitor, name) != 0 || watch(c, c->monitor, EPOLL_CTL_ADD) != 0)
        goto out;
    if (zmq_connect(c->socket, c->endpoint) != 0)
        goto out;
    return 0;
out:
    c->broken = fail(c, SSMC_IO, "cannot make a connection to \"%s\": %s", c->endpoint, zmq_strerror(errno));
    link_close(c);
    return -1;
}

/* Reads the monitor: 1 when the connection broke since. */
static int has_dropped(struct ssmc *c)
{
    int dropped = 0;
    zmq_msg_t part;
    zmq_msg_init(&part);
    while (zmq_msg_recv(&part, c->monitor, ZMQ_DONTWAIT) >= 0) {
        if (zmq_msg_size(&part) == 6 && zmq_msg_more(&part))
            dropped = 1; /* the part with the event; the address follows */
    }
    zmq_msg_close(&part);
    return dropped;
}

int link_send(struct ssmc *c, const Ssmd__FromClient *message)
{
    zmq_msg_t part;
    if (!c->socket || zmq_msg_init_size(&part, proto_size(&message->base)) != 0)
        return -1;
    proto_encode(&message->base, zmq_msg_data(&part));
    if (zmq_msg_send(&part, c->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&part);
        return -1;
    }
    c->sent_ns = now_ns();
    return 0;
}

static void answer_hello(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    (void)r;
    if (!reply)
        return;
    if (reply->error) {
        fail_refused(c, reply->error);
        char why[TEXT_MAX];
        snprintf(why, sizeof why, "%s", c->error);
        link_restart(c, -1, why);
        c->broken = c->was_up ? 0 : SSMC_REFUSED;
        return;
    }
    const Ssmd__HelloReply *hello = reply->answer_case == SSMD__REPLY__ANSWER_HELLO ? reply->hello : NULL;
    if (!hello || hello->version != PROTO_VERSION || hello->incarnation.len != sizeof c->daemon.incarnation ||
        hello->limits->message_bytes < 1024 || hello->limits->chunk_frames < 1) {
        c->broken = fail(c, SSMC_PROTOCOL, "%s answered a hello that this library does not understand", c->endpoint);
        link_restart(c, -1, c->error);
        return;
    }
    struct ssmc_daemon_info *d = &c->daemon;
    snprintf(d->daemon, sizeof d->daemon, "%s", hello->daemon);
    memcpy(d->incarnation, hello->incarnation.data, sizeof d->incarnation);
    d->version = hello->version;
    d->durability = (int)hello->durability;
    d->message_bytes = hello->limits->message_bytes;
    d->stream_window = hello->limits->stream_window;
    d->connection_window = hello->limits->connection_window;
    d->result_ring = hello->limits->result_ring;
    d->streams_max = hello->limits->streams;
    snprintf(d->tap, sizeof d->tap, "%s", hello->tap ? hello->tap : "");
    d->reconnects += c->was_up;
    d->is_connected = 1;
    c->chunk_frames = hello->limits->chunk_frames;
    c->has_images = c->has_tokens = c->has_schedule = c->has_rates = c->has_versions = false;
    for (size_t i = 0; i < hello->n_features; i++) {
        c->has_images |= strcmp(hello->features[i], "images") == 0;
        c->has_tokens |= strcmp(hello->features[i], "tokens") == 0;
        c->has_schedule |= strcmp(hello->features[i], "schedule") == 0;
        c->has_rates |= strcmp(hello->features[i], "rates") == 0;
        c->has_versions |= strcmp(hello->features[i], "versions") == 0;
    }
    c->idle_ms = hello->limits->idle_ms;
    c->link = LINK_UP;
    c->was_away = c->was_up && now_ns() - c->lost_ns >= SSMC_AWAY_MS * MS_NS;
    c->was_up = true;
    c->backoff_ms = BACKOFF_MIN_MS;
}

void link_hello(struct ssmc *c, Ssmd__Hello *hello)
{
    static const char *const features[] = {"images", "tokens", "schedule", "histograms", "rates", "versions"};
    hello->version_min = hello->version_max = PROTO_VERSION;
    hello->writer = (ProtobufCBinaryData){sizeof c->writer, c->writer};
    hello->client = c->name;
    hello->n_features = sizeof features / sizeof *features;
    hello->features = (char **)features;
}

static void say_hello(struct ssmc *c, int64_t now)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Hello hello = SSMD__HELLO__INIT;
    link_hello(c, &hello);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_HELLO;
    message.hello = &hello;
    if (request_send(c, &c->ping, &message, answer_hello, NULL) != 0)
        return; /* not connected yet */
    c->link = LINK_HELLO;
    c->link_at_ns = now + HELLO_MS * MS_NS;
    c->heard_ns = now;
    c->pinged_ns = 0;
}

static void answer_ping(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    (void)r;
    (void)reply; /* hearing anything is what counts */
    c->pinged_ns = 0;
}

/* Asks a silent daemon whether it is there, and keeps it from forgetting us. */
static void check_liveness(struct ssmc *c, int64_t now)
{
    if (c->pinged_ns) {
        if (now - c->pinged_ns > DEAD_MS * MS_NS && now - c->heard_ns > DEAD_MS * MS_NS)
            link_restart(c, 0, "the daemon has not answered for 6 seconds");
        return;
    }
    int64_t keep = c->idle_ms / 3 * MS_NS;
    if (now - c->heard_ns < PING_MS * MS_NS && now - c->sent_ns < keep)
        return;
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Ping ping = SSMD__PING__INIT;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_PING;
    message.ping = &ping;
    if (request_send(c, &c->ping, &message, answer_ping, NULL) == 0)
        c->pinged_ns = now;
}

void link_step(struct ssmc *c)
{
    int64_t now = now_ns();
    if (c->link == LINK_DOWN) {
        if (now < c->link_at_ns)
            return;
        if (link_open(c) != 0) {
            link_restart(c, -1, c->error);
            return;
        }
        c->link = LINK_CONNECTING;
    }
    if (c->link == LINK_CONNECTING)
        say_hello(c, now);
    if (c->link != LINK_CONNECTING && now - c->monitor_ns > MONITOR_MS * MS_NS) {
        c->monitor_ns = now;
        if (has_dropped(c)) {
            link_restart(c, -1, "the connection to the daemon broke");
            return;
        }
    }
    if (c->link == LINK_HELLO && now > c->link_at_ns)
        link_restart(c, -1, "the daemon does not answer hello");
    if (c->link == LINK_UP)
        check_liveness(c, now);
}

void link_restart(struct ssmc *c, int delay_ms, const char *why)
{
    if (why != c->error)
        fail(c, SSMC_IO, "%s: %s", c->endpoint, why);
    link_close(c);
    if (c->link == LINK_UP)
        c->lost_ns = c->heard_ns;
    c->link = LINK_DOWN;
    c->daemon.is_connected = 0;
    if (delay_ms < 0) {
        delay_ms = (int)c->backoff_ms;
        c->backoff_ms = c->backoff_ms * 2 < BACKOFF_MAX_MS ? c->backoff_ms * 2 : BACKOFF_MAX_MS;
    }
    c->link_at_ns = now_ns() + delay_ms * MS_NS;
    request_lose_all(c);
    reader_lose_link(c);
    for (struct ssmc_stream *s = c->streams, *next; s; s = next) {
        next = s->next;
        if (s->is_freed) {
            ssmc_stream_free(s); /* nothing more can come for it */
            continue;
        }
        transmit_forget(s);
        handle_remove(c, s);
        if (s->state == STREAM_LIVE || s->state == STREAM_CLOSED)
            s->state = STREAM_OPENING;
        if (s->state == STREAM_OPENING && !s->reader && !s->is_new)
            resume_enqueue(s);
    }
}

int link_wait(struct ssmc *c, int64_t until_ns)
{
    int64_t now = now_ns();
    int64_t limit = now + 500 * MS_NS; /* the timers of link_step */
    if (c->link == LINK_DOWN && c->link_at_ns < limit)
        limit = c->link_at_ns;
    if (c->held && c->held_ns + HOLD_MS * MS_NS < limit)
        limit = c->held_ns + HOLD_MS * MS_NS;
    if (c->credit && c->credit_ns + CREDIT_SMALL_MS * MS_NS < limit)
        limit = c->credit_ns + CREDIT_SMALL_MS * MS_NS;
    if (until_ns < limit)
        limit = until_ns;
    long wait_ms = limit <= now ? 0 : (long)((limit - now + MS_NS - 1) / MS_NS);
    bool wants_out = c->link == LINK_CONNECTING || (c->link == LINK_UP && c->dirty);
    zmq_pollitem_t items[2] = {
        {.socket = c->socket, .events = (short)(wants_out ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN)},
        {.socket = c->monitor, .events = ZMQ_POLLIN},
    };
    if (zmq_poll(items, c->socket ? 2 : 0, wait_ms) < 0)
        return errno == EINTR ? fail(c, SSMC_INTERRUPTED, "a signal came")
                              : fail(c, SSMC_IO, "%s", zmq_strerror(errno));
    if (c->socket && items[1].revents)
        c->monitor_ns = 0; /* look at once */
    return 0;
}
