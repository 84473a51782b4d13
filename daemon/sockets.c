/* SPDX-License-Identifier: Apache-2.0
 *
 * The figures below bound what a peer can cost: its queues, its silence, the size of its messages.
 */
#include "daemon/sockets.h"
#include "daemon/lock.h"
#include "daemon/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>
#include <zmq.h>

#define TAP_RCVHWM        256   /* subscriptions of one watcher that wait */
#define PUBLISH_RCVHWM    1024  /* messages of one publisher; then libzmq drops at its end, and indices show it */
#define PUBLISH_SNDHWM    1     /* nothing is sent */
#define TAP_SNDHWM        2000  /* then a watcher loses */
#define TAP_MESSAGE_BYTES 4096  /* of a subscription */
#define LINGER_MS         1000  /* at exit, at least */
#define LINGER_MAX_MS     30000 /* a peer that never reads must not keep a daemon with a long drain_ms */
#define HANDSHAKE_MS      5000
#define HEARTBEAT_MS      5000
#define HEARTBEAT_LATE_MS 20000 /* half-open tcp is dropped; a stopped client is not, unless it sleeps for long */
#define BACKLOG           1024
#define FDS_SPARE         64 /* beside one for each connection */

static int option_set(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof(value));
}

static int options_set(void *socket, int64_t message_bytes, int rcvhwm, int sndhwm)
{
    int bad = 0;

    bad |= option_set(socket, ZMQ_RCVHWM, rcvhwm);
    bad |= option_set(socket, ZMQ_SNDHWM, sndhwm);
    bad |= option_set(socket, ZMQ_LINGER, LINGER_MS);
    bad |= option_set(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
    bad |= option_set(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
    bad |= option_set(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_LATE_MS);
    bad |= option_set(socket, ZMQ_HEARTBEAT_TTL, HEARTBEAT_LATE_MS);
    bad |= option_set(socket, ZMQ_BACKLOG, BACKLOG);
    bad |= option_set(socket, ZMQ_IPV6, 1);
    bad |= option_set(socket, ZMQ_TCP_KEEPALIVE, 1);
    bad |= zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &message_bytes, sizeof(message_bytes));
    return bad;
}

static void *router_open(struct loop *loop)
{
    void *socket = zmq_socket(loop->context, ZMQ_ROUTER);

    if (!socket)
        return NULL;
    if (options_set(socket, (int64_t)loop->conf.max_message, (int)loop->conf.connection_messages,
                    (int)loop->conf.connection_messages) != 0 ||
        option_set(socket, ZMQ_ROUTER_MANDATORY, 1) != 0 || option_set(socket, ZMQ_ROUTER_HANDOVER, 0) != 0) {
        zmq_close(socket);
        return NULL;
    }
    return socket;
}

static void *tap_open(struct loop *loop)
{
    void *socket = zmq_socket(loop->context, ZMQ_XPUB);

    if (!socket)
        return NULL;
    if (options_set(socket, TAP_MESSAGE_BYTES, TAP_RCVHWM, TAP_SNDHWM) != 0 ||
        option_set(socket, ZMQ_XPUB_MANUAL, 1) != 0 || option_set(socket, ZMQ_XPUB_NODROP, 0) != 0) {
        zmq_close(socket);
        return NULL;
    }
    return socket;
}

static void *publish_open(struct loop *loop)
{
    void *socket = zmq_socket(loop->context, ZMQ_SUB);

    if (!socket)
        return NULL;
    if (options_set(socket, (int64_t)loop->conf.max_message, PUBLISH_RCVHWM, PUBLISH_SNDHWM) != 0 ||
        zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0) != 0) {
        zmq_close(socket);
        return NULL;
    }
    return socket;
}

/* The directory of the default endpoint may be missing in a fresh login; anything above it is not ours to make. Said,
 * since a misspelt endpoint makes one as well. */
static void directory_make(const char *path)
{
    char directory[CONF_TEXT_SIZE];
    char *slash;

    snprintf(directory, sizeof(directory), "%s", path);
    slash = strrchr(directory, '/');
    if (!slash || slash == directory)
        return;
    *slash = '\0';
    if (mkdir(directory, 0755) == 0)
        log_event(LOG_NOTICE, "directory_made", "path=%s", directory);
}

int sockets_lock(struct loop *loop, const char *endpoint)
{
    const char *path = conf_ipc_path(endpoint);

    if (!path)
        return EX_OK;
    directory_make(path);
    switch (lock_acquire(&loop->locks[loop->locks_n], path)) {
    case LOCK_OK:
        loop->locked[loop->locks_n++] = path;
        return EX_OK;
    case LOCK_HELD:
        log_event(LOG_ERR, "endpoint_taken", "endpoint=%s error=%s", endpoint, "another daemon serves this endpoint");
        return EX_UNAVAILABLE;
    case LOCK_NOT_SOCKET:
        log_event(LOG_ERR, "endpoint_refused", "endpoint=%s error=%s", endpoint,
                  "there is a file at this path that is not a socket: choose another path or move it away");
        return EX_CONFIG;
    default:
        log_event(LOG_ERR, "endpoint_refused", "endpoint=%s error=%s", endpoint, strerror(errno));
        return EX_CANTCREAT;
    }
}

static int endpoint_bind(struct loop *loop, void *socket, const char *endpoint)
{
    int status = sockets_lock(loop, endpoint);
    mode_t old;

    if (status != EX_OK)
        return status;
    old = umask(~(mode_t)loop->conf.socket_mode & 0777);
    status = zmq_bind(socket, endpoint);
    umask(old);
    if (status != 0) {
        log_event(LOG_ERR, "endpoint_refused", "endpoint=%s error=%s", endpoint, zmq_strerror(errno));
        return EX_CANTCREAT;
    }
    log_event(LOG_INFO, "endpoint_bound", "endpoint=%s", endpoint);
    return EX_OK;
}

/* libzmq spins when descriptors run out, so there are more than connections. */
static void descriptors_reserve(const struct loop *loop)
{
    struct rlimit limit;
    rlim_t need = (rlim_t)loop->conf.max_connections + FDS_SPARE;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < need)
        log_event(LOG_WARNING, "descriptors_few", "limit=%llu need=%llu", (unsigned long long)limit.rlim_max,
                  (unsigned long long)need);
}

int sockets_open(struct loop *loop)
{
    const struct conf *conf = &loop->conf;
    bool has_tap = strcmp(conf->tap, "off") != 0, has_publish = conf_has_publish(conf);
    int status = EX_OK;

    descriptors_reserve(loop);
    loop->context = zmq_ctx_new();
    if (loop->context) {
        zmq_ctx_set(loop->context, ZMQ_IO_THREADS, 1);
        zmq_ctx_set(loop->context, ZMQ_BLOCKY, 0);
        loop->router = router_open(loop);
    }
    if (loop->router && has_tap)
        loop->tap.socket = tap_open(loop);
    if (loop->router && has_publish)
        loop->publish.socket = publish_open(loop);
    if (!loop->router || (has_tap && !loop->tap.socket) || (has_publish && !loop->publish.socket)) {
        log_event(LOG_ERR, "sockets_failed", "error=%s", zmq_strerror(errno));
        return EX_OSERR;
    }
    for (uint32_t i = 0; i < conf->endpoint.n && status == EX_OK; i++)
        status = endpoint_bind(loop, loop->router, conf->endpoint.item[i]);
    if (status == EX_OK && has_tap)
        status = endpoint_bind(loop, loop->tap.socket, conf->tap);
    if (status == EX_OK && has_tap && !conf_ipc_path(conf->tap) && !conf_is_loopback(conf->tap))
        log_event(LOG_WARNING, "tap_exposed", "tap=%s consequence=%s", conf->tap,
                  "whoever reaches it sees every stream, and can use up memory by subscribing");
    for (uint32_t i = 0; has_publish && i < conf->publish_endpoint.n && status == EX_OK; i++)
        status = endpoint_bind(loop, loop->publish.socket, conf->publish_endpoint.item[i]);
    return status;
}

/* How long what was sent may take to leave: as long as drain_ms would have let it, within bounds. */
static int linger_find(const struct loop *loop)
{
    uint64_t spent_ms = (clock_now_ns() - loop->drain_ns) / CLOCK_MS;
    uint64_t left_ms = loop->drain_ns && spent_ms < loop->conf.drain_ms ? loop->conf.drain_ms - spent_ms : 0;

    if (left_ms < LINGER_MS || loop->is_hurried)
        return LINGER_MS;
    return left_ms < LINGER_MAX_MS ? (int)left_ms : LINGER_MAX_MS;
}

static void signal_take(int number)
{
    (void)number; /* that it interrupts is enough */
}

/* Waits until everything left, or a second SIGTERM comes: then what is left goes with the process. */
static void context_end(void *context)
{
    struct sigaction action = {.sa_handler = signal_take};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    if (zmq_ctx_term(context) != 0)
        log_event(LOG_WARNING, "stopping_fast", "error=%s", zmq_strerror(errno));
}

void sockets_close(struct loop *loop)
{
    if (loop->router) {
        option_set(loop->router, ZMQ_LINGER, linger_find(loop));
        zmq_close(loop->router);
    }
    if (loop->tap.socket) {
        option_set(loop->tap.socket, ZMQ_LINGER, 0);
        zmq_close(loop->tap.socket);
    }
    if (loop->publish.socket)
        zmq_close(loop->publish.socket);
    if (loop->context)
        context_end(loop->context);
    loop->router = loop->tap.socket = loop->publish.socket = loop->context = NULL;
    while (loop->locks_n > 0) {
        loop->locks_n--;
        (void)!unlink(loop->locked[loop->locks_n]); /* libzmq leaves it; under the lock it is ours */
        lock_release(loop->locks[loop->locks_n]);
    }
}
