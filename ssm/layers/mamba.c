/* SPDX-License-Identifier: Apache-2.0
 * mamba: the selective state-space block of Mamba-1, projections and convolution included.
 *
 *     (x, z) = in_proj(input);   u = silu(conv(x));   (r, B, C) = x_proj(u);   dt = softplus(dt_proj(r) + bias)
 *     h[c,n] = exp(dt[c] A[c,n]) h[c,n] + dt[c] B[n] u[c],   A = -exp(A_log)
 *     y[c] = (sum over n of C[n] h[c,n] + D[c] u[c]) * silu(z[c]);   output = out_proj(y)
 *
 * Every A is negative and every dt positive, so no pole can leave the unit circle; A must only be finite.
 * Source: Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", algorithm 2. */
#include "ssm/layers/mamba.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

/* inner, by its own key or by expand. */
static int inner_read(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, uint32_t *inner)
{
    uint32_t expanded;
    int status;

    if (!json_object_get(keys, "inner"))
        return ssm_selective_inner(b, l, keys, l->in, inner);
    if ((status = ssm_key_count(b, l, keys, "inner", inner, 1, SSM_CHANNELS_MAX)) || !json_object_get(keys, "expand") ||
        (status = ssm_selective_inner(b, l, keys, l->in, &expanded)))
        return status;
    if (*inner != expanded)
        return ssm_fail(b, l, SSM_CONFIG, "has \"inner\": %u, but its expand makes %u: give one of them", *inner,
                        expanded);
    return SSM_OK;
}

/* A_log (I, N) to rates in lanes. */
static int rates_take(struct ssm_build *b, const struct ssm_layer *l, uint32_t inner)
{
    struct ssm_mamba *p = l->params;
    size_t N = p->state;
    float *stored = NULL;
    int status = ssm_tensor_take(b, l, "A_log", &stored, 2, (uint64_t[]){inner, N});

    if (!status && !(p->rate = ssm_floats_new(p->lanes * N)))
        status = ssm_fail(b, l, SSM_NOMEM, "no memory for '%s.A_log'", l->name);
    for (size_t c = 0; !status && c < inner; c++)
        for (size_t n = 0; !status && n < N; n++) {
            float rate = ssm_selective_rate(stored[c * N + n]);

            p->rate[(c / 16 * N + n) * 16 + c % 16] = rate;
            if (isnan(rate))
                status = ssm_fail(b, l, SSM_NONFINITE,
                                  "channel %zu, state %zu of '%s.A_log' is %.9g: A = -exp(A_log) is too large for "
                                  "float32",
                                  c, n, l->name, (double)stored[c * N + n]);
        }
    free(stored);
    return status;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_mamba *p = l->params = calloc(1, sizeof(*p));
    uint32_t inner, dim;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "dim", &dim, 1, SSM_CHANNELS_MAX)) || (status = ssm_expect_in(b, l, dim)) ||
        (status = inner_read(b, l, keys, &inner)) ||
        (status = ssm_key_count(b, l, keys, "state", &p->state, 1, SSM_SELECTIVE_STATE_MAX)) ||
        (status = ssm_key_count(b, l, keys, "conv", &p->window.kernel, 1, SSM_SELECTIVE_CONV_MAX)) ||
        (status = ssm_key_count(b, l, keys, "dt_rank", &p->rank, 1, SSM_CHANNELS_MAX)))
        return status;
    p->lanes = SSM_PAD16(inner);
    uint64_t L = p->lanes, past = p->window.kernel - 1, mixed = (uint64_t)p->rank + 2 * p->state;
    const struct ssm_spread outside[] = {{1, dim, dim}, {0}}, inside[] = {{1, inner, p->lanes}, {0}};
    const struct ssm_spread both[] = {{2, inner, p->lanes}, {0}}, rank[] = {{1, p->rank, p->rank}, {0}};
    const struct ssm_spread selective[] = {{1, (uint32_t)mixed, (uint32_t)mixed}, {0}};

    if ((status = ssm_selective_size(b, l, past * L + L * p->state,
                                     SSM_TILE_FRAMES * (3 * L + mixed) + (past + SSM_TILE_FRAMES) * L)) ||
        (status = ssm_part_add(
             b, l, &(struct ssm_part){.rows = p->window.kernel - 1, .columns = inner, .row_stride = p->lanes})) ||
        (status = ssm_part_add(b, l,
                               &(struct ssm_part){.offset = (uint32_t)(past * L * sizeof(float)),
                                                  .rows = p->state,
                                                  .columns = inner,
                                                  .row_stride = 16,
                                                  .panel_stride = 16 * p->state})) ||
        (status = ssm_projection_spread(b, l, "in_proj", both, outside, SSM_BIAS_IF_PRESENT, &p->in_proj)) ||
        (status = ssm_window_take(b, l, inside, &p->window)) ||
        (status = ssm_projection_spread(b, l, "x_proj", selective, inside, SSM_BIAS_NONE, &p->x_proj)) ||
        (status = ssm_projection_spread(b, l, "dt_proj", inside, rank, SSM_BIAS_REQUIRED, &p->dt_proj)) ||
        (status = rates_take(b, l, inner)) || (status = ssm_spread_take(b, l, "D", inside, &p->d)))
        return status;
    return ssm_projection_spread(b, l, "out_proj", outside, inside, SSM_BIAS_IF_PRESENT, &p->out_proj);
}

static void fini(struct ssm_layer *l)
{
    struct ssm_mamba *p = l->params;

    if (!p)
        return;
    ssm_projection_fini(&p->in_proj);
    ssm_projection_fini(&p->x_proj);
    ssm_projection_fini(&p->dt_proj);
    ssm_projection_fini(&p->out_proj);
    ssm_window_fini(&p->window);
    free(p->rate);
    free(p->d);
}

const struct ssm_kind ssm_kind_mamba = {
    .id = SSM_KIND_mamba,
    .type = "mamba",
    .keys = (const char *const[]){"dim", "inner", "expand", "state", "conv", "dt_rank", NULL},
    .init = init,
    .fini = fini,
};
