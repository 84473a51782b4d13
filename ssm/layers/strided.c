/* SPDX-License-Identifier: Apache-2.0
 * Shared by the kinds that move a window; see strided.h. */
#include "ssm/layers/strided.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_MAX (1u << 24) /* floats */

int ssm_strided_init(struct ssm_build *b, struct ssm_layer *l, struct ssm_strided *p, bool causal)
{
    uint64_t past = (uint64_t)(p->kernel - 1) * p->dilation, rows = (uint64_t)p->phases * l->out,
             window = (uint64_t)p->kernel * (l->in / p->groups),
             scratch = (past + SSM_TILE_FRAMES) * l->in + SSM_TILE_FRAMES * window;
    int status;

    if (past * l->in > SCRATCH_MAX)
        return ssm_fail(b, l, SSM_LIMIT, "keeps %llu frames of %u channels: too many", (unsigned long long)past, l->in);
    if (scratch > SCRATCH_MAX)
        return ssm_fail(b, l, SSM_LIMIT,
                        "has a kernel of %u over %u channels: it works on %llu numbers at once, and %u are the most",
                        p->kernel, l->in / p->groups, (unsigned long long)scratch, SCRATCH_MAX);
    if (rows > SSM_CHANNELS_MAX)
        return ssm_fail(b, l, SSM_LIMIT, "makes %u frames of %u channels at once: %u numbers are the most", p->phases,
                        l->out, SSM_CHANNELS_MAX);
    p->past = (uint32_t)past;
    p->before = causal ? p->past : 0;
    l->state_bytes = (uint32_t)(past * l->in * sizeof(float));
    l->scratch_floats = (uint32_t)scratch;
    status = ssm_part_add(b, l, &(struct ssm_part){.rows = p->past, .columns = l->in});
    return status ? status : ssm_layer_rate(b, l, p->past - p->before + 1, p->stride, p->phases);
}

static int depthwise_pack(struct ssm_strided *p, const float *rows, uint32_t channels)
{
    p->taps = ssm_floats_new((size_t)p->kernel * channels);
    if (!p->taps)
        return SSM_NOMEM;
    for (size_t c = 0; c < channels; c++)
        for (size_t k = 0; k < p->kernel; k++)
            p->taps[k * channels + c] = rows[c * p->kernel + k];
    return SSM_OK;
}

static int groups_pack(struct ssm_strided *p, const float *rows, uint32_t in, uint32_t out)
{
    uint32_t wide = p->kernel * (in / p->groups), high = p->phases * (out / p->groups);
    int status = SSM_OK;

    p->group = calloc(p->groups, sizeof(*p->group));
    if (!p->group)
        return SSM_NOMEM;
    for (size_t g = 0; status == SSM_OK && g < p->groups; g++)
        status = ssm_matrix_pack(&p->group[g], rows + g * high * wide, high, wide);
    return status;
}

static int bias_pack(struct ssm_build *b, struct ssm_layer *l, struct ssm_strided *p, bool has)
{
    float *one;
    int status = ssm_bias_take(b, l, has, l->out, &one);

    if (status)
        return status;
    p->bias = ssm_floats_new(SSM_PAD16((size_t)p->phases * l->out));
    for (uint32_t i = 0; p->bias && i < p->phases; i++)
        memcpy(p->bias + (size_t)i * l->out, one, l->out * sizeof(*one));
    free(one);
    return p->bias ? SSM_OK : ssm_fail(b, l, SSM_NOMEM, "no memory for its bias");
}

int ssm_strided_pack(struct ssm_build *b, struct ssm_layer *l, struct ssm_strided *p, float *rows, bool bias)
{
    bool depthwise = p->groups == l->in && l->out == l->in && p->phases == 1;
    int status = SSM_NOMEM;

    if (rows)
        status = depthwise ? depthwise_pack(p, rows, l->in) : groups_pack(p, rows, l->in, l->out);
    free(rows);
    return status ? ssm_fail(b, l, status, "no memory for its weights") : bias_pack(b, l, p, bias);
}

void ssm_strided_fini(struct ssm_layer *l)
{
    struct ssm_strided *p = l->params;

    if (!p)
        return;
    for (uint32_t g = 0; p->group && g < p->groups; g++)
        ssm_matrix_fini(&p->group[g]);
    free(p->group);
    free(p->taps);
    free(p->bias);
}
