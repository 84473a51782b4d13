/* SPDX-License-Identifier: Apache-2.0
 *
 * One safetensors file: 8 bytes of header length, a JSON header, the tensors' bytes. Directories are in
 * safetensors_dir.c.
 *
 * Everything is checked before a tensor can be found: the header fits, is one JSON object without a name twice, every
 * shape and its product fit in 64 bits, every tensor is exactly as long as its shape and dtype say, and the tensors
 * cover the rest of the file once: sorted by offset, each begins where the last one ended (so no overlap, no hole, no
 * surplus).
 *
 * Threads: none; a set belongs to its caller.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "ssm/model.h"
#include "ssm/safetensors_set.h"

#define HEADER_MAX ((uint64_t)16 << 20) /* the JSON tree takes about twenty times its text */

static const struct {
    const char *word;
    uint32_t bytes;
    enum ssm_dtype dtype;
} DTYPES[] = {
    {"F32", 4, SSM_F32},
    {"F16", 2, SSM_F16},
    {"BF16", 2, SSM_BF16},
    {"F64", 8, SSM_DTYPE_OTHER},
    {"I64", 8, SSM_DTYPE_OTHER},
    {"U64", 8, SSM_DTYPE_OTHER},
    {"I32", 4, SSM_DTYPE_OTHER},
    {"U32", 4, SSM_DTYPE_OTHER},
    {"I16", 2, SSM_DTYPE_OTHER},
    {"U16", 2, SSM_DTYPE_OTHER},
    {"I8", 1, SSM_DTYPE_OTHER},
    {"U8", 1, SSM_DTYPE_OTHER},
    {"BOOL", 1, SSM_DTYPE_OTHER},
    {"F8_E4M3", 1, SSM_DTYPE_OTHER},
    {"F8_E5M2", 1, SSM_DTYPE_OTHER},
};

static uint64_t load_le64(const unsigned char *p)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

/* The shape and its product; *bytes is what the file must hold for it. */
static int parse_shape(struct ssm_tensor *t, const json_t *shape, uint32_t width, uint64_t *bytes,
                       struct ssm_error *err)
{
    if (!json_is_array(shape))
        return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s': 'shape' is not a list", t->file, t->name);
    if (json_array_size(shape) > SSM_TENSOR_RANK_MAX)
        return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s' has %zu dimensions; at most %d are read", t->file,
                             t->name, json_array_size(shape), SSM_TENSOR_RANK_MAX);
    t->rank = (uint32_t)json_array_size(shape);
    t->elements = 1;
    for (uint32_t i = 0; i < t->rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s': dimension %u of its shape is not a count", t->file,
                                 t->name, i);
        t->dims[i] = (uint64_t)json_integer_value(dim);
        if (__builtin_mul_overflow(t->elements, t->dims[i], &t->elements))
            goto overflow;
    }
    if (!__builtin_mul_overflow(t->elements, (uint64_t)width, bytes))
        return SSM_OK;
overflow:
    return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s': the product of its shape overflows", t->file, t->name);
}

static int parse_dtype(struct ssm_tensor *t, const json_t *word, uint32_t *width, struct ssm_error *err)
{
    if (!json_is_string(word))
        return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s' has no 'dtype'", t->file, t->name);
    for (size_t i = 0; i < sizeof(DTYPES) / sizeof(DTYPES[0]); i++) {
        if (strcmp(DTYPES[i].word, json_string_value(word)) == 0) {
            t->dtype = DTYPES[i].dtype;
            t->dtype_word = DTYPES[i].word;
            *width = DTYPES[i].bytes;
            return SSM_OK;
        }
    }
    return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s' has the unknown dtype '%.32s'", t->file, t->name,
                         json_string_value(word));
}

/* One entry of the header. t->name and t->file are set. */
static int parse_entry(struct ssm_tensor *t, const json_t *entry, const unsigned char *data, uint64_t size,
                       struct ssm_error *err)
{
    uint32_t width = 0;
    uint64_t bytes = 0;
    if (!json_is_object(entry) || json_object_size(entry) != 3)
        return ssm_error_set(err, SSM_FORMAT,
                             "%s: tensor '%s' must have dtype, shape and data_offsets, and nothing else", t->file,
                             t->name);
    int rc = parse_dtype(t, json_object_get(entry, "dtype"), &width, err);
    if (!rc)
        rc = parse_shape(t, json_object_get(entry, "shape"), width, &bytes, err);
    if (rc)
        return rc;

    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *last = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(last) ||
        json_integer_value(first) < 0 || json_integer_value(last) < json_integer_value(first))
        return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s': 'data_offsets' is not [begin, end]", t->file, t->name);
    uint64_t begin = (uint64_t)json_integer_value(first), end = (uint64_t)json_integer_value(last);
    if (end > size)
        return ssm_error_set(err, SSM_FORMAT,
                             "%s: tensor '%s' ends at byte %llu of %llu: the file is cut short or damaged", t->file,
                             t->name, (unsigned long long)end, (unsigned long long)size);
    if (end - begin != bytes)
        return ssm_error_set(err, SSM_FORMAT, "%s: tensor '%s' has %llu bytes, its shape and dtype need %llu", t->file,
                             t->name, (unsigned long long)(end - begin), (unsigned long long)bytes);
    t->data = data + begin;
    t->bytes = bytes;
    return SSM_OK;
}

static int compare_places(const void *a, const void *b)
{
    const struct ssm_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return x->elements < y->elements ? -1 : x->elements > y->elements; /* empty tensors first */
}

/* Every byte of the data belongs to exactly one tensor. Leaves `tensors` sorted by place. */
static int check_cover(struct ssm_tensor *tensors, size_t count, const unsigned char *data, uint64_t size,
                       const char *file, struct ssm_error *err)
{
    qsort(tensors, count, sizeof(*tensors), compare_places);
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const struct ssm_tensor *t = &tensors[i];
        uint64_t begin = (uint64_t)(t->data - data);
        if (begin != end)
            return ssm_error_set(
                err, SSM_FORMAT, "%s: tensor '%s' begins at byte %llu, but the one before it ends at %llu (%s)", file,
                t->name, (unsigned long long)begin, (unsigned long long)end, begin < end ? "overlap" : "a hole");
        end = begin + t->bytes;
    }
    if (end != size)
        return ssm_error_set(err, SSM_FORMAT, "%s: %llu bytes after the last tensor belong to none", file,
                             (unsigned long long)(size - end));
    return SSM_OK;
}

static int parse_entries(struct ssm_tensors *set, json_t *header, const unsigned char *data, uint64_t size,
                         const char *file, struct ssm_error *err)
{
    size_t first = set->count;
    struct ssm_tensor *grown = realloc(set->tensors, (first + json_object_size(header) + 1) * sizeof(*grown));
    if (!grown)
        return ssm_error_set(err, SSM_NOMEM, "%s: out of memory", file);
    set->tensors = grown;

    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct ssm_tensor *t = &set->tensors[set->count];
        memset(t, 0, sizeof(*t));
        t->file = file;
        t->name = strdup(name);
        if (!t->name)
            return ssm_error_set(err, SSM_NOMEM, "%s: out of memory", file);
        set->count++;
        int rc = parse_entry(t, entry, data, size, err);
        if (rc)
            return rc;
    }
    return check_cover(set->tensors + first, set->count - first, data, size, file, err);
}

int ssm_tensors_add(struct ssm_tensors *set, const unsigned char *bytes, size_t size, const char *file,
                    struct ssm_error *err)
{
    if (size < 8)
        return ssm_error_set(err, SSM_FORMAT, "%s: %zu bytes are too few for a safetensors file", file, size);
    uint64_t length = load_le64(bytes);
    if (length > HEADER_MAX)
        return ssm_error_set(err, SSM_FORMAT, "%s: a header of %llu bytes; at most %llu are read", file,
                             (unsigned long long)length, (unsigned long long)HEADER_MAX);
    if (length > size - 8)
        return ssm_error_set(err, SSM_FORMAT,
                             "%s: the header has %llu bytes, but only %zu follow: the file is cut short", file,
                             (unsigned long long)length, size - 8);

    json_error_t where;
    json_t *header = json_loadb((const char *)bytes + 8, (size_t)length, JSON_REJECT_DUPLICATES, &where);
    if (!json_is_object(header)) {
        json_decref(header);
        return ssm_error_set(err, SSM_FORMAT, "%s: the header is not a JSON object: %s (byte %d)", file,
                             header ? "something else" : where.text, header ? 0 : where.position);
    }
    int rc = parse_entries(set, header, bytes + 8 + length, size - 8 - length, file, err);
    json_decref(header);
    return rc;
}

int ssm_tensors_parse(struct ssm_tensors **out, const unsigned char *bytes, size_t size, const char *file,
                      struct ssm_error *err)
{
    *out = NULL;
    struct ssm_tensors *set = calloc(1, sizeof(*set));
    if (!set)
        return ssm_error_set(err, SSM_NOMEM, "%s: out of memory", file);
    int rc = ssm_tensors_add(set, bytes, size, file, err);
    if (!rc)
        rc = ssm_tensors_sort(set, err);
    if (rc) {
        ssm_tensors_close(set);
        return rc;
    }
    *out = set;
    return SSM_OK;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static float from_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float from_half(uint32_t half)
{
    uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, fraction = half & 0x3ffu;
    if (exponent == 0x1f)
        return from_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in float32 */
        float value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    return from_bits(sign | (exponent + 112u) << 23 | fraction << 13);
}

static float element(const struct ssm_tensor *t, uint64_t i)
{
    const unsigned char *p = t->data + i * (t->dtype == SSM_F32 ? 4 : 2);
    uint32_t low = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    if (t->dtype == SSM_F16)
        return from_half(low);
    if (t->dtype == SSM_BF16)
        return from_bits(low << 16);
    return from_bits(low | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}

int ssm_tensor_widen(const struct ssm_tensor *tensor, float *out, uint64_t *where)
{
    if (tensor->dtype == SSM_DTYPE_OTHER)
        return SSM_UNSUPPORTED;
    for (uint64_t i = 0; i < tensor->elements; i++) {
        out[i] = element(tensor, i);
        if (!isfinite(out[i])) {
            *where = i;
            return SSM_NONFINITE;
        }
    }
    return SSM_OK;
}
