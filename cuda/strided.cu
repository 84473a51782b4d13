/* SPDX-License-Identifier: Apache-2.0
 *
 * conv1d, conv_transpose1d, downsample, upsample: a window that moves on by a stride (ssm/layers/strided.h).
 *
 * A place of the window is a row of a product, W x window + bias. Its frames lie in the activations, those before the
 * row's first one in the state; one after another, oldest first, with nothing between them if the dilation is 1. So no
 * window is laid out anywhere: blocks fetch them from where they are, straight into what the matrix units read. Laid out
 * they would be kernel/stride times the input, written and read once more.
 *
 * The arithmetic is that of cuda/matrix_tiles.cuh. A block takes 8 ROWS places by up to 128 outputs: each of its warps
 * has one segment of the window for one panel of outputs; the sums of segments meet in shared memory. All loads are in
 * flight at once, so that with one row, of which slow layers see a place or two, time is a few latencies and not one
 * for each step of a long sum.
 *
 * The last frames of a row become its past, which other places of the row may still be reading. Only its first places
 * read there, at most ceil(past / stride) of them, and nothing that is written is in the way of who reads activations
 * alone. So all of those belong to the block that the row's first place falls in, also those behind its nominal end,
 * where the next one leaves them out; behind a barrier that block moves the past on. Rows without a place, of which
 * nobody reads the past, are moved by blocks of their own (the last of grid.y). Where a block does not hold all outputs
 * of its places, or the past is too long, a launch of its own moves it.
 *
 * When every channel is a group of its own (depthwise) there is nothing to share, and a thread sums one or four channels
 * of a place by itself.
 *
 * SHAPES   P places, C = in/groups, K = kernel * C, N = phases * out/groups;  x (frames, in), y (P, phases * out), a
 *          matrix (N, K) for each group, taps (kernel, in), bias (phases * out), state (past, in).
 * BITS     cuda/matrix_tiles.cuh, a window's powers of two its own; depthwise one chain of fused products over the
 *          window, oldest frame first, beginning with the bias.
 * COST     2*P*N*K*groups flops, three times on the matrix units; x read once, from the cache what a block has read as
 *          another place's; y written, the state read and written; the weights read once by every block. The layers of
 *          a denoiser (64 channels to 64, kernel 4, stride 2): 768 bytes a place, 0.26 ns at 3.0 TB/s, and 98,304 flops
 *          of binary16, 0.10 ns at the 990 TFLOP/s of its units.
 * ERROR    cuda/matrix_tiles.cuh; depthwise |y - y_f64| <= (K+1) 2^-24 S, S = |bias| + sum |w| |x|.
 */
#include "cuda/elements.cuh"
#include "cuda/math.cuh"
#include "cuda/matrix_tiles.cuh"
#include "ssm/layers/strided.h"

#define MULTIPROCESSORS 132u /* of an H100: fewer blocks leave some without work */
#define RESIDENT        512u /* threads that a multiprocessor holds of the product */
#define PANELS          8u   /* of a block, at most: 128 outputs */
#define SEGMENTS        4u   /* of a round, at most */

struct strided {
    uint32_t kernel, stride, dilation, groups, past, before;
    uint32_t in, wide; /* channels of x, of a place in y */
    bool depthwise;
    const float *taps;                  /* device, depthwise: (kernel, in) */
    const float *bias;                  /* device: (wide) */
    struct cuda_matrix matrix;          /* if there is one group */
    const struct cuda_matrix *matrices; /* device: (groups), if there are several */
};

/* ---- building ---------------------------------------------------------------------------------------------------- */

/* One matrix for each group. */
static void matrices_build(struct cuda_build *b, const struct ssm_strided *p, struct strided *d)
{
    struct cuda_matrix *all;

    if (p->groups == 1) {
        cuda_matrix_build_plain(b, p->group, &d->matrix);
        return;
    }
    all = (struct cuda_matrix *)cuda_params(b, p->groups * sizeof(*all));
    for (uint32_t g = 0; all && g < p->groups; g++)
        cuda_matrix_build_plain(b, &p->group[g], &all[g]);
    if (all)
        d->matrices = (const struct cuda_matrix *)cuda_upload(b, all, p->groups * sizeof(*all));
}

static void strided_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_strided *p = (const struct ssm_strided *)layer->params;
    struct strided *d = (struct strided *)(*params = cuda_params(b, sizeof(*d)));

    if (!d)
        return;
    d->kernel = p->kernel;
    d->stride = p->stride;
    d->dilation = p->dilation;
    d->groups = p->groups;
    d->past = p->past;
    d->before = p->before;
    d->in = layer->in;
    d->wide = p->phases * layer->out;
    d->depthwise = p->taps != NULL;
    if (p->taps)
        d->taps = cuda_upload_floats(b, p->taps, (size_t)p->kernel * layer->in);
    else
        matrices_build(b, p, d);
    d->bias = cuda_upload_floats(b, p->bias, d->wide);
}

/* ---- places ------------------------------------------------------------------------------------------------------ */

struct windows {
    struct strided s;
    struct cuda_span span;      /* whose frames are the places */
    const struct cuda_row *now; /* the same rows at the input's clock */
    uint32_t state_offset;
    const float *x;
    float *y;
    bool relu; /* of the outputs */
};

/* Number i of a window's values, frame after frame with all their channels, lies at past + i if i < split, and at now + i
 * if not. */
struct place {
    const float *past, *now;
    int32_t split;
    uint32_t row, begin; /* of the row: its number and its first place */
};

__device__ static inline struct place place_find(const struct windows &w, size_t j)
{
    uint32_t r = w.span.owner[j];
    const struct cuda_row *at = &w.span.rows[r], *now = &w.now[r];
    /* the window's first frame, counted from the row's first one: not below -past */
    int64_t first = (int64_t)((at->index + (j - at->first)) * w.s.stride - w.s.before - now->index) * w.s.in;
    const float *state = cuda_row_state<const float>(now, w.state_offset);

    return {state + ((int64_t)w.s.past * w.s.in + first), w.x + ((int64_t)now->first * w.s.in + first),
            first < 0 ? (int32_t)-first : 0, r, at->first};
}

__device__ static inline const float *place_at(const struct place &p, int32_t i)
{
    return (i < p.split ? p.past : p.now) + i;
}

/* ---- depthwise --------------------------------------------------------------------------------------------------- */

template <uint32_t V> __global__ static void depthwise(struct windows w)
{
    uint32_t in = w.s.in;

    for (size_t j = cuda_item_first(); j < w.span.count->frames; j += cuda_item_stride()) {
        struct place place = place_find(w, j);

        for (uint32_t c = threadIdx.x * V; c < in; c += blockDim.x * V) {
            cuda_floats<V> sum = cuda_floats_load<V>(w.s.bias + c);

            for (uint32_t k = 0; k < w.s.kernel; k++) {
                cuda_floats<V> tap = cuda_floats_load<V>(w.s.taps + (size_t)k * in + c),
                               x = cuda_floats_load<V>(place_at(place, (int32_t)(k * w.s.dilation * in + c)));

#pragma unroll
                for (uint32_t i = 0; i < V; i++)
                    sum.v[i] = fmaf(tap.v[i], x.v[i], sum.v[i]);
            }
#pragma unroll
            for (uint32_t i = 0; i < V; i++)
                sum.v[i] = w.relu ? cuda_max(0, sum.v[i]) : sum.v[i];
            cuda_floats_store<V>(w.y + j * in + c, sum);
        }
    }
}

/* ---- the past ---------------------------------------------------------------------------------------------------- */

/* The last `past` frames of row r become its past, by a warp. What moves within the state moves towards its begin; so
 * the warp goes from there to the end, and reads before it writes. */
template <uint32_t V> __device__ static inline void past_move(const struct windows &w, uint32_t r)
{
    const struct cuda_row row = w.now[r];
    uint32_t n = w.s.past * w.s.in, lane = threadIdx.x % CUDA_WARP;
    float *past = cuda_row_state<float>(&row, w.state_offset);
    size_t moves = (size_t)row.frames * w.s.in;

    if (row.frames == 0)
        return;
#pragma unroll 1
    for (uint32_t begin = 0; begin < n; begin += 4 * CUDA_WARP * V) {
        cuda_floats<V> a[4];

#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t to = begin + (i * CUDA_WARP + lane) * V;
            size_t from = to + moves;

            if (to < n)
                a[i] = cuda_floats_load<V>(from < n ? past + from : w.x + (size_t)row.first * w.s.in + (from - n));
        }
        __syncwarp();
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            uint32_t to = begin + (i * CUDA_WARP + lane) * V;

            if (to < n)
                cuda_floats_store<V>(past + to, a[i]);
        }
    }
}

/* Of all rows, or of those without a place. */
template <uint32_t V> __device__ static inline void pasts_move(const struct windows &w, bool all)
{
    uint32_t warps = blockDim.x / CUDA_WARP, rows = w.span.count->rows;

    for (uint32_t r = blockIdx.x * warps + threadIdx.x / CUDA_WARP; r < rows; r += gridDim.x * warps)
        if (all || w.span.rows[r].frames == 0)
            past_move<V>(w, r);
}

template <uint32_t V> __global__ static void pasts(struct windows w)
{
    pasts_move<V>(w, true);
}

/* ---- the product over windows ------------------------------------------------------------------------------------ */

/* Of a block of 8 `rows` places, at most. Several of the larger blocks share a multiprocessor: while one waits, others
 * have work. */
__host__ __device__ static constexpr uint32_t block_warps(uint32_t rows)
{
    return rows == 1 ? 16 : 8;
}

/* How a product is cut into blocks. */
struct cut {
    uint32_t panels, segments; /* of a block, of a round: a warp for each pair of them */
    uint32_t rounds;
    uint32_t step; /* places from block to block: all that it has, less those that it may take from the next one */
    bool moves;    /* the past, too */
};

/* What a block shares beside windows and sums. */
template <uint32_t ROWS> struct board {
    float inverse[SEGMENTS][ROWS * MATRIX_ROWS]; /* what a segment's sum is multiplied by */
    float start[PANELS * MATRIX_PANEL], scale[PANELS * MATRIX_PANEL];
    bool mine[ROWS * MATRIX_ROWS];    /* whether it is this block's place */
    uint32_t row[ROWS * MATRIX_ROWS]; /* whose first place it is; NOWHERE: it is none, or another block's */
};

#define NOWHERE UINT32_MAX

/* Values e..e+3 of group g's window. V 4: they are of one frame. */
template <uint32_t V>
__device__ static inline cuda_floats<4> window_load(const struct strided &s, const struct place &place, uint32_t g,
                                                    uint32_t e)
{
    uint32_t C = s.in / s.groups, K = s.kernel * C;
    bool plain = s.groups == 1 && s.dilation == 1;
    cuda_floats<4> a = {};

#pragma unroll
    for (uint32_t i = 0; i < 4; i += V)
        if (e + i < K) {
            uint32_t from = plain ? e + i : (e + i) / C * s.dilation * s.in + g * C + (e + i) % C;
            cuda_floats<V> part = cuda_floats_load<V>(place_at(place, (int32_t)from));

#pragma unroll
            for (uint32_t k = 0; k < V; k++)
                a.v[i + k] = part.v[k];
        }
    return a;
}

/* This lane's inputs of a segment, from e on and from MATRIX_GROUP further on, split: (2 groups, hi and lo, 32 lanes).
 * What the sum is to be multiplied by comes back. */
template <uint32_t V>
__device__ static inline float window_split(const struct strided &s, bool there, const struct place &place, uint32_t g,
                                            uint32_t e, uint4 *to)
{
    cuda_floats<4> v[4] = {};
    uint32_t largest = 0, bits;
    float scale;

    if (there)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++)
            v[i] = window_load<V>(s, place, g, e + i / 2 * MATRIX_GROUP + i % 2 * 4);
#pragma unroll
    for (uint32_t i = 0; i < 16; i++)
        largest = max(largest, matrix_absolute(v[i / 4].v[i % 4]));
    bits = cuda_half_scale_bits(matrix_largest(largest));
    scale = __uint_as_float(bits);
#pragma unroll
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t hi[4], lo[4];

#pragma unroll
        for (uint32_t k = 0; k < 4; k++) {
            const cuda_floats<4> &from = v[i * 2 + k / 2];

            cuda_half_split(from.v[k % 2 * 2] * scale, from.v[k % 2 * 2 + 1] * scale, &hi[k], &lo[k]);
        }
        to[i * 2 * CUDA_WARP] = make_uint4(hi[0], hi[1], hi[2], hi[3]);
        to[(i * 2 + 1) * CUDA_WARP] = make_uint4(lo[0], lo[1], lo[2], lo[3]);
    }
    return matrix_inverse(bits);
}

/* The segments from `segment` on of the places from `first` on to x (segments, ROWS, 2, 2, 32). */
template <uint32_t ROWS, uint32_t V>
__device__ static inline void windows_stage(const struct windows &w, const struct cut &cut, uint32_t g, uint32_t first,
                                            uint32_t segment, uint4 *x, struct board<ROWS> *board)
{
    uint32_t lane = threadIdx.x % CUDA_WARP, places = w.span.count->frames;
    uint32_t last = (w.s.kernel * (w.s.in / w.s.groups) + MATRIX_SEGMENT - 1) / MATRIX_SEGMENT;

#pragma unroll 1 /* registers */
    for (uint32_t u = threadIdx.x / CUDA_WARP; u < cut.segments * ROWS; u += blockDim.x / CUDA_WARP) {
        uint32_t s = u / ROWS, at = u % ROWS * MATRIX_ROWS + lane / 4, home = first + at;
        struct place place = {};
        bool mine = home < places;
        float inverse;

        if (segment + s >= last)
            return;
        if (mine)
            place = place_find(w, home);
        if (cut.moves && place.split > 0)
            home = place.begin;
        mine = mine && home - first < cut.step;
        inverse = window_split<V>(w.s, mine, place, g, (segment + s) * MATRIX_SEGMENT + lane % 4 * 8,
                                  x + u * 4 * CUDA_WARP + lane);
        if (lane % 4 == 0)
            board->inverse[s][at] = inverse;
        if (lane % 4 == 0 && s == 0) {
            board->mine[at] = mine;
            board->row[at] = mine && place.begin == first + at ? place.row : NOWHERE;
        }
    }
}

/* This lane's weights of a segment of a panel: (2 groups, 2, parts), 32 lanes apart. */
__device__ static inline const uint4 *segment_tiles(const struct cuda_matrix &m, uint32_t panel, uint32_t segment)
{
    return m.tiles + ((size_t)panel * matrix_groups(&m) + segment * 2) * 2 * m.parts * CUDA_WARP +
           threadIdx.x % CUDA_WARP;
}

__device__ static inline void segment_load(const struct cuda_matrix &m, const uint4 *tiles, bool both, uint4 *a)
{
#pragma unroll
    for (uint32_t k = 0; k < 8; k++)
        if (k < (both ? 4 : 2) * m.parts)
            a[k] = tiles[k * CUDA_WARP];
}

/* Weights are `apart` from one another: of one group after the other, for registers. */
template <int PARTS, uint32_t ROWS>
__device__ static inline void segment_sum(const uint4 *weights, uint32_t apart, const uint4 *x, bool both,
                                          float (&sum)[ROWS][4])
{
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
#pragma unroll
        for (uint32_t k = 0; k < 4; k++)
            sum[r][k] = 0;
#pragma unroll
    for (uint32_t i = 0; i < 2; i++)
        if (i == 0 || both) {
            uint4 a[2 * PARTS];

#pragma unroll
            for (uint32_t k = 0; k < 2 * PARTS; k++)
                a[k] = weights[(i * 2 * PARTS + k) * apart];
#pragma unroll
            for (uint32_t r = 0; r < ROWS; r++) {
                uint4 hi = x[(r * 2 + i) * 2 * CUDA_WARP], lo = x[((r * 2 + i) * 2 + 1) * CUDA_WARP];
                struct matrix_x b = {{hi.x, hi.y, hi.z, hi.w}, {lo.x, lo.y, lo.z, lo.w}};

                matrix_group<PARTS, 1>(&sum[r], a, &b);
            }
        }
}

/* With few places the weights are under way while the windows are; with many, other blocks' work is. */
template <int PARTS, uint32_t ROWS>
__device__ static inline void segment_work(const uint4 *tiles, const uint4 *a, const uint4 *x, bool both,
                                           float (&sum)[ROWS][4])
{
    if (ROWS == 1)
        segment_sum<PARTS, ROWS>(a, 1, x, both, sum);
    else
        segment_sum<PARTS, ROWS>(tiles, CUDA_WARP, x, both, sum);
}

/* From one output to the same of the next place, in sums that wait: lanes that store together differ in bank. */
__host__ __device__ static inline uint32_t sums_stride(const struct cut &cut)
{
    return cut.panels * MATRIX_PANEL + 4;
}

/* Of a round's windows, and of its sums in their place. */
template <uint32_t ROWS> __host__ __device__ static inline uint32_t round_floats(const struct cut &cut)
{
    const uint32_t windows = 4 * CUDA_WARP * 4;
    uint32_t sums = MATRIX_ROWS * sums_stride(cut);

    return cut.segments * ROWS * (sums > windows ? sums : windows);
}

/* A warp's sums to (places, outputs). */
template <uint32_t ROWS>
__device__ static inline void sums_put(const float (&sum)[ROWS][4], uint32_t stride, uint32_t panel, float *to)
{
    uint32_t lane = threadIdx.x % CUDA_WARP;

    to += panel * MATRIX_PANEL + lane / 4 + lane % 4 * 2 * stride;
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
#pragma unroll
        for (uint32_t k = 0; k < 4; k++)
            to[(r * MATRIX_ROWS + k % 2) * stride + k / 2 * 8] = sum[r][k];
}

/* Four neighbouring outputs of a place, n the first, of N. */
__device__ static inline void outputs_store(float *y, uint32_t n, uint32_t N, bool whole, bool relu, const float *total,
                                            const float *scale)
{
    cuda_floats<4> a;

#pragma unroll
    for (uint32_t k = 0; k < 4; k++) {
        a.v[k] = matrix_output(total[k], scale[k]);
        a.v[k] = relu ? cuda_max(0, a.v[k]) : a.v[k];
    }
    if (whole) {
        cuda_floats_store<4>(y + n, a);
        return;
    }
#pragma unroll
    for (uint32_t k = 0; k < 4; k++)
        if (n + k < N)
            y[n + k] = a.v[k];
}

/* The round's segments, in index order, to the totals; after the last round those to y. `totals` are there if there
 * are several rounds. */
template <uint32_t ROWS>
__device__ static inline void totals_add(const struct windows &w, const struct cut &cut, uint32_t g, uint32_t first,
                                         uint32_t round, const float *sums, const struct board<ROWS> *board,
                                         float *totals)
{
    const uint32_t BM = ROWS * MATRIX_ROWS;
    uint32_t N = w.s.wide / w.s.groups, stride = sums_stride(cut), quads = cut.panels * (MATRIX_PANEL / 4);
    uint32_t segments = (w.s.kernel * (w.s.in / w.s.groups) + MATRIX_SEGMENT - 1) / MATRIX_SEGMENT;
    uint32_t out = blockIdx.y * cut.panels * MATRIX_PANEL;
    bool whole = w.s.wide % 4 == 0 && N % 4 == 0;

#pragma unroll 1
    for (uint32_t e = threadIdx.x; e < BM * quads; e += blockDim.x) {
        uint32_t at = e / quads, n = e % quads * 4;
        cuda_floats<4> total = cuda_floats_load<4>(round == 0 ? board->start + n : totals + at * stride + n);

        if (!board->mine[at] || out + n >= N)
            continue;
#pragma unroll 1
        for (uint32_t s = 0; s < cut.segments && round * cut.segments + s < segments; s++) {
            cuda_floats<4> sum = cuda_floats_load<4>(sums + (s * BM + at) * stride + n);

#pragma unroll
            for (uint32_t k = 0; k < 4; k++)
                total.v[k] = matrix_total(total.v[k], sum.v[k], board->inverse[s][at]);
        }
        if (round + 1 < cut.rounds)
            cuda_floats_store<4>(totals + at * stride + n, total);
        else
            outputs_store(w.y + (size_t)(first + at) * w.s.wide + (size_t)g * N, out + n, N, whole, w.relu, total.v,
                          board->scale + n);
    }
}

/* What the outputs of a block begin with and are divided by. */
template <uint32_t ROWS>
__device__ static inline void board_begin(const struct windows &w, const struct cut &cut, const struct cuda_matrix &m,
                                          uint32_t g, struct board<ROWS> *board)
{
    uint32_t N = w.s.wide / w.s.groups, out = blockIdx.y * cut.panels * MATRIX_PANEL;

    for (uint32_t n = threadIdx.x; n < cut.panels * MATRIX_PANEL; n += blockDim.x) {
        float scale = out + n < N ? m.scale[out + n] : 1;

        board->scale[n] = scale;
        board->start[n] = out + n < N ? w.s.bias[(size_t)g * N + out + n] * scale : 0;
    }
}

/* Grid: places in strides, panels (and rows without places), groups. */
template <uint32_t ROWS, uint32_t V>
__global__ static void __launch_bounds__(block_warps(ROWS) * CUDA_WARP, RESIDENT / CUDA_WARP / block_warps(ROWS))
    product(struct windows w, struct cut cut)
{
    __shared__ __align__(16) struct board<ROWS> board;
    const uint32_t BM = ROWS * MATRIX_ROWS;
    uint32_t warp = threadIdx.x / CUDA_WARP, lane = threadIdx.x % CUDA_WARP, places = w.span.count->frames;
    uint32_t panel = blockIdx.y * cut.panels + warp % cut.panels, own = warp / cut.panels;

    CUDA_SHARED(uint4, x); /* windows, and then in their place sums; totals behind them */
    float *sums = (float *)x, *totals = sums + round_floats<ROWS>(cut);

    if (cut.moves && blockIdx.y + 1 == gridDim.y) {
        pasts_move<V>(w, false);
        return;
    }
    for (uint32_t g = blockIdx.z; g < w.s.groups; g += gridDim.z) {
        const struct cuda_matrix m = w.s.groups == 1 ? w.s.matrix : w.s.matrices[g];

        __syncthreads(); /* the group before this one may still be read, as below the places before these */
        board_begin<ROWS>(w, cut, m, g, &board);
        for (uint32_t first = blockIdx.x * cut.step; first < places; first += gridDim.x * cut.step) {
            for (uint32_t round = 0; round < cut.rounds; round++) {
                uint32_t segment = round * cut.segments + own;
                bool works = own < cut.segments && segment < matrix_segments(&m) && panel < matrix_panels(&m);
                bool both = segment * 2 + 1 < matrix_groups(&m);
                const uint4 *tiles = segment_tiles(m, panel, segment), *from = x + own * ROWS * 4 * CUDA_WARP + lane;
                uint4 a[8] = {};
                float sum[ROWS][4];

                if (ROWS == 1 && works)
                    segment_load(m, tiles, both, a);
                __syncthreads();
                windows_stage<ROWS, V>(w, cut, g, first, round * cut.segments, x, &board);
                __syncthreads();
                if (works && m.parts == 1)
                    segment_work<1, ROWS>(tiles, a, from, both, sum);
                else if (works)
                    segment_work<2, ROWS>(tiles, a, from, both, sum);
                __syncthreads();
                if (works)
                    sums_put<ROWS>(sum, sums_stride(cut), warp % cut.panels, sums + own * BM * sums_stride(cut));
                __syncthreads();
                totals_add<ROWS>(w, cut, g, first, round, sums, &board, totals);
            }
            /* by the last warps, which have the fewest totals */
            for (uint32_t at = blockDim.x / CUDA_WARP - 1 - warp; cut.moves && at < BM; at += blockDim.x / CUDA_WARP)
                if (board.row[at] != NOWHERE)
                    past_move<V>(w, board.row[at]);
        }
    }
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

template <uint32_t ROWS, uint32_t V>
static cudaError_t product_launch(const struct windows *w, const struct cut *cut, cudaStream_t stream)
{
    const uint32_t BM = ROWS * MATRIX_ROWS;
    uint32_t panels = cuda_blocks(w->s.wide / w->s.groups, MATRIX_PANEL), warps = cut->panels * cut->segments;
    uint32_t blocks = cuda_blocks(w->span.frames_room, cut->step), most;
    size_t totals = cut->rounds > 1 ? (size_t)BM * sums_stride(*cut) : 0;
    size_t shared = (round_floats<ROWS>(*cut) + totals) * sizeof(float);
    cudaError_t error;

    warps = warps < ROWS ? ROWS : warps;
    most = MULTIPROCESSORS * (RESIDENT / CUDA_WARP / warps);
    error =
        cudaFuncSetAttribute((const void *)product<ROWS, V>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    if (error != cudaSuccess)
        return error;
    CUDA_LAUNCH((product<ROWS, V>),
                dim3(blocks < most ? blocks : most, cuda_blocks(panels, cut->panels) + (cut->moves ? 1 : 0),
                     w->s.groups < 4096 ? w->s.groups : 4096),
                dim3(warps * CUDA_WARP), shared, stream, *w, *cut);
    return cudaGetLastError();
}

/* `rows` times 8 places a block. */
static struct cut cut_find(const struct strided *s, uint32_t rows)
{
    uint32_t panels = cuda_blocks(s->wide / s->groups, MATRIX_PANEL), places = rows * MATRIX_ROWS;
    uint32_t segments = cuda_blocks((uint64_t)s->kernel * (s->in / s->groups), MATRIX_SEGMENT);
    uint32_t see = cuda_blocks(s->past, s->stride); /* places of a row that see its past */
    struct cut cut = {panels < PANELS ? panels : PANELS, SEGMENTS, 0, places, false};

    cut.segments = block_warps(rows) / cut.panels;
    cut.segments = cut.segments < SEGMENTS ? cut.segments : SEGMENTS;
    cut.segments = segments < cut.segments ? segments : cut.segments;
    cut.rounds = cuda_blocks(segments, cut.segments);
    cut.moves = s->past > 0 && s->groups == 1 && panels <= PANELS && see <= places / 2;
    cut.step = cut.moves ? places - (see - 1) : places;
    return cut;
}

/* The places, and whether the past is moved with them. */
static cudaError_t places_launch(const struct windows *w, cudaStream_t stream, bool *moves)
{
    struct cut few = cut_find(&w->s, 1), many = cut_find(&w->s, 4);
    bool quads = w->s.in / w->s.groups % 4 == 0;
    uint64_t blocks = (uint64_t)cuda_blocks(w->span.frames_room, many.step) * w->s.groups;

    blocks *= cuda_blocks(cuda_blocks(w->s.wide / w->s.groups, MATRIX_PANEL), many.panels);
    *moves = blocks < MULTIPROCESSORS ? few.moves : many.moves;
    if (blocks < MULTIPROCESSORS)
        return quads ? product_launch<1, 4>(w, &few, stream) : product_launch<1, 1>(w, &few, stream);
    return quads ? product_launch<4, 4>(w, &many, stream) : product_launch<4, 1>(w, &many, stream);
}

static cudaError_t depthwise_launch(const struct windows *w, cudaStream_t stream)
{
    uint32_t in = w->s.in;
    struct cuda_shape shape = cuda_items_shape(in % 4 ? in : in / 4, w->span.frames_room, 1);

    if (in % 4)
        CUDA_LAUNCH(depthwise<1>, shape.grid, shape.block, 0, stream, *w);
    else
        CUDA_LAUNCH(depthwise<4>, shape.grid, shape.block, 0, stream, *w);
    return cudaGetLastError();
}

static cudaError_t pasts_launch(const struct windows *w, cudaStream_t stream)
{
    struct cuda_shape shape = cuda_elements_shape((uint64_t)w->span.rows_room * CUDA_WARP);

    if (w->s.in % 4)
        CUDA_LAUNCH(pasts<1>, shape.grid, shape.block, 0, stream, *w);
    else
        CUDA_LAUNCH(pasts<4>, shape.grid, shape.block, 0, stream, *w);
    return cudaGetLastError();
}

static cudaError_t strided_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct ssm_layer *layer = l->layer;
    const struct ssm_strided *p = (const struct ssm_strided *)layer->params;
    /* with several phases the stride is 1, and every input frame is a place */
    struct windows w = {*(const struct strided *)l->params,
                        tile->clock[p->phases > 1 ? layer->clock : layer->out_clock],
                        tile->clock[layer->clock].rows,
                        layer->state_offset,
                        x,
                        y,
                        tile->after.activation != CUDA_NO_ACTIVATION};
    bool moves = false;
    cudaError_t error = w.s.depthwise ? depthwise_launch(&w, tile->stream) : places_launch(&w, tile->stream, &moves);

    if (error == cudaSuccess && w.s.past > 0 && !moves)
        error = pasts_launch(&w, tile->stream);
    return error;
}

const struct cuda_kind cuda_kind_conv1d = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
const struct cuda_kind cuda_kind_conv_transpose1d = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
const struct cuda_kind cuda_kind_downsample = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
const struct cuda_kind cuda_kind_upsample = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
