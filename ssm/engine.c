/* SPDX-License-Identifier: Apache-2.0
 *
 * Engines, programs and slots. What advances them is in ssm/advance.c. */
#include <stdlib.h>
#include <string.h>

#include "ssm/tile.h"

#define THREADS_MAX 256u

static int cpu_open(struct ssm_engine *engine, const struct ssm_engine_options *o, struct ssm_error *err)
{
    const char *isa = o->isa ? o->isa : getenv("SSMD_ISA");
    int status;

    if (o->threads > THREADS_MAX)
        return ssm_error_set(err, SSM_INVAL, "%u threads: at most %u", o->threads, THREADS_MAX);
    engine->threads = o->threads ? o->threads : 1;
    engine->cpu = ssm_cpu_select(isa && *isa ? isa : NULL);
    if (!engine->cpu)
        return ssm_error_set(err, SSM_UNSUPPORTED,
                             "instruction set '%s' is not in this build or processor: ref always is", isa);
    if ((status = ssm_team_new(&engine->team, engine->threads)))
        return ssm_error_set(err, status, "cannot start %u threads", engine->threads - 1);
    return SSM_OK;
}

static int device_open(struct ssm_engine *engine, const struct ssm_engine_options *o, struct ssm_error *err)
{
    const struct ssm_backend *backend;
    int status = ssm_plugin_load(o->library, &backend, err);

    if (status == SSM_OK)
        status = backend->open(&engine->device, o->device, err);
    if (status)
        return status;
    engine->backend = backend;
    engine->resident = o->resident;
    engine->tile = o->tile;
    return SSM_OK;
}

int ssm_engine_new(struct ssm_engine **out, const struct ssm_engine_options *options, struct ssm_error *err)
{
    static const struct ssm_engine_options defaults;
    const struct ssm_engine_options *o = options ? options : &defaults;
    const char *backend = o->backend ? o->backend : "cpu";
    bool cpu = strcmp(backend, "cpu") == 0, any = strcmp(backend, "auto") == 0;
    struct ssm_engine *engine;
    int status = SSM_UNSUPPORTED;

    *out = NULL;
    if (!cpu && !any && strcmp(backend, "cuda") != 0)
        return ssm_error_set(err, SSM_UNSUPPORTED, "no backend '%s': use cpu, cuda or auto", backend);
    engine = calloc(1, sizeof(*engine));
    if (!engine)
        return ssm_error_set(err, SSM_NOMEM, "no memory for an engine");
    if (!cpu)
        status = device_open(engine, o, err);
    if (cpu || (any && status == SSM_UNSUPPORTED))
        status = cpu_open(engine, o, err);
    if (status) {
        free(engine);
        return status;
    }
    *out = engine;
    return SSM_OK;
}

void ssm_engine_free(struct ssm_engine *engine)
{
    if (engine && engine->backend)
        engine->backend->close(engine->device);
    else if (engine)
        ssm_team_free(engine->team);
    free(engine);
}

int ssm_engine_devices(const char *backend, const char *library, uint32_t *count, struct ssm_error *err)
{
    const struct ssm_backend *table;
    int status;

    *count = 0;
    if (!backend || strcmp(backend, "cuda") != 0)
        return ssm_error_set(err, SSM_UNSUPPORTED, "no backend '%s' with devices: use cuda", backend ? backend : "");
    if ((status = ssm_plugin_load(library, &table, err)))
        return status;
    return table->count(count, err);
}

const char *ssm_engine_backend(const struct ssm_engine *engine)
{
    return engine->backend ? "cuda" : "cpu";
}

const char *ssm_engine_isa(const struct ssm_engine *engine)
{
    return engine->backend ? "none" : engine->cpu->isa;
}

const char *ssm_engine_describe(const struct ssm_engine *engine)
{
    return engine->backend ? engine->backend->describe(engine->device) : engine->cpu->isa;
}

/* ---- programs ---------------------------------------------------------------------------------------------------- */

/* Threads' workspaces, and the pool of states. */
static int cpu_compile(struct ssm_program *program, uint32_t max_slots)
{
    const struct ssm_model *model = program->model;
    uint32_t threads = program->engine->threads;
    int status;

    program->workspace = calloc(threads + 1, sizeof(*program->workspace));
    program->passed = calloc(model->graph.count + 1, sizeof(*program->passed));
    if (!program->workspace || !program->passed)
        return SSM_NOMEM;
    if ((status = ssm_pool_init(&program->pool, model->info.state_bytes, max_slots)))
        return status;
    for (uint32_t i = 0; status == SSM_OK && i <= threads; i++)
        status = ssm_workspace_init(&program->workspace[i], model);
    return status;
}

int ssm_program_new(struct ssm_program **out, struct ssm_engine *engine, struct ssm_model *model, uint32_t max_slots,
                    struct ssm_error *err)
{
    struct ssm_program *program = calloc(1, sizeof(*program));
    struct ssm_error why = {""};
    int status = SSM_NOMEM;

    *out = NULL;
    if (program) {
        program->engine = engine;
        program->model = ssm_model_ref(model);
        program->frame_work = model->info.weight_bytes + model->info.state_bytes + 1;
        program->mark_beside = 1;
        status = engine->backend ? ssm_device_compile(program, max_slots, &why) : cpu_compile(program, max_slots);
    }
    if (status) {
        ssm_program_free(program);
        return ssm_error_set(err, status, "cannot compile model '%s' for %u streams: %s", model->info.name, max_slots,
                             *why.text ? why.text : ssm_status_text(status));
    }
    *out = program;
    return SSM_OK;
}

void ssm_program_free(struct ssm_program *program)
{
    if (!program)
        return;
    for (uint32_t i = 0; program->workspace && i <= program->engine->threads; i++)
        ssm_workspace_fini(&program->workspace[i]);
    free(program->workspace);
    ssm_conv_free(program->conv);
    free(program->passed);
    ssm_device_discard(program);
    ssm_pool_fini(&program->pool);
    ssm_model_free(program->model);
    free(program);
}

uint32_t ssm_program_grid(const struct ssm_program *program)
{
    uint32_t grid = program->model->info.grid;

    return program->device && grid < SSM_DEVICE_BLOCK ? SSM_DEVICE_BLOCK : grid;
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

    if (view != SSM_CONV || program->prepared)
        return SSM_OK;
    /* there, rows of this view are scanned */
    program->prepared = program->device || !ssm_clocks_aligned(&program->model->clocks);
    if (program->prepared)
        return SSM_OK;
    if ((status = ssm_conv_new(&conv, graph, err)))
        return status;
    floats = ssm_cpu_scratch_floats(graph, (const uint32_t[]){SSM_CONV_FRAMES}) +
             ssm_cpu_scratch_floats(graph, (const uint32_t[]){SSM_TILE_FRAMES}) + conv->scratch_floats;
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
    program->prepared = true;
    return SSM_OK;
}

int ssm_slot_acquire(struct ssm_program *program, struct ssm_slot *out)
{
    return ssm_pool_acquire(&program->pool, out);
}

/* A fresh state needs no place on a device. */
static void device_forget(struct ssm_program *program, struct ssm_slot slot)
{
    if (program->device && ssm_pool_find(&program->pool, slot))
        program->engine->backend->forget(program->device, slot.index);
}

int ssm_slot_reset(struct ssm_program *program, struct ssm_slot slot)
{
    device_forget(program, slot);
    return ssm_pool_reset(&program->pool, slot);
}

void ssm_slot_release(struct ssm_program *program, struct ssm_slot slot)
{
    device_forget(program, slot);
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
