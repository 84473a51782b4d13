/* SPDX-License-Identifier: Apache-2.0
 *
 * How ssmctl answers: messages, exit codes, JSON; and how it reads numbers.
 */
#include "clients/c/ctl/ctl.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "proto/codec.h"

void ctl_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("ssmctl: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

int ctl_usage(const struct ctl *ctl, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("ssmctl: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\nTry 'ssmctl %s%s--help'.\n", ctl->command ? ctl->command : "", ctl->command ? " " : "");
    return EX_USAGE;
}

int ctl_connect(struct ctl *ctl)
{
    char err[512];
    struct ssmc_options options = {
        .endpoint = ctl->endpoint, .name = "ssmctl " SSMD_VERSION, .timeout_ms = ctl->timeout_ms};
    int rc = ssmc_connect(&ctl->c, &options, err, sizeof err);
    if (rc == 0)
        return 0;
    if (rc == SSMC_INTERRUPTED)
        return EXIT_INTERRUPTED;
    ctl_say("%s", err);
    return rc == SSMC_PROTOCOL ? EX_PROTOCOL : rc == SSMC_NOMEM ? EX_OSERR : EX_UNAVAILABLE;
}

static int refusal_exit_code(int code)
{
    switch (code) {
    case SSMD__CODE__NO_STREAM:
    case SSMD__CODE__TOO_OLD:
    case SSMD__CODE__TOO_NEW:
        return EX_NOINPUT;
    case SSMD__CODE__EXISTS:
        return EX_CANTCREAT;
    case SSMD__CODE__OWNED:
        return EX_NOPERM;
    case SSMD__CODE__RATE:
    case SSMD__CODE__BAD_SAMPLE:
    case SSMD__CODE__BAD_FORMAT:
    case SSMD__CODE__BAD_IMAGE:
        return EX_DATAERR;
    case SSMD__CODE__BAD_ID:
        return EX_USAGE;
    default:
        return EX_UNAVAILABLE;
    }
}

int ctl_exit_code(const struct ctl *ctl, int status)
{
    switch (status) {
    case SSMC_OK:
        return EX_OK;
    case SSMC_NOMEM:
        return EX_OSERR;
    case SSMC_INVAL:
        return EX_USAGE;
    case SSMC_REFUSED:
        return refusal_exit_code(ssmc_error_code(ctl->c));
    case SSMC_PROTOCOL:
        return EX_PROTOCOL;
    case SSMC_TAKEN:
        return EX_NOPERM;
    case SSMC_LOST:
        return EX_IOERR;
    case SSMC_INTERRUPTED:
        return EXIT_INTERRUPTED;
    default:
        return EX_UNAVAILABLE;
    }
}

int ctl_fail(const struct ctl *ctl, int status, const char *what)
{
    if (status == SSMC_INTERRUPTED)
        return EXIT_INTERRUPTED;
    ctl_say("%s: %s", what, ssmc_error_text(ctl->c));
    return ctl_exit_code(ctl, status);
}

int ctl_finish(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return EX_OK;
    ctl_say("standard output: %s", strerror(errno));
    return EX_IOERR;
}

int ctl_print_json(json_t *value)
{
    int rc = value ? json_dumpf(value, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) : -1;
    json_decref(value);
    if (rc != 0) {
        ctl_say("cannot print JSON: %s", strerror(errno));
        return EX_IOERR;
    }
    putchar('\n');
    return ctl_finish();
}

json_t *ctl_json_bytes(const char *bytes, size_t size)
{
    json_t *text = json_stringn(bytes, size);
    if (text)
        return text;
    char mended[3 * 256 + 1];
    size_t used = 0;
    for (size_t i = 0; i < size && i < 256; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte < 0x80)
            mended[used++] = (char)byte;
        else
            used = (size_t)(stpcpy(mended + used, "\xef\xbf\xbd") - mended);
    }
    return json_stringn(mended, used);
}

json_t *ctl_json_stream(const struct ssmc_stream_info *info)
{
    json_t *object = json_pack(
        "{s:o,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:f,s:f,s:i,s:i,s:b,s:i,s:i,s:i,s:i,s:i,s:I,s:I,s:b,s:b,s:i,s:b,s:b,s:I,s:I,"
        "s:I,"
        "s:I,s:f,s:i,s:i,s:i}",
        "id", ctl_json_bytes(info->id, info->id_size), "model", info->model, "epoch", (json_int_t)info->epoch, "next",
        (json_int_t)info->next, "applied", (json_int_t)info->applied, "durable", (json_int_t)info->durable,
        "result_first", (json_int_t)info->result_first, "result_next", (json_int_t)info->result_next, "rate",
        info->rate, "out_rate", info->out_rate, "channels", (int)info->channels, "out_channels",
        (int)info->out_channels, "tokens", info->tokens, "vocab", (int)info->vocab, "ratio_num", (int)info->ratio_num,
        "ratio_den", (int)info->ratio_den, "hop", (int)info->hop, "lookahead", (int)info->lookahead, "state_bytes",
        (json_int_t)info->state_bytes, "queued", (json_int_t)info->queued, "attached", info->attached, "closing",
        info->closing, "top_k", (int)info->top_k, "generates", info->generates, "generating", info->generating,
        "history_interval", (json_int_t)info->history_interval, "history_depth", (json_int_t)info->history_depth,
        "history_bytes", (json_int_t)info->history_bytes, "history_oldest", (json_int_t)info->history_oldest,
        "config_rate", info->config_rate, "modes_zeroed", (int)info->modes_zeroed, "version", (int)info->version,
        "newest_version", (int)info->newest_version);
    (void)!json_object_set_new(object, "class", json_string(info->deadline_class));
    (void)!json_object_set_new(object, "deadline_misses", json_integer((json_int_t)info->deadline_misses));
    (void)!json_object_set_new(object, "catch_up", json_real(info->catch_up));
    return object;
}

bool ctl_parse_u64(const char *word, uint64_t min, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(word, &end, 10);
    if (errno != 0 || end == word || *end != '\0' || word[0] < '0' || word[0] > '9' || value < min || value > max)
        return false;
    *out = value;
    return true;
}

bool ctl_parse_double(const char *word, double min, double max, double *out)
{
    char *end;
    errno = 0;
    double value = strtod(word, &end);
    if (end == word || *end != '\0' || !isfinite(value) || value < min || value > max)
        return false;
    *out = value;
    return true;
}
