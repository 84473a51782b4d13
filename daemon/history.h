/* SPDX-License-Identifier: Apache-2.0
 *
 * What a stream keeps to go back, if its open asked for it: a checkpoint of its state every `interval` frames, and the
 * frames since the oldest checkpoint with how they were taken (backfill or not, and where rows began).
 *
 * Checkpoints are slots of the model's pool, so that making one is a copy of the state beside the advance that reached
 * it, on the thread that has the batch. Rows therefore end where a checkpoint is due. `interval` is a multiple of
 * BATCH_GRID, so that this cut shows in no bit.
 *
 * Of n = ceil(depth / interval) + 1 checkpoints, the one of index i lies at (i / interval) mod n; frame i lies at
 * i mod (n * interval). So the last `depth` frames can always be taken back. The first checkpoint may lie beside the
 * grid: where the history began.
 *
 * Everything is allocated when the history is made. Threads: the loop thread; the engine copies states into slots that
 * history_slot_due named.
 */
#ifndef DAEMON_HISTORY_H
#define DAEMON_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/codec.h"
#include "ssm/ssm.h"

#define HISTORY_INTERVAL_MAX (1u << 20)
#define HISTORY_DEPTH_MAX    (1u << 28)

struct history;

/* The bytes that it would take; UINT64_MAX when the numbers are out of their range. */
uint64_t history_bytes(const struct ssm_model *model, uint32_t interval, uint32_t depth);
/* A history of the stream in `slot`, which has consumed `index` frames and given `out` results. NULL without memory. */
struct history *history_new(struct ssm_program *program, struct ssm_slot slot, uint32_t interval, uint32_t depth,
                            uint64_t index, uint64_t out);
void history_free(struct history *history); /* NULL is legal */
/* Interval, depth, bytes and the lowest index that can be gone back to. */
void history_fill(const struct history *history, Ssmd__History *message);
uint64_t history_bytes_of(const struct history *history);
/* The stream was reset: it begins anew. */
void history_reset(struct history *history, struct ssm_slot slot);

/* The index behind `begin` at which a row must end. */
uint64_t history_stop(const struct history *history, uint64_t begin);
/* A row that ends at `end` is formed: where its state is to be copied to, or {-1}. */
struct ssm_slot history_slot_due(struct history *history, uint64_t end);
/* It was advanced: `frames` frames from `first` on, `in` being their samples or tokens; `out` results there are now.
 * Whether the state was copied where that was due. */
void history_keep(struct history *history, uint64_t first, uint32_t frames, bool backfill, const void *in, uint64_t out,
                  bool copied);

/* The checkpoint to begin at for going back to `index`: its slot, index and results. False when none is old enough. */
bool history_find(const struct history *history, uint64_t index, struct ssm_slot *slot, uint64_t *at, uint64_t *out);
/* Frames from `at` on, below `end`, that were taken alike: at most `most`; their samples are copied to `in`. */
uint32_t history_take(const struct history *history, uint64_t at, uint64_t end, uint32_t most, void *in,
                      bool *backfill);
/* The stream went back: what lies beyond `index` never was. */
void history_forget(struct history *history, uint64_t index);

#endif
