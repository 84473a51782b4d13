/* SPDX-License-Identifier: Apache-2.0
 *
 * `ssmctl read`: results of other writers' streams, every one, or it says which were lost.
 */
#include "clients/c/ctl/ctl.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "clients/c/ctl/output.h"

enum { WAIT_MS = 100 };

struct reading {
    struct ctl *ctl;
    const char *id, *out;
    uint64_t from, count;
    bool is_prefix, has_count, is_csv;
    struct ssmc_stream **streams;
    size_t n, capacity;
    uint64_t taken;
    struct output output;
    bool is_output_open;
    struct signal_error err;
};

static int parse(const struct ctl *ctl, int argc, char **argv, struct reading *r)
{
    static const struct option options[] = {
        {"from", required_argument, NULL, 'f'},  {"prefix", no_argument, NULL, 'p'},
        {"count", required_argument, NULL, 'n'}, {"out", required_argument, NULL, 'o'},
        {"csv", no_argument, NULL, 'c'},         {NULL, 0, NULL, 0},
    };
    int o;
    r->from = SSMC_OLDEST;
    while ((o = getopt_long(argc, argv, "pn:o:", options, NULL)) != -1) {
        if (o == 'f' && !ctl_parse_u64(optarg, 0, INT64_MAX, &r->from))
            return ctl_usage(ctl, "--from is an output index");
        if (o == 'n' && !ctl_parse_u64(optarg, 0, INT64_MAX, &r->count))
            return ctl_usage(ctl, "--count is a number of results");
        if (o == '?')
            return ctl_usage(ctl, "unknown option, or a value is missing: %s", argv[optind - 1]);
        r->is_prefix |= o == 'p';
        r->has_count |= o == 'n';
        r->is_csv |= o == 'c';
        if (o == 'o')
            r->out = optarg;
    }
    if (optind != argc - 1 && !(r->is_prefix && optind == argc))
        return ctl_usage(ctl, "the id of one stream is needed, or a prefix with --prefix");
    r->id = optind < argc ? argv[optind] : "";
    if (r->out && (r->is_prefix || r->is_csv || ctl->is_json))
        return ctl_usage(ctl, "--out takes one stream, without --prefix, --csv or --json");
    return 0;
}

static void on_found(void *context, struct ssmc_stream *stream)
{
    struct reading *r = context;
    if (r->n == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 16;
        struct ssmc_stream **streams = realloc(r->streams, capacity * sizeof(struct ssmc_stream *));
        if (!streams) {
            ssmc_stream_free(stream);
            return;
        }
        r->streams = streams;
        r->capacity = capacity;
    }
    r->streams[r->n++] = stream;
}

/* Value i of the result: of pairs the token, then its log-probability. */
static double value_of(const struct ssmc_result *result, size_t i)
{
    if (!result->pairs)
        return (double)result->samples[i];
    return i % 2 == 0 ? (double)result->pairs[i / 2].token : (double)result->pairs[i / 2].logprob;
}

static int print_json(const struct ssmc_stream_info *info, const struct ssmc_result *result, uint32_t frames)
{
    json_t *rows = json_array();
    for (uint32_t t = 0; t < frames; t++) {
        json_t *row = json_array();
        for (uint32_t c = 0; c < result->channels; c++) {
            double value = value_of(result, (size_t)t * result->channels + c);
            json_array_append_new(row, result->pairs && c % 2 == 0 ? json_integer((json_int_t)value)
                                       : isfinite(value)           ? json_real(value)
                                                                   : json_null());
        }
        json_array_append_new(rows, row);
    }
    json_t *o = json_pack("{s:o,s:I,s:I,s:I,s:o}", "id", ctl_json_bytes(info->id, info->id_size), "epoch",
                          (json_int_t)result->epoch, "first", (json_int_t)result->first, "lost",
                          (json_int_t)result->lost, "results", rows);
    return ctl_print_json(o);
}

static int print_text(const struct reading *r, const struct ssmc_stream_info *info, const struct ssmc_result *result,
                      uint32_t frames)
{
    const char between = r->is_csv ? ',' : ' ';
    for (uint32_t t = 0; t < frames; t++) {
        printf("%s%c%" PRIu64, info->id, between, result->first + t);
        for (uint32_t c = 0; c < result->channels; c++)
            printf("%c%.9g", between, value_of(result, (size_t)t * result->channels + c));
        putchar('\n');
    }
    return ctl_finish();
}

static int signal_fail(struct reading *r, int status)
{
    ctl_say("%s", r->err.text);
    return status == SIGNAL_CANTCREAT ? EX_CANTCREAT : status == SIGNAL_USAGE ? EX_USAGE : EX_IOERR;
}

static int write_file(struct reading *r, const struct ssmc_stream_info *info, const struct ssmc_result *result,
                      uint32_t frames)
{
    int rc = 0;
    if (!r->is_output_open) {
        struct signal_spec spec = {.channels = info->out_channels, .rate = info->out_rate};
        rc = output_open(&r->output, r->out, &spec, 0, result->first, &r->err);
        r->is_output_open = rc == 0;
    }
    if (rc == 0 && result->first != r->output.next) {
        ctl_say("%s: results %" PRIu64 " to %" PRIu64 " are missing; %s is not complete", info->id, r->output.next,
                result->first, r->out);
        return EX_IOERR;
    }
    if (rc == 0)
        rc = output_write(&r->output, result, frames, &r->err);
    return rc == 0 ? 0 : signal_fail(r, rc);
}

static bool is_enough(const struct reading *r)
{
    return r->has_count && r->count > 0 && r->taken >= r->count;
}

static int take_one(struct reading *r, struct ssmc_stream *stream, const struct ssmc_result *result)
{
    struct ssmc_stream_info info;
    uint32_t frames = result->frames;
    ssmc_stream_info(stream, &info);
    if (r->has_count && r->count > 0 && r->count - r->taken < frames)
        frames = (uint32_t)(r->count - r->taken);
    r->taken += frames;
    if (result->lost > 0)
        ctl_say("%s: %" PRIu64 " results before %" PRIu64 " were lost", info.id, result->lost, result->first);
    if (r->out)
        return write_file(r, &info, result, frames);
    return r->ctl->is_json ? print_json(&info, result, frames) : print_text(r, &info, result, frames);
}

/* Everything that has come; streams that ended leave. 0, or an exit code. */
static int take_all(struct reading *r)
{
    struct ssmc_result result;
    for (size_t i = 0; i < r->n;) {
        int rc = 0;
        while (!is_enough(r) && (rc = ssmc_next(r->streams[i], &result)) == 1) {
            int code = take_one(r, r->streams[i], &result);
            if (code != 0)
                return code;
        }
        if (is_enough(r))
            return 0;
        if (rc < 0 && rc != SSMC_ENDED)
            return ctl_fail(r->ctl, rc, r->id);
        if (rc == SSMC_ENDED) {
            struct ssmc_stream_info info;
            ssmc_stream_info(r->streams[i], &info);
            if (!r->is_prefix && info.ended[0])
                return ctl_fail(r->ctl, rc, r->id);
            ssmc_stream_free(r->streams[i]);
            r->streams[i] = r->streams[--r->n];
        } else {
            i++;
        }
    }
    return 0;
}

static int read_until_end(struct reading *r)
{
    bool had_any = false;
    while (!ctl_is_interrupted) {
        int rc = ssmc_poll(r->ctl->c, WAIT_MS);
        if (rc == SSMC_INTERRUPTED)
            break;
        if (rc < 0)
            return ctl_fail(r->ctl, rc, r->id);
        had_any |= r->n > 0;
        int code = take_all(r);
        if (code != 0)
            return code;
        if (is_enough(r) || (r->has_count && r->count == 0 && rc == 0) || (had_any && r->n == 0 && !r->is_prefix))
            return 0;
    }
    return r->has_count ? EXIT_INTERRUPTED : 0;
}

int ctl_read(struct ctl *ctl, int argc, char **argv)
{
    struct reading r = {.ctl = ctl};
    int rc = parse(ctl, argc, argv, &r);
    if (rc != 0 || (rc = ctl_connect(ctl)) != 0)
        return rc;
    rc = ssmc_read(ctl->c, r.id, strlen(r.id), r.is_prefix, r.from, on_found, &r, ctl->timeout_ms);
    rc = rc == 0 ? read_until_end(&r) : ctl_fail(ctl, rc, r.id);
    for (size_t i = 0; i < r.n; i++)
        ssmc_stream_free(r.streams[i]);
    free(r.streams);
    if (r.is_output_open && output_close(&r.output, &r.err) != 0 && rc == 0)
        rc = signal_fail(&r, SIGNAL_IO);
    return rc;
}
