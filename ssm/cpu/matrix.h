/* SPDX-License-Identifier: Apache-2.0
 * The batch-invariant matrix product, for the kernels of this instruction set. */
#ifndef SSM_CPU_MATRIX_H
#define SSM_CPU_MATRIX_H

#include "ssm/cpu/ops.h"
#include "ssm/matrix.h"

/* For r in 0..rows-1:   y[r][o] = start[o] + sum over i of w[o][i] * x[r][i],   i in index order, fused.
 *
 * SHAPES   x: rows of `in` floats, x_stride floats apart; y: rows of `out`, y_stride apart.
 *          start: (out padded to 16), or NULL for zeros; with `add`, y's own values instead (start is ignored).
 * ALIASING y overlaps neither x nor start.
 * BITS     each y[r][o] depends on row r alone: the same bits for any number of rows, in any tile, on any thread.
 * COST     2*rows*in*out flops; weights are read once per 3 to 8 rows.
 * ERROR    |y - exact| <= (in+1) * eps * sum |w||x|. */
void SSM_CPU(ssm_cpu_matrix)(const struct ssm_matrix *w, const float *start, bool add, const float *x, size_t x_stride,
                             float *y, size_t y_stride, uint32_t rows);

#endif
