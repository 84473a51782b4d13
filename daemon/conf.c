/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading, checking and reloading the configuration. libinih takes lines apart; this file knows what they mean, and
 * collects every error instead of stopping at the first, because an operator mends a file, not a line.
 *
 * libinih here has no line numbers and joins indented lines to the one before, so lines reach it through line_read,
 * which counts them and strips what is before the key.
 */
#include "daemon/conf.h"
#include "daemon/conf_key.h"
#include "daemon/mapping.h"
#include "daemon/policy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES  2500 /* a full list of endpoints fits */
#define SOCKET_PATH_MAX 107  /* sun_path of sockaddr_un without its NUL */
#define DEVICE_MAX      255
#define COUNT_ONE(...)  +1
#define KEYS_N          (0 CONF_KEYS(COUNT_ONE))

struct reading {
    FILE *file;
    const char *name;
    struct conf *conf;
    struct conf_report *report;
    unsigned line;
    unsigned line_of[KEYS_N]; /* where each key was given, 0: not yet */
    unsigned rule_line[KEYS_N][CONF_RULES_MAX];
};

__attribute__((format(printf, 2, 3))) static void report_add(struct conf_report *report, const char *format, ...)
{
    size_t used = strlen(report->text);
    va_list args;

    report->lines++;
    if (used > 0 && used + 1 < sizeof(report->text))
        report->text[used++] = '\n';
    va_start(args, format);
    vsnprintf(report->text + used, sizeof(report->text) - used, format, args);
    va_end(args);
}

/* ---- values that follow from others ------------------------------------------------------------------------------ */

/* systemd may name several runtime directories, separated by ':'; the first is ours. */
static void endpoint_init(char out[CONF_TEXT_SIZE])
{
    const char *runtime = getenv("RUNTIME_DIRECTORY");
    const char *user = getenv("XDG_RUNTIME_DIR");

    if (runtime && runtime[0] == '/')
        snprintf(out, CONF_TEXT_SIZE, "ipc://%.*s/ssmd.sock", (int)strcspn(runtime, ":"), runtime);
    else if (user && user[0] == '/')
        snprintf(out, CONF_TEXT_SIZE, "ipc://%s/ssmd/ssmd.sock", user);
    else
        snprintf(out, CONF_TEXT_SIZE, "ipc:///run/ssmd/ssmd.sock");
}

/* `name` beside the first ipc endpoint, or off. */
static void beside_init(const struct conf_list *endpoint, const char *name, char out[CONF_TEXT_SIZE])
{
    const char *path = NULL;
    const char *slash;

    for (uint32_t i = 0; i < endpoint->n && !path; i++)
        path = conf_ipc_path(endpoint->item[i]);
    slash = path ? strrchr(path, '/') : NULL;
    if (slash)
        snprintf(out, CONF_TEXT_SIZE, "ipc://%.*s/%s", (int)(slash - path), path, name);
    else
        snprintf(out, CONF_TEXT_SIZE, "off");
}

static void resolve(struct conf *conf)
{
    if (conf->endpoint.n == 1 && strcmp(conf->endpoint.item[0], "auto") == 0)
        endpoint_init(conf->endpoint.item[0]);
    if (strcmp(conf->tap, "auto") == 0)
        beside_init(&conf->endpoint, "ssmd-tap.sock", conf->tap);
    if (conf->publish_endpoint.n == 1 && strcmp(conf->publish_endpoint.item[0], "auto") == 0) {
        if (conf->publish.n > 0)
            beside_init(&conf->endpoint, "ssmd-publish.sock", conf->publish_endpoint.item[0]);
        else
            strcpy(conf->publish_endpoint.item[0], "off");
    }
}

int conf_has_publish(const struct conf *conf)
{
    return conf->publish_endpoint.n != 1 || strcmp(conf->publish_endpoint.item[0], "off") != 0;
}

static void standard_load(struct conf *conf)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);

    memset(conf, 0, sizeof(*conf));
    for (size_t i = 0; i < n; i++)
        if (conf_value_decode(&keys[i], keys[i].standard, conf) != 0)
            abort(); /* a default of our own table out of its own range */
}

void conf_init(struct conf *conf)
{
    standard_load(conf);
    resolve(conf);
}

const char *conf_ipc_path(const char *endpoint)
{
    return strncmp(endpoint, "ipc://", 6) == 0 ? endpoint + 6 : NULL;
}

int conf_is_loopback(const char *endpoint)
{
    const char *host = endpoint + 6, *colon;
    char text[INET6_ADDRSTRLEN + 2];
    struct in_addr v4;
    struct in6_addr v6;
    size_t size;

    if (strncmp(endpoint, "tcp://", 6) != 0 || !(colon = strrchr(host, ':')))
        return 0;
    size = (size_t)(colon - host);
    if (size > 1 && host[0] == '[' && host[size - 1] == ']') {
        host++;
        size -= 2;
    }
    if (size >= sizeof(text))
        return 0;
    memcpy(text, host, size);
    text[size] = '\0';
    if (inet_pton(AF_INET, text, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, text, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(text, "lo") == 0; /* ZeroMQ takes names of interfaces, not of hosts, to bind to */
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static int is_port(const char *text)
{
    char *end;
    unsigned long port = strtoul(text, &end, 10);

    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && port >= 1 && port <= 65535;
}

static void endpoint_check(const char *key, const char *endpoint, const struct conf *conf, struct conf_report *report)
{
    const char *path = conf_ipc_path(endpoint);
    const char *port = strrchr(endpoint, ':');

    if (path) {
        if (path[0] != '/')
            report_add(report, "%s = %s: the path after ipc:// must begin with '/'", key, endpoint);
        else if (strlen(path) > SOCKET_PATH_MAX)
            report_add(report, "%s = %s: the path is longer than a socket's may be (%d bytes)", key, endpoint,
                       SOCKET_PATH_MAX);
    } else if (strncmp(endpoint, "tcp://", 6) != 0) {
        report_add(report, "%s = %s: must be ipc:///PATH or tcp://ADDRESS:PORT", key, endpoint);
    } else if (port == endpoint + 3 || !is_port(port + 1)) {
        report_add(report, "%s = %s: needs a port from 1 to 65535 after the address", key, endpoint);
    } else if (!conf_is_loopback(endpoint) && !conf->allow_unauthenticated) {
        report_add(report,
                   "%s = %s: whoever reaches this address could use the daemon; bind 127.0.0.1 or [::1], or say "
                   "allow_unauthenticated = yes",
                   key, endpoint);
    }
}

/* HTTP has a socket of its own, which is bound to an address: names of interfaces are ZeroMQ's. */
static void check_metrics(const struct conf *conf, struct conf_report *report)
{
    uint32_t errors = report->lines;
    const char *host = conf->metrics + strlen("tcp://");
    char text[INET6_ADDRSTRLEN + 1];
    struct in6_addr address;

    endpoint_check("metrics", conf->metrics, conf, report);
    for (uint32_t i = 0; i < conf->endpoint.n; i++)
        if (strcmp(conf->endpoint.item[i], conf->metrics) == 0)
            report_add(report, "metrics = %s: is an endpoint already; HTTP needs its own, or off", conf->metrics);
    if (strcmp(conf->tap, conf->metrics) == 0)
        report_add(report, "metrics = %s: is the tap already; HTTP needs its own, or off", conf->metrics);
    if (report->lines > errors || conf_ipc_path(conf->metrics))
        return;
    snprintf(text, sizeof(text), "%.*s", host[0] == '[' ? (int)strcspn(host + 1, "]") : (int)strcspn(host, ":"),
             host[0] == '[' ? host + 1 : host);
    if (inet_pton(host[0] == '[' ? AF_INET6 : AF_INET, text, &address) != 1)
        report_add(report, "metrics = %s: must be tcp://ADDRESS:PORT with a numeric address, as 127.0.0.1 or [::1]",
                   conf->metrics);
}

static void check_endpoints(const struct conf *conf, struct conf_report *report)
{
    int tap = strcmp(conf->tap, "off") != 0;

    for (uint32_t i = 0; i < conf->endpoint.n; i++) {
        endpoint_check("endpoint", conf->endpoint.item[i], conf, report);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(conf->endpoint.item[i], conf->endpoint.item[k]) == 0)
                report_add(report, "endpoint: %s is given twice", conf->endpoint.item[i]);
        if (tap && strcmp(conf->endpoint.item[i], conf->tap) == 0)
            report_add(report, "tap = %s: is an endpoint already; the tap needs its own, or off", conf->tap);
    }
    if (tap)
        endpoint_check("tap", conf->tap, conf, report);
    if (strcmp(conf->metrics, "off") != 0)
        check_metrics(conf, report);
}

/* Publishers have a socket of their own as well. */
static void check_publish_endpoints(const struct conf *conf, struct conf_report *report)
{
    const struct conf_list *list = &conf->publish_endpoint;

    for (uint32_t i = 0; i < list->n && conf_has_publish(conf); i++) {
        int is_taken = strcmp(list->item[i], conf->tap) == 0;

        endpoint_check("publish_endpoint", list->item[i], conf, report);
        for (uint32_t k = 0; k < i; k++)
            is_taken |= strcmp(list->item[i], list->item[k]) == 0;
        for (uint32_t k = 0; k < conf->endpoint.n; k++)
            is_taken |= strcmp(list->item[i], conf->endpoint.item[k]) == 0;
        if (is_taken)
            report_add(report, "publish_endpoint = %s: is an endpoint already; publishers need their own, or off",
                       list->item[i]);
    }
}

static void check_publish(const struct conf *conf, struct conf_report *report)
{
    static struct mappings mappings; /* large; conf_load is one thread's */
    char why[512];
    int at = mappings_parse(&mappings, &conf->publish, why, sizeof(why));
    int evicts = conf->evict_ms > 0 || conf->evict_when_full;

    if (at >= 0)
        report_add(report, "publish = %s: %s", conf->publish.item[at], why);
    for (uint32_t i = 0; i < mappings.n; i++)
        evicts |= mappings.of[i].evict_ms > 0;
    if (evicts && !conf->state_dir[0])
        report_add(report, "evict_ms, evict_when_full: need a state_dir, where the images of evicted streams go");
}

static void check_sizes(const struct conf *conf, struct conf_report *report)
{
    if (conf->stream_window > conf->connection_window)
        report_add(report, "stream_window = %" PRIu64 ": larger than connection_window = %" PRIu64, conf->stream_window,
                   conf->connection_window);
    if (conf->connection_window > conf->input_memory)
        report_add(report, "connection_window = %" PRIu64 ": larger than input_memory = %" PRIu64,
                   conf->connection_window, conf->input_memory);
    if (conf->max_row_frames > conf->batch_frames)
        report_add(report, "max_row_frames = %u: larger than batch_frames = %u", conf->max_row_frames,
                   conf->batch_frames);
    if (conf->models[0] != '\0' && conf->models[0] != '/')
        report_add(report, "models = %s: must begin with '/', since a daemon has no useful working directory",
                   conf->models);
    if (conf->max_row_frames > conf->device_batch_frames)
        report_add(report, "device_batch_frames = %u: less than max_row_frames = %u", conf->device_batch_frames,
                   conf->max_row_frames);
}

/* Whether there are such devices is seen at the start. */
static void check_devices(const struct conf *conf, struct conf_report *report)
{
    const struct conf_list *list = &conf->device;
    uint64_t number[CONF_LIST_MAX];

    if (list->n == 1 && strcmp(list->item[0], "all") == 0)
        return;
    for (uint32_t i = 0; i < list->n; i++) {
        const char *text = list->item[i];

        if (conf_number_decode(text, text + strlen(text), 10, &number[i]) != 0 || number[i] > DEVICE_MAX) {
            report_add(report, "device = %s: must be all, or numbers from 0 to %d", text, DEVICE_MAX);
            return;
        }
        for (uint32_t k = 0; k < i; k++)
            if (number[k] == number[i])
                report_add(report, "device: %" PRIu64 " is given twice", number[i]);
    }
}

static void check_rules(const struct conf *conf, struct conf_report *report)
{
    char why[512];

    if (policy_check(conf, why, sizeof(why)) != 0)
        report_add(report, "%s", why);
}

/* Where the file says what a check's sentence, "KEY = VALUE: ..." or "KEY: ...", is about; 0: nowhere. */
static unsigned line_find(const struct reading *reading, const char *sentence)
{
    size_t n, size = strcspn(sentence, " :");
    const struct conf_key *keys = conf_keys(&n);

    for (size_t i = 0; i < n; i++) {
        const struct conf_rules *rules = (const void *)((const char *)reading->conf + keys[i].offset);

        if (strlen(keys[i].name) != size || memcmp(keys[i].name, sentence, size) != 0)
            continue;
        for (uint32_t k = 0; keys[i].type == CONF_RULES && k < rules->n; k++) {
            size_t length = strlen(rules->item[k]);

            if (strlen(sentence) > size + 3 + length && sentence[size + 3 + length] == ':' &&
                memcmp(sentence + size + 3, rules->item[k], length) == 0)
                return reading->rule_line[i][k];
        }
        return reading->line_of[i];
    }
    return 0;
}

/* What is wrong with values together, each with its place in the file. */
static void check_all(struct reading *reading)
{
    struct conf_report found = {.lines = 0};
    char *rest = found.text, *sentence;

    check_endpoints(reading->conf, &found);
    check_publish_endpoints(reading->conf, &found);
    check_publish(reading->conf, &found);
    check_sizes(reading->conf, &found);
    check_devices(reading->conf, &found);
    check_rules(reading->conf, &found);
    while (found.lines > 0 && (sentence = strsep(&rest, "\n")) != NULL) {
        unsigned line = line_find(reading, sentence);

        if (line > 0)
            report_add(reading->report, "%s:%u: %s", reading->name, line, sentence);
        else
            report_add(reading->report, "%s", sentence);
    }
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

static char *line_read(char *out, int size, void *stream)
{
    struct reading *reading = stream;
    size_t used, blanks;

    if (!fgets(out, size, reading->file))
        return NULL;
    reading->line++;
    used = strlen(out);
    if (used > 0 && out[used - 1] != '\n' && !feof(reading->file)) {
        int c;

        report_add(reading->report, "%s:%u: the line is longer than %d bytes", reading->name, reading->line, size - 1);
        while ((c = getc(reading->file)) != '\n' && c != EOF)
            continue;
        out[0] = '\0';
        return out;
    }
    blanks = strspn(out, " \t");
    memmove(out, out + blanks, used - blanks + 1);
    used = strcspn(out, "#\r\n");
    if (out[0] == '[')
        report_add(reading->report, "%s:%u: sections are not used here; remove %.*s", reading->name, reading->line,
                   (int)used, out);
    else if (used > 0 && !memchr(out, '=', used))
        report_add(reading->report, "%s:%u: not of the form `key = value`: %.*s", reading->name, reading->line,
                   (int)used, out);
    else
        return out;
    out[0] = '\0';
    return out;
}

static int pair_take(void *context, const char *section, const char *name, const char *value)
{
    struct reading *reading = context;
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    char range[256];

    (void)section; /* line_read lets none through */
    for (size_t i = 0; i < n; i++) {
        if (strcmp(keys[i].name, name) != 0)
            continue;
        if (reading->line_of[i] > 0 && keys[i].type != CONF_RULES) {
            report_add(reading->report, "%s:%u: %s is given twice (first in line %u)", reading->name, reading->line,
                       name, reading->line_of[i]);
        } else if (conf_value_decode(&keys[i], value, reading->conf) != 0) {
            conf_range_text(&keys[i], range, sizeof(range));
            report_add(reading->report, "%s:%u: %s = %s: must be %s", reading->name, reading->line, name, value, range);
        } else if (keys[i].type == CONF_RULES) {
            const struct conf_rules *rules = (const void *)((const char *)reading->conf + keys[i].offset);

            if (rules->n > 0)
                reading->rule_line[i][rules->n - 1] = reading->line;
        }
        reading->line_of[i] = reading->line;
        return 1;
    }
    report_add(reading->report, "%s:%u: unknown key %s = %s (ssmd --help lists the keys)", reading->name, reading->line,
               name, value);
    return 1;
}

static void file_read(struct reading *reading)
{
    static char comment[] = "#";

    ini_max_line = LINE_MAX_BYTES;
    ini_start_comment_prefixes = comment;
    ini_inline_comment_prefixes = comment;
    if (ini_parse_stream(line_read, reading, pair_take, reading) < 0)
        report_add(reading->report, "%s: out of memory", reading->name);
    if (ferror(reading->file))
        report_add(reading->report, "%s: reading failed: %s", reading->name, strerror(errno));
}

int conf_load(struct conf *conf, const char *path, struct conf_report *report)
{
    struct reading reading = {.name = path, .conf = conf, .report = report};

    memset(report, 0, sizeof(*report));
    standard_load(conf);
    if (path) {
        reading.file = fopen(path, "re");
        if (!reading.file) {
            report_add(report, "%s: cannot be opened: %s", path, strerror(errno));
            return -1;
        }
        file_read(&reading);
        fclose(reading.file);
    }
    if (report->lines == 0) {
        resolve(conf);
        check_all(&reading);
    }
    return report->lines == 0 ? 0 : -1;
}

/* In a report, where a line is one change. */
static void rules_join(char *text)
{
    while ((text = strchr(text, '\n')) != NULL)
        *text = ';';
}

void conf_reload(struct conf *conf, const struct conf *next, struct conf_report *applied, struct conf_report *refused)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    char from[CONF_VALUE_SIZE], to[CONF_VALUE_SIZE];

    memset(applied, 0, sizeof(*applied));
    memset(refused, 0, sizeof(*refused));
    for (size_t i = 0; i < n; i++) {
        conf_value_encode(&keys[i], conf, from);
        conf_value_encode(&keys[i], next, to);
        if (strcmp(from, to) == 0)
            continue;
        rules_join(from);
        rules_join(to);
        report_add(keys[i].change == CONF_live ? applied : refused, "key=%s from=\"%s\" to=\"%s\"", keys[i].name, from,
                   to);
        if (keys[i].change == CONF_live)
            memcpy((char *)conf + keys[i].offset, (const char *)next + keys[i].offset, keys[i].size);
    }
}
