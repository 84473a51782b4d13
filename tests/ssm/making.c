/* SPDX-License-Identifier: Apache-2.0
 * Models for tests; see making.h. What goes wrong here is the test's own fault and fails it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/ssm/making.h"

static uint32_t making_next(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

float making_noise(uint32_t *seed)
{
    return (float)((double)(int32_t)making_next(seed) / 2147483648.0);
}

uint32_t making_number(uint32_t *seed, uint32_t below)
{
    return (uint32_t)((uint64_t)making_next(seed) * below >> 32);
}

void making_init(struct making *m, uint32_t seed)
{
    memset(m, 0, sizeof(*m));
    m->seed = seed;
    for (int i = 0; i < 8; i++) /* neighbouring seeds part */
        making_next(&m->seed);
}

void making_fini(struct making *m)
{
    for (uint32_t i = 0; i < m->tensors; i++)
        free(m->tensor[i].values);
    m->tensors = 0;
}

static size_t elements(const struct making_tensor *t)
{
    size_t n = 1;

    for (uint32_t i = 0; i < t->rank; i++)
        n *= t->dims[i];
    return n;
}

float *making_tensor(struct making *m, float spread, const char *name, uint32_t rank, ...)
{
    struct making_tensor *t = &m->tensor[m->tensors];
    va_list dims;

    assert_true(m->tensors < MAKING_TENSORS_MAX && rank <= sizeof(t->dims) / sizeof(*t->dims));
    m->tensors++;
    snprintf(t->name, sizeof(t->name), "%s", name);
    t->rank = rank;
    va_start(dims, rank);
    for (uint32_t i = 0; i < rank; i++)
        t->dims[i] = va_arg(dims, uint32_t);
    va_end(dims);
    t->values = calloc(elements(t) + 1, sizeof(*t->values));
    assert_non_null(t->values);
    for (size_t i = 0; i < elements(t); i++)
        t->values[i] = spread * making_noise(&m->seed);
    return t->values;
}

static void quotes_turn(char *text)
{
    for (; *text; text++)
        if (*text == '\'')
            *text = '"';
}

void making_layers(struct making *m, const char *format, ...)
{
    size_t n = strlen(m->layers);
    va_list arguments;
    int more;

    if (n > 0)
        m->layers[n++] = ',';
    va_start(arguments, format);
    more = vsnprintf(m->layers + n, sizeof(m->layers) - n, format, arguments);
    va_end(arguments);
    assert_true(more > 0 && n + (size_t)more < sizeof(m->layers));
}

static void config_write(const struct making *m, const char *path, uint32_t in_channels, uint32_t out_channels)
{
    double in_rate = m->rate > 0 ? m->rate : 100;
    char input[96], rate[64], *text = NULL;
    FILE *file = fopen(path, "w");
    int n;

    assert_non_null(file);
    if (m->vocab)
        snprintf(input, sizeof(input), "'kind':'tokens','vocab':%u", m->vocab);
    else
        snprintf(input, sizeof(input), "'kind':'signal','channels':%u,'sample_rate':%.17g", in_channels, in_rate);
    snprintf(rate, sizeof(rate), ",'sample_rate':%.17g", in_rate * (m->rate_ratio > 0 ? m->rate_ratio : 1));
    n = asprintf(&text,
                 "{'model_type':'ssmd','format_version':1,'name':'made','input':{%s},"
                 "'output':{'kind':'signal','channels':%u%s},'layers':[%s]}",
                 input, out_channels, m->vocab ? "" : rate, m->layers);
    assert_true(n > 0);
    quotes_turn(text);
    assert_int_equal(fwrite(text, 1, (size_t)n, file), n);
    assert_int_equal(fclose(file), 0);
    free(text);
}

/* The nearest bfloat16, to even: the upper half of the bits. */
static uint16_t narrow_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void values_write(FILE *file, const float *values, size_t n, bool narrow)
{
    uint16_t some[4096];

    if (!narrow)
        fwrite(values, sizeof(*values), n, file);
    for (size_t at = 0, now; narrow && at < n; at += now) {
        now = n - at < sizeof(some) / sizeof(*some) ? n - at : sizeof(some) / sizeof(*some);
        for (size_t i = 0; i < now; i++)
            some[i] = narrow_of(values[at + i]);
        fwrite(some, sizeof(*some), now, file);
    }
}

/* Eight bytes of length, the header, the values (this machine is little-endian, as the format is). */
static void tensors_write(const struct making *m, const char *path)
{
    FILE *file = fopen(path, "w");
    char *header = NULL;
    size_t size = 0, at = 0, bytes = m->narrow ? sizeof(uint16_t) : sizeof(float);
    uint64_t length;
    FILE *text = open_memstream(&header, &size);

    assert_non_null(file);
    assert_non_null(text);
    fputc('{', text);
    for (uint32_t i = 0; i < m->tensors; i++) {
        const struct making_tensor *t = &m->tensor[i];

        fprintf(text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", t->name, m->narrow ? "BF16" : "F32");
        for (uint32_t k = 0; k < t->rank; k++)
            fprintf(text, k ? ",%u" : "%u", t->dims[k]);
        fprintf(text, "],\"data_offsets\":[%zu,%zu]}", at, at + elements(t) * bytes);
        at += elements(t) * bytes;
    }
    fputc('}', text);
    assert_int_equal(fclose(text), 0);
    length = size;
    fwrite(&length, sizeof(length), 1, file);
    fwrite(header, 1, size, file);
    for (uint32_t i = 0; i < m->tensors; i++)
        values_write(file, m->tensor[i].values, elements(&m->tensor[i]), m->narrow);
    assert_int_equal(fclose(file), 0);
    free(header);
}

static const char *path_of(const char *dir, const char *name)
{
    static char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

void making_write(const struct making *m, const char *dir, uint32_t in_channels, uint32_t out_channels)
{
    config_write(m, path_of(dir, "config.json"), in_channels, out_channels);
    if (m->tensors > 0)
        tensors_write(m, path_of(dir, "model.safetensors"));
}

int making_load(const struct making *m, struct ssm_model **out, uint32_t in_channels, uint32_t out_channels,
                struct ssm_error *err)
{
    char dir[] = "/tmp/ssm-made-XXXXXX";
    int status;

    assert_non_null(mkdtemp(dir));
    making_write(m, dir, in_channels, out_channels);
    status = ssm_model_load(out, dir, NULL, err);
    unlink(path_of(dir, "config.json"));
    unlink(path_of(dir, "model.safetensors"));
    rmdir(dir);
    return status;
}
