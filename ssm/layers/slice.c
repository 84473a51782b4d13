/* SPDX-License-Identifier: Apache-2.0
 * slice: channels from..to-1. */
#include <stdlib.h>

#include "ssm/layers/params.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_slice *p = calloc(1, sizeof(*p));
    int status;

    l->params = p;
    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "from", &p->from, 0, l->in - 1)) ||
        (status = ssm_key_count(b, l, keys, "to", &p->to, p->from + 1, l->in)))
        return status;
    l->out = p->to - p->from;
    return SSM_OK;
}

const struct ssm_kind ssm_kind_slice = {
    .id = SSM_KIND_slice,
    .type = "slice",
    .keys = (const char *const[]){"from", "to", NULL},
    .init = init,
    .any_rate = true,
};
