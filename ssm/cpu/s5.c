/* SPDX-License-Identifier: Apache-2.0
 *
 * s5: a product from all channels into P complex modes, the diagonal recurrence, and a product back.
 *
 *     v[t] = Bbar u[t];   x[p] <- a[p] x[p] + v[t][p];   y[t] = D u[t] + Re(C x)    (c holds the 2 of the pairs)
 *
 * Both products run over all frames of the tile at once, whoever they belong to; only the recurrence goes stream by
 * stream. Nearly all work is in the products, so a chunk form would gain nothing: the scan steps, and has its bits.
 *
 * SHAPES   state (2, P+16); scratch (frames, 2, P+16): v, and then x in its place; u, y (frames, H).
 * BITS     y sums D u, then the real parts in the order of modes, then the imaginary ones.
 * COST     8*H*P + 8*P + H flops a frame.
 * SOURCE   Smith et al. 2023, "Simplified State Space Layers for Sequence Modeling". */
#include "ssm/layers/s5.h"

#include "ssm/cpu/diagonal.h"
#include "ssm/cpu/matrix.h"

/* What drives the modes of one stream into what they then are, in place: panels of 16 modes outside, time inside. */
static void modes_step(const struct ssm_s5 *p, float *state, float *modes, uint32_t frames)
{
    size_t padded = p->padded;

    for (size_t n = 0; n < padded; n += V16) {
        v16 a_re = v16_load(p->a_re + n), a_im = v16_load(p->a_im + n);
        v16 x_re = v16_load(state + n), x_im = v16_load(state + padded + n);

        for (size_t t = 0; t < frames; t++) {
            float *re = modes + t * 2 * padded + n, *im = re + padded;

            diagonal_step(a_re, a_im, v16_load(re), v16_load(im), &x_re, &x_im);
            v16_store(re, x_re);
            v16_store(im, x_im);
        }
        v16_store(state + n, x_re);
        v16_store(state + padded + n, x_im);
    }
}

void SSM_CPU(ssm_cpu_s5)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_s5 *p = layer->params;
    size_t H = layer->out, width = 2 * (size_t)p->padded;
    float *modes = tile->scratch;

    SSM_CPU(ssm_cpu_matrix)(&p->b, NULL, false, x, H, modes, width, tile->frames);
    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];

        modes_step(p, ssm_row_state(layer, row), modes + row->first * width, row->frames);
    }
    for (size_t t = 0; t < tile->frames; t++)
        for (size_t h = 0; h < H; h++)
            y[t * H + h] = p->d[h] * x[t * H + h];
    SSM_CPU(ssm_cpu_matrix)(&p->c, NULL, true, modes, width, y, H, tile->frames);
}
