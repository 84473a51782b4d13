/* SPDX-License-Identifier: Apache-2.0
 *
 * Eviction: a stream that nobody feeds leaves memory for a file, and comes back when somebody names it. The operator
 * asks for it, by time (evict_ms) or when max_streams is reached (evict_when_full); without either no stream ever goes.
 *
 * The file is the stream's image (daemon/image.h): state, epoch, index, writer and the results that were not received,
 * in the folder `evicted` of the state directory, named as there. It is written under another name, flushed, renamed,
 * and only then is the stream removed; it is removed only when the stream is back. So there is never a moment without
 * one of the two, and what a crash leaves is a whole image or none. Unlike those of a clean stop, evicted images stay
 * files over a start, and count as no streams.
 *
 * A stream that a connection writes is evicted only when that client asked for the feature "evictions", and is told.
 * Readers are told as well. While its image is written a stream may be fed, opened or asked for: then it stays.
 *
 * Threads: the loop thread; files are written and read on the keeper's.
 */
#ifndef DAEMON_EVICT_H
#define DAEMON_EVICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/codec.h"

#define EVICT_LEAVING   64   /* images on their way out at a time */
#define EVICT_COMING    16   /* ... on their way back */
#define EVICT_OPENS_MAX 4096 /* opens that wait for one of either */

struct loop;
struct stream;

/* Who waits for an evicted stream, or for room for a new one. */
struct evict_wait {
    TAILQ_ENTRY(evict_wait) link;
    struct evict_waits *on; /* the list, while it waits */
    /* OK: look again. Else why the stream is not back. The wait is the caller's again. */
    void (*done)(struct loop *loop, struct evict_wait *wait, Ssmd__Code code, const char *text);
};

TAILQ_HEAD(evict_waits, evict_wait);

/* A stream on its way back. */
struct evict_return {
    TAILQ_ENTRY(evict_return) link;
    struct evict_waits waits;
    bool is_begun;
    uint8_t id_size;
    uint8_t id[PROTO_ID_MAX];
};

struct evict {
    int fd; /* of the folder, or -1 while there is none */
    uint32_t leaving, coming;
    uint64_t search_ns;                 /* nothing to evict was found: not before */
    uint64_t retry_ns;                  /* a file could not be written: not before */
    TAILQ_HEAD(, evict_return) returns; /* in the order in which they were asked for */
    struct evict_waits rooms;           /* for room: each began an eviction */
    TAILQ_HEAD(, open_request) opens;   /* that wait on one of these lists */
    uint32_t opens_n;
};

void evict_init(struct evict *evict);
void evict_fini(struct evict *evict); /* nobody waits */
/* Looks for the folder in the state directory, and removes what was not written to its end. */
void evict_open(struct loop *loop);

/* In the sweep over streams: it goes when its time has come. */
void evict_check(struct loop *loop, struct stream *stream);
/* The stream longest idle goes, when the configuration says so; `wait` hears when. False: none may, nothing waits. */
bool evict_make_room(struct loop *loop, struct evict_wait *wait);
/* Whether the id is that of an evicted stream. */
bool evict_has(const struct loop *loop, const uint8_t *id, size_t id_size);
/* The sentence for an id that is no stream's. */
const char *evict_absent_text(const struct loop *loop, const uint8_t *id, size_t id_size);
/* It comes back; `wait` hears when. */
void evict_return(struct loop *loop, const uint8_t *id, size_t id_size, struct evict_wait *wait);
/* The wait is given up. */
void evict_forget(struct evict_wait *wait);
/* A task of an eviction is over, whatever came of it. */
void evict_left(struct loop *loop);

#endif
