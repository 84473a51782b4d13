/* SPDX-License-Identifier: Apache-2.0
 *
 * The frames of one stream that the daemon has not made durable: what is still to be sent, and what may have to be sent
 * again.
 *
 *      begin           sent             next
 *        |--- kept ------|--- unsent -----|
 *     durable         (rewind moves it back)
 *
 * Chunks stay as they were pushed: their format and time go out again unchanged after a reconnection, and their flags
 * too, unless the daemon was away for long (kept_mark_backfill): then they are no live data any more, and the scan takes
 * them. A rewind into the middle of a chunk sends the rest of it.
 */
#ifndef SSMD_CLIENTS_C_KEPT_H
#define SSMD_CLIENTS_C_KEPT_H

#include "clients/c/fifo.h"

struct kept_chunk {
    uint64_t first;  /* index of the first frame */
    uint64_t offset; /* of its samples in `samples` */
    int64_t time;
    uint32_t frames;
    uint32_t frame_bytes;
    uint8_t format; /* enum ssmc_format */
    uint8_t backfill;
    uint8_t has_time;
};

struct kept {
    struct fifo samples;
    struct fifo chunks; /* of struct kept_chunk */
    uint64_t sent;      /* offset in `chunks` of the first one to send */
    uint32_t skip;      /* frames of that one not to send */
    uint64_t next;      /* index of the next frame to be pushed */
};

/* An all-zero kept is empty and begins at index 0. */
void kept_fini(struct kept *k);
/* Empties it and lets it go on at index `next`. */
void kept_restart(struct kept *k, uint64_t next);
/* Copies a chunk that begins at k->next; chunk->first and ->offset are filled in here. 0, or -1 without memory. */
int kept_push(struct kept *k, const struct kept_chunk *chunk, const void *samples);
/* The next chunk to send into *out and its samples; 0 when everything is sent. */
int kept_unsent(const struct kept *k, struct kept_chunk *out, const void **samples);
int kept_has_unsent(const struct kept *k);
/* The chunk that kept_unsent showed is on its way. */
void kept_mark_sent(struct kept *k);
/* Frames below `index` need not be kept. */
void kept_release(struct kept *k, uint64_t index);
/* Send again from `index`. -1 when frames below are gone or none above were pushed: kept_first .. next is the range. */
int kept_rewind(struct kept *k, uint64_t index);
/* What is not sent goes out as backfill. */
void kept_mark_backfill(struct kept *k);
/* Index of the oldest frame kept; `next` when there is none. */
uint64_t kept_first(const struct kept *k);
/* Index of the next frame to be sent. */
uint64_t kept_sent_index(const struct kept *k);

#endif
