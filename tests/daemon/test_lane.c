/* SPDX-License-Identifier: Apache-2.0
 *
 * Whose turn it is: the order within a lane, deadlines while they can be met, shares when they cannot, and that nobody
 * starves. A simulated engine serves batches of 150 us in simulated time; nothing here is measured.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

#include "daemon/models.h"
#include "daemon/stream.h"

#define BUSY_NS 150000u
#define MS      UINT64_C(1000000)

static struct lanes lanes;

static void model_begin(struct model *model, uint32_t priority)
{
    site_init(&model->site[0], model, NULL);
    model->priority = priority;
}

static void model_end(struct model *model)
{
    while (lane_first(&model->site[0].live))
        lane_pop(&lanes, &model->site[0].live);
    while (lane_first(&model->site[0].backfill))
        lane_pop(&lanes, &model->site[0].backfill);
    site_fini(&model->site[0]);
    free(model);
}

static struct model *model_new(uint32_t priority)
{
    struct model *model = calloc(1, sizeof(*model));

    assert_non_null(model);
    model_begin(model, priority);
    return model;
}

static int lanes_setup(void **state)
{
    (void)state;
    lanes_init(&lanes);
    return 0;
}

static void lane__random_pushes_and_removals__gives_them_in_order(void **state)
{
    struct model *model = model_new(1);
    struct stream *streams = calloc(500, sizeof(*streams));
    uint64_t due[500], last = 0;
    unsigned seed = 11, left = 500;

    (void)state;
    assert_non_null(streams);
    for (int i = 0; i < 500; i++) {
        due[i] = (uint64_t)rand_r(&seed) % 100;
        assert_true(lane_push(&lanes, &model->site[0].live, &streams[i], due[i]));
    }
    for (int i = 0; i < 500; i += 7, left--)
        lane_remove(&lanes, &model->site[0].live, &streams[i]);
    for (const struct stream *before = NULL; model->site[0].live.n > 0; left--) {
        const struct stream *first = lane_first(&model->site[0].live);
        uint64_t its = due[first - streams];

        assert_true((first - streams) % 7 != 0);
        assert_true(its > last || (its == last && before < first)); /* of equals the one that came first */
        last = its;
        before = first;
        lane_pop(&lanes, &model->site[0].live);
    }
    assert_int_equal(left, 0);
    assert_null(lanes_choose(&lanes, 0));
    free(streams);
    model_end(model);
}

/* A stream of the simulation: it brings `work` batches every `period`, each due one period after it came. */
struct source {
    struct model *model;
    struct stream stream;
    uint64_t period, next, arrived; /* of its oldest work */
    uint32_t work, waiting;
    bool is_backfill;
    uint64_t served, latest; /* batches; the longest that one waited for its first */
};

static void source_push(struct source *s, uint64_t now)
{
    struct lane *lane = s->is_backfill ? &s->model->site[0].backfill : &s->model->site[0].live;

    assert_true(lane_push(&lanes, lane, &s->stream, s->is_backfill ? now : s->arrived + s->period));
}

/* Serves whoever's turn it is until `end`; the engine does one batch at a time. */
static void simulate(struct source *source, int n, uint64_t end)
{
    for (uint64_t now = 0; now < end;) {
        struct lane *lane;

        for (int i = 0; i < n; i++) {
            for (; source[i].next <= now; source[i].next += source[i].period) {
                if (source[i].waiting == 0) {
                    source[i].arrived = source[i].next;
                    source_push(&source[i], now);
                }
                source[i].waiting += source[i].work;
            }
        }
        lane = lanes_choose(&lanes, now);
        if (!lane) {
            now += 10000;
            continue;
        }
        for (int i = 0; i < n; i++) {
            struct source *s = &source[i];

            if (lane_first(lane) != &s->stream)
                continue;
            lane_pop(&lanes, lane);
            if (now > s->arrived + s->latest)
                s->latest = now - s->arrived;
            s->served++;
            now += BUSY_NS;
            lane_charge(&lanes, lane, now, BUSY_NS);
            if (--s->waiting > 0) {
                s->arrived += s->period / s->work; /* roughly when the next of its work came */
                source_push(s, now);
            }
            break;
        }
    }
}

static void lanes__enough_time__meets_every_deadline(void **state)
{
    struct model *slow = model_new(10), *quick = model_new(10);
    struct source source[] = {
        {.model = slow, .period = 100 * MS, .work = 500}, /* three quarters of the engine, due within 100 ms */
        {.model = quick, .period = 2 * MS, .work = 2},    /* 15%, due within 2 ms */
    };

    (void)state;
    simulate(source, 2, 3000 * MS);
    assert_true(source[1].latest < 1 * MS); /* never behind the other's backlog of 75 ms */
    assert_true(source[0].latest < 100 * MS);
    assert_true(source[0].served > 14000 && source[1].served > 2900);
    model_end(slow);
    model_end(quick);
}

static void lanes__overload__shares_by_priority_and_spares_who_asks_for_little(void **state)
{
    struct model *a = model_new(30), *b = model_new(10), *c = model_new(10);
    struct source source[] = {
        {.model = a, .period = 10 * MS, .work = 1000}, /* each alone wants fifteen engines */
        {.model = b, .period = 10 * MS, .work = 1000},
        {.model = c, .period = 10 * MS, .work = 2}, /* 3% */
    };
    double of_a;

    (void)state;
    simulate(source, 3, 5000 * MS);
    of_a = (double)source[0].served / (double)source[1].served;
    assert_true(of_a > 2.4 && of_a < 3.6);
    assert_true(source[2].served >= 2 * 490);
    assert_true(source[2].latest < 10 * MS);
    model_end(a);
    model_end(b);
    model_end(c);
}

static void lanes__least_priority_in_overload__still_has_its_share(void **state)
{
    struct model *a = model_new(100), *b = model_new(1);
    struct source source[] = {
        {.model = a, .period = 10 * MS, .work = 1000},
        {.model = b, .period = 10 * MS, .work = 1000},
    };

    (void)state;
    simulate(source, 2, 20000 * MS);
    assert_true(source[1].served > 20000 * MS / BUSY_NS / 101 / 2);
    model_end(a);
    model_end(b);
}

static void lanes__one_stream_beside_many__is_served_in_its_turn(void **state)
{
    enum { MANY = 60 };
    struct model *model = model_new(10);
    struct source source[MANY] = {0};

    (void)state;
    for (int i = 0; i < MANY; i++)
        source[i] = (struct source){.model = model, .period = 10 * MS, .work = 30};
    source[7].work = 1; /* the others alone want 27 engines */
    simulate(source, MANY, 2000 * MS);
    for (int i = 0; i < MANY; i++)
        assert_true(source[i].served > 0);
    model_end(model);
}

static void lanes__backfill__takes_what_live_leaves(void **state)
{
    struct model *model = model_new(10), *other = model_new(10);
    struct source source[] = {
        {.model = model, .period = 10 * MS, .work = 20}, /* 30% */
        {.model = other, .period = 5000 * MS, .work = 100000, .is_backfill = true},
    };

    (void)state;
    simulate(source, 2, 2000 * MS);
    assert_true(source[0].latest < 5 * MS);
    assert_true(source[1].served > 2000 * MS / BUSY_NS * 65 / 100);
    model_end(model);
    model_end(other);
}

static void lanes__backfill_beside_overload__is_not_starved(void **state)
{
    struct model *model = model_new(100), *other = model_new(1);
    struct source source[] = {
        {.model = model, .period = 10 * MS, .work = 1000},
        {.model = other, .period = 5000 * MS, .work = 100000, .is_backfill = true},
    };

    (void)state;
    simulate(source, 2, 2000 * MS);
    assert_true(source[1].served >= 2000 * MS / BUSY_NS / LANE_BACKFILL - 10);
    assert_true(source[1].served <= 2000 * MS / BUSY_NS / LANE_BACKFILL + 10);
    model_end(model);
    model_end(other);
}

static void stream__due__does_not_advance_faster_than_its_own_time(void **state)
{
    struct stream *s = calloc(1, sizeof(*s));

    (void)state;
    assert_non_null(s);
    assert_int_equal(stream_due(s, 1000 * MS, 10 * MS, 10 * MS), 1010 * MS);
    assert_int_equal(stream_due(s, 1010 * MS, 10 * MS, 10 * MS), 1020 * MS);
    assert_int_equal(stream_due(s, 1010 * MS, 10 * MS, 10 * MS), 1030 * MS); /* ahead of real time: due later */
    assert_int_equal(stream_due(s, 1010 * MS, 100 * MS, 100 * MS), 1130 * MS);
    assert_int_equal(stream_due(s, 2000 * MS, 10 * MS, 10 * MS), 2010 * MS); /* nothing is owed for the time before */
    assert_int_equal(stream_due(s, 3000 * MS, 10 * MS, 3 * MS), 3003 * MS);  /* its class says so */
    assert_int_equal(stream_due(s, 3000 * MS, 10 * MS, 3 * MS), 3013 * MS);
    (void)stream_due(s, 4000 * MS, 3600000 * MS, 10 * MS); /* an hour in one chunk: */
    assert_int_equal(stream_due(s, 5000 * MS, 10 * MS, 10 * MS), 5010 * MS + STREAM_AHEAD_NS); /* due later, not last */
    free(s);
}

#define TEST(name) cmocka_unit_test_setup(name, lanes_setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lane__random_pushes_and_removals__gives_them_in_order),
        TEST(lanes__enough_time__meets_every_deadline),
        TEST(lanes__overload__shares_by_priority_and_spares_who_asks_for_little),
        TEST(lanes__least_priority_in_overload__still_has_its_share),
        TEST(lanes__one_stream_beside_many__is_served_in_its_turn),
        TEST(lanes__backfill__takes_what_live_leaves),
        TEST(lanes__backfill_beside_overload__is_not_starved),
        TEST(stream__due__does_not_advance_faster_than_its_own_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
