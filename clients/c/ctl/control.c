/* SPDX-License-Identifier: Apache-2.0
 *
 * open, close, reset and move. The last three need a handle, which only open gives: so they resume the stream first, and
 * take it over when no client is connected to it, or when told to.
 */
#include "clients/c/ctl/ctl.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "clients/c/ctl/attach.h"

static int print_result(const struct ctl *ctl, const char *done, const struct ssmc_stream_info *info)
{
    if (ctl->is_json)
        return ctl_print_json(ctl_json_stream(info));
    printf("%s %s (epoch %llu, next frame %llu)\n", info->id, done, (unsigned long long)info->epoch,
           (unsigned long long)info->next);
    return ctl_finish();
}

static const struct option open_options[] = {
    {"model", required_argument, NULL, 'm'},    {"rate", required_argument, NULL, 'r'},
    {"channels", required_argument, NULL, 'c'}, {"create", no_argument, NULL, 'C'},
    {"resume", no_argument, NULL, 'R'},         {"take-over", no_argument, NULL, 'T'},
    {"history", required_argument, NULL, 'H'},  {"native-rate", no_argument, NULL, 'N'},
    {"class", required_argument, NULL, 'L'},    {NULL, 0, NULL, 0},
};

/* "INTERVAL:DEPTH" */
static bool parse_history(const char *text, struct ssmc_open_options *out)
{
    char word[24];
    uint64_t interval, depth;
    const char *colon = strchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof word)
        return false;
    memcpy(word, text, (size_t)(colon - text));
    word[colon - text] = '\0';
    if (!ctl_parse_u64(word, 64, UINT32_MAX, &interval) || !ctl_parse_u64(colon + 1, 1, UINT32_MAX, &depth))
        return false;
    out->history_interval = (uint32_t)interval;
    out->history_depth = (uint32_t)depth;
    return interval % 64 == 0;
}

static int parse_open(const struct ctl *ctl, int argc, char **argv, struct ssmc_open_options *out)
{
    uint64_t channels = 0;
    int o;
    while ((o = getopt_long(argc, argv, "m:", open_options, NULL)) != -1) {
        switch (o) {
        case 'm':
            out->model = optarg;
            break;
        case 'r':
            if (!ctl_parse_double(optarg, 1e-6, 1e9, &out->rate))
                return ctl_usage(ctl, "--rate is a positive number of Hz");
            break;
        case 'c':
            if (!ctl_parse_u64(optarg, 1, 65536, &channels))
                return ctl_usage(ctl, "--channels is 1 to 65536");
            break;
        case 'C':
            out->mode = SSMC_CREATE;
            break;
        case 'R':
            out->mode = SSMC_RESUME;
            break;
        case 'T':
            out->take_over = 1;
            break;
        case 'N':
            out->native_rate = 1;
            break;
        case 'L':
            out->deadline_class = optarg;
            break;
        case 'H':
            if (!parse_history(optarg, out))
                return ctl_usage(ctl, "--history is INTERVAL:DEPTH in frames, the interval a multiple of 64");
            break;
        default:
            return ctl_usage(ctl, "unknown option, or a value is missing: %s", argv[optind - 1]);
        }
    }
    out->channels = (uint32_t)channels;
    if (optind != argc - 1)
        return ctl_usage(ctl, "the id of one stream is needed");
    out->id = argv[optind];
    return out->model ? 0 : ctl_usage(ctl, "--model is missing");
}

int ctl_open(struct ctl *ctl, int argc, char **argv)
{
    struct ssmc_open_options options = {0};
    struct ssmc_stream *stream;
    struct ssmc_stream_info info;
    int rc = parse_open(ctl, argc, argv, &options);
    if (rc != 0 || (rc = ctl_connect(ctl)) != 0)
        return rc;
    rc = ssmc_open(ctl->c, &stream, &options, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, options.id);
    ssmc_stream_info(stream, &info);
    ssmc_stream_free(stream);
    return print_result(ctl, info.created ? "is open" : "was there", &info);
}

/* The stream that close and reset are about, opened; or an exit code. */
static int resume_named(struct ctl *ctl, int argc, char **argv, struct ssmc_stream **out)
{
    static const struct option options[] = {{"take-over", no_argument, NULL, 'T'}, {NULL, 0, NULL, 0}};
    struct ssmc_open_options open = {.mode = SSMC_RESUME};
    int o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (o != 'T')
            return ctl_usage(ctl, "unknown option %s", argv[optind - 1]);
        open.take_over = 1;
    }
    if (optind != argc - 1)
        return ctl_usage(ctl, "the id of one stream is needed");
    open.id = argv[optind];
    return attach_named(ctl, out, &open);
}

int ctl_close(struct ctl *ctl, int argc, char **argv)
{
    struct ssmc_stream *stream;
    struct ssmc_stream_info info;
    int rc = resume_named(ctl, argc, argv, &stream);
    if (rc != 0)
        return rc;
    rc = ssmc_close(stream, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, argv[optind]);
    ssmc_stream_info(stream, &info);
    return print_result(ctl, "is closed", &info);
}

int ctl_reset(struct ctl *ctl, int argc, char **argv)
{
    struct ssmc_stream *stream;
    struct ssmc_stream_info info;
    int rc = resume_named(ctl, argc, argv, &stream);
    if (rc != 0)
        return rc;
    rc = ssmc_reset(stream, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, argv[optind]);
    ssmc_stream_info(stream, &info);
    return print_result(ctl, "begins again", &info);
}

int ctl_move(struct ctl *ctl, int argc, char **argv)
{
    struct ssmc_stream *stream;
    struct ssmc_stream_info before, info;
    char done[64];
    int rc = resume_named(ctl, argc, argv, &stream);
    if (rc != 0)
        return rc;
    ssmc_stream_info(stream, &before);
    rc = ssmc_move(stream, ctl->timeout_ms);
    if (rc != 0)
        return ctl_fail(ctl, rc, argv[optind]);
    ssmc_stream_info(stream, &info);
    if (info.version == before.version)
        snprintf(done, sizeof done, "has the newest version already");
    else
        snprintf(done, sizeof done, "begins again with version %u", info.version);
    return print_result(ctl, done, &info);
}
