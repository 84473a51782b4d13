/* SPDX-License-Identifier: Apache-2.0
 *
 * The run of `ssmctl stream`: push what the window takes, poll, write what comes; then close or drain.
 *
 * The index is the only truth: `next` is compared with the library's after every poll. It drops when the daemon lost
 * the stream and it began again; then a file is taken up from there and the output rewritten.
 */
#include "clients/c/ctl/job.h"

#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "proto/codec.h"

enum { WAIT_MS = 50, PIPE_MS = 10, TURN_CHUNKS = 256, AWAY_SAY_NS = 1000000000 };

int64_t job_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

int job_signal_fail(struct job *j, int status)
{
    progress_clear(&j->progress);
    ctl_say("%s", j->err.text);
    switch (status) {
    case SIGNAL_USAGE:
        return EX_USAGE;
    case SIGNAL_NOINPUT:
        return EX_NOINPUT;
    case SIGNAL_DATA:
        return EX_DATAERR;
    case SIGNAL_CANTCREAT:
        return EX_CANTCREAT;
    case SIGNAL_NOMEM:
        return EX_OSERR;
    default:
        return EX_IOERR;
    }
}

static int fail(struct job *j, int status)
{
    progress_clear(&j->progress);
    j->is_gone = status == SSMC_LOST || status == SSMC_TAKEN;
    if (status == SSMC_LOST && source_is_pipe(j->source)) {
        ctl_say("%s; what came from standard input cannot be sent again", ssmc_error_text(j->ctl->c));
        return EX_IOERR;
    }
    return ctl_fail(j->ctl, status, j->options.id);
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

/* When the next chunk is due: its last sample has been recorded. */
static int64_t due_ns(const struct job *j)
{
    double seconds = (double)(j->next + j->chunk_frames - j->pace_index) / j->info.rate;
    return j->pace_ns + (int64_t)(seconds * 1e9);
}

static enum ssmc_format wire_format(const struct job *j)
{
    return j->info.tokens ? SSMC_I32 : SSMC_F32;
}

/* The daemon would refuse these; here the file is known. 0, or an exit code. */
static int chunk_check(struct job *j)
{
    size_t n = j->chunk_frames * j->info.channels;
    for (size_t i = 0; i < n; i++) {
        bool is_good;
        if (j->info.tokens) {
            int32_t token = ((const int32_t *)(const void *)j->chunk)[i];
            is_good = token >= 0 && (uint32_t)token < j->info.vocab;
        } else {
            is_good = isfinite(((const float *)(const void *)j->chunk)[i]);
        }
        if (is_good)
            continue;
        progress_clear(&j->progress);
        ctl_say("%s: frame %" PRIu64 ": %s", j->options.input, j->next + i / j->info.channels,
                j->info.tokens ? "a token is outside the vocabulary" : "a value is not finite");
        j->chunk_frames = 0;
        return EX_DATAERR;
    }
    return 0;
}

/* Pushes while there are frames, room and time. 0, or an exit code. */
static int push_some(struct job *j)
{
    unsigned flags = SSMC_HAS_TIME | (j->options.is_backfill ? SSMC_BACKFILL : 0);
    for (int i = 0; i < TURN_CHUNKS && !j->is_at_end; i++) {
        if (j->chunk_frames == 0) {
            if (!source_is_ready(j->source))
                break;
            int rc = source_read(j->source, j->chunk, j->chunk_max, &j->chunk_frames, &j->err);
            if (rc != 0)
                return job_signal_fail(j, rc);
            if (j->chunk_frames == 0) {
                j->is_at_end = true;
                break;
            }
            if ((rc = chunk_check(j)) != 0)
                return rc;
        }
        int64_t now = job_now_ns();
        if (j->options.is_realtime && now < due_ns(j))
            break;
        int rc = ssmc_push(j->stream, wire_format(j), j->chunk, (uint32_t)j->chunk_frames, flags, now);
        if (rc == SSMC_FULL)
            break;
        if (rc != 0)
            return fail(j, rc);
        j->next += j->chunk_frames;
        j->chunk_frames = 0;
    }
    return 0;
}

/* Whether it is the pipe that must bring something before there is more to push. */
static bool awaits_input(const struct job *j)
{
    return !j->is_at_end && j->chunk_frames == 0 && source_fd(j->source) >= 0;
}

/* Until the pipe or the connection has something. */
static void input_wait(const struct job *j)
{
    struct pollfd wait[2] = {{.fd = source_fd(j->source), .events = POLLIN},
                             {.fd = ssmc_fd(j->ctl->c), .events = POLLIN}};
    (void)poll(wait, 2, PIPE_MS);
}

static int wait_ms(const struct job *j)
{
    if (awaits_input(j))
        return 0; /* input_wait waits for both */
    if (!j->options.is_realtime || j->is_at_end || j->chunk_frames == 0)
        return WAIT_MS;
    int64_t left_ms = (due_ns(j) - job_now_ns()) / 1000000 + 1;
    return left_ms < 0 ? 0 : left_ms < WAIT_MS ? (int)left_ms : WAIT_MS;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static int take_results(struct job *j)
{
    struct ssmc_result result;
    int rc;
    while ((rc = ssmc_next(j->stream, &result)) == 1) {
        if (!j->is_output_open) {
            struct signal_spec spec = {.channels = j->info.out_channels, .rate = j->info.out_rate};
            if ((rc = output_open(&j->output, j->options.out, &spec, 0, result.first, &j->err)) != 0)
                return job_signal_fail(j, rc);
            j->is_output_open = true;
        }
        if (result.first != j->output.next) {
            progress_clear(&j->progress);
            ctl_say("%s: result %" PRIu64 " came instead of %" PRIu64, j->options.id, result.first, j->output.next);
            return EX_IOERR;
        }
        if (result.has_time)
            latency_add(&j->latency, (uint64_t)(job_now_ns() - result.time));
        if ((rc = output_write(&j->output, &result, result.frames, &j->err)) != 0)
            return job_signal_fail(j, rc);
        j->results += result.frames;
    }
    return rc == 0 ? 0 : fail(j, rc);
}

/* ---- what may happen on the way ---------------------------------------------------------------------------------- */

/* The daemon lost the stream, and it began again: so does the file. */
static int start_over(struct job *j, const struct ssmc_stream_info *info)
{
    progress_clear(&j->progress);
    ctl_say("the daemon lost the state of stream %s; sending %s again from frame %" PRIu64, j->options.id,
            j->options.input, info->next);
    int rc = source_seek(j->source, info->next, &j->err);
    if (rc == 0)
        rc = output_restart(&j->output, info->result_next, &j->err);
    if (rc != 0)
        return job_signal_fail(j, rc);
    j->info.epoch = info->epoch;
    j->first = j->next = info->next;
    j->chunk_frames = 0;
    j->results = 0;
    j->is_at_end = false;
    j->restarts++;
    memset(&j->latency, 0, sizeof j->latency);
    j->start_ns = j->pace_ns = job_now_ns();
    j->pace_index = j->next;
    return 0;
}

/* Looks whether the daemon is there, and whether the stream is what it was. 0, or an exit code. */
static int look_around(struct job *j)
{
    struct ssmc_daemon_info daemon;
    struct ssmc_stream_info info;
    int64_t now = job_now_ns();
    ssmc_daemon_info(j->ctl->c, &daemon);
    if (!daemon.is_connected && j->away_ns == 0) {
        j->away_ns = now;
        progress_clear(&j->progress);
        ctl_say("%s; trying again for %g seconds", ssmc_error_text(j->ctl->c), j->options.give_up_s);
    } else if (daemon.is_connected && j->away_ns != 0) {
        j->away_ns = 0;
        progress_clear(&j->progress);
        ctl_say("connected again");
    }
    if (j->away_ns != 0 && (double)(now - j->away_ns) > j->options.give_up_s * 1e9) {
        progress_clear(&j->progress);
        ctl_say("the daemon did not come back; the output is not complete");
        return EX_UNAVAILABLE;
    }
    ssmc_stream_info(j->stream, &info);
    if (info.next < j->next)
        return start_over(j, &info);
    return 0;
}

static int turn(struct job *j, int timeout_ms)
{
    int rc = ssmc_poll(j->ctl->c, timeout_ms);
    if (rc < 0 && rc != SSMC_INTERRUPTED && rc != SSMC_PROTOCOL)
        return fail(j, rc);
    if (rc == SSMC_PROTOCOL) { /* the library connects again */
        progress_clear(&j->progress);
        ctl_say("%s", ssmc_error_text(j->ctl->c));
    }
    if ((rc = look_around(j)) != 0 || (rc = take_results(j)) != 0)
        return rc;
    int64_t now = job_now_ns();
    int64_t total = source_frames(j->source);
    if (j->options.is_quiet)
        return 0;
    progress_draw(&j->progress, now, j->next, total, j->info.rate, (double)(now - j->start_ns) / 1e9);
    return 0;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* Closes: 0 when everything came, -1 when the stream began again, or an exit code. */
static int finish_close(struct job *j)
{
    int rc = ssmc_close(j->stream, WAIT_MS);
    int code = rc == SSMC_OK || rc == SSMC_FULL || rc == SSMC_TIMEOUT || rc == SSMC_LOST ? look_around(j) : 0;
    if (code != 0)
        return code;
    if (!j->is_at_end)
        return -1;
    if (rc != SSMC_OK && rc != SSMC_FULL && rc != SSMC_TIMEOUT && rc != SSMC_INTERRUPTED)
        return fail(j, rc);
    code = take_results(j);
    j->is_closed = rc == SSMC_OK;
    return code != 0 || rc == SSMC_OK ? code : -1;
}

/* Leaves the stream open: everything is applied, and the results of that are here. */
static int finish_keep(struct job *j)
{
    struct ssmc_stream_info info;
    int rc = ssmc_drain(j->stream, WAIT_MS);
    int code = look_around(j);
    if (code != 0 || (code = take_results(j)) != 0)
        return code;
    if (!j->is_at_end || rc == SSMC_FULL || rc == SSMC_TIMEOUT || rc == SSMC_INTERRUPTED)
        return -1;
    if (rc == 0)
        rc = ssmc_info(j->ctl->c, j->options.id, 0, &info, j->ctl->timeout_ms);
    if (rc == SSMC_TIMEOUT)
        return -1;
    if (rc != 0)
        return fail(j, rc);
    if (j->is_output_open ? j->output.next >= info.result_next : j->results == 0 && info.next == j->first)
        return 0;
    code = turn(j, WAIT_MS);
    return code != 0 ? code : -1;
}

int job_run(struct job *j)
{
    j->start_ns = j->pace_ns = job_now_ns();
    j->pace_index = j->next;
    for (;;) {
        int rc = 0;
        while (rc == 0 && !j->is_at_end && !ctl_is_interrupted)
            if ((rc = push_some(j)) == 0 && (rc = turn(j, wait_ms(j))) == 0 && awaits_input(j))
                input_wait(j);
        if (rc == 0 && !ctl_is_interrupted)
            rc = j->options.keeps_open ? finish_keep(j) : finish_close(j);
        if (rc > 0)
            return rc;
        if (ctl_is_interrupted) {
            rc = take_results(j);
            return rc != 0 ? rc : EXIT_INTERRUPTED;
        }
        if (rc == 0)
            return 0;
    }
}
