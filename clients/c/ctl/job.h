/* SPDX-License-Identifier: Apache-2.0
 *
 * One run of `ssmctl stream`: what was asked for (job_options.c), and what is under way (stream.c begins and ends it,
 * job_run.c moves it).
 */
#ifndef SSMD_CLIENTS_C_CTL_JOB_H
#define SSMD_CLIENTS_C_CTL_JOB_H

#include "clients/c/ctl/ctl.h"
#include "clients/c/ctl/latency.h"
#include "clients/c/ctl/output.h"
#include "clients/c/ctl/progress.h"
#include "clients/c/ctl/source.h"

struct job_options {
    const char *input, *model, *id, *out, *deadline_class;
    struct signal_spec raw; /* channels and rate: 0 when not given */
    double chunk_ms, give_up_s;
    uint32_t top_k;
    bool is_realtime, is_backfill, has_native_rate, wants_resume, wants_take_over, keeps_open, is_quiet;
};

struct job {
    struct ctl *ctl;
    struct job_options options;
    struct source *source;
    struct output output;
    struct ssmc_stream *stream;
    struct ssmc_stream_info info; /* as opened */
    struct latency latency;
    struct progress progress;
    struct signal_error err;
    uint8_t *chunk; /* read and not pushed yet */
    size_t chunk_frames, chunk_max;
    uint64_t first, next;      /* of this run: first index, next index to push */
    uint64_t results;          /* frames taken in this run */
    int64_t start_ns, pace_ns; /* of the run; of index pace_index at the recording's own pace */
    uint64_t pace_index;
    int64_t away_ns; /* since when the daemon is away; 0 while it is there */
    uint32_t restarts;
    bool is_at_end, is_output_open, is_closed;
    bool is_gone; /* the daemon lost the stream, or another writer has it */
};

/* 0, or an exit code. */
int job_parse(const struct ctl *ctl, int argc, char **argv, struct job_options *out);
/* Sends the source and takes every result; an exit code, EXIT_INTERRUPTED after Ctrl-C with everything that came
 * written. */
int job_run(struct job *j);
/* Says what went wrong with a file; the exit code for it. */
int job_signal_fail(struct job *j, int status);
int64_t job_now_ns(void);

#endif
