/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions with one answer (list has one for each thousand streams). Answers are handed on while they are still in the
 * arena, so nothing is kept.
 */
#include "clients/c/client.h"

#include <stdio.h>
#include <string.h>

struct listing {
    ssmc_stream_fn *each;
    void *context;
    char after[PROTO_ID_MAX];
    size_t after_size;
    bool has_more;
};

static int take_list(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    struct listing *l = context;
    const Ssmd__ListReply *list = reply->list;
    struct ssmc_stream_info info;
    for (size_t i = 0; i < list->n_streams; i++) {
        stream_info_copy(&info, list->streams[i]);
        l->each(l->context, &info);
    }
    l->has_more = list->more && list->n_streams > 0;
    if (!l->has_more)
        return SSMC_OK;
    if (info.id_size <= l->after_size && memcmp(info.id, l->after, info.id_size) <= 0)
        return fail(c, SSMC_PROTOCOL, "the daemon's list does not come to an end");
    memcpy(l->after, info.id, info.id_size);
    l->after_size = info.id_size;
    return SSMC_OK;
}

int ssmc_list(struct ssmc *c, const char *prefix, size_t prefix_size, ssmc_stream_fn *each, void *context,
              int timeout_ms)
{
    struct listing l = {.each = each, .context = context, .has_more = true};
    if (prefix && prefix_size == 0)
        prefix_size = strlen(prefix);
    if (prefix_size > PROTO_ID_MAX)
        return fail(c, SSMC_INVAL, "a prefix has at most 64 bytes");
    int rc = SSMC_OK;
    while (rc == 0 && l.has_more) {
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__List list = SSMD__LIST__INIT;
        list.has_prefix = prefix_size > 0;
        list.prefix = (ProtobufCBinaryData){prefix_size, (uint8_t *)prefix};
        list.has_after = l.after_size > 0;
        list.after = (ProtobufCBinaryData){l.after_size, (uint8_t *)l.after};
        message.request_case = SSMD__FROM_CLIENT__REQUEST_LIST;
        message.list = &list;
        rc = request_call(c, &message, SSMD__REPLY__ANSWER_LIST, take_list, &l, timeout_ms);
    }
    return rc;
}

static int take_info(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    (void)c;
    stream_info_copy(context, reply->stream);
    return SSMC_OK;
}

int ssmc_info(struct ssmc *c, const char *id, size_t id_size, struct ssmc_stream_info *out, int timeout_ms)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Info info = SSMD__INFO__INIT;
    info.id = (ProtobufCBinaryData){id_size ? id_size : strlen(id), (uint8_t *)id};
    message.request_case = SSMD__FROM_CLIENT__REQUEST_INFO;
    message.info = &info;
    return request_call(c, &message, SSMD__REPLY__ANSWER_STREAM, take_info, out, timeout_ms);
}

struct models {
    ssmc_model_fn *each;
    void *context;
};

static int take_models(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    (void)c;
    struct models *m = context;
    for (size_t i = 0; i < reply->hello->n_models; i++) {
        const Ssmd__ModelInfo *model = reply->hello->models[i];
        const struct ssmc_model_info info = {
            .name = model->name,
            .state = model->state ? model->state : "",
            .is_template = model->template_,
            .tokens = model->tokens,
            .streams = model->streams,
            .channels = model->channels,
            .out_channels = model->out_channels,
            .vocab = model->vocab,
            .hop = model->hop,
            .lookahead = model->lookahead,
            .rate = model->rate,
            .out_rate = model->out_rate,
            .state_bytes = model->state_bytes,
            .priority = model->priority,
            .cost = model->cost,
            .load = model->load,
            .deadline_misses = model->deadline_misses,
            .queued_bytes = model->queued_bytes,
            .config_rate = model->has_config_rate ? model->config_rate : model->rate,
            .modes_zeroed = model->modes_zeroed,
            .version = model->version,
            .newest_version = model->has_newest_version ? model->newest_version : model->version,
            .weight_bytes = model->weight_bytes,
        };
        m->each(m->context, &info);
    }
    return SSMC_OK;
}

/* Models are told in hello; saying it again on a connection that has said it changes nothing. */
int ssmc_models(struct ssmc *c, ssmc_model_fn *each, void *context, int timeout_ms)
{
    struct models m = {each, context};
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Hello hello = SSMD__HELLO__INIT;
    link_hello(c, &hello);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_HELLO;
    message.hello = &hello;
    return request_call(c, &message, SSMD__REPLY__ANSWER_HELLO, take_models, &m, timeout_ms);
}

static int take_reload(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    (void)c;
    struct ssmc_reload *out = context;
    *out = (struct ssmc_reload){reply->reload->unchanged, reply->reload->added, reply->reload->failed, ""};
    snprintf(out->failure, sizeof out->failure, "%s", reply->reload->failure ? reply->reload->failure : "");
    return SSMC_OK;
}

int ssmc_reload(struct ssmc *c, const char *model, struct ssmc_reload *out, int timeout_ms)
{
    if (!c->has_versions && c->link == LINK_UP)
        return fail(c, SSMC_INVAL, "the daemon at %s is too old to reload models", c->endpoint);
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Reload reload = SSMD__RELOAD__INIT;
    reload.model = (char *)model;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_RELOAD;
    message.reload = &reload;
    return request_call(c, &message, SSMD__REPLY__ANSWER_RELOAD, take_reload, out, timeout_ms);
}

struct stats {
    ssmc_counter_fn *counter;
    ssmc_histogram_fn *histogram;
    void *context;
};

static void take_histogram(const struct stats *s, const Ssmd__Histogram *from)
{
    const struct ssmc_histogram histogram = {
        .name = from->name,
        .help = from->help ? from->help : "",
        .is_nanoseconds = from->nanoseconds,
        .count = from->count,
        .sum = from->sum,
        .max = from->max,
        .quantiles = from->n_quantile < from->n_value ? from->n_quantile : from->n_value,
        .quantile = from->quantile,
        .value = from->value,
    };
    s->histogram(s->context, &histogram);
}

static int take_stats(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    (void)c;
    const struct stats *s = context;
    for (size_t i = 0; s->counter && i < reply->stats->n_counters; i++) {
        const Ssmd__Counter *from = reply->stats->counters[i];
        const struct ssmc_counter counter = {from->name, from->help ? from->help : "", from->model, from->value};
        s->counter(s->context, &counter);
    }
    for (size_t i = 0; s->histogram && i < reply->stats->n_histograms; i++)
        take_histogram(s, reply->stats->histograms[i]);
    return SSMC_OK;
}

int ssmc_stats(struct ssmc *c, ssmc_counter_fn *counter, ssmc_histogram_fn *histogram, void *context, int timeout_ms)
{
    struct stats s = {counter, histogram, context};
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Stats stats = SSMD__STATS__INIT;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_STATS;
    message.stats = &stats;
    return request_call(c, &message, SSMD__REPLY__ANSWER_STATS, take_stats, &s, timeout_ms);
}

int ssmc_ping(struct ssmc *c, uint64_t *round_trip_ns, int timeout_ms)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Ping ping = SSMD__PING__INIT;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_PING;
    message.ping = &ping;
    int64_t start = now_ns();
    int rc = request_call(c, &message, SSMD__REPLY__ANSWER_PONG, NULL, NULL, timeout_ms);
    if (rc == 0 && round_trip_ns)
        *round_trip_ns = (uint64_t)(now_ns() - start);
    return rc;
}
