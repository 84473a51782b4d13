/* SPDX-License-Identifier: Apache-2.0
 *
 * Filling and running tiles; see tile.h. */
#include "ssm/tile.h"

#include <stdlib.h>
#include <string.h>

/* ---- workspaces -------------------------------------------------------------------------------------------------- */

void ssm_workspace_fini(struct ssm_workspace *w)
{
    free(w->input);
    free(w->output);
    free(w->scratch);
    free(w->wide);
    free(w->token);
    free(w->room);
    free(w->row);
    free(w->clocks);
    free(w->begin);
    free(w->end);
}

int ssm_workspace_init(struct ssm_workspace *w, const struct ssm_model *model)
{
    const struct ssm_model_info *info = &model->info;
    uint32_t n = model->clocks.count;

    w->room = calloc(n, sizeof(*w->room));
    w->row = calloc((size_t)n * SSM_TILE_ROWS, sizeof(*w->row));
    w->clocks = calloc(n, sizeof(*w->clocks));
    w->begin = calloc(n, sizeof(*w->begin));
    w->end = calloc(n, sizeof(*w->end));
    if (!w->room || !w->row || !w->clocks || !w->begin || !w->end)
        return SSM_NOMEM;
    for (uint32_t k = 0; k < n; k++) {
        w->room[k] = (uint32_t)ssm_clock_frames(&model->clocks.clock[k], model->cell);
        w->clocks[k].rows = w->row + (size_t)k * SSM_TILE_ROWS;
    }
    w->input = ssm_floats_new((size_t)model->cell * info->in_channels);
    w->output = ssm_floats_new((size_t)w->room[model->graph.out_clock] * info->out_channels);
    w->scratch = ssm_floats_new(ssm_cpu_scratch_floats(&model->graph, w->room));
    w->token = calloc(model->cell, sizeof(*w->token));
    return w->input && w->output && w->scratch && w->token ? SSM_OK : SSM_NOMEM;
}

/* ---- filling ----------------------------------------------------------------------------------------------------- */

void ssm_filling_init(struct ssm_filling *f, const struct ssm_program *program, struct ssm_workspace *space)
{
    *f = (struct ssm_filling){.program = program,
                              .space = space,
                              .tile = {.rows = space->clocks[0].rows,
                                       .clocks = space->clocks,
                                       .room = space->room,
                                       .inputs = program->model->info.in_channels,
                                       .scratch = space->scratch}};
    for (uint32_t k = 0; k < program->model->clocks.count; k++) {
        space->clocks[k].frames = 0;
        space->clocks[k].sparse = false;
    }
}

struct ssm_piece ssm_piece_next(const struct ssm_program *program, enum ssm_view view, uint64_t from, uint32_t left,
                                uint32_t held)
{
    uint32_t cell = program->model->cell, to_grid;

    if (view == SSM_CONV && program->conv && from % SSM_SCAN_BLOCK == 0 && left >= SSM_CONV_FRAMES)
        return (struct ssm_piece){SSM_CONV_FRAMES, SSM_CONV};
    if (ssm_clocks_aligned(&program->model->clocks))
        return (struct ssm_piece){ssm_row_piece(view, from, left, cell - held), view == SSM_STEP ? SSM_STEP : SSM_SCAN};
    to_grid = cell - (uint32_t)(from % cell);
    if (view != SSM_STEP && to_grid == cell && left >= cell)
        return (struct ssm_piece){cell, SSM_SCAN};
    if (view == SSM_STEP || left < to_grid)
        return (struct ssm_piece){left < cell ? left : cell, SSM_STEP};
    return (struct ssm_piece){to_grid, SSM_STEP};
}

/* Whether the piece that passes the clocks from space->begin to space->end finds room at all of them. */
static bool piece_fits(const struct ssm_filling *f)
{
    const struct ssm_workspace *w = f->space;

    if (f->tile.count == SSM_TILE_ROWS)
        return false;
    for (uint32_t k = 0; k < f->program->model->clocks.count; k++)
        if (w->end[k] - w->begin[k] > w->room[k] - w->clocks[k].frames)
            return false;
    return true;
}

static void piece_place(struct ssm_filling *f, struct ssm_slot_head *head, enum ssm_view view)
{
    struct ssm_workspace *w = f->space;

    for (uint32_t k = 0; k < f->program->model->clocks.count; k++) {
        struct ssm_tile_clock *clock = &w->clocks[k];
        uint32_t frames = (uint32_t)(w->end[k] - w->begin[k]);

        clock->rows[f->tile.count] = (struct ssm_tile_row){.state = ssm_slot_states(head),
                                                           .index = w->begin[k],
                                                           .first = clock->frames,
                                                           .frames = frames,
                                                           .view = view};
        clock->frames += frames;
        clock->sparse = clock->sparse || frames == 0;
    }
    f->tile.count++;
    f->tile.frames = w->clocks[0].frames;
}

/* The wide tile of a piece, alone. */
static void wide_run(struct ssm_filling *f)
{
    static const uint32_t room = SSM_CONV_FRAMES;

    f->tile.conv = f->program->conv;
    f->tile.scratch = f->space->wide;
    f->tile.room = &room;
    ssm_filling_run(f);
    f->tile.conv = NULL;
    f->tile.scratch = f->space->scratch;
    f->tile.room = f->space->room;
}

uint32_t ssm_filling_add(struct ssm_filling *f, const struct ssm_row *row, struct ssm_slot_head *head, uint32_t at,
                         struct ssm_piece piece, float *out)
{
    const struct ssm_model *model = f->program->model;
    struct ssm_workspace *w = f->space;
    size_t frame_bytes = model->info.input == SSM_TOKENS ? sizeof(int32_t) : model->info.in_channels * sizeof(float);
    uint32_t end = model->graph.out_clock;

    ssm_clocks_count(&model->clocks, head->frames + at, w->begin);
    ssm_clocks_count(&model->clocks, head->frames + at + piece.frames, w->end);
    if (piece.view == SSM_CONV || !piece_fits(f))
        ssm_filling_run(f);
    w->source[f->tile.count] = (const unsigned char *)row->in + at * frame_bytes;
    w->target[f->tile.count] = out;
    piece_place(f, head, piece.view == SSM_STEP ? SSM_STEP : SSM_SCAN);
    if (piece.view == SSM_CONV)
        wide_run(f);
    return (uint32_t)(w->end[end] - w->begin[end]);
}

void ssm_filling_run(struct ssm_filling *f)
{
    const struct ssm_model *model = f->program->model;
    struct ssm_workspace *w = f->space;
    size_t in = model->info.in_channels, out = model->info.out_channels;
    bool tokens = model->info.input == SSM_TOKENS, alone = f->tile.count == 1;
    unsigned char *staging = tokens ? (unsigned char *)w->token : (unsigned char *)w->input;
    size_t frame_bytes = tokens ? sizeof(int32_t) : in * sizeof(float);
    const struct ssm_tile_row *rows = w->clocks[0].rows, *made = w->clocks[model->graph.out_clock].rows;
    const void *input = alone ? w->source[0] : staging;
    float *y = alone ? w->target[0] : w->output;

    if (f->tile.count == 0)
        return;
    for (uint32_t i = 0; !alone && i < f->tile.count; i++)
        memcpy(staging + rows[i].first * frame_bytes, w->source[i], rows[i].frames * frame_bytes);
    f->tile.tokens = tokens ? input : NULL;
    f->tile.signal = tokens ? NULL : input;
    f->program->engine->cpu->sequence(&model->graph, &f->tile, f->tile.signal, y);
    for (uint32_t i = 0; !alone && i < f->tile.count; i++)
        memcpy(w->target[i], y + made[i].first * out, made[i].frames * out * sizeof(*y));
    for (uint32_t k = 0; k < model->clocks.count; k++) {
        w->clocks[k].frames = 0;
        w->clocks[k].sparse = false;
    }
    f->tile.count = 0;
    f->tile.frames = 0;
}

uint64_t ssm_filling_made(const struct ssm_filling *f, uint64_t n)
{
    const struct ssm_model *model = f->program->model;

    ssm_clocks_count(&model->clocks, n, f->space->begin);
    return f->space->begin[model->graph.out_clock];
}
