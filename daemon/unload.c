/* SPDX-License-Identifier: Apache-2.0
 *
 * The list is short (MODELS_MAX), so every question goes through it; see unload.h.
 */
#include "daemon/unload.h"

#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/loop.h"
#include "daemon/models.h"

bool model_is_idle(const struct model *model)
{
    return model->state == MODEL_LOADED && model->streams == 0 && TAILQ_EMPTY(&model->waits);
}

bool model_unload(struct loop *loop, struct model *model)
{
    models_aliases_drop(&loop->models, model);
    model->state = MODEL_DROPPING;
    if (!sites_drop(loop, model)) {
        model->state = MODEL_LOADED;
        return false;
    }
    metrics_model_ends(&loop->models, model);
    loop->counters.models_unloaded++;
    log_event(LOG_INFO, "model_unloaded", "model=%s version=%u rate=%.9g", model->name, model->version,
              model->info.in_rate);
    return true;
}

/* Neither loaded nor wanted: another spelling, or one that could not be loaded. */
static bool is_only_a_name(const struct model *model)
{
    return (model->state == MODEL_ALIAS || model->state == MODEL_FAILED) && TAILQ_EMPTY(&model->waits);
}

static bool is_older(const struct model *model, const struct model *oldest)
{
    return !oldest || model->used_ns < oldest->used_ns;
}

bool unload_for_one(struct loop *loop)
{
    struct models *models = &loop->models;
    struct model *model, *oldest = NULL;

    if (models->n < MODELS_MAX)
        return true;
    TAILQ_FOREACH(model, &models->all, of_all)
        if ((model_is_idle(model) || is_only_a_name(model)) && is_older(model, oldest))
            oldest = model;
    if (!oldest)
        return false;
    if (oldest->state == MODEL_LOADED)
        (void)model_unload(loop, oldest); /* it stays on the list until the engine has dropped it */
    else
        models_free(models, oldest);
    return models->n < MODELS_MAX + MODELS_DROPPING_MAX;
}

bool unload_for_rate(struct loop *loop, const struct model *own)
{
    struct model *model, *oldest = NULL;
    uint32_t n = 0;

    TAILQ_FOREACH(model, &loop->models.all, of_all) {
        if (model->lineage != own->lineage || model->rate <= 0 || model->state == MODEL_DROPPING ||
            (model->version > 0 && model->version != own->version))
            continue;
        n++;
        if (model_is_idle(model) && is_older(model, oldest))
            oldest = model;
    }
    if (n < loop->conf.model_rates || (n == loop->conf.model_rates && oldest && model_unload(loop, oldest)))
        return true;
    loop->counters.models_rates_full++;
    return false;
}

uint64_t models_weight_bytes(const struct loop *loop, const struct model *except)
{
    const struct model *model;
    uint64_t bytes = 0;

    TAILQ_FOREACH(model, &loop->models.all, of_all)
        if (model != except && (model->state == MODEL_LOADED || model->state == MODEL_COMPILING))
            bytes += model->info.weight_bytes;
    return bytes;
}

/* What would be left of model_memory for the model if all went that can go. */
static bool is_too_heavy(const struct loop *loop, const struct model *model)
{
    const struct model *other;
    uint64_t bytes = model->info.weight_bytes;

    TAILQ_FOREACH(other, &loop->models.all, of_all)
        if (other != model && (other->state == MODEL_LOADED || other->state == MODEL_COMPILING) &&
            !model_is_idle(other))
            bytes += other->info.weight_bytes;
    return bytes > loop->conf.model_memory;
}

bool unload_for_bytes(struct loop *loop, const struct model *model)
{
    bool fits = !is_too_heavy(loop, model);

    while (fits && models_weight_bytes(loop, model) + model->info.weight_bytes > loop->conf.model_memory) {
        struct model *other, *oldest = NULL;

        TAILQ_FOREACH(other, &loop->models.all, of_all)
            if (other != model && model_is_idle(other) && other->info.weight_bytes > 0 && is_older(other, oldest))
                oldest = other;
        fits = oldest && model_unload(loop, oldest);
    }
    if (!fits)
        loop->counters.models_memory_full++;
    return fits;
}
