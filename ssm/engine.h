/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside an engine: its instruction set and its team of threads, or its device; inside a program: model, pool,
 * workspaces, or what the device keeps for it.
 */
#ifndef SSM_ENGINE_H
#define SSM_ENGINE_H

#include "ssm/backend.h"
#include "ssm/cpu/ops.h"
#include "ssm/model.h"
#include "ssm/pool.h"
#include "ssm/team.h"

struct ssm_engine {
    const struct ssm_cpu *cpu;
    struct ssm_team *team;
    uint32_t threads;
    const struct ssm_backend *backend; /* of a device; NULL: this processor, and none of the following */
    struct ssm_device *device;
    uint32_t resident, tile; /* of struct ssm_engine_options */
};

struct ssm_workspace; /* ssm/tile.h */
struct ssm_tiling;    /* ssm/device.c */

struct ssm_program {
    struct ssm_engine *engine;
    struct ssm_model *model;
    struct ssm_pool pool;
    bool prepared;                     /* for the conv view */
    struct ssm_conv *conv;             /* NULL until then, and of a graph that is not aligned */
    atomic_uint *passed;               /* (graph.count) of the row that the team shares */
    struct ssm_workspace *workspace;   /* one per thread, and the last one for ssm_advance_beside */
    uint64_t mark, mark_beside;        /* of the running advance: of one kind odd, of the other even, from 2 on */
    uint64_t frame_work;               /* bytes that one frame passes, roughly what it costs */
    struct ssm_device_program *device; /* then the pool's slots are heads only, and there is no workspace */
    struct ssm_tiling *tiling;         /* of a device */
};

/* ---- on a device (ssm/device.c) ------------------------------------------------------------------------------------ */

/* The plugin's table: of that file, $SSMD_CUDA_LIBRARY or the loader's libssm-cuda.so. Loaded once for each file, for
 * good. SSM_UNSUPPORTED, and why. */
SSM_MUST_CHECK int ssm_plugin_load(const char *library, const struct ssm_backend **out, struct ssm_error *err);

SSM_MUST_CHECK int ssm_device_compile(struct ssm_program *program, uint32_t max_slots, struct ssm_error *err);
void ssm_device_discard(struct ssm_program *program);
/* Rows that are admitted and of status SSM_OK, through the device. */
SSM_MUST_CHECK int ssm_device_advance(struct ssm_program *program, struct ssm_row *rows, size_t n);

#endif
