/* SPDX-License-Identifier: Apache-2.0
 *
 * residual, add, multiply: sides joined by index.
 *
 * Where all sides run at one clock, frame t of each is there at the same time. Else a side may be ahead of the join, and
 * its last frames lie in a ring of the layer's state, frame t at t % ahead. Every frame that comes passes into the ring,
 * also one that is used at once: so the ring depends on the index alone, not on how the input was cut.
 *
 * A frame of the ring may be read for the output and written over in the same tile, by other threads; so the ring is
 * written by a launch of its own, behind the one that reads it.
 *
 * SHAPES   a side (frames at its clock, channels), y (frames at out_clock, channels), ring (ahead, channels).
 * BITS     one sum or product a value, in the order of the sides.
 * COST     taking 8 bytes a value, joining 12; the ring 8 for each value of its last `ahead` frames, and no more.
 *          A million values joined take 4 us at 3.0 TB/s.
 * ERROR    one rounding a join.
 */
#include "cuda/join.cuh"

#include "cuda/elements.cuh"

template <uint32_t V>
__device__ static inline cuda_floats<V> joined(enum cuda_joining how, cuda_floats<V> a, cuda_floats<V> b)
{
#pragma unroll
    for (uint32_t k = 0; k < V; k++)
        b.v[k] = how == CUDA_TAKE ? b.v[k] : how == CUDA_ADD ? a.v[k] + b.v[k] : a.v[k] * b.v[k];
    return b;
}

/* ---- at one clock ------------------------------------------------------------------------------------------------ */

/* count->frames frames of `wide` accesses. */
template <uint32_t V>
__global__ static void join_same(enum cuda_joining how, const struct cuda_count *count, uint32_t wide,
                                 const float *x, float *y)
{
    size_t n = (size_t)__ldcg(&count->frames) * wide, stride = (size_t)gridDim.x * blockDim.x;

    cuda_wait_turn();
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += stride) {
        cuda_floats<V> a = {}, b = cuda_floats_load<V>(x + i * V);

        if (how != CUDA_TAKE)
            a = cuda_floats_load<V>(y + i * V);
        cuda_floats_store<V>(y + i * V, joined<V>(how, a, b));
    }
}

cudaError_t cuda_join_same(enum cuda_joining how, const struct cuda_span *span, uint32_t channels, const float *x,
                           float *y, cudaStream_t stream)
{
    uint32_t wide = channels % 4 ? channels : channels / 4;
    struct cuda_shape shape = cuda_elements_shape((uint64_t)span->frames_room * wide);

    if (channels % 4)
        CUDA_LAUNCH_SOON(join_same<1>, shape.grid, shape.block, 0, stream, how, span->count, wide, x, y);
    else
        CUDA_LAUNCH_SOON(join_same<4>, shape.grid, shape.block, 0, stream, how, span->count, wide, x, y);
    return cudaGetLastError();
}

/* ---- apart ------------------------------------------------------------------------------------------------------- */

/* What comes into the join from one side. */
struct side {
    const struct cuda_row *rows; /* at its clock; NULL: no side */
    const float *x;
    uint32_t ring, ahead; /* offset in the state, frames */
};

/* Where frame `index` of row r lies: with those that came now, or in the ring. */
__device__ static inline const float *side_frame(const struct side &s, uint32_t r, uint64_t index, uint32_t channels)
{
    const struct cuda_row *now = &s.rows[r];

    if (index < now->index)
        return cuda_row_state<const float>(now, s.ring) + (size_t)(index % s.ahead) * channels;
    return s.x + (now->first + (size_t)(index - now->index)) * channels;
}

/* One side to y; or, with a `before`, that side and then the other. */
template <uint32_t V>
__global__ static void join_apart(enum cuda_joining how, const struct cuda_span out, struct side before,
                                  struct side side, uint32_t channels, float *__restrict__ y)
{
    for (size_t f = cuda_item_first(); f < out.count->frames; f += cuda_item_stride()) {
        uint32_t r = out.owner[f];
        uint64_t index = out.rows[r].index + (f - out.rows[r].first);
        const float *to = y + f * channels, *from = side_frame(side, r, index, channels);

        if (before.rows)
            to = side_frame(before, r, index, channels);
        for (uint32_t c = threadIdx.x * V; c < channels; c += blockDim.x * V) {
            cuda_floats<V> a = {};

            if (how != CUDA_TAKE)
                a = cuda_floats_load<V>(to + c);
            cuda_floats_store<V>(y + f * channels + c, joined<V>(how, a, cuda_floats_load<V>(from + c)));
        }
    }
}

/* The last frames of each row that came now go into the ring. */
template <uint32_t V>
__global__ static void ring_write(const struct cuda_count *count, struct side side, uint32_t channels)
{
    for (size_t r = blockIdx.x; r < count->rows; r += gridDim.x) {
        const struct cuda_row row = side.rows[r];
        uint32_t kept = row.frames < side.ahead ? row.frames : side.ahead;
        float *ring = cuda_row_state<float>(&row, side.ring);

        for (uint32_t t = row.frames - kept + threadIdx.y; t < row.frames; t += blockDim.y) {
            const float *from = side.x + (row.first + (size_t)t) * channels;
            float *to = ring + (size_t)((row.index + t) % side.ahead) * channels;

            for (uint32_t c = threadIdx.x * V; c < channels; c += blockDim.x * V)
                cuda_floats_store<V>(to + c, cuda_floats_load<V>(from + c));
        }
    }
}

static struct side side_of(const struct ssm_layer *layer, const struct cuda_tile *tile, uint32_t number, const float *x)
{
    const struct ssm_side *side = &layer->join->side[number];

    return {tile->clock[side->clock].rows, x, layer->state_offset + side->offset, side->ahead};
}

static void join_launch(const struct ssm_layer *layer, const struct cuda_tile *tile, enum cuda_joining how,
                        struct side before, struct side side, float *y)
{
    const struct cuda_span *out = &tile->clock[layer->out_clock];
    uint32_t channels = layer->out;
    struct cuda_shape shape = cuda_items_shape(channels % 4 ? channels : channels / 4, out->frames_room, 1);

    if (channels % 4)
        CUDA_LAUNCH(join_apart<1>, shape.grid, shape.block, 0, tile->stream, how, *out, before, side, channels, y);
    else
        CUDA_LAUNCH(join_apart<4>, shape.grid, shape.block, 0, tile->stream, how, *out, before, side, channels, y);
}

static void ring_launch(const struct ssm_layer *layer, const struct cuda_tile *tile, uint32_t number, struct side side)
{
    const struct cuda_span *now = &tile->clock[layer->join->side[number].clock];
    uint32_t channels = layer->out;
    struct cuda_shape shape = cuda_items_shape(channels % 4 ? channels : channels / 4, 1, 1);
    dim3 grid(now->rows_room < CUDA_ELEMENTS_BLOCKS ? now->rows_room : CUDA_ELEMENTS_BLOCKS);

    if (side.ahead == 0)
        return;
    if (channels % 4)
        CUDA_LAUNCH(ring_write<1>, grid, shape.block, 0, tile->stream, now->count, side, channels);
    else
        CUDA_LAUNCH(ring_write<4>, grid, shape.block, 0, tile->stream, now->count, side, channels);
}

cudaError_t cuda_join_side(const struct ssm_layer *layer, const struct cuda_tile *tile, uint32_t side,
                           enum cuda_joining how, const float *x, float *y)
{
    struct side none = {}, one = side_of(layer, tile, side, x);

    join_launch(layer, tile, how, none, one, y);
    ring_launch(layer, tile, side, one);
    return cudaGetLastError();
}

cudaError_t cuda_join_pair(const struct ssm_layer *layer, const struct cuda_tile *tile, enum cuda_joining how,
                           const float *x0, const float *x1, float *y)
{
    struct side before = side_of(layer, tile, 0, x0), side = side_of(layer, tile, 1, x1);

    join_launch(layer, tile, how, before, side, y);
    ring_launch(layer, tile, 0, before);
    ring_launch(layer, tile, 1, side);
    return cudaGetLastError();
}

const struct cuda_kind cuda_kind_residual = {NULL, NULL, NULL};
const struct cuda_kind cuda_kind_add = {NULL, NULL, NULL};
const struct cuda_kind cuda_kind_multiply = {NULL, NULL, NULL};
