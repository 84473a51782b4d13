/* SPDX-License-Identifier: Apache-2.0
 *
 * Many clients, many streams, and clients that die in the middle of a word: what the others get is complete, in order
 * and right, and the daemon grows by nothing that stays.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "tests/ssm/making.h"
#include "clients/c/ssmclient.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#define CLIENTS       50
#define STREAMS       4 /* of each client */
#define STREAM_FRAMES 6000
#define VICTIMS       10
#define HELD          2500 /* streams held open at a time */

static float sample_at(uint64_t stream, uint64_t frame)
{
    return (float)((stream * 7919 + frame) % 65521);
}

/* ---- 50 clients -------------------------------------------------------------------------------------------------- */

/* One client, in a thread of its own, through libssmclient. It may not use cmocka: it says what went wrong in
 * `text`. */
struct client {
    pthread_t thread;
    const char *endpoint;
    uint32_t number;
    char text[256];
};

struct client_stream {
    struct ssmc_stream *s;
    uint64_t number, pushed, got;
};

static int client_open(struct client *of, struct ssmc *c, struct client_stream *stream, uint32_t i)
{
    struct ssmc_open_options options = {.model = "twice", .mode = SSMC_CREATE, .results = 1};
    char id[32];

    stream->number = of->number * 100 + i;
    snprintf(id, sizeof(id), "client-%u/%u", of->number, i);
    options.id = id;
    options.results_from = SSMC_OLDEST;
    if (ssmc_open(c, &stream->s, &options, WIRE_MS) == SSMC_OK)
        return 0;
    snprintf(of->text, sizeof(of->text), "open %s: %.200s", id, ssmc_error_text(c));
    return -1;
}

static int client_push(struct client *of, struct ssmc *c, struct client_stream *stream, uint32_t *seed)
{
    float in[500];
    uint64_t left = STREAM_FRAMES - stream->pushed;
    uint32_t n = 1 + making_number(seed, 500);
    int rc;

    n = n < left ? n : (uint32_t)left;
    for (uint32_t i = 0; i < n; i++)
        in[i] = sample_at(stream->number, stream->pushed + i);
    rc = ssmc_push(stream->s, SSMC_F32, in, n, 0, 0);
    if (rc == SSMC_OK)
        stream->pushed += n;
    if (rc == SSMC_OK || rc == SSMC_FULL)
        return 0;
    snprintf(of->text, sizeof(of->text), "push: %.200s", ssmc_error_text(c));
    return -1;
}

static int client_take(struct client *of, struct client_stream *stream)
{
    struct ssmc_result result;
    int rc;

    while ((rc = ssmc_next(stream->s, &result)) == 1) {
        if (result.first != stream->got || result.lost) {
            snprintf(of->text, sizeof(of->text), "result %llu instead of %llu", (unsigned long long)result.first,
                     (unsigned long long)stream->got);
            return -1;
        }
        for (uint32_t i = 0; i < result.frames; i++)
            if (result.samples[i] != 2 * sample_at(stream->number, stream->got + i)) {
                snprintf(of->text, sizeof(of->text), "result %llu is wrong", (unsigned long long)stream->got + i);
                return -1;
            }
        stream->got += result.frames;
    }
    return rc;
}

static int client_pass(struct client *of, struct ssmc *c, struct client_stream *streams)
{
    long until = wire_now_ms() + WIRE_MS;
    uint32_t seed = of->number + 1;

    for (uint64_t got = 0; got < STREAMS * STREAM_FRAMES;) {
        got = 0;
        for (uint32_t i = 0; i < STREAMS; i++) {
            if ((streams[i].pushed < STREAM_FRAMES && client_push(of, c, &streams[i], &seed) != 0) ||
                client_take(of, &streams[i]) != 0)
                return -1;
            got += streams[i].got;
        }
        if (ssmc_poll(c, 5) < 0 || wire_now_ms() > until) {
            snprintf(of->text, sizeof(of->text), "at %llu results: %.200s", (unsigned long long)got,
                     ssmc_error_text(c));
            return -1;
        }
    }
    return 0;
}

static void *client_run(void *argument)
{
    struct client *of = argument;
    struct ssmc_options options = {.endpoint = of->endpoint, .timeout_ms = WIRE_MS};
    struct client_stream streams[STREAMS] = {0};
    struct ssmc *c;
    int rc = 0;

    if (ssmc_connect(&c, &options, of->text, sizeof(of->text)) != SSMC_OK)
        return NULL;
    for (uint32_t i = 0; i < STREAMS && rc == 0; i++)
        rc = client_open(of, c, &streams[i], i);
    if (rc == 0)
        rc = client_pass(of, c, streams);
    for (uint32_t i = 0; i < STREAMS; i++) {
        if (rc == 0 && ssmc_close(streams[i].s, WIRE_MS) != SSMC_OK) {
            snprintf(of->text, sizeof(of->text), "close: %.200s", ssmc_error_text(c));
            rc = -1;
        }
        ssmc_stream_free(streams[i].s);
    }
    ssmc_free(c);
    return NULL;
}

static void clients_start(struct client *clients, const struct sys_daemon *d)
{
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.endpoint = sys_daemon_endpoint(d), .number = i};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_run, &clients[i]), 0);
    }
}

static void clients_join(struct client *clients)
{
    uint32_t failed = 0;

    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
        failed += clients[i].text[0] != '\0';
        if (clients[i].text[0])
            print_error("client %u: %s\n", i, clients[i].text);
    }
    assert_int_equal(failed, 0);
}

static void clients__50_at_once_with_several_streams__get_everything_in_order(void **state)
{
    static struct client clients[CLIENTS];
    struct sys_daemon *d = serving_start("");
    struct wire *w;

    (void)state;
    clients_start(clients, d);
    clients_join(clients);
    w = wire_new(sys_daemon_endpoint(d), "observer");
    WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    assert_int_equal(wire_counter(w, "frames_applied"), CLIENTS * STREAMS * STREAM_FRAMES);
    wire_free(w);
    serving_stop(d);
}

/* ---- clients that are killed ------------------------------------------------------------------------------------- */

/* In a child: hello and nothing but raw sends, then waits to be killed; without cmocka, which belongs to the parent. */
static void victim_run(const char *endpoint, bool between_parts, int ready)
{
    static const unsigned char hello[] = {0x08, 1, 0x12, 0x16, 8, 1, 0x10, 1, 0x1a, 16, 1,   2,   3,
                                          4,    5, 6,    7,    8, 9, 9,    9, 9,    9,  'd', 'i', 'e'};
    static const unsigned char open_it[] = {0x08, 2,   0x1a, 0x0d, 0x0a, 2,   'd',  '0', 0x12,
                                            5,    't', 'w',  'i',  'c',  'e', 0x38, 1};
    static const unsigned char head[] = {0x0a, 1, 0, 0x12, 1, 1, 0x1a, 1, 0, 0x22, 1, 100, 0x2a, 1, 1};
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    char reply[4096], payload[400] = {0};

    if (zmq_connect(socket, endpoint) != 0)
        _exit(1);
    zmq_send(socket, hello, sizeof(hello), 0);
    zmq_recv(socket, reply, sizeof(reply), 0);
    zmq_send(socket, open_it, sizeof(open_it), 0);
    zmq_recv(socket, reply, sizeof(reply), 0);
    for (int i = 0; i < 50 || between_parts; i++) {
        if (zmq_send(socket, head, sizeof(head), ZMQ_SNDMORE) < 0)
            _exit(1);
        if (between_parts)
            break;
        zmq_send(socket, payload, sizeof(payload), 0);
    }
    (void)!write(ready, "r", 1);
    pause();
}

/* Made before there are threads, since a sanitizer's allocator does not outlive a fork beside them; begins when
 * told. */
struct victim {
    pid_t pid;
    int go, ready;
};

static void victim_start(struct victim *v, const struct sys_daemon *d, bool between_parts)
{
    int go[2], ready[2];
    char byte;

    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(ready), 0);
    v->pid = fork();
    assert_true(v->pid >= 0);
    if (v->pid == 0) {
        close(go[1]);
        if (read(go[0], &byte, 1) == 1)
            victim_run(sys_daemon_endpoint(d), between_parts, ready[1]);
        _exit(1);
    }
    close(go[0]);
    close(ready[1]);
    v->go = go[1];
    v->ready = ready[0];
}

static void victim_kill(struct victim *v)
{
    int status;
    char byte;

    assert_int_equal(write(v->go, "g", 1), 1);
    assert_int_equal(read(v->ready, &byte, 1), 1);
    assert_int_equal(kill(v->pid, SIGKILL), 0);
    assert_int_equal(waitpid(v->pid, &status, 0), v->pid);
    assert_true(WIFSIGNALED(status));
    close(v->go);
    close(v->ready);
}

/* Half of a ZMTP message and nothing more: what a client leaves that dies inside write(2). */
static void half_message_leave(const struct sys_daemon *d)
{
    static const unsigned char greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 3, 0, 'N', 'U', 'L', 'L'};
    static const unsigned char ready[] = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06"
                                         "DEALER";
    static const unsigned char part[] = {1, 15, 0x0a, 1, 0};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", sys_daemon_endpoint(d) + strlen("ipc://"));
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(write(fd, greeting, sizeof(greeting)), sizeof(greeting));
    assert_int_equal(write(fd, ready, sizeof(ready) - 1), sizeof(ready) - 1);
    assert_int_equal(write(fd, part, sizeof(part)), sizeof(part));
    close(fd);
}

static void clients__killed_in_the_middle__disturb_nobody(void **state)
{
    static struct client clients[CLIENTS];
    struct sys_daemon *d = serving_start("idle_ms = 5000\n");
    struct victim victims[VICTIMS];
    struct wire *w;

    (void)state;
    for (int i = 0; i < VICTIMS; i++)
        victim_start(&victims[i], d, i % 2);
    w = wire_new(sys_daemon_endpoint(d), "observer");
    clients_start(clients, d);
    for (int i = 0; i < VICTIMS; i++) {
        victim_kill(&victims[i]);
        half_message_leave(d);
        assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    }
    clients_join(clients);
    WIRE_UNTIL(w,
               wire_counter(w, "streams") == 1 && wire_counter(w, "connections") == 1); /* the victims' stream stays */
    assert_int_equal(wire_counter(w, "messages_malformed"), 0);
    wire_free(w);
    serving_stop(d);
}

/* ---- many streams ------------------------------------------------------------------------------------------------ */

/* A sanitizer keeps what was freed; it looks for leaks itself, and then the daemon does not exit with 0. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RSS_FACTOR 100
#else
#define RSS_FACTOR 1
#endif

static long rss_kib(const struct sys_daemon *d)
{
    char path[64], line[256];
    long kib = -1;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)sys_daemon_pid(d));
    file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "VmRSS: %ld", &kib) == 1)
            break;
    fclose(file);
    assert_true(kib > 0);
    return kib;
}

static void streams__thousands_held_open__all_advance(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream **s = calloc(HELD, sizeof(struct wire_stream *));
    char id[32];

    (void)state;
    assert_non_null(s);
    for (int i = 0; i < HELD; i++) {
        snprintf(id, sizeof(id), "held-%d", i);
        s[i] = wire_open(w, id, "twice", WIRE_RESULTS | WIRE_CREATE);
    }
    assert_int_equal(wire_counter(w, "streams"), HELD);
    assert_true(wire_counter(w, "stream_bytes") < 1024);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < HELD; i++) {
            float in[3];

            for (uint64_t k = 0; k < 3; k++)
                in[k] = sample_at((uint64_t)i, s[i]->sent + k);
            wire_push(w, s[i], in, 3, 0);
            if (i % 50 == 0)
                while (wire_poll(w, 0))
                    continue;
        }
    }
    for (int i = 0; i < HELD; i++) {
        WIRE_UNTIL(w, s[i]->results == 12);
        for (uint64_t k = 0; k < 12; k++)
            assert_true(s[i]->out[k] == 2 * sample_at((uint64_t)i, k));
    }
    for (int i = 0; i < HELD; i++)
        assert_int_equal(wire_close(w, s[i]), SSMD__CODE__OK);
    WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    free(s);
    wire_free(w);
    serving_stop(d);
}

/* Streams come, say something, and go. */
static void churn(struct wire *w, int rounds)
{
    for (int i = 0; i < rounds; i++) {
        struct wire_stream *s[10];
        float in[64] = {0};
        char id[32];

        for (int k = 0; k < 10; k++) {
            snprintf(id, sizeof(id), "churn-%d", k);
            s[k] = wire_open(w, id, k % 2 ? "twice" : "case-s4d-stack", WIRE_RESULTS | WIRE_CREATE);
            wire_push(w, s[k], in, 64, 0);
        }
        for (int k = 0; k < 10; k++) {
            assert_int_equal(wire_close(w, s[k]), SSMD__CODE__OK);
            WIRE_UNTIL(w, s[k]->results == 64);
        }
        assert_int_equal(wire_ping(w), SSMD__CODE__OK); /* the credit that frees the ids was taken */
    }
}

static void streams__opened_and_closed_for_long__leave_no_memory_behind(void **state)
{
    struct sys_daemon *d = serving_start("max_streams = 12\n"); /* slots that leak are missing soon */
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    long before;

    (void)state;
    churn(w, 100);
    before = rss_kib(d);
    churn(w, 500);
    assert_true(rss_kib(d) < (before + before / 2 + 4096) * RSS_FACTOR);
    assert_int_equal(wire_counter(w, "streams"), 0);
    assert_int_equal(wire_counter(w, "ring_bytes"), 0);
    for (int i = 0; i < 300; i++) { /* connections too */
        struct wire *other = wire_new(sys_daemon_endpoint(d), "other");

        assert_int_equal(wire_read(other, "x", true, NULL, 1 << 20), SSMD__CODE__OK);
        wire_open(other, "shared", "twice", WIRE_RESULTS);
        wire_free(other);
    }
    assert_true(rss_kib(d) < (before + before / 2 + 4096) * RSS_FACTOR);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients__50_at_once_with_several_streams__get_everything_in_order),
        cmocka_unit_test(clients__killed_in_the_middle__disturb_nobody),
        cmocka_unit_test(streams__thousands_held_open__all_advance),
        cmocka_unit_test(streams__opened_and_closed_for_long__leave_no_memory_behind),
    };

    return cmocka_run_group_tests_name("crowd", tests, serving_group_open, serving_group_close);
}
