/* SPDX-License-Identifier: Apache-2.0
 *
 * See model_dir.h.
 */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/ssm/model_dir.h"

void model_dir_init(struct model_dir *dir)
{
    snprintf(dir->path, sizeof(dir->path), "/tmp/ssmd-test-XXXXXX");
    assert_non_null(mkdtemp(dir->path));
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

void model_dir_fini(struct model_dir *dir)
{
    assert_int_equal(nftw(dir->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

void model_dir_write(const struct model_dir *dir, const char *name, const void *bytes, size_t size)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void model_dir_write_text(const struct model_dir *dir, const char *name, const char *text)
{
    model_dir_write(dir, name, text, strlen(text));
}

unsigned char *safetensors_new_raw(const char *header, size_t data_bytes, size_t *size)
{
    size_t length = strlen(header);
    *size = 8 + length + data_bytes;
    unsigned char *bytes = calloc(1, *size);
    assert_non_null(bytes);
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> (8 * i));
    memcpy(bytes + 8, header, length);
    return bytes;
}

static size_t tensor_bytes(const struct model_tensor *t)
{
    size_t n = !t->dtype || strcmp(t->dtype, "F32") == 0 ? 4 : strcmp(t->dtype, "I64") == 0 ? 8 : 2;
    for (uint32_t i = 0; i < t->rank; i++)
        n *= t->dims[i];
    return n;
}

unsigned char *safetensors_new(const struct model_tensor *tensors, size_t count, size_t *size)
{
    char header[8192] = "{";
    size_t n = 1, total = 0;
    for (size_t i = 0; i < count; i++) {
        const struct model_tensor *t = &tensors[i];
        n += (size_t)snprintf(header + n, sizeof(header) - n, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "",
                              t->name, t->dtype ? t->dtype : "F32");
        for (uint32_t k = 0; k < t->rank; k++)
            n += (size_t)snprintf(header + n, sizeof(header) - n, "%s%llu", k ? "," : "",
                                  (unsigned long long)t->dims[k]);
        n += (size_t)snprintf(header + n, sizeof(header) - n, "],\"data_offsets\":[%zu,%zu]}", total,
                              total + tensor_bytes(t));
        total += tensor_bytes(t);
        assert_true(n < sizeof(header) - 256);
    }
    header[n] = '}';
    unsigned char *bytes = safetensors_new_raw(header, total, size);
    unsigned char *at = bytes + 8 + strlen(header);
    for (size_t i = 0; i < count; at += tensor_bytes(&tensors[i++])) {
        if (tensors[i].data)
            memcpy(at, tensors[i].data, tensor_bytes(&tensors[i]));
    }
    return bytes;
}

void model_dir_write_tensors(const struct model_dir *dir, const char *name, const struct model_tensor *tensors,
                             size_t count)
{
    size_t size;
    unsigned char *bytes = safetensors_new(tensors, count, &size);
    model_dir_write(dir, name, bytes, size);
    free(bytes);
}
