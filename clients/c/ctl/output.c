/* SPDX-License-Identifier: Apache-2.0
 *
 * See output.h.
 */
#include "clients/c/ctl/output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 4096 };

static bool is_regular(const char *path)
{
    struct stat st;
    return strcmp(path, "-") != 0 && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

int output_earlier(const char *path, const struct signal_spec *spec, uint64_t *frames, struct signal_error *err)
{
    struct signal_reader *reader;
    struct stat st;
    *frames = 0;
    if (!is_regular(path) || stat(path, &st) != 0 || st.st_size == 0)
        return SIGNAL_OK;
    int rc = signal_reader_open(&reader, path, spec, err);
    if (rc != 0)
        return rc;
    int64_t n = signal_reader_frames(reader);
    if (signal_reader_spec(reader)->channels != spec->channels)
        rc = signal_error_set(err, SIGNAL_DATA, "%s: has %u channels and the results %u; give another --out", path,
                              signal_reader_spec(reader)->channels, spec->channels);
    signal_reader_close(reader);
    *frames = n > 0 ? (uint64_t)n : 0;
    return rc;
}

/* Copies `frames` frames of the earlier output, which lies under `old` now. */
static int copy_earlier(struct output *o, const char *old, uint64_t frames, struct signal_error *err)
{
    struct signal_reader *reader;
    struct signal_spec spec = o->spec;
    spec.format = signal_format_of(o->path, o->spec.format);
    int rc = signal_reader_open(&reader, old, &spec, err);
    if (rc != 0)
        return rc;
    float *block = malloc(sizeof(float) * BLOCK * spec.channels);
    if (!block)
        rc = signal_error_set(err, SIGNAL_NOMEM, "out of memory");
    while (rc == 0 && frames > 0) {
        size_t got;
        rc = signal_reader_read(reader, block, frames < BLOCK ? (size_t)frames : BLOCK, &got, err);
        if (rc == 0 && got == 0)
            rc = signal_error_set(err, SIGNAL_DATA, "%s: became shorter", old);
        if (rc == 0)
            rc = signal_writer_write(o->writer, block, got, err);
        frames -= rc == 0 ? got : 0;
    }
    free(block);
    signal_reader_close(reader);
    return rc;
}

/* Writes the file anew behind the first `earlier` frames of the one that is there; when that cannot be, it stays. */
static int continue_earlier(struct output *o, uint64_t earlier, struct signal_error *err)
{
    char *old;
    int rc;
    if (signal_is_being_written(o->path))
        return signal_error_set(err, SIGNAL_CANTCREAT, "%s: another program is writing it", o->path);
    if (asprintf(&old, "%s.earlier", o->path) < 0)
        return signal_error_set(err, SIGNAL_NOMEM, "out of memory");
    if (rename(o->path, old) != 0) {
        rc = signal_error_set(err, SIGNAL_CANTCREAT, "%s: cannot be renamed to %s: %s", o->path, old, strerror(errno));
        goto out;
    }
    rc = signal_writer_open(&o->writer, o->path, &o->spec, err);
    if (rc == 0)
        rc = copy_earlier(o, old, earlier, err);
    if (rc == 0) {
        unlink(old);
    } else {
        signal_writer_abort(o->writer);
        o->writer = NULL;
        rename(old, o->path);
    }
out:
    free(old);
    return rc;
}

int output_open(struct output *o, const char *path, const struct signal_spec *spec, uint64_t earlier, uint64_t first,
                struct signal_error *err)
{
    *o = (struct output){.path = strdup(path), .spec = *spec, .next = first};
    if (!o->path)
        return signal_error_set(err, SIGNAL_NOMEM, "out of memory");
    int rc = earlier > 0 ? continue_earlier(o, earlier, err) : signal_writer_open(&o->writer, path, spec, err);
    if (rc != 0) {
        free(o->path);
        o->path = NULL;
    }
    return rc;
}

int output_restart(struct output *o, uint64_t first, struct signal_error *err)
{
    if (strcmp(o->path, "-") == 0 && signal_writer_frames(o->writer) > 0)
        return signal_error_set(err, SIGNAL_IO, "standard output cannot be written again from its beginning");
    o->next = first;
    if (strcmp(o->path, "-") == 0)
        return SIGNAL_OK;
    int rc = signal_writer_close(o->writer, err);
    o->writer = NULL;
    return rc != 0 ? rc : signal_writer_open(&o->writer, o->path, &o->spec, err);
}

int output_write(struct output *o, const struct ssmc_result *result, uint32_t frames, struct signal_error *err)
{
    o->next += frames;
    if (!result->pairs)
        return signal_writer_write(o->writer, result->samples, frames, err);
    float *values = malloc((size_t)frames * result->channels * sizeof *values);
    if (!values)
        return signal_error_set(err, SIGNAL_NOMEM, "out of memory");
    for (size_t i = 0; i < (size_t)frames * result->channels / 2; i++) {
        values[2 * i] = (float)result->pairs[i].token; /* exact: vocabularies are below 2^24 */
        values[2 * i + 1] = result->pairs[i].logprob;
    }
    int rc = signal_writer_write(o->writer, values, frames, err);
    free(values);
    return rc;
}

int output_close(struct output *o, struct signal_error *err)
{
    int rc = o->writer ? signal_writer_close(o->writer, err) : SIGNAL_OK;
    o->writer = NULL;
    free(o->path);
    o->path = NULL;
    return rc;
}
