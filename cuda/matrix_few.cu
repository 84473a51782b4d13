/* SPDX-License-Identifier: Apache-2.0
 *
 * The product for few rows: a stream of weights that passes once.
 *
 * A block has PANELS panels of 16 outputs and ROWS times 8 frames; its warps take one segment of the inputs each, at
 * once, straight from device memory into the registers that the matrix units read, x too. Then the sums of the segments
 * meet in shared memory, and a thread adds them to the totals that it has, in index order. Wider matrices take several
 * rounds of that, the next round's weights being under way meanwhile.
 *
 * SHAPES   as struct cuda_product; grid (panels / PANELS, rows / (8 ROWS)), a warp for each segment of a round.
 * BITS     cuda/matrix_tiles.cuh.
 * COST     2*parts*out*in bytes of weights for every 8*ROWS rows, which bound it: 2.4 MB, a matrix of 1536 x 768 of
 *          bfloat16, take 0.8 us at 3.0 TB/s. x is read by every block, from L2. */
#include "cuda/matrix_tiles.cuh"

#define PAIRS     2u   /* of outputs that a thread has, at most */
#define FULL_GRID 128u /* blocks for about all multiprocessors */

/* Warps of a block, at most: so that registers suffice for all that is under way at once. */
template <int PARTS, int PANELS, int ROWS> struct few_warps {
    static constexpr uint32_t size = PARTS * PANELS * ROWS, most = size >= 8 ? 8 : size >= 4 ? 12 : size == 2 ? 16 : 24;
};

/* This lane's eight inputs from i on of frame r, zeros where there are none. */
__device__ static inline void x_load(const struct cuda_product *p, bool there, uint32_t in, size_t r, uint32_t i,
                                     float *v)
{
    const float *x = p->x + r * p->x_stride + i;

#pragma unroll
    for (uint32_t n = 0; n < 8; n++)
        v[n] = there && i + n < in ? __ldcg(x + n) : 0;
}

/* The same, four at a time. */
__device__ static inline void x_load_vectors(const struct cuda_product *p, bool there, uint32_t in, size_t r, uint32_t i,
                                             float *v)
{
    const float4 *x = reinterpret_cast<const float4 *>(p->x + r * p->x_stride + i);

#pragma unroll
    for (uint32_t n = 0; n < 2; n++) {
        float4 a = make_float4(0, 0, 0, 0);

        if (there && i + n * 4 < in)
            a = __ldcg(x + n);
        v[n * 4] = a.x;
        v[n * 4 + 1] = a.y;
        v[n * 4 + 2] = a.z;
        v[n * 4 + 3] = a.w;
    }
}

/* This lane's inputs of a segment of a frame, both groups, to hi and lo; what the sum is to be multiplied by returns. */
__device__ static inline float x_split(const float (*v)[8], struct matrix_x *x)
{
    float scale;
    uint32_t largest = 0, bits;

#pragma unroll
    for (int n = 0; n < 16; n++)
        largest = max(largest, matrix_absolute(v[n / 8][n % 8]));
    bits = cuda_half_scale_bits(matrix_largest(largest));
    scale = __uint_as_float(bits);
#pragma unroll
    for (int n = 0; n < 8; n++)
        cuda_half_split(v[n / 4][n % 4 * 2] * scale, v[n / 4][n % 4 * 2 + 1] * scale, &x[n / 4].hi[n % 4],
                        &x[n / 4].lo[n % 4]);
    return matrix_inverse(bits);
}

/* This lane's weights of a segment of each panel: (PANELS, 2 groups, 2, PARTS), zeros in a group that is not there. */
template <int PARTS, int PANELS>
__device__ static inline void weights_load(const struct cuda_matrix *w, uint32_t panel, uint32_t segment, uint4 *a)
{
    uint32_t groups = matrix_groups(w), last = matrix_panels(w) - 1;

#pragma unroll
    for (uint32_t n = 0; n < PANELS; n++) {
        const uint4 *tiles = w->tiles + ((size_t)min(panel + n, last) * groups + segment * 2) * 2 * PARTS * CUDA_WARP;

#pragma unroll
        for (uint32_t k = 0; k < 4 * PARTS; k++)
            if (segment * 2 + k / (2 * PARTS) < groups)
                a[n * 4 * PARTS + k] = __ldg(tiles + k * CUDA_WARP + threadIdx.x % CUDA_WARP);
    }
}

/* This lane's inputs of a segment of each frame: (ROWS, 2 groups, 8). */
template <int ROWS>
__device__ static inline void segment_load(const struct cuda_matrix *w, const struct cuda_product *p, bool vectors,
                                           uint32_t rows, uint32_t first, uint32_t segment, float (*v)[2][8])
{
    uint32_t lane = threadIdx.x % CUDA_WARP, i = segment * MATRIX_SEGMENT + lane % 4 * 8, r = first + lane / 4;

    if (vectors)
#pragma unroll
        for (uint32_t n = 0; n < 2 * ROWS; n++, r += n % 2 ? 0 : MATRIX_ROWS)
            x_load_vectors(p, r < rows, w->in, r, i + n % 2 * MATRIX_GROUP, v[n / 2][n % 2]);
    else
#pragma unroll
        for (uint32_t n = 0; n < 2 * ROWS; n++, r += n % 2 ? 0 : MATRIX_ROWS)
            x_load(p, r < rows, w->in, r, i + n % 2 * MATRIX_GROUP, v[n / 2][n % 2]);
}

/* The sums of this warp's segment to partial (PANELS, ROWS, 4, 32), and what to multiply them by to inverse (8 ROWS). */
template <int PARTS, int PANELS, int ROWS>
__device__ static inline void segment_sum(bool both, const uint4 *a, const float (*v)[2][8], float *partial,
                                          float *inverse)
{
    uint32_t lane = threadIdx.x % CUDA_WARP;

#pragma unroll
    for (uint32_t n = 0; n < ROWS; n++) {
        struct matrix_x x[2];
        float factor = x_split(v[n], x);

        if (lane % 4 == 0)
            inverse[n * MATRIX_ROWS + lane / 4] = factor;
#pragma unroll
        for (uint32_t m = 0; m < PANELS; m++) {
            float sum[1][4] = {{0, 0, 0, 0}};

            matrix_group<PARTS, 1>(sum, a + m * 4 * PARTS, &x[0]);
            if (both)
                matrix_group<PARTS, 1>(sum, a + (m * 4 + 2) * PARTS, &x[1]);
#pragma unroll
            for (uint32_t k = 0; k < 4; k++)
                partial[((m * ROWS + n) * 4 + k) * CUDA_WARP + lane] = sum[0][k];
        }
    }
}

/* A pair of outputs of a frame, which is one thread's: number e of (PANELS, ROWS, 2, 32). */
struct few_pair {
    uint32_t row, i; /* row: counted from the block's first */
    uint32_t at;     /* of its low one in a partial; its high one is 64 behind */
};

template <int ROWS> __device__ static inline struct few_pair pair_find(uint32_t e, uint32_t panel)
{
    uint32_t tile = e / 64, lane = e % CUDA_WARP, k = e / CUDA_WARP % 2;

    return {tile % ROWS * MATRIX_ROWS + lane % 4 * 2 + k, (panel + tile / ROWS) * MATRIX_PAIRS + lane / 4,
            tile * 128 + k * CUDA_WARP + lane};
}

/* A round's sums of `n` segments to a pair's totals. */
__device__ static inline void pair_add(const float *partial, const float *inverse, uint32_t size, uint32_t frames,
                                       uint32_t n, struct few_pair at, struct matrix_pair *total)
{
#pragma unroll 8
    for (uint32_t s = 0; s < n; s++) {
        float factor = inverse[s * frames + at.row];

        total->low = matrix_total(total->low, partial[s * size + at.at], factor);
        total->high = matrix_total(total->high, partial[s * size + at.at + 64], factor);
    }
}

__device__ static inline void pair_store(const struct cuda_matrix *w, const struct cuda_product *p, size_t r, uint32_t i,
                                         struct matrix_pair scale, struct matrix_pair total)
{
    float low = matrix_output(total.low, scale.low), high = matrix_output(total.high, scale.high);
    const float *residual = p->residual + (p->residual ? r * p->residual_stride + i : 0);
    float *y = p->y + r * p->y_stride + i;
    bool two = matrix_high(w, i) && !p->glu;

    matrix_change(p, &low, &high);
    if (p->residual) {
        low = low + __ldcg(residual);
        high = two ? high + __ldcg(residual + matrix_half(w)) : high;
    }
    y[0] = low;
    if (two)
        y[matrix_half(w)] = high;
}

/* Weights, x and starts are requested before any of them is used; the first need not wait for the count. */
template <int PARTS, int PANELS, int ROWS>
__global__ __launch_bounds__(few_warps<PARTS, PANELS, ROWS>::most *CUDA_WARP) static void few(struct cuda_matrix w,
                                                                                              struct cuda_product p,
                                                                                              bool vectors)
{
    const uint32_t size = PANELS * ROWS * 4 * CUDA_WARP, frames = ROWS * MATRIX_ROWS;
    uint32_t warp = threadIdx.x / CUDA_WARP, warps = blockDim.x / CUDA_WARP, first = blockIdx.y * frames, rows;
    uint32_t panel = blockIdx.x * PANELS, segments = matrix_segments(&w);
    uint4 a[PANELS * 4 * PARTS] = {};
    struct matrix_pair total[PAIRS] = {}, scale[PAIRS] = {};
    float v[ROWS][2][8];

    CUDA_SHARED(float, partial);
    float *inverse = partial + warps * size;

    if (warp < segments)
        weights_load<PARTS, PANELS>(&w, panel, warp, a);
    cuda_wait_turn();
    rows = *p.count;
    if (first >= rows)
        return;
    if (warp < segments)
        segment_load<ROWS>(&w, &p, vectors, rows, first, warp, v);
#pragma unroll
    for (uint32_t n = 0; n < PAIRS; n++) {
        uint32_t e = threadIdx.x + n * blockDim.x;
        struct few_pair at = pair_find<ROWS>(e, panel);

        if (e < size / 2 && first + at.row < rows && matrix_low(&w, at.i)) {
            total[n] = matrix_start(&w, &p, first + at.row, at.i);
            scale[n] = matrix_scale(&w, at.i);
        }
    }
    for (uint32_t s = 0; s < segments; s += warps) {
        if (s > 0 && s + warp < segments)
            segment_load<ROWS>(&w, &p, vectors, rows, first, s + warp, v);
        if (s + warp < segments)
            segment_sum<PARTS, PANELS, ROWS>((s + warp) * 2 + 1 < matrix_groups(&w), a, v, partial + warp * size,
                                             inverse + warp * frames);
        if (s + warps + warp < segments)
            weights_load<PARTS, PANELS>(&w, panel, s + warps + warp, a);
        __syncthreads();
#pragma unroll
        for (uint32_t n = 0; n < PAIRS; n++) {
            uint32_t e = threadIdx.x + n * blockDim.x;

            if (s == 0)
                total[n] = {total[n].low * scale[n].low, total[n].high * scale[n].high};
            if (e < size / 2)
                pair_add(partial, inverse, size, frames, min(warps, segments - s), pair_find<ROWS>(e, panel), &total[n]);
        }
        if (s + warps < segments)
            __syncthreads();
    }
#pragma unroll 1
    for (uint32_t n = 0; n < PAIRS; n++) {
        uint32_t e = threadIdx.x + n * blockDim.x;
        struct few_pair at = pair_find<ROWS>(e, panel);

        if (e < size / 2 && first + at.row < rows && matrix_low(&w, at.i))
            pair_store(&w, &p, first + at.row, at.i, n ? scale[1] : scale[0], n ? total[1] : total[0]);
    }
}

template <int PARTS, int PANELS, int ROWS>
static cudaError_t few_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    const uint32_t size = PANELS * ROWS * 4 * CUDA_WARP, least = size / 2 / PAIRS / CUDA_WARP;
    uint32_t segments = matrix_segments(w), rounds = cuda_blocks(segments, few_warps<PARTS, PANELS, ROWS>::most);
    uint32_t warps = cuda_blocks(segments, rounds);
    dim3 grid(cuda_blocks(matrix_panels(w), PANELS), cuda_blocks(p->room, ROWS * MATRIX_ROWS));

    warps = warps < least ? least : warps;
    CUDA_LAUNCH_SOON((few<PARTS, PANELS, ROWS>), grid, dim3(warps * CUDA_WARP),
                     warps * (size + ROWS * MATRIX_ROWS) * sizeof(float), stream, *w, *p, matrix_vectors(w, p));
    return cudaGetLastError();
}

/* As many frames a block as there are, so that weights pass once, but blocks enough for most multiprocessors. */
template <int PARTS>
static cudaError_t few_choose(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    uint64_t panels = matrix_panels(w), room = p->room;

    if (room > 4 * MATRIX_ROWS && panels / 2 * cuda_blocks(room, 4 * MATRIX_ROWS) >= FULL_GRID)
        return few_launch<PARTS, 2, 4>(w, p, stream);
    if (room > 2 * MATRIX_ROWS && panels * cuda_blocks(room, 4 * MATRIX_ROWS) >= FULL_GRID)
        return few_launch<PARTS, 1, 4>(w, p, stream);
    if (room > MATRIX_ROWS && panels * cuda_blocks(room, 2 * MATRIX_ROWS) >= FULL_GRID)
        return few_launch<PARTS, 1, 2>(w, p, stream);
    return few_launch<PARTS, 1, 1>(w, p, stream);
}

cudaError_t cuda_matrix_few(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    return w->parts == 1 ? few_choose<1>(w, p, stream) : few_choose<2>(w, p, stream);
}
