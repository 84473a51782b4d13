/* SPDX-License-Identifier: Apache-2.0
 *
 * s4: H systems of M complex modes, each coupled to the others by rank r alone.
 *
 *     s[r] = Re(sum over n of v[r][n] x[n])                                     (v and c hold the 2 of the pairs)
 *     x[n] <- e[n] x[n] + b[n] u - sum over r of u[r][n] s[r]                   (e kept less 1)
 *     y    = Re(sum over n of c[n] x[n]) + d u
 *
 * SHAPES   state (H, 2, M+16); u, y (frames, H).
 * BITS     modes are summed in 16 lanes, panel by panel, folded once, r in order: nothing depends on the number of
 *          frames or on the channels beside.
 * COST     (16 + 8 r) M flops per frame and channel. A chunk form would need the dense Abar^L, 4 M^2 products for L
 *          frames where a step takes (8 + 4 r) M: nothing gained at L = 16, M = 32, so the scan steps and has its bits.
 * ERROR    20,000 frames of a slow signal, HiPPO's LegS (M = 32) and LegT (M = 16) at dt 0.001, 0.01 and 0.1:
 *          max|y - y_f64| / max|y_f64| = 9e-7 and 1.2e-6. With Abar itself rounded it is 7e-6 and 8e-6.
 * SOURCE   Gu, Goel, Re 2022, "Efficiently Modeling Long Sequences with Structured State Spaces". */
#include "ssm/layers/s4.h"

#include "ssm/cpu/diagonal.h"
#include "ssm/cpu/ops.h"
#include "ssm/dplr.h"

#define GROUP 4 /* channels side by side: each waits for its own sums, one frame after another */

/* One frame of one channel; `rows` are the channel's coefficients (a constant rank after inlining). */
static inline __attribute__((always_inline)) float channel_frame(const float *rows, size_t padded, uint32_t rank,
                                                                 float *re, float *im, float u)
{
    v16 input = v16_set(u), sum = v16_set(0), fed[SSM_DPLR_RANK_MAX];

    for (uint32_t r = 0; r < rank; r++) {
        const float *v_re = rows + (SSM_S4_UV + 4 * r + 2) * padded, *v_im = v_re + padded;
        v16 s = v16_set(0);

        for (size_t n = 0; n < padded; n += V16)
            s = v16_fma(v16_load(v_re + n), v16_load(re + n), v16_fnma(v16_load(v_im + n), v16_load(im + n), s));
        fed[r] = v16_set(v16_sum(s));
    }
    for (size_t n = 0; n < padded; n += V16) {
        const float *at = rows + n;
        v16 in_re = v16_mul(v16_load(at + SSM_S4_B * padded), input);
        v16 in_im = v16_mul(v16_load(at + (SSM_S4_B + 1) * padded), input);
        v16 x_re = v16_load(re + n), x_im = v16_load(im + n);

        for (uint32_t r = 0; r < rank; r++) {
            const float *u_re = at + (SSM_S4_UV + 4 * r) * padded;

            in_re = v16_fnma(v16_load(u_re), fed[r], in_re);
            in_im = v16_fnma(v16_load(u_re + padded), fed[r], in_im);
        }
        diagonal_step(v16_load(at + SSM_S4_E * padded), v16_load(at + (SSM_S4_E + 1) * padded), in_re, in_im, &x_re,
                      &x_im);
        v16_store(re + n, x_re);
        v16_store(im + n, x_im);
        sum = v16_fma(v16_load(at + SSM_S4_C * padded), x_re,
                      v16_fnma(v16_load(at + (SSM_S4_C + 1) * padded), x_im, sum));
    }
    return v16_sum(sum);
}

/* Channels [from, to) through a row's frames. */
static inline __attribute__((always_inline)) void channels_step(const struct ssm_s4 *p, uint32_t rank, size_t H,
                                                                size_t from, size_t to, float *state, const float *u,
                                                                float *y, uint32_t frames)
{
    for (size_t t = 0; t < frames; t++)
        for (size_t h = from; h < to; h++) {
            float *re = state + h * 2 * p->padded, in = u[t * H + h];
            float sum = channel_frame(ssm_s4_channel(p, h), p->padded, rank, re, re + p->padded, in);

            y[t * H + h] = SSM_FMAF(p->d[h], in, sum);
        }
}

void SSM_CPU(ssm_cpu_s4)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_s4 *p = layer->params;
    size_t H = layer->out;

    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        const float *u = x + row->first * H;
        float *out = y + row->first * H, *state = ssm_row_state(layer, row);

        for (size_t h = 0; h < H; h += GROUP) {
            size_t to = h + GROUP < H ? h + GROUP : H;

            if (p->rank == 1) /* legs, lagt */
                channels_step(p, 1, H, h, to, state, u, out, row->frames);
            else if (p->rank == 2) /* legt */
                channels_step(p, 2, H, h, to, state, u, out, row->frames);
            else
                channels_step(p, p->rank, H, h, to, state, u, out, row->frames);
        }
    }
}
