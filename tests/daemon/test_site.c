/* SPDX-License-Identifier: Apache-2.0
 *
 * Where streams go when there are several engines: to the one with the least to do, by time and by bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/loop.h"

static void load__nothing__is_the_first(void **state)
{
    struct site_load loads[3] = {{0, 0}, {0, 0}, {0, 0}};

    (void)state;
    assert_int_equal(site_load_least(loads, 3), 0);
    assert_int_equal(site_load_least(loads, 1), 0);
}

static void load__time_and_bytes__both_count(void **state)
{
    struct site_load loads[2] = {{0.5, 1000}, {0.2, 1000}};

    (void)state;
    assert_int_equal(site_load_least(loads, 2), 1); /* as many bytes, less time */
    loads[1].busy = 0.5;
    loads[0].bytes = 900;
    assert_int_equal(site_load_least(loads, 2), 0); /* as much time, fewer bytes */
    loads[0] = (struct site_load){0.1, 3000};       /* 0.1 + 3/4 */
    loads[1] = (struct site_load){0.5, 1000};       /* 0.5 + 1/4 */
    assert_int_equal(site_load_least(loads, 2), 1);
    loads[0].busy = 0;
    assert_int_equal(site_load_least(loads, 2), 0);
}

/* Streams of tokens cost no time that is known beforehand, those of signals little memory: each kind is spread. */
static void load__two_kinds_of_streams__are_spread_evenly(void **state)
{
    struct site_load loads[4] = {{0}};
    uint32_t tokens[4] = {0}, signals[4] = {0};

    (void)state;
    for (int i = 0; i < 400; i++) {
        uint32_t at = site_load_least(loads, 4);

        loads[at].bytes += 3000000;
        tokens[at]++;
    }
    for (int i = 0; i < 400; i++) {
        uint32_t at = site_load_least(loads, 4);

        loads[at].bytes += 2000;
        loads[at].busy += 0.001;
        signals[at]++;
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(tokens[i], 100);
        assert_in_range(signals[i], 95, 105);
    }
}

/* ---- of a loop --------------------------------------------------------------------------------------------------- */

static struct loop *loop;
static struct model *model;

static int loop_begin(void **state)
{
    (void)state;
    loop = calloc(1, sizeof(*loop));
    model = calloc(1, sizeof(*model));
    if (!loop || !model)
        return -1;
    TAILQ_INIT(&loop->models.all);
    TAILQ_INSERT_TAIL(&loop->models.all, model, of_all);
    loop->units.n = 3;
    model->info.in_rate = 1000;
    model->info.state_bytes = 500;
    for (uint32_t i = 0; i < 3; i++) {
        site_init(&model->site[i], model, &loop->units.of[i]);
        model->site[i].cost_ns = 100;
    }
    return 0;
}

static int loop_end(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        site_fini(&model->site[i]);
    free(model);
    free(loop);
    return 0;
}

static void site__of_engines_that_have_it__is_chosen(void **state)
{
    struct ssm_program *somewhere = (struct ssm_program *)(void *)loop; /* nobody looks into it */

    (void)state;
    assert_null(site_choose(loop, model));
    model->site[2].program = somewhere;
    assert_ptr_equal(site_choose(loop, model), &model->site[2]);
    model->site[1].program = somewhere;
    assert_ptr_equal(site_choose(loop, model), &model->site[1]);
    model->site[1].slots = 3;
    assert_ptr_equal(site_choose(loop, model), &model->site[2]);
    model->site[2].slots = 4;
    assert_ptr_equal(site_choose(loop, model), &model->site[1]);
    loop->units.of[1].has_failed = true;
    assert_ptr_equal(site_choose(loop, model), &model->site[2]);
    loop->units.of[2].has_failed = true;
    assert_null(site_choose(loop, model));
}

/* What other models have on an engine counts as well. */
static void site__load_of_other_models__counts(void **state)
{
    struct model *other = calloc(1, sizeof(*other));

    (void)state;
    assert_non_null(other);
    TAILQ_INSERT_TAIL(&loop->models.all, other, of_all);
    other->info.in_rate = 16000;
    other->info.state_bytes = 100;
    for (uint32_t i = 0; i < 2; i++) {
        site_init(&other->site[i], other, &loop->units.of[i]);
        model->site[i].program = other->site[i].program = (struct ssm_program *)(void *)loop;
    }
    other->site[0].cost_ns = 1000;
    other->site[0].slots = other->site[0].live_streams = 10; /* 0.16 of its time */
    assert_ptr_equal(site_choose(loop, model), &model->site[1]);
    other->site[1].slots = other->site[1].live_streams = 10;
    other->site[1].cost_ns = 900; /* measured a little better: no reason to go there */
    assert_ptr_equal(site_choose(loop, model), &model->site[0]);
    snprintf(loop->units.of[1].text, sizeof(loop->units.of[1].text), "another kind, which is faster");
    assert_ptr_equal(site_choose(loop, model), &model->site[1]);
    for (uint32_t i = 0; i < 2; i++)
        site_fini(&other->site[i]);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load__nothing__is_the_first),
        cmocka_unit_test(load__time_and_bytes__both_count),
        cmocka_unit_test(load__two_kinds_of_streams__are_spread_evenly),
        cmocka_unit_test_setup_teardown(site__of_engines_that_have_it__is_chosen, loop_begin, loop_end),
        cmocka_unit_test_setup_teardown(site__load_of_other_models__counts, loop_begin, loop_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
