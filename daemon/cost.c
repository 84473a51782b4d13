/* SPDX-License-Identifier: Apache-2.0
 * A shortest time, a mean and a largest size; see cost.h. */
#include "daemon/cost.h"

#define MEAN  8   /* a batch moves the mean by a part in so many */
#define TELLS 4   /* a batch tells of frames when it has at least a part in so many of the largest's */
#define FADES 256 /* the largest size, by a part in so many with each batch */

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* What a batch shall take where target_ns is wanted. */
static double time_of(const struct cost *cost, double target_ns)
{
    return larger(target_ns, 2 * cost->fixed_ns);
}

static void first_take(struct cost *cost, double frames, double ns)
{
    cost->fixed_ns = larger(ns, 1);
    cost->most = frames;
}

void cost_take(struct cost *cost, double frames, double ns, double target_ns)
{
    double expected = cost->fixed_ns + cost->frame_ns * frames, time;
    bool is_over = ns > 2 * expected;

    if (!(frames > 0))
        return;
    if (cost->most <= 0) {
        first_take(cost, frames, ns);
        return;
    }
    if (ns < cost->fixed_ns)
        cost->fixed_ns = larger(ns, 1);
    if (is_over && !cost->was_over && frames <= COST_GROWTH * cost->most)
        ns = 2 * expected;
    cost->was_over = is_over;
    if (frames * TELLS >= cost->most)
        cost->frame_ns += ((ns - cost->fixed_ns) / frames - cost->frame_ns) / (cost->frame_ns > 0 ? MEAN : 1);
    time = time_of(cost, target_ns);
    cost->most = ns > 2 * time ? larger(frames * time / ns, 1) : larger(frames, cost->most - cost->most / FADES);
}

double cost_frames(const struct cost *cost, double target_ns)
{
    double most = COST_GROWTH * cost->most, room = time_of(cost, target_ns) - cost->fixed_ns;

    return cost->frame_ns * most > room ? room / cost->frame_ns : most;
}

double cost_of_frame(const struct cost *cost, double target_ns)
{
    double time = time_of(cost, target_ns);

    return cost->most > 0 ? cost->frame_ns * time / (time - cost->fixed_ns) : 0;
}
