/* SPDX-License-Identifier: Apache-2.0
 *
 * A progress bar on standard error, drawn at most ten times a second, only on a terminal.
 */
#ifndef SSMD_CLIENTS_C_CTL_PROGRESS_H
#define SSMD_CLIENTS_C_CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool is_on;
    int64_t drawn_ns;
};

void progress_start(struct progress *p, bool is_quiet);
/* done of total (negative: not known) frames at `rate` Hz, `elapsed` seconds after the start. */
void progress_draw(struct progress *p, int64_t now_ns, uint64_t done, int64_t total, double rate, double elapsed);
/* Takes the bar away, so that a line may be printed. */
void progress_clear(struct progress *p);

#endif
