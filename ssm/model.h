/* SPDX-License-Identifier: Apache-2.0
 *
 * The loaded model, as backends see it. Immutable after ssm_model_load; counted references.
 */
#ifndef SSM_MODEL_H
#define SSM_MODEL_H

#include <stdatomic.h>

#include "ssm/layer.h"

struct ssm_model {
    atomic_uint references;
    struct ssm_model_info info;
    struct ssm_clocks clocks;
    struct ssm_sequence graph;
    uint32_t cell;      /* input frames of a tile, a multiple of the hop: what is scanned together when the graph is not
                      aligned, and at most what is stepped */
    size_t image_bytes; /* of one state (ssm/image.h) */
};

/* Build a model from a parsed configuration; `dir` names the directory of its tensors, NULL when it has none
 * (templates); `file` is what messages call it; `rate` is the stream's, 0 for the configuration's own. Does not keep
 * `config`. */
int ssm_model_build(struct ssm_model **out, const json_t *config, const char *dir, const char *file, double rate,
                    struct ssm_error *err);

/* The configuration of a template (ssm/template.c): a new reference in *out. */
int ssm_template_config(json_t **out, const char *spec, const struct ssm_model_hint *hint, struct ssm_error *err);

/* Fill err (may be NULL) and return status. */
int ssm_error_set(struct ssm_error *err, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
