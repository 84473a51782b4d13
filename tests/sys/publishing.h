/* SPDX-License-Identifier: Apache-2.0
 *
 * A publisher and a watcher of the tap, by hand, for tests of published streams. The publisher knows that the daemon
 * has its subscription before it sends; so nothing is lost but what a test leaves out.
 *
 * Everything fails the running test when it cannot do what it says.
 */
#ifndef TESTS_SYS_PUBLISHING_H
#define TESTS_SYS_PUBLISHING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sys/daemon.h"
#include "tests/sys/wire.h"

#define PUBLISHING_ENDPOINT "publish_endpoint = ipc://@/publish.sock\n"

struct publishing {
    void *context, *socket;
    Ssmd__PublishHeader header; /* of what is sent next, but for source, first, frames */
    uint8_t run[PROTO_SOURCE_BYTES];
    uint32_t channels;
};

/* A run of a publisher of float32 frames; `run` is its name. */
struct publishing *publishing_new(const struct sys_daemon *daemon, const char *run, uint32_t channels);
void publishing_free(struct publishing *p);
void publishing_send(struct publishing *p, const char *id, uint64_t first, const float *samples, uint32_t frames);
/* Any parts at all. */
void publishing_send_parts(struct publishing *p, size_t n, const void *const *parts, const size_t *sizes);

enum { WATCHING_EVENTS = 1024 };

/* Events of the tap. */
struct watching_event {
    int kind;
    char id[PROTO_ID_MAX + 1];
    uint64_t first, next;
    char text[300];
};

struct watching {
    void *context, *socket;
    struct wire *wire; /* kept alive and asked meanwhile */
    struct proto_arena arena;
    struct watching_event events[WATCHING_EVENTS];
    size_t n, data;
};

/* Sees everything from here on. */
struct watching *watching_new(const struct sys_daemon *daemon, struct wire *wire);
void watching_free(struct watching *t);
/* Waits for the n-th event of that kind (from 0). */
const struct watching_event *watching_wait(struct watching *t, int kind, size_t n);
size_t watching_count(struct watching *t, int kind);

/* Waits until the counter has the value at least. */
void publishing_counter_wait(struct wire *w, const char *name, uint64_t value);

#endif
