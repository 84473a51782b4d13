/* SPDX-License-Identifier: Apache-2.0
 * downsample: y[d, t] = sum over c and j of x[c, t * factor + j] W[c, d, j]. */
#include "ssm/layers/resample.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    return ssm_resample_init(b, l, keys, false);
}

const struct ssm_kind ssm_kind_downsample = {
    .id = SSM_KIND_downsample,
    .type = "downsample",
    .keys = (const char *const[]){"in", "out", "factor", NULL},
    .init = init,
    .any_rows = true,
    .fini = ssm_strided_fini,
};
