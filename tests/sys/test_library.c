/* SPDX-License-Identifier: Apache-2.0
 *
 * libssmclient at the real daemon: what only a large ring shows.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "clients/c/ssmclient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void on_found(void *context, struct ssmc_stream *stream)
{
    *(struct ssmc_stream **)context = stream;
}

/* Takes results until index `end`; nothing is missing. */
static void take(struct ssmc *c, struct ssmc_stream *const *s, uint64_t *next, uint64_t end)
{
    long until = wire_now_ms() + WIRE_MS;
    struct ssmc_result result;

    while (*next < end) {
        assert_true(ssmc_poll(c, 20) >= 0);
        assert_true(wire_now_ms() < until);
        while (*s && ssmc_next(*s, &result) == 1) {
            assert_int_equal(result.first, *next);
            *next += result.frames;
        }
    }
}

/* The daemon sends everything that it keeps again, four times what is granted at first; the reader has had it and takes
 * nothing until what is new comes. */
static void reader__of_a_prefix_forgotten_with_a_long_past__goes_on(void **state)
{
    enum { CHUNK = 4000, ALL = 250 * CHUNK };
    struct sys_daemon *d = serving_start("idle_ms = 1000\nresult_ring = 4M\n");
    struct ssmc_options options = {.endpoint = sys_daemon_endpoint(d), .timeout_ms = WIRE_MS};
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", "twice", 0);
    struct ssmc_stream *view = NULL;
    static const float in[CHUNK];
    uint64_t next = 0;
    struct ssmc *c;

    (void)state;
    assert_int_equal(ssmc_connect(&c, &options, NULL, 0), SSMC_OK);
    assert_int_equal(ssmc_read(c, "s", 0, 1, SSMC_OLDEST, on_found, &view, WIRE_MS), SSMC_OK);
    while (s->sent < ALL) {
        wire_push(w, s, in, CHUNK, 0);
        WIRE_UNTIL(w, s->applied == s->sent);
        take(c, &view, &next, s->sent);
    }
    while (wire_counter(w, "connections_forgotten") == 0) { /* the ring of an idle stream would be given back */
        wire_push(w, s, in, 1, 0);
        usleep(20000);
    }
    wire_push(w, s, in, 100, 0);
    assert_true(wire_counter(w, "ring_bytes") == 4u << 20);
    take(c, &view, &next, s->sent);
    ssmc_free(c);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reader__of_a_prefix_forgotten_with_a_long_past__goes_on),
    };

    return cmocka_run_group_tests_name("library", tests, serving_group_open, serving_group_close);
}
