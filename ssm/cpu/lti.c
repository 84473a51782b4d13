/* SPDX-License-Identifier: Apache-2.0
 *
 * lti: the dense system, stepped frame by frame, or a block of SSM_SCAN_BLOCK frames of the grid at once.
 *
 *     step    x <- x + ((Abar - I) x + Bbar u);   y = C x + D u
 *     block   y[0..L) from (x, u[0..L)) by one product, then x <- x + block_x (x, u[0..L))
 *
 * SHAPES   x (n) per row; u (in), y (out) per frame. Source: docs/MODELS.md, lti. */
#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/layers/params.h"

/* x <- x + change */
static void state_add(float *x, const float *change, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] += change[i];
}

static void frame_step(const struct ssm_layer *layer, float *state, float *change, const float *u, float *y)
{
    const struct ssm_lti *p = layer->params;

    SSM_CPU(ssm_cpu_matrix)(&p->b, NULL, false, u, layer->in, change, p->n, 1);
    SSM_CPU(ssm_cpu_matrix)(&p->a, NULL, true, state, p->n, change, p->n, 1);
    state_add(state, change, p->n);
    SSM_CPU(ssm_cpu_matrix)(&p->d, NULL, false, u, layer->in, y, layer->out, 1);
    SSM_CPU(ssm_cpu_matrix)(&p->c, NULL, true, state, p->n, y, layer->out, 1);
}

static void block_scan(const struct ssm_layer *layer, float *state, float *scratch, const float *u, float *y)
{
    const struct ssm_lti *p = layer->params;
    float *joined = scratch + p->n;
    uint32_t width = p->block_y.in;

    memcpy(joined, state, p->n * sizeof(*joined));
    memcpy(joined + p->n, u, (width - p->n) * sizeof(*joined));
    SSM_CPU(ssm_cpu_matrix)(&p->block_y, NULL, false, joined, width, y, p->block_y.out, 1);
    SSM_CPU(ssm_cpu_matrix)(&p->block_x, NULL, false, joined, width, scratch, p->n, 1);
    state_add(state, scratch, p->n);
}

void SSM_CPU(ssm_cpu_lti)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_lti *p = layer->params;

    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        float *state = ssm_row_state(layer, row);
        const float *u = x + (size_t)row->first * layer->in;
        float *out = y + (size_t)row->first * layer->out;

        for (uint32_t t = 0, taken; t < row->frames; t += taken) {
            taken = ssm_row_block(row, t) && p->block_y.out ? SSM_SCAN_BLOCK : 1;
            if (taken == 1)
                frame_step(layer, state, tile->scratch, u + (size_t)t * layer->in, out + (size_t)t * layer->out);
            else
                block_scan(layer, state, tile->scratch, u + (size_t)t * layer->in, out + (size_t)t * layer->out);
        }
    }
}
