/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams from one daemon process to the next, by the state directory: what the writer, the results that it had not
 * received and the state were, they are; and what cannot be taken up stops nobody.
 */
#include "tests/sys/serving.h"
#include "tests/sys/states.h"
#include "clients/c/ssmclient.h"
#include "tests/ssm/making.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void log_says(struct sys_daemon *d, const char *text)
{
    if (!strstr(sys_daemon_log(d), text))
        fail_msg("not in the log: %s\n%s", text, sys_daemon_log(d));
}

static void sigterm__then_a_start__every_stream_goes_on_with_the_same_bits(void **state)
{
    struct sys_daemon *d = serving_start("state_dir = @\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    uint64_t at[STATES_CASES_MAX], received[STATES_CASES_MAX], epoch[STATES_CASES_MAX];
    uint8_t incarnation[16];
    uint32_t seed = 17;

    (void)state;
    assert_int_equal(w->reply->hello->durability, SSMD__HELLO_REPLY__DURABILITY__SNAPSHOT);
    memcpy(incarnation, w->incarnation, sizeof(incarnation));
    for (size_t i = 0; i < states_cases_n; i++) {
        struct wire_stream *s = wire_open(w, states_cases[i].name, states_cases[i].name, WIRE_RESULTS | WIRE_NO_CREDIT);
        uint64_t frame = states_cases[i].out_channels * sizeof(float);

        at[i] = making_number(&seed, states_cases[i].frames);
        received[i] = making_number(&seed, (uint32_t)states_results(&states_cases[i], at[i]) + 1);
        epoch[i] = s->epoch;
        wire_credit(w, s, 0, received[i] * frame);
        states_push(w, s, &states_cases[i], 0, at[i], i % 2 ? 0 : PROTO_FLAG_BACKFILL);
        WIRE_UNTIL(w, s->applied == at[i] && s->next == received[i]);
        wire_credit(w, s, received[i], received[i] * frame);
    }
    assert_int_equal(wire_ping(w), SSMD__CODE__OK);
    wire_free(w); /* its results need not be waited for */
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = states_wire_new(sys_daemon_endpoint(d), "one");
    assert_memory_not_equal(w->incarnation, incarnation, sizeof(incarnation));
    assert_int_equal(wire_counter(w, "states_taken_up"), states_cases_n);
    for (size_t i = 0; i < states_cases_n; i++) {
        struct reference *r = &states_cases[i];
        struct wire_stream *s = wire_open(w, r->name, r->name, WIRE_RESULTS | WIRE_RESUME);
        struct wire_stream *whole;
        char id[80];

        assert_int_equal(s->epoch, epoch[i]);
        assert_int_equal(s->sent, at[i]);
        assert_int_equal(s->begin, received[i]);
        states_push(w, s, r, at[i], r->frames, 0);
        WIRE_UNTIL(w, s->next == states_results(r, r->frames));
        if (i % 2) {
            states_bits_check(s, r, r->frames);
        } else { /* scanned to the cut: held against one that did so here */
            snprintf(id, sizeof(id), "whole %zu", i);
            whole = wire_open(w, id, r->name, WIRE_RESULTS);
            states_push(w, whole, r, 0, at[i], PROTO_FLAG_BACKFILL);
            states_push(w, whole, r, at[i], r->frames, 0);
            WIRE_UNTIL(w, whole->next == states_results(r, r->frames));
            assert_memory_equal(s->out, whole->out + received[i] * r->out_channels,
                                s->results * r->out_channels * sizeof(float));
        }
    }
    wire_free(w);
    serving_stop(d);
}

static void sigterm__with_input_that_cannot_be_applied__keeps_the_state_that_was_acknowledged(void **state)
{
    struct sys_daemon *d = serving_start("state_dir = @\ndrain_ms = 100\nresult_ring = 4K\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_NO_CREDIT);
    uint64_t applied;

    (void)state;
    states_push(w, s, states_golden, 0, states_golden->frames,
                0); /* more results than the ring holds, and nobody takes them */
    WIRE_UNTIL(w, s->applied > 0);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = wire_new(sys_daemon_endpoint(d), "one");
    s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_RESUME);
    applied = s->sent;
    assert_in_range(applied, 1, states_golden->frames - 1);
    assert_int_equal(s->begin, 0);
    states_push(w, s, states_golden, applied, states_golden->frames, 0);
    WIRE_UNTIL(w, s->next == states_golden->frames);
    states_bits_check(s, states_golden, states_golden->frames);
    wire_free(w);
    serving_stop(d);
}

static void sigterm__closed_with_results_to_fetch__they_are_there_afterwards(void **state)
{
    struct sys_daemon *d = serving_start("state_dir = @\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_NO_CREDIT);

    (void)state;
    states_push(w, s, states_golden, 0, 100, 0);
    wire_credit(w, s, 0, 100 * states_golden->out_channels * sizeof(float)); /* sent, and not said to be received */
    assert_int_equal(wire_close(w, s), SSMD__CODE__OK);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = wire_new(sys_daemon_endpoint(d), "one");
    s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_RESUME);
    assert_true(w->reply->stream->closing);
    WIRE_UNTIL(w, s->next == 100);
    states_bits_check(s, states_golden, 100);
    wire_free(w);
    serving_stop(d);
}

static void sigterm__with_a_history__it_begins_anew_where_the_stream_is(void **state)
{
    struct sys_daemon *d = serving_start("state_dir = @\n");
    struct wire *w = states_wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s = states_open_with_history(w, "s", states_golden->name, 64, 128);

    (void)state;
    states_push(w, s, states_golden, 0, 100, 0);
    WIRE_UNTIL(w, s->applied == 100 && s->next == 100);
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = states_wire_new(sys_daemon_endpoint(d), "one");
    s = wire_open(w, "s", states_golden->name, WIRE_RESULTS | WIRE_RESUME);
    assert_int_equal(w->reply->stream->history->interval, 64);
    assert_int_equal(w->reply->stream->history->oldest, 100);
    states_push(w, s, states_golden, 100, 210, 0);
    states_refused(w, states_rollback(w, s, 99), SSMD__CODE__TOO_OLD, "oldest");
    assert_int_equal(states_rollback(w, s, 101), SSMD__CODE__OK); /* the first checkpoint lies beside the grid */
    states_push(w, s, states_golden, 101, 300, 0);
    WIRE_UNTIL(w, s->next == 300);
    assert_memory_equal(s->out + (101 - s->begin) * states_golden->out_channels,
                        states_golden->step + 101 * states_golden->out_channels,
                        199 * states_golden->out_channels * sizeof(float));
    wire_free(w);
    serving_stop(d);
}

/* The state file of a stream with this id, in the daemon's directory. */
static void file_of(const struct sys_daemon *d, const char *id, char path[256])
{
    int n = snprintf(path, 256, "%s/", sys_daemon_directory(d));

    for (; *id; id++)
        n += snprintf(path + n, 256 - (size_t)n, "%02x", (unsigned char)*id);
    snprintf(path + n, 256 - (size_t)n, ".ssmd");
}

static void start__with_files_that_cannot_be_taken_up__sets_them_aside_and_serves(void **state)
{
    static const char *const ids[] = {"good", "flipped", "cut", "foreign", "empty"};
    struct sys_daemon *d = serving_start("state_dir = @\n");
    struct wire *w = wire_new(sys_daemon_endpoint(d), "one");
    struct wire_stream *s;
    char path[256], command[600];

    (void)state;
    for (int i = 0; i < 5; i++) {
        s = wire_open(w, ids[i], i == 3 ? "twice" : states_golden->name, 0);
        states_push(w, s, states_golden, 0, 10, 0);
        WIRE_UNTIL(w, s->applied == 10);
    }
    wire_free(w);
    assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
    file_of(d, "flipped", path);
    snprintf(command, sizeof(command), "printf X | dd of=%s bs=1 seek=900 conv=notrunc status=none", path);
    assert_int_equal(system(command), 0);
    file_of(d, "cut", path);
    assert_int_equal(truncate(path, 500), 0);
    file_of(d, "empty", path);
    assert_int_equal(truncate(path, 0), 0);
    file_of(d, "half", path);
    snprintf(command, sizeof(command), "echo half > %s.half; mv %s/twice %s/thrice", path, serving_models.path,
             serving_models.path);
    assert_int_equal(system(command), 0);
    assert_int_equal(sys_daemon_restart(d), 0);
    snprintf(command, sizeof(command), "mv %s/thrice %s/twice", serving_models.path, serving_models.path);
    assert_int_equal(system(command), 0);
    log_says(d, "checksum");
    log_says(d, "cut or damaged");
    log_says(d, "twice");
    log_says(d, "not the size of an image");
    log_says(d, "not written to its end");
    w = wire_new(sys_daemon_endpoint(d), "one");
    assert_int_equal(wire_counter(w, "streams"), 1);
    assert_int_equal(wire_counter(w, "states_refused"), 5);
    s = wire_open(w, "good", states_golden->name, WIRE_RESUME);
    assert_int_equal(s->sent, 10);
    for (int i = 1; i < 5; i++) {
        file_of(d, ids[i], path);
        assert_int_equal(access(path, F_OK), -1);
        strcat(path, ".refused");
        assert_int_equal(access(path, F_OK), 0);
    }
    file_of(d, "good", path);
    assert_int_equal(access(path, F_OK), -1); /* taken up, so it is old from now on */
    wire_free(w);
    sys_daemon_signal(d, SIGKILL);
    (void)sys_daemon_wait(d, WIRE_MS);
    assert_int_equal(sys_daemon_restart(d), 0);
    w = wire_new(sys_daemon_endpoint(d), "one");
    assert_int_equal(wire_try_open(w, &s, "good", states_golden->name, WIRE_RESUME, 0), SSMD__CODE__NO_STREAM);
    wire_free(w);
    serving_stop(d);
}

static void start__with_a_state_directory_that_is_no_good__is_refused(void **state)
{
    struct sys_daemon *d = serving_start("state_dir = @\n");
    char path[256], command[1200], log[256];

    (void)state;
    snprintf(path, sizeof(path), "%s/second.conf", sys_daemon_directory(d));
    snprintf(log, sizeof(log), "%s/second.log", sys_daemon_directory(d));
    for (int i = 0; i < 2; i++) {
        snprintf(
            command, sizeof(command),
            "printf 'endpoint = ipc://%s/second.sock\ntap = off\nstate_dir = %s%s\n' > %s; %s/bin/ssmd --config %s "
            "2> %s",
            sys_daemon_directory(d), sys_daemon_directory(d), i ? "/absent" : "", path,
            getenv("BUILD") ? getenv("BUILD") : "build", path, log);
        assert_int_not_equal(system(command), 0);
        snprintf(command, sizeof(command), "grep -q '%s' %s", i ? "No such file" : "another daemon", log);
        assert_int_equal(system(command), 0);
    }
    serving_stop(d);
}

/* The library's client, which keeps what is not applied and opens its streams again. */
static void sigterm__under_a_client__it_goes_on_without_losing_anything(void **state)
{
    struct sys_daemon *d = serving_start("state_dir = @\n");
    struct ssmc_options options = {.endpoint = sys_daemon_endpoint(d)};
    struct ssmc_open_options open = {.id = "s", .model = states_golden->name, .results = 1};
    struct ssmc_result result;
    struct ssmc_stream *s;
    struct ssmc *c;
    uint64_t pushed = 0, got = 0;
    char err[512];

    (void)state;
    assert_int_equal(ssmc_connect(&c, &options, err, sizeof(err)), SSMC_OK);
    assert_int_equal(ssmc_open(c, &s, &open, WIRE_MS), SSMC_OK);
    while (got < states_golden->frames) {
        uint32_t n = states_golden->frames - pushed < 7 ? (uint32_t)(states_golden->frames - pushed) : 7;

        if (n > 0 && ssmc_push(s, SSMC_F32, states_in_at(states_golden, pushed), n, 0, 0) == SSMC_OK)
            pushed += n;
        if (pushed == 105 || pushed == 210) { /* amid what is under way */
            assert_int_equal(sys_daemon_stop(d, WIRE_MS), 0);
            assert_int_equal(sys_daemon_restart(d), 0);
        }
        assert_true(ssmc_poll(c, n > 0 ? 0 : 10) >= 0);
        while (ssmc_next(s, &result) == 1) {
            assert_int_equal(result.first, got);
            assert_memory_equal(result.samples, states_golden->step + got * states_golden->out_channels,
                                result.frames * states_golden->out_channels * sizeof(float));
            got += result.frames;
        }
    }
    ssmc_free(c);
    serving_stop(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigterm__then_a_start__every_stream_goes_on_with_the_same_bits),
        cmocka_unit_test(sigterm__with_input_that_cannot_be_applied__keeps_the_state_that_was_acknowledged),
        cmocka_unit_test(sigterm__closed_with_results_to_fetch__they_are_there_afterwards),
        cmocka_unit_test(sigterm__with_a_history__it_begins_anew_where_the_stream_is),
        cmocka_unit_test(start__with_files_that_cannot_be_taken_up__sets_them_aside_and_serves),
        cmocka_unit_test(start__with_a_state_directory_that_is_no_good__is_refused),
        cmocka_unit_test(sigterm__under_a_client__it_goes_on_without_losing_anything),
    };

    return cmocka_run_group_tests(tests, states_group_open, states_group_close);
}
