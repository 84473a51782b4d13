/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests that ask and change nothing: hello (which makes the connection), list, info.
 */
#include "daemon/admission.h"
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/features.h"
#include "daemon/generate.h"
#include "daemon/history.h"
#include "daemon/log.h"
#include "daemon/unload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX     1000
#define LIST_BYTES   (256u << 10) /* of one reply, about */
#define HELLO_MODELS (LOADER_NAMES + MODELS_MAX + 16)

/* ---- hello ------------------------------------------------------------------------------------------------------- */

/* What connections know that were granted the features. */
static void version_fill(Ssmd__ModelInfo *out, const struct model *model, uint32_t features)
{
    if (features & FEATURE_RATES) {
        out->has_config_rate = true;
        out->config_rate = model->info.config_rate;
        out->has_modes_zeroed = model->rate > 0;
        out->modes_zeroed = model->info.modes_zeroed;
    }
    if (features & FEATURE_VERSIONS) {
        out->has_version = model->version > 0;
        out->version = model->version;
        out->has_newest_version = !version_is_newest(model);
        out->newest_version = model->lineage ? model->lineage->newest : 0;
        out->has_weight_bytes = true;
        out->weight_bytes = model->info.weight_bytes;
    }
}

static void schedule_fill(Ssmd__ModelInfo *out, const struct model *model, uint32_t features)
{
    if (!(features & FEATURE_SCHEDULE))
        return;
    out->has_priority = out->has_load = out->has_deadline_misses = out->has_queued_bytes = true;
    out->priority = model->priority;
    for (int i = 0; i < SITES_MAX; i++) {
        double cost = admission_cost(&model->site[i]);

        out->cost = cost > out->cost ? cost : out->cost;
        out->load += admission_load(&model->site[i]);
    }
    out->has_cost = out->cost > 0;
    out->deadline_misses = model->counters.deadline_misses;
    out->queued_bytes = model->queued_bytes;
}

static void model_fill(Ssmd__ModelInfo *out, const struct model *model, uint32_t features)
{
    const struct ssm_model_info *info = &model->info;

    ssmd__model_info__init(out);
    out->name = (char *)model->name;
    out->has_template_ = true;
    out->template_ = model->is_template;
    out->state = (char *)(model->state == MODEL_LOADED   ? "loaded"
                          : model->state == MODEL_FAILED ? model->failure
                                                         : "loading");
    if (model->state != MODEL_LOADED)
        return;
    out->has_streams = out->has_tokens = out->has_rate = out->has_channels = out->has_out_rate = true;
    out->has_out_channels = out->has_vocab = out->has_hop = out->has_lookahead = out->has_state_bytes = true;
    out->streams = model->streams;
    out->tokens = info->input == SSM_TOKENS;
    out->rate = info->in_rate;
    out->channels = info->in_channels;
    out->out_rate = info->out_rate;
    out->out_channels = info->out_channels;
    out->vocab = info->vocab;
    out->hop = info->hop;
    out->lookahead = info->lookahead;
    out->state_bytes = info->state_bytes;
    version_fill(out, model, features);
    schedule_fill(out, model, features);
}

/* Whether a connection with these features sees the model: names are one model each to those without them. */
static bool model_is_listed(const struct model *model, uint32_t features)
{
    if (model->state == MODEL_ALIAS || model->state == MODEL_DROPPING || model->reload)
        return false;
    return (model->rate <= 0 || (features & FEATURE_RATES)) &&
           (model->state != MODEL_LOADED || version_is_newest(model) || (features & FEATURE_VERSIONS));
}

static size_t name_fill(Ssmd__ModelInfo *out, size_t n, const char *name, bool is_template)
{
    if (n >= HELLO_MODELS)
        return n;
    ssmd__model_info__init(&out[n]);
    out[n].name = (char *)name;
    out[n].has_template_ = true;
    out[n].template_ = is_template;
    out[n].state = (char *)"unloaded";
    return n + 1;
}

/* What may be opened: models in memory, templates, and directories that are not in memory. */
static size_t models_fill(const struct loop *loop, Ssmd__ModelInfo *out, uint32_t features)
{
    const char *const *names = ssm_template_names();
    const struct model *model;
    size_t n = 0;

    TAILQ_FOREACH(model, &loop->models.all, of_all)
        if (model_is_listed(model, features) && n < HELLO_MODELS)
            model_fill(&out[n++], model, features);
    for (; *names; names++)
        n = name_fill(out, n, *names, true);
    for (uint32_t i = 0; i < loop->models.names_n; i++) {
        TAILQ_FOREACH(model, &loop->models.all, of_all)
            if (strcmp(model->name, loop->models.names[i]) == 0 && model_is_listed(model, features))
                break;
        if (!model)
            n = name_fill(out, n, loop->models.names[i], false);
    }
    return n;
}

static void hello_answer(struct loop *loop, struct conn *conn, uint64_t request_id)
{
    static const char daemon[] = "ssmd " SSMD_VERSION;
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__HelloReply hello = SSMD__HELLO_REPLY__INIT;
    Ssmd__Limits limits = SSMD__LIMITS__INIT;
    Ssmd__ModelInfo *models = malloc(HELLO_MODELS * sizeof(*models));
    Ssmd__ModelInfo **pointers = malloc(HELLO_MODELS * sizeof(*pointers));
    char *features[FEATURES_COUNT];

    limits.message_bytes = (uint32_t)loop->conf.max_message;
    limits.chunk_frames = loop->conf.chunk_frames;
    limits.stream_window = loop->conf.stream_window;
    limits.connection_window = loop->conf.connection_window;
    limits.result_ring = loop->conf.result_ring;
    limits.streams = loop->conf.max_streams;
    limits.idle_ms = loop->conf.idle_ms;
    hello.version = PROTO_VERSION;
    hello.daemon = (char *)daemon;
    hello.incarnation.data = loop->incarnation;
    hello.incarnation.len = sizeof(loop->incarnation);
    hello.durability =
        loop->conf.state_dir[0] ? SSMD__HELLO_REPLY__DURABILITY__SNAPSHOT : SSMD__HELLO_REPLY__DURABILITY__NONE;
    hello.n_features = features_words(conn->features, features);
    hello.features = features;
    hello.limits = &limits;
    hello.tap = loop->tap.socket ? loop->conf.tap : NULL;
    if (models && pointers) {
        hello.n_models = models_fill(loop, models, conn->features);
        for (size_t i = 0; i < hello.n_models; i++)
            pointers[i] = &models[i];
        hello.models = pointers;
    }
    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_HELLO;
    reply.hello = &hello;
    deliver_reply(loop, conn, &reply);
    free(models);
    free(pointers);
}

void control_hello(struct loop *loop, struct conn *conn, const struct peer *peer, uint64_t request_id,
                   const Ssmd__Hello *hello)
{
    Ssmd__Code code = SSMD__CODE__OK;
    const char *text = NULL;

    if (hello->version_min > PROTO_VERSION || hello->version_max < PROTO_VERSION)
        code = SSMD__CODE__VERSION, text = "this daemon speaks protocol version 1";
    else if (hello->writer.len != PROTO_WRITER_BYTES)
        code = SSMD__CODE__MALFORMED, text = "`writer` has 16 bytes";
    else if (!conn && loop->conns.n >= loop->connections_max)
        code = SSMD__CODE__LIMIT, text = "there are max_connections connections: try again later";
    loop->counters.limit_connections += code == SSMD__CODE__LIMIT;
    if (code == SSMD__CODE__OK && conn && memcmp(conn->writer, hello->writer.data, PROTO_WRITER_BYTES) != 0)
        code = SSMD__CODE__MALFORMED, text = "this connection said hello as another writer";
    if (code == SSMD__CODE__OK && !conn) {
        conn = conns_insert(&loop->conns, peer);
        if (!conn)
            code = SSMD__CODE__LIMIT, text = "the daemon is out of memory";
        else
            loop->counters.connections_accepted++;
    }
    if (code != SSMD__CODE__OK) {
        loop->counters.requests_refused++;
        deliver_error_to(peer, request_id, code, text);
        return;
    }
    conn->heard_ns = loop->now_ns;
    memcpy(conn->writer, hello->writer.data, PROTO_WRITER_BYTES);
    conn->features = features_grant(hello);
    snprintf(conn->name, sizeof(conn->name), "%s", hello->client ? hello->client : "");
    log_event(LOG_DEBUG, "connection_accepted", "client=%s connections=%u", conn->name, loop->conns.n);
    models_list(loop);
    hello_answer(loop, conn, request_id);
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

/* What connections know that were granted the feature. */
static void tokens_info_fill(const struct stream *stream, struct control_info *out)
{
    Ssmd__StreamInfo *m = &out->message;

    if (!stream_keeps_pairs(stream))
        return;
    m->has_top_k = stream->top_k > 0;
    m->top_k = stream->top_k;
    m->has_generates = true;
    m->generates = stream->generates;
    if (!stream->generation)
        return;
    generate_info_fill(stream->generation, &out->generation);
    m->generation = &out->generation;
}

static void schedule_info_fill(const struct stream *stream, Ssmd__StreamInfo *m)
{
    const struct policy_class *class = stream->class ? stream->class : stream->model->class;
    uint64_t ns = stream->behind_last_ns - stream->behind_ns;

    m->class_ = class ? (char *)class->name : NULL;
    m->has_deadline_misses = true;
    m->deadline_misses = stream->misses;
    m->has_catch_up = stream->caught > 0 && ns > 0;
    if (m->has_catch_up)
        m->catch_up = (double)stream->caught * 1e9 / (double)ns;
}

static void version_info_fill(const struct conn *conn, const struct stream *stream, Ssmd__StreamInfo *m)
{
    const struct model *model = stream->model;

    if (conn->features & FEATURE_RATES) {
        m->has_config_rate = true;
        m->config_rate = model->info.config_rate;
        m->has_modes_zeroed = model->rate > 0;
        m->modes_zeroed = model->info.modes_zeroed;
    }
    if (conn->features & FEATURE_VERSIONS) {
        m->has_version = model->version > 0;
        m->version = model->version;
        m->has_newest_version = !version_is_newest(model);
        m->newest_version = model->lineage ? model->lineage->newest : 0;
    }
}

static void history_info_fill(const struct stream *stream, struct control_info *out)
{
    ssmd__history__init(&out->history);
    history_fill(stream->history, &out->history);
    out->message.history = &out->history;
}

void control_info_fill(const struct conn *conn, const struct stream *stream, struct control_info *out)
{
    const struct ssm_model_info *info = &stream->model->info;
    Ssmd__StreamInfo *m = &out->message;

    ssmd__stream_info__init(m);
    m->id.data = (uint8_t *)stream->id;
    m->id.len = stream->id_size;
    m->model = stream->model->name;
    m->epoch = stream->epoch;
    m->next = stream->next;
    m->applied = m->durable = stream->applied;
    m->result_first = stream->ring.lo;
    m->result_next = stream->ring.hi;
    m->rate = info->in_rate;
    m->channels = info->in_channels;
    m->out_rate = info->out_rate;
    m->out_channels = stream->ring.channels;
    m->ratio_num = info->ratio_num;
    m->ratio_den = info->ratio_den;
    m->hop = info->hop;
    m->lookahead = info->lookahead;
    m->state_bytes = info->state_bytes;
    m->has_tokens = m->has_vocab = m->has_attached = m->has_closing = m->has_queued = true;
    m->tokens = info->input == SSM_TOKENS;
    m->vocab = info->vocab;
    m->attached = stream->conn != NULL || publish_is_live(stream);
    m->closing = stream->is_closing;
    m->queued = stream->next - stream->applied;
    version_info_fill(conn, stream, m);
    if (conn->features & FEATURE_TOKENS)
        tokens_info_fill(stream, out);
    if (conn->features & FEATURE_SCHEDULE)
        schedule_info_fill(stream, m);
    if (stream->history && (conn->features & FEATURE_IMAGES))
        history_info_fill(stream, out);
}

void control_info_send(struct loop *loop, struct conn *conn, uint64_t request_id, const struct control_info *info)
{
    Ssmd__Reply reply = SSMD__REPLY__INIT;

    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_STREAM;
    reply.stream = (Ssmd__StreamInfo *)&info->message;
    deliver_reply(loop, conn, &reply);
}

void control_info(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Info *info)
{
    struct stream *stream = streams_find(&loop->streams, info->id.data, info->id.len);
    struct control_info out;

    if (!stream) {
        deliver_error(loop, conn, request_id, SSMD__CODE__NO_STREAM,
                      evict_absent_text(loop, info->id.data, info->id.len));
        return;
    }
    control_info_fill(conn, stream, &out);
    control_info_send(loop, conn, request_id, &out);
}

void control_list(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__List *list)
{
    const struct streams *streams = &loop->streams;
    uint32_t max = list->max < 1 || list->max > LIST_MAX ? LIST_MAX : list->max, n = 0, at;
    struct control_info *infos = malloc(max * sizeof(*infos));
    Ssmd__StreamInfo **pointers = malloc(max * sizeof(*pointers));
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__ListReply answer = SSMD__LIST_REPLY__INIT;
    size_t bytes = 0;

    at = streams_seek(streams, list->prefix.data, list->has_prefix ? list->prefix.len : 0, false);
    if (list->has_after) {
        uint32_t after = streams_seek(streams, list->after.data, list->after.len, true);

        at = after > at ? after : at;
    }
    for (; infos && pointers && at < streams->n; at++) {
        const struct stream *stream = streams->sorted[at];

        if (list->has_prefix &&
            (stream->id_size < list->prefix.len || memcmp(stream->id, list->prefix.data, list->prefix.len) != 0))
            break;
        answer.more = n == max || bytes > LIST_BYTES;
        if (answer.more)
            break;
        control_info_fill(conn, stream, &infos[n]);
        pointers[n] = &infos[n].message;
        bytes += proto_size(&infos[n++].message.base);
    }
    answer.n_streams = n;
    answer.streams = pointers;
    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_LIST;
    reply.list = &answer;
    deliver_reply(loop, conn, &reply);
    free(infos);
    free(pointers);
}
