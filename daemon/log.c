/* SPDX-License-Identifier: Apache-2.0
 *
 * The log's lines. A format is read word by word ("key=%spec"), each word is formatted by vsnprintf's rules for its one
 * spec, and the value is quoted when it must be. The line is built on the stack and leaves in one write(2), which keeps
 * lines of several threads apart; what does not fit is cut, and ends in "...".
 */
#include "daemon/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_SIZE  1024
#define VALUE_SIZE 512

static struct {
    _Atomic int fd;
    _Atomic int form;
    _Atomic int level;
} log_to = {STDERR_FILENO, LOG_FORM_PLAIN, LOG_INFO};

static const struct {
    const char *name;
    int priority;
} levels[] = {
    {"err", LOG_ERR}, {"warning", LOG_WARNING}, {"notice", LOG_NOTICE}, {"info", LOG_INFO}, {"debug", LOG_DEBUG},
};
#define LEVELS (sizeof(levels) / sizeof(levels[0]))

struct line {
    char text[LINE_SIZE];
    size_t used;
    int cut;
};

void log_init(int fd, enum log_form form, int level)
{
    atomic_store(&log_to.fd, fd);
    atomic_store(&log_to.form, (int)form);
    atomic_store(&log_to.level, level);
}

void log_set_level(int level)
{
    atomic_store(&log_to.level, level);
}

int log_level_find(const char *name)
{
    for (size_t i = 0; i < LEVELS; i++)
        if (strcmp(levels[i].name, name) == 0)
            return levels[i].priority;
    return -1;
}

enum log_form log_form_find(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;

    if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(fd, &st) != 0)
        return LOG_FORM_PLAIN;
    return st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode ? LOG_FORM_JOURNAL : LOG_FORM_PLAIN;
}

/* The last four bytes belong to line_finish. */
static void line_add(struct line *line, const char *text, size_t size)
{
    size_t room = sizeof(line->text) - 4 - line->used;

    if (size > room) {
        size = room;
        line->cut = 1;
    }
    memcpy(line->text + line->used, text, size);
    line->used += size;
}

static void line_add_text(struct line *line, const char *text)
{
    line_add(line, text, strlen(text));
}

static void line_finish(struct line *line)
{
    if (line->cut) {
        memcpy(line->text + line->used, "...", 3);
        line->used += 3;
    }
    line->text[line->used++] = '\n';
}

static int is_plain(const char *value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)value[i];

        if (c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\')
            return 0;
    }
    return size > 0;
}

static void line_add_value(struct line *line, const char *value, size_t size)
{
    if (is_plain(value, size)) {
        line_add(line, value, size);
        return;
    }
    line_add(line, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)value[i];
        char escaped[5];

        if (c == '"' || c == '\\')
            snprintf(escaped, sizeof(escaped), "\\%c", c);
        else if (c < ' ' || c >= 0x7f)
            snprintf(escaped, sizeof(escaped), "\\x%02x", c);
        else
            snprintf(escaped, sizeof(escaped), "%c", c);
        line_add_text(line, escaped);
    }
    line_add(line, "\"", 1);
}

/* One printf spec taken apart: flags, width and precision are left in `text` for snprintf. */
struct spec {
    char text[16];
    size_t size;     /* bytes of the format it covers */
    char length;     /* 0, 'l', 'L' (ll), 'z', 'j' */
    char conversion; /* 's', 'd', ..., 0: not a spec that the log knows */
    int star;        /* precision is an argument */
};

static struct spec spec_decode(const char *format)
{
    struct spec spec = {.size = 1};
    size_t prefix = 1 + strspn(format + 1, "0123456789.*-+#");
    size_t at = prefix;

    spec.star = memchr(format, '*', prefix) != NULL;
    if (format[at] == 'l' || format[at] == 'z' || format[at] == 'j')
        spec.length = format[at++];
    if (spec.length == 'l' && format[at] == 'l') {
        spec.length = 'L';
        at++;
    }
    spec.size = at + 1;
    if (format[at] == '\0' || !strchr("sdiuxogfe", format[at]) || spec.size >= sizeof(spec.text))
        return (struct spec){.size = strlen(format)};
    spec.conversion = format[at];
    memcpy(spec.text, format, spec.size);
    return spec;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored                                                                                         \
    "-Wformat-nonliteral" /* spec->text is a piece of a format that the compiler has checked */
static int format_number(char *out, size_t size, const struct spec *spec, va_list *args)
{
    if (strchr("gfe", spec->conversion))
        return snprintf(out, size, spec->text, va_arg(*args, double));
    switch (spec->length) {
    case 'l':
        return snprintf(out, size, spec->text, va_arg(*args, long));
    case 'L':
        return snprintf(out, size, spec->text, va_arg(*args, long long));
    case 'z':
        return snprintf(out, size, spec->text, va_arg(*args, size_t));
    case 'j':
        return snprintf(out, size, spec->text, va_arg(*args, intmax_t));
    default:
        return snprintf(out, size, spec->text, va_arg(*args, int));
    }
}
#pragma GCC diagnostic pop

static void line_add_spec(struct line *line, const struct spec *spec, va_list *args)
{
    char value[VALUE_SIZE];
    int size;

    if (spec->conversion == 's') {
        int most = spec->star ? va_arg(*args, int) : VALUE_SIZE;
        const char *text = va_arg(*args, const char *);

        if (!text)
            text = "";
        line_add_value(line, text, strnlen(text, most < 0 || most > VALUE_SIZE ? VALUE_SIZE : (size_t)most));
        return;
    }
    size = format_number(value, sizeof(value), spec, args);
    if (size > 0)
        line_add(line, value, (size_t)size < sizeof(value) ? (size_t)size : sizeof(value) - 1);
}

static void line_add_format(struct line *line, const char *format, va_list *args)
{
    while (*format != '\0') {
        size_t literal = strcspn(format, "%");

        line_add(line, format, literal);
        format += literal;
        if (*format == '%') {
            struct spec spec = spec_decode(format);

            if (spec.conversion == '\0') /* its argument cannot be skipped either: the rest goes out as it is written */
                line_add(line, format, spec.size);
            else
                line_add_spec(line, &spec, args);
            format += spec.size;
        }
    }
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Whether the site may log now; *suppressed is what it kept to itself before. Two threads that begin a period at the
 * same time may let one line too many through, which harms nobody. */
static int site_admit(struct log_site *site, uint32_t *suppressed)
{
    uint64_t now = now_ms() + 1; /* never 0 */
    uint64_t began = atomic_load(&site->began_ms);

    *suppressed = 0;
    if (began == 0 || now - began >= LOG_SITE_PERIOD_MS) {
        atomic_store(&site->began_ms, now);
        atomic_store(&site->lines, 0);
    }
    if (atomic_fetch_add(&site->lines, 1) >= LOG_SITE_BURST) {
        atomic_fetch_add(&site->suppressed, 1);
        return 0;
    }
    *suppressed = atomic_exchange(&site->suppressed, 0);
    return 1;
}

static void line_begin(struct line *line, int priority)
{
    char text[64];

    if (atomic_load(&log_to.form) == LOG_FORM_JOURNAL) {
        snprintf(text, sizeof(text), "<%d>", priority);
        line_add_text(line, text);
    } else {
        const char *name = "emerg";
        struct timespec now;
        struct tm when;
        size_t used;

        for (size_t i = 0; i < LEVELS; i++)
            if (levels[i].priority == priority)
                name = levels[i].name;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &when);
        used = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &when);
        snprintf(text + used, sizeof(text) - used, ".%03ldZ %s ", now.tv_nsec / 1000000, name);
        line_add_text(line, text);
    }
}

void log_write(struct log_site *site, int priority, const char *event, const char *format, ...)
{
    struct line line = {.used = 0};
    uint32_t suppressed;
    va_list args;

    if (priority > atomic_load(&log_to.level) || !site_admit(site, &suppressed))
        return;
    line_begin(&line, priority);
    line_add_text(&line, event);
    if (format[1] != '\0') {
        va_start(args, format);
        line_add_format(&line, format, &args);
        va_end(args);
    }
    if (suppressed > 0) {
        char text[32];

        snprintf(text, sizeof(text), " suppressed=%u", suppressed);
        line_add_text(&line, text);
    }
    line_finish(&line);
    /* A log that cannot be written has nowhere to say so. */
    if (write(atomic_load(&log_to.fd), line.text, line.used) < 0)
        return;
}
