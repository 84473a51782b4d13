/* SPDX-License-Identifier: Apache-2.0
 * Shared by downsample and upsample; see resample.h. */
#include "ssm/layers/resample.h"

#include <stdlib.h>

/* weight (in, out, factor) to rows (factor * out, in) when up, (out, factor * in) when not. */
static float *rows_new(const float *weight, size_t in, size_t out, size_t factor, bool up)
{
    float *rows = ssm_floats_new(in * out * factor);

    for (size_t c = 0; rows && c < in; c++)
        for (size_t d = 0; d < out; d++)
            for (size_t j = 0; j < factor; j++)
                rows[up ? (j * out + d) * in + c : (d * factor + j) * in + c] = weight[(c * out + d) * factor + j];
    return rows;
}

int ssm_resample_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, bool up)
{
    struct ssm_strided *p = l->params = calloc(1, sizeof(*p));
    float *weight = NULL;
    uint32_t in, factor;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "in", &in, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, in)) ||
        (status = ssm_key_count(b, l, keys, "out", &l->out, 1, SSM_CHANNELS_MAX)) ||
        (status = ssm_key_count(b, l, keys, "factor", &factor, 1, 65536)))
        return status;
    *p = (struct ssm_strided){
        .kernel = up ? 1 : factor, .stride = up ? 1 : factor, .dilation = 1, .groups = 1, .phases = up ? factor : 1};
    if ((status = ssm_strided_init(b, l, p, false)) ||
        (status = ssm_tensor_take(b, l, "weight", &weight, 3, (uint64_t[]){in, l->out, factor})))
        return status;
    status = ssm_strided_pack(b, l, p, rows_new(weight, in, l->out, factor, up), false);
    free(weight);
    return status;
}
