/* SPDX-License-Identifier: Apache-2.0
 *
 * Messages that are wrong: each gets its numbered error or loses its connection, and a healthy stream beside it misses
 * nothing. Every test feeds the healthy stream before and after, and its last act is to hold all of its results against
 * the library's.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "tests/ssm/making.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#define TCP_PORT    45817 /* the first of those tried */
#define MAX_MESSAGE 65536

static struct sys_daemon *server;
static int tcp_port;

/* The stream that nothing may disturb, and the connection of the one who disturbs. */
struct pair {
    struct wire *healthy, *bad;
    struct wire_stream *s, *target;
    struct reference golden;
    uint32_t fed;
};

static void feed(struct pair *p, uint32_t frames)
{
    if (p->fed + frames > p->golden.frames)
        frames = p->golden.frames - p->fed;
    if (frames == 0)
        return;
    wire_push(p->healthy, p->s, (const float *)p->golden.in + (size_t)p->fed * p->golden.in_channels, frames, 0);
    p->fed += frames;
}

static void pair_init(struct pair *p)
{
    memset(p, 0, sizeof(*p));
    reference_load(&p->golden, "s4d-stack");
    p->healthy = wire_new(sys_daemon_endpoint(server), "healthy");
    p->bad = wire_new(sys_daemon_endpoint(server), "bad");
    p->s = wire_open(p->healthy, "healthy", p->golden.name, WIRE_RESULTS | WIRE_CREATE);
    p->target = wire_open(p->bad, "target", "pair", WIRE_RESULTS | WIRE_CREATE);
    feed(p, 100);
    assert_int_equal(wire_ping(p->healthy), SSMD__CODE__OK); /* they were accepted, and counted */
}

static void pair_fini(struct pair *p)
{
    feed(p, 100);
    assert_int_equal(wire_close(p->healthy, p->s), SSMD__CODE__OK);
    WIRE_UNTIL(p->healthy, p->s->results == p->fed);
    assert_memory_equal(p->s->out, p->golden.step, (size_t)p->fed * p->golden.out_channels * sizeof(float));
    assert_int_equal(p->healthy->refusals_n + p->healthy->errors_n, 0);
    assert_int_equal(wire_ping(p->bad), SSMD__CODE__OK);
    assert_int_equal(wire_close(p->bad, p->target), SSMD__CODE__OK);
    WIRE_UNTIL(p->bad, wire_counter(p->bad, "streams") == 0);
    wire_free(p->bad);
    wire_free(p->healthy);
    reference_free(&p->golden);
}

/* The next message of the daemon to nobody's request is an error of this code. */
static void error_expect(struct pair *p, int code)
{
    size_t before = p->bad->errors_n;

    WIRE_UNTIL(p->bad, p->bad->errors_n > before);
    assert_int_equal(p->bad->errors[p->bad->errors_n - 1].code, code);
}

static void refusal_expect(struct pair *p, int code)
{
    size_t before = p->bad->refusals_n;

    WIRE_UNTIL(p->bad, p->bad->refusals_n > before);
    assert_int_equal(wire_last_refusal(p->bad)->code, code);
}

static size_t header_make(unsigned char out[512], const struct pair *p, uint32_t frames, uint32_t format)
{
    Ssmd__DataHeader header = SSMD__DATA_HEADER__INIT;
    uint32_t handle = p->target->handle;
    uint64_t epoch = p->target->epoch, first = p->target->sent;

    header.n_handle = header.n_epoch = header.n_first = header.n_frames = header.n_format = 1;
    header.handle = &handle;
    header.epoch = &epoch;
    header.first = &first;
    header.frames = &frames;
    header.format = &format;
    assert_true(proto_size(&header.base) <= 512);
    proto_encode(&header.base, out);
    return proto_size(&header.base);
}

static void send1(struct pair *p, const void *a, size_t a_size)
{
    wire_send_parts(p->bad, 1, &a, &a_size);
}

static void send2(struct pair *p, const void *a, size_t a_size, const void *b, size_t b_size)
{
    wire_send_parts(p->bad, 2, (const void *const[]){a, b}, (const size_t[]){a_size, b_size});
}

/* ---- form -------------------------------------------------------------------------------------------------------- */

static void requests__random_bytes__are_malformed(void **state)
{
    struct pair p;
    unsigned char bytes[200];
    uint32_t seed = 17;

    (void)state;
    pair_init(&p);
    for (int i = 0; i < 300; i++) {
        size_t size = making_number(&seed, sizeof(bytes)), errors = p.bad->errors_n;

        for (size_t k = 0; k < size; k++)
            bytes[k] = (unsigned char)making_number(&seed, 256);
        bytes[0] |= 0x80; /* no request begins so: random bytes may be one otherwise */
        bytes[1] |= 0x80;
        bytes[2] |= 0x80;
        send1(&p, bytes, size < 4 ? 4 : size);
        WIRE_UNTIL(p.bad, p.bad->errors_n > errors);
        if (i % 30 == 0)
            feed(&p, 3);
    }
    assert_int_equal(wire_errors(p.bad, SSMD__CODE__MALFORMED) + wire_errors(p.bad, SSMD__CODE__FEATURE),
                     p.bad->errors_n);
    pair_fini(&p);
}

static void data__random_bytes_in_both_parts__change_nothing(void **state)
{
    struct pair p;
    unsigned char bytes[400];
    uint32_t seed = 18;
    uint64_t before;

    (void)state;
    pair_init(&p);
    before = wire_counter(p.bad, "frames");
    for (int i = 0; i < 300; i++) {
        for (size_t k = 0; k < sizeof(bytes); k++)
            bytes[k] = (unsigned char)making_number(&seed, 256);
        send2(&p, bytes, making_number(&seed, 200), bytes + 200, making_number(&seed, 200));
    }
    assert_int_equal(wire_ping(p.bad), SSMD__CODE__OK);
    assert_true(p.bad->errors_n + p.bad->refusals_n > 0);
    assert_int_equal(wire_counter(p.bad, "frames"), before);
    pair_fini(&p);
}

static void data__header_cut_at_every_length__is_refused(void **state)
{
    struct pair p;
    unsigned char head[512];
    float payload[8] = {0};
    size_t size;

    (void)state;
    pair_init(&p);
    size = header_make(head, &p, 4, SSMD__FORMAT__F32LE);
    for (size_t cut = 1; cut < size; cut++) {
        send2(&p, head, cut, payload, sizeof(payload));
        error_expect(&p, SSMD__CODE__MALFORMED);
    }
    assert_int_equal(p.target->results, 0);
    pair_fini(&p);
}

static void messages__of_a_wrong_number_of_parts__are_malformed(void **state)
{
    struct pair p;
    unsigned char head[512];
    float payload[8] = {0};
    size_t size;

    (void)state;
    pair_init(&p);
    size = header_make(head, &p, 4, SSMD__FORMAT__F32LE);
    send1(&p, head, size); /* a header alone is taken for a request */
    WIRE_UNTIL(p.bad, p.bad->errors_n == 1);
    send1(&p, "", 0);
    error_expect(&p, SSMD__CODE__MALFORMED);
    wire_send_parts(p.bad, 3, (const void *const[]){head, payload, payload},
                    (const size_t[]){size, sizeof(payload), sizeof(payload)});
    error_expect(&p, SSMD__CODE__MALFORMED);
    for (size_t parts = 4; parts < 9; parts++) {
        const void *many[9];
        size_t sizes[9];

        for (size_t i = 0; i < parts; i++) {
            many[i] = head;
            sizes[i] = size;
        }
        wire_send_parts(p.bad, parts, many, sizes);
        error_expect(&p, SSMD__CODE__MALFORMED);
    }
    send2(&p, "", 0, payload, sizeof(payload)); /* no chunks, but samples */
    error_expect(&p, SSMD__CODE__MALFORMED);
    send2(&p, head, size, "", 0);
    error_expect(&p, SSMD__CODE__MALFORMED);
    assert_int_equal(p.target->results, 0);
    pair_fini(&p);
}

static void messages__with_unknown_fields__are_refused_as_features(void **state)
{
    static const unsigned char ping[] = {0x08, 0x07, 0x5a, 0x00, 0x98, 0x06, 0x01};  /* id 7, ping, field 99 */
    static const unsigned char inner[] = {0x08, 0x07, 0x5a, 0x03, 0x98, 0x06, 0x01}; /* field 99 inside ping */
    static const unsigned char later[] = {0x08, 0x07, 0xea, 0x01, 0x00};             /* request 29 */
    struct pair p;
    unsigned char head[512];
    float payload[8] = {0};
    size_t size;

    (void)state;
    pair_init(&p);
    send1(&p, ping, sizeof(ping));
    error_expect(&p, SSMD__CODE__FEATURE);
    send1(&p, inner, sizeof(inner));
    error_expect(&p, SSMD__CODE__FEATURE);
    send1(&p, later, sizeof(later));
    WIRE_UNTIL(p.bad, p.bad->errors_n == 3);
    size = header_make(head, &p, 4, SSMD__FORMAT__F32LE);
    memcpy(head + size, "\x98\x06\x01", 3);
    send2(&p, head, size + 3, payload, sizeof(payload));
    error_expect(&p, SSMD__CODE__FEATURE);
    assert_int_equal(p.target->results, 0);
    pair_fini(&p);
}

static void data__columns_or_payload_that_disagree__are_malformed_and_nothing_is_taken(void **state)
{
    struct pair p;
    unsigned char head[512];
    float payload[64] = {0};
    size_t size;

    (void)state;
    pair_init(&p);
    size = header_make(head, &p, 4, SSMD__FORMAT__F32LE);
    send2(&p, head, size, payload, 31);
    error_expect(&p, SSMD__CODE__MALFORMED);
    send2(&p, head, size, payload, 33);
    error_expect(&p, SSMD__CODE__MALFORMED);
    send2(&p, head, size, payload, 64);
    error_expect(&p, SSMD__CODE__MALFORMED);
    memcpy(head + size, "\x0a\x01\x00", 3); /* one more handle than epochs */
    send2(&p, head, size + 3, payload, 32);
    error_expect(&p, SSMD__CODE__MALFORMED);
    size = header_make(head, &p, UINT32_MAX, SSMD__FORMAT__F64LE);
    send2(&p, head, size, payload, 32);
    error_expect(&p, SSMD__CODE__MALFORMED);
    assert_int_equal(wire_ping(p.bad), SSMD__CODE__OK);
    assert_int_equal(p.target->applied, 0);
    pair_fini(&p);
}

static void message__over_max_message__loses_its_connection_only(void **state)
{
    struct pair p;
    struct wire *big = wire_new(sys_daemon_endpoint(server), "big");
    unsigned char *bytes = calloc(1, MAX_MESSAGE + 1);
    size_t size = MAX_MESSAGE + 1;
    struct wire_stream *s;

    (void)state;
    assert_non_null(bytes);
    pair_init(&p);
    s = wire_open(big, "big", "twice", 0);
    wire_send_parts(big, 1, (const void *const[]){bytes}, &size);
    /* libzmq drops the peer; a DEALER connects again by itself, and is a stranger then. */
    for (long until = wire_now_ms() + WIRE_MS; wire_errors(big, SSMD__CODE__NO_HELLO) == 0;) {
        float one = 1;

        if (s->sent < 1000000)
            wire_push(big, s, &one, 1, 0);
        wire_poll(big, 20);
        assert_true(wire_now_ms() < until);
    }
    assert_int_equal(wire_hello(big), SSMD__CODE__OK);
    assert_int_equal(wire_try_open(big, &s, "big", "twice", WIRE_RESUME, 0), SSMD__CODE__OK);
    assert_int_equal(wire_close(big, s), SSMD__CODE__OK);
    wire_free(big);
    free(bytes);
    pair_fini(&p);
}

/* ---- contents ---------------------------------------------------------------------------------------------------- */

static void data__of_a_wrong_handle__is_refused(void **state)
{
    struct pair p;
    struct wire_stream wrong;
    struct wire_chunk chunk = {.stream = &wrong, .frames = 2, .format = SSMD__FORMAT__F32LE};
    float payload[4] = {0};

    (void)state;
    pair_init(&p);
    wrong = *p.target;
    wrong.handle = 4000;
    chunk.samples = payload;
    wire_send(p.bad, &chunk, 1);
    refusal_expect(&p, SSMD__CODE__BAD_HANDLE);
    wrong.handle = UINT32_MAX;
    wire_send(p.bad, &chunk, 1);
    refusal_expect(&p, SSMD__CODE__BAD_HANDLE);
    pair_fini(&p);
}

static void data__of_a_stale_epoch__is_refused_with_the_present_one(void **state)
{
    struct pair p;
    struct wire_stream old;
    struct wire_chunk chunk = {.stream = &old, .frames = 2, .format = SSMD__FORMAT__F32LE};
    float payload[4] = {0};

    (void)state;
    pair_init(&p);
    old = *p.target;
    assert_int_equal(wire_reset(p.bad, p.target), SSMD__CODE__OK);
    assert_true(p.target->epoch > old.epoch);
    chunk.samples = payload;
    wire_send(p.bad, &chunk, 1);
    refusal_expect(&p, SSMD__CODE__STALE_EPOCH);
    assert_int_equal(wire_last_refusal(p.bad)->epoch, p.target->epoch);
    assert_int_equal(wire_last_refusal(p.bad)->expected, 0);
    wire_push(p.bad, p.target, payload, 2, 0);
    WIRE_UNTIL(p.bad, p.target->results == 2);
    pair_fini(&p);
}

static void data__with_a_sample_that_is_not_finite__names_its_frame_and_heals(void **state)
{
    static const double bad_ones[] = {NAN, -NAN, INFINITY, -INFINITY, 1e300};
    struct pair p;
    float good[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};

    (void)state;
    pair_init(&p);
    for (size_t k = 0; k < sizeof(bad_ones) / sizeof(*bad_ones); k++) {
        double samples[10] = {0};
        struct wire_chunk chunk = {
            .stream = p.target, .first = p.target->sent, .frames = 5, .format = SSMD__FORMAT__F64LE};
        const struct wire_refusal *refusal;

        samples[2 * k % 10 + 1] = bad_ones[k];
        chunk.samples = samples;
        wire_send(p.bad, &chunk, 1);
        refusal_expect(&p, SSMD__CODE__BAD_SAMPLE);
        refusal = wire_last_refusal(p.bad);
        assert_true(refusal->has_index);
        assert_int_equal(refusal->index, p.target->sent + k);
        assert_int_equal(refusal->expected, p.target->sent);
        wire_push(p.bad, p.target, good, 5, 0); /* cures it: the next one is answered again */
        WIRE_UNTIL(p.bad, p.target->results == p.target->sent);
        assert_true(p.target->out[(p.target->results - 1) * 2 + 1] == 20.0f);
    }
    pair_fini(&p);
}

static void tokens__outside_the_vocabulary__name_their_frame(void **state)
{
    struct pair p;
    struct reference r;
    struct wire_stream *s;

    (void)state;
    pair_init(&p);
    reference_load(&r, "mixed-tokens");
    s = wire_open(p.bad, "tokens", r.name, WIRE_RESULTS);
    for (int k = 0; k < 3; k++) {
        int32_t tokens[7] = {0, 1, 2, 3, 4, 5, 6};
        struct wire_chunk chunk = {.stream = s, .first = s->sent, .frames = 7, .format = SSMD__FORMAT__I32LE};
        static const uint64_t where[] = {0, 6, 3};

        tokens[where[k]] = k == 0 ? -1 : k == 1 ? (int32_t)r.vocab : INT32_MIN;
        chunk.samples = tokens;
        wire_send(p.bad, &chunk, 1);
        refusal_expect(&p, SSMD__CODE__BAD_SAMPLE);
        assert_true(wire_last_refusal(p.bad)->has_index);
        assert_int_equal(wire_last_refusal(p.bad)->index, s->sent + where[k]);
        tokens[where[k]] = (int32_t)r.vocab - 1;
        s->sent += 7;
        wire_send(p.bad, &chunk, 1);
        WIRE_UNTIL(p.bad, s->results == s->sent);
    }
    assert_int_equal(wire_close(p.bad, s), SSMD__CODE__OK);
    reference_free(&r);
    pair_fini(&p);
}

static void data__of_a_format_that_does_not_fit__is_refused(void **state)
{
    struct pair p;
    struct wire_chunk chunk = {.frames = 2, .format = SSMD__FORMAT__I32LE};
    unsigned char head[512];
    int32_t tokens[8] = {0};
    struct wire_stream *s;
    size_t size;

    (void)state;
    pair_init(&p);
    chunk.stream = p.target;
    chunk.samples = tokens;
    wire_send(p.bad, &chunk, 1);
    refusal_expect(&p, SSMD__CODE__BAD_FORMAT);
    size = header_make(head, &p, 4, 77);
    send2(&p, head, size, tokens, 32);
    refusal_expect(&p, SSMD__CODE__BAD_FORMAT);
    s = wire_open(p.bad, "tokens", "case-mixed-tokens", 0);
    chunk.stream = s;
    chunk.format = SSMD__FORMAT__F32LE;
    wire_send(p.bad, &chunk, 1);
    refusal_expect(&p, SSMD__CODE__BAD_FORMAT);
    assert_int_equal(wire_close(p.bad, s), SSMD__CODE__OK);
    pair_fini(&p);
}

static void data__before_hello__is_answered_with_no_hello(void **state)
{
    struct pair p;
    struct wire *stranger = wire_connect(sys_daemon_endpoint(server), "stranger");
    unsigned char head[512];
    float payload[8] = {0};
    size_t size;

    (void)state;
    pair_init(&p);
    size = header_make(head, &p, 4, SSMD__FORMAT__F32LE); /* another connection's handle */
    wire_send_parts(stranger, 2, (const void *const[]){head, payload}, (const size_t[]){size, sizeof(payload)});
    WIRE_UNTIL(stranger, wire_errors(stranger, SSMD__CODE__NO_HELLO) == 1);
    assert_int_equal(wire_ping(stranger), SSMD__CODE__NO_HELLO);
    assert_int_equal(wire_hello(stranger), SSMD__CODE__OK);
    assert_int_equal(wire_ping(stranger), SSMD__CODE__OK);
    wire_free(stranger);
    pair_fini(&p);
}

static void opens__that_cannot_be__get_their_number(void **state)
{
    struct pair p;
    struct wire_stream *s;
    char id[70];

    (void)state;
    pair_init(&p);
    memset(id, 'x', sizeof(id));
    id[65] = '\0';
    assert_int_equal(wire_try_open(p.bad, &s, id, "twice", 0, 0), SSMD__CODE__BAD_ID);
    assert_int_equal(wire_try_open(p.bad, &s, "", "twice", 0, 0), SSMD__CODE__BAD_ID);
    assert_int_equal(wire_try_open(p.bad, &s, "a", "../etc", 0, 0), SSMD__CODE__NO_MODEL);
    assert_int_equal(wire_try_open(p.bad, &s, "a", "/etc", 0, 0), SSMD__CODE__NO_MODEL);
    assert_int_equal(wire_try_open(p.bad, &s, "a", "", 0, 0), SSMD__CODE__NO_MODEL);
    assert_int_equal(wire_try_open(p.bad, &s, "a", "nothing-here", 0, 0), SSMD__CODE__NO_MODEL);
    assert_int_equal(wire_try_open(p.bad, &s, "a", "twice", WIRE_RESUME, 0), SSMD__CODE__NO_STREAM);
    assert_int_equal(wire_try_open(p.bad, &s, "target", "pair", WIRE_CREATE, 0), SSMD__CODE__EXISTS);
    assert_int_equal(wire_try_open(p.bad, &s, "healthy", p.golden.name, 0, 0), SSMD__CODE__OWNED);
    assert_int_equal(wire_try_open(p.bad, &s, "target", "pair", WIRE_RESULTS | WIRE_FROM, 1), SSMD__CODE__TOO_NEW);
    assert_int_equal(wire_read(p.bad, "nobody", false, NULL, 0), SSMD__CODE__NO_STREAM);
    pair_fini(&p);
}

/* ---- what is not ZeroMQ at all ----------------------------------------------------------------------------------- */

static int tcp_connect(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)tcp_port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

/* Reads until the daemon hangs up. */
static void hangup_expect(int fd)
{
    long until = wire_now_ms() + WIRE_MS;
    char bytes[256];

    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
        ssize_t n;

        assert_true(wire_now_ms() < until);
        if (poll(&wait, 1, 100) <= 0)
            continue;
        n = recv(fd, bytes, sizeof(bytes), 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return;
    }
}

static void tcp__with_bytes_that_are_not_zmtp__is_hung_up_on(void **state)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct pair p;
    char junk[4096];
    char endpoint[64];
    struct wire *w;
    uint32_t seed = 3;

    (void)state;
    pair_init(&p);
    for (int i = 0; i < 20; i++) {
        int fd = tcp_connect();

        for (size_t k = 0; k < sizeof(junk); k++)
            junk[k] = (char)making_number(&seed, 256);
        junk[0] = (char)(i % 2 ? 0xff : 0x01); /* a ZMTP greeting begins with 0xff */
        memset(junk + 1, 0, 9);
        junk[9] = i % 2 ? 0x7f : 0;
        junk[10] = 3;
        (void)!send(fd, junk, sizeof(junk), MSG_NOSIGNAL);
        hangup_expect(fd);
        close(fd);
        feed(&p, 2);
    }
    for (int i = 0; i < 20; i++) {
        int fd = tcp_connect();

        (void)!send(fd, http, sizeof(http) - 1, MSG_NOSIGNAL);
        close(fd);
    }
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", tcp_port);
    w = wire_new(endpoint, "tcp");
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    wire_free(w);
    pair_fini(&p);
}

/* ---- the daemon -------------------------------------------------------------------------------------------------- */

static bool port_is_free(int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), status;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    status = bind(fd, (const struct sockaddr *)&at, sizeof(at));
    close(fd);
    return status == 0;
}

static int group_open(void **state)
{
    char lines[128];

    serving_group_open(state);
    for (tcp_port = TCP_PORT + (int)getpid() % 1000; !port_is_free(tcp_port); tcp_port++)
        continue;
    snprintf(lines, sizeof(lines), "max_message = %d\nendpoint = ipc://@/ssmd.sock tcp://127.0.0.1:%d\n", MAX_MESSAGE,
             tcp_port);
    server = serving_start(lines);
    return 0;
}

static int group_close(void **state)
{
    serving_stop(server);
    return serving_group_close(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests__random_bytes__are_malformed),
        cmocka_unit_test(data__random_bytes_in_both_parts__change_nothing),
        cmocka_unit_test(data__header_cut_at_every_length__is_refused),
        cmocka_unit_test(messages__of_a_wrong_number_of_parts__are_malformed),
        cmocka_unit_test(messages__with_unknown_fields__are_refused_as_features),
        cmocka_unit_test(data__columns_or_payload_that_disagree__are_malformed_and_nothing_is_taken),
        cmocka_unit_test(message__over_max_message__loses_its_connection_only),
        cmocka_unit_test(data__of_a_wrong_handle__is_refused),
        cmocka_unit_test(data__of_a_stale_epoch__is_refused_with_the_present_one),
        cmocka_unit_test(data__with_a_sample_that_is_not_finite__names_its_frame_and_heals),
        cmocka_unit_test(tokens__outside_the_vocabulary__name_their_frame),
        cmocka_unit_test(data__of_a_format_that_does_not_fit__is_refused),
        cmocka_unit_test(data__before_hello__is_answered_with_no_hello),
        cmocka_unit_test(opens__that_cannot_be__get_their_number),
        cmocka_unit_test(tcp__with_bytes_that_are_not_zmtp__is_hung_up_on),
    };

    return cmocka_run_group_tests_name("faults", tests, group_open, group_close);
}
