/* SPDX-License-Identifier: Apache-2.0
 *
 * The figures below bound what a peer can cost: its queues, its silence, the size of its messages.
 */
#include "daemon/sockets.h"
#include "daemon/door.h"
#include "daemon/lock.h"
#include "daemon/log.h"

#include <errno.h>
#include <fcntl.h>
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
#define FDS_SPARE         32 /* never given to peers */
#define FDS_LATER         32 /* opened when the sockets are there: by threads, models, the state directory */
#define FDS_PORT          3  /* of each port: two rings, and a part of the tap's listener */
#define FDS_STRANGERS     256 /* peers that did not say hello, publishers, and those who watch the tap, at most a quarter */
#define REFUSED_SAID_MS   10000 /* between two words on connections that are refused */

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

/* ---- listening --------------------------------------------------------------------------------------------------- */

/* Of the event that says where the socket listens: a number of 16 bits, then the descriptor, in 32. */
static int listener_take(void *events)
{
    unsigned char event[6];
    int fd = -1;

    if (zmq_recv(events, event, sizeof(event), ZMQ_DONTWAIT) == (int)sizeof(event))
        memcpy(&fd, event + 2, sizeof(fd));
    return fd;
}

/* zmq_bind, and which descriptor listens (what libzmq knows of names, interfaces and families need not be known here).
 * 0, or -1 and zmq_errno. */
static int bind_first(struct loop *loop, void *socket, const char *endpoint, int *fd)
{
    void *events = zmq_socket(loop->context, ZMQ_PAIR);
    char name[64];
    int status, error;

    if (!events)
        return -1;
    snprintf(name, sizeof(name), "inproc://listening-%u", loop->listeners++);
    status = zmq_socket_monitor(socket, name, ZMQ_EVENT_LISTENING);
    if (status == 0)
        status = zmq_connect(events, name);
    if (status == 0)
        status = zmq_bind(socket, endpoint);
    error = zmq_errno();
    if (status == 0)
        *fd = listener_take(events);
    (void)!zmq_socket_monitor(socket, NULL, 0);
    zmq_close(events);
    errno = error;
    return status;
}

/* Another ROUTER accepts from the same queue. */
static int bind_next(struct port *port, const char *endpoint, int first)
{
    int fd = fcntl(first, F_DUPFD_CLOEXEC, 0), status;

    if (fd < 0 || !door_add(fd, port->index) || option_set(port->router, ZMQ_USE_FD, fd) != 0)
        return -1;
    status = zmq_bind(port->router, endpoint);
    (void)!option_set(port->router, ZMQ_USE_FD, -1);
    return status;
}

/* One socket alone (the tap's, or that of publishers), or the ROUTERs of all ports. */
static int listeners_bind(struct loop *loop, void *alone, const char *endpoint)
{
    int fd = -1, status = bind_first(loop, alone ? alone : loop->ports.port[0].router, endpoint, &fd);

    if (status != 0)
        return -1;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || !door_add(fd, alone ? DOOR_NO_PORT : 0))
        return -1;
    for (uint32_t i = 1; !alone && i < loop->ports.n && status == 0; i++)
        status = bind_next(&loop->ports.port[i], endpoint, fd);
    return status;
}

static int endpoint_bind(struct loop *loop, void *alone, const char *endpoint)
{
    int status = sockets_lock(loop, endpoint);
    mode_t old;

    if (status != EX_OK)
        return status;
    old = umask(~(mode_t)loop->conf.socket_mode & 0777);
    status = listeners_bind(loop, alone, endpoint);
    umask(old);
    if (status != 0) {
        log_event(LOG_ERR, "endpoint_refused", "endpoint=%s error=%s", endpoint, zmq_strerror(errno));
        return EX_CANTCREAT;
    }
    log_event(LOG_INFO, "endpoint_bound", "endpoint=%s", endpoint);
    return EX_OK;
}

/* ---- descriptors ------------------------------------------------------------------------------------------------- */

/* Of what is there before anybody can connect, and what is opened later without asking. */
static void descriptors_count(struct loop *loop)
{
    int64_t now = door_descriptors();
    struct rlimit limit;

    if (now < 0)
        log_event(LOG_WARNING, "descriptors_unknown", "what=%s",
                  "/proc/self/fd cannot be read: connections are not refused before descriptors run out");
    loop->descriptors_own = (now < 0 ? 0 : (uint64_t)now) + FDS_LATER + CONF_LIST_MAX /* those of publishers */ +
                            (uint64_t)loop->ports.n * (loop->conf.endpoint.n + FDS_PORT);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)!setrlimit(RLIMIT_NOFILE, &limit);
}

int sockets_limit(struct loop *loop)
{
    uint64_t wanted = loop->conf.max_connections, own = loop->descriptors_own, room, strangers;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        limit.rlim_cur = RLIM_INFINITY;
    room = limit.rlim_cur > own + FDS_SPARE ? limit.rlim_cur - own - FDS_SPARE : 0;
    strangers = room / 4 < FDS_STRANGERS ? room / 4 : FDS_STRANGERS;
    loop->connections_max = (uint32_t)(wanted < room - strangers ? wanted : room - strangers);
    door_set_limit(own + loop->connections_max + strangers);
    if (loop->connections_max == wanted)
        return 0;
    log_event(loop->connections_max > 0 ? LOG_WARNING : LOG_ERR, "descriptors_few",
              "limit=%llu max_connections=%u connections=%u what=%s", (unsigned long long)limit.rlim_cur,
              loop->conf.max_connections, loop->connections_max,
              "RLIMIT_NOFILE (LimitNOFILE= of the unit) leaves room for fewer connections");
    return loop->connections_max > 0 ? 0 : -1;
}

void sockets_watch(struct loop *loop)
{
    uint64_t refused = door_refused();

    for (uint32_t i = 0; loop->ports.n > 1 && i < loop->ports.n; i++)
        door_set_load(i, loop->ports.port[i].connections);
    if (refused == loop->counters.sockets_refused)
        return;
    if (loop->now_ns - loop->refused_ns > REFUSED_SAID_MS * CLOCK_MS)
        log_event(LOG_WARNING, "sockets_refused", "connections=%u what=%s", loop->conns.n,
                  "as many descriptors as max_connections and RLIMIT_NOFILE allow are in use; who comes is sent away");
    loop->refused_ns = loop->now_ns;
    loop->counters.sockets_refused = refused;
}

/* ---- open and close ---------------------------------------------------------------------------------------------- */

static bool sockets_create(struct loop *loop)
{
    uint32_t n = loop->conf.io_threads;

    loop->context = zmq_ctx_new();
    if (!loop->context)
        return false;
    zmq_ctx_set(loop->context, ZMQ_IO_THREADS, (int)n);
    zmq_ctx_set(loop->context, ZMQ_BLOCKY, 0);
    for (; loop->ports.n < n; loop->ports.n++) {
        struct port *port = &loop->ports.port[loop->ports.n];
        uint64_t threads = UINT64_C(1) << loop->ports.n;

        port->index = loop->ports.n;
        port->router = router_open(loop);
        if (!port->router || zmq_setsockopt(port->router, ZMQ_AFFINITY, &threads, sizeof(threads)) != 0)
            return false;
    }
    if (strcmp(loop->conf.tap, "off") != 0 && !(loop->tap.socket = tap_open(loop)))
        return false;
    return !conf_has_publish(&loop->conf) || (loop->publish.socket = publish_open(loop)) != NULL;
}

int sockets_open(struct loop *loop)
{
    const struct conf *conf = &loop->conf;
    int status = EX_OK;

    if (!sockets_create(loop)) {
        log_event(LOG_ERR, "sockets_failed", "error=%s", zmq_strerror(errno));
        return EX_OSERR;
    }
    descriptors_count(loop);
    if (sockets_limit(loop) != 0)
        return EX_CONFIG;
    for (uint32_t i = 0; i < conf->endpoint.n && status == EX_OK; i++)
        status = endpoint_bind(loop, NULL, conf->endpoint.item[i]);
    if (status == EX_OK && loop->tap.socket)
        status = endpoint_bind(loop, loop->tap.socket, conf->tap);
    if (status == EX_OK && loop->tap.socket && !conf_ipc_path(conf->tap) && !conf_is_loopback(conf->tap))
        log_event(LOG_WARNING, "tap_exposed", "tap=%s consequence=%s", conf->tap,
                  "whoever reaches it sees every stream, and can use up memory by subscribing");
    for (uint32_t i = 0; loop->publish.socket && i < conf->publish_endpoint.n && status == EX_OK; i++)
        status = endpoint_bind(loop, loop->publish.socket, conf->publish_endpoint.item[i]);
    if (status == EX_OK && ports_start(&loop->ports) != 0) {
        log_event(LOG_ERR, "sockets_failed", "error=%s", strerror(errno));
        status = EX_OSERR;
    }
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
    ports_stop(&loop->ports);
    for (uint32_t i = 0; i < PORTS_MAX; i++) {
        void *router = loop->ports.port[i].router;

        loop->ports.port[i].router = NULL;
        if (!router)
            continue;
        option_set(router, ZMQ_LINGER, linger_find(loop));
        zmq_close(router);
    }
    if (loop->tap.socket) {
        option_set(loop->tap.socket, ZMQ_LINGER, 0);
        zmq_close(loop->tap.socket);
    }
    if (loop->publish.socket) {
        option_set(loop->publish.socket, ZMQ_LINGER, 0);
        zmq_close(loop->publish.socket);
    }
    if (loop->context)
        context_end(loop->context);
    loop->tap.socket = loop->publish.socket = loop->context = NULL;
    door_clear();
    while (loop->locks_n > 0) {
        loop->locks_n--;
        (void)!unlink(loop->locked[loop->locks_n]); /* libzmq leaves it; under the lock it is ours */
        lock_release(loop->locks[loop->locks_n]);
    }
}
