/* SPDX-License-Identifier: Apache-2.0
 *
 * The door: who gets in at the listening sockets, and at which of several that share a queue.
 *
 * At the limit of descriptors (RLIMIT_NOFILE) libzmq 4.3.4 spins on a tcp listener, and aborts the process on an ipc one:
 * its accept takes EMFILE for impossible. Its API tells nobody of a connection before that sends a message, and closing
 * a listener (zmq_unbind) ends the connections that came through it. So libzmq must not accept more than there is room
 * for, and the one place where that can be decided is accept4 itself: the door defines that function for the whole
 * process, as the rules of symbol interposition allow, and libzmq calls it. Every other caller, and every socket that is
 * not on the door's list, gets what libc does.
 *
 * A connection for which there is no room is accepted and closed at once, so that its client knows, and tries again
 * after its reconnect interval; that costs microseconds, where leaving it in the queue would wake the listener for ever.
 * Room is counted in descriptors, whoever has them: the kernel's list of them is asked, but only after half of the room
 * last seen is used up, or LOOK_MS later.
 *
 * With several listeners on one queue, all wake up when somebody connects, and one is quicker. A port that has more than
 * its share lets others go first, a few times.
 *
 * There is one door in a process, since there is one accept4. Threads: any.
 */
#ifndef DAEMON_DOOR_H
#define DAEMON_DOOR_H

#include <stdbool.h>
#include <stdint.h>

#define DOOR_LISTENERS 320 /* 9 endpoints of 32 ports */
#define DOOR_NO_PORT   UINT32_MAX

/* Puts a listening socket, which must not block, on the list, as one of the port; those of DOOR_NO_PORT share with
 * nobody. False when the list is full. */
bool door_add(int fd, uint32_t port);
/* Empties the list. */
void door_clear(void);
/* Nobody is let in who would make it more descriptors than that. */
void door_set_limit(uint64_t descriptors);
/* How many connections the port has, of those that the daemon knows: corrects what the door counted itself. */
void door_set_load(uint32_t port, uint32_t connections);
/* Connections that were closed because there was no room. */
uint64_t door_refused(void);
/* Open descriptors of the process, or -1 where the kernel does not say (no /proc). */
int64_t door_descriptors(void);

#endif
