/* SPDX-License-Identifier: Apache-2.0
 * mean: y_t = (1/(t+1)) sum over s <= t of x_s. State: the sum as two float32 (value and what rounding left), (2, H):
 * a plain float32 sum would stop growing after 2^24 frames. At any rate it is the mean over the time that has passed. */
#include "ssm/layers/params.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    (void)keys;
    l->out = l->in;
    l->state_bytes = (uint32_t)(2 * l->in * sizeof(float));
    return ssm_part_add(b, l, &(struct ssm_part){.rows = 2, .columns = l->in});
}

const struct ssm_kind ssm_kind_mean = {
    .id = SSM_KIND_mean,
    .type = "mean",
    .keys = (const char *const[]){NULL},
    .init = init,
    .any_rate = true,
};
