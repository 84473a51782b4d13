/* SPDX-License-Identifier: Apache-2.0
 *
 * Whether the engine has time for one more live stream. A model's cost is measured: when it is loaded, and with every
 * batch that is large enough to tell (site->cost_ns, of its engine for one frame). Times the rates of its live streams
 * that is the part of the engine's time that they need. An open that would bring the sum beyond admission_load is
 * refused or warned of, as `admission` says, before deadlines are missed.
 *
 * A stream counts as live from its open or its last live chunk on, for ADMISSION_IDLE_NS; tokens have no rate, and do
 * not count.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_ADMISSION_H
#define DAEMON_ADMISSION_H

#include "daemon/loop.h"

#define ADMISSION_IDLE_NS UINT64_C(10000000000)

/* May a new stream of the model be opened, on the engine that it would come to? OK, or LIMIT and why. A warning is logged
 * and counted here. */
Ssmd__Code admission_check(struct loop *loop, const struct model *model, char *text, size_t size);
/* The stream is live: it has just been opened, or a live chunk came. */
void admission_live(const struct loop *loop, struct stream *stream);
/* It counts no more: it goes to another model, or ends. */
void admission_leave(struct stream *stream);
/* Look whether it has been silent for long. */
void admission_sweep(const struct loop *loop, struct stream *stream);

/* Seconds of its engine that one second of a stream of the site takes; 0: nobody knows. */
double admission_cost(const struct site *site);
/* The part of its engine's time that the live streams of the site need. */
double admission_load(const struct site *site);

#endif
