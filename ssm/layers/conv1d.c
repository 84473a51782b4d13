/* SPDX-License-Identifier: Apache-2.0
 * conv1d, causal, stride 1: y_t = b + sum over k of w_k x[t - (kernel-1-k) * dilation], x being 0 before the first
 * sample. The weights of a group become one matrix over its window, oldest tap first; a depthwise convolution keeps its
 * taps. */
#include <stdlib.h>

#include "ssm/layers/params.h"

#define SCRATCH_MAX (1u << 24) /* floats */

static const char *const paddings[] = {"causal", "valid", NULL};

/* weight (out, in/groups, kernel) to one (out/groups, kernel * in/groups) matrix per group. */
static int pack_groups(struct ssm_conv1d *p, const float *weight, uint32_t in, uint32_t out)
{
    uint32_t gi = in / p->groups, go = out / p->groups;
    size_t window = (size_t)p->kernel * gi;
    float *w = ssm_floats_new(go * window);
    int status = SSM_OK;

    p->group = calloc(p->groups, sizeof(*p->group));
    if (!w || !p->group)
        status = SSM_NOMEM;
    for (uint32_t g = 0; status == SSM_OK && g < p->groups; g++) {
        const float *from = weight + (size_t)g * go * window;

        for (size_t o = 0; o < go; o++)
            for (size_t i = 0; i < gi; i++)
                for (size_t k = 0; k < p->kernel; k++)
                    w[o * window + k * gi + i] = from[(o * gi + i) * p->kernel + k];
        status = ssm_matrix_pack(&p->group[g], w, go, (uint32_t)window);
    }
    free(w);
    return status;
}

static int pack_depthwise(struct ssm_conv1d *p, const float *weight, uint32_t channels)
{
    p->taps = ssm_floats_new((size_t)p->kernel * channels);
    if (!p->taps)
        return SSM_NOMEM;
    for (size_t c = 0; c < channels; c++)
        for (size_t k = 0; k < p->kernel; k++)
            p->taps[k * channels + c] = weight[c * p->kernel + k];
    return SSM_OK;
}

static int keys_read(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, bool *bias)
{
    struct ssm_conv1d *p = l->params;
    uint32_t in, stride;
    int padding, status;

    if ((status = ssm_key_count(b, l, keys, "in", &in, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, in)) ||
        (status = ssm_key_count(b, l, keys, "out", &l->out, 1, SSM_CHANNELS_MAX)) ||
        (status = ssm_key_count(b, l, keys, "kernel", &p->kernel, 1, 65536)) ||
        (status = ssm_key_count_or(b, l, keys, "stride", &stride, 1, 65536, 1)) ||
        (status = ssm_key_count_or(b, l, keys, "groups", &p->groups, 1, in, 1)) ||
        (status = ssm_key_count_or(b, l, keys, "dilation", &p->dilation, 1, 65536, 1)) ||
        (status = ssm_key_word(b, l, keys, "padding", paddings, &padding, -1)) ||
        (status = ssm_key_flag(b, l, keys, "bias", bias, true)))
        return status;
    if (stride != 1 || padding != 0)
        return ssm_fail(b, l, SSM_UNSUPPORTED,
                        "has stride %u and %s padding: only causal convolutions of stride 1 run yet", stride,
                        paddings[padding]);
    if (in % p->groups || l->out % p->groups)
        return ssm_fail(b, l, SSM_CONFIG, "has %u groups, which must divide its %u inputs and %u outputs", p->groups,
                        in, l->out);
    return SSM_OK;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_conv1d *p = l->params = calloc(1, sizeof(*p));
    float *weight = NULL;
    uint64_t past, scratch;
    bool bias;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = keys_read(b, l, keys, &bias)))
        goto out;
    past = (uint64_t)(p->kernel - 1) * p->dilation;
    scratch = (past + SSM_TILE_FRAMES) * l->in + (uint64_t)SSM_TILE_FRAMES * p->kernel * (l->in / p->groups);
    if (past * l->in > SCRATCH_MAX) {
        status =
            ssm_fail(b, l, SSM_LIMIT, "keeps %llu frames of %u channels: too many", (unsigned long long)past, l->in);
        goto out;
    }
    if (scratch > SCRATCH_MAX) {
        status = ssm_fail(b, l, SSM_LIMIT,
                          "has a kernel of %u over %u channels: it works on %llu numbers at once, and %u are the most",
                          p->kernel, l->in / p->groups, (unsigned long long)scratch, SCRATCH_MAX);
        goto out;
    }
    p->past = (uint32_t)past;
    l->state_bytes = (uint32_t)(past * l->in * sizeof(float));
    l->scratch_floats = (uint32_t)scratch;
    if ((status = ssm_part_add(b, l, &(struct ssm_part){.rows = p->past, .columns = l->in})) ||
        (status = ssm_tensor_take(b, l, "weight", &weight, 3, (uint64_t[]){l->out, l->in / p->groups, p->kernel})) ||
        (status = ssm_bias_take(b, l, bias, l->out, &p->bias)))
        goto out;
    status = p->groups == l->in && l->out == l->in ? pack_depthwise(p, weight, l->in)
                                                   : pack_groups(p, weight, l->in, l->out);
    if (status)
        status = ssm_fail(b, l, status, "no memory for its weights");
out:
    free(weight);
    return status;
}

static void fini(struct ssm_layer *l)
{
    struct ssm_conv1d *p = l->params;

    if (!p)
        return;
    for (uint32_t g = 0; p->group && g < p->groups; g++)
        ssm_matrix_fini(&p->group[g]);
    free(p->group);
    free(p->taps);
    free(p->bias);
}

const struct ssm_kind ssm_kind_conv1d = {
    .id = SSM_KIND_conv1d,
    .type = "conv1d",
    .keys = (const char *const[]){"in", "out", "kernel", "stride", "groups", "dilation", "bias", "padding", NULL},
    .init = init,
    .fini = fini,
};
