/* SPDX-License-Identifier: Apache-2.0
 *
 * See tally.h.
 */
#include "bench/load/tally.h"

/* Values below HISTOGRAM_FINE have a bucket each; above, the bits behind the first name the bucket. */
static uint32_t bucket_find(uint64_t ns)
{
    uint32_t power, at;

    if (ns < HISTOGRAM_FINE)
        return (uint32_t)ns;
    power = 63u - (uint32_t)__builtin_clzll(ns); /* at least 6 */
    at = (power - 5) * HISTOGRAM_FINE + (uint32_t)((ns >> (power - 6)) & (HISTOGRAM_FINE - 1));
    return at < HISTOGRAM_BUCKETS ? at : HISTOGRAM_BUCKETS - 1;
}

/* The least value beyond the bucket. */
static uint64_t bucket_end(uint32_t at)
{
    uint32_t power = at / HISTOGRAM_FINE + 5;

    if (at < HISTOGRAM_FINE)
        return at + 1;
    return (uint64_t)(HISTOGRAM_FINE + at % HISTOGRAM_FINE + 1) << (power - 6);
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    h->n++;
    h->max = ns > h->max ? ns : h->max;
    h->count[bucket_find(ns)]++;
}

double histogram_ms(const struct histogram *h, double q)
{
    uint64_t rank = (uint64_t)(q * (double)h->n + 0.999999), seen = 0;

    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS && h->n > 0; i++) {
        seen += h->count[i];
        if (seen >= rank && seen > 0)
            return (double)(bucket_end(i) < h->max ? bucket_end(i) : h->max) * 1e-6;
    }
    return 0;
}

static void histogram_sum(struct histogram *to, const struct histogram *from)
{
    to->n += from->n;
    to->max = from->max > to->max ? from->max : to->max;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->count[i] += from->count[i];
}

void tally_add(struct tally *to, const struct tally *from)
{
    histogram_sum(&to->latency, &from->latency);
    histogram_sum(&to->recovery, &from->recovery);
    histogram_sum(&to->lateness, &from->lateness);
    to->chunks += from->chunks;
    to->frames += from->frames;
    to->misses += from->misses;
    to->lost += from->lost;
    to->doubled += from->doubled;
    to->wrong += from->wrong;
    to->refused += from->refused;
    to->held += from->held;
    to->resent += from->resent;
    to->reconnects += from->reconnects;
    to->backfill_streams += from->backfill_streams;
    to->backfill_speed += from->backfill_speed;
    if (from->backfill_streams && (to->backfill_least <= 0 || from->backfill_least < to->backfill_least))
        to->backfill_least = from->backfill_least;
}
