/* SPDX-License-Identifier: Apache-2.0
 *
 * The product for many rows: tiles of outputs by frames that share what they read through shared memory.
 *
 * A block of four warps has 32 PANELS outputs and 64 frames, each warp half of both. For each segment of the inputs the
 * weights come as they are packed, two segments deep, and x as float32; it is split where it lies, by four lanes a
 * frame, while a neighbour block keeps the matrix units busy. Chunks of 16 bytes are permuted within a frame's row so
 * that neither the split nor the reading of operands meets a bank twice.
 *
 * Blocks go over 8 tiles of frames before they take the next outputs: so both the weights and x are read from device
 * memory about once.
 *
 * SHAPES   as struct cuda_product; grid one-dimensional, (8 tiles of frames) inside (tiles of outputs) inside groups.
 * BITS     cuda/matrix_tiles.cuh.
 * COST     4*rows*out*in flops of binary16 with one part, 6 with two: at 600 TFLOP/s, which mma.sync reaches, a floor of
 *          150 or 100 TFLOP/s of the product's own 2*rows*out*in. Narrow products are bound by 4*rows*(in + out) bytes. */
#include "cuda/matrix_tiles.cuh"

#define THREADS    128u
#define ROWS       64u  /* of a block */
#define WARP_ROWS  4    /* products of 8 frames that a warp has side by side */
#define ROW_CHUNKS 16u  /* of 16 bytes in a segment of float32; half as many in one of binary16 */
#define SWEEP      8u   /* tiles of frames for each tile of outputs */
#define FULL_GRID  264u /* blocks that fill the device: 132 multiprocessors with two each */

/* Eight neighbouring inputs in binary16, as a lane of the split has them in two halves. */
struct __align__(16) many_eight
{
    uint2 half[2];
};

/* What a block has in shared memory. */
template <int PARTS, int PANELS> struct many_shared {
    uint4 weights[2][2 * PANELS][4 * PARTS * CUDA_WARP]; /* segments by turns; panels; (2 groups, 2, PARTS, lanes) */
    float4 x[ROWS][ROW_CHUNKS];
    struct many_eight hi[ROWS][ROW_CHUNKS / 2], lo[ROWS][ROW_CHUNKS / 2];
    float2 inverse[ROWS / 2]; /* of each row */
};

struct many_place {
    uint32_t panel, row; /* the block's first */
    uint32_t rows;       /* that there are */
};

__device__ static inline struct many_place many_find(uint32_t rows, uint32_t row_tiles, uint32_t out_tiles,
                                                     uint32_t panels)
{
    uint32_t sweep = blockIdx.x / (SWEEP * out_tiles), within = blockIdx.x % (SWEEP * out_tiles);
    uint32_t deep = min(SWEEP, row_tiles - sweep * SWEEP);
    struct many_place place = {within / deep * panels, (sweep * SWEEP + within % deep) * ROWS, rows};

    return place;
}

/* Chunks of a row, of x or of hi and lo, lie at their number ^ this. */
__device__ static inline uint32_t x_turn(uint32_t row)
{
    return (row & 1) << 2;
}

__device__ static inline uint32_t half_turn(uint32_t row)
{
    return (row & 1) << 2 | (row & 2);
}

template <int PARTS, int PANELS>
__device__ static inline void weights_copy(struct many_shared<PARTS, PANELS> *shared, const struct cuda_matrix *w,
                                           struct many_place place, uint32_t segment)
{
    const uint32_t chunk = 4 * PARTS * CUDA_WARP;
    uint32_t groups = matrix_groups(w), last = matrix_panels(w) - 1;
    uint32_t there = min(2u, groups - segment * 2) * 2 * PARTS * CUDA_WARP;

    for (uint32_t n = threadIdx.x; n < 2 * PANELS * chunk; n += THREADS) {
        uint32_t panel = n / chunk, i = n % chunk;

        if (i < there)
            cuda_copy<16>(
                &shared->weights[segment % 2][panel][i],
                w->tiles + ((size_t)min(place.panel + panel, last) * groups + segment * 2) * 2 * PARTS * CUDA_WARP + i,
                16);
    }
}

/* Zeros for frames and inputs that are not there. */
template <int PARTS, int PANELS>
__device__ static inline void x_copy(struct many_shared<PARTS, PANELS> *shared, const struct cuda_matrix *w,
                                     const struct cuda_product *p, bool vectors, struct many_place place,
                                     uint32_t segment)
{
    for (uint32_t n = threadIdx.x; n < ROWS * ROW_CHUNKS; n += THREADS) {
        uint32_t row = n / ROW_CHUNKS, chunk = n % ROW_CHUNKS, i = segment * MATRIX_SEGMENT + chunk * 4;
        uint32_t there = place.row + row < place.rows && i < w->in ? min(w->in - i, 4u) : 0;
        const float *from = there ? p->x + (place.row + row) * p->x_stride + i : p->x;
        float *to = reinterpret_cast<float *>(&shared->x[row][chunk ^ x_turn(row)]);

        if (vectors)
            cuda_copy<16>(to, from, there * 4);
        else
            for (uint32_t k = 0; k < 4; k++)
                cuda_copy<4>(to + k, k < there ? from + k : p->x, k < there ? 4 : 0);
    }
}

/* x to hi and lo, four lanes for a row: lane q of them has q, q + 4, q + 8, q + 12 of its chunks. */
template <int PARTS, int PANELS> __device__ static inline void x_split(struct many_shared<PARTS, PANELS> *shared)
{
    for (uint32_t row = threadIdx.x / 4; row < ROWS; row += THREADS / 4) {
        uint32_t q = threadIdx.x % 4, largest = 0, bits;
        float4 v[4];
        float scale;

#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            v[k] = shared->x[row][(k * 4 + q) ^ x_turn(row)];
            largest = max(largest, max(max(matrix_absolute(v[k].x), matrix_absolute(v[k].y)),
                                       max(matrix_absolute(v[k].z), matrix_absolute(v[k].w))));
        }
        bits = cuda_half_scale_bits(matrix_largest(largest));
        scale = __uint_as_float(bits);
#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            uint32_t chunk = (k * 2 + q / 2) ^ half_turn(row);
            uint2 hi, lo;

            cuda_half_split(v[k].x * scale, v[k].y * scale, &hi.x, &lo.x);
            cuda_half_split(v[k].z * scale, v[k].w * scale, &hi.y, &lo.y);
            shared->hi[row][chunk].half[q % 2] = hi;
            shared->lo[row][chunk].half[q % 2] = lo;
        }
        if (q == 0)
            (&shared->inverse[row / 2].x)[row % 2] = matrix_inverse(bits);
    }
}

__device__ static inline void words_take(uint32_t *to, struct many_eight from)
{
    to[0] = from.half[0].x;
    to[1] = from.half[0].y;
    to[2] = from.half[1].x;
    to[3] = from.half[1].y;
}

/* This warp's part of a segment: outputs from panel `panel` on, frames from `row` on, counted within the block. */
template <int PARTS, int PANELS>
__device__ static inline void segment_add(const struct many_shared<PARTS, PANELS> *shared, uint32_t segment,
                                          uint32_t groups, uint32_t panel, uint32_t row, float (*total)[WARP_ROWS][4])
{
    uint32_t lane = threadIdx.x % CUDA_WARP;
    float sum[PANELS][WARP_ROWS][4] = {};

#pragma unroll
    for (uint32_t g = 0; g < 2; g++) {
        struct matrix_x x[WARP_ROWS];

        if (g >= groups)
            break;
#pragma unroll
        for (uint32_t n = 0; n < WARP_ROWS; n++) {
            uint32_t r = row + n * MATRIX_ROWS + lane / 4, chunk = (g * 4 + lane % 4) ^ half_turn(r);

            words_take(x[n].hi, shared->hi[r][chunk]);
            words_take(x[n].lo, shared->lo[r][chunk]);
        }
#pragma unroll
        for (uint32_t m = 0; m < PANELS; m++) {
            uint4 a[2 * PARTS];

#pragma unroll
            for (uint32_t k = 0; k < 2 * PARTS; k++)
                a[k] = shared->weights[segment % 2][panel + m][(g * 2 * PARTS + k) * CUDA_WARP + lane];
            matrix_group<PARTS, WARP_ROWS>(sum[m], a, x);
        }
    }
#pragma unroll
    for (uint32_t n = 0; n < WARP_ROWS; n++) {
        float2 inverse = shared->inverse[(row + n * MATRIX_ROWS) / 2 + lane % 4];

#pragma unroll
        for (uint32_t m = 0; m < PANELS; m++)
#pragma unroll
            for (uint32_t k = 0; k < 4; k++)
                total[m][n][k] = matrix_total(total[m][n][k], sum[m][n][k], k % 2 ? inverse.y : inverse.x);
    }
}

/* Totals begin, or are put out: this lane's frames and outputs from (row, output) on. Output by output, so that its
 * scale is loaded once. */
template <int PANELS>
__device__ static inline void totals_start(const struct cuda_matrix *w, const struct cuda_product *p, uint32_t rows,
                                           uint32_t row, uint32_t output, float (*total)[WARP_ROWS][4])
{
#pragma unroll
    for (uint32_t m = 0; m < 2 * PANELS; m++) {
        uint32_t o = output + m * (MATRIX_PANEL / 2);
        float scale = o < w->out ? w->scale[o] : 0, start = o < w->out && !p->add ? matrix_start(p, o, scale) : 0;

#pragma unroll
        for (uint32_t n = 0; n < 2 * WARP_ROWS; n++) {
            uint32_t r = row + n / 2 * MATRIX_ROWS + n % 2;
            float *to = &total[m / 2][n / 2][m % 2 * 2 + n % 2];

            *to = start;
            if (p->add && r < rows && o < w->out)
                *to = p->y[r * p->y_stride + o] * scale;
        }
    }
}

template <int PANELS>
__device__ static inline void totals_store(const struct cuda_matrix *w, const struct cuda_product *p, uint32_t rows,
                                           uint32_t row, uint32_t output, float (*total)[WARP_ROWS][4])
{
#pragma unroll
    for (uint32_t m = 0; m < 2 * PANELS; m++) {
        uint32_t o = output + m * (MATRIX_PANEL / 2);
        float unit = o < w->out ? matrix_unit(w->scale[o]) : 0;

#pragma unroll
        for (uint32_t n = 0; n < 2 * WARP_ROWS; n++) {
            uint32_t r = row + n / 2 * MATRIX_ROWS + n % 2;

            if (r < rows && o < w->out)
                p->y[r * p->y_stride + o] = total[m / 2][n / 2][m % 2 * 2 + n % 2] * unit;
        }
    }
}

template <int PARTS, int PANELS>
__global__ __launch_bounds__(THREADS) static void many(struct cuda_matrix w, struct cuda_product p, bool vectors,
                                                       uint32_t row_tiles, uint32_t out_tiles)
{
    typedef struct many_shared<PARTS, PANELS> shared_type;
    struct many_place place = many_find(*p.count, row_tiles, out_tiles, 2 * PANELS);
    uint32_t warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP, segments = matrix_segments(&w);
    uint32_t panel = warp % 2 * PANELS, row = warp / 2 * WARP_ROWS * MATRIX_ROWS;
    uint32_t r = place.row + row + lane % 4 * 2, o = (place.panel + panel) * MATRIX_PANEL + lane / 4;
    float total[PANELS][WARP_ROWS][4];

    CUDA_SHARED(shared_type, shared);

    if (place.row >= place.rows)
        return;
    weights_copy(shared, &w, place, 0);
    x_copy(shared, &w, &p, vectors, place, 0);
    totals_start<PANELS>(&w, &p, place.rows, r, o, total);
    for (uint32_t s = 0; s < segments; s++) {
        cuda_copies_wait();
        __syncthreads();
        x_split(shared);
        __syncthreads();
        if (s + 1 < segments) {
            weights_copy(shared, &w, place, s + 1);
            x_copy(shared, &w, &p, vectors, place, s + 1);
        }
        segment_add(shared, s, matrix_groups(&w) - s * 2, panel, row, total);
    }
    totals_store<PANELS>(&w, &p, place.rows, r, o, total);
}

template <int PARTS, int PANELS>
static cudaError_t many_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    const size_t shared = sizeof(struct many_shared<PARTS, PANELS>);
    uint32_t row_tiles = cuda_blocks(p->room, ROWS), out_tiles = cuda_blocks(matrix_panels(w), 2 * PANELS);
    cudaError_t error = cudaFuncSetAttribute((const void *)many<PARTS, PANELS>,
                                             cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);

    if (error != cudaSuccess)
        return error;
    CUDA_LAUNCH((many<PARTS, PANELS>), dim3(row_tiles * out_tiles), dim3(THREADS), shared, stream, *w, *p,
                matrix_vectors(p), row_tiles, out_tiles);
    return cudaGetLastError();
}

template <int PARTS>
static cudaError_t many_choose(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    uint64_t wide = (uint64_t)cuda_blocks(w->out, 8 * MATRIX_PANEL) * cuda_blocks(p->room, ROWS);

    return wide >= FULL_GRID && w->out > 4 * MATRIX_PANEL ? many_launch<PARTS, 4>(w, p, stream)
                                                          : many_launch<PARTS, 2>(w, p, stream);
}

cudaError_t cuda_matrix_many(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    return w->parts == 1 ? many_choose<1>(w, p, stream) : many_choose<2>(w, p, stream);
}
