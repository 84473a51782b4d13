/* SPDX-License-Identifier: Apache-2.0
 * What layernorm, rmsnorm and batchnorm share: the keys dim and eps, and the tensors weight and bias. */
#ifndef SSM_LAYERS_NORM_H
#define SSM_LAYERS_NORM_H

#include "ssm/layers/params.h"

/* Allocates params, reads dim (which must be the input's) and eps, takes weight and, when `bias`, bias. */
int ssm_norm_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, bool bias);
void ssm_norm_fini(struct ssm_layer *l);

#endif
