/* SPDX-License-Identifier: Apache-2.0
 *
 * One list of at most MODELS_MAX entries, searched in order: only opens do.
 */
#include "daemon/models.h"

#include "daemon/batch.h"
#include "daemon/control.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/policy.h"
#include "daemon/unload.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_PERIOD_NS (1000 * CLOCK_MS)

int models_init(struct models *models)
{
    memset(models, 0, sizeof(*models));
    TAILQ_INIT(&models->all);
    versions_init(&models->versions);
    models->names = calloc(LOADER_NAMES, sizeof(*models->names));
    models->listing.names = calloc(LOADER_NAMES, sizeof(*models->names));
    return models->names && models->listing.names ? 0 : -1;
}

bool models_rates_match(double a, double b)
{
    return fabs(a - b) <= 1e-6 * b;
}

void models_free(struct models *models, struct model *model)
{
    TAILQ_REMOVE(&models->all, model, of_all);
    models->n--;
    if (model->lineage)
        model->lineage->models--;
    ssm_model_free(model->model);
    for (int i = 0; i < SITES_MAX; i++)
        site_fini(&model->site[i]);
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
        models_free(models, model);
    }
    versions_fini(&models->versions);
    free(models->names);
    free(models->listing.names);
}

void models_aliases_drop(struct models *models, const struct model *of)
{
    struct model *model, *next;

    for (model = TAILQ_FIRST(&models->all); model; model = next) {
        next = TAILQ_NEXT(model, of_all);
        if (model->state == MODEL_ALIAS && model->same == of)
            models_free(models, model);
    }
}

/* ---- finding ----------------------------------------------------------------------------------------------------- */

static enum models_answer refuse(Ssmd__Code code, const char *text, Ssmd__Code *out, const char **sentence)
{
    *out = code;
    *sentence = text;
    return MODELS_REFUSED;
}

static bool load_submit(struct loop *loop, struct model *model)
{
    model->load.kind = LOAD_MODEL;
    model->load.owner = model;
    model->load.has_hint = model->load.hint.rate > 0 || model->load.hint.channels > 0;
    if (!loader_submit(&loop->loader, &model->load)) {
        if (model->lineage)
            model->lineage->models--;
        free(model);
        return false;
    }
    TAILQ_INSERT_TAIL(&loop->models.all, model, of_all);
    loop->models.n++;
    return true;
}

static void model_configure(const struct loop *loop, struct model *model)
{
    struct policy_serve serve;

    policy_serve_get(&loop->conf, model->name, &serve);
    model->priority = serve.priority;
    model->queue_limit = serve.queue_bytes;
    model->class = policy_class_find(&loop->classes, serve.class);
}

void models_configure(struct loop *loop)
{
    struct model *model;

    TAILQ_FOREACH(model, &loop->models.all, of_all)
        model_configure(loop, model);
}

static struct model *model_new(const struct loop *loop, const char *name)
{
    struct model *model = calloc(1, sizeof(*model));

    if (!model)
        return NULL;
    TAILQ_INIT(&model->waits);
    model->state = MODEL_LOADING;
    snprintf(model->name, sizeof(model->name), "%s", name);
    model_configure(loop, model);
    return model;
}

/* A directory that is to be read, for streams of `rate` (0: its own) or for a reload. */
static struct model *directory_new(struct loop *loop, const char *name, double rate, struct reload *reload)
{
    struct model *model = model_new(loop, name);

    if (model && !(model->lineage = lineage_acquire(&loop->models.versions, name))) {
        free(model);
        return NULL;
    }
    if (!model)
        return NULL;
    model->rate = rate;
    model->reload = reload;
    model->load.hint.rate = rate;
    snprintf(model->load.spec, sizeof(model->load.spec), "%s/%s", loop->conf.models, name);
    return load_submit(loop, model) ? model : NULL;
}

static struct model *template_new(struct loop *loop, const char *spec, const char *key,
                                  const struct open_request *request)
{
    struct model *model = model_new(loop, spec);

    if (!model)
        return NULL;
    model->is_template = true;
    snprintf(model->key, sizeof(model->key), "%s", key);
    snprintf(model->load.spec, sizeof(model->load.spec), "%s", spec);
    model->load.hint = (struct ssm_model_hint){request->rate, request->channels};
    return load_submit(loop, model) ? model : NULL;
}

/* The template in this spelling, for what `open` knows of the stream; or NULL. */
static struct model *template_find(const struct models *models, const char *key)
{
    struct model *model;

    TAILQ_FOREACH(model, &models->all, of_all)
        if (model->is_template && model->state != MODEL_DROPPING && strcmp(model->key, key) == 0)
            break;
    return model;
}

/* The newest version of the directory for streams of the rate (0: its own), loaded or on its way; or NULL. */
static struct model *directory_find(const struct models *models, const char *name, double rate)
{
    struct model *model;

    TAILQ_FOREACH(model, &models->all, of_all) {
        double runs_at = model->state == MODEL_LOADED ? model->info.in_rate : model->rate;

        if (model->is_template || model->reload || model->state == MODEL_DROPPING || strcmp(model->name, name) != 0 ||
            (model->state == MODEL_LOADED && !version_is_newest(model)))
            continue;
        if (rate > 0 ? models_rates_match(rate, runs_at) : model->rate <= 0)
            break;
    }
    return model;
}

/* Room for one more in the list, and then `made`; the caller makes it. */
static enum models_answer room_check(struct loop *loop, Ssmd__Code *code, const char **text)
{
    if (unload_for_one(loop))
        return MODELS_READY;
    loop->counters.limit_models++;
    return refuse(SSMD__CODE__LIMIT, "too many models are in use: close the streams of one", code, text);
}

/* `own` is loaded and runs at another rate than the request's: the same version for that rate, if that can be. */
static enum models_answer variant_get(struct loop *loop, struct model *own, double rate, struct model **out,
                                      Ssmd__Code *code, const char **text)
{
    struct models *models = &loop->models;

    if (own->info.fixed_by[0]) {
        snprintf(
            models->sentence, sizeof(models->sentence),
            "%s works frame by frame, so the model runs at %.9g Hz only and not at the stream's %.9g: resample the "
            "stream to %.9g Hz",
            own->info.fixed_by, own->info.in_rate, rate, own->info.in_rate);
        return refuse(SSMD__CODE__RATE, models->sentence, code, text);
    }
    own->used_ns = loop->now_ns;
    if (!unload_for_rate(loop, own)) {
        snprintf(
            models->sentence, sizeof(models->sentence),
            "the model has streams at %u rates beside its own, which is model_rates: resample the stream to %.9g Hz",
            loop->conf.model_rates, own->info.in_rate);
        return refuse(SSMD__CODE__LIMIT, models->sentence, code, text);
    }
    if (room_check(loop, code, text) != MODELS_READY)
        return MODELS_REFUSED;
    *out = directory_new(loop, own->name, rate, NULL);
    return MODELS_READY;
}

/* The directory's model that the request gets or waits for first, in *out; NULL when it cannot be loaded now. */
static enum models_answer directory_get(struct loop *loop, const char *name, const struct open_request *request,
                                        struct model **out, Ssmd__Code *code, const char **text)
{
    double rate = request->native_rate ? request->rate : 0;
    struct model *own;

    if (!loader_name_is_valid(name))
        return refuse(SSMD__CODE__NO_MODEL,
                      "not the name of a model: a built-in template, or the name of a directory below "
                      "the daemon's `models`",
                      code, text);
    if (loop->conf.models[0] == '\0')
        return refuse(SSMD__CODE__NO_MODEL,
                      "no such template, and the daemon's configuration names no directory of models", code, text);
    if (rate > 0 && (*out = directory_find(&loop->models, name, rate)) != NULL)
        return MODELS_READY;
    own = directory_find(&loop->models, name, 0);
    if (own && own->state == MODEL_FAILED) { /* it may have been mended */
        models_free(&loop->models, own);
        own = NULL;
    }
    if (own && rate > 0 && own->state == MODEL_LOADED && own->info.in_rate > 0)
        return variant_get(loop, own, rate, out, code, text);
    if (!own && room_check(loop, code, text) != MODELS_READY)
        return MODELS_REFUSED;
    *out = own ? own : directory_new(loop, name, 0, NULL);
    return MODELS_READY;
}

/* The same of a template: known by what identifies the request, also by what `open` says of the stream. */
static enum models_answer template_get(struct loop *loop, const char *spec, const struct open_request *request,
                                       struct model **out, Ssmd__Code *code, const char **text)
{
    char key[CONF_TEXT_SIZE + 64];
    int n = snprintf(key, sizeof(key), "%s|%.17g|%u", spec, request->rate, request->channels);

    if (n < 0 || (size_t)n >= sizeof(key))
        return refuse(SSMD__CODE__NO_MODEL, "the name of the model is too long", code, text);
    *out = template_find(&loop->models, key);
    if (!*out && room_check(loop, code, text) != MODELS_READY)
        return MODELS_REFUSED;
    if (!*out)
        *out = template_new(loop, spec, key, request);
    return MODELS_READY;
}

enum models_answer models_find(struct loop *loop, const char *spec, struct open_request *request, struct model **out,
                               Ssmd__Code *code, const char **text)
{
    struct model *model = NULL;
    enum models_answer answer;

    if (strlen(spec) >= CONF_TEXT_SIZE)
        return refuse(SSMD__CODE__NO_MODEL, "the name of the model is too long", code, text);
    if (ssm_is_template(spec))
        answer = template_get(loop, spec, request, &model, code, text);
    else
        answer = directory_get(loop, spec, request, &model, code, text);
    if (answer == MODELS_REFUSED)
        return answer;
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

bool models_read_again(struct loop *loop, const char *name, struct reload *reload)
{
    return unload_for_one(loop) && directory_new(loop, name, 0, reload) != NULL;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

/* A directory is there at its own rate, and the request wants another: true when it waits again, for that one. */
static bool waits_again(struct loop *loop, struct open_request *request, struct model *own)
{
    struct model *model = NULL;
    Ssmd__Code code = SSMD__CODE__OK;
    const char *text = NULL;

    switch (models_find(loop, own->name, request, &model, &code, &text)) {
    case MODELS_WAITS:
        return true;
    case MODELS_READY:
    case MODELS_REFUSED:
        break;
    }
    request->finish(loop, request, model, code, text);
    return false;
}

static bool wants_another_rate(const struct open_request *request, const struct model *model)
{
    return !model->is_template && request->native_rate && request->rate > 0 && model->info.in_rate > 0 &&
           !models_rates_match(request->rate, model->info.in_rate);
}

/* Answers every open that waited: with the model, or with why there is none. */
static void waits_answer(struct loop *loop, struct model *model, struct model *found, Ssmd__Code code, const char *text)
{
    struct open_request *request;

    while ((request = TAILQ_FIRST(&model->waits)) != NULL) {
        TAILQ_REMOVE(&model->waits, request, link);
        model->waits_n--;
        if (!found || !wants_another_rate(request, found))
            request->finish(loop, request, found, code, text);
        else if (waits_again(loop, request, found))
            continue;
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
    if (model->reload) {
        versions_reloaded(loop, model, RELOAD_FAILED, error->text);
        models_free(&loop->models, model);
        return;
    }
    loop->counters.models_failed++;
    log_event(LOG_WARNING, "model_refused", "model=%s error=%s", model->name, error->text);
    waits_answer(loop, model, NULL, code, error->text);
    models_aliases_drop(&loop->models, model);
    if (model->is_template || model->rate > 0) {
        models_free(&loop->models, model);
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

/* The template is there in another spelling, or on its way: whoever waits for this one gets that. */
static void model_alias(struct loop *loop, struct model *model, struct model *same)
{
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
}

static void model_compile(struct loop *loop, struct model *model)
{
    struct ssm_error error = {""};

    model->grid = batch_grid(&model->info);
    model->is_one_to_one = model->info.ratio_num == model->info.ratio_den && model->info.lookahead == 0;
    if (model->lineage && !version_has_room(loop, model, &error)) {
        model_failed(loop, model, SSMD__CODE__LIMIT, &error);
        return;
    }
    if (!unload_for_bytes(loop, model)) {
        snprintf(error.text, sizeof(error.text),
                 "%s has %zu bytes of weights, for which model_memory has no room: close the streams of another model, "
                 "or raise it",
                 model->name, model->info.weight_bytes);
        model_failed(loop, model, SSMD__CODE__LIMIT, &error);
        return;
    }
    model->state = MODEL_COMPILING;
    if (!sites_compile(loop, model)) {
        snprintf(error.text, sizeof(error.text), "the engine is busy compiling: try again");
        model_failed(loop, model, SSMD__CODE__LIMIT, &error);
    }
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
        model_alias(loop, model, same);
    } else if (model->reload && version_is_known(model)) {
        versions_reloaded(loop, model, RELOAD_UNCHANGED, NULL);
        models_free(&loop->models, model);
    } else {
        model_compile(loop, model);
    }
}

void models_compiled(struct loop *loop, struct job *job)
{
    struct model *model = ((struct site *)job->owner)->model;
    bool is_double = false;

    if (job->kind == JOB_DROP) {
        if (sites_dropped(job))
            models_free(&loop->models, model);
        return;
    }
    switch (sites_take(loop, job)) {
    case SITES_WAIT:
        return;
    case SITES_FAILED:
        model_failed(loop, model, SSMD__CODE__LIMIT, &job->error);
        return;
    case SITES_READY:
        break;
    }
    model->state = MODEL_LOADED;
    loop->counters.models_loaded++;
    if (model->reload) {
        is_double = version_is_known(model); /* an open has read the same since */
        versions_reloaded(loop, model, is_double ? RELOAD_UNCHANGED : RELOAD_ADDED, NULL);
    }
    if (model->lineage)
        version_admit(loop, model);
    log_event(LOG_INFO, "model_loaded",
              "model=%s version=%u rate=%.9g modes_zeroed=%u state_bytes=%zu weight_bytes=%zu", model->name,
              model->version, model->info.in_rate, model->info.modes_zeroed, model->info.state_bytes,
              model->info.weight_bytes);
    waits_answer(loop, model, model, SSMD__CODE__OK, NULL);
    if (is_double)
        (void)model_unload(loop, model);
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

    versions_conn_drop(&models->versions, conn);
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
