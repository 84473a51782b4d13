/* SPDX-License-Identifier: Apache-2.0
 *
 * Least squares with fading weights: a batch counts KEEP times as much as the one after it.
 */
#include "daemon/cost.h"

#define KEEP   (15.0 / 16)
#define SPREAD 0.05 /* standard deviation of sizes, as a part of their mean, from which on they tell the slope */

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

/* What a batch shall take where target_ns is wanted. */
static double time_of(const struct cost *cost, double target_ns)
{
    return larger(target_ns, 2 * cost->fixed_ns);
}

/* The line through what was seen: neither part is negative. */
static void line_fit(struct cost *cost)
{
    double x = cost->x / cost->weight, y = cost->y / cost->weight;
    double variance = cost->xx / cost->weight - x * x, covariance = cost->xy / cost->weight - x * y;

    if (variance > SPREAD * SPREAD * x * x)
        cost->frame_ns = covariance / variance;
    cost->frame_ns = smaller(larger(cost->frame_ns, 0), y / x);
    cost->fixed_ns = y - cost->frame_ns * x;
}

void cost_take(struct cost *cost, double frames, double ns, double target_ns)
{
    double expected = cost->fixed_ns + cost->frame_ns * frames, time = time_of(cost, target_ns);

    if (!(frames > 0))
        return;
    if (expected > 0)
        ns = smaller(ns, 2 * expected);
    if (ns <= 2 * time)
        cost->most = larger(cost->most, frames);
    else
        cost->most = larger(smaller(cost->most, frames * time / ns), 1);
    cost->weight = cost->weight * KEEP + 1;
    cost->x = cost->x * KEEP + frames;
    cost->y = cost->y * KEEP + ns;
    cost->xx = cost->xx * KEEP + frames * frames;
    cost->xy = cost->xy * KEEP + frames * ns;
    line_fit(cost);
}

double cost_frames(const struct cost *cost, double target_ns)
{
    double most = COST_GROWTH * cost->most, room = time_of(cost, target_ns) - cost->fixed_ns;

    if (cost->weight <= 0)
        return 0;
    return cost->frame_ns * most > room ? room / cost->frame_ns : most;
}

double cost_of_frame(const struct cost *cost, double target_ns)
{
    double frames = cost_frames(cost, target_ns);

    return frames > 0 ? cost->fixed_ns / frames + cost->frame_ns : 0;
}
