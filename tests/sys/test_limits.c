/* SPDX-License-Identifier: Apache-2.0
 *
 * Limits, in all and for one connection: what lies beyond is refused with a sentence that names the key, counted under
 * a name of its own, and there is room again when something goes.
 */
#include "tests/sys/serving.h"
#include "tests/sys/states.h"
#include "tests/sys/wire.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zmq.h>

static struct wire_stream *open_named(struct wire *w, const char *prefix, int number, unsigned flags)
{
    char id[32];

    snprintf(id, sizeof(id), "%s%d", prefix, number);
    return wire_open(w, id, "twice", flags);
}

/* The last answer refused with LIMIT and these words, and the counter stands at `count`. */
static void assert_limited(struct wire *w, int code, const char *words, const char *counter, uint64_t count)
{
    states_refused(w, code, SSMD__CODE__LIMIT, words);
    assert_int_equal(wire_counter(w, counter), count);
}

static void limits__streams_of_a_connection__are_refused_beyond_connection_streams(void **state)
{
    struct sys_daemon *d = serving_start("connection_streams = 3\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a"), *v = wire_new(sys_daemon_endpoint(d), "b");
    struct wire *again = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s[3], *refused;

    (void)state;
    for (int i = 0; i < 3; i++)
        s[i] = open_named(w, "s", i, WIRE_CREATE);
    assert_limited(w, wire_try_open(w, &refused, "s3", "twice", WIRE_CREATE, 0), "connection_streams",
                   "limit_connection_streams", 1);
    assert_int_equal(wire_counter(w, "streams"), 3);
    s[0] = open_named(w, "s", 0, WIRE_RESUME); /* it has that one already */
    open_named(v, "v", 0, WIRE_CREATE);
    wire_open(v, "s1", "twice", WIRE_TAKE_OVER | WIRE_RESUME);
    wire_open(w, "s3", "twice", WIRE_CREATE); /* in the place of the one that was taken */
    assert_limited(w, wire_try_open(w, &refused, "s4", "twice", WIRE_CREATE, 0), "connection_streams",
                   "limit_connection_streams", 2);
    open_named(again, "s", 2, WIRE_RESUME); /* moves to the writer's other connection */
    wire_open(w, "s4", "twice", WIRE_CREATE);
    assert_int_equal(wire_close(w, s[0]), SSMD__CODE__OK);
    wire_open(w, "s5", "twice", WIRE_CREATE);
    assert_limited(w, wire_try_open(w, &refused, "s6", "twice", WIRE_CREATE, 0), "connection_streams",
                   "limit_connection_streams", 3);
    wire_free(w);
    wire_free(v);
    wire_free(again);
    serving_stop(d);
}

static void limits__streams_and_connections_in_all__are_counted_by_name(void **state)
{
    struct sys_daemon *d = serving_start("max_streams = 2\nmax_connections = 2\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "a"), *v = wire_new(sys_daemon_endpoint(d), "b");
    struct wire *third = wire_connect(sys_daemon_endpoint(d), "c");
    struct wire_stream *refused;

    (void)state;
    states_refused(third, wire_hello(third), SSMD__CODE__LIMIT, "max_connections");
    assert_int_equal(wire_counter(w, "limit_connections"), 1);
    open_named(w, "s", 0, WIRE_CREATE);
    open_named(v, "s", 1, WIRE_CREATE);
    assert_limited(w, wire_try_open(w, &refused, "s2", "twice", WIRE_CREATE, 0), "max_streams", "limit_streams", 1);
    assert_limited(w, states_fork(w, "s0", "s2"), "max_streams", "limit_streams", 2);
    wire_free(w);
    wire_free(v);
    wire_free(third);
    serving_stop(d);
}

static void limits__readers_of_a_connection__are_refused_beyond_connection_readers(void **state)
{
    struct sys_daemon *d = serving_start("connection_readers = 2\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a"), *r = wire_new(sys_daemon_endpoint(d), "r");

    (void)state;
    for (int i = 0; i < 3; i++)
        open_named(w, "s", i, WIRE_CREATE);
    assert_int_equal(wire_read(r, "s0", false, NULL, 1000), SSMD__CODE__OK);
    assert_int_equal(wire_read(r, "s0", false, NULL, 1000), SSMD__CODE__OK);
    assert_limited(r, wire_read(r, "s1", false, NULL, 1000), "connection_readers", "limit_connection_readers", 1);
    assert_int_equal(wire_read(w, "s1", false, NULL, 1000), SSMD__CODE__OK); /* another connection */
    WIRE_UNTIL(r, wire_events(r, SSMD__EVENT__KIND__READING) == 2);
    assert_int_equal(wire_close(r, wire_find(r, "s0")), SSMD__CODE__OK);
    assert_int_equal(wire_read(r, "s2", false, NULL, 1000), SSMD__CODE__OK);
    assert_int_equal(wire_counter(w, "readers"), 3);
    wire_free(w);
    wire_free(r);
    serving_stop(d);
}

/* Whoever reads a prefix did not ask for each stream, and hears all the same that one did not fit: once. */
static void limits__a_prefix_that_finds_no_room__tells_its_reader_once(void **state)
{
    struct sys_daemon *d = serving_start("connection_readers = 2\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a"), *r = wire_new(sys_daemon_endpoint(d), "r");
    struct wire_stream *s[3];

    (void)state;
    assert_int_equal(wire_read(r, "s", true, NULL, 1000), SSMD__CODE__OK);
    for (int i = 0; i < 3; i++)
        s[i] = open_named(w, "s", i, WIRE_CREATE);
    WIRE_UNTIL(r, wire_errors(r, SSMD__CODE__LIMIT) == 1);
    assert_non_null(strstr(r->errors[0].text, "s2"));
    assert_non_null(strstr(r->errors[0].text, "connection_readers"));
    open_named(w, "s", 3, WIRE_CREATE);
    assert_int_equal(wire_ping(r), SSMD__CODE__OK);
    assert_int_equal(wire_errors(r, SSMD__CODE__LIMIT), 1);
    assert_int_equal(wire_counter(w, "limit_connection_readers"), 2);
    assert_int_equal(wire_close(w, s[0]), SSMD__CODE__OK);
    WIRE_UNTIL(r, wire_events(r, SSMD__EVENT__KIND__ENDED) == 1);
    open_named(w, "s", 4, WIRE_CREATE); /* fits again */
    WIRE_UNTIL(r, wire_find(r, "s4") != NULL);
    open_named(w, "s", 5, WIRE_CREATE);
    WIRE_UNTIL(r, wire_errors(r, SSMD__CODE__LIMIT) == 2);
    wire_free(w);
    wire_free(r);
    serving_stop(d);
}

static void limits__readers_in_all_and_prefixes__are_counted_by_name(void **state)
{
    struct sys_daemon *d = serving_start("max_streams = 1\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a"), *r = wire_new(sys_daemon_endpoint(d), "r");

    (void)state;
    open_named(w, "s", 0, WIRE_CREATE);
    for (int i = 0; i < 4; i++)
        assert_int_equal(wire_read(r, "s0", false, NULL, 1000), SSMD__CODE__OK);
    assert_limited(r, wire_read(r, "s0", false, NULL, 1000), "4 readers for each of max_streams", "limit_readers", 1);
    assert_limited(r, wire_read(r, "s", true, NULL, 1000), "those that fitted are announced", "limit_readers", 2);
    for (int i = 0; i < 15; i++)
        assert_int_equal(wire_read(r, "x", true, NULL, 1000), SSMD__CODE__OK);
    assert_limited(r, wire_read(r, "x", true, NULL, 1000), "16 prefixes", "limit_prefixes", 1);
    wire_free(w);
    wire_free(r);
    serving_stop(d);
}

/* Streams and forks share state_memory; every state comes back when its stream goes. */
static void limits__states__are_refused_beyond_state_memory(void **state)
{
    struct sys_daemon *d = serving_start("state_memory = 64K\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s[64], *refused = NULL;
    uint64_t each;
    int n = 0, code = SSMD__CODE__OK;
    char id[16];

    (void)state;
    for (; n < 64; n++) {
        snprintf(id, sizeof(id), "s%d", n);
        code = wire_try_open(w, &s[n], id, "forecast:rate=100,channels=1", WIRE_CREATE, 0);
        if (code != SSMD__CODE__OK)
            break;
    }
    assert_limited(w, code, "state_memory", "limit_state_memory", 1);
    assert_in_range(n, 2, 63);
    each = wire_counter(w, "state_bytes") / (uint64_t)n;
    assert_int_equal(wire_counter(w, "state_bytes"), each * (uint64_t)n);
    assert_true(each * (uint64_t)n <= 65536 && each * (uint64_t)(n + 1) > 65536);
    assert_int_equal(wire_counter(w, "streams"), n);
    assert_limited(w, states_fork(w, "s0", "f"), "state_memory", "limit_state_memory", 2);
    wire_open(w, "t", "twice", WIRE_CREATE); /* has no state to speak of */
    assert_int_equal(wire_close(w, s[1]), SSMD__CODE__OK);
    assert_int_equal(states_fork(w, "s0", "f"), SSMD__CODE__OK);
    assert_limited(w, wire_try_open(w, &refused, "s1", "forecast:rate=100,channels=1", WIRE_CREATE, 0), "state_memory",
                   "limit_state_memory", 3);
    for (int i = 0; i < n; i++)
        if (i != 1)
            assert_int_equal(wire_close(w, s[i]), SSMD__CODE__OK);
    refused = wire_open(w, "f", "forecast:rate=100,channels=1", WIRE_RESUME);
    assert_int_equal(wire_close(w, refused), SSMD__CODE__OK);
    assert_int_equal(wire_counter(w, "state_bytes"), 0);
    wire_free(w);
    serving_stop(d);
}

static void limits__histories_and_images__are_counted_by_name(void **state)
{
    struct sys_daemon *d = serving_start("history_memory = 4K\nmax_images = 1\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *refused;
    uint32_t image;
    uint64_t bytes;

    (void)state;
    ssmd__history__init(&w->history);
    w->history.interval = 64;
    w->history.depth = 100000;
    assert_limited(w, wire_try_open(w, &refused, "h", "twice", WIRE_CREATE, 0), "history_memory", "limit_histories", 1);
    assert_int_equal(wire_counter(w, "streams"), 0);
    assert_int_equal(wire_counter(w, "state_bytes"), 0);
    w->history.interval = 0;
    wire_open(w, "s", "twice", WIRE_CREATE);
    assert_int_equal(states_snapshot_begin(w, "s", &image, &bytes), SSMD__CODE__OK);
    assert_limited(w, states_snapshot_begin(w, "s", &image, &bytes), "max_images", "limit_images", 1);
    wire_free(w);
    serving_stop(d);
}

static void limits__models_in_use__are_refused_beyond_64(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s[65];
    char id[16], model[64];
    int n = 0, code = SSMD__CODE__OK;

    (void)state;
    for (; n < 65 && code == SSMD__CODE__OK; n++) {
        snprintf(id, sizeof(id), "s%d", n);
        snprintf(model, sizeof(model), "memory:rate=%d,channels=1", 100 + n);
        code = wire_try_open(w, &s[n], id, model, WIRE_CREATE, 0);
    }
    assert_int_equal(n, 65); /* the last of them */
    assert_limited(w, code, "too many models", "limit_models", 1);
    assert_int_equal(wire_close(w, s[7]), SSMD__CODE__OK);
    WIRE_UNTIL(w, wire_try_open(w, &s[64], id, model, WIRE_CREATE, 0) == SSMD__CODE__OK);
    wire_free(w);
    serving_stop(d);
}

static void limits__subscriptions_of_the_tap__are_not_taken_beyond_tap_subscriptions(void **state)
{
    struct sys_daemon *d = serving_start("tap_subscriptions = 3\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS | WIRE_CREATE);
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_SUB);
    float in[10] = {0};
    int linger = 0, wait_ms = WIRE_MS;
    char topic[80];

    (void)state;
    assert_int_equal(zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger)), 0);
    assert_int_equal(zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait_ms, sizeof(wait_ms)), 0);
    assert_int_equal(zmq_connect(socket, sys_daemon_tap(d)), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "sxyzu" + i, 1), 0);
    WIRE_UNTIL(w, wire_counter(w, "tap_refused") == 2);
    assert_int_equal(wire_counter(w, "subscriptions"), 5);
    wire_push(w, s, in, 10, 0);
    WIRE_UNTIL(w, s->results == 10);
    assert_true(zmq_recv(socket, topic, sizeof(topic), 0) > 0); /* of the one that was taken */
    zmq_close(socket);
    zmq_ctx_term(context);
    WIRE_UNTIL(w, wire_counter(w, "subscriptions") == 0);
    wire_free(w);
    serving_stop(d);
}

static void limits__raised_by_a_reload__hold_at_once(void **state)
{
    struct sys_daemon *d = serving_start("connection_streams = 1\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "a");
    struct wire_stream *refused;
    FILE *file;

    (void)state;
    open_named(w, "s", 0, WIRE_CREATE);
    assert_limited(w, wire_try_open(w, &refused, "s1", "twice", WIRE_CREATE, 0), "connection_streams",
                   "limit_connection_streams", 1);
    file = fopen(sys_daemon_conf(d), "w");
    assert_non_null(file);
    fprintf(file, "endpoint = %s\ntap = %s\nmodels = %s\nconnection_streams = 2\n", sys_daemon_endpoint(d),
            sys_daemon_tap(d), serving_models.path);
    fclose(file);
    sys_daemon_signal(d, SIGHUP);
    WIRE_UNTIL(w, wire_try_open(w, &refused, "s1", "twice", 0, 0) == SSMD__CODE__OK);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits__streams_of_a_connection__are_refused_beyond_connection_streams),
        cmocka_unit_test(limits__streams_and_connections_in_all__are_counted_by_name),
        cmocka_unit_test(limits__readers_of_a_connection__are_refused_beyond_connection_readers),
        cmocka_unit_test(limits__a_prefix_that_finds_no_room__tells_its_reader_once),
        cmocka_unit_test(limits__readers_in_all_and_prefixes__are_counted_by_name),
        cmocka_unit_test(limits__states__are_refused_beyond_state_memory),
        cmocka_unit_test(limits__histories_and_images__are_counted_by_name),
        cmocka_unit_test(limits__models_in_use__are_refused_beyond_64),
        cmocka_unit_test(limits__subscriptions_of_the_tap__are_not_taken_beyond_tap_subscriptions),
        cmocka_unit_test(limits__raised_by_a_reload__hold_at_once),
    };

    return cmocka_run_group_tests(tests, serving_group_open, serving_group_close);
}
