/* SPDX-License-Identifier: Apache-2.0
 *
 * The advance of a ragged batch on a device (ssm/backend.h): rows are cut into pieces, pieces fill tiles, and while the
 * device computes one tile the next is filled. Tiles are submitted in order and read back in order.
 *
 * A row that does not fit what is left of a tile is cut: one of the step view anywhere, one of the scan view on the
 * grid of SSM_DEVICE_BLOCK absolute indices. Graphs that are not aligned are stepped, whatever the view says, so that
 * their cuts show nowhere either. */
#include <stdlib.h>
#include <string.h>

#include "ssm/engine.h"

/* A piece of a tile, as its output is taken out. */
struct piece {
    float *out;
    uint32_t first, frames; /* at the output's clock */
};

struct tile {
    struct ssm_device_tile *on;
    struct piece *piece; /* (rows_room) */
    bool pending;        /* submitted, not waited for */
};

struct ssm_tiling {
    struct tile tile[SSM_DEVICE_TILES];
    uint32_t filling;      /* which */
    uint64_t *begin, *end; /* (clocks), of a piece */
};

void ssm_device_discard(struct ssm_program *program)
{
    if (program->tiling) {
        for (uint32_t i = 0; i < SSM_DEVICE_TILES; i++)
            free(program->tiling->tile[i].piece);
        free(program->tiling->begin);
        free(program->tiling->end);
    }
    free(program->tiling);
    program->tiling = NULL;
    if (program->device)
        program->engine->backend->discard(program->device);
    program->device = NULL;
}

static int tiling_new(struct ssm_program *program)
{
    const struct ssm_backend *backend = program->engine->backend;
    uint32_t clocks = program->model->clocks.count;
    struct ssm_tiling *t = calloc(1, sizeof(*t));

    program->tiling = t;
    if (!t)
        return SSM_NOMEM;
    t->begin = calloc(clocks, sizeof(*t->begin));
    t->end = calloc(clocks, sizeof(*t->end));
    for (uint32_t i = 0; i < SSM_DEVICE_TILES; i++) {
        struct tile *tile = &t->tile[i];

        tile->on = backend->tile(program->device, i);
        tile->piece = calloc(tile->on->rows_room, sizeof(*tile->piece));
        if (!tile->piece)
            return SSM_NOMEM;
    }
    return t->begin && t->end ? SSM_OK : SSM_NOMEM;
}

int ssm_device_compile(struct ssm_program *program, uint32_t max_slots, struct ssm_error *err)
{
    struct ssm_engine *engine = program->engine;
    const struct ssm_model *model = program->model;
    struct ssm_device_model seen = {
        .info = &model->info, .graph = &model->graph, .clocks = &model->clocks, .cell = model->cell};
    int status = ssm_pool_init(&program->pool, 0, max_slots);

    if (status == SSM_OK)
        status = engine->backend->compile(&program->device, engine->device, &seen, max_slots, engine->resident,
                                          engine->tile, err);
    return status ? status : tiling_new(program);
}

/* ---- one tile ---------------------------------------------------------------------------------------------------- */

static size_t frame_bytes(const struct ssm_model_info *info)
{
    return info->input == SSM_TOKENS ? sizeof(int32_t) : info->in_channels * sizeof(float);
}

/* Until the tile is free: its output goes where its rows said. */
static int tile_finish(struct ssm_program *program, uint32_t which)
{
    struct tile *tile = &program->tiling->tile[which];
    size_t channels = program->model->info.out_channels;
    int status = SSM_OK;

    if (tile->pending)
        status = program->engine->backend->wait(program->device, which);
    for (uint32_t i = 0; tile->pending && status == SSM_OK && i < tile->on->rows; i++)
        memcpy(tile->piece[i].out, tile->on->output + tile->piece[i].first * channels,
               tile->piece[i].frames * channels * sizeof(float));
    tile->pending = false;
    tile->on->rows = 0;
    memset(tile->on->frames, 0, program->model->clocks.count * sizeof(*tile->on->frames));
    return status;
}

/* Submits what is filled; the next tile is free then. */
static int tile_submit(struct ssm_program *program)
{
    struct ssm_tiling *t = program->tiling;
    int status;

    if (t->tile[t->filling].on->rows == 0)
        return SSM_OK;
    if ((status = program->engine->backend->submit(program->device, t->filling)))
        return status;
    t->tile[t->filling].pending = true;
    t->filling = (t->filling + 1) % SSM_DEVICE_TILES;
    return tile_finish(program, t->filling);
}

/* Whether the piece between begin and end finds room at every clock. */
static bool piece_fits(const struct ssm_program *program, const struct ssm_device_tile *on)
{
    const struct ssm_tiling *t = program->tiling;

    if (on->rows == on->rows_room)
        return false;
    for (uint32_t k = 0; k < program->model->clocks.count; k++)
        if (t->end[k] - t->begin[k] > on->frames_room[k] - on->frames[k])
            return false;
    return true;
}

/* Adds frames `at` on of the row to the tile; begin and end are set. Returns the output frames. */
static uint32_t piece_place(struct ssm_program *program, const struct ssm_row *row, uint32_t at, uint32_t frames,
                            float *out)
{
    const struct ssm_model *model = program->model;
    struct ssm_tiling *t = program->tiling;
    struct tile *tile = &t->tile[t->filling];
    struct ssm_device_tile *on = tile->on;
    size_t bytes = frame_bytes(&model->info);
    bool scan = row->view != SSM_STEP && ssm_clocks_aligned(&model->clocks);

    memcpy((unsigned char *)on->input + on->frames[0] * bytes, (const unsigned char *)row->in + at * bytes,
           frames * bytes);
    for (uint32_t k = 0; k < model->clocks.count; k++) {
        uint32_t count = (uint32_t)(t->end[k] - t->begin[k]);

        on->row[(size_t)k * on->rows_room + on->rows] = (struct ssm_device_row){.index = t->begin[k],
                                                                                .first = on->frames[k],
                                                                                .frames = count,
                                                                                .slot = row->slot.index,
                                                                                .view = scan ? SSM_SCAN : SSM_STEP};
        if (k == model->graph.out_clock)
            tile->piece[on->rows] = (struct piece){.out = out, .first = on->frames[k], .frames = count};
        on->frames[k] += count;
    }
    on->rows++;
    return (uint32_t)(t->end[model->graph.out_clock] - t->begin[model->graph.out_clock]);
}

/* ---- one batch --------------------------------------------------------------------------------------------------- */

/* How many of `left` frames from absolute index `from` on go into a tile that has room for `space` more; 0: it must go
 * first. */
static uint32_t piece_frames(const struct ssm_program *program, enum ssm_view view, uint64_t from, uint32_t left,
                             uint32_t space)
{
    uint64_t end;

    if (left <= space)
        return left;
    if (view == SSM_STEP || !ssm_clocks_aligned(&program->model->clocks))
        return space;
    end = (from + space) / SSM_DEVICE_BLOCK * SSM_DEVICE_BLOCK;
    return end > from ? (uint32_t)(end - from) : 0;
}

static int row_run(struct ssm_program *program, struct ssm_row *row)
{
    struct ssm_slot_head *head = ssm_pool_find(&program->pool, row->slot);
    const struct ssm_model *model = program->model;
    struct ssm_tiling *t = program->tiling;
    size_t channels = model->info.out_channels;
    int status = SSM_OK;

    for (uint32_t done = 0; status == SSM_OK && done < row->frames;) {
        struct ssm_device_tile *on = t->tile[t->filling].on;
        uint64_t from = head->frames + done;
        uint32_t frames =
            piece_frames(program, row->view, from, row->frames - done, on->frames_room[0] - on->frames[0]);

        if (frames > 0) {
            ssm_clocks_count(&model->clocks, from, t->begin);
            ssm_clocks_count(&model->clocks, from + frames, t->end);
        }
        if (frames == 0 || !piece_fits(program, on)) { /* what an empty tile has room for fits it at every clock */
            status = tile_submit(program);
            continue;
        }
        row->out_frames += piece_place(program, row, done, frames, row->out + row->out_frames * channels);
        done += frames;
        if (done < row->frames) /* a slot occurs in a tile once */
            status = tile_submit(program);
    }
    head->frames += row->frames;
    return status;
}

int ssm_device_advance(struct ssm_program *program, struct ssm_row *rows, size_t n)
{
    struct ssm_tiling *t = program->tiling;
    int status = SSM_OK;

    for (size_t i = 0; status == SSM_OK && i < n; i++)
        if (rows[i].status == SSM_OK && rows[i].slot.index >= 0)
            status = row_run(program, &rows[i]);
    if (status == SSM_OK)
        status = tile_submit(program);
    for (uint32_t i = 0; i < SSM_DEVICE_TILES; i++) { /* the older one first */
        int last = tile_finish(program, (t->filling + i) % SSM_DEVICE_TILES);

        status = status ? status : last;
    }
    for (size_t i = 0; status && i < n; i++) /* what came of whom nobody knows */
        rows[i].status = status;
    return status;
}
