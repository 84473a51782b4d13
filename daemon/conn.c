/* SPDX-License-Identifier: Apache-2.0
 *
 * A hash of ports and routing ids with chains. The ids are ours (5 random bytes of libzmq) or the client's own, up to
 * 255 bytes; the hash is seeded so that nobody can aim at one bucket.
 */
#include "daemon/conn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS_MIN   256
#define HANDLES_REUSE 4096

static struct peer peer_of(const struct conn *conn)
{
    return (struct peer){conn->port, conn->id, conn->id_size};
}

static bool is_peer(const struct conn *conn, const struct peer *peer)
{
    return conn->port == peer->port && conn->id_size == peer->size && memcmp(conn->id, peer->id, peer->size) == 0;
}

static uint32_t bucket_find(const struct conns *conns, const struct peer *peer)
{
    uint64_t hash = (conns->seed + peer->port->index) ^ UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < peer->size; i++)
        hash = (hash ^ peer->id[i]) * UINT64_C(0x100000001b3);
    hash ^= hash >> 32;
    return (uint32_t)(hash * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (conns->buckets_n - 1);
}

int conns_init(struct conns *conns)
{
    memset(conns, 0, sizeof(*conns));
    TAILQ_INIT(&conns->all);
    TAILQ_INIT(&conns->dirty);
    if (getrandom(&conns->seed, sizeof(conns->seed), 0) != sizeof(conns->seed))
        return -1;
    conns->buckets = calloc(BUCKETS_MIN, sizeof(*conns->buckets));
    conns->buckets_n = BUCKETS_MIN;
    return conns->buckets ? 0 : -1;
}

void conns_fini(struct conns *conns)
{
    free(conns->buckets);
    memset(conns, 0, sizeof(*conns));
}

struct conn *conns_find(struct conns *conns, const struct peer *peer)
{
    struct conn *conn = conns->last;

    if (conn && is_peer(conn, peer))
        return conn;
    conn = conns->buckets[bucket_find(conns, peer)];
    while (conn && !is_peer(conn, peer))
        conn = conn->next;
    if (conn)
        conns->last = conn;
    return conn;
}

/* Twice the buckets when there are more connections than buckets; without memory chains grow longer instead. */
static void buckets_grow(struct conns *conns)
{
    struct conn **old = conns->buckets, **buckets;
    struct conn *conn;

    if (conns->n < conns->buckets_n)
        return;
    buckets = calloc(conns->buckets_n * 2u, sizeof(*buckets));
    if (!buckets)
        return;
    conns->buckets = buckets;
    conns->buckets_n *= 2;
    TAILQ_FOREACH(conn, &conns->all, of_all) {
        struct peer peer = peer_of(conn);
        uint32_t at = bucket_find(conns, &peer);

        conn->next = buckets[at];
        buckets[at] = conn;
    }
    free(old);
}

struct conn *conns_insert(struct conns *conns, const struct peer *peer)
{
    struct conn *conn = calloc(1, sizeof(*conn) + peer->size);
    uint32_t at;

    if (!conn)
        return NULL;
    if (pipe_open(peer->port, &conn->pipe) != 0) {
        free(conn);
        return NULL;
    }
    conn->port = peer->port;
    conn->port->connections++;
    conn->id_size = (uint8_t)peer->size;
    memcpy(conn->id, peer->id, peer->size);
    conn->handles_free = UINT32_MAX;
    TAILQ_INIT(&conn->ready);
    TAILQ_INIT(&conn->acks);
    STAILQ_INIT(&conn->outbox);
    buckets_grow(conns);
    at = bucket_find(conns, peer);
    conn->next = conns->buckets[at];
    conns->buckets[at] = conn;
    TAILQ_INSERT_TAIL(&conns->all, conn, of_all);
    conns->n++;
    return conn;
}

void conns_remove(struct conns *conns, struct conn *conn)
{
    struct peer peer = peer_of(conn);
    struct conn **link = &conns->buckets[bucket_find(conns, &peer)];
    struct parcel *parcel;

    while (*link != conn)
        link = &(*link)->next;
    *link = conn->next;
    conns->n--;
    if (conns->last == conn)
        conns->last = NULL;
    TAILQ_REMOVE(&conns->all, conn, of_all);
    if (conn->is_dirty)
        TAILQ_REMOVE(&conns->dirty, conn, of_dirty);
    while ((parcel = STAILQ_FIRST(&conn->outbox)) != NULL) {
        STAILQ_REMOVE_HEAD(&conn->outbox, link);
        zmq_msg_close(&parcel->message);
        free(parcel);
    }
    pipe_close(conn->pipe);
    conn->port->connections--;
    free(conn->handles);
    free(conn->refusals);
    free(conn->prefixes);
    free(conn);
}

bool conn_handle_acquire(struct conn *conn, uint32_t *out)
{
    uint32_t handle = conn->handles_free;

    /* Late, so that credit for a handle that ended does not meet a stream that has just got its number. */
    if (handle != UINT32_MAX && conn->handles_n >= HANDLES_REUSE) {
        conn->handles_free = conn->handles[handle].next_free;
    } else {
        if (conn->handles_n == conn->handles_capacity) {
            uint32_t capacity = conn->handles_capacity ? conn->handles_capacity * 2 : 8;
            struct handle *handles =
                capacity <= CONN_HANDLES_MAX ? realloc(conn->handles, capacity * sizeof(*handles)) : NULL;

            if (!handles)
                return false;
            conn->handles = handles;
            conn->handles_capacity = capacity;
        }
        handle = conn->handles_n++;
    }
    memset(&conn->handles[handle], 0, sizeof(conn->handles[handle]));
    *out = handle;
    return true;
}

void conn_handle_release(struct conn *conn, uint32_t handle, bool reuse)
{
    struct handle *h = &conn->handles[handle];

    h->stream = NULL;
    h->outlet = NULL;
    h->state = reuse ? HANDLE_FREE : HANDLE_DEAD;
    if (reuse) {
        h->next_free = conn->handles_free;
        conn->handles_free = handle;
    }
}

struct handle *conn_handle_find(struct conn *conn, uint32_t handle)
{
    if (handle >= conn->handles_n || conn->handles[handle].state == HANDLE_FREE)
        return NULL;
    return &conn->handles[handle];
}

void conn_touch(struct conns *conns, struct conn *conn)
{
    if (conn->is_dirty)
        return;
    conn->is_dirty = true;
    TAILQ_INSERT_TAIL(&conns->dirty, conn, of_dirty);
}
