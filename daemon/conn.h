/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections: a peer of a ROUTER that said hello, known by its port and routing id, with its handles, what it waits
 * for, and the messages that its queue had no room for.
 *
 * Results, acknowledgements and gaps are facts of streams and are sent from there when there is room; only replies,
 * events and refusals are messages that must be kept, in an outbox. A connection whose outbox is full is forgotten: it
 * reads too slowly to be served. ZeroMQ does not say when a peer goes away: it is forgotten when it is silent, or
 * cannot be sent to.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_CONN_H
#define DAEMON_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <zmq.h>

#include "daemon/port.h"
#include "daemon/stream.h"

#define CONN_OUTBOX_MESSAGES 1024
#define CONN_OUTBOX_BYTES    (4u << 20)
#define CONN_HANDLES_MAX     (1u << 21) /* beyond max_streams: dead ones stay */
#define CONN_PREFIXES_MAX    16
#define CONN_REFUSALS_MAX    256 /* of one tick */

/* What hello may grant beyond version 1, as bits; the names are in control_query.c. */

enum handle_state { HANDLE_FREE, HANDLE_WRITES, HANDLE_READS, HANDLE_DEAD };

struct handle {
    enum handle_state state;
    uint32_t channels; /* of the input; kept when dead, so that a message can still be split */
    uint32_t next_free;
    struct stream *stream;
    struct outlet *outlet; /* NULL when no results are wanted */
};

/* A message that waits for room. */
struct parcel {
    STAILQ_ENTRY(parcel) link;
    zmq_msg_t message;
};

struct refusal {
    uint32_t handle;
    Ssmd__Code code;
    const char *text;
    uint64_t epoch, expected, first, index;
    bool has_index;
};

/* Every stream whose id begins with it is read, now and later. */
struct prefix {
    uint8_t size;
    uint8_t bytes[PROTO_ID_MAX];
    bool has_from;
    bool is_short; /* it was told that a stream did not fit, and none did since */
    uint64_t from, limit;
};

struct conn {
    struct conn *next; /* of its bucket */
    uint8_t writer[PROTO_WRITER_BYTES];
    uint64_t heard_ns;
    uint32_t features;     /* granted: FEATURE_* */
    uint64_t queued_bytes; /* input of its streams that is not applied */
    struct handle *handles;
    uint32_t handles_n, handles_capacity, handles_free; /* first free, or UINT32_MAX */
    TAILQ_HEAD(, outlet) ready;                         /* have results and credit */
    TAILQ_HEAD(, stream) acks;
    struct refusal *refusals; /* CONN_REFUSALS_MAX, NULL until the first */
    uint32_t refusals_n;
    uint32_t writes, reads; /* streams: its handles of either kind */
    struct prefix *prefixes;
    uint32_t prefixes_n;
    STAILQ_HEAD(, parcel) outbox;
    uint32_t outbox_n;
    size_t outbox_bytes;
    bool is_dirty;     /* on the list of those with something to send */
    bool is_blocked;   /* its queue was full */
    uint64_t retry_ns; /* then: not before */
    bool is_gone;      /* to be forgotten at the end of the tick */
    TAILQ_ENTRY(conn) of_dirty;
    TAILQ_ENTRY(conn) of_all;
    char name[64]; /* for the log */
    struct port *port;
    struct pipe *pipe; /* NULL when its port has no thread */
    uint8_t id_size;
    uint8_t id[];
};

struct conns {
    struct conn **buckets;
    uint32_t buckets_n; /* power of two */
    uint32_t n;
    uint64_t seed;     /* of the hash */
    struct conn *last; /* found last: messages come in runs */
    TAILQ_HEAD(conn_list, conn) all;
    struct conn_list dirty;
};

int conns_init(struct conns *conns);
void conns_fini(struct conns *conns); /* every connection was removed */
struct conn *conns_find(struct conns *conns, const struct peer *peer);
struct conn *conns_insert(struct conns *conns, const struct peer *peer); /* NULL: out of memory */
/* Frees it; handles, acks and outlets were detached. */
void conns_remove(struct conns *conns, struct conn *conn);

/* A new handle. False when the connection used too many, or there is no memory. */
bool conn_handle_acquire(struct conn *conn, uint32_t *out);
/* The handle ends: with `reuse`, its client knows and will not name it again. */
void conn_handle_release(struct conn *conn, uint32_t handle, bool reuse);
/* NULL for a number that was never given, or is free. */
struct handle *conn_handle_find(struct conn *conn, uint32_t handle);

/* Something is to be sent to it at the end of the tick. */
void conn_touch(struct conns *conns, struct conn *conn);

#endif
