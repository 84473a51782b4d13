/* SPDX-License-Identifier: Apache-2.0
 * scale: y = value * x. */
#include <float.h>
#include <stdlib.h>

#include "ssm/layers/params.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_scale *p = calloc(1, sizeof(*p));
    double value;
    int status;

    l->params = p;
    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_number(b, l, keys, "value", &value, -FLT_MAX, FLT_MAX)))
        return status;
    p->value = (float)value;
    l->out = l->in;
    return SSM_OK;
}

const struct ssm_kind ssm_kind_scale = {
    .id = SSM_KIND_scale,
    .type = "scale",
    .keys = (const char *const[]){"value", NULL},
    .init = init,
    .any_rate = true,
};
