/* SPDX-License-Identifier: Apache-2.0
 *
 * Model directories made by tests: a scratch directory, files in it, and safetensors files from a list of tensors.
 * Every function fails the running test when it cannot do what it says.
 */
#ifndef TESTS_SSM_MODEL_DIR_H
#define TESTS_SSM_MODEL_DIR_H

#include <stddef.h>
#include <stdint.h>

struct model_dir {
    char path[64];
};

void model_dir_init(struct model_dir *dir);
void model_dir_fini(struct model_dir *dir); /* removes it and all that is in it */
void model_dir_write(const struct model_dir *dir, const char *name, const void *bytes, size_t size);
void model_dir_write_text(const struct model_dir *dir, const char *name, const char *text);

struct model_tensor {
    const char *name;
    const char *dtype; /* NULL: F32 */
    uint32_t rank;
    uint64_t dims[4];
    const void *data; /* NULL: zeros */
};

/* The bytes of one file, at exactly their size so that a sanitizer sees every step beyond; free(). */
unsigned char *safetensors_new(const struct model_tensor *tensors, size_t count, size_t *size);
/* The same with a header given as text, and `data_bytes` zeros after it. */
unsigned char *safetensors_new_raw(const char *header, size_t data_bytes, size_t *size);
void model_dir_write_tensors(const struct model_dir *dir, const char *name, const struct model_tensor *tensors,
                             size_t count);

#endif
