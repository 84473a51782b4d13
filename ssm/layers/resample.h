/* SPDX-License-Identifier: Apache-2.0
 * What downsample and upsample share: the keys, and a weight of (in, out, factor). */
#ifndef SSM_LAYERS_RESAMPLE_H
#define SSM_LAYERS_RESAMPLE_H

#include "ssm/layers/strided.h"

/* up: y[d, t * factor + j] = sum over c of x[c, t] W[c, d, j];
 * else: y[d, t] = sum over c and j of x[c, t * factor + j] W[c, d, j]. */
int ssm_resample_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, bool up);

#endif
