/* SPDX-License-Identifier: Apache-2.0
 * upsample: y[d, t * factor + j] = sum over c of x[c, t] W[c, d, j]. */
#include "ssm/layers/resample.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    return ssm_resample_init(b, l, keys, true);
}

const struct ssm_kind ssm_kind_upsample = {
    .id = SSM_KIND_upsample,
    .type = "upsample",
    .keys = (const char *const[]){"in", "out", "factor", NULL},
    .init = init,
    .any_rows = true,
    .fini = ssm_strided_fini,
};
