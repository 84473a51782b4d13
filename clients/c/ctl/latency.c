/* SPDX-License-Identifier: Apache-2.0
 *
 * The histogram of latency.h.
 */
#include "clients/c/ctl/latency.h"

#include <math.h>

/* Below 64 ns one bin for each ns; above, the leading 7 bits. */
static unsigned bin_of(uint64_t ns)
{
    if (ns < LATENCY_STEPS)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - 6;
    unsigned bin = (shift + 1) * LATENCY_STEPS + (unsigned)((ns >> shift) - LATENCY_STEPS);
    return bin < LATENCY_DOUBLINGS * LATENCY_STEPS ? bin : LATENCY_DOUBLINGS * LATENCY_STEPS - 1;
}

static double middle_of(unsigned bin)
{
    if (bin < LATENCY_STEPS)
        return bin;
    unsigned shift = bin / LATENCY_STEPS - 1;
    return ldexp(LATENCY_STEPS + bin % LATENCY_STEPS + 0.5, (int)shift);
}

void latency_add(struct latency *l, uint64_t ns)
{
    l->bins[bin_of(ns)]++;
    l->count++;
    if (ns > l->max_ns)
        l->max_ns = ns;
}

double latency_quantile_ms(const struct latency *l, double fraction)
{
    uint64_t rank = (uint64_t)ceil(fraction * (double)l->count), seen = 0;
    for (unsigned i = 0; i < LATENCY_DOUBLINGS * LATENCY_STEPS; i++) {
        seen += l->bins[i];
        if (seen >= rank && seen > 0)
            return fmin(middle_of(i), (double)l->max_ns) / 1e6;
    }
    return 0;
}
