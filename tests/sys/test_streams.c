/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes through the daemon is what libssm computes: bit for bit for live frames however they are cut, mixed and
 * sent, and within the case's tolerance of somebody else's answer for both views.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "tests/ssm/making.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CASES_MAX     32
#define INTERLEAVINGS 1000
#define STREAMS_MAX   5
#define CONNS_MAX     3
#define FRAMES_MAX    83 /* of one stream of an interleaving */

static struct sys_daemon *server;
static struct reference golden[CASES_MAX];
static size_t golden_n;

static int group_open(void **state)
{
    golden_n = reference_load_all(golden, CASES_MAX);
    serving_group_open(state);
    server = serving_start("");
    return 0;
}

static int group_close(void **state)
{
    serving_stop(server);
    reference_free_all(golden, golden_n);
    return serving_group_close(state);
}

static uint32_t format_of(const struct reference *r)
{
    return r->vocab ? SSMD__FORMAT__I32LE : SSMD__FORMAT__F32LE;
}

/* The frames from s->sent on, in pieces of at most `most` that are multiples of `grid`, to frame `end`. */
static void push_cut(struct wire *w, struct wire_stream *s, const struct reference *r, uint32_t end, uint32_t *seed,
                     uint32_t most, uint32_t grid, uint32_t flags)
{
    while (s->sent < end) {
        uint32_t n = (1 + making_number(seed, most) + grid - 1) / grid * grid;
        struct wire_chunk chunk = {.stream = s, .first = s->sent, .format = format_of(r), .flags = flags};

        chunk.frames = n < end - s->sent ? n : (uint32_t)(end - s->sent);
        chunk.samples = (const char *)r->in + s->sent * r->in_channels * 4;
        s->sent += chunk.frames;
        wire_send(w, &chunk, 1);
    }
}

static void bits_check(const struct wire_stream *s, const float *want, uint64_t frames, const char *name)
{
    assert_int_equal(s->results, frames);
    for (uint64_t i = 0; i < frames * s->out_channels; i++)
        if (memcmp(&s->out[i], &want[i], sizeof(float)) != 0)
            fail_msg("%s: frame %d channel %d: %.9g instead of %.9g", name, (int)(i / s->out_channels),
                     (int)(i % s->out_channels), (double)s->out[i], (double)want[i]);
}

static void error_check(const struct wire_stream *s, const struct reference *r)
{
    double error = running_error(s->out, r->expected, (size_t)r->out_frames * r->out_channels);

    if (!(error <= r->tolerance))
        fail_msg("%s: off by %.3g, tolerance %.3g", r->name, error, r->tolerance);
}

static void golden__live_in_random_chunks__is_the_librarys_step_bit_for_bit(void **state)
{
    struct wire *w = wire_new(sys_daemon_endpoint(server), "golden");
    uint32_t seed = 20260714;

    (void)state;
    for (size_t i = 0; i < golden_n; i++) {
        struct reference *r = &golden[i];

        for (uint32_t most = 1; most <= 4096; most *= 16) {
            struct wire_stream *s = wire_open(w, "live", r->name, WIRE_RESULTS | WIRE_CREATE);

            push_cut(w, s, r, r->frames, &seed, most, 1, 0);
            assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
            WIRE_UNTIL(w, s->results == r->out_frames);
            bits_check(s, r->step, r->out_frames, r->name);
            error_check(s, r);
            WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
        }
    }
    assert_int_equal(w->refusals_n + w->errors_n, 0);
    wire_free(w);
}

static void golden__backfill_in_random_chunks__is_within_tolerance(void **state)
{
    struct wire *w = wire_new(sys_daemon_endpoint(server), "golden");
    uint64_t scans = wire_counter(w, "rows_scan");
    uint32_t seed = 4711;

    (void)state;
    for (size_t i = 0; i < golden_n; i++) {
        struct reference *r = &golden[i];
        struct wire_stream *s = wire_open(w, "back", r->name, WIRE_RESULTS | WIRE_CREATE);

        push_cut(w, s, r, r->frames, &seed, 333, 1, PROTO_FLAG_BACKFILL);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        WIRE_UNTIL(w, s->results == r->out_frames);
        error_check(s, r);
        WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    }
    assert_true(wire_counter(w, "rows_scan") >= scans + golden_n);
    wire_free(w);
}

static void golden__backfill_on_the_grid__is_the_librarys_scan_bit_for_bit(void **state)
{
    struct wire *w = wire_new(sys_daemon_endpoint(server), "golden");
    uint32_t seed = 99;

    (void)state;
    for (size_t i = 0; i < golden_n; i++) {
        struct reference *r = &golden[i];
        float *scan = malloc((size_t)r->out_frames * r->out_channels * sizeof(float));
        struct wire_stream *s = wire_open(w, "grid", r->name, WIRE_RESULTS | WIRE_CREATE);

        assert_non_null(scan);
        running_pass(&r->running, SSM_SCAN, r->in, r->frames, scan, NULL, r->frames, 1);
        push_cut(w, s, r, r->frames, &seed, 200, ssm_model_info(r->model)->grid, PROTO_FLAG_BACKFILL);
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        WIRE_UNTIL(w, s->results == r->out_frames);
        bits_check(s, scan, r->out_frames, r->name);
        WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
        free(scan);
    }
    wire_free(w);
}

static void golden__backfill_then_live_by_turns__is_within_tolerance(void **state)
{
    struct wire *w = wire_new(sys_daemon_endpoint(server), "golden");
    uint32_t seed = 31337;

    (void)state;
    for (size_t i = 0; i < golden_n; i++) {
        struct reference *r = &golden[i];
        struct wire_stream *s = wire_open(w, "turns", r->name, WIRE_RESULTS | WIRE_CREATE);

        for (uint32_t end = 0, turn = 0; end < r->frames; turn++) {
            end += 1 + making_number(&seed, 150);
            end = end < r->frames ? end : r->frames;
            push_cut(w, s, r, end, &seed, 40, 1, turn % 2 ? 0 : PROTO_FLAG_BACKFILL);
        }
        assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
        WIRE_UNTIL(w, s->results == r->out_frames);
        error_check(s, r);
        WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    }
    wire_free(w);
}

/* ---- formats ----------------------------------------------------------------------------------------------------- */

/* The float that the daemon must make of a sample: PROTOCOL.md's division, rounded once. */
static float sample_make(uint32_t format, uint32_t *seed, void *to)
{
    int32_t number = (int32_t)(making_number(seed, 0x10000) << 16 | making_number(seed, 0x10000));
    double wide = (double)making_noise(seed) * 1.1 + 1e-9;
    float plain = making_noise(seed);
    int16_t half = (int16_t)(number >> 16);

    switch (format) {
    case SSMD__FORMAT__S16LE:
        memcpy(to, &half, sizeof(half));
        return (float)half / 32768.0f;
    case SSMD__FORMAT__S32LE:
        memcpy(to, &number, sizeof(number));
        return (float)((double)number / 2147483648.0);
    case SSMD__FORMAT__F64LE:
        memcpy(to, &wide, sizeof(wide));
        return (float)wide;
    default:
        memcpy(to, &plain, sizeof(plain));
        return plain;
    }
}

static struct reference *golden_find(const char *name)
{
    for (size_t i = 0; i < golden_n; i++)
        if (strcmp(golden[i].name, name) == 0)
            return &golden[i];
    fail_msg("no case %s", name);
    return NULL;
}

static void formats__mixed_in_one_stream__give_the_floats_they_stand_for(void **state)
{
    static const uint32_t formats[] = {SSMD__FORMAT__F32LE, SSMD__FORMAT__S16LE, SSMD__FORMAT__S32LE,
                                       SSMD__FORMAT__F64LE};
    enum { EACH = 50, TURNS = 40, ALL = EACH * TURNS };
    struct wire *w = wire_new(sys_daemon_endpoint(server), "formats");
    struct reference *r = golden_find("case-s4d-stack");
    struct wire_stream *s = wire_open(w, "formats", r->name, WIRE_RESULTS);
    float *in = malloc((size_t)ALL * r->in_channels * sizeof(float));
    float *want = malloc((size_t)ALL * r->out_channels * sizeof(float));
    unsigned char *raw = malloc((size_t)EACH * r->in_channels * sizeof(double));
    uint32_t seed = 5;

    (void)state;
    assert_true(in && want && raw);
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        struct wire_chunk chunk = {.stream = s, .first = s->sent, .frames = EACH, .format = formats[turn % 4]};

        for (uint32_t i = 0; i < EACH * r->in_channels; i++)
            in[(size_t)turn * EACH * r->in_channels + i] =
                sample_make(chunk.format, &seed, raw + i * proto_sample_bytes(chunk.format));
        chunk.samples = raw;
        s->sent += EACH;
        wire_send(w, &chunk, 1);
    }
    reference_step(r, in, ALL, want);
    WIRE_UNTIL(w, s->results == ALL);
    bits_check(s, want, ALL, "formats");
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    wire_free(w);
    free(in);
    free(want);
    free(raw);
}

/* ---- interleavings ----------------------------------------------------------------------------------------------- */

struct part {
    struct reference *of;
    struct wire *w;
    struct wire_stream *s;
    const char *in;
    uint32_t frames;
};

static void part_open(struct part *p, struct wire **conns, uint32_t conns_n, uint32_t number, uint32_t *seed)
{
    char id[32];
    uint32_t from;

    p->of = &golden[making_number(seed, (uint32_t)golden_n)];
    p->w = conns[making_number(seed, conns_n)];
    p->frames = 1 + making_number(seed, p->of->frames < FRAMES_MAX ? p->of->frames : FRAMES_MAX);
    from = making_number(seed, p->of->frames - p->frames + 1);
    p->in = (const char *)p->of->in + (size_t)from * p->of->in_channels * 4;
    snprintf(id, sizeof(id), "part-%u", number);
    p->s = wire_open(p->w, id, p->of->name, WIRE_RESULTS | WIRE_CREATE);
}

/* One message on one connection: a chunk of some of its streams, in random order, some of them twice. */
static void parts_send(struct part *parts, uint32_t n, struct wire *w, uint32_t *seed)
{
    struct wire_chunk chunks[8];
    uint32_t chunks_n = 0, want = 1 + making_number(seed, 4);

    for (uint32_t tries = 0; tries < 16 && chunks_n < want; tries++) {
        struct part *p = &parts[making_number(seed, n)];
        uint32_t left = p->frames - (uint32_t)p->s->sent, most = 1 + making_number(seed, 24);

        if (p->w != w || left == 0)
            continue;
        chunks[chunks_n] = (struct wire_chunk){.stream = p->s, .first = p->s->sent, .format = format_of(p->of)};
        chunks[chunks_n].frames = most < left ? most : left;
        chunks[chunks_n].samples = p->in + p->s->sent * p->of->in_channels * 4;
        p->s->sent += chunks[chunks_n++].frames;
    }
    if (chunks_n > 0)
        wire_send(w, chunks, chunks_n);
}

static bool parts_sent(const struct part *parts, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (parts[i].s->sent < parts[i].frames)
            return false;
    return true;
}

static void interleave(struct wire **conns, uint32_t round, uint32_t *seed)
{
    struct part parts[STREAMS_MAX];
    uint32_t n = 2 + making_number(seed, STREAMS_MAX - 1), conns_n = 1 + round % CONNS_MAX;

    for (uint32_t i = 0; i < n; i++)
        part_open(&parts[i], conns, conns_n, i, seed);
    while (!parts_sent(parts, n)) {
        struct wire *w = conns[making_number(seed, conns_n)];

        parts_send(parts, n, w, seed);
        if (making_number(seed, 4) == 0)
            wire_poll(w, 0);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct part *p = &parts[i];
        uint64_t frames = ssm_out_frames(p->of->model, p->frames);
        float *want = malloc(frames * p->of->out_channels * sizeof(float));

        assert_non_null(want);
        reference_step(p->of, p->in, p->frames, want);
        assert_int_equal(wire_close(p->w, p->s), SSMD__CODE__OK);
        WIRE_UNTIL(p->w, p->s->results >= frames);
        bits_check(p->s, want, frames, p->of->name);
        free(want);
    }
    for (uint32_t i = 0; i < conns_n; i++)
        wire_ping(conns[i]); /* the last credit was taken, so that the ids are free again */
}

static void streams__1000_random_interleavings__each_is_the_bits_of_the_stream_alone(void **state)
{
    struct wire *conns[CONNS_MAX];
    uint32_t seed = 271828;

    (void)state;
    for (size_t i = 0; i < CONNS_MAX; i++)
        conns[i] = wire_new(sys_daemon_endpoint(server), "interleaver");
    for (uint32_t round = 0; round < INTERLEAVINGS; round++)
        interleave(conns, round, &seed);
    for (size_t i = 0; i < CONNS_MAX; i++) {
        assert_int_equal(conns[i]->refusals_n + conns[i]->errors_n, 0);
        wire_free(conns[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden__live_in_random_chunks__is_the_librarys_step_bit_for_bit),
        cmocka_unit_test(golden__backfill_in_random_chunks__is_within_tolerance),
        cmocka_unit_test(golden__backfill_on_the_grid__is_the_librarys_scan_bit_for_bit),
        cmocka_unit_test(golden__backfill_then_live_by_turns__is_within_tolerance),
        cmocka_unit_test(formats__mixed_in_one_stream__give_the_floats_they_stand_for),
        cmocka_unit_test(streams__1000_random_interleavings__each_is_the_bits_of_the_stream_alone),
    };

    return cmocka_run_group_tests_name("streams", tests, group_open, group_close);
}
