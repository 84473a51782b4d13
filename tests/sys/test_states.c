/* SPDX-License-Identifier: Apache-2.0
 *
 * States as values: a stream whose state travels, is forked, goes back or outlives its daemon gives the library's bits
 * of a stream that never stopped. What is damaged, foreign or too much is refused, and nobody else notices.
 */
#include "tests/sys/serving.h"
#include "tests/sys/states.h"
#include "tests/ssm/making.h"
#include "tests/ssm/model_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void image_free(struct states_image *image)
{
    free(image->bytes);
    memset(image, 0, sizeof(*image));
}

/* ---- snapshot and restore ---------------------------------------------------------------------------------------- */

static void snapshot__of_every_model__goes_on_in_another_daemon_with_the_same_bits(void **state)
{
    struct sys_daemon *home = serving_start(""), *away = serving_start("threads = 1\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(home), "one"), *v;
    uint32_t seed = 7;

    (void)state;
    v = states_wire_new(sys_daemon_endpoint(away), "two");
    for (size_t i = 0; i < states_cases_n; i++) {
        struct reference *r = &states_cases[i];
        uint64_t at = making_number(&seed, r->frames), end = r->frames;
        struct wire_stream *s = wire_open(w, r->name, r->name, WIRE_RESULTS), *t;
        struct states_image image;

        states_push(w, s, r, 0, at, 0);
        assert_int_equal(states_snapshot(w, r->name, &image), SSMD__CODE__OK); /* in its turn: behind the frames */
        assert_int_equal(image.index, at);
        assert_int_equal(image.epoch, s->epoch);
        assert_int_equal(states_restore(v, image.bytes, image.size, NULL), SSMD__CODE__OK);
        assert_int_equal(v->reply->stream->next, at);
        assert_false(v->reply->stream->attached);
        t = wire_open(v, r->name, r->name, WIRE_RESULTS | WIRE_RESUME);
        states_push(v, t, r, at, end, 0);
        states_push(w, s, r, at, end, 0); /* the first goes on as well */
        WIRE_UNTIL(v, t->next == states_results(r, end));
        states_bits_check(t, r, end);
        WIRE_UNTIL(w, s->next == states_results(r, end));
        states_bits_check(s, r, end);
        image_free(&image);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        assert_int_equal(wire_close(v, t), SSMD__CODE__OK);
    }
    wire_free(w);
    wire_free(v);
    serving_stop(home);
    serving_stop(away);
}

static void snapshot__of_results_not_received__brings_them_with_their_times(void **state)
{
    struct sys_daemon *d = serving_start("drain_ms = 100\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_NO_CREDIT), *t;
    struct states_image image;

    (void)state;
    for (uint64_t at = 0; at < 90; at += 30) {
        struct wire_chunk chunk = {s,
                                   at,
                                   30,
                                   SSMD__FORMAT__F32LE,
                                   at == 30 ? 0 : PROTO_FLAG_TIME,
                                   (int64_t)at,
                                   states_in_at(states_golden, at)};

        wire_send(w, &chunk, 1);
    }
    s->sent = 90;
    WIRE_UNTIL(w, s->applied == 90);
    wire_credit(w, s, 0, 50 * states_golden->out_channels * sizeof(float));
    WIRE_UNTIL(w, s->results == 50);
    wire_credit(w, s, 40, 50 * states_golden->out_channels * sizeof(float));
    assert_int_equal(states_snapshot(w, "s", &image), SSMD__CODE__OK);
    assert_int_equal(states_restore(w, image.bytes, image.size, "t"), SSMD__CODE__OK);
    assert_int_equal(w->reply->stream->result_first, 40);
    assert_int_equal(w->reply->stream->result_next, 90);
    assert_true(w->reply->stream->epoch > image.epoch);
    t = wire_open(w, "t", states_golden->name, WIRE_RESULTS);
    assert_int_equal(t->begin, 40);
    states_push(w, t, states_golden, 90, 200, 0);
    WIRE_UNTIL(w, t->next == 200);
    states_bits_check(t, states_golden, 200);
    for (uint64_t i = 40; i < 90; i++)
        assert_int_equal(t->times[i - 40], i < 60 ? INT64_MIN : 60);
    image_free(&image);
    wire_free(w);
    serving_stop(d);
}

static void snapshot__amid_a_flood_of_input__is_of_the_index_when_it_was_asked(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = wire_open(w, "s", states_golden->name, WIRE_RESULTS), *t;
    struct states_image image;

    (void)state;
    for (uint64_t at = 0; at < states_golden->frames; at += 100) {
        uint64_t end = at + 100 < states_golden->frames ? at + 100 : states_golden->frames;
        char id[16];

        snprintf(id, sizeof(id), "t%llu", (unsigned long long)at);
        states_push(w, s, states_golden, at, end, at % 200 ? PROTO_FLAG_BACKFILL : 0);
        if (at % 300 != 0)
            continue;
        assert_int_equal(states_snapshot(w, "s", &image), SSMD__CODE__OK);
        assert_int_equal(image.index, end);
        assert_int_equal(states_restore(w, image.bytes, image.size, id), SSMD__CODE__OK);
        assert_int_equal(w->reply->stream->next, end);
        image_free(&image);
    }
    WIRE_UNTIL(w, s->next == states_golden->frames);
    states_bits_check(s, states_golden,
                      states_golden->frames); /* rls steps in a scan, so that both are the same bits */
    t = wire_open(w, "t0", states_golden->name, WIRE_RESULTS);
    states_push(w, t, states_golden, 100, states_golden->frames, 0);
    WIRE_UNTIL(w, t->next == states_golden->frames);
    states_bits_check(t, states_golden, states_golden->frames);
    wire_free(w);
    serving_stop(d);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void restore__of_a_damaged_image__is_refused_and_nothing_stays(void **state)
{
    struct sys_daemon *d = serving_start("drain_ms = 100\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_NO_CREDIT);
    struct states_image image;
    unsigned char *copy;
    uint32_t number;

    (void)state;
    states_push(w, s, states_golden, 0, 70, 0);
    assert_int_equal(states_snapshot(w, "s", &image), SSMD__CODE__OK);
    for (size_t i = 0; i < image.size; i += i < 400 ? 1 : 97) {
        image.bytes[i] ^= 1u << (i % 8);
        if (states_restore(w, image.bytes, image.size, "t") == SSMD__CODE__OK)
            fail_msg("byte %zu of %zu", i, image.size);
        image.bytes[i] ^= 1u << (i % 8);
    }
    for (size_t n = 1; n < image.size; n += 1 + n / 4)
        assert_int_not_equal(states_restore(w, image.bytes, n, "t"), SSMD__CODE__OK);
    states_refused(w, states_restore(w, (const unsigned char *)"once upon a time there was a state", 34, "t"),
                   SSMD__CODE__BAD_IMAGE, "not the image of a stream");
    copy = malloc(image.size);
    assert_non_null(copy);
    memcpy(copy, image.bytes, image.size);
    copy[8] = 2;
    states_refused(w, states_restore(w, copy, image.size, "t"), SSMD__CODE__BAD_IMAGE, "later version");
    free(copy);
    states_refused(w, states_restore(w, image.bytes, image.size, NULL), SSMD__CODE__EXISTS, "exists");
    states_refused(w, states_restore(w, image.bytes, image.size, ""), SSMD__CODE__BAD_ID, "64 bytes");
    states_refused(w, states_snapshot_begin(w, "nobody", &number, &(uint64_t){0}), SSMD__CODE__NO_STREAM,
                   "no such stream");
    assert_int_equal(wire_counter(w, "streams"), 1);
    assert_int_equal(wire_counter(w, "image_bytes"), 0);
    assert_int_equal(states_restore(w, image.bytes, image.size, "t"), SSMD__CODE__OK);
    image_free(&image);
    wire_free(w);
    serving_stop(d);
}

static void restore__where_the_model_is_another_or_absent__is_refused_with_the_reason(void **state)
{
    struct sys_daemon *d = serving_start(""), *e;
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one"), *v;
    struct wire_stream *s = wire_open(w, "s", states_golden->name, 0);
    struct states_image image, forecast;
    char from[128], to[256];

    (void)state;
    states_push(w, s, states_golden, 0, 10, 0);
    assert_int_equal(states_snapshot(w, "s", &image), SSMD__CODE__OK);
    (void)wire_open(w, "f", "forecast:rate=100", 0);
    assert_int_equal(states_snapshot(w, "f", &forecast), SSMD__CODE__OK);
    assert_int_equal(sys_daemon_start(&e, "max_streams = 1\nmodels = @/others\n"), 0);
    v = states_wire_new(sys_daemon_endpoint(e), "two");
    states_refused(v, states_restore(v, image.bytes, image.size, NULL), SSMD__CODE__NO_MODEL, states_golden->name);
    /* a model of that name, which is another one */
    snprintf(to, sizeof(to), "%s/others", sys_daemon_directory(e));
    assert_int_equal(mkdir(to, 0700), 0);
    snprintf(from, sizeof(from), "%s/twice", serving_models.path);
    snprintf(to, sizeof(to), "%s/others/%s", sys_daemon_directory(e), states_golden->name);
    assert_int_equal(symlink(from, to), 0);
    states_refused(v, states_restore(v, image.bytes, image.size, NULL), SSMD__CODE__BAD_IMAGE, "another model");
    assert_int_equal(wire_counter(v, "streams"), 0);
    assert_int_equal(states_restore(v, forecast.bytes, forecast.size, NULL), SSMD__CODE__OK);
    states_refused(v, states_restore(v, forecast.bytes, forecast.size, "g"), SSMD__CODE__LIMIT, "max_streams");
    image_free(&image);
    image_free(&forecast);
    wire_free(v);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(e, WIRE_MS), 0);
    sys_daemon_free(e);
    serving_stop(d);
}

static void requests__without_the_feature__are_refused(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = wire_open(w, "s", "twice", 0), *t;
    uint32_t image;

    (void)state;
    assert_int_equal(w->reply->stream->history, NULL);
    states_refused(w, states_snapshot_begin(w, "s", &image, &(uint64_t){0}), SSMD__CODE__FEATURE, "feature");
    states_refused(w, states_fork(w, "s", "t"), SSMD__CODE__FEATURE, "feature");
    states_refused(w, states_rollback(w, s, 0), SSMD__CODE__FEATURE, "feature");
    w->history = (Ssmd__History)SSMD__HISTORY__INIT;
    w->history.interval = w->history.depth = 64;
    assert_int_equal(wire_try_open(w, &t, "t", "twice", 0, 0), SSMD__CODE__FEATURE);
    wire_free(w);
    serving_stop(d);
}

static void images__beyond_the_limits__are_refused_and_room_is_made_again(void **state)
{
    struct sys_daemon *d = serving_start("max_images = 3\nimage_memory = 64K\nidle_ms = 1000\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one"), *v = states_wire_new(sys_daemon_endpoint(d), "v");
    static const unsigned char zeros[40000];
    uint32_t number[4];
    uint64_t bytes;

    (void)state;
    (void)wire_open(w, "s", "twice", 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(states_snapshot_begin(w, "s", &number[i], &bytes), SSMD__CODE__OK);
    states_refused(w, states_snapshot_begin(w, "s", &number[3], &bytes), SSMD__CODE__LIMIT, "max_images");
    assert_int_equal(states_fetch(v, number[0], 0, 100), SSMD__CODE__NO_IMAGE);  /* another connection's */
    assert_int_equal(states_fetch(w, number[0], 50, 100), SSMD__CODE__NO_IMAGE); /* not in order */
    assert_int_equal(states_fetch(w, number[0], 0, 0), SSMD__CODE__OK);          /* given up */
    assert_int_equal(states_fetch(w, number[0], 0, 100), SSMD__CODE__NO_IMAGE);
    assert_int_equal(states_snapshot_begin(w, "s", &number[3], &bytes), SSMD__CODE__OK);
    wire_free(w); /* what it left behind goes with it */
    WIRE_UNTIL(v, (usleep(20000), wire_counter(v, "image_bytes") == 0));
    assert_int_equal(states_put(v, zeros, 40000, 20000, &number[0]), SSMD__CODE__OK);
    states_refused(v, states_put(v, zeros, 40000, 20000, &number[1]), SSMD__CODE__LIMIT, "image_memory");
    assert_int_equal(states_fetch(v, number[0], 0, 0), SSMD__CODE__OK);
    assert_int_equal(states_put(v, zeros, 40000, 20000, &number[1]), SSMD__CODE__OK);
    wire_free(v);
    serving_stop(d);
}

/* ---- fork -------------------------------------------------------------------------------------------------------- */

static void fork__of_every_model__both_go_on_with_the_same_bits(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one"),
                *v = states_wire_new(sys_daemon_endpoint(d), "two");
    uint32_t seed = 11;

    (void)state;
    for (size_t i = 0; i < states_cases_n; i++) {
        struct reference *r = &states_cases[i];
        uint64_t at = making_number(&seed, r->frames), end = r->frames;
        struct wire_stream *s = wire_open(w, r->name, r->name, WIRE_RESULTS), *t;

        states_push(w, s, r, 0, at, 0);
        WIRE_UNTIL(w, s->next == states_results(r, at));
        assert_int_equal(states_fork(v, r->name, "child"), SSMD__CODE__OK);
        assert_int_equal(v->reply->stream->next, at);
        assert_int_equal(states_fork(w, r->name, "child"), SSMD__CODE__EXISTS);
        states_push(w, s, r, at, end, 0);
        t = wire_open(v, "child", r->name, WIRE_RESULTS | WIRE_RESUME);
        assert_int_equal(t->begin, states_results(r, at));
        states_push(v, t, r, at, end, 0);
        WIRE_UNTIL(v, t->next == states_results(r, end));
        states_bits_check(t, r, end);
        WIRE_UNTIL(w, s->next == states_results(r, end));
        states_bits_check(s, r, end);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        assert_int_equal(wire_close(v, t), SSMD__CODE__OK);
    }
    wire_free(w);
    wire_free(v);
    serving_stop(d);
}

/* One prompt, many that go on from it: asked for at once, each has its turn. */
static void fork__many_at_once__each_begins_where_it_was_asked(void **state)
{
    enum { FORKS = 40 };
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = wire_open(w, "prompt", states_golden->name, 0), *t;

    (void)state;
    states_push(w, s, states_golden, 0, 100, 0);
    for (int i = 0; i < FORKS; i++) {
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__Fork fork = SSMD__FORK__INIT;
        unsigned char part[256];
        char id[16];

        snprintf(id, sizeof(id), "f%d", i);
        fork.id = wire_bytes("prompt");
        fork.new_id = wire_bytes(id);
        message.request_case = SSMD__FROM_CLIENT__REQUEST_FORK;
        message.fork = &fork;
        message.request_id = 1000000u + (unsigned)i;
        proto_encode(&message.base, part);
        wire_send_parts(w, 1, (const void *const[]){part}, (const size_t[]){proto_size(&message.base)});
        states_push(w, s, states_golden, 100 + (uint64_t)i, 101 + (uint64_t)i, 0);
    }
    WIRE_UNTIL(w, (usleep(5000), wire_counter(w, "forks") == FORKS));
    for (int i = 0; i < FORKS; i += 13) {
        uint64_t at = 100 + (uint64_t)i;
        char id[16];

        snprintf(id, sizeof(id), "f%d", i);
        t = wire_open(w, id, states_golden->name, WIRE_RESULTS | WIRE_RESUME);
        assert_int_equal(t->sent, at);
        states_push(w, t, states_golden, at, 300, 0);
        WIRE_UNTIL(w, t->next == 300);
        states_bits_check(t, states_golden, 300);
    }
    wire_free(w);
    serving_stop(d);
}

/* ---- rollback ---------------------------------------------------------------------------------------------------- */

static void rollback__of_every_model_to_any_index__goes_on_with_the_same_bits(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    uint32_t seed = 13;

    (void)state;
    for (size_t i = 0; i < states_cases_n; i++) {
        struct reference *r = &states_cases[i];
        struct wire_stream *s = states_open_with_history(w, r->name, r->name, states_interval(r), 100);
        uint64_t end = r->frames, at = 0, oldest = 0;

        for (int turn = 0; turn < 6; turn++) {
            uint64_t to = at + making_number(&seed, (uint32_t)(end - at) + 1), back;

            states_push(w, s, r, at, to, 0);
            oldest = oldest + 100 > to ? oldest : to - 100;
            back = making_number(&seed, (uint32_t)(to - oldest) + 1);
            if (turn % 2) /* also while results and frames are under way */
                WIRE_UNTIL(w, s->next == states_results(r, to));
            at = to - back;
            assert_int_equal(states_rollback(w, s, at), SSMD__CODE__OK);
            assert_int_equal(w->reply->stream->result_next, states_results(r, at));
            oldest = w->reply->stream->history->oldest;
            assert_true(oldest <= at);
        }
        states_push(w, s, r, at, end, 0);
        WIRE_UNTIL(w, s->next == states_results(r, end));
        states_bits_check(s, r, end);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    }
    wire_free(w);
    serving_stop(d);
}

static void rollback__amid_backfill__is_as_if_the_chunks_had_ended_there(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct reference *r = &states_cases[0];
    struct wire_stream *s, *whole;
    uint64_t end;

    (void)state;
    for (size_t i = 0; i < states_cases_n; i++) /* one that has a chunk form */
        if (strcmp(states_cases[i].name, "case-s4d-stack") == 0)
            r = &states_cases[i];
    end = r->frames;
    assert_true(end > 150);
    whole = wire_open(w, "whole", r->name, WIRE_RESULTS);
    states_push(w, whole, r, 0, 30, PROTO_FLAG_BACKFILL);
    states_push(w, whole, r, 30, 130, PROTO_FLAG_BACKFILL);
    states_push(w, whole, r, 130, 141, PROTO_FLAG_BACKFILL); /* the chunk that the rollback cuts */
    states_push(w, whole, r, 141, end, 0);
    s = states_open_with_history(w, "s", r->name, 128, 128);
    states_push(w, s, r, 0, 30, PROTO_FLAG_BACKFILL);
    states_push(w, s, r, 30, 130, PROTO_FLAG_BACKFILL);
    states_push(w, s, r, 130, 150, PROTO_FLAG_BACKFILL);
    assert_int_equal(states_rollback(w, s, 100), SSMD__CODE__OK);
    states_push(w, s, r, 100, 150, 0);
    assert_int_equal(states_rollback(w, s, 30), SSMD__CODE__OK);
    states_push(w, s, r, 30, 130, PROTO_FLAG_BACKFILL);
    states_push(w, s, r, 130, 150, PROTO_FLAG_BACKFILL);
    assert_int_equal(states_rollback(w, s, 141), SSMD__CODE__OK);
    states_push(w, s, r, 141, end, 0);
    WIRE_UNTIL(w, s->next == end && whole->next == end);
    assert_memory_equal(s->out, whole->out, end * r->out_channels * sizeof(float));
    wire_free(w);
    serving_stop(d);
}

static void rollback__beyond_what_is_kept__is_refused_and_the_stream_goes_on(void **state)
{
    struct sys_daemon *d = serving_start("history_memory = 1M\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = states_open_with_history(w, "s", states_golden->name, 64, 64), *plain, *t;
    uint64_t bytes = w->reply->stream->history->bytes;

    (void)state;
    assert_int_equal(wire_counter(w, "history_bytes"), bytes);
    states_push(w, s, states_golden, 0, 300, 0);
    states_refused(w, states_rollback(w, s, 301), SSMD__CODE__TOO_NEW, "beyond");
    states_refused(w, states_rollback(w, s, 191), SSMD__CODE__TOO_OLD, "oldest");
    assert_int_equal(states_rollback(w, s, 192), SSMD__CODE__OK); /* ceil(64/64)+1 checkpoints: 192 and 256 */
    states_refused(w, states_rollback(w, s, 191), SSMD__CODE__TOO_OLD, "oldest");
    states_push(w, s, states_golden, 192, 400, 0);
    WIRE_UNTIL(w, s->next == 400);
    states_bits_check(s, states_golden, 400);
    assert_int_equal(wire_reset(w, s), SSMD__CODE__OK);
    s->results = 0;
    states_push(w, s, states_golden, 0, 100, 0);
    assert_int_equal(states_rollback(w, s, 3), SSMD__CODE__OK);
    states_push(w, s, states_golden, 3, 400, 0);
    WIRE_UNTIL(w, s->next == 400);
    states_bits_check(s, states_golden, 400);
    plain = wire_open(w, "plain", states_golden->name, 0);
    states_refused(w, states_rollback(w, plain, 0), SSMD__CODE__TOO_OLD, "no history");
    w->history.interval = 65;
    w->history.depth = 64;
    assert_int_equal(wire_try_open(w, &t, "t", states_golden->name, 0, 0), SSMD__CODE__TOO_LARGE);
    w->history.interval = 1u << 19;
    assert_int_equal(wire_try_open(w, &t, "t", states_golden->name, 0, 0), SSMD__CODE__LIMIT);
    states_refused(w, SSMD__CODE__LIMIT, SSMD__CODE__LIMIT, "history_memory");
    assert_int_equal(wire_counter(w, "streams"), 2);
    w->history.interval = 128;
    assert_int_equal(wire_try_open(w, &t, "s", states_golden->name, 0, 0), SSMD__CODE__EXISTS);
    w->history.interval = 0;
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    WIRE_UNTIL(w, (usleep(5000), wire_counter(w, "history_bytes") == 0));
    wire_free(w);
    serving_stop(d);
}

static void rollback__with_the_ring_full_of_results__needs_no_room_in_it(void **state)
{
    enum { RING = 256 }; /* frames: what 4 KiB hold of three channels, down to a power of two */
    struct sys_daemon *d = serving_start("result_ring = 4K\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s;

    (void)state;
    s = states_open_with_history(w, "s", states_golden->name, 64, 300);
    wire_free(w); /* with it goes its credit */
    w = states_wire_new(sys_daemon_endpoint(d), "one");
    s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_NO_CREDIT);
    states_push(w, s, states_golden, 0, RING, 0);
    WIRE_UNTIL(w, s->applied == RING);
    assert_int_equal(states_rollback(w, s, 70), SSMD__CODE__OK);
    s->grant = 1u << 20;
    wire_credit(w, s, 0, s->grant);
    states_push(w, s, states_golden, 70, 400, 0);
    WIRE_UNTIL(w, s->next == 400);
    states_bits_check(s, states_golden, 400);
    wire_free(w);
    serving_stop(d);
}

static void rollback__with_a_reader__it_hears_the_epoch_and_gets_the_new_results(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one"), *v = wire_new(sys_daemon_endpoint(d), "reader");
    struct wire_stream *s = states_open_with_history(w, "s", states_golden->name, 64, 200), *t;

    (void)state;
    states_push(w, s, states_golden, 0, 150, 0);
    assert_int_equal(wire_read(v, "s", false, &(uint64_t){0}, 1u << 24), SSMD__CODE__OK);
    WIRE_UNTIL(v, (t = wire_find(v, "s")) != NULL && t->next == 150);
    assert_int_equal(states_rollback(w, s, 100), SSMD__CODE__OK);
    WIRE_UNTIL(v, wire_events(v, SSMD__EVENT__KIND__EPOCH) == 1);
    assert_int_equal(t->next, 100);
    states_push(w, s, states_golden, 100, 300, 0);
    WIRE_UNTIL(v, t->next == 300);
    assert_memory_equal(t->out + 150 * states_golden->out_channels,
                        states_golden->step + 100 * states_golden->out_channels,
                        200 * states_golden->out_channels * sizeof(float)); /* after the first 150 */
    wire_free(v);
    wire_free(w);
    serving_stop(d);
}

/* ---- a large one ------------------------------------------------------------------------------------------------- */

/* `large`: a delay line of 4 x 2^20 samples, 16 MiB of state. */
static void large_make(void)
{
    static const float taps[17] = {[0] = 1, [16] = 0.5f};
    const struct model_tensor tensors[] = {{"c0.weight", NULL, 3, {1, 1, 17}, taps},
                                           {"c1.weight", NULL, 3, {1, 1, 17}, taps},
                                           {"c2.weight", NULL, 3, {1, 1, 17}, taps},
                                           {"c3.weight", NULL, 3, {1, 1, 17}, taps}};
    struct model_dir dir;
    char config[2048];
    int n;

    snprintf(dir.path, sizeof(dir.path), "%.50s/large", serving_models.path);
    assert_int_equal(mkdir(dir.path, 0700), 0);
    n = snprintf(config, sizeof(config),
                 "{\"model_type\":\"ssmd\",\"format_version\":1,\"name\":\"large\",\"input\":{\"kind\":\"signal\","
                 "\"channels\":1,\"sample_rate\":1000},\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":"
                 "1000},\"layers\":[");
    for (int i = 0; i < 4; i++)
        n += snprintf(config + n, sizeof(config) - (size_t)n,
                      "%s{\"type\":\"conv1d\",\"name\":\"c%d\",\"in\":1,\"out\":1,\"kernel\":17,\"dilation\":65536,"
                      "\"padding\":\"causal\",\"bias\":false}",
                      i ? "," : "", i);
    snprintf(config + n, sizeof(config) - (size_t)n, "]}");
    model_dir_write_text(&dir, "config.json", config);
    model_dir_write_tensors(&dir, "model.safetensors", tensors, 4);
}

static void snapshot__of_a_large_state__travels_in_pieces_between_which_others_are_served(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire *v = wire_new(sys_daemon_endpoint(d), "other");
    struct wire_stream *big = wire_open(w, "big", "large", WIRE_RESULTS), *small, *t;
    struct states_image image;
    float ones[50], want = 0.0625f; /* 0.5^4 */
    uint64_t fed = 0;

    (void)state;
    small = wire_open(v, "small", states_golden->name, WIRE_RESULTS);
    for (int i = 0; i < 50; i++)
        ones[i] = 1;
    wire_push(w, big, ones, 50, 0);
    WIRE_UNTIL(w, big->next == 50);
    assert_int_equal(states_snapshot_begin(w, "big", &(uint32_t){0}, &image.size), SSMD__CODE__OK);
    image.bytes = malloc(image.size);
    assert_non_null(image.bytes);
    assert_true(image.size > 16u << 20);
    for (uint64_t at = 0, number = w->reply->image->image; at < image.size; at += w->reply->piece->data.len) {
        assert_int_equal(states_fetch(w, (uint32_t)number, at, 1u << 30), SSMD__CODE__OK);
        assert_in_range(w->reply->piece->data.len, 1, 256 << 10);
        memcpy(image.bytes + at, w->reply->piece->data.data, w->reply->piece->data.len);
        if (fed < states_golden->frames) {
            states_push(v, small, states_golden, fed, fed + 1, 0);
            fed++;
            WIRE_UNTIL(v, small->next == fed);
        }
    }
    assert_true(fed > 60);
    states_bits_check(small, states_golden, fed);
    assert_int_equal(states_restore(w, image.bytes, image.size, "copy"), SSMD__CODE__OK);
    t = wire_open(w, "copy", "large", WIRE_RESULTS);
    wire_push(w, t, ones, 1, 0);
    wire_push(w, big, ones, 1, 0);
    WIRE_UNTIL(w, t->next == 51 && big->next == 51);
    assert_float_equal(t->out[0], want, 0);
    assert_float_equal(big->out[50], want, 0);
    free(image.bytes);
    wire_free(v);
    wire_free(w);
    serving_stop(d);
}

static int group_open(void **state)
{
    if (states_group_open(state) != 0)
        return -1;
    large_make();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot__of_every_model__goes_on_in_another_daemon_with_the_same_bits),
        cmocka_unit_test(snapshot__of_results_not_received__brings_them_with_their_times),
        cmocka_unit_test(snapshot__amid_a_flood_of_input__is_of_the_index_when_it_was_asked),
        cmocka_unit_test(restore__of_a_damaged_image__is_refused_and_nothing_stays),
        cmocka_unit_test(restore__where_the_model_is_another_or_absent__is_refused_with_the_reason),
        cmocka_unit_test(requests__without_the_feature__are_refused),
        cmocka_unit_test(images__beyond_the_limits__are_refused_and_room_is_made_again),
        cmocka_unit_test(fork__of_every_model__both_go_on_with_the_same_bits),
        cmocka_unit_test(fork__many_at_once__each_begins_where_it_was_asked),
        cmocka_unit_test(rollback__of_every_model_to_any_index__goes_on_with_the_same_bits),
        cmocka_unit_test(rollback__amid_backfill__is_as_if_the_chunks_had_ended_there),
        cmocka_unit_test(rollback__beyond_what_is_kept__is_refused_and_the_stream_goes_on),
        cmocka_unit_test(rollback__with_the_ring_full_of_results__needs_no_room_in_it),
        cmocka_unit_test(rollback__with_a_reader__it_hears_the_epoch_and_gets_the_new_results),
        cmocka_unit_test(snapshot__of_a_large_state__travels_in_pieces_between_which_others_are_served),
    };

    return cmocka_run_group_tests(tests, group_open, states_group_close);
}
