/* SPDX-License-Identifier: Apache-2.0
 *
 * Lines of versions, reloads, and the way of a stream to a newer version; see versions.h.
 */
#include "daemon/versions.h"

#include "daemon/deliver.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/models.h"
#include "daemon/unload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void versions_init(struct versions *versions)
{
    TAILQ_INIT(&versions->lineages);
    TAILQ_INIT(&versions->reloads);
}

void versions_fini(struct versions *versions)
{
    struct lineage *lineage;
    struct reload *reload;

    while ((lineage = TAILQ_FIRST(&versions->lineages)) != NULL) {
        TAILQ_REMOVE(&versions->lineages, lineage, link);
        free(lineage);
    }
    while ((reload = TAILQ_FIRST(&versions->reloads)) != NULL) {
        TAILQ_REMOVE(&versions->reloads, reload, link);
        free(reload);
    }
}

/* ---- lines ------------------------------------------------------------------------------------------------------- */

/* Models are fewer than LINEAGES_MAX, so there is one without any. */
static void lineage_forget(struct versions *versions)
{
    struct lineage *lineage;

    TAILQ_FOREACH(lineage, &versions->lineages, link)
        if (lineage->models == 0)
            break;
    if (!lineage)
        return;
    TAILQ_REMOVE(&versions->lineages, lineage, link);
    versions->n--;
    free(lineage);
}

struct lineage *lineage_acquire(struct versions *versions, const char *name)
{
    struct lineage *lineage;

    TAILQ_FOREACH(lineage, &versions->lineages, link)
        if (strcmp(lineage->name, name) == 0)
            break;
    if (lineage) {
        TAILQ_REMOVE(&versions->lineages, lineage, link);
    } else {
        if (versions->n >= LINEAGES_MAX)
            lineage_forget(versions);
        lineage = calloc(1, sizeof(*lineage));
        if (!lineage)
            return NULL;
        snprintf(lineage->name, sizeof(lineage->name), "%s", name);
        versions->n++;
    }
    TAILQ_INSERT_TAIL(&versions->lineages, lineage, link);
    lineage->models++;
    return lineage;
}

bool version_is_known(const struct model *model)
{
    const struct lineage *lineage = model->lineage;

    return lineage->newest > 0 && memcmp(model->info.source, lineage->source, sizeof(lineage->source)) == 0;
}

bool version_is_newest(const struct model *model)
{
    return !model->lineage || model->version == model->lineage->newest;
}

/* Versions of the line in memory, each counted once whatever its rates. */
static uint32_t versions_count(const struct models *models, const struct lineage *lineage)
{
    const struct model *model, *other;
    uint32_t n = 0;

    TAILQ_FOREACH(model, &models->all, of_all) {
        if (model->lineage != lineage || model->state != MODEL_LOADED)
            continue;
        TAILQ_FOREACH(other, &models->all, of_all)
            if (other == model ||
                (other->lineage == lineage && other->state == MODEL_LOADED && other->version == model->version))
                break;
        n += other == model;
    }
    return n;
}

/* Without room a version goes that only evicted streams want; they cannot come back then. */
static bool version_drop_evicted(struct loop *loop, const struct lineage *lineage)
{
    struct model *model;

    TAILQ_FOREACH(model, &loop->models.all, of_all)
        if (model->lineage == lineage && model_is_idle(model) && !version_is_newest(model))
            return model_unload(loop, model);
    return false;
}

bool version_has_room(struct loop *loop, struct model *model, struct ssm_error *err)
{
    if (version_is_known(model))
        return true;
    versions_sweep(loop);
    if (versions_count(&loop->models, model->lineage) < loop->conf.model_versions ||
        version_drop_evicted(loop, model->lineage))
        return true;
    loop->counters.models_versions_full++;
    snprintf(err->text, sizeof(err->text),
             "%s has %u versions with streams, which is model_versions: close, reset or move those of an old one",
             model->name, loop->conf.model_versions);
    return false;
}

void version_admit(struct loop *loop, struct model *model)
{
    struct lineage *lineage = model->lineage;

    if (!version_is_known(model)) {
        lineage->newest++;
        memcpy(lineage->source, model->info.source, sizeof(lineage->source));
        if (lineage->newest > 1)
            log_event(LOG_NOTICE, "model_version_added", "model=%s version=%u", model->name, lineage->newest);
    }
    model->version = lineage->newest;
    versions_sweep(loop);
}

void versions_sweep(struct loop *loop)
{
    struct model *model;

    TAILQ_FOREACH(model, &loop->models.all, of_all)
        if (model_is_idle(model) && model->evicted == 0 && model->version > 0 && !version_is_newest(model))
            model_unload(loop, model);
}

/* ---- a stream's way to a newer version --------------------------------------------------------------------------- */

/* What stands between the stream and the model, or NULL. Its client knows these figures and goes on with them. */
static const char *shapes_differ(const struct stream *stream, const struct model *model)
{
    const struct ssm_model_info *a = &stream->model->info, *b = &model->info;

    if (a->input != b->input || a->in_channels != b->in_channels || a->vocab != b->vocab)
        return "the newest version of the model takes other channels or tokens";
    if (a->out_channels != b->out_channels)
        return "the newest version of the model has other output channels";
    if (!models_rates_match(a->in_rate, b->in_rate) || !models_rates_match(a->out_rate, b->out_rate) ||
        (uint64_t)a->ratio_num * b->ratio_den != (uint64_t)b->ratio_num * a->ratio_den)
        return "the newest version of the model runs at another rate";
    if (stream->history && stream->model->grid != model->grid)
        return "the newest version of the model keeps its history on another grid";
    return NULL;
}

/* The newest version is there, or not and why: the stream's turn comes again. */
static void target_found(struct loop *loop, struct open_request *request, struct model *model, Ssmd__Code code,
                         const char *text)
{
    struct stream *stream = streams_find(&loop->streams, request->id, request->id_size);

    if (!stream || stream->move != MOVE_WAITS)
        return;
    stream->move = model ? MOVE_NONE : MOVE_FAILED;
    if (!model) {
        loop->models.move_code = code;
        snprintf(loop->models.move_sentence, sizeof(loop->models.move_sentence), "%.240s", text);
    }
    loop_stream_settle(loop, stream);
}

/* Finds the newest version at the stream's rate. */
static enum models_answer target_find(struct loop *loop, struct stream *stream, struct model **out, Ssmd__Code *code,
                                      const char **text)
{
    const struct ssm_model_info *info = &stream->model->info;
    struct open_request *request = calloc(1, sizeof(*request));
    enum models_answer answer;

    if (!request) {
        *code = SSMD__CODE__LIMIT;
        *text = "the daemon is out of memory";
        return MODELS_REFUSED;
    }
    request->finish = target_found;
    request->id_size = stream->id_size;
    memcpy(request->id, stream->id, stream->id_size);
    request->native_rate = stream->model->rate > 0;
    request->rate = request->native_rate ? info->in_rate : 0;
    answer = models_find(loop, stream->model->name, request, out, code, text);
    if (answer != MODELS_WAITS)
        free(request);
    return answer;
}

struct model *versions_target(struct loop *loop, struct stream *stream, Ssmd__Code *code, const char **text)
{
    struct model *model = NULL;

    *code = SSMD__CODE__OK;
    *text = NULL;
    if (version_is_newest(stream->model))
        return stream->model;
    if (stream->move == MOVE_WAITS)
        return NULL;
    if (stream->move == MOVE_FAILED) {
        stream->move = MOVE_NONE;
        *code = loop->models.move_code;
        *text = loop->models.move_sentence;
        return stream->model;
    }
    switch (target_find(loop, stream, &model, code, text)) {
    case MODELS_WAITS:
        stream->move = MOVE_WAITS;
        return NULL;
    case MODELS_REFUSED:
        return stream->model;
    case MODELS_READY:
        break;
    }
    *text = shapes_differ(stream, model);
    if (*text)
        *code = SSMD__CODE__RATE;
    return *text ? stream->model : model;
}

/* ---- reloads ----------------------------------------------------------------------------------------------------- */

static void reload_settle(struct loop *loop, struct reload *reload)
{
    if (--reload->left > 0)
        return;
    log_event(reload->failed ? LOG_WARNING : LOG_NOTICE, "models_reloaded", "unchanged=%u added=%u failed=%u",
              reload->unchanged, reload->added, reload->failed);
    if (reload->conn && reload->request_id) {
        Ssmd__Reply reply = SSMD__REPLY__INIT;
        Ssmd__ReloadReply answer = SSMD__RELOAD_REPLY__INIT;

        answer.unchanged = reload->unchanged;
        answer.added = reload->added;
        answer.failed = reload->failed;
        answer.failure = reload->failed ? reload->failure : NULL;
        reply.request_id = reload->request_id;
        reply.answer_case = SSMD__REPLY__ANSWER_RELOAD;
        reply.reload = &answer;
        deliver_reply(loop, reload->conn, &reply);
    }
    TAILQ_REMOVE(&loop->models.versions.reloads, reload, link);
    free(reload);
}

static void reload_count(struct loop *loop, struct reload *reload, const char *name, enum reload_outcome outcome,
                         const char *failure)
{
    reload->unchanged += outcome == RELOAD_UNCHANGED;
    reload->added += outcome == RELOAD_ADDED;
    reload->failed += outcome == RELOAD_FAILED;
    loop->counters.models_reloaded += outcome == RELOAD_ADDED;
    if (outcome != RELOAD_FAILED)
        return;
    loop->counters.models_reload_failed++;
    snprintf(reload->failure, sizeof(reload->failure), "%s", failure);
    log_event(LOG_WARNING, "model_reload_failed", "model=%s error=%s", name, failure);
}

void versions_reloaded(struct loop *loop, struct model *model, enum reload_outcome outcome, const char *failure)
{
    struct reload *reload = model->reload;

    model->reload = NULL;
    reload_count(loop, reload, model->name, outcome, failure);
    reload_settle(loop, reload);
}

void versions_reload(struct loop *loop, struct conn *conn, uint64_t request_id, const char *name)
{
    struct reload *reload = calloc(1, sizeof(*reload));
    struct lineage *lineage, *last = TAILQ_LAST(&loop->models.versions.lineages, lineages), *next;
    uint32_t found = 0;

    if (!reload) {
        if (conn)
            deliver_error(loop, conn, request_id, SSMD__CODE__LIMIT, "the daemon is out of memory");
        return;
    }
    *reload = (struct reload){.conn = conn, .request_id = request_id, .left = 1};
    TAILQ_INSERT_TAIL(&loop->models.versions.reloads, reload, link);
    /* Each that is read again goes to the end of the list. */
    for (lineage = TAILQ_FIRST(&loop->models.versions.lineages); lineage; lineage = next) {
        next = lineage == last ? NULL : TAILQ_NEXT(lineage, link);
        if (lineage->newest == 0 || lineage->models == 0 || (name && strcmp(lineage->name, name) != 0))
            continue;
        found++;
        reload->left++;
        if (!models_read_again(loop, lineage->name, reload)) {
            reload_count(loop, reload, lineage->name, RELOAD_FAILED, "too many models are in use or being loaded");
            reload->left--;
        }
    }
    if (name && found == 0 && conn) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_MODEL,
                      "no directory of that name is in memory: the next open reads it");
        reload->conn = NULL;
    }
    reload_settle(loop, reload);
}

void versions_conn_drop(struct versions *versions, const struct conn *conn)
{
    struct reload *reload;

    TAILQ_FOREACH(reload, &versions->reloads, link)
        if (reload->conn == conn)
            reload->conn = NULL;
}
