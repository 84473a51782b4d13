/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions: list, info, stats, models, ping.
 */
#include "clients/c/ctl/ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "proto/codec.h"

/* The command's only argument, or NULL; -1 after a message when there is another or an unknown option. */
static int take_argument(const struct ctl *ctl, int argc, char **argv, const char **out)
{
    static const struct option none[] = {{NULL, 0, NULL, 0}};
    *out = NULL;
    if (getopt_long(argc, argv, "", none, NULL) != -1) {
        ctl_usage(ctl, "unknown option %s", argv[optind - 1]);
        return -1;
    }
    if (optind < argc)
        *out = argv[optind++];
    if (optind < argc) {
        ctl_usage(ctl, "unexpected argument \"%s\"", argv[optind]);
        return -1;
    }
    return 0;
}

/* ---- list -------------------------------------------------------------------------------------------------------- */

static void add_stream(void *context, const struct ssmc_stream_info *info)
{
    json_array_append_new(context, ctl_json_stream(info));
}

/* "wave v1 (old)" in so many columns of a table: a model with its version, where there can be more than one. A longer
 * name, of a template with all its parameters, is cut: info and --json have it whole. */
static void print_name(int width, const char *name, uint32_t version, uint32_t newest)
{
    char behind[32] = "";
    if (version > 1 || newest > 1)
        snprintf(behind, sizeof behind, " v%" PRIu32 "%s", version, version < newest ? " (old)" : "");
    int room = width - (int)strlen(behind), size = (int)strlen(name);
    if (size <= room)
        printf("%s%s%*s ", name, behind, room - size, "");
    else
        printf("%.*s...%s ", room - 3, name, behind);
}

static void print_stream(void *context, const struct ssmc_stream_info *info)
{
    unsigned *count = context;
    if ((*count)++ == 0)
        printf("%-24s %-24s %10s %3s %12s %12s %s\n", "ID", "MODEL", "RATE", "CH", "APPLIED", "RESULTS", "STATE");
    printf("%-24s ", info->id);
    print_name(24, info->model, info->version, info->newest_version);
    printf("%10.9g %3" PRIu32 " %12" PRIu64 " %12" PRIu64 " %s\n", info->rate, info->channels, info->applied,
           info->result_next,
           info->closing    ? "closing"
           : info->attached ? "attached"
                            : "idle");
}

int ctl_list(struct ctl *ctl, int argc, char **argv)
{
    const char *prefix;
    if (take_argument(ctl, argc, argv, &prefix) != 0)
        return EX_USAGE;
    int rc = ctl_connect(ctl);
    if (rc != 0)
        return rc;
    json_t *array = ctl->is_json ? json_array() : NULL;
    unsigned count = 0;
    rc = ssmc_list(ctl->c, prefix, 0, array ? add_stream : print_stream, array ? (void *)array : &count,
                   ctl->timeout_ms);
    if (rc != 0) {
        json_decref(array);
        return ctl_fail(ctl, rc, "list");
    }
    return array ? ctl_print_json(array) : ctl_finish();
}

/* ---- info -------------------------------------------------------------------------------------------------------- */

static void print_info(const struct ssmc_stream_info *i)
{
    printf("id            %s\nmodel         %s\nepoch         %" PRIu64 "\n", i->id, i->model, i->epoch);
    printf("next          %" PRIu64 "\napplied       %" PRIu64 "\ndurable       %" PRIu64 "\n", i->next, i->applied,
           i->durable);
    printf("queued        %" PRIu64 "\nresults       %" PRIu64 " to %" PRIu64 " are kept\n", i->queued, i->result_first,
           i->result_next);
    if (i->tokens)
        printf("input         tokens below %" PRIu32 "\n", i->vocab);
    else
        printf("input         %" PRIu32 " channels at %.9g Hz\n", i->channels, i->rate);
    if (i->top_k > 0 || i->generates)
        printf("output        %sthe %" PRIu32 " most probable tokens", i->generates ? "a drawn token and " : "",
               i->top_k);
    else
        printf("output        %" PRIu32 " channels", i->out_channels);
    printf(i->out_rate > 0 ? " at %.9g Hz\n" : "\n", i->out_rate);
    printf("ratio         %" PRIu32 "/%" PRIu32 "\nhop           %" PRIu32 "\nlookahead     %" PRIu32 "\n",
           i->ratio_num, i->ratio_den, i->hop, i->lookahead);
    printf("state         %" PRIu64 " bytes\nattached      %s\nclosing       %s\n", i->state_bytes,
           i->attached ? "yes" : "no", i->closing ? "yes" : "no");
    if (i->version > 0)
        printf("version       %" PRIu32 "%s\n", i->version,
               i->version < i->newest_version ? ", and there is a newer one" : "");
    if (i->config_rate != i->rate)
        printf("discretised   for this rate; made for %.9g Hz, %" PRIu32 " modes above half the rate zeroed\n",
               i->config_rate, i->modes_zeroed);
    if (i->deadline_class[0])
        printf("class         %s\n", i->deadline_class);
    printf("late          %" PRIu64 " live chunks\n", i->deadline_misses);
    if (i->catch_up > 0 && i->rate > 0)
        printf("catching up   at %.1f times real time\n", i->catch_up / i->rate);
    else if (i->catch_up > 0)
        printf("catching up   at %.0f frames in a second\n", i->catch_up);
    if (i->generates)
        printf("generating    %s\n", i->generating ? "yes" : "no");
    if (i->history_interval)
        printf("history       back to frame %" PRIu64 " (at least %" PRIu32 " frames, a checkpoint every %" PRIu32
               "), %" PRIu64 " bytes\n",
               i->history_oldest, i->history_depth, i->history_interval, i->history_bytes);
}

int ctl_info(struct ctl *ctl, int argc, char **argv)
{
    const char *id;
    struct ssmc_stream_info info;
    if (take_argument(ctl, argc, argv, &id) != 0)
        return EX_USAGE;
    if (!id)
        return ctl_usage(ctl, "the id of a stream is missing");
    if (strlen(id) < 1 || strlen(id) > PROTO_ID_MAX)
        return ctl_usage(ctl, "an id has 1 to 64 bytes");
    int rc = ctl_connect(ctl);
    if (rc != 0)
        return rc;
    rc = ssmc_info(ctl->c, id, 0, &info, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, id);
    if (ctl->is_json)
        return ctl_print_json(ctl_json_stream(&info));
    print_info(&info);
    return ctl_finish();
}

/* ---- stats ------------------------------------------------------------------------------------------------------- */

/* The member of that name, made when it is not there yet. */
static json_t *json_member(json_t *object, const char *name)
{
    json_t *member = json_object_get(object, name);
    if (member)
        return member;
    member = json_object();
    json_object_set_new(object, name, member);
    return member;
}

static void add_counter(void *context, const struct ssmc_counter *counter)
{
    json_t *object = context;
    if (counter->model)
        object = json_member(json_member(object, "by_model"), counter->model);
    json_object_set_new(object, counter->name, json_integer((json_int_t)counter->value));
}

static json_t *json_measure(const struct ssmc_histogram *histogram, uint64_t value)
{
    return histogram->is_nanoseconds ? json_real((double)value * 1e-9) : json_integer((json_int_t)value);
}

static void add_histogram(void *context, const struct ssmc_histogram *histogram)
{
    json_t *object = json_member(json_member(context, "histograms"), histogram->name);
    json_object_set_new(object, "count", json_integer((json_int_t)histogram->count));
    json_object_set_new(object, "sum", json_measure(histogram, histogram->sum));
    json_object_set_new(object, "max", json_measure(histogram, histogram->max));
    for (size_t i = 0; i < histogram->quantiles; i++) {
        char name[32];
        snprintf(name, sizeof(name), "p%g", 100 * histogram->quantile[i]);
        json_object_set_new(object, name, json_measure(histogram, histogram->value[i]));
    }
}

struct printing {
    bool is_verbose;
    bool has_histograms; /* their heading is printed */
    char model[128];     /* printed last */
};

static void print_counter(void *context, const struct ssmc_counter *counter)
{
    struct printing *p = context;
    if (counter->model && strncmp(p->model, counter->model, sizeof(p->model) - 1) != 0) {
        snprintf(p->model, sizeof(p->model), "%s", counter->model);
        printf("\nmodel %s\n", counter->model);
    }
    printf("%-32s %14" PRIu64 "%s%s\n", counter->name, counter->value, p->is_verbose ? "  " : "",
           p->is_verbose ? counter->help : "");
}

/* Three digits and a unit of time, or the number. */
static void print_measure(const struct ssmc_histogram *histogram, uint64_t value)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    double shown = (double)value;
    size_t unit = 0;
    if (!histogram->is_nanoseconds) {
        printf(" %10" PRIu64, value);
        return;
    }
    while (shown >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        shown /= 1000;
        unit++;
    }
    printf(" %7.*f %2s", shown < 10 ? 2 : shown < 100 ? 1 : 0, shown, units[unit]);
}

static void print_histogram(void *context, const struct ssmc_histogram *histogram)
{
    struct printing *p = context;
    if (!p->has_histograms) {
        p->has_histograms = true;
        printf("\n%-16s %14s", "", "count");
        for (size_t i = 0; i < histogram->quantiles; i++) {
            char name[32];
            snprintf(name, sizeof(name), "p%g", 100 * histogram->quantile[i]);
            printf(" %10s", name);
        }
        printf(" %10s\n", "max");
    }
    printf("%-16s %14" PRIu64, histogram->name, histogram->count);
    for (size_t i = 0; i < histogram->quantiles; i++)
        print_measure(histogram, histogram->value[i]);
    print_measure(histogram, histogram->max);
    printf("%s%s\n", p->is_verbose ? "  " : "", p->is_verbose ? histogram->help : "");
}

int ctl_stats(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"verbose", no_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
    struct printing printing = {0};
    int o;
    while ((o = getopt_long(argc, argv, "v", options, NULL)) != -1) {
        if (o != 'v')
            return ctl_usage(ctl, "unknown option %s", argv[optind - 1]);
        printing.is_verbose = true;
    }
    if (optind < argc)
        return ctl_usage(ctl, "unexpected argument \"%s\"", argv[optind]);
    int rc = ctl_connect(ctl);
    if (rc != 0)
        return rc;
    json_t *object = ctl->is_json ? json_object() : NULL;
    rc = ssmc_stats(ctl->c, object ? add_counter : print_counter, object ? add_histogram : print_histogram,
                    object ? (void *)object : &printing, ctl->timeout_ms);
    if (rc != 0) {
        json_decref(object);
        return ctl_fail(ctl, rc, "stats");
    }
    return object ? ctl_print_json(object) : ctl_finish();
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static void add_model(void *context, const struct ssmc_model_info *m)
{
    json_array_append_new(
        context,
        json_pack("{s:s,s:b,s:s,s:i,s:b,s:f,s:f,s:i,s:i,s:i,s:i,s:i,s:I,s:f,s:i,s:i,s:i,s:I,s:i,s:f,s:f,s:I,s:I}",
                  "name", m->name, "template", m->is_template, "state", m->state, "streams", (int)m->streams, "tokens",
                  m->tokens, "rate", m->rate, "out_rate", m->out_rate, "channels", (int)m->channels, "out_channels",
                  (int)m->out_channels, "vocab", (int)m->vocab, "hop", (int)m->hop, "lookahead", (int)m->lookahead,
                  "state_bytes", (json_int_t)m->state_bytes, "config_rate", m->config_rate, "modes_zeroed",
                  (int)m->modes_zeroed, "version", (int)m->version, "newest_version", (int)m->newest_version,
                  "weight_bytes", (json_int_t)m->weight_bytes, "priority", (int)m->priority, "cost", m->cost, "load",
                  m->load, "deadline_misses", (json_int_t)m->deadline_misses, "queued_bytes",
                  (json_int_t)m->queued_bytes));
}

static void print_model(void *context, const struct ssmc_model_info *m)
{
    unsigned *count = context;
    if ((*count)++ == 0)
        printf("%-40s %-10s %7s %10s %3s %4s %10s %8s %6s %8s\n", "MODEL", "STATE", "STREAMS", "RATE", "IN", "OUT",
               "BYTES", "COST", "LOAD", "LATE");
    print_name(40, m->name, m->version, m->newest_version);
    printf("%-10s %7" PRIu32, m->is_template ? "template" : m->state, m->streams);
    if (m->channels > 0)
        printf(" %10.9g %3" PRIu32 " %4" PRIu32 " %10" PRIu64, m->rate, m->channels, m->out_channels, m->state_bytes);
    if (m->cost > 0) /* of the engine: for one stream, for those that are live */
        printf(" %7.3f%% %5.1f%% %8" PRIu64, m->cost * 100, m->load * 100, m->deadline_misses);
    if (m->config_rate != m->rate)
        printf("  for %.9g Hz, made for %.9g; %" PRIu32 " modes zeroed", m->rate, m->config_rate, m->modes_zeroed);
    printf("\n");
}

int ctl_models(struct ctl *ctl, int argc, char **argv)
{
    const char *surplus;
    if (take_argument(ctl, argc, argv, &surplus) != 0)
        return EX_USAGE;
    if (surplus)
        return ctl_usage(ctl, "unexpected argument \"%s\"", surplus);
    int rc = ctl_connect(ctl);
    if (rc != 0)
        return rc;
    json_t *array = ctl->is_json ? json_array() : NULL;
    unsigned count = 0;
    rc = ssmc_models(ctl->c, array ? add_model : print_model, array ? (void *)array : &count, ctl->timeout_ms);
    if (rc != 0) {
        json_decref(array);
        return ctl_fail(ctl, rc, "models");
    }
    return array ? ctl_print_json(array) : ctl_finish();
}

/* ---- reload ------------------------------------------------------------------------------------------------------ */

int ctl_reload(struct ctl *ctl, int argc, char **argv)
{
    const char *model;
    struct ssmc_reload r;
    if (take_argument(ctl, argc, argv, &model) != 0)
        return EX_USAGE;
    int rc = ctl_connect(ctl);
    if (rc != 0)
        return rc;
    rc = ssmc_reload(ctl->c, model, &r, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, model ? model : "reload");
    if (ctl->is_json)
        rc = ctl_print_json(json_pack("{s:i,s:i,s:i,s:s}", "unchanged", (int)r.unchanged, "added", (int)r.added,
                                      "failed", (int)r.failed, "failure", r.failure));
    else
        printf("%" PRIu32 " unchanged, %" PRIu32 " new versions, %" PRIu32 " failed\n", r.unchanged, r.added, r.failed);
    if (r.failed > 0) {
        ctl_say("%s", r.failure);
        return EX_CONFIG;
    }
    return rc ? rc : ctl_finish();
}

/* ---- ping -------------------------------------------------------------------------------------------------------- */

int ctl_ping(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {{"count", required_argument, NULL, 'n'}, {NULL, 0, NULL, 0}};
    uint64_t count = 5, ns, least = UINT64_MAX, most = 0;
    int o;
    while ((o = getopt_long(argc, argv, "n:", options, NULL)) != -1)
        if (o != 'n' || !ctl_parse_u64(optarg, 1, 1000000, &count))
            return ctl_usage(ctl, o == 'n' ? "--count is 1 to 1000000" : "unknown option %s", argv[optind - 1]);
    if (optind < argc)
        return ctl_usage(ctl, "unexpected argument \"%s\"", argv[optind]);
    int rc = ctl_connect(ctl);
    if (rc != 0)
        return rc;
    for (uint64_t i = 0; i < count; i++) {
        if ((rc = ssmc_ping(ctl->c, &ns, ctl->timeout_ms)) != 0)
            return ctl_fail(ctl, rc, "ping");
        least = ns < least ? ns : least;
        most = ns > most ? ns : most;
    }
    struct ssmc_daemon_info d;
    static const char *const durability[] = {"none", "snapshot", "journal"};
    ssmc_daemon_info(ctl->c, &d);
    const char *durable = d.durability >= 0 && d.durability < 3 ? durability[d.durability] : "?";
    if (ctl->is_json)
        return ctl_print_json(
            json_pack("{s:s,s:s,s:i,s:s,s:s,s:I,s:f,s:f}", "daemon", d.daemon, "durability", durable, "version",
                      (int)d.version, "tap", d.tap, "endpoint", ctl->endpoint ? ctl->endpoint : ssmc_default_endpoint(),
                      "count", (json_int_t)count, "min_ms", (double)least / 1e6, "max_ms", (double)most / 1e6));
    printf("%s, protocol %" PRIu32 ", durability %s: %.3f to %.3f ms\n", d.daemon, d.version, durable,
           (double)least / 1e6, (double)most / 1e6);
    return ctl_finish();
}
