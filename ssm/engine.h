/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside an engine: its instruction set and its team of threads; inside a program: model, pool, workspaces.
 */
#ifndef SSM_ENGINE_H
#define SSM_ENGINE_H

#include "ssm/cpu/ops.h"
#include "ssm/model.h"
#include "ssm/pool.h"
#include "ssm/team.h"

struct ssm_engine {
    const struct ssm_cpu *cpu;
    struct ssm_team *team;
    uint32_t threads;
};

#define SSM_TILE_ROWS SSM_TILE_FRAMES

/* What one thread needs to run tiles. */
struct ssm_workspace {
    float *input;   /* (SSM_TILE_FRAMES, in_channels) */
    int32_t *token; /* (SSM_TILE_FRAMES) */
    float *output;  /* (SSM_TILE_FRAMES, out_channels) */
    float *scratch;
    float *wide; /* scratch of wide tiles; NULL unless the program is prepared for the conv view */
    struct ssm_tile_row row[SSM_TILE_ROWS];
    float *target[SSM_TILE_ROWS]; /* where the row's output goes */
};

struct ssm_program {
    struct ssm_engine *engine;
    struct ssm_model *model;
    struct ssm_pool pool;
    struct ssm_conv *conv;           /* NULL until prepared */
    atomic_uint *passed;             /* (graph.count) of the row that the team shares */
    struct ssm_workspace *workspace; /* one per thread, and the last one for ssm_advance_beside */
    uint64_t mark, mark_beside;      /* of the running advance: of one kind odd, of the other even, from 2 on */
    uint64_t frame_work;             /* bytes that one frame passes, roughly what it costs */
};

#endif
