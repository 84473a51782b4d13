/* SPDX-License-Identifier: Apache-2.0
 * conv1d: y_j = b + sum over k of w_k x[j * stride + k * dilation - p], p being (kernel - 1) * dilation (causal) or 0
 * (valid), x being 0 before the first sample; no flip of the kernel. */
#include <stdlib.h>

#include "ssm/layers/strided.h"

static const char *const paddings[] = {"causal", "valid", NULL};

/* weight (out, in/groups, kernel) to rows (out, kernel * in/groups), oldest frame first. */
static float *rows_new(const float *weight, size_t out, size_t in, size_t kernel)
{
    float *rows = ssm_floats_new(out * in * kernel);

    for (size_t o = 0; rows && o < out; o++)
        for (size_t i = 0; i < in; i++)
            for (size_t k = 0; k < kernel; k++)
                rows[(o * kernel + k) * in + i] = weight[(o * in + i) * kernel + k];
    return rows;
}

static int keys_read(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, bool *causal, bool *bias)
{
    struct ssm_strided *p = l->params;
    uint32_t in;
    int padding, status;

    if ((status = ssm_key_count(b, l, keys, "in", &in, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, in)) ||
        (status = ssm_key_count(b, l, keys, "out", &l->out, 1, SSM_CHANNELS_MAX)) ||
        (status = ssm_key_count(b, l, keys, "kernel", &p->kernel, 1, 65536)) ||
        (status = ssm_key_count_or(b, l, keys, "stride", &p->stride, 1, 65536, 1)) ||
        (status = ssm_key_count_or(b, l, keys, "groups", &p->groups, 1, in, 1)) ||
        (status = ssm_key_count_or(b, l, keys, "dilation", &p->dilation, 1, 65536, 1)) ||
        (status = ssm_key_word(b, l, keys, "padding", paddings, &padding, -1)) ||
        (status = ssm_key_flag(b, l, keys, "bias", bias, true)))
        return status;
    if (in % p->groups || l->out % p->groups)
        return ssm_fail(b, l, SSM_CONFIG, "has %u groups, which must divide its %u inputs and %u outputs", p->groups,
                        in, l->out);
    *causal = padding == 0;
    return SSM_OK;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_strided *p = l->params = calloc(1, sizeof(*p));
    float *weight = NULL;
    bool causal = true, bias;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    p->phases = 1;
    if ((status = keys_read(b, l, keys, &causal, &bias)) || (status = ssm_strided_init(b, l, p, causal)) ||
        (status = ssm_tensor_take(b, l, "weight", &weight, 3, (uint64_t[]){l->out, l->in / p->groups, p->kernel})))
        return status;
    status = ssm_strided_pack(b, l, p, rows_new(weight, l->out, l->in / p->groups, p->kernel), bias);
    free(weight);
    return status;
}

const struct ssm_kind ssm_kind_conv1d = {
    .id = SSM_KIND_conv1d,
    .type = "conv1d",
    .keys = (const char *const[]){"in", "out", "kernel", "stride", "groups", "dilation", "bias", "padding", NULL},
    .init = init,
    .any_rows = true,
    .fini = ssm_strided_fini,
};
