/* SPDX-License-Identifier: Apache-2.0
 *
 * ssmctl against the real daemon, with a model that only halves: whatever happens on the way, the output is x/2, bit
 * for bit and complete, or the command fails and says why.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "clients/audio/signal.h"
#include "tests/clients/run.h"
#include "tests/sys/daemon.h"

enum { RATE = 8000, FRAMES = 20011 };

static const char CONFIG[] = "{\"model_type\": \"ssmd\", \"format_version\": 1, \"name\": \"half\","
                             "\"input\": {\"kind\": \"signal\", \"channels\": 1, \"sample_rate\": 8000},"
                             "\"output\": {\"kind\": \"signal\", \"channels\": 1, \"sample_rate\": 8000},"
                             "\"layers\": [{\"type\": \"scale\", \"value\": 0.5}]}";

static struct sys_daemon *daemon_;
static char directory[64];
static float samples[FRAMES];

/* A path in the test's directory; four may be in use at a time. */
static const char *at(const char *name)
{
    static char paths[4][160];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}

static void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void make_model(void)
{
    static const char tensors[16] = {8, 0, 0, 0, 0, 0, 0, 0, '{', '}', ' ', ' ', ' ', ' ', ' ', ' '};
    assert_int_equal(mkdir(at("models"), 0700), 0);
    assert_int_equal(mkdir(at("models/half"), 0700), 0);
    write_file(at("models/half/config.json"), CONFIG, strlen(CONFIG));
    write_file(at("models/half/model.safetensors"), tensors, sizeof tensors);
}

static int setup_group(void **state)
{
    (void)state;
    char lines[128];
    struct signal_writer *writer;
    const struct signal_spec spec = {.channels = 1, .rate = RATE};
    strcpy(directory, "/tmp/ssmctl-XXXXXX");
    assert_non_null(mkdtemp(directory));
    make_model();
    srand(11);
    for (int i = 0; i < FRAMES; i++)
        samples[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    write_file(at("in.f32"), samples, sizeof samples);
    assert_int_equal(signal_writer_open(&writer, at("in.wav"), &spec, NULL), 0);
    assert_int_equal(signal_writer_write(writer, samples, FRAMES, NULL), 0);
    assert_int_equal(signal_writer_close(writer, NULL), 0);
    snprintf(lines, sizeof lines, "models = %s/models\n", directory);
    return sys_daemon_start(&daemon_, lines);
}

static int teardown_group(void **state)
{
    (void)state;
    char command[128];
    int rc = sys_daemon_stop(daemon_, 5000);
    sys_daemon_free(daemon_);
    snprintf(command, sizeof command, "rm -r %s", directory);
    return rc != 0 || system(command) != 0;
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static int ssmctl(struct run *r, const char *input, const char *const *args)
{
    run_start(r, sys_daemon_endpoint(daemon_), input, args);
    return run_wait(r);
}

/* It must end with this code; what it printed is shown when it does not. */
static void expect(int code, const char *input, const char *const *args)
{
    struct run r;
    if (ssmctl(&r, input, args) != code)
        print_error("ssmctl %s: %s%s", args[0], r.out, r.err);
    assert_int_equal(r.code, code);
    run_fini(&r);
}

static void check_half(const char *path, size_t frames)
{
    struct signal_reader *reader;
    const struct signal_spec spec = {.channels = 1, .rate = RATE};
    static float got[FRAMES + 1];
    size_t n;
    assert_int_equal(signal_reader_open(&reader, path, &spec, NULL), 0);
    assert_int_equal(signal_reader_read(reader, got, FRAMES + 1, &n, NULL), 0);
    signal_reader_close(reader);
    assert_int_equal(n, frames);
    for (size_t i = 0; i < n; i++)
        assert_true(got[i] == 0.5f * samples[i]);
}

static json_t *parse(const char *text)
{
    json_error_t error;
    json_t *value = json_loads(text, 0, &error);
    if (!value)
        print_error("%s in: %s\n", error.text, text);
    assert_non_null(value);
    return value;
}

/* The daemon's answer to a query as JSON. */
static json_t *query(const char *const *args)
{
    struct run r;
    assert_int_equal(ssmctl(&r, NULL, args), 0);
    json_t *value = parse(r.out);
    run_fini(&r);
    return value;
}

static json_int_t stream_next(const char *id)
{
    struct run r;
    json_int_t next = -1;
    if (ssmctl(&r, NULL, ARGS("info", id, "--json")) == 0) {
        json_t *info = parse(r.out);
        next = json_integer_value(json_object_get(info, "next"));
        json_decref(info);
    }
    run_fini(&r);
    return next;
}

static void wait_until_beyond(const char *id, json_int_t frame)
{
    for (int i = 0; i < 500 && stream_next(id) <= frame; i++)
        usleep(10000);
    assert_true(stream_next(id) > frame);
}

/* ---- stream ------------------------------------------------------------------------------------------------------ */

static void stream__wav_through_scale__is_half_bit_for_bit(void **state)
{
    (void)state;
    expect(0, NULL, ARGS("stream", at("in.wav"), "--model", "half", "--stream", "wav", "--out", at("out.wav")));
    check_half(at("out.wav"), FRAMES);
    assert_int_equal(stream_next("wav"), -1); /* closed */
}

static void stream__stdin_to_stdout__is_half_bit_for_bit(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, sys_daemon_endpoint(daemon_), at("in.f32"),
              ARGS("stream", "-", "--model", "half", "--stream", "pipe", "--out", "-", "--chunk-ms", "3.3"));
    assert_int_equal(run_wait(&r), 0);
    assert_non_null(strstr(r.err, "samples")); /* the report is not in between */
    write_file(at("stdout.f32"), r.out, r.out_size);
    run_fini(&r);
    check_half(at("stdout.f32"), FRAMES);
}

static void stream__json__is_one_object_with_the_numbers(void **state)
{
    (void)state;
    json_t *o = query(ARGS("stream", at("in.f32"), "--model", "half", "--stream", "j", "--out", at("j.f32"), "--json"));
    assert_int_equal(json_integer_value(json_object_get(o, "samples")), FRAMES);
    assert_int_equal(json_integer_value(json_object_get(o, "results")), FRAMES);
    assert_true(json_real_value(json_object_get(o, "latency_p50_ms")) > 0);
    assert_true(json_real_value(json_object_get(o, "latency_p99_ms")) >=
                json_real_value(json_object_get(o, "latency_p50_ms")));
    assert_true(json_real_value(json_object_get(o, "real_time_factor")) > 0);
    json_decref(o);
}

static void stream__id_exists__is_refused_without_resume(void **state)
{
    (void)state;
    expect(0, NULL, ARGS("open", "taken", "--model", "half"));
    struct run r;
    assert_int_equal(
        ssmctl(&r, NULL, ARGS("stream", at("in.f32"), "--model", "half", "--stream", "taken", "--out", at("t.f32"))),
        EX_CANTCREAT);
    assert_non_null(strstr(r.err, "--resume"));
    assert_int_equal(access(at("t.f32"), F_OK), -1);
    run_fini(&r);
    expect(0, NULL, ARGS("close", "taken"));
}

static void stream__kept_and_resumed_from_stdin__output_is_continued(void **state)
{
    (void)state;
    const size_t half = 4 * (FRAMES / 2);
    write_file(at("first.f32"), samples, half);
    write_file(at("second.f32"), (const char *)samples + half, sizeof samples - half);
    expect(0, at("first.f32"), ARGS("stream", "-", "--model", "half", "--stream", "k", "--out", at("k.wav"), "--keep"));
    check_half(at("k.wav"), FRAMES / 2);
    expect(0, at("second.f32"),
           ARGS("stream", "-", "--model", "half", "--stream", "k", "--out", at("k.wav"), "--resume"));
    check_half(at("k.wav"), FRAMES);
}

static void stream__interrupted__keeps_what_came_and_resume_completes_it(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, sys_daemon_endpoint(daemon_), NULL,
              ARGS("stream", at("in.f32"), "--model", "half", "--stream", "i", "--out", at("i.f32"), "--realtime"));
    wait_until_beyond("i", 1000);
    kill(r.pid, SIGINT);
    assert_int_equal(run_wait(&r), 130);
    assert_non_null(strstr(r.err, "--resume"));
    run_fini(&r);
    struct stat st;
    assert_int_equal(stat(at("i.f32"), &st), 0);
    assert_true(st.st_size > 0);
    check_half(at("i.f32"), (size_t)st.st_size / 4);
    expect(0, NULL, ARGS("stream", at("in.f32"), "--model", "half", "--stream", "i", "--out", at("i.f32"), "--resume"));
    check_half(at("i.f32"), FRAMES);
}

/* The daemon still keeps the results that the first run took. */
static void stream__resumed_into_another_file__output_is_whole(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, sys_daemon_endpoint(daemon_), NULL,
              ARGS("stream", at("in.f32"), "--model", "half", "--stream", "o", "--out", at("o.f32"), "--realtime"));
    wait_until_beyond("o", 1000);
    kill(r.pid, SIGINT);
    assert_int_equal(run_wait(&r), 130);
    run_fini(&r);
    expect(0, NULL,
           ARGS("stream", at("in.f32"), "--model", "half", "--stream", "o", "--out", at("o2.f32"), "--resume"));
    check_half(at("o2.f32"), FRAMES);
}

/* While the pipe is open and silent, the results of what came through it are written. */
static void stream__live_pipe__results_do_not_wait_for_more_input(void **state)
{
    (void)state;
    struct stat st = {0};
    struct run r;
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
    int fd = open(at("fifo"), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    run_start(&r, sys_daemon_endpoint(daemon_), at("fifo"),
              ARGS("stream", "-", "--model", "half", "--stream", "live", "--out", at("live.f32")));
    assert_int_equal(write(fd, samples, 8000 * sizeof(float)), 8000 * sizeof(float));
    for (int i = 0; i < 2000 && st.st_size < (off_t)(8000 * sizeof(float)); i++) {
        usleep(10000);
        (void)!stat(at("live.f32"), &st);
    }
    assert_int_equal(st.st_size, 8000 * sizeof(float));
    close(fd);
    assert_int_equal(run_wait(&r), 0);
    run_fini(&r);
    check_half(at("live.f32"), 8000);
}

static void stream__not_a_number__names_file_and_frame(void **state)
{
    (void)state;
    float wrong[300] = {0};
    struct run r;
    wrong[250] = NAN;
    write_file(at("nan.f32"), wrong, sizeof(wrong));
    assert_int_equal(
        ssmctl(&r, NULL, ARGS("stream", at("nan.f32"), "--model", "half", "--stream", "nan", "--out", at("n.f32"))),
        EX_DATAERR);
    assert_non_null(strstr(r.err, "nan.f32: frame 250"));
    assert_non_null(strstr(r.err, "ssmctl close nan"));
    run_fini(&r);
    expect(0, NULL, ARGS("close", "nan"));
}

static void stream__daemon_killed__file_is_sent_again_whole(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, sys_daemon_endpoint(daemon_), NULL,
              ARGS("stream", at("in.wav"), "--model", "half", "--stream", "c", "--out", at("c.wav"), "--realtime"));
    wait_until_beyond("c", 1000);
    sys_daemon_signal(daemon_, SIGKILL);
    assert_int_equal(sys_daemon_wait(daemon_, 5000), 128 + SIGKILL);
    assert_int_equal(sys_daemon_restart(daemon_), 0);
    assert_int_equal(run_wait(&r), 0);
    assert_non_null(strstr(r.err, "lost the state"));
    run_fini(&r);
    check_half(at("c.wav"), FRAMES);
}

static void stream__daemon_killed__standard_input_fails_saying_why(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, sys_daemon_endpoint(daemon_), at("in.f32"),
              ARGS("stream", "-", "--model", "half", "--stream", "d", "--out", at("d.f32"), "--realtime"));
    wait_until_beyond("d", 1000);
    sys_daemon_signal(daemon_, SIGKILL);
    assert_int_equal(sys_daemon_wait(daemon_, 5000), 128 + SIGKILL);
    assert_int_equal(sys_daemon_restart(daemon_), 0);
    assert_int_equal(run_wait(&r), EX_IOERR);
    assert_non_null(strstr(r.err, "standard input cannot be sent again"));
    assert_null(strstr(r.err, "left open")); /* there is nothing to go on with */
    run_fini(&r);
}

static void stream__daemon_stays_away__fails(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, sys_daemon_endpoint(daemon_), NULL,
              ARGS("stream", at("in.f32"), "--model", "half", "--stream", "g", "--out", at("g.f32"), "--realtime",
                   "--give-up", "0.2"));
    wait_until_beyond("g", 1000);
    sys_daemon_signal(daemon_, SIGKILL);
    assert_int_equal(sys_daemon_wait(daemon_, 5000), 128 + SIGKILL);
    assert_int_equal(run_wait(&r), EX_UNAVAILABLE);
    assert_non_null(strstr(r.err, "not complete"));
    run_fini(&r);
    assert_int_equal(sys_daemon_restart(daemon_), 0);
}

static void stream__another_rate__is_resampled_and_said(void **state)
{
    (void)state;
    struct run r;
    struct stat st;
    assert_int_equal(ssmctl(&r, NULL,
                            ARGS("stream", at("in.f32"), "--rate", "16000", "--model", "half", "--stream", "r", "--out",
                                 at("r.f32"))),
                     0);
    assert_non_null(strstr(r.err, "resampling"));
    assert_non_null(strstr(r.err, "8000"));
    run_fini(&r);
    assert_int_equal(stat(at("r.f32"), &st), 0);
    assert_in_range(st.st_size / 4, FRAMES / 2 - 2, FRAMES / 2 + 2);
}

static void stream__rate_or_channels_that_the_file_contradicts__are_refused_with_both(void **state)
{
    (void)state;
    struct run r;
    assert_int_equal(ssmctl(&r, NULL,
                            ARGS("stream", at("in.wav"), "--rate", "16000", "--model", "half", "--stream", "said",
                                 "--out", at("said.f32"))),
                     EX_USAGE);
    assert_non_null(strstr(r.err, "8000"));
    assert_non_null(strstr(r.err, "16000"));
    run_fini(&r);
    expect(EX_USAGE, NULL,
           ARGS("stream", at("in.wav"), "--channels", "2", "--model", "half", "--stream", "said", "--out",
                at("said.f32")));
    expect(0, NULL,
           ARGS("stream", at("in.wav"), "--channels", "1", "--rate", "8000", "--model", "half", "--stream", "said",
                "--out", at("said.f32")));
}

static void stream__output_of_another_run__is_refused_and_left_whole(void **state)
{
    (void)state;
    struct run first, second;
    run_start(
        &first, sys_daemon_endpoint(daemon_), NULL,
        ARGS("stream", at("in.wav"), "--model", "half", "--stream", "one", "--out", at("both.wav"), "--realtime"));
    wait_until_beyond("one", 1000);
    assert_int_equal(
        ssmctl(&second, NULL,
               ARGS("stream", at("in.wav"), "--model", "half", "--stream", "two", "--out", at("both.wav"))),
        EX_CANTCREAT);
    assert_non_null(strstr(second.err, "another program is writing"));
    assert_int_equal(stream_next("two"), -1); /* not left behind */
    run_fini(&second);
    assert_int_equal(run_wait(&first), 0);
    run_fini(&first);
    check_half(at("both.wav"), FRAMES);
}

static void stream__tokens_to_a_signal_model__is_refused(void **state)
{
    (void)state;
    write_file(at("t.i32"), samples, 400);
    expect(EX_DATAERR, NULL, ARGS("stream", at("t.i32"), "--model", "half", "--stream", "t", "--out", at("t.f32")));
    assert_int_equal(stream_next("t"), -1); /* not left behind */
}

static void stream__not_finite__is_refused_and_named(void **state)
{
    (void)state;
    float bad[100] = {0};
    uint32_t nan_bits = 0x7fc00000u;
    struct run r;
    memcpy(&bad[77], &nan_bits, 4);
    write_file(at("nan.f32"), bad, sizeof bad);
    assert_int_equal(
        ssmctl(&r, NULL,
               ARGS("stream", at("nan.f32"), "--model", "half", "--stream", "nan", "--out", at("nan.out.f32"))),
        EX_DATAERR);
    run_fini(&r);
    expect(0, NULL, ARGS("close", "nan", "--take-over"));
}

static void stream__owned_by_a_connected_client__needs_take_over(void **state)
{
    (void)state;
    struct run r;
    run_start(&r, sys_daemon_endpoint(daemon_), NULL,
              ARGS("stream", at("in.f32"), "--model", "half", "--stream", "o", "--out", at("o.f32"), "--realtime"));
    wait_until_beyond("o", 1000);
    expect(EX_NOPERM, NULL, ARGS("reset", "o"));
    expect(0, NULL, ARGS("close", "o", "--take-over"));
    assert_int_equal(run_wait(&r), EX_NOPERM);
    assert_non_null(strstr(r.err, "another writer"));
    run_fini(&r);
}

/* ---- arguments --------------------------------------------------------------------------------------------------- */

static void arguments__wrong__are_usage_errors(void **state)
{
    (void)state;
    const char *const *wrong[] = {
        ARGS("fly"),
        ARGS("stream"),
        ARGS("stream", "x.wav"),
        ARGS("stream", "x.wav", "--model", "half", "--stream", "s"),
        ARGS("stream", "x.wav", "--model", "half", "--out", "o.wav"),
        ARGS("stream", "x.wav", "--stream", "s", "--out", "o.wav"),
        ARGS("stream", "x.wav", "y.wav", "--model", "half", "--stream", "s", "--out", "o.wav"),
        ARGS("stream", "x.wav", "--model", "half", "--stream", "", "--out", "o.wav"),
        ARGS("stream", "x.wav", "--model", "half", "--stream", "s", "--out", "o.wav", "--chunk-ms", "nan"),
        ARGS("stream", "x.wav", "--model", "half", "--stream", "s", "--out", "o.wav", "--rate", "-5"),
        ARGS("stream", "x.wav", "--model", "half", "--stream", "s", "--out", "o.wav", "--format", "s24"),
        ARGS("stream", "x.wav", "--model", "half", "--stream", "s", "--out", "o.wav", "--channels", "0"),
        ARGS("stream", "x.wav", "--model", "half", "--stream", "s", "--out", "o.wav", "--frobnicate"),
        ARGS("read"),
        ARGS("read", "s", "--from", "1x"),
        ARGS("read", "s", "--from", "-1"),
        ARGS("watch", "a", "b"),
        ARGS("watch", "--csv", "--raw"),
        ARGS("open", "x"),
        ARGS("close"),
        ARGS("reset", "a", "b"),
        ARGS("list", "a", "b"),
        ARGS("info"),
        ARGS("info", ""),
        ARGS("stats", "x"),
        ARGS("models", "x"),
        ARGS("ping", "-n", "0"),
        ARGS("list", "--timeout", "soon"),
        ARGS("list", "--endpoint"),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        expect(EX_USAGE, NULL, wrong[i]);
}

static void arguments__output_is_the_input__is_refused_and_left_whole(void **state)
{
    (void)state;
    expect(EX_USAGE, NULL, ARGS("stream", at("in.wav"), "--model", "half", "--stream", "s", "--out", at("in.wav")));
    struct stat st;
    assert_int_equal(stat(at("in.wav"), &st), 0);
    assert_true(st.st_size > 4 * FRAMES);
}

static void arguments__missing_input__is_no_input(void **state)
{
    (void)state;
    expect(EX_NOINPUT, NULL, ARGS("stream", at("none.wav"), "--model", "half", "--stream", "s", "--out", at("o.wav")));
    expect(EX_NOINPUT, NULL, ARGS("stream", directory, "--model", "half", "--stream", "s", "--out", at("o.wav")));
}

static void arguments__unknown_model__is_refused(void **state)
{
    (void)state;
    expect(EX_UNAVAILABLE, NULL,
           ARGS("stream", at("in.wav"), "--model", "none", "--stream", "s", "--out", at("o.wav")));
    assert_int_equal(access(at("o.wav"), F_OK), -1);
    struct run r;
    ssmctl(&r, NULL, ARGS("stream", at("in.wav"), "--model", "absent", "--stream", "s", "--out", at("o.wav")));
    assert_non_null(strstr(r.err, "absent: "));
    run_fini(&r);
}

static void endpoint__nobody_there__is_unavailable(void **state)
{
    (void)state;
    struct run r;
    assert_int_equal(ssmctl(&r, NULL, ARGS("--endpoint", "ipc:///tmp/no-ssmd-here", "-t", "0.1", "list")),
                     EX_UNAVAILABLE);
    assert_non_null(strstr(r.err, "/tmp/no-ssmd-here"));
    run_fini(&r);
}

static void help__of_every_command__is_printed(void **state)
{
    (void)state;
    const char *const commands[] = {"stream", "read", "watch", "open",   "close", "reset",
                                    "list",   "info", "stats", "models", "ping"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct run r;
        assert_int_equal(ssmctl(&r, NULL, ARGS(commands[i], "--help")), 0);
        assert_non_null(strstr(r.out, commands[i]));
        assert_true(strlen(r.out) > 60);
        run_fini(&r);
    }
    expect(0, NULL, ARGS("--help"));
    expect(0, NULL, ARGS("--version"));
}

/* ---- queries ----------------------------------------------------------------------------------------------------- */

static void queries__json__can_be_parsed_and_is_true(void **state)
{
    (void)state;
    json_t *o = query(ARGS("open", "q1", "--model", "half", "--json"));
    assert_string_equal(json_string_value(json_object_get(o, "id")), "q1");
    json_int_t epoch = json_integer_value(json_object_get(o, "epoch"));
    json_decref(o);
    json_decref(query(ARGS("open", "q2", "--model", "forecast", "--rate", "100", "--json")));
    o = query(ARGS("list", "q", "--json"));
    assert_int_equal(json_array_size(o), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(o, 1), "id")), "q2");
    json_decref(o);
    o = query(ARGS("info", "q2", "--json"));
    assert_int_equal(json_integer_value(json_object_get(o, "out_channels")), 3);
    assert_true(json_is_false(json_object_get(o, "attached")));
    json_decref(o);
    o = query(ARGS("reset", "q1", "--json"));
    assert_true(json_integer_value(json_object_get(o, "epoch")) > epoch);
    json_decref(o);
    o = query(ARGS("stats", "--json"));
    assert_true(json_is_integer(json_object_get(o, "frames_applied")));
    assert_true(json_is_object(json_object_get(o, "by_model")));
    assert_true(json_is_real(json_object_get(json_object_get(json_object_get(o, "histograms"), "step"), "p99.9")));
    json_decref(o);
    o = query(ARGS("models", "--json"));
    assert_true(json_array_size(o) >= 3);
    json_decref(o);
    o = query(ARGS("ping", "--json", "-n", "1"));
    assert_string_equal(json_string_value(json_object_get(o, "durability")), "none");
    json_decref(o);
    json_decref(query(ARGS("close", "q1", "--json")));
    json_decref(query(ARGS("close", "q2", "--json")));
    o = query(ARGS("list", "q", "--json"));
    assert_int_equal(json_array_size(o), 0);
    json_decref(o);
}

static void queries__unknown_stream__is_no_input(void **state)
{
    (void)state;
    expect(EX_NOINPUT, NULL, ARGS("info", "nobody"));
    expect(EX_NOINPUT, NULL, ARGS("close", "nobody"));
    expect(EX_NOINPUT, NULL, ARGS("reset", "nobody"));
    expect(EX_NOINPUT, NULL, ARGS("read", "nobody"));
}

/* ---- read and watch ---------------------------------------------------------------------------------------------- */

static void read__from_an_index__gives_the_results_from_there(void **state)
{
    (void)state;
    struct run r;
    expect(0, NULL, ARGS("stream", at("in.f32"), "--model", "half", "--stream", "rd", "--out", at("rd.f32"), "--keep"));
    assert_int_equal(ssmctl(&r, NULL, ARGS("read", "rd", "--from", "20000", "--csv", "-n", "11")), 0);
    const char *line = r.out;
    for (uint64_t i = 20000; i < FRAMES; i++) {
        unsigned long long index;
        float value;
        assert_int_equal(sscanf(line, "rd,%llu,%f", &index, &value), 2);
        assert_int_equal(index, i);
        assert_true(value == 0.5f * samples[i]);
        line = strchr(line, '\n') + 1;
    }
    run_fini(&r);
    expect(EX_NOINPUT, NULL, ARGS("read", "rd", "--from", "999999", "-n", "1"));
    expect(0, NULL, ARGS("close", "rd"));
}

static void read__while_it_is_written__gets_everything_until_the_end(void **state)
{
    (void)state;
    struct run writer, reader;
    run_start(&reader, sys_daemon_endpoint(daemon_), NULL, ARGS("read", "live", "--prefix", "--csv", "-n", "20011"));
    usleep(300000); /* a prefix read begins with what comes next */
    run_start(
        &writer, sys_daemon_endpoint(daemon_), NULL,
        ARGS("stream", at("in.f32"), "--model", "half", "--stream", "live1", "--out", at("live.f32"), "--realtime"));
    assert_int_equal(run_wait(&writer), 0);
    assert_int_equal(run_wait(&reader), 0);
    size_t lines = 0;
    for (const char *c = reader.out; *c; c++)
        lines += *c == '\n';
    assert_int_equal(lines, FRAMES);
    assert_string_equal(reader.err, "");
    run_fini(&writer);
    run_fini(&reader);
}

static void watch__tap__publishes_results_with_their_index(void **state)
{
    (void)state;
    struct run writer, watcher;
    run_start(&watcher, sys_daemon_endpoint(daemon_), NULL, ARGS("watch", "w", "--json", "-n", "3"));
    usleep(300000);
    run_start(&writer, sys_daemon_endpoint(daemon_), NULL,
              ARGS("stream", at("in.f32"), "--model", "half", "--stream", "w1", "--out", at("w.f32"), "--realtime"));
    assert_int_equal(run_wait(&writer), 0);
    assert_int_equal(run_wait(&watcher), 0);
    json_t *first = json_loads(watcher.out, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(first);
    assert_string_equal(json_string_value(json_object_get(first, "id")), "w1");
    json_int_t index = json_integer_value(json_object_get(first, "index"));
    double value = json_real_value(json_array_get(json_array_get(json_object_get(first, "results"), 0), 0));
    assert_true((float)value == 0.5f * samples[index]);
    json_decref(first);
    run_fini(&writer);
    run_fini(&watcher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream__wav_through_scale__is_half_bit_for_bit),
        cmocka_unit_test(stream__stdin_to_stdout__is_half_bit_for_bit),
        cmocka_unit_test(stream__json__is_one_object_with_the_numbers),
        cmocka_unit_test(stream__id_exists__is_refused_without_resume),
        cmocka_unit_test(stream__resumed_into_another_file__output_is_whole),
        cmocka_unit_test(stream__live_pipe__results_do_not_wait_for_more_input),
        cmocka_unit_test(stream__not_a_number__names_file_and_frame),
        cmocka_unit_test(stream__kept_and_resumed_from_stdin__output_is_continued),
        cmocka_unit_test(stream__interrupted__keeps_what_came_and_resume_completes_it),
        cmocka_unit_test(stream__daemon_killed__file_is_sent_again_whole),
        cmocka_unit_test(stream__daemon_killed__standard_input_fails_saying_why),
        cmocka_unit_test(stream__daemon_stays_away__fails),
        cmocka_unit_test(stream__another_rate__is_resampled_and_said),
        cmocka_unit_test(stream__rate_or_channels_that_the_file_contradicts__are_refused_with_both),
        cmocka_unit_test(stream__output_of_another_run__is_refused_and_left_whole),
        cmocka_unit_test(stream__tokens_to_a_signal_model__is_refused),
        cmocka_unit_test(stream__not_finite__is_refused_and_named),
        cmocka_unit_test(stream__owned_by_a_connected_client__needs_take_over),
        cmocka_unit_test(arguments__wrong__are_usage_errors),
        cmocka_unit_test(arguments__output_is_the_input__is_refused_and_left_whole),
        cmocka_unit_test(arguments__missing_input__is_no_input),
        cmocka_unit_test(arguments__unknown_model__is_refused),
        cmocka_unit_test(endpoint__nobody_there__is_unavailable),
        cmocka_unit_test(help__of_every_command__is_printed),
        cmocka_unit_test(queries__json__can_be_parsed_and_is_true),
        cmocka_unit_test(queries__unknown_stream__is_no_input),
        cmocka_unit_test(read__from_an_index__gives_the_results_from_there),
        cmocka_unit_test(read__while_it_is_written__gets_everything_until_the_end),
        cmocka_unit_test(watch__tap__publishes_results_with_their_index),
    };
    return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
