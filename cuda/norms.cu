/* SPDX-License-Identifier: Apache-2.0
 *
 * layernorm, rmsnorm, batchnorm.
 *
 * A frame is taken by W neighbouring lanes, with four channels in each access. Up to 1,024 channels stay in registers
 * between the passes; wider frames, and widths that four does not divide, are read again, from the cache.
 *
 * SHAPES   x, y (frames, H); weight, bias, mean (H).
 * BITS     lane i sums channels 4i..4i+3, then those 4W further on, in index order (one at a time where four does not
 *          divide H), and the lanes are folded in halves: an order that H alone decides. The variance is taken about
 *          the mean in a second pass, which does not cancel.
 * COST     8 bytes a value, 2.7 us a million at 3.0 TB/s; some 8 operations a value, of layernorm, and for each frame
 *          5 or 10 shuffles of W lanes, a root and a quotient.
 * ERROR    a sum of H values has at most H/W + 5 roundings in a row.
 */
#include "cuda/elements.cuh"
#include "cuda/math.cuh"
#include "ssm/layers/params.h"

struct norm {
    float eps;
    const float *weight, *bias, *mean; /* device: (H); bias, mean: NULL without */
};

static void norm_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_norm *p = (const struct ssm_norm *)layer->params;
    struct norm *d = (struct norm *)(*params = cuda_params(b, sizeof(*d)));

    if (!d)
        return;
    d->eps = p->eps;
    d->weight = cuda_upload_floats(b, p->weight, layer->out);
    d->bias = p->bias ? cuda_upload_floats(b, p->bias, layer->out) : NULL;
    d->mean = p->mean ? cuda_upload_floats(b, p->mean, layer->out) : NULL;
}

/* ---- layernorm, rmsnorm ------------------------------------------------------------------------------------------ */

/* (x - mean) scale weight + bias; rmsnorm: x scale weight. */
template <bool CENTRED, uint32_t V>
__device__ static inline void normal_store(const struct norm &p, cuda_floats<V> a, float mean, float scale, uint32_t c,
                                           float *y)
{
    cuda_floats<V> weight = cuda_floats_load<V>(p.weight + c), bias;

    if (CENTRED)
        bias = cuda_floats_load<V>(p.bias + c);
#pragma unroll
    for (uint32_t k = 0; k < V; k++)
        a.v[k] = CENTRED ? fmaf((a.v[k] - mean) * scale, weight.v[k], bias.v[k]) : a.v[k] * scale * weight.v[k];
    cuda_floats_store<V>(y + c, a);
}

/* H is at most 4*W*Q, and a multiple of 4. All lanes of a warp stay together, for the folding. */
template <bool CENTRED, uint32_t W, uint32_t Q>
__global__ static void norm_held(const struct cuda_count *count, uint32_t H, struct norm p, const float *__restrict__ x,
                                 float *__restrict__ y)
{
    uint32_t lane = threadIdx.x % W, groups = blockDim.x / W;

    for (size_t first = (size_t)blockIdx.x * groups; first < count->frames; first += (size_t)gridDim.x * groups) {
        size_t t = first + threadIdx.x / W;
        bool is_frame = t < count->frames;
        cuda_floats<4> held[Q];
        float sum = 0, mean = 0, scale;

#pragma unroll
        for (uint32_t q = 0; q < Q; q++) {
            uint32_t c = (q * W + lane) * 4;

            held[q] = {};
            if (is_frame && c < H)
                held[q] = cuda_floats_load<4>(x + t * H + c);
        }
        if (CENTRED) {
#pragma unroll
            for (uint32_t i = 0; i < 4 * Q; i++)
                sum = sum + held[i / 4].v[i % 4];
            mean = cuda_lanes_sum<W>(sum) / (float)H;
            sum = 0;
        }
#pragma unroll
        for (uint32_t i = 0; i < 4 * Q; i++) {
            float d = held[i / 4].v[i % 4] - mean;

            if ((i / 4 * W + lane) * 4 < H)
                sum = fmaf(d, d, sum);
        }
        scale = 1 / sqrtf(cuda_lanes_sum<W>(sum) / (float)H + p.eps);
#pragma unroll
        for (uint32_t q = 0; q < Q; q++)
            if (is_frame && (q * W + lane) * 4 < H)
                normal_store<CENTRED, 4>(p, held[q], mean, scale, (q * W + lane) * 4, y + t * H);
    }
}

/* Sum over one frame's channels of (x - mean) or, if SQUARED, of its square, in all lanes of a warp. */
template <bool SQUARED, uint32_t V>
__device__ static inline float moment(const float *__restrict__ x, uint32_t H, float mean)
{
    float sum = 0;

    for (uint32_t c = threadIdx.x % CUDA_WARP * V; c < H; c += CUDA_WARP * V) {
        cuda_floats<V> a = cuda_floats_load<V>(x + c);

#pragma unroll
        for (uint32_t k = 0; k < V; k++)
            sum = SQUARED ? fmaf(a.v[k] - mean, a.v[k] - mean, sum) : sum + a.v[k];
    }
    return cuda_warp_sum(sum);
}

/* A warp for each frame. */
template <bool CENTRED, uint32_t V>
__global__ static void norm_reread(const struct cuda_count *count, uint32_t H, struct norm p,
                                   const float *__restrict__ x, float *__restrict__ y)
{
    for (size_t t = (size_t)blockIdx.x * (CUDA_ELEMENTS_BLOCK / CUDA_WARP) + threadIdx.x / CUDA_WARP; t < count->frames;
         t += (size_t)gridDim.x * (CUDA_ELEMENTS_BLOCK / CUDA_WARP)) {
        const float *from = x + t * H;
        float mean = CENTRED ? moment<false, V>(from, H, 0) / (float)H : 0;
        float scale = 1 / sqrtf(moment<true, V>(from, H, mean) / (float)H + p.eps);

        for (uint32_t c = threadIdx.x % CUDA_WARP * V; c < H; c += CUDA_WARP * V)
            normal_store<CENTRED, V>(p, cuda_floats_load<V>(from + c), mean, scale, c, y + t * H);
    }
}

typedef void norm_kernel(const struct cuda_count *count, uint32_t H, struct norm p, const float *x, float *y);

/* The kernel for that width; *lanes that take a frame. */
template <bool CENTRED> static norm_kernel *norm_choose(uint32_t H, uint32_t *lanes)
{
    *lanes = H % 4 == 0 && H <= 32 ? 8 : H % 4 == 0 && H <= 64 ? 16 : CUDA_WARP;
    if (H % 4)
        return norm_reread<CENTRED, 1>;
    if (H <= 32)
        return norm_held<CENTRED, 8, 1>;
    if (H <= 64)
        return norm_held<CENTRED, 16, 1>;
    if (H <= 128)
        return norm_held<CENTRED, 32, 1>;
    if (H <= 256)
        return norm_held<CENTRED, 32, 2>;
    if (H <= 512)
        return norm_held<CENTRED, 32, 4>;
    return H <= 1024 ? norm_held<CENTRED, 32, 8> : norm_reread<CENTRED, 4>;
}

template <bool CENTRED>
static cudaError_t norm_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    uint32_t H = l->layer->out, lanes;
    norm_kernel *kernel = norm_choose<CENTRED>(H, &lanes);
    struct cuda_shape shape = cuda_elements_shape((uint64_t)span->frames_room * lanes);

    CUDA_LAUNCH(kernel, shape.grid, shape.block, 0, tile->stream, span->count, H, *(const struct norm *)l->params, x,
                y);
    return cudaGetLastError();
}

const struct cuda_kind cuda_kind_layernorm = {norm_build, NULL, norm_launch<true>};
const struct cuda_kind cuda_kind_rmsnorm = {norm_build, NULL, norm_launch<false>};

/* ---- batchnorm --------------------------------------------------------------------------------------------------- */

/* (x - mean) weight + bias, all of them known. */
template <uint32_t V>
__global__ static void shift(const struct cuda_count *count, uint32_t H, struct norm p, const float *__restrict__ x,
                             float *__restrict__ y)
{
    for (size_t t = cuda_item_first(); t < count->frames; t += cuda_item_stride())
        for (uint32_t c = threadIdx.x * V; c < H; c += blockDim.x * V) {
            cuda_floats<V> a = cuda_floats_load<V>(x + t * H + c), mean = cuda_floats_load<V>(p.mean + c),
                           weight = cuda_floats_load<V>(p.weight + c), bias = cuda_floats_load<V>(p.bias + c);

#pragma unroll
            for (uint32_t k = 0; k < V; k++)
                a.v[k] = fmaf(a.v[k] - mean.v[k], weight.v[k], bias.v[k]);
            cuda_floats_store<V>(y + t * H + c, a);
        }
}

static cudaError_t batchnorm_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    const struct norm *p = (const struct norm *)l->params;
    uint32_t H = l->layer->out;
    struct cuda_shape shape = cuda_items_shape(H % 4 ? H : H / 4, span->frames_room, 1);

    if (H % 4)
        CUDA_LAUNCH(shift<1>, shape.grid, shape.block, 0, tile->stream, span->count, H, *p, x, y);
    else
        CUDA_LAUNCH(shift<4>, shape.grid, shape.block, 0, tile->stream, span->count, H, *p, x, y);
    return cudaGetLastError();
}

const struct cuda_kind cuda_kind_batchnorm = {norm_build, NULL, batchnorm_launch};
