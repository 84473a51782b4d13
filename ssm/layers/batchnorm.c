/* SPDX-License-Identifier: Apache-2.0
 * batchnorm, as it is after training: (x - running_mean) / sqrt(running_var + eps) * w + b.
 * The divisor goes into the weight, in float64, at load. */
#include <math.h>
#include <stdlib.h>

#include "ssm/layers/norm.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_norm *p;
    float *var = NULL;
    int status = ssm_norm_init(b, l, keys, 0, true);

    p = l->params;
    if (status || (status = ssm_tensor_take(b, l, "running_mean", &p->mean, 1, (uint64_t[]){l->out})) ||
        (status = ssm_tensor_take(b, l, "running_var", &var, 1, (uint64_t[]){l->out})))
        goto out;
    for (uint32_t i = 0; i < l->out; i++) {
        double spread = (double)var[i] + p->eps;

        if (!(spread > 0)) {
            status = ssm_fail(b, l, SSM_TENSOR, "running_var[%u] is %g: a variance plus eps must be positive", i,
                              (double)var[i]);
            goto out;
        }
        p->weight[i] = (float)(p->weight[i] / sqrt(spread));
    }
out:
    free(var);
    return status;
}

const struct ssm_kind ssm_kind_batchnorm = {
    .id = SSM_KIND_batchnorm,
    .type = "batchnorm",
    .keys = (const char *const[]){"dim", "eps", NULL},
    .init = init,
    .any_rate = true,
    .fini = ssm_norm_fini,
};
