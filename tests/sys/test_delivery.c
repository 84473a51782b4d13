/* SPDX-License-Identifier: Apache-2.0
 *
 * Results on their way: credit, full rings, windows, readers that keep up and readers that do not, and the tap. The
 * model is y = 2 x, so that every result says which frame it is of.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "tests/ssm/making.h"
#include "clients/c/ssmclient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

#define PIECE 500 /* frames of one push */

static float sample_at(uint64_t frame)
{
    return (float)(frame % 100003) - 50000.0f;
}

/* The stream's next `frames` frames; what they hold follows from their index. */
static void push_numbers(struct wire *w, struct wire_stream *s, uint64_t frames)
{
    float in[PIECE];

    while (frames > 0) {
        uint32_t n = frames < PIECE ? (uint32_t)frames : PIECE;

        for (uint32_t i = 0; i < n; i++)
            in[i] = sample_at(s->sent + i);
        wire_push(w, s, in, n, 0);
        frames -= n;
    }
}

/* Results `at`.. of s->out are of frames `index`.. */
static void numbers_check(const struct wire_stream *s, uint64_t at, uint64_t index, uint64_t frames)
{
    assert_true(at + frames <= s->results);
    for (uint64_t i = 0; i < frames; i++)
        if (s->out[at + i] != 2 * sample_at(index + i))
            fail_msg("result %d is not of frame %d", (int)(at + i), (int)(index + i));
}

/* ---- credit ------------------------------------------------------------------------------------------------------ */

static void credit__of_random_bytes__is_used_to_the_last_whole_frame_and_no_further(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    uint32_t seed = 21;

    (void)state;
    push_numbers(w, s, 3000);
    WIRE_UNTIL(w, s->applied == 3000);
    assert_int_equal(s->results, 0);
    while (s->limit < 12000) {
        uint64_t limit = s->limit + making_number(&seed, 300), whole = limit / 4 < 3000 ? limit / 4 : 3000;

        wire_credit(w, s, 0, limit);
        WIRE_UNTIL(w, s->results == whole);
        assert_int_equal(wire_ping(w), SSMD__CODE__OK);
        assert_int_equal(s->results, whole);
    }
    numbers_check(s, 0, 0, 3000);
    wire_free(w);
    serving_stop(d);
}

static void ring__full__stops_that_stream_until_credit_and_no_other(void **state)
{
    struct sys_daemon *d = serving_start("result_ring = 4K\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *other = wire_new(sys_daemon_endpoint(d), "other");
    struct wire_stream *full = wire_open(w, "full", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    struct wire_stream *near = wire_open(w, "near", "twice", WIRE_RESULTS);
    struct wire_stream *far = wire_open(other, "far", "twice", WIRE_RESULTS);

    (void)state;
    push_numbers(w, full, 5000);
    WIRE_UNTIL(w, wire_counter(w, "rings_full") > 0);
    for (int i = 0; i < 40; i++) {
        push_numbers(w, near, 500);
        push_numbers(other, far, 500);
        WIRE_UNTIL(w, near->results == near->sent);
        WIRE_UNTIL(other, far->results == far->sent);
    }
    assert_in_range(full->applied, 1, 1024);
    assert_int_equal(full->results, 0);
    numbers_check(near, 0, 0, 20000);
    numbers_check(far, 0, 0, 20000);
    while (full->results < 5000) {
        uint64_t before = full->results;

        wire_credit(w, full, full->next, full->bytes + 777 * 4);
        WIRE_UNTIL(w, full->results > before);
        WIRE_UNTIL(w, full->results == 5000 || full->bytes == full->limit || full->results == full->applied);
    }
    numbers_check(full, 0, 0, 5000);
    wire_free(w);
    wire_free(other);
    serving_stop(d);
}

static void ring__full_of_times__stops_and_goes_on_without_loss(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    enum { ALL = 20000, MANY = 100 };

    (void)state;
    for (int k = 0; k < ALL / MANY; k++) {
        struct wire_chunk chunks[MANY];
        float in[MANY];

        for (int i = 0; i < MANY; i++) {
            in[i] = sample_at(s->sent);
            chunks[i] = (struct wire_chunk){.stream = s,
                                            .first = s->sent,
                                            .frames = 1,
                                            .format = SSMD__FORMAT__F32LE,
                                            .flags = PROTO_FLAG_TIME,
                                            .time = -1000000 * (int64_t)s->sent++,
                                            .samples = &in[i]};
        }
        wire_send(w, chunks, MANY);
    }
    WIRE_UNTIL(w, wire_counter(w, "rings_full") > 0);
    assert_int_equal(s->results, 0);
    s->grant = 1 << 20;
    wire_credit(w, s, 0, s->grant);
    WIRE_UNTIL(w, s->results == ALL);
    numbers_check(s, 0, 0, ALL);
    for (int i = 0; i < ALL; i++)
        assert_true(s->times[i] == -1000000 * (int64_t)i);
    assert_int_equal(w->refusals_n, 0);
    wire_free(w);
    serving_stop(d);
}

static void times__of_some_chunks__are_echoed_with_their_results_and_no_others(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS);
    int64_t want[20000];
    float in[40];
    uint32_t seed = 6;

    (void)state;
    while (s->sent + 40 < 20000) {
        struct wire_chunk chunk = {.stream = s, .first = s->sent, .format = SSMD__FORMAT__F32LE, .samples = in};

        chunk.frames = 1 + making_number(&seed, 40);
        chunk.flags = making_number(&seed, 3) ? PROTO_FLAG_TIME : 0;
        chunk.time = (int64_t)making_number(&seed, 5) - 2;
        for (uint32_t i = 0; i < chunk.frames; i++) {
            in[i] = sample_at(s->sent);
            want[s->sent++] = chunk.flags ? chunk.time : INT64_MIN;
        }
        wire_send(w, &chunk, 1);
    }
    WIRE_UNTIL(w, s->results == s->sent);
    numbers_check(s, 0, 0, s->sent);
    assert_memory_equal(s->times, want, s->sent * sizeof(*want));
    wire_free(w);
    serving_stop(d);
}

static void windows__overrun__refuse_once_and_take_the_frames_later(void **state)
{
    struct sys_daemon *d = serving_start("result_ring = 4K\nstream_window = 8K\nconnection_window = 12K\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *one = wire_open(w, "one", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    struct wire_stream *two = wire_open(w, "two", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    uint64_t taken;

    (void)state;
    push_numbers(w, one, 1000);
    push_numbers(w, two, 1000);
    WIRE_UNTIL(w, one->applied == 1000 && two->applied == 1000);
    push_numbers(w, one, 5000); /* 24 frames more fit its ring, 2048 its window */
    WIRE_UNTIL(w, wire_refusals(w, SSMD__CODE__OVERFLOW) == 1);
    push_numbers(w, two, 2000); /* these the connection's, beside what the other has */
    WIRE_UNTIL(w, wire_refusals(w, SSMD__CODE__OVERFLOW) == 2);
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    assert_int_equal(wire_refusals(w, SSMD__CODE__OVERFLOW), 2);
    assert_int_equal(w->refusals[0].handle, one->handle);
    assert_int_equal(w->refusals[1].handle, two->handle);
    taken = w->refusals[0].expected;
    assert_in_range(taken, 1000, 1000 + 24 + 2048);
    one->grant = 1 << 20;
    wire_credit(w, one, 0, 1 << 20);
    WIRE_UNTIL(w, one->results == taken);
    one->sent = taken;
    push_numbers(w, one, 500);
    WIRE_UNTIL(w, one->results == taken + 500);
    numbers_check(one, 0, 0, taken + 500);
    assert_int_equal(wire_refusals(w, SSMD__CODE__GAP), 0);
    wire_free(w);
    serving_stop(d);
}

/* ---- readers ----------------------------------------------------------------------------------------------------- */

static void reader__of_an_id__gets_every_result_and_the_end(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *reader = wire_new(sys_daemon_endpoint(d), "reader");
    struct wire_stream *s = wire_open(w, "s", "twice", 0), *view;
    uint64_t from = 700;

    (void)state;
    push_numbers(w, s, 1000);
    WIRE_UNTIL(w, s->applied == 1000);
    assert_int_equal(wire_read(reader, "s", false, &from, 1 << 20), SSMD__CODE__OK);
    assert_int_equal(reader->reply->read->n_handle, 1);
    WIRE_UNTIL(reader, (view = wire_find(reader, "s")) != NULL);
    push_numbers(w, s, 9000);
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    WIRE_UNTIL(reader, view->has_ended);
    assert_int_equal(view->begin, 700);
    assert_int_equal(view->results, 9300);
    numbers_check(view, 0, 700, 9300);
    WIRE_UNTIL(reader, wire_counter(reader, "streams") == 0);
    wire_free(reader);
    wire_free(w);
    serving_stop(d);
}

static void reader__of_a_prefix__gets_streams_that_are_opened_later_and_no_others(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *reader = wire_new(sys_daemon_endpoint(d), "reader");
    struct wire_stream *s[8];
    char id[32];

    (void)state;
    s[0] = wire_open(w, "room/0", "twice", 0);
    assert_int_equal(wire_read(reader, "room/", true, NULL, 1 << 20), SSMD__CODE__OK);
    assert_int_equal(reader->reply->read->n_handle, 1);
    for (int i = 1; i < 8; i++) {
        snprintf(id, sizeof(id), "%s/%d", i % 2 ? "room" : "roof", i);
        s[i] = wire_open(w, id, "twice", 0);
    }
    for (int i = 0; i < 8; i++)
        push_numbers(w, s[i], 600 + (uint64_t)i);
    for (int i = 0; i < 8; i++)
        assert_int_equal(wire_close(w, s[i]), SSMD__CODE__OK);
    WIRE_UNTIL(reader, wire_events(reader, SSMD__EVENT__KIND__ENDED) == 5);
    assert_int_equal(wire_events(reader, SSMD__EVENT__KIND__READING), 5);
    for (int i = 0; i < 8; i++) {
        struct wire_stream *view;

        snprintf(id, sizeof(id), "%s/%d", i % 2 || i == 0 ? "room" : "roof", i);
        view = wire_find(reader, id);
        if (strncmp(id, "room/", 5) != 0) {
            assert_null(view);
            continue;
        }
        assert_non_null(view);
        assert_int_equal(view->begin, 0);
        assert_int_equal(view->results, 600 + i);
        numbers_check(view, 0, 0, 600 + (uint64_t)i);
    }
    wire_free(reader);
    wire_free(w);
    serving_stop(d);
}

static void reader__overrun__is_told_what_it_lost_and_never_stops_the_writer(void **state)
{
    struct sys_daemon *d = serving_start("result_ring = 4K\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *reader = wire_new(sys_daemon_endpoint(d), "reader");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS), *view;

    (void)state;
    assert_int_equal(wire_read(reader, "s", false, NULL, 400), SSMD__CODE__OK);
    for (int i = 0; i < 20; i++) {
        push_numbers(w, s, 500);
        WIRE_UNTIL(w, s->results == s->sent);
    }
    numbers_check(s, 0, 0, 10000);
    view = wire_find(reader, "s");
    WIRE_UNTIL(reader, (view = wire_find(reader, "s")) != NULL && view->results == 100);
    assert_int_equal(view->lost, 0);
    wire_credit(reader, view, 0, 1 << 20);
    WIRE_UNTIL(reader, view->next == 10000);
    assert_in_range(view->lost, 10000 - 100 - 1024, 9900);
    assert_int_equal(view->results + view->lost, 10000);
    numbers_check(view, 0, 0, 100);
    numbers_check(view, 100, 100 + view->lost, view->results - 100);
    push_numbers(w, s, 100);
    WIRE_UNTIL(reader, view->next == 10100);
    numbers_check(view, view->results - 100, 10000, 100);
    wire_free(reader);
    wire_free(w);
    serving_stop(d);
}

static void reader__of_a_stream_that_is_reset__begins_again_in_the_new_epoch(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *reader = wire_new(sys_daemon_endpoint(d), "reader");
    struct wire *thief = wire_new(sys_daemon_endpoint(d), "thief");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS), *view, *stolen;

    (void)state;
    assert_int_equal(wire_read(reader, "s", false, NULL, 1 << 20), SSMD__CODE__OK);
    push_numbers(w, s, 300);
    assert_int_equal(wire_reset(w, s), SSMD__CODE__OK);
    push_numbers(w, s, 200);
    WIRE_UNTIL(reader, (view = wire_find(reader, "s")) != NULL && view->epoch == s->epoch && view->next == 200);
    assert_int_equal(view->results + view->lost, 500);
    numbers_check(view, view->results - 200, 0, 200);
    WIRE_UNTIL(w, s->applied == 200);
    assert_int_equal(wire_try_open(thief, &stolen, "s", "twice", WIRE_TAKE_OVER, 0), SSMD__CODE__OK);
    push_numbers(thief, stolen, 100);
    WIRE_UNTIL(reader, view->epoch == stolen->epoch && view->next == 300);
    numbers_check(view, view->results - 100, 200, 100);
    wire_free(thief);
    wire_free(reader);
    wire_free(w);
    serving_stop(d);
}

/* What a prefix reader of the library got: results of each stream in order, with what it was told to be lost. */
struct views {
    struct ssmc_stream *s[2];
    uint64_t next[2], lost;
};

static void view_found(void *context, struct ssmc_stream *s)
{
    struct views *v = context;
    struct ssmc_stream_info info;

    ssmc_stream_info(s, &info);
    v->s[info.id[info.id_size - 1] - '0'] = s;
}

static void views_take(struct ssmc *c, struct views *v, uint64_t a, uint64_t b)
{
    long until = wire_now_ms() + WIRE_MS;
    struct ssmc_result result;

    while (v->next[0] < a || v->next[1] < b) {
        assert_true(ssmc_poll(c, 20) >= 0);
        assert_true(wire_now_ms() < until);
        for (int i = 0; i < 2; i++)
            while (v->s[i] && ssmc_next(v->s[i], &result) == 1) {
                v->lost += result.lost;
                assert_int_equal(result.first, v->next[i] + result.lost);
                for (uint32_t k = 0; k < result.frames; k++)
                    assert_true(result.samples[k] == 2 * sample_at(result.first + k));
                v->next[i] = result.first + result.frames;
            }
    }
    assert_int_equal(v->next[0], a);
    assert_int_equal(v->next[1], b);
}

static void reader__of_a_prefix_forgotten_by_the_daemon__misses_only_what_is_gone(void **state)
{
    struct sys_daemon *d = serving_start("idle_ms = 1000\nresult_ring = 4K\n");
    struct ssmc_options options = {.endpoint = sys_daemon_endpoint(d), .timeout_ms = WIRE_MS};
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s[2] = {wire_open(w, "room/0", "twice", WIRE_RESULTS)};
    struct views v = {0};
    struct ssmc *c;

    (void)state;
    assert_int_equal(ssmc_connect(&c, &options, NULL, 0), SSMC_OK);
    assert_int_equal(ssmc_read(c, "room/", 5, 1, SSMC_OLDEST, view_found, &v, WIRE_MS), SSMC_OK);
    push_numbers(w, s[0], 100);
    views_take(c, &v, 100, 0);
    WIRE_UNTIL(w, wire_counter(w, "connections_forgotten") == 1);
    push_numbers(w, s[0], 500);
    s[1] = wire_open(w, "room/1", "twice", WIRE_RESULTS);
    push_numbers(w, s[1], 300);
    WIRE_UNTIL(w, s[0]->results == 600 && s[1]->results == 300);
    views_take(c, &v, 600, 300);
    assert_int_equal(v.lost, 0);
    WIRE_UNTIL(w, wire_counter(w, "connections_forgotten") == 2);
    for (int i = 0; i < 4; i++) {
        push_numbers(w, s[0], 1000);
        WIRE_UNTIL(w, s[0]->results == s[0]->sent);
    }
    views_take(c, &v, 4600, 300);
    assert_int_equal(v.lost, 4000 - 1024); /* the ring holds 1024 */
    ssmc_free(c);
    wire_free(w);
    serving_stop(d);
}

/* Asks and does not read, until the daemon finds the queue of this connection full. `other` looks at its counters. No
 * more is asked than was taken: what piled up in the sockets would overflow the connection's outbox. */
static void queue_fill(struct wire *slow, struct wire *other)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Stats stats = SSMD__STATS__INIT;
    unsigned char bytes[16];
    uint64_t taken = wire_counter(other, "requests");
    size_t size;

    message.request_case = SSMD__FROM_CLIENT__REQUEST_STATS;
    message.stats = &stats;
    do {
        taken = wire_counter(other, "requests");
        for (int i = 0; i < 20; i++) {
            message.request_id = ++slow->request;
            size = proto_size(&message.base);
            assert_true(size <= sizeof(bytes));
            proto_encode(&message.base, bytes);
            wire_send_parts(slow, 1, (const void *const[]){bytes}, &size);
        }
        taken += 20;
        do
            taken++; /* this question */
        while (wire_counter(other, "requests") < taken);
        taken++; /* the next one */
    } while (wire_counter(other, "connections_blocked") == 0);
}

static const struct wire_event *event_of(const struct wire *w, int kind, size_t which)
{
    for (size_t i = 0; i < w->events_n; i++)
        if (w->events[i].kind == kind && which-- == 0)
            return &w->events[i];
    return NULL;
}

static void reader__blocked_while_the_stream_is_reset_twice__is_told_of_both_losses(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *reader = wire_slow(sys_daemon_endpoint(d), "reader");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS), *view;
    const struct wire_event *lost;
    uint64_t epochs[3];

    (void)state;
    assert_int_equal(wire_read(reader, "s", false, NULL, 0), SSMD__CODE__OK);
    WIRE_UNTIL(reader, (view = wire_find(reader, "s")) != NULL);
    queue_fill(reader, w);
    for (int i = 0; i < 2; i++) {
        epochs[i] = s->epoch;
        push_numbers(w, s, i == 0 ? 100 : 200);
        assert_int_equal(wire_reset(w, s), SSMD__CODE__OK);
    }
    epochs[2] = s->epoch;
    push_numbers(w, s, 50);
    WIRE_UNTIL(reader, wire_events(reader, SSMD__EVENT__KIND__EPOCH) == 2);
    assert_int_equal(wire_events(reader, SSMD__EVENT__KIND__LOST), 2);
    for (size_t i = 0; i < 2; i++) {
        lost = event_of(reader, SSMD__EVENT__KIND__LOST, i);
        assert_int_equal(lost->epoch, epochs[i]);
        assert_int_equal(lost->first, 0);
        assert_int_equal(lost->next, i == 0 ? 100 : 200);
        assert_int_equal(event_of(reader, SSMD__EVENT__KIND__EPOCH, i)->epoch, epochs[i + 1]);
    }
    wire_credit(reader, view, 0, 1 << 20);
    WIRE_UNTIL(reader, view->results == 50);
    numbers_check(view, 0, 0, 50);
    wire_free(reader);
    wire_free(w);
    serving_stop(d);
}

/* ---- the tap ----------------------------------------------------------------------------------------------------- */

struct tap {
    void *context, *socket;
};

struct tap_message {
    char id[65];
    uint64_t epoch, index;
    int kind, event; /* event: enum Event.Kind */
    float first;
    size_t frames;
};

static struct tap tap_open(const struct sys_daemon *d, const char *topic, size_t size, int hwm)
{
    struct tap t = {.context = zmq_ctx_new()};
    int linger = 0;

    t.socket = zmq_socket(t.context, ZMQ_SUB);
    assert_non_null(t.socket);
    assert_int_equal(zmq_setsockopt(t.socket, ZMQ_RCVHWM, &hwm, sizeof(hwm)), 0);
    assert_int_equal(zmq_setsockopt(t.socket, ZMQ_LINGER, &linger, sizeof(linger)), 0);
    assert_int_equal(zmq_setsockopt(t.socket, ZMQ_SUBSCRIBE, topic, size), 0);
    assert_int_equal(zmq_connect(t.socket, sys_daemon_tap(d)), 0);
    return t;
}

static void tap_close(struct tap *t)
{
    zmq_close(t->socket);
    zmq_ctx_term(t->context);
}

static void tap_next(struct tap *t, struct tap_message *out)
{
    zmq_pollitem_t item = {t->socket, 0, ZMQ_POLLIN, 0};
    struct proto_arena arena;
    Ssmd__TapHeader *header;
    Ssmd__Event *event;
    zmq_msg_t part[3];

    memset(out, 0, sizeof(*out));
    assert_int_equal(zmq_poll(&item, 1, WIRE_MS), 1);
    for (int i = 0; i < 3; i++) {
        zmq_msg_init(&part[i]);
        assert_true(zmq_msg_recv(&part[i], t->socket, 0) >= 0);
        assert_int_equal(zmq_msg_more(&part[i]), i < 2);
    }
    proto_arena_init(&arena);
    assert_int_equal(proto_tap_header_decode(&arena, zmq_msg_data(&part[1]), zmq_msg_size(&part[1]), &header),
                     PROTO_OK);
    assert_in_range(header->id.len, 1, 64);
    memcpy(out->id, header->id.data, header->id.len);
    assert_int_equal(zmq_msg_size(&part[0]), header->id.len + 1);
    assert_memory_equal(zmq_msg_data(&part[0]), out->id, header->id.len + 1);
    out->epoch = header->epoch;
    out->index = header->index;
    out->kind = (int)header->kind;
    if (out->kind == SSMD__TAP_HEADER__KIND__DATA) {
        assert_int_equal(header->channels, 1);
        assert_true(zmq_msg_size(&part[2]) > 0);
        out->frames = zmq_msg_size(&part[2]) / 4;
        memcpy(&out->first, zmq_msg_data(&part[2]), 4);
    } else {
        assert_int_equal(proto_event_decode(&arena, zmq_msg_data(&part[2]), zmq_msg_size(&part[2]), &event), PROTO_OK);
        out->event = (int)event->kind;
    }
    proto_arena_fini(&arena);
    for (int i = 0; i < 3; i++)
        zmq_msg_close(&part[i]);
}

/* Results of the id from `index` to `end`, in order, and nothing of another id. */
static void tap_follow(struct tap *t, const char *id, uint64_t index, uint64_t end)
{
    while (index < end) {
        struct tap_message m;

        tap_next(t, &m);
        assert_string_equal(m.id, id);
        assert_int_equal(m.kind, SSMD__TAP_HEADER__KIND__DATA);
        assert_int_equal(m.index, index);
        assert_true(m.first == 2 * sample_at(index));
        index += m.frames;
    }
    assert_int_equal(index, end);
}

static void tap_event(struct tap *t, const char *id, int kind)
{
    struct tap_message m;

    tap_next(t, &m);
    assert_string_equal(m.id, id);
    assert_int_equal(m.kind, SSMD__TAP_HEADER__KIND__EVENT);
    assert_int_equal(m.event, kind);
}

static void tap__subscribed_to_an_id_or_a_prefix__publishes_its_results_and_events(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct tap exact = tap_open(d, "ab", 3, 0), prefix = tap_open(d, "ab", 2, 0);
    struct wire_stream *longer = wire_open(w, "abc", "twice", 0), *s = wire_open(w, "ab", "twice", 0);
    struct wire_stream *other = wire_open(w, "b", "twice", 0);
    uint64_t epoch = s->epoch;

    (void)state;
    WIRE_UNTIL(w, wire_counter(w, "subscriptions") == 2);
    push_numbers(w, longer, 100);
    push_numbers(w, other, 100);
    WIRE_UNTIL(w, longer->applied == 100 && other->applied == 100);
    push_numbers(w, s, 2000);
    tap_follow(&prefix, "abc", 0, 100);
    tap_follow(&prefix, "ab", 0, 2000);
    tap_follow(&exact, "ab", 0, 2000);
    assert_int_equal(wire_reset(w, s), SSMD__CODE__OK);
    assert_true(s->epoch > epoch);
    tap_event(&exact, "ab", SSMD__EVENT__KIND__EPOCH);
    push_numbers(w, s, 10);
    tap_follow(&exact, "ab", 0, 10);
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    tap_event(&exact, "ab", SSMD__EVENT__KIND__ENDED);
    tap_close(&exact);
    tap_close(&prefix);
    wire_free(w);
    serving_stop(d);
}

static void tap__watched_by_one_who_never_reads__harms_nobody(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct tap deaf = tap_open(d, "", 0, 1), awake;
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS);
    enum { ALL = 4000000 };

    (void)state;
    WIRE_UNTIL(w, wire_counter(w, "subscriptions") == 1);
    while (s->sent < ALL) {
        push_numbers(w, s, 20000);
        WIRE_UNTIL(w, s->results + 100000 > s->sent);
    }
    WIRE_UNTIL(w, s->results == ALL);
    numbers_check(s, 0, 0, ALL);
    awake = tap_open(d, "s", 2, 0);
    WIRE_UNTIL(w, wire_counter(w, "subscriptions") == 2);
    push_numbers(w, s, 100);
    tap_follow(&awake, "s", ALL, ALL + 100);
    tap_close(&awake);
    tap_close(&deaf);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(credit__of_random_bytes__is_used_to_the_last_whole_frame_and_no_further),
        cmocka_unit_test(ring__full__stops_that_stream_until_credit_and_no_other),
        cmocka_unit_test(ring__full_of_times__stops_and_goes_on_without_loss),
        cmocka_unit_test(times__of_some_chunks__are_echoed_with_their_results_and_no_others),
        cmocka_unit_test(windows__overrun__refuse_once_and_take_the_frames_later),
        cmocka_unit_test(reader__of_an_id__gets_every_result_and_the_end),
        cmocka_unit_test(reader__of_a_prefix__gets_streams_that_are_opened_later_and_no_others),
        cmocka_unit_test(reader__overrun__is_told_what_it_lost_and_never_stops_the_writer),
        cmocka_unit_test(reader__of_a_stream_that_is_reset__begins_again_in_the_new_epoch),
        cmocka_unit_test(reader__of_a_prefix_forgotten_by_the_daemon__misses_only_what_is_gone),
        cmocka_unit_test(reader__blocked_while_the_stream_is_reset_twice__is_told_of_both_losses),
        cmocka_unit_test(tap__subscribed_to_an_id_or_a_prefix__publishes_its_results_and_events),
        cmocka_unit_test(tap__watched_by_one_who_never_reads__harms_nobody),
    };

    return cmocka_run_group_tests_name("delivery", tests, serving_group_open, serving_group_close);
}
