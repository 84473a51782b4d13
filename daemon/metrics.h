/* SPDX-License-Identifier: Apache-2.0
 *
 * The tables of daemon/counters.h as data, and a copy of everything that they name at one moment. The copy is what
 * `stats` answers from and what the HTTP thread gets: so nobody but the loop reads what the loop counts.
 *
 * Threads: metrics_take on the loop thread; the rest is pure.
 */
#ifndef DAEMON_METRICS_H
#define DAEMON_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/counters.h"
#include "daemon/models.h"
#include "daemon/units.h"

struct loop;

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
enum metric_unit { METRIC_one, METRIC_bytes, METRIC_ns, METRIC_ms };

/* A row of a table. */
struct metric {
    const char *name;
    const char *metric; /* of Prometheus, without "ssmd_" */
    enum metric_kind kind;
    enum metric_unit unit;
    const char *help;
};

enum {
#define X(name, metric, unit, help) VALUE_##name,
    COUNTERS(X) GAUGES(X)
#undef X
        VALUES
};
enum {
#define X(name, metric, unit, help) MODEL_VALUE_##name,
    MODEL_COUNTERS(X) MODEL_GAUGES(X)
#undef X
        MODEL_VALUES
};
enum {
#define X(name, metric, unit, help) ENGINE_VALUE_##name,
    ENGINE_COUNTERS(X) ENGINE_GAUGES(X)
#undef X
        ENGINE_VALUES
};
enum {
#define X(name, metric, unit, bounds, help) HISTOGRAM_##name,
    HISTOGRAMS(X)
#undef X
        HISTOGRAM_COUNT
};

extern const struct metric metrics_values[VALUES];
extern const struct metric metrics_model_values[MODEL_VALUES];
extern const struct metric metrics_engine_values[ENGINE_VALUES];
extern const struct metric metrics_histograms[HISTOGRAM_COUNT];

/* The models of one name together. */
struct metrics_model {
    char name[CONF_TEXT_SIZE];
    uint64_t value[MODEL_VALUES];
};

/* What it is, in words, beside its numbers. */
struct metrics_engine {
    char name[UNIT_NAME_SIZE], text[UNIT_TEXT_SIZE];
    const char *backend;
    uint64_t value[ENGINE_VALUES];
};

struct metrics_snapshot {
    uint64_t value[VALUES];
    struct histogram histogram[HISTOGRAM_COUNT];
    struct metrics_model model[MODELS_MAX];
    uint32_t models_n;
    struct metrics_engine engine[UNITS_MAX];
    uint32_t engines_n;
};

void metrics_init(struct histograms *histograms);
/* The model is unloaded: what it counted stays, with its name, for the next of that name. */
void metrics_model_ends(struct models *models, const struct model *model);
/* Some microseconds: counters are copied, nothing is looked at stream by stream. */
void metrics_take(const struct loop *loop, struct metrics_snapshot *out);

#endif
