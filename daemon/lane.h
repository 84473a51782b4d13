/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is. A lane holds a model's streams on one engine that have input, live ones or those whose next chunk is
 * backfill, and that engine's batcher forms each batch from one lane.
 *
 * Within a live lane the stream with the earliest deadline goes first. A stream's deadlines advance no faster than its
 * own time (stream_due): whoever sends faster than real time is due later and keeps nobody waiting. Backfill has no
 * deadline: its streams take turns.
 *
 * Between live lanes the earliest deadline goes first as well, as long as a lane takes no more than its share of the
 * engine. What it takes beyond that moves it back: a lane's key is the later of its first stream's deadline and `ahead`,
 * which every batch moves to where that batch's time would end if the lane had nothing but its share (a constant
 * bandwidth server; Abeni and Buttazzo, RTSS 1998). Shares are as the models' priorities, of the lanes that want
 * something. So deadlines decide while they can be met, and priorities when they cannot.
 *
 * Backfill runs in the room that live lanes leave, and gets at least 1 in LANE_BACKFILL of the engine's time.
 *
 * Nobody starves: `ahead` is at most LANE_AHEAD_NS beyond now, and a stream's deadlines lie no further ahead than
 * STREAM_AHEAD_NS and what its class or chunk says (stream_due), so that a key is bounded, while the keys of those who
 * are served instead rise without end; and backfill's turn comes by the clock.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_LANE_H
#define DAEMON_LANE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define LANE_AHEAD_NS UINT64_C(100000000)
#define LANE_BACKFILL 32
#define LANE_WAIT_NS  UINT64_C(5000000) /* backfill that has just come waits so long before it goes first */
#define LANE_TOKENS_NS                                                                                                 \
    UINT64_C(100000000)  /* tokens have no rate: they are due so long after they came, or were drawn */
#define LANE_PRIORITY 10 /* of a model for which nothing else is configured */

struct site;
struct stream;

/* A heap with four children to a node: what orders it lies beside the pointer, so that ordering touches no stream. */
struct lane_entry {
    uint64_t due_ns;
    uint64_t number; /* of those that are due together the one that came first */
    struct stream *stream;
};

struct lane {
    struct site *site; /* whose streams it has (daemon/site.h) */
    bool is_backfill;
    struct lane_entry *entry;
    uint32_t n, capacity;
    uint64_t numbers; /* the last one given */
    uint64_t ahead_ns;
    TAILQ_ENTRY(lane) link; /* of those that have streams */
};

/* All lanes with streams. */
struct lanes {
    TAILQ_HEAD(, lane) live, backfill;
    uint64_t owed_ns; /* from then on backfill goes before live */
};

void lanes_init(struct lanes *lanes);
void lane_init(struct lane *lane, struct site *site, bool is_backfill);
void lane_fini(struct lane *lane);

/* A stream that is not in it: false without memory. due_ns of backfill is now. */
bool lane_push(struct lanes *lanes, struct lane *lane, struct stream *stream, uint64_t due_ns);
/* The stream that is due first, which stays; NULL when there is none. */
struct stream *lane_first(const struct lane *lane);
/* Takes the first out. */
void lane_pop(struct lanes *lanes, struct lane *lane);
/* Takes one out that may lie anywhere. */
void lane_remove(struct lanes *lanes, struct lane *lane, const struct stream *stream);

/* The lane whose turn it is, or NULL when no stream waits. */
struct lane *lanes_choose(const struct lanes *lanes, uint64_t now_ns);
/* A batch of the lane took so much of the engine's time. */
void lane_charge(struct lanes *lanes, struct lane *lane, uint64_t now_ns, uint64_t busy_ns);

#endif
