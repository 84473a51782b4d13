/* SPDX-License-Identifier: Apache-2.0
 * mamba2: the selective state-space block of Mamba-2, with one decay for each head.
 *
 *     (z, x, B, C, dt) = in_proj(input);   (x, B, C) = silu(conv(x, B, C))
 *     dt = clamp(softplus(dt + dt_bias), dt_limit)
 *     h[p,n] = exp(dt A) h[p,n] + dt B[n] x[p],  A = -exp(A_log), for each head, B and C of the head's group
 *     y[p] = sum over n of C[n] h[p,n] + D x[p];   output = out_proj(norm(y, z))
 *
 * norm: rms over each group's channels of y silu(z), or of y and then times silu(z) (norm_before_gate), or none at all.
 * Every A is negative and every dt at least 0, so no pole can leave the unit circle; A must only be finite.
 * Source: Dao and Gu 2024, "Transformers are SSMs: Generalized Models and Efficient Algorithms Through Structured State
 * Space Duality". */
#include "ssm/layers/mamba2.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/build.h"
#include "ssm/layers/norm.h"

/* A bound of dt_limit: a number of at least 0, or without end, as null or as Python's Infinity. */
static bool limit_read(const json_t *value, float *out)
{
    const char *word = json_string_value(value);

    *out = json_is_number(value) ? (float)json_number_value(value) : INFINITY;
    return json_is_number(value) ? *out >= 0 && isfinite(*out)
                                 : json_is_null(value) || (word && strcmp(word, "Infinity") == 0);
}

static int limits_read(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys)
{
    struct ssm_mamba2 *p = l->params;
    const json_t *limit = json_object_get(keys, "dt_limit");
    char text[48];

    p->dt_min = 0;
    p->dt_max = INFINITY;
    if (!limit)
        return SSM_OK;
    if (json_array_size(limit) != 2 || !limit_read(json_array_get(limit, 0), &p->dt_min) ||
        !limit_read(json_array_get(limit, 1), &p->dt_max) || !isfinite(p->dt_min) || !(p->dt_min <= p->dt_max))
        return ssm_fail(b, l, SSM_CONFIG,
                        "key 'dt_limit' must be [least, most] with 0 <= least <= most, and null or Infinity for no "
                        "upper bound, not %s",
                        ssm_key_text(limit, text, sizeof(text)));
    return SSM_OK;
}

static int keys_read(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_mamba2 *p = l->params;
    uint32_t dim, inner;
    double eps;
    int status;

    if ((status = ssm_key_count(b, l, keys, "dim", &dim, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, dim)) ||
        (status = ssm_selective_inner(b, l, keys, dim, &inner)) ||
        (status = ssm_key_count(b, l, keys, "state", &p->state, 1, SSM_SELECTIVE_STATE_MAX)) ||
        (status = ssm_key_count(b, l, keys, "conv", &p->window.kernel, 1, SSM_SELECTIVE_CONV_MAX)) ||
        (status = ssm_key_count(b, l, keys, "head_dim", &p->head_dim, 1, inner)) ||
        (status = ssm_key_count(b, l, keys, "groups", &p->groups, 1, inner)) ||
        (status = ssm_key_number_or(b, l, keys, "eps", &eps, SSM_EPS_MIN, 1, 1e-5)) ||
        (status = ssm_key_flag(b, l, keys, "rms_norm", &p->rms_norm, true)) ||
        (status = ssm_key_flag(b, l, keys, "norm_before_gate", &p->norm_before_gate, false)) ||
        (status = limits_read(b, l, keys)))
        return status;
    p->eps = (float)eps;
    p->heads = inner / p->head_dim;
    if (inner % p->head_dim)
        return ssm_fail(b, l, SSM_CONFIG, "has \"head_dim\": %u, which must divide its %u inner channels", p->head_dim,
                        inner);
    if (p->heads % p->groups)
        return ssm_fail(b, l, SSM_CONFIG, "has \"groups\": %u, which must divide its %u heads", p->groups, p->heads);
    return SSM_OK;
}

/* Lanes and sizes, in 64 bits until they are known to be small. */
static int lay_out(struct ssm_build *b, struct ssm_layer *l)
{
    struct ssm_mamba2 *p = l->params;
    uint64_t inner, window, lanes, past = p->window.kernel - 1;
    int status;

    p->head_lanes = SSM_PAD16(p->head_dim);
    p->state_lanes = SSM_PAD16(p->state);
    p->state_padded = (p->state + 3) & ~3u;
    p->dt_lanes = SSM_PAD16(p->heads);
    inner = (uint64_t)p->heads * p->head_lanes;
    window = inner + 2 * (uint64_t)p->groups * p->state_lanes;
    lanes = inner + window + p->dt_lanes;
    status = ssm_selective_size(b, l, past * window + inner * p->state_padded,
                                SSM_TILE_FRAMES * (lanes + inner + p->dt_lanes) + (past + SSM_TILE_FRAMES) * window);
    p->inner_lanes = (uint32_t)inner;
    p->lanes = (uint32_t)lanes;
    return status;
}

/* The window as x, B and C have it, and the state of each head. */
static int parts_add(struct ssm_build *b, struct ssm_layer *l)
{
    const struct ssm_mamba2 *p = l->params;
    uint32_t past = p->window.kernel - 1, window = p->inner_lanes + 2 * p->groups * p->state_lanes;
    const struct ssm_part parts[] = {
        {.blocks = past, .rows = p->heads, .columns = p->head_dim, .block_stride = window, .row_stride = p->head_lanes},
        {.offset = p->inner_lanes * (uint32_t)sizeof(float),
         .blocks = past,
         .rows = 2 * p->groups,
         .columns = p->state,
         .block_stride = window,
         .row_stride = p->state_lanes},
        {.offset = past * window * (uint32_t)sizeof(float),
         .blocks = p->heads,
         .rows = p->state,
         .columns = p->head_dim,
         .block_stride = p->head_lanes * p->state_padded,
         .row_stride = 16,
         .panel_stride = 16 * p->state_padded},
    };
    int status = SSM_OK;

    for (size_t i = past ? 0 : 2; status == SSM_OK && i < sizeof(parts) / sizeof(*parts); i++)
        status = ssm_part_add(b, l, &parts[i]);
    return status;
}

/* dt_bias joins the bias of the projection; A_log becomes a rate for each head. */
static int heads_take(struct ssm_build *b, const struct ssm_layer *l, const struct ssm_spread *heads)
{
    struct ssm_mamba2 *p = l->params;
    float *dt_bias = NULL, *bias = p->in_proj.bias + p->lanes - p->dt_lanes;
    int status;

    if ((status = ssm_spread_take(b, l, "dt_bias", heads, &dt_bias)) ||
        (status = ssm_spread_take(b, l, "A_log", heads, &p->rate)) ||
        (status = ssm_spread_take(b, l, "D", heads, &p->d)))
        goto out;
    for (uint32_t h = 0; h < p->heads; h++) {
        float a_log = p->rate[h];

        bias[h] = (float)((double)bias[h] + dt_bias[h]);
        p->rate[h] = ssm_selective_rate(a_log);
        if (isnan(p->rate[h]) || !isfinite(bias[h])) {
            status = ssm_fail(b, l, SSM_NONFINITE,
                              "head %u of '%s': A = -exp(%.9g) or the bias of dt is too large for float32", h, l->name,
                              (double)a_log);
            goto out;
        }
    }
out:
    free(dt_bias);
    return status;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_mamba2 *p = l->params = calloc(1, sizeof(*p));
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = keys_read(b, l, keys)) || (status = lay_out(b, l)) || (status = parts_add(b, l)))
        return status;
    const struct ssm_spread outside[] = {{1, l->in, l->in}, {0}}, heads[] = {{1, p->heads, p->dt_lanes}, {0}};
    const struct ssm_spread inside[] = {{p->heads, p->head_dim, p->head_lanes}, {0}};
    const struct ssm_spread mixed[] = {inside[0], {2 * p->groups, p->state, p->state_lanes}, {0}};
    const struct ssm_spread all[] = {inside[0], mixed[0], mixed[1], heads[0], {0}};

    if ((status = ssm_projection_spread(b, l, "in_proj", all, outside, SSM_BIAS_IF_PRESENT, &p->in_proj)) ||
        (status = ssm_window_take(b, l, mixed, &p->window)) || (status = heads_take(b, l, heads)) ||
        (p->rms_norm && (status = ssm_spread_take(b, l, "norm.weight", inside, &p->norm))))
        return status;
    return ssm_projection_spread(b, l, "out_proj", outside, inside, SSM_BIAS_IF_PRESENT, &p->out_proj);
}

static void fini(struct ssm_layer *l)
{
    struct ssm_mamba2 *p = l->params;

    if (!p)
        return;
    ssm_projection_fini(&p->in_proj);
    ssm_projection_fini(&p->out_proj);
    ssm_window_fini(&p->window);
    free(p->rate);
    free(p->d);
    free(p->norm);
}

const struct ssm_kind ssm_kind_mamba2 = {
    .id = SSM_KIND_mamba2,
    .type = "mamba2",
    .keys = (const char *const[]){"dim", "expand", "state", "conv", "head_dim", "groups", "eps", "rms_norm",
                                  "norm_before_gate", "dt_limit", NULL},
    .init = init,
    .fini = fini,
};
