/* SPDX-License-Identifier: Apache-2.0
 *
 * stats: every counter and gauge of daemon/counters.h by name, those of engines with the engine's name before; with the
 * feature `histograms` also those of each model, and the histograms as their quantiles.
 */
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/features.h"
#include "daemon/metrics.h"

#include <stdio.h>

#define COUNTERS_MAX (VALUES + MODELS_MAX * MODEL_VALUES + UNITS_MAX * ENGINE_VALUES)
#define NAME_SIZE    48 /* of an engine's value */
#define HELP_SIZE    96

static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};

#define QUANTILES (sizeof(quantiles) / sizeof(quantiles[0]))

/* The answer, and all that it points to. */
struct answer {
    struct metrics_snapshot snapshot;
    Ssmd__Counter counter[COUNTERS_MAX], *counters[COUNTERS_MAX];
    Ssmd__Histogram histogram[HISTOGRAM_COUNT], *histograms[HISTOGRAM_COUNT];
    uint64_t value[HISTOGRAM_COUNT][QUANTILES];
    char engine_name[UNITS_MAX][ENGINE_VALUES][NAME_SIZE];
    char engine_help[UNITS_MAX][ENGINE_VALUES][UNIT_TEXT_SIZE + HELP_SIZE];
    size_t n;
};

static void counter_add(struct answer *a, const char *name, const char *help, const char *model, uint64_t value)
{
    Ssmd__Counter *counter = &a->counter[a->n];

    ssmd__counter__init(counter);
    counter->name = (char *)name;
    counter->help = (char *)help;
    counter->model = (char *)model;
    counter->value = value;
    a->counters[a->n++] = counter;
}

/* `cuda0_states`, whose help says what cuda0 is. */
static void engine_add(struct answer *a, uint32_t e)
{
    const struct metrics_engine *engine = &a->snapshot.engine[e];

    for (size_t i = 0; i < ENGINE_VALUES; i++) {
        const struct metric *row = &metrics_engine_values[i];
        char *name = a->engine_name[e][i], *help = a->engine_help[e][i];

        snprintf(name, sizeof(a->engine_name[e][i]), "%s_%s", engine->name, row->name);
        snprintf(help, sizeof(a->engine_help[e][i]), "%s (%s)", row->help, engine->text);
        counter_add(a, name, help, NULL, engine->value[i]);
    }
}

static void histograms_fill(struct answer *a)
{
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++) {
        const struct histogram *from = &a->snapshot.histogram[i];
        Ssmd__Histogram *to = &a->histogram[i];

        ssmd__histogram__init(to);
        to->name = (char *)metrics_histograms[i].name;
        to->help = (char *)metrics_histograms[i].help;
        to->nanoseconds = metrics_histograms[i].unit == METRIC_ns;
        to->count = from->count;
        to->sum = from->sum;
        to->max = from->max;
        for (size_t q = 0; q < QUANTILES; q++)
            a->value[i][q] = histogram_quantile(from, quantiles[q]);
        to->n_quantile = to->n_value = QUANTILES;
        to->quantile = (double *)quantiles;
        to->value = a->value[i];
        a->histograms[i] = to;
    }
}

void control_stats(struct loop *loop, struct conn *conn, uint64_t request_id)
{
    static struct answer answer; /* large; the loop is one thread */
    struct answer *a = &answer;
    Ssmd__Reply reply = SSMD__REPLY__INIT;
    Ssmd__StatsReply stats = SSMD__STATS_REPLY__INIT;

    a->n = 0;
    metrics_take(loop, &a->snapshot);
    for (size_t i = 0; i < VALUES; i++)
        counter_add(a, metrics_values[i].name, metrics_values[i].help, NULL, a->snapshot.value[i]);
    for (uint32_t e = 0; e < a->snapshot.engines_n; e++)
        engine_add(a, e);
    if (conn->features & FEATURE_HISTOGRAMS) {
        for (uint32_t m = 0; m < a->snapshot.models_n; m++)
            for (size_t i = 0; i < MODEL_VALUES; i++)
                counter_add(a, metrics_model_values[i].name, metrics_model_values[i].help, a->snapshot.model[m].name,
                            a->snapshot.model[m].value[i]);
        histograms_fill(a);
        stats.n_histograms = HISTOGRAM_COUNT;
        stats.histograms = a->histograms;
    }
    stats.n_counters = a->n;
    stats.counters = a->counters;
    reply.request_id = request_id;
    reply.answer_case = SSMD__REPLY__ANSWER_STATS;
    reply.stats = &stats;
    deliver_reply(loop, conn, &reply);
}
