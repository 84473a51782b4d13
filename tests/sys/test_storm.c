/* SPDX-License-Identifier: Apache-2.0
 *
 * Weather: writers that fight for one stream, clients that all come back at once, clients that do not read, a daemon
 * that was away, and clocks that jump. Whatever happens, a stream's frames are applied once and in order, and its reader
 * gets every result.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "tests/ssm/making.h"
#include "clients/c/ssmclient.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static float sample_at(uint64_t stream, uint64_t frame)
{
    return (float)((stream * 7919 + frame) % 65521);
}

static void samples_make(uint64_t stream, uint64_t first, uint32_t frames, float *out)
{
    for (uint32_t i = 0; i < frames; i++)
        out[i] = sample_at(stream, first + i);
}

/* Everything that came is twice what was sent, from frame `begin` on. */
static void results_check(const struct wire_stream *s, uint64_t stream, uint64_t begin)
{
    for (uint64_t i = 0; i < s->results; i++)
        if (s->out[i] != 2 * sample_at(stream, begin + i))
            fail_msg("result %llu of stream %llu is wrong", (unsigned long long)(begin + i),
                     (unsigned long long)stream);
}

/* ---- two writers ------------------------------------------------------------------------------------------------- */

#define ROUNDS 500

static void writers__taking_over_by_turns__lose_and_repeat_nothing(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w[2] = {wire_new(sys_daemon_endpoint(d), "one"), wire_new(sys_daemon_endpoint(d), "two")};
    struct wire *reader = wire_new(sys_daemon_endpoint(d), "reader");
    struct wire_stream *s[2] = {NULL, NULL}, *all;
    uint64_t epoch = 0, next = 0;
    uint32_t seed = 11;
    float in[64];

    (void)state;
    s[1] = wire_open(w[1], "fought-for", "twice", WIRE_RESULTS | WIRE_CREATE);
    assert_int_equal(wire_read(reader, "fought-for", false, NULL, UINT64_MAX), SSMD__CODE__OK);
    for (int i = 0; i < ROUNDS; i++) {
        int me = i % 2, other = !me;

        for (uint32_t k = making_number(&seed, 4); k > 0; k--) { /* the other still writes, and is overtaken */
            samples_make(1, s[other]->sent, 64, in);
            wire_push(w[other], s[other], in, 1 + making_number(&seed, 64), 0);
        }
        assert_int_equal(wire_try_open(w[me], &s[me], "fought-for", "twice",
                                       WIRE_TAKE_OVER | (making_number(&seed, 2) ? WIRE_RESULTS : 0), 0),
                         SSMD__CODE__OK);
        assert_true(s[me]->epoch > epoch && s[me]->sent >= next);
        assert_true(s[me]->sent <= s[other]->sent);
        epoch = s[me]->epoch;
        next = s[me]->sent;
        WIRE_UNTIL(w[other], s[other]->is_taken_over);
        memset(in, 0, sizeof(in)); /* from here on its words count for nothing */
        wire_push(w[other], s[other], in, 64, 0);
        samples_make(1, s[me]->sent, 64, in);
        wire_push(w[me], s[me], in, 1 + making_number(&seed, 64), 0);
        wire_poll(reader, 0);
    }
    next = s[1]->sent;
    WIRE_UNTIL(w[1], s[1]->applied == next);
    all = wire_find(reader, "fought-for");
    assert_non_null(all);
    WIRE_UNTIL(reader, all->next == next);
    assert_int_equal(all->lost, 0);
    assert_int_equal(all->results, next);
    assert_int_equal(all->epoch, epoch);
    results_check(all, 1, 0);
    assert_int_equal(wire_counter(w[0], "streams_taken_over"), ROUNDS);
    assert_int_equal(wire_counter(w[0], "frames_applied"), next);
    for (int i = 0; i < 2; i++)
        wire_free(w[i]);
    wire_free(reader);
    serving_stop(d);
}

/* ---- all come back at once --------------------------------------------------------------------------------------- */

#define CLIENTS      100
#define STORMS       3
#define STORM_CHUNK  25
#define STORM_PART   1000 /* frames before a storm; a storm comes when half of the results are here */
#define STORM_FRAMES ((STORMS + 1) * STORM_PART)

/* What all clients see. */
struct weather {
    atomic_uint_fast64_t opened, got, storms;
};

/* A client of the library, in a thread of its own: without cmocka, it says what went wrong in `text`. */
struct client {
    pthread_t thread;
    const char *endpoint;
    uint32_t number;
    struct weather *weather;
    uint32_t reconnects;
    char text[256];
};

static int client_take(struct client *of, struct ssmc_stream *s, uint64_t *got)
{
    struct ssmc_result result;
    int rc;

    while ((rc = ssmc_next(s, &result)) == 1) {
        bool good = result.first == *got && !result.lost;

        for (uint32_t i = 0; good && i < result.frames; i++)
            good = result.samples[i] == 2 * sample_at(of->number, *got + i);
        if (!good) {
            snprintf(of->text, sizeof(of->text), "results from %llu on are wrong: %llu was next",
                     (unsigned long long)result.first, (unsigned long long)*got);
            return -1;
        }
        *got += result.frames;
        atomic_fetch_add(&of->weather->got, result.frames);
    }
    return rc;
}

static int client_pass(struct client *of, struct ssmc *c, struct ssmc_stream *s)
{
    long until = wire_now_ms() + 2 * WIRE_MS;
    uint64_t pushed = 0, got = 0;
    float in[STORM_CHUNK];
    int rc = SSMC_OK;

    while (got < STORM_FRAMES && rc >= 0) {
        uint64_t most = (atomic_load(&of->weather->storms) + 1) * STORM_PART;

        samples_make(of->number, pushed, STORM_CHUNK, in);
        rc = pushed < most ? ssmc_push(s, SSMC_F32, in, STORM_CHUNK, 0, 0) : SSMC_FULL;
        pushed += rc == SSMC_OK ? STORM_CHUNK : 0;
        if (rc == SSMC_OK || rc == SSMC_FULL)
            rc = ssmc_poll(c, 5);
        if (rc >= 0)
            rc = client_take(of, s, &got);
        if (wire_now_ms() > until)
            rc = SSMC_TIMEOUT;
    }
    if (rc < 0 && !of->text[0])
        snprintf(of->text, sizeof(of->text), "at %llu results: %s: %.160s", (unsigned long long)got,
                 ssmc_status_text(rc), ssmc_error_text(c));
    return rc;
}

static void *client_run(void *argument)
{
    struct client *of = argument;
    struct ssmc_options options = {.endpoint = of->endpoint, .timeout_ms = WIRE_MS};
    struct ssmc_open_options open = {.model = "twice", .mode = SSMC_CREATE, .results = 1};
    struct ssmc_daemon_info info;
    struct ssmc_stream *s;
    struct ssmc *c;
    char id[32];

    snprintf(id, sizeof(id), "storm-%u", of->number);
    open.id = id;
    if (ssmc_connect(&c, &options, of->text, sizeof(of->text)) != SSMC_OK)
        return NULL;
    if (ssmc_open(c, &s, &open, WIRE_MS) != SSMC_OK) {
        snprintf(of->text, sizeof(of->text), "open: %.200s", ssmc_error_text(c));
        ssmc_free(c);
        return NULL;
    }
    atomic_fetch_add(&of->weather->opened, 1);
    (void)client_pass(of, c, s);
    ssmc_daemon_info(c, &info);
    of->reconnects = info.reconnects;
    ssmc_stream_free(s);
    ssmc_free(c);
    return NULL;
}

static void clients__100_whose_daemon_goes_and_comes__all_come_back_and_miss_nothing(void **state)
{
    static struct client clients[CLIENTS];
    struct sys_daemon *d = serving_start("state_dir = @\n");
    struct weather weather = {0, 0, 0};
    uint32_t failed = 0;

    (void)state;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.endpoint = sys_daemon_endpoint(d), .number = i, .weather = &weather};
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_run, &clients[i]), 0);
    }
    for (uint64_t storm = 0; storm < STORMS; storm++) {
        long until = wire_now_ms() + 2 * WIRE_MS;
        uint64_t results = (storm * STORM_PART + STORM_PART / 2) * CLIENTS;

        /* A new stream is refused while the daemon stops, so all have theirs first. */
        while ((atomic_load(&weather.got) < results || atomic_load(&weather.opened) < CLIENTS) && wire_now_ms() < until)
            usleep(1000);
        assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
        assert_int_equal(sys_daemon_restart(d), 0);
        atomic_fetch_add(&weather.storms, 1);
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        assert_int_equal(pthread_join(clients[i].thread, NULL), 0);
        failed += clients[i].text[0] != '\0';
        if (clients[i].text[0])
            print_error("client %u: %s\n", i, clients[i].text);
        else
            assert_true(clients[i].reconnects >= 1);
    }
    assert_int_equal(failed, 0);
    assert_int_equal(atomic_load(&weather.got), CLIENTS * STORM_FRAMES);
    serving_stop(d);
}

/* ---- clients that do not read ------------------------------------------------------------------------------------ */

#define DEAF   10
#define ASKED  4000 /* more than a queue and an outbox hold */
#define SPOKEN 200

static void clients__that_read_nothing__are_forgotten_and_hold_up_nobody(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *deaf[DEAF];
    struct wire_stream *s = wire_open(w, "heard", "twice", WIRE_RESULTS | WIRE_CREATE), *of[DEAF];
    float in[64];

    (void)state;
    for (int i = 0; i < DEAF; i++) {
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__Stats stats = SSMD__STATS__INIT;
        char id[32];

        deaf[i] = wire_slow(sys_daemon_endpoint(d), "deaf");
        snprintf(id, sizeof(id), "deaf-%d", i);
        of[i] = wire_open(deaf[i], id, "twice", WIRE_RESULTS | WIRE_CREATE);
        samples_make(2, 0, 64, in);
        wire_push(deaf[i], of[i], in, 64, 0);
        message.request_case = SSMD__FROM_CLIENT__REQUEST_STATS;
        message.stats = &stats;
        for (int k = 0; k < ASKED; k++)
            (void)wire_request_send(deaf[i], &message);
    }
    for (int k = 0; k < SPOKEN; k++) {
        samples_make(1, s->sent, 64, in);
        wire_push(w, s, in, 64, 0);
        WIRE_UNTIL(w, s->results == s->sent);
    }
    results_check(s, 1, 0);
    WIRE_UNTIL(w, wire_counter(w, "connections_outbox_full") == DEAF);
    assert_int_equal(wire_counter(w, "streams"), DEAF + 1);
    for (int i = 0; i < DEAF; i++) { /* their streams go on where they are */
        struct wire *again = wire_new(sys_daemon_endpoint(d), "deaf");
        char id[32];

        snprintf(id, sizeof(id), "deaf-%d", i);
        of[i] = wire_open(again, id, "twice", WIRE_RESULTS | WIRE_RESUME);
        assert_int_equal(of[i]->sent, 64);
        WIRE_UNTIL(again, of[i]->results == 64);
        results_check(of[i], 2, 0);
        wire_free(again);
        wire_free(deaf[i]);
    }
    wire_free(w);
    serving_stop(d);
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

#define PAUSED   20   /* connections */
#define PAUSE_MS 3000 /* twice the idle_ms below: it has to pass */

/* Waits for the fact that the process is stopped. */
static void stopped_wait(pid_t pid)
{
    siginfo_t info = {.si_pid = 0};

    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED), 0);
    assert_int_equal(info.si_code, CLD_STOPPED);
}

/* To the daemon it is a jump of its clock: everybody was silent for longer than is allowed, and what they said waits in
 * the sockets. */
static void daemon__stopped_for_longer_than_idle_ms__forgets_nobody_who_spoke(void **state)
{
    struct sys_daemon *d = serving_start("idle_ms = 1500\nlinger_ms = 1500\n");
    struct wire *w[PAUSED], *closer = wire_new(sys_daemon_endpoint(d), "closer");
    struct wire_stream *s[PAUSED], *closed;
    struct wire *again = wire_connect(sys_daemon_endpoint(d), "closer");
    char id[16];
    float in[64];
    long until;

    (void)state;
    for (uint32_t i = 0; i < PAUSED; i++) {
        w[i] = wire_new(sys_daemon_endpoint(d), "writer");
        snprintf(id, sizeof(id), "paused-%u", i);
        s[i] = wire_open(w[i], id, "twice", WIRE_RESULTS | WIRE_CREATE);
    }
    closed = wire_open(closer, "closed", "twice", WIRE_RESULTS | WIRE_CREATE | WIRE_NO_CREDIT);
    samples_make(PAUSED, 0, 64, in);
    wire_push(closer, closed, in, 64, 0);
    wire_credit(closer, closed, 0, 1 << 20);
    for (uint32_t i = 0; i < PAUSED; i++)
        assert_int_equal(wire_ping(w[i]), SSMD__CODE__OK);
    assert_int_equal(wire_close(closer, closed), SSMD__CODE__OK); /* unreceived: it stays for linger_ms */
    sys_daemon_signal(d, SIGSTOP);
    stopped_wait(sys_daemon_pid(d));
    until = wire_now_ms() + PAUSE_MS;
    for (uint32_t i = 0; i < PAUSED; i++) {
        samples_make(i, 0, 64, in);
        wire_push(w[i], s[i], in, 64, 0);
    }
    while (wire_now_ms() < until)
        usleep(10000);
    sys_daemon_signal(d, SIGCONT);
    assert_int_equal(wire_hello(again), SSMD__CODE__OK);
    closed = wire_open(again, "closed", "twice", WIRE_RESULTS | WIRE_RESUME);
    WIRE_UNTIL(again, closed->results == 64);
    results_check(closed, PAUSED, 0);
    for (uint32_t i = 0; i < PAUSED; i++) {
        WIRE_UNTIL(w[i], s[i]->results == 64);
        results_check(s[i], i, 0);
        assert_int_equal(wire_errors(w[i], SSMD__CODE__NO_HELLO), 0);
        wire_free(w[i]);
    }
    wire_free(again);
    wire_free(closer);
    serving_stop(d);
}

#define TIMER_MS 300 /* the daemon looks several times for who is silent, and what is over */

/* A daemon whose wall clock is what the file at `path` says. NULL where that cannot be done. */
static struct sys_daemon *clock_daemon_start(const char *path, const char *lines)
{
    static const char *const libraries[] = {
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    };
    struct sys_daemon *d = NULL;

    for (size_t i = 0; i < sizeof(libraries) / sizeof(*libraries) && !d; i++) {
        if (access(libraries[i], R_OK) != 0)
            continue;
        setenv("FAKETIME_TIMESTAMP_FILE", path, 1);
        setenv("FAKETIME_NO_CACHE", "1", 1);
        setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1", 1);
        setenv("LD_PRELOAD", libraries[i], 1);
        d = serving_start(lines);
        unsetenv("LD_PRELOAD");
    }
    return d;
}

static void clock_set(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void wall_clock__that_jumps__changes_nothing(void **state)
{
    static const char *const jumps[] = {"@2036-07-01 00:00:00", "@2001-07-01 00:00:00", "@2026-07-01 00:00:00"};
    char path[] = "/tmp/ssmd-clock-XXXXXX", year[8];
    struct sys_daemon *d;
    struct wire *w, *closer;
    struct wire_stream *s, *other;
    float in[64];
    int fd;

    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* two libraries that want to be first */
#endif
    fd = mkstemp(path);
    assert_true(fd >= 0 && close(fd) == 0);
    clock_set(path, "@2025-07-01 00:00:00");
    d = clock_daemon_start(path, "log_level = debug\nlinger_ms = 600000\nidle_ms = 600000\n");
    if (!d) {
        unlink(path);
        skip(); /* scripts/deps check installs faketime */
        return;
    }
    w = wire_new(sys_daemon_endpoint(d), "writer");
    closer = wire_new(sys_daemon_endpoint(d), "closer");
    s = wire_open(w, "timeless", "twice", WIRE_RESULTS | WIRE_CREATE);
    other = wire_open(closer, "closed", "twice", WIRE_RESULTS | WIRE_CREATE | WIRE_NO_CREDIT);
    wire_credit(closer, other, 0, 1 << 20);
    samples_make(2, 0, 64, in);
    wire_push(closer, other, in, 64, 0);
    assert_int_equal(wire_close(closer, other), SSMD__CODE__OK);
    for (size_t i = 0; i < sizeof(jumps) / sizeof(*jumps); i++) {
        long until;

        clock_set(path, jumps[i]);
        snprintf(year, sizeof(year), "\n%.4s-", jumps[i] + 1);
        sys_daemon_signal(d, SIGHUP); /* it says something, and so what time it is */
        WIRE_UNTIL(w, strstr(sys_daemon_log(d), year) != NULL);
        until = wire_now_ms() + TIMER_MS;
        while (wire_now_ms() < until) {
            samples_make(1, s->sent, 64, in);
            wire_push(w, s, in, 64, 0);
            WIRE_UNTIL(w, s->results == s->sent);
        }
        assert_int_equal(wire_counter(w, "connections"), 2);
        assert_int_equal(wire_counter(w, "streams"), 2);
    }
    results_check(s, 1, 0);
    assert_int_equal(wire_counter(w, "connections_forgotten"), 0);
    assert_int_equal(wire_counter(w, "streams_lingered"), 0);
    wire_free(w);
    wire_free(closer);
    serving_stop(d);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers__taking_over_by_turns__lose_and_repeat_nothing),
        cmocka_unit_test(clients__100_whose_daemon_goes_and_comes__all_come_back_and_miss_nothing),
        cmocka_unit_test(clients__that_read_nothing__are_forgotten_and_hold_up_nobody),
        cmocka_unit_test(daemon__stopped_for_longer_than_idle_ms__forgets_nobody_who_spoke),
        cmocka_unit_test(wall_clock__that_jumps__changes_nothing),
    };

    return cmocka_run_group_tests_name("storm", tests, serving_group_open, serving_group_close);
}
