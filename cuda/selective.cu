/* SPDX-License-Identifier: Apache-2.0
 *
 * The projections of mamba and mamba2, and the causal convolution with silu in front of their recurrence.
 *
 *     y[t] = silu(bias + sum over k of taps[k] x[t-(K-1)+k])
 *
 * A thread takes four lanes through a stretch of the tile's frames, whatever rows they belong to; few lanes and one
 * frame a row are spread as widely as many frames of one row. Who has a row's first frame has its first K-1 frames, so
 * one thread alone reads the past of a row's lanes, and after that writes it: nobody has to wait for anybody. y is not
 * x's memory, since others still read x. Rows of one frame have a kernel of their own, which asks for all it needs at
 * once, and for all but x before x is there.
 *
 * SHAPES   x: (frames, L) inside wider rows; y: (frames, L); past: (K-1, L).
 * BITS     every output is one chain over its K taps, oldest first, wherever the cuts were.
 * COST     2*K*L flops and a silu of some 25 for each frame; 8*L bytes for each frame and 8*(K-1)*L for each row must
 *          move: 512 rows of one frame, 1536 lanes, K = 4 take 25 MB, 8 us at 3.0 TB/s, from L2 less.
 * ERROR    that of K fused products and of cuda_silu.
 * SOURCE   Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces". */
#include "cuda/selective.cuh"

#define THREADS 128u
#define STRETCH 16u /* frames of a thread, where rows have many */

void cuda_projection_build(struct cuda_build *b, const struct ssm_linear *p, struct cuda_projection *out)
{
    cuda_matrix_build(b, &p->weight, &out->weight);
    out->bias = cuda_upload_floats(b, p->bias, p->weight.out);
}

cudaError_t cuda_projection_launch(const struct cuda_projection *p, const struct cuda_span *span, const float *x,
                                   size_t x_stride, float *y, size_t y_stride, const float *residual,
                                   cudaStream_t stream)
{
    struct cuda_product product = {};

    product.x = x;
    product.x_stride = x_stride;
    product.y = y;
    product.y_stride = y_stride;
    product.start = p->bias;
    product.count = &span->count->frames;
    product.room = span->frames_room;
    product.residual = residual;
    product.residual_stride = y_stride;
    return cuda_matrix_launch(&p->weight, &product, stream);
}

void cuda_window_build(struct cuda_build *b, const struct ssm_window *w, struct cuda_window *out)
{
    out->kernel = w->kernel;
    out->lanes = w->lanes;
    out->taps = cuda_upload_floats(b, w->taps, (size_t)w->kernel * w->lanes);
    out->bias = cuda_upload_floats(b, w->bias, w->lanes);
}

/* What a thread works on, pointers at its four lanes. */
struct window_lanes {
    const float *taps, *bias;
    size_t tap_stride;
};

/* A row as its convolution sees it: inputs before the first frame lie in the past. */
struct window_row {
    float *past;
    const float *x; /* of the row's first frame */
    size_t past_stride, x_stride;
    uint32_t kept;
    bool begins;
};

__device__ static inline float4 quad_load(const float *p)
{
    return *reinterpret_cast<const float4 *>(p);
}

__device__ static inline void quad_store(float *p, float4 v)
{
    *reinterpret_cast<float4 *>(p) = v;
}

/* The row's input i, which is one of the past when i < 0. */
__device__ static inline float4 input_load(const struct window_row *row, int64_t i)
{
    if (i >= 0)
        return quad_load(row->x + i * (int64_t)row->x_stride);
    return row->begins ? cuda_quad(0) : quad_load(row->past + (row->kept + i) * (int64_t)row->past_stride);
}

/* Frames [from, to) of a row, four taps: the inputs that the next frame needs again stay in registers. */
__device__ static inline void four_run(const struct window_lanes *w, const struct window_row *row, uint32_t from,
                                       uint32_t to, float *y, size_t y_stride)
{
    float4 bias = quad_load(w->bias), tap[4], in[4];

#pragma unroll
    for (int k = 0; k < 4; k++)
        tap[k] = quad_load(w->taps + k * w->tap_stride);
#pragma unroll
    for (int k = 0; k < 3; k++)
        in[k] = input_load(row, (int64_t)from - 3 + k);
    for (uint32_t t = from; t < to; t++) {
        float4 sum = bias;

        in[3] = input_load(row, t);
#pragma unroll
        for (int k = 0; k < 4; k++)
            sum = cuda_quad_fma(tap[k], in[k], sum);
        quad_store(y + t * y_stride, cuda_quad_silu(sum));
#pragma unroll
        for (int k = 0; k < 3; k++)
            in[k] = in[k + 1];
    }
}

/* The same for any number of taps. */
__device__ static inline void any_run(const struct window_lanes *w, const struct window_row *row, uint32_t from,
                                      uint32_t to, float *y, size_t y_stride)
{
    for (uint32_t t = from; t < to; t++) {
        float4 sum = quad_load(w->bias);

        for (uint32_t k = 0; k <= row->kept; k++)
            sum =
                cuda_quad_fma(quad_load(w->taps + k * w->tap_stride), input_load(row, (int64_t)t - row->kept + k), sum);
        quad_store(y + t * y_stride, cuda_quad_silu(sum));
    }
}

/* The past becomes the last inputs of the row: what stays of it moves forward, from a place that is still to come. */
__device__ static inline void past_renew(const struct window_row *row, uint32_t frames)
{
    for (uint32_t k = 0; k < row->kept; k++)
        quad_store(row->past + k * row->past_stride, input_load(row, (int64_t)k + frames - row->kept));
}

template <bool FOUR>
__global__ static void __launch_bounds__(THREADS)
    window_run(struct cuda_window w, struct cuda_span span, uint32_t offset, const float *x, size_t x_stride, float *y,
               uint32_t stretch)
{
    uint64_t item = (uint64_t)blockIdx.x * THREADS + threadIdx.x;
    uint32_t quads = w.lanes / 4, lane = (uint32_t)(item % quads) * 4, kept = w.kernel - 1;
    uint64_t from = item / quads * stretch, frames = span.count->frames, to = min(from + stretch, frames);
    struct window_lanes lanes = {w.taps + lane, w.bias + lane, w.lanes};

    for (uint64_t f = from; f < to;) {
        const struct cuda_row *row = &span.rows[span.owner[f]];
        uint32_t t = (uint32_t)(f - row->first), own = min(kept, row->frames), end;
        struct window_row of = {cuda_row_state<float>(row, offset) + lane,
                                x + row->first * x_stride + lane,
                                w.lanes,
                                x_stride,
                                kept,
                                row->begins != 0};

        if (t > 0 && t < own) /* another's */
            t = own;
        end = (uint32_t)min((uint64_t)row->frames, to - min(to, (uint64_t)row->first));
        if (t == 0)
            end = max(end, own);
        if (t < end && FOUR)
            four_run(&lanes, &of, t, end, y + (size_t)row->first * w.lanes + lane, w.lanes);
        else
            any_run(&lanes, &of, t, end, y + (size_t)row->first * w.lanes + lane, w.lanes);
        if (t == 0)
            past_renew(&of, row->frames);
        f = row->first + max(end, t);
    }
}

/* Four taps, rows of one frame: a thread has four lanes of a row. */
__global__ static void __launch_bounds__(THREADS)
    window_step(struct cuda_window w, struct cuda_span span, uint32_t offset, const float *x, size_t x_stride, float *y)
{
    uint32_t item = blockIdx.x * THREADS + threadIdx.x, quads = w.lanes / 4, lane = item % quads * 4, r = item / quads;
    struct cuda_row row = {};
    float4 in[4] = {}, tap[4], sum = quad_load(w.bias + lane);
    float *past = NULL;

    if (r < __ldcg(&span.count->rows))
        row = cuda_row_early(&span.rows[r]);
    if (row.frames > 0)
        past = cuda_row_state<float>(&row, offset) + lane;
#pragma unroll
    for (int k = 0; k < 4; k++)
        tap[k] = quad_load(w.taps + (size_t)k * w.lanes + lane);
#pragma unroll
    for (int k = 0; k < 3; k++)
        if (past && !row.begins)
            in[k] = __ldcg(reinterpret_cast<const float4 *>(past + (size_t)k * w.lanes));
    cuda_wait_turn();
    if (!past)
        return;
    in[3] = quad_load(x + row.first * x_stride + lane);
#pragma unroll
    for (int k = 0; k < 4; k++)
        sum = cuda_quad_fma(tap[k], in[k], sum);
    quad_store(y + (size_t)row.first * w.lanes + lane, cuda_quad_silu(sum));
#pragma unroll
    for (int k = 0; k < 3; k++)
        quad_store(past + (size_t)k * w.lanes, in[k + 1]);
}

cudaError_t cuda_window_launch(const struct cuda_window *w, const struct cuda_span *span, uint32_t offset,
                               const float *x, size_t x_stride, float *y, cudaStream_t stream)
{
    uint32_t stretch = span->longest_room > 1 ? STRETCH : 1;
    uint64_t items = (uint64_t)cuda_blocks(span->frames_room, stretch) * (w->lanes / 4);
    uint64_t rows = (uint64_t)span->rows_room * (w->lanes / 4);
    dim3 grid(cuda_blocks(items, THREADS)), block(THREADS);

    if (w->kernel == 4 && span->longest_room == 1 && rows < UINT32_MAX - THREADS)
        CUDA_LAUNCH_SOON(window_step, dim3(cuda_blocks(rows, THREADS)), block, 0, stream, *w, *span, offset, x,
                         x_stride, y);
    else if (w->kernel == 4)
        CUDA_LAUNCH(window_run<true>, grid, block, 0, stream, *w, *span, offset, x, x_stride, y, stretch);
    else
        CUDA_LAUNCH(window_run<false>, grid, block, 0, stream, *w, *span, offset, x, x_stride, y, stretch);
    return cudaGetLastError();
}
