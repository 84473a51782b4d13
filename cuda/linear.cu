/* SPDX-License-Identifier: Apache-2.0
 *
 * linear and embedding.
 *
 * linear is the product of cuda/matrix.cu over all frames of a tile. embedding copies a row of the table for each
 * token, some threads for each frame so that short rows share a block and wide ones have many loads in flight.
 *
 * SHAPES   linear: x (frames, in), y (frames, out). embedding: tokens (frames), y (frames, dim), table (vocab, dim).
 * BITS     linear: those of the product. embedding: a copy.
 * COST     embedding: 8*frames*dim bytes, the floor at the device's copy rate. */
#include "cuda/matrix.cuh"
#include "ssm/layers/params.h"

#define THREADS 256u

struct linear {
    struct cuda_matrix weight;
    const float *bias;
};

static void linear_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_linear *p = (const struct ssm_linear *)layer->params;
    struct linear *d = (struct linear *)(*params = cuda_params(b, sizeof(*d)));

    if (!d)
        return;
    cuda_matrix_build(b, &p->weight, &d->weight);
    d->bias = cuda_upload_floats(b, p->bias, p->weight.out);
}

static cudaError_t linear_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct linear *d = (const struct linear *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    struct cuda_product p = {};

    p.x = x;
    p.x_stride = l->layer->in;
    p.y = y;
    p.y_stride = tile->after.glu ? l->layer->out / 2 : l->layer->out;
    p.start = d->bias;
    p.count = &span->count->frames;
    p.room = span->frames_room;
    p.activation = tile->after.activation;
    p.glu = tile->after.glu;
    p.residual = tile->after.residual;
    p.residual_stride = p.y_stride;
    return cuda_matrix_launch(&d->weight, &p, tile->stream);
}

const struct cuda_kind cuda_kind_linear = {linear_build, NULL, linear_launch,
                                            CUDA_TAKES_ACTIVATION | CUDA_TAKES_GLU | CUDA_TAKES_RESIDUAL};

struct embedding {
    const float *weight; /* (vocab, dim) */
    uint32_t lanes;      /* threads for one frame, a power of two */
};

static void embedding_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_embedding *p = (const struct ssm_embedding *)layer->params;
    struct embedding *d = (struct embedding *)(*params = cuda_params(b, sizeof(*d)));

    if (!d)
        return;
    d->weight = cuda_upload_floats(b, p->weight, (size_t)p->vocab * layer->out);
    for (d->lanes = 1; d->lanes < THREADS && d->lanes * 4 < layer->out; d->lanes *= 2)
        ;
}

/* A row of `width` values, by `lanes` threads of which this is number `lane`. */
__device__ static inline void row_copy(const float *from, float *to, uint32_t width, uint32_t lane, uint32_t lanes)
{
    if (width % 4 == 0)
        for (uint32_t i = lane; i < width / 4; i += lanes)
            reinterpret_cast<float4 *>(to)[i] = reinterpret_cast<const float4 *>(from)[i];
    else
        for (uint32_t i = lane; i < width; i += lanes)
            to[i] = from[i];
}

__global__ static void embedding_rows(struct embedding d, const struct cuda_count *count, const int32_t *tokens,
                                      uint32_t dim, float *y)
{
    uint32_t t = blockIdx.x * (THREADS / d.lanes) + threadIdx.x / d.lanes;

    cuda_wait_turn();
    if (t < count->frames)
        row_copy(d.weight + (size_t)tokens[t] * dim, y + (size_t)t * dim, dim, threadIdx.x % d.lanes, d.lanes);
}

static cudaError_t embedding_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct embedding *d = (const struct embedding *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    uint32_t blocks = cuda_blocks(span->frames_room, THREADS / d->lanes);

    (void)x; /* tokens, not floats */
    if (blocks == 0)
        return cudaSuccess;
    CUDA_LAUNCH_SOON(embedding_rows, dim3(blocks), dim3(THREADS), 0, tile->stream, *d, span->count, tile->tokens,
                     l->layer->out, y);
    return cudaGetLastError();
}

const struct cuda_kind cuda_kind_embedding = {embedding_build, NULL, embedding_launch};
