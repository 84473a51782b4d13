/* SPDX-License-Identifier: Apache-2.0
 *
 * A histogram of non-negative numbers of any size, in constant memory: exact below 16, and beyond it sixteen buckets to
 * each power of two, so that a quantile is within 1/32 of a value that was added. Beside them the exact counts below a
 * few fixed bounds, for Prometheus, whose classic buckets must not be off.
 *
 * One addition costs some ten instructions and touches two cache lines. Nothing is allocated, and a copy of the struct
 * is a copy of the histogram.
 *
 * Threads: one at a time.
 */
#ifndef DAEMON_HISTOGRAM_H
#define DAEMON_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SPLIT      16 /* buckets of a power of two */
#define HISTOGRAM_FINE       ((64 - 3) * HISTOGRAM_SPLIT)
#define HISTOGRAM_BOUNDS_MAX 17

/* Rising; a value counts below the first bound that is not less. */
struct histogram_bounds {
    uint32_t n;
    uint64_t at[HISTOGRAM_BOUNDS_MAX];
};

extern const struct histogram_bounds histogram_bounds_seconds; /* 50 us to 5 s, of nanoseconds */
extern const struct histogram_bounds histogram_bounds_sizes;   /* 1 to 65536 */

struct histogram {
    const struct histogram_bounds *bounds;
    uint64_t count, sum, max;
    uint64_t below[HISTOGRAM_BOUNDS_MAX + 1]; /* beyond the bound before; [bounds->n]: beyond all */
    uint64_t fine[HISTOGRAM_FINE];
};

void histogram_init(struct histogram *histogram, const struct histogram_bounds *bounds);
void histogram_add(struct histogram *histogram, uint64_t value);
/* The value of rank ceil(q * count), at least 1, among those that were added: within 1/32 of it, and never beyond the
 * largest. 0 of none. */
uint64_t histogram_quantile(const struct histogram *histogram, double q);

#endif
