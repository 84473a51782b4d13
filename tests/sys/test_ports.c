/* SPDX-License-Identifier: Apache-2.0
 *
 * Who gets in, and where: connections spread over the I/O threads, storms of clients that come and vanish, and more
 * clients than there are descriptors. Guests here are bare sockets that say hello and nothing more; beside them one
 * client is served all the time.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"
#include "tests/ssm/making.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#define CROWD       300
#define DESCRIPTORS "200"

/* ---- guests ------------------------------------------------------------------------------------------------------ */

struct guest {
    void *socket; /* NULL: not there */
    bool is_in;   /* its hello was granted */
};

static void *guests_context;
static struct guest guests[CROWD];

static int group_open(void **state)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -1;
    limit.rlim_cur = limit.rlim_max; /* two for each guest */
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -1;
    guests_context = zmq_ctx_new();
    return serving_group_open(state);
}

static void guest_hello(const struct guest *guest, uint32_t number)
{
    unsigned char hello[] = {0x08, 1,   0x12, 0x16, 8, 1, 0x10, 1, 0x1a, 16, 'g', 'u', 'e',
                             's',  't', 0,    0,    0, 0, 0,    0, 0,    0,  0,   0,   0};

    memcpy(hello + 16, &number, sizeof(number));
    (void)zmq_send(guest->socket, hello, sizeof(hello), ZMQ_DONTWAIT);
}

static void guest_come(struct guest *guest, const char *endpoint, uint32_t number)
{
    long until = wire_now_ms() + WIRE_MS;
    int none = 0;

    guest->is_in = false;
    while (!(guest->socket = zmq_socket(guests_context, ZMQ_DEALER))) { /* ZeroMQ ends sockets in its own time */
        assert_true(wire_now_ms() < until);
        usleep(1000);
    }
    zmq_setsockopt(guest->socket, ZMQ_LINGER, &none, sizeof(none));
    assert_int_equal(zmq_connect(guest->socket, endpoint), 0);
    guest_hello(guest, number);
}

/* Without a word. */
static void guest_go(struct guest *guest)
{
    if (guest->socket)
        zmq_close(guest->socket);
    *guest = (struct guest){0};
}

static int group_close(void **state)
{
    for (uint32_t i = 0; i < CROWD; i++) /* of a test that failed: zmq_ctx_term would wait for them */
        guest_go(&guests[i]);
    zmq_ctx_term(guests_context);
    return serving_group_close(state);
}

/* Says so, so that the daemon need not find out. */
static void guest_bye(struct guest *guest)
{
    static const unsigned char bye[] = {0x08, 0, 0x62, 0};
    int long_ms = WIRE_MS;

    zmq_setsockopt(guest->socket, ZMQ_LINGER, &long_ms, sizeof(long_ms));
    (void)zmq_send(guest->socket, bye, sizeof(bye), ZMQ_DONTWAIT);
    guest_go(guest);
}

/* Takes what came. Who was refused asks again. */
static void guest_look(struct guest *guest, uint32_t number)
{
    struct proto_arena arena;
    Ssmd__FromDaemon *message;
    char bytes[8192];
    int size;

    while (guest->socket && (size = zmq_recv(guest->socket, bytes, sizeof(bytes), ZMQ_DONTWAIT)) > 0) {
        proto_arena_init(&arena);
        assert_int_equal(proto_from_daemon_decode(&arena, bytes, (size_t)size, &message), PROTO_OK);
        if (message->message_case == SSMD__FROM_DAEMON__MESSAGE_REPLY) {
            guest->is_in = !message->reply->error;
            if (message->reply->error) {
                assert_int_equal(message->reply->error->code, SSMD__CODE__LIMIT);
                guest_hello(guest, number);
            }
        }
        proto_arena_fini(&arena);
    }
}

/* One more frame of the stream, and its result: the client is served. */
static void serve(struct wire *w, struct wire_stream *s)
{
    float in = (float)(s->sent + 1);
    uint64_t before = s->results;

    wire_push(w, s, &in, 1, 0);
    WIRE_UNTIL(w, s->results == before + 1);
    assert_true(s->out[before] == 2 * in);
}

/* ---- what the daemon uses ---------------------------------------------------------------------------------------- */

static long pages_of(const struct sys_daemon *d)
{
    char path[64];
    long pages = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)sys_daemon_pid(d));
    file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages;
}

static int descriptors_of(const struct sys_daemon *d)
{
    char path[64];
    int n = 0;
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)sys_daemon_pid(d));
    directory = opendir(path);
    assert_non_null(directory);
    while (readdir(directory))
        n++;
    closedir(directory);
    return n;
}

/* Seconds of processor time so far. */
static double processor_of(const struct sys_daemon *d)
{
    unsigned long user, kernel;
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)sys_daemon_pid(d));
    file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel), 2);
    fclose(file);
    return (double)(user + kernel) / (double)sysconf(_SC_CLK_TCK);
}

/* ---- more clients than descriptors ------------------------------------------------------------------------------- */

/* Everybody comes, and goes as soon as he was let in. How many were in at once. */
static uint32_t crowd_pass(struct wire *w, struct wire_stream *s)
{
    long until = wire_now_ms() + WIRE_MS;
    uint32_t left = CROWD, most = 0;

    while (left > 0) {
        uint32_t in = 0;

        serve(w, s);
        for (uint32_t i = 0; i < CROWD; i++) {
            guest_look(&guests[i], i);
            in += guests[i].is_in;
            if (guests[i].is_in) {
                guest_bye(&guests[i]);
                left--;
            }
        }
        most = in > most ? in : most;
        if (wire_now_ms() > until)
            fail_msg("%u clients were never let in", left);
        usleep(10000); /* guests that were sent away come again every 100 ms */
    }
    return most;
}

static void clients__more_than_descriptors__wait_and_disturb_nobody(void **state)
{
    struct sys_daemon *d;
    struct wire *w;
    struct wire_stream *s;
    double used;
    long began;

    (void)state;
    setenv("SSMD_TEST_DESCRIPTORS", DESCRIPTORS, 1);
    d = serving_start("");
    unsetenv("SSMD_TEST_DESCRIPTORS");
    assert_non_null(strstr(sys_daemon_log(d), "descriptors_few"));
    w = wire_new(sys_daemon_endpoint(d), "served");
    s = wire_open(w, "s", "twice", WIRE_RESULTS | WIRE_CREATE);
    for (uint32_t i = 0; i < CROWD; i++)
        guest_come(&guests[i], sys_daemon_endpoint(d), i);
    WIRE_UNTIL(w, wire_counter(w, "sockets_refused") > CROWD);
    used = processor_of(d);
    for (began = wire_now_ms(); wire_now_ms() - began < 1000; usleep(20000))
        serve(w, s);
    used = (processor_of(d) - used) * 1000 / (double)(wire_now_ms() - began);
    print_message("a full house takes %.0f %% of a processor, %d descriptors\n", used * 100, descriptors_of(d));
    assert_true(used < 0.8); /* a listener that spins takes all of one */
    assert_true(descriptors_of(d) < atoi(DESCRIPTORS));
    assert_true(crowd_pass(w, s) < CROWD);
    assert_non_null(strstr(sys_daemon_log(d), "sockets_refused"));
    wire_free(w);
    serving_stop(d);
}

/* So few that not even one client could be served. */
static void descriptors__too_few_for_any__are_refused_at_start(void **state)
{
    struct sys_daemon *d;

    (void)state;
    setenv("SSMD_TEST_DESCRIPTORS", "60", 1);
    assert_int_equal(sys_daemon_start(&d, ""), -1);
    unsetenv("SSMD_TEST_DESCRIPTORS");
}

/* ---- shares ------------------------------------------------------------------------------------------------------ */

static void spread_check(const char *lines, const char *endpoint, bool at_once)
{
    enum { GUESTS = 100, THREADS = 4 };
    struct sys_daemon *d = serving_start(lines);
    const char *to = endpoint ? endpoint : sys_daemon_endpoint(d);
    struct wire *w = wire_new(to, "observer");
    uint64_t most;

    for (uint32_t i = 0; i < GUESTS; i++) {
        guest_come(&guests[i], to, i);
        for (long until = wire_now_ms() + WIRE_MS; !at_once && !guests[i].is_in; guest_look(&guests[i], i))
            assert_true(wire_now_ms() < until);
    }
    WIRE_UNTIL(w, wire_counter(w, "connections") == GUESTS + 1);
    most = wire_counter(w, "connections_port");
    print_message("%d clients, %s: the busiest of %d threads has %d\n", GUESTS, at_once ? "at once" : "one by one",
                  THREADS, (int)most);
    assert_in_range(most, GUESTS / THREADS, GUESTS * 6 / 10);
    for (uint32_t i = 0; i < GUESTS; i++)
        guest_go(&guests[i]);
    wire_free(w);
    serving_stop(d);
}

static void clients__at_once_and_one_by_one__are_shared_by_the_threads(void **state)
{
    char lines[256], endpoint[64];

    (void)state;
    if (getenv("SSMD_TEST_LINE") && *getenv("SSMD_TEST_LINE"))
        skip();
    spread_check("io_threads = 4\n", NULL, true);
    spread_check("io_threads = 4\n", NULL, false);
    snprintf(endpoint, sizeof(endpoint), "tcp://127.0.0.1:%d", 20000 + (int)getpid() % 20000);
    snprintf(lines, sizeof(lines), "io_threads = 4\nendpoint = ipc://@/ssmd.sock %s\n", endpoint);
    spread_check(lines, endpoint, true);
}

/* ---- storms ------------------------------------------------------------------------------------------------------ */

/* Comes, or goes in whatever state it is; now and then it opens a stream before. */
static void guest_act(struct guest *guest, const char *endpoint, uint32_t number, uint32_t *seed)
{
    static const unsigned char open_it[] = {0x08, 2,   0x1a, 0x0d, 0x0a, 2,   'd',  '0', 0x12,
                                            5,    't', 'w',  'i',  'c',  'e', 0x38, 1};

    if (!guest->socket)
        guest_come(guest, endpoint, number);
    else if (making_number(seed, 3) == 0)
        (void)zmq_send(guest->socket, open_it, sizeof(open_it), ZMQ_DONTWAIT);
    else
        guest_go(guest);
}

static void storm(const struct sys_daemon *d, struct wire *w, struct wire_stream *s, uint32_t seed)
{
    enum { GUESTS = 200, ACTS = 3000 };

    for (uint32_t i = 0; i < ACTS; i++) {
        uint32_t at = making_number(&seed, GUESTS);

        guest_act(&guests[at], sys_daemon_endpoint(d), at, &seed);
        if (i % 50 == 0)
            serve(w, s);
    }
    for (uint32_t i = 0; i < GUESTS; i++)
        guest_go(&guests[i]);
    WIRE_UNTIL(w, wire_counter(w, "connections") == 1);
}

/* A sanitizer keeps what was freed, and looks for leaks itself. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define PAGES_FACTOR 100
#else
#define PAGES_FACTOR 1
#endif

static void clients__that_come_and_vanish__leave_nothing_behind(void **state)
{
    struct sys_daemon *d = serving_start("idle_ms = 5000\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "served");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS | WIRE_CREATE);
    long until = wire_now_ms() + WIRE_MS;
    long pages;
    int before;

    (void)state;
    serve(w, s);
    before = descriptors_of(d);
    for (uint32_t i = 0; i < 4; i++) /* until as many were there at once as ever are */
        storm(d, w, s, i);
    pages = pages_of(d);
    for (uint32_t i = 4; i < 8; i++)
        storm(d, w, s, i);
    assert_true(pages_of(d) < (pages + pages / 2 + 2048) * PAGES_FACTOR);
    while (descriptors_of(d) > before) {
        assert_true(wire_now_ms() < until);
        serve(w, s);
    }
    assert_int_equal(wire_counter(w, "messages_malformed"), 0);
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clients__more_than_descriptors__wait_and_disturb_nobody),
        cmocka_unit_test(descriptors__too_few_for_any__are_refused_at_start),
        cmocka_unit_test(clients__at_once_and_one_by_one__are_shared_by_the_threads),
        cmocka_unit_test(clients__that_come_and_vanish__leave_nothing_behind),
    };

    return cmocka_run_group_tests_name("ports", tests, group_open, group_close);
}
