/* SPDX-License-Identifier: Apache-2.0
 *
 * libssmclient against a daemon that misbehaves (fake.h): whatever it does, results are complete, in order and once, or
 * the call says why not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/c/ssmclient.h"
#include "proto/codec.h"
#include "tests/clients/fake.h"

struct bench {
    struct fake *fake;
    struct ssmc *c;
    struct ssmc_stream *s;
    uint64_t pushed, taken;
};

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    b->fake = fake_start();
    struct ssmc_options options = {.endpoint = b->fake->endpoint, .timeout_ms = 5000};
    assert_int_equal(ssmc_connect(&b->c, &options, NULL, 0), SSMC_OK);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;
    ssmc_free(b->c);
    fake_stop(b->fake);
    free(b);
    return 0;
}

static void open_stream(struct bench *b, int restart_lost, size_t buffer_bytes)
{
    struct ssmc_open_options open = {.id = "s",
                                     .model = "identity",
                                     .mode = SSMC_CREATE,
                                     .results = 1,
                                     .results_from = SSMC_OLDEST,
                                     .buffer_bytes = buffer_bytes,
                                     .restart_lost = restart_lost};
    assert_int_equal(ssmc_open(b->c, &b->s, &open, 5000), SSMC_OK);
}

static float sample_at(uint64_t index)
{
    return (float)(index % 9973) / 9973.0f;
}

static int push(struct bench *b, uint32_t frames)
{
    float samples[4096];
    for (uint32_t i = 0; i < frames; i++)
        samples[i] = sample_at(b->pushed + i);
    int rc = ssmc_push(b->s, SSMC_F32, samples, frames, 0, 0);
    if (rc == SSMC_OK)
        b->pushed += frames;
    return rc;
}

/* Every result that is here must be the next one. */
static int take(struct bench *b)
{
    struct ssmc_result result;
    int rc;
    while ((rc = ssmc_next(b->s, &result)) == 1) {
        assert_int_equal(result.first, b->taken);
        for (uint32_t i = 0; i < result.frames; i++)
            assert_true(result.samples[i] == sample_at(result.first + i));
        b->taken += result.frames;
    }
    return rc;
}

static void poll_until_taken(struct bench *b, uint64_t index)
{
    for (int i = 0; i < 1000 && b->taken < index; i++) {
        int rc = ssmc_poll(b->c, 20);
        assert_true(rc >= 0 || rc == SSMC_PROTOCOL);
        assert_int_equal(take(b), 0);
    }
    assert_int_equal(b->taken, index);
}

/* Polls until the stream says something else than that it is well. */
static int poll_until_dead(struct bench *b)
{
    int rc = 0;
    for (int i = 0; i < 1000 && rc == 0; i++) {
        (void)!ssmc_poll(b->c, 20);
        rc = take(b);
    }
    return rc;
}

static void close_stream(struct bench *b)
{
    int rc;
    while ((rc = ssmc_close(b->s, 5000)) == SSMC_FULL)
        assert_int_equal(take(b), 0);
    assert_int_equal(rc, SSMC_OK);
    assert_int_equal(take(b), 0);
    assert_int_equal(b->taken, b->pushed);
}

#define SEEN(b, field)                                                                                                 \
    ({                                                                                                                 \
        fake_lock((b)->fake);                                                                                          \
        __typeof__((b)->fake->field) value_ = (b)->fake->field;                                                        \
        fake_unlock((b)->fake);                                                                                        \
        value_;                                                                                                        \
    })

#define TELL(b, field, value)                                                                                          \
    do {                                                                                                               \
        fake_lock((b)->fake);                                                                                          \
        (b)->fake->field = (value);                                                                                    \
        fake_unlock((b)->fake);                                                                                        \
    } while (0)

/* ---- connecting -------------------------------------------------------------------------------------------------- */

static void connect__nobody_there__names_the_socket(void **state)
{
    (void)state;
    struct ssmc_options options = {.endpoint = "ipc:///tmp/ssmd-no-such-socket", .timeout_ms = 100};
    struct ssmc *c;
    char err[256];
    assert_int_equal(ssmc_connect(&c, &options, err, sizeof err), SSMC_TIMEOUT);
    assert_null(c);
    assert_non_null(strstr(err, "/tmp/ssmd-no-such-socket"));
}

static void connect__endpoint_is_nonsense__fails_at_once(void **state)
{
    (void)state;
    struct ssmc_options options = {.endpoint = "nonsense", .timeout_ms = 60000};
    struct ssmc *c;
    char err[256];
    assert_int_equal(ssmc_connect(&c, &options, err, sizeof err), SSMC_IO);
    assert_non_null(strstr(err, "nonsense"));
}

static void open__refused__gives_code_and_sentence(void **state)
{
    struct bench *b = *state;
    struct ssmc_open_options open = {.id = "s", .model = "identity"};
    TELL(b, open_error, SSMD__CODE__NO_MODEL);
    assert_int_equal(ssmc_open(b->c, &b->s, &open, 5000), SSMC_REFUSED);
    assert_int_equal(ssmc_error_code(b->c), SSMD__CODE__NO_MODEL);
    assert_string_equal(ssmc_error_text(b->c), "the fake daemon refuses");
    assert_null(b->s);
}

static void open__bad_id__is_invalid(void **state)
{
    struct bench *b = *state;
    char long_id[66];
    memset(long_id, 'x', 65);
    long_id[65] = '\0';
    struct ssmc_open_options open = {.id = long_id, .model = "identity"};
    assert_int_equal(ssmc_open(b->c, &b->s, &open, 5000), SSMC_INVAL);
    open.id = "";
    assert_int_equal(ssmc_open(b->c, &b->s, &open, 5000), SSMC_INVAL);
    assert_int_equal(SEEN(b, opens), 0);
}

/* ---- window and sending ------------------------------------------------------------------------------------------ */

static void stream__pushed_and_closed__every_result_once(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    for (int i = 0; i < 100; i++) {
        while (push(b, 97) == SSMC_FULL)
            assert_true(ssmc_poll(b->c, 1000) >= 0);
        assert_true(ssmc_poll(b->c, 0) >= 0);
        assert_int_equal(take(b), 0);
    }
    close_stream(b);
    assert_int_equal(SEEN(b, closes), 1);
}

static void push__window_is_full__takes_nothing_until_acknowledged(void **state)
{
    struct bench *b = *state;
    struct ssmc_stream_info info;
    open_stream(b, 0, 0);
    TELL(b, holds, true); /* should a message leave early */
    assert_int_equal(ssmc_room(b->s), 4096);
    assert_int_equal(push(b, 4000), SSMC_OK);
    assert_int_equal(push(b, 97), SSMC_FULL);
    assert_int_equal(ssmc_room(b->s), 96);
    ssmc_stream_info(b->s, &info);
    assert_int_equal(info.next, 4000);
    assert_int_equal(push(b, 96), SSMC_OK);
    assert_int_equal(ssmc_room(b->s), 0);
    TELL(b, holds, false); /* nothing has left yet: the first poll sends it all */
    assert_int_equal(push(b, 1), SSMC_FULL);
    poll_until_taken(b, 4096);
    assert_int_equal(ssmc_room(b->s), 4096);
}

static void push__more_than_any_window__is_invalid(void **state)
{
    struct bench *b = *state;
    static const float samples[8192];
    open_stream(b, 0, 0);
    assert_int_equal(ssmc_push(b->s, SSMC_F32, samples, 4097, 0, 0), SSMC_INVAL);
    assert_int_equal(ssmc_push(b->s, SSMC_F32, samples, 0, 0, 0), SSMC_INVAL);
    assert_int_equal(ssmc_push(b->s, SSMC_I32, samples, 1, 0, 0), SSMC_INVAL);
    assert_int_equal(ssmc_push(b->s, (enum ssmc_format)77, samples, 1, 0, 0), SSMC_INVAL);
}

static void push__longer_than_a_chunk__is_split(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 4096), SSMC_OK);
    poll_until_taken(b, 4096);
    assert_int_equal(SEEN(b, chunk_frames_max), 1024);
    assert_int_equal(SEEN(b, chunks), 4);
}

static void push__many_before_a_poll__leave_in_one_message(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    for (int i = 0; i < 50; i++)
        assert_int_equal(push(b, 7), SSMC_OK);
    poll_until_taken(b, 350);
    assert_int_equal(SEEN(b, data_messages), 1);
    assert_int_equal(SEEN(b, chunks), 50);
}

static void refusal__gap__frames_are_sent_again(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    TELL(b, swallows, 2);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(push(b, 101), SSMC_OK);
        assert_true(ssmc_poll(b->c, 0) >= 0);
    }
    poll_until_taken(b, 505);
}

static void refusal__no_room__is_tried_again_without_being_told(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    TELL(b, refuses, SSMD__CODE__OVERFLOW);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
}

static void refusal__bad_sample__ends_the_stream_with_the_sentence(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    TELL(b, refuses, SSMD__CODE__BAD_SAMPLE);
    assert_int_equal(push(b, 10), SSMC_OK);
    assert_int_equal(poll_until_dead(b), SSMC_REFUSED);
    assert_string_equal(ssmc_error_text(b->c), "the fake daemon refuses the chunk");
    assert_int_equal(push(b, 10), SSMC_REFUSED);
}

static void acks__repeated_and_old__change_nothing(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    TELL(b, repeats_acks, true);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(push(b, 500), SSMC_OK);
        poll_until_taken(b, b->pushed);
    }
    assert_int_equal(ssmc_drain(b->s, 5000), SSMC_OK);
    assert_int_equal(ssmc_room(b->s), 4096);
    close_stream(b);
}

static void acks__of_frames_never_sent__are_an_error_and_cured(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    TELL(b, acks_too_much, true);
    assert_int_equal(push(b, 100), SSMC_OK);
    int rc = 0;
    for (int i = 0; i < 500 && rc >= 0; i++)
        rc = ssmc_poll(b->c, 20);
    assert_int_equal(rc, SSMC_PROTOCOL);
    poll_until_taken(b, 100);
    assert_int_equal(SEEN(b, hellos), 2);
}

/* ---- results and credit ------------------------------------------------------------------------------------------ */

static void credit__results_not_taken__daemon_may_send_no_more_than_the_buffer(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 4096);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(push(b, 1000), SSMC_OK);
        for (int turn = 0; turn < 10; turn++)
            assert_true(ssmc_poll(b->c, 5) >= 0);
    }
    assert_int_equal(SEEN(b, credit_limit), 4096);
    assert_int_equal(SEEN(b, sent), 1024);
    assert_int_equal(SEEN(b, received), 0);
    assert_int_equal(ssmc_close(b->s, 1000), SSMC_FULL);
    close_stream(b);
    assert_int_equal(b->taken, 4000);
}

static void credit__some_results_taken__grants_what_was_taken(void **state)
{
    struct bench *b = *state;
    struct ssmc_result result;
    TELL(b, gives_times, true);
    open_stream(b, 0, 4096);
    for (uint64_t i = 1; i <= 2; i++) {
        assert_int_equal(push(b, 500), SSMC_OK);
        for (int turn = 0; turn < 500 && SEEN(b, sent) < 500 * i; turn++)
            assert_true(ssmc_poll(b->c, 5) >= 0);
    }
    uint64_t ns; /* what was sent is here when this is answered */
    assert_int_equal(ssmc_ping(b->c, &ns, 5000), SSMC_OK);
    assert_int_equal(ssmc_next(b->s, &result), 1);
    assert_int_equal(result.frames, 500);
    b->taken = 500;
    for (int turn = 0; turn < 500 && SEEN(b, credit_limit) <= 4096; turn++)
        assert_true(ssmc_poll(b->c, 5) >= 0);
    assert_int_equal(SEEN(b, credit_limit), 2000 + 4096);
    close_stream(b);
}

/* The fake's ring is 1 MiB: four times what is pushed here. */
static void credit__results_taken__daemon_hears_of_it_before_its_ring_must_grow_for_them(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    while (b->pushed < FAKE_FRAMES) {
        assert_int_equal(push(b, 2048), SSMC_OK);
        poll_until_taken(b, b->pushed);
    }
    assert_true(SEEN(b, unreceived_max) <= (1 << 20) / sizeof(float) / 16 + 3 * 2048);
    close_stream(b);
}

/* Gives the fake time to take what was sent, without a poll. */
#define WAIT_SEEN(b, condition)                                                                                        \
    do {                                                                                                               \
        for (int turn_ = 0; turn_ < 1000 && !(condition); turn_++)                                                     \
            usleep(2000);                                                                                              \
        assert_true(condition);                                                                                        \
    } while (0)

/* A connection with many streams always has something to take. */
static void credit__of_little_worth__is_granted_after_a_while_though_messages_come(void **state)
{
    struct bench *b = *state;
    uint64_t ns;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    assert_true(ssmc_poll(b->c, 0) >= 0);
    assert_int_equal(ssmc_ping(b->c, &ns, 5000), SSMC_OK); /* the results are here */
    assert_int_equal(push(b, 10), SSMC_OK);
    assert_true(ssmc_poll(b->c, 0) >= 0);
    WAIT_SEEN(b, SEEN(b, sent) == 110); /* the message that the next poll finds */
    usleep(30000);
    assert_int_equal(take(b), 0);
    assert_true(ssmc_poll(b->c, 0) >= 0);
    WAIT_SEEN(b, SEEN(b, received) >= 100);
}

static void free__results_just_taken__are_said_to_be_received(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(push(b, 100), SSMC_OK);
        poll_until_taken(b, b->pushed);
    }
    ssmc_free(b->c);
    b->c = NULL;
    WAIT_SEEN(b, SEEN(b, byes) == 1);
    assert_int_equal(SEEN(b, received), 300);
}

static void close__frames_not_applied__waits_for_them(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    TELL(b, holds, true);
    assert_int_equal(push(b, 100), SSMC_OK);
    assert_int_equal(ssmc_close(b->s, 100), SSMC_TIMEOUT);
    assert_int_equal(push(b, 1), SSMC_INVAL);
    assert_int_equal(SEEN(b, closes), 0);
    TELL(b, holds, false);
    uint64_t ns;
    assert_int_equal(ssmc_ping(b->c, &ns, 5000), SSMC_OK);
    close_stream(b);
    assert_int_equal(SEEN(b, closes), 1);
}

static void results__with_a_hole__are_asked_for_again(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
    TELL(b, skips, 3);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 200);
    assert_true(SEEN(b, had_results_from));
    assert_int_equal(SEEN(b, results_from), 100);
}

static void result__held_over_a_poll__stays_where_it_is(void **state)
{
    struct bench *b = *state;
    struct ssmc_result result;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    for (int i = 0; i < 200 && ssmc_next(b->s, &result) == 0; i++)
        assert_true(ssmc_poll(b->c, 20) >= 0);
    b->taken = result.frames;
    const float *before = result.samples;
    assert_int_equal(push(b, 2000), SSMC_OK);
    for (int i = 0; i < 20; i++)
        assert_true(ssmc_poll(b->c, 5) >= 0);
    for (uint32_t i = 0; i < result.frames; i++)
        assert_true(before[i] == sample_at(i));
    poll_until_taken(b, 2100);
}

/* ---- what breaks ------------------------------------------------------------------------------------------------- */

static void link__connection_forgotten__stream_goes_on_from_the_daemons_next(void **state)
{
    struct bench *b = *state;
    struct ssmc_daemon_info info;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 300), SSMC_OK);
    poll_until_taken(b, 300);
    TELL(b, forgets, true);
    assert_int_equal(push(b, 300), SSMC_OK);
    poll_until_taken(b, 600);
    ssmc_daemon_info(b->c, &info);
    assert_int_equal(info.reconnects, 1);
    assert_int_equal(SEEN(b, modes[SSMC_RESUME]), 1);
    assert_int_equal(SEEN(b, results_from), 300);
    assert_int_equal(SEEN(b, backfills), 0); /* the daemon was not away for long */
    close_stream(b);
}

static void link__forgotten_in_the_middle_of_a_chunk__sends_the_rest_of_it(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    TELL(b, holds, true);
    assert_int_equal(push(b, 1000), SSMC_OK);
    for (int i = 0; i < 100 && SEEN(b, next) < 1000; i++)
        assert_true(ssmc_poll(b->c, 10) >= 0);
    fake_lock(b->fake);
    b->fake->next = 333; /* it had taken only so many when it forgot us */
    b->fake->forgets = true;
    b->fake->holds = false;
    fake_unlock(b->fake);
    assert_int_equal(push(b, 1), SSMC_OK);
    poll_until_taken(b, 1001);
}

static void daemon__new_and_empty__stream_is_lost(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
    fake_crash(b->fake);
    assert_int_equal(push(b, 100), SSMC_OK);
    assert_int_equal(poll_until_dead(b), SSMC_LOST);
    assert_int_equal(push(b, 1), SSMC_LOST);
    assert_int_equal(ssmc_close(b->s, 100), SSMC_LOST);
}

static void daemon__new_and_empty__restart_lost_begins_at_0(void **state)
{
    struct bench *b = *state;
    struct ssmc_stream_info info;
    open_stream(b, 1, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
    fake_crash(b->fake);
    assert_int_equal(push(b, 100), SSMC_OK);
    ssmc_stream_info(b->s, &info);
    for (int i = 0; i < 500 && info.next > 0; i++) {
        assert_true(ssmc_poll(b->c, 20) >= 0);
        ssmc_stream_info(b->s, &info);
    }
    assert_int_equal(info.next, 0);
    b->pushed = b->taken = 0;
    assert_int_equal(push(b, 250), SSMC_OK);
    close_stream(b);
}

static void daemon__went_back_behind_what_is_kept__stream_is_lost(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
    fake_lock(b->fake);
    b->fake->next = b->fake->applied = 50;
    b->fake->forgets = true;
    fake_unlock(b->fake);
    assert_int_equal(push(b, 100), SSMC_OK);
    assert_int_equal(poll_until_dead(b), SSMC_LOST);
}

static void daemon__is_ahead_of_what_was_pushed__stream_is_taken(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
    fake_lock(b->fake);
    b->fake->next = b->fake->applied = 5000;
    b->fake->forgets = true;
    fake_unlock(b->fake);
    assert_int_equal(push(b, 100), SSMC_OK);
    assert_int_equal(poll_until_dead(b), SSMC_TAKEN);
}

static void stream__taken_over__calls_say_so(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    fake_take_over(b->fake);
    assert_int_equal(poll_until_dead(b), SSMC_TAKEN);
    assert_int_equal(push(b, 1), SSMC_TAKEN);
}

static void reply__truncated__is_an_error_and_cured(void **state)
{
    struct bench *b = *state;
    uint64_t ns;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
    TELL(b, truncates, 1);
    assert_int_equal(ssmc_ping(b->c, &ns, 5000), SSMC_PROTOCOL);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 200);
    assert_int_equal(ssmc_ping(b->c, &ns, 5000), SSMC_OK);
}

static void daemon__silent__is_left_and_found_again(void **state)
{
    struct bench *b = *state;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 100);
    TELL(b, is_silent, true);
    assert_int_equal(push(b, 100), SSMC_OK);
    struct ssmc_daemon_info info;
    for (int i = 0; i < 2000; i++) {
        assert_true(ssmc_poll(b->c, 20) >= 0);
        ssmc_daemon_info(b->c, &info);
        if (!info.is_connected)
            break;
    }
    assert_false(info.is_connected);
    assert_int_equal(SEEN(b, backfills), 0);
    TELL(b, is_silent, false);
    poll_until_taken(b, 200);
    assert_true(SEEN(b, backfills) >= 1); /* sent again after more than SSMC_AWAY_MS: no live data any more */
    assert_int_equal(push(b, 100), SSMC_OK);
    poll_until_taken(b, 300);
    assert_int_equal(SEEN(b, backfills), 1); /* but this is */
}

static void request__daemon_silent__times_out_and_the_next_one_works(void **state)
{
    struct bench *b = *state;
    uint64_t ns;
    TELL(b, is_silent, true);
    assert_int_equal(ssmc_ping(b->c, &ns, 50), SSMC_TIMEOUT);
    TELL(b, is_silent, false);
    assert_int_equal(ssmc_ping(b->c, &ns, 5000), SSMC_OK);
}

static void reset__after_pushes__begins_at_0_in_a_new_epoch(void **state)
{
    struct bench *b = *state;
    struct ssmc_stream_info before, after;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    ssmc_stream_info(b->s, &before);
    assert_int_equal(ssmc_reset(b->s, 5000), SSMC_OK);
    assert_int_equal(take(b), 0);
    ssmc_stream_info(b->s, &after);
    assert_true(after.epoch > before.epoch);
    assert_int_equal(after.next, 0);
    b->pushed = b->taken = 0;
    assert_int_equal(push(b, 70), SSMC_OK);
    close_stream(b);
}

static void fd__of_the_connection__wakes_for_results_and_survives_a_new_socket(void **state)
{
    struct bench *b = *state;
    const int fd = ssmc_fd(b->c);
    open_stream(b, 0, 0);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(push(b, 100), SSMC_OK);
        bool has_waited = false, has_woken = false;
        for (int i = 0; i < 300; i++) {
            assert_true(ssmc_poll(b->c, 0) >= 0);
            assert_int_equal(take(b), 0);
            if (b->taken == b->pushed)
                break;
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            has_waited = true;
            has_woken |= poll(&wait, 1, 50) == 1;
        }
        assert_int_equal(b->taken, b->pushed);
        assert_true(has_woken || !has_waited);
        TELL(b, forgets, true);
    }
    assert_int_equal(ssmc_fd(b->c), fd);
    assert_true(SEEN(b, hellos) >= 3);
}

static void stream__freed_before_the_connection__leaves_nothing_behind(void **state)
{
    struct bench *b = *state;
    uint64_t ns;
    open_stream(b, 0, 0);
    assert_int_equal(push(b, 100), SSMC_OK);
    assert_true(ssmc_poll(b->c, 0) >= 0);
    ssmc_stream_free(b->s); /* results are on their way */
    assert_int_equal(ssmc_ping(b->c, &ns, 5000), SSMC_OK);
    assert_int_equal(SEEN(b, hellos), 1);
}

#define WITH_FAKE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connect__nobody_there__names_the_socket),
        cmocka_unit_test(connect__endpoint_is_nonsense__fails_at_once),
        WITH_FAKE(open__refused__gives_code_and_sentence),
        WITH_FAKE(open__bad_id__is_invalid),
        WITH_FAKE(stream__pushed_and_closed__every_result_once),
        WITH_FAKE(push__window_is_full__takes_nothing_until_acknowledged),
        WITH_FAKE(push__more_than_any_window__is_invalid),
        WITH_FAKE(push__longer_than_a_chunk__is_split),
        WITH_FAKE(push__many_before_a_poll__leave_in_one_message),
        WITH_FAKE(refusal__gap__frames_are_sent_again),
        WITH_FAKE(refusal__no_room__is_tried_again_without_being_told),
        WITH_FAKE(refusal__bad_sample__ends_the_stream_with_the_sentence),
        WITH_FAKE(acks__repeated_and_old__change_nothing),
        WITH_FAKE(acks__of_frames_never_sent__are_an_error_and_cured),
        WITH_FAKE(credit__results_not_taken__daemon_may_send_no_more_than_the_buffer),
        WITH_FAKE(credit__some_results_taken__grants_what_was_taken),
        WITH_FAKE(credit__results_taken__daemon_hears_of_it_before_its_ring_must_grow_for_them),
        WITH_FAKE(credit__of_little_worth__is_granted_after_a_while_though_messages_come),
        WITH_FAKE(free__results_just_taken__are_said_to_be_received),
        WITH_FAKE(close__frames_not_applied__waits_for_them),
        WITH_FAKE(results__with_a_hole__are_asked_for_again),
        WITH_FAKE(result__held_over_a_poll__stays_where_it_is),
        WITH_FAKE(link__connection_forgotten__stream_goes_on_from_the_daemons_next),
        WITH_FAKE(link__forgotten_in_the_middle_of_a_chunk__sends_the_rest_of_it),
        WITH_FAKE(daemon__new_and_empty__stream_is_lost),
        WITH_FAKE(daemon__new_and_empty__restart_lost_begins_at_0),
        WITH_FAKE(daemon__went_back_behind_what_is_kept__stream_is_lost),
        WITH_FAKE(daemon__is_ahead_of_what_was_pushed__stream_is_taken),
        WITH_FAKE(stream__taken_over__calls_say_so),
        WITH_FAKE(reply__truncated__is_an_error_and_cured),
        WITH_FAKE(daemon__silent__is_left_and_found_again),
        WITH_FAKE(request__daemon_silent__times_out_and_the_next_one_works),
        WITH_FAKE(reset__after_pushes__begins_at_0_in_a_new_epoch),
        WITH_FAKE(fd__of_the_connection__wakes_for_results_and_survives_a_new_socket),
        WITH_FAKE(stream__freed_before_the_connection__leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
