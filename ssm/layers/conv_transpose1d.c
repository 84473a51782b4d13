/* SPDX-License-Identifier: Apache-2.0
 * conv_transpose1d: y[j * stride + k] gets sum over c of x[c, j] w[c, :, k], and the bias once. Read from the output:
 * frame j * stride + p sees x[j - m] through tap p + m * stride, which is a window of ceil(kernel / stride) frames. */
#include <stdlib.h>

#include "ssm/layers/strided.h"

/* weight (in, out, kernel) to rows (stride * out, window * in), 0 where a phase has no tap. */
static float *rows_new(const float *weight, size_t in, size_t out, size_t kernel, size_t stride, size_t window)
{
    float *rows = ssm_floats_new(stride * out * window * in);

    for (size_t k = 0; rows && k < kernel; k++) {
        size_t phase = k % stride, frame = window - 1 - k / stride; /* oldest first */

        for (size_t o = 0; o < out; o++)
            for (size_t i = 0; i < in; i++)
                rows[((phase * out + o) * window + frame) * in + i] = weight[(i * out + o) * kernel + k];
    }
    return rows;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_strided *p = l->params = calloc(1, sizeof(*p));
    float *weight = NULL;
    uint32_t in, kernel, stride;
    bool bias;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "in", &in, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, in)) ||
        (status = ssm_key_count(b, l, keys, "out", &l->out, 1, SSM_CHANNELS_MAX)) ||
        (status = ssm_key_count(b, l, keys, "kernel", &kernel, 1, 65536)) ||
        (status = ssm_key_count(b, l, keys, "stride", &stride, 1, 65536)) ||
        (status = ssm_key_flag(b, l, keys, "bias", &bias, true)))
        return status;
    *p = (struct ssm_strided){
        .kernel = (kernel + stride - 1) / stride, .stride = 1, .dilation = 1, .groups = 1, .phases = stride};
    if ((status = ssm_strided_init(b, l, p, true)) ||
        (status = ssm_tensor_take(b, l, "weight", &weight, 3, (uint64_t[]){in, l->out, kernel})))
        return status;
    status = ssm_strided_pack(b, l, p, rows_new(weight, in, l->out, kernel, stride, p->kernel), bias);
    free(weight);
    return status;
}

const struct ssm_kind ssm_kind_conv_transpose1d = {
    .id = SSM_KIND_conv_transpose1d,
    .type = "conv_transpose1d",
    .keys = (const char *const[]){"in", "out", "kernel", "stride", "bias", NULL},
    .init = init,
    .any_rows = true,
    .fini = ssm_strided_fini,
};
