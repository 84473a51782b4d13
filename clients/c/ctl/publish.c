/* SPDX-License-Identifier: Apache-2.0
 *
 * `ssmctl publish`: a recording or standard input to a daemon that answers nothing. At the recording's own pace, since
 * nobody says when it is too fast.
 */
#include "clients/c/ctl/ctl.h"

#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "clients/c/ctl/source.h"

enum { TO = 256, FIRST, CHUNK_MS, FORMAT, RATE, CHANNELS, BACKFILL, FAST, WAIT_MS = 200, LINGER_MS = 5000 };

struct publishing {
    struct ctl *ctl;
    const char *id, *to, *input;
    struct signal_spec raw;
    double chunk_ms;
    bool is_fast, is_backfill;
    uint64_t begin; /* index of the first frame */
    struct source *source;
    struct ssmc_publisher *publisher;
    struct ssmc_frames frames;
    uint64_t sent, dropped;
    struct signal_error err;
};

static const struct option options[] = {
    {"stream", required_argument, NULL, 's'},
    {"to", required_argument, NULL, TO},
    {"first", required_argument, NULL, FIRST},
    {"chunk-ms", required_argument, NULL, CHUNK_MS},
    {"format", required_argument, NULL, FORMAT},
    {"rate", required_argument, NULL, RATE},
    {"channels", required_argument, NULL, CHANNELS},
    {"backfill", no_argument, NULL, BACKFILL},
    {"fast", no_argument, NULL, FAST},
    {NULL, 0, NULL, 0},
};

static int take_option(struct publishing *p, int option)
{
    const struct ctl *ctl = p->ctl;
    uint64_t channels;
    switch (option) {
    case 's':
        p->id = optarg;
        return 0;
    case TO:
        p->to = optarg;
        return 0;
    case BACKFILL:
        p->is_backfill = true;
        return 0;
    case FAST:
        p->is_fast = true;
        return 0;
    case FIRST:
        return ctl_parse_u64(optarg, 0, INT64_MAX, &p->begin) ? 0 : ctl_usage(ctl, "--first is an index");
    case CHUNK_MS:
        return ctl_parse_double(optarg, 0.01, 60000, &p->chunk_ms)
                   ? 0
                   : ctl_usage(ctl, "--chunk-ms is a number of milliseconds, 0.01 to 60000");
    case RATE:
        return ctl_parse_double(optarg, 1e-6, 1e9, &p->raw.rate) ? 0
                                                                 : ctl_usage(ctl, "--rate is a positive number of Hz");
    case CHANNELS:
        if (!ctl_parse_u64(optarg, 1, 65536, &channels))
            return ctl_usage(ctl, "--channels is 1 to 65536");
        p->raw.channels = (uint32_t)channels;
        return 0;
    case FORMAT:
        p->raw.format = signal_format_find(optarg);
        return p->raw.format != SIGNAL_AUTO
                   ? 0
                   : ctl_usage(ctl, "--format is one of f32 f64 s16 s32 i32, not \"%s\"", optarg);
    default:
        return -1;
    }
}

static int parse(struct publishing *p, int argc, char **argv)
{
    int o, rc;
    while ((o = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
        if (o == '?')
            return ctl_usage(p->ctl, "unknown option, or a value is missing: %s", argv[optind - 1]);
        if ((rc = take_option(p, o)) != 0)
            return rc;
    }
    if (optind != argc - 1)
        return ctl_usage(p->ctl, "one file is needed, or - for standard input");
    p->input = argv[optind];
    return p->id && *p->id ? 0 : ctl_usage(p->ctl, "--stream is missing");
}

static int signal_fail(const struct publishing *p, int status)
{
    ctl_say("%s", p->err.text);
    return status == SIGNAL_NOINPUT ? EX_NOINPUT : status == SIGNAL_DATA ? EX_DATAERR : EX_IOERR;
}

static int open_publisher(struct publishing *p)
{
    char endpoint[512], err[600];
    struct ssmc_publisher_options how = {.endpoint = p->to ? p->to : endpoint, .timeout_ms = p->ctl->timeout_ms};
    if (!p->to && ssmc_publish_endpoint(endpoint, sizeof endpoint, p->ctl->endpoint) != SSMC_OK)
        return ctl_usage(p->ctl, "--to is needed: where publishers connect cannot be told from the daemon's endpoint");
    if (ssmc_publisher_open(&p->publisher, &how, err, sizeof err) == SSMC_OK)
        return 0;
    ctl_say("%s", err);
    return EX_UNAVAILABLE;
}

static int begin(struct publishing *p)
{
    const struct signal_spec *spec;
    int rc;
    if (p->raw.channels == 0)
        p->raw.channels = 1;
    if ((rc = source_open(&p->source, p->input, &p->raw, &p->err)) != 0)
        return signal_fail(p, rc);
    spec = source_spec(p->source);
    if (spec->rate == 0 && !p->is_fast)
        return ctl_usage(p->ctl, "--rate is needed for the pace, or --fast");
    p->frames.channels = spec->format == SIGNAL_TOKENS ? 1 : spec->channels;
    p->frames.format = spec->format == SIGNAL_TOKENS ? SSMC_I32 : SSMC_F32;
    p->frames.rate = spec->format == SIGNAL_TOKENS ? 0 : spec->rate;
    p->frames.flags = p->is_backfill ? SSMC_BACKFILL : 0;
    return open_publisher(p);
}

/* Until `due`, or Ctrl-C. */
static void wait_until(const struct timespec *due)
{
    while (!ctl_is_interrupted && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, due, NULL) != 0)
        continue;
}

/* When frame `frame` of the recording has been recorded, if it began at `start`. */
static struct timespec due_at(const struct timespec *start, uint64_t frame, double rate)
{
    double seconds = (double)frame / rate, whole = floor(seconds);
    struct timespec due = {start->tv_sec + (time_t)whole, start->tv_nsec + (long)((seconds - whole) * 1e9)};
    if (due.tv_nsec >= 1000000000) {
        due.tv_sec++;
        due.tv_nsec -= 1000000000;
    }
    return due;
}

/* Waits for standard input in slices, so that Ctrl-C is heard. */
static void wait_for_input(const struct publishing *p)
{
    struct pollfd item = {.fd = source_fd(p->source), .events = POLLIN};
    while (!ctl_is_interrupted && item.fd >= 0 && !source_is_ready(p->source) && poll(&item, 1, WAIT_MS) == 0)
        continue;
}

static int run(struct publishing *p, float *chunk, size_t most)
{
    struct timespec start;
    size_t got;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (uint64_t at = 0;; at += got) {
        wait_for_input(p);
        if (ctl_is_interrupted)
            return EXIT_INTERRUPTED;
        int rc = source_read(p->source, chunk, most, &got, &p->err);
        if (rc != 0)
            return signal_fail(p, rc);
        if (got == 0)
            return 0;
        if (!p->is_fast) {
            struct timespec due = due_at(&start, at + got, source_spec(p->source)->rate);
            wait_until(&due);
        }
        p->frames.samples = chunk;
        p->frames.first = p->begin + at;
        p->frames.frames = (uint32_t)got;
        rc = ssmc_publish(p->publisher, p->id, 0, &p->frames);
        if (rc != SSMC_OK && rc != SSMC_FULL && rc != SSMC_IO)
            return ctl_fail(p->ctl, rc, p->id);
        if (rc != SSMC_OK && p->dropped == 0)
            ctl_say("the daemon %s: frames are dropped, and are a gap",
                    rc == SSMC_FULL ? "does not keep up" : "is away");
        *(rc == SSMC_OK ? &p->sent : &p->dropped) += got;
    }
}

static int report(const struct publishing *p)
{
    if (p->ctl->is_json)
        return ctl_print_json(json_pack("{s:s,s:I,s:I,s:I}", "stream", p->id, "first", (json_int_t)p->begin,
                                        "published", (json_int_t)p->sent, "dropped", (json_int_t)p->dropped));
    printf("%s: %" PRIu64 " frames published, %" PRIu64 " dropped here\n", p->id, p->sent, p->dropped);
    return ctl_finish();
}

int ctl_publish(struct ctl *ctl, int argc, char **argv)
{
    struct publishing p = {.ctl = ctl, .chunk_ms = 10};
    float *chunk = NULL;
    int rc = parse(&p, argc, argv);
    if (rc == 0 && (rc = begin(&p)) == 0) {
        double rate = source_spec(p.source)->rate, frames = p.chunk_ms / 1000 * (rate > 0 ? rate : 1000);
        size_t most = frames < 1 ? 1 : frames > 65536 ? 65536 : (size_t)llround(frames);
        chunk = malloc(most * p.frames.channels * sizeof *chunk);
        rc = chunk ? run(&p, chunk, most) : EX_OSERR;
        if (rc == 0 || rc == EXIT_INTERRUPTED) {
            int status = report(&p);
            rc = status != 0 ? status : rc;
        }
    }
    free(chunk);
    ssmc_publisher_free(p.publisher, LINGER_MS);
    source_close(p.source);
    return rc;
}
