/* SPDX-License-Identifier: Apache-2.0
 *
 * The options of `ssmctl stream`.
 */
#include "clients/c/ctl/job.h"

#include <string.h>
#include <sysexits.h>

enum {
    REALTIME = 256,
    CHUNK_MS,
    FORMAT,
    RATE,
    CHANNELS,
    BACKFILL,
    RESUME,
    TAKE_OVER,
    KEEP,
    CLOSE,
    GIVE_UP,
    TOP_K,
    CLASS,
    NATIVE_RATE
};

static const struct option options[] = {
    {"model", required_argument, NULL, 'm'},
    {"stream", required_argument, NULL, 's'},
    {"out", required_argument, NULL, 'o'},
    {"realtime", no_argument, NULL, REALTIME},
    {"chunk-ms", required_argument, NULL, CHUNK_MS},
    {"format", required_argument, NULL, FORMAT},
    {"rate", required_argument, NULL, RATE},
    {"channels", required_argument, NULL, CHANNELS},
    {"native-rate", no_argument, NULL, NATIVE_RATE},
    {"backfill", no_argument, NULL, BACKFILL},
    {"resume", no_argument, NULL, RESUME},
    {"take-over", no_argument, NULL, TAKE_OVER},
    {"keep", no_argument, NULL, KEEP},
    {"close", no_argument, NULL, CLOSE},
    {"give-up", required_argument, NULL, GIVE_UP},
    {"top-k", required_argument, NULL, TOP_K},
    {"class", required_argument, NULL, CLASS},
    {"quiet", no_argument, NULL, 'q'},
    {NULL, 0, NULL, 0},
};

/* Options with a number or a word that must be one of few. */
static int take_value(const struct ctl *ctl, int option, const char *value, struct job_options *out)
{
    uint64_t channels, top_k;
    switch (option) {
    case CHUNK_MS:
        if (!ctl_parse_double(value, 0.01, 60000, &out->chunk_ms))
            return ctl_usage(ctl, "--chunk-ms is a number of milliseconds, 0.01 to 60000");
        return 0;
    case RATE:
        if (!ctl_parse_double(value, 1e-6, 1e9, &out->raw.rate))
            return ctl_usage(ctl, "--rate is a positive number of Hz");
        return 0;
    case GIVE_UP:
        if (!ctl_parse_double(value, 0, 1e9, &out->give_up_s))
            return ctl_usage(ctl, "--give-up is a number of seconds");
        return 0;
    case TOP_K:
        if (!ctl_parse_u64(value, 1, 1024, &top_k))
            return ctl_usage(ctl, "--top-k is 1 to 1024");
        out->top_k = (uint32_t)top_k;
        return 0;
    case CHANNELS:
        if (!ctl_parse_u64(value, 1, 65536, &channels))
            return ctl_usage(ctl, "--channels is 1 to 65536");
        out->raw.channels = (uint32_t)channels;
        return 0;
    default:
        out->raw.format = signal_format_find(value);
        if (out->raw.format == SIGNAL_AUTO)
            return ctl_usage(ctl, "--format is one of f32 f64 s16 s32 i32, not \"%s\"", value);
        return 0;
    }
}

static int take_option(const struct ctl *ctl, int option, char **argv, struct job_options *out)
{
    switch (option) {
    case 'm':
        out->model = optarg;
        return 0;
    case 's':
        out->id = optarg;
        return 0;
    case 'o':
        out->out = optarg;
        return 0;
    case CLASS:
        out->deadline_class = optarg;
        return 0;
    case NATIVE_RATE:
        out->has_native_rate = true;
        return 0;
    case REALTIME:
        out->is_realtime = true;
        return 0;
    case BACKFILL:
        out->is_backfill = true;
        return 0;
    case RESUME:
        out->wants_resume = true;
        return 0;
    case TAKE_OVER:
        out->wants_take_over = true;
        return 0;
    case KEEP:
        out->keeps_open = true;
        return 0;
    case CLOSE:
        out->keeps_open = false;
        return 0;
    case 'q':
        out->is_quiet = true;
        return 0;
    case '?':
    case ':':
        return ctl_usage(ctl, "unknown option, or a value is missing: %s", argv[optind - 1]);
    default:
        return take_value(ctl, option, optarg, out);
    }
}

static int check(const struct ctl *ctl, const struct job_options *o)
{
    if (!o->model)
        return ctl_usage(ctl, "--model is missing: 'ssmctl models' lists them");
    if (!o->id)
        return ctl_usage(ctl, "--stream is missing: a name for the stream");
    if (!o->out)
        return ctl_usage(ctl, "--out is missing: the file for the results, or - for standard output");
    if (strlen(o->id) < 1 || strlen(o->id) > 64)
        return ctl_usage(ctl, "--stream: an id has 1 to 64 bytes");
    if (strcmp(o->out, "-") != 0 && signal_is_same_file(o->input, o->out))
        return ctl_usage(ctl, "%s would be overwritten by its own results", o->input);
    if (o->is_realtime && o->is_backfill)
        return ctl_usage(ctl, "--backfill is for old data, --realtime for new");
    return 0;
}

int job_parse(const struct ctl *ctl, int argc, char **argv, struct job_options *out)
{
    int o, rc;
    *out = (struct job_options){.chunk_ms = 10, .give_up_s = 60};
    while ((o = getopt_long(argc, argv, "m:s:o:q", options, NULL)) != -1)
        if ((rc = take_option(ctl, o, argv, out)) != 0)
            return rc;
    if (optind >= argc)
        return ctl_usage(ctl, "the file to stream is missing; - is standard input");
    if (optind + 1 < argc)
        return ctl_usage(ctl, "unexpected argument \"%s\"", argv[optind + 1]);
    out->input = argv[optind];
    return check(ctl, out);
}
