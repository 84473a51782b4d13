/* SPDX-License-Identifier: Apache-2.0
 * Dense maps inside a layer; see projection.h. */
#include "ssm/layers/projection.h"

#include <stdlib.h>
#include <string.h>

int ssm_projection_take(struct ssm_build *b, const struct ssm_layer *l, const char *weight, const char *bias,
                        uint32_t out, uint32_t in, struct ssm_linear *p)
{
    float *w = NULL, *added = NULL;
    int status;

    if ((status = ssm_tensor_take(b, l, weight, &w, 2, (uint64_t[]){out, in})) ||
        (bias && (status = ssm_tensor_take(b, l, bias, &added, 1, (uint64_t[]){out}))))
        goto out;
    p->bias = ssm_floats_new(SSM_PAD16(out));
    status = p->bias ? ssm_matrix_pack(&p->weight, w, out, in) : SSM_NOMEM;
    if (status)
        status = ssm_fail(b, l, status, "no memory for %u x %u weights of '%s.%s'", out, in, l->name, weight);
    else if (added)
        memcpy(p->bias, added, out * sizeof(*added));
out:
    free(w);
    free(added);
    return status;
}

void ssm_projection_fini(struct ssm_linear *p)
{
    ssm_matrix_fini(&p->weight);
    free(p->bias);
    p->bias = NULL;
}
