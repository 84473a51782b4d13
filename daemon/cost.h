/* SPDX-License-Identifier: Apache-2.0
 *
 * What batches cost on a device, and how large they had better be. A device takes a time for any batch, and little more
 * for each frame until it is full: so a cost per frame learned from small batches would say that frames are dear, keep
 * batches small, and never learn better. Here a batch costs a fixed time, the shortest that was seen, and what it took
 * beyond that is its frames'; and a batch is as large as this says will take a given time. Where the fixed time is more
 * than half of that, it takes twice the fixed time: smaller ones would be no quicker and do less.
 *
 * Frames are learned from batches that are not much smaller than the largest ones lately, because small ones tell of the
 * fixed time only. And a batch is at most COST_GROWTH times the largest one that kept its time: what was learned from
 * small batches is not trusted far beyond them.
 *
 * A stall is no cost: what is learned of one batch is at most twice what was expected, unless the one before was as late.
 *
 * Threads: plain data; pure.
 */
#ifndef DAEMON_COST_H
#define DAEMON_COST_H

#include <stdbool.h>

#define COST_GROWTH 2

struct cost {
    double fixed_ns; /* 0: nobody knows */
    double frame_ns; /* of a frame, beyond it: a running mean */
    double most;     /* frames of the largest batch that kept its time, fading */
    bool was_over;   /* the last batch took more than twice what was expected */
};

/* A batch of so many frames took so long, and was to take target_ns. */
void cost_take(struct cost *cost, double frames, double ns, double target_ns);
/* Frames of a batch that takes about target_ns; 0: nobody knows. */
double cost_frames(const struct cost *cost, double target_ns);
/* What a frame costs when there are enough for such batches; 0: nobody knows. */
double cost_of_frame(const struct cost *cost, double target_ns);

#endif
