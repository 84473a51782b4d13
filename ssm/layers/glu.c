/* SPDX-License-Identifier: Apache-2.0
 * glu: first half of the channels times the sigmoid of the second half. */
#include "ssm/layers/params.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    (void)keys;
    if (l->in % 2)
        return ssm_fail(b, l, SSM_CONFIG, "has %u channels in: glu halves them, so their number must be even", l->in);
    l->out = l->in / 2;
    return SSM_OK;
}

const struct ssm_kind ssm_kind_glu = {
    .id = SSM_KIND_glu,
    .type = "glu",
    .keys = (const char *const[]){NULL},
    .init = init,
    .any_rate = true,
};
