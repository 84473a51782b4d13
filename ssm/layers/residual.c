/* SPDX-License-Identifier: Apache-2.0
 * residual: y = x + layers(x). */
#include <jansson.h>
#include <stdlib.h>

#include "ssm/layers/params.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    int status;

    l->branch = calloc(1, sizeof(*l->branch));
    if (!l->branch)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    l->branches = 1;
    if ((status = ssm_key_sequence(b, l, json_object_get(keys, "layers"), &l->branch[0])))
        return status;
    if (l->branch[0].out != l->in)
        return ssm_fail(b, l, SSM_CONFIG, "adds its input of %u channels to an output of %u: they must be equal", l->in,
                        l->branch[0].out);
    l->out = l->in;
    return ssm_layer_join(b, l, true);
}

const struct ssm_kind ssm_kind_residual = {
    .id = SSM_KIND_residual,
    .type = "residual",
    .keys = (const char *const[]){"layers", NULL},
    .init = init,
    .any_rows = true,
    .any_rate = true,
};
