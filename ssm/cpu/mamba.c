/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba: one selective state-space block.
 *
 *     h[c,n] <- exp(dt[c] A[c,n]) h[c,n] + dt[c] B[n] u[c];   y[c] = sum over n of C[n] h[c,n] + D[c] u[c]
 *
 * The projections go over all frames of the tile at once; the recurrence takes 16 channels as lanes and keeps their
 * state in L1 while it goes through the frames of a row. The decay is applied less 1, h += (exp(dt A) - 1) h: of a slow
 * state, float32 keeps the difference, not its sum with 1.
 *
 * SHAPES   scratch: xz (frames, 2L), mixed (frames, R+2N), dt (frames, L), and the line of the convolution.
 * BITS     each y sums over n in index order; nothing depends on the number of frames or on the other rows.
 * COST     of the recurrence, 5*L*N flops and L*N exponentials of some 17 per frame.
 * ERROR    4e-6 of the largest output over memories of thousands of frames at a steady dt, where decays rounded to
 *          float32 would give 4e-5 (tests/ssm/test_selective.c).
 * SOURCE   Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces". */
#include "ssm/cpu/selective.h"
#include "ssm/layers/mamba.h"

/* Where the frames of a row lie; strides in floats. */
struct frames {
    const float *mixed, *dt;
    float *xz;
    size_t mixed_stride, dt_stride, xz_stride;
    uint32_t count;
};

/* 16 channels through the frames: u becomes y * silu(z) in its place. h: (N, 16). */
static void lanes_scan(const struct ssm_mamba *p, size_t lane, float *h, const struct frames *f)
{
    const float *rate = p->rate + lane * p->state;
    v16 d = v16_load(p->d + lane);

    for (size_t t = 0; t < f->count; t++) {
        const float *B = f->mixed + t * f->mixed_stride + p->rank, *C = B + p->state;
        float *u = f->xz + t * f->xz_stride + lane;
        v16 dt = v16_softplus(v16_load(f->dt + t * f->dt_stride + lane)), input = v16_load(u);
        v16 driven = v16_mul(dt, input), y = v16_set(0);

        for (size_t n = 0; n < p->state; n++) {
            v16 change = v16_exp2m1(v16_mul(dt, v16_load(rate + n * V16))), x = v16_load(h + n * V16);

            x = v16_fma(driven, v16_set(B[n]), v16_fma(change, x, x));
            y = v16_fma(x, v16_set(C[n]), y);
            v16_store(h + n * V16, x);
        }
        y = v16_fma(d, input, y);
        v16_store(u, v16_mul(y, v16_silu(v16_load(u + p->lanes))));
    }
}

void SSM_CPU(ssm_cpu_mamba)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_mamba *p = layer->params;
    size_t L = p->lanes, mixed_stride = p->rank + 2 * (size_t)p->state, past = (p->window.kernel - 1) * L;
    float *xz = tile->scratch, *mixed = xz + SSM_TILE_FRAMES * 2 * L, *dt = mixed + SSM_TILE_FRAMES * mixed_stride;
    float *line = dt + SSM_TILE_FRAMES * L;

    selective_project(&p->in_proj, x, layer->in, xz, 2 * L, tile->frames);
    for (uint32_t r = 0; r < tile->count; r++)
        selective_window(&p->window, ssm_row_state(layer, &tile->rows[r]), line, xz + tile->rows[r].first * 2 * L,
                         2 * L, tile->rows[r].frames);
    selective_project(&p->x_proj, xz, 2 * L, mixed, mixed_stride, tile->frames);
    selective_project(&p->dt_proj, mixed, mixed_stride, dt, L, tile->frames);
    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        float *h = (float *)ssm_row_state(layer, row) + past;
        struct frames f = {.mixed = mixed + row->first * mixed_stride,
                           .dt = dt + row->first * L,
                           .xz = xz + row->first * 2 * L,
                           .mixed_stride = mixed_stride,
                           .dt_stride = L,
                           .xz_stride = 2 * L,
                           .count = row->frames};

        for (size_t lane = 0; lane < L; lane += V16)
            lanes_scan(p, lane, h + lane * p->state, &f);
    }
    selective_project(&p->out_proj, xz, 2 * L, y, layer->out, tile->frames);
}
