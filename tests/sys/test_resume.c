/* SPDX-License-Identifier: Apache-2.0
 *
 * What breaks and goes on: connections, writers, epochs, repeated and missing frames, and the daemon itself. The
 * measure is always the same: the results, put together, are the library's bits of the stream that never broke.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "tests/ssm/making.h"
#include "clients/c/ssmclient.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct reference golden; /* one channel in, so that frames are samples */

static const float *in_at(uint64_t frame)
{
    return (const float *)golden.in + frame * golden.in_channels;
}

static const float *step_at(uint64_t frame)
{
    return golden.step + frame * golden.out_channels;
}

/* Everything in s->out is the library's from output index `begin` on, `frames` of it. */
static void bits_check(const struct wire_stream *s, uint64_t begin, uint64_t frames)
{
    assert_int_equal(s->results, frames);
    assert_memory_equal(s->out, step_at(begin), frames * golden.out_channels * sizeof(float));
}

/* ---- connections and writers ------------------------------------------------------------------------------------- */

static void connection__broken__is_resumed_by_its_writer_in_the_same_epoch(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *one = wire_new(sys_daemon_endpoint(d), "writer"), *two;
    struct wire_stream *a = wire_open(one, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT), *b;
    uint64_t epoch = a->epoch;

    (void)state;
    wire_push(one, a, in_at(0), 200, 0);
    WIRE_UNTIL(one, a->applied == 200);
    wire_free(one);
    two = wire_new(sys_daemon_endpoint(d), "writer");
    b = wire_open(two, "s", golden.name, WIRE_RESULTS | WIRE_RESUME);
    assert_int_equal(b->epoch, epoch);
    assert_int_equal(b->sent, 200);
    assert_false(two->reply->stream->created);
    wire_push(two, b, in_at(200), 100, 0);
    WIRE_UNTIL(two, b->results == 300);
    bits_check(b, 0, 300);
    wire_free(two);
    serving_stop(d);
}

static void writer__on_a_second_connection__kills_the_handles_of_the_first(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *one = wire_new(sys_daemon_endpoint(d), "writer"), *two = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *a = wire_open(one, "s", golden.name, WIRE_RESULTS), *b;

    (void)state;
    wire_push(one, a, in_at(0), 50, 0);
    WIRE_UNTIL(one, a->results == 50);
    assert_int_equal(wire_ping(one), SSMD__CODE__OK); /* the credit was taken */
    b = wire_open(two, "s", golden.name, WIRE_RESULTS);
    assert_int_equal(b->epoch, a->epoch);
    assert_int_equal(b->sent, 50);
    WIRE_UNTIL(one, a->is_taken_over);
    wire_push(one, a, in_at(50), 50, 0);
    assert_int_equal(wire_ping(one), SSMD__CODE__OK);
    assert_int_equal(wire_counter(one, "chunks_dead_handle"), 1);
    assert_int_equal(wire_close(one, a), SSMD__CODE__BAD_HANDLE);
    wire_push(two, b, in_at(50), 50, 0);
    WIRE_UNTIL(two, b->next == 100);
    assert_int_equal(b->begin, 50);
    bits_check(b, 50, 50);
    assert_int_equal(a->results, 50);
    wire_free(one);
    wire_free(two);
    serving_stop(d);
}

static void results_from__an_index_of_the_ring__begins_there(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT);
    uint32_t seed = 8;

    (void)state;
    wire_push(w, s, in_at(0), 300, 0);
    WIRE_UNTIL(w, s->applied == 300);
    for (int i = 0; i < 20; i++) {
        uint64_t from = (uint64_t)(i * 15) + making_number(&seed, 15);
        struct wire *again = wire_new(sys_daemon_endpoint(d), "writer");

        assert_int_equal(wire_try_open(again, &s, "s", golden.name, WIRE_RESULTS | WIRE_FROM | WIRE_NO_CREDIT, from),
                         SSMD__CODE__OK);
        wire_credit(again, s, from, 1 << 20);
        WIRE_UNTIL(again, s->next == 300);
        bits_check(s, from, 300 - from);
        wire_free(again);
    }
    assert_int_equal(wire_try_open(w, &s, "s", golden.name, WIRE_RESULTS | WIRE_FROM, 301), SSMD__CODE__TOO_NEW);
    wire_free(w);
    serving_stop(d);
}

static void results_from__older_than_the_ring__is_refused(void **state)
{
    struct sys_daemon *d = serving_start("result_ring = 4K\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *again;
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS);
    float in[512] = {0};

    (void)state;
    for (int i = 0; i < 10; i++) {
        wire_push(w, s, in, 512, 0);
        WIRE_UNTIL(w, s->results == s->sent);
    }
    again = wire_new(sys_daemon_endpoint(d), "writer");
    assert_int_equal(wire_try_open(again, &s, "s", "twice", WIRE_RESULTS | WIRE_FROM, 0), SSMD__CODE__TOO_OLD);
    assert_int_equal(wire_try_open(again, &s, "s", "twice", WIRE_RESULTS | WIRE_FROM, 5120 - 100), SSMD__CODE__OK);
    wire_free(again);
    wire_free(w);
    serving_stop(d);
}

static void take_over__by_another_writer__raises_the_epoch_and_keeps_the_index(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *one = wire_new(sys_daemon_endpoint(d), "first"), *two = wire_new(sys_daemon_endpoint(d), "second");
    struct wire_stream *a = wire_open(one, "s", golden.name, WIRE_RESULTS), *b;

    (void)state;
    wire_push(one, a, in_at(0), 77, 0);
    WIRE_UNTIL(one, a->results == 77);
    assert_int_equal(wire_try_open(two, &b, "s", golden.name, 0, 0), SSMD__CODE__OWNED);
    assert_false(a->is_taken_over);
    assert_int_equal(
        wire_try_open(two, &b, "s", golden.name, WIRE_TAKE_OVER | WIRE_RESULTS | WIRE_FROM | WIRE_NO_CREDIT, 70),
        SSMD__CODE__OK);
    assert_true(b->epoch > a->epoch);
    assert_int_equal(b->sent, 77);
    WIRE_UNTIL(one, a->is_taken_over);
    wire_push(one, a, in_at(0), 9, 0);
    assert_int_equal(wire_ping(one), SSMD__CODE__OK);
    wire_credit(two, b, 70, 1 << 20);
    wire_push(two, b, in_at(77), 23, 0);
    WIRE_UNTIL(two, b->next == 100);
    bits_check(b, 70, 30);
    assert_int_equal(wire_try_open(one, &a, "s", golden.name, 0, 0), SSMD__CODE__OWNED);
    wire_free(one);
    wire_free(two);
    serving_stop(d);
}

static void connection__silent_for_idle_ms__is_forgotten_and_its_stream_is_not(void **state)
{
    struct sys_daemon *d = serving_start("idle_ms = 1000\n");
    struct wire *silent = wire_new(sys_daemon_endpoint(d), "writer"),
                *other = wire_new(sys_daemon_endpoint(d), "other");
    struct wire_stream *s = wire_open(silent, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT);

    (void)state;
    wire_push(silent, s, in_at(0), 40, 0);
    WIRE_UNTIL(silent, s->applied == 40);
    WIRE_UNTIL(other, wire_counter(other, "connections") == 1);
    assert_int_equal(wire_counter(other, "streams"), 1);
    assert_int_equal(wire_ping(silent), SSMD__CODE__NO_HELLO);
    assert_int_equal(wire_hello(silent), SSMD__CODE__OK);
    s = wire_open(silent, "s", golden.name, WIRE_RESULTS | WIRE_RESUME);
    assert_int_equal(s->sent, 40);
    wire_push(silent, s, in_at(40), 40, 0);
    WIRE_UNTIL(silent, s->results == 80);
    bits_check(s, 0, 80);
    wire_free(silent);
    wire_free(other);
    serving_stop(d);
}

/* ---- frames twice, or not yet ------------------------------------------------------------------------------------ */

static void frames__sent_again__are_acknowledged_and_change_nothing(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS);
    struct wire_chunk again = {.stream = s, .frames = 100, .format = SSMD__FORMAT__F32LE, .samples = in_at(0)};
    size_t acks;

    (void)state;
    wire_push(w, s, in_at(0), 100, 0);
    WIRE_UNTIL(w, s->applied == 100 && s->results == 100);
    acks = w->acks_n;
    wire_send(w, &again, 1);
    WIRE_UNTIL(w, w->acks_n > acks);
    assert_int_equal(s->applied, 100);
    assert_int_equal(wire_counter(w, "chunks_duplicate"), 1);
    assert_int_equal(wire_counter(w, "frames_applied"), 100);
    wire_push(w, s, in_at(100), 100, 0);
    WIRE_UNTIL(w, s->results == 200);
    bits_check(s, 0, 200);
    wire_free(w);
    serving_stop(d);
}

static void frames__overlapping_at_random__are_trimmed_to_the_same_bits(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS);
    uint32_t seed = 12;

    (void)state;
    while (s->sent < golden.frames) {
        uint64_t back = making_number(&seed, 30), left = golden.frames - s->sent;
        struct wire_chunk chunk = {.stream = s, .format = SSMD__FORMAT__F32LE};

        chunk.first = back > s->sent ? 0 : s->sent - back;
        chunk.frames = 1 + making_number(&seed, 50);
        if (chunk.first + chunk.frames > s->sent + left)
            chunk.frames = (uint32_t)(s->sent + left - chunk.first);
        chunk.samples = in_at(chunk.first);
        if (chunk.first + chunk.frames > s->sent)
            s->sent = chunk.first + chunk.frames;
        wire_send(w, &chunk, 1);
    }
    WIRE_UNTIL(w, s->results == golden.frames);
    bits_check(s, 0, golden.frames);
    assert_true(wire_counter(w, "chunks_trimmed") > 0);
    assert_int_equal(w->refusals_n, 0);
    wire_free(w);
    serving_stop(d);
}

static void gap__of_many_chunks__is_answered_once_until_it_is_filled(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS);

    (void)state;
    for (size_t round = 1; round <= 3; round++) {
        uint64_t next = s->sent;

        for (uint64_t i = 0; i < 10; i++) {
            struct wire_chunk late = {.stream = s, .first = next + 10 + i, .frames = 1, .format = SSMD__FORMAT__F32LE};

            late.samples = in_at(next + 10 + i);
            wire_send(w, &late, 1);
        }
        assert_int_equal(wire_ping(w), SSMD__CODE__OK);
        WIRE_UNTIL(w, w->refusals_n >= round);
        assert_int_equal(wire_ping(w), SSMD__CODE__OK);
        assert_int_equal(wire_refusals(w, SSMD__CODE__GAP), round);
        assert_int_equal(wire_last_refusal(w)->expected, next);
        assert_int_equal(wire_last_refusal(w)->first, next + 10);
        wire_push(w, s, in_at(next), 30, 0);
        WIRE_UNTIL(w, s->results == s->sent);
    }
    bits_check(s, 0, 90);
    wire_free(w);
    serving_stop(d);
}

/* ---- reset and close --------------------------------------------------------------------------------------------- */

static void reset__behind_queued_frames__waits_its_turn_and_begins_a_new_epoch_at_0(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS);

    (void)state;
    for (uint64_t round = 1; round <= 20; round++) {
        uint64_t epoch = s->epoch;

        for (uint64_t i = 0; i < 10; i++)
            wire_push(w, s, in_at(i * 20), 20, 0);
        assert_int_equal(wire_reset(w, s), SSMD__CODE__OK);
        assert_true(s->epoch > epoch);
        assert_int_equal(s->sent, 0);
        assert_int_equal(s->results,
                         200 * round); /* what was sent before it was computed, and delivered before the answer */
        assert_memory_equal(s->out + (s->results - 200) * golden.out_channels, step_at(0),
                            200 * golden.out_channels * sizeof(float));
    }
    assert_int_equal(wire_counter(w, "frames_applied"), 20 * 200);
    wire_free(w);
    serving_stop(d);
}

static void close__behind_queued_frames__answers_when_every_result_left(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS | WIRE_CREATE);

        for (uint64_t i = 0; i < 10; i++)
            wire_push(w, s, in_at(i * 30), 30, 0);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        bits_check(s, 0, 300);
        assert_int_equal(w->reply->stream->applied, 300);
        assert_true(w->reply->stream->closing);
        WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    }
    wire_free(w);
    serving_stop(d);
}

static void close__without_credit__answers_after_credit_came(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT);
    uint64_t request;

    (void)state;
    wire_push(w, s, in_at(0), 100, 0);
    WIRE_UNTIL(w, s->applied == 100);
    request = wire_close_send(w, s);
    wire_push(w, s, in_at(100), 10, 0);
    s->sent -= 10;
    WIRE_UNTIL(w, wire_refusals(w, SSMD__CODE__CLOSED) == 1);
    assert_null(w->reply);
    wire_credit(w, s, 0, 1 << 20);
    WIRE_UNTIL(w, w->reply && w->reply->request_id == request);
    assert_null(w->reply->error);
    bits_check(s, 0, 100);
    assert_int_equal(wire_counter(w, "streams"), 1); /* until they are received */
    wire_credit(w, s, 100, 1 << 20);
    WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    wire_free(w);
    serving_stop(d);
}

static void closed_stream__received__gives_its_id_to_the_very_next_request(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT | WIRE_CREATE);

        wire_credit(w, s, 0, 1 << 20);
        wire_push(w, s, in_at(0), 10, 0);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        assert_int_equal(s->results, 10);
        wire_credit(w, s, 10, 1 << 20);
    }
    wire_free(w);
    serving_stop(d);
}

static void close__again_and_then_credit__is_answered_all_the_same(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");

    (void)state;
    for (int round = 0; round < 100; round++) {
        struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT);
        uint64_t request;

        wire_credit(w, s, 0, 1 << 20);
        wire_push(w, s, in_at(0), 10, 0);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        request = wire_close_send(w, s);
        wire_credit(w, s, 10, 1 << 20);
        WIRE_UNTIL(w, w->reply && w->reply->request_id == request);
        WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    }
    wire_free(w);
    serving_stop(d);
}

static void close__waiting_when_the_stream_is_opened_again__is_answered_on_both_connections(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *one = wire_new(sys_daemon_endpoint(d), "writer"), *two = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(one, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT), *again;
    uint64_t request;

    (void)state;
    wire_push(one, s, in_at(0), 100, 0);
    request = wire_close_send(one, s);
    assert_int_equal(wire_ping(one), SSMD__CODE__OK); /* it was heard; between connections there is no order */
    again = wire_open(two, "s", golden.name, WIRE_RESULTS);
    assert_true(two->reply->stream->closing);
    WIRE_UNTIL(one, one->reply && one->reply->request_id == request);
    assert_int_equal(one->reply->error->code, SSMD__CODE__BAD_HANDLE);
    assert_true(s->is_taken_over); /* was said before: the reason first */
    assert_int_equal(wire_close(two, again), SSMD__CODE__OK);
    WIRE_UNTIL(two, again->results == 100);
    bits_check(again, 0, 100);
    wire_free(two);
    wire_free(one);
    serving_stop(d);
}

/* Results that nobody takes go with their stream, and so would the answer. */
static void close__waiting_when_its_stream_has_lingered__is_answered(void **state)
{
    struct sys_daemon *d = serving_start("linger_ms = 200\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS);
    uint64_t request;

    (void)state;
    s->grant = 0; /* takes results and never says so */
    wire_push(w, s, in_at(0), 100, 0);
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    s = wire_open(w, "s", golden.name, WIRE_RESULTS | WIRE_NO_CREDIT);
    request = wire_close_send(w, s);
    WIRE_UNTIL(w, w->reply && w->reply->request_id == request);
    assert_int_equal(w->reply->error->code, SSMD__CODE__NO_STREAM);
    wire_free(w);
    serving_stop(d);
}

static void closed_stream__never_received__goes_after_linger_ms(void **state)
{
    struct sys_daemon *d = serving_start("linger_ms = 200\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *other = wire_new(sys_daemon_endpoint(d), "other");
    struct wire_stream *s = wire_open(w, "s", golden.name, WIRE_RESULTS);

    (void)state;
    s->grant = 0; /* takes results and never says so */
    wire_push(w, s, in_at(0), 100, 0);
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    WIRE_UNTIL(other, wire_counter(other, "streams_lingered") == 1);
    assert_int_equal(wire_counter(other, "streams"), 0);
    wire_free(w);
    wire_free(other);
    serving_stop(d);
}

/* ---- the daemon dies, and the library ---------------------------------------------------------------------------- */

static struct ssmc *library_connect(const struct sys_daemon *d)
{
    struct ssmc_options options = {.endpoint = sys_daemon_endpoint(d), .name = "test", .timeout_ms = WIRE_MS};
    struct ssmc *c;
    char err[256] = "";

    if (ssmc_connect(&c, &options, err, sizeof(err)) != SSMC_OK)
        fail_msg("%s", err);
    return c;
}

static struct ssmc_stream *library_open(struct ssmc *c, int restart_lost)
{
    struct ssmc_open_options options = {
        .id = "s", .model = golden.name, .results = 1, .results_from = SSMC_OLDEST, .restart_lost = restart_lost};
    struct ssmc_stream *s;

    if (ssmc_open(c, &s, &options, WIRE_MS) != SSMC_OK)
        fail_msg("%s", ssmc_error_text(c));
    return s;
}

/* Pushes frames from..to and takes results until they are all there. out holds results from index 0 on. */
static void library_pass(struct ssmc *c, struct ssmc_stream *s, uint64_t from, uint64_t to, float *out)
{
    long until = wire_now_ms() + WIRE_MS;
    uint64_t got = from;
    struct ssmc_result result;
    int rc;

    rc = ssmc_push(s, SSMC_F32, in_at(from), (uint32_t)(to - from), 0, 0);
    if (rc != SSMC_OK)
        fail_msg("%s", ssmc_error_text(c));
    while (got < to) {
        assert_true(ssmc_poll(c, 50) >= 0);
        assert_true(wire_now_ms() < until);
        while ((rc = ssmc_next(s, &result)) == 1) {
            assert_int_equal(result.first, got);
            memcpy(out + got * golden.out_channels, result.samples,
                   (size_t)result.frames * golden.out_channels * sizeof(float));
            got += result.frames;
        }
        assert_int_equal(rc, 0);
    }
}

static float *out_new(void)
{
    float *out = calloc((size_t)golden.frames * golden.out_channels, sizeof(float));

    assert_non_null(out);
    return out;
}

static void out_check(float *out, uint64_t frames)
{
    assert_memory_equal(out, golden.step, frames * golden.out_channels * sizeof(float));
    free(out);
}

static void library__forgotten_by_the_daemon__resumes_and_loses_nothing(void **state)
{
    struct sys_daemon *d = serving_start("idle_ms = 1000\n");
    struct wire *other = wire_new(sys_daemon_endpoint(d), "other");
    struct ssmc *c = library_connect(d);
    struct ssmc_stream *s = library_open(c, 0);
    struct ssmc_daemon_info info;
    float *out = out_new();

    (void)state;
    library_pass(c, s, 0, 100, out);
    for (uint64_t round = 1; round < 3; round++) {
        WIRE_UNTIL(other, wire_counter(other, "connections_forgotten") == round);
        library_pass(c, s, round * 100, round * 100 + 100, out);
    }
    ssmc_daemon_info(c, &info);
    assert_true(info.reconnects >= 2);
    out_check(out, 300);
    assert_int_equal(ssmc_close(s, WIRE_MS), SSMC_OK);
    ssmc_stream_free(s);
    ssmc_free(c);
    wire_free(other);
    serving_stop(d);
}

/* Until the library has met the new daemon; what it says of the stream then. */
static int library_meet(struct ssmc *c, struct ssmc_stream *s, const uint8_t old[16])
{
    long until = wire_now_ms() + WIRE_MS;
    struct ssmc_daemon_info info;
    struct ssmc_result result;
    int rc;

    for (;;) {
        rc = ssmc_poll(c, 50);
        ssmc_daemon_info(c, &info);
        if (rc < 0 && rc != SSMC_LOST)
            fail_msg("%s", ssmc_error_text(c));
        if (info.is_connected && memcmp(info.incarnation, old, 16) != 0) {
            struct ssmc_stream_info stream;

            rc = ssmc_next(s, &result);
            ssmc_stream_info(s, &stream);
            if (rc < 0 || stream.next == 0)
                return rc;
        }
        assert_true(wire_now_ms() < until);
    }
}

static void daemon__killed_and_started_again__library_restarts_or_reports_lost(void **state)
{
    (void)state;
    for (int restart_lost = 0; restart_lost < 2; restart_lost++) {
        struct sys_daemon *d = serving_start("");
        struct ssmc *c = library_connect(d);
        struct ssmc_stream *s = library_open(c, restart_lost);
        struct ssmc_daemon_info before;
        float *out = out_new();
        int rc;

        library_pass(c, s, 0, 200, out);
        assert_int_equal(ssmc_drain(s, WIRE_MS), SSMC_OK);
        ssmc_daemon_info(c, &before);
        sys_daemon_signal(d, SIGKILL);
        assert_int_equal(sys_daemon_wait(d, WIRE_MS), 128 + SIGKILL);
        assert_int_equal(sys_daemon_restart(d), 0);
        rc = library_meet(c, s, before.incarnation);
        if (restart_lost) {
            assert_int_equal(rc, 0);
            library_pass(c, s, 0, 250, out);
            out_check(out, 250);
        } else {
            assert_int_equal(rc, SSMC_LOST);
            assert_int_equal(ssmc_push(s, SSMC_F32, in_at(200), 10, 0, 0), SSMC_LOST);
            free(out);
        }
        ssmc_stream_free(s);
        ssmc_free(c);
        serving_stop(d);
    }
}

static int group_open(void **state)
{
    serving_group_open(state);
    reference_load(&golden, "s4d-stack");
    return golden.in_channels == 1 ? 0 : -1;
}

static int group_close(void **state)
{
    reference_free(&golden);
    return serving_group_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connection__broken__is_resumed_by_its_writer_in_the_same_epoch),
        cmocka_unit_test(writer__on_a_second_connection__kills_the_handles_of_the_first),
        cmocka_unit_test(results_from__an_index_of_the_ring__begins_there),
        cmocka_unit_test(results_from__older_than_the_ring__is_refused),
        cmocka_unit_test(take_over__by_another_writer__raises_the_epoch_and_keeps_the_index),
        cmocka_unit_test(connection__silent_for_idle_ms__is_forgotten_and_its_stream_is_not),
        cmocka_unit_test(frames__sent_again__are_acknowledged_and_change_nothing),
        cmocka_unit_test(frames__overlapping_at_random__are_trimmed_to_the_same_bits),
        cmocka_unit_test(gap__of_many_chunks__is_answered_once_until_it_is_filled),
        cmocka_unit_test(reset__behind_queued_frames__waits_its_turn_and_begins_a_new_epoch_at_0),
        cmocka_unit_test(close__behind_queued_frames__answers_when_every_result_left),
        cmocka_unit_test(close__without_credit__answers_after_credit_came),
        cmocka_unit_test(closed_stream__received__gives_its_id_to_the_very_next_request),
        cmocka_unit_test(close__again_and_then_credit__is_answered_all_the_same),
        cmocka_unit_test(close__waiting_when_the_stream_is_opened_again__is_answered_on_both_connections),
        cmocka_unit_test(close__waiting_when_its_stream_has_lingered__is_answered),
        cmocka_unit_test(closed_stream__never_received__goes_after_linger_ms),
        cmocka_unit_test(library__forgotten_by_the_daemon__resumes_and_loses_nothing),
        cmocka_unit_test(daemon__killed_and_started_again__library_restarts_or_reports_lost),
    };

    return cmocka_run_group_tests_name("resume", tests, group_open, group_close);
}
