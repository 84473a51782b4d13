/* SPDX-License-Identifier: Apache-2.0
 *
 * One list of at most MODELS_MAX entries, searched in order: only opens do.
 */
#include "daemon/models.h"

#include "daemon/batch.h"
#include "daemon/control.h"
#include "daemon/log.h"
#include "daemon/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX      1000000 /* of max_streams, which a reload may raise; pools grow by slabs */
#define LIST_PERIOD_NS (1000 * CLOCK_MS)

int models_init(struct models *models)
{
    memset(models, 0, sizeof(*models));
    TAILQ_INIT(&models->all);
    models->names = calloc(LOADER_NAMES, sizeof(*models->names));
    models->listing.names = calloc(LOADER_NAMES, sizeof(*models->names));
    return models->names && models->listing.names ? 0 : -1;
}

static void model_free(struct models *models, struct model *model)
{
    TAILQ_REMOVE(&models->all, model, of_all);
    models->n--;
    ssm_model_free(model->model);
    free(model);
}

void models_fini(struct models *models)
{
    struct model *model;

    while ((model = TAILQ_FIRST(&models->all)) != NULL) {
        struct open_request *request;

        while ((request = TAILQ_FIRST(&model->waits)) != NULL) {
            TAILQ_REMOVE(&model->waits, request, link);
            free(request);
        }
        model_free(models, model);
    }
    free(models->names);
    free(models->listing.names);
}

static void aliases_drop(struct models *models, const struct model *of)
{
    struct model *model, *next;

    for (model = TAILQ_FIRST(&models->all); model; model = next) {
        next = TAILQ_NEXT(model, of_all);
        if (model->state == MODEL_ALIAS && model->same == of)
            model_free(models, model);
    }
}

/* Make room for one more: the model without streams that was used longest ago, with its aliases. False when none. */
static bool room_make(struct loop *loop)
{
    struct models *models = &loop->models;
    struct model *model, *oldest = NULL;

    if (models->n < MODELS_MAX)
        return true;
    TAILQ_FOREACH(model, &models->all, of_all)
        if (model->streams == 0 &&
            (model->state == MODEL_LOADED || model->state == MODEL_ALIAS || model->state == MODEL_FAILED) &&
            TAILQ_EMPTY(&model->waits) && !model->in_batch && (!oldest || model->used_ns < oldest->used_ns))
            oldest = model;
    if (!oldest)
        return false;
    if (oldest->state != MODEL_LOADED) {
        model_free(models, oldest);
        return true;
    }
    aliases_drop(models, oldest);
    log_event(LOG_INFO, "model_unloaded", "model=%s", oldest->name);
    loop->counters.models_unloaded++;
    oldest->state = MODEL_DROPPING;
    oldest->job = (struct job){.kind = JOB_DROP, .program = oldest->program, .owner = oldest};
    oldest->program = NULL;
    if (!engine_submit(&loop->engine, &oldest->job))
        oldest->state = MODEL_LOADED;
    return models->n < MODELS_MAX + 8;
}

/* What identifies the request: for templates also what `open` knows of the stream. */
static int key_make(char *key, size_t size, const char *spec, const struct open_request *request)
{
    int n;

    if (ssm_is_template(spec))
        n = snprintf(key, size, "%s|%.17g|%u", spec, request->rate, request->channels);
    else
        n = snprintf(key, size, "%s", spec);
    return n < 0 || (size_t)n >= size ? -1 : 0;
}

static struct model *model_new(struct loop *loop, const char *spec, const char *key, const struct open_request *request)
{
    struct model *model = calloc(1, sizeof(*model));

    if (!model)
        return NULL;
    TAILQ_INIT(&model->waits);
    TAILQ_INIT(&model->ready);
    model->state = MODEL_LOADING;
    model->is_template = ssm_is_template(spec) != 0;
    snprintf(model->key, sizeof(model->key), "%s", key);
    snprintf(model->name, sizeof(model->name), "%s", spec);
    model->load.kind = LOAD_MODEL;
    model->load.owner = model;
    if (model->is_template) {
        snprintf(model->load.spec, sizeof(model->load.spec), "%s", spec);
        model->load.hint = (struct ssm_model_hint){request->rate, request->channels};
        model->load.has_hint = request->rate > 0 || request->channels > 0;
    } else {
        snprintf(model->load.spec, sizeof(model->load.spec), "%s/%s", loop->conf.models, spec);
    }
    if (!loader_submit(&loop->loader, &model->load)) {
        free(model);
        return NULL;
    }
    TAILQ_INSERT_TAIL(&loop->models.all, model, of_all);
    loop->models.n++;
    return model;
}

static enum models_answer refuse(Ssmd__Code code, const char *text, Ssmd__Code *out, const char **sentence)
{
    *out = code;
    *sentence = text;
    return MODELS_REFUSED;
}

enum models_answer models_find(struct loop *loop, const char *spec, struct open_request *request, struct model **out,
                               Ssmd__Code *code, const char **text)
{
    char key[CONF_TEXT_SIZE + 64];
    struct model *model;

    if (strlen(spec) >= CONF_TEXT_SIZE || key_make(key, sizeof(key), spec, request) != 0)
        return refuse(SSMD__CODE__NO_MODEL, "the name of the model is too long", code, text);
    if (!ssm_is_template(spec) && !loader_name_is_valid(spec))
        return refuse(SSMD__CODE__NO_MODEL,
                      "not the name of a model: a built-in template, or the name of a directory below "
                      "the daemon's `models`",
                      code, text);
    if (!ssm_is_template(spec) && loop->conf.models[0] == '\0')
        return refuse(SSMD__CODE__NO_MODEL,
                      "no such template, and the daemon's configuration names no directory of models", code, text);
    TAILQ_FOREACH(model, &loop->models.all, of_all)
        if (model->state != MODEL_DROPPING && strcmp(model->key, key) == 0)
            break;
    if (model && model->state == MODEL_FAILED) { /* it may have been mended */
        model_free(&loop->models, model);
        model = NULL;
    }
    if (!model && !room_make(loop))
        return refuse(SSMD__CODE__LIMIT, "too many models are in use: close the streams of one", code, text);
    if (!model)
        model = model_new(loop, spec, key, request);
    if (!model)
        return refuse(SSMD__CODE__LIMIT, "too many models are being loaded: try again", code, text);
    model->used_ns = loop->now_ns;
    if (model->state == MODEL_ALIAS)
        model = model->same;
    model->used_ns = loop->now_ns;
    if (model->state == MODEL_LOADED) {
        *out = model;
        return MODELS_READY;
    }
    if (request->conn && model->waits_n >= MODELS_WAITS_MAX) /* others have bounds of their own */
        return refuse(SSMD__CODE__LIMIT, "too many opens wait for this model: try again", code, text);
    model->waits_n++;
    TAILQ_INSERT_TAIL(&model->waits, request, link);
    return MODELS_WAITS;
}

/* Answers every open that waited: with the model, or with why there is none. */
static void waits_answer(struct loop *loop, struct model *model, struct model *found, Ssmd__Code code, const char *text)
{
    struct open_request *request;

    while ((request = TAILQ_FIRST(&model->waits)) != NULL) {
        TAILQ_REMOVE(&model->waits, request, link);
        model->waits_n--;
        request->finish(loop, request, found, code, text);
        free(request);
    }
}

static Ssmd__Code code_find(const struct load *load)
{
    if (load->hint_contradicts)
        return SSMD__CODE__RATE;
    return load->status == SSM_NOMEM || load->status == SSM_LIMIT ? SSMD__CODE__LIMIT : SSMD__CODE__NO_MODEL;
}

static void model_failed(struct loop *loop, struct model *model, Ssmd__Code code, const struct ssm_error *error)
{
    loop->counters.models_failed++;
    log_event(LOG_WARNING, "model_refused", "model=%s error=%s", model->name, error->text);
    waits_answer(loop, model, NULL, code, error->text);
    aliases_drop(&loop->models, model);
    if (model->is_template) {
        model_free(&loop->models, model);
        return;
    }
    model->state = MODEL_FAILED;
    snprintf(model->failure, sizeof(model->failure), "failed: %.240s", error->text);
    ssm_model_free(model->model);
    model->model = NULL;
}

/* Another spelling of the same template is there, or on its way. */
static struct model *same_find(struct models *models, const struct model *model)
{
    struct model *other;

    TAILQ_FOREACH(other, &models->all, of_all)
        if (other != model && other->is_template && strcmp(other->name, model->name) == 0 &&
            (other->state == MODEL_LOADED || other->state == MODEL_COMPILING))
            return other;
    return NULL;
}

static void names_take(struct models *models)
{
    char(*names)[LOADER_NAME_MAX] = models->names;

    models->names = models->listing.names;
    models->names_n = models->listing.n;
    models->listing.names = names;
    models->is_listing = false;
}

void models_loaded(struct loop *loop, struct load *load)
{
    struct model *model = load->owner, *same;

    if (load->kind == LOAD_NAMES) {
        names_take(&loop->models);
        return;
    }
    if (load->status != SSM_OK) {
        model_failed(loop, model, code_find(load), &load->error);
        return;
    }
    model->model = load->model;
    model->info = *ssm_model_info(load->model);
    if (model->is_template)
        snprintf(model->name, sizeof(model->name), "%s", model->info.name);
    same = model->is_template ? same_find(&loop->models, model) : NULL;
    if (same) {
        model->state = MODEL_ALIAS;
        model->same = same;
        ssm_model_free(model->model);
        model->model = NULL;
        if (same->state == MODEL_LOADED) {
            waits_answer(loop, model, same, SSMD__CODE__OK, NULL);
        } else {
            TAILQ_CONCAT(&same->waits, &model->waits, link);
            same->waits_n += model->waits_n;
            model->waits_n = 0;
        }
        return;
    }
    model->grid = batch_grid(&model->info);
    model->is_one_to_one = model->info.ratio_num == model->info.ratio_den && model->info.lookahead == 0;
    model->state = MODEL_COMPILING;
    model->job = (struct job){.kind = JOB_COMPILE, .model = model->model, .owner = model};
    model->job.max_slots = SLOTS_MAX;
    if (!engine_submit(&loop->engine, &model->job)) {
        snprintf(load->error.text, sizeof(load->error.text), "the engine is busy compiling: try again");
        model_failed(loop, model, SSMD__CODE__LIMIT, &load->error);
    }
}

void models_compiled(struct loop *loop, struct job *job)
{
    struct model *model = job->owner;

    if (job->kind == JOB_DROP) {
        model_free(&loop->models, model);
        return;
    }
    if (job->status != SSM_OK) {
        model_failed(loop, model, SSMD__CODE__LIMIT, &job->error);
        return;
    }
    model->program = job->program;
    model->state = MODEL_LOADED;
    loop->counters.models_loaded++;
    log_event(LOG_INFO, "model_loaded", "model=%s state_bytes=%zu weight_bytes=%zu", model->name,
              model->info.state_bytes, model->info.weight_bytes);
    waits_answer(loop, model, model, SSMD__CODE__OK, NULL);
}

void models_list(struct loop *loop)
{
    struct models *models = &loop->models;

    if (models->is_listing || (models->listed_ns && loop->now_ns - models->listed_ns < LIST_PERIOD_NS))
        return;
    models->listing.kind = LOAD_NAMES;
    snprintf(models->listing.spec, sizeof(models->listing.spec), "%s", loop->conf.models);
    models->is_listing = loader_submit(&loop->loader, &models->listing);
    models->listed_ns = loop->now_ns;
}

void models_conn_drop(struct models *models, const struct conn *conn)
{
    struct model *model;

    TAILQ_FOREACH(model, &models->all, of_all) {
        struct open_request *request, *next;

        for (request = TAILQ_FIRST(&model->waits); request; request = next) {
            next = TAILQ_NEXT(request, link);
            if (request->conn != conn)
                continue;
            TAILQ_REMOVE(&model->waits, request, link);
            model->waits_n--;
            free(request);
        }
    }
}
