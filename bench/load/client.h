/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection of ssm-load and its streams. A sample is a function of its stream and index, so nothing is kept for
 * sending again, and every result can be checked.
 *
 * A live stream owes chunks as its schedule says, and sends what it owes as soon as its windows and its connection allow;
 * a backfill stream, and every stream at --speed 0, owes everything at once. At most LOAD_AHEAD chunks of a stream are
 * on the way, and no more than its part of the daemon's windows, so that only a daemon whose memory is used up refuses.
 * A refused stream then sends one chunk at a time, from the index expected, until some are applied again.
 *
 * Threads: a client belongs to its worker.
 */
#ifndef BENCH_LOAD_CLIENT_H
#define BENCH_LOAD_CLIENT_H

#include "bench/lib/peer.h"
#include "bench/load/options.h"
#include "bench/load/tally.h"

enum { LOAD_AHEAD = 64 };

struct load_stream {
    const struct load_model *model;
    bool is_backfill;
    uint32_t frames;           /* of a chunk; 0 until it is open */
    uint64_t number;           /* of all streams of the run */
    uint64_t owed, made;       /* chunks that are due; that were sent once */
    uint64_t period_ns;        /* of its chunks; 0: as fast as it goes */
    uint64_t deadline_ns;      /* UINT64_MAX: none */
    uint64_t back_ns;          /* results of chunks sent before are late through no fault of the daemon's */
    uint64_t retry_ns;         /* when a refused chunk may be sent again */
    uint64_t done_ns;          /* backfill: when all was applied; 0: not yet */
    int64_t times[LOAD_AHEAD]; /* of the first send of chunk k, at k % LOAD_AHEAD; 0: it has none */
};

struct load_client {
    struct peer peer;
    const struct load_options *options;
    struct tally *tally;
    struct load_stream *stream;
    uint64_t begin_ns;
    bool is_slow, is_paused; /* reads nothing now */
    bool is_behind;          /* some stream may owe what it has not sent */
    uint64_t retry_ns;       /* when to look again at refused streams; UINT64_MAX: there are none */
    uint32_t backfills;      /* streams of backfill that are not done */
};

/* `first` is the number of its first stream. Says nothing yet. */
void load_client_init(struct load_client *c, const struct load_options *options, struct tally *tally, void *zmq,
                      uint32_t number, uint64_t first, uint32_t streams);
void load_client_fini(struct load_client *c);
/* The clock starts; every stream is open. */
void load_client_start(struct load_client *c, uint64_t begin_ns);
/* One more chunk of a live stream is due, since due_ns. */
void load_client_owe(struct load_client *c, uint32_t at, uint64_t due_ns);
/* Takes what came and sends what is owed; whether there may be more, else nothing is left in the socket unless it is
 * paused. When peer.is_forgotten afterwards, the connection must break. */
bool load_client_run(struct load_client *c);
/* The connection breaks without a word, and comes back. */
void load_client_break(struct load_client *c);
/* From now on it owes nothing new. */
void load_client_stop(struct load_client *c);
/* Everything owed is applied. */
bool load_client_is_done(const struct load_client *c);
/* Closes its streams, and counts what is missing. */
void load_client_finish(struct load_client *c, uint64_t end_ns);

#endif
