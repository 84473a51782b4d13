/* SPDX-License-Identifier: Apache-2.0
 *
 * The results of one stream that are kept: frames `lo` to `hi`-1 by output index, for the writer until it received them
 * and for readers until they are overwritten.
 *
 * The ring is as large as what it had to hold so far and grows by doubling up to its limit; an idle stream's is given
 * back. `time` values ride beside the frames as marks, one for each input chunk that had one.
 *
 * Invariants: lo <= hi; hi - lo <= capacity; only frames below `keep` (given by the caller) are ever overwritten.
 * Threads: the loop thread.
 */
#ifndef DAEMON_RING_H
#define DAEMON_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_MARKS_MAX   8192 /* times of one ring; with them the ring is full as well */
#define RING_MARKS_SPARE 128  /* more than one row brings */

/* The budget that all rings share: growth for history stops when it is spent, growth that a stream needs to go on does
 * not up to its floor. */
struct ring_budget {
    uint64_t limit;
    uint64_t bytes;         /* taken now */
    uint64_t now_ns;        /* of this tick: the loop's */
    uint64_t history_ns;    /* since when history_bytes counts */
    uint64_t history_bytes; /* by which rings have grown only to keep what was received */
};

/* The result frames below `end`, back to the mark before, belong to a chunk with this time. */
struct ring_mark {
    uint64_t end;
    int64_t time;
    bool has_time;
};

struct ring {
    uint64_t lo, hi;
    float *frames; /* (capacity, channels); frame i lies at i % capacity */
    struct ring_mark *marks;
    uint32_t capacity; /* frames, a power of two or 0 */
    uint32_t channels;
    uint32_t mark_capacity; /* a power of two, or 0 while no chunk had a time */
    uint32_t mark_lo, mark_n;
};

/* A contiguous piece of the ring. */
struct ring_piece {
    const float *samples; /* (frames, channels); good until the next append, reserve or release */
    uint32_t frames;
    bool has_time;
    int64_t time;
};

void ring_init(struct ring *ring, uint32_t channels);
void ring_fini(struct ring *ring, struct ring_budget *budget);
/* Memory of the frames now. */
size_t ring_bytes(const struct ring *ring);

/* How many more frames can be appended without touching frame `keep` and later, were the ring grown to `most`
 * frames. */
uint64_t ring_room(const struct ring *ring, uint64_t keep, uint32_t most);

/* Make room for `frames` more beside those from `keep` on, growing up to `most` frames; growth for history too while
 * the budget lasts, and not of many rings at once. `floor` frames are granted whatever the budget says. Returns 0, or
 * -1 when there is no room or memory. */
int ring_reserve(struct ring *ring, struct ring_budget *budget, uint64_t keep, uint32_t frames, uint32_t most,
                 uint32_t floor);
/* Append reserved frames; all of them have the same time, or none. Overwrites the oldest. */
void ring_append(struct ring *ring, const float *samples, uint32_t frames, bool has_time, int64_t time);
/* Frames from `index` on (lo <= index < hi) that lie together and share their time; at most `max`. */
void ring_peek(const struct ring *ring, uint64_t index, uint32_t max, struct ring_piece *out);
/* `to`, an empty one of any memory that is not in a budget, becomes a copy of `from`. -1 without memory. */
int ring_copy(struct ring *to, const struct ring *from);
/* Frames from index `hi` on never were; hi <= ring->hi. What lies before stays, as far as it is kept. */
void ring_truncate(struct ring *ring, uint64_t hi);
/* Forget every frame and restart at index 0. */
void ring_reset(struct ring *ring);
/* Give the memory back; frames are forgotten, the index goes on. */
void ring_release(struct ring *ring, struct ring_budget *budget);

#endif
