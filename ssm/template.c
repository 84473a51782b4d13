/* SPDX-License-Identifier: Apache-2.0
 *
 * The built-in models: templates with parameters that become the same configuration a model directory would hold.
 *
 *     memory      hippo legt per channel: the last `window` of the signal as `order` Legendre coefficients
 *     forecast    hippo legt, then rls: predicts `horizon` ahead, learning on line, and scores anomalies
 *
 * A spec is "name" or "name:key=value,key=value". It is read strictly: what is unknown, given twice, empty, not a
 * number or out of range is refused, and the sentence says what would be right. The rate and the channels may come
 * from the caller's hint; what contradicts is refused.
 *
 * Invariant: the filled-in spec, in the order of the table below, is the model's name and its identity. Every value
 * is first written with six digits (the rate with nine, a default with three) and the model is made from what was
 * written, so that loading a name gives the model of that name, and two spellings of one value are one model.
 *
 * Times are seconds. Their defaults are counted in samples, since a sample is the only scale that every signal has; the
 * figures were chosen on an electrocardiogram at 360 Hz (docs/FORECAST.md). Threads: no state, safe everywhere.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ssm/model.h"

enum parameter { RATE, CHANNELS, ORDER, WINDOW, HORIZON, MEMORY, RIDGE, SHORT, LONG, PARAMETERS };

enum unit { HZ, COUNT, SECONDS, PLAIN };

static const struct parameter_row {
    const char *key;
    enum unit unit;
    double min, max;
    double otherwise; /* SECONDS: in samples; the rate has none */
} table[PARAMETERS] = {
    [RATE] = {"rate", HZ, 1e-3, 1e7, 0},
    [CHANNELS] = {"channels", COUNT, 1, 64, 1},
    [ORDER] = {"order", COUNT, 1, 256, 16},
    [WINDOW] = {"window", SECONDS, 1e-6, 1e6, 360},
    [HORIZON] = {"horizon", SECONDS, 1e-7, 1e5, 18},
    [MEMORY] = {"memory", SECONDS, 1e-6, 1e9, 5040},
    [RIDGE] = {"ridge", PLAIN, 1e-12, 1e6, 3e-4},
    [SHORT] = {"short", SECONDS, 1e-7, 1e6, 40},
    [LONG] = {"long", SECONDS, 1e-7, 1e9, 7200},
};

static const struct template_row {
    const char *name;
    int parameters; /* the first so many of the table */
} templates[] = {{"memory", HORIZON}, {"forecast", PARAMETERS}};

enum { TEMPLATES = sizeof(templates) / sizeof(templates[0]), FEATURES_MAX = 1024, VALUE_BYTES = 32 };

#define WINDOW_LENGTH 2.0 /* of legt, in its matrices' own time: see ssm/hippo.h */

struct filling {
    const struct template_row *template;
    char text[PARAMETERS][VALUE_BYTES]; /* canonical; empty while not known */
    double value[PARAMETERS];
};

const char *const *ssm_template_names(void)
{
    static const char *const names[] = {"memory", "forecast", NULL};
    return names;
}

static const struct template_row *template_find(const char *spec)
{
    size_t length = strcspn(spec, ":");

    for (int i = 0; i < TEMPLATES; i++) {
        if (strlen(templates[i].name) == length && !memcmp(templates[i].name, spec, length)) {
            return &templates[i];
        }
    }
    return NULL;
}

int ssm_is_template(const char *spec)
{
    return spec != NULL && template_find(spec) != NULL;
}

/* "rate, channels, order and window", for messages. */
static const char *known_keys(const struct template_row *template, char *text, size_t size)
{
    size_t used = 0;

    text[0] = 0;
    for (int p = 0; p < template->parameters && used < size; p++) {
        const char *between = p == 0 ? "" : p + 1 == template->parameters ? " and " : ", ";
        used += (size_t)snprintf(text + used, size - used, "%s%s", between, table[p].key);
    }
    return text;
}

static const char *unit_text(enum parameter p)
{
    static const char *const words[] = {[HZ] = " Hz", [COUNT] = "", [SECONDS] = " seconds", [PLAIN] = ""};
    return words[table[p].unit];
}

static size_t digits_of(enum parameter p)
{
    return table[p].unit == HZ ? 9 : 6;
}

/* Set a value, rounded to what its canonical text of `digits` digits says. jansson reads and writes numbers the same
 * way in every locale. */
static int value_store(struct filling *f, enum parameter p, double value, size_t digits)
{
    json_t *number = value == floor(value) && fabs(value) < 1e9 ? json_integer((json_int_t)value) : json_real(value);
    int status = SSM_NOMEM;

    if (number == NULL) {
        return SSM_NOMEM;
    }
    size_t length = json_dumpb(number, f->text[p], VALUE_BYTES - 1, JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
    json_decref(number);
    if (length == 0 || length >= VALUE_BYTES) {
        return SSM_NOMEM;
    }
    f->text[p][length] = 0;
    number = json_loads(f->text[p], JSON_DECODE_ANY, NULL);
    if (number != NULL) {
        f->value[p] = json_number_value(number);
        status = SSM_OK;
    }
    json_decref(number);
    /* 1.0000001 was rounded to "1.0", of which the other spelling is 1. */
    if (status == SSM_OK && f->value[p] == floor(f->value[p]) && fabs(f->value[p]) < 1e9 && strchr(f->text[p], '.'))
        return value_store(f, p, f->value[p], digits);
    return status;
}

static int value_check(const struct filling *f, enum parameter p, double value, const char *source,
                       struct ssm_error *err)
{
    const struct parameter_row *row = &table[p];

    if (!(value >= row->min && value <= row->max)) {
        return ssm_error_set(err, SSM_CONFIG, "%s: %s=%.9g%s is out of range; it goes from %.9g to %.9g%s",
                             f->template->name, row->key, value, source, row->min, row->max, unit_text(p));
    }
    if (row->unit == COUNT && value != floor(value)) {
        return ssm_error_set(err, SSM_CONFIG, "%s: %s=%.9g%s must be a whole number from %.9g to %.9g",
                             f->template->name, row->key, value, source, row->min, row->max);
    }
    return SSM_OK;
}

/* One "key=value" of the spec. */
static int parse_pair(struct filling *f, const char *pair, size_t length, struct ssm_error *err)
{
    const char *name = f->template->name;
    const char *equals = memchr(pair, '=', length);
    size_t key_length = equals ? (size_t)(equals - pair) : length;
    char keys[160], digits[VALUE_BYTES];
    int p = 0, status;

    while (p < f->template->parameters &&
           (strlen(table[p].key) != key_length || memcmp(table[p].key, pair, key_length) != 0)) {
        p++;
    }
    if (p == f->template->parameters) {
        return ssm_error_set(
            err, SSM_CONFIG, "%s: '%.*s' is not one of its parameters, which are %s; write %s:key=value,...", name,
            (int)(key_length < 40 ? key_length : 40), pair, known_keys(f->template, keys, sizeof(keys)), name);
    }
    if (f->text[p][0] != 0) {
        return ssm_error_set(err, SSM_CONFIG, "%s: %s is given twice", name, table[p].key);
    }
    const char *value = equals ? equals + 1 : pair + length;
    size_t value_length = (size_t)(pair + length - value);
    json_t *number = NULL;
    if (value_length > 0 && value_length < sizeof(digits) && strspn(value, "0123456789.eE+-") >= value_length) {
        memcpy(digits, value, value_length);
        digits[value_length] = 0;
        number = json_loads(digits, JSON_DECODE_ANY, NULL);
    }
    if (!json_is_number(number)) {
        json_decref(number);
        return ssm_error_set(err, SSM_CONFIG, "%s: %s='%.*s' is not a number; write %s=%.9g to %.9g%s", name,
                             table[p].key, (int)(value_length < 40 ? value_length : 40), value, table[p].key,
                             table[p].min, table[p].max, unit_text((enum parameter)p));
    }
    double x = json_number_value(number);
    json_decref(number);
    status = value_check(f, (enum parameter)p, x, "", err);
    return status ? status : value_store(f, (enum parameter)p, x, digits_of((enum parameter)p));
}

static int parse_spec(struct filling *f, const char *spec, struct ssm_error *err)
{
    const char *at = strchr(spec, ':');
    int status = SSM_OK;

    while (at != NULL && status == SSM_OK) {
        at++;
        size_t length = strcspn(at, ",");
        if (length == 0) {
            return ssm_error_set(err, SSM_CONFIG, "%s: an empty parameter; write %s:key=value,key=value or just %s",
                                 f->template->name, f->template->name, f->template->name);
        }
        status = parse_pair(f, at, length, err);
        at = at[length] == ',' ? at + length : NULL;
    }
    return status;
}

/* What the caller knows of the stream fills the parameter or must agree with it. */
static int take_hint(struct filling *f, enum parameter p, double known, struct ssm_error *err)
{
    if (known == 0) {
        return SSM_OK;
    }
    if (f->text[p][0] == 0) {
        int status = value_check(f, p, known, " (of the stream)", err);
        return status ? status : value_store(f, p, known, digits_of(p));
    }
    if (!(fabs(f->value[p] - known) <= 1e-8 * f->value[p])) {
        return ssm_error_set(err, SSM_CONFIG,
                             "%s: %s=%s contradicts the stream's %.9g%s; leave %s out, or change the stream",
                             f->template->name, table[p].key, f->text[p], known, unit_text(p), table[p].key);
    }
    return SSM_OK;
}

static int fill_defaults(struct filling *f, struct ssm_error *err)
{
    if (f->text[RATE][0] == 0) {
        return ssm_error_set(err, SSM_CONFIG,
                             "%s: the sample rate is not known; write %s:rate=HZ or give the stream's rate",
                             f->template->name, f->template->name);
    }
    for (int p = RATE + 1; p < f->template->parameters; p++) {
        if (f->text[p][0] == 0) {
            double scale = table[p].unit == SECONDS ? 1 / f->value[RATE] : 1;
            int status = value_store(f, (enum parameter)p, table[p].otherwise * scale, 3);
            if (status) {
                return status;
            }
        }
    }
    return SSM_OK;
}

/* A duration in samples must be at least `least`. */
static int check_samples(const struct filling *f, enum parameter p, double least, struct ssm_error *err)
{
    double samples = f->value[p] * f->value[RATE];

    if (samples >= least && samples <= INT32_MAX) {
        return SSM_OK;
    }
    return ssm_error_set(err, SSM_CONFIG,
                         "%s: %s=%s is %.4g samples at %s Hz; it must be %.9g to %d samples (%.4g seconds or more)",
                         f->template->name, table[p].key, f->text[p], samples, f->text[RATE], ceil(least), INT32_MAX,
                         least / f->value[RATE]);
}

/* What the parameters must be to one another. */
static int check_together(const struct filling *f, struct ssm_error *err)
{
    double features = f->value[CHANNELS] * f->value[ORDER];
    int status = check_samples(f, WINDOW, 1, err);

    if (f->template->parameters <= HORIZON || status) {
        return status;
    }
    if (features > FEATURES_MAX) {
        return ssm_error_set(err, SSM_CONFIG,
                             "%s: channels * order = %.0f; the cost grows with its square, and %d is the most",
                             f->template->name, features, FEATURES_MAX);
    }
    for (int p = HORIZON; p < PARAMETERS && status == SSM_OK; p++) {
        if (table[p].unit == SECONDS) {
            status = check_samples(f, (enum parameter)p, p == HORIZON ? 0.5 : 1, err);
        }
    }
    return status;
}

static int write_name(const struct filling *f, char *name, size_t size, struct ssm_error *err)
{
    size_t used = (size_t)snprintf(name, size, "%s", f->template->name);

    for (int p = 0; p < f->template->parameters && used < size; p++) {
        used += (size_t)snprintf(name + used, size - used, "%c%s=%s", p ? ',' : ':', table[p].key, f->text[p]);
    }
    if (used >= size) {
        return ssm_error_set(err, SSM_CONFIG,
                             "%s: its name with every parameter is longer than %zu bytes; write fewer digits",
                             f->template->name, size - 1);
    }
    return SSM_OK;
}

static json_t *labels_new(uint32_t channels)
{
    static const char *const words[] = {"prediction", "error", "score"};
    json_t *labels = json_array();
    char text[32];

    for (int kind = 0; kind < 3; kind++) {
        for (uint32_t c = 0; c < channels; c++) {
            snprintf(text, sizeof(text), channels > 1 ? "%s %u" : "%s", words[kind], c);
            if (labels == NULL || json_array_append_new(labels, json_string(text))) {
                json_decref(labels);
                return NULL;
            }
        }
    }
    return labels;
}

static json_t *hippo_new(const struct filling *f)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:f, s:s}", "type", "hippo", "name", "memory", "measure", "legt",
                     "channels", (int)f->value[CHANNELS], "order", (int)f->value[ORDER], "dt",
                     WINDOW_LENGTH / (f->value[RATE] * f->value[WINDOW]), "discretization", "bilinear");
}

static json_t *rls_new(const struct filling *f)
{
    double rate = f->value[RATE];

    return json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:i, s:i}", "type", "rls", "name", "forecaster", "targets",
                     (int)f->value[CHANNELS], "horizon", (int)lround(f->value[HORIZON] * rate), "forgetting",
                     exp(-1 / (f->value[MEMORY] * rate)), "regularization", f->value[RIDGE], "short",
                     (int)lround(f->value[SHORT] * rate), "long", (int)lround(f->value[LONG] * rate));
}

static json_t *config_new(const struct filling *f, const char *name)
{
    int channels = (int)f->value[CHANNELS];
    int forecasts = f->template->parameters > HORIZON;
    int width = forecasts ? 3 * channels : channels * (int)f->value[ORDER];
    json_t *config = json_pack("{s:s, s:i, s:s, s:{s:s, s:i, s:f}, s:{s:s, s:i, s:f}, s:[o]}", "model_type", "ssmd",
                               "format_version", 1, "name", name, "input", "kind", "signal", "channels", channels,
                               "sample_rate", f->value[RATE], "output", "kind", "signal", "channels", width,
                               "sample_rate", f->value[RATE], "layers", hippo_new(f));

    if (config != NULL && forecasts &&
        (json_array_append_new(json_object_get(config, "layers"), rls_new(f)) ||
         json_object_set_new(json_object_get(config, "output"), "labels", labels_new((uint32_t)channels)))) {
        json_decref(config);
        return NULL;
    }
    return config;
}

int ssm_template_config(json_t **out, const char *spec, const struct ssm_model_hint *hint, struct ssm_error *err)
{
    struct filling f = {.template = spec ? template_find(spec) : NULL};
    char name[sizeof(((struct ssm_model_info *)0)->name)];
    int status;

    *out = NULL;
    if (f.template == NULL) {
        return ssm_error_set(err, SSM_NOENT, "'%.100s' is not a built-in model; those are memory and forecast",
                             spec ? spec : "");
    }
    status = parse_spec(&f, spec, err);
    if (status == SSM_OK && hint != NULL) {
        status = take_hint(&f, RATE, hint->rate, err);
        status = status ? status : take_hint(&f, CHANNELS, hint->channels, err);
    }
    status = status ? status : fill_defaults(&f, err);
    status = status ? status : check_together(&f, err);
    status = status ? status : write_name(&f, name, sizeof(name), err);
    if (status == SSM_OK) {
        *out = config_new(&f, name);
        status = *out ? SSM_OK : ssm_error_set(err, SSM_NOMEM, "%s: out of memory", f.template->name);
    }
    return status;
}
