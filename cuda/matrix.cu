/* SPDX-License-Identifier: Apache-2.0
 *
 * The product, one thread for each output of a row: the chain of fused products in index order.
 *
 * SHAPES   as struct cuda_product; weights (ceil(out/16), in, 16).
 * BITS     one output is one chain over its inputs in index order, beginning with its start.
 * COST     2*rows*in*out flops. */
#include "cuda/matrix.cuh"

#define THREADS 128u

void cuda_matrix_build(struct cuda_build *b, const struct ssm_matrix *matrix, struct cuda_matrix *out)
{
    size_t panels = (matrix->out + SSM_PANEL - 1) / SSM_PANEL;

    *out = {};
    out->out = matrix->out;
    out->in = matrix->in;
    out->panels = cuda_upload_floats(b, matrix->panels, panels * matrix->in * SSM_PANEL);
}

__global__ static void product(struct cuda_matrix w, struct cuda_product p)
{
    uint32_t o = blockIdx.y * THREADS + threadIdx.x, panel = o / SSM_PANEL;

    if (o >= w.out)
        return;
    for (size_t r = blockIdx.x; r < *p.count; r += gridDim.x) {
        const float *weights = w.panels + (size_t)panel * w.in * SSM_PANEL + o % SSM_PANEL, *x = p.x + r * p.x_stride;
        float *y = p.y + r * p.y_stride + o;
        float sum = p.add ? *y : p.start ? p.start[o] : 0;

        for (size_t i = 0; i < w.in; i++)
            sum = fmaf(x[i], weights[i * SSM_PANEL], sum);
        *y = sum;
    }
}

cudaError_t cuda_matrix_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    if (p->room == 0 || w->out == 0)
        return cudaSuccess;
    CUDA_LAUNCH(product, dim3(p->room, cuda_blocks(w->out, THREADS)), dim3(THREADS), 0, stream, *w, *p);
    return cudaGetLastError();
}
