/* SPDX-License-Identifier: Apache-2.0
 *
 * One daemon per ipc endpoint. libzmq unlinks whatever lies at an ipc path and binds there, so that a second daemon
 * would steal the endpoint of the first without a word, and a wrong path would cost a file. Threads: one.
 */
#ifndef DAEMON_LOCK_H
#define DAEMON_LOCK_H

enum lock_status {
    LOCK_OK = 0,
    LOCK_HELD = -1,       /* another process holds it */
    LOCK_NOT_SOCKET = -2, /* `path` is there and is no socket: it is not ours to unlink */
    LOCK_IO = -3          /* errno says why */
};

/* Takes PATH.lock beside the socket at `path` until the process ends or lock_release. *out is a descriptor. */
int lock_acquire(int *out, const char *path);
void lock_release(int fd); /* -1 is legal; the file stays, since removing it would race with the next daemon */

#endif
