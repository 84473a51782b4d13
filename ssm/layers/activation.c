/* SPDX-License-Identifier: Apache-2.0
 * activation: one function of each value; gelu is the erf form, gelu_tanh the tanh form. */
#include <stdlib.h>

#include "ssm/layers/params.h"

/* in the order of enum ssm_activation_fn */
static const char *const words[] = {"relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "softplus", NULL};

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_activation *p = calloc(1, sizeof(*p));
    int fn, status;

    l->params = p;
    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_word(b, l, keys, "fn", words, &fn, -1)))
        return status;
    p->fn = (enum ssm_activation_fn)fn;
    l->out = l->in;
    return SSM_OK;
}

const struct ssm_kind ssm_kind_activation = {
    .id = SSM_KIND_activation,
    .type = "activation",
    .keys = (const char *const[]){"fn", NULL},
    .init = init,
    .any_rate = true,
};
