/* SPDX-License-Identifier: Apache-2.0
 *
 * /metrics, /livez and /readyz of the real daemon, by a client that speaks HTTP by hand: what is scraped is what stats
 * says, and nothing that is sent there, in whatever form and number, disturbs a stream.
 */
#include "daemon/metrics.h"
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXT_MAX    (1 << 20)
#define PARALLEL    100
#define CONNECTIONS 16 /* that the daemon takes at a time */

static struct sys_daemon *server;
static char text[TEXT_MAX];

/* ---- HTTP by hand ------------------------------------------------------------------------------------------------ */

static int http_connect(void)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s/metrics.sock", sys_daemon_directory(server));
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static void http_send(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);

        if (n <= 0)
            return; /* it has heard enough */
        bytes += n;
        size -= (size_t)n;
    }
}

/* All that comes, into `text`; the status, or 0 when there is none. Closes. */
static int http_receive(int fd)
{
    size_t used = 0;
    int status = 0;

    while (used < sizeof(text) - 1) {
        struct pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
        ssize_t n;

        if (poll(&wait, 1, WIRE_MS) <= 0)
            fail_msg("no answer in %d s", WIRE_MS / 1000);
        n = recv(fd, text + used, sizeof(text) - 1 - used, 0);
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(fd);
    text[used] = '\0';
    return sscanf(text, "HTTP/1.%*d %d", &status) == 1 ? status : 0;
}

static int http_ask(const char *method, const char *path)
{
    char request[256];
    int fd = http_connect();

    snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: ssmd\r\n\r\n", method, path);
    http_send(fd, request, strlen(request));
    return http_receive(fd);
}

static const char *body(void)
{
    const char *at = strstr(text, "\r\n\r\n");

    assert_non_null(at);
    return at + 4;
}

/* The value of a sample of the last scrape. */
static double sample(const char *name)
{
    char line[256];
    const char *at;

    snprintf(line, sizeof(line), "\n%s ", name);
    at = strstr(text, line);
    if (!at)
        fail_msg("%s is not there", name);
    return strtod(at + strlen(line), NULL);
}

/* ---- a stream beside it ------------------------------------------------------------------------------------------ */

static struct wire *w;
static struct wire_stream *s;

static int server_start(void **state)
{
    (void)state;
    server = serving_start("metrics = ipc://@/metrics.sock\n");
    w = wire_new(sys_daemon_endpoint(server), "a");
    s = wire_open(w, "s", "twice", WIRE_RESULTS | WIRE_CREATE);
    return 0;
}

static int server_stop(void **state)
{
    (void)state;
    wire_free(w);
    serving_stop(server);
    return 0;
}

/* 100 frames more, and all their results, which are right. */
static void stream_works(void)
{
    float in[100];

    for (int i = 0; i < 100; i++)
        in[i] = (float)(s->sent + (uint64_t)i);
    wire_push(w, s, in, 100, 0);
    WIRE_UNTIL(w, s->results == s->sent);
    assert_true(s->out[s->results - 1] == 2 * in[99]);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void http__metrics__are_what_stats_says(void **state)
{
    static const char *const names[] = {"frames",           "frames_applied", "chunks",         "batches",
                                        "results",          "results_sent",   "streams",        "readers",
                                        "acknowledgements", "rings_full",     "streams_opened", "connections"};

    (void)state;
    for (int i = 0; i < 50; i++)
        stream_works();
    WIRE_UNTIL(w, s->applied == 5000);
    assert_int_equal(http_ask("GET", "/metrics"), 200);
    assert_non_null(strstr(text, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        bool is_gauge = strcmp(names[i], "streams") == 0 || strcmp(names[i], "readers") == 0 ||
                        strcmp(names[i], "connections") == 0;
        char name[64];

        snprintf(name, sizeof(name), "ssmd_%s%s", names[i], is_gauge ? "" : "_total");
        assert_int_equal(wire_counter(w, names[i]), (uint64_t)sample(name));
    }
    assert_int_equal((int)sample("ssmd_frames_total"), 5000);
    assert_int_equal((int)sample("ssmd_model_frames_total{model=\"twice\"}"), 5000);
    assert_int_equal((int)sample("ssmd_model_streams{model=\"twice\"}"), 1);
    assert_true(sample("process_resident_memory_bytes") > 1e6);
}

/* Each chunk's results were waited for before the next was sent. A batch has at least 64 frames' time, so a chunk takes
 * one or two, by the machine's speed. */
static void http__histograms__count_every_chunk_batch_and_result(void **state)
{
    static const char *const of_batches[] = {"batch_streams", "batch_frames", "step_seconds"};
    double batches, measured;
    char name[64];

    (void)state;
    for (int i = 0; i < 20; i++)
        stream_works();
    WIRE_UNTIL(w, s->applied == 2000);
    assert_int_equal(http_ask("GET", "/metrics"), 200);
    batches = sample("ssmd_batches_total");
    assert_in_range(batches, 20, 40);
    for (size_t i = 0; i < sizeof(of_batches) / sizeof(of_batches[0]); i++) {
        snprintf(name, sizeof(name), "ssmd_%s_count", of_batches[i]);
        assert_true(sample(name) == batches);
    }
    measured = sample("ssmd_deliver_seconds_count");
    assert_in_range(measured, 20, batches);
    assert_true(sample("ssmd_end_to_end_seconds_count") == measured);
    assert_int_equal((int)sample("ssmd_queue_seconds_count"), 20);
    assert_true(sample("ssmd_batch_streams_sum") == batches);
    assert_int_equal((int)sample("ssmd_batch_frames_sum"), 2000);
    assert_true(sample("ssmd_batch_frames_bucket{le=\"128\"}") == batches);
    assert_true(sample("ssmd_batch_frames_bucket{le=\"32\"}") <= batches - 20);
    assert_true(sample("ssmd_end_to_end_seconds_sum") >= sample("ssmd_deliver_seconds_sum"));
    assert_true(sample("ssmd_step_seconds_sum") == sample("ssmd_engine_busy_seconds_total"));
}

static void stats__with_the_feature__has_models_and_histograms(void **state)
{
    struct wire *v = wire_connect(sys_daemon_endpoint(server), "b");
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Stats stats = SSMD__STATS__INIT;
    size_t of_models = 0;

    (void)state;
    stream_works();
    message.request_case = SSMD__FROM_CLIENT__REQUEST_STATS;
    message.stats = &stats;
    assert_int_equal(wire_request(w, &message), SSMD__CODE__OK);
    assert_int_equal(w->reply->stats->n_histograms, 0);
    for (size_t i = 0; i < w->reply->stats->n_counters; i++)
        assert_null(w->reply->stats->counters[i]->model);
    v->feature = (char *)(uintptr_t) "histograms";
    assert_int_equal(wire_hello(v), SSMD__CODE__OK);
    assert_string_equal(v->reply->hello->features[0], "histograms");
    assert_int_equal(wire_request(v, &message), SSMD__CODE__OK);
    for (size_t i = 0; i < v->reply->stats->n_counters; i++)
        of_models += v->reply->stats->counters[i]->model != NULL;
    assert_int_equal(of_models, MODEL_VALUES); /* one model */
    assert_int_equal(v->reply->stats->n_histograms, 6);
    for (size_t i = 0; i < 6; i++) {
        const Ssmd__Histogram *h = v->reply->stats->histograms[i];

        assert_int_equal(h->n_quantile, 4);
        assert_int_equal(h->n_value, 4);
        assert_true(h->count > 0 && h->value[3] <= h->max && h->value[0] <= h->value[3]);
    }
    wire_free(v);
}

static void http__other_paths_and_methods__are_refused(void **state)
{
    (void)state;
    assert_int_equal(http_ask("GET", "/"), 404);
    assert_int_equal(http_ask("GET", "/metrics/"), 404);
    assert_int_equal(http_ask("GET", "/../metrics"), 404);
    assert_int_equal(http_ask("POST", "/metrics"), 405);
    assert_non_null(strstr(text, "Allow: GET, HEAD\r\n"));
    assert_int_equal(http_ask("DELETE", "/livez"), 405);
    assert_int_equal(http_ask("HEAD", "/livez"), 200);
    assert_string_equal(body(), "");
    assert_int_equal(http_ask("GET", "/livez?x=1"), 200);
    assert_string_equal(body(), "ok\n");
}

static void http__while_draining__is_alive_and_not_ready(void **state)
{
    struct wire_stream *held = wire_open(w, "held", "twice", WIRE_RESULTS | WIRE_CREATE | WIRE_NO_CREDIT);
    float in[10] = {0};

    (void)state;
    assert_int_equal(http_ask("GET", "/readyz"), 200);
    wire_push(w, held, in, 10, 0);
    WIRE_UNTIL(w, held->applied == 10);
    sys_daemon_signal(server, SIGTERM); /* the results that nobody lets go hold the drain */
    while (http_ask("GET", "/readyz") == 200)
        continue;
    assert_int_equal(http_ask("GET", "/readyz"), 503);
    assert_int_equal(http_ask("GET", "/livez"), 200);
    assert_int_equal(http_ask("GET", "/metrics"), 200);
    wire_credit(w, held, 0, 1 << 20);
    WIRE_UNTIL(w, held->results == 10);
}

static void http__garbage__is_refused_and_disturbs_nobody(void **state)
{
    static const char *const requests[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET /metrics HTTP/9.9\r\n\r\n",
        "GET /metrics\r\n\r\n",
        "\x16\x03\x01\x02\x00",
        "GET /metrics HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\nx",
        "GET /%00%ff%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    static char large[1 << 18];

    (void)state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        int fd = http_connect();

        http_send(fd, requests[i], strlen(requests[i]));
        shutdown(fd, SHUT_WR);
        (void)http_receive(fd);
        stream_works();
    }
    memset(large, 'a', sizeof(large));
    memcpy(large, "GET /", 5);
    for (int i = 0; i < 3; i++) {
        int fd = http_connect();

        http_send(fd, large, sizeof(large)); /* a request line that has no end */
        shutdown(fd, SHUT_WR);
        assert_int_not_equal(http_receive(fd), 200);
        stream_works();
    }
    assert_int_equal(http_ask("GET", "/livez"), 200);
}

/* Nobody reads or goes on: every connection that the daemon takes is used up, and some more wait behind them. */
static void http__clients_that_do_not_go_on__delay_no_stream(void **state)
{
    int fd[CONNECTIONS + 8];

    (void)state;
    for (size_t i = 0; i < CONNECTIONS + 8; i++) {
        fd[i] = http_connect();
        http_send(fd[i], "GET /metrics HT", 15);
        stream_works();
    }
    for (int i = 0; i < 50; i++)
        stream_works();
    for (size_t i = 0; i < CONNECTIONS + 8; i++)
        close(fd[i]);
    assert_int_equal(http_ask("GET", "/readyz"), 200);
}

static void http__a_hundred_at_once__are_all_answered(void **state)
{
    static const char request[] = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    int fd[PARALLEL];

    (void)state;
    for (size_t i = 0; i < PARALLEL; i++) {
        fd[i] = http_connect();
        http_send(fd[i], request, strlen(request));
    }
    stream_works();
    for (size_t i = 0; i < PARALLEL; i++) {
        assert_int_equal(http_receive(fd[i]), 200);
        assert_true(text[strlen(text) - 1] == '\n');
    }
    stream_works();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(http__metrics__are_what_stats_says, server_start, server_stop),
        cmocka_unit_test_setup_teardown(http__histograms__count_every_chunk_batch_and_result, server_start,
                                        server_stop),
        cmocka_unit_test_setup_teardown(stats__with_the_feature__has_models_and_histograms, server_start, server_stop),
        cmocka_unit_test_setup_teardown(http__other_paths_and_methods__are_refused, server_start, server_stop),
        cmocka_unit_test_setup_teardown(http__while_draining__is_alive_and_not_ready, server_start, server_stop),
        cmocka_unit_test_setup_teardown(http__garbage__is_refused_and_disturbs_nobody, server_start, server_stop),
        cmocka_unit_test_setup_teardown(http__clients_that_do_not_go_on__delay_no_stream, server_start, server_stop),
        cmocka_unit_test_setup_teardown(http__a_hundred_at_once__are_all_answered, server_start, server_stop),
    };

    return cmocka_run_group_tests(tests, serving_group_open, serving_group_close);
}
