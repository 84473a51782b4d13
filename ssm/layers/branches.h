/* SPDX-License-Identifier: Apache-2.0
 * What add and multiply share: branches that see the same input and end equally wide; an empty one is the identity. */
#ifndef SSM_LAYERS_BRANCHES_H
#define SSM_LAYERS_BRANCHES_H

#include "ssm/layers/params.h"

#define SSM_BRANCHES_MAX 64

int ssm_branches_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys);

#endif
