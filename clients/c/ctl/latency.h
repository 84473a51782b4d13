/* SPDX-License-Identifier: Apache-2.0
 *
 * Times in a histogram of fixed size: 64 steps for each doubling, so that a quantile is within 1.6 % whatever the
 * number of samples.
 */
#ifndef SSMD_CLIENTS_C_CTL_LATENCY_H
#define SSMD_CLIENTS_C_CTL_LATENCY_H

#include <stdint.h>

enum { LATENCY_STEPS = 64, LATENCY_DOUBLINGS = 40 };

struct latency {
    uint64_t count, max_ns;
    uint32_t bins[LATENCY_DOUBLINGS * LATENCY_STEPS];
};

void latency_add(struct latency *l, uint64_t ns);
/* The time that a fraction (0 to 1) of the samples does not exceed; 0 when there are none. */
double latency_quantile_ms(const struct latency *l, double fraction);

#endif
