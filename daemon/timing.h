/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the histograms of daemon/counters.h get their numbers: the way of a chunk, from its arrival (the tick that took
 * it) through its batch to the message that carries its results.
 *
 *     arrived ── queue ──► batch begins ── step ──► batch done ── deliver ──► handed to ZeroMQ
 *     └───────────────────────────────── end to end ─────────────────────────────────┘
 *
 * The batch has its own two readings of the clock; one more is taken for each result message. An outlet times the
 * results of one row at a time, so that what is measured is exact and costs four words: rows that come while earlier
 * results wait for credit are not measured, and in a daemon that keeps up none is left out.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_TIMING_H
#define DAEMON_TIMING_H

#include "daemon/loop.h"

/* A batch is back. */
void timing_batch(struct loop *loop, const struct batch *batch);
/* ... which took the last of a chunk. */
void timing_chunk(struct loop *loop, const struct batch *batch, const struct chunk *chunk);
/* ... with results of a row, which are in the stream's ring. */
void timing_row(const struct batch *batch, const struct batch_row *row);
/* Results of the outlet were handed over. */
void timing_sent(struct loop *loop, struct outlet *outlet, uint64_t now_ns);

#endif
