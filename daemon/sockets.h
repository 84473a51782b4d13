/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon's sockets, a ROUTER for each port, the tap and that of publishers, with every default of libzmq that is
 * dangerous set on purpose, behind the lock that keeps a
 * second daemon away. Threads: the loop thread.
 */
#ifndef DAEMON_SOCKETS_H
#define DAEMON_SOCKETS_H

#include "daemon/loop.h"

/* Lock, create and bind. Returns 0 or an exit code of sysexits.h; logs why. */
int sockets_open(struct loop *loop);
/* The lock beside the socket of an ipc endpoint, held until sockets_close, which removes the socket. The same codes. */
int sockets_lock(struct loop *loop, const char *endpoint);
/* How many connections there may be, by max_connections and the limit of descriptors, which is said when it is the less.
 * -1: there are too few for any. */
int sockets_limit(struct loop *loop);
/* Now and then: what happened at the door. */
void sockets_watch(struct loop *loop);
/* Close, letting what was sent leave within what is left of drain_ms, and unlock. */
void sockets_close(struct loop *loop);

#endif
