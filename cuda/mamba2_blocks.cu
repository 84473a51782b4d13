/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole blocks of the grid through mamba2's recurrence, as products of matrices (the chunk form, or state-space
 * duality).
 *
 * With S[t] the sum of dt over a block's frames up to t, and everything of one head, a block that state h enters gives
 *
 *     y[t,p] = exp2(rate S[t]) sum over n of C[t,n] h[p,n]
 *            + sum over s <= t of exp2(rate (S[t] - S[s])) dt[s] (sum over n of B[s,n] C[t,n]) x[s,p]   + D x[t,p]
 *     left[p,n] = sum over s of exp2(rate (S[63] - S[s])) dt[s] x[s,p] B[s,n]
 *
 * Three kernels: the products B C, which the heads of a group share; what each block leaves from zero; and, when the rows
 * have gone by and left the state that enters each block (cuda/mamba2.cu), the outputs. In each, a block of threads
 * makes 64 x 64 numbers, a thread 8 x 4 of them, out of operands in shared memory with the summed index outside.
 *
 * Decays between two frames are taken from S in float64: in float32 a fast head's S is so large at the block's end that
 * the difference of neighbours would err in the sixth digit.
 *
 * SHAPES   grid (groups, slots), (heads by stretches of 64 channels, stretches of 64 states, slots), (heads by
 *          stretches of 64 channels, slots).
 * BITS     every sum in index order: an output over n, then, that decayed, over s.
 * COST     for a head's block 2*64*64*P + 4*64*N*P flops, for a group's 2*64*64*N: of 24 heads of 64 x 128, 0.99
 *          MFLOP a frame, where 67 TFLOP/s leave 15 ns; stepping them is 1.18 MFLOP, but one frame after another. What
 *          blocks leave and what enters them moves 16*H*P*N bytes for every 64 frames, 49 KB a frame: 16 ns at 3.0
 *          TB/s, less while it stays in L2.
 * ERROR    a decay errs by 3 units of 2^-24 for an exponent of up to 2.
 * SOURCE   Dao and Gu 2024, "Transformers are SSMs", section 6 and listing 1. */
#include "cuda/mamba2.cuh"

#define THREADS 128u
#define SIDE    64u /* of a tile of outputs, and how deep its operands are */
#define ROWS    8u  /* of a thread */
#define FRAMES  SSM_DEVICE_BLOCK

static_assert(FRAMES == SIDE, "a tile has a block's frames");

/* One operand of a tile: rows are the index that is summed over. A quad wider than what they hold. */
struct operand {
    float v[SIDE][SIDE + 4];
};

struct times {
    double sum[FRAMES]; /* S */
    float dt[FRAMES];
};

/* The thread's part of a tile: rows ROWS*(thread / 16).., columns 4*(thread % 16).. */
__device__ static inline uint32_t thread_row(void)
{
    return threadIdx.x / 16 * ROWS;
}

__device__ static inline uint32_t thread_column(void)
{
    return threadIdx.x % 16 * 4;
}

/* sum[r] += over k < SIDE of a[k][row + r] b[k][column..]. */
__device__ static inline void tile_multiply(const struct operand *a, const struct operand *b, float4 *sum)
{
    uint32_t row = thread_row(), column = thread_column();

#pragma unroll 4
    for (uint32_t k = 0; k < SIDE; k++) {
        float4 low = *reinterpret_cast<const float4 *>(&a->v[k][row]);
        float4 high = *reinterpret_cast<const float4 *>(&a->v[k][row + 4]);
        float4 right = *reinterpret_cast<const float4 *>(&b->v[k][column]);

        sum[0] = cuda_quad_fma(cuda_quad(low.x), right, sum[0]);
        sum[1] = cuda_quad_fma(cuda_quad(low.y), right, sum[1]);
        sum[2] = cuda_quad_fma(cuda_quad(low.z), right, sum[2]);
        sum[3] = cuda_quad_fma(cuda_quad(low.w), right, sum[3]);
        sum[4] = cuda_quad_fma(cuda_quad(high.x), right, sum[4]);
        sum[5] = cuda_quad_fma(cuda_quad(high.y), right, sum[5]);
        sum[6] = cuda_quad_fma(cuda_quad(high.z), right, sum[6]);
        sum[7] = cuda_quad_fma(cuda_quad(high.w), right, sum[7]);
    }
}

__device__ static inline void tile_clear(float4 *sum)
{
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
        sum[r] = cuda_quad(0);
}

/* Lanes [lane, lane + 64) of the block's frames, those below `end`, zeros beyond; to.v[frame][lane]. Bounds are
 * multiples of 4. */
__device__ static inline void lanes_stage(const float *mixed, size_t stride, uint32_t lane, uint32_t end,
                                          struct operand *to)
{
    for (uint32_t i = threadIdx.x; i < FRAMES * SIDE / 4; i += THREADS) {
        uint32_t t = i / (SIDE / 4), k = i % (SIDE / 4) * 4;
        float4 v = cuda_quad(0);

        if (lane + k < end)
            v = __ldg(reinterpret_cast<const float4 *>(mixed + t * stride + lane + k));
        *reinterpret_cast<float4 *>(&to->v[t][k]) = v;
    }
}

/* The same to to.v[lane][frame]: neighbouring threads take neighbouring frames, for the banks' sake. */
__device__ static inline void lanes_stage_turned(const float *mixed, size_t stride, uint32_t lane, uint32_t end,
                                                 struct operand *to)
{
    for (uint32_t i = threadIdx.x; i < FRAMES * SIDE / 4; i += THREADS) {
        uint32_t t = i % FRAMES, k = i / FRAMES * 4;
        float4 v = cuda_quad(0);

        if (lane + k < end)
            v = __ldg(reinterpret_cast<const float4 *>(mixed + t * stride + lane + k));
        to->v[k][t] = v.x;
        to->v[k + 1][t] = v.y;
        to->v[k + 2][t] = v.z;
        to->v[k + 3][t] = v.w;
    }
}

/* dt of a head in the block's frames, and its sums. All threads; a barrier is left to the caller. */
__device__ static inline void times_find(const struct mamba2_system *sys, const struct mamba2_signal *sig, size_t first,
                                         uint32_t head, struct times *to)
{
    uint32_t lane = threadIdx.x;
    float dt[2];
    double sum, before;

    if (lane >= CUDA_WARP)
        return;
    for (uint32_t i = 0; i < 2; i++)
        to->dt[2 * lane + i] = dt[i] = mamba2_dt(sys, sig, first + 2 * lane + i, head);
    sum = (double)dt[0] + dt[1];
    for (uint32_t apart = 1; apart < CUDA_WARP; apart *= 2) {
        before = __shfl_up_sync(CUDA_LANES, sum, apart);
        sum = lane >= apart ? before + sum : sum;
    }
    before = __shfl_up_sync(CUDA_LANES, sum, 1);
    to->sum[2 * lane] = (lane > 0 ? before : 0) + dt[0];
    to->sum[2 * lane + 1] = sum;
}

/* What is left, at frame t, of what came at frame s. */
__device__ static inline float decay_between(const struct times *times, float rate, uint32_t s, uint32_t t)
{
    return cuda_exp2((float)(times->sum[t] - times->sum[s]) * rate);
}

__global__ static void __launch_bounds__(THREADS) mamba2_products(struct mamba2_system sys, struct mamba2_signal sig,
                                                                  struct mamba2_blocks blocks, struct cuda_span span)
{
    __shared__ struct operand b, c;
    uint32_t group = blockIdx.x, slot = blockIdx.y, t = 0, lane = sys.inner + group * sys.state_lanes;
    uint32_t behind = sys.groups * sys.state_lanes; /* C behind B */
    const struct cuda_row *row = cuda_slot_row(&span, slot, &t);
    float *to = blocks.products + ((size_t)slot * sys.groups + group) * SIDE * SIDE;
    float4 sum[ROWS];

    if (!row)
        return;
    const float *mixed = sig.mixed + (size_t)(row->first + t) * sys.window;

    tile_clear(sum);
    for (uint32_t n = 0; n < sys.states; n += SIDE) {
        __syncthreads();
        lanes_stage_turned(mixed, sys.window, lane + n, lane + sys.state_lanes, &b);
        lanes_stage_turned(mixed + behind, sys.window, lane + n, lane + sys.state_lanes, &c);
        __syncthreads();
        tile_multiply(&b, &c, sum);
    }
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
        *reinterpret_cast<float4 *>(to + (thread_row() + r) * SIDE + thread_column()) = sum[r];
}

__global__ static void __launch_bounds__(THREADS)
    mamba2_leave(struct mamba2_system sys, struct mamba2_signal sig, struct mamba2_blocks blocks, struct cuda_span span)
{
    __shared__ struct operand b, x;
    __shared__ struct times times;
    uint32_t stretches = (sys.head_lanes + SIDE - 1) / SIDE, head = blockIdx.x / stretches, slot = blockIdx.z, t = 0;
    uint32_t p = blockIdx.x % stretches * SIDE, n = blockIdx.y * SIDE, lane = mamba2_group_lane(&sys, head);
    const struct cuda_row *row = cuda_slot_row(&span, slot, &t);
    float *to = mamba2_block_state(&sys, &blocks, slot, head);
    float4 sum[ROWS];

    if (!row)
        return;
    size_t first = row->first + t;
    const float *mixed = sig.mixed + first * sys.window;

    times_find(&sys, &sig, first, head, &times);
    lanes_stage(mixed, sys.window, lane + n, lane + sys.state_lanes, &b);
    lanes_stage(mixed, sys.window, head * sys.head_lanes + p, (head + 1) * sys.head_lanes, &x);
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < FRAMES * SIDE; i += THREADS) {
        uint32_t s = i / SIDE;

        x.v[s][i % SIDE] *= decay_between(&times, sys.rate[head], s, FRAMES - 1) * times.dt[s];
    }
    __syncthreads();
    tile_clear(sum);
    tile_multiply(&b, &x, sum);
    p += thread_column();
    n += thread_row();
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++)
        if (p < sys.head_lanes && n + r < sys.states)
            *reinterpret_cast<float4 *>(to + (p / 16 * (size_t)sys.state_padded + n + r) * 16 + p % 16) = sum[r];
    if (threadIdx.x == 0 && blockIdx.y == 0)
        blocks.dt[(size_t)slot * sys.heads + head] = (float)times.sum[FRAMES - 1];
}

/* States [n, n + 64) of a head's channels [p, p + 64), of (P16/16, N4, 16), to to.v[state][channel]. */
__device__ static inline void states_stage(const struct mamba2_system *sys, const float *h, uint32_t p, uint32_t n,
                                           struct operand *to)
{
    for (uint32_t i = threadIdx.x; i < SIDE * SIDE / 4; i += THREADS) {
        uint32_t k = i / 4 % SIDE, c = i / (4 * SIDE) * 16 + i % 4 * 4;
        float4 v = cuda_quad(0);

        if (p + c < sys->head_lanes && n + k < sys->states)
            v = __ldg(
                reinterpret_cast<const float4 *>(h + ((p + c) / 16 * (size_t)sys->state_padded + n + k) * 16 + c % 16));
        *reinterpret_cast<float4 *>(&to->v[k][c]) = v;
    }
}

/* Products to what frame s counts at frame t, to.v[s][t]. */
__device__ static inline void weights_stage(const float *products, const struct times *times, float rate,
                                            struct operand *to)
{
    for (uint32_t i = threadIdx.x; i < FRAMES * FRAMES; i += THREADS) {
        uint32_t s = i / FRAMES, t = i % FRAMES;

        to->v[s][t] = s <= t ? __ldg(products + i) * (decay_between(times, rate, s, t) * times->dt[s]) : 0;
    }
}

__global__ static void __launch_bounds__(THREADS) mamba2_outputs(struct mamba2_system sys, struct mamba2_signal sig,
                                                                 struct mamba2_blocks blocks, struct cuda_span span)
{
    __shared__ struct operand left, right;
    __shared__ struct times times;
    uint32_t stretches = (sys.head_lanes + SIDE - 1) / SIDE, head = blockIdx.x / stretches, slot = blockIdx.y, t = 0;
    uint32_t p = blockIdx.x % stretches * SIDE, lane = mamba2_group_lane(&sys, head);
    uint32_t group = head / (sys.heads / sys.groups), behind = sys.groups * sys.state_lanes, of = head * sys.head_lanes;
    const struct cuda_row *row = cuda_slot_row(&span, slot, &t);
    const float *h = mamba2_block_state(&sys, &blocks, slot, head);
    float4 sum[ROWS];

    if (!row)
        return;
    size_t first = row->first + t;
    const float *mixed = sig.mixed + first * sys.window;

    times_find(&sys, &sig, first, head, &times);
    tile_clear(sum);
    for (uint32_t n = 0; n < sys.states; n += SIDE) {
        __syncthreads();
        lanes_stage_turned(mixed + behind, sys.window, lane + n, lane + sys.state_lanes, &left);
        states_stage(&sys, h, p, n, &right);
        __syncthreads();
        tile_multiply(&left, &right, sum);
    }
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) /* the state's decay until each frame */
        sum[r] = cuda_quad_mul(sum[r], cuda_quad(cuda_exp2((float)times.sum[thread_row() + r] * sys.rate[head])));
    __syncthreads();
    weights_stage(blocks.products + ((size_t)slot * sys.groups + group) * SIDE * SIDE, &times, sys.rate[head], &left);
    lanes_stage(mixed, sys.window, of + p, of + sys.head_lanes, &right);
    __syncthreads();
    tile_multiply(&left, &right, sum);
    p += thread_column();
    if (p >= sys.head_lanes)
        return;
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        float4 x = *reinterpret_cast<const float4 *>(&right.v[thread_row() + r][thread_column()]);

        *reinterpret_cast<float4 *>(sig.y + (first + thread_row() + r) * sys.inner + of + p) =
            cuda_quad_fma(cuda_quad(sys.d[head]), x, sum[r]);
    }
}

cudaError_t cuda_mamba2_leave(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                              const struct mamba2_blocks *blocks, const struct cuda_span *span, cudaStream_t stream)
{
    uint32_t slots = cuda_slots(span), heads = sys->heads * cuda_blocks(sys->head_lanes, SIDE);

    CUDA_LAUNCH(mamba2_products, dim3(sys->groups, slots), dim3(THREADS), 0, stream, *sys, *sig, *blocks, *span);
    CUDA_LAUNCH(mamba2_leave, dim3(heads, cuda_blocks(sys->states, SIDE), slots), dim3(THREADS), 0, stream, *sys, *sig,
                *blocks, *span);
    return cudaGetLastError();
}

cudaError_t cuda_mamba2_finish(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                               const struct mamba2_blocks *blocks, const struct cuda_span *span, cudaStream_t stream)
{
    uint32_t heads = sys->heads * cuda_blocks(sys->head_lanes, SIDE);

    CUDA_LAUNCH(mamba2_outputs, dim3(heads, cuda_slots(span)), dim3(THREADS), 0, stream, *sys, *sig, *blocks, *span);
    return cudaGetLastError();
}
