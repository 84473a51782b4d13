/* SPDX-License-Identifier: Apache-2.0
 *
 * residual, add, multiply: branches that see the same input, joined by index.
 *
 * Where all branches run at their input's clock, frame t of each is there at the same time. Else a side may be ahead of
 * the join, and its last frames lie in a ring of the layer's state, frame t at t % ahead. Every frame that comes passes
 * into the ring, also one that is used at once: so the ring depends on the index alone, not on how the input was cut.
 *
 * These kernels are given rows of any length, none too. */
#include <string.h>

#include "ssm/cpu/ops.h"

enum joining { TAKE, ADD, MULTIPLY }; /* TAKE: the first side */

static inline void frames_join(enum joining how, const float *x, float *y, size_t n)
{
    if (how == TAKE)
        memcpy(y, x, n * sizeof(*y));
    else if (how == ADD)
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] + x[i];
    else
        for (size_t i = 0; i < n; i++)
            y[i] = y[i] * x[i];
}

/* ---- apart ------------------------------------------------------------------------------------------------------- */

/* One row's frames `now` of that side, which begin at x, joined to the output's. */
static void row_join(const struct ssm_side *side, enum joining how, size_t channels, const struct ssm_tile_row *now,
                     const struct ssm_tile_row *out, float *ring, const float *x, float *y)
{
    uint32_t old = out->index >= now->index                ? 0
                   : now->index - out->index < out->frames ? (uint32_t)(now->index - out->index)
                                                           : out->frames;
    uint32_t kept = now->frames < side->ahead ? now->frames : side->ahead;

    for (uint32_t t = 0; t < old; t++)
        frames_join(how, ring + (out->index + t) % side->ahead * channels, y + t * channels, channels);
    if (old < out->frames)
        frames_join(how, x + (out->index + old - now->index) * channels, y + old * channels,
                    (out->frames - old) * channels);
    for (uint32_t t = now->frames - kept; t < now->frames; t++)
        memcpy(ring + (now->index + t) % side->ahead * channels, x + t * channels, channels * sizeof(*x));
}

static void side_join(const struct ssm_layer *layer, const struct ssm_tile *tile, uint32_t i, enum joining how,
                      const float *x, float *y)
{
    const struct ssm_side *side = &layer->join->side[i];
    const struct ssm_tile_row *now = tile->clocks[side->clock].rows, *out = tile->clocks[layer->out_clock].rows;
    size_t channels = layer->out;

    for (uint32_t r = 0; r < tile->count; r++) {
        unsigned char *state = ssm_row_state(layer, &now[r]);

        row_join(side, how, channels, &now[r], &out[r], (float *)(state + side->offset), x + now[r].first * channels,
                 y + out[r].first * channels);
    }
}

/* own: the input is side 0, and the branches come after it. */
static void apart_join(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y, bool own,
                       enum joining how)
{
    if (own)
        side_join(layer, tile, 0, TAKE, x, y);
    for (uint32_t b = 0; b < layer->branches; b++) {
        const struct ssm_sequence *branch = &layer->branch[b];
        struct ssm_tile rest = *tile;
        uint32_t side = own + b;

        rest.scratch += (size_t)tile->room[branch->out_clock] * branch->out;
        if (branch->count > 0)
            SSM_CPU(ssm_cpu_sequence)(branch, &rest, x, tile->scratch);
        side_join(layer, tile, side, side > 0 ? how : TAKE, branch->count > 0 ? tile->scratch : x, y);
    }
}

/* ---- the kernels ------------------------------------------------------------------------------------------------- */

/* Branch 0 into y, every further one into a buffer of its own and joined to y. */
static void branches_run(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y,
                         enum joining how)
{
    struct ssm_tile rest = *tile;

    if (layer->join) {
        apart_join(layer, tile, x, y, false, how);
        return;
    }
    rest.scratch += (size_t)tile->room[layer->out_clock] * layer->out;
    SSM_CPU(ssm_cpu_sequence)(&layer->branch[0], &rest, x, y);
    for (uint32_t b = 1; b < layer->branches; b++) {
        SSM_CPU(ssm_cpu_sequence)(&layer->branch[b], &rest, x, tile->scratch);
        frames_join(how, tile->scratch, y, (size_t)tile->frames * layer->out);
    }
}

void SSM_CPU(ssm_cpu_residual)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    if (layer->join) {
        apart_join(layer, tile, x, y, true, ADD);
        return;
    }
    SSM_CPU(ssm_cpu_sequence)(&layer->branch[0], tile, x, y);
    frames_join(ADD, x, y, (size_t)tile->frames * layer->out);
}

void SSM_CPU(ssm_cpu_add)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    branches_run(layer, tile, x, y, ADD);
}

void SSM_CPU(ssm_cpu_multiply)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    branches_run(layer, tile, x, y, MULTIPLY);
}
