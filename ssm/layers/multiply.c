/* SPDX-License-Identifier: Apache-2.0
 * multiply: the branches' outputs, joined by index. */
#include "ssm/layers/branches.h"

const struct ssm_kind ssm_kind_multiply = {
    .id = SSM_KIND_multiply,
    .type = "multiply",
    .keys = (const char *const[]){"branches", NULL},
    .init = ssm_branches_init,
    .any_rows = true,
    .any_rate = true,
};
