/* SPDX-License-Identifier: Apache-2.0
 *
 * One benchmark result is one JSON line: its name, the figures, and with them the machine, the commit and the
 * instruction set, so that a line can be compared years later.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <stddef.h>
#include <stdint.h>

uint64_t bench_now_ns(void);

/* The lines that follow say that they are of this device (ssm_engine_describe); the text must stay. Else of $DEVICE, if
 * there is one: who asks a daemon does not know. */
void bench_report_device(const char *device);

/* Prints {"bench": name, figures..., "device": ..., "machine": ..., "cpus": ..., "commit": ...}; figures is JSON without
 * braces, by format. */
void bench_report(const char *name, const char *figures, ...) __attribute__((format(printf, 2, 3)));

/* Sorts v and returns its q-quantile (0..1), 0 for n = 0. */
double bench_quantile(double *v, size_t n, double q);

#endif
