/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading signal files; see signal.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sndfile.h>

#include "clients/audio/signal.h"

#define RAW_BLOCK_BYTES ((size_t)64 << 10)
#define HEADER_MOST     4096 /* bytes: a sound file without samples is not larger */

struct signal_reader {
    char *path;
    struct signal_spec spec;
    int64_t frames; /* of the file, -1: not known */
    uint64_t next;  /* frame */
    SNDFILE *sound; /* of SIGNAL_SOUND */
    int fd;         /* of raw files */
    off_t start;    /* where fd's first frame is; -1 when it cannot seek */
};

static const char *shown(const struct signal_reader *r)
{
    return strcmp(r->path, "-") == 0 ? "standard input" : r->path;
}

#define LENGTH_UNKNOWN INT64_C(0x7fff0000) /* what recorders write that do not know the length yet lies beyond it */

/* libsndfile takes what there is of a file that was cut short and tells of it only in its log: a line such as
 * "data : 4000 (should be 2000)" of .wav, "SSND : ..." of .aiff, "Data Size : ..." of .au. */
static int check_length(const struct signal_reader *r, struct signal_error *err)
{
    char log[16384], label[16], *rest = log, *line;
    long long said, found;
    int n = sf_command(r->sound, SFC_GET_LOG_INFO, log, sizeof(log) - 1);
    log[n < 0 ? 0 : n] = '\0';
    while ((line = strsep(&rest, "\n")) != NULL) {
        if (sscanf(line, " %15[A-Za-z] : %lld (should be %lld)", label, &said, &found) != 3 &&
            sscanf(line, " %15[A-Za-z ]: %lld (should be %lld)", label, &said, &found) != 3)
            continue;
        if ((strncasecmp(label, "data", 4) == 0 || strncmp(label, "SSND", 4) == 0) && said > found &&
            said < LENGTH_UNKNOWN)
            return signal_error_set(err, SIGNAL_DATA,
                                    "%s: cut short: its header says %lld bytes of samples and %lld are there; copy it "
                                    "again, or let a sound editor mend the header to use what there is",
                                    r->path, said, found);
    }
    return SIGNAL_OK;
}

/* A WAV file that was not closed when it was written says that it is empty, and libsndfile believes it. */
static int check_closed(const struct signal_reader *r, const SF_INFO *info, struct signal_error *err)
{
    int type = info->format & SF_FORMAT_TYPEMASK;
    SF_CHUNK_INFO data = {.id = "data", .id_size = 4}, found = {.datalen = 0};
    SF_CHUNK_ITERATOR *at = NULL;
    struct stat st;
    if (info->frames == 0 && (type == SF_FORMAT_WAV || type == SF_FORMAT_WAVEX))
        at = sf_get_chunk_iterator(r->sound, &data);
    if (!at || sf_get_chunk_size(at, &found) != SF_ERR_NO_ERROR || found.datalen > 0 || stat(r->path, &st) < 0 ||
        st.st_size <= HEADER_MOST)
        return SIGNAL_OK;
    return signal_error_set(
        err, SIGNAL_DATA,
        "%s: its header says that it is empty, and it has %lld bytes: it was not closed when it was "
        "written; let a sound editor mend the header to use what there is",
        r->path, (long long)st.st_size);
}

static int open_sound(struct signal_reader *r, struct signal_error *err)
{
    SF_INFO info = {0};
    struct stat st;
    if (access(r->path, R_OK) < 0 || stat(r->path, &st) < 0)
        return signal_error_set(err, SIGNAL_NOINPUT, "%s: %s", r->path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return signal_error_set(err, SIGNAL_NOINPUT, "%s: %s", r->path, strerror(EISDIR));
    r->sound = sf_open(r->path, SFM_READ, &info);
    if (!r->sound)
        return signal_error_set(err, SIGNAL_DATA, "%s: not a sound file that libsndfile reads: %s", r->path,
                                sf_strerror(NULL));
    if (info.channels < 1 || info.samplerate < 1)
        return signal_error_set(err, SIGNAL_DATA, "%s: %d channels at %d Hz", r->path, info.channels, info.samplerate);
    r->spec.channels = (uint32_t)info.channels;
    r->spec.rate = info.samplerate;
    r->frames = info.seekable ? info.frames : -1;
    int rc = check_closed(r, &info, err);
    return rc ? rc : check_length(r, err);
}

static int open_raw(struct signal_reader *r, struct signal_error *err)
{
    struct stat st;
    if (r->spec.format == SIGNAL_TOKENS)
        r->spec.channels = 1;
    if (r->spec.channels < 1)
        return signal_error_set(err, SIGNAL_USAGE, "%s: raw input does not say how many channels it has", shown(r));
    r->fd = strcmp(r->path, "-") == 0 ? dup(STDIN_FILENO) : open(r->path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st) < 0)
        return signal_error_set(err, SIGNAL_NOINPUT, "%s: %s", shown(r), strerror(errno));
    r->frames = -1;
    r->start = S_ISREG(st.st_mode) ? lseek(r->fd, 0, SEEK_CUR) : -1;
    if (r->start < 0)
        return SIGNAL_OK;
    off_t bytes = st.st_size > r->start ? st.st_size - r->start : 0;
    off_t frame = (off_t)(signal_format_bytes(r->spec.format) * r->spec.channels);
    if (bytes % frame)
        return signal_error_set(err, SIGNAL_DATA, "%s: %lld bytes are not a whole number of frames of %u channels",
                                shown(r), (long long)bytes, r->spec.channels);
    r->frames = bytes / frame;
    return SIGNAL_OK;
}

int signal_reader_open(struct signal_reader **out, const char *path, const struct signal_spec *spec,
                       struct signal_error *err)
{
    struct signal_reader *r = calloc(1, sizeof(*r));
    *out = NULL;
    if (!r || !(r->path = strdup(path))) {
        free(r);
        return signal_error_set(err, SIGNAL_NOMEM, "%s: out of memory", path);
    }
    r->fd = -1;
    r->spec = *spec;
    r->spec.format = signal_format_of(path, spec->format);
    int rc = r->spec.format == SIGNAL_SOUND ? open_sound(r, err) : open_raw(r, err);
    if (rc) {
        signal_reader_close(r);
        return rc;
    }
    *out = r;
    return SIGNAL_OK;
}

void signal_reader_close(struct signal_reader *reader)
{
    if (!reader)
        return;
    if (reader->sound)
        sf_close(reader->sound);
    if (reader->fd >= 0)
        close(reader->fd);
    free(reader->path);
    free(reader);
}

const struct signal_spec *signal_reader_spec(const struct signal_reader *reader)
{
    return &reader->spec;
}

int signal_reader_fd(const struct signal_reader *reader)
{
    return reader->fd;
}

int64_t signal_reader_frames(const struct signal_reader *reader)
{
    return reader->frames;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static void widen(enum signal_format format, const unsigned char *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        int16_t s16;
        int32_t s32;
        double f64;
        switch (format) {
        case SIGNAL_S16:
            memcpy(&s16, in + i * 2, 2);
            out[i] = (float)s16 * 0x1p-15f;
            break;
        case SIGNAL_S32:
            memcpy(&s32, in + i * 4, 4);
            out[i] = (float)s32 * 0x1p-31f;
            break;
        case SIGNAL_F64:
            memcpy(&f64, in + i * 8, 8);
            out[i] = (float)f64;
            break;
        default: /* F32 and TOKENS are read in place */
            break;
        }
    }
}

/* Whole bytes or the end of the file. */
static int read_bytes(struct signal_reader *r, void *out, size_t bytes, size_t *got, struct signal_error *err)
{
    *got = 0;
    while (*got < bytes) {
        ssize_t n = read(r->fd, (char *)out + *got, bytes - *got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return signal_error_set(err, SIGNAL_IO, "%s: %s", shown(r), strerror(errno));
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return SIGNAL_OK;
}

static int read_raw(struct signal_reader *r, void *out, size_t max, size_t *got, struct signal_error *err)
{
    unsigned char block[RAW_BLOCK_BYTES];
    size_t width = signal_format_bytes(r->spec.format), bytes = 0, values = 0;
    bool in_place = r->spec.format == SIGNAL_F32 || r->spec.format == SIGNAL_TOKENS;
    size_t wanted = max * r->spec.channels;
    while (values < wanted) {
        size_t now = in_place || wanted - values < sizeof(block) / width ? wanted - values : sizeof(block) / width;
        int rc = read_bytes(r, in_place ? (unsigned char *)out + values * 4 : block, now * width, &bytes, err);
        if (rc)
            return rc;
        if (bytes % width)
            break;
        if (!in_place)
            widen(r->spec.format, block, bytes / width, (float *)out + values);
        values += bytes / width;
        if (bytes < now * width)
            break;
    }
    *got = values / r->spec.channels;
    if (bytes % width || values % r->spec.channels)
        return signal_error_set(err, SIGNAL_DATA, "%s: ends within frame %llu", shown(r),
                                (unsigned long long)(r->next + *got));
    return SIGNAL_OK;
}

static int read_sound(struct signal_reader *r, float *out, size_t max, size_t *got, struct signal_error *err)
{
    sf_count_t n = sf_readf_float(r->sound, out, (sf_count_t)max);
    *got = n < 0 ? 0 : (size_t)n;
    if (sf_error(r->sound))
        return signal_error_set(err, SIGNAL_IO, "%s: %s", r->path, sf_strerror(r->sound));
    if (*got < max && r->frames >= 0 && r->next + *got < (uint64_t)r->frames)
        return signal_error_set(err, SIGNAL_DATA, "%s: ends at frame %llu of %lld", r->path,
                                (unsigned long long)(r->next + *got), (long long)r->frames);
    return SIGNAL_OK;
}

int signal_reader_read(struct signal_reader *reader, void *out, size_t max, size_t *got, struct signal_error *err)
{
    *got = 0;
    int rc = reader->sound ? read_sound(reader, out, max, got, err) : read_raw(reader, out, max, got, err);
    if (!rc)
        reader->next += *got;
    return rc;
}

int signal_reader_seek(struct signal_reader *reader, uint64_t frame, struct signal_error *err)
{
    if (reader->frames < 0 || frame > (uint64_t)reader->frames)
        return signal_error_set(err, SIGNAL_USAGE, "%s: cannot go to frame %llu", shown(reader),
                                (unsigned long long)frame);
    bool moved;
    if (reader->sound) {
        moved = sf_seek(reader->sound, (sf_count_t)frame, SEEK_SET) == (sf_count_t)frame;
    } else {
        off_t bytes = (off_t)(frame * reader->spec.channels * signal_format_bytes(reader->spec.format));
        moved = lseek(reader->fd, reader->start + bytes, SEEK_SET) >= 0;
    }
    if (!moved)
        return signal_error_set(err, SIGNAL_IO, "%s: cannot go to frame %llu", shown(reader),
                                (unsigned long long)frame);
    reader->next = frame;
    return SIGNAL_OK;
}
