/* SPDX-License-Identifier: Apache-2.0
 *
 * Rates and versions through libssmclient and ssmctl: what a program or a person does with them, against the real daemon.
 */
#include "clients/audio/signal.h"
#include "clients/c/ssmclient.h"
#include "tests/clients/run.h"
#include "tests/sys/versions.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

static struct ssmc *client_connect(const struct versions_site *site)
{
    struct ssmc_options options = {.endpoint = sys_daemon_endpoint(site->daemon), .timeout_ms = WIRE_MS};
    struct ssmc *c;
    char err[512];

    if (ssmc_connect(&c, &options, err, sizeof(err)) != SSMC_OK)
        fail_msg("%s", err);
    return c;
}

/* Pushes n zeros and takes their results, which begin at `first` in this epoch. */
static void pass(struct ssmc *c, struct ssmc_stream *s, uint64_t first, uint32_t n)
{
    float zeros[64] = {0};
    struct ssmc_result result;
    uint64_t next = first;

    assert_true(n <= 64);
    assert_int_equal(ssmc_push(s, SSMC_F32, zeros, n, 0, 0), SSMC_OK);
    while (next < first + n) {
        if (ssmc_poll(c, 50) < 0)
            fail_msg("%s", ssmc_error_text(c));
        while (ssmc_next(s, &result) == 1) {
            assert_int_equal(result.first, next);
            next += result.frames;
        }
    }
}

static void count_models(void *context, const struct ssmc_model_info *m)
{
    if (strcmp(m->name, "wave") == 0 && m->rate == 50 && m->config_rate == VERSIONS_RATE && m->modes_zeroed == 1)
        ++*(int *)context;
}

static void client__native_rate_move_and_reload__do_what_they_say(void **state)
{
    struct versions_site site;
    struct ssmc_open_options open = {.id = "c", .model = "wave", .rate = 50, .results = 1};
    struct ssmc_stream_info info;
    struct ssmc_reload reload;
    struct ssmc_stream *s;
    struct ssmc *c;
    int found = 0;

    (void)state;
    versions_open(&site, "");
    c = client_connect(&site);
    assert_int_equal(ssmc_open(c, &s, &open, WIRE_MS), SSMC_REFUSED);
    assert_int_equal(ssmc_error_code(c), SSMD__CODE__RATE);
    open.native_rate = 1;
    assert_int_equal(ssmc_open(c, &s, &open, WIRE_MS), SSMC_OK);
    ssmc_stream_info(s, &info);
    assert_true(info.rate == 50 && info.config_rate == VERSIONS_RATE && info.modes_zeroed == 1 && info.version == 1);
    assert_int_equal(ssmc_models(c, count_models, &found, WIRE_MS), SSMC_OK);
    assert_int_equal(found, 1);
    pass(c, s, 0, 40);
    assert_int_equal(ssmc_move(s, WIRE_MS), SSMC_OK); /* nothing newer */
    pass(c, s, 40, 20);
    versions_write_wave(&site, "wave", 2, 1);
    assert_int_equal(ssmc_reload(c, "wave", &reload, WIRE_MS), SSMC_OK);
    assert_int_equal(reload.added, 1);
    assert_int_equal(ssmc_move(s, WIRE_MS), SSMC_OK);
    ssmc_stream_info(s, &info);
    assert_true(info.version == 2 && info.newest_version == 2 && info.next == 0);
    pass(c, s, 0, 40);
    versions_write_broken(&site, "wave");
    assert_int_equal(ssmc_reload(c, NULL, &reload, WIRE_MS), SSMC_OK);
    assert_int_equal(reload.failed, 1);
    assert_non_null(strstr(reload.failure, "config.json"));
    assert_int_equal(ssmc_reload(c, "none", &reload, WIRE_MS), SSMC_REFUSED);
    ssmc_free(c);
    versions_close(&site);
}

/* ---- ssmctl ------------------------------------------------------------------------------------------------------ */

/* Runs it with these arguments; it must exit so, and print (to either) what is said. */
static void ctl_check(const struct versions_site *site, int code, const char *says, const char *const *args)
{
    struct run r;

    run_start(&r, sys_daemon_endpoint(site->daemon), NULL, args);
    if (run_wait(&r) != code || (!strstr(r.out, says) && !strstr(r.err, says)))
        fail_msg("%s: exit %d (expected %d), should say: %s\n%s%s", args[0], r.code, code, says, r.out, r.err);
    run_fini(&r);
}

#define CTL(site, code, says, ...) ctl_check(&(site), code, says, (const char *const[]){__VA_ARGS__, NULL})

static const char *at(const struct versions_site *site, const char *name)
{
    static char path[2][256];
    static int turn;

    snprintf(path[turn ^= 1], sizeof(path[0]), "%s/%s", site->dir.path, name);
    return path[turn];
}

static void write_recording(const char *path, double rate, uint32_t frames)
{
    struct signal_spec spec = {.channels = 1, .rate = rate};
    struct signal_error err;
    struct signal_writer *w;

    assert_int_equal(signal_writer_open(&w, path, &spec, &err), SIGNAL_OK);
    for (uint32_t t = 0; t < frames; t++)
        assert_int_equal(signal_writer_write(w, &(float){(float)(t % 7) / 7}, 1, &err), SIGNAL_OK);
    assert_int_equal(signal_writer_close(w, &err), SIGNAL_OK);
}

static void ssmctl__recording_of_another_rate__is_resampled_unless_told_otherwise(void **state)
{
    struct versions_site site;

    (void)state;
    versions_open(&site, "");
    versions_write_fixed(&site, "fixed");
    write_recording(at(&site, "in.wav"), 50, 200);
    CTL(site, EX_OK, "resampling", "stream", at(&site, "in.wav"), "-m", "wave", "-s", "a", "-o", at(&site, "a.wav"));
    CTL(site, EX_OK, "1 modes of wave", "stream", at(&site, "in.wav"), "-m", "wave", "-s", "b", "-o",
        at(&site, "b.wav"), "--native-rate", "--keep");
    CTL(site, EX_DATAERR, "conv1d", "stream", at(&site, "in.wav"), "-m", "fixed", "-s", "c", "-o", at(&site, "c.wav"),
        "--native-rate");
    CTL(site, EX_OK, "made for 100 Hz", "info", "b");
    CTL(site, EX_OK, "for 50 Hz, made for 100; 1 modes zeroed", "models");
    CTL(site, EX_OK, "is open", "open", "d", "-m", "wave", "--rate=50", "--native-rate");
    versions_close(&site);
}

static void ssmctl__reload_and_move__say_what_they_did(void **state)
{
    struct versions_site site;

    (void)state;
    versions_open(&site, "");
    CTL(site, EX_OK, "is open", "open", "s", "-m", "wave");
    CTL(site, EX_OK, "1 unchanged, 0 new versions", "reload");
    CTL(site, EX_OK, "has the newest version already", "move", "s");
    versions_write_wave(&site, "wave", 2, 1);
    CTL(site, EX_OK, "1 new versions", "reload", "wave");
    CTL(site, EX_OK, "wave v1 (old)", "models");
    CTL(site, EX_OK, "wave v1 (old)", "list");
    CTL(site, EX_OK, "there is a newer one", "info", "s");
    CTL(site, EX_OK, "begins again with version 2", "move", "s");
    CTL(site, EX_OK, "wave v2", "list");
    versions_write_broken(&site, "wave");
    CTL(site, EX_CONFIG, "config.json", "reload", "wave");
    versions_close(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client__native_rate_move_and_reload__do_what_they_say),
        cmocka_unit_test(ssmctl__recording_of_another_rate__is_resampled_unless_told_otherwise),
        cmocka_unit_test(ssmctl__reload_and_move__say_what_they_did),
    };

    return cmocka_run_group_tests_name("version_clients", tests, NULL, NULL);
}
