/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon as its operator meets it: configurations that are wrong, endpoints that are taken, models that do not
 * load, SIGHUP and SIGTERM.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

/* Waits until the log says so. */
static void log_expect(struct sys_daemon *d, const char *text)
{
    long until = wire_now_ms() + WIRE_MS;

    while (!strstr(sys_daemon_log(d), text)) {
        if (wire_now_ms() > until)
            fail_msg("not in the log: %s\n%s", text, sys_daemon_log(d));
        usleep(2000);
    }
}

/* Runs ssmd with these arguments to its end: exit code; out has what it said. */
static int ssmd_run(const char *arguments, char out[4096])
{
    const char *build = getenv("BUILD");
    char command[1024];
    size_t n = 0, got;
    FILE *pipe;
    int status;

    snprintf(command, sizeof(command), "timeout 60 %s/bin/ssmd %s 2>&1", build && *build ? build : "build", arguments);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    while ((got = fread(out + n, 1, 4095 - n, pipe)) > 0)
        n += got;
    out[n] = '\0';
    status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void said(const char *out, const char *text)
{
    if (!strstr(out, text))
        fail_msg("'%s' is not in: %s", text, out);
}

static void file_write(const char *path, const char *text, const char *mode)
{
    FILE *file = fopen(path, mode);

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* ---- configurations and endpoints -------------------------------------------------------------------------------- */

static void check_config__of_wrong_files__names_file_line_and_key(void **state)
{
    static const struct {
        const char *text, *line, *word;
    } wrong[] = {
        {"# fine\nmax_stream = 10\n", ":2", "max_stream"},
        {"max_streams = 10\nmax_streams = 11\n", ":2", "max_streams"},
        {"\n\nmax_streams = 0\n", ":3", "max_streams"},
        {"max_streams = many\n", ":1", "max_streams"},
        {"max_message = 1T\n", ":1", "max_message"},
        {"isa = mmx\n", ":1", "isa"},
        {"no equals sign\n", ":1", ""},
        {"endpoint = tcp://0.0.0.0:45999\n", NULL, "allow_unauthenticated"},
        {"endpoint = tcp://*:45999\n", NULL, "allow_unauthenticated"},
    };
    char path[128], arguments[256], out[4096];

    (void)state;
    snprintf(path, sizeof(path), "%s/wrong.conf", serving_models.path);
    snprintf(arguments, sizeof(arguments), "--check-config --config %s", path);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        char where[160];

        file_write(path, wrong[i].text, "w");
        assert_int_equal(ssmd_run(arguments, out), EX_CONFIG);
        snprintf(where, sizeof(where), "%s%s", path, wrong[i].line ? wrong[i].line : "");
        if (wrong[i].line) /* two keys that do not go together have no one line */
            said(out, where);
        said(out, wrong[i].word);
    }
    file_write(path, "endpoint = tcp://0.0.0.0:45999\nallow_unauthenticated = yes\n", "w");
    assert_int_equal(ssmd_run(arguments, out), EX_OK);
    said(out, "ok");
    unlink(path);
    assert_int_equal(ssmd_run(arguments, out), EX_CONFIG);
    said(out, path);
    assert_int_equal(ssmd_run("--no-such-option", out), EX_USAGE);
    assert_int_equal(ssmd_run("--version", out), EX_OK);
    said(out, "ssmd ");
}

static void tcp_beyond_loopback__unauthenticated__is_refused_at_start(void **state)
{
    char path[128], arguments[256], out[4096];

    (void)state;
    snprintf(path, sizeof(path), "%s/open.conf", serving_models.path);
    snprintf(arguments, sizeof(arguments), "--config %s", path);
    file_write(path, "endpoint = tcp://0.0.0.0:45998\ntap = off\n", "w");
    assert_int_equal(ssmd_run(arguments, out), EX_CONFIG);
    said(out, "allow_unauthenticated");
}

static void endpoint__served_by_another_daemon__is_refused_and_that_one_goes_on(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    char arguments[256], out[4096], lock[256];

    (void)state;
    snprintf(arguments, sizeof(arguments), "--config %s", sys_daemon_conf(d));
    assert_int_equal(ssmd_run(arguments, out), EX_UNAVAILABLE);
    said(out, sys_daemon_endpoint(d));
    said(out, "another daemon");
    snprintf(lock, sizeof(lock), "%s.lock", sys_daemon_endpoint(d) + strlen("ipc://"));
    assert_int_equal(access(lock, F_OK), 0);
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    wire_free(w);
    w = wire_new(sys_daemon_endpoint(d), "later"); /* its socket was not taken away either */
    wire_free(w);
    serving_stop(d);
}

static void endpoint__in_a_directory_that_is_not_there__makes_it_and_says_so(void **state)
{
    struct sys_daemon *d = serving_start("endpoint = ipc://@/fresh/ssmd.sock\n");
    struct stat st;
    char path[128];

    (void)state;
    snprintf(path, sizeof(path), "%s/fresh", sys_daemon_directory(d));
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    said(sys_daemon_log(d), "directory_made");
    said(sys_daemon_log(d), path);
    serving_stop(d);
    d = serving_start("");
    assert_null(strstr(sys_daemon_log(d), "directory_made"));
    serving_stop(d);
}

static void endpoint__where_a_file_is__is_refused_and_the_file_stays(void **state)
{
    char path[128], precious[128], arguments[256], out[4096], text[300];
    struct stat found;

    (void)state;
    snprintf(path, sizeof(path), "%s/file.conf", serving_models.path);
    snprintf(precious, sizeof(precious), "%s/precious", serving_models.path);
    snprintf(arguments, sizeof(arguments), "--config %s", path);
    snprintf(text, sizeof(text), "endpoint = ipc://%s\ntap = off\n", precious);
    file_write(path, text, "w");
    file_write(precious, "precious", "w");
    assert_int_equal(ssmd_run(arguments, out), EX_CONFIG);
    said(out, precious);
    assert_int_equal(stat(precious, &found), 0);
    assert_true(S_ISREG(found.st_mode));
    assert_int_equal(found.st_size, 8);
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static void models__that_cannot_be_loaded__are_refused_by_file_and_tensor(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "good", "twice", WIRE_RESULTS), *bad;
    float one = 1;

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wire_try_open(w, &bad, "bad", "broken", 0, 0), SSMD__CODE__NO_MODEL);
        said(w->reply->error->text, "broken");
        said(w->reply->error->text, "mix.weight");
        assert_int_equal(wire_try_open(w, &bad, "bad", "garbled", 0, 0), SSMD__CODE__NO_MODEL);
        said(w->reply->error->text, "garbled/config.json");
        assert_int_equal(wire_try_open(w, &bad, "bad", "absent", 0, 0), SSMD__CODE__NO_MODEL);
        said(w->reply->error->text, "absent");
        assert_int_equal(wire_try_open(w, &bad, "bad", "forecast:ordr=3,rate=100", 0, 0), SSMD__CODE__NO_MODEL);
        said(w->reply->error->text, "ordr");
        wire_push(w, s, &one, 1, 0);
        WIRE_UNTIL(w, s->results == s->sent);
    }
    assert_int_equal(wire_counter(w, "streams"), 1);
    wire_free(w);
    serving_stop(d);
}

/* Asks and does not wait. */
static void open_send(struct wire *w, const char *id, const char *model)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Open request = SSMD__OPEN__INIT;
    unsigned char bytes[256];
    size_t size;

    request.id = wire_bytes(id);
    request.model = (char *)(uintptr_t)model;
    message.request_id = ++w->request;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
    message.open = &request;
    size = proto_size(&message.base);
    assert_true(size <= sizeof(bytes));
    proto_encode(&message.base, bytes);
    w->reply = NULL;
    wire_send_parts(w, 1, (const void *const[]){bytes}, &size);
}

static void model__that_is_slow_to_load__holds_up_no_stream(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer"), *waits = wire_new(sys_daemon_endpoint(d), "waits");
    struct wire_stream *s = wire_open(w, "good", "twice", WIRE_RESULTS);
    float in[100] = {0};
    int passed = 0;

    (void)state;
    open_send(waits, "x", "slow");
    for (;; passed++) {
        wire_push(w, s, in, 100, 0);
        WIRE_UNTIL(w, s->results == s->sent);
        wire_poll(waits, 0);
        if (waits->reply)
            break;
    }
    assert_null(waits->reply->error);
    assert_int_equal(waits->reply->stream->out_channels, 512);
    assert_true(passed >= 5); /* had the model been loaded between them, it would have been one */
    wire_free(waits);
    wire_free(w);
    serving_stop(d);
}

/* ---- signals ----------------------------------------------------------------------------------------------------- */

static void sighup__with_a_changed_file__applies_what_it_can_and_names_the_rest(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = wire_open(w, "s", "twice", WIRE_RESULTS);
    float in[2000] = {0};

    (void)state;
    file_write(sys_daemon_conf(d), "chunk_frames = 1000\nmax_row_frames = 77\n", "a");
    sys_daemon_signal(d, SIGHUP);
    log_expect(d, "reloaded");
    said(sys_daemon_log(d), "key=chunk_frames");
    said(sys_daemon_log(d), "key=max_row_frames");
    said(sys_daemon_log(d), "reload_needs_restart");
    wire_push(w, s, in, 1001, 0);
    WIRE_UNTIL(w, wire_refusals(w, SSMD__CODE__TOO_LARGE) == 1);
    s->sent = 0;
    wire_push(w, s, in, 1000, 0);
    WIRE_UNTIL(w, s->results == 1000);
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    assert_int_equal(w->reply->hello->limits->chunk_frames, 1000);
    file_write(sys_daemon_conf(d), "chunk_frame = 3\n", "a");
    sys_daemon_signal(d, SIGHUP);
    log_expect(d, "reload_refused");
    said(strstr(sys_daemon_log(d), "reload_refused"), sys_daemon_conf(d));
    wire_push(w, s, in, 1000, 0);
    WIRE_UNTIL(w, s->results == 2000);
    wire_free(w);
    serving_stop(d);
}

static void sigterm__with_input_queued__computes_and_delivers_it_then_exits_0(void **state)
{
    enum { ALL = 100000, CHUNK = 20000 };
    struct sys_daemon *d = serving_start("drain_ms = 60000\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct reference golden;
    struct wire_stream *s;
    float *in = malloc(ALL * sizeof(float)), *want;

    (void)state;
    reference_load(&golden, "s4d-stack");
    want = malloc((size_t)ALL * golden.out_channels * sizeof(float));
    assert_true(in && want);
    for (uint32_t i = 0; i < ALL; i++)
        in[i] = ((const float *)golden.in)[i % golden.frames];
    s = wire_open(w, "s", golden.name, WIRE_RESULTS);
    for (uint32_t i = 0; i < ALL; i += CHUNK)
        wire_push(w, s, in + i, CHUNK, 0);
    assert_int_equal(wire_ping(w), SSMD__CODE__OK); /* all was accepted */
    assert_int_equal(w->refusals_n, 0);
    sys_daemon_signal(d, SIGTERM);
    WIRE_UNTIL(w, w->is_going_away);
    assert_int_equal(sys_daemon_wait(d, WIRE_MS), 0);
    assert_int_equal(s->results, ALL);
    assert_int_equal(s->applied, ALL);
    reference_step(&golden, in, ALL, want);
    assert_memory_equal(s->out, want, (size_t)ALL * golden.out_channels * sizeof(float));
    free(in);
    free(want);
    reference_free(&golden);
    wire_free(w);
    sys_daemon_free(d);
}

/* A stream whose results nobody lets out, so that draining cannot end. */
static struct wire_stream *stream_hold(struct wire *w)
{
    struct wire_stream *s = wire_open(w, "held", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    float in[100] = {0};

    wire_push(w, s, in, 100, 0);
    WIRE_UNTIL(w, s->applied == 100);
    return s;
}

static void sigterm__while_results_wait_for_credit__refuses_new_work_and_goes_when_they_left(void **state)
{
    struct sys_daemon *d = serving_start("drain_ms = 600000\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");
    struct wire_stream *s = stream_hold(w), *late;
    float in[10] = {0};

    (void)state;
    sys_daemon_signal(d, SIGTERM);
    log_expect(d, "draining");
    assert_int_equal(wire_try_open(w, &late, "late", "twice", 0, 0), SSMD__CODE__DRAINING);
    wire_push(w, s, in, 10, 0);
    WIRE_UNTIL(w, wire_refusals(w, SSMD__CODE__DRAINING) == 1);
    assert_int_equal(sys_daemon_wait(d, 0), -1);
    assert_false(w->is_going_away);
    wire_credit(w, s, 0, 1 << 20);
    WIRE_UNTIL(w, s->results == 100);
    WIRE_UNTIL(w, w->is_going_away);
    assert_int_equal(sys_daemon_wait(d, WIRE_MS), 0);
    wire_free(w);
    sys_daemon_free(d);
}

#define QUEUED 400000 /* frames: more bytes than sockets hold */

/* A stream whose results all left for a slow reader, and a daemon that was told to stop then. */
static struct wire_stream *results_queue(struct sys_daemon *d, struct wire *slow)
{
    enum { CHUNK = 4000 };
    struct wire_stream *s = wire_open(slow, "s", "twice", WIRE_RESULTS | WIRE_NO_CREDIT);
    static float in[CHUNK];

    for (uint32_t i = 0; i < QUEUED; i += CHUNK)
        wire_push(slow, s, in, CHUNK, 0);
    WIRE_UNTIL(slow, s->applied == QUEUED);
    wire_credit(slow, s, 0, QUEUED * sizeof(float));
    sys_daemon_signal(d, SIGTERM);
    log_expect(d, "stopped");
    return s;
}

/* Longer than a second, which is what a peer gets when drain_ms is over. */
static void sigterm__to_a_slow_reader__waits_for_it_as_long_as_drain_ms(void **state)
{
    struct sys_daemon *d = serving_start("drain_ms = 60000\nresult_ring = 4M\nstream_window = 4M\n");
    struct wire *w = wire_slow(sys_daemon_endpoint(d), "slow");
    struct wire_stream *s;
    int code;

    (void)state;
    s = results_queue(d, w);
    usleep(2000000);
    if (sys_daemon_wait(d, 0) != -1)
        fail_msg("it did not wait: %s", sys_daemon_log(d));
    while ((code = sys_daemon_wait(d, 0)) == -1) /* libzmq may drop the last of it here, when the daemon goes */
        wire_poll(w, 50);
    assert_int_equal(code, 0);
    assert_true(s->results > QUEUED / 2);
    wire_free(w);
    sys_daemon_free(d);
}

static void sigterm__again_while_a_slow_reader_is_waited_for__ends_the_wait(void **state)
{
    struct sys_daemon *d = serving_start("drain_ms = 3600000\nresult_ring = 4M\nstream_window = 4M\n");
    struct wire *w = wire_slow(sys_daemon_endpoint(d), "slow");
    int code;

    (void)state;
    results_queue(d, w);
    while ((code = sys_daemon_wait(d, 50)) == -1 && !strstr(sys_daemon_log(d), "stopping_fast"))
        sys_daemon_signal(d, SIGTERM);
    assert_int_equal(code == -1 ? sys_daemon_wait(d, WIRE_MS) : code, 0);
    said(sys_daemon_log(d), "stopping_fast");
    wire_free(w);
    sys_daemon_free(d);
}

static void sigterm__twice__does_not_wait(void **state)
{
    struct sys_daemon *d = serving_start("drain_ms = 3600000\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");

    (void)state;
    stream_hold(w);
    sys_daemon_signal(d, SIGTERM);
    log_expect(d, "draining");
    sys_daemon_signal(d, SIGTERM);
    assert_int_equal(sys_daemon_wait(d, WIRE_MS), 0);
    wire_free(w);
    sys_daemon_free(d);
}

static void sigterm__when_drain_ms_have_passed__leaves_what_cannot_be_finished(void **state)
{
    struct sys_daemon *d = serving_start("drain_ms = 200\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "writer");

    (void)state;
    stream_hold(w);
    sys_daemon_signal(d, SIGTERM);
    assert_int_equal(sys_daemon_wait(d, WIRE_MS), 0);
    wire_free(w);
    sys_daemon_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_config__of_wrong_files__names_file_line_and_key),
        cmocka_unit_test(tcp_beyond_loopback__unauthenticated__is_refused_at_start),
        cmocka_unit_test(endpoint__served_by_another_daemon__is_refused_and_that_one_goes_on),
        cmocka_unit_test(endpoint__in_a_directory_that_is_not_there__makes_it_and_says_so),
        cmocka_unit_test(endpoint__where_a_file_is__is_refused_and_the_file_stays),
        cmocka_unit_test(models__that_cannot_be_loaded__are_refused_by_file_and_tensor),
        cmocka_unit_test(model__that_is_slow_to_load__holds_up_no_stream),
        cmocka_unit_test(sighup__with_a_changed_file__applies_what_it_can_and_names_the_rest),
        cmocka_unit_test(sigterm__with_input_queued__computes_and_delivers_it_then_exits_0),
        cmocka_unit_test(sigterm__while_results_wait_for_credit__refuses_new_work_and_goes_when_they_left),
        cmocka_unit_test(sigterm__to_a_slow_reader__waits_for_it_as_long_as_drain_ms),
        cmocka_unit_test(sigterm__again_while_a_slow_reader_is_waited_for__ends_the_wait),
        cmocka_unit_test(sigterm__twice__does_not_wait),
        cmocka_unit_test(sigterm__when_drain_ms_have_passed__leaves_what_cannot_be_finished),
    };

    return cmocka_run_group_tests_name("lifecycle", tests, serving_group_open, serving_group_close);
}
