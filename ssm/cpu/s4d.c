/* SPDX-License-Identifier: Apache-2.0
 *
 * s4d: H diagonal systems of M complex modes.
 *
 *     step    x[n] <- a[n] x[n] + b[n] u;   y = sum over n of Re(c[n] x[n]) + d u          (c holds the 2 of the pairs;
 *             a and a^L are kept less 1)
 *     block   y[j] = sum over i <= j of K[j-i] u[i] + sum over n of Re(c[n] a[n]^(j+1) x[n]),
 *             x[n] <- a[n]^L x[n] + sum over i of a[n]^(L-1-i) b[n] u[i],   L = SSM_SCAN_BLOCK frames of the grid
 *
 * SHAPES   state (H, 2, M+16); u, y (frames, H).
 * BITS     the step sums modes in 16 lanes, panel by panel, folded once: the same whatever the number of frames. A
 *          block is first gathered from zero, then joined to the state before it in index order (the fixed time blocks
 *          of ssm/scan.h): the same however many blocks are taken together.
 * COST     step 14*M flops per frame and channel; block 8*M + 2*L.
 * SOURCE   Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models". */
#include "ssm/cpu/diagonal.h"
#include "ssm/cpu/ops.h"
#include "ssm/layers/params.h"

#define L SSM_SCAN_BLOCK

/* One channel through `frames` frames; panels of 16 modes outside, time inside, so that state and coefficients stay in
 * registers. */
static void channel_step(const struct ssm_s4d *p, size_t h, float *re, float *im, const float *u, float *y,
                         size_t stride, uint32_t frames)
{
    v16 sums[SSM_TILE_FRAMES];
    size_t lane = h * p->padded;

    for (uint32_t t = 0; t < frames; t++)
        sums[t] = v16_set(0);
    for (uint32_t n = 0; n < p->padded; n += V16, lane += V16) {
        v16 a_re = v16_load(p->a_re + lane), a_im = v16_load(p->a_im + lane), b_re = v16_load(p->b_re + lane);
        v16 b_im = v16_load(p->b_im + lane), c_re = v16_load(p->c_re + lane), c_im = v16_load(p->c_im + lane);
        v16 x_re = v16_load(re + n), x_im = v16_load(im + n);

        for (uint32_t t = 0; t < frames; t++) {
            v16 input = v16_set(u[t * stride]);

            diagonal_step(a_re, a_im, v16_mul(b_re, input), v16_mul(b_im, input), &x_re, &x_im);
            sums[t] = v16_fma(c_re, x_re, v16_fnma(c_im, x_im, sums[t]));
        }
        v16_store(re + n, x_re);
        v16_store(im + n, x_im);
    }
    for (uint32_t t = 0; t < frames; t++)
        y[t * stride] = SSM_FMAF(p->d[h], u[t * stride], v16_sum(sums[t]));
}

/* ---- blocks of the grid ------------------------------------------------------------------------------------------ */

#define BLOCKS (SSM_TILE_FRAMES / L) /* taken together, at most: each load of a table serves all of them */

/* What the frames of each block leave in 16 modes: 16 frames after one another, from zero. */
static inline __attribute__((always_inline)) void blocks_gather(const float *in_re, const float *in_im, size_t stride,
                                                                const float *u, int blocks, v16 *re, v16 *im)
{
    for (int b = 0; b < blocks; b++)
        re[b] = im[b] = v16_set(0);
    for (uint32_t i = 0; i < L; i++, in_re += stride, in_im += stride) {
        v16 to_re = v16_load(in_re), to_im = v16_load(in_im);

        for (int b = 0; b < blocks; b++) {
            v16 input = v16_set(u[b * L + i]);

            re[b] = v16_fma(input, to_re, re[b]);
            im[b] = v16_fma(input, to_im, im[b]);
        }
    }
}

/* What enters each block from 16 modes: the states between blocks, in index order; x is the first and becomes the
 * last. */
static inline __attribute__((always_inline)) void blocks_combine(v16 jump_re, v16 jump_im, const v16 *re, const v16 *im,
                                                                 int blocks, v16 *x_re, v16 *x_im, float *enters)
{
    for (int b = 0; b < blocks; b++, enters += 2 * V16) {
        v16_store(enters, *x_re);
        v16_store(enters + V16, *x_im);
        diagonal_step(jump_re, jump_im, re[b], im[b], x_re, x_im);
    }
}

/* One channel through `blocks` (a constant after inlining) whole blocks: 16 frames are the lanes of the output, 16
 * modes those of the state. */
static inline __attribute__((always_inline)) void channel_blocks(const struct ssm_s4d *p, size_t h, float *re,
                                                                 float *im, const float *u, float *y, int blocks)
{
    const float *kernel = p->kernel + h * 2 * L;
    v16 sum[BLOCKS], local_re[BLOCKS], local_im[BLOCKS];
    float enters[BLOCKS * 2 * V16];

    for (int b = 0; b < blocks; b++)
        sum[b] = v16_set(0);
    for (uint32_t i = 0; i < L; i++) {
        v16 shifted = v16_load(kernel + L - i);

        for (int b = 0; b < blocks; b++)
            sum[b] = v16_fma(v16_set(u[b * L + i]), shifted, sum[b]);
    }
    for (uint32_t n = 0; n < p->padded; n += V16) {
        const float *out_re = p->out_re + (h * p->modes + n) * L, *out_im = p->out_im + (h * p->modes + n) * L;
        size_t lane = h * p->padded + n, in = h * L * p->padded + n;
        uint32_t modes = p->modes - n < V16 ? p->modes - n : V16;
        v16 x_re = v16_load(re + n), x_im = v16_load(im + n);

        blocks_gather(p->in_re + in, p->in_im + in, p->padded, u, blocks, local_re, local_im);
        blocks_combine(v16_load(p->jump_re + lane), v16_load(p->jump_im + lane), local_re, local_im, blocks, &x_re,
                       &x_im, enters);
        v16_store(re + n, x_re);
        v16_store(im + n, x_im);
        for (uint32_t m = 0; m < modes; m++) {
            v16 to_re = v16_load(out_re + (size_t)m * L), to_im = v16_load(out_im + (size_t)m * L);

            for (int b = 0; b < blocks; b++) {
                sum[b] = v16_fma(v16_set(enters[b * 2 * V16 + m]), to_re, sum[b]);
                sum[b] = v16_fnma(v16_set(enters[b * 2 * V16 + V16 + m]), to_im, sum[b]);
            }
        }
    }
    for (int b = 0; b < blocks; b++)
        v16_store(y + b * L, sum[b]);
}

/* One channel through as many whole blocks as lie together; how many does not show. Returns the frames. */
static uint32_t channel_scan(const struct ssm_s4d *p, size_t h, float *re, float *im, const float *u, float *y,
                             size_t stride, uint32_t frames)
{
    float in[SSM_TILE_FRAMES], out[SSM_TILE_FRAMES];
    uint32_t taken = frames >= 4 * L ? 4 * L : frames >= 2 * L ? 2 * L : L;

    for (uint32_t t = 0; t < taken; t++)
        in[t] = u[t * stride];
    if (taken == 4 * L)
        channel_blocks(p, h, re, im, in, out, 4);
    else if (taken == 2 * L)
        channel_blocks(p, h, re, im, in, out, 2);
    else
        channel_blocks(p, h, re, im, in, out, 1);
    for (uint32_t t = 0; t < taken; t++)
        y[t * stride] = out[t];
    return taken;
}

void SSM_CPU(ssm_cpu_s4d)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_s4d *p = layer->params;
    size_t H = layer->out;

    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        const float *u = x + row->first * H;
        float *out = y + row->first * H, *state = ssm_row_state(layer, row);

        for (size_t h = 0; h < H; h++) {
            float *re = state + h * 2 * p->padded, *im = re + p->padded;

            for (uint32_t t = 0, taken; t < row->frames; t += taken) {
                if (ssm_row_block(row, t)) {
                    taken = channel_scan(p, h, re, im, u + t * H + h, out + t * H + h, H, row->frames - t);
                } else {
                    taken = ssm_row_stretch(row, t);
                    channel_step(p, h, re, im, u + t * H + h, out + t * H + h, H, taken);
                }
            }
        }
    }
}
