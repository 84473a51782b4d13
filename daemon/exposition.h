/* SPDX-License-Identifier: Apache-2.0
 *
 * A snapshot of the registry as Prometheus reads it (text format 0.0.4), and the registry as a table for
 * docs/METRICS.md. Every metric has HELP and TYPE and stands in one piece; times are in seconds, sizes in bytes.
 *
 * Threads: any; pure but for /proc/self, where the numbers of the process come from.
 */
#ifndef DAEMON_EXPOSITION_H
#define DAEMON_EXPOSITION_H

#include <stdio.h>

#include "daemon/metrics.h"

void exposition_write(const struct metrics_snapshot *snapshot, FILE *out);
/* Those that every process has: memory, descriptors, processor time. What cannot be read is left out. */
void exposition_write_process(FILE *out);
/* The registry as Markdown. */
void exposition_print_table(FILE *out);

#endif
