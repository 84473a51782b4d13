/* SPDX-License-Identifier: Apache-2.0
 * linear: y = W x + b. */
#include <stdlib.h>

#include "ssm/layers/params.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_linear *p = calloc(1, sizeof(*p));
    float *weight = NULL;
    uint32_t in;
    bool bias;
    int status;

    l->params = p;
    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "in", &in, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, in)) ||
        (status = ssm_key_count(b, l, keys, "out", &l->out, 1, SSM_CHANNELS_MAX)) ||
        (status = ssm_key_flag(b, l, keys, "bias", &bias, true)) ||
        (status = ssm_tensor_take(b, l, "weight", &weight, 2, (uint64_t[]){l->out, in})) ||
        (status = ssm_bias_take(b, l, bias, l->out, &p->bias)))
        goto out;
    if ((status = ssm_matrix_pack(&p->weight, weight, l->out, in)))
        status = ssm_fail(b, l, status, "no memory for %u x %u weights", l->out, in);
out:
    free(weight);
    return status;
}

static void fini(struct ssm_layer *l)
{
    struct ssm_linear *p = l->params;

    if (p) {
        ssm_matrix_fini(&p->weight);
        free(p->bias);
    }
}

const struct ssm_kind ssm_kind_linear = {
    .id = SSM_KIND_linear,
    .type = "linear",
    .keys = (const char *const[]){"in", "out", "bias", NULL},
    .init = init,
    .any_rate = true,
    .fini = fini,
};
