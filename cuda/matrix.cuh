/* SPDX-License-Identifier: Apache-2.0
 *
 * The batch-invariant product of this device: y = W x + start, one row of x for each frame.
 *
 * One output is summed over its inputs in an order that the width of the matrix alone decides, whatever the number of
 * rows: so a stream's bits do not depend on who shares its tile (cuBLAS changed row 0 at 192 of 255 row counts).
 * cuda/matrix_tiles.cuh says which.
 */
#ifndef CUDA_MATRIX_CUH
#define CUDA_MATRIX_CUH

#include "cuda/kind.cuh"
#include "ssm/matrix.h"

struct cuda_matrix {
    uint32_t out, in;
    uint32_t parts;     /* binary16 numbers that a weight is the sum of: 1 where that is exact, as of bfloat16, or 2 */
    const uint4 *tiles; /* device */
    const float *scale; /* device: (out padded to 16) 2^-14 of the powers of two that weights were multiplied by */
};

void cuda_matrix_build(struct cuda_build *b, const struct ssm_matrix *matrix, struct cuda_matrix *out);
/* The same in tiles of neighbouring outputs, for kernels that read tiles themselves and not for cuda_matrix_launch. */
void cuda_matrix_build_plain(struct cuda_build *b, const struct ssm_matrix *matrix, struct cuda_matrix *out);

/* How a product begins, what is done to an output before it is stored, and where it goes. All zeros but for x, y, their
 * strides, count and room: W x. What follows has the bits of the layers activation, glu and residual. */
struct cuda_product {
    const float *x; /* rows `x_stride` floats apart, which may overlap one another */
    size_t x_stride;
    float *y; /* does not overlap x */
    size_t y_stride;
    const float *start;    /* device (out), added to every row; NULL: zeros */
    bool add;              /* to what y has, instead of `start` */
    const uint32_t *count; /* device: rows that there are */
    uint32_t room;         /* at most so many */
    /* In this order, each or none: */
    uint32_t activation = CUDA_NO_ACTIVATION; /* of every output */
    bool glu = false;                         /* y (out / 2): output o times the sigmoid of output out / 2 + o */
    const float *residual = NULL;             /* is added; of y's width, does not overlap y */
    size_t residual_stride = 0;
};

cudaError_t cuda_matrix_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream);

#endif
