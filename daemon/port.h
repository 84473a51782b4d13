/* SPDX-License-Identifier: Apache-2.0
 *
 * A port is one ROUTER. There are `io_threads` of them, all bound to every endpoint, and a connection belongs to the one
 * that accepted it; routing ids are unique within a port only.
 *
 * With one port the loop calls ZeroMQ itself: nothing is faster on a machine whose cores are busy with models. With more
 * each port has a thread that owns its ROUTER, and two bounded rings to and from the loop (daemon/port_thread.h); so
 * what ZeroMQ costs a message is paid on other cores. The loop sees one interface.
 *
 * Sending to a port with a thread cannot say at once whether the peer's queue was full. So each connection has a pipe:
 * the messages that the loop gave away and the thread has not sent, PIPE_MESSAGES and PIPE_BYTES at most. A full pipe
 * says the same as a full queue, and the thread tries again what a full queue refused, in order.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_PORT_H
#define DAEMON_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zmq.h>

#define PORTS_MAX     32
#define PORT_PARTS    3          /* of a message that comes in: routing id and two */
#define PORT_IN_BYTES (4u << 20) /* of messages that the loop has not taken from a thread; one more may pass it */
#define PIPE_MESSAGES 128
#define PIPE_BYTES    (8u << 20) /* likewise */

struct port_thread;
struct pipe;

struct port {
    uint32_t index;
    uint32_t connections; /* that said hello */
    void *router;
    struct port_thread *thread; /* NULL: the loop calls the ROUTER itself */
};

struct ports {
    uint32_t n;
    uint32_t turn; /* from whom the next message is taken */
    struct port port[PORTS_MAX];
};

/* Who a message is from or for. */
struct peer {
    struct port *port;
    const uint8_t *id;
    size_t size;
};

/* Threads for ports whose ROUTERs are bound, when there are several. 0, or -1 and errno. */
int ports_start(struct ports *ports);
/* Ends the threads; what was given to them is sent or dropped, without waiting. Every pipe was closed. */
void ports_stop(struct ports *ports);
/* What to poll: n items. */
void ports_items(const struct ports *ports, zmq_pollitem_t *items);
/* Before polling: false when there is something to take. After polling: whether there may be something to take. */
bool ports_sleep(struct ports *ports);
bool ports_awake(struct ports *ports, const zmq_pollitem_t *items);

/* The next message of any port, in turn. How many parts it has, 0: there is none. Those beyond PORT_PARTS were dropped
 * but count; the others are the caller's to close. */
int ports_receive(struct ports *ports, struct port **from, zmq_msg_t parts[PORT_PARTS], size_t *bytes);
/* 1: sent, or given to the port's thread. 0: the queue is full. -1: the peer is gone. The parts (one or two) are taken
 * only when sent. `pipe` is NULL for a peer that has none: its messages are lost when its queue is full. */
int port_send(const struct peer *to, struct pipe *pipe, zmq_msg_t *parts, int n);

/* A pipe for a new connection of the port; *out is NULL where there is no thread. -1: out of memory. */
int pipe_open(const struct port *port, struct pipe **out);
/* What the peer's queue refused so far is dropped. NULL is legal. */
void pipe_close(struct pipe *pipe);
/* Whether everything was sent, or cannot be. NULL is legal. */
bool pipe_is_idle(const struct pipe *pipe);

#endif
