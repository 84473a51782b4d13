/* SPDX-License-Identifier: Apache-2.0
 *
 * The product for many rows: tiles of outputs by frames that share what they read through shared memory.
 *
 * A block takes one tile after another, and goes over the segments of all of them as over one row of steps, so that the
 * next tile's first segments are under way while the last one's outputs are stored. In a step
 *
 *     weights   of two steps on come as they are packed, by copies beside the work, three steps deep
 *     x         of two steps on is requested into registers; that of the next step, which is there, is split, four lanes
 *               a frame, into the half of hi and lo that the units do not read
 *     products  of this step
 *
 * and one barrier ends it. Half of the warps split before their products and half behind them: so the matrix units and
 * the rest are busy at the same time. Weights of one segment that all tiles share are read once.
 *
 * Chunks of 16 bytes are permuted within a frame's row so that neither the split nor the reading of operands meets a
 * bank twice. Tiles go over some tiles of frames before they take the next outputs: so both the weights and x are read
 * from device memory about once.
 *
 * SHAPES   as struct cuda_product; grid one-dimensional, blocks at the same time, (8 tiles of frames) inside (tiles of
 *          outputs) inside groups.
 * BITS     cuda/matrix_tiles.cuh.
 * COST     4*rows*out*in flops of binary16 with one part, 6 with two: at 600 TFLOP/s, which mma.sync reaches, a floor of
 *          150 or 100 TFLOP/s of the product's own 2*rows*out*in. A segment of the largest tile takes 1640 clocks of the
 *          units and 1660 of shared memory. Narrow products are bound by 4*rows*(in + out) bytes. */
#include "cuda/matrix_tiles.cuh"

#define MULTIPROCESSORS 132u
#define HALF_GRID       66u /* blocks: half of them; smaller tiles would cost as much as the idle half */
#define STAGES          3u  /* steps that weights are there for */
#define CHUNKS          8u  /* of 16 bytes in a segment of binary16 */
#define SWEEP           8u  /* tiles of frames for each tile of outputs */

/* A tile: WIDE by HIGH warps, each of PANELS panels by FRAMES products of 8 frames; a multiprocessor holds BLOCKS. */
template <int PARTS, int PANELS, int FRAMES, int WIDE, int HIGH, int BLOCKS> struct many_form {
    static constexpr int parts = PARTS, panels = PANELS, frames = FRAMES, blocks = BLOCKS;
    static constexpr uint32_t wide = WIDE, high = HIGH, threads = WIDE * HIGH * CUDA_WARP;
    static constexpr uint32_t block_panels = WIDE * PANELS, rows = HIGH * FRAMES * MATRIX_ROWS;
    static constexpr uint32_t splits = rows * 4 / threads; /* rows that four lanes split */
    static constexpr uint32_t chunk = 4 * PARTS * CUDA_WARP; /* uint4 of a panel's segment */
    static constexpr int tiles = PANELS * FRAMES;
};

/* Eight neighbouring inputs in binary16, as a lane of the split has them in two halves. */
struct __align__(16) many_eight {
    uint2 half[2];
};

/* What a block has in shared memory. */
template <typename F> struct many_shared {
    uint4 weights[STAGES][F::block_panels][F::chunk]; /* of a panel (2 groups, 2, PARTS, lanes) */
    struct many_eight hi[2][F::rows][CHUNKS], lo[2][F::rows][CHUNKS]; /* steps by turns */
    float2 inverse[2][F::rows / 2];                                   /* of each row */
};

/* Tiles side by side: of outputs, of so many frames. */
template <typename F> __device__ static inline uint32_t tiles_wide(const struct cuda_matrix *w)
{
    return (matrix_panels(w) + F::block_panels - 1) / F::block_panels;
}

template <typename F> __device__ static inline uint32_t tiles_high(uint32_t rows)
{
    return (rows + F::rows - 1) / F::rows;
}

/* A step: where it is. */
struct many_step {
    uint32_t tile, segment;
    uint32_t panel, row; /* the tile's first */
};

template <typename F>
__device__ static inline void step_find(const struct cuda_matrix *w, uint32_t rows, struct many_step *step)
{
    uint32_t wide = tiles_wide<F>(w), sweep = step->tile / (SWEEP * wide), within = step->tile % (SWEEP * wide);
    uint32_t last = tiles_high<F>(rows) - 1, deep = min(SWEEP, last + 1 - min(last, sweep * SWEEP));

    step->panel = within / deep * F::block_panels;
    step->row = (sweep * SWEEP + within % deep) * F::rows;
}

/* The step behind it, which may be none: of a tile beyond the last. */
template <typename F>
__device__ static inline struct many_step step_next(const struct cuda_matrix *w, uint32_t rows, struct many_step step)
{
    if (++step.segment == matrix_segments(w)) {
        step.segment = 0;
        step.tile += gridDim.x;
        step_find<F>(w, rows, &step);
    }
    return step;
}

/* Where chunk c of a row of hi and lo lies. */
__device__ static inline uint32_t chunk_place(uint32_t row, uint32_t c)
{
    return c ^ ((row & 1) << 2 | (row & 2));
}

template <typename F>
__device__ static inline void weights_copy(struct many_shared<F> *shared, const struct cuda_matrix *w,
                                           struct many_step step, uint32_t stage)
{
    uint32_t groups = matrix_groups(w), last = matrix_panels(w) - 1;
    uint32_t there = min(2u, groups - step.segment * 2) * 2 * F::parts * CUDA_WARP;

#pragma unroll
    for (uint32_t n = 0; n < F::block_panels * F::chunk; n += F::threads) {
        uint32_t panel = (n + threadIdx.x) / F::chunk, i = (n + threadIdx.x) % F::chunk;
        size_t tile = (size_t)min(step.panel + panel, last) * groups + step.segment * 2;

        if (i < there)
            cuda_copy(&shared->weights[stage][panel][i], w->tiles + tile * 2 * F::parts * CUDA_WARP + i);
    }
}

/* Four inputs from i on. */
__device__ static inline float4 four_load(const float *x, bool there, uint32_t i, uint32_t in)
{
    return make_float4(there && i < in ? __ldg(x) : 0, there && i + 1 < in ? __ldg(x + 1) : 0,
                       there && i + 2 < in ? __ldg(x + 2) : 0, there && i + 3 < in ? __ldg(x + 3) : 0);
}

/* This thread's inputs of a step: of its rows, lane q of four has chunks q, q + 4, q + 8, q + 12 of four floats. Zeros
 * for frames and inputs that are not there. */
template <typename F>
__device__ static inline void x_load(const struct cuda_matrix *w, const struct cuda_product *p, bool vectors,
                                     uint32_t rows, struct many_step step, float4 (*v)[4])
{
    uint32_t i = step.segment * MATRIX_SEGMENT + threadIdx.x % 4 * 4, r = step.row + threadIdx.x / 4;
    const float *x = p->x + r * p->x_stride + i;

#pragma unroll
    for (uint32_t n = 0; n < F::splits; n++, r += F::threads / 4, x += F::threads / 4 * p->x_stride)
        if (vectors)
#pragma unroll
            for (uint32_t k = 0; k < 4; k++) {
                v[n][k] = make_float4(0, 0, 0, 0);
                if (r < rows && i + k * 16 < w->in)
                    v[n][k] = __ldg(reinterpret_cast<const float4 *>(x + k * 16));
            }
        else
#pragma unroll
            for (uint32_t k = 0; k < 4; k++)
                v[n][k] = four_load(x + k * 16, r < rows, i + k * 16, w->in);
}

/* Those to hi and lo. */
template <typename F>
__device__ static inline void x_split(struct many_shared<F> *shared, uint32_t turn, const float4 (*v)[4])
{
    uint32_t q = threadIdx.x % 4;

#pragma unroll
    for (uint32_t n = 0; n < F::splits; n++) {
        uint32_t row = n * (F::threads / 4) + threadIdx.x / 4, largest = 0, bits;
        float scale;

#pragma unroll
        for (uint32_t k = 0; k < 4; k++)
            largest = max(largest, max(max(matrix_absolute(v[n][k].x), matrix_absolute(v[n][k].y)),
                                       max(matrix_absolute(v[n][k].z), matrix_absolute(v[n][k].w))));
        bits = cuda_half_scale_bits(matrix_largest(largest));
        scale = __uint_as_float(bits);
#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            uint32_t c = chunk_place(row, k * 2 + q / 2);
            uint2 hi, lo;

            cuda_half_split(v[n][k].x * scale, v[n][k].y * scale, &hi.x, &lo.x);
            cuda_half_split(v[n][k].z * scale, v[n][k].w * scale, &hi.y, &lo.y);
            shared->hi[turn][row][c].half[q % 2] = hi;
            shared->lo[turn][row][c].half[q % 2] = lo;
        }
        if (q == 0)
            (&shared->inverse[turn][row / 2].x)[row % 2] = matrix_inverse(bits);
    }
}

__device__ static inline void words_take(uint32_t *to, struct many_eight from)
{
    to[0] = from.half[0].x;
    to[1] = from.half[0].y;
    to[2] = from.half[1].x;
    to[3] = from.half[1].y;
}

/* This warp's part of a step: outputs from panel `panel` on, frames from `row` on, counted within the tile. */
template <typename F>
__device__ static inline void segment_add(const struct many_shared<F> *shared, uint32_t stage, uint32_t turn,
                                          uint32_t groups, uint32_t panel, uint32_t row, float (*total)[4])
{
    uint32_t lane = threadIdx.x % CUDA_WARP;
    float sum[F::tiles][4] = {};

#pragma unroll
    for (uint32_t g = 0; g < 2; g++) {
        struct matrix_x x[F::frames];

        if (g >= groups)
            break;
#pragma unroll
        for (uint32_t n = 0; n < F::frames; n++) {
            uint32_t r = row + n * MATRIX_ROWS + lane / 4, c = chunk_place(r, g * 4 + lane % 4);

            words_take(x[n].hi, shared->hi[turn][r][c]);
            words_take(x[n].lo, shared->lo[turn][r][c]);
        }
#pragma unroll
        for (uint32_t m = 0; m < F::panels; m++) {
            uint4 a[2 * F::parts];

#pragma unroll
            for (uint32_t k = 0; k < 2 * F::parts; k++)
                a[k] = shared->weights[stage][panel + m][(g * 2 * F::parts + k) * CUDA_WARP + lane];
            matrix_group<F::parts, F::frames>(sum + m * F::frames, a, x);
        }
    }
#pragma unroll
    for (uint32_t n = 0; n < F::frames; n++) {
        float2 inverse = shared->inverse[turn][(row + n * MATRIX_ROWS) / 2 + lane % 4];

#pragma unroll
        for (uint32_t m = 0; m < F::panels; m++)
#pragma unroll
            for (uint32_t k = 0; k < 4; k++)
                total[m * F::frames + n][k] =
                    matrix_total(total[m * F::frames + n][k], sum[m * F::frames + n][k], k % 2 ? inverse.y : inverse.x);
    }
}

/* ---- totals: of panel m and product n number m FRAMES + n; this lane's pair i + 8 m, frames r + 8 n and the next -- */

/* What y has is scaled, or else one start for all frames. */
template <typename F>
__device__ static inline void totals_start(const struct cuda_matrix *w, const struct cuda_product *p, uint32_t rows,
                                           uint32_t r, uint32_t i, float (*total)[4])
{
#pragma unroll
    for (uint32_t m = 0; m < F::panels; m++, i += MATRIX_PAIRS) {
        struct matrix_pair scale = {1, 1}, start = {0, 0};

        if (matrix_low(w, i))
            scale = matrix_scale(w, i);
        if (!p->add)
            start = matrix_start(w, p, 0, i);
#pragma unroll
        for (uint32_t n = 0; n < 2 * F::frames; n++) {
            if (p->add && r + n / 2 * MATRIX_ROWS + n % 2 < rows)
                start = matrix_start(w, p, r + n / 2 * MATRIX_ROWS + n % 2, i);
            total[m * F::frames + n / 2][n % 2] = start.low * scale.low;
            total[m * F::frames + n / 2][n % 2 + 2] = start.high * scale.high;
        }
    }
}

/* Totals become outputs. What is done to those is compiled for two products, which all pass in turn: 64 outputs times
 * seven functions would be most of the kernel. */
template <typename F>
__device__ static inline void totals_finish(const struct cuda_matrix *w, const struct cuda_product *p, uint32_t i,
                                            float (*total)[4])
{
#pragma unroll
    for (uint32_t m = 0; m < F::panels; m++, i += MATRIX_PAIRS) {
        struct matrix_pair scale = {1, 1};

        if (matrix_low(w, i))
            scale = matrix_scale(w, i);
#pragma unroll
        for (uint32_t e = 0; e < 4 * F::frames; e++)
            total[m * F::frames + e / 4][e % 4] =
                matrix_output(total[m * F::frames + e / 4][e % 4], e % 4 / 2 ? scale.high : scale.low);
    }
    if (!matrix_changes(p))
        return;
#pragma unroll 1
    for (uint32_t turn = 0; turn < F::tiles; turn += 2) {
        float first[2][4];

#pragma unroll
        for (uint32_t e = 0; e < 4; e++) {
            matrix_change(p, &total[e / 2][e % 2], &total[e / 2][e % 2 + 2]);
            first[e / 2][e % 2] = total[e / 2][e % 2];
            first[e / 2][e % 2 + 2] = total[e / 2][e % 2 + 2];
        }
#pragma unroll
        for (uint32_t e = 0; e < 4 * F::tiles; e++)
            total[e / 4][e % 4] = e / 4 + 2 < F::tiles ? total[e / 4 + 2][e % 4] : first[e / 4 + 2 - F::tiles][e % 4];
    }
}

template <typename F>
__device__ static inline void totals_store(const struct cuda_matrix *w, const struct cuda_product *p, uint32_t rows,
                                           uint32_t r, uint32_t i, float (*total)[4])
{
    uint32_t half = matrix_half(w);

#pragma unroll
    for (uint32_t m = 0; m < F::panels; m++, i += MATRIX_PAIRS) {
        bool low = matrix_low(w, i), high = matrix_high(w, i) && !p->glu;

        if (p->residual)
#pragma unroll
            for (uint32_t n = 0; n < 2 * F::frames; n++) {
                uint32_t row = r + n / 2 * MATRIX_ROWS + n % 2;
                const float *from = p->residual + row * p->residual_stride + i;
                float *tile = total[m * F::frames + n / 2] + n % 2;

                tile[0] = tile[0] + (row < rows && low ? __ldg(from) : 0);
                tile[2] = tile[2] + (row < rows && high ? __ldg(from + half) : 0);
            }
#pragma unroll
        for (uint32_t n = 0; n < 2 * F::frames; n++) {
            uint32_t row = r + n / 2 * MATRIX_ROWS + n % 2;
            float *to = p->y + row * p->y_stride + i;

            if (row < rows && low)
                to[0] = total[m * F::frames + n / 2][n % 2];
            if (row < rows && high)
                to[half] = total[m * F::frames + n / 2][n % 2 + 2];
        }
    }
}

/* ---- the kernel -------------------------------------------------------------------------------------------------- */

template <typename F>
__global__ __launch_bounds__(F::threads, F::blocks) static void many(struct cuda_matrix w, struct cuda_product p,
                                                                     bool vectors)
{
    typedef struct many_shared<F> shared_type;
    uint32_t rows = *p.count, tiles = tiles_wide<F>(&w) * tiles_high<F>(rows);
    bool kept = matrix_segments(&w) == 1 && tiles_wide<F>(&w) == 1; /* one segment of weights serves all tiles */
    struct many_step now = {blockIdx.x, 0, 0, 0}, ahead; /* ahead: two steps */
    uint32_t warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP;
    uint32_t panel = warp % F::wide * F::panels, row = warp / F::wide * F::frames * MATRIX_ROWS;
    bool early = warp < F::wide * F::high / 2;
    float total[F::tiles][4];
    float4 v[F::splits][4];

    CUDA_SHARED(shared_type, shared);

    if (now.tile >= tiles)
        return;
    step_find<F>(&w, rows, &now);
    ahead = step_next<F>(&w, rows, now);
    x_load<F>(&w, &p, vectors, rows, now, v);
    weights_copy<F>(shared, &w, now, 0);
    cuda_copies_end();
    if (ahead.tile < tiles && !kept)
        weights_copy<F>(shared, &w, ahead, 1);
    cuda_copies_end();
    x_split<F>(shared, 0, v);
    if (ahead.tile < tiles)
        x_load<F>(&w, &p, vectors, rows, ahead, v);
    ahead = step_next<F>(&w, rows, ahead);
    for (uint32_t number = 0; now.tile < tiles; number++) {
        uint32_t stage = kept ? 0 : number % STAGES, turn = number % 2;
        uint32_t r = now.row + row + lane % 4 * 2, i = (now.panel + panel) * MATRIX_PAIRS + lane / 4;
        bool last = now.segment + 1 == matrix_segments(&w), more = now.tile + (last ? gridDim.x : 0) < tiles;

        cuda_copies_wait<1>();
        __syncthreads();
        if (ahead.tile < tiles && !kept)
            weights_copy<F>(shared, &w, ahead, (number + 2) % STAGES);
        cuda_copies_end();
        if (now.segment == 0)
            totals_start<F>(&w, &p, rows, r, i, total);
        for (uint32_t half = 0; half < 2; half++) {
            if ((half == 0) != early) {
                segment_add<F>(shared, stage, turn, matrix_groups(&w) - now.segment * 2, panel, row, total);
                continue;
            }
            if (more)
                x_split<F>(shared, turn ^ 1, v);
            if (ahead.tile < tiles)
                x_load<F>(&w, &p, vectors, rows, ahead, v);
        }
        if (last) {
            totals_finish<F>(&w, &p, i, total);
            totals_store<F>(&w, &p, rows, r, i, total);
        }
        now = step_next<F>(&w, rows, now);
        ahead = step_next<F>(&w, rows, ahead);
    }
}

/* Tiles that there are at most. */
template <typename F> static uint64_t many_tiles_room(const struct cuda_matrix *w, const struct cuda_product *p)
{
    return (uint64_t)cuda_blocks(matrix_panels(w), F::block_panels) * cuda_blocks(p->room, F::rows);
}

template <typename F>
static cudaError_t many_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    const size_t shared = sizeof(struct many_shared<F>);
    uint64_t tiles = many_tiles_room<F>(w, p);
    uint32_t most = MULTIPROCESSORS * F::blocks, blocks = tiles < most ? (uint32_t)tiles : most;
    cudaError_t error =
        cudaFuncSetAttribute((const void *)many<F>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);

    if (error != cudaSuccess)
        return error;
    CUDA_LAUNCH((many<F>), dim3(blocks), dim3(F::threads), shared, stream, *w, *p, matrix_vectors(w, p));
    return cudaGetLastError();
}

/* Tiles of outputs by frames: 128 x 128, with two parts, whose weights take registers, 128 x 64; 64 x 64; 64 x 32. */
template <int PARTS>
static cudaError_t many_choose(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    typedef many_form<PARTS, 4, PARTS == 1 ? 4 : 2, 2, 4, 1> large;
    typedef many_form<PARTS, 2, 4, 2, 2, PARTS == 1 ? 3 : 2> middle;
    typedef many_form<PARTS, 2, 2, 2, 2, PARTS == 1 ? 4 : 3> small;

    if (w->out > 64 && many_tiles_room<large>(w, p) >= HALF_GRID) {
        cudaError_t error = many_launch<large>(w, p, stream);

        if (error != cudaErrorInvalidValue)
            return error;
        (void)cudaGetLastError(); /* a device with less shared memory */
    }
    if (many_tiles_room<middle>(w, p) >= HALF_GRID)
        return many_launch<middle>(w, p, stream);
    return many_launch<small>(w, p, stream);
}

cudaError_t cuda_matrix_many(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    return w->parts == 1 ? many_choose<1>(w, p, stream) : many_choose<2>(w, p, stream);
}
