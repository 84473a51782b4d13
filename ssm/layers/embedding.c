/* SPDX-License-Identifier: Apache-2.0
 * embedding: a row of the table for each token; the first layer of a token model. */
#include <stdlib.h>

#include "ssm/layers/params.h"

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_embedding *p = calloc(1, sizeof(*p));
    int status;

    l->params = p;
    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "vocab", &p->vocab, 1, SSM_CHANNELS_MAX)) ||
        (status = ssm_key_count(b, l, keys, "dim", &l->out, 1, SSM_CHANNELS_MAX)))
        return status;
    return ssm_tensor_take(b, l, "weight", &p->weight, 2, (uint64_t[]){p->vocab, l->out});
}

static void fini(struct ssm_layer *l)
{
    struct ssm_embedding *p = l->params;

    if (p)
        free(p->weight);
}

const struct ssm_kind ssm_kind_embedding = {
    .id = SSM_KIND_embedding,
    .type = "embedding",
    .keys = (const char *const[]){"vocab", "dim", NULL},
    .init = init,
    .fini = fini,
};
