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
 * BITS     the step sums modes in 16 lanes, panel by panel, folded once: the same whatever the number of frames.
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

/* One channel through one block of the grid: 16 frames are the lanes of the output, 16 modes those of the state. */
static void channel_scan(const struct ssm_s4d *p, size_t h, float *re, float *im, const float *u, float *y,
                         size_t stride)
{
    const float *kernel = p->kernel + h * 2 * L, *out_re = p->out_re + h * p->modes * L;
    const float *out_im = p->out_im + h * p->modes * L;
    size_t lane = h * p->padded;
    v16 sum = v16_set(0);
    float lanes[V16];

    for (uint32_t i = 0; i < L; i++)
        sum = v16_fma(v16_set(u[i * stride]), v16_load(kernel + L - i), sum);
    for (uint32_t n = 0; n < p->modes; n++) {
        sum = v16_fma(v16_set(re[n]), v16_load(out_re + (size_t)n * L), sum);
        sum = v16_fnma(v16_set(im[n]), v16_load(out_im + (size_t)n * L), sum);
    }
    for (uint32_t n = 0; n < p->padded; n += V16, lane += V16) {
        v16 jump_re = v16_load(p->jump_re + lane), jump_im = v16_load(p->jump_im + lane);
        v16 old_re = v16_load(re + n), old_im = v16_load(im + n);
        v16 x_re = v16_fnma(jump_im, old_im, v16_fma(jump_re, old_re, old_re));
        v16 x_im = v16_fma(jump_im, old_re, v16_fma(jump_re, old_im, old_im));

        for (uint32_t i = 0; i < L; i++) {
            size_t in = (h * L + i) * p->padded + n;
            v16 input = v16_set(u[i * stride]);

            x_re = v16_fma(input, v16_load(p->in_re + in), x_re);
            x_im = v16_fma(input, v16_load(p->in_im + in), x_im);
        }
        v16_store(re + n, x_re);
        v16_store(im + n, x_im);
    }
    v16_store(lanes, sum);
    for (uint32_t j = 0; j < L; j++)
        y[j * stride] = lanes[j];
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
                bool block = ssm_row_block(row, t);

                taken = block ? L : ssm_row_stretch(row, t);
                if (block)
                    channel_scan(p, h, re, im, u + t * H + h, out + t * H + h, H);
                else
                    channel_step(p, h, re, im, u + t * H + h, out + t * H + h, H, taken);
            }
        }
    }
}
