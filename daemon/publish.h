/* SPDX-License-Identifier: Apache-2.0
 *
 * Published streams: frames of senders who hear nothing, through a SUB socket that they connect to. The lines `publish`
 * of the configuration say which ids become streams of which model, and what is done about frames that never came
 * (daemon/mapping.h, daemon/source.h).
 *
 * A published stream is a stream like any other, but that its writer is a run of a publisher and no connection: nobody
 * acknowledges, so its results are kept as history only, and its input is bounded by stream_window and input_memory.
 * What does not fit is dropped, and is a gap when the next chunk comes. Fills are ordinary chunks. A client that takes
 * the stream over becomes its writer; publishers are refused from then on.
 *
 * What comes before its stream can take it (its model is loaded, its image is read back, it waits to be reset) is held,
 * in order, within publish_memory and stream_window. Everything dropped, filled, reset or refused is counted, and
 * announced on the tap; what repeats itself once until a chunk is taken again.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_PUBLISH_H
#define DAEMON_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <zmq.h>

#include "daemon/evict.h"
#include "daemon/mapping.h"
#include "daemon/models.h"
#include "daemon/source.h"
#include "daemon/tap.h"
#include "proto/codec.h"

struct loop;

/* One message of a publisher: its header, and the samples in `payload`. */
struct publish_chunk {
    STAILQ_ENTRY(publish_chunk) link;
    uint8_t run[PROTO_SOURCE_BYTES];
    uint64_t first;
    uint32_t frames, format, flags; /* PROTO_FLAG_*, with that of `time` */
    int64_t time;
    double rate;       /* 0: not said */
    uint32_t channels; /* 0: not said */
    zmq_msg_t payload;
};

/* Chunks that wait, in order. */
struct publish_held {
    STAILQ_HEAD(, publish_chunk) chunks;
    uint64_t bytes;
};

/* The publisher's side of a stream. */
struct publication {
    struct source source;
    struct source_rule rule;
    bool has_evict_ms; /* else the configuration's */
    uint32_t evict_ms;
    uint32_t told; /* bit of each kind of event that was announced since a chunk was taken, or the run began */
    struct publish_held held;
    uint32_t channels; /* of the input */
    float last[];      /* the last frame, which `hold` repeats */
};

/* An id with data and without a stream. */
struct arrival {
    struct arrival *next;   /* of its bucket */
    struct evict_wait wait; /* for its image, or for room */
    bool has_waited;        /* for room: not twice */
    bool was_told;          /* that some of its data was dropped */
    struct publish_held held;
    uint8_t id_size;
    uint8_t id[PROTO_ID_MAX];
};

#define ARRIVAL_BUCKETS 1024

struct publish {
    void *socket; /* NULL when it is off */
    struct mappings mappings;
    struct arrival *buckets[ARRIVAL_BUCKETS];
    uint32_t arrivals_n;
    uint64_t held_bytes;
    struct proto_arena arena;
};

void publish_init(struct publish *publish);
void publish_fini(struct loop *loop); /* the streams are gone */
/* The lines `publish` as the configuration has them now; streams that are there keep what they were made with. */
void publish_configure(struct loop *loop);
/* Take messages until there are none, or enough for one tick. True when there may be more. */
bool publish_drain(struct loop *loop);

/* ---- streams ----------------------------------------------------------------------------------------------------- */

/* Makes the stream a published one. False without memory. */
bool publish_attach(struct stream *stream, const struct mapping *mapping);
/* The stream is a published one again, as its image says. `last` has n values. */
void publish_restore(struct loop *loop, struct stream *stream, const struct source *source, const float *last,
                     size_t n);
/* It is one no longer: a client writes it, or it ends. */
void publish_detach(struct loop *loop, struct stream *stream);
/* It was reset: what was held for that goes on. */
void publish_go_on(struct loop *loop, struct stream *stream);
/* Whether a publisher wrote it a moment ago. */
bool publish_is_live(const struct stream *stream);
/* Silence after which it is evicted, or 0. */
uint64_t publish_evict_ms(const struct loop *loop, const struct stream *stream);

/* ---- within the daemon's publish files --------------------------------------------------------------------------- */

/* A chunk for a stream that is there; the payload is taken when it must wait. */
void publish_take(struct loop *loop, struct stream *stream, struct publish_chunk *chunk);
/* NULL, or why the chunk is none for a stream of this model. */
const char *publish_shape_check(const struct ssm_model_info *info, const struct publish_chunk *chunk);
/* A chunk for an id that has none (daemon/arrival.c). */
void arrival_take(struct loop *loop, const uint8_t *id, size_t id_size, struct publish_chunk *chunk);
void arrivals_fini(struct loop *loop);
/* Keep it behind what is held already, or before it; the payload is taken. False when there is no room. */
bool publish_hold(struct loop *loop, struct publish_held *held, struct publish_chunk *chunk, bool before);
/* The oldest that is held, or NULL. Free it with publish_chunk_free. */
struct publish_chunk *publish_unhold(struct loop *loop, struct publish_held *held);
void publish_chunk_free(struct publish_chunk *chunk);
/* All of it is dropped, and counted. */
void publish_drop(struct loop *loop, struct publish_held *held);
/* Counted, logged, and announced on the tap: of an id that has no stream. */
void publish_refuse_id(struct loop *loop, const uint8_t *id, size_t id_size, const char *text);

#endif
