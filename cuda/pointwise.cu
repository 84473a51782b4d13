/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers that look at one frame only, and mean, which looks at all of them through its sum.
 *
 * SHAPES   x (frames, in), y (frames, out); the state of mean (2, out): the sum, and what rounding left of it.
 * BITS     one value depends on one value (glu: two), by the functions of cuda/math.cuh; mean sums in index order, one
 *          thread for each channel of a row.
 * COST     activation and scale 8 bytes a value, glu 12 a result, slice 8 a result, mean 8 a value and 16 for each
 *          channel of a row: at 3.0 TB/s a million values take 2.7 us, a million results of glu 4. 10 to 40
 *          instructions a value are below that floor: 70 would meet it.
 * ERROR    that of cuda/math.cuh. mean's sum keeps 48 bits: a frame leaves an error of at most 2^-48 of it, the quotient
 *          is rounded once.
 */
#include "cuda/elements.cuh"
#include "cuda/math.cuh"
#include "ssm/layers/params.h"

/* ---- activation and scale: one value to one value ---------------------------------------------------------------- */

#define SCALE 0u /* beside CUDA_ACTIVATION */

template <uint32_t FN> __device__ static inline float apply(float v, float factor)
{
    return FN == SCALE ? factor * v : cuda_activate(FN, v);
}

/* count->frames frames of `wide` accesses. */
template <uint32_t FN, uint32_t V>
__global__ static void map(const struct cuda_count *count, uint32_t wide, float factor, const float *__restrict__ x,
                           float *__restrict__ y)
{
    size_t n = (size_t)count->frames * wide, stride = (size_t)gridDim.x * blockDim.x;

    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        cuda_floats<V> a = cuda_floats_load<V>(x + i * V);

#pragma unroll
        for (uint32_t k = 0; k < V; k++)
            a.v[k] = apply<FN>(a.v[k], factor);
        cuda_floats_store<V>(y + i * V, a);
    }
}

template <uint32_t FN>
static cudaError_t map_launch(const struct cuda_layer *l, const struct cuda_tile *tile, float factor, const float *x,
                              float *y)
{
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    bool quads = l->layer->out % 4 == 0;
    uint32_t wide = quads ? l->layer->out / 4 : l->layer->out;
    struct cuda_shape shape = cuda_elements_shape((uint64_t)span->frames_room * wide);

    if (quads)
        CUDA_LAUNCH((map<FN, 4>), shape.grid, shape.block, 0, tile->stream, span->count, wide, factor, x, y);
    else
        CUDA_LAUNCH((map<FN, 1>), shape.grid, shape.block, 0, tile->stream, span->count, wide, factor, x, y);
    return cudaGetLastError();
}

static cudaError_t activation_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    switch (((const struct ssm_activation *)l->layer->params)->fn) {
    case SSM_RELU:
        return map_launch<CUDA_ACTIVATION(SSM_RELU)>(l, tile, 0, x, y);
    case SSM_GELU:
        return map_launch<CUDA_ACTIVATION(SSM_GELU)>(l, tile, 0, x, y);
    case SSM_GELU_TANH:
        return map_launch<CUDA_ACTIVATION(SSM_GELU_TANH)>(l, tile, 0, x, y);
    case SSM_SILU:
        return map_launch<CUDA_ACTIVATION(SSM_SILU)>(l, tile, 0, x, y);
    case SSM_TANH:
        return map_launch<CUDA_ACTIVATION(SSM_TANH)>(l, tile, 0, x, y);
    case SSM_SIGMOID:
        return map_launch<CUDA_ACTIVATION(SSM_SIGMOID)>(l, tile, 0, x, y);
    case SSM_SOFTPLUS:
        return map_launch<CUDA_ACTIVATION(SSM_SOFTPLUS)>(l, tile, 0, x, y);
    }
    return cudaErrorInvalidValue;
}

static cudaError_t scale_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    return map_launch<SCALE>(l, tile, ((const struct ssm_scale *)l->layer->params)->value, x, y);
}

const struct cuda_kind cuda_kind_activation = {NULL, NULL, activation_launch};
const struct cuda_kind cuda_kind_scale = {NULL, NULL, scale_launch};

/* ---- glu and slice: some channels of a frame --------------------------------------------------------------------- */

/* y = x[from..], times the sigmoid of what lies `gate` channels behind, if there is a gate. All widths are multiples of
 * V. */
template <bool GATED, uint32_t V>
__global__ static void part(const struct cuda_count *count, uint32_t in, uint32_t out, uint32_t from,
                            const float *__restrict__ x, float *__restrict__ y)
{
    for (size_t t = cuda_item_first(); t < count->frames; t += cuda_item_stride())
        for (uint32_t c = threadIdx.x * V; c < out; c += blockDim.x * V) {
            cuda_floats<V> a = cuda_floats_load<V>(x + t * in + from + c);

            if (GATED) {
                cuda_floats<V> gate = cuda_floats_load<V>(x + t * in + out + c);

#pragma unroll
                for (uint32_t k = 0; k < V; k++)
                    a.v[k] = a.v[k] * cuda_sigmoid(gate.v[k]);
            }
            cuda_floats_store<V>(y + t * out + c, a);
        }
}

template <bool GATED>
static cudaError_t part_launch(const struct cuda_layer *l, const struct cuda_tile *tile, uint32_t from, const float *x,
                               float *y)
{
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    uint32_t in = l->layer->in, out = l->layer->out;
    bool quads = in % 4 == 0 && out % 4 == 0 && from % 4 == 0;
    struct cuda_shape shape = cuda_items_shape(quads ? out / 4 : out, span->frames_room, 1);

    if (quads)
        CUDA_LAUNCH((part<GATED, 4>), shape.grid, shape.block, 0, tile->stream, span->count, in, out, from, x, y);
    else
        CUDA_LAUNCH((part<GATED, 1>), shape.grid, shape.block, 0, tile->stream, span->count, in, out, from, x, y);
    return cudaGetLastError();
}

static cudaError_t glu_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    return part_launch<true>(l, tile, 0, x, y);
}

static cudaError_t slice_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    return part_launch<false>(l, tile, ((const struct ssm_slice *)l->layer->params)->from, x, y);
}

const struct cuda_kind cuda_kind_glu = {NULL, NULL, glu_launch};
const struct cuda_kind cuda_kind_slice = {NULL, NULL, slice_launch};

/* ---- mean -------------------------------------------------------------------------------------------------------- */

/* The running sum is kept in two float32, the second holding what the first could not. Loads do not wait for the sum,
 * so some of them are under way at a time. */
__global__ static void mean(const struct cuda_span span, uint32_t state_offset, uint32_t channels,
                            const float *__restrict__ x, float *__restrict__ y)
{
    for (size_t r = cuda_item_first(); r < span.count->rows; r += cuda_item_stride())
        for (uint32_t c = threadIdx.x; c < channels; c += blockDim.x) {
            const struct cuda_row row = span.rows[r];
            float *state = cuda_row_state<float>(&row, state_offset) + c, high = state[0], low = state[channels];
            size_t at = (size_t)row.first * channels + c;

#pragma unroll 4
            for (uint32_t t = 0; t < row.frames; t++, at += channels) {
                double sum = (double)high + low + x[at];

                high = (float)sum;
                low = (float)(sum - high);
                y[at] = (float)(sum / (double)(row.index + t + 1));
            }
            state[0] = high;
            state[channels] = low;
        }
}

static cudaError_t mean_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    struct cuda_shape shape = cuda_items_shape(l->layer->out, span->rows_room, 1);

    CUDA_LAUNCH(mean, shape.grid, shape.block, 0, tile->stream, *span, l->layer->state_offset, l->layer->out, x, y);
    return cudaGetLastError();
}

const struct cuda_kind cuda_kind_mean = {NULL, NULL, mean_launch};
