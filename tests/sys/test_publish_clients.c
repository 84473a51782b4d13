/* SPDX-License-Identifier: Apache-2.0
 *
 * Publishing through libssmclient and ssmctl, against the real daemon.
 */
#include "tests/sys/publishing.h"
#include "tests/sys/serving.h"
#include "tests/sys/states.h"
#include "tests/clients/run.h"
#include "clients/c/ssmclient.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#define LINES "publish_endpoint = ipc://@/ssmd-publish.sock\npublish = s model=twice gap=zero source_ms=1\n"

enum { FRAMES = 1000 };

static float samples[FRAMES];

static int group_open(void **state)
{
    for (int i = 0; i < FRAMES; i++)
        samples[i] = (float)(i % 37) - 11.5f;
    return states_group_open(state);
}

static struct ssmc_publisher *publisher(const struct sys_daemon *d)
{
    struct ssmc_publisher_options options = {.timeout_ms = WIRE_MS};
    struct ssmc_publisher *p;
    char endpoint[300], err[600];

    assert_int_equal(ssmc_publish_endpoint(endpoint, sizeof(endpoint), sys_daemon_endpoint(d)), SSMC_OK);
    options.endpoint = endpoint;
    if (ssmc_publisher_open(&p, &options, err, sizeof(err)) != SSMC_OK)
        fail_msg("%s", err);
    return p;
}

static int publish(struct ssmc_publisher *p, const char *id, uint64_t first, uint32_t frames)
{
    struct ssmc_frames f = {
        .first = first, .samples = samples + first % FRAMES, .format = SSMC_F32, .frames = frames, .channels = 1};

    return ssmc_publish(p, id, 0, &f);
}

/* Results 0 to `frames` are twice the samples, but for those from `from` to `to`, which are 0. */
static void check(struct wire *w, const char *id, uint32_t frames, uint32_t from, uint32_t to)
{
    const struct wire_stream *s;

    WIRE_UNTIL(w, (s = wire_find(w, id)) != NULL && s->results >= frames);
    for (uint32_t i = 0; i < frames; i++)
        assert_true(s->out[i] == (i >= from && i < to ? 0 : 2 * samples[i]));
}

static struct wire *reader(const struct sys_daemon *d)
{
    struct wire *w = wire_new(sys_daemon_endpoint(d), "reader");
    uint64_t from = 0;

    assert_int_equal(wire_read(w, "s", true, &from, 1 << 24), SSMD__CODE__OK);
    return w;
}

static void client__publishes__and_a_gap_is_filled(void **state)
{
    struct sys_daemon *d = serving_start(LINES);
    struct wire *w = reader(d);
    struct ssmc_publisher *p = publisher(d);

    (void)state;
    assert_int_equal(publish(p, "s1", 0, 100), SSMC_OK);
    assert_int_equal(publish(p, "s1", 150, 850), SSMC_OK);
    check(w, "s1", FRAMES, 100, 150);
    assert_int_equal(publish(p, "", 0, 1), SSMC_INVAL);
    assert_int_equal(publish(p, "s1", 0, 0), SSMC_INVAL);
    ssmc_publisher_free(p, 0);
    wire_free(w);
    serving_stop(d);
}

static void client__while_the_daemon_is_away__is_told_and_goes_on(void **state)
{
    struct sys_daemon *d = serving_start(LINES);
    struct ssmc_publisher *p = publisher(d);
    struct wire *w;
    long until = wire_now_ms() + WIRE_MS;
    int rc;

    (void)state;
    assert_int_equal(publish(p, "s1", 0, 100), SSMC_OK);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    while ((rc = publish(p, "s1", 100, 100)) == SSMC_OK && wire_now_ms() < until)
        continue;
    assert_true(rc == SSMC_IO || rc == SSMC_FULL);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = reader(d);
    while (publish(p, "s1", 0, 100) != SSMC_OK && wire_now_ms() < until)
        usleep(1000);
    check(w, "s1", 100, 0, 0);
    ssmc_publisher_free(p, 0);
    wire_free(w);
    serving_stop(d);
}

static void client__with_nobody_there__says_so(void **state)
{
    struct ssmc_publisher_options options = {.endpoint = "ipc:///tmp/ssmd-nobody.sock", .timeout_ms = 50};
    struct ssmc_publisher *p;
    char err[600];

    (void)state;
    assert_int_equal(ssmc_publisher_open(&p, &options, err, sizeof(err)), SSMC_TIMEOUT);
    assert_null(p);
    assert_non_null(strstr(err, "ssmd-nobody"));
    assert_int_equal(ssmc_publish_endpoint(err, sizeof(err), "tcp://127.0.0.1:7000"), SSMC_INVAL);
}

/* ssmctl with these words. */
static void ctl_says(const struct sys_daemon *d, const char *input, int code, const char *says, const char *const *args)
{
    struct run r;

    run_start(&r, sys_daemon_endpoint(d), input, args);
    if (run_wait(&r) != code || (!strstr(r.out, says) && !strstr(r.err, says)))
        fail_msg("%s %s: %d\n%s%s", args[0], args[1], r.code, r.out, r.err);
    run_fini(&r);
}

#define CTL(d, input, code, says, ...) ctl_says(d, input, code, says, (const char *const[]){__VA_ARGS__, NULL})

static void ssmctl__publish__sends_a_file_and_standard_input(void **state)
{
    struct sys_daemon *d = serving_start(LINES);
    struct wire *w = reader(d);
    char path[300];
    FILE *file;

    (void)state;
    snprintf(path, sizeof(path), "%s/in.f32", sys_daemon_directory(d));
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(samples, sizeof(float), FRAMES, file), FRAMES);
    fclose(file);
    CTL(d, NULL, EX_OK, "1000 frames published, 0 dropped", "publish", path, "--stream", "s1", "--fast");
    check(w, "s1", FRAMES, 0, 0);
    CTL(d, path, EX_OK, "\"published\":1000", "--json", "publish", "-", "-s", "s2", "--rate", "1000", "--first", "7");
    check(w, "s2", FRAMES, 0, 0);
    CTL(d, NULL, EX_USAGE, "--rate is needed", "publish", path, "--stream", "s1");
    CTL(d, NULL, EX_USAGE, "--stream is missing", "publish", path);
    CTL(d, NULL, EX_NOINPUT, "absent", "publish", "absent.f32", "-s", "s1", "--fast");
    CTL(d, NULL, EX_UNAVAILABLE, "nobody listens", "-t", "0.05", "publish", path, "-s", "s1", "--fast", "--to",
        "ipc:///tmp/ssmd-nobody.sock");
    CTL(d, NULL, EX_OK, "is closed", "close", "s2", "--take-over");
    wire_free(w);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client__publishes__and_a_gap_is_filled),
        cmocka_unit_test(client__while_the_daemon_is_away__is_told_and_goes_on),
        cmocka_unit_test(client__with_nobody_there__says_so),
        cmocka_unit_test(ssmctl__publish__sends_a_file_and_standard_input),
    };

    return cmocka_run_group_tests(tests, group_open, states_group_close);
}
