/* SPDX-License-Identifier: Apache-2.0
 *
 * The registry keeps Prometheus' rules, the text that is made of it is of the text format, and docs/METRICS.md is what
 * the registry says. scripts/check-metrics asks promtool as well.
 */
#include "daemon/exposition.h"
#include "daemon/loop.h"
#include "daemon/metrics.h"

#include <ctype.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct {
    const struct metric *rows;
    size_t n;
} tables[] = {{metrics_values, VALUES}, {metrics_model_values, MODEL_VALUES}, {metrics_histograms, HISTOGRAM_COUNT}};

#define TABLES (sizeof(tables) / sizeof(tables[0]))

static size_t family_size(const char *metric)
{
    return strcspn(metric, "{");
}

static bool ends_with(const char *text, size_t size, const char *end)
{
    return size >= strlen(end) && memcmp(text + size - strlen(end), end, strlen(end)) == 0;
}

/* ---- the registry ------------------------------------------------------------------------------------------------ */

static void name_check(const struct metric *row)
{
    size_t size = family_size(row->metric), stem = size;
    bool is_total = ends_with(row->metric, size, "_total");

    for (size_t i = 0; i < size; i++)
        if (!islower((unsigned char)row->metric[i]) && row->metric[i] != '_')
            fail_msg("%s: %s has a letter that it may not have", row->name, row->metric);
    if (is_total != (row->kind == METRIC_COUNTER))
        fail_msg("%s: counters, and nothing else, end in _total: %s", row->name, row->metric);
    stem -= is_total ? strlen("_total") : 0;
    if (ends_with(row->metric, stem, "_seconds") != (row->unit == METRIC_ns || row->unit == METRIC_ms) ||
        ends_with(row->metric, stem, "_bytes") != (row->unit == METRIC_bytes))
        fail_msg("%s: the unit and the end of %s disagree", row->name, row->metric);
    if (row->help[0] == '\0' || strpbrk(row->help, "\n\\|"))
        fail_msg("%s: no help, or what the formats do not take", row->name);
}

/* A row with a label: `{word=word}`, beside others of its metric that begin alike. */
static void label_check(const struct metric *row, const struct metric *before)
{
    const char *label = row->metric + family_size(row->metric);
    char name[32], value[64], end;

    if (*label == '\0')
        return;
    if (sscanf(label, "{%31[a-z]=%63[a-z_]%c", name, value, &end) != 3 || end != '}')
        fail_msg("%s: the label of %s is not {word=word}", row->name, row->metric);
    if (strcmp(name, "stream") == 0 || strcmp(name, "id") == 0)
        fail_msg("%s: streams are no label", row->name);
    if (!strchr(row->help, ':'))
        fail_msg("%s: the help of a labelled row is `metric: this one`", row->name);
    if (before && family_size(before->metric) == family_size(row->metric) &&
        strncmp(before->metric, row->metric, family_size(row->metric)) == 0 &&
        (before->unit != row->unit || strcspn(before->help, ":") != strcspn(row->help, ":") ||
         strncmp(before->help, row->help, strcspn(row->help, ":")) != 0))
        fail_msg("%s and %s are one metric and differ in help or unit", before->name, row->name);
}

static void registry__every_row__keeps_the_rules_of_names_and_units(void **state)
{
    (void)state;
    for (size_t t = 0; t < TABLES; t++) {
        for (size_t i = 0; i < tables[t].n; i++) {
            const struct metric *row = &tables[t].rows[i];

            name_check(row);
            label_check(row, i > 0 ? row - 1 : NULL);
            for (size_t k = 0; k < i; k++) {
                assert_string_not_equal(row->name, tables[t].rows[k].name);
                assert_string_not_equal(row->metric, tables[t].rows[k].metric);
            }
        }
    }
}

/* ---- the text ---------------------------------------------------------------------------------------------------- */

static struct metrics_snapshot snapshot;

static char *text_make(void)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    exposition_write(&snapshot, out);
    exposition_write_process(out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static int snapshot_fill(void **state)
{
    static struct histograms histograms;

    (void)state;
    metrics_init(&histograms);
    memcpy(snapshot.histogram, &histograms, sizeof(snapshot.histogram));
    for (size_t i = 0; i < VALUES; i++)
        snapshot.value[i] = i * 1000000007;
    for (uint64_t v = 1; v < UINT64_C(1) << 40; v *= 3)
        for (size_t i = 0; i < HISTOGRAM_COUNT; i++)
            histogram_add(&snapshot.histogram[i], v + i);
    snapshot.models_n = 2;
    strcpy(snapshot.model[0].name, "forecast:order=16,window=1");
    strcpy(snapshot.model[1].name, "a \"b\" \\ c\nd");
    snapshot.model[1].value[MODEL_VALUE_busy_ns] = UINT64_C(12000000345);
    return 0;
}

/* What a reader of the format remembers from line to line. */
struct reading {
    char family[128], kind[32];
    char seen[128][128]; /* families that are over */
    size_t seen_n, samples;
    double last; /* of the buckets of a histogram */
    double inf;
};

static void family_begin(struct reading *r, const char *line)
{
    char name[128];

    assert_int_equal(sscanf(line, "# HELP %127[a-z_] %*c", name), 1);
    for (size_t i = 0; i < r->seen_n; i++)
        if (strcmp(r->seen[i], name) == 0)
            fail_msg("%s is in two pieces", name);
    assert_true(r->seen_n < 128);
    strcpy(r->seen[r->seen_n++], name);
    strcpy(r->family, name);
    r->kind[0] = '\0';
    r->last = r->inf = -1;
}

/* The end of `{name="value"}`, whose value may have escaped characters. */
static const char *label_end(const char *at)
{
    assert_int_equal(*at++, '{');
    while (islower((unsigned char)*at))
        at++;
    assert_int_equal(*at++, '=');
    assert_int_equal(*at++, '"');
    while (*at != '"') {
        if (*at == '\\' && !strchr("\\\"n", at[1]))
            fail_msg("no such escape: %s", at);
        at += *at == '\\' ? 2 : 1;
        assert_true(*at != '\0');
    }
    assert_int_equal(at[1], '}');
    return at + 2;
}

static void bucket_check(struct reading *r, const char *suffix, double value)
{
    if (strncmp(suffix, "_bucket{le=\"+Inf\"}", 18) == 0) {
        assert_true(value >= r->last);
        r->inf = value;
    } else if (strncmp(suffix, "_bucket{", 8) == 0) {
        assert_true(value >= r->last);
        r->last = value;
    } else if (strncmp(suffix, "_count ", 7) == 0) {
        assert_true(value == r->inf);
    } else if (strncmp(suffix, "_sum ", 5) != 0) {
        fail_msg("not a part of a histogram: %s", suffix);
    }
}

static void sample_check(struct reading *r, const char *line)
{
    size_t size = strlen(r->family);
    const char *at = line + size;
    char *end;
    double value;

    if (strncmp(line, r->family, size) != 0)
        fail_msg("outside of its metric %s: %s", r->family, line);
    at += strcmp(r->kind, "histogram") == 0 ? strcspn(at, "{ ") : 0;
    if (*at == '{')
        at = label_end(at);
    assert_int_equal(*at++, ' ');
    value = strtod(at, &end);
    if (end == at || *end != '\0' || value < 0)
        fail_msg("not a number: %s", line);
    if (strcmp(r->kind, "histogram") == 0)
        bucket_check(r, line + size, value);
    r->samples++;
}

static size_t text_check(char *text)
{
    static struct reading r;
    char *rest = text, *line;

    memset(&r, 0, sizeof(r));
    assert_int_equal(text[strlen(text) - 1], '\n');
    text[strlen(text) - 1] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        char kind[32], name[128];

        if (strncmp(line, "# HELP ", 7) == 0) {
            family_begin(&r, line);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_int_equal(sscanf(line, "# TYPE %127[a-z_] %31s", name, kind), 2);
            assert_string_equal(name, r.family);
            strcpy(r.kind, kind);
        } else {
            assert_true(r.kind[0] != '\0');
            sample_check(&r, line);
        }
    }
    return r.samples;
}

static void exposition__a_full_snapshot__is_of_the_text_format(void **state)
{
    size_t expected = 1 + VALUES + 2 * MODEL_VALUES + 4;
    char *text = text_make();

    (void)state;
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++)
        expected += snapshot.histogram[i].bounds->n + 3;
    assert_int_equal(text_check(text), expected);
    free(text);
}

static void assert_line(const char *text, const char *line)
{
    char whole[300];

    snprintf(whole, sizeof(whole), "\n%s\n", line);
    if (!strstr(text, whole))
        fail_msg("missing: %s", line);
}

static void exposition__values__are_in_base_units_under_their_labels(void **state)
{
    char *text, line[200];

    (void)state;
    snapshot.value[VALUE_engine_busy_ns] = UINT64_C(61000000007);
    snapshot.value[VALUE_uptime_ms] = 90061;
    snapshot.value[VALUE_chunks_gap] = UINT64_MAX;
    text = text_make();
    assert_line(text, "ssmd_engine_busy_seconds_total 61.000000007");
    assert_line(text, "ssmd_uptime_seconds 90.061");
    assert_line(text, "ssmd_chunks_refused_total{reason=\"gap\"} 18446744073709551615");
    assert_line(text, "# HELP ssmd_chunks_refused_total chunks refused");
    assert_line(text, "ssmd_model_busy_seconds_total{model=\"a \\\"b\\\" \\\\ c\\nd\"} 12.000000345");
    assert_line(text, "# TYPE ssmd_step_seconds histogram");
    snprintf(line, sizeof(line), "ssmd_batch_frames_bucket{le=\"65536\"} %" PRIu64,
             snapshot.histogram[HISTOGRAM_batch_frames].count -
                 snapshot.histogram[HISTOGRAM_batch_frames].below[histogram_bounds_sizes.n]);
    assert_line(text, line);
    free(text);
}

/* ---- what people read -------------------------------------------------------------------------------------------- */

static void metrics_md__holds_the_table(void **state)
{
    char *table = NULL, *file = calloc(1, 1 << 20);
    size_t size;
    FILE *out = open_memstream(&table, &size), *in = fopen("docs/METRICS.md", "r");

    (void)state;
    assert_non_null(in);
    assert_true(fread(file, 1, (1 << 20) - 1, in) > 0);
    fclose(in);
    exposition_print_table(out);
    assert_int_equal(fclose(out), 0);
    if (!strstr(file, table))
        fail_msg("docs/METRICS.md is old: put in what build/bin/ssmd --print-metrics says");
    free(table);
    free(file);
}

/* ---- what is copied ---------------------------------------------------------------------------------------------- */

static void metrics__two_models_of_one_name__are_counted_together(void **state)
{
    static struct loop loop;
    static struct metrics_snapshot taken;
    static struct model model[3];

    (void)state;
    metrics_init(&loop.histograms);
    TAILQ_INIT(&loop.models.all);
    for (int i = 0; i < 3; i++) {
        model[i].state = i < 2 ? MODEL_LOADED : MODEL_LOADING;
        strcpy(model[i].name, "m");
        model[i].counters.frames = 10u << i;
        TAILQ_INSERT_TAIL(&loop.models.all, &model[i], of_all);
    }
    loop.counters.chunks_gap = 5;
    histogram_add(&loop.histograms.queue, 77);
    metrics_take(&loop, &taken);
    assert_int_equal(taken.models_n, 1);
    assert_int_equal(taken.model[0].value[MODEL_VALUE_frames], 30);
    assert_int_equal(taken.value[VALUE_chunks_gap], 5);
    assert_int_equal(taken.value[VALUE_models], 2);
    assert_int_equal(taken.histogram[HISTOGRAM_queue].sum, 77);
    assert_int_equal(taken.histogram[HISTOGRAM_step].count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(registry__every_row__keeps_the_rules_of_names_and_units),
        cmocka_unit_test(exposition__a_full_snapshot__is_of_the_text_format),
        cmocka_unit_test(exposition__values__are_in_base_units_under_their_labels),
        cmocka_unit_test(metrics_md__holds_the_table),
        cmocka_unit_test(metrics__two_models_of_one_name__are_counted_together),
    };

    return cmocka_run_group_tests(tests, snapshot_fill, NULL);
}
