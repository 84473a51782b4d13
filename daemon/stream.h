/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream: its identity, what it expects next, what is queued, where its results go; and the index of all streams by
 * id.
 *
 * Invariants: a stream has one writer and at most one connection that writes; next only rises within an epoch; frames
 * applied <= next; a stream is in at most one batch; queued chunks are contiguous and end at `next`. Epochs come from
 * one counter of the daemon, so that (incarnation, epoch) never repeats for an id, not even when it is closed and
 * opened again.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_STREAM_H
#define DAEMON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/input.h"
#include "daemon/ring.h"
#include "proto/codec.h"
#include "ssm/sample.h"
#include "ssm/ssm.h"

struct conn;
struct generation;
struct history;
struct lane;
struct model;
struct publication;
struct policy_class;
struct site;
struct stream;
struct task;

/* Results whose way out is being timed (daemon/timing.h): those of one row. */
struct outlet_timing {
    uint64_t epoch, end; /* the index behind the last of them; 0: none */
    uint64_t done_ns, arrived_ns;
};

/* Where results of a stream go: its writer, or a reader; under a credit of its own. */
struct outlet {
    struct stream *stream;
    struct conn *conn;
    uint32_t handle;
    bool reader;
    bool is_ready;                  /* on conn->ready */
    bool is_announced;              /* readers: they were told of the stream */
    uint64_t epoch;                 /* readers: the one that they were told */
    uint64_t lost_first, lost_next; /* readers: of `epoch`, gone with a reset; none when equal */
    uint64_t next;                  /* result index to send next */
    uint64_t sent;                  /* payload bytes since the handle was given */
    uint64_t limit;                 /* bytes that may be sent: cumulative */
    struct outlet_timing timed;
    TAILQ_ENTRY(outlet) of_stream;
    TAILQ_ENTRY(outlet) of_ready;
};

enum stream_request { REQUEST_NONE, REQUEST_CLOSE, REQUEST_RESET, REQUEST_ROLLBACK, REQUEST_MOVE };

/* Of a stream that begins again: whether the newest version of its model is being loaded, or could not be. */
enum stream_move { MOVE_NONE, MOVE_WAITS, MOVE_FAILED };

/* Which list of the batcher the stream is on; HELD: its state is being copied, so it joins no batch. */
enum stream_place { PLACE_NONE, PLACE_READY, PLACE_STALLED, PLACE_IN_BATCH, PLACE_HELD };

struct stream {
    struct model *model;
    struct site *site;    /* of the model: where its state is */
    struct ssm_slot slot; /* of the site's program */
    uint8_t writer[PROTO_WRITER_BYTES];
    uint64_t epoch;
    uint64_t next;     /* index of the next frame to accept */
    uint64_t applied;  /* frames below are in the state */
    uint64_t received; /* results below may be overwritten, when the writer wants results */
    struct conn *conn; /* that writes now, or NULL */
    uint32_t handle;   /* on conn */
    uint32_t refused;  /* bit of each Code that was answered since the last chunk was accepted */
    struct chunk *head, *tail;
    uint64_t queued_bytes; /* accepted and not applied */
    struct ring ring;
    TAILQ_HEAD(, outlet) outlets; /* the writer's and the readers' */
    struct outlet *outlet;        /* the writer's; NULL when it wants no results or is away */
    bool wants_results;           /* the ring waits for `received` */
    bool is_closing;              /* no more input */
    bool is_closed;               /* flushed and answered; waits to be received */
    bool has_flushed;             /* zeros have pushed its tail out: its state is no longer that of its frames */
    bool is_failed;               /* the engine refused its frames: our bug, or its device failed */
    bool is_lost;                 /* the latter: nothing of it is answered any more (daemon/failure.h) */
    bool has_ack;                 /* on conn->acks */
    bool is_settling;
    bool is_live;                     /* counted in site->live_streams */
    const struct policy_class *class; /* that its open named (daemon/policy.h); NULL: its model's */
    uint64_t misses;                  /* live chunks whose results came after their deadline */
    uint64_t behind_ns;               /* since when its backfill is caught up with, at `caught` frames so far */
    uint64_t behind_last_ns;          /* the last time that some of it was */
    uint64_t caught;
    bool generates;                /* each result begins with a drawn token */
    uint32_t top_k;                /* ... and has so many most probable ones; with neither: all outputs */
    struct generation *generation; /* that runs or was the last (daemon/generate.h); NULL since data came */
    bool is_replaying;             /* goes back: kept input runs again, results are thrown away */
    enum stream_place place;
    struct lane *lane;           /* that it is in when READY */
    enum stream_request request; /* waits for the queue to be empty */
    enum stream_move move;
    uint64_t request_id;
    struct conn *request_conn;       /* NULL when it went away */
    uint64_t rollback_to;            /* of REQUEST_ROLLBACK */
    uint64_t replayed_out;           /* results that the state had given at `applied`, while replaying */
    uint64_t active_ns;              /* last input, or when it was closed */
    uint64_t live_ns;                /* its last live chunk (daemon/admission.h) */
    uint64_t paced_ns;               /* where its live input would end, were it played in real time since it came */
    struct history *history;         /* NULL: it cannot go back */
    struct publication *publication; /* its publisher (daemon/publish.h), or NULL: clients write it */
    bool was_told;                   /* that publishers are refused: announced once */
    bool is_evicted;                 /* it ends as a stream, and is an image */
    TAILQ_HEAD(, task) tasks;        /* that wait for their turn, in the order of their barriers */
    TAILQ_ENTRY(stream) of_place;
    TAILQ_ENTRY(stream) of_acks;
    TAILQ_ENTRY(stream) of_settling;
    uint8_t id_size;
    uint8_t id[]; /* followed by a NUL, so that id and NUL are the tap's topic */
};

/* All streams, sorted by id: found by bisection, listed and matched by prefix in order. */
struct streams {
    struct stream **sorted;
    uint32_t n, capacity;
    uint64_t epochs; /* the last one given */
};

/* Two ids or prefixes in byte order: negative, 0 or positive. */
int stream_id_compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size);
bool stream_id_is_valid(const uint8_t *id, size_t size);

void streams_init(struct streams *streams);
void streams_fini(struct streams *streams); /* every stream was removed */
struct stream *streams_find(const struct streams *streams, const uint8_t *id, size_t size);
/* Position of the first stream whose id is not before `id` (or beyond it, when `beyond`); n when there is none. */
uint32_t streams_seek(const struct streams *streams, const uint8_t *id, size_t size, bool beyond);
/* A new stream at index 0 in a new epoch; the id is not taken. NULL without memory. */
struct stream *streams_insert(struct streams *streams, const uint8_t *id, size_t size, uint32_t out_channels);
/* Takes it out and frees it; its chunks, outlets, ring and slot were released. */
void streams_remove(struct streams *streams, struct stream *stream);
uint64_t streams_epoch_new(struct streams *streams);
/* Bytes that one stream takes here besides its state and ring. */
size_t stream_bytes(const struct stream *stream);

/* ---- admission --------------------------------------------------------------------------------------------------- */

enum stream_verdict {
    VERDICT_ACCEPT,    /* take the frames behind `skip` */
    VERDICT_DUPLICATE, /* all of it was accepted before: acknowledge */
    VERDICT_REFUSE     /* `code`, and `text` says why */
};

struct stream_limits {
    uint32_t chunk_frames;
    uint64_t stream_window;     /* bytes */
    uint64_t connection_window; /* bytes */
    uint64_t connection_queued; /* bytes now */
    uint64_t model_window;      /* bytes */
    uint64_t model_queued;      /* bytes now */
    bool is_draining;
    bool is_generating; /* the stream is */
};

struct stream_admission {
    enum stream_verdict verdict;
    uint32_t skip; /* frames to trim: an overlap */
    Ssmd__Code code;
    const char *text;
    enum stream_overflow {
        OVERFLOW_STREAM,
        OVERFLOW_CONNECTION,
        OVERFLOW_MODEL,
        OVERFLOW_MEMORY
    } overflow; /* of what */
};

/* Judge a chunk whose samples are not looked at yet; changes nothing. in_channels of the stream's model. */
void stream_admit(const struct stream *stream, const struct proto_chunk *chunk, uint32_t in_channels,
                  const struct stream_limits *limits, struct stream_admission *out);

/* Whether a refusal with this code is to be answered: each once until a chunk is accepted. A gap is not answered when
 * another refusal named the index expected already. */
bool stream_refusal_is_new(struct stream *stream, Ssmd__Code code);

/* Whether results are pairs (token, log-probability) instead of the model's outputs, and the most 4-byte values that
 * those of one frame may have. */
#define STREAM_PAIRS_FLOATS (2 * (SSM_TOP_MAX + 1))
bool stream_keeps_pairs(const struct stream *stream);
/* 4-byte values that a frame of results has, of a stream that was opened so. */
uint32_t stream_result_channels(const struct ssm_model_info *info, uint32_t top_k, bool generates);
/* When the results of a live chunk that has come now are wanted: deadline_ns later. But no stream's deadlines advance
 * faster than its own time: a chunk that comes before the one before it has lasted (duration_ns) is due later, so that a
 * stream which sends ahead of real time takes nobody's turn; by STREAM_AHEAD_NS at most, so that its turn comes. */
#define STREAM_AHEAD_NS UINT64_C(10000000000)
uint64_t stream_due(struct stream *stream, uint64_t now_ns, uint64_t duration_ns, uint64_t deadline_ns);
/* Queue an admitted chunk: the frames from `next` on. */
void stream_push(struct stream *stream, struct chunk *chunk, uint64_t bytes);
/* Frames that the next row may have at most: a task's barrier, or a checkpoint, is there. 0: a task is due first. */
uint64_t stream_frames_to_stop(const struct stream *stream);
/* Results from here on may not be overwritten. */
uint64_t stream_keep(const struct stream *stream);
/* Results from here on go into an image of the stream: those not received, and of a published stream, whose results
 * nobody acknowledges, all that there are. */
uint64_t stream_keep_image(const struct stream *stream);

#endif
