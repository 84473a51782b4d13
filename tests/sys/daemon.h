/* SPDX-License-Identifier: Apache-2.0
 *
 * The real daemon for tests: $BUILD/bin/ssmd in a temporary directory of its own, with its log kept.
 *
 *     struct sys_daemon *d;
 *     assert_int_equal(sys_daemon_start(&d, "max_streams = 10\n"), 0);
 *     ... sys_daemon_endpoint(d) ...
 *     assert_int_equal(sys_daemon_stop(d, 5000), 0);
 *     sys_daemon_free(d);
 *
 * In the environment, SSMD_TEST_LINE is one more line of configuration for every daemon (scripts/run-tests sets it), and
 * SSMD_TEST_DESCRIPTORS a limit of descriptors.
 *
 * Threads: one test at a time owns one.
 */
#ifndef TESTS_SYS_DAEMON_H
#define TESTS_SYS_DAEMON_H

#include <sys/types.h>

struct sys_daemon;

/* Write a configuration of `lines` (may be NULL) and, where these do not set them, endpoint and tap in the temporary
 * directory; start; wait until it is ready. '@' in lines stands for that directory. 0, or -1 with what went wrong (and
 * the daemon's log) on standard error. */
int sys_daemon_start(struct sys_daemon **out, const char *lines);
/* Start it again in the same directory after it ended. */
int sys_daemon_restart(struct sys_daemon *daemon);
/* $BUILD/bin/ssmd with these arguments after the name, NULL at the end, to its end: its exit code, or -1. */
int sys_daemon_run(const char *const *args);

const char *sys_daemon_endpoint(const struct sys_daemon *daemon);
const char *sys_daemon_tap(const struct sys_daemon *daemon);
const char *sys_daemon_directory(const struct sys_daemon *daemon);
const char *sys_daemon_conf(const struct sys_daemon *daemon); /* path of its configuration; rewrite it, then SIGHUP */
pid_t sys_daemon_pid(const struct sys_daemon *daemon);        /* 0 when it ended */
/* Its log so far; valid until the next call. */
const char *sys_daemon_log(struct sys_daemon *daemon);

void sys_daemon_signal(const struct sys_daemon *daemon, int signal);
/* Wait for its end: its exit code, 128 + signal, or -1 when it is still there after timeout_ms. */
int sys_daemon_wait(struct sys_daemon *daemon, int timeout_ms);
/* SIGTERM, then the same; when it stays it is killed and -1. */
int sys_daemon_stop(struct sys_daemon *daemon, int timeout_ms);
/* Kills what is left and removes the directory. NULL is legal. */
void sys_daemon_free(struct sys_daemon *daemon);

#endif
