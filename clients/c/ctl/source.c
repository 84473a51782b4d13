/* SPDX-License-Identifier: Apache-2.0
 *
 * The input of `ssmctl stream`.
 */
#include "clients/c/ctl/source.h"

#include <math.h>
#include <poll.h>
#include <samplerate.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 }; /* frames read for the resampler at a time */

struct source {
    struct signal_reader *reader;
    char *path;
    SRC_STATE *resampler; /* NULL: rates agree */
    double ratio;         /* output rate over input rate */
    float *block;         /* read and not resampled yet */
    size_t block_frames, block_at;
    bool is_at_end; /* of the reader */
    bool is_pipe;
};

int source_open(struct source **out, const char *path, const struct signal_spec *spec, struct signal_error *err)
{
    *out = NULL;
    struct source *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return signal_error_set(err, SIGNAL_NOMEM, "out of memory");
    }
    int rc = signal_reader_open(&s->reader, path, spec, err);
    if (rc != 0) {
        source_close(s);
        return rc;
    }
    s->is_pipe = strcmp(path, "-") == 0 || signal_reader_frames(s->reader) < 0;
    *out = s;
    return SIGNAL_OK;
}

void source_close(struct source *s)
{
    if (!s)
        return;
    if (s->reader)
        signal_reader_close(s->reader);
    if (s->resampler)
        src_delete(s->resampler);
    free(s->block);
    free(s->path);
    free(s);
}

const struct signal_spec *source_spec(const struct source *s)
{
    return signal_reader_spec(s->reader);
}

bool source_is_pipe(const struct source *s)
{
    return s->is_pipe;
}

int source_fd(const struct source *s)
{
    return s->is_pipe ? signal_reader_fd(s->reader) : -1;
}

bool source_is_ready(const struct source *s)
{
    struct pollfd wait = {.fd = source_fd(s), .events = POLLIN};
    return wait.fd < 0 || s->block_at < s->block_frames || s->is_at_end || poll(&wait, 1, 0) != 0;
}

int source_set_rate(struct source *s, double rate, struct signal_error *err)
{
    const struct signal_spec *spec = source_spec(s);
    int code = 0;
    if (fabs(rate - spec->rate) <= 1e-6 * rate)
        return SIGNAL_OK;
    s->ratio = rate / spec->rate;
    if (!src_is_valid_ratio(s->ratio))
        return signal_error_set(err, SIGNAL_USAGE,
                                "%s: cannot be resampled from %g to %g Hz: the factor must lie between 1/256 "
                                "and 256",
                                s->path, spec->rate, rate);
    s->block = malloc(sizeof(float) * BLOCK * spec->channels);
    s->resampler = src_new(SRC_SINC_MEDIUM_QUALITY, (int)spec->channels, &code);
    if (!s->block || !s->resampler)
        return signal_error_set(err, SIGNAL_NOMEM, "%s: cannot resample: %s", s->path, src_strerror(code));
    return SIGNAL_OK;
}

int64_t source_frames(const struct source *s)
{
    int64_t frames = signal_reader_frames(s->reader);
    return frames < 0 || !s->resampler ? frames : (int64_t)llround((double)frames * s->ratio);
}

/* Reads ahead for the resampler; from a pipe no more than `frames` at the rate set take, since reading more would wait. */
static int refill(struct source *s, size_t frames, struct signal_error *err)
{
    size_t most = s->is_pipe ? (size_t)ceil((double)frames / s->ratio) : BLOCK;

    if (s->is_at_end || s->block_at < s->block_frames)
        return SIGNAL_OK;
    s->block_at = 0;
    int rc = signal_reader_read(s->reader, s->block, most < BLOCK ? most : BLOCK, &s->block_frames, err);
    s->is_at_end = rc == 0 && s->block_frames == 0;
    return rc;
}

static int read_resampled(struct source *s, float *out, size_t max, size_t *got, struct signal_error *err)
{
    const uint32_t channels = source_spec(s)->channels;
    size_t done = 0;
    while (done < max) {
        int rc = refill(s, max - done, err);
        if (rc != 0)
            return rc;
        SRC_DATA data = {
            .data_in = s->block + s->block_at * channels,
            .input_frames = (long)(s->block_frames - s->block_at),
            .data_out = out + done * channels,
            .output_frames = (long)(max - done),
            .src_ratio = s->ratio,
            .end_of_input = s->is_at_end,
        };
        int code = src_process(s->resampler, &data);
        if (code != 0)
            return signal_error_set(err, SIGNAL_DATA, "%s: cannot be resampled: %s", s->path, src_strerror(code));
        s->block_at += (size_t)data.input_frames_used;
        done += (size_t)data.output_frames_gen;
        if (s->is_at_end && data.output_frames_gen == 0)
            break;
    }
    *got = done;
    return SIGNAL_OK;
}

int source_read(struct source *s, void *out, size_t max, size_t *got, struct signal_error *err)
{
    *got = 0;
    if (s->resampler)
        return read_resampled(s, out, max, got, err);
    return signal_reader_read(s->reader, out, max, got, err);
}

/* Resampling begins again and what comes before `frame` is thrown away. */
static int seek_resampled(struct source *s, uint64_t frame, struct signal_error *err)
{
    const uint32_t channels = source_spec(s)->channels;
    int rc = signal_reader_seek(s->reader, 0, err);
    if (rc != 0)
        return rc;
    src_reset(s->resampler);
    s->block_frames = s->block_at = 0;
    s->is_at_end = false;
    float *waste = malloc(sizeof(float) * BLOCK * channels);
    if (!waste)
        return signal_error_set(err, SIGNAL_NOMEM, "out of memory");
    while (rc == 0 && frame > 0) {
        size_t got;
        rc = read_resampled(s, waste, frame < BLOCK ? (size_t)frame : BLOCK, &got, err);
        if (rc == 0 && got == 0)
            rc = signal_error_set(err, SIGNAL_DATA, "%s: is shorter than what the stream has already taken", s->path);
        frame -= got;
    }
    free(waste);
    return rc;
}

int source_seek(struct source *s, uint64_t frame, struct signal_error *err)
{
    if (s->is_pipe && frame > 0)
        return signal_error_set(err, SIGNAL_USAGE, "%s: what was read from a pipe cannot be read again", s->path);
    if (s->is_pipe)
        return SIGNAL_OK;
    if (s->resampler)
        return seek_resampled(s, frame, err);
    if ((int64_t)frame > signal_reader_frames(s->reader))
        return signal_error_set(err, SIGNAL_DATA, "%s: is shorter than what the stream has already taken (%llu frames)",
                                s->path, (unsigned long long)frame);
    return signal_reader_seek(s->reader, frame, err);
}
