/* SPDX-License-Identifier: Apache-2.0
 * Shared by add and multiply; see branches.h. */
#include "ssm/layers/branches.h"

#include <jansson.h>
#include <stdlib.h>

int ssm_branches_init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    const json_t *branches = json_object_get(keys, "branches");
    size_t n = json_array_size(branches);
    int status = SSM_OK;

    if (!json_is_array(branches) || n < 1 || n > SSM_BRANCHES_MAX)
        return ssm_fail(b, l, SSM_CONFIG, "needs \"branches\": a list of 1 to %d lists of layers", SSM_BRANCHES_MAX);
    l->branch = calloc(n, sizeof(*l->branch));
    if (!l->branch)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    l->branches = (uint32_t)n;
    for (uint32_t i = 0; status == SSM_OK && i < n; i++)
        status = ssm_key_sequence(b, l, json_array_get(branches, i), &l->branch[i]);
    for (uint32_t i = 1; status == SSM_OK && i < l->branches; i++)
        if (l->branch[i].out != l->branch[0].out)
            status =
                ssm_fail(b, l, SSM_CONFIG, "branch 0 ends with %u channels and branch %u with %u: they must be equal",
                         l->branch[0].out, i, l->branch[i].out);
    l->out = l->branch[0].out;
    return status ? status : ssm_layer_join(b, l, false);
}
