/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs of publishers: what every policy says of every kind of chunk, who may write, and chains of chunks that come in
 * any order, twice or not at all, against a walk frame by frame.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/source.h"

#define ROOM 1000
#define MS   UINT64_C(1000000)

static const uint8_t one[PROTO_SOURCE_BYTES] = "one", two[PROTO_SOURCE_BYTES] = "two";
static struct source_rule rule;
static struct source source;
static uint64_t now_ns;

static int source_setup(void **state)
{
    (void)state;
    rule = (struct source_rule){.gap = GAP_HOLD, .max_fill = 100, .live_ns = 10 * MS};
    memset(&source, 0, sizeof(source));
    now_ns = 5000 * MS;
    return 0;
}

static struct source_judgement judge(const uint8_t *run, uint64_t first, uint32_t frames)
{
    struct source_judgement out;

    source_judge(&source, &rule, ROOM, run, first, frames, now_ns, &out);
    return out;
}

/* The run writes and its next frame is `next`. */
static void begin(const uint8_t *run, uint64_t next)
{
    assert_true(source_begin(&source, run, next));
    source.heard_ns = now_ns;
}

static void judge__a_first_chunk__is_accepted_wherever_it_begins(void **state)
{
    (void)state;
    assert_int_equal(judge(one, 12345, 7).verdict, SOURCE_ACCEPT);
    begin(one, 12345);
    assert_int_equal(source.next, 12345);
    assert_false(source_begin(&source, one, 99));
    assert_int_equal(source.next, 12345);
}

static void judge__what_lies_before_or_across__is_duplicate_or_trimmed(void **state)
{
    (void)state;
    begin(one, 100);
    assert_int_equal(judge(one, 100, 1).verdict, SOURCE_ACCEPT);
    assert_int_equal(judge(one, 100, 1).skip, 0);
    assert_int_equal(judge(one, 90, 11).verdict, SOURCE_ACCEPT);
    assert_int_equal(judge(one, 90, 11).skip, 10);
    assert_int_equal(judge(one, 90, 10).verdict, SOURCE_DUPLICATE);
    assert_int_equal(judge(one, 0, 1).verdict, SOURCE_DUPLICATE);
}

static void judge__a_gap__is_what_the_policy_says(void **state)
{
    (void)state;
    begin(one, 100);
    for (int policy = GAP_HOLD; policy <= GAP_ZERO; policy++) {
        rule.gap = (enum gap_policy)policy;
        assert_int_equal(judge(one, 101, 1).verdict, SOURCE_FILL);
        assert_int_equal(judge(one, 101, 1).fill, 1);
        assert_int_equal(judge(one, 200, 1).fill, 100);
        assert_int_equal(judge(one, 201, 1).verdict, SOURCE_RESET);
        assert_int_equal(judge(one, UINT64_MAX / 2, 1).verdict, SOURCE_RESET);
    }
    rule.gap = GAP_RESET;
    assert_int_equal(judge(one, 101, 1).verdict, SOURCE_RESET);
    rule.gap = GAP_REFUSE;
    assert_int_equal(judge(one, 101, 1).verdict, SOURCE_GAP);
    assert_int_equal(judge(one, 100, 1).verdict, SOURCE_ACCEPT);
}

static void judge__a_fill_beyond_the_window__resets(void **state)
{
    (void)state;
    rule.max_fill = UINT64_MAX;
    begin(one, 0);
    assert_int_equal(judge(one, ROOM - 10, 10).verdict, SOURCE_FILL);
    assert_int_equal(judge(one, ROOM - 9, 10).verdict, SOURCE_RESET);
    assert_int_equal(judge(one, ROOM + 1, 10).verdict, SOURCE_RESET);
    assert_int_equal(judge(one, 5, ROOM + 1).verdict, SOURCE_RESET);
}

static void judge__a_second_run__waits_until_the_first_is_silent(void **state)
{
    (void)state;
    begin(one, 100);
    now_ns += 10 * MS - 1;
    assert_int_equal(judge(two, 100, 1).verdict, SOURCE_SECOND);
    assert_int_equal(judge(one, 100, 1).verdict, SOURCE_ACCEPT);
    now_ns += 1;
    assert_int_equal(judge(two, 7, 1).verdict, SOURCE_ACCEPT);
    begin(two, 7);
    assert_int_equal(judge(one, 100, 1).verdict, SOURCE_SECOND);
    assert_int_equal(judge(two, 8, 1).verdict, SOURCE_FILL);
}

/* Chunks of one run at random places: after each of them the frames that the stream has are those of the walk. */
static void judge__random_chunks__take_every_frame_once_and_in_order(void **state)
{
    uint32_t seed = 1;

    (void)state;
    for (int policy = GAP_RESET; policy <= GAP_REFUSE; policy++) {
        uint64_t next = 50;

        rule.gap = (enum gap_policy)policy;
        memset(&source, 0, sizeof(source));
        begin(one, next);
        for (int i = 0; i < 20000; i++) {
            uint64_t first, taken;
            uint32_t frames;
            struct source_judgement j;

            seed = seed * 1664525u + 1013904223u;
            first = next + (seed >> 8) % 300 - (next < 150 ? 0 : 150);
            frames = 1 + (seed >> 20) % 200;
            j = judge(one, first, frames);
            if (j.verdict == SOURCE_DUPLICATE) {
                assert_true(first + frames <= next);
                continue;
            }
            if (j.verdict == SOURCE_GAP) {
                assert_true(policy == GAP_REFUSE && first > next);
                continue;
            }
            if (j.verdict == SOURCE_RESET)
                next = first;
            assert_true(policy == GAP_RESET || j.verdict != SOURCE_RESET || first - source.next > rule.max_fill);
            taken = next + j.fill;
            assert_int_equal(taken, first + j.skip);
            assert_in_range(j.skip, 0, frames - 1);
            assert_in_range(j.fill, 0, rule.max_fill);
            next = source.next = first + frames;
        }
    }
}

static void policy__names__are_found_again(void **state)
{
    (void)state;
    for (int policy = GAP_RESET; policy <= GAP_REFUSE; policy++)
        assert_int_equal(source_policy_find(source_policy_name((enum gap_policy)policy)), policy);
    assert_int_equal(source_policy_find("fill"), -1);
    assert_int_equal(source_policy_find(""), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(judge__a_first_chunk__is_accepted_wherever_it_begins, source_setup),
        cmocka_unit_test_setup(judge__what_lies_before_or_across__is_duplicate_or_trimmed, source_setup),
        cmocka_unit_test_setup(judge__a_gap__is_what_the_policy_says, source_setup),
        cmocka_unit_test_setup(judge__a_fill_beyond_the_window__resets, source_setup),
        cmocka_unit_test_setup(judge__a_second_run__waits_until_the_first_is_silent, source_setup),
        cmocka_unit_test_setup(judge__random_chunks__take_every_frame_once_and_in_order, source_setup),
        cmocka_unit_test(policy__names__are_found_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
