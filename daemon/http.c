/* SPDX-License-Identifier: Apache-2.0
 * Requests, and asking the loop; see http.h. */
#include "daemon/http.h"

#include "daemon/clock.h"
#include "daemon/exposition.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/sockets.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#define TEXT_PLAIN   "text/plain; charset=utf-8"
#define TEXT_METRICS "text/plain; version=0.0.4; charset=utf-8"

/* ---- asking the loop, on the thread ------------------------------------------------------------------------------ */

static bool is_ticking(const struct http *http)
{
    int phase = atomic_load(&http->phase);

    return phase == HTTP_SERVING || phase == HTTP_DRAINING;
}

/* Waits for the loop's answer until HTTP_ANSWER_MS after it was asked; who comes later, while it is still stuck, does
 * not wait again. */
static bool answer_wait(struct http *http)
{
    while (atomic_load_explicit(&http->is_asked, memory_order_acquire)) {
        uint64_t waited_ms = (clock_now_ns() - http->asked_ns) / CLOCK_MS;
        struct pollfd wait = {.fd = http->done_fd, .events = POLLIN, .revents = 0};
        eventfd_t value;

        if (!is_ticking(http) || waited_ms >= HTTP_ANSWER_MS)
            return false;
        if (poll(&wait, 1, (int)(HTTP_ANSWER_MS - waited_ms)) > 0)
            (void)!eventfd_read(http->done_fd, &value);
    }
    return true;
}

/* Whether the snapshot is fresh now. */
static bool loop_ask(struct http *http)
{
    bool is_asked = atomic_load_explicit(&http->is_asked, memory_order_acquire);

    if (!is_asked && http->taken_ns > 0 && clock_now_ns() - http->taken_ns < HTTP_FRESH_MS * CLOCK_MS)
        return true;
    if (!is_asked) {
        http->asked_ns = clock_now_ns();
        atomic_store_explicit(&http->is_asked, 1, memory_order_release);
        (void)!eventfd_write(http->wake_fd, 1);
    }
    if (!answer_wait(http))
        return false;
    http->taken_ns = clock_now_ns();
    return true;
}

void http_answer(struct loop *loop)
{
    struct http *http = &loop->http;
    eventfd_t value;

    (void)!eventfd_read(http->wake_fd, &value);
    if (!atomic_load_explicit(&http->is_asked, memory_order_acquire))
        return;
    metrics_take(loop, &http->snapshot);
    atomic_store_explicit(&http->is_asked, 0, memory_order_release);
    (void)!eventfd_write(http->done_fd, 1);
}

void http_phase_set(struct http *http, enum http_phase phase)
{
    atomic_store(&http->phase, phase);
    if (http->daemon)
        (void)!eventfd_write(http->done_fd, 1);
}

/* ---- requests, on the thread ------------------------------------------------------------------------------------- */

static enum MHD_Result answer_send(struct MHD_Connection *connection, unsigned status, const char *type, char *text,
                                   size_t size, enum MHD_ResponseMemoryMode memory)
{
    struct MHD_Response *response = MHD_create_response_from_buffer(size, text, memory);
    enum MHD_Result sent;

    if (!response) {
        if (memory == MHD_RESPMEM_MUST_FREE)
            free(text);
        return MHD_NO;
    }
    (void)MHD_add_response_header(response, "Content-Type", type);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    (void)MHD_add_response_header(response, "Connection", "close");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        (void)MHD_add_response_header(response, "Allow", "GET, HEAD");
    sent = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return sent;
}

static enum MHD_Result text_send(struct MHD_Connection *connection, unsigned status, const char *text)
{
    return answer_send(connection, status, TEXT_PLAIN, (char *)text, strlen(text), MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result stuck_send(struct MHD_Connection *connection)
{
    return text_send(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon's loop does not answer\n");
}

static enum MHD_Result metrics_send(struct http *http, struct MHD_Connection *connection)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out;

    if (!is_ticking(http))
        return text_send(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon starts or stops\n");
    if (!loop_ask(http))
        return stuck_send(connection);
    out = open_memstream(&text, &size);
    if (!out)
        return MHD_NO;
    exposition_write(&http->snapshot, out);
    exposition_write_process(out);
    if (fclose(out) != 0) {
        free(text);
        return MHD_NO;
    }
    return answer_send(connection, MHD_HTTP_OK, TEXT_METRICS, text, size, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result live_send(struct http *http, struct MHD_Connection *connection)
{
    if (is_ticking(http) && !loop_ask(http) && is_ticking(http))
        return stuck_send(connection);
    return text_send(connection, MHD_HTTP_OK, "ok\n");
}

static enum MHD_Result ready_send(struct http *http, struct MHD_Connection *connection)
{
    int phase = atomic_load(&http->phase);

    if (phase == HTTP_STARTING)
        return text_send(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon is starting\n");
    if (phase != HTTP_SERVING)
        return text_send(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon is stopping\n");
    return loop_ask(http) ? text_send(connection, MHD_HTTP_OK, "ok\n") : stuck_send(connection);
}

/* Answered as soon as the head of the request is there: nobody's body is waited for. */
static enum MHD_Result request_take(void *context, struct MHD_Connection *connection, const char *url,
                                    const char *method, const char *version, const char *upload, size_t *upload_size,
                                    void **of_request)
{
    struct http *http = context;

    (void)version;
    (void)upload;
    (void)upload_size;
    (void)of_request;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return text_send(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "GET and HEAD only\n");
    if (strcmp(url, "/metrics") == 0)
        return metrics_send(http, connection);
    if (strcmp(url, "/livez") == 0)
        return live_send(http, connection);
    if (strcmp(url, "/readyz") == 0)
        return ready_send(http, connection);
    return text_send(connection, MHD_HTTP_NOT_FOUND, "there are /metrics, /livez and /readyz\n");
}

/* ---- listening --------------------------------------------------------------------------------------------------- */

static int unix_listen(const struct loop *loop, const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t old = umask(~(mode_t)loop->conf.socket_mode & 0777);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", path); /* it fits: the configuration was checked */
    (void)!unlink(path);                                    /* one that was left; under the lock it is ours */
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0) {
        int error = errno;

        close(fd);
        errno = error;
        fd = -1;
    }
    umask(old);
    return fd;
}

/* Of tcp://ADDRESS:PORT. */
static int tcp_listen(const char *endpoint)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    const char *host = endpoint + strlen("tcp://"), *port = strrchr(host, ':');
    struct addrinfo *at;
    char text[CONF_TEXT_SIZE];
    int fd, one = 1;

    if (host[0] == '[')
        snprintf(text, sizeof(text), "%.*s", (int)(strcspn(host, "]") - 1), host + 1);
    else
        snprintf(text, sizeof(text), "%.*s", (int)(port - host), host);
    if (getaddrinfo(text, port + 1, &hints, &at) != 0) {
        errno = EADDRNOTAVAIL;
        return -1;
    }
    fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        (void)!setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        if (bind(fd, at->ai_addr, at->ai_addrlen) != 0) {
            int error = errno;

            close(fd);
            errno = error;
            fd = -1;
        }
    }
    freeaddrinfo(at);
    return fd;
}

static int http_start(struct http *http, int fd)
{
    http->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    http->done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (http->wake_fd >= 0 && http->done_fd >= 0 && listen(fd, HTTP_BACKLOG) == 0)
        http->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, 0, NULL, NULL, request_take,
                                        http, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                        HTTP_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, HTTP_TIMEOUT_S,
                                        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_REQUEST_BYTES, MHD_OPTION_END);
    return http->daemon ? 0 : -1;
}

int http_open(struct loop *loop)
{
    const char *endpoint = loop->conf.metrics, *path = conf_ipc_path(endpoint);
    int status, fd;

    if (strcmp(endpoint, "off") == 0)
        return EX_OK;
    status = sockets_lock(loop, endpoint);
    if (status != EX_OK)
        return status;
    fd = path ? unix_listen(loop, path) : tcp_listen(endpoint);
    if (fd < 0 || http_start(&loop->http, fd) != 0) {
        log_event(LOG_ERR, "endpoint_refused", "endpoint=%s error=%s", endpoint, strerror(errno));
        if (fd >= 0)
            close(fd);
        return EX_CANTCREAT;
    }
    log_event(LOG_INFO, "endpoint_bound", "endpoint=%s", endpoint);
    return EX_OK;
}

void http_close(struct http *http)
{
    http_phase_set(http, HTTP_STOPPING);
    if (http->daemon)
        MHD_stop_daemon(http->daemon); /* and the socket */
    http->daemon = NULL;
    if (http->wake_fd >= 0)
        close(http->wake_fd);
    if (http->done_fd >= 0)
        close(http->done_fd);
    http->wake_fd = http->done_fd = -1;
}
