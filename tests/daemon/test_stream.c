/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams: what admission says of every kind of chunk, epochs that never repeat, and the index by id.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/stream.h"

#define CHANNELS 2

static struct streams streams;
static struct stream *stream;
static struct stream_limits limits;
static struct input input;

static int stream_setup(void **state)
{
    (void)state;
    streams_init(&streams);
    input_init(&input, 1u << 20);
    stream = streams_insert(&streams, (const uint8_t *)"ecg", 3, 1);
    limits = (struct stream_limits){
        .chunk_frames = 100, .stream_window = 4000, .connection_window = 100000, .model_window = 100000};
    return stream ? 0 : -1;
}

static void queue_drop(struct stream *s)
{
    while (s->head) {
        struct chunk *chunk = s->head;

        s->head = chunk->next;
        input_release(&input, chunk);
    }
    s->tail = NULL;
}

static int stream_teardown(void **state)
{
    (void)state;
    while (streams.n > 0) {
        queue_drop(streams.sorted[0]);
        streams_remove(&streams, streams.sorted[0]);
    }
    streams_fini(&streams);
    input_fini(&input);
    return 0;
}

static struct stream_admission admit(uint64_t first, uint32_t frames)
{
    struct proto_chunk chunk = {.epoch = stream->epoch, .first = first, .frames = frames, .format = 1};
    struct stream_admission out;

    stream_admit(stream, &chunk, CHANNELS, &limits, &out);
    return out;
}

static void push(uint32_t frames)
{
    struct chunk *chunk = input_acquire(&input, frames * CHANNELS * sizeof(float));

    assert_non_null(chunk);
    chunk->frames = frames;
    chunk->first = stream->next;
    stream_push(stream, chunk, frames * CHANNELS * sizeof(float));
}

static void admit__next_chunk__is_accepted(void **state)
{
    (void)state;
    assert_int_equal(admit(0, 10).verdict, VERDICT_ACCEPT);
    push(10);
    assert_int_equal(stream->next, 10);
    assert_int_equal(admit(10, 1).verdict, VERDICT_ACCEPT);
    assert_int_equal(admit(10, 1).skip, 0);
}

static void admit__repeated_chunk__is_a_duplicate(void **state)
{
    (void)state;
    push(10);
    assert_int_equal(admit(0, 10).verdict, VERDICT_DUPLICATE);
    assert_int_equal(admit(3, 2).verdict, VERDICT_DUPLICATE);
    stream->is_closing = true; /* also then: the client missed an acknowledgement */
    assert_int_equal(admit(9, 1).verdict, VERDICT_DUPLICATE);
}

static void admit__overlap__is_trimmed(void **state)
{
    (void)state;
    push(10);
    assert_int_equal(admit(4, 10).verdict, VERDICT_ACCEPT);
    assert_int_equal(admit(4, 10).skip, 6);
}

static void admit__gap__is_answered_once_until_cured(void **state)
{
    (void)state;
    push(10);
    assert_int_equal(admit(11, 10).code, SSMD__CODE__GAP);
    assert_true(stream_refusal_is_new(stream, SSMD__CODE__GAP));
    assert_false(stream_refusal_is_new(stream, SSMD__CODE__GAP));
    push(5);
    assert_true(stream_refusal_is_new(stream, SSMD__CODE__GAP));
}

/* What follows a refused chunk begins too late by its nature. */
static void admit__gap_behind_another_refusal__is_not_answered(void **state)
{
    (void)state;
    assert_true(stream_refusal_is_new(stream, SSMD__CODE__OVERFLOW));
    assert_false(stream_refusal_is_new(stream, SSMD__CODE__GAP));
    assert_true(stream_refusal_is_new(stream, SSMD__CODE__BAD_SAMPLE));
}

static void admit__another_epoch__is_stale(void **state)
{
    struct proto_chunk chunk = {.epoch = stream->epoch + 1, .first = 0, .frames = 1};
    struct stream_admission out;

    (void)state;
    stream_admit(stream, &chunk, CHANNELS, &limits, &out);
    assert_int_equal(out.code, SSMD__CODE__STALE_EPOCH);
    chunk.epoch = stream->epoch - 1;
    stream_admit(stream, &chunk, CHANNELS, &limits, &out);
    assert_int_equal(out.code, SSMD__CODE__STALE_EPOCH);
}

static void admit__beyond_a_window__overflows_by_name(void **state)
{
    (void)state;
    stream->queued_bytes = 4000 - 10 * CHANNELS * 4;
    assert_int_equal(admit(0, 10).verdict, VERDICT_ACCEPT);
    assert_int_equal(admit(0, 11).code, SSMD__CODE__OVERFLOW);
    assert_int_equal(admit(0, 11).overflow, OVERFLOW_STREAM);
    stream->queued_bytes = 0;
    limits.connection_queued = limits.connection_window - 8;
    assert_int_equal(admit(0, 1).verdict, VERDICT_ACCEPT);
    assert_int_equal(admit(0, 2).code, SSMD__CODE__OVERFLOW);
    assert_int_equal(admit(0, 2).overflow, OVERFLOW_CONNECTION);
    limits.connection_queued = 0;
    limits.model_queued = limits.model_window - 8;
    assert_int_equal(admit(0, 1).verdict, VERDICT_ACCEPT);
    assert_int_equal(admit(0, 2).code, SSMD__CODE__OVERFLOW);
    assert_int_equal(admit(0, 2).overflow, OVERFLOW_MODEL);
}

static void admit__indices_at_the_end_of_the_range__do_not_wrap(void **state)
{
    (void)state;
    assert_int_equal(admit(UINT64_MAX, 100).code, SSMD__CODE__GAP);
    stream->next = UINT64_MAX - 5;
    assert_int_equal(admit(UINT64_MAX - 50, 10).verdict, VERDICT_DUPLICATE);
    assert_int_equal(admit(UINT64_MAX - 10, 10).skip, 5);
}

static void admit__wrong_lengths_and_states__are_refused_by_name(void **state)
{
    (void)state;
    assert_int_equal(admit(0, 0).code, SSMD__CODE__MALFORMED);
    assert_int_equal(admit(0, 101).code, SSMD__CODE__TOO_LARGE);
    limits.is_draining = true;
    assert_int_equal(admit(0, 1).code, SSMD__CODE__DRAINING);
    stream->request = REQUEST_RESET;
    assert_int_equal(admit(0, 1).code, SSMD__CODE__BUSY);
    stream->is_closing = true;
    assert_int_equal(admit(0, 1).code, SSMD__CODE__CLOSED);
    stream->is_failed = true;
    assert_int_equal(admit(0, 1).code, SSMD__CODE__INTERNAL);
}

static void epochs__of_one_id_opened_again__never_repeat(void **state)
{
    uint64_t last = stream->epoch;

    (void)state;
    for (int i = 0; i < 100; i++) {
        streams_remove(&streams, stream);
        stream = streams_insert(&streams, (const uint8_t *)"ecg", 3, 1);
        assert_true(stream->epoch > last);
        last = streams_epoch_new(&streams);
        assert_true(last > stream->epoch);
    }
}

static void streams__many_ids__are_found_and_sorted(void **state)
{
    enum { N = 997 };
    char id[16];

    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "s%d", i * 331 % N);
        assert_non_null(streams_insert(&streams, (const uint8_t *)id, strlen(id), 1));
    }
    for (uint32_t i = 1; i < streams.n; i++)
        assert_true(stream_id_compare(streams.sorted[i - 1]->id, streams.sorted[i - 1]->id_size, streams.sorted[i]->id,
                                      streams.sorted[i]->id_size) < 0);
    for (int i = 0; i < N; i++) {
        snprintf(id, sizeof(id), "s%d", i);
        assert_non_null(streams_find(&streams, (const uint8_t *)id, strlen(id)));
    }
    assert_null(streams_find(&streams, (const uint8_t *)"s", 1));
    assert_null(streams_find(&streams, (const uint8_t *)"zz", 2));
    assert_ptr_equal(streams.sorted[streams_seek(&streams, NULL, 0, false)], stream); /* "ecg" is before "s..." */
    assert_int_equal(streams_seek(&streams, (const uint8_t *)"ecg", 3, true), 1);
}

static void ids__without_nul_and_of_1_to_64_bytes__are_valid(void **state)
{
    uint8_t id[65];

    (void)state;
    memset(id, 'x', sizeof(id));
    assert_true(stream_id_is_valid(id, 64));
    assert_false(stream_id_is_valid(id, 65));
    assert_false(stream_id_is_valid(id, 0));
    id[3] = 0;
    assert_true(stream_id_is_valid(id, 3));
    assert_false(stream_id_is_valid(id, 4));
}

static void stream__besides_state_and_ring__takes_less_than_a_kibibyte(void **state)
{
    (void)state;
    assert_true(stream_bytes(stream) + sizeof(uint64_t) * 8 < 1024);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stream_setup, stream_teardown)
    const struct CMUnitTest tests[] = {
        TEST(admit__next_chunk__is_accepted),
        TEST(admit__repeated_chunk__is_a_duplicate),
        TEST(admit__overlap__is_trimmed),
        TEST(admit__gap__is_answered_once_until_cured),
        TEST(admit__gap_behind_another_refusal__is_not_answered),
        TEST(admit__another_epoch__is_stale),
        TEST(admit__beyond_a_window__overflows_by_name),
        TEST(admit__indices_at_the_end_of_the_range__do_not_wrap),
        TEST(admit__wrong_lengths_and_states__are_refused_by_name),
        TEST(epochs__of_one_id_opened_again__never_repeat),
        TEST(streams__many_ids__are_found_and_sorted),
        TEST(ids__without_nul_and_of_1_to_64_bytes__are_valid),
        TEST(stream__besides_state_and_ring__takes_less_than_a_kibibyte),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
