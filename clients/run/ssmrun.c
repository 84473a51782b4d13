/* SPDX-License-Identifier: Apache-2.0
 *
 * ssmrun: one model over one file, in this process. The way to try a model, and to see what the daemon would answer.
 *
 * The order of things: a sound file knows its rate and channels, which a built-in model takes over. Any other must have
 * the channels, and the rate or layers that can be discretised anew for it, which the report says. Raw input takes the
 * model's, unless told otherwise. So a sound file is opened before the model is loaded, and raw input after.
 * The output is whole or there is none: a failed run removes it, says why and exits with a code of sysexits.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "clients/run/options.h"

struct run {
    struct run_options options;
    struct signal_reader *reader;
    struct signal_writer *writer;
    struct ssm_model *model;
    const struct ssm_model_info *info;
    struct ssm_engine *engine;
    struct ssm_program *program;
    struct ssm_slot slot;
    void *in; /* a chunk: float32, or int32 tokens */
    float *out;
    uint64_t frames;
    double seconds; /* in ssm_advance */
};

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static int exit_of_ssm(int status)
{
    switch (status) {
    case SSM_NOENT:
        return EX_NOINPUT;
    case SSM_NOMEM:
        return EX_OSERR;
    case SSM_IO:
        return EX_IOERR;
    case SSM_CONFIG:
        return EX_CONFIG;
    case SSM_UNSUPPORTED:
        return EX_UNAVAILABLE;
    case SSM_DEVICE:
        return EX_TEMPFAIL;
    default:
        return EX_DATAERR;
    }
}

static int exit_of_signal(int status)
{
    switch (status) {
    case SIGNAL_NOMEM:
        return EX_OSERR;
    case SIGNAL_USAGE:
        return EX_USAGE;
    case SIGNAL_NOINPUT:
        return EX_NOINPUT;
    case SIGNAL_CANTCREAT:
        return EX_CANTCREAT;
    case SIGNAL_IO:
        return EX_IOERR;
    default:
        return EX_DATAERR;
    }
}

static int fail_ssm(int status, const struct ssm_error *err)
{
    fprintf(stderr, "ssmrun: %s\n", err->text[0] ? err->text : ssm_status_text(status));
    return exit_of_ssm(status);
}

static int fail_signal(int status, const struct signal_error *err)
{
    fprintf(stderr, "ssmrun: %s\n", err->text);
    return exit_of_signal(status);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int load_model(struct run *r)
{
    struct ssm_error err = {0};
    const struct signal_spec *known = r->reader ? signal_reader_spec(r->reader) : &r->options.raw_in;
    struct ssm_model_hint hint = {.rate = known->rate, .channels = known->channels};
    int rc = ssm_model_load(&r->model, r->options.model, &hint, &err);
    if (rc && r->reader)
        fprintf(stderr, "ssmrun: %s has %u channels at %.9g Hz\n", r->options.input, known->channels, known->rate);
    if (rc)
        return fail_ssm(rc, &err);
    r->info = ssm_model_info(r->model);
    return EX_OK;
}

static int check_kind(const struct run *r, enum signal_format format)
{
    if ((r->info->input == SSM_TOKENS) == (format == SIGNAL_TOKENS))
        return EX_OK;
    if (format == SIGNAL_TOKENS)
        fprintf(stderr, "ssmrun: %s takes a signal, %s holds tokens\n", r->options.model, r->options.input);
    else
        fprintf(stderr, "ssmrun: %s takes tokens, %s holds a signal; give a .i32 file or --format i32\n",
                r->options.model, r->options.input);
    return EX_DATAERR;
}

static int open_input(struct run *r)
{
    struct signal_error err = {{0}};
    struct signal_spec spec = r->options.raw_in;
    spec.format = signal_format_of(r->options.input, spec.format);
    bool sound = spec.format == SIGNAL_SOUND;
    int rc = sound ? signal_reader_open(&r->reader, r->options.input, &spec, &err) : SIGNAL_OK;
    if (rc)
        return fail_signal(rc, &err);
    rc = load_model(r);
    if (rc)
        return rc;
    if (r->info->input == SSM_TOKENS && strcmp(r->options.input, "-") == 0 && r->options.raw_in.format == SIGNAL_AUTO)
        spec.format = SIGNAL_TOKENS;
    rc = check_kind(r, spec.format);
    if (rc || sound)
        return rc;
    spec.channels = r->info->in_channels;
    spec.rate = r->info->in_rate;
    rc = signal_reader_open(&r->reader, r->options.input, &spec, &err);
    return rc ? fail_signal(rc, &err) : EX_OK;
}

static int open_output(struct run *r)
{
    struct signal_error err = {{0}};
    struct signal_spec spec = {r->options.format_out, r->info->out_channels, r->info->out_rate};
    if (signal_is_same_file(r->options.input, r->options.output)) {
        fprintf(stderr, "ssmrun: %s is both input and output\n", r->options.input);
        return EX_USAGE;
    }
    int rc = signal_writer_open(&r->writer, r->options.output, &spec, &err);
    return rc ? fail_signal(rc, &err) : EX_OK;
}

static int open_engine(struct run *r)
{
    struct ssm_error err = {0};
    uint32_t grid;
    uint64_t out;
    int rc = ssm_engine_new(&r->engine, &r->options.engine, &err);
    if (!rc)
        rc = ssm_program_new(&r->program, r->engine, r->model, 1, &err);
    if (!rc)
        rc = ssm_program_prepare(r->program, r->options.view, &err);
    if (!rc)
        rc = ssm_slot_acquire(r->program, &r->slot);
    if (rc)
        return fail_ssm(rc, &err);
    grid = ssm_program_grid(r->program);
    if (r->options.view != SSM_STEP) /* so that how the input is cut does not show */
        r->options.chunk = (r->options.chunk + grid - 1) / grid * grid;
    out = ssm_out_frames_max(r->model, r->options.chunk);
    r->in = calloc(r->options.chunk, r->info->in_channels * sizeof(float));
    r->out = calloc(out ? out : 1, r->info->out_channels * sizeof(float));
    if (r->in && r->out)
        return EX_OK;
    fprintf(stderr, "ssmrun: no memory for chunks of %u frames\n", r->options.chunk);
    return EX_OSERR;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int advance(struct run *r, size_t frames, size_t *out_frames)
{
    uint64_t where = 0;
    int rc = ssm_input_check(r->model, r->in, frames, &where);
    if (rc) {
        fprintf(stderr, "ssmrun: %s: frame %llu: %s\n", r->options.input, (unsigned long long)(r->frames + where),
                rc == SSM_NONFINITE ? "a value is not finite" : "a token outside the model's vocabulary");
        return EX_DATAERR;
    }
    struct ssm_row row = {
        .slot = r->slot, .view = r->options.view, .frames = (uint32_t)frames, .in = r->in, .out = r->out};
    double start = now_s();
    rc = ssm_advance(r->program, &row, 1);
    r->seconds += now_s() - start;
    *out_frames = row.out_frames;
    if (!rc)
        return EX_OK;
    fprintf(stderr, "ssmrun: advancing failed: %s\n", ssm_status_text(rc));
    return rc == SSM_DEVICE ? EX_TEMPFAIL : EX_SOFTWARE;
}

static int run_chunks(struct run *r)
{
    struct signal_error err = {{0}};
    size_t got, out_frames;
    for (;;) {
        int rc = signal_reader_read(r->reader, r->in, r->options.chunk, &got, &err);
        if (rc)
            return fail_signal(rc, &err);
        if (got == 0)
            return EX_OK;
        rc = advance(r, got, &out_frames);
        if (rc)
            return rc;
        r->frames += got;
        rc = signal_writer_write(r->writer, r->out, out_frames, &err);
        if (rc)
            return fail_signal(rc, &err);
    }
}

/* The outputs that wait for what comes after the input, which is zeros. */
static int run_tail(struct run *r)
{
    struct signal_error err = {{0}};
    uint64_t wanted = ssm_out_frames(r->model, r->frames);
    uint32_t zeros = r->info->lookahead;

    memset(r->in, 0, r->options.chunk * r->info->in_channels * sizeof(float));
    while (signal_writer_frames(r->writer) < wanted && zeros > 0) {
        uint32_t frames = zeros < r->options.chunk ? zeros : r->options.chunk;
        uint64_t left = wanted - signal_writer_frames(r->writer);
        size_t out_frames;
        int rc = advance(r, frames, &out_frames);
        if (rc)
            return rc;
        rc = signal_writer_write(r->writer, r->out, out_frames < left ? out_frames : left, &err);
        if (rc)
            return fail_signal(rc, &err);
        zeros -= frames;
    }
    return EX_OK;
}

static int close_output(struct run *r)
{
    struct signal_error err = {{0}};
    int rc = signal_writer_close(r->writer, &err);
    r->writer = NULL;
    return rc ? fail_signal(rc, &err) : EX_OK;
}

/* To standard output, unless that holds the results. */
static int report(const struct run *r, uint64_t out_frames)
{
    const struct ssm_model_info *i = r->info;
    FILE *to = strcmp(r->options.output, "-") == 0 ? stderr : stdout;
    fprintf(to, "model: %s\n", i->name);
    if (i->in_rate > 0)
        fprintf(to, "input: %llu frames, %u channels, %.9g Hz\n", (unsigned long long)r->frames, i->in_channels,
                i->in_rate);
    else
        fprintf(to, "input: %llu tokens of %u\n", (unsigned long long)r->frames, i->vocab);
    if (i->in_rate != i->config_rate)
        fprintf(to, "discretised for this rate: made for %.9g Hz, %u modes above half the rate zeroed\n",
                i->config_rate, i->modes_zeroed);
    fprintf(to, "output: %llu frames, %u channels\n", (unsigned long long)out_frames, i->out_channels);
    fprintf(to, "hop: %u frames\nlookahead: %u frames\nstate: %zu bytes per stream\n", i->hop, i->lookahead,
            i->state_bytes);
    fprintf(to, "computed: %.6f s, mode %s, chunks of %u, %s\n", r->seconds, run_modes[r->options.view],
            r->options.chunk, ssm_engine_describe(r->engine));
    double duration = i->in_rate > 0 ? (double)r->frames / i->in_rate : 0;
    if (duration > 0)
        fprintf(to, "real-time factor: %.4g (%.3f s of signal in %.3f s)\n", r->seconds > 0 ? duration / r->seconds : 0,
                duration, r->seconds);
    else if (i->in_rate <= 0)
        fprintf(to, "tokens per second: %.0f\n", r->seconds > 0 ? (double)r->frames / r->seconds : 0);
    return fflush(to) == 0 ? EX_OK : EX_IOERR;
}

int main(int argc, char **argv)
{
    struct run r = {.slot = {-1, 0}};
    run_options_load(&r.options, argc, argv);
    int rc = open_input(&r);
    if (!rc)
        rc = open_engine(&r);
    if (!rc)
        rc = open_output(&r);
    if (!rc)
        rc = run_chunks(&r);
    if (!rc)
        rc = run_tail(&r);
    uint64_t out_frames = r.writer ? signal_writer_frames(r.writer) : 0;
    if (!rc)
        rc = close_output(&r);
    if (!rc)
        rc = report(&r, out_frames);
    signal_writer_abort(r.writer);
    signal_reader_close(r.reader);
    if (r.program)
        ssm_slot_release(r.program, r.slot);
    ssm_program_free(r.program);
    ssm_engine_free(r.engine);
    ssm_model_free(r.model);
    free(r.in);
    free(r.out);
    return rc;
}
