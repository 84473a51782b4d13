/* SPDX-License-Identifier: Apache-2.0
 * layernorm: (x - mean) / sqrt(var + eps) * w + b over the channels of a frame, biased variance. */
#include "ssm/layers/norm.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    return ssm_norm_init(b, l, keys, SSM_EPS_MIN, true);
}

const struct ssm_kind ssm_kind_layernorm = {
    .id = SSM_KIND_layernorm,
    .type = "layernorm",
    .keys = (const char *const[]){"dim", "eps", NULL},
    .init = init,
    .any_rate = true,
    .fini = ssm_norm_fini,
};
