/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon's sockets, with every default of libzmq that is dangerous set on purpose, behind the lock that keeps a
 * second daemon away. Threads: the loop thread.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "daemon/loop.h"

/* Lock, create and bind. Returns 0 or an exit code of sysexits.h; logs why. */
int sockets_open(struct loop *loop);
/* The lock beside the socket of an ipc endpoint, held until sockets_close, which removes the socket. The same codes. */
int sockets_lock(struct loop *loop, const char *endpoint);
/* Close, letting what was sent leave within what is left of drain_ms, and unlock. */
void sockets_close(struct loop *loop);

#endif
