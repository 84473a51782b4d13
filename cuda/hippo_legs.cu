/* SPDX-License-Identifier: Apache-2.0
 *
 * hippo legs, scaled: time-varying, A/t and B/t at frame t, with A = -(D + strict lower part of R R'), D = diag(n+1),
 * R_n = sqrt(2n+1). So a product and a solve need one running sum, and a warp takes it in five shuffles:
 *
 *     product   (A x)_n = -((n+1) x_n + R_n s_n),                         s_n = sum over k < n of R_k x_k
 *     solve     x_n <- (x_n - h R_n s_n) / (1 + h (n+1)),                 s_(n+1) = s_n + R_n x_n of the new x: affine
 *               in s_n, and maps compose:                                 s_(n+1) = s_n (1 - h n)/(1 + h (n+1)) + ...
 *
 *     t = 0      x = (u, 0, 0, ...)
 *     t >= 1     bilinear, forward, backward with A/t, B/t and step 1; zoh: x' = A x + B u over log(t+1) - log t, in
 *                Taylor steps below 1/|A|, |A| at most N^2 + N
 *
 * A warp, or above order 256 a block of four, has one channel of a row for all its frames, a lane EACH neighbouring
 * coefficients in registers; float64 within a frame, rounded to the float32 state after it, so that a row may be cut
 * anywhere.
 *
 * SHAPES   state and y (channels, N); u (channels).
 * BITS     lanes' sums in index order, and of lanes by doubling distances: given by N.
 * COST     some 15*N flops of float64 and 2*N quotients a frame and channel, and five steps of shuffles for each sum;
 *          with zoh 8*N for each of 18 (N^2 + N) log(1 + 1/t) terms. 4*N bytes out.
 * SOURCE   Gu et al. 2020, "HiPPO", theorem 2 and appendix D; the CPU's ssm/cpu/hippo.c. */
#include <math.h>

#include "cuda/hippo.cuh"
#include "ssm/discretize.h"

#define WARPS   4u /* of a block; 256 coefficients each at most are the definition's 1024 */
#define THREADS (WARPS * CUDA_WARP)
#define TERMS   18 /* of a Taylor step */

/* Where this lane's coefficients are. */
struct legs_lane {
    const double *R; /* shared: R_n of them, 0 beyond N */
    uint32_t from;   /* n of the first */
};

/* An affine map of the sum: s <- slope s + rest. */
struct legs_map {
    double slope, rest;
};

/* second after first */
__device__ static inline struct legs_map maps_join(struct legs_map first, struct legs_map second)
{
    struct legs_map both = {second.slope * first.slope, fma(second.slope, first.rest, second.rest)};

    return both;
}

/* What the maps of the channel's lanes before this one make of 0. With TEAM warps for a channel, which are its block,
 * all of them come here. */
template <int TEAM> __device__ static inline double maps_before(struct legs_map map)
{
    uint32_t lane = threadIdx.x % CUDA_WARP;
    struct legs_map before;

#pragma unroll
    for (uint32_t d = 1; d < CUDA_WARP; d *= 2) {
        struct legs_map other = {__shfl_up_sync(CUDA_LANES, map.slope, d), __shfl_up_sync(CUDA_LANES, map.rest, d)};

        if (lane >= d)
            map = maps_join(other, map);
    }
    before.slope = __shfl_up_sync(CUDA_LANES, map.slope, 1);
    before.rest = __shfl_up_sync(CUDA_LANES, map.rest, 1);
    if (lane == 0)
        before = {1, 0};
    if (TEAM > 1) {
        __shared__ struct legs_map warps[TEAM];
        double start = 0;

        if (lane == CUDA_WARP - 1)
            warps[threadIdx.x / CUDA_WARP] = map;
        __syncthreads();
        for (uint32_t w = 0; w < threadIdx.x / CUDA_WARP; w++)
            start = fma(warps[w].slope, start, warps[w].rest);
        __syncthreads();
        return fma(before.slope, start, before.rest);
    }
    return before.rest;
}

/* x <- keep x + h A x */
template <int EACH, int TEAM>
__device__ static inline void legs_product(struct legs_lane at, double keep, double h, double *x)
{
    double sum = 0, before;

#pragma unroll
    for (uint32_t k = 0; k < EACH; k++)
        sum = fma(at.R[k], x[k], sum);
    before = maps_before<TEAM>({1, sum});
#pragma unroll
    for (uint32_t k = 0; k < EACH; k++) {
        double v = x[k];

        x[k] = fma(-h, fma(at.from + k + 1.0, v, at.R[k] * before), keep * v);
        before = fma(at.R[k], v, before);
    }
}

/* x <- (I - h A)^-1 x */
template <int EACH, int TEAM> __device__ static inline void legs_solve(struct legs_lane at, double h, double *x)
{
    struct legs_map map = {1, 0};
    double before;

#pragma unroll
    for (uint32_t k = 0; k < EACH; k++) {
        double n = at.from + k, q = 1 / fma(h, n + 1, 1.0);

        map = maps_join(map, {fma(-h, n, 1.0) * q, at.R[k] * q * x[k]});
    }
    before = maps_before<TEAM>(map);
#pragma unroll
    for (uint32_t k = 0; k < EACH; k++) {
        x[k] = fma(-h * at.R[k], before, x[k]) / fma(h, at.from + k + 1.0, 1.0);
        before = fma(at.R[k], x[k], before);
    }
}

/* x <- the solution of x' = A x + B u after `time`, u constant. The input is one more coordinate, which only the first
 * term sees. */
template <int EACH, int TEAM>
__device__ static inline void legs_flow(struct legs_lane at, double u, double time, uint32_t N, double *x)
{
    double steps = ceil(time * ((double)N * N + N)), h = time / steps, term[EACH];

    for (double s = 0; s < steps; s++) {
#pragma unroll
        for (uint32_t i = 0; i < EACH; i++)
            term[i] = x[i];
#pragma unroll 1
        for (int k = 1; k <= TERMS; k++) {
            double factor = h / k, enters = k == 1 ? factor * u : 0;

            legs_product<EACH, TEAM>(at, 0, factor, term);
#pragma unroll
            for (uint32_t i = 0; i < EACH; i++) {
                term[i] = fma(at.R[i], enters, term[i]);
                x[i] += term[i];
            }
        }
    }
}

template <int EACH, int TEAM>
__device__ static inline void legs_step(struct legs_lane at, int how, uint64_t t, double u, uint32_t N, double *x)
{
    double h = 1 / (double)t, ahead = how == SSM_BILINEAR ? h / 2 : how == SSM_FORWARD ? h : 0;
    double behind = how == SSM_BILINEAR ? h / 2 : how == SSM_BACKWARD ? h : 0;

    if (how == SSM_ZOH) {
        legs_flow<EACH, TEAM>(at, u, log1p(h), N, x);
        return;
    }
    if (ahead > 0)
        legs_product<EACH, TEAM>(at, 1, ahead, x);
#pragma unroll
    for (uint32_t k = 0; k < EACH; k++)
        x[k] = fma(h * at.R[k], u, x[k]);
    if (behind > 0)
        legs_solve<EACH, TEAM>(at, behind, x);
}

/* All frames of one channel of a row. Coefficients beyond N stay 0, for their R is. */
template <int EACH, int TEAM>
__device__ static inline void channel_run(struct legs_lane at, const struct cuda_legs *legs, const struct cuda_row *row,
                                          uint32_t channel, const float *u, float *y)
{
    uint32_t N = legs->order;
    float *state = cuda_row_state<float>(row, legs->state_offset) + (size_t)channel * N + at.from;
    double x[EACH];

#pragma unroll
    for (uint32_t k = 0; k < EACH; k++)
        x[k] = at.from + k < N ? state[k] : 0;
    for (uint32_t t = 0; t < row->frames; t++) {
        size_t frame = row->first + t;
        double in = u[frame * legs->channels + channel];
        float *out = y + (frame * legs->channels + channel) * N + at.from;

        if (row->index + t > 0)
            legs_step<EACH, TEAM>(at, legs->how, row->index + t, in, N, x);
        else
#pragma unroll
            for (uint32_t k = 0; k < EACH; k++)
                x[k] = at.from + k == 0 ? in : 0;
#pragma unroll
        for (uint32_t k = 0; k < EACH; k++) {
            x[k] = at.from + k < N ? (float)x[k] : 0;
            if (at.from + k < N)
                out[k] = (float)x[k];
        }
    }
#pragma unroll
    for (uint32_t k = 0; k < EACH; k++)
        if (at.from + k < N && row->frames > 0)
            state[k] = (float)x[k];
}

template <int EACH, int TEAM>
__global__ __launch_bounds__(THREADS, 1) static void legs_rows(struct cuda_legs legs, const struct cuda_row *rows,
                                                               const struct cuda_count *count, const float *u, float *y)
{
    const uint32_t lanes = TEAM * CUDA_WARP, channels = WARPS / TEAM; /* of a channel; of a block */
    __shared__ double R[EACH * lanes];
    uint64_t first = (uint64_t)blockIdx.x * channels, n = first + threadIdx.x / lanes;
    uint64_t all = (uint64_t)count->rows * legs.channels;
    struct legs_lane at = {R + threadIdx.x % lanes * EACH, threadIdx.x % lanes * EACH};

    if (first >= all)
        return;
    for (uint32_t i = threadIdx.x; i < EACH * lanes; i += THREADS)
        R[i] = i < legs.order ? sqrt(2.0 * i + 1) : 0;
    __syncthreads();
    if (n < all)
        channel_run<EACH, TEAM>(at, &legs, &rows[n / legs.channels], (uint32_t)(n % legs.channels), u, y);
}

template <int EACH, int TEAM>
static cudaError_t legs_run(const struct cuda_legs *legs, const struct cuda_span *span, const float *u, float *y,
                            cudaStream_t stream)
{
    dim3 grid(cuda_blocks((uint64_t)span->rows_room * legs->channels, WARPS / TEAM));

    CUDA_LAUNCH((legs_rows<EACH, TEAM>), grid, dim3(THREADS), 0, stream, *legs, span->rows, span->count, u, y);
    return cudaGetLastError();
}

cudaError_t cuda_legs_launch(const struct cuda_legs *legs, const struct cuda_span *span, const float *u, float *y,
                             cudaStream_t stream)
{
    if (span->rows_room == 0)
        return cudaSuccess;
    if (legs->order <= CUDA_WARP)
        return legs_run<1, 1>(legs, span, u, y, stream);
    if (legs->order <= 2 * CUDA_WARP)
        return legs_run<2, 1>(legs, span, u, y, stream);
    if (legs->order <= 4 * CUDA_WARP)
        return legs_run<4, 1>(legs, span, u, y, stream);
    if (legs->order <= 8 * CUDA_WARP)
        return legs_run<8, 1>(legs, span, u, y, stream);
    return legs_run<8, 4>(legs, span, u, y, stream);
}
