/* SPDX-License-Identifier: Apache-2.0
 *
 * What a run counts: each thread has a tally of its own, and they are added at the end.
 *
 * Times go into histograms of constant size, 64 buckets for each power of two, so that a quantile is too large by at most
 * one part in 64 and a run may last for days.
 */
#ifndef BENCH_LOAD_TALLY_H
#define BENCH_LOAD_TALLY_H

#include <stdint.h>

enum { HISTOGRAM_FINE = 64, HISTOGRAM_BUCKETS = 40 * HISTOGRAM_FINE };

struct histogram {
    uint64_t n, max; /* ns */
    uint64_t count[HISTOGRAM_BUCKETS];
};

struct tally {
    struct histogram latency;  /* of results of live chunks */
    struct histogram recovery; /* ... that a broken or slow connection held up */
    struct histogram lateness; /* of sends against their schedule */
    uint64_t chunks, frames;   /* results that came, live and backfill */
    uint64_t misses;           /* live results after their deadline */
    uint64_t lost, doubled, wrong;
    uint64_t refused; /* chunks, and requests */
    uint64_t held;    /* chunks that waited for a window or a connection */
    uint64_t resent, reconnects;
    uint64_t backfill_streams;
    double backfill_speed; /* seconds of signal in a second, of all of them */
    double backfill_least; /* of the slowest; 0: none */
};

void histogram_add(struct histogram *h, uint64_t ns);
/* The q-quantile (0..1) in milliseconds; 0 when it is empty. */
double histogram_ms(const struct histogram *h, double q);
void tally_add(struct tally *to, const struct tally *from);

#endif
