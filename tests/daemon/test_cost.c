/* SPDX-License-Identifier: Apache-2.0
 *
 * What a device's batches are learned to cost, in a simulated device: how large they become, whatever is learned first,
 * and that a fixed time never makes them small. Nothing here is measured.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/cost.h"

#define TARGET 1e6

static struct cost cost;

static int cost_begin(void **state)
{
    (void)state;
    memset(&cost, 0, sizeof(cost));
    return 0;
}

/* As site.c tries a model that was compiled: one frame, and 64 side by side. */
static void probe(double fixed, double frame)
{
    cost_take(&cost, 1, fixed + frame, TARGET);
    cost_take(&cost, 64, fixed + 64 * frame, TARGET);
}

/* Batches that are as large as they may be, up to what is there: the time that the last one took. */
static double serve(double fixed, double frame, double most, int batches)
{
    double ns = 0;

    for (int i = 0; i < batches; i++) {
        double frames = cost_frames(&cost, TARGET);

        frames = frames < 64 ? 64 : frames < most ? frames : most;
        ns = fixed + frame * frames;
        cost_take(&cost, frames, ns, TARGET);
    }
    return ns;
}

static void cost__unknown__is_nothing(void **state)
{
    (void)state;
    assert_true(cost_frames(&cost, TARGET) == 0);
    assert_true(cost_of_frame(&cost, TARGET) == 0);
    cost_take(&cost, 0, 1e6, TARGET); /* says nothing */
    assert_true(cost_frames(&cost, TARGET) == 0);
}

/* A device that is far from full when it is tried: 100 us whatever there is, and 10 ns for a frame. */
static void cost__fixed_time__is_no_reason_for_small_batches(void **state)
{
    (void)state;
    probe(1e5, 10);
    assert_true(cost_frames(&cost, TARGET) >= 64);
    assert_true(cost_frames(&cost, TARGET) <= 128); /* not trusted far from where it was seen */
    assert_in_range((long)serve(1e5, 10, 1e9, 30), 900000, 1100000);
    assert_in_range((long)cost_frames(&cost, TARGET), 85000, 95000);
    assert_in_range((long)(cost_of_frame(&cost, TARGET) * 100), 1100, 1112); /* a share of the fixed time counts */
}

/* Another one, where one advance takes longer than a batch should. */
static void cost__fixed_time_beyond_the_target__takes_as_long_again(void **state)
{
    (void)state;
    probe(5e6, 100);
    assert_in_range((long)serve(5e6, 100, 1e9, 40), 9000000, 11000000);
    assert_in_range((long)cost_frames(&cost, TARGET), 45000, 55000);
}

static void cost__dear_frames__make_small_batches(void **state)
{
    (void)state;
    probe(0, 1e5);
    assert_in_range((long)serve(0, 1e5, 1e9, 30), 6400000, 6400000); /* the caller's least, a piece of the grid */
    assert_in_range((long)cost_frames(&cost, TARGET), 9, 11);
}

/* A thousand streams that bring one frame each: batches all alike, for as long as the line would take to fade. */
static void cost__batches_of_one_size__keep_what_was_known(void **state)
{
    (void)state;
    probe(1e5, 200);
    (void)serve(1e5, 200, 1000, 1000);
    assert_true(cost_frames(&cost, TARGET) <= 2000);
    assert_true(cost_frames(&cost, TARGET) >= 1000);
    assert_in_range((long)serve(1e5, 200, 1e9, 30), 800000, 1200000);
}

/* Load comes and goes, and so do the sizes; now and then a batch is stalled by something else. */
static void noise_serve(unsigned *seed, int batches, int stalls)
{
    for (int i = 0; i < batches; i++) {
        double most = cost_frames(&cost, TARGET), frames, ns;

        most = most < 64 ? 64 : most;
        frames = i % 3 ? 1 + rand_r(seed) % (long)most : most;
        ns = (8e4 + 50 * frames) * (0.9 + rand_r(seed) % 201 / 1000.0);
        if (stalls > 0 && rand_r(seed) % stalls == 0)
            ns *= 50;
        cost_take(&cost, frames, ns, TARGET);
    }
}

static void cost__noise_and_stalls__leave_batches_near_their_time(void **state)
{
    unsigned seed = 7;

    (void)state;
    probe(8e4, 50);
    for (int i = 0; i < 20; i++) {
        noise_serve(&seed, 100, 20); /* also two stalls on end, which are believed */
        assert_in_range((long)cost_frames(&cost, TARGET), 256, 30000);
        noise_serve(&seed, 60, 0);
        assert_in_range((long)cost_frames(&cost, TARGET), 12000, 25000);
    }
}

/* The model became dearer, as when a second one shares the device: a few batches are late, not all. */
static void cost__dearer_than_it_was__is_learned(void **state)
{
    (void)state;
    probe(1e5, 10);
    (void)serve(1e5, 10, 1e9, 40);
    assert_in_range((long)serve(1e5, 200, 1e9, 100), 700000, 1400000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, cost_begin)
    const struct CMUnitTest tests[] = {
        TEST(cost__unknown__is_nothing),
        TEST(cost__fixed_time__is_no_reason_for_small_batches),
        TEST(cost__fixed_time_beyond_the_target__takes_as_long_again),
        TEST(cost__dear_frames__make_small_batches),
        TEST(cost__batches_of_one_size__keep_what_was_known),
        TEST(cost__noise_and_stalls__leave_batches_near_their_time),
        TEST(cost__dearer_than_it_was__is_learned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
