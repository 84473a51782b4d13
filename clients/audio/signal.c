/* SPDX-License-Identifier: Apache-2.0
 *
 * Formats by name; errors. Reading is in reader.c, writing in writer.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clients/audio/signal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw files are little-endian and are moved as they are");

static const struct {
    const char *word;
    enum signal_format format;
    size_t bytes;
} FORMATS[] = {
    {"f32", SIGNAL_F32, 4}, {"f64", SIGNAL_F64, 8},    {"s16", SIGNAL_S16, 2},
    {"s32", SIGNAL_S32, 4}, {"i32", SIGNAL_TOKENS, 4},
};

enum signal_format signal_format_find(const char *word)
{
    for (size_t i = 0; i < sizeof(FORMATS) / sizeof(FORMATS[0]); i++) {
        if (strcasecmp(FORMATS[i].word, word) == 0)
            return FORMATS[i].format;
    }
    return SIGNAL_AUTO;
}

size_t signal_format_bytes(enum signal_format format)
{
    for (size_t i = 0; i < sizeof(FORMATS) / sizeof(FORMATS[0]); i++) {
        if (FORMATS[i].format == format)
            return FORMATS[i].bytes;
    }
    return 0;
}

enum signal_format signal_format_of(const char *path, enum signal_format asked)
{
    if (asked != SIGNAL_AUTO)
        return asked;
    if (strcmp(path, "-") == 0)
        return SIGNAL_F32;
    const char *dot = strrchr(path, '.');
    enum signal_format raw = dot ? signal_format_find(dot + 1) : SIGNAL_AUTO;
    return raw == SIGNAL_AUTO ? SIGNAL_SOUND : raw;
}

bool signal_is_being_written(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool is_locked = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    if (fd >= 0)
        close(fd);
    return is_locked;
}

bool signal_is_same_file(const char *a, const char *b)
{
    struct stat x, y;
    if (strcmp(a, "-") == 0 || strcmp(b, "-") == 0 || stat(a, &x) < 0 || stat(b, &y) < 0)
        return false;
    return S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

int signal_error_set(struct signal_error *err, int status, const char *format, ...)
{
    if (!err)
        return status;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return status;
}
