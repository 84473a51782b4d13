/* SPDX-License-Identifier: Apache-2.0
 *
 * The queues of libssmclient by themselves: frames kept until they are durable, and results until they are taken. A
 * model of plain arrays says what must come out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "clients/c/kept.h"
#include "clients/c/results.h"

static void push_frames(struct kept *k, uint32_t frames, int64_t time)
{
    uint16_t samples[4096];
    struct kept_chunk chunk = {.frames = frames, .frame_bytes = 2, .format = 2, .has_time = 1, .time = time};
    for (uint32_t i = 0; i < frames; i++)
        samples[i] = (uint16_t)(k->next + i);
    assert_int_equal(kept_push(k, &chunk, samples), 0);
}

/* Sends everything unsent; the first index sent. */
static uint64_t send_all(struct kept *k)
{
    struct kept_chunk chunk;
    const void *samples;
    uint64_t first = UINT64_MAX, next = 0;
    while (kept_unsent(k, &chunk, &samples)) {
        if (first == UINT64_MAX)
            first = chunk.first;
        else
            assert_int_equal(chunk.first, next);
        for (uint32_t i = 0; i < chunk.frames; i++) {
            uint16_t value;
            memcpy(&value, (const uint8_t *)samples + 2 * i, 2);
            assert_int_equal(value, (uint16_t)(chunk.first + i));
        }
        next = chunk.first + chunk.frames;
        kept_mark_sent(k);
    }
    if (first != UINT64_MAX)
        assert_int_equal(next, k->next);
    return first;
}

static void kept__marked_as_backfill__is_what_was_not_sent(void **state)
{
    (void)state;
    struct kept k = {0};
    struct kept_chunk chunk;
    const void *samples;
    push_frames(&k, 10, 1);
    push_frames(&k, 10, 2);
    assert_int_equal(send_all(&k), 0);
    push_frames(&k, 10, 3);
    assert_int_equal(kept_rewind(&k, 10), 0);
    kept_mark_backfill(&k);
    push_frames(&k, 10, 4);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kept_unsent(&k, &chunk, &samples), 1);
        assert_int_equal(chunk.backfill, i < 2);
        kept_mark_sent(&k);
    }
    assert_int_equal(kept_rewind(&k, 5), 0);
    assert_int_equal(kept_unsent(&k, &chunk, &samples), 1);
    assert_int_equal(chunk.backfill, 0);
    kept_fini(&k);
}

static void kept__rewound_into_a_chunk__sends_the_rest_of_it(void **state)
{
    (void)state;
    struct kept k = {0};
    push_frames(&k, 10, 1);
    push_frames(&k, 13, 2);
    push_frames(&k, 7, 3);
    assert_int_equal(send_all(&k), 0);
    assert_int_equal(kept_rewind(&k, 17), 0);
    assert_int_equal(kept_sent_index(&k), 17);
    struct kept_chunk chunk;
    const void *samples;
    assert_true(kept_unsent(&k, &chunk, &samples));
    assert_int_equal(chunk.frames, 6);
    assert_int_equal(chunk.time, 2); /* goes out as it was pushed */
    assert_int_equal(send_all(&k), 17);
    kept_fini(&k);
}

static void kept__rewound_outside__is_refused(void **state)
{
    (void)state;
    struct kept k = {0};
    push_frames(&k, 10, 1);
    push_frames(&k, 10, 1);
    kept_release(&k, 10);
    assert_int_equal(kept_first(&k), 10);
    assert_int_equal(kept_rewind(&k, 9), -1);
    assert_int_equal(kept_rewind(&k, 21), -1);
    assert_int_equal(kept_rewind(&k, 20), 0);
    assert_false(kept_has_unsent(&k));
    assert_int_equal(kept_rewind(&k, 10), 0);
    assert_int_equal(send_all(&k), 10);
    kept_fini(&k);
}

static void kept__released_within_a_chunk__keeps_all_of_it(void **state)
{
    (void)state;
    struct kept k = {0};
    push_frames(&k, 10, 1);
    kept_release(&k, 9);
    assert_int_equal(kept_first(&k), 0);
    kept_release(&k, 10);
    assert_int_equal(kept_first(&k), 10);
    assert_int_equal(fifo_size(&k.samples), 0);
    kept_fini(&k);
}

static void kept__released_beyond_what_was_sent__goes_on_behind(void **state)
{
    (void)state;
    struct kept k = {0};
    push_frames(&k, 10, 1);
    push_frames(&k, 10, 1);
    kept_release(&k, 10); /* the daemon had it from an earlier connection */
    assert_int_equal(kept_sent_index(&k), 10);
    assert_int_equal(send_all(&k), 10);
    kept_fini(&k);
}

static void kept__many_random_turns__loses_and_doubles_nothing(void **state)
{
    (void)state;
    struct kept k = {0};
    uint64_t durable = 0;
    srand(7);
    for (int i = 0; i < 20000; i++) {
        switch (rand() % 4) {
        case 0:
        case 1:
            if (k.next - durable < 3000)
                push_frames(&k, 1 + (uint32_t)rand() % 97, i);
            break;
        case 2: {
            uint64_t sent = kept_sent_index(&k);
            uint64_t first = send_all(&k);
            assert_true(first == UINT64_MAX || first == sent);
            durable += (uint64_t)rand() % (k.next - durable + 1);
            kept_release(&k, durable);
            break;
        }
        default: {
            uint64_t to = durable + (uint64_t)rand() % (k.next - durable + 1);
            assert_int_equal(kept_rewind(&k, to), 0);
            assert_int_equal(kept_sent_index(&k), to);
        }
        }
        assert_true(fifo_size(&k.samples) <= 2 * (3000 + 97 + 97));
    }
    assert_true(k.samples.capacity <= 65536); /* bounded by what is kept, not by what went through */
    kept_fini(&k);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void push_results(struct results *r, uint64_t first, uint32_t frames, int has_time)
{
    float samples[300];
    struct result_chunk chunk = {
        .epoch = 1, .first = first, .frames = frames, .has_time = has_time, .time = (int64_t)first};
    for (uint32_t i = 0; i < frames * r->channels; i++)
        samples[i] = (float)(first * r->channels + i);
    assert_int_equal(results_push(r, &chunk, samples), 0);
}

static void results__taken__stay_while_more_arrive(void **state)
{
    (void)state;
    struct results r = {.channels = 3};
    struct result_chunk chunk;
    const float *samples;
    push_results(&r, 0, 100, 0);
    assert_true(results_take(&r, &chunk, &samples));
    for (int i = 1; i < 50; i++)
        push_results(&r, (uint64_t)i * 100, 100, 0);
    for (int i = 0; i < 300; i++)
        assert_true(samples[i] == (float)i);
    assert_int_equal(r.waiting, 49 * 300 * sizeof(float));
    results_fini(&r);
}

static void results__following_without_time__are_merged(void **state)
{
    (void)state;
    struct results r = {.channels = 1};
    struct result_chunk chunk;
    const float *samples;
    for (uint64_t i = 0; i < 1000; i++)
        push_results(&r, i, 1, 0);
    assert_true(results_take(&r, &chunk, &samples));
    assert_int_equal(chunk.frames, 1000);
    assert_false(results_take(&r, &chunk, &samples));
    results_fini(&r);
}

static void results__with_time_or_a_hole__are_not_merged(void **state)
{
    (void)state;
    struct results r = {.channels = 1};
    struct result_chunk chunk;
    const float *samples;
    push_results(&r, 0, 5, 0);
    push_results(&r, 5, 5, 1);
    push_results(&r, 10, 5, 0);
    push_results(&r, 20, 5, 0);
    const uint64_t firsts[] = {0, 5, 10, 20};
    for (int i = 0; i < 4; i++) {
        assert_true(results_take(&r, &chunk, &samples));
        assert_int_equal(chunk.first, firsts[i]);
        assert_int_equal(chunk.frames, 5);
        assert_true(samples[0] == (float)firsts[i]);
    }
    results_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept__marked_as_backfill__is_what_was_not_sent),
        cmocka_unit_test(kept__rewound_into_a_chunk__sends_the_rest_of_it),
        cmocka_unit_test(kept__rewound_outside__is_refused),
        cmocka_unit_test(kept__released_within_a_chunk__keeps_all_of_it),
        cmocka_unit_test(kept__released_beyond_what_was_sent__goes_on_behind),
        cmocka_unit_test(kept__many_random_turns__loses_and_doubles_nothing),
        cmocka_unit_test(results__taken__stay_while_more_arrive),
        cmocka_unit_test(results__following_without_time__are_merged),
        cmocka_unit_test(results__with_time_or_a_hole__are_not_merged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
