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

struct ssm_workspace; /* ssm/tile.h */

struct ssm_program {
    struct ssm_engine *engine;
    struct ssm_model *model;
    struct ssm_pool pool;
    bool prepared;                   /* for the conv view */
    struct ssm_conv *conv;           /* NULL until then, and of a graph that is not aligned */
    atomic_uint *passed;             /* (graph.count) of the row that the team shares */
    struct ssm_workspace *workspace; /* one per thread, and the last one for ssm_advance_beside */
    uint64_t mark, mark_beside;      /* of the running advance: of one kind odd, of the other even, from 2 on */
    uint64_t frame_work;             /* bytes that one frame passes, roughly what it costs */
};

#endif
