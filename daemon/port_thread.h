/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread of a port, and its rings. It receives as long as the loop keeps up (the ring has room, and less than
 * PORT_IN_BYTES wait in it), so that a peer that sends too much is held up by its own socket, as without a thread.
 *
 * A message for a peer whose queue is full is kept in the peer's pipe and tried again every LANE_RETRY_MS; what follows
 * waits behind it. A pipe is freed by the last of its messages and its connection. Only pipes that wait for their peer
 * are visited, so the thread knows nothing of connections.
 *
 * Threads: port_thread_start and the rest of the functions from the loop thread; router_receive and router_send from the
 * one that owns the ROUTER. What is marked so below belongs to the thread.
 */
#ifndef DAEMON_PORT_THREAD_H
#define DAEMON_PORT_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "daemon/port.h"
#include "daemon/spsc.h"

#define PORT_SLOTS    1024 /* of either ring */
#define LANE_RETRY_MS 1

/* In: part[0] is the routing id. */
struct port_in {
    zmq_msg_t part[PORT_PARTS];
    int n;
    size_t bytes;
};

/* Out: one or two parts for `id`. */
struct port_out {
    zmq_msg_t id, part[2];
    int n;
    size_t bytes;
    struct pipe *pipe; /* or NULL */
};

struct port_thread {
    struct spsc in, out;
    atomic_size_t in_bytes; /* in the ring */
    atomic_bool wants_room; /* the thread waits for the loop to take something */
    atomic_bool is_ending;
    void *router;
    pthread_t thread;
    TAILQ_HEAD(, pipe) waiting; /* the thread's: pipes with refused messages */
};

/* NULL and errno. */
struct port_thread *port_thread_start(const struct port *port);
void port_thread_stop(struct port_thread *thread); /* NULL is legal */
int port_thread_receive(struct port_thread *thread, zmq_msg_t parts[PORT_PARTS], size_t *bytes);
int port_thread_send(struct port_thread *thread, struct pipe *pipe, const uint8_t *id, size_t size, zmq_msg_t *parts,
                     int n);

/* The same, of a ROUTER that the caller owns: ports_receive of one, port_send without a pipe. */
int router_receive(void *router, zmq_msg_t parts[PORT_PARTS], size_t *bytes);
int router_send(void *router, const uint8_t *id, size_t size, zmq_msg_t *parts, int n);

#endif
