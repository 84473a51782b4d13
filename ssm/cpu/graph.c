/* SPDX-License-Identifier: Apache-2.0
 *
 * The graph on this instruction set: layers one after another, and the table from kind to kernel. Branches are join.c's.
 *
 * A sequence runs between two buffers of its widest layer, taken from the tile's scratch; what remains goes down to the
 * branches. ssm_cpu_scratch_floats (ssm/cpu_select.c) counts the same way: change both together.
 *
 * Several threads may run the tiles of one long row: a thread takes a tile through all layers, and at each layer of the
 * graph that keeps state waits for the tile before it. After a short start every thread is busy, at another depth; no
 * number is computed twice or in another order, so the bits are those of one thread.
 *
 * At every layer the tile's rows are those of the layer's clock. Kernels that take SSM_TILE_FRAMES frames at most, and
 * no empty rows, get them in pieces.
 *
 * A wide tile goes whole to the layers that have a conv form, and to joins of branches that hold one. What lies between
 * them runs depth-first as ever, one tile of SSM_TILE_FRAMES after another. */
#include <sched.h>
#include <string.h>

#include "ssm/cpu/ops.h"
#include "ssm/team.h"

static ssm_cpu_op *const ops[SSM_KIND_COUNT] = {
#define X(name) [SSM_KIND_##name] = SSM_CPU(ssm_cpu_##name),
    SSM_LAYER_KINDS(X)
#undef X
};

/* Floats of the largest output between the layers. */
static size_t largest(const struct ssm_sequence *s, const struct ssm_tile *tile)
{
    size_t most = 0;

    for (uint32_t i = 0; i + 1 < s->count; i++) {
        size_t floats = (size_t)tile->room[s->layers[i].out_clock] * s->layers[i].out;

        most = floats > most ? floats : most;
    }
    return most;
}

/* Looks before the core is given to somebody else, some 20 us. */
#define LOOKS 1000

/* Until the tile before this one is through the layer. Whoever has it is running: tiles are claimed in order. */
static void turn_wait(const struct ssm_tile *tile, uint32_t layer)
{
    for (uint32_t looks = 0; atomic_load_explicit(&tile->passed[layer], memory_order_acquire) < tile->turn; looks++) {
        if (looks >= LOOKS)
            sched_yield();
        ssm_team_pause();
    }
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

/* Frames `begin` on of the tile through the layer. */
static void piece_run(const struct ssm_layer *layer, const struct ssm_tile *tile, struct ssm_tile *piece,
                      uint32_t begin, const float *x, float *y)
{
    if (piece->frames == 0)
        return;
    piece->signal = tile->signal ? tile->signal + (size_t)begin * tile->inputs : NULL;
    piece->tokens = tile->tokens ? tile->tokens + begin : NULL;
    ops[layer->kind->id](layer, piece, x ? x + (size_t)begin * layer->in : NULL, y + (size_t)begin * layer->out);
    piece->count = piece->frames = 0;
}

/* Rows of which some have no frame here, or more than a kernel takes at once. */
static void pieces_run(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    struct ssm_tile_row rows[SSM_TILE_FRAMES];
    struct ssm_tile piece = *tile;
    uint32_t begin = 0;

    piece.rows = rows;
    piece.count = piece.frames = 0;
    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];

        for (uint32_t done = 0, taken; done < row->frames; done += taken) {
            uint32_t left = row->frames - done;

            taken = ssm_row_piece(row->view, row->index + done, left, SSM_TILE_FRAMES - piece.frames);
            if (taken > 0) {
                rows[piece.count] = *row;
                rows[piece.count].index += done;
                rows[piece.count].first = piece.frames;
                rows[piece.count++].frames = taken;
                piece.frames += taken;
            }
            if (taken < left || piece.frames == SSM_TILE_FRAMES) {
                uint32_t end = begin + piece.frames;

                piece_run(layer, tile, &piece, begin, x, y);
                begin = end;
            }
        }
    }
    piece_run(layer, tile, &piece, begin, x, y);
}

static void layer_run(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_tile_clock *clock = &tile->clocks[layer->clock];
    struct ssm_tile at = *tile;

    at.rows = clock->rows;
    at.frames = clock->frames;
    if (layer->kind->any_rows || (!clock->sparse && clock->frames <= SSM_TILE_FRAMES))
        ops[layer->kind->id](layer, &at, x, y);
    else
        pieces_run(layer, &at, x, y);
}

/* ---- wide tiles -------------------------------------------------------------------------------------------------- */

/* A wide tile through layers that do not take it whole. */
static void narrow_run(const struct ssm_sequence *sequence, const struct ssm_tile *wide, const float *x, float *y)
{
    static const uint32_t room = SSM_TILE_FRAMES;
    struct ssm_tile_row row = *wide->rows;
    struct ssm_tile_clock clock = {.rows = &row, .frames = SSM_TILE_FRAMES};
    struct ssm_tile tile = *wide;

    tile.conv = NULL;
    tile.rows = &row;
    tile.clocks = &clock;
    tile.room = &room;
    tile.frames = row.frames = SSM_TILE_FRAMES;
    for (uint32_t t = 0; t < wide->frames; t += SSM_TILE_FRAMES) {
        tile.signal = wide->signal ? wide->signal + (size_t)t * wide->inputs : NULL;
        tile.tokens = wide->tokens ? wide->tokens + t : NULL;
        row.index = wide->rows->index + t;
        SSM_CPU(ssm_cpu_sequence)
        (sequence, &tile, x ? x + (size_t)t * sequence->in : NULL, y + (size_t)t * sequence->out);
    }
}

/* A wide tile: the layers that take it whole, one by one, and those between them together. */
static void wide_run(const struct ssm_sequence *sequence, const struct ssm_tile *tile, float *const buffers[2],
                     const float *x, float *y)
{
    for (uint32_t i = 0, part = 0, end; i < sequence->count; i = end, part++) {
        const struct ssm_layer *first = &sequence->layers[i];
        const struct ssm_conv_layer *conv = ssm_conv_find(tile->conv, first);
        bool whole = ssm_conv_holds(tile->conv, first);
        float *to;

        for (end = i + 1; !whole && end < sequence->count; end++)
            if (ssm_conv_holds(tile->conv, &sequence->layers[end]))
                break;
        to = end == sequence->count ? y : buffers[part % 2];
        if (conv)
            SSM_CPU(ssm_cpu_conv)(conv, tile, x, to);
        else if (whole)
            ops[first->kind->id](first, tile, x, to);
        else
            narrow_run(&(struct ssm_sequence){.layers = sequence->layers + i,
                                              .count = end - i,
                                              .in = first->in,
                                              .out = sequence->layers[end - 1].out},
                       tile, x, to);
        x = to;
    }
}

void SSM_CPU(ssm_cpu_sequence)(const struct ssm_sequence *sequence, const struct ssm_tile *tile, const float *x,
                               float *y)
{
    size_t buffer = largest(sequence, tile);
    float *ping = tile->scratch, *pong = tile->scratch + buffer;
    struct ssm_tile rest = *tile;

    rest.scratch += 2 * buffer;
    rest.passed = NULL;
    if (sequence->count == 0)
        memcpy(y, x, (size_t)tile->frames * sequence->in * sizeof(*y));
    if (tile->conv) {
        wide_run(sequence, &rest, (float *const[]){ping, pong}, x, y);
        return;
    }
    for (uint32_t i = 0; i < sequence->count; i++) {
        const struct ssm_layer *layer = &sequence->layers[i];
        float *to = i + 1 == sequence->count ? y : i % 2 ? pong : ping;

        if (tile->passed && layer->keeps_state)
            turn_wait(tile, i);
        layer_run(layer, &rest, x, to);
        if (tile->passed && layer->keeps_state)
            atomic_store_explicit(&tile->passed[i], tile->turn + 1, memory_order_release);
        x = to;
    }
}

const struct ssm_cpu SSM_CPU(ssm_cpu_table) = {
    .isa = SSM_CPU_STRING(SSM_ISA),
    .sequence = SSM_CPU(ssm_cpu_sequence),
};
