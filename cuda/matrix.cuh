/* SPDX-License-Identifier: Apache-2.0
 *
 * The batch-invariant product of this device: y = W x + start, one row of x for each frame.
 *
 * One output is summed over its inputs in an order that the width of the matrix alone decides, whatever the number of
 * rows: so a stream's bits do not depend on who shares its tile (cuBLAS changed row 0 at 192 of 255 row counts).
 */
#ifndef CUDA_MATRIX_CUH
#define CUDA_MATRIX_CUH

#include "cuda/kind.cuh"
#include "ssm/matrix.h"

struct cuda_matrix {
    uint32_t out, in;
    const float *panels;          /* device: as struct ssm_matrix has them; NULL when `narrow` is there */
    const __nv_bfloat16 *narrow;  /* device: of weights that bfloat16 holds exactly */
};

void cuda_matrix_build(struct cuda_build *b, const struct ssm_matrix *matrix, struct cuda_matrix *out);

/* How a product begins and where it goes. */
struct cuda_product {
    const float *x; /* rows `x_stride` floats apart */
    size_t x_stride;
    float *y;
    size_t y_stride;
    const float *start;    /* device (out), added to every row; NULL: zeros */
    bool add;              /* to what y has, instead of `start` */
    const uint32_t *count; /* device: rows that there are */
    uint32_t room;         /* at most so many */
};

cudaError_t cuda_matrix_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream);

#endif
