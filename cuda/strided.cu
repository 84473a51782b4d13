/* SPDX-License-Identifier: Apache-2.0
 *
 * conv1d, conv_transpose1d, downsample, upsample: a window that moves on by a stride (ssm/layers/strided.h).
 *
 * A place of the window is a row of a product, W x window + bias. Its frames lie in the activations, those before the
 * row's first one in the state; one after another, oldest first, with nothing between them if the dilation is 1. So no
 * window is laid out anywhere: blocks of the product fetch them from where they are, straight into shared memory. Laid
 * out they would be kernel/stride times the input, written and read once more. Then a launch of its own moves the past
 * on, behind all that read it.
 *
 * A block takes some places (BM) by some outputs (BN), the window in steps of BK: while it sums one step from shared
 * memory, the next one is on its way into registers. Each thread keeps TM by TN sums. Groups follow one another in
 * grid.z. When every channel is a group of its own (depthwise) there is nothing to share, and a thread sums one or four
 * channels of a place by itself.
 *
 * SHAPES   P places, C = in/groups, K = kernel * C, N = phases * out/groups;  x (frames, in), y (P, phases * out),
 *          weights (groups, ceil(N/16), K, 16), taps (kernel, in), bias (phases * out), state (past, in).
 * BITS     one output is one chain of fused products over its window, oldest frame first, beginning with the bias: that
 *          of the CPU's kernel, whatever the block. What fills up the last step is -0 times 0, which changes no sum,
 *          not even -0.
 * COST     2*P*N*K*groups flops; x read once for every BN outputs, from the cache for all but the first, y written,
 *          the state read and written. The layers of a denoiser (64 channels to 64, kernel 4, stride 2): 32,768 flops and
 *          768 bytes a place, 0.49 ns at 67 TFLOP/s and 0.26 ns at 3.0 TB/s.
 * ERROR    |y - y_f64| <= (K+1) 2^-24 S, S = |bias| + sum |w| |x|.
 */
#include "cuda/elements.cuh"
#include "cuda/math.cuh"
#include "ssm/layers/strided.h"

#include <string.h>

#define MULTIPROCESSORS 132u /* of an H100: fewer blocks leave some without work */

struct strided {
    uint32_t kernel, stride, dilation, groups, past, before;
    uint32_t in, wide; /* channels of x, of a place in y */
    bool depthwise;
    const float *weights; /* device: panels of all groups, or taps */
    const float *bias;    /* device: (wide) */
};

/* ---- building ---------------------------------------------------------------------------------------------------- */

/* The panels of all groups, one after another. */
static const float *panels_upload(struct cuda_build *b, const struct ssm_strided *p)
{
    size_t one = (size_t)(p->group[0].out + SSM_PANEL - 1) / SSM_PANEL * p->group[0].in * SSM_PANEL;
    float *all;

    if (p->groups == 1)
        return cuda_upload_floats(b, p->group[0].panels, one);
    all = (float *)cuda_params(b, p->groups * one * sizeof(*all));
    for (uint32_t g = 0; all && g < p->groups; g++)
        memcpy(all + g * one, p->group[g].panels, one * sizeof(*all));
    return all ? cuda_upload_floats(b, all, p->groups * one) : NULL;
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
    d->weights = p->taps ? cuda_upload_floats(b, p->taps, (size_t)p->kernel * layer->in) : panels_upload(b, p);
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
};

__device__ static inline struct place place_find(const struct windows &w, size_t j)
{
    uint32_t r = w.span.owner[j];
    const struct cuda_row *at = &w.span.rows[r], *now = &w.now[r];
    /* the window's first frame, counted from the row's first one: not below -past */
    int64_t first = (int64_t)((at->index + (j - at->first)) * w.s.stride - w.s.before - now->index) * w.s.in;
    const float *state = cuda_row_state<const float>(now, w.state_offset);

    return {state + ((int64_t)w.s.past * w.s.in + first), w.x + ((int64_t)now->first * w.s.in + first),
            first < 0 ? (int32_t)-first : 0};
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
                cuda_floats<V> tap = cuda_floats_load<V>(w.s.weights + (size_t)k * in + c),
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

/* ---- the product over windows ------------------------------------------------------------------------------------ */

/* Sizes of a block. Many places by 64 outputs; fewer, with longer steps, where that would leave multiprocessors idle;
 * and few outputs. */
struct many {
    static constexpr uint32_t BM = 128, BN = 64, BK = 16, TM = 8, TN = 4, THREADS = BM / TM * (BN / TN);
};
struct few {
    static constexpr uint32_t BM = 32, BN = 64, BK = 32, TM = 4, TN = 4, THREADS = BM / TM * (BN / TN);
};
struct slim {
    static constexpr uint32_t BM = 128, BN = 16, BK = 16, TM = 4, TN = 4, THREADS = BM / TM * (BN / TN);
};

/* What a thread carries from device to shared memory in one step: four numbers at a time, of windows and of weights. */
template <typename S> struct cargo {
    static constexpr uint32_t X = S::BM * S::BK / 4 / S::THREADS, W = (S::BK * S::BN / 4 + S::THREADS - 1) / S::THREADS;
    struct place place[X];
    cuda_floats<4> x[X], w[W];
};

template <typename S> struct stage {
    float x[S::BK][S::BM + 4], w[S::BK][S::BN]; /* + 4: rows of four numbers that are stored together differ in bank */
};

/* Values e..e+3 of group g's window. V 4: they are of one frame. */
template <uint32_t V>
__device__ static inline cuda_floats<4> window_load(const struct strided &s, const struct place &place, uint32_t g,
                                                    uint32_t e)
{
    uint32_t C = s.in / s.groups, K = s.kernel * C;
    bool plain = s.groups == 1 && s.dilation == 1;
    cuda_floats<4> a = {{-0.0f, -0.0f, -0.0f, -0.0f}};

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

/* Step k of group g, outputs n on, from device memory. */
template <typename S, uint32_t V>
__device__ static inline void cargo_fetch(struct cargo<S> &c, const struct strided &s, uint32_t g, uint32_t n,
                                          uint32_t k)
{
    uint32_t K = s.kernel * (s.in / s.groups), panels = (s.wide / s.groups + SSM_PANEL - 1) / SSM_PANEL;

#pragma unroll
    for (uint32_t i = 0; i < c.X; i++)
        c.x[i] = window_load<V>(s, c.place[i], g, k + (threadIdx.x + i * S::THREADS) % (S::BK / 4) * 4);
#pragma unroll
    for (uint32_t i = 0; i < c.W; i++) {
        uint32_t at = threadIdx.x + i * S::THREADS, from = n + at % (S::BN / 4) * 4, e = k + at / (S::BN / 4);

        c.w[i] = {};
        if (at < S::BK * S::BN / 4 && from < panels * SSM_PANEL && e < K)
            c.w[i] = cuda_floats_load<4>(s.weights + (((size_t)g * panels + from / SSM_PANEL) * K + e) * SSM_PANEL +
                                         from % SSM_PANEL);
    }
}

template <typename S> __device__ static inline void cargo_store(const struct cargo<S> &c, struct stage<S> &to)
{
#pragma unroll
    for (uint32_t i = 0; i < c.X; i++) {
        uint32_t at = threadIdx.x + i * S::THREADS;

#pragma unroll
        for (uint32_t k = 0; k < 4; k++)
            to.x[at % (S::BK / 4) * 4 + k][at / (S::BK / 4)] = c.x[i].v[k];
    }
#pragma unroll
    for (uint32_t i = 0; i < c.W; i++) {
        uint32_t at = threadIdx.x + i * S::THREADS;

        if (at < S::BK * S::BN / 4)
            cuda_floats_store<4>(&to.w[at / (S::BN / 4)][at % (S::BN / 4) * 4], c.w[i]);
    }
}

/* One step, for the thread's places m on and outputs n on of the block. */
template <typename S>
__device__ static inline void stage_sum(const struct stage<S> &from, uint32_t m, uint32_t n, float (&sum)[S::TM][S::TN])
{
#pragma unroll
    for (uint32_t k = 0; k < S::BK; k++) {
        cuda_floats<4> x[S::TM / 4], w = cuda_floats_load<4>(&from.w[k][n]);

#pragma unroll
        for (uint32_t i = 0; i < S::TM / 4; i++)
            x[i] = cuda_floats_load<4>(&from.x[k][m + i * 4]);
#pragma unroll
        for (uint32_t i = 0; i < S::TM; i++)
#pragma unroll
            for (uint32_t j = 0; j < S::TN; j++)
                sum[i][j] = fmaf(x[i / 4].v[i % 4], w.v[j], sum[i][j]);
    }
}

template <typename S>
__device__ static inline void sums_begin(const float *bias, uint32_t n, uint32_t N, float (&sum)[S::TM][S::TN])
{
#pragma unroll
    for (uint32_t j = 0; j < S::TN; j++) {
        float start = n + j < N ? bias[n + j] : 0;

#pragma unroll
        for (uint32_t i = 0; i < S::TM; i++)
            sum[i][j] = start;
    }
}

/* y is that of the thread's first place; `left` places are there from it on. */
template <typename S>
__device__ static inline void sums_store(float *y, size_t wide, size_t left, uint32_t n, uint32_t N, bool relu,
                                         float (&sum)[S::TM][S::TN])
{
    bool whole = wide % 4 == 0 && N % 4 == 0 && n < N;

#pragma unroll
    for (uint32_t i = 0; i < S::TM; i++) {
        if (i >= left)
            return;
#pragma unroll
        for (uint32_t j = 0; j < S::TN; j++)
            sum[i][j] = relu ? cuda_max(0, sum[i][j]) : sum[i][j];
        if (whole)
            cuda_floats_store<4>(y + i * wide + n, {{sum[i][0], sum[i][1], sum[i][2], sum[i][3]}});
        else
#pragma unroll
            for (uint32_t j = 0; j < S::TN; j++)
                if (n + j < N)
                    y[i * wide + n + j] = sum[i][j];
    }
}

template <typename S, uint32_t V> __global__ static void __launch_bounds__(S::THREADS) product(struct windows w)
{
    __shared__ __align__(16) struct stage<S> stage[2];
    uint32_t N = w.s.wide / w.s.groups, K = w.s.kernel * (w.s.in / w.s.groups), places = w.span.count->frames;
    uint32_t m = threadIdx.x / (S::BN / S::TN) * S::TM, n = threadIdx.x % (S::BN / S::TN) * S::TN;
    uint32_t first = blockIdx.x * S::BM, out = blockIdx.y * S::BN, b = 0;
    struct cargo<S> cargo;
    float sum[S::TM][S::TN];

    if (first >= places)
        return;
#pragma unroll
    for (uint32_t i = 0; i < cargo.X; i++) {
        uint32_t j = first + (threadIdx.x + i * S::THREADS) / (S::BK / 4);

        cargo.place[i] = place_find(w, j < places ? j : places - 1);
    }
    for (uint32_t g = blockIdx.z; g < w.s.groups; g += gridDim.z) {
        sums_begin<S>(w.s.bias + (size_t)g * N, out + n, N, sum);
        cargo_fetch<S, V>(cargo, w.s, g, out, 0);
        __syncthreads(); /* of the group before this one, the last step may still be read */
        cargo_store<S>(cargo, stage[b]);
        for (uint32_t k = S::BK; k < K; k += S::BK, b ^= 1) {
            __syncthreads();
            cargo_fetch<S, V>(cargo, w.s, g, out, k);
            stage_sum<S>(stage[b], m, n, sum);
            cargo_store<S>(cargo, stage[b ^ 1]);
        }
        __syncthreads();
        stage_sum<S>(stage[b], m, n, sum);
        if (first + m < places)
            sums_store<S>(w.y + (size_t)(first + m) * w.s.wide + (size_t)g * N, w.s.wide, places - first - m, out + n,
                          N, w.relu, sum);
    }
}

/* ---- the past ---------------------------------------------------------------------------------------------------- */

/* The last `past` frames of each row become its past. What moves within the state moves towards its begin; so a block
 * goes from there to the end, and reads before it writes. Lanes of a row (x), rows (y); all of a block take as many
 * turns. */
template <uint32_t V> __global__ static void past_move(struct windows w, const struct cuda_count *count)
{
    size_t n = (size_t)w.s.past * w.s.in;

    for (size_t first = (size_t)blockIdx.x * blockDim.y; first < count->rows; first += cuda_item_stride()) {
        size_t r = first + threadIdx.y;
        struct cuda_row row = {};

        if (r < count->rows)
            row = w.now[r];
        for (size_t begin = 0; begin < n; begin += (size_t)blockDim.x * V) {
            size_t to = begin + threadIdx.x * V, from = to + (size_t)row.frames * w.s.in;
            bool moves = row.frames > 0 && to < n;
            float *past = row.frames > 0 ? cuda_row_state<float>(&row, w.state_offset) : NULL;
            cuda_floats<V> a = {};

            if (moves)
                a = cuda_floats_load<V>(from < n ? past + from : w.x + (size_t)row.first * w.s.in + (from - n));
            __syncthreads();
            if (moves)
                cuda_floats_store<V>(past + to, a);
        }
    }
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

template <typename S> static void product_launch(const struct windows *w, cudaStream_t stream)
{
    uint32_t N = w->s.wide / w->s.groups;
    dim3 grid(cuda_blocks(w->span.frames_room, S::BM), cuda_blocks(N, S::BN), w->s.groups < 4096 ? w->s.groups : 4096);

    if (w->s.in / w->s.groups % 4 == 0)
        CUDA_LAUNCH((product<S, 4>), grid, dim3(S::THREADS), 0, stream, *w);
    else
        CUDA_LAUNCH((product<S, 1>), grid, dim3(S::THREADS), 0, stream, *w);
}

static void places_launch(const struct windows *w, cudaStream_t stream)
{
    uint32_t N = w->s.wide / w->s.groups;
    uint64_t blocks = (uint64_t)cuda_blocks(w->span.frames_room, many::BM) * cuda_blocks(N, many::BN) * w->s.groups;
    struct cuda_shape shape = cuda_items_shape(w->s.in % 4 ? w->s.in : w->s.in / 4, w->span.frames_room, 1);

    if (w->s.depthwise && w->s.in % 4 == 0)
        CUDA_LAUNCH(depthwise<4>, shape.grid, shape.block, 0, stream, *w);
    else if (w->s.depthwise)
        CUDA_LAUNCH(depthwise<1>, shape.grid, shape.block, 0, stream, *w);
    else if (N <= slim::BN)
        product_launch<slim>(w, stream);
    else if (blocks < MULTIPROCESSORS)
        product_launch<few>(w, stream);
    else
        product_launch<many>(w, stream);
}

static cudaError_t strided_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct ssm_layer *layer = l->layer;
    const struct ssm_strided *p = (const struct ssm_strided *)layer->params;
    const struct cuda_span *now = &tile->clock[layer->clock];
    /* with several phases the stride is 1, and every input frame is a place */
    struct windows w = {*(const struct strided *)l->params,
                        tile->clock[p->phases > 1 ? layer->clock : layer->out_clock],
                        now->rows,
                        layer->state_offset,
                        x,
                        y,
                        tile->after.activation != CUDA_NO_ACTIVATION};
    size_t past = (size_t)p->past * layer->in;
    struct cuda_shape shape = cuda_items_shape(layer->in % 4 ? past : past / 4, now->rows_room, 1);

    places_launch(&w, tile->stream);
    if (past > 0 && layer->in % 4 == 0)
        CUDA_LAUNCH(past_move<4>, shape.grid, shape.block, 0, tile->stream, w, now->count);
    else if (past > 0)
        CUDA_LAUNCH(past_move<1>, shape.grid, shape.block, 0, tile->stream, w, now->count);
    return cudaGetLastError();
}

const struct cuda_kind cuda_kind_conv1d = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
const struct cuda_kind cuda_kind_conv_transpose1d = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
const struct cuda_kind cuda_kind_downsample = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
const struct cuda_kind cuda_kind_upsample = {strided_build, NULL, strided_launch, CUDA_TAKES_RELU};
