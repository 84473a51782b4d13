/* SPDX-License-Identifier: Apache-2.0
 *
 * Sites: a model on the engines that have it. There is an engine for the processor or one for each device
 * (daemon/units.h), and a model is compiled for every device when it is loaded: its streams come in crowds, and shall find
 * all of them ready. Where no device takes a model, and the processor's engine is there as a spare, that does.
 *
 * A stream is of one site, with its state, its place in a lane and its batches, until it ends or begins again as another
 * version. The site is chosen by load (site_choose), so that devices have about as much to do each.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_SITE_H
#define DAEMON_SITE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/conf.h"
#include "daemon/cost.h"
#include "daemon/engine.h"
#include "daemon/lane.h"

#define SITES_MAX (CONF_LIST_MAX + 1) /* devices, and the processor */

struct loop;
struct model;
struct unit;

struct site {
    struct model *model;
    struct unit *unit;
    struct ssm_program *program;          /* NULL: the engine has not got it */
    struct lane live, backfill;           /* streams with input for the next batch */
    double frame_ns;                      /* of the engine, for one frame in a batch: a running mean */
    double cost_ns;                       /* ... in batches that are large enough to tell */
    struct cost live_cost, backfill_cost; /* of a device, where it is no mean that tells */
    uint32_t slots;                       /* states that streams and tasks have */
    uint32_t live_streams;                /* daemon/admission.h */
    struct job job;                       /* that compiles or drops it */
};

void site_init(struct site *site, struct model *model, struct unit *unit);
void site_fini(struct site *site); /* without its program */

/* What an engine has to do: for placing one more stream. */
struct site_load {
    double busy; /* part of its time that its live streams need, as measured: tokens and what nobody measured count 0 */
    uint64_t bytes; /* of its states, with what each stream takes besides */
};
/* The one of n with the least to do: the sum of its time and of its part of all bytes; the first of those alike. */
uint32_t site_load_least(const struct site_load *loads, uint32_t n);

/* Where a new stream of the model had better be; NULL: no engine that works has it. On devices of one kind a stream is
 * taken to cost the same. */
struct site *site_choose(struct loop *loop, const struct model *model);

/* The model is to be compiled where it shall be: false when no engine can be asked. Each engine answers with a job. */
bool sites_compile(struct loop *loop, struct model *model);
enum sites_answer { SITES_WAIT, SITES_READY, SITES_FAILED };
/* One engine has answered. WAIT: others have not yet. FAILED: no engine has it, and why in the job's error. */
enum sites_answer sites_take(struct loop *loop, struct job *job);
/* Its programs are to be dropped, each with a job; false when that cannot be. sites_dropped: whether that was the last. */
bool sites_drop(struct loop *loop, struct model *model);
bool sites_dropped(struct job *job);

#endif
