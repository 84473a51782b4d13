/* SPDX-License-Identifier: Apache-2.0
 *
 * The product for few rows: a stream of weights that passes once.
 *
 * A block has PANELS panels of 16 outputs and ROWS times 8 frames; its warps take one segment of the inputs each, at
 * once, straight from device memory into the registers that the matrix units read, x too. Then the sums of the segments
 * meet in shared memory, where each total is one thread's, in index order. Wider matrices take several rounds of that,
 * the next round's weights being under way meanwhile.
 *
 * SHAPES   as struct cuda_product; grid (panels / PANELS, rows / (8 ROWS)), a warp for each segment of a round.
 * BITS     cuda/matrix_tiles.cuh.
 * COST     2*parts*out*in bytes of weights for every 8*ROWS rows, which bound it: 2.4 MB, a matrix of 1536 x 768 of
 *          bfloat16, take 0.8 us at 3.0 TB/s. x is read by every block, from L2. */
#include "cuda/matrix_tiles.cuh"

/* Warps of a block, at most: so that the sums that wait in shared memory take 32 KiB, and 24 of the smallest. */
template <int PANELS, int ROWS> struct few_warps {
    static constexpr uint32_t most = PANELS * ROWS >= 4 ? 64 / (PANELS * ROWS) : 24;
};

/* This lane's eight inputs from i on of frame r, zeros where there are none. */
__device__ static inline void x_load(const struct cuda_product *p, bool vectors, uint32_t rows, uint32_t in, uint32_t r,
                                     uint32_t i, float *v)
{
    const float *x = p->x + r * p->x_stride + i;

    if (r < rows && vectors && i + 8 <= in) {
        float4 a = *reinterpret_cast<const float4 *>(x), b = *reinterpret_cast<const float4 *>(x + 4);

        v[0] = a.x;
        v[1] = a.y;
        v[2] = a.z;
        v[3] = a.w;
        v[4] = b.x;
        v[5] = b.y;
        v[6] = b.z;
        v[7] = b.w;
        return;
    }
#pragma unroll
    for (uint32_t n = 0; n < 8; n++)
        v[n] = r < rows && i + n < in ? x[n] : 0;
}

/* This lane's inputs of a segment of frame r, both groups, split; what the sum is to be multiplied by comes back. */
__device__ static inline float segment_split(const struct cuda_product *p, bool vectors, uint32_t rows, uint32_t in,
                                             uint32_t r, uint32_t i, struct matrix_x *x)
{
    float v[2][8], scale;
    uint32_t largest = 0, bits;

    x_load(p, vectors, rows, in, r, i, v[0]);
    x_load(p, vectors, rows, in, r, i + MATRIX_GROUP, v[1]);
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

/* The sums of this warp's segment to partial (PANELS, ROWS, 4, 32), and what a frame's are to be multiplied by to inverse
 * (8 ROWS). */
template <int PARTS, int PANELS, int ROWS>
__device__ static inline void segment_sum(const struct cuda_matrix *w, const struct cuda_product *p, bool vectors,
                                          uint32_t rows, uint32_t first, uint32_t segment, const uint4 *a,
                                          float *partial, float *inverse)
{
    uint32_t lane = threadIdx.x % CUDA_WARP, i = segment * MATRIX_SEGMENT + lane % 4 * 8;
    bool both = segment * 2 + 1 < matrix_groups(w);

#pragma unroll
    for (uint32_t n = 0; n < ROWS; n++) {
        struct matrix_x x[2];
        uint32_t r = n * MATRIX_ROWS + lane / 4;
        float factor = segment_split(p, vectors, rows, w->in, first + r, i, x);

        if (lane % 4 == 0)
            inverse[r] = factor;
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

/* Where element e of (PANELS, ROWS, 4, 32) belongs: frame and output, counted from the block's first. */
template <int ROWS> __device__ static inline uint32_t element_row(uint32_t e)
{
    return e / 128 % ROWS * MATRIX_ROWS + e % 4 * 2 + e / 32 % 2;
}

template <int ROWS> __device__ static inline uint32_t element_output(uint32_t e)
{
    return e / 128 / ROWS * MATRIX_PANEL + e % 32 / 4 + e / 64 % 2 * 8;
}

template <int PARTS, int PANELS, int ROWS>
__global__ __launch_bounds__(few_warps<PANELS, ROWS>::most *CUDA_WARP) static void few(struct cuda_matrix w,
                                                                                       struct cuda_product p,
                                                                                       bool vectors)
{
    const uint32_t size = PANELS * ROWS * 4 * CUDA_WARP, warps = blockDim.x / CUDA_WARP;
    uint32_t warp = threadIdx.x / CUDA_WARP, rows, first = blockIdx.y * ROWS * MATRIX_ROWS;
    uint32_t panel = blockIdx.x * PANELS, output = panel * MATRIX_PANEL, segments = matrix_segments(&w);
    uint4 a[PANELS * 4 * PARTS] = {};

    CUDA_SHARED(float, total);
    float *partial = total + size, *inverse = partial + warps * size;

    if (warp < segments)
        weights_load<PARTS, PANELS>(&w, panel, warp, a);
    cuda_wait_turn();
    rows = *p.count;
    if (first >= rows)
        return;
    for (uint32_t e = threadIdx.x; e < size; e += blockDim.x) {
        uint32_t r = first + element_row<ROWS>(e), o = output + element_output<ROWS>(e);

        total[e] = 0;
        if (r < rows && o < w.out)
            total[e] = p.add ? p.y[r * p.y_stride + o] * w.scale[o] : matrix_start(&p, o, w.scale[o]);
    }
    for (uint32_t s = 0; s < segments; s += warps) {
        if (s + warp < segments)
            segment_sum<PARTS, PANELS, ROWS>(&w, &p, vectors, rows, first, s + warp, a, partial + warp * size,
                                             inverse + warp * ROWS * MATRIX_ROWS);
        if (s + warps + warp < segments)
            weights_load<PARTS, PANELS>(&w, panel, s + warps + warp, a);
        __syncthreads();
        for (uint32_t e = threadIdx.x; e < size; e += blockDim.x) {
            uint32_t r = element_row<ROWS>(e);
            float sum = total[e];

            for (uint32_t n = 0; n < warps && s + n < segments; n++)
                sum = matrix_total(sum, partial[n * size + e], inverse[n * ROWS * MATRIX_ROWS + r]);
            total[e] = sum;
        }
        __syncthreads();
    }
    for (uint32_t e = threadIdx.x; e < size; e += blockDim.x) {
        uint32_t r = first + element_row<ROWS>(e), o = output + element_output<ROWS>(e);

        if (r < rows && o < w.out)
            p.y[r * p.y_stride + o] = total[e] * matrix_unit(w.scale[o]);
    }
}

template <int PARTS, int PANELS, int ROWS>
static cudaError_t few_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    uint32_t size = PANELS * ROWS * 4 * CUDA_WARP, segments = matrix_segments(w);
    uint32_t rounds = cuda_blocks(segments, few_warps<PANELS, ROWS>::most), warps = cuda_blocks(segments, rounds);
    size_t shared = (size + warps * (size + ROWS * MATRIX_ROWS)) * sizeof(float);
    dim3 grid(cuda_blocks(matrix_panels(w), PANELS), cuda_blocks(p->room, ROWS * MATRIX_ROWS));

    CUDA_LAUNCH_SOON((few<PARTS, PANELS, ROWS>), grid, dim3(warps * CUDA_WARP), shared, stream, *w, *p,
                     matrix_vectors(p));
    return cudaGetLastError();
}

template <int PARTS>
static cudaError_t few_choose(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    if (p->room <= MATRIX_ROWS)
        return few_launch<PARTS, 1, 1>(w, p, stream);
    if (p->room <= 2 * MATRIX_ROWS)
        return few_launch<PARTS, 1, 2>(w, p, stream);
    if (p->room <= 4 * MATRIX_ROWS)
        return few_launch<PARTS, 1, 4>(w, p, stream);
    return few_launch<PARTS, 2, 4>(w, p, stream);
}

cudaError_t cuda_matrix_few(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    return w->parts == 1 ? few_choose<1>(w, p, stream) : few_choose<2>(w, p, stream);
}
