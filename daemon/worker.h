/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread for what the loop must not wait for: work goes in and comes back through two bounded rings, in order; who
 * submits a piece keeps off it until it is back. It runs at nice 19, since samples come first.
 *
 * Threads: start, submit, take and stop from the loop thread; what a piece does, on the worker's.
 */
#ifndef DAEMON_WORKER_H
#define DAEMON_WORKER_H

#include <pthread.h>
#include <stdbool.h>

#include "daemon/spsc.h"

/* The head of a piece of work. */
struct work {
    void (*run)(struct work *work); /* NULL: the end */
};

struct worker {
    pthread_t thread;
    struct spsc todo, done;
};

int worker_start(struct worker *worker); /* 0, or -1 and errno */
/* Waits for all that was submitted; worker_take still gives it afterwards. */
void worker_stop(struct worker *worker);
/* Gives its rings back: after the last worker_take. */
void worker_fini(struct worker *worker);
/* False when there are SPSC_SLOTS pieces in it; of those that are done and not taken there may be no more either. */
bool worker_submit(struct worker *worker, struct work *work);
/* The next piece that is done, or NULL. worker->done.fd becomes readable after spsc_sleep(&worker->done). */
struct work *worker_take(struct worker *worker);

#endif
