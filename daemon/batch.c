/* SPDX-License-Identifier: Apache-2.0
 *
 * What a stream brings to a batch: row_plan decides how many frames (pure arithmetic on its queue), row_take moves
 * them.
 */
#include "daemon/batch.h"
#include "daemon/generate.h"
#include "daemon/history.h"

#include <stdlib.h>
#include <string.h>

int batcher_init(struct batcher *batcher, uint32_t row_frames, uint32_t frames, uint32_t threads)
{
    memset(batcher, 0, sizeof(*batcher));
    lanes_init(&batcher->lanes);
    TAILQ_INIT(&batcher->stalled);
    batcher->row_frames = row_frames;
    batcher->frames = frames;
    batcher->threads = threads;
    batcher->rows = threads > 0 ? BATCH_ROWS : BATCH_DEVICE_ROWS;
    batcher->pieces = threads > 0 ? BATCH_PIECES : BATCH_DEVICE_PIECES;
    batcher->time_ns = threads > 0 ? BATCH_NS : BATCH_DEVICE_NS;
    for (int i = 0; i <= BATCH_LOOP; i++) {
        struct batch *b = &batcher->batch[i];

        if (i == BATCH_LOOP && threads == 0)
            break; /* the loop has none of its own on a device */
        b->rows = malloc(batcher->rows * sizeof(*b->rows));
        b->round = malloc(batcher->rows * sizeof(*b->round));
        b->round_of = malloc(batcher->rows * sizeof(*b->round_of));
        b->of = malloc(batcher->rows * sizeof(*b->of));
        b->pieces = malloc(batcher->pieces * sizeof(*b->pieces));
        b->copies = malloc(batcher->rows * sizeof(*b->copies));
        b->in_size = BATCH_IN_FLOATS;
        b->out_size = BATCH_OUT_FLOATS;
        b->in = aligned_alloc(64, b->in_size * sizeof(float));
        b->out = aligned_alloc(64, b->out_size * sizeof(float));
        if (!b->rows || !b->round || !b->round_of || !b->of || !b->pieces || !b->copies || !b->in || !b->out)
            return -1;
    }
    return 0;
}

void batcher_fini(struct batcher *batcher, struct input *input)
{
    for (int i = 0; i <= BATCH_LOOP; i++) {
        struct batch *b = &batcher->batch[i];

        for (uint32_t row = 0; b->in_flight && row < b->n; row++) {
            while (b->of[row].used) {
                struct chunk *chunk = b->of[row].used;

                b->of[row].used = chunk->next;
                input_release(input, chunk);
            }
        }
        free(b->rows);
        free(b->round);
        free(b->round_of);
        free(b->of);
        free(b->pieces);
        free(b->copies);
        free(b->in);
        free(b->out);
    }
}

static void stream_stall(struct batcher *batcher, struct stream *stream)
{
    stream->place = PLACE_STALLED;
    TAILQ_INSERT_TAIL(&batcher->stalled, stream, of_place);
}

void batcher_add(struct batcher *batcher, struct stream *stream)
{
    const struct chunk *head = stream->head;
    bool is_backfill = head && head->backfill && head->due_ns == 0;
    struct lane *lane = is_backfill ? &stream->site->backfill : &stream->site->live;
    /* Backfill and tails are in the line as they come. */
    uint64_t due_ns = !head ? batcher->now_ns + LANE_TOKENS_NS : head->due_ns ? head->due_ns : batcher->now_ns;

    if (stream->place == PLACE_STALLED)
        batcher_remove(batcher, stream);
    if (stream->place != PLACE_NONE || !generate_is_ready(stream) || stream->is_failed ||
        stream_frames_to_stop(stream) == 0)
        return;
    if (lane_push(&batcher->lanes, lane, stream, due_ns)) {
        stream->place = PLACE_READY;
        stream->lane = lane;
    } else {
        stream_stall(batcher, stream);
    }
}

void batcher_remove(struct batcher *batcher, struct stream *stream)
{
    if (stream->place == PLACE_READY)
        lane_remove(&batcher->lanes, stream->lane, stream);
    else if (stream->place == PLACE_STALLED)
        TAILQ_REMOVE(&batcher->stalled, stream, of_place);
    stream->place = PLACE_NONE;
}

void batcher_retry(struct batcher *batcher)
{
    struct stream *stream, *next;

    for (stream = TAILQ_FIRST(&batcher->stalled); stream; stream = next) {
        next = TAILQ_NEXT(stream, of_place);
        batcher_add(batcher, stream);
    }
}

/* ---- how many frames --------------------------------------------------------------------------------------------- */

/* The most input frames whose output is at most `out` frames. */
static uint32_t frames_for(const struct model *model, uint64_t out, uint32_t most)
{
    uint32_t n = most;

    if (model->is_one_to_one)
        return out < most ? (uint32_t)out : most;
    while (n > 0 && ssm_out_frames_max(model->model, n) > out)
        n /= 2;
    return n;
}

/* Frames of several chunks may share a row: their results' times can still be told apart, or there are none. */
static bool chunks_merge(const struct model *model, const struct chunk *a, const struct chunk *b)
{
    if (a->backfill != b->backfill || a->flush != b->flush)
        return false;
    return model->is_one_to_one || (!a->has_time && !b->has_time);
}

/* Frames that the stream's next row has, were there no more than `most`: 0 when a scan row would have to end off the
 * grid. */
static uint32_t row_plan(const struct model *model, const struct stream *stream, uint32_t most)
{
    const struct chunk *chunk = stream->head;
    bool scan = chunk->backfill;
    uint64_t begin = chunk->first + chunk->used, end = chunk->first + chunk->frames;
    uint32_t timed = chunk->has_time;

    while (end - begin < most && chunk->next && chunks_merge(model, chunk, chunk->next) &&
           (!scan || end % model->grid == 0) && timed < BATCH_ROW_TIMES) {
        chunk = chunk->next;
        end += chunk->frames;
        timed += chunk->has_time;
    }
    if (end - begin <= most)
        return (uint32_t)(end - begin);
    if (!scan)
        return most;
    end = (begin + most) / model->grid * model->grid;
    return end > begin ? (uint32_t)(end - begin) : 0;
}

uint32_t batch_ring_most(const struct model *model, uint32_t channels, uint64_t ring_limit)
{
    uint64_t least = ssm_out_frames_max(model->model, 2 * (uint64_t)model->grid) + 1;
    uint64_t most = ring_limit / (channels * sizeof(float));
    uint64_t capacity = 1;

    while (capacity < least || (capacity * 2 <= most && capacity < (UINT32_MAX >> 2)))
        capacity *= 2;
    return (uint32_t)capacity;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

/* Note that `frames` of a chunk are in the row; untimed neighbours are one piece. */
static void piece_add(struct batch *batch, struct batch_row *of, const struct chunk *chunk, uint32_t frames)
{
    struct batch_piece *last = of->pieces > 0 ? &batch->pieces[batch->pieces_n - 1] : NULL;

    if (last && last->has_time == chunk->has_time && (!chunk->has_time || last->time == chunk->time)) {
        last->frames += frames;
        return;
    }
    batch->pieces[batch->pieces_n++] = (struct batch_piece){frames, chunk->has_time, chunk->time};
    of->pieces++;
}

/* The row's state is copied where the stream's history wants it. */
static void checkpoint_add(struct batch *batch, struct stream *stream, const struct ssm_row *row, uint64_t end)
{
    struct ssm_slot to = {.index = -1};

    if (stream->history && !batch->of[batch->n - 1].is_flush)
        to = history_slot_due(stream->history, end);
    if (to.index >= 0)
        batch->copies[batch->copies_n++] = (struct job_copy){row->slot, to};
}

/* Where the row's outputs go, and behind them what its stream keeps of them. */
static void row_place(struct batch *batch, struct stream *stream, uint32_t burst)
{
    struct batch_row *of = &batch->of[batch->n];
    struct ssm_row *row = &batch->rows[batch->n];
    size_t frames = ssm_out_frames_max(batch->model->model, row->frames);

    row->out = batch->out + batch->out_used;
    batch->out_used += frames * batch->model->info.out_channels;
    if (stream_keeps_pairs(stream)) {
        of->kept = batch->out + batch->out_used;
        batch->out_used += (frames + burst) * stream->ring.channels;
        batch->keeps_pairs = true;
    }
    of->draws = generate_is_running(stream) && !stream->head;
    of->burst = of->draws ? burst : 0;
    batch->frames += row->frames;
    batch->n++;
    checkpoint_add(batch, stream, row, of->first + row->frames);
}

/* The row of a drawn token. */
static void row_take_token(struct batch *batch, struct stream *stream)
{
    batch->of[batch->n] = (struct batch_row){.stream = stream, .fed = 1};
    batch->rows[batch->n] =
        (struct ssm_row){.slot = stream->slot, .view = SSM_STEP, .frames = 1, .in = &stream->generation->token};
}

/* Moves `frames` frames off the stream's queue into the row. One chunk's lie together already; more are copied. */
static void row_take(struct batch *batch, struct stream *stream, uint32_t frames)
{
    struct batch_row *of = &batch->of[batch->n];
    struct ssm_row *row = &batch->rows[batch->n];
    uint32_t channels = batch->model->info.in_channels, done = 0;
    struct chunk **link = &of->used;
    struct chunk *chunk = stream->head;
    uint64_t first = chunk->first + chunk->used;

    *of = (struct batch_row){
        .first = first, .stream = stream, .is_flush = chunk->flush, .queued = chunk->flush ? 0 : frames};
    *row = (struct ssm_row){.slot = stream->slot, .view = chunk->backfill ? SSM_SCAN : SSM_STEP, .frames = frames};
    if (chunk->frames - chunk->used >= frames) {
        row->in = chunk->samples + (size_t)chunk->used * channels;
    } else {
        row->in = batch->in + batch->in_used;
        batch->in_used += (size_t)frames * channels;
    }
    while (done < frames) {
        uint32_t n = chunk->frames - chunk->used;

        if (n > frames - done)
            n = frames - done;
        if (row->in != chunk->samples + (size_t)chunk->used * channels)
            memcpy((float *)row->in + (size_t)done * channels, chunk->samples + (size_t)chunk->used * channels,
                   (size_t)n * channels * sizeof(float));
        piece_add(batch, of, chunk, n);
        of->arrived_ns = chunk->arrived_ns;
        done += n;
        chunk->used += n;
        if (chunk->used == chunk->frames) {
            stream->head = chunk->next;
            chunk->next = NULL;
            *link = chunk;
            link = &chunk->next;
            chunk = stream->head;
        }
    }
    if (!stream->head)
        stream->tail = NULL;
}

/* An empty batch takes at least one piece of the grid, however wide the model. */
static int staging_grow(float **buffer, size_t *size, size_t need)
{
    float *larger;

    if (need <= *size)
        return 0;
    larger = aligned_alloc(64, (need * sizeof(float) + 63) / 64 * 64);
    if (!larger)
        return -1;
    free(*buffer);
    *buffer = larger;
    *size = need;
    return 0;
}

/* Room in a buffer for `least` floats, on a device for `all` of a batch up to `most`, if there is memory for more. */
static int staging_fit(const struct batcher *batcher, float **buffer, size_t *size, uint64_t least, uint64_t all,
                       uint64_t most)
{
    if (batcher->threads == 0 && staging_grow(buffer, size, all < most ? all : most) == 0 && *size >= least)
        return 0;
    return staging_grow(buffer, size, least);
}

/* Staging of a batch of `limit` frames; at least one piece of the grid. */
static int batch_fit(const struct batcher *batcher, struct batch *batch, const struct model *model, uint64_t limit)
{
    const struct ssm_model_info *info = &model->info;
    uint64_t pairs = info->input == SSM_TOKENS ? STREAM_PAIRS_FLOATS : 0;
    uint64_t out_least = ssm_out_frames_max(model->model, model->grid);
    uint64_t out_all = ssm_out_frames_max(model->model, limit);

    if (staging_fit(batcher, &batch->in, &batch->in_size, (uint64_t)model->grid * info->in_channels,
                    limit * info->in_channels, BATCH_DEVICE_IN_FLOATS) != 0)
        return -1;
    return staging_fit(batcher, &batch->out, &batch->out_size, out_least * (info->out_channels + STREAM_PAIRS_FLOATS),
                       out_all * (info->out_channels + pairs), BATCH_DEVICE_OUT_FLOATS);
}

/* A stall of the machine is not the model's cost: no more than doubled at a time. */
static void mean_take(double *mean, double ns)
{
    if (*mean > 0 && ns > 2 * *mean)
        ns = 2 * *mean;
    *mean = *mean > 0 ? *mean + (ns - *mean) / 8 : ns;
}

static struct cost *cost_of(struct lane *lane)
{
    return lane->is_backfill ? &lane->site->backfill_cost : &lane->site->live_cost;
}

/* Of the advances that it took on average. What live frames cost is what counts for admission. */
static void device_cost_learn(struct batch *batch)
{
    struct site *site = batch->lane->site;
    double advances = batch->advances > 0 ? batch->advances : 1;

    cost_take(cost_of(batch->lane), batch->frames / advances, (double)batch->job.busy_ns / advances, BATCH_DEVICE_NS);
    site->frame_ns = site->cost_ns = cost_of_frame(&site->live_cost, BATCH_DEVICE_NS);
}

void batch_cost_learn(struct batch *batch)
{
    double ns = (double)batch->job.busy_ns / batch->frames;

    if (batch->time_ns == BATCH_DEVICE_NS) {
        device_cost_learn(batch);
        return;
    }
    mean_take(&batch->lane->site->frame_ns, ns);
    if (batch->frames >= batch->model->grid)
        mean_take(&batch->lane->site->cost_ns, ns);
}

uint64_t batch_ready_ns(const struct lane *lane, uint64_t most)
{
    double ns = 0, frame_ns = lane->site->frame_ns;

    if (frame_ns <= 0)
        return UINT64_MAX;
    for (uint32_t i = 0; i < lane->n; i++) {
        const struct stream *stream = lane->entry[i].stream;

        if (generate_is_running(stream))
            return UINT64_MAX;
        for (const struct chunk *chunk = stream->head; chunk; chunk = chunk->next) {
            ns += (chunk->frames - chunk->used) * frame_ns;
            if (ns > (double)most)
                return UINT64_MAX;
        }
    }
    return (uint64_t)ns;
}

/* Frames that take the time of a batch; of a model that nobody has seen run yet, one piece of the grid. */
static uint64_t frames_in_time(const struct batcher *batcher, struct lane *lane)
{
    const struct site *site = lane->site;
    uint32_t grid = site->model->grid;
    double frames = batcher->threads == 0 ? cost_frames(cost_of(lane), BATCH_DEVICE_NS)
                    : site->frame_ns > 0  ? BATCH_NS / site->frame_ns
                                          : grid;

    return frames < grid ? grid : frames < 1e9 ? (uint64_t)frames : 1000000000u;
}

/* Frames of the lane's rows that the batch may have in all. */
static uint64_t batch_limit(const struct batcher *batcher, struct lane *lane)
{
    uint64_t frames = frames_in_time(batcher, lane);

    return frames < batcher->frames ? frames : batcher->frames;
}

/* Floats that a frame of the stream takes in `out`. */
static uint64_t frame_floats(const struct model *model, const struct stream *stream)
{
    return model->info.out_channels + (stream_keeps_pairs(stream) ? stream->ring.channels : 0);
}

/* The most frames of one row. */
static uint64_t row_limit(const struct batcher *batcher, const struct batch *batch, uint64_t limit)
{
    if (batcher->threads > 0)
        return limit / batcher->threads; /* a row is one thread's: the others want some too */
    return batch->lane->is_backfill ? limit : BATCH_DEVICE_STEP;
}

/* Frames of the stream that the batch, of so many in all, has room for. */
static uint32_t batch_room(const struct batcher *batcher, const struct batch *batch, const struct model *model,
                           const struct stream *stream, uint64_t limit)
{
    uint64_t frames = limit - (batch->frames < limit ? batch->frames : limit);
    uint64_t row = row_limit(batcher, batch, limit);
    uint64_t in = (batch->in_size - batch->in_used) / model->info.in_channels;
    uint64_t out = (batch->out_size - batch->out_used) / frame_floats(model, stream);

    if (row > batcher->row_frames)
        row = batcher->row_frames;
    if (row < model->grid)
        row = model->grid;
    if (batch->n == 0 && frames < model->grid)
        frames = model->grid;
    if (in < frames)
        frames = in;
    if (frames > row)
        frames = row;
    return frames_for(model, out, (uint32_t)frames);
}

/* Without memory for the lane's rows its streams wait as those do whose rings are full: batcher_retry tries again. */
static void lane_stall(struct batcher *batcher, struct lane *lane, uint64_t *stalled)
{
    struct stream *stream;

    while ((stream = lane_first(lane)) != NULL) {
        lane_pop(&batcher->lanes, lane);
        stream_stall(batcher, stream);
        ++*stalled;
    }
}

/* More tokens that a generating stream may draw in this batch, behind `frames` of `fits`, which ring and staging have
 * room for. */
static uint32_t burst_plan(const struct stream *stream, uint32_t frames, uint32_t fits)
{
    uint32_t burst = generate_is_running(stream) ? fits - frames : 0;

    return burst < GENERATE_BURST ? burst : GENERATE_BURST;
}

uint32_t batch_fill(struct batcher *batcher, struct batch *batch, struct lane *lane, struct ring_budget *budget,
                    uint64_t ring_limit, uint64_t *stalled)
{
    struct model *model = lane->site->model;
    uint64_t limit = batch_limit(batcher, lane);

    batch->model = model;
    batch->lane = lane;
    batch->time_ns = batcher->time_ns;
    batch->n = batch->pieces_n = batch->frames = batch->copies_n = 0;
    batch->advances = 1;
    batch->in_used = batch->out_used = 0;
    batch->keeps_pairs = false;
    if (batch_fit(batcher, batch, model, limit) != 0) {
        lane_stall(batcher, lane, stalled);
        return 0;
    }
    while (batch->n < batcher->rows && batch->pieces_n + BATCH_ROW_TIMES + 2 < batcher->pieces) {
        struct stream *stream = lane_first(lane);
        uint32_t room, most, floor, fits, frames, burst;
        uint64_t keep, stop;

        room = stream ? batch_room(batcher, batch, model, stream, limit) : 0;
        if (room == 0)
            break;
        most = batch_ring_most(model, stream->ring.channels, ring_limit);
        floor = batch_ring_most(model, stream->ring.channels, 0);
        keep = stream_keep(stream);
        fits = stream->is_replaying ? room : frames_for(model, ring_room(&stream->ring, keep, most), room);
        stop = stream_frames_to_stop(stream);
        fits = fits < stop ? fits : (uint32_t)stop;
        frames = fits == 0 ? 0 : stream->head ? row_plan(model, stream, fits) : 1;
        if (frames == 0 && fits == room && batch->n > 0)
            break; /* it is the batch that is full */
        lane_pop(&batcher->lanes, lane);
        burst = frames == 0 ? 0 : burst_plan(stream, frames, fits);
        if (frames == 0 ||
            (!stream->is_replaying && /* what runs again leaves no results */
             ring_reserve(&stream->ring, budget, keep, (uint32_t)ssm_out_frames_max(model->model, frames) + burst, most,
                          floor) != 0)) {
            stream_stall(batcher, stream);
            ++*stalled;
            continue;
        }
        stream->place = PLACE_IN_BATCH;
        if (stream->head)
            row_take(batch, stream, frames);
        else
            row_take_token(batch, stream);
        row_place(batch, stream, burst);
    }
    return batch->n;
}
