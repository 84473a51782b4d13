/* SPDX-License-Identifier: Apache-2.0
 *
 * States as values through libssmclient and ssmctl: what a program or a person does with them, against the real daemon.
 */
#include "tests/sys/serving.h"
#include "tests/sys/states.h"
#include "clients/c/ssmclient.h"
#include "tests/ssm/making.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct ssmc *client_connect(const struct sys_daemon *d)
{
    struct ssmc_options options = {.endpoint = sys_daemon_endpoint(d), .timeout_ms = WIRE_MS};
    struct ssmc *c;
    char err[512];

    if (ssmc_connect(&c, &options, err, sizeof(err)) != SSMC_OK)
        fail_msg("%s", err);
    return c;
}

static struct ssmc_stream *client_open(struct ssmc *c, const char *id, enum ssmc_open_mode mode, uint32_t interval,
                                       uint32_t depth)
{
    struct ssmc_open_options open = {.id = id,
                                     .model = states_golden->name,
                                     .mode = mode,
                                     .results = 1,
                                     .results_from = SSMC_OLDEST,
                                     .history_interval = interval,
                                     .history_depth = depth};
    struct ssmc_stream *s;

    if (ssmc_open(c, &s, &open, WIRE_MS) != SSMC_OK)
        fail_msg("%s", ssmc_error_text(c));
    return s;
}

/* Pushes frames from..to-1; takes results until *next is `until`, which must be the library's. */
static void pass(struct ssmc *c, struct ssmc_stream *s, uint64_t from, uint64_t to, uint64_t *next, uint64_t until)
{
    struct ssmc_result result;

    while (from < to || *next < until) {
        uint32_t n = to - from < 31 ? (uint32_t)(to - from) : 31;

        if (n > 0 && ssmc_push(s, SSMC_F32, states_in_at(states_golden, from), n, 0, 0) == SSMC_OK)
            from += n;
        if (ssmc_poll(c, n > 0 ? 0 : 20) < 0)
            fail_msg("%s", ssmc_error_text(c));
        while (*next < until && ssmc_next(s, &result) == 1) {
            assert_int_equal(result.first, *next);
            assert_memory_equal(result.samples, states_golden->step + *next * states_golden->out_channels,
                                result.frames * states_golden->out_channels * sizeof(float));
            *next += result.frames;
        }
    }
}

static void client__snapshot_restore_and_fork__go_on_with_the_same_bits(void **state)
{
    struct sys_daemon *d = serving_start(""), *e = serving_start("");
    struct ssmc *writer = client_connect(d), *other = client_connect(d), *away = client_connect(e);
    struct ssmc_stream *s = client_open(writer, "s", SSMC_CREATE, 0, 0), *t;
    struct ssmc_stream_info info;
    struct ssmc_image image;
    uint64_t next = 0, forked = 123, restored = 123;

    (void)state;
    pass(writer, s, 0, 123, &next, 123);
    assert_int_equal(ssmc_snapshot(other, "s", 0, &image, WIRE_MS), SSMC_OK);
    assert_int_equal(image.index, 123);
    assert_int_equal(ssmc_fork(other, "s", 0, "f", 0, &info, WIRE_MS), SSMC_OK);
    assert_int_equal(info.next, 123);
    assert_int_equal(ssmc_fork(other, "s", 0, "f", 0, &info, WIRE_MS), SSMC_REFUSED);
    assert_int_equal(ssmc_error_code(other), SSMD__CODE__EXISTS);
    assert_int_equal(ssmc_restore(away, image.bytes, image.size, "r", 0, &info, WIRE_MS), SSMC_OK);
    assert_int_equal(info.next, 123);
    ((unsigned char *)image.bytes)[image.size / 2] ^= 1;
    assert_int_equal(ssmc_restore(away, image.bytes, image.size, "q", 0, NULL, WIRE_MS), SSMC_REFUSED);
    assert_int_equal(ssmc_error_code(away), SSMD__CODE__BAD_IMAGE);
    free(image.bytes);
    pass(writer, s, 123, 300, &next, 300);
    t = client_open(other, "f", SSMC_RESUME, 0, 0);
    pass(other, t, 123, 300, &forked, 300);
    t = client_open(away, "r", SSMC_RESUME, 0, 0);
    restored = info.result_first; /* none were received */
    pass(away, t, 123, 300, &restored, 300);
    assert_int_equal(ssmc_snapshot(other, "nobody", 0, &image, WIRE_MS), SSMC_REFUSED);
    assert_null(image.bytes);
    ssmc_free(writer);
    ssmc_free(other);
    ssmc_free(away);
    serving_stop(d);
    serving_stop(e);
}

static void client__rollback__gives_the_results_anew(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct ssmc *c = client_connect(d);
    struct ssmc_stream *s = client_open(c, "s", SSMC_CREATE, 64, 128);
    struct ssmc_stream_info info;
    uint64_t next = 0;

    (void)state;
    ssmc_stream_info(s, &info);
    assert_int_equal(info.history_interval, 64);
    assert_true(info.history_bytes > 0);
    pass(c, s, 0, 250, &next, 200); /* fifty results are on their way or wait here */
    assert_int_equal(ssmc_rollback(s, 230, WIRE_MS), SSMC_OK);
    pass(c, s, 230, 230, &next, 230);
    assert_int_equal(ssmc_rollback(s, 210, WIRE_MS), SSMC_OK);
    ssmc_stream_info(s, &info);
    assert_int_equal(info.next, 210);
    next = 210;
    pass(c, s, 210, 400, &next, 400);
    assert_int_equal(ssmc_rollback(s, 100, WIRE_MS), SSMC_REFUSED);
    assert_int_equal(ssmc_error_code(c), SSMD__CODE__TOO_OLD);
    pass(c, s, 400, 450, &next, 450);
    ssmc_free(c);
    serving_stop(d);
}

/* ---- ssmctl ------------------------------------------------------------------------------------------------------ */

/* Its exit code; `out` has what it said. */
static int ctl(const struct sys_daemon *d, char out[4096], const char *arguments)
{
    const char *build = getenv("BUILD");
    char command[1024], here[256];
    size_t n;
    FILE *pipe;
    int status;

    assert_non_null(getcwd(here, sizeof(here)));
    snprintf(command, sizeof(command), "cd %s && timeout 60 %s/%s/bin/ssmctl --endpoint %s %s 2>&1",
             sys_daemon_directory(d), build && build[0] == '/' ? "" : here, build && *build ? build : "build",
             sys_daemon_endpoint(d), arguments);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    n = fread(out, 1, 4095, pipe);
    out[n] = '\0';
    status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void ctl_says(const struct sys_daemon *d, int code, const char *says, const char *arguments)
{
    char out[4096];
    int got = ctl(d, out, arguments);

    if (got != code || !strstr(out, says))
        fail_msg("ssmctl %s: exit %d (expected %d), should say '%s':\n%s", arguments, got, code, says, out);
}

static void ssmctl__a_state_through_a_file_a_fork_and_back__each_says_where_it_stands(void **state)
{
    struct sys_daemon *d = serving_start("");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = states_open_with_history(w, "s", states_golden->name, 64, 128);
    char path[128];

    (void)state;
    states_push(w, s, states_golden, 0, 100, 0);
    WIRE_UNTIL(w, s->next == 100);
    ctl_says(d, EX_OK, "s after frame 100", "snapshot s s.ssmd");
    ctl_says(d, EX_OK, "\"index\":100", "--json snapshot s s.ssmd");
    ctl_says(d, EX_CANTCREAT, "exists", "restore s.ssmd");
    ctl_says(d, EX_OK, "t is restored", "restore s.ssmd t");
    ctl_says(d, EX_OK, "f is forked", "fork s f");
    ctl_says(d, EX_OK, "\"next\":100", "--json info t");
    ctl_says(d, EX_NOINPUT, "absent", "restore absent");
    ctl_says(d, EX_NOINPUT, "no such stream", "snapshot nobody n.ssmd");
    snprintf(path, sizeof(path), "%s/n.ssmd", sys_daemon_directory(d));
    assert_int_equal(access(path, F_OK), -1);
    ctl_says(d, EX_DATAERR, "not the image of a stream", "restore ssmd.conf u");
    ctl_says(d, EX_NOPERM, "take", "rollback s 70"); /* a client is connected to it */
    ctl_says(d, EX_OK, "s went back", "rollback s 70 --take-over");
    ctl_says(d, EX_OK, "\"next\":70", "--json info s");
    ctl_says(d, EX_NOINPUT, "no history", "rollback f 70");
    ctl_says(d, EX_OK, "is open", "open h --model twice --history 64:1000");
    ctl_says(d, EX_OK, "\"history_interval\":64", "--json info h");
    ctl_says(d, EX_USAGE, "INTERVAL:DEPTH", "open i --model twice --history 65:1000");
    ctl_says(d, EX_USAGE, "needed", "fork s");
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client__snapshot_restore_and_fork__go_on_with_the_same_bits),
        cmocka_unit_test(client__rollback__gives_the_results_anew),
        cmocka_unit_test(ssmctl__a_state_through_a_file_a_fork_and_back__each_says_where_it_stands),
    };

    return cmocka_run_group_tests(tests, states_group_open, states_group_close);
}
