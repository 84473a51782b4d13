/* SPDX-License-Identifier: Apache-2.0
 *
 * One ROUTER that is called, or several that are talked to through rings.
 */
#include "daemon/port.h"
#include "daemon/port_thread.h"

#include <errno.h>

int ports_start(struct ports *ports)
{
    for (uint32_t i = 0; ports->n > 1 && i < ports->n; i++) {
        ports->port[i].thread = port_thread_start(&ports->port[i]);
        if (!ports->port[i].thread)
            return -1;
    }
    return 0;
}

void ports_stop(struct ports *ports)
{
    for (uint32_t i = 0; i < ports->n; i++) {
        port_thread_stop(ports->port[i].thread);
        ports->port[i].thread = NULL;
    }
}

void ports_items(const struct ports *ports, zmq_pollitem_t *items)
{
    for (uint32_t i = 0; i < ports->n; i++) {
        const struct port *port = &ports->port[i];

        items[i] = port->thread ? (zmq_pollitem_t){NULL, port->thread->in.fd, ZMQ_POLLIN, 0}
                                : (zmq_pollitem_t){port->router, 0, ZMQ_POLLIN, 0};
    }
}

bool ports_sleep(struct ports *ports)
{
    bool asleep = true;

    for (uint32_t i = 0; i < ports->n; i++)
        if (ports->port[i].thread)
            asleep = spsc_sleep(&ports->port[i].thread->in) && asleep;
    return asleep;
}

bool ports_awake(struct ports *ports, const zmq_pollitem_t *items)
{
    bool may_have = false;

    for (uint32_t i = 0; i < ports->n; i++) {
        bool is_readable = items[i].revents != 0;

        if (ports->port[i].thread)
            spsc_awake(&ports->port[i].thread->in, is_readable);
        may_have |= is_readable || ports->port[i].thread; /* a ring that is not slept on says nothing */
    }
    return may_have;
}

int router_receive(void *router, zmq_msg_t parts[PORT_PARTS], size_t *bytes)
{
    zmq_msg_t surplus;
    int n = 0;
    bool more = true;

    while (more) {
        zmq_msg_t *part = n < PORT_PARTS ? &parts[n] : &surplus;

        zmq_msg_init(part);
        if (zmq_msg_recv(part, router, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(part);
            break;
        }
        *bytes += zmq_msg_size(part);
        more = zmq_msg_more(part) != 0;
        if (n >= PORT_PARTS)
            zmq_msg_close(part);
        n++;
    }
    return n;
}

/* ROUTER_MANDATORY makes zmq_send say EAGAIN when a peer's queue is full and EHOSTUNREACH when it is gone; either can
 * only come for the first part of a message, so a message leaves whole or not at all. */
int router_send(void *router, const uint8_t *id, size_t size, zmq_msg_t *parts, int n)
{
    if (zmq_send(router, id, size, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return errno == EAGAIN ? 0 : -1;
    for (int i = 0; i < n; i++)
        if (zmq_msg_send(&parts[i], router, i + 1 < n ? ZMQ_SNDMORE | ZMQ_DONTWAIT : ZMQ_DONTWAIT) < 0)
            zmq_msg_close(&parts[i]);
    return 1;
}

int ports_receive(struct ports *ports, struct port **from, zmq_msg_t parts[PORT_PARTS], size_t *bytes)
{
    for (uint32_t i = 0; i < ports->n; i++) {
        struct port *port = &ports->port[ports->turn];
        int n =
            port->thread ? port_thread_receive(port->thread, parts, bytes) : router_receive(port->router, parts, bytes);

        ports->turn = ports->turn + 1 < ports->n ? ports->turn + 1 : 0;
        if (n > 0) {
            *from = port;
            return n;
        }
    }
    return 0;
}

int port_send(const struct peer *to, struct pipe *pipe, zmq_msg_t *parts, int n)
{
    if (to->port->thread)
        return port_thread_send(to->port->thread, pipe, to->id, to->size, parts, n);
    return router_send(to->port->router, to->id, to->size, parts, n);
}
