/* SPDX-License-Identifier: Apache-2.0
 *
 * Signal files for the command-line programs: raw little-endian numbers, or whatever libsndfile reads and writes.
 *
 * Raw files are recognised by suffix (.f32 .f64 .s16 .s32, and .i32 for tokens) or by a format that the caller gives;
 * they know neither rate nor channels, so the caller says them. "-" is standard input or output, always raw (f32 unless
 * a format is given). Everything else is a sound file. Values are delivered block by block as float32, interleaved:
 * integers divided by 2^15 and 2^31, as the protocol does; tokens as int32.
 *
 * What is written is complete or an error: short writes, a full disk and errors that only show at the end are all
 * reported.
 *
 * Words: a frame is one sample of every channel.
 * Threads: a reader or writer belongs to one thread at a time. Errors: 0 or a negative status, err->text naming the
 * file and the reason; err may be NULL.
 */
#ifndef CLIENTS_AUDIO_SIGNAL_H
#define CLIENTS_AUDIO_SIGNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum signal_status {
    SIGNAL_OK = 0,
    SIGNAL_NOMEM = -1,
    SIGNAL_USAGE = -2,     /* what the caller asks for cannot be */
    SIGNAL_NOINPUT = -3,   /* the input cannot be opened */
    SIGNAL_DATA = -4,      /* the input is not what it should be */
    SIGNAL_CANTCREAT = -5, /* the output cannot be created */
    SIGNAL_IO = -6,        /* reading or writing failed */
};

struct signal_error {
    char text[512];
};

enum signal_format {
    SIGNAL_AUTO, /* by suffix */
    SIGNAL_F32,
    SIGNAL_F64,
    SIGNAL_S16,
    SIGNAL_S32,
    SIGNAL_TOKENS, /* int32, one per frame */
    SIGNAL_SOUND   /* libsndfile */
};

struct signal_spec {
    enum signal_format format;
    uint32_t channels; /* of raw input, and of output; 0: not known */
    double rate;       /* Hz; 0: not known */
};

/* What `path` will be read or written as: `asked` unless that is SIGNAL_AUTO. */
enum signal_format signal_format_of(const char *path, enum signal_format asked);
/* The format of a word such as "s16" ("f32 f64 s16 s32 i32"); SIGNAL_AUTO for an unknown one. */
enum signal_format signal_format_find(const char *word);
/* Whether another program writes the file now, through signal_writer_open. */
bool signal_is_being_written(const char *path);
/* Whether both names lead to one regular file, which must not be written while it is read. */
bool signal_is_same_file(const char *a, const char *b);

/* ---- reading ----------------------------------------------------------------------------------------------------- */

struct signal_reader;

/* spec gives format, and for raw input channels (at least 1) and rate. A sound file that ends before the end that its
 * header names is SIGNAL_DATA; one whose header was never completed, or never will be, is read to where it ends. */
int signal_reader_open(struct signal_reader **out, const char *path, const struct signal_spec *spec,
                       struct signal_error *err);
void signal_reader_close(struct signal_reader *reader);
/* Format, channels and rate as they are: for a sound file, the file's own. */
const struct signal_spec *signal_reader_spec(const struct signal_reader *reader);
/* What poll(2) can wait on before a read: the descriptor of raw input, -1 for sound files. */
int signal_reader_fd(const struct signal_reader *reader);
/* Frames of the whole file; -1 when only the end will tell (a pipe). */
int64_t signal_reader_frames(const struct signal_reader *reader);
/* Up to `max` frames into `out` (float32, or int32 for SIGNAL_TOKENS); *got is less only at the end of the file. A raw
 * file that ends within a frame is SIGNAL_DATA. */
int signal_reader_read(struct signal_reader *reader, void *out, size_t max, size_t *got, struct signal_error *err);
/* The next frame to read; SIGNAL_USAGE where going back is not possible (a pipe). */
int signal_reader_seek(struct signal_reader *reader, uint64_t frame, struct signal_error *err);

/* ---- writing ----------------------------------------------------------------------------------------------------- */

struct signal_writer;

/* Creates or truncates; SIGNAL_CANTCREAT while another program writes the file through here. spec gives format,
 * channels and rate (sound files need a whole number of Hz). Sound files keep float32 where their kind can (.wav .w64
 * .rf64 .caf .aiff .au; .wav grows past 4 GiB as RF64); .flac has 24 bits and .ogg is lossy: both clip at +-1. Raw
 * output is SIGNAL_F32, or s16, s32, f64 (the integers clip). A sound file can be played while it is written: its header
 * is renewed after each second of signal. */
int signal_writer_open(struct signal_writer **out, const char *path, const struct signal_spec *spec,
                       struct signal_error *err);
/* `frames` frames of interleaved float32. */
int signal_writer_write(struct signal_writer *writer, const float *in, size_t frames, struct signal_error *err);
uint64_t signal_writer_frames(const struct signal_writer *writer);
/* Completes the file; the writer is gone whatever comes back. Only 0 means that the file is whole. */
int signal_writer_close(struct signal_writer *writer, struct signal_error *err);
/* Gives up: removes the file if it is a regular one. NULL is legal. */
void signal_writer_abort(struct signal_writer *writer);

/* ---- between the files of this room ------------------------------------------------------------------------------ */

int signal_error_set(struct signal_error *err, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Bytes of one raw value; 0 for SIGNAL_SOUND. */
size_t signal_format_bytes(enum signal_format format);

#endif
