/* SPDX-License-Identifier: Apache-2.0
 * rmsnorm: x / sqrt(mean of x^2 + eps) * w over the channels of a frame. */
#include "ssm/layers/norm.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    return ssm_norm_init(b, l, keys, SSM_EPS_MIN, false);
}

const struct ssm_kind ssm_kind_rmsnorm = {
    .id = SSM_KIND_rmsnorm,
    .type = "rmsnorm",
    .keys = (const char *const[]){"dim", "eps", NULL},
    .init = init,
    .any_rate = true,
    .fini = ssm_norm_fini,
};
