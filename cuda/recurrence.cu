/* SPDX-License-Identifier: Apache-2.0
 *
 * Dense recurrences; see recurrence.cuh.
 *
 * A block takes ROWS states (rows, or channels of them) through all their frames, h in shared memory, twice, so that
 * one barrier a frame is enough. Four neighbouring lanes share a unit and all its gates: of every 16 inputs each takes
 * four, and two shuffles join their sums. So the unit's weights are loaded by vectors, once for all ROWS, and the cell
 * finds its gates in one lane; the rows' cells go round the four lanes. W stays in shared memory where it fits, and
 * else is read from L2 for every frame.
 *
 * SHAPES   recurrence.cuh. Rows of a block with fewer frames idle until its longest one is through.
 * BITS     sum of a gate: bias + inputs 0..3, 16..19, ... in index order; likewise from 4, 8 and 12 on, from 0; then
 *          (first + second) + (third + fourth). Nothing but H has a say in it, and a row sees no other.
 * COST     2*G*H*H flops a frame and state. For a block, ROWS states a frame: 4*G*H*H bytes of weights, from shared
 *          memory at 128 bytes a clock or from L2 at 64, against G*H*H*ROWS/128 clocks of products, which are as many
 *          from 4 or 8 states on. One state alone is bound by the bytes: H = 128 of gru, 196 KB, 1536 clocks.
 * ERROR    of a sum (H/4 + 3) eps sum |W||h| + the bias's. */
#include <stdlib.h>

#include "cuda/math.cuh"
#include "cuda/recurrence.cuh"

#define THREADS_MAX   512u
#define SPLIT         4u   /* lanes of a unit */
#define BLOCK         16u  /* inputs that they take together */
#define FULL_GRID     264u /* blocks that fill the device: 132 multiprocessors with two each */
#define INSIDE_FRAMES 4u   /* of a row from which on it pays to bring W into shared memory first */

void cuda_recurrence_build(struct cuda_build *b, enum cuda_cell cell, const struct ssm_matrix *hidden,
                           const float *bias, struct cuda_recurrence *out)
{
    uint32_t H = hidden->in, outputs = hidden->out, blocks = cuda_blocks(H, BLOCK);
    size_t bytes = (size_t)blocks * outputs * BLOCK * sizeof(float);
    float *packed = (float *)calloc(1, bytes + 1);
    int device = 0, shared = 0;

    if (cudaGetDevice(&device) == cudaSuccess)
        (void)cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    for (size_t i = 0; packed && i < H; i++)
        for (size_t o = 0; o < outputs; o++)
            packed[((i / BLOCK) * outputs + o) * BLOCK + i % BLOCK] =
                hidden->panels[((o / SSM_PANEL) * H + i) * SSM_PANEL + o % SSM_PANEL];
    out->cell = cell;
    out->units = H;
    out->gates = outputs / H;
    out->shared = (uint32_t)shared;
    out->weights = (const float4 *)cuda_upload(b, packed, bytes); /* NULL: a failure too */
    out->bias = bias ? cuda_upload_floats(b, bias, outputs) : NULL;
    free(packed);
}

/* One of the block's states. */
struct place {
    float *state;
    uint32_t first, frames, channel;
};

/* Floats of an h in shared memory. */
__host__ __device__ static inline uint32_t h_room(uint32_t units)
{
    return (units + BLOCK - 1) / BLOCK * BLOCK;
}

/* This lane's part of the sums of a unit: (ROWS, G). */
template <int G, int ROWS, bool INSIDE>
__device__ static inline void unit_sum(const struct cuda_recurrence *r, const float4 *weights, const float *h,
                                       uint32_t unit, float (*sum)[G])
{
    uint32_t lane = threadIdx.x % SPLIT, room = h_room(r->units);

#pragma unroll
    for (int g = 0; g < G; g++) {
        float start = lane == 0 && r->bias ? r->bias[g * r->units + unit] : 0;

#pragma unroll
        for (int n = 0; n < ROWS; n++)
            sum[n][g] = start;
    }
    weights += unit * SPLIT + lane;
    /* some 8 vectors of weights are under way */
#pragma unroll(ROWS == 1 ? 8 / G : ROWS == 4 ? 2 : 1)
    for (uint32_t i = 0; i < room / BLOCK; i++, weights += (size_t)G * r->units * SPLIT) {
        float4 w[G];

#pragma unroll
        for (int g = 0; g < G; g++)
            w[g] = INSIDE ? weights[g * r->units * SPLIT] : __ldg(weights + g * r->units * SPLIT);
#pragma unroll
        for (int n = 0; n < ROWS; n++) {
            float4 v = *reinterpret_cast<const float4 *>(h + n * room + i * BLOCK + lane * 4);

#pragma unroll
            for (int g = 0; g < G; g++)
                sum[n][g] = fmaf(w[g].w, v.w, fmaf(w[g].z, v.z, fmaf(w[g].y, v.y, fmaf(w[g].x, v.x, sum[n][g]))));
        }
    }
}

/* Of four sums that four lanes have parts of, number `lane` to each: (first + second) + (third + fourth) lane's. */
__device__ static inline float sums_share(float a, float b, float c, float d)
{
    bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
    float low = odd ? b : a, up = odd ? d : c;

    low += __shfl_xor_sync(CUDA_LANES, odd ? a : b, 1);
    up += __shfl_xor_sync(CUDA_LANES, odd ? c : d, 1);
    return (high ? up : low) + __shfl_xor_sync(CUDA_LANES, high ? low : up, 2);
}

/* The same of one sum, to all four. */
__device__ static inline float sum_share(float a)
{
    a += __shfl_xor_sync(CUDA_LANES, a, 1);
    return a + __shfl_xor_sync(CUDA_LANES, a, 2);
}

/* The sums that this lane's cells need: those of rows lane, lane + 4, ...; of one row alone to all lanes. */
template <int G, int ROWS> __device__ static inline void unit_share(const float (*sum)[G], float (*own)[G])
{
#pragma unroll
    for (int g = 0; g < G; g++) {
        if (ROWS == 1)
            own[0][g] = sum_share(sum[0][g]);
#pragma unroll
        for (int n = 0; n + 3 < ROWS; n += 4)
            own[n / 4][g] = sums_share(sum[n][g], sum[n + 1][g], sum[n + 2][g], sum[n + 3][g]);
    }
}

/* The next h of a unit; c is lstm's alone. */
template <int G>
__device__ static inline float cell_next(enum cuda_cell cell, const float *in, const float *sum, float h, float *c)
{
    if (G == 1)
        return cell == CUDA_CELL_RNN ? cuda_tanh(in[0] + sum[0]) : h + (in[0] + sum[0]);
    if (G == 3) {
        float reset = cuda_sigmoid(in[0] + sum[0]), z = cuda_sigmoid(in[1 % G] + sum[1 % G]);
        float n = cuda_tanh(fmaf(reset, sum[2 % G], in[2 % G]));

        return fmaf(z, h - n, n); /* (1 - z) n + z h */
    }
    float enter = cuda_sigmoid(in[0] + sum[0]), forget = cuda_sigmoid(in[1 % G] + sum[1 % G]);
    float candidate = cuda_tanh(in[2 % G] + sum[2 % G]), leave = cuda_sigmoid(in[3 % G] + sum[3 % G]);

    *c = fmaf(forget, *c, enter * candidate);
    return leave * cuda_tanh(*c);
}

/* What a lane's cells read besides the sums, loaded before them. */
template <int G> struct cell_reads {
    float in[G], c;
};

template <int G>
__device__ static inline void cell_load(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                        const struct place *at, uint32_t t, uint32_t unit, struct cell_reads<G> *reads)
{
    const float *in = run->in + (at->first + t) * run->in_stride + at->channel * run->in_channel;

    if (run->factor)
        reads->in[0] = *in * run->factor[unit];
    else
#pragma unroll
        for (int g = 0; g < G; g++)
            reads->in[g] = in[g * r->units + unit];
    if (G == 4)
        reads->c = at->state[r->units + unit];
}

template <int G>
__device__ static inline void cell_apply(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                         const struct place *at, uint32_t t, uint32_t unit, struct cell_reads<G> *reads,
                                         const float *sum, float h, float *next)
{
    float value = cell_next<G>(r->cell, reads->in, sum, h, &reads->c);

    *next = value;
    run->out[(at->first + t) * run->out_stride + (size_t)at->channel * r->units + unit] = value;
    if (G == 4)
        at->state[r->units + unit] = reads->c;
    if (t + 1 == at->frames)
        at->state[unit] = value;
}

/* Frame t of all the block's states, a unit for each four lanes. */
template <int G, int ROWS, bool INSIDE>
__device__ static inline void frame_step(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                         const struct place *places, const float4 *weights, const float *h, float *next,
                                         uint32_t t)
{
    const uint32_t each = (ROWS + SPLIT - 1) / SPLIT; /* cells of a lane */
    uint32_t lane = threadIdx.x % SPLIT, room = h_room(r->units);

    for (uint32_t base = threadIdx.x / CUDA_WARP * 8; base < r->units; base += blockDim.x / SPLIT) {
        uint32_t unit = base + threadIdx.x % CUDA_WARP / SPLIT;
        struct cell_reads<G> reads[each] = {
        };
        float sum[ROWS][G], own[each][G];
        bool runs[each];

#pragma unroll
        for (uint32_t k = 0; k < each; k++) {
            uint32_t n = k * SPLIT + lane;

            runs[k] = n < ROWS && unit < r->units && t < places[n].frames;
            if (runs[k])
                cell_load<G>(r, run, &places[n], t, unit, &reads[k]);
        }
        unit_sum<G, ROWS, INSIDE>(r, weights, h, min(unit, r->units - 1), sum);
        unit_share<G, ROWS>(sum, own);
#pragma unroll
        for (uint32_t k = 0; k < each; k++) {
            uint32_t n = k * SPLIT + lane, at = n * room + unit;

            if (runs[k])
                cell_apply<G>(r, run, &places[n], t, unit, &reads[k], own[k], h[at], next + at);
        }
    }
}

/* Where the block's states are, and the longest of their rows; those that are not there have no frames. */
template <int ROWS>
__device__ static inline uint32_t places_find(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                              const struct cuda_row *rows, uint64_t states, struct place *places)
{
    uint32_t longest = 0;

    if (threadIdx.x < ROWS) {
        uint64_t n = (uint64_t)blockIdx.x * ROWS + threadIdx.x;
        struct place at = {NULL, 0, 0, 0};

        if (n < states) {
            const struct cuda_row *row = &rows[n / run->channels];

            at.channel = (uint32_t)(n % run->channels);
            at.first = row->first;
            at.frames = row->frames;
            at.state = cuda_row_state<float>(row, run->state_offset) + (size_t)at.channel * r->units;
        }
        places[threadIdx.x] = at;
    }
    __syncthreads();
    for (uint32_t n = 0; n < ROWS; n++)
        longest = max(longest, places[n].frames);
    return longest;
}

template <int G, int ROWS, bool INSIDE>
__global__ __launch_bounds__(THREADS_MAX,
                             1) static void recurrence(struct cuda_recurrence r, struct cuda_recurrence_run run,
                                                       const struct cuda_row *rows, const struct cuda_count *count)
{
    __shared__ struct place places[ROWS];
    uint32_t room = h_room(r.units), longest;
    uint64_t states = (uint64_t)count->rows * run.channels;
    size_t vectors = INSIDE ? (size_t)room / BLOCK * G * r.units * SPLIT : 0;
    const float4 *weights = r.weights;

    CUDA_SHARED(float4, shared);
    float *h = reinterpret_cast<float *>(shared + vectors), *next = h + ROWS * room;

    if ((uint64_t)blockIdx.x * ROWS >= states)
        return;
    longest = places_find<ROWS>(&r, &run, rows, states, places);
    if (longest == 0)
        return;
    for (size_t i = threadIdx.x; i < vectors; i += blockDim.x)
        shared[i] = r.weights[i];
    if (INSIDE)
        weights = shared;
    for (uint32_t i = threadIdx.x; i < ROWS * room; i += blockDim.x) {
        const struct place *at = &places[i / room];

        h[i] = at->frames > 0 && i % room < r.units ? at->state[i % room] : 0;
        next[i] = 0;
    }
    for (uint32_t t = 0; t < longest; t++) {
        float *swap = h;

        __syncthreads();
        frame_step<G, ROWS, INSIDE>(&r, &run, places, weights, h, next, t);
        h = next;
        next = swap;
    }
}

template <int G, int ROWS, bool INSIDE>
static cudaError_t recurrence_run(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run, size_t shared,
                                  cudaStream_t stream)
{
    uint32_t threads = min(cuda_blocks(r->units * SPLIT, CUDA_WARP) * CUDA_WARP, THREADS_MAX);
    uint64_t states = (uint64_t)run->span->rows_room * run->channels;
    cudaError_t error = cudaFuncSetAttribute((const void *)recurrence<G, ROWS, INSIDE>,
                                             cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);

    if (error != cudaSuccess)
        return error;
    CUDA_LAUNCH((recurrence<G, ROWS, INSIDE>), dim3(cuda_blocks(states, ROWS)), dim3(threads), shared, stream, *r, *run,
                run->span->rows, run->span->count);
    return cudaGetLastError();
}

/* Weights inside where they fit beside the states and are used often enough to be brought there. */
template <int G, int ROWS>
static cudaError_t recurrence_place(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                    cudaStream_t stream)
{
    size_t states = (size_t)2 * ROWS * h_room(r->units) * sizeof(float);
    size_t weights = (size_t)h_room(r->units) * G * r->units * sizeof(float);

    if (run->span->longest_room >= INSIDE_FRAMES && states + weights + sizeof(struct place[ROWS]) <= r->shared)
        return recurrence_run<G, ROWS, true>(r, run, states + weights, stream);
    return recurrence_run<G, ROWS, false>(r, run, states, stream);
}

/* As many states in a block as leave a block for every multiprocessor. */
template <int G>
static cudaError_t recurrence_choose(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                     cudaStream_t stream)
{
    uint64_t states = (uint64_t)run->span->rows_room * run->channels;
    size_t each = (size_t)2 * h_room(r->units) * sizeof(float);

    if (states >= 8 * FULL_GRID && 8 * each + sizeof(struct place[8]) <= r->shared)
        return recurrence_place<G, 8>(r, run, stream);
    if (states >= 2 * FULL_GRID && 4 * each + sizeof(struct place[4]) <= r->shared)
        return recurrence_place<G, 4>(r, run, stream);
    return recurrence_place<G, 1>(r, run, stream);
}

cudaError_t cuda_recurrence_launch(const struct cuda_recurrence *r, const struct cuda_recurrence_run *run,
                                   cudaStream_t stream)
{
    if (run->span->rows_room == 0)
        return cudaSuccess;
    switch (r->gates) {
    case 1:
        return recurrence_choose<1>(r, run, stream);
    case 3:
        return recurrence_choose<3>(r, run, stream);
    default:
        return recurrence_choose<4>(r, run, stream);
    }
}
