/* SPDX-License-Identifier: Apache-2.0
 *
 * Published streams in the real daemon: what their readers get is, bit for bit, what libssm makes of the frames that
 * were published and of those that stand in for missing ones; and what is not taken is counted and announced.
 */
#include "tests/sys/publishing.h"
#include "tests/sys/serving.h"
#include "tests/sys/states.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define READ_BYTES (64u << 20)
#define MODEL      "case-lti-zoh" /* 2 channels in, 3 out, with a memory */
#define LINES(gap) PUBLISHING_ENDPOINT "publish = s model=" MODEL " rate=100 channels=2 " gap "\n"

enum { FRAMES = 400, IN = 2 };

static struct reference lti;

static int group_open(void **state)
{
    if (states_group_open(state) != 0)
        return -1;
    reference_load(&lti, "lti-zoh");
    return lti.in_channels == IN && lti.frames == FRAMES ? 0 : -1;
}

static int group_close(void **state)
{
    reference_free(&lti);
    return states_group_close(state);
}

static const float *in_at(uint64_t frame)
{
    return (const float *)lti.in + frame * IN;
}

/* A reader of every stream that begins with s, from its first result. */
static struct wire *reader_new(const struct sys_daemon *d, const char *name)
{
    struct wire *w = wire_new(sys_daemon_endpoint(d), name);
    uint64_t from = 0;

    assert_int_equal(wire_read(w, "s", true, &from, READ_BYTES), SSMD__CODE__OK);
    return w;
}

/* Results `at` to at + frames - 1 that came of the stream are those of these frames, from a fresh state. */
static void bits_check(struct wire *w, const char *id, uint64_t at, const float *in, uint32_t frames)
{
    float *out = malloc(frames * lti.out_channels * sizeof(float));
    const struct wire_stream *s;

    assert_non_null(out);
    WIRE_UNTIL(w, (s = wire_find(w, id)) != NULL && s->results >= at + frames);
    reference_step(&lti, in, frames, out);
    assert_int_equal(s->lost, 0);
    assert_memory_equal(s->out + at * lti.out_channels, out, frames * lti.out_channels * sizeof(float));
    free(out);
}

/* ---- the way of data --------------------------------------------------------------------------------------------- */

static void first_data__of_a_mapped_id__makes_the_stream_and_readers_get_everything(void **state)
{
    struct sys_daemon *d = serving_start(LINES(""));
    struct wire *w = reader_new(d, "r");
    struct publishing *p = publishing_new(d, "run", IN);

    (void)state;
    for (uint32_t i = 0; i < FRAMES; i += 10)
        publishing_send(p, "s1", 5000 + i, in_at(i), 10);
    bits_check(w, "s1", 0, in_at(0), FRAMES);
    assert_int_equal(wire_counter(w, "publish_messages"), FRAMES / 10);
    assert_int_equal(wire_counter(w, "publish_sources"), 1);
    assert_int_equal(wire_counter(w, "frames"), FRAMES);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

static void data__again_and_overlapping__is_taken_once(void **state)
{
    struct sys_daemon *d = serving_start(LINES("gap=refuse"));
    struct wire *w = reader_new(d, "r");
    struct publishing *p = publishing_new(d, "run", IN);

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_send(p, "s1", 50, in_at(50), 100);
    publishing_send(p, "s1", 20, in_at(20), 7);
    publishing_send(p, "s1", 150, in_at(150), 250);
    bits_check(w, "s1", 0, in_at(0), FRAMES);
    assert_int_equal(wire_counter(w, "chunks_duplicate"), 2);
    assert_int_equal(wire_counter(w, "chunks_trimmed"), 1);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

static void data__while_the_model_is_loaded__is_kept(void **state)
{
    struct sys_daemon *d = serving_start(PUBLISHING_ENDPOINT "publish = s model=slow\n");
    struct wire *w = reader_new(d, "r");
    struct publishing *p = publishing_new(d, "run", 1);
    float zeros[64] = {0};

    (void)state;
    for (uint32_t i = 0; i < 20; i++)
        publishing_send(p, "s1", i * 64, zeros, 64);
    publishing_counter_wait(w, "frames_applied", 20 * 64);
    assert_int_equal(wire_counter(w, "publish_dropped"), 0);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

static void data__beyond_the_window_before_there_is_a_stream__is_dropped_and_a_gap(void **state)
{
    struct sys_daemon *d = serving_start(PUBLISHING_ENDPOINT "publish = s model=slow gap=refuse\nstream_window = 4K\n");
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", 1);
    float zeros[200] = {0};

    (void)state;
    for (uint32_t i = 0; i < 8; i++) /* 800 bytes each, and their heads */
        publishing_send(p, "s1", i * 200, zeros, 200);
    assert_non_null(strstr(watching_wait(t, SSMD__EVENT__KIND__PUBLISH_REFUSED, 0)->text, "window"));
    publishing_counter_wait(w, "frames_applied", 4 * 200);
    assert_int_equal(wire_counter(w, "publish_dropped"), 4);
    assert_int_equal(wire_counter(w, "publish_bytes"), 0);
    publishing_send(p, "s1", 8 * 200, zeros, 200);
    assert_int_equal(watching_wait(t, SSMD__EVENT__KIND__GAP_REFUSED, 0)->next, 8 * 200);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void data__beyond_publish_memory__is_dropped_whoever_sends_it(void **state)
{
    struct sys_daemon *d =
        serving_start(PUBLISHING_ENDPOINT "publish = s model=slow\npublish_memory = 64K\ndrain_ms = 0\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "w");
    struct publishing *p = publishing_new(d, "run", 1);
    static const float zeros[4096];
    char id[] = "s0";

    (void)state;
    for (; id[1] < '8'; id[1]++) /* 16 KiB each, and their heads */
        publishing_send(p, id, 0, zeros, 4096);
    publishing_counter_wait(w, "streams", 3);
    assert_int_equal(wire_counter(w, "publish_dropped"), 5);
    assert_int_equal(wire_counter(w, "publish_bytes"), 0);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

static void data__more_than_the_window__is_dropped_and_filled_when_there_is_room(void **state)
{
    struct sys_daemon *d = serving_start(LINES("gap=zero max_fill=100000") "stream_window = 4K\n"); /* 512 frames */
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);
    float in[600 * IN] = {0};

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 10);
    bits_check(w, "s1", 0, in_at(0), 10);
    publishing_send(p, "s1", 10, in, 600);
    assert_non_null(strstr(watching_wait(t, SSMD__EVENT__KIND__PUBLISH_REFUSED, 0)->text, "stream_window"));
    assert_int_equal(wire_counter(w, "chunks_overflow_stream"), 1);
    publishing_send(p, "s1", 110, in_at(0), 10); /* part of it comes again, by chance */
    memcpy(in, in_at(0), 10 * IN * sizeof(float));
    memcpy(in + 110 * IN, in_at(0), 10 * IN * sizeof(float));
    bits_check(w, "s1", 0, in, 120);
    publishing_send(p, "s1", 620, in_at(0), 20); /* a gap of 500 and 20 do not fit */
    assert_int_equal(watching_wait(t, SSMD__EVENT__KIND__GAP_RESET, 0)->first, 120);
    bits_check(w, "s1", 120, in_at(0), 20);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void data__more_than_the_models_queue__is_dropped_by_name(void **state)
{
    struct sys_daemon *d = serving_start(LINES("gap=refuse") "serve = " MODEL " queue=4K\n");
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);
    float in[600 * IN] = {0};

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 10);
    bits_check(w, "s1", 0, in_at(0), 10);
    publishing_send(p, "s1", 10, in, 600);
    assert_non_null(strstr(watching_wait(t, SSMD__EVENT__KIND__PUBLISH_REFUSED, 0)->text, "serve"));
    assert_int_equal(wire_counter(w, "chunks_overflow_model"), 1);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

/* ---- gaps -------------------------------------------------------------------------------------------------------- */

/* Frames 100 to 199 are left out; what a stream that was sent `in` gives is what comes. */
static void gap_check(const char *lines, const float *in, const char *says)
{
    struct sys_daemon *d = serving_start(lines);
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);
    const struct watching_event *event;

    publishing_send(p, "s1", 1000, in_at(0), 100);
    publishing_send(p, "s1", 1200, in_at(200), 100);
    publishing_send(p, "s1", 1300, in_at(300), 100);
    bits_check(w, "s1", 0, in, FRAMES);
    event = watching_wait(t, SSMD__EVENT__KIND__GAP_FILLED, 0);
    assert_int_equal(event->first, 100);
    assert_int_equal(event->next, 200);
    assert_non_null(strstr(event->text, says));
    assert_int_equal(wire_counter(w, "publish_gaps_filled"), 1);
    assert_int_equal(wire_counter(w, "publish_frames_filled"), 100);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void gap__hold__is_the_stream_that_was_sent_the_last_frame_again(void **state)
{
    float in[FRAMES * IN];

    (void)state;
    memcpy(in, lti.in, sizeof(in));
    for (uint32_t i = 100; i < 200; i++)
        memcpy(in + i * IN, in_at(99), IN * sizeof(float));
    gap_check(LINES("gap=hold"), in, "repeated");
}

static void gap__zero__is_the_stream_that_was_sent_zeros(void **state)
{
    float in[FRAMES * IN];

    (void)state;
    memcpy(in, lti.in, sizeof(in));
    memset(in + 100 * IN, 0, 100 * IN * sizeof(float));
    gap_check(LINES("gap=zero max_fill=100"), in, "zeros");
}

static void gap__zero_in_many_pieces__is_the_stream_that_was_sent_zeros(void **state)
{
    enum { GAP = 10000 };
    struct sys_daemon *d = serving_start(LINES("gap=zero"));
    struct wire *w = reader_new(d, "r");
    struct publishing *p = publishing_new(d, "run", IN);
    float *in = calloc((FRAMES + GAP) * IN, sizeof(float));

    (void)state;
    assert_non_null(in);
    memcpy(in, in_at(0), 100 * IN * sizeof(float));
    memcpy(in + (100 + GAP) * IN, in_at(100), 300 * IN * sizeof(float));
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_send(p, "s1", 100 + GAP, in_at(100), 300);
    bits_check(w, "s1", 0, in, FRAMES + GAP);
    free(in);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

/* Both a policy of reset and a gap too long to fill: the stream begins again with what follows. */
static void gap_reset_check(const char *lines)
{
    struct sys_daemon *d = serving_start(lines);
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);

    for (uint32_t i = 0; i < 100; i += 10)
        publishing_send(p, "s1", i, in_at(i), 10);
    for (uint32_t i = 200; i < 300; i += 10)
        publishing_send(p, "s1", i, in_at(i), 10);
    publishing_send(p, "s1", 400, in_at(300), 10);
    bits_check(w, "s1", 0, in_at(0), 100);
    bits_check(w, "s1", 100, in_at(200), 100);
    bits_check(w, "s1", 200, in_at(300), 10);
    assert_int_equal(watching_wait(t, SSMD__EVENT__KIND__GAP_RESET, 0)->first, 100);
    assert_int_equal(watching_wait(t, SSMD__EVENT__KIND__GAP_RESET, 1)->next, 200);
    assert_int_equal(wire_events(w, SSMD__EVENT__KIND__EPOCH), 2);
    assert_int_equal(wire_counter(w, "publish_gaps_reset"), 2);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void gap__reset__begins_again_behind_it(void **state)
{
    (void)state;
    gap_reset_check(LINES("gap=reset"));
}

static void gap__longer_than_max_fill__resets(void **state)
{
    (void)state;
    gap_reset_check(LINES("gap=hold max_fill=99"));
}

static void gap__refuse__takes_nothing_until_the_frames_come_or_another_run(void **state)
{
    struct sys_daemon *d = serving_start(LINES("gap=refuse source_ms=1"));
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN), *q = publishing_new(d, "second", IN);
    const struct watching_event *event;

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_send(p, "s1", 200, in_at(200), 100);
    publishing_send(p, "s1", 300, in_at(300), 100);
    event = watching_wait(t, SSMD__EVENT__KIND__GAP_REFUSED, 0);
    assert_int_equal(event->first, 100);
    assert_int_equal(event->next, 200);
    publishing_counter_wait(w, "publish_gaps_refused", 2);
    assert_int_equal(watching_count(t, SSMD__EVENT__KIND__GAP_REFUSED), 1);
    publishing_send(p, "s1", 100, in_at(100), 100); /* late, but it comes */
    bits_check(w, "s1", 0, in_at(0), 200);
    publishing_send(p, "s1", 300, in_at(300), 100);
    publishing_counter_wait(w, "publish_gaps_refused", 3);
    do
        publishing_send(q, "s1", 77, in_at(200), 200);
    while (wire_counter(w, "publish_sources") < 2);
    bits_check(w, "s1", 0, in_at(0), FRAMES);
    publishing_free(p);
    publishing_free(q);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

/* ---- sources ----------------------------------------------------------------------------------------------------- */

static void source__second_while_the_first_is_live__is_refused_and_announced_once(void **state)
{
    struct sys_daemon *d = serving_start(LINES("source_ms=86400000"));
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN), *q = publishing_new(d, "second", IN);

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    bits_check(w, "s1", 0, in_at(0), 100);
    for (uint32_t i = 0; i < 5; i++)
        publishing_send(q, "s1", i, in_at(i), 1);
    publishing_counter_wait(w, "publish_sources_refused", 5);
    publishing_send(p, "s1", 100, in_at(100), 300);
    bits_check(w, "s1", 0, in_at(0), FRAMES);
    publishing_send(q, "s1", 5, in_at(5), 1);
    publishing_counter_wait(w, "publish_sources_refused", 6);
    assert_int_equal(watching_count(t, SSMD__EVENT__KIND__SOURCE_REFUSED), 1);
    publishing_free(p);
    publishing_free(q);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void source__another_run_after_the_first__goes_on_where_the_stream_is(void **state)
{
    struct sys_daemon *d = serving_start(LINES("source_ms=1"));
    struct wire *w = reader_new(d, "r");
    struct publishing *p = publishing_new(d, "run", IN), *q;

    (void)state;
    publishing_send(p, "s1", 9000, in_at(0), 100);
    bits_check(w, "s1", 0, in_at(0), 100);
    publishing_free(p);
    q = publishing_new(d, "second", IN);
    do
        publishing_send(q, "s1", 0, in_at(100), 300); /* again it is a duplicate */
    while (wire_counter(w, "publish_sources") < 2);
    bits_check(w, "s1", 0, in_at(0), FRAMES);
    assert_int_equal(wire_events(w, SSMD__EVENT__KIND__EPOCH), 0);
    publishing_free(q);
    wire_free(w);
    serving_stop(d);
}

static void sigterm__then_a_start__the_run_goes_on_where_it_was(void **state)
{
    struct sys_daemon *d = serving_start(LINES("gap=hold source_ms=86400000") "state_dir = @\n");
    struct wire *w = reader_new(d, "r");
    struct publishing *p = publishing_new(d, "run", IN);
    float in[FRAMES * IN], *out = malloc(FRAMES * lti.out_channels * sizeof(float));
    const struct wire_stream *s;
    uint64_t from = 100;

    (void)state;
    assert_non_null(out);
    memcpy(in, lti.in, sizeof(in));
    for (uint32_t i = 100; i < 120; i++)
        memcpy(in + i * IN, in_at(99), IN * sizeof(float));
    reference_step(&lti, in, FRAMES, out);
    publishing_send(p, "s1", 1000, in_at(0), 100);
    bits_check(w, "s1", 0, in_at(0), 100);
    publishing_free(p);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = wire_new(sys_daemon_endpoint(d), "r");
    assert_int_equal(wire_read(w, "s1", false, &from, READ_BYTES), SSMD__CODE__OK);
    p = publishing_new(d, "run", IN);
    publishing_send(p, "s1", 1120, in_at(120), 280);
    WIRE_UNTIL(w, (s = wire_find(w, "s1")) != NULL && s->results == 300);
    assert_memory_equal(s->out, out + 100 * lti.out_channels, 300 * lti.out_channels * sizeof(float));
    assert_int_equal(wire_counter(w, "publish_frames_filled"), 20);
    free(out);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

static void open__of_a_published_stream__needs_take_over_and_ends_the_publishing(void **state)
{
    struct sys_daemon *d = serving_start(LINES(""));
    struct wire *w = reader_new(d, "r"), *c = wire_new(sys_daemon_endpoint(d), "client");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);
    struct wire_stream *s;

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    bits_check(w, "s1", 0, in_at(0), 100);
    assert_int_equal(wire_try_open(c, &s, "s1", MODEL, WIRE_RESULTS, 0), SSMD__CODE__OWNED);
    assert_non_null(strstr(c->reply->error->text, "publishers"));
    assert_int_equal(wire_try_open(c, &s, "s1", MODEL, WIRE_RESULTS | WIRE_TAKE_OVER, 0), SSMD__CODE__OK);
    publishing_send(p, "s1", 100, in_at(100), 100);
    publishing_send(p, "s1", 200, in_at(200), 100);
    assert_non_null(strstr(watching_wait(t, SSMD__EVENT__KIND__SOURCE_REFUSED, 0)->text, "client"));
    publishing_counter_wait(w, "publish_sources_refused", 2);
    wire_push(c, s, in_at(100), 300, 0);
    bits_check(w, "s1", 0, in_at(0), FRAMES);
    assert_int_equal(wire_close(c, s), SSMD__CODE__OK);
    WIRE_UNTIL(w, wire_find(w, "s1")->has_ended);
    wire_free(c);
    publishing_send(p, "s2", 0, in_at(0), FRAMES); /* others go on */
    bits_check(w, "s2", 0, in_at(0), FRAMES);
    assert_int_equal(watching_count(t, SSMD__EVENT__KIND__SOURCE_REFUSED), 1);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

/* ---- what is no good --------------------------------------------------------------------------------------------- */

static void refused__with(struct watching *t, size_t n, const char *says)
{
    const struct watching_event *event = watching_wait(t, SSMD__EVENT__KIND__PUBLISH_REFUSED, n);

    if (!strstr(event->text, says))
        fail_msg("\"%s\" should say \"%s\"", event->text, says);
}

static void data__for_ids_and_models_that_cannot_be__is_announced(void **state)
{
    struct sys_daemon *d = serving_start(PUBLISHING_ENDPOINT "publish = t model=case-mixed-tokens gap=hold\n"
                                                             "publish = b model=broken\n"
                                                             "publish = s model=case-rate-quarter rate=99\n"
                                                             "publish = u model=" MODEL "\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);

    (void)state;
    publishing_send(p, "nobody", 0, in_at(0), 100);
    refused__with(t, 0, "no `publish` line");
    publishing_send(p, "t1", 0, in_at(0), 100);
    refused__with(t, 1, "tokens");
    publishing_send(p, "b1", 0, in_at(0), 100);
    refused__with(t, 2, "shape");
    publishing_send(p, "s1", 0, in_at(0), 100);
    refused__with(t, 3, "resample");
    publishing_send(p, "b1", 100, in_at(0), 100); /* not loaded for every chunk */
    publishing_counter_wait(w, "publish_dropped", 4);
    p->channels = 3;
    publishing_send(p, "u1", 0, in_at(0), 100);
    refused__with(t, 4, "payload");
    publishing_counter_wait(w, "publish_dropped", 5);
    assert_int_equal(wire_counter(w, "models_failed"), 1);
    assert_int_equal(wire_counter(w, "publish_unmapped"), 1);
    assert_int_equal(wire_counter(w, "streams"), 0);
    assert_int_equal(wire_counter(w, "publish_bytes"), 0);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void data__that_is_malformed__is_announced_and_harms_nobody(void **state)
{
    struct sys_daemon *d = serving_start(LINES("gap=refuse") "chunk_frames = 1000\n");
    struct wire *w = reader_new(d, "r");
    struct watching *t = watching_new(d, w);
    struct publishing *p = publishing_new(d, "run", IN);
    const void *parts[] = {"s1", "\xff", "", ""};
    const size_t sizes[] = {2, 1, 0, 0};
    float bad[10 * IN] = {0};

    (void)state;
    publishing_send(p, "s1", 0, in_at(0), 100);
    publishing_send_parts(p, 2, parts, sizes);
    publishing_send_parts(p, 4, parts, sizes);
    publishing_send(p, "", 0, in_at(0), 10);
    publishing_counter_wait(w, "publish_refused", 3);
    publishing_send_parts(p, 3, parts, sizes);
    refused__with(t, 0, "not a message");
    publishing_send(p, "s1", 100, in_at(100), 100); /* what follows is announced anew */
    p->channels = 1;
    publishing_send(p, "s1", 200, in_at(200), 10);
    refused__with(t, 1, "payload");
    p->channels = IN;
    publishing_send(p, "s1", 200, in_at(200), 10);
    p->header.format = 9;
    publishing_send(p, "s1", 210, in_at(210), 10);
    refused__with(t, 2, "format");
    p->header.format = SSMD__FORMAT__F32LE;
    publishing_send(p, "s1", 210, in_at(210), 10);
    p->header.has_rate = true;
    p->header.rate = 101;
    publishing_send(p, "s1", 220, in_at(220), 10);
    refused__with(t, 3, "rate");
    p->header.rate = 100;
    publishing_send(p, "s1", 220, in_at(220), 10);
    bad[7] = NAN;
    publishing_send(p, "s1", 230, bad, 10);
    refused__with(t, 4, "finite");
    publishing_send(p, "s1", 230, in_at(230), 170);
    bits_check(w, "s1", 0, in_at(0), FRAMES);
    assert_int_equal(wire_counter(w, "chunks_bad_sample"), 1);
    publishing_free(p);
    watching_free(t);
    wire_free(w);
    serving_stop(d);
}

static void rules__after_sighup__are_those_of_the_file(void **state)
{
    struct sys_daemon *d = serving_start(LINES(""));
    struct wire *w = reader_new(d, "r");
    struct publishing *p = publishing_new(d, "run", IN);
    FILE *conf = fopen(sys_daemon_conf(d), "a");

    (void)state;
    publishing_send(p, "sx", 0, in_at(0), 100);
    bits_check(w, "sx", 0, in_at(0), 100);
    publishing_send(p, "new", 0, in_at(0), 100);
    publishing_counter_wait(w, "publish_unmapped", 1);
    assert_non_null(conf);
    fprintf(conf, "publish = new model=" MODEL "\n");
    assert_int_equal(fclose(conf), 0);
    sys_daemon_signal(d, SIGHUP);
    do
        publishing_send(p, "new", 0, in_at(0), 100);
    while (wire_counter(w, "streams") < 2);
    publishing_send(p, "sx", 100, in_at(100), 300);
    bits_check(w, "sx", 0, in_at(0), FRAMES);
    publishing_free(p);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_data__of_a_mapped_id__makes_the_stream_and_readers_get_everything),
        cmocka_unit_test(data__again_and_overlapping__is_taken_once),
        cmocka_unit_test(data__while_the_model_is_loaded__is_kept),
        cmocka_unit_test(data__beyond_the_window_before_there_is_a_stream__is_dropped_and_a_gap),
        cmocka_unit_test(data__beyond_publish_memory__is_dropped_whoever_sends_it),
        cmocka_unit_test(data__more_than_the_window__is_dropped_and_filled_when_there_is_room),
        cmocka_unit_test(data__more_than_the_models_queue__is_dropped_by_name),
        cmocka_unit_test(gap__hold__is_the_stream_that_was_sent_the_last_frame_again),
        cmocka_unit_test(gap__zero__is_the_stream_that_was_sent_zeros),
        cmocka_unit_test(gap__zero_in_many_pieces__is_the_stream_that_was_sent_zeros),
        cmocka_unit_test(gap__reset__begins_again_behind_it),
        cmocka_unit_test(gap__longer_than_max_fill__resets),
        cmocka_unit_test(gap__refuse__takes_nothing_until_the_frames_come_or_another_run),
        cmocka_unit_test(source__second_while_the_first_is_live__is_refused_and_announced_once),
        cmocka_unit_test(source__another_run_after_the_first__goes_on_where_the_stream_is),
        cmocka_unit_test(sigterm__then_a_start__the_run_goes_on_where_it_was),
        cmocka_unit_test(open__of_a_published_stream__needs_take_over_and_ends_the_publishing),
        cmocka_unit_test(data__for_ids_and_models_that_cannot_be__is_announced),
        cmocka_unit_test(data__that_is_malformed__is_announced_and_harms_nobody),
        cmocka_unit_test(rules__after_sighup__are_those_of_the_file),
    };

    return cmocka_run_group_tests(tests, group_open, group_close);
}
