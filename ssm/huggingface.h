/* SPDX-License-Identifier: Apache-2.0
 *
 * Published Mamba and Mamba-2 checkpoints: the config.json of MambaForCausalLM and Mamba2ForCausalLM as a list of
 * layers, so that nothing else knows of them.
 */
#ifndef SSM_HUGGINGFACE_H
#define SSM_HUGGINGFACE_H

#include "ssm/build.h"

/* Whether the configuration is of such a model, by its model_type. */
bool ssm_is_huggingface(const json_t *config);

/* The same model as a configuration of model_type "ssmd", a new reference in *out. Looks at b's tensors for what the
 * configuration leaves open (how the embedding is spelled), and lets a tied head stand for the embedding in them.
 * Errors: SSM_CONFIG, SSM_TENSOR, SSM_UNSUPPORTED, SSM_NOMEM; the message names the key or the tensor. */
SSM_MUST_CHECK int ssm_huggingface_translate(struct ssm_build *b, const json_t *config, json_t **out);

#endif
