/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensors of a model directory: model.safetensors, or the shards that model.safetensors.index.json names, through mmap.
 *
 * The files are hostile until checked: header length, JSON (jansson, depth-bounded), dtype, rank, the product of the
 * shape (no overflow), offsets inside the file, exactly as long as shape and dtype say, no overlap, no hole at the end,
 * no name twice, alignment not assumed. Shard names may not leave the directory. Values are copied out (widened), so
 * that a file truncated later cannot hurt a running model; the mapping lives only while loading.
 *
 * Source: the safetensors format, https://github.com/huggingface/safetensors#format .
 */
#ifndef SSM_SAFETENSORS_H
#define SSM_SAFETENSORS_H

#include "ssm/ssm.h"

#define SSM_TENSOR_RANK_MAX 8

enum ssm_dtype { SSM_F32, SSM_F16, SSM_BF16, SSM_DTYPE_OTHER };

struct ssm_tensor {
    const char *name; /* owned by the set */
    enum ssm_dtype dtype;
    const char *dtype_word; /* as in the file, for messages */
    uint32_t rank;
    uint64_t dims[SSM_TENSOR_RANK_MAX];
    uint64_t elements;
    uint64_t bytes;            /* of data */
    const unsigned char *data; /* little-endian, unaligned */
    const char *file;
    int taken;
};

struct ssm_tensors; /* the set of one directory */

/* Opens and checks. A directory without tensor files is an empty set. */
SSM_MUST_CHECK int ssm_tensors_open(struct ssm_tensors **out, const char *dir, struct ssm_error *err);
void ssm_tensors_close(struct ssm_tensors *set);
/* NULL when there is none. */
struct ssm_tensor *ssm_tensors_find(struct ssm_tensors *set, const char *name);
/* From now on `name` is what `of` is, as a tensor of its own; a tensor that had the name is gone. SSM_TENSOR when there
 * is no `of`; pointers into the set are stale afterwards. */
SSM_MUST_CHECK int ssm_tensors_alias(struct ssm_tensors *set, const char *name, const char *of, struct ssm_error *err);
size_t ssm_tensors_count(const struct ssm_tensors *set);
struct ssm_tensor *ssm_tensors_at(struct ssm_tensors *set, size_t i);
/* Widen all elements into out (elements floats). Only F32, F16 and BF16. SSM_NONFINITE when a value is NaN or Inf, and
 * *where its position. */
SSM_MUST_CHECK int ssm_tensor_widen(const struct ssm_tensor *tensor, float *out, uint64_t *where);

/* Check the bytes of one safetensors file already in memory (the loader's core, and the fuzzer's target): fills a new
 * set whose data point into `bytes`. */
SSM_MUST_CHECK int ssm_tensors_parse(struct ssm_tensors **out, const unsigned char *bytes, size_t size,
                                     const char *file, struct ssm_error *err);

#endif
