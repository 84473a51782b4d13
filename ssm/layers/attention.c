/* SPDX-License-Identifier: Apache-2.0
 *
 * attention over the first S and the last W frames, which keeps the state bounded whatever the history.
 *
 * y_t = W_o (heads side by side), a head being the softmax-weighted mean of the kept values, the weights
 * softmax(q . k / sqrt(D)). Positions are counted inside the cache (0 for the oldest kept frame), not from the
 * beginning of the stream, so that they never pass what the model was trained for.
 *
 * Sources: Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks"; Su et al. 2021, "RoFormer"
 * (RoPE), in the rotate-half form: channel i is paired with i + D/2. */
#include "ssm/layers/attention.h"

#include <math.h>
#include <stdlib.h>

#include "ssm/layers/projection.h"

static int read_keys(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, double *theta)
{
    struct ssm_attention *p = l->params;
    uint32_t dim;
    int status;

    if ((status = ssm_key_count(b, l, keys, "dim", &dim, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, dim)) ||
        (status = ssm_key_count(b, l, keys, "heads", &p->heads, 1, 65536)) ||
        (status = ssm_key_count_or(b, l, keys, "kv_heads", &p->key_heads, 1, p->heads, p->heads)) ||
        (status = ssm_key_count(b, l, keys, "head_dim", &p->head_dim, 1, 65536)) ||
        (status = ssm_key_count(b, l, keys, "window", &p->window, 1, 1u << 24)) ||
        (status = ssm_key_count(b, l, keys, "sinks", &p->sinks, 0, 1u << 24)) ||
        (status = ssm_key_number(b, l, keys, "rope_theta", theta, 0, 1e30)))
        return status;
    if (*theta > 0 && *theta < 1)
        return ssm_fail(b, l, SSM_CONFIG, "has \"rope_theta\": %.9g: it must be 0 (no positions) or at least 1",
                        *theta);
    if (*theta > 0 && p->head_dim % 2)
        return ssm_fail(
            b, l, SSM_CONFIG,
            "has \"head_dim\": %u, which must be even: rope_theta turns channels in pairs (0: no positions)",
            p->head_dim);
    return SSM_OK;
}

/* Every count is bounded, so 64 bits do not overflow. */
static int sizes_set(struct ssm_build *b, struct ssm_layer *l)
{
    const struct ssm_attention *p = l->params;
    uint64_t kept = (uint64_t)p->sinks + p->window, scratch = ssm_attention_scratch(p), bytes;

    if ((uint64_t)p->heads * p->head_dim > SSM_CHANNELS_MAX)
        return ssm_fail(b, l, SSM_LIMIT, "has %u heads of %u channels: %u channels are the most", p->heads, p->head_dim,
                        SSM_CHANNELS_MAX);
    bytes = 2 * kept * p->key_heads * p->head_dim * sizeof(float);
    if (bytes > SSM_ATTENTION_STATE_MAX)
        return ssm_fail(b, l, SSM_LIMIT,
                        "would need %llu bytes for each stream, and %u is the most; lower window (%u), sinks (%u), "
                        "kv_heads (%u) or head_dim (%u)",
                        (unsigned long long)bytes, SSM_ATTENTION_STATE_MAX, p->window, p->sinks, p->key_heads,
                        p->head_dim);
    if (scratch > SSM_ATTENTION_SCRATCH_MAX)
        return ssm_fail(b, l, SSM_LIMIT,
                        "works on %llu numbers at once, and %u are the most; lower heads (%u), head_dim (%u), window "
                        "(%u) or sinks (%u)",
                        (unsigned long long)scratch, SSM_ATTENTION_SCRATCH_MAX, p->heads, p->head_dim, p->window,
                        p->sinks);
    l->state_bytes = (uint32_t)bytes;
    l->scratch_floats = (uint32_t)scratch;
    return ssm_part_add(b, l,
                        &(struct ssm_part){.blocks = 2 * p->key_heads, .rows = (uint32_t)kept, .columns = p->head_dim});
}

/* weight and, if the file has one, bias */
static int take(struct ssm_build *b, const struct ssm_layer *l, const char *weight, const char *bias, uint32_t out,
                uint32_t in, struct ssm_linear *p)
{
    return ssm_projection_take(b, l, weight, ssm_tensor_exists(b, l, bias) ? bias : NULL, out, in, p);
}

static int turns_derive(struct ssm_build *b, const struct ssm_layer *l, double theta)
{
    struct ssm_attention *p = l->params;
    size_t kept = (size_t)p->sinks + p->window, half = p->head_dim / 2;

    p->turns = ssm_floats_new(kept * 2 * half);
    if (!p->turns)
        return ssm_fail(b, l, SSM_NOMEM, "no memory for %zu positions of %u channels", kept, p->head_dim);
    for (size_t i = 0; i < half; i++) {
        double frequency = pow(theta, -2.0 * (double)i / p->head_dim);

        for (size_t position = 0; position < kept; position++) {
            float *turn = p->turns + position * 2 * half;

            turn[i] = (float)cos((double)position * frequency);
            turn[half + i] = (float)sin((double)position * frequency);
        }
    }
    return SSM_OK;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_attention *p = l->params = calloc(1, sizeof(*p));
    uint32_t queries, shared;
    double theta;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = read_keys(b, l, keys, &theta)) || (status = sizes_set(b, l)))
        return status;
    queries = p->heads * p->head_dim;
    shared = p->key_heads * p->head_dim;
    p->scale = (float)(1 / sqrt((double)p->head_dim));
    if ((status = take(b, l, "q_proj.weight", "q_proj.bias", queries, l->in, &p->q)) ||
        (status = take(b, l, "k_proj.weight", "k_proj.bias", shared, l->in, &p->k)) ||
        (status = take(b, l, "v_proj.weight", "v_proj.bias", shared, l->in, &p->v)) ||
        (status = take(b, l, "o_proj.weight", "o_proj.bias", l->in, queries, &p->o)))
        return status;
    return theta > 0 ? turns_derive(b, l, theta) : SSM_OK;
}

static void fini(struct ssm_layer *l)
{
    struct ssm_attention *p = l->params;

    if (!p)
        return;
    ssm_projection_fini(&p->q);
    ssm_projection_fini(&p->k);
    ssm_projection_fini(&p->v);
    ssm_projection_fini(&p->o);
    free(p->turns);
}

const struct ssm_kind ssm_kind_attention = {
    .id = SSM_KIND_attention,
    .type = "attention",
    .keys = (const char *const[]){"dim", "heads", "kv_heads", "head_dim", "window", "sinks", "rope_theta", NULL},
    .init = init,
    .fini = fini,
};
