/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON files of a model directory: config.json and the index of shards.
 *
 * Strict JSON (a name twice in an object is refused, nesting is bounded by jansson), with one addition: such files are
 * written by Python, which writes the bare words Infinity, -Infinity and NaN for such numbers. They are read as the
 * strings of that spelling, since a JSON number cannot hold them: a definition that has a meaning for one accepts the
 * string, and everything else refuses it as "not a number", by name.
 */
#ifndef SSM_CONFIG_H
#define SSM_CONFIG_H

#include <jansson.h>

#include "ssm/ssm.h"

#define SSM_CONFIG_BYTES_MAX ((size_t)16 << 20)

/* A new reference in *out, an object. Errors: SSM_NOENT, SSM_IO, SSM_CONFIG; err names the file and the line. */
SSM_MUST_CHECK int ssm_config_load(json_t **out, const char *path, struct ssm_error *err);
/* The same from memory (and the fuzzer's target); `file` is what messages call it. */
SSM_MUST_CHECK int ssm_config_parse(json_t **out, const char *text, size_t size, const char *file,
                                    struct ssm_error *err);

#endif
