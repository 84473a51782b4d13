/* SPDX-License-Identifier: Apache-2.0
 *
 * Time while a graph is built: layers set clocks as they come, and when all are there the clocks are settled, joins
 * learn how much they keep, and every layer gets its place in the slot.
 *
 * A model that would let an output leave before its time (input floor(t / ratio)) ends with a join of one side, whose
 * clock is the pace. */
#include <stdlib.h>
#include <string.h>

#include "ssm/build.h"
#include "ssm/model.h"

/* Frames of a tile, about. Longer ones run slow layers on more frames at once, but their fast layers leave the cache:
 * denoise-500k takes 1.3 us a frame with 256 and 1.6 with 1024. */
#define CELL_FRAMES    256u
#define BUFFER_MAX     ((uint64_t)1 << 26) /* floats of one layer's output in a tile */
#define JOIN_BYTES_MAX ((uint64_t)1 << 28) /* that a join keeps */

static int clock_failed(struct ssm_build *b, const struct ssm_layer *l, int status)
{
    if (status == SSM_LIMIT)
        return ssm_fail(b, l, status, "makes a rate whose numerator or denominator passes 32 bits");
    return status ? ssm_fail(b, l, status, "no memory for its clock") : SSM_OK;
}

int ssm_layer_rate(struct ssm_build *b, struct ssm_layer *l, uint32_t span, uint32_t stride, uint32_t factor)
{
    int status = ssm_clock_slower(b->clocks, l->clock, span, stride, &l->out_clock);

    if (status == SSM_OK)
        status = ssm_clock_faster(b->clocks, l->out_clock, factor, &l->out_clock);
    return clock_failed(b, l, status);
}

static int rates_differ(struct ssm_build *b, const struct ssm_layer *l, uint32_t clock)
{
    const struct ssm_clock *a = &b->clocks->clock[l->out_clock], *other = &b->clocks->clock[clock];

    return ssm_fail(b, l, SSM_CONFIG,
                    "joins sequences of different rates, %llu/%llu and %llu/%llu of the model's input: they must be "
                    "equal",
                    (unsigned long long)a->num, (unsigned long long)a->den, (unsigned long long)other->num,
                    (unsigned long long)other->den);
}

/* Makes the join of those clocks, out_clock being known. */
static int join_make(struct ssm_build *b, struct ssm_layer *l, const uint32_t *clocks, uint32_t sides)
{
    int status = SSM_OK;

    l->join = calloc(1, sizeof(*l->join) + sides * sizeof(*l->join->side));
    if (!l->join)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    l->join->sides = sides;
    for (uint32_t i = 0; status == SSM_OK && i < sides; i++) {
        l->join->side[i].clock = clocks[i];
        status = ssm_clock_lead(b->clocks, clocks[i], l->out_clock, &l->join->side[i].lead);
    }
    return clock_failed(b, l, status);
}

int ssm_layer_join(struct ssm_build *b, struct ssm_layer *l, bool own)
{
    uint32_t sides = own + l->branches, *clocks = calloc(sides, sizeof(*clocks));
    bool apart = false;
    int status = clocks ? SSM_OK : ssm_fail(b, l, SSM_NOMEM, "no memory");

    for (uint32_t i = 0; status == SSM_OK && i < sides; i++) {
        clocks[i] = own && i == 0 ? l->clock : l->branch[i - own].out_clock;
        apart = apart || clocks[i] != l->clock;
        if (i == 0) {
            l->out_clock = clocks[i];
            continue;
        }
        status = ssm_clock_join(b->clocks, l->out_clock, clocks[i], &l->out_clock);
        status = status == SSM_CONFIG ? rates_differ(b, l, clocks[i]) : clock_failed(b, l, status);
    }
    if (status == SSM_OK && apart)
        status = join_make(b, l, clocks, sides);
    free(clocks);
    return status;
}

/* ---- settling ---------------------------------------------------------------------------------------------------- */

static int join_settle(struct ssm_build *b, struct ssm_layer *l)
{
    uint64_t bytes = 0;
    int status = SSM_OK;

    for (uint32_t i = 0; i < l->join->sides; i++) {
        struct ssm_side *side = &l->join->side[i];

        side->ahead = b->clocks->lead[side->lead].most;
        side->offset = (uint32_t)bytes;
        bytes += ((uint64_t)side->ahead * l->out * sizeof(float) + 63) & ~(uint64_t)63;
        if (bytes > JOIN_BYTES_MAX)
            return ssm_fail(b, l, SSM_LIMIT, "joins branches that run %u frames of %u channels apart: too many to keep",
                            side->ahead, l->out);
    }
    l->state_bytes = (uint32_t)bytes;
    for (uint32_t i = 0; status == SSM_OK && i < l->join->sides; i++)
        status = ssm_part_add(
            b, l,
            &(struct ssm_part){.offset = l->join->side[i].offset, .rows = l->join->side[i].ahead, .columns = l->out});
    return status;
}

static int place_state(struct ssm_build *b, struct ssm_layer *l)
{
    if (l->state_bytes > SSM_STATE_BYTES_MAX - b->state_bytes)
        return ssm_fail(b, l, SSM_LIMIT, "a stream's state would pass %zu bytes", SSM_STATE_BYTES_MAX);
    l->state_offset = (uint32_t)b->state_bytes;
    b->state_bytes = (b->state_bytes + l->state_bytes + 63) & ~(size_t)63;
    return SSM_OK;
}

/* Branches first, then the layer itself, in the order of the configuration. */
static int sequence_settle(struct ssm_build *b, struct ssm_sequence *sequence, uint32_t cell)
{
    int status = SSM_OK;

    for (uint32_t i = 0; status == SSM_OK && i < sequence->count; i++) {
        struct ssm_layer *l = &sequence->layers[i];
        size_t before = b->state_bytes;

        for (uint32_t k = 0; status == SSM_OK && k < l->branches; k++)
            status = sequence_settle(b, &l->branch[k], cell);
        if (status == SSM_OK && l->join)
            status = join_settle(b, l);
        if (status == SSM_OK)
            status = place_state(b, l);
        if (status == SSM_OK && ssm_clock_frames(&b->clocks->clock[l->out_clock], cell) > BUFFER_MAX / l->out)
            status =
                ssm_fail(b, l, SSM_LIMIT, "makes more frames of %u channels in a hop of %u than are worked on at once",
                         l->out, b->clocks->hop);
        l->keeps_state = b->state_bytes > before;
    }
    return status;
}

/* The last layer of a graph whose outputs must wait for their time. The graph has room for one more layer. */
static int hold_add(struct ssm_build *b, struct ssm_sequence *graph, uint32_t pace)
{
    struct ssm_layer *l = &graph->layers[graph->count++];

    *l = (struct ssm_layer){.kind = ssm_kind_find("add"),
                            .where = "the output",
                            .in = graph->out,
                            .out = graph->out,
                            .clock = graph->out_clock,
                            .out_clock = pace,
                            .branches = 1};
    l->branch = calloc(1, sizeof(*l->branch));
    if (!l->branch)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    *l->branch =
        (struct ssm_sequence){.in = l->in, .out = l->out, .clock = graph->out_clock, .out_clock = graph->out_clock};
    graph->out_clock = pace;
    return join_make(b, l, (const uint32_t[]){l->clock}, 1);
}

static int clocks_settle(struct ssm_build *b, struct ssm_sequence *graph)
{
    const char *what;
    uint32_t pace, lead;
    int status = ssm_clock_pace(b->clocks, graph->out_clock, &pace);

    if (status == SSM_OK)
        status = ssm_clock_lead(b->clocks, graph->out_clock, pace, &lead);
    if (status)
        return clock_failed(b, NULL, status);
    status = ssm_clocks_settle(b->clocks, pace, &what);
    if (status == SSM_LIMIT)
        return ssm_fail(b, NULL, status, "the model's %s would pass %u input frames", what,
                        *what == 'h' ? SSM_HOP_MAX : SSM_LOOKAHEAD_MAX);
    if (status)
        return ssm_fail(b, NULL, status, "no memory to settle its clocks");
    if (b->clocks->lead[lead].most == 0) { /* no output is early: nobody looks at the pace */
        ssm_clocks_pop(b->clocks);
        return SSM_OK;
    }
    if ((status = hold_add(b, graph, pace)))
        return status;
    b->clocks->lead[graph->layers[graph->count - 1].join->side[0].lead].most = b->clocks->lead[lead].most;
    return SSM_OK;
}

int ssm_build_settle(struct ssm_build *b, struct ssm_sequence *graph, uint32_t *cell)
{
    int status = ssm_clocks_aligned(b->clocks) ? SSM_OK : clocks_settle(b, graph);

    if (status)
        return status;
    *cell = SSM_TILE_FRAMES;
    if (!ssm_clocks_aligned(b->clocks))
        *cell = (CELL_FRAMES + b->clocks->hop - 1) / b->clocks->hop * b->clocks->hop;
    if (!b->signal && b->clocks->lookahead > 0)
        return ssm_fail(b, NULL, SSM_CONFIG,
                        "a model whose input is tokens must not look ahead, and this one looks %u tokens ahead",
                        b->clocks->lookahead);
    return sequence_settle(b, graph, *cell);
}
