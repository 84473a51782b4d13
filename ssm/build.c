/* SPDX-License-Identifier: Apache-2.0
 *
 * From the list of layers in a configuration to a graph: the recursion, and the tensors. Keys are read in keys.c.
 *
 * A layer is built in this order: type, name, known keys, the kind's init (which may come back here for its branches).
 * When all are there, ssm/build_time.c settles their clocks and gives them their places in the slot.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/build.h"
#include "ssm/model.h"

static const struct ssm_kind *const KINDS[] = {
#define X(name) &ssm_kind_##name,
    SSM_LAYER_KINDS(X)
#undef X
};

const struct ssm_kind *ssm_kind_find(const char *type)
{
    for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
        if (strcmp(KINDS[i]->type, type) == 0)
            return KINDS[i];
    }
    return NULL;
}

int ssm_fail(struct ssm_build *b, const struct ssm_layer *l, int status, const char *format, ...)
{
    char text[sizeof(b->err->text)];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (l)
        return ssm_error_set(b->err, status, "%s: %s: %s", b->file, l->where, text);
    return ssm_error_set(b->err, status, "%s: %s", b->file, text);
}

int ssm_expect_in(struct ssm_build *b, const struct ssm_layer *l, uint32_t channels)
{
    if (l->in == channels)
        return SSM_OK;
    return ssm_fail(b, l, SSM_CONFIG, "wants %u channels, but %u come in", channels, l->in);
}

uint32_t ssm_build_in_channels(const struct ssm_build *b)
{
    return b->in_channels;
}

bool ssm_build_is_signal(const struct ssm_build *b)
{
    return b->signal;
}

bool ssm_build_is_first(const struct ssm_build *b, const struct ssm_layer *l)
{
    return b->first == l;
}

double ssm_build_dt(const struct ssm_build *b, double dt)
{
    return dt * b->stretch;
}

double ssm_build_band(const struct ssm_build *b, double dt)
{
    return b->stretch > 1 ? M_PI / dt : INFINITY;
}

void ssm_build_zeroed(struct ssm_build *b, uint32_t modes)
{
    b->modes_zeroed += modes;
}

float *ssm_floats_new(size_t n)
{
    size_t bytes;
    if (n == 0)
        n = 1;
    if (__builtin_mul_overflow(n, sizeof(float), &bytes) || __builtin_add_overflow(bytes, (size_t)63, &bytes))
        return NULL;
    bytes &= ~(size_t)63;
    float *floats = aligned_alloc(64, bytes);
    if (floats)
        memset(floats, 0, bytes);
    return floats;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static const char *shape_text(uint32_t rank, const uint64_t *dims, char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "(");
    for (uint32_t i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, i ? ", %llu" : "%llu", (unsigned long long)dims[i]);
    if (n < size)
        snprintf(text + n, size - n, ")");
    return text;
}

static struct ssm_tensor *find_tensor(const struct ssm_build *b, const struct ssm_layer *l, const char *suffix,
                                      char *name, size_t size)
{
    snprintf(name, size, "%s.%s", l->name, suffix);
    return b->tensors && *l->name ? ssm_tensors_find(b->tensors, name) : NULL;
}

bool ssm_tensor_exists(const struct ssm_build *b, const struct ssm_layer *l, const char *suffix)
{
    char name[128];
    return find_tensor(b, l, suffix, name, sizeof(name)) != NULL;
}

static int check_shape(struct ssm_build *b, const struct ssm_layer *l, const struct ssm_tensor *t, uint32_t rank,
                       const uint64_t *dims)
{
    char is[192], wants[192];
    if (t->rank == rank && memcmp(t->dims, dims, rank * sizeof(*dims)) == 0)
        return SSM_OK;
    return ssm_fail(b, l, SSM_TENSOR, "tensor '%s' has shape %s in %s, the layer needs %s", t->name,
                    shape_text(t->rank, t->dims, is, sizeof(is)), t->file,
                    shape_text(rank, dims, wants, sizeof(wants)));
}

int ssm_tensor_take(struct ssm_build *b, const struct ssm_layer *l, const char *suffix, float **out, uint32_t rank,
                    const uint64_t *dims)
{
    char name[128];
    uint64_t where = 0;
    *out = NULL;
    if (!*l->name)
        return ssm_fail(b, l, SSM_CONFIG, "key 'name' is missing: the layer has tensors, and its name prefixes them");
    struct ssm_tensor *t = find_tensor(b, l, suffix, name, sizeof(name));
    if (!t)
        return ssm_fail(b, l, SSM_TENSOR, "tensor '%s' is missing in %s", name, b->dir ? b->dir : "a template");
    if (t->taken)
        return ssm_fail(b, l, SSM_TENSOR, "tensor '%s' is taken twice", name);
    int rc = check_shape(b, l, t, rank, dims);
    if (rc)
        return rc;
    float *values = ssm_floats_new(t->elements);
    if (!values)
        return ssm_fail(b, l, SSM_NOMEM, "out of memory for tensor '%s'", name);
    rc = ssm_tensor_widen(t, values, &where);
    if (rc) {
        free(values);
        if (rc == SSM_UNSUPPORTED)
            return ssm_fail(b, l, rc, "tensor '%s' is %s in %s; F32, F16 and BF16 are read", name, t->dtype_word,
                            t->file);
        return ssm_fail(b, l, rc, "tensor '%s' has a NaN or an infinity at element %llu in %s", name,
                        (unsigned long long)where, t->file);
    }
    t->taken = 1;
    b->weight_bytes += t->elements * sizeof(float);
    *out = values;
    return SSM_OK;
}

int ssm_bias_take(struct ssm_build *b, const struct ssm_layer *l, bool has, uint32_t channels, float **out)
{
    float *bias = NULL;
    *out = NULL;
    int rc = has ? ssm_tensor_take(b, l, "bias", &bias, 1, (uint64_t[]){channels}) : SSM_OK;
    if (rc)
        return rc;
    *out = ssm_floats_new(((size_t)channels + 15) / 16 * 16);
    if (!*out)
        rc = ssm_fail(b, l, SSM_NOMEM, "out of memory for tensor '%s.bias'", l->name);
    else if (bias)
        memcpy(*out, bias, channels * sizeof(float));
    free(bias);
    return rc;
}

static int check_surplus(struct ssm_build *b)
{
    for (size_t i = 0; b->tensors && i < ssm_tensors_count(b->tensors); i++) {
        const struct ssm_tensor *t = ssm_tensors_at(b->tensors, i);
        if (!t->taken)
            return ssm_fail(b, NULL, SSM_TENSOR, "tensor '%s' of %s belongs to no layer", t->name, t->file);
    }
    return SSM_OK;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

/* "layer 2.1 (s4d 'encoder')": the second of layer 2's. Of a layer with several branches, "layer 2.0.1". */
static void set_where(const struct ssm_build *b, struct ssm_layer *l, const char *type)
{
    char path[40];
    size_t n = 0;
    for (uint32_t i = 0; i < b->depth && n < sizeof(path); i++) {
        n += (size_t)snprintf(path + n, sizeof(path) - n, "%u.", b->trail[i].layer);
        if (b->trail[i].branch >= 0 && n < sizeof(path))
            n += (size_t)snprintf(path + n, sizeof(path) - n, "%d.", b->trail[i].branch);
    }
    if (n < sizeof(path))
        snprintf(path + n, sizeof(path) - n, "%u", b->trail[b->depth].layer);
    if (*l->name)
        snprintf(l->where, sizeof(l->where), "layer %s (%.16s '%.24s')", path, type, l->name);
    else
        snprintf(l->where, sizeof(l->where), "layer %s (%.16s)", path, type);
}

static int read_name(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    const json_t *value = json_object_get(keys, "name");
    const char *name = json_string_value(value);
    if (!value)
        return SSM_OK;
    if (!name || !*name || strlen(name) >= sizeof(l->name))
        return ssm_fail(b, l, SSM_CONFIG, "key 'name' must be a string of 1 to %zu bytes", sizeof(l->name) - 1);
    if (json_object_get(b->names, name))
        return ssm_fail(b, l, SSM_CONFIG, "the name '%s' is already another layer's", name);
    if (json_object_set_new(b->names, name, json_true()) < 0)
        return ssm_fail(b, l, SSM_NOMEM, "out of memory");
    memcpy(l->name, name, strlen(name) + 1);
    set_where(b, l, l->kind->type);
    return SSM_OK;
}

static int find_kind(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    const char *type = json_string_value(json_object_get(keys, "type"));
    if (!json_is_object(keys))
        return ssm_fail(b, l, SSM_CONFIG, "must be an object with a 'type'");
    if (!type)
        return ssm_fail(b, l, SSM_CONFIG, "key 'type' is missing or not a string");
    l->kind = ssm_kind_find(type);
    if (!l->kind)
        return ssm_fail(b, l, SSM_UNSUPPORTED, "this version has no layer type '%.64s'", type);
    return SSM_OK;
}

/* The models' tokens index the embedding's rows, so its vocabulary must be the model's. */
static int check_embedding(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys)
{
    bool first = ssm_build_is_first(b, l), embedding = l->kind->id == SSM_KIND_embedding;
    if (embedding && (b->signal || !first))
        return ssm_fail(b, l, SSM_CONFIG, "an embedding may only be the first layer of a model whose input is tokens");
    if (!b->signal && first && !embedding)
        return ssm_fail(b, l, SSM_CONFIG, "a model whose input is tokens begins with an embedding");
    if (embedding && json_integer_value(json_object_get(keys, "vocab")) != (json_int_t)b->vocab)
        return ssm_fail(b, l, SSM_CONFIG, "key 'vocab' must be %u, as the model's input says", b->vocab);
    return SSM_OK;
}

/* A model for another rate than its own is one of layers that have a meaning there. */
static int check_rate(struct ssm_build *b, const struct ssm_layer *l)
{
    double own = b->rate * b->stretch;

    if (l->kind->any_rate)
        return SSM_OK;
    if (!b->fixed_by[0])
        memcpy(b->fixed_by, l->where, sizeof(b->fixed_by));
    if (b->stretch == 1)
        return SSM_OK;
    return ssm_fail(
        b, l, SSM_INVAL,
        "works frame by frame, so the model runs at %.9g Hz only and not at the stream's %.9g: resample the "
        "stream to %.9g Hz",
        own, b->rate, own);
}

static int build_layer(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    const char *type = json_string_value(json_object_get(keys, "type"));
    set_where(b, l, type ? type : "no type");
    if (++b->layers > SSM_LAYERS_MAX)
        return ssm_fail(b, l, SSM_LIMIT, "the model has more than %u layers", SSM_LAYERS_MAX);
    int rc = find_kind(b, l, keys);
    if (!rc)
        rc = read_name(b, l, keys);
    if (!rc)
        rc = ssm_key_check_known(b, l, keys, l->kind->keys);
    if (!rc)
        rc = check_embedding(b, l, keys);
    if (!rc)
        rc = check_rate(b, l);
    return rc ? rc : l->kind->init(b, l, keys);
}

static int build_sequence(struct ssm_build *b, const json_t *array, uint32_t in, uint32_t clock,
                          struct ssm_sequence *out)
{
    size_t count = json_array_size(array);
    if (count > SSM_LAYERS_MAX)
        return ssm_fail(b, NULL, SSM_LIMIT, "a list of %zu layers; at most %u are read", count, SSM_LAYERS_MAX);
    out->in = out->out = in;
    out->clock = out->out_clock = clock;
    out->layers = calloc(count + 1, sizeof(*out->layers)); /* one more, for ssm_build_settle */
    if (!out->layers)
        return ssm_fail(b, NULL, SSM_NOMEM, "out of memory");
    out->count = (uint32_t)count;
    if (!b->first)
        b->first = out->layers;
    for (uint32_t i = 0; i < out->count; i++) {
        struct ssm_layer *l = &out->layers[i];
        l->in = l->out = out->out;
        l->clock = l->out_clock = out->out_clock;
        b->trail[b->depth].layer = i;
        int rc = build_layer(b, l, json_array_get(array, i));
        if (rc)
            return rc;
        out->out = l->out;
        out->out_clock = l->out_clock;
    }
    return SSM_OK;
}

int ssm_key_sequence(struct ssm_build *b, struct ssm_layer *l, const json_t *array, struct ssm_sequence *out)
{
    if (!json_is_array(array))
        return ssm_fail(b, l, SSM_CONFIG, "its layers must be a list of layers");
    if (b->depth + 1 >= SSM_DEPTH_MAX)
        return ssm_fail(b, l, SSM_LIMIT, "layers are nested deeper than %u", SSM_DEPTH_MAX);
    struct ssm_step *step = &b->trail[b->depth];
    step->branch = -1;
    for (uint32_t i = 0; l->branches > 1 && i < l->branches; i++) {
        if (out == &l->branch[i])
            step->branch = (int32_t)i;
    }
    b->depth++;
    int rc = build_sequence(b, array, l->in, l->clock, out);
    b->depth--;
    return rc;
}

int ssm_build_graph(struct ssm_build *b, const json_t *layers, struct ssm_sequence *out)
{
    if (!json_is_array(layers))
        return ssm_fail(b, NULL, SSM_CONFIG, "key 'layers' must be a list of layers");
    int rc = build_sequence(b, layers, b->in_channels, 0, out);
    if (!rc && !b->signal && out->count == 0)
        rc = ssm_fail(b, NULL, SSM_CONFIG, "a model whose input is tokens begins with an embedding");
    return rc ? rc : check_surplus(b);
}

void ssm_sequence_fini(struct ssm_sequence *sequence)
{
    for (uint32_t i = 0; i < sequence->count; i++) {
        struct ssm_layer *l = &sequence->layers[i];
        for (uint32_t k = 0; k < l->branches; k++)
            ssm_sequence_fini(&l->branch[k]);
        free(l->branch);
        free(l->join);
        l->branch = NULL;
        l->join = NULL;
        l->branches = 0;
        if (l->kind && l->kind->fini)
            l->kind->fini(l);
        free(l->part);
        free(l->params);
        l->params = NULL;
    }
    free(sequence->layers);
    memset(sequence, 0, sizeof(*sequence));
}
