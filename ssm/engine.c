/* SPDX-License-Identifier: Apache-2.0
 *
 * Engines, programs, and the advance of a ragged batch.
 *
 * The members of the team share a batch by streams: each claims rows that lie together, cuts them into tiles of at most
 * SSM_TILE_FRAMES frames (several short rows in one tile, one long row over many) and runs each tile depth-first
 * through the graph. No kernel's bits depend on what else is in a tile, so neither do a stream's results.
 *
 * When there are fewer rows than members, a row of several tiles is shared by all of them: they claim its tiles in
 * order and follow one another through the layers (ssm/cpu/graph.c).
 *
 * A scanning row is cut on the grid of absolute indices, so that every whole block of the grid inside the row lies
 * inside one tile, whoever shares it. A row of the conv view is cut into wide tiles on that grid, and what is short of
 * one is scanned; such a row is one thread's. */
#include "ssm/engine.h"

#include <stdlib.h>
#include <string.h>

#define THREADS_MAX 256u
/* Waking a team takes some 10 us, more on a busy machine: less work than this is done sooner alone. In bytes of weights
 * and state times frames, of which a core passes some 10 per ns. */
#define TEAM_WORK   (512u << 10)

int ssm_engine_new(struct ssm_engine **out, const struct ssm_engine_options *options, struct ssm_error *err)
{
    static const struct ssm_engine_options defaults;
    const struct ssm_engine_options *o = options ? options : &defaults;
    const char *isa = o->isa ? o->isa : getenv("SSMD_ISA");
    struct ssm_engine *engine;
    int status;

    *out = NULL;
    if (o->backend && strcmp(o->backend, "cpu") != 0)
        return ssm_error_set(err, SSM_UNSUPPORTED, "no backend '%s' in this build: use cpu", o->backend);
    if (o->threads > THREADS_MAX)
        return ssm_error_set(err, SSM_INVAL, "%u threads: at most %u", o->threads, THREADS_MAX);
    engine = calloc(1, sizeof(*engine));
    if (!engine)
        return ssm_error_set(err, SSM_NOMEM, "no memory for an engine");
    engine->threads = o->threads ? o->threads : 1;
    engine->cpu = ssm_cpu_select(isa && *isa ? isa : NULL);
    if (!engine->cpu) {
        status = ssm_error_set(err, SSM_UNSUPPORTED,
                               "instruction set '%s' is not in this build or processor: ref always is", isa);
        goto fail;
    }
    if ((status = ssm_team_new(&engine->team, engine->threads))) {
        status = ssm_error_set(err, status, "cannot start %u threads", engine->threads - 1);
        goto fail;
    }
    *out = engine;
    return SSM_OK;
fail:
    free(engine);
    return status;
}

void ssm_engine_free(struct ssm_engine *engine)
{
    if (engine)
        ssm_team_free(engine->team);
    free(engine);
}

const char *ssm_engine_isa(const struct ssm_engine *engine)
{
    return engine->cpu->isa;
}

static void workspace_fini(struct ssm_workspace *w)
{
    free(w->input);
    free(w->output);
    free(w->scratch);
    free(w->wide);
    free(w->token);
}

static int workspace_init(struct ssm_workspace *w, const struct ssm_model *model)
{
    const struct ssm_model_info *info = &model->info;

    w->input = ssm_floats_new((size_t)SSM_TILE_FRAMES * info->in_channels);
    w->output = ssm_floats_new((size_t)SSM_TILE_FRAMES * info->out_channels);
    w->scratch = ssm_floats_new(ssm_cpu_scratch_floats(&model->graph, SSM_TILE_FRAMES));
    w->token = calloc(SSM_TILE_FRAMES, sizeof(*w->token));
    return w->input && w->output && w->scratch && w->token ? SSM_OK : SSM_NOMEM;
}

int ssm_program_new(struct ssm_program **out, struct ssm_engine *engine, struct ssm_model *model, uint32_t max_slots,
                    struct ssm_error *err)
{
    struct ssm_program *program = calloc(1, sizeof(*program));
    int status = SSM_NOMEM;

    *out = NULL;
    if (!program)
        goto fail;
    program->engine = engine;
    program->frame_work = model->info.weight_bytes + model->info.state_bytes + 1;
    program->mark = 0;
    program->mark_beside = 1;
    program->workspace = calloc(engine->threads + 1, sizeof(*program->workspace));
    program->passed = calloc(model->graph.count + 1, sizeof(*program->passed));
    if (!program->workspace || !program->passed ||
        (status = ssm_pool_init(&program->pool, model->info.state_bytes, max_slots)))
        goto fail;
    for (uint32_t i = 0; i <= engine->threads; i++)
        if ((status = workspace_init(&program->workspace[i], model)))
            goto fail;
    program->model = ssm_model_ref(model);
    *out = program;
    return SSM_OK;
fail:
    ssm_program_free(program);
    return ssm_error_set(err, status, "cannot compile model '%s' for %u streams: %s", model->info.name, max_slots,
                         ssm_status_text(status));
}

void ssm_program_free(struct ssm_program *program)
{
    if (!program)
        return;
    for (uint32_t i = 0; program->workspace && i <= program->engine->threads; i++)
        workspace_fini(&program->workspace[i]);
    free(program->workspace);
    ssm_conv_free(program->conv);
    free(program->passed);
    ssm_pool_fini(&program->pool);
    ssm_model_free(program->model);
    free(program);
}

const struct ssm_model *ssm_program_model(const struct ssm_program *program)
{
    return program->model;
}

int ssm_program_prepare(struct ssm_program *program, enum ssm_view view, struct ssm_error *err)
{
    const struct ssm_sequence *graph = &program->model->graph;
    struct ssm_conv *conv;
    size_t floats;
    int status;

    if (view != SSM_CONV || program->conv)
        return SSM_OK;
    if ((status = ssm_conv_new(&conv, graph, err)))
        return status;
    floats = ssm_cpu_scratch_floats(graph, SSM_CONV_FRAMES) + ssm_cpu_scratch_floats(graph, SSM_TILE_FRAMES) +
             conv->scratch_floats;
    for (uint32_t i = 0; i <= program->engine->threads; i++) {
        struct ssm_workspace *w = &program->workspace[i];

        if (!w->wide)
            w->wide = ssm_floats_new(floats);
        if (!w->wide) {
            ssm_conv_free(conv);
            return ssm_error_set(err, SSM_NOMEM, "no memory for the conv view of model '%s'",
                                 program->model->info.name);
        }
    }
    program->conv = conv;
    return SSM_OK;
}

int ssm_slot_acquire(struct ssm_program *program, struct ssm_slot *out)
{
    return ssm_pool_acquire(&program->pool, out);
}

int ssm_slot_reset(struct ssm_program *program, struct ssm_slot slot)
{
    return ssm_pool_reset(&program->pool, slot);
}

void ssm_slot_release(struct ssm_program *program, struct ssm_slot slot)
{
    ssm_pool_release(&program->pool, slot);
}

int ssm_slot_frames(const struct ssm_program *program, struct ssm_slot slot, uint64_t *out)
{
    const struct ssm_slot_head *head = ssm_pool_find(&program->pool, slot);

    if (!head)
        return SSM_STALE;
    *out = head->frames;
    return SSM_OK;
}

/* ---- advance ----------------------------------------------------------------------------------------------------- */

/* One advance, as the members of the team see it. */
struct advance {
    struct ssm_program *program;
    struct ssm_row *rows;
    size_t n;
    uint64_t frames;    /* of all rows that run */
    atomic_size_t next; /* row that nobody has claimed */
    bool together;      /* long rows are the whole team's */
};

/* A tile being filled: pieces of rows, with where their input comes from and their output goes. */
struct filling {
    struct ssm_workspace *space;
    const void *source[SSM_TILE_ROWS];
    struct ssm_tile tile;
};

static void tile_run(const struct ssm_program *program, struct filling *f)
{
    const struct ssm_model *model = program->model;
    struct ssm_workspace *w = f->space;
    size_t in = model->info.in_channels, out = model->info.out_channels;
    bool tokens = model->info.input == SSM_TOKENS, alone = f->tile.count == 1;
    unsigned char *staging = tokens ? (unsigned char *)w->token : (unsigned char *)w->input;
    size_t frame_bytes = tokens ? sizeof(int32_t) : in * sizeof(float);
    const void *input = alone ? f->source[0] : staging;
    float *y = alone ? w->target[0] : w->output;

    if (f->tile.count == 0)
        return;
    for (uint32_t i = 0; !alone && i < f->tile.count; i++)
        memcpy(staging + w->row[i].first * frame_bytes, f->source[i], w->row[i].frames * frame_bytes);
    f->tile.inputs = model->info.in_channels;
    f->tile.tokens = tokens ? input : NULL;
    f->tile.signal = tokens ? NULL : input;
    program->engine->cpu->sequence(&model->graph, &f->tile, f->tile.signal, y);
    for (uint32_t i = 0; !alone && i < f->tile.count; i++)
        memcpy(w->target[i], y + w->row[i].first * out, w->row[i].frames * out * sizeof(*y));
    f->tile.count = 0;
    f->tile.frames = 0;
}

/* How many of `left` frames from absolute index `from` on fit `space` frames of a tile: a row that must be cut and is
 * not stepped is cut on the grid, which may leave nothing. */
static uint32_t piece_frames(enum ssm_view view, uint64_t from, uint32_t left, uint32_t space)
{
    if (left <= space)
        return left;
    if (view != SSM_STEP) {
        uint64_t end = (from + space) / SSM_SCAN_BLOCK * SSM_SCAN_BLOCK;

        return end > from ? (uint32_t)(end - from) : 0;
    }
    return space;
}

/* Adds `frames` frames of the row, from its frame `at` on, to the tile. The state's own count stands at the row's
 * begin. */
static void piece_add(const struct ssm_program *program, struct filling *f, const struct ssm_row *row,
                      struct ssm_slot_head *head, uint32_t at, uint32_t frames)
{
    const struct ssm_model_info *info = &program->model->info;
    size_t frame_bytes = info->input == SSM_TOKENS ? sizeof(int32_t) : info->in_channels * sizeof(float);
    uint32_t i = f->tile.count++;

    f->space->row[i] = (struct ssm_tile_row){.state = ssm_slot_states(head),
                                             .index = head->frames + at,
                                             .first = f->tile.frames,
                                             .frames = frames,
                                             .view = row->view == SSM_STEP ? SSM_STEP : SSM_SCAN};
    f->source[i] = (const unsigned char *)row->in + at * frame_bytes;
    f->space->target[i] = row->out + (size_t)at * info->out_channels;
    f->tile.frames += frames;
}

/* Whether a wide tile begins at absolute index `from` of the row, `left` frames before its end. */
static bool row_is_wide(const struct ssm_row *row, uint64_t from, uint32_t left)
{
    return row->view == SSM_CONV && from % SSM_SCAN_BLOCK == 0 && left >= SSM_CONV_FRAMES;
}

/* The wide tile from the row's frame `at` on, after what is in the tile already. */
static void wide_run(const struct ssm_program *program, struct filling *f, const struct ssm_row *row,
                     struct ssm_slot_head *head, uint32_t at)
{
    tile_run(program, f);
    f->tile.conv = program->conv;
    f->tile.scratch = f->space->wide;
    piece_add(program, f, row, head, at, SSM_CONV_FRAMES);
    tile_run(program, f);
    f->tile.conv = NULL;
    f->tile.scratch = f->space->scratch;
}

static void row_run(const struct ssm_program *program, struct filling *f, struct ssm_row *row)
{
    struct ssm_slot_head *head = ssm_pool_find(&program->pool, row->slot);
    uint32_t done = 0, taken;

    for (; done < row->frames; done += taken) {
        if (row_is_wide(row, head->frames + done, row->frames - done)) {
            taken = SSM_CONV_FRAMES;
            wide_run(program, f, row, head, done);
            continue;
        }
        taken = piece_frames(row->view, head->frames + done, row->frames - done, SSM_TILE_FRAMES - f->tile.frames);
        if (taken > 0)
            piece_add(program, f, row, head, done, taken);
        if (done + taken < row->frames || f->tile.frames == SSM_TILE_FRAMES)
            tile_run(program, f);
    }
    head->frames += row->frames;
    row->out_frames = row->frames;
}

/* ---- a row that the team shares ---------------------------------------------------------------------------------- */

struct sharing {
    struct ssm_program *program;
    struct ssm_row *row;
    struct ssm_slot_head *head;
    uint32_t first;   /* frames of the first tile; the others are full */
    atomic_uint next; /* tile that nobody has claimed */
};

static void sharing_run(void *context, uint32_t member)
{
    struct sharing *s = context;
    struct ssm_workspace *space = &s->program->workspace[member];
    struct filling f = {.space = space,
                        .tile = {.rows = space->row, .scratch = space->scratch, .passed = s->program->passed}};
    unsigned mode = ssm_cpu_floats_flush();

    for (;;) {
        unsigned turn = f.tile.turn = atomic_fetch_add(&s->next, 1);
        uint64_t at = turn == 0 ? 0 : s->first + (uint64_t)(turn - 1) * SSM_TILE_FRAMES;

        if (at >= s->row->frames)
            break;
        piece_add(s->program, &f, s->row, s->head, (uint32_t)at,
                  piece_frames(s->row->view, s->head->frames + at, (uint32_t)(s->row->frames - at), SSM_TILE_FRAMES));
        tile_run(s->program, &f);
    }
    ssm_cpu_floats_restore(mode);
}

/* Whether the team may share it. */
static bool row_is_long(const struct ssm_row *row)
{
    return row->status == SSM_OK && row->slot.index >= 0 && row->frames > SSM_TILE_FRAMES && row->view != SSM_CONV;
}

static void row_share(struct ssm_program *program, struct ssm_row *row)
{
    struct ssm_slot_head *head = ssm_pool_find(&program->pool, row->slot);
    struct sharing s = {.program = program, .row = row, .head = head};

    s.first = piece_frames(row->view, head->frames, row->frames, SSM_TILE_FRAMES);
    for (uint32_t i = 0; i < program->model->graph.count; i++)
        atomic_store_explicit(&program->passed[i], 0, memory_order_relaxed);
    ssm_team_run(program->engine->team, sharing_run, &s);
    head->frames += row->frames;
    row->out_frames = row->frames;
}

/* ---- rows by streams --------------------------------------------------------------------------------------------- */

/* Claims the next rows, about a tile of them: *from to the value returned; equal when none are left. */
static size_t rows_claim(struct advance *a, size_t *from)
{
    size_t at = atomic_load(&a->next), to;

    do {
        uint64_t frames = 0;

        for (to = at; to < a->n && frames < SSM_TILE_FRAMES; to++)
            frames += a->rows[to].frames;
    } while (!atomic_compare_exchange_weak(&a->next, &at, to));
    *from = at;
    return to;
}

static void member_run(void *context, uint32_t member)
{
    struct advance *a = context;
    struct ssm_workspace *space = &a->program->workspace[member];
    struct filling f = {.space = space, .tile = {.rows = space->row, .scratch = space->scratch}};
    unsigned mode = ssm_cpu_floats_flush();
    size_t from, to;

    while ((to = rows_claim(a, &from)) > from)
        for (size_t i = from; i < to; i++)
            if (a->rows[i].status == SSM_OK && a->rows[i].slot.index >= 0 && !(a->together && row_is_long(&a->rows[i])))
                row_run(a->program, &f, &a->rows[i]);
    tile_run(a->program, &f);
    ssm_cpu_floats_restore(mode);
}

/* Refuses what cannot run, before any state moves. A slot's mark tells whether this batch has it already. */
static int row_admit(struct ssm_program *program, struct ssm_row *row, uint64_t mark)
{
    struct ssm_slot_head *head;

    row->out_frames = 0;
    if (row->slot.index < 0)
        return SSM_OK;
    head = ssm_pool_find(&program->pool, row->slot);
    if (!head)
        return SSM_STALE;
    if (row->frames == 0 || !row->in || !row->out || head->batch == mark ||
        (row->view != SSM_STEP && row->view != SSM_SCAN && !(row->view == SSM_CONV && program->conv)))
        return SSM_INVAL;
    head->batch = mark;
    return SSM_OK;
}

/* Judges every row and counts the frames that will run; the first failure, or 0. */
static int rows_admit(struct advance *a, uint64_t mark)
{
    int first = SSM_OK;

    for (size_t i = 0; i < a->n; i++) {
        struct ssm_row *row = &a->rows[i];

        row->status = row_admit(a->program, row, mark);
        if (row->status == SSM_OK && row->slot.index >= 0)
            a->frames += row->frames;
        else if (first == SSM_OK)
            first = row->status;
    }
    return first;
}

int ssm_advance(struct ssm_program *program, struct ssm_row *rows, size_t n)
{
    struct advance a = {.program = program, .rows = rows, .n = n};
    int first = rows_admit(&a, program->mark += 2);
    bool team = a.frames * program->frame_work >= TEAM_WORK;

    if (a.frames == 0)
        return first;
    a.together = team && n < program->engine->threads;
    for (size_t i = 0; a.together && i < n; i++)
        if (row_is_long(&rows[i]))
            row_share(program, &rows[i]);
    if (team && n > 1)
        ssm_team_run(program->engine->team, member_run, &a);
    else
        member_run(&a, 0);
    return first;
}

int ssm_advance_beside(struct ssm_program *program, struct ssm_row *rows, size_t n)
{
    struct advance a = {.program = program, .rows = rows, .n = n};
    int first = rows_admit(&a, program->mark_beside += 2);

    if (a.frames > 0)
        member_run(&a, program->engine->threads);
    return first;
}
