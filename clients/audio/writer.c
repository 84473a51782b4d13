/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing signal files; see signal.h.
 *
 * libsndfile does not report every failed write (a header rewritten at close, for one), so it writes through our own
 * functions, which remember the first error: the file is complete only if none of them failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sndfile.h>

#include "clients/audio/signal.h"

#define RAW_BLOCK_VALUES ((size_t)8192)

struct signal_writer {
    char *path;
    struct signal_spec spec;
    uint64_t frames;
    uint64_t told;  /* frames that a sound file's header says */
    SNDFILE *sound; /* of SIGNAL_SOUND */
    int fd;
    int error; /* errno of the first write that failed */
    bool regular;
};

static const struct {
    const char *suffix;
    int format;
} SOUNDS[] = {
    {"wav", SF_FORMAT_RF64 | SF_FORMAT_FLOAT}, /* leaves as plain WAV below 4 GiB */
    {"rf64", SF_FORMAT_RF64 | SF_FORMAT_FLOAT},  {"w64", SF_FORMAT_W64 | SF_FORMAT_FLOAT},
    {"caf", SF_FORMAT_CAF | SF_FORMAT_FLOAT},    {"aiff", SF_FORMAT_AIFF | SF_FORMAT_FLOAT},
    {"aif", SF_FORMAT_AIFF | SF_FORMAT_FLOAT},   {"au", SF_FORMAT_AU | SF_FORMAT_FLOAT},
    {"flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_24}, {"ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
};

static const char *shown(const struct signal_writer *w)
{
    return strcmp(w->path, "-") == 0 ? "standard output" : w->path;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static bool write_bytes(struct signal_writer *w, const void *in, size_t bytes)
{
    const char *p = in;
    while (bytes && !w->error) {
        ssize_t n = write(w->fd, p, bytes);
        if (n < 0 && errno != EINTR)
            w->error = errno;
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
        }
    }
    return !w->error;
}

static sf_count_t vio_length(void *user)
{
    struct signal_writer *w = user;
    struct stat st;
    return fstat(w->fd, &st) < 0 ? -1 : st.st_size;
}

static sf_count_t vio_seek(sf_count_t offset, int whence, void *user)
{
    struct signal_writer *w = user;
    off_t at = lseek(w->fd, offset, whence);
    if (at < 0 && !w->error)
        w->error = errno;
    return at;
}

/* The kinds that we write are never read back. */
static sf_count_t vio_read(void *out, sf_count_t bytes, void *user)
{
    struct signal_writer *w = user;
    (void)out;
    (void)bytes;
    w->error = ENOTSUP;
    return 0;
}

static sf_count_t vio_write(const void *in, sf_count_t bytes, void *user)
{
    struct signal_writer *w = user;
    return write_bytes(w, in, (size_t)bytes) ? bytes : 0;
}

static sf_count_t vio_tell(void *user)
{
    struct signal_writer *w = user;
    return lseek(w->fd, 0, SEEK_CUR);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static int sound_format(const char *path)
{
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof(SOUNDS) / sizeof(SOUNDS[0]); i++) {
        if (strcasecmp(SOUNDS[i].suffix, dot + 1) == 0)
            return SOUNDS[i].format;
    }
    return 0;
}

/* Before the file is touched: can it be at all? */
static int check_spec(const struct signal_writer *w, SF_INFO *info, struct signal_error *err)
{
    if (w->spec.channels < 1)
        return signal_error_set(err, SIGNAL_USAGE, "%s: output of no channels", shown(w));
    if (w->spec.format == SIGNAL_TOKENS)
        return signal_error_set(err, SIGNAL_USAGE, "%s: results are numbers, not tokens; write .f32", shown(w));
    if (w->spec.format != SIGNAL_SOUND)
        return SIGNAL_OK;
    info->format = sound_format(w->path);
    if (!info->format)
        return signal_error_set(
            err, SIGNAL_USAGE,
            "%s: the suffix must be one of .f32 .f64 .s16 .s32 .wav .rf64 .w64 .caf .aiff .au .flac .ogg", w->path);
    if (!(w->spec.rate >= 1 && w->spec.rate <= 1e9) || w->spec.rate != floor(w->spec.rate) || w->spec.channels > 1024)
        return signal_error_set(err, SIGNAL_USAGE,
                                "%s: this kind of file cannot hold %u channels at %.9g Hz; write .f32", w->path,
                                w->spec.channels, w->spec.rate);
    info->samplerate = (int)w->spec.rate;
    info->channels = (int)w->spec.channels;
    if (!sf_format_check(info))
        return signal_error_set(err, SIGNAL_USAGE,
                                "%s: this kind of file cannot hold %u channels at %.9g Hz; write .f32", w->path,
                                w->spec.channels, w->spec.rate);
    return SIGNAL_OK;
}

static int open_sound(struct signal_writer *w, SF_INFO *info, struct signal_error *err)
{
    SF_VIRTUAL_IO io = {vio_length, vio_seek, vio_read, vio_write, vio_tell};
    if (!w->regular)
        return signal_error_set(err, SIGNAL_USAGE, "%s: a sound file must be a regular file; write raw", w->path);
    w->sound = sf_open_virtual(&io, SFM_WRITE, info, w);
    if (!w->sound || w->error)
        return signal_error_set(err, SIGNAL_CANTCREAT, "%s: %s", w->path,
                                w->error ? strerror(w->error) : sf_strerror(NULL));
    sf_command(w->sound, SFC_SET_CLIPPING, NULL, SF_TRUE);
    if ((info->format & SF_FORMAT_TYPEMASK) == SF_FORMAT_RF64 && strcasecmp(strrchr(w->path, '.'), ".wav") == 0)
        sf_command(w->sound, SFC_RF64_AUTO_DOWNGRADE, NULL, SF_TRUE);
    return SIGNAL_OK;
}

/* Two writers of one file would each be told that it is whole. Nothing of it is touched before it is ours; a file
 * system without locks has none to give. */
static int claim_file(struct signal_writer *w, struct signal_error *err)
{
    if (flock(w->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return signal_error_set(err, SIGNAL_CANTCREAT, "%s: another program is writing it; give another name", w->path);
    if (ftruncate(w->fd, 0) < 0)
        return signal_error_set(err, SIGNAL_CANTCREAT, "%s: %s", w->path, strerror(errno));
    return SIGNAL_OK;
}

static int open_file(struct signal_writer *w, struct signal_error *err)
{
    struct stat st;
    SF_INFO info = {0};
    bool is_stdout = strcmp(w->path, "-") == 0;
    int rc = check_spec(w, &info, err);
    if (rc)
        return rc;
    w->fd = is_stdout ? dup(STDOUT_FILENO) : open(w->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (w->fd < 0 || fstat(w->fd, &st) < 0)
        return signal_error_set(err, SIGNAL_CANTCREAT, "%s: %s", shown(w), strerror(errno));
    if (S_ISREG(st.st_mode) && !is_stdout && (rc = claim_file(w, err)) != 0)
        return rc;
    w->regular = S_ISREG(st.st_mode); /* and so may be removed */
    return w->spec.format == SIGNAL_SOUND ? open_sound(w, &info, err) : SIGNAL_OK;
}

int signal_writer_open(struct signal_writer **out, const char *path, const struct signal_spec *spec,
                       struct signal_error *err)
{
    struct signal_writer *w = calloc(1, sizeof(*w));
    *out = NULL;
    if (!w || !(w->path = strdup(path))) {
        free(w);
        return signal_error_set(err, SIGNAL_NOMEM, "%s: out of memory", path);
    }
    w->fd = -1;
    w->spec = *spec;
    w->spec.format = signal_format_of(path, spec->format);
    int rc = open_file(w, err);
    if (rc)
        signal_writer_abort(w);
    else
        *out = w;
    return rc;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static double clip(double value, double limit)
{
    return value >= limit - 1 ? limit - 1 : value >= -limit ? value : -limit; /* NaN becomes -limit */
}

static void narrow(enum signal_format format, const float *in, size_t n, unsigned char *out)
{
    for (size_t i = 0; i < n; i++) {
        int16_t s16;
        int32_t s32;
        double f64 = in[i];
        if (format == SIGNAL_S16) {
            s16 = (int16_t)lrint(clip(f64 * 0x1p15, 0x1p15));
            memcpy(out + i * 2, &s16, 2);
        } else if (format == SIGNAL_S32) {
            s32 = (int32_t)lrint(clip(f64 * 0x1p31, 0x1p31));
            memcpy(out + i * 4, &s32, 4);
        } else {
            memcpy(out + i * 8, &f64, 8);
        }
    }
}

static bool write_raw(struct signal_writer *w, const float *in, size_t values)
{
    unsigned char block[RAW_BLOCK_VALUES * 8];
    if (w->spec.format == SIGNAL_F32)
        return write_bytes(w, in, values * sizeof(float));
    for (size_t at = 0; at < values;) {
        size_t now = values - at < RAW_BLOCK_VALUES ? values - at : RAW_BLOCK_VALUES;
        narrow(w->spec.format, in + at, now, block);
        if (!write_bytes(w, block, now * signal_format_bytes(w->spec.format)))
            return false;
        at += now;
    }
    return true;
}

static int fail(const struct signal_writer *w, struct signal_error *err)
{
    const char *reason = w->error ? strerror(w->error) : sf_strerror(w->sound);
    return signal_error_set(err, SIGNAL_IO, "%s: writing failed after %llu frames: %s", shown(w),
                            (unsigned long long)w->frames, reason);
}

int signal_writer_write(struct signal_writer *writer, const float *in, size_t frames, struct signal_error *err)
{
    bool written = writer->sound ? sf_writef_float(writer->sound, in, (sf_count_t)frames) == (sf_count_t)frames
                                 : write_raw(writer, in, frames * writer->spec.channels);
    if (!written || writer->error)
        return fail(writer, err);
    writer->frames += frames;
    if (writer->sound && (double)(writer->frames - writer->told) >= writer->spec.rate) {
        sf_command(writer->sound, SFC_UPDATE_HEADER_NOW, NULL, 0);
        writer->told = writer->frames;
        if (writer->error)
            return fail(writer, err);
    }
    return SIGNAL_OK;
}

uint64_t signal_writer_frames(const struct signal_writer *writer)
{
    return writer->frames;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

int signal_writer_close(struct signal_writer *writer, struct signal_error *err)
{
    int rc = SIGNAL_OK;
    if (writer->sound) {
        int sound = sf_close(writer->sound);
        writer->sound = NULL;
        if (sound && !writer->error)
            writer->error = EIO;
    }
    if (close(writer->fd) < 0 && !writer->error)
        writer->error = errno;
    writer->fd = -1;
    if (writer->error)
        rc = fail(writer, err);
    if (rc)
        signal_writer_abort(writer);
    else {
        free(writer->path);
        free(writer);
    }
    return rc;
}

void signal_writer_abort(struct signal_writer *writer)
{
    if (!writer)
        return;
    if (writer->sound)
        sf_close(writer->sound);
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->regular && strcmp(writer->path, "-") != 0)
        unlink(writer->path);
    free(writer->path);
    free(writer);
}
