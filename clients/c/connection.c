/* SPDX-License-Identifier: Apache-2.0
 *
 * The connection: connect, poll, free. ssmc_poll is the only place where anything moves; what it calls never waits.
 */
#include "clients/c/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#define SYSTEM_SOCKET "/run/ssmd/ssmd.sock"

const char *ssmc_status_text(int status)
{
    switch (status) {
#define X(name, value, text)                                                                                           \
    case value:                                                                                                        \
        return text;
        SSMC_STATUSES(X)
#undef X
    default:
        return "an unknown status";
    }
}

const char *ssmc_default_endpoint(void)
{
    static _Thread_local char endpoint[sizeof "ipc://" + 512];
    struct stat st;
    const char *named = getenv("SSMD_ENDPOINT");
    if (named && *named)
        return named;
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (runtime && *runtime) {
        int n = snprintf(endpoint, sizeof endpoint, "ipc://%s/ssmd/ssmd.sock", runtime);
        if (n > 0 && (size_t)n < sizeof endpoint && stat(endpoint + strlen("ipc://"), &st) == 0)
            return endpoint;
    }
    return "ipc://" SYSTEM_SOCKET;
}

int fail(struct ssmc *c, int status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->error, sizeof c->error, format, args);
    va_end(args);
    return status;
}

int fail_refused(struct ssmc *c, const Ssmd__Error *error)
{
    c->error_code = (int)error->code;
    return fail(c, SSMC_REFUSED, "%s", error->text);
}

const char *ssmc_error_text(const struct ssmc *c)
{
    return c->error;
}

int ssmc_error_code(const struct ssmc *c)
{
    return c->error_code;
}

void ssmc_daemon_info(const struct ssmc *c, struct ssmc_daemon_info *out)
{
    *out = c->daemon;
}

int ssmc_fd(struct ssmc *c)
{
    return c->epoll_fd;
}

int ssmc_poll(struct ssmc *c, int timeout_ms)
{
    int64_t until = timeout_ms == 0 ? 0 : deadline_ns(timeout_ms);
    for (;;) {
        link_step(c);
        int status = c->broken;
        c->broken = 0;
        if (status < 0)
            return status;
        if (c->link == LINK_UP) {
            resume_step(c);
            reader_step(c);
            stream_retry_held(c);
            transmit_data(c);
        }
        int n = c->socket ? dispatch_receive(c) : 0;
        transmit_credit(c, false);
        if (n != 0) {
            transmit_data(c);
            return n < 0 ? n : 1;
        }
        if (timeout_ms == 0 || now_ns() >= until)
            return 0;
        int rc = link_wait(c, until);
        if (rc < 0)
            return rc;
    }
}

static struct ssmc *new_connection(const struct ssmc_options *options)
{
    struct ssmc *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    proto_arena_init(&c->arena);
    c->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    c->endpoint = strdup(options->endpoint ? options->endpoint : ssmc_default_endpoint());
    c->name = strdup(options->name ? options->name : "libssmclient " SSMD_VERSION);
    c->zmq = zmq_ctx_new();
    c->backoff_ms = BACKOFF_MIN_MS;
    if (c->epoll_fd < 0 || !c->endpoint || !c->name || !c->zmq || transmit_new(c) != 0)
        goto out;
    if (options->writer)
        memcpy(c->writer, options->writer, sizeof c->writer);
    else if (getrandom(c->writer, sizeof c->writer, 0) != sizeof c->writer)
        goto out;
    return c;
out:
    ssmc_free(c);
    return NULL;
}

/* Why nobody answered, as far as it can be seen from here. */
static int explain_silence(struct ssmc *c)
{
    const char *path = strncmp(c->endpoint, "ipc://", 6) == 0 ? c->endpoint + 6 : NULL;
    if (c->link == LINK_HELLO)
        return fail(c, SSMC_TIMEOUT, "%s accepts connections but does not answer", c->endpoint);
    if (path && access(path, F_OK) != 0)
        return fail(c, SSMC_TIMEOUT, "no daemon at %s: there is no such socket; is ssmd running?", c->endpoint);
    if (path && access(path, W_OK) != 0)
        return fail(c, SSMC_TIMEOUT, "the socket %s may not be used by this user: %s", path, strerror(errno));
    return fail(c, SSMC_TIMEOUT, "no daemon answers at %s; is ssmd running?", c->endpoint);
}

int ssmc_connect(struct ssmc **out, const struct ssmc_options *options, char *err, size_t err_size)
{
    static const struct ssmc_options defaults;
    if (!options)
        options = &defaults;
    *out = NULL;
    struct ssmc *c = new_connection(options);
    if (!c) {
        if (err && err_size > 0)
            snprintf(err, err_size, "out of memory or descriptors");
        return SSMC_NOMEM;
    }
    int64_t until = deadline_ns(options->timeout_ms == 0 ? 5000 : options->timeout_ms);
    int rc = 0;
    while (rc >= 0 && c->link != LINK_UP) {
        if (now_ns() >= until) {
            rc = explain_silence(c);
            break;
        }
        rc = ssmc_poll(c, 50);
    }
    if (rc < 0) {
        if (err && err_size > 0)
            snprintf(err, err_size, "%s", c->error);
        ssmc_free(c);
        return rc;
    }
    *out = c;
    return SSMC_OK;
}

/* Without this the daemon would wait for the silence to be long enough. */
static void say_bye(struct ssmc *c)
{
    const int linger = 100;
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Bye bye = SSMD__BYE__INIT;
    if (c->link != LINK_UP)
        return;
    for (struct ssmc_stream *s = c->streams; s; s = s->next)
        stream_receive(s);
    transmit_credit(c, true);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_BYE;
    message.bye = &bye;
    zmq_setsockopt(c->socket, ZMQ_LINGER, &linger, sizeof linger);
    if (link_send(c, &message) != 0)
        return; /* it will notice */
}

void ssmc_free(struct ssmc *c)
{
    if (!c)
        return;
    say_bye(c);
    while (c->streams)
        ssmc_stream_free(c->streams);
    reader_free_all(c);
    request_forget(c, &c->ping);
    link_close(c);
    if (c->zmq)
        zmq_ctx_term(c->zmq);
    if (c->epoll_fd >= 0)
        close(c->epoll_fd);
    transmit_free(c);
    proto_arena_fini(&c->arena);
    free(c->buckets);
    free(c->endpoint);
    free(c->name);
    free(c);
}
