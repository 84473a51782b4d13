/* SPDX-License-Identifier: Apache-2.0
 *
 * `ssmctl stream`: the beginning (source, stream, rate, output) and the end (report) of a run.
 */
#include "clients/c/ctl/job.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "clients/c/ctl/attach.h"
#include "proto/codec.h"

/* ---- the stream -------------------------------------------------------------------------------------------------- */

/* Opens the stream; on a refusal of the rate, at the model's own, unless the recording shall not be resampled. */
static int open_stream(struct job *j, uint64_t results_from)
{
    const struct job_options *o = &j->options;
    const struct signal_spec *spec = source_spec(j->source);
    struct ssmc_open_options open = {
        .id = o->id,
        .model = o->model,
        .rate = spec->format == SIGNAL_TOKENS ? 0 : spec->rate,
        .native_rate = o->has_native_rate,
        .channels = spec->channels,
        .mode = o->wants_resume ? SSMC_ANY : SSMC_CREATE,
        .take_over = o->wants_take_over,
        .results = 1,
        .results_from = results_from,
        .top_k = o->top_k,
        .deadline_class = o->deadline_class,
        .restart_lost = !source_is_pipe(j->source),
    };
    int rc = attach_open(j->ctl, &j->stream, &open);
    if (rc == SSMC_REFUSED && ssmc_error_code(j->ctl->c) == SSMD__CODE__RATE && open.rate > 0 && !o->has_native_rate) {
        open.rate = 0;
        rc = attach_open(j->ctl, &j->stream, &open);
    }
    if (rc != 0 && rc == SSMC_REFUSED && ssmc_error_code(j->ctl->c) == SSMD__CODE__EXISTS && !o->wants_resume) {
        ctl_say("stream %s exists: --resume goes on where it stands, or choose another --stream", o->id);
        return EX_CANTCREAT;
    }
    if (rc == SSMC_REFUSED && ssmc_error_code(j->ctl->c) == SSMD__CODE__NO_MODEL)
        return ctl_fail(j->ctl, rc, o->model);
    if (rc != 0)
        return ctl_fail(j->ctl, rc, o->id);
    ssmc_stream_info(j->stream, &j->info);
    if (j->info.modes_zeroed > 0)
        ctl_say("at %.9g Hz %" PRIu32 " modes of %s lie above half the rate and contribute nothing", j->info.rate,
                j->info.modes_zeroed, o->model);
    return 0;
}

/* What the user says of a sound file must be so: a mistake in the rate would not be seen in the results. */
static int check_said(const struct job *j)
{
    const struct signal_spec *spec = source_spec(j->source), *said = &j->options.raw;
    if (spec->format != SIGNAL_SOUND)
        return 0;
    if (said->rate > 0 && said->rate != spec->rate)
        return ctl_usage(j->ctl, "%s has %.9g Hz, and --rate says %.9g: leave it out", j->options.input, spec->rate,
                         said->rate);
    if (said->channels > 0 && said->channels != spec->channels)
        return ctl_usage(j->ctl, "%s has %" PRIu32 " channels, and --channels says %" PRIu32 ": leave it out",
                         j->options.input, spec->channels, said->channels);
    return 0;
}

static bool is_token_file(const struct job *j)
{
    return source_spec(j->source)->format == SIGNAL_TOKENS;
}

/* Makes the source fit what the stream takes. */
static int fit_source(struct job *j)
{
    const struct signal_spec *spec = source_spec(j->source);
    if (j->info.tokens != is_token_file(j)) {
        ctl_say("%s: the model takes %s", j->options.input,
                j->info.tokens ? "tokens (.i32, or --format i32)" : "a signal, not tokens");
        return EX_DATAERR;
    }
    if (j->info.tokens || spec->rate == 0)
        return 0;
    if (fabs(spec->rate - j->info.rate) > 1e-6 * j->info.rate)
        ctl_say("resampling %s from %.9g to %.9g Hz, the model's rate", j->options.input, spec->rate, j->info.rate);
    int rc = source_set_rate(j->source, j->info.rate, &j->err);
    return rc == 0 ? 0 : job_signal_fail(j, rc);
}

/* Takes the input to where the stream stands. Standard input goes on from wherever it is. */
static int go_to_next(struct job *j)
{
    j->first = j->next = j->info.next;
    if (j->info.created && j->options.wants_resume)
        ctl_say("there is no stream %s: it begins", j->options.id);
    if (j->next == 0 || source_is_pipe(j->source))
        return 0;
    ctl_say("stream %s goes on at frame %" PRIu64, j->options.id, j->next);
    int rc = source_seek(j->source, j->next, &j->err);
    return rc == 0 ? 0 : job_signal_fail(j, rc);
}

/* ---- the output -------------------------------------------------------------------------------------------------- */

/* Where the results that this run needs begin: behind what an earlier run left in the output file, at 0 when nothing
 * was left and the daemon still has all. The stream is only looked at. */
static int find_earlier(struct job *j, uint64_t *from)
{
    struct ssmc_stream_info info;
    uint64_t frames;
    *from = SSMC_OLDEST;
    if (!j->options.wants_resume)
        return 0;
    int rc = ssmc_info(j->ctl->c, j->options.id, 0, &info, j->ctl->timeout_ms);
    if (rc == SSMC_REFUSED && ssmc_error_code(j->ctl->c) == SSMD__CODE__NO_STREAM)
        return 0;
    if (rc != 0)
        return ctl_fail(j->ctl, rc, j->options.id);
    if (strcmp(j->options.out, "-") == 0)
        return 0; /* whoever reads it knows what it has */
    struct signal_spec spec = {.channels = info.out_channels, .rate = info.out_rate};
    rc = output_earlier(j->options.out, &spec, &frames, &j->err);
    if (rc != 0)
        return job_signal_fail(j, rc);
    if (frames > info.result_next) {
        ctl_say("%s holds %" PRIu64 " results, the stream has computed %" PRIu64 ": it is not this stream's output",
                j->options.out, frames, info.result_next);
        return EX_DATAERR;
    }
    if (frames < info.result_first) {
        ctl_say("%s holds %" PRIu64 " results and the daemon keeps those from %" PRIu64
                " on: the output would lack some. "
                "Give the file that an earlier run wrote, or - for what comes from here; or `ssmctl close %s` and "
                "begin again",
                j->options.out, frames, info.result_first, j->options.id);
        return EX_DATAERR;
    }
    *from = frames;
    return 0;
}

static int open_output(struct job *j, uint64_t from)
{
    struct signal_spec spec = {.channels = j->info.out_channels, .rate = j->info.out_rate};
    uint64_t first = j->info.created ? 0 : from;
    if (first == SSMC_OLDEST)
        return 0; /* the first result says where it begins */
    int rc = output_open(&j->output, j->options.out, &spec, first, first, &j->err);
    if (rc != 0)
        return job_signal_fail(j, rc);
    j->is_output_open = true;
    return 0;
}

static int make_chunk(struct job *j)
{
    double frames = j->options.chunk_ms / 1000 * (j->info.rate > 0 ? j->info.rate : 1000);
    uint64_t room = ssmc_room(j->stream);
    j->chunk_max = frames < 1 ? 1 : frames > 65536 ? 65536 : (size_t)llround(frames);
    if (room > 0 && j->chunk_max > room)
        j->chunk_max = (size_t)room;
    j->chunk = malloc(j->chunk_max * j->info.channels * 4);
    if (j->chunk)
        return 0;
    ctl_say("out of memory");
    return EX_OSERR;
}

/* ---- the report -------------------------------------------------------------------------------------------------- */

static int report(const struct job *j)
{
    struct ssmc_daemon_info daemon;
    ssmc_daemon_info(j->ctl->c, &daemon);
    uint64_t frames = j->next - j->first;
    double seconds = j->info.rate > 0 ? (double)frames / j->info.rate : 0;
    double elapsed = (double)(job_now_ns() - j->start_ns) / 1e9;
    double p50 = latency_quantile_ms(&j->latency, 0.5), p99 = latency_quantile_ms(&j->latency, 0.99);
    double ahead_ms = j->info.rate > 0 ? 1000 * (double)j->info.lookahead / j->info.rate : 0;
    double factor = elapsed > 0 ? seconds / elapsed : 0;
    FILE *to = strcmp(j->options.out, "-") == 0 ? stderr : stdout;
    if (!j->ctl->is_json) {
        fprintf(to,
                "samples        %" PRIu64 " in, %" PRIu64 " results out (%" PRIu32 " channels in, %" PRIu32 " out)\n",
                frames, j->results, j->info.channels, j->info.out_channels);
        if (j->info.rate > 0)
            fprintf(to, "algorithmic    %.3f ms of latency (the model looks %" PRIu32 " samples ahead)\n", ahead_ms,
                    j->info.lookahead);
        fprintf(to,
                "processing     p50 %.3f ms, p99 %.3f ms of latency (a chunk of %g ms, from sending to its result)\n",
                p50, p99, j->info.rate > 0 ? 1000 * (double)j->chunk_max / j->info.rate : j->options.chunk_ms);
        if (j->info.rate > 0)
            fprintf(to,
                    factor < 100 ? "real-time      %.3g x (%.3f s of signal in %.3f s)\n"
                                 : "real-time      %.0f x (%.3f s of signal in %.3f s)\n",
                    factor, seconds, elapsed);
        return to == stdout ? ctl_finish() : 0;
    }
    json_t *o = json_pack("{s:s,s:s,s:I,s:I,s:I,s:f,s:f,s:f,s:f,s:f,s:f,s:I,s:i,s:i,s:b,s:s,s:i,s:f}", "stream",
                          j->options.id, "model", j->info.model, "first", (json_int_t)j->first, "samples",
                          (json_int_t)frames, "results", (json_int_t)j->results, "rate", j->info.rate, "seconds",
                          seconds, "elapsed_s", elapsed, "real_time_factor", factor, "latency_p50_ms", p50,
                          "latency_p99_ms", p99, "latency_chunks", (json_int_t)j->latency.count, "reconnects",
                          (int)daemon.reconnects, "restarts", (int)j->restarts, "closed", j->is_closed, "out",
                          j->options.out, "lookahead", (int)j->info.lookahead, "latency_algorithmic_ms", ahead_ms);
    if (to == stdout)
        return ctl_print_json(o);
    json_dumpf(o, to, JSON_COMPACT | JSON_REAL_PRECISION(9));
    fputc('\n', to);
    json_decref(o);
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static int begin(struct job *j)
{
    uint64_t from;
    struct signal_spec raw = j->options.raw;
    if (raw.channels == 0)
        raw.channels = 1;
    int rc = source_open(&j->source, j->options.input, &raw, &j->err);
    if (rc != 0)
        return job_signal_fail(j, rc);
    if ((rc = check_said(j)) != 0 || (rc = ctl_connect(j->ctl)) != 0 || (rc = find_earlier(j, &from)) != 0 ||
        (rc = open_stream(j, from)) != 0)
        return rc;
    if ((rc = fit_source(j)) != 0 || (rc = go_to_next(j)) != 0 || (rc = open_output(j, from)) != 0 ||
        (rc = make_chunk(j)) != 0)
        return rc;
    progress_start(&j->progress, j->options.is_quiet);
    return 0;
}

/* A stream that this run made and could not begin is not left behind. */
static void undo_open(struct job *j)
{
    if (j->stream && j->info.created)
        (void)!ssmc_close(j->stream, j->ctl->timeout_ms);
}

static int end(struct job *j, int rc)
{
    progress_clear(&j->progress);
    if (j->is_output_open || rc == 0) {
        struct signal_spec spec = {.channels = j->info.out_channels, .rate = j->info.out_rate};
        int status = j->is_output_open ? 0 : output_open(&j->output, j->options.out, &spec, 0, 0, &j->err);
        if (status == 0)
            status = output_close(&j->output, &j->err);
        if (status != 0)
            rc = job_signal_fail(j, status);
    }
    if (rc == EXIT_INTERRUPTED)
        ctl_say("interrupted: %" PRIu64 " results are in %s; %s", j->results, j->options.out,
                j->away_ns ? "the daemon is away, --resume goes on if it still has the stream"
                           : "the stream is left open, --resume goes on");
    else if (rc == 0)
        rc = report(j);
    else if (!j->is_gone)
        ctl_say("stream %s is left open if the daemon is there: --resume goes on, `ssmctl close %s` ends it",
                j->options.id, j->options.id);
    return rc;
}

int ctl_stream(struct ctl *ctl, int argc, char **argv)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        return EX_OSERR;
    j->ctl = ctl;
    int rc = job_parse(ctl, argc, argv, &j->options);
    if (rc == 0) {
        rc = begin(j);
        if (rc == 0)
            rc = end(j, job_run(j));
        else
            undo_open(j);
    }
    source_close(j->source);
    ssmc_stream_free(j->stream);
    free(j->chunk);
    free(j);
    return rc;
}
