/* SPDX-License-Identifier: Apache-2.0
 *
 * Engines, programs and slots. What advances them is in ssm/advance.c. */
#include <stdlib.h>
#include <string.h>

#include "ssm/tile.h"

#define THREADS_MAX 256u

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
        if ((status = ssm_workspace_init(&program->workspace[i], model)))
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
        ssm_workspace_fini(&program->workspace[i]);
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

    if (view != SSM_CONV || program->prepared)
        return SSM_OK;
    program->prepared = !ssm_clocks_aligned(&program->model->clocks); /* whose rows of this view are scanned */
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
