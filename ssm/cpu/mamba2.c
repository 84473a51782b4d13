/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba2: one selective state-space block with a single decay for each head.
 *
 *     h[p,n] <- exp(dt A) h[p,n] + dt B[n] x[p];   y[p] = sum over n of C[n] h[p,n] + D x[p]
 *
 * The projections go over all frames of the tile at once. The recurrence takes 16 channels of a head as lanes and four
 * states at a time through all frames of a row, so that a state is loaded and stored once for the row, not for each
 * frame. The decay is applied less 1, as in mamba.
 *
 * SHAPES   scratch: all (frames, lanes) as in_proj makes it, y (frames, H P16), change (frames, H16), and the line of
 *          the convolution.
 * BITS     each y sums over n in index order, whatever the number of frames; states N..N4-1 are 0 and add nothing.
 * COST     of the recurrence, 6*H*P*N flops per frame.
 * ERROR    as mamba's: 4e-6 where rounded decays would give 8e-5.
 * SOURCE   Dao and Gu 2024, "Transformers are SSMs", section 6 (the recurrent form). */
#include <math.h>

#include "ssm/cpu/selective.h"
#include "ssm/layers/mamba2.h"

#define STATES 4 /* that a pass through the frames keeps in registers */

/* The frames of one tile or row: x, B, C and dt begin at offsets of `all`. */
struct frames {
    float *all, *y, *change;
    uint32_t count;
};

/* dt and what each head's state changes by, exp(dt A) - 1. */
static void decays(const struct ssm_mamba2 *p, const struct frames *f)
{
    v16 least = v16_set(p->dt_min), most = v16_set(p->dt_max);

    for (size_t t = 0; t < f->count; t++) {
        float *dt = f->all + (t + 1) * p->lanes - p->dt_lanes, *change = f->change + t * p->dt_lanes;

        for (size_t h = 0; h < p->dt_lanes; h += V16) {
            v16 step = v16_min(most, v16_max(least, v16_softplus(v16_load(dt + h))));

            v16_store(dt + h, step);
            v16_store(change + h, v16_exp2m1(v16_mul(step, v16_load(p->rate + h))));
        }
    }
}

/* y begins as D x, and x becomes dt x. */
static void drives(const struct ssm_mamba2 *p, const struct frames *f)
{
    for (size_t t = 0; t < f->count; t++) {
        float *x = f->all + t * p->lanes + p->inner_lanes, *y = f->y + t * p->inner_lanes;
        const float *dt = f->all + (t + 1) * p->lanes - p->dt_lanes;

        for (size_t h = 0; h < p->heads; h++)
            for (size_t i = h * p->head_lanes; i < (h + 1) * p->head_lanes; i += V16) {
                v16 input = v16_load(x + i);

                v16_store(y + i, v16_mul(v16_set(p->d[h]), input));
                v16_store(x + i, v16_mul(v16_set(dt[h]), input));
            }
    }
}

/* Four states of 16 channels through the frames. h: (STATES, 16); x, y, change, B, C: of frame 0. */
static inline void states_scan(const struct ssm_mamba2 *p, float *h, const float *x, const float *change,
                               const float *B, const float *C, float *y, uint32_t frames)
{
    v16 state[STATES];

    for (int n = 0; n < STATES; n++)
        state[n] = v16_load(h + n * V16);
    for (uint32_t t = 0; t < frames; t++) {
        v16 input = v16_load(x), decay = v16_set(*change), sum = v16_load(y);

        for (int n = 0; n < STATES; n++) {
            state[n] = v16_fma(input, v16_set(B[n]), v16_fma(decay, state[n], state[n]));
            sum = v16_fma(state[n], v16_set(C[n]), sum);
        }
        v16_store(y, sum);
        x += p->lanes;
        B += p->lanes;
        C += p->lanes;
        y += p->inner_lanes;
        change += p->dt_lanes;
    }
    for (int n = 0; n < STATES; n++)
        v16_store(h + n * V16, state[n]);
}

/* All heads of a row. h: (H, P16/16, N4, 16). */
static void heads_scan(const struct ssm_mamba2 *p, float *h, const struct frames *f)
{
    const float *x = f->all + p->inner_lanes, *B = x + p->inner_lanes;
    size_t group = p->state_lanes;

    for (size_t head = 0; head < p->heads; head++) {
        const float *b = B + head * p->groups / p->heads * group, *c = b + p->groups * group;

        for (size_t i = head * p->head_lanes; i < (head + 1) * p->head_lanes; i += V16)
            for (size_t n = 0; n < p->state_padded; n += STATES, h += STATES * V16)
                states_scan(p, h, x + i, f->change + head, b + n, c + n, f->y + i, f->count);
    }
}

/* y becomes what goes into out_proj: gated by silu(z), and of rms 1 over each group's channels. */
static void norm_and_gate(const struct ssm_mamba2 *p, const struct frames *f)
{
    size_t lanes = p->inner_lanes / p->groups;
    float channels = (float)(p->heads / p->groups * p->head_dim);

    for (size_t t = 0; t < f->count; t++)
        for (size_t from = 0; from < p->inner_lanes; from += lanes) {
            float *z = f->all + t * p->lanes + from, *y = f->y + t * p->inner_lanes + from;
            v16 squares = v16_set(0), scale;

            for (size_t i = 0; i < lanes; i += V16) {
                v16 gate = v16_silu(v16_load(z + i)), value = v16_load(y + i);

                if (!p->norm_before_gate || !p->rms_norm)
                    value = v16_mul(value, gate);
                squares = v16_fma(value, value, squares);
                v16_store(y + i, value);
                v16_store(z + i, gate);
            }
            if (!p->rms_norm)
                continue;
            scale = v16_set(1 / sqrtf(v16_sum(squares) / channels + p->eps));
            for (size_t i = 0; i < lanes; i += V16) {
                v16 value = v16_mul(v16_mul(v16_load(y + i), scale), v16_load(p->norm + from + i));

                v16_store(y + i, p->norm_before_gate ? v16_mul(value, v16_load(z + i)) : value);
            }
        }
}

void SSM_CPU(ssm_cpu_mamba2)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_mamba2 *p = layer->params;
    struct frames f = {.all = tile->scratch, .count = tile->frames};
    float *line;

    f.y = f.all + SSM_TILE_FRAMES * (size_t)p->lanes;
    f.change = f.y + SSM_TILE_FRAMES * (size_t)p->inner_lanes;
    line = f.change + SSM_TILE_FRAMES * (size_t)p->dt_lanes;
    selective_project(&p->in_proj, x, layer->in, f.all, p->lanes, tile->frames);
    for (uint32_t r = 0; r < tile->count; r++)
        selective_window(&p->window, ssm_row_state(layer, &tile->rows[r]), line,
                         f.all + tile->rows[r].first * (size_t)p->lanes + p->inner_lanes, p->lanes,
                         tile->rows[r].frames);
    decays(p, &f);
    drives(p, &f);
    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        float *h = (float *)ssm_row_state(layer, row) + (p->window.kernel - 1) * (size_t)p->window.lanes;
        struct frames part = {.all = f.all + row->first * (size_t)p->lanes,
                              .y = f.y + row->first * (size_t)p->inner_lanes,
                              .change = f.change + row->first * (size_t)p->dt_lanes,
                              .count = row->frames};

        heads_scan(p, h, &part);
    }
    norm_and_gate(p, &f);
    selective_project(&p->out_proj, f.y, p->inner_lanes, y, layer->out, tile->frames);
}
