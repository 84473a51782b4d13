/* SPDX-License-Identifier: Apache-2.0
 *
 * The advance of a ragged batch.
 *
 * The members of the team share a batch by streams: each claims rows that lie together, cuts them into tiles (several
 * short rows in one tile, one long row over many; ssm/tile.h) and runs each tile depth-first through the graph. No
 * kernel's bits depend on what else is in a tile, so neither do a stream's results.
 *
 * When there are fewer rows than members, a row of several tiles is shared by all of them: they claim its tiles in
 * order and follow one another through the layers (ssm/cpu/graph.c). A row of the conv view is one thread's. A device
 * takes the batch as it is (ssm/device.c). */
#include "ssm/tile.h"

/* Waking a team takes some 10 us, more on a busy machine: less work than this is done sooner alone. In bytes of weights
 * and state times frames, of which a core passes some 10 per ns. */
#define TEAM_WORK (512u << 10)

/* One advance, as the members of the team see it. */
struct advance {
    struct ssm_program *program;
    struct ssm_row *rows;
    size_t n;
    uint64_t frames;    /* of all rows that run */
    atomic_size_t next; /* row that nobody has claimed */
    bool together;      /* long rows are the whole team's */
};

static void row_run(struct ssm_filling *f, struct ssm_row *row)
{
    struct ssm_slot_head *head = ssm_pool_find(&f->program->pool, row->slot);
    size_t channels = f->program->model->info.out_channels;
    uint32_t cell = f->program->model->cell;

    for (uint32_t done = 0, left = row->frames; left > 0;) {
        struct ssm_piece piece = ssm_piece_next(f->program, row->view, head->frames + done, left, f->tile.frames);

        if (piece.frames > 0)
            row->out_frames += ssm_filling_add(f, row, head, done, piece, row->out + row->out_frames * channels);
        done += piece.frames;
        left -= piece.frames;
        if (left > 0 || f->tile.frames >= cell)
            ssm_filling_run(f);
    }
    head->frames += row->frames;
}

/* ---- a row that the team shares ---------------------------------------------------------------------------------- */

struct sharing {
    struct ssm_program *program;
    struct ssm_row *row;
    struct ssm_slot_head *head;
    uint32_t first;   /* frames of the first tile; the others are full */
    uint64_t made;    /* output frames before the row */
    atomic_uint next; /* tile that nobody has claimed */
};

static void sharing_run(void *context, uint32_t member)
{
    struct sharing *s = context;
    size_t channels = s->program->model->info.out_channels;
    uint32_t cell = s->program->model->cell;
    unsigned mode = ssm_cpu_floats_flush();
    struct ssm_filling f;

    ssm_filling_init(&f, s->program, &s->program->workspace[member]);
    f.tile.passed = s->program->passed;
    for (;;) {
        unsigned turn = f.tile.turn = atomic_fetch_add(&s->next, 1);
        uint64_t at = turn == 0 ? 0 : s->first + (uint64_t)(turn - 1) * cell, from = s->head->frames + at;

        if (at >= s->row->frames)
            break;
        ssm_filling_add(&f, s->row, s->head, (uint32_t)at,
                        ssm_piece_next(s->program, s->row->view, from, (uint32_t)(s->row->frames - at), 0),
                        s->row->out + (ssm_filling_made(&f, from) - s->made) * channels);
        ssm_filling_run(&f);
    }
    ssm_cpu_floats_restore(mode);
}

/* Whether the team may share it. */
static bool row_is_long(const struct ssm_program *program, const struct ssm_row *row)
{
    return row->status == SSM_OK && row->slot.index >= 0 && row->frames > program->model->cell && row->view != SSM_CONV;
}

static void row_share(struct ssm_program *program, struct ssm_row *row)
{
    struct ssm_slot_head *head = ssm_pool_find(&program->pool, row->slot);
    struct sharing s = {.program = program, .row = row, .head = head};
    struct ssm_filling f;

    ssm_filling_init(&f, program, &program->workspace[0]);
    s.made = ssm_filling_made(&f, head->frames);
    s.first = ssm_piece_next(program, row->view, head->frames, row->frames, 0).frames;
    for (uint32_t i = 0; i < program->model->graph.count; i++)
        atomic_store_explicit(&program->passed[i], 0, memory_order_relaxed);
    ssm_team_run(program->engine->team, sharing_run, &s);
    head->frames += row->frames;
    row->out_frames = (uint32_t)(ssm_filling_made(&f, head->frames) - s.made);
}

/* ---- rows by streams --------------------------------------------------------------------------------------------- */

/* Claims the next rows, about a tile of them: *from to the value returned; equal when none are left. */
static size_t rows_claim(struct advance *a, size_t *from)
{
    size_t at = atomic_load(&a->next), to;

    do {
        uint64_t frames = 0;

        for (to = at; to < a->n && frames < a->program->model->cell; to++)
            frames += a->rows[to].frames;
    } while (!atomic_compare_exchange_weak(&a->next, &at, to));
    *from = at;
    return to;
}

static void member_run(void *context, uint32_t member)
{
    struct advance *a = context;
    unsigned mode = ssm_cpu_floats_flush();
    struct ssm_filling f;
    size_t from, to;

    ssm_filling_init(&f, a->program, &a->program->workspace[member]);
    while ((to = rows_claim(a, &from)) > from)
        for (size_t i = from; i < to; i++)
            if (a->rows[i].status == SSM_OK && a->rows[i].slot.index >= 0 &&
                !(a->together && row_is_long(a->program, &a->rows[i])))
                row_run(&f, &a->rows[i]);
    ssm_filling_run(&f);
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
        (row->view != SSM_STEP && row->view != SSM_SCAN && !(row->view == SSM_CONV && program->prepared)))
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
    if (program->device) {
        int status = ssm_device_advance(program, rows, n);

        return status ? status : first;
    }
    a.together = team && n < program->engine->threads;
    for (size_t i = 0; a.together && i < n; i++)
        if (row_is_long(program, &rows[i]))
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
    int first;

    if (program->device)
        return SSM_UNSUPPORTED;
    first = rows_admit(&a, program->mark_beside += 2);
    if (a.frames > 0)
        member_run(&a, program->engine->threads);
    return first;
}
