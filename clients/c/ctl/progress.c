/* SPDX-License-Identifier: Apache-2.0
 *
 * The bar of progress.h.
 */
#include "clients/c/ctl/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 32, INTERVAL_NS = 100000000 };

void progress_start(struct progress *p, bool is_quiet)
{
    p->is_on = !is_quiet && isatty(STDERR_FILENO);
    p->drawn_ns = 0;
}

void progress_draw(struct progress *p, int64_t now_ns, uint64_t done, int64_t total, double rate, double elapsed)
{
    if (!p->is_on || now_ns - p->drawn_ns < INTERVAL_NS)
        return;
    p->drawn_ns = now_ns;
    double seconds = rate > 0 ? (double)done / rate : 0;
    double speed = elapsed > 0 ? seconds / elapsed : 0;
    if (total > 0) {
        char bar[WIDTH + 1];
        double part = (double)done / (double)total;
        int filled = part >= 1 ? WIDTH : (int)(part * WIDTH);
        memset(bar, '.', WIDTH);
        memset(bar, '#', (size_t)filled);
        bar[WIDTH] = '\0';
        fprintf(stderr, "\r[%s] %5.1f%%  %.1f s of signal, %.1f x real time\033[K", bar, part >= 1 ? 100 : 100 * part,
                seconds, speed);
    } else {
        fprintf(stderr, "\r%.1f s of signal, %llu samples, %.1f x real time\033[K", seconds, (unsigned long long)done,
                speed);
    }
    fflush(stderr);
}

void progress_clear(struct progress *p)
{
    if (!p->is_on || p->drawn_ns == 0)
        return;
    fputs("\r\033[K", stderr);
    p->drawn_ns = 0;
}
