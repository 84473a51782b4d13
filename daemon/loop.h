/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon's one owner of sockets, streams and time. Its thread runs the tick
 *
 *     wait -> ingest_drain -> batches done -> models done -> batches formed -> deliver_flush
 *
 * and every struct below belongs to it. The engine and the loader have threads of their own and are talked to through
 * their rings. Modules that need more than one part of the daemon take the loop.
 */
#ifndef DAEMON_LOOP_H
#define DAEMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/batch.h"
#include "daemon/clock.h"
#include "daemon/conf.h"
#include "daemon/conn.h"
#include "daemon/counters.h"
#include "daemon/engine.h"
#include "daemon/evict.h"
#include "daemon/http.h"
#include "daemon/input.h"
#include "daemon/loader.h"
#include "daemon/models.h"
#include "daemon/policy.h"
#include "daemon/publish.h"
#include "daemon/state.h"
#include "daemon/stream.h"
#include "daemon/tap.h"
#include "daemon/units.h"
#include "proto/codec.h"

struct loop {
    struct conf conf;
    const char *config_path;
    void *context;
    struct ports ports;
    uint32_t connections_max; /* max_connections, or fewer where descriptors are few */
    uint32_t listeners;       /* bound so far */
    uint64_t descriptors_own; /* beside those of peers */
    uint64_t refused_ns;      /* when a connection was refused last */
    int signal_fd, timer_fd;
    int store_fd, store_lock;                  /* the state directory, or -1 */
    int locks[2 * CONF_LIST_MAX + 2];          /* of endpoints, publish_endpoints, tap and metrics */
    const char *locked[2 * CONF_LIST_MAX + 2]; /* the sockets' paths, within conf */
    uint32_t locks_n;
    uint64_t now_ns;  /* of this tick */
    uint64_t back_ns; /* when the loop last came back from being stopped: nobody could be heard before */
    uint64_t started_ns;
    uint64_t drain_ns; /* when SIGTERM came; 0: not yet */
    bool is_over;
    bool is_hurried;  /* SIGTERM came twice */
    int exit_code;    /* of a daemon that stops in order; UNITS_EXIT when a device failed */
    bool has_more;    /* the drain was cut short: do not wait */
    bool has_blocked; /* somebody's queue was full */
    uint8_t incarnation[16];
    uint64_t overload_ns; /* when it was warned of last */
    struct counters counters;
    struct policy_classes classes;
    struct histograms histograms;
    struct proto_arena arena;
    struct input input;
    struct ring_budget rings;
    struct conns conns;
    struct streams streams;
    uint32_t readers;
    struct models models;
    struct units units;
    struct worker loader;
    struct states states;
    struct tap tap;
    struct publish publish;
    struct evict evict;
    TAILQ_HEAD(stream_list, stream) settling; /* close or reset, waiting for their queue and results */
    uint32_t swept;                           /* position of the sweep over streams */
    struct deliver *deliver;
    struct http http;
};

/* What engine, loader and keeper have done since. */
void loop_jobs_take(struct loop *loop);
/* Something changed for a stream that waits to be reset, closed or removed: look at it when the tick's results have
 * left. */
void loop_stream_settle(struct loop *loop, struct stream *stream);
/* Do so for all of them. */
void loop_settle(struct loop *loop);
/* A closed stream goes when its writer received everything and no reader is left; not while results are being sent. */
void loop_closed_check(struct loop *loop, struct stream *stream);
/* Whoever waits for the stream's close or reset is told why no other answer comes; what was asked for goes on. */
void loop_request_refuse(struct loop *loop, struct stream *stream, Ssmd__Code code, const char *text);
/* The stream has no connection that writes any more; it stays. The handle dies. */
void loop_stream_detach(struct loop *loop, struct stream *stream);
/* A stream's end: slot, ring, outlets and handles are given back; readers are told that it ended. It is in no batch. */
void loop_stream_remove(struct loop *loop, struct stream *stream);
/* The connection is forgotten; its streams stay. */
void loop_conn_forget(struct loop *loop, struct conn *conn);
/* When the results of a live chunk that has come now are wanted: one chunk's duration later, or as the stream's class
 * says. Tokens last as long as the engine takes for them. */
uint64_t loop_chunk_due(const struct loop *loop, struct stream *stream, uint32_t frames);
/* Accepted frames, `bytes` of them, go into the stream's queue, and count where input is bounded. */
void loop_chunk_push(struct stream *stream, struct chunk *chunk, uint64_t bytes);
/* The engine refused: its state or ours is wrong, or its device failed. The stream stops instead of answering wrongly. It
 * is in no batch. */
void loop_stream_fail(struct loop *loop, struct stream *stream, int status);
/* From now on nothing new is accepted, and the daemon ends when what was accepted is done, or drain_ms have passed. */
void loop_drain(struct loop *loop, const char *reason);
/* A batch is back: results to rings and tap, acknowledgements, chunks given back. */
void loop_batch_finish(struct loop *loop, struct batch *batch);

#endif
