/* SPDX-License-Identifier: Apache-2.0
 *
 * The service manager's notification socket (sd_notify(3)) without libsystemd. Threads: any; reads the environment.
 */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

/* Send "READY=1", "STOPPING=1", "STATUS=..." (lines joined by '\n') to $NOTIFY_SOCKET; without one nothing happens.
 * Nobody can do anything about a failure, so there is no status. */
void notify_send(const char *text);

#endif
