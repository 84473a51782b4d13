/* SPDX-License-Identifier: Apache-2.0
 *
 * layernorm, rmsnorm, batchnorm.
 *
 * A frame is taken by W neighbouring lanes, with four channels in each access. Up to 1,024 channels stay in registers
 * between the passes; wider frames, and widths that four does not divide, are read again, from the cache. A tile of one
 * frame takes as long as what has to follow one another: so weights are requested before the frame is there, all of it
 * at once, and sums are trees.
 *
 * SHAPES   x, y (frames, H); weight, bias, mean (H).
 * BITS     lane i sums channels 4i..4i+3 in index order, likewise those 4W further on, and so forth; the sums of up to
 *          eight such quads are folded in halves, and so are the lanes. Wider frames, and others by one channel in the
 *          place of four, are one chain for each lane. An order that H alone decides. The variance is taken about the
 *          mean in a second pass, which does not cancel.
 * COST     8 bytes a value, 2.7 us a million at 3.0 TB/s; some 8 operations a value, of layernorm, and for each frame
 *          5 or 10 shuffles of W lanes, a root and a quotient.
 * ERROR    a sum of H values has at most H/W + 5 roundings in a row, of up to 1,024 channels 12.
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
__device__ static inline void normal_store(cuda_floats<V> a, float mean, float scale, cuda_floats<V> weight,
                                           cuda_floats<V> bias, float *y)
{
#pragma unroll
    for (uint32_t k = 0; k < V; k++)
        a.v[k] = CENTRED ? fmaf((a.v[k] - mean) * scale, weight.v[k], bias.v[k]) : a.v[k] * scale * weight.v[k];
    cuda_floats_store<V>(y, a);
}

/* Quads c, c + 4 W, ... of H channels, zeros where there are none. */
template <uint32_t W, uint32_t Q>
__device__ static inline void quads_load(const float *x, uint32_t H, bool there, cuda_floats<4> *to)
{
#pragma unroll
    for (uint32_t q = 0; q < Q; q++) {
        uint32_t c = (q * W + threadIdx.x % W) * 4;

        to[q] = {};
        if (there && c < H)
            to[q] = cuda_floats_load<4>(x + c);
    }
}

/* The sum over a frame of x, or of (x - mean)^2, to all its lanes. */
template <bool SQUARED, uint32_t W, uint32_t Q>
__device__ static inline float quads_sum(const cuda_floats<4> *x, uint32_t H, float mean)
{
    float sum[Q];

#pragma unroll
    for (uint32_t q = 0; q < Q; q++) {
        sum[q] = 0;
#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            float d = x[q].v[k] - mean;

            sum[q] = SQUARED ? fmaf(d, d, sum[q]) : sum[q] + x[q].v[k];
        }
        if ((q * W + threadIdx.x % W) * 4 >= H)
            sum[q] = 0;
    }
#pragma unroll
    for (uint32_t apart = Q / 2; apart > 0; apart /= 2)
#pragma unroll
        for (uint32_t q = 0; q < apart; q++)
            sum[q] = sum[q] + sum[q + apart];
    return cuda_lanes_sum<W>(sum[0]);
}

/* H is at most 4*W*Q, and a multiple of 4. All lanes of a warp stay together, for the folding. */
template <bool CENTRED, uint32_t W, uint32_t Q>
__global__ static void __launch_bounds__(CUDA_ELEMENTS_BLOCK)
    norm_held(const struct cuda_count *count, uint32_t H, struct norm p, const float *x, float *y)
{
    uint32_t lane = threadIdx.x % W, groups = blockDim.x / W, frames = __ldcg(&count->frames);
    cuda_floats<4> weight[Q], bias[Q] = {};

    quads_load<W, Q>(p.weight, H, true, weight);
    if (CENTRED)
        quads_load<W, Q>(p.bias, H, true, bias);
    cuda_wait_turn();
    for (size_t first = (size_t)blockIdx.x * groups; first < frames; first += (size_t)gridDim.x * groups) {
        size_t t = first + threadIdx.x / W;
        bool is_frame = t < frames;
        cuda_floats<4> held[Q];
        float mean = 0, scale;

        quads_load<W, Q>(x + t * H, H, is_frame, held);
        if (CENTRED)
            mean = quads_sum<false, W, Q>(held, H, 0) / (float)H;
        scale = 1 / sqrtf(quads_sum<true, W, Q>(held, H, mean) / (float)H + p.eps);
#pragma unroll
        for (uint32_t q = 0; q < Q; q++) {
            uint32_t c = (q * W + lane) * 4;

            if (is_frame && c < H)
                normal_store<CENTRED, 4>(held[q], mean, scale, weight[q], bias[q], y + t * H + c);
        }
    }
}

/* Sum over one frame's channels of (x - mean) or, if SQUARED, of its square, in all lanes of a warp. */
template <bool SQUARED, uint32_t V>
__device__ static inline float moment(const float *x, uint32_t H, float mean)
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
__global__ static void norm_reread(const struct cuda_count *count, uint32_t H, struct norm p, const float *x, float *y)
{
    cuda_wait_turn();
    for (size_t t = (size_t)blockIdx.x * (CUDA_ELEMENTS_BLOCK / CUDA_WARP) + threadIdx.x / CUDA_WARP; t < count->frames;
         t += (size_t)gridDim.x * (CUDA_ELEMENTS_BLOCK / CUDA_WARP)) {
        const float *from = x + t * H;
        float mean = CENTRED ? moment<false, V>(from, H, 0) / (float)H : 0;
        float scale = 1 / sqrtf(moment<true, V>(from, H, mean) / (float)H + p.eps);

        for (uint32_t c = threadIdx.x % CUDA_WARP * V; c < H; c += CUDA_WARP * V) {
            cuda_floats<V> bias = {};

            if (CENTRED)
                bias = cuda_floats_load<V>(p.bias + c);
            normal_store<CENTRED, V>(cuda_floats_load<V>(from + c), mean, scale, cuda_floats_load<V>(p.weight + c),
                                     bias, y + t * H + c);
        }
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

    CUDA_LAUNCH_SOON(kernel, shape.grid, shape.block, 0, tile->stream, span->count, H, *(const struct norm *)l->params,
                     x, y);
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
