/* SPDX-License-Identifier: Apache-2.0
 *
 * Ports with threads: what comes in and goes out is complete and in order, a peer that does not read holds up nobody
 * else, and what waits is bounded in both directions. The test's thread is the loop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/clock.h"
#include "daemon/port_thread.h"

#define WAIT_NS UINT64_C(60000000000)
#define HWM     4

struct fixture {
    void *context;
    struct ports ports;
};

static void fixture_open(struct fixture *f, uint32_t n)
{
    int one = 1, hwm = HWM, none = 0;
    char endpoint[32];

    memset(f, 0, sizeof(*f));
    f->context = zmq_ctx_new();
    for (; f->ports.n < n; f->ports.n++) {
        struct port *port = &f->ports.port[f->ports.n];

        port->index = f->ports.n;
        port->router = zmq_socket(f->context, ZMQ_ROUTER);
        assert_non_null(port->router);
        zmq_setsockopt(port->router, ZMQ_ROUTER_MANDATORY, &one, sizeof(one));
        zmq_setsockopt(port->router, ZMQ_SNDHWM, &hwm, sizeof(hwm));
        zmq_setsockopt(port->router, ZMQ_RCVHWM, &hwm, sizeof(hwm));
        zmq_setsockopt(port->router, ZMQ_LINGER, &none, sizeof(none));
        snprintf(endpoint, sizeof(endpoint), "inproc://port-%u", port->index);
        assert_int_equal(zmq_bind(port->router, endpoint), 0);
    }
    assert_int_equal(ports_start(&f->ports), 0);
}

static void fixture_close(struct fixture *f)
{
    ports_stop(&f->ports);
    for (uint32_t i = 0; i < f->ports.n; i++)
        zmq_close(f->ports.port[i].router);
    zmq_ctx_term(f->context);
}

static void *peer_connect(struct fixture *f, uint32_t port, const char *id)
{
    void *socket = zmq_socket(f->context, ZMQ_DEALER);
    int hwm = HWM, none = 0;
    char endpoint[32];

    assert_non_null(socket);
    zmq_setsockopt(socket, ZMQ_RCVHWM, &hwm, sizeof(hwm));
    zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof(hwm));
    zmq_setsockopt(socket, ZMQ_LINGER, &none, sizeof(none));
    zmq_setsockopt(socket, ZMQ_ROUTING_ID, id, strlen(id));
    snprintf(endpoint, sizeof(endpoint), "inproc://port-%u", port);
    assert_int_equal(zmq_connect(socket, endpoint), 0);
    return socket;
}

/* As the loop does: waits on the rings. How many parts. */
static int receive(struct ports *ports, struct port **from, zmq_msg_t parts[PORT_PARTS])
{
    uint64_t until_ns = clock_now_ns() + WAIT_NS;
    zmq_pollitem_t items[PORTS_MAX];
    size_t bytes = 0;
    int n;

    ports_items(ports, items);
    while ((n = ports_receive(ports, from, parts, &bytes)) == 0) {
        assert_true(clock_now_ns() < until_ns);
        (void)!zmq_poll(items, (int)ports->n, ports_sleep(ports) ? 1000 : 0);
        (void)ports_awake(ports, items);
    }
    return n;
}

static void parts_close(zmq_msg_t *parts, int n)
{
    for (int i = 0; i < n && i < PORT_PARTS; i++)
        zmq_msg_close(&parts[i]);
}

static int send_number(const struct peer *to, struct pipe *pipe, uint32_t number, size_t size)
{
    zmq_msg_t parts[2];
    int sent;

    zmq_msg_init_size(&parts[0], sizeof(number));
    memcpy(zmq_msg_data(&parts[0]), &number, sizeof(number));
    zmq_msg_init_size(&parts[1], size);
    memset(zmq_msg_data(&parts[1]), 7, size);
    sent = port_send(to, pipe, parts, 2);
    if (sent <= 0)
        parts_close(parts, 2);
    return sent;
}

static uint32_t receive_number(void *socket)
{
    int wait_ms = (int)(WAIT_NS / CLOCK_MS);
    uint32_t number = UINT32_MAX;
    char rest[70000];

    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait_ms, sizeof(wait_ms));
    assert_int_equal(zmq_recv(socket, &number, sizeof(number), 0), sizeof(number));
    assert_true(zmq_recv(socket, rest, sizeof(rest), 0) >= 0);
    return number;
}

static void ports__three_with_threads__echo_everything_to_whom_it_is_from(void **state)
{
    enum { PEERS = 12, EACH = 300 };
    struct fixture f;
    void *peer[PEERS];
    uint32_t sent[PEERS] = {0}, got[PEERS] = {0};

    (void)state;
    fixture_open(&f, 3);
    for (uint32_t i = 0; i < PEERS; i++)
        peer[i] = peer_connect(&f, i % 3, "the same id everywhere" + i / 3);
    for (uint32_t round = 0; round < EACH; round++) {
        for (uint32_t i = 0; i < PEERS; i++) {
            zmq_send(peer[i], &i, sizeof(i), ZMQ_SNDMORE);
            assert_int_equal(zmq_send(peer[i], &sent[i], sizeof(sent[i]), 0), sizeof(uint32_t));
            sent[i]++;
        }
        for (uint32_t i = 0; i < PEERS; i++) {
            zmq_msg_t parts[PORT_PARTS];
            struct port *from;
            struct peer to;
            uint32_t who, number;

            assert_int_equal(receive(&f.ports, &from, parts), 3);
            memcpy(&who, zmq_msg_data(&parts[1]), sizeof(who));
            memcpy(&number, zmq_msg_data(&parts[2]), sizeof(number));
            assert_int_equal(number, got[who]++);
            assert_int_equal(from->index, who % 3);
            to = (struct peer){from, zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0])};
            assert_int_equal(send_number(&to, NULL, number, 0), 1);
            parts_close(parts, 3);
        }
        for (uint32_t i = 0; i < PEERS; i++)
            assert_int_equal(receive_number(peer[i]), round);
    }
    for (uint32_t i = 0; i < PEERS; i++)
        zmq_close(peer[i]);
    fixture_close(&f);
}

/* The ROUTER knows a peer of inproc from the first message it receives of it. */
static void greet(struct fixture *f, void *socket)
{
    zmq_msg_t parts[PORT_PARTS];
    struct port *from;

    assert_int_equal(zmq_send(socket, "x", 1, 0), 1);
    parts_close(parts, receive(&f->ports, &from, parts));
}

static void peer__that_does_not_read__is_full_soon_and_gets_all_in_order_later(void **state)
{
    struct pipe *slow_pipe, *quick_pipe;
    struct fixture f;
    void *slow, *quick;
    struct peer to_slow = {&f.ports.port[1], (const uint8_t *)"slow", 4};
    struct peer to_quick = {&f.ports.port[1], (const uint8_t *)"quick", 5};
    uint64_t until_ns = clock_now_ns() + WAIT_NS;
    uint32_t n = 0;

    (void)state;
    fixture_open(&f, 2);
    slow = peer_connect(&f, 1, "slow");
    quick = peer_connect(&f, 1, "quick");
    greet(&f, slow);
    greet(&f, quick);
    assert_int_equal(pipe_open(&f.ports.port[1], &slow_pipe), 0);
    assert_int_equal(pipe_open(&f.ports.port[1], &quick_pipe), 0);
    assert_true(pipe_is_idle(slow_pipe));
    /* Full once the pipe and both queues are: until then the thread may be behind. */
    for (uint64_t full_ns = 0; full_ns == 0 || clock_now_ns() - full_ns < 50 * CLOCK_MS;) {
        if (send_number(&to_slow, slow_pipe, n, 100) == 1)
            n++, full_ns = 0;
        else
            full_ns = full_ns ? full_ns : clock_now_ns();
        assert_true(n <= PIPE_MESSAGES + 3 * HWM);
    }
    assert_true(n >= PIPE_MESSAGES);
    for (uint32_t i = 0; i < 3 * PIPE_MESSAGES; i++) {
        while (send_number(&to_quick, quick_pipe, i, 100) == 0)
            assert_true(clock_now_ns() < until_ns);
        assert_int_equal(receive_number(quick), i);
    }
    assert_false(pipe_is_idle(slow_pipe));
    for (uint32_t i = 0, more = n + 1000; i < n; i++) { /* while what is new comes behind what waits */
        assert_int_equal(receive_number(slow), i);
        while (n < more && send_number(&to_slow, slow_pipe, n, 100) == 1)
            n++;
    }
    while (!pipe_is_idle(slow_pipe) || !pipe_is_idle(quick_pipe))
        assert_true(clock_now_ns() < until_ns);
    pipe_close(slow_pipe);
    pipe_close(quick_pipe);
    zmq_close(slow);
    zmq_close(quick);
    fixture_close(&f);
}

static void pipe__of_large_messages__is_bounded_in_bytes(void **state)
{
    enum { BYTES = 65536, MOST = PIPE_BYTES / BYTES + 1 + 3 * HWM };
    struct fixture f;
    struct peer to = {&f.ports.port[0], (const uint8_t *)"p", 1};
    struct pipe *pipe;
    void *socket;
    uint32_t n = 0;

    (void)state;
    assert_true(PIPE_BYTES / (2 * BYTES) < PIPE_MESSAGES);
    fixture_open(&f, 2);
    socket = peer_connect(&f, 0, "p");
    greet(&f, socket);
    assert_int_equal(pipe_open(&f.ports.port[0], &pipe), 0);
    for (uint64_t full_ns = 0; full_ns == 0 || clock_now_ns() - full_ns < 50 * CLOCK_MS;) {
        if (send_number(&to, pipe, n, 2 * (size_t)BYTES) == 1)
            n++, full_ns = 0;
        else
            full_ns = full_ns ? full_ns : clock_now_ns();
        assert_true(n <= MOST / 2 + 3 * HWM);
    }
    pipe_close(pipe); /* while much of it waits: it is dropped by the thread */
    zmq_close(socket);
    fixture_close(&f);
}

static void peer__that_went_away__is_gone_and_its_pipe_idle(void **state)
{
    uint64_t until_ns = clock_now_ns() + WAIT_NS;
    struct fixture f;
    struct peer to = {&f.ports.port[1], (const uint8_t *)"p", 1};
    struct pipe *pipe;
    void *socket;
    int sent;

    (void)state;
    fixture_open(&f, 2);
    socket = peer_connect(&f, 1, "p");
    greet(&f, socket);
    assert_int_equal(pipe_open(&f.ports.port[1], &pipe), 0);
    assert_int_equal(send_number(&to, pipe, 0, 10), 1);
    assert_int_equal(receive_number(socket), 0);
    zmq_close(socket);
    while ((sent = send_number(&to, pipe, 1, 10)) != -1)
        assert_true(clock_now_ns() < until_ns);
    assert_true(pipe_is_idle(pipe));
    pipe_close(pipe);
    fixture_close(&f);
}

static void loop__that_does_not_take__is_given_no_more_than_the_bound(void **state)
{
    enum { MESSAGES = 400, BYTES = 65536 };
    static char bytes[BYTES];
    struct fixture f;
    struct port *from;
    zmq_msg_t parts[PORT_PARTS];
    int wait_ms = 300;
    uint32_t n = 0;
    void *socket;

    (void)state;
    fixture_open(&f, 2);
    socket = peer_connect(&f, 0, "p");
    zmq_setsockopt(socket, ZMQ_SNDTIMEO, &wait_ms, sizeof(wait_ms));
    while (n < MESSAGES && zmq_send(socket, bytes, BYTES, 0) == BYTES)
        n++;
    assert_true(n < MESSAGES); /* the queues and the ring are full */
    assert_true(atomic_load(&f.ports.port[0].thread->in_bytes) < PORT_IN_BYTES + 2 * BYTES);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(receive(&f.ports, &from, parts), 2);
        assert_int_equal(zmq_msg_size(&parts[1]), BYTES);
        parts_close(parts, 2);
    }
    zmq_close(socket);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports__three_with_threads__echo_everything_to_whom_it_is_from),
        cmocka_unit_test(peer__that_does_not_read__is_full_soon_and_gets_all_in_order_later),
        cmocka_unit_test(pipe__of_large_messages__is_bounded_in_bytes),
        cmocka_unit_test(peer__that_went_away__is_gone_and_its_pipe_idle),
        cmocka_unit_test(loop__that_does_not_take__is_given_no_more_than_the_bound),
    };

    return cmocka_run_group_tests_name("port", tests, NULL, NULL);
}
