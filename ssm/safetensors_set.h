/* SPDX-License-Identifier: Apache-2.0
 *
 * The inside of a set of tensors, shared by safetensors.c (one file) and safetensors_dir.c (a directory).
 */
#ifndef SSM_SAFETENSORS_SET_H
#define SSM_SAFETENSORS_SET_H

#include "ssm/safetensors.h"

struct ssm_mapping {
    char *name; /* path, what messages call the file */
    void *bytes;
    size_t size;
};

struct ssm_tensors {
    struct ssm_tensor *tensors; /* sorted by name once complete */
    size_t count;
    struct ssm_mapping *mappings; /* of a directory; none when the bytes are the caller's */
    size_t mapped;
};

/* Check one file's bytes and append its tensors, unsorted. `bytes` and `file` must outlive the set. */
int ssm_tensors_add(struct ssm_tensors *set, const unsigned char *bytes, size_t size, const char *file,
                    struct ssm_error *err);
/* Sort by name; a name twice is refused. */
int ssm_tensors_sort(struct ssm_tensors *set, struct ssm_error *err);

#endif
