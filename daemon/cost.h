/* SPDX-License-Identifier: Apache-2.0
 *
 * What batches cost on a device, and how large they had better be. A device takes a time for any batch, and little more
 * for each frame until it is full: so a cost per frame learned from small batches would say that frames are dear, keep
 * batches small, and never learn better. Here a line is learned instead, a fixed time and a time for each frame, from
 * the last batches with those long ago fading, and a batch is as large as the line says will take a given time.
 *
 * The line is not trusted far from where it was seen: a batch is at most COST_GROWTH times the largest one that kept its
 * time, and one that took more than twice its time takes that largest one back. Where the fixed time alone is more than
 * half of what a batch shall take, it takes twice the fixed time: smaller ones would be no quicker and do less.
 *
 * Batches all of one size say nothing about the slope: it stays what it was. A stall is no cost: what is learned of one
 * batch is at most twice what the line said.
 *
 * Threads: plain data; pure.
 */
#ifndef DAEMON_COST_H
#define DAEMON_COST_H

#include <stdbool.h>

#define COST_GROWTH 2

struct cost {
    double weight, x, y, xx, xy; /* sums over batches: 1, frames, ns, and their products, each fading */
    double fixed_ns, frame_ns;   /* the line through them */
    double most;                 /* frames of the largest batch that kept its time; 0: none was seen */
};

/* A batch of so many frames took so long, and was to take target_ns. */
void cost_take(struct cost *cost, double frames, double ns, double target_ns);
/* Frames of a batch that takes about target_ns; 0: nobody knows. */
double cost_frames(const struct cost *cost, double target_ns);
/* What a frame costs in such a batch; 0: nobody knows. */
double cost_of_frame(const struct cost *cost, double target_ns);

#endif
