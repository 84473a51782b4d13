/* SPDX-License-Identifier: Apache-2.0
 * Log-linear buckets; see histogram.h. */
#include "daemon/histogram.h"

#include <math.h>
#include <string.h>

#define MS UINT64_C(1000000)

const struct histogram_bounds histogram_bounds_seconds = {
    16,
    {MS / 20, MS / 10, MS / 4, MS / 2, MS, 5 * MS / 2, 5 * MS, 10 * MS, 20 * MS, 40 * MS, 80 * MS, 160 * MS, 320 * MS,
     640 * MS, 1280 * MS, 5000 * MS},
};

const struct histogram_bounds histogram_bounds_sizes = {
    15,
    {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 16384, 65536},
};

void histogram_init(struct histogram *histogram, const struct histogram_bounds *bounds)
{
    memset(histogram, 0, sizeof(*histogram));
    histogram->bounds = bounds;
}

/* Of a value of exponent e = floor(log2) >= 4, the four bits below the first choose among sixteen. */
static uint32_t fine_find(uint64_t value)
{
    uint32_t e;

    if (value < HISTOGRAM_SPLIT)
        return (uint32_t)value;
    e = 63 - (uint32_t)__builtin_clzll(value);
    return (e - 3) * HISTOGRAM_SPLIT + ((value >> (e - 4)) & (HISTOGRAM_SPLIT - 1));
}

/* The middle of what the bucket holds. */
static uint64_t fine_value(uint32_t at)
{
    uint32_t shift;

    if (at < 2 * HISTOGRAM_SPLIT)
        return at;
    shift = at / HISTOGRAM_SPLIT - 1;
    return ((uint64_t)(HISTOGRAM_SPLIT + at % HISTOGRAM_SPLIT) << shift) + (((UINT64_C(1) << shift) - 1) >> 1);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    const struct histogram_bounds *bounds = histogram->bounds;
    uint32_t from = 0, to = bounds->n;

    while (from < to) {
        uint32_t middle = (from + to) / 2;

        if (value <= bounds->at[middle])
            to = middle;
        else
            from = middle + 1;
    }
    histogram->below[from]++;
    histogram->fine[fine_find(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max)
        histogram->max = value;
}

uint64_t histogram_quantile(const struct histogram *histogram, double q)
{
    uint64_t rank = (uint64_t)ceil(q * (double)histogram->count), seen = 0, value;

    if (histogram->count == 0)
        return 0;
    if (rank >= histogram->count)
        return histogram->max;
    rank = rank < 1 ? 1 : rank;
    for (uint32_t i = 0; i < HISTOGRAM_FINE; i++) {
        seen += histogram->fine[i];
        if (seen < rank)
            continue;
        value = fine_value(i);
        return value < histogram->max ? value : histogram->max;
    }
    return histogram->max;
}
