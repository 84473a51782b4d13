/* SPDX-License-Identifier: Apache-2.0
 * By hand, over ZeroMQ; see publishing.h. */
#include "tests/sys/publishing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include <cmocka.h>

struct publishing *publishing_new(const struct sys_daemon *daemon, const char *run, uint32_t channels)
{
    struct publishing *p = calloc(1, sizeof(*p));
    char endpoint[200], subscription[8];
    int wait_ms = WIRE_MS, linger_ms = WIRE_MS, unbounded = 0;

    assert_non_null(p);
    snprintf(endpoint, sizeof(endpoint), "ipc://%s/publish.sock", sys_daemon_directory(daemon));
    ssmd__publish_header__init(&p->header);
    p->header.format = SSMD__FORMAT__F32LE;
    memcpy(p->run, run, strlen(run));
    p->channels = channels;
    p->context = zmq_ctx_new();
    p->socket = zmq_socket(p->context, ZMQ_XPUB);
    assert_non_null(p->socket);
    zmq_setsockopt(p->socket, ZMQ_RCVTIMEO, &wait_ms, sizeof(wait_ms));
    zmq_setsockopt(p->socket, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
    zmq_setsockopt(p->socket, ZMQ_SNDHWM, &unbounded, sizeof(unbounded));
    assert_int_equal(zmq_connect(p->socket, endpoint), 0);
    assert_int_equal(zmq_recv(p->socket, subscription, sizeof(subscription), 0), 1); /* 1: everything */
    return p;
}

void publishing_free(struct publishing *p)
{
    zmq_close(p->socket);
    zmq_ctx_term(p->context);
    free(p);
}

void publishing_send_parts(struct publishing *p, size_t n, const void *const *parts, const size_t *sizes)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(zmq_send(p->socket, parts[i], sizes[i], i + 1 < n ? ZMQ_SNDMORE : 0), sizes[i]);
}

void publishing_send(struct publishing *p, const char *id, uint64_t first, const float *samples, uint32_t frames)
{
    uint8_t bytes[128];
    const void *parts[] = {id, bytes, samples};
    size_t sizes[] = {strlen(id) + 1, 0, (size_t)frames * p->channels * sizeof(float)};

    p->header.source = (ProtobufCBinaryData){sizeof(p->run), p->run};
    p->header.first = first;
    p->header.frames = frames;
    sizes[1] = proto_size(&p->header.base);
    assert_in_range(sizes[1], 1, sizeof(bytes));
    proto_encode(&p->header.base, bytes);
    publishing_send_parts(p, 3, parts, sizes);
}

void publishing_counter_wait(struct wire *w, const char *name, uint64_t value)
{
    WIRE_UNTIL(w, wire_counter(w, name) >= value);
}

struct watching *watching_new(const struct sys_daemon *daemon, struct wire *wire)
{
    struct watching *t = calloc(1, sizeof(*t));
    int linger_ms = 0;

    assert_non_null(t);
    t->wire = wire;
    proto_arena_init(&t->arena);
    t->context = zmq_ctx_new();
    t->socket = zmq_socket(t->context, ZMQ_SUB);
    assert_non_null(t->socket);
    zmq_setsockopt(t->socket, ZMQ_LINGER, &linger_ms, sizeof(linger_ms));
    zmq_setsockopt(t->socket, ZMQ_SUBSCRIBE, "", 0);
    assert_int_equal(zmq_connect(t->socket, sys_daemon_tap(daemon)), 0);
    publishing_counter_wait(wire, "subscriptions", 1);
    return t;
}

void watching_free(struct watching *t)
{
    zmq_close(t->socket);
    zmq_ctx_term(t->context);
    proto_arena_fini(&t->arena);
    free(t);
}

static void event_take(struct watching *t, const void *head, size_t head_size, const void *bytes, size_t size)
{
    struct watching_event *out = &t->events[t->n];
    Ssmd__TapHeader *header;
    Ssmd__Event *event;

    assert_int_equal(proto_tap_header_decode(&t->arena, head, head_size, &header), PROTO_OK);
    t->data += header->kind == SSMD__TAP_HEADER__KIND__DATA;
    if (header->kind != SSMD__TAP_HEADER__KIND__EVENT)
        return;
    assert_in_range(t->n, 0, WATCHING_EVENTS - 1);
    memset(out, 0, sizeof(*out));
    memcpy(out->id, header->id.data, header->id.len);
    assert_int_equal(proto_event_decode(&t->arena, bytes, size, &event), PROTO_OK);
    out->kind = (int)event->kind;
    out->first = event->first;
    out->next = event->next;
    snprintf(out->text, sizeof(out->text), "%s", event->text ? event->text : "");
    t->n++;
}

static void drain(struct watching *t)
{
    zmq_msg_t parts[3];

    for (;;) {
        for (int i = 0; i < 3; i++) {
            zmq_msg_init(&parts[i]);
            if (zmq_msg_recv(&parts[i], t->socket, i > 0 ? 0 : ZMQ_DONTWAIT) < 0)
                return;
        }
        event_take(t, zmq_msg_data(&parts[1]), zmq_msg_size(&parts[1]), zmq_msg_data(&parts[2]),
                   zmq_msg_size(&parts[2]));
        for (int i = 0; i < 3; i++)
            zmq_msg_close(&parts[i]);
    }
}

static const struct watching_event *find(struct watching *t, int kind, size_t n)
{
    drain(t);
    for (size_t i = 0; i < t->n; i++)
        if (t->events[i].kind == kind && n-- == 0)
            return &t->events[i];
    return NULL;
}

size_t watching_count(struct watching *t, int kind)
{
    size_t n = 0;

    drain(t);
    for (size_t i = 0; i < t->n; i++)
        n += t->events[i].kind == kind;
    return n;
}

const struct watching_event *watching_wait(struct watching *t, int kind, size_t n)
{
    WIRE_UNTIL(t->wire, find(t, kind, n) != NULL);
    return find(t, kind, n);
}
