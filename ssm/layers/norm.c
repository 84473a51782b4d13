/* SPDX-License-Identifier: Apache-2.0
 * Shared by the norms; see norm.h. */
#include "ssm/layers/norm.h"

#include <stdlib.h>

int ssm_norm_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, double eps_min, bool bias)
{
    struct ssm_norm *p = calloc(1, sizeof(*p));
    double eps;
    int status;

    l->params = p;
    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "dim", &l->out, 1, SSM_CHANNELS_MAX)) ||
        (status = ssm_expect_in(b, l, l->out)) ||
        (status = ssm_key_number_or(b, l, keys, "eps", &eps, eps_min, 1, 1e-5)) ||
        (status = ssm_tensor_take(b, l, "weight", &p->weight, 1, (uint64_t[]){l->out})))
        return status;
    p->eps = (float)eps;
    return bias ? ssm_tensor_take(b, l, "bias", &p->bias, 1, (uint64_t[]){l->out}) : SSM_OK;
}

void ssm_norm_fini(struct ssm_layer *l)
{
    struct ssm_norm *p = l->params;

    if (p) {
        free(p->weight);
        free(p->bias);
        free(p->mean);
    }
}
