/* SPDX-License-Identifier: Apache-2.0
 * Tables and copies; see metrics.h. */
#include "daemon/metrics.h"
#include "daemon/unload.h"

#include "daemon/loop.h"

#include <string.h>

_Static_assert(sizeof(struct histograms) == HISTOGRAM_COUNT * sizeof(struct histogram), "one after another");

const struct metric metrics_values[VALUES] = {
#define X(name, metric, unit, help) {#name, metric, METRIC_COUNTER, METRIC_##unit, help},
    COUNTERS(X)
#undef X
#define X(name, metric, unit, help) {#name, metric, METRIC_GAUGE, METRIC_##unit, help},
        GAUGES(X)
#undef X
};

const struct metric metrics_model_values[MODEL_VALUES] = {
#define X(name, metric, unit, help) {#name, metric, METRIC_COUNTER, METRIC_##unit, help},
    MODEL_COUNTERS(X)
#undef X
#define X(name, metric, unit, help) {#name, metric, METRIC_GAUGE, METRIC_##unit, help},
        MODEL_GAUGES(X)
#undef X
};

const struct metric metrics_engine_values[ENGINE_VALUES] = {
#define X(name, metric, unit, help) {#name, metric, METRIC_COUNTER, METRIC_##unit, help},
    ENGINE_COUNTERS(X)
#undef X
#define X(name, metric, unit, help) {#name, metric, METRIC_GAUGE, METRIC_##unit, help},
        ENGINE_GAUGES(X)
#undef X
};

const struct metric metrics_histograms[HISTOGRAM_COUNT] = {
#define X(name, metric, unit, bounds, help) {#name, metric, METRIC_HISTOGRAM, METRIC_##unit, help},
    HISTOGRAMS(X)
#undef X
};

void metrics_init(struct histograms *histograms)
{
#define X(name, metric, unit, bounds, help) histogram_init(&histograms->name, &histogram_bounds_##bounds);
    HISTOGRAMS(X)
#undef X
}

static void gauges_take(const struct loop *loop, uint64_t *value)
{
    const struct model *model;

    value[VALUE_streams] = loop->streams.n;
    value[VALUE_connections] = loop->conns.n;
    value[VALUE_connections_port] = 0;
    for (uint32_t i = 0; i < loop->ports.n; i++)
        if (value[VALUE_connections_port] < loop->ports.port[i].connections)
            value[VALUE_connections_port] = loop->ports.port[i].connections;
    value[VALUE_readers] = loop->readers;
    value[VALUE_subscriptions] = loop->tap.subscriptions;
    value[VALUE_models] = 0;
    TAILQ_FOREACH(model, &loop->models.all, of_all)
        value[VALUE_models] += model->state == MODEL_LOADED;
    value[VALUE_model_bytes] = models_weight_bytes(loop, NULL);
    value[VALUE_input_bytes] = loop->input.bytes;
    value[VALUE_ring_bytes] = loop->rings.bytes;
    value[VALUE_image_bytes] = loop->states.bytes;
    value[VALUE_publish_bytes] = loop->publish.held_bytes;
    value[VALUE_history_bytes] = loop->states.history_bytes;
    value[VALUE_state_bytes] = loop->states.state_bytes;
    value[VALUE_stream_bytes] = loop->streams.n > 0 ? stream_bytes(loop->streams.sorted[0]) : sizeof(struct stream);
    value[VALUE_uptime_ms] = (loop->now_ns - loop->started_ns) / CLOCK_MS;
}

void metrics_model_ends(struct models *models, const struct model *model)
{
    struct models_past *past = NULL;

    for (uint32_t i = 0; i < models->past_n && i < MODELS_MAX && !past; i++)
        if (strcmp(models->past[i].name, model->name) == 0)
            past = &models->past[i];
    if (!past) {
        past = &models->past[models->past_n++ % MODELS_MAX];
        memset(past, 0, sizeof(*past));
        memcpy(past->name, model->name, sizeof(past->name));
    }
#define X(member, metric, unit, help) past->counters.member += model->counters.member;
    MODEL_COUNTERS(X)
#undef X
}

/* What models of the name counted that are no longer there. */
static void past_add(const struct models *models, struct metrics_model *entry)
{
    for (uint32_t i = 0; i < models->past_n && i < MODELS_MAX; i++) {
        if (strcmp(models->past[i].name, entry->name) != 0)
            continue;
#define X(member, metric, unit, help) entry->value[MODEL_VALUE_##member] += models->past[i].counters.member;
        MODEL_COUNTERS(X)
#undef X
    }
}

/* The entry of the name, a new one at the end; NULL when there are too many. */
static struct metrics_model *model_entry(const struct models *models, struct metrics_snapshot *out, const char *name)
{
    struct metrics_model *entry;

    for (uint32_t i = 0; i < out->models_n; i++)
        if (strcmp(out->model[i].name, name) == 0)
            return &out->model[i];
    if (out->models_n == MODELS_MAX)
        return NULL;
    entry = &out->model[out->models_n++];
    memset(entry, 0, sizeof(*entry));
    memcpy(entry->name, name, strlen(name) + 1);
    past_add(models, entry);
    return entry;
}

static void models_take(const struct loop *loop, struct metrics_snapshot *out)
{
    const struct model *model;

    out->models_n = 0;
    TAILQ_FOREACH(model, &loop->models.all, of_all) {
        struct metrics_model *entry =
            model->state == MODEL_LOADED ? model_entry(&loop->models, out, model->name) : NULL;

        if (!entry)
            continue;
#define X(member, metric, unit, help) entry->value[MODEL_VALUE_##member] += model->counters.member;
        MODEL_COUNTERS(X)
#undef X
        entry->value[MODEL_VALUE_streams] += model->streams;
        for (uint32_t i = 0; i < loop->units.n; i++)
            entry->value[MODEL_VALUE_live] += model->site[i].live_streams;
        entry->value[MODEL_VALUE_queued_bytes] += model->queued_bytes;
    }
}

static void engines_take(const struct loop *loop, struct metrics_snapshot *out)
{
    const struct model *model;

    out->engines_n = loop->units.n;
    for (uint32_t i = 0; i < loop->units.n; i++) {
        const struct unit *unit = &loop->units.of[i];
        struct metrics_engine *entry = &out->engine[i];

        memset(entry, 0, sizeof(*entry));
        memcpy(entry->name, unit->name, sizeof(entry->name));
        memcpy(entry->text, unit->text, sizeof(entry->text));
        entry->backend = unit->is_device ? "cuda" : "cpu";
        entry->value[ENGINE_VALUE_batches] = unit->batches;
        entry->value[ENGINE_VALUE_busy_ns] = unit->busy_ns;
        entry->value[ENGINE_VALUE_failed] = unit->has_failed;
        TAILQ_FOREACH(model, &loop->models.all, of_all) {
            entry->value[ENGINE_VALUE_states] += model->site[i].slots;
            entry->value[ENGINE_VALUE_state_bytes] += model->site[i].slots * model->info.state_bytes;
        }
    }
}

void metrics_take(const struct loop *loop, struct metrics_snapshot *out)
{
#define X(name, metric, unit, help) out->value[VALUE_##name] = loop->counters.name;
    COUNTERS(X)
#undef X
    gauges_take(loop, out->value);
    memcpy(out->histogram, &loop->histograms, sizeof(out->histogram));
    models_take(loop, out);
    engines_take(loop, out);
}
