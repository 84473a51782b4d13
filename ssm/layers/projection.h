/* SPDX-License-Identifier: Apache-2.0
 * A dense map inside a layer, y = W x + b, whose tensors have names of their own: weight_ih with bias_ih, q_proj.weight
 * with q_proj.bias. Its kernel is ssm_cpu_matrix. */
#ifndef SSM_LAYERS_PROJECTION_H
#define SSM_LAYERS_PROJECTION_H

#include "ssm/layers/params.h"

/* Takes "<layer name>.<weight>" (out, in) and "<layer name>.<bias>" (out); bias NULL: zeros. On failure *p still needs
 * ssm_projection_fini. */
int ssm_projection_take(struct ssm_build *b, const struct ssm_layer *l, const char *weight, const char *bias,
                        uint32_t out, uint32_t in, struct ssm_linear *p);
void ssm_projection_fini(struct ssm_linear *p); /* a zeroed or half-taken one is legal */

#endif
