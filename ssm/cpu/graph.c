/* SPDX-License-Identifier: Apache-2.0
 *
 * The graph on this instruction set: layers one after another, branches side by side, and the table from kind to
 * kernel.
 *
 * A sequence runs between two buffers of its widest layer, taken from the tile's scratch; what remains goes down to the
 * branches. ssm_cpu_scratch_floats (ssm/cpu_select.c) counts the same way: change both together.
 *
 * Several threads may run the tiles of one long row: a thread takes a tile through all layers, and at each layer of the
 * graph that keeps state waits for the tile before it. After a short start every thread is busy, at another depth; no
 * number is computed twice or in another order, so the bits are those of one thread.
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

static uint32_t widest(const struct ssm_sequence *s)
{
    uint32_t width = 0;

    for (uint32_t i = 0; i + 1 < s->count; i++)
        width = s->layers[i].out > width ? s->layers[i].out : width;
    return width;
}

/* Floats of a buffer for the tile: a wide one's, or the largest that other tiles need. */
static size_t buffer_floats(const struct ssm_tile *tile, uint32_t channels)
{
    return (size_t)channels * (tile->conv ? SSM_CONV_FRAMES : SSM_TILE_FRAMES);
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

/* A wide tile through layers that do not take it whole. */
static void narrow_run(const struct ssm_sequence *sequence, const struct ssm_tile *wide, const float *x, float *y)
{
    struct ssm_tile_row row = *wide->rows;
    struct ssm_tile tile = *wide;

    tile.conv = NULL;
    tile.rows = &row;
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
    size_t buffer = buffer_floats(tile, widest(sequence));
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
        ops[layer->kind->id](layer, &rest, x, to);
        if (tile->passed && layer->keeps_state)
            atomic_store_explicit(&tile->passed[i], tile->turn + 1, memory_order_release);
        x = to;
    }
}

void SSM_CPU(ssm_cpu_residual)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    size_t n = (size_t)tile->frames * layer->out;

    SSM_CPU(ssm_cpu_sequence)(&layer->branch[0], tile, x, y);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] + y[i];
}

/* Branch 0 into y, every further one into a buffer of its own and joined to y. */
static inline void branches_run(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y,
                                bool multiply)
{
    size_t n = (size_t)tile->frames * layer->out;
    float *other = tile->scratch;
    struct ssm_tile rest = *tile;

    rest.scratch += buffer_floats(tile, layer->out);
    SSM_CPU(ssm_cpu_sequence)(&layer->branch[0], &rest, x, y);
    for (uint32_t b = 1; b < layer->branches; b++) {
        SSM_CPU(ssm_cpu_sequence)(&layer->branch[b], &rest, x, other);
        for (size_t i = 0; i < n; i++)
            y[i] = multiply ? y[i] * other[i] : y[i] + other[i];
    }
}

void SSM_CPU(ssm_cpu_add)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    branches_run(layer, tile, x, y, false);
}

void SSM_CPU(ssm_cpu_multiply)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    branches_run(layer, tile, x, y, true);
}

const struct ssm_cpu SSM_CPU(ssm_cpu_table) = {
    .isa = SSM_CPU_STRING(SSM_ISA),
    .sequence = SSM_CPU(ssm_cpu_sequence),
};
