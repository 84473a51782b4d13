/* SPDX-License-Identifier: Apache-2.0
 *
 * linear, on the product that every dense kernel here uses.
 *
 * Ours and not a BLAS: their row 0 changes bits with the number of rows (measured for OpenBLAS and cuBLAS), and then a
 * stream's results would depend on who shares its batch. Here one output is one chain of fused products in index order,
 * whatever is computed beside it; speed comes from 16 outputs in a vector and several rows sharing each load of
 * weights. */
#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"
#include "ssm/layers/params.h"

#if defined(__AVX512F__)
#define ROWS 8 /* accumulators: 8 rows x 2 panels of the 32 registers */
#elif defined(__AVX2__) && defined(__FMA__)
#define ROWS 3 /* 3 rows x 2 panels are 12 of the 16 registers of eight lanes; with 4 the sums live in memory */
#else
#define ROWS 4
#endif

static inline v16 panel_start(const float *start, bool add, const float *y, uint32_t left)
{
    if (add)
        return v16_load_first(y, left);
    return start ? v16_load(start) : v16_set(0);
}

/* `rows` rows (a constant after inlining) through `panels` neighbouring panels (1 or 2). */
static inline __attribute__((always_inline)) void tile_product(const struct ssm_matrix *w, uint32_t panel, int panels,
                                                               const float *start, bool add, const float *x,
                                                               size_t x_stride, float *y, size_t y_stride, int rows)
{
    const float *weights = w->panels + (size_t)panel * w->in * SSM_PANEL, *second = weights + (size_t)w->in * SSM_PANEL;
    uint32_t o = panel * SSM_PANEL, left = w->out - o;
    v16 a[ROWS], b[ROWS];

    for (int r = 0; r < rows; r++) {
        a[r] = panel_start(start ? start + o : NULL, add, y + r * y_stride + o, left);
        if (panels == 2)
            b[r] = panel_start(start ? start + o + V16 : NULL, add, y + r * y_stride + o + V16, left - V16);
    }
    for (uint32_t i = 0; i < w->in; i++) {
        v16 wa = v16_load(weights + (size_t)i * SSM_PANEL), wb = wa;

        if (panels == 2)
            wb = v16_load(second + (size_t)i * SSM_PANEL);
        for (int r = 0; r < rows; r++) {
            v16 xi = v16_set(x[r * x_stride + i]);

            a[r] = v16_fma(xi, wa, a[r]);
            if (panels == 2)
                b[r] = v16_fma(xi, wb, b[r]);
        }
    }
    for (int r = 0; r < rows; r++) {
        v16_store_first(y + r * y_stride + o, a[r], left);
        if (panels == 2)
            v16_store_first(y + r * y_stride + o + V16, b[r], left - V16);
    }
}

void SSM_CPU(ssm_cpu_matrix)(const struct ssm_matrix *w, const float *start, bool add, const float *x, size_t x_stride,
                             float *y, size_t y_stride, uint32_t rows)
{
    uint32_t panels = (w->out + SSM_PANEL - 1) / SSM_PANEL;

    for (uint32_t p = 0; p < panels; p += 2) {
        uint32_t r = 0;
        bool pair = p + 1 < panels;

        for (; r + ROWS <= rows; r += ROWS)
            if (pair)
                tile_product(w, p, 2, start, add, x + r * x_stride, x_stride, y + r * y_stride, y_stride, ROWS);
            else
                tile_product(w, p, 1, start, add, x + r * x_stride, x_stride, y + r * y_stride, y_stride, ROWS);
        for (; r < rows; r++)
            if (pair)
                tile_product(w, p, 2, start, add, x + r * x_stride, x_stride, y + r * y_stride, y_stride, 1);
            else
                tile_product(w, p, 1, start, add, x + r * x_stride, x_stride, y + r * y_stride, y_stride, 1);
    }
}

void SSM_CPU(ssm_cpu_linear)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_linear *p = layer->params;

    SSM_CPU(ssm_cpu_matrix)(&p->weight, p->bias, false, x, layer->in, y, layer->out, tile->frames);
}
