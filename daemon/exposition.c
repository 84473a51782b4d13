/* SPDX-License-Identifier: Apache-2.0
 * Text of metrics; see exposition.h. */
#include "daemon/exposition.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const kind_names[] = {"counter", "gauge", "histogram"};

/* Bytes of the metric's name: what stands before its label. */
static int family_size(const struct metric *row)
{
    return (int)strcspn(row->metric, "{");
}

static bool family_is_same(const struct metric *a, const struct metric *b)
{
    return family_size(a) == family_size(b) && strncmp(a->metric, b->metric, (size_t)family_size(a)) == 0;
}

/* Bytes of the help that all rows of the metric share. */
static int help_size(const struct metric *row)
{
    return row->metric[family_size(row)] == '{' ? (int)strcspn(row->help, ":") : (int)strlen(row->help);
}

static void head_write(FILE *out, const struct metric *row)
{
    int size = family_size(row);

    fprintf(out, "# HELP ssmd_%.*s %.*s\n# TYPE ssmd_%.*s %s\n", size, row->metric, help_size(row), row->help, size,
            row->metric, kind_names[row->kind]);
}

/* What is counted in nanoseconds or milliseconds, in seconds, to the last digit. */
static void value_write(FILE *out, enum metric_unit unit, uint64_t value)
{
    if (unit == METRIC_ns)
        fprintf(out, "%" PRIu64 ".%09" PRIu64, value / 1000000000, value % 1000000000);
    else if (unit == METRIC_ms)
        fprintf(out, "%" PRIu64 ".%03" PRIu64, value / 1000, value % 1000);
    else
        fprintf(out, "%" PRIu64, value);
}

/* Names of models come from directories and from clients. */
static void label_write(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            fputs("\\n", out);
        else if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else
            fputc(*text, out);
    }
}

/* The table says `metric{label=value}`; the value is a word. */
static void name_write(FILE *out, const struct metric *row)
{
    int size = family_size(row);
    const char *label = row->metric + size, *equals = strchr(label, '=');

    if (*label == '{' && equals)
        fprintf(out, "ssmd_%.*s%.*s=\"%.*s\"}", size, row->metric, (int)(equals - label), label,
                (int)strcspn(equals + 1, "}"), equals + 1);
    else
        fprintf(out, "ssmd_%s", row->metric);
}

static void values_write(FILE *out, const struct metrics_snapshot *snapshot)
{
    for (size_t i = 0; i < VALUES; i++) {
        const struct metric *row = &metrics_values[i];

        if (i == 0 || !family_is_same(row, row - 1))
            head_write(out, row);
        name_write(out, row);
        fputc(' ', out);
        value_write(out, row->unit, snapshot->value[i]);
        fputc('\n', out);
    }
}

static void models_write(FILE *out, const struct metrics_snapshot *snapshot)
{
    for (size_t i = 0; i < MODEL_VALUES; i++) {
        const struct metric *row = &metrics_model_values[i];

        if (snapshot->models_n > 0)
            head_write(out, row);
        for (uint32_t m = 0; m < snapshot->models_n; m++) {
            fprintf(out, "ssmd_%s{model=\"", row->metric);
            label_write(out, snapshot->model[m].name);
            fputs("\"} ", out);
            value_write(out, row->unit, snapshot->model[m].value[i]);
            fputc('\n', out);
        }
    }
}

static void engines_write(FILE *out, const struct metrics_snapshot *snapshot)
{
    fputs("# HELP ssmd_engine_info the engines and what they are; always 1\n# TYPE ssmd_engine_info gauge\n", out);
    for (uint32_t e = 0; e < snapshot->engines_n; e++) {
        const struct metrics_engine *engine = &snapshot->engine[e];

        fprintf(out, "ssmd_engine_info{engine=\"%s\",backend=\"%s\",is=\"", engine->name, engine->backend);
        label_write(out, engine->text);
        fputs("\"} 1\n", out);
    }
    for (size_t i = 0; i < ENGINE_VALUES; i++) {
        const struct metric *row = &metrics_engine_values[i];

        head_write(out, row);
        for (uint32_t e = 0; e < snapshot->engines_n; e++) {
            fprintf(out, "ssmd_%s{engine=\"%s\"} ", row->metric, snapshot->engine[e].name);
            value_write(out, row->unit, snapshot->engine[e].value[i]);
            fputc('\n', out);
        }
    }
}

/* A bound as people write it: a decimal number without zeros at its end. */
static void bound_write(FILE *out, enum metric_unit unit, uint64_t bound)
{
    if (unit == METRIC_ns)
        fprintf(out, "%g", (double)bound * 1e-9);
    else
        fprintf(out, "%" PRIu64, bound);
}

static void histogram_write(FILE *out, const struct metric *row, const struct histogram *h)
{
    uint64_t seen = 0;

    head_write(out, row);
    for (uint32_t i = 0; i < h->bounds->n; i++) {
        seen += h->below[i];
        fprintf(out, "ssmd_%s_bucket{le=\"", row->metric);
        bound_write(out, row->unit, h->bounds->at[i]);
        fprintf(out, "\"} %" PRIu64 "\n", seen);
    }
    fprintf(out, "ssmd_%s_bucket{le=\"+Inf\"} %" PRIu64 "\nssmd_%s_sum ", row->metric, h->count, row->metric);
    value_write(out, row->unit, h->sum);
    fprintf(out, "\nssmd_%s_count %" PRIu64 "\n", row->metric, h->count);
}

void exposition_write(const struct metrics_snapshot *snapshot, FILE *out)
{
    fprintf(out,
            "# HELP ssmd_build_info the version that runs; always 1\n"
            "# TYPE ssmd_build_info gauge\nssmd_build_info{version=\"%s\"} 1\n",
            SSMD_VERSION);
    values_write(out, snapshot);
    models_write(out, snapshot);
    engines_write(out, snapshot);
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++)
        histogram_write(out, &metrics_histograms[i], &snapshot->histogram[i]);
}

/* ---- the process ------------------------------------------------------------------------------------------------- */

static void process_value(FILE *out, const char *name, const char *kind, const char *help, double value)
{
    fprintf(out, "# HELP process_%s %s\n# TYPE process_%s %s\nprocess_%s %.15g\n", name, help, name, kind, name, value);
}

static void memory_write(FILE *out)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long size, resident;

    if (!file)
        return;
    if (fscanf(file, "%llu %llu", &size, &resident) == 2)
        process_value(out, "resident_memory_bytes", "gauge", "memory in use",
                      (double)resident * (double)sysconf(_SC_PAGESIZE));
    fclose(file);
}

static void descriptors_write(FILE *out)
{
    DIR *directory = opendir("/proc/self/fd");
    struct rlimit limit;
    unsigned n = 0;

    if (directory) {
        while (readdir(directory))
            n++;
        closedir(directory);
        process_value(out, "open_fds", "gauge", "open file descriptors", n > 3 ? n - 3 : 0); /* . .. and its own */
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        process_value(out, "max_fds", "gauge", "file descriptors that may be open", (double)limit.rlim_cur);
}

void exposition_write_process(FILE *out)
{
    struct rusage usage;

    memory_write(out);
    descriptors_write(out);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        process_value(out, "cpu_seconds_total", "counter", "processor time of all threads",
                      (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                          (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static void row_print(FILE *out, const struct metric *row, const char *name)
{
    fprintf(out, "| ");
    name_write(out, row);
    fprintf(out, " | %s%s | %s | %s |\n", name, row->name, kind_names[row->kind], row->help);
}

void exposition_print_table(FILE *out)
{
    fprintf(out, "| metric | in `stats` | kind | what |\n|---|---|---|---|\n");
    for (size_t i = 0; i < VALUES; i++)
        row_print(out, &metrics_values[i], "");
    for (size_t i = 0; i < MODEL_VALUES; i++)
        row_print(out, &metrics_model_values[i], "model: ");
    for (size_t i = 0; i < ENGINE_VALUES; i++)
        row_print(out, &metrics_engine_values[i], "ENGINE_");
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++)
        row_print(out, &metrics_histograms[i], "");
}
