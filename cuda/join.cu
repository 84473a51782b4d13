/* SPDX-License-Identifier: Apache-2.0
 *
 * residual, add, multiply: sides joined by index.
 *
 * Where all sides run at one clock, frame t of each is there at the same time. Else a side may be ahead of the join, and
 * its last frames lie in a ring of the layer's state, frame t at t % ahead. Every frame that comes passes into the ring,
 * also one that is used at once: so the ring depends on the index alone, not on how the input was cut.
 *
 * A frame of the ring may be read for the output and written over in the same tile. So a block takes whole rows, and
 * writes their rings behind a barrier: several rows where they are short. Long rows would be too few blocks; there the
 * blocks go over frames, and the rings are written by a launch of their own, behind the one that reads them.
 *
 * SHAPES   a side (frames at its clock, channels), y (frames at out_clock, channels), ring (ahead, channels).
 * BITS     one sum or product a value, in the order of the sides.
 * COST     taking 8 bytes a value, joining 12; the ring 8 for each value of its last `ahead` frames, and no more.
 *          A million values joined take 4 us at 3.0 TB/s.
 * ERROR    one rounding a join.
 */
#include "cuda/join.cuh"

#include "cuda/elements.cuh"

/* Where a block takes whole rows: its threads, its rows (as many as blockDim.z may be), and frames of a row that one
 * thread takes, all at most. */
#define CUDA_JOIN_BLOCK 1024u
#define CUDA_JOIN_ROWS  64u
#define CUDA_JOIN_TURNS 8u

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
    uint32_t longest;     /* frames of a row at its clock, at most */
};

/* Where frame `index` of row r lies: with those that came now, or in the ring. */
__device__ static inline const float *side_frame(const struct side &s, uint32_t r, uint64_t index, uint32_t channels)
{
    const struct cuda_row *now = &s.rows[r];

    if (index < now->index)
        return cuda_row_state<const float>(now, s.ring) + (size_t)(index % s.ahead) * channels;
    return s.x + (now->first + (size_t)(index - now->index)) * channels;
}

struct joined_sides {
    enum cuda_joining how;
    struct cuda_span out;
    struct side before, side; /* without a `before`, y is what comes before */
    uint32_t channels;
    float *y;
};

/* Frame f of the output, the t-th of row r, by the lanes of a frame. */
template <uint32_t V>
__device__ static inline void frame_join(const struct joined_sides &j, uint32_t r, uint64_t index, size_t f)
{
    float *y = j.y + f * j.channels;
    const float *from = side_frame(j.side, r, index, j.channels), *to = y;

    if (j.before.rows)
        to = side_frame(j.before, r, index, j.channels);
    for (uint32_t c = threadIdx.x * V; c < j.channels; c += blockDim.x * V) {
        cuda_floats<V> a = {};

        if (j.how != CUDA_TAKE)
            a = cuda_floats_load<V>(to + c);
        cuda_floats_store<V>(y + c, joined<V>(j.how, a, cuda_floats_load<V>(from + c)));
    }
}

/* The last frames of row r that came now go into the ring; `first` of `stride` threads that share them. */
template <uint32_t V>
__device__ static inline void ring_write(const struct side &side, uint32_t channels, uint32_t r, uint32_t first,
                                         uint32_t stride)
{
    const struct cuda_row row = side.rows[r];
    uint32_t kept = row.frames < side.ahead ? row.frames : side.ahead;
    float *ring = cuda_row_state<float>(&row, side.ring);

    for (uint32_t t = row.frames - kept + first; t < row.frames; t += stride) {
        const float *from = side.x + (row.first + (size_t)t) * channels;
        float *to = ring + (size_t)((row.index + t) % side.ahead) * channels;

        for (uint32_t c = threadIdx.x * V; c < channels; c += blockDim.x * V)
            cuda_floats_store<V>(to + c, cuda_floats_load<V>(from + c));
    }
}

/* Blocks of lanes (x) by frames (y). */
template <uint32_t V> __global__ static void join_frames(struct joined_sides j)
{
    for (size_t f = cuda_item_first(); f < j.out.count->frames; f += cuda_item_stride()) {
        uint32_t r = j.out.owner[f];

        frame_join<V>(j, r, j.out.rows[r].index + (f - j.out.rows[r].first), f);
    }
}

template <uint32_t V>
__global__ static void join_ring(const struct cuda_count *count, struct side side, uint32_t channels)
{
    for (size_t r = blockIdx.x; r < count->rows; r += gridDim.x)
        ring_write<V>(side, channels, (uint32_t)r, threadIdx.y, blockDim.y);
}

/* Lanes (x), frames of a row (y), rows (z). All of a block take as many turns. */
template <uint32_t V> __global__ static void __launch_bounds__(CUDA_JOIN_BLOCK) join_rows(struct joined_sides j)
{
    uint32_t rows = j.out.count->rows;

    for (size_t first = (size_t)blockIdx.x * blockDim.z; first < rows; first += (size_t)gridDim.x * blockDim.z) {
        uint32_t r = (uint32_t)first + threadIdx.z;

        if (r < rows) {
            const struct cuda_row row = j.out.rows[r];

            for (uint32_t t = threadIdx.y; t < row.frames; t += blockDim.y)
                frame_join<V>(j, r, row.index + t, (size_t)row.first + t);
        }
        __syncthreads();
        if (r < rows && j.before.rows && j.before.ahead > 0)
            ring_write<V>(j.before, j.channels, r, threadIdx.y, blockDim.y);
        if (r < rows && j.side.ahead > 0)
            ring_write<V>(j.side, j.channels, r, threadIdx.y, blockDim.y);
    }
}

static struct side side_of(const struct ssm_layer *layer, const struct cuda_tile *tile, uint32_t number, const float *x)
{
    const struct ssm_side *side = &layer->join->side[number];

    return {tile->clock[side->clock].rows, x, layer->state_offset + side->offset, side->ahead,
            tile->clock[side->clock].longest_room};
}

/* The launches over frames and then, where a side has one, over its ring. */
template <uint32_t V> static void frames_launch(const struct joined_sides *j, uint32_t rows, cudaStream_t stream)
{
    struct cuda_shape shape = cuda_items_shape(j->channels / V, j->out.frames_room, 1);
    dim3 grid(rows < CUDA_ELEMENTS_BLOCKS ? rows : CUDA_ELEMENTS_BLOCKS);

    CUDA_LAUNCH(join_frames<V>, shape.grid, shape.block, 0, stream, *j);
    shape = cuda_items_shape(j->channels / V, 1, 1);
    if (j->before.rows && j->before.ahead > 0)
        CUDA_LAUNCH(join_ring<V>, grid, shape.block, 0, stream, j->out.count, j->before, j->channels);
    if (j->side.ahead > 0)
        CUDA_LAUNCH(join_ring<V>, grid, shape.block, 0, stream, j->out.count, j->side, j->channels);
}

/* `longest`: frames of a row, of the output or of a side. */
template <uint32_t V>
static void sides_launch(const struct joined_sides *j, uint32_t rows, uint32_t longest, cudaStream_t stream)
{
    struct cuda_shape shape = cuda_items_shape(j->channels / V, 1, 1);
    uint32_t lanes = shape.block.x, frames = 1, many = 1;

    while (frames < longest && lanes * frames < CUDA_JOIN_BLOCK)
        frames *= 2;
    if (longest > CUDA_JOIN_TURNS * frames) {
        frames_launch<V>(j, rows, stream);
        return;
    }
    while (many < rows && many < CUDA_JOIN_ROWS && lanes * frames * many < CUDA_ELEMENTS_BLOCK)
        many *= 2;
    rows = cuda_blocks(rows, many);
    CUDA_LAUNCH(join_rows<V>, dim3(rows < CUDA_ELEMENTS_BLOCKS ? rows : CUDA_ELEMENTS_BLOCKS),
                dim3(lanes, frames, many), 0, stream, *j);
}

static cudaError_t join_launch(const struct ssm_layer *layer, const struct cuda_tile *tile, enum cuda_joining how,
                               struct side before, struct side side, float *y)
{
    const struct cuda_span *out = &tile->clock[layer->out_clock];
    struct joined_sides j = {how, *out, before, side, layer->out, y};
    uint32_t longest = out->longest_room;

    longest = side.longest > longest ? side.longest : longest;
    longest = before.longest > longest ? before.longest : longest;
    if (layer->out % 4)
        sides_launch<1>(&j, out->rows_room, longest, tile->stream);
    else
        sides_launch<4>(&j, out->rows_room, longest, tile->stream);
    return cudaGetLastError();
}

cudaError_t cuda_join_side(const struct ssm_layer *layer, const struct cuda_tile *tile, uint32_t side,
                           enum cuda_joining how, const float *x, float *y)
{
    struct side none = {};

    return join_launch(layer, tile, how, none, side_of(layer, tile, side, x), y);
}

cudaError_t cuda_join_pair(const struct ssm_layer *layer, const struct cuda_tile *tile, enum cuda_joining how,
                           const float *x0, const float *x1, float *y)
{
    return join_launch(layer, tile, how, side_of(layer, tile, 0, x0), side_of(layer, tile, 1, x1), y);
}

const struct cuda_kind cuda_kind_residual = {NULL, NULL, NULL};
const struct cuda_kind cuda_kind_add = {NULL, NULL, NULL};
const struct cuda_kind cuda_kind_multiply = {NULL, NULL, NULL};
