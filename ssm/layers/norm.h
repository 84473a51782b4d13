/* SPDX-License-Identifier: Apache-2.0
 * What layernorm, rmsnorm and batchnorm share: the keys dim and eps, and the tensors weight and bias. */
#ifndef SSM_LAYERS_NORM_H
#define SSM_LAYERS_NORM_H

#include "ssm/layers/params.h"

/* What a norm that divides by its own frame wants of eps: a silent frame is divided by sqrt(eps), which in float32 must
 * neither be 0 nor come from a denormal. */
#define SSM_EPS_MIN 1e-37

/* Allocates params, reads dim (which must be the input's) and eps, at least `eps_min`, takes weight and, when `bias`,
 * bias. */
int ssm_norm_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, double eps_min, bool bias);
void ssm_norm_fini(struct ssm_layer *l);

#endif
