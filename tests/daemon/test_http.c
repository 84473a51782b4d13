/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP beside a loop that answers, one that does not, and one that starts or stops: here the loop is the test's, so
 * that it can be stuck. tests/sys/test_http.c has the real one.
 */
#include "daemon/http.h"
#include "daemon/log.h"
#include "daemon/loop.h"

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;
static char directory[] = "/tmp/ssmd-http-XXXXXX";
static char path[64];

static int directory_make(void **state)
{
    (void)state;
    log_init(STDERR_FILENO, LOG_FORM_PLAIN, LOG_ERR);
    if (!mkdtemp(directory))
        return -1;
    snprintf(path, sizeof(path), "%s/metrics.sock", directory);
    return 0;
}

static int directory_remove(void **state)
{
    char lock[80];

    (void)state;
    snprintf(lock, sizeof(lock), "%s.lock", path);
    (void)!unlink(path);
    (void)!unlink(lock);
    return rmdir(directory);
}

static int loop_make(void **state)
{
    (void)state;
    loop = calloc(1, sizeof(*loop));
    conf_init(&loop->conf);
    snprintf(loop->conf.metrics, sizeof(loop->conf.metrics), "ipc://%s", path);
    metrics_init(&loop->histograms);
    TAILQ_INIT(&loop->models.all);
    loop->http.wake_fd = loop->http.done_fd = -1;
    return http_open(loop) == EX_OK ? 0 : -1;
}

static int loop_free(void **state)
{
    (void)state;
    http_close(&loop->http);
    while (loop->locks_n > 0)
        close(loop->locks[--loop->locks_n]);
    free(loop);
    return 0;
}

/* The status of a GET. */
static int get(const char *what)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0), status = 0;
    char text[65536];
    size_t used = 0;
    ssize_t n;

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", what);
    assert_int_equal(write(fd, text, (size_t)n), n);
    while (used < sizeof(text) - 1 && (n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)n;
    close(fd);
    text[used] = '\0';
    if (sscanf(text, "HTTP/1.1 %d ", &status) != 1)
        fail_msg("no status: %s", text);
    return status;
}

/* A loop that does nothing but answer, from start to stop. */
static struct {
    pthread_t thread;
    atomic_bool is_over;
    unsigned answers;
} answering;

static void *answer_run(void *context)
{
    (void)context;
    while (!atomic_load(&answering.is_over)) {
        struct pollfd wait = {.fd = loop->http.wake_fd, .events = POLLIN, .revents = 0};

        if (poll(&wait, 1, 20) <= 0)
            continue;
        answering.answers++;
        http_answer(loop);
    }
    return NULL;
}

static void answering_start(void)
{
    answering.answers = 0;
    atomic_store(&answering.is_over, false);
    assert_int_equal(pthread_create(&answering.thread, NULL, answer_run, NULL), 0);
}

static void answering_stop(void)
{
    atomic_store(&answering.is_over, true);
    pthread_join(answering.thread, NULL);
}

static void http__while_the_daemon_starts_or_stops__it_lives_and_is_not_ready(void **state)
{
    static const enum http_phase phases[] = {HTTP_STARTING, HTTP_STOPPING};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        http_phase_set(&loop->http, phases[i]);
        assert_int_equal(get("/livez"), 200);
        assert_int_equal(get("/readyz"), 503);
        assert_int_equal(get("/metrics"), 503);
    }
}

static void http__while_it_drains__it_lives_and_counts_and_is_not_ready(void **state)
{
    (void)state;
    http_phase_set(&loop->http, HTTP_DRAINING);
    assert_int_equal(get("/readyz"), 503);
    answering_start();
    assert_int_equal(get("/livez"), 200);
    assert_int_equal(get("/metrics"), 200);
    answering_stop();
}

static void http__a_loop_that_is_stuck__is_told_and_forgiven(void **state)
{
    (void)state;
    http_phase_set(&loop->http, HTTP_SERVING);
    assert_int_equal(get("/livez"), 503);
    assert_int_equal(get("/readyz"), 503);
    assert_int_equal(get("/metrics"), 503);
    answering_start();
    while (get("/livez") != 200) /* once more until the loop got round to what it was asked first */
        continue;
    assert_int_equal(get("/readyz"), 200);
    assert_int_equal(get("/metrics"), 200);
    answering_stop();
}

static void http__many_questions__the_loop_is_asked_no_more_than_it_may(void **state)
{
    uint64_t began = clock_now_ns(), took_ms;

    (void)state;
    http_phase_set(&loop->http, HTTP_SERVING);
    answering_start();
    for (int i = 0; i < 200; i++)
        assert_int_equal(get("/metrics"), 200);
    answering_stop();
    took_ms = (clock_now_ns() - began) / CLOCK_MS;
    assert_in_range(answering.answers, 1, 1 + took_ms / HTTP_FRESH_MS);
}

static void http__a_path_that_is_no_socket__is_refused(void **state)
{
    static struct loop other;
    char file[80];
    FILE *made;

    (void)state;
    snprintf(file, sizeof(file), "%s/file", directory);
    made = fopen(file, "w");
    assert_non_null(made);
    fclose(made);
    conf_init(&other.conf);
    other.http.wake_fd = other.http.done_fd = -1;
    snprintf(other.conf.metrics, sizeof(other.conf.metrics), "ipc://%s", file);
    log_set_level(LOG_EMERG);
    assert_int_equal(http_open(&other), EX_CONFIG);
    snprintf(other.conf.metrics, sizeof(other.conf.metrics), "ipc://%s", path); /* the first loop's */
    assert_int_equal(http_open(&other), EX_UNAVAILABLE);
    log_set_level(LOG_ERR);
    assert_int_equal(unlink(file), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(http__while_the_daemon_starts_or_stops__it_lives_and_is_not_ready, loop_make,
                                        loop_free),
        cmocka_unit_test_setup_teardown(http__while_it_drains__it_lives_and_counts_and_is_not_ready, loop_make,
                                        loop_free),
        cmocka_unit_test_setup_teardown(http__a_loop_that_is_stuck__is_told_and_forgiven, loop_make, loop_free),
        cmocka_unit_test_setup_teardown(http__many_questions__the_loop_is_asked_no_more_than_it_may, loop_make,
                                        loop_free),
        cmocka_unit_test_setup_teardown(http__a_path_that_is_no_socket__is_refused, loop_make, loop_free),
    };

    return cmocka_run_group_tests(tests, directory_make, directory_remove);
}
