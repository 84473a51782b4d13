/* SPDX-License-Identifier: Apache-2.0
 *
 * How batches form: a stream once in each (I1), live chunks merged, backfill cut on the grid whatever the load (I4), a
 * full ring stalling its own stream only, and every frame taken once, in order (I3, I7).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "daemon/batch.h"

#define STREAMS    7
#define RING_BYTES 65536

static struct model *model;
static struct site *site; /* its */
static struct batcher batcher;
static struct input input;
static struct streams streams;
static struct ring_budget budget;
static uint64_t stalled;

static int batch_setup(void **state)
{
    char id[16];

    (void)state;
    model = calloc(1, sizeof(*model));
    assert_non_null(model);
    assert_int_equal(ssm_model_load(&model->model, "memory:rate=100,channels=2,order=2,window=0.5", NULL, NULL),
                     SSM_OK);
    model->info = *ssm_model_info(model->model);
    model->grid = BATCH_GRID;
    model->is_one_to_one = true;
    site = &model->site[0];
    site_init(site, model, NULL);
    site->frame_ns = 1; /* cheap: time cuts no batch here */
    model->priority = LANE_PRIORITY;
    assert_int_equal(batcher_init(&batcher, 300, 1000, 1), 0);
    batcher.now_ns = 1000000000;
    input_init(&input, 64u << 20);
    streams_init(&streams);
    budget = (struct ring_budget){.limit = 64u << 20};
    stalled = 0;
    for (int i = 0; i < STREAMS; i++) {
        struct stream *s;

        snprintf(id, sizeof(id), "s%d", i);
        s = streams_insert(&streams, (const uint8_t *)id, 2, model->info.out_channels);
        assert_non_null(s);
        s->model = model;
        s->site = site;
    }
    return 0;
}

static void chunks_drop(struct chunk **list)
{
    while (*list) {
        struct chunk *chunk = *list;

        *list = chunk->next;
        input_release(&input, chunk);
    }
}

static int batch_teardown(void **state)
{
    (void)state;
    batcher_fini(&batcher, &input);
    while (streams.n > 0) {
        chunks_drop(&streams.sorted[0]->head);
        ring_fini(&streams.sorted[0]->ring, &budget);
        streams_remove(&streams, streams.sorted[0]);
    }
    streams_fini(&streams);
    input_fini(&input);
    ssm_model_free(model->model);
    site_fini(site);
    free(model);
    return 0;
}

/* A chunk whose samples are the index of their frame. */
static void push(struct stream *s, uint32_t frames, bool backfill, bool has_time)
{
    struct chunk *chunk = input_acquire(&input, frames * 2 * sizeof(float));

    assert_non_null(chunk);
    for (uint32_t i = 0; i < frames; i++)
        chunk->samples[2 * i] = chunk->samples[2 * i + 1] = (float)(s->next + i);
    chunk->first = s->next;
    chunk->frames = frames;
    chunk->backfill = backfill;
    chunk->has_time = has_time;
    chunk->time = (int64_t)s->next;
    stream_push(s, chunk, frames * 2 * sizeof(float));
    batcher_add(&batcher, s);
}

/* From the lane whose turn it is. Time goes on. */
static uint32_t fill(void)
{
    struct lane *lane = lanes_choose(&batcher.lanes, ++batcher.now_ns);

    batcher.batch[0].n = 0;
    return lane ? batch_fill(&batcher, &batcher.batch[0], lane, &budget, RING_BYTES, &stalled) : 0;
}

/* What the engine and the daemon do with a row, as far as batches are concerned; its frames were the next ones. */
static void finish(void)
{
    struct batch *b = &batcher.batch[0];

    for (uint32_t i = 0; i < b->n; i++) {
        struct stream *s = b->of[i].stream;
        const float *in = b->rows[i].in;

        assert_int_equal(s->place, PLACE_IN_BATCH);
        for (uint32_t k = 0; k < b->rows[i].frames; k++)
            assert_true(in[2 * k] == (float)(s->applied + k) && in[2 * k + 1] == in[2 * k]);
        memset(b->rows[i].out, 0, b->rows[i].frames * model->info.out_channels * sizeof(float));
        ring_append(&s->ring, b->rows[i].out, b->rows[i].frames, false, 0);
        s->applied += b->rows[i].frames;
        s->place = PLACE_NONE;
        chunks_drop(&b->of[i].used);
        batcher_add(&batcher, s);
    }
}

static void batch__any_load__holds_a_stream_once(void **state)
{
    unsigned seed = 3;

    (void)state;
    for (int round = 0; round < 300; round++) {
        for (int k = rand_r(&seed) % 20; k > 0; k--)
            push(streams.sorted[rand_r(&seed) % STREAMS], 1 + (uint32_t)rand_r(&seed) % 400, rand_r(&seed) % 2, false);
        fill();
        for (uint32_t i = 0; i < batcher.batch[0].n; i++)
            for (uint32_t k = 0; k < i; k++)
                assert_ptr_not_equal(batcher.batch[0].of[i].stream, batcher.batch[0].of[k].stream);
        push(streams.sorted[0], 5, false, false); /* while it may be in the batch */
        finish();
    }
    while (fill() > 0)
        finish();
    for (int i = 0; i < STREAMS; i++)
        assert_int_equal(streams.sorted[i]->applied, streams.sorted[i]->next);
}

static void batch__live_chunks__merge_into_one_row(void **state)
{
    struct stream *s = streams.sorted[2];

    (void)state;
    push(s, 10, false, false);
    push(s, 20, false, false);
    push(s, 30, false, true);
    assert_int_equal(fill(), 1);
    assert_int_equal(batcher.batch[0].rows[0].frames, 60);
    assert_int_equal(batcher.batch[0].rows[0].view, SSM_STEP);
    assert_int_equal(batcher.batch[0].of[0].pieces, 2);
    assert_int_equal(batcher.batch[0].pieces[0].frames, 30);
    assert_true(batcher.batch[0].pieces[1].has_time);
    finish();
}

static void batch__live_and_backfill__are_never_one_row(void **state)
{
    struct stream *s = streams.sorted[0];

    (void)state;
    push(s, 64, true, false);
    push(s, 64, false, false);
    push(s, 64, true, false);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fill(), 1);
        assert_int_equal(batcher.batch[0].rows[0].frames, 64);
        assert_int_equal(batcher.batch[0].rows[0].view, i == 1 ? SSM_STEP : SSM_SCAN);
        finish();
    }
}

static void batch__long_input__is_bounded_by_row_and_batch(void **state)
{
    (void)state;
    for (int i = 0; i < STREAMS; i++)
        push(streams.sorted[i], 5000, false, false);
    assert_int_equal(fill(), 4);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(batcher.batch[0].rows[i].frames, 300);
    assert_int_equal(batcher.batch[0].rows[3].frames, 100);
    finish();
    assert_int_equal(fill(), 4);
    assert_ptr_equal(batcher.batch[0].of[0].stream, streams.sorted[4]); /* the others had no turn yet */
    finish();
}

static void batch__costly_model__is_cut_to_its_time_and_shared(void **state)
{
    (void)state;
    for (int i = 0; i < STREAMS; i++)
        push(streams.sorted[i], 5000, false, false);
    batcher.threads = 2;
    site->frame_ns = (double)BATCH_NS / 400;
    assert_int_equal(fill(), 2); /* 400 frames, 200 for each thread */
    assert_int_equal(batcher.batch[0].rows[0].frames, 200);
    assert_int_equal(batcher.batch[0].rows[1].frames, 200);
    batcher.batch[0].job.busy_ns = 40 * (uint64_t)BATCH_NS; /* a stall: believed to the double of what was known */
    batch_cost_learn(&batcher.batch[0]);
    assert_true(site->frame_ns > (double)BATCH_NS / 400 && site->frame_ns < 1.2 * BATCH_NS / 400);
    finish();
    site->frame_ns = 10.0 * BATCH_NS; /* even then a piece of the grid */
    assert_int_equal(fill(), 1);
    assert_int_equal(batcher.batch[0].rows[0].frames, BATCH_GRID);
    finish();
}

static void batch__ready_time__counts_what_is_queued_and_gives_up_beyond_the_limit(void **state)
{
    (void)state;
    assert_int_equal(batch_ready_ns(&site->live, 1000), 0);
    push(streams.sorted[0], 100, false, false);
    push(streams.sorted[0], 20, false, false);
    push(streams.sorted[1], 3, false, false);
    push(streams.sorted[2], 500, true, false); /* has a lane of its own */
    site->frame_ns = 2;
    assert_int_equal(batch_ready_ns(&site->live, 1000), 246);
    assert_int_equal(batch_ready_ns(&site->live, 246), 246);
    assert_true(batch_ready_ns(&site->live, 245) == UINT64_MAX);
    batcher.row_frames = 64;
    assert_int_equal(fill(), 2);                            /* the live ones first */
    assert_int_equal(batch_ready_ns(&site->live, 1000), 0); /* nobody is ready: the rest waits for this batch */
    finish();
    assert_int_equal(batch_ready_ns(&site->live, 1000), 112);
    site->frame_ns = 0; /* nobody knows */
    assert_true(batch_ready_ns(&site->live, 1000) == UINT64_MAX);
    site->frame_ns = 1;
    while (fill() > 0)
        finish();
}

/* The ends of scan rows that are not on the grid must be ends of chunks, and every such end of a chunk the end of a
 * row: then the rows between grid lines are the same whatever arrived together. */
static void batch__backfill_under_any_load__is_cut_on_the_grid_or_at_chunks(void **state)
{
    unsigned seed = 11;

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct stream *s = streams.sorted[round % STREAMS];
        uint64_t chunk_end[64], end;
        int chunks = 1 + rand_r(&seed) % 40, pushed = 0, ended = 0;

        batcher.row_frames = 1 + (uint32_t)rand_r(&seed) % 500; /* load decides how much fits, and may not show */
        for (int k = 0; k < chunks; k++) {
            uint32_t frames = rand_r(&seed) % 3 ? 1 + (uint32_t)rand_r(&seed) % 200 : BATCH_GRID;

            chunk_end[k] = (k ? chunk_end[k - 1] : s->next) + frames;
        }
        while (ended < chunks) {
            for (int k = rand_r(&seed) % 4; k >= 0 && pushed < chunks; k--, pushed++)
                push(s, (uint32_t)(chunk_end[pushed] - s->next), true, false);
            fill();
            finish();
            end = s->applied;
            while (ended < chunks && chunk_end[ended] < end) {
                assert_int_equal(chunk_end[ended] % BATCH_GRID, 0); /* merged across it */
                ended++;
            }
            if (ended < chunks && chunk_end[ended] == end)
                ended++;
            else
                assert_int_equal(end % BATCH_GRID, 0);
        }
    }
}

static void batch__full_ring__stalls_its_own_stream_only(void **state)
{
    struct stream *full = streams.sorted[0], *other = streams.sorted[1];
    uint32_t most = batch_ring_most(model, model->info.out_channels, RING_BYTES);

    (void)state;
    full->wants_results = true; /* and receives nothing */
    for (int i = 0; i < 100; i++) {
        push(full, 290, false, false);
        push(other, 290, false, false);
        fill();
        finish();
    }
    while (fill() > 0)
        finish();
    assert_int_equal(full->applied, most);
    assert_int_equal(full->place, PLACE_STALLED);
    assert_int_equal(other->applied, 29000);
    assert_true(stalled > 0);
    full->received = 100;
    batcher_add(&batcher, full);
    assert_int_equal(fill(), 1);
    assert_int_equal(batcher.batch[0].rows[0].frames, 100);
    finish();
}

static void batch__full_ring_and_backfill__waits_for_a_whole_piece_of_the_grid(void **state)
{
    struct stream *s = streams.sorted[0];
    uint32_t most = batch_ring_most(model, model->info.out_channels, RING_BYTES);

    (void)state;
    s->wants_results = true;
    while (s->next < most + 1000u)
        push(s, 1000, true, false);
    while (fill() > 0)
        finish();
    assert_int_equal(s->applied, most);
    s->received = BATCH_GRID - 1;
    batcher_add(&batcher, s);
    assert_int_equal(fill(), 0);
    s->received = BATCH_GRID;
    batcher_add(&batcher, s);
    assert_int_equal(fill(), 1);
    assert_int_equal(batcher.batch[0].rows[0].frames, BATCH_GRID);
    finish();
}

/* The staging of a model of a million channels is 256 MiB. */
static void batch__without_memory__stalls_the_streams_and_takes_them_later(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)state;
    skip(); /* their allocators do not survive it */
#else
    struct rlimit limit, none;

    (void)state;
    push(streams.sorted[0], 10, false, false);
    push(streams.sorted[1], 10, false, false);
    assert_int_equal(getrlimit(RLIMIT_AS, &limit), 0);
    none = (struct rlimit){.rlim_cur = 1, .rlim_max = limit.rlim_max};
    model->info.in_channels = 1u << 20;
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    fill();
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    model->info.in_channels = 2;
    assert_int_equal(batcher.batch[0].n, 0);
    assert_int_equal(stalled, 2);
    assert_null(lanes_choose(&batcher.lanes, batcher.now_ns)); /* the lane is empty, and comes back with its streams */
    batcher_retry(&batcher);
    assert_int_equal(fill(), 2);
    finish();
    assert_int_equal(streams.sorted[0]->applied, 10);
    assert_int_equal(streams.sorted[1]->applied, 10);
#endif
}

static void batch__timed_chunks__are_told_apart(void **state)
{
    struct stream *s = streams.sorted[0];

    (void)state;
    for (int i = 0; i < 100; i++)
        push(s, 1, false, true);
    assert_int_equal(fill(), 1);
    assert_int_equal(batcher.batch[0].rows[0].frames, BATCH_ROW_TIMES);
    assert_int_equal(batcher.batch[0].of[0].pieces, BATCH_ROW_TIMES);
    for (int i = 0; i < BATCH_ROW_TIMES; i++)
        assert_int_equal(batcher.batch[0].pieces[i].time, i);
    finish();
    assert_int_equal(fill(), 1);
    finish();
}

/* ---- on a device ------------------------------------------------------------------------------------------------- */

/* The same streams, and a batcher for a device whose batches have cost so much. */
static void device_begin(double fixed_ns, double frame_ns, double most)
{
    batcher_fini(&batcher, &input);
    assert_int_equal(batcher_init(&batcher, 4096, 1u << 20, 0), 0);
    batcher.now_ns = 1000000000;
    site->live_cost = site->backfill_cost = (struct cost){.fixed_ns = fixed_ns, .frame_ns = frame_ns, .most = most};
}

static struct stream *stream_add(int number)
{
    char id[16];
    struct stream *s;

    snprintf(id, sizeof(id), "more%d", number);
    s = streams_insert(&streams, (const uint8_t *)id, strlen(id), model->info.out_channels);
    assert_non_null(s);
    s->model = model;
    s->site = site;
    return s;
}

static void batch__of_a_device__holds_thousands_of_streams(void **state)
{
    enum { CROWD = 10000 };

    (void)state;
    device_begin(100000, 0.5, 1000000);
    for (int i = 0; i < CROWD; i++)
        push(stream_add(i), 16, false, false);
    assert_int_equal(fill(), CROWD);
    assert_int_equal(batcher.batch[0].frames, CROWD * 16);
    assert_int_equal(batcher.batch[0].time_ns, BATCH_DEVICE_NS);
    finish();
    assert_int_equal(fill(), 0);
    for (uint32_t i = 0; i < streams.n; i++)
        assert_int_equal(streams.sorted[i]->applied, streams.sorted[i]->next);
}

static void batch__of_a_device__is_as_large_as_its_time_allows(void **state)
{
    (void)state;
    device_begin(100000, 1000, 1000); /* 0.9 ms are 900 frames */
    for (int i = 0; i < 100; i++)
        push(stream_add(i), 20, false, false);
    assert_int_equal(fill(), 45);
    assert_int_equal(batcher.batch[0].frames, 900);
    batcher.batch[0].job.busy_ns = 550000; /* frames were cheaper: half of what was thought */
    batch_cost_learn(&batcher.batch[0]);
    assert_in_range((long)site->live_cost.frame_ns, 900, 999);
    assert_in_range((long)site->backfill_cost.frame_ns, 1000, 1000); /* that is learned by itself */
    assert_true(site->cost_ns > site->live_cost.frame_ns);           /* a share of the fixed time counts */
    finish();
    assert_in_range(fill(), 46, 55);
    finish();
}

static void batch__of_a_device__cuts_live_rows_and_not_backfill(void **state)
{
    struct stream *live = streams.sorted[0], *behind = streams.sorted[1];

    (void)state;
    device_begin(100000, 0.1, 1000000);
    push(live, 3000, false, false);
    push(behind, 3000, true, false);
    assert_int_equal(fill(), 1);
    assert_ptr_equal(batcher.batch[0].of[0].stream, live);
    assert_int_equal(batcher.batch[0].rows[0].frames, BATCH_DEVICE_STEP);
    finish();
    while (live->applied < 3000) {
        assert_int_equal(fill(), 1);
        finish();
    }
    assert_int_equal(fill(), 1);
    assert_ptr_equal(batcher.batch[0].of[0].stream, behind);
    assert_int_equal(batcher.batch[0].rows[0].frames, 3000);
    finish();
}

/* Advances that follow one another in one batch, as for drawn tokens, are each a batch of the device. */
static void batch__of_several_advances__is_learned_as_so_many(void **state)
{
    (void)state;
    device_begin(100000, 0, 64);
    push(streams.sorted[0], 60, false, false);
    assert_int_equal(fill(), 1);
    batcher.batch[0].frames += 60; /* one more round */
    batcher.batch[0].advances = 2;
    batcher.batch[0].job.busy_ns = 2 * 106000;
    batch_cost_learn(&batcher.batch[0]);
    assert_in_range((long)site->live_cost.frame_ns, 100, 100);
    finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, batch_setup, batch_teardown)
    const struct CMUnitTest tests[] = {
        TEST(batch__any_load__holds_a_stream_once),
        TEST(batch__live_chunks__merge_into_one_row),
        TEST(batch__live_and_backfill__are_never_one_row),
        TEST(batch__long_input__is_bounded_by_row_and_batch),
        TEST(batch__ready_time__counts_what_is_queued_and_gives_up_beyond_the_limit),
        TEST(batch__costly_model__is_cut_to_its_time_and_shared),
        TEST(batch__backfill_under_any_load__is_cut_on_the_grid_or_at_chunks),
        TEST(batch__full_ring__stalls_its_own_stream_only),
        TEST(batch__full_ring_and_backfill__waits_for_a_whole_piece_of_the_grid),
        TEST(batch__without_memory__stalls_the_streams_and_takes_them_later),
        TEST(batch__timed_chunks__are_told_apart),
        TEST(batch__of_a_device__holds_thousands_of_streams),
        TEST(batch__of_a_device__is_as_large_as_its_time_allows),
        TEST(batch__of_a_device__cuts_live_rows_and_not_backfill),
        TEST(batch__of_several_advances__is_learned_as_so_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
