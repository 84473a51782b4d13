/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP for those who watch the daemon: /metrics (Prometheus), /livez and /readyz, GET and HEAD only.
 *
 *     /livez     200 while the loop answers, or the daemon starts or stops; 503 when it did not within HTTP_ANSWER_MS
 *     /readyz    200 while it serves: neither starting, draining nor stuck
 *     /metrics   what the loop counted when it was asked, or at most HTTP_FRESH_MS before
 *
 * The loop never waits for anybody here. A thread of libmicrohttpd has the connections; it asks the loop through an
 * eventfd, the loop copies its numbers (some microseconds, at most once in HTTP_FRESH_MS, however many ask), and the
 * thread makes text of the copy. The snapshot belongs to the thread but between asking and being answered.
 *
 * Bounds: HTTP_CONNECTIONS at a time, others wait in the socket's backlog; HTTP_TIMEOUT_S of silence;
 * HTTP_REQUEST_BYTES of a request; one request to a connection. There is no authentication: loopback or a unix socket.
 *
 * Threads: open, phase_set, answer and close on the loop thread.
 */
#ifndef DAEMON_HTTP_H
#define DAEMON_HTTP_H

#include <stdatomic.h>

#include "daemon/metrics.h"

#define HTTP_CONNECTIONS   16
#define HTTP_TIMEOUT_S     10
#define HTTP_REQUEST_BYTES 16384
#define HTTP_BACKLOG       128
#define HTTP_ANSWER_MS     2000
#define HTTP_FRESH_MS      100

struct loop;
struct MHD_Daemon;

enum http_phase { HTTP_STARTING, HTTP_SERVING, HTTP_DRAINING, HTTP_STOPPING };

struct http {
    struct MHD_Daemon *daemon; /* NULL: off */
    int wake_fd;               /* readable: the loop is asked */
    int done_fd;               /* readable: it has answered, or the phase has changed */
    atomic_int phase;
    atomic_int is_asked;
    uint64_t asked_ns, taken_ns; /* the thread's; taken_ns 0: the snapshot is nothing yet */
    struct metrics_snapshot snapshot;
};

/* Listens where the configuration says, or nowhere. EX_OK, or another code of sysexits.h after saying why. */
int http_open(struct loop *loop);
void http_phase_set(struct http *http, enum http_phase phase);
/* Somebody asks. */
void http_answer(struct loop *loop);
void http_close(struct http *http);

#endif
