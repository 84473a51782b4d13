/* SPDX-License-Identifier: Apache-2.0
 *
 * rls: recursive least squares with exponential forgetting, frame by frame, in float64 (definition in
 * ssm/layers/rls.c, what it computes and why in ssm/cpu/rls.c; layout in ssm/layers/rls.h).
 *
 *     v = S' g,  a = l + v'v,  k = S v / a,  W += (u - W g) k',  S = (S - c (S v) v') / sqrt(l)
 *
 * for what was heard, and once more for the imagined observation "weight i is 0", whose direction is row i of the S that
 * the first one leaves. A row of S needs nothing of other rows for either but v and that direction: so S is read once
 * for v, and once more, row by row, for its products with both and the turns that they make.
 *
 * One block takes a stream through all its frames. S, W and the means lie in shared memory when they fit there, else
 * where they are; the two rings stay in the state.
 *
 * SHAPES   x (frames, K); signal (frames, inputs), its first `targets` are u; y (frames, 3 targets): predictions for
 *          t+h, errors of the predictions for t, scores.
 * BITS     v: a chain for each of the groups of threads that the width leaves room for, added in order. Sums along a
 *          row: 32 chains, folded in halves. Both depend on n alone. Cuts and views do not matter.
 * COST     per frame 10 n^2 flops in float64, S being read twice and written once. What must move is the state, once
 *          there and back for a launch, 16 n^2 bytes, and that is the floor: 10,000 streams of 33 features are 0.22 GB
 *          or 75 us at 3.0 TB/s. A frame alone takes what its seven barriers take.
 * ERROR    against the definition in float64: the rounding of the float32 features and outputs. */
#include <float.h>
#include <math.h>

#include "cuda/kind.cuh"
#include "ssm/layers/rls.h"

#define THREADS      256u        /* of a block, at most */
#define SHARED_BYTES (96u << 10) /* of a block, at most: every device has them for the asking */

/* What the kernel is given. */
struct learning {
    struct cuda_span span;
    struct ssm_rls p;
    double forgetting_root;         /* sqrt(l) */
    double short_share, long_share; /* what a mean takes of a new error, at least */
    bool resident;                  /* the state but for its rings is in shared memory */
    uint32_t groups, columns;       /* of threads: so many times so many share v */
    uint32_t in, out, state_offset;
    const float *x, *signal;
    float *y;
};

/* One observation, ready to be applied row by row. */
struct observation {
    double gain;   /* 1 / a: k = S v / a */
    double turn;   /* c / sqrt(l) */
    double shrink; /* 1 / sqrt(l) */
};

/* Of one target: what it was found to be off by, and the weight that the imagined observation says is 0. */
struct lesson {
    double off, weight;
};

/* What a block works on: arrays of n in shared memory, and the state, there or where it is. */
struct work {
    double *past, *now;               /* g = f_(t-h), and f_t: the features and 1 */
    double *seen, *ridge;             /* v of the observation, and of the imagined one */
    double *seen_along, *ridge_along; /* S v */
    double *part;                     /* (groups, ld) of v */
    struct lesson *lesson;            /* (targets) */
    struct observation *observed;     /* (2) */
    double *root, *weights, *means;
};

/* One frame of one row. */
struct frame {
    uint64_t t;
    const float *x, *u;
    float *y;
    float *features, *issued; /* its slots of the rings */
};

static __host__ __device__ inline size_t work_doubles(const struct ssm_rls *p, uint32_t groups)
{
    return (6 + (size_t)groups) * p->ld + 2 * (size_t)p->targets + 6;
}

__device__ static struct work work_make(const struct learning &a, double *shared, unsigned char *state)
{
    uint32_t ld = a.p.ld;
    unsigned char *at = a.resident ? (unsigned char *)(shared + work_doubles(&a.p, a.groups)) : state;
    struct work w;

    w.past = shared;
    w.now = w.past + ld;
    w.seen = w.now + ld;
    w.ridge = w.seen + ld;
    w.seen_along = w.ridge + ld;
    w.ridge_along = w.seen_along + ld;
    w.part = w.ridge_along + ld;
    w.lesson = (struct lesson *)(w.part + a.groups * ld);
    w.observed = (struct observation *)(w.lesson + a.p.targets);
    w.root = (double *)at;
    w.weights = (double *)(at + a.p.weights_at);
    w.means = (double *)(at + a.p.means_at);
    return w;
}

/* ---- an observation ---------------------------------------------------------------------------------------------- */

/* The sum of all lanes' own, to all lanes of the warp. */
__device__ static inline double lanes_add(double sum)
{
#pragma unroll
    for (uint32_t apart = CUDA_WARP / 2; apart > 0; apart /= 2)
        sum += __shfl_xor_sync(CUDA_LANES, sum, apart);
    return sum;
}

/* sum over j < n of a[j] b[j], by one warp. */
__device__ static double dot(const double *a, const double *b, uint32_t n)
{
    double sum = 0;

    for (uint32_t j = threadIdx.x % CUDA_WARP; j < n; j += CUDA_WARP)
        sum = fma(a[j], b[j], sum);
    return lanes_add(sum);
}

/* square: v'v */
__device__ static struct observation observation_weigh(double square, double l, double root)
{
    double a = l + square;

    return observation{1 / a, 1 / (a * (1 + sqrt(l / a)) * root), 1 / root};
}

/* v = S' g, in parts: some rows of S each. */
__device__ static void direction_part(const struct learning &a, const struct work &w)
{
    uint32_t column = threadIdx.x % a.columns, group = threadIdx.x / a.columns, n = a.p.n, ld = a.p.ld;

    for (uint32_t j = column; group < a.groups && j < n; j += a.columns) {
        double sum = 0;

#pragma unroll 4
        for (uint32_t i = group; i < n; i += a.groups)
            sum = fma(w.past[i], w.root[(size_t)i * ld + j], sum);
        w.part[group * ld + j] = sum;
    }
}

__device__ static void direction_join(const struct learning &a, const struct work &w)
{
    for (uint32_t j = threadIdx.x; j < a.p.n; j += blockDim.x) {
        double sum = w.part[j];

        for (uint32_t group = 1; group < a.groups; group++)
            sum += w.part[group * a.p.ld + j];
        w.seen[j] = sum;
    }
}

/* Both observations, weight i being the imagined one's, by one warp. */
__device__ static void observations_make(const struct learning &a, const struct work &w, uint32_t i)
{
    uint32_t lane = threadIdx.x % CUDA_WARP, n = a.p.n;
    const double *row = w.root + (size_t)i * a.p.ld;
    struct observation seen, ridge;
    double by, square = 0;

    seen = observation_weigh(dot(w.seen, w.seen, n), a.p.forgetting, a.forgetting_root);
    by = -seen.turn * dot(row, w.seen, n);
    for (uint32_t j = lane; j < n; j += CUDA_WARP) {
        double v = a.p.pull * fma(by, w.seen[j], seen.shrink * row[j]);

        w.ridge[j] = v;
        square = fma(v, v, square);
    }
    ridge = observation_weigh(lanes_add(square), 1, 1);
    if (lane == 0) {
        w.observed[0] = seen;
        w.observed[1] = ridge;
    }
}

/* What the targets say, by the warps from `warp` 0 on. */
__device__ static void lessons_take(const struct learning &a, const struct work &w, const float *u, uint32_t i,
                                    uint32_t warp, uint32_t warps)
{
    for (uint32_t c = warp; c < a.p.targets; c += warps) {
        const double *weights = w.weights + (size_t)c * a.p.ld;
        double off = u[c] - dot(weights, w.past, a.p.n);

        if (threadIdx.x % CUDA_WARP == 0)
            w.lesson[c] = lesson{off, weights[i]};
    }
}

/* Row by row, a warp each: the products with both directions, and the turns. */
__device__ static void rows_turn(const struct learning &a, const struct work &w)
{
    uint32_t lane = threadIdx.x % CUDA_WARP, n = a.p.n;
    struct observation seen = w.observed[0], ridge = w.observed[1];

    for (uint32_t i = threadIdx.x / CUDA_WARP; i < n; i += blockDim.x / CUDA_WARP) {
        double *row = w.root + (size_t)i * a.p.ld;
        double along = dot(row, w.seen, n), by = -seen.turn * along, next = 0;

        for (uint32_t j = lane; j < n; j += CUDA_WARP) {
            row[j] = fma(by, w.seen[j], seen.shrink * row[j]);
            next = fma(row[j], w.ridge[j], next);
        }
        next = lanes_add(next);
        by = -ridge.turn * next;
        for (uint32_t j = lane; j < n; j += CUDA_WARP)
            row[j] = fma(by, w.ridge[j], ridge.shrink * row[j]);
        if (lane == 0) {
            w.seen_along[i] = along;
            w.ridge_along[i] = next;
        }
    }
}

__device__ static void weights_learn(const struct learning &a, const struct work &w, uint32_t i)
{
    double gain = w.observed[0].gain, ridge_gain = w.observed[1].gain;

    for (uint32_t c = 0; c < a.p.targets; c++) {
        double *weights = w.weights + (size_t)c * a.p.ld, seen = w.lesson[c].off * gain;
        double ridge = -a.p.pull * fma(seen, w.seen_along[i], w.lesson[c].weight) * ridge_gain;

        for (uint32_t j = threadIdx.x; j < a.p.n; j += blockDim.x)
            weights[j] = fma(ridge, w.ridge_along[j], fma(seen, w.seen_along[j], weights[j]));
    }
}

/* Learn from the pair (g, u): the observation, then the regularising one along weight i. */
__device__ static void learn(const struct learning &a, const struct work &w, const struct frame &f)
{
    uint32_t warp = threadIdx.x / CUDA_WARP, i = (uint32_t)((f.t - a.p.horizon) % a.p.n);

    direction_part(a, w);
    __syncthreads();
    direction_join(a, w);
    __syncthreads();
    if (warp == 0)
        observations_make(a, w, i);
    else
        lessons_take(a, w, f.u, i, warp - 1, blockDim.x / CUDA_WARP - 1);
    __syncthreads();
    rows_turn(a, w);
    __syncthreads();
    weights_learn(a, w, i);
    __syncthreads();
}

/* ---- a frame ----------------------------------------------------------------------------------------------------- */

/* Update the running means with the squared error of the prediction that left h frames ago; `heard` such errors came
 * before this one. Returns the score. */
__device__ static float score(const struct learning &a, double *means, double error, uint64_t heard)
{
    double own = 1 / ((double)heard + 1), square = error * error;

    means[0] += (a.short_share > own ? a.short_share : own) * (square - means[0]);
    means[1] += (a.long_share > own ? a.long_share : own) * (square - means[1]);
    return means[1] > 0 ? (float)sqrt(means[0] / means[1]) : 0;
}

/* Into float32; what is too large for it becomes the largest, since one infinite error would spoil the means for
 * good. */
__device__ static inline float narrow(double x)
{
    return (float)(x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x);
}

/* The features of h frames ago give way to those of now. */
__device__ static void features_take(const struct learning &a, const struct work &w, const struct frame &f)
{
    for (uint32_t k = threadIdx.x; k < a.p.n; k += blockDim.x) {
        bool feature = k < a.p.features;

        w.past[k] = feature ? f.features[k] : 1;
        w.now[k] = feature ? f.x[k] : 1;
        if (feature)
            f.features[k] = f.x[k];
    }
}

/* Judge what was predicted for now, and predict; a warp for each target. */
__device__ static void targets_predict(const struct learning &a, const struct work &w, const struct frame &f)
{
    uint32_t targets = a.p.targets;

    for (uint32_t c = threadIdx.x / CUDA_WARP; c < targets; c += blockDim.x / CUDA_WARP) {
        double next = dot(w.weights + (size_t)c * a.p.ld, w.now, a.p.n);
        float error = 0, strange = 0;

        if (threadIdx.x % CUDA_WARP != 0)
            continue;
        if (f.t >= a.p.horizon) {
            error = narrow((double)f.u[c] - f.issued[c]);
            strange = score(a, w.means + 2 * (size_t)c, error, f.t - a.p.horizon);
        }
        f.y[c] = f.issued[c] = narrow(next);
        f.y[targets + c] = error;
        f.y[2 * targets + c] = strange;
    }
}

/* ---- a row ------------------------------------------------------------------------------------------------------- */

/* (bytes) between state and shared memory, a multiple of 16. */
__device__ static void state_move(void *to, const void *from, size_t bytes)
{
    double2 *there = (double2 *)to;
    const double2 *here = (const double2 *)from;

    for (size_t i = threadIdx.x; i < bytes / sizeof(double2); i += blockDim.x)
        there[i] = here[i];
}

/* Block: row. Warps meet at the barriers of every frame. */
__global__ static void __launch_bounds__(THREADS) learn_rows(struct learning a)
{
    CUDA_SHARED(double, shared);
    const struct cuda_row *row = &a.span.rows[blockIdx.x];
    unsigned char *state;
    struct work w;
    uint32_t slot;

    if (blockIdx.x >= a.span.count->rows || row->frames == 0)
        return;
    state = cuda_row_state<unsigned char>(row, a.state_offset);
    w = work_make(a, shared, state);
    if (a.resident)
        state_move(w.root, state, a.p.features_at);
    __syncthreads();
    if (row->index == 0)
        for (uint32_t i = threadIdx.x; i < a.p.n; i += blockDim.x)
            w.root[(size_t)i * a.p.ld + i] = 1 / sqrt(a.p.regularization);
    slot = (uint32_t)(row->index % a.p.horizon);
    for (uint32_t i = 0; i < row->frames; i++) {
        size_t at = (size_t)row->first + i;
        struct frame f;

        f.t = row->index + i;
        f.x = a.x + at * a.in;
        f.u = a.signal + at * a.p.inputs;
        f.y = a.y + at * a.out;
        f.features = (float *)(state + a.p.features_at) + (size_t)slot * a.p.features;
        f.issued = (float *)(state + a.p.issued_at) + (size_t)slot * a.p.targets;
        features_take(a, w, f);
        __syncthreads();
        if (f.t >= a.p.horizon)
            learn(a, w, f);
        targets_predict(a, w, f);
        __syncthreads();
        slot = slot + 1 < a.p.horizon ? slot + 1 : 0;
    }
    if (a.resident)
        state_move(state, w.root, a.p.features_at);
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

static cudaError_t launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct ssm_rls *p = (const struct ssm_rls *)l->layer->params;
    uint32_t threads = p->n <= 64 ? THREADS / 2 : THREADS, columns = (p->n + CUDA_WARP - 1) / CUDA_WARP * CUDA_WARP;
    struct learning a = {};
    size_t bytes;
    cudaError_t error;

    a.span = tile->clock[l->layer->clock];
    a.p = *p;
    a.forgetting_root = sqrt(p->forgetting);
    a.short_share = 1 / p->short_frames;
    a.long_share = 1 / p->long_frames;
    a.columns = columns < threads ? columns : threads;
    a.groups = threads / a.columns;
    a.in = l->layer->in;
    a.out = l->layer->out;
    a.state_offset = l->layer->state_offset;
    a.x = x;
    a.signal = tile->signal;
    a.y = y;
    bytes = work_doubles(p, a.groups) * sizeof(double);
    a.resident = bytes + p->features_at <= SHARED_BYTES;
    bytes += a.resident ? p->features_at : 0;
    error = cudaFuncSetAttribute(learn_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_BYTES);
    if (error)
        return error;
    CUDA_LAUNCH(learn_rows, dim3(a.span.rows_room), dim3(threads), bytes, tile->stream, a);
    return cudaGetLastError();
}

const struct cuda_kind cuda_kind_rls = {NULL, NULL, launch};
