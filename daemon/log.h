/* SPDX-License-Identifier: Apache-2.0
 *
 * The log: one line per event, `event key=value key=value`, written to standard error with one write(2).
 *
 *     log_event(LOG_NOTICE, "stream_opened", "stream=%.*s model=%s rate=%g", size, id, model, rate);
 *     log_event(LOG_INFO, "ready");
 *
 * The format is printf's, checked by the compiler, restricted to words `key=%spec` separated by single blanks (a word
 * may also be all literal). The log knows where each value begins and ends, so text that holds blanks, quotes, '=',
 * control or non-ASCII bytes leaves quoted and escaped, and no client can forge a line. Specs: %s %.*s, integers d i u
 * x o with l, ll, z, j, and %g %f %e with a precision.
 *
 * Under systemd (JOURNAL_STREAM names our standard error) a line begins with <N>, its priority; otherwise with the time
 * and the priority's name.
 *
 * Each call site may log LOG_SITE_BURST lines in LOG_SITE_PERIOD_MS; what comes on top is counted, and the site's next
 * line carries suppressed=N. Only the daemon logs, once, at the place that decides; nothing is logged per sample.
 *
 * Threads: log_event from any thread, never from a signal handler. log_init and log_set_level from one.
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdatomic.h>
#include <stdint.h>
#include <syslog.h> /* LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG */

#define LOG_SITE_BURST     10
#define LOG_SITE_PERIOD_MS 10000

enum log_form { LOG_FORM_PLAIN, LOG_FORM_JOURNAL };

struct log_site {
    _Atomic uint64_t began_ms; /* of the current period, 0: never */
    _Atomic uint32_t lines;
    _Atomic uint32_t suppressed;
};

/* Where and how lines are written; before it, plain lines of LOG_INFO and above go to standard error. */
void log_init(int fd, enum log_form form, int level);
void log_set_level(int level);
/* LOG_FORM_JOURNAL when $JOURNAL_STREAM is the device and inode of fd. */
enum log_form log_form_find(int fd);
/* "err" "warning" "notice" "info" "debug": the priority, or -1. */
int log_level_find(const char *name);

#define log_event(priority, event, ...)                                                                                \
    do {                                                                                                               \
        static struct log_site log_site_;                                                                              \
        log_write(&log_site_, (priority), (event), " " __VA_ARGS__);                                                   \
    } while (0)

void log_write(struct log_site *site, int priority, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
