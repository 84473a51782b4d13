/* SPDX-License-Identifier: Apache-2.0
 *
 * How s4d and s4 lie in a warp: a few lanes for each channel, several modes in each lane.
 *
 * LANES lanes hold a channel, MODES modes each in registers, so a warp has 32 / LANES channels that lie side by side
 * and goes through one row's frames by itself: no warp waits for another. Sixteen frames at a time, a bout, it
 *
 *     reads      its channels' inputs, whole sectors of memory, while the bout before is computed; they go to shared
 *                memory, where a channel's frames lie together and four of them are one access
 *     advances   the modes frame by frame; each lane leaves the sum over its own modes for every frame
 *     adds       the lanes' sums in the order of lanes, four frames in each thread, d u last, and writes the outputs
 *
 * so that the sum over four lanes costs a lane 9 accesses and 12 additions in sixteen frames, where shuffles would take
 * 32 and as many additions.
 *
 * Lane g of a channel holds four modes from 4 g on, four from 4 (LANES + g) on, and so forth: loads are of 16 bytes and
 * neighbours read neighbours. More modes than MODES LANES go in panels, one after another over all frames.
 *
 * BITS   one output is summed over the modes of a lane, over lanes, over panels, in index order each: the number of
 *        modes alone decides. */
#ifndef CUDA_MODES_CUH
#define CUDA_MODES_CUH

#include "cuda/math.cuh"

#define CUDA_MODES_BOUT    16u
#define CUDA_MODES_STRIDE  20u /* floats from channel to channel, lane to lane: no two lanes meet in a bank */
#define CUDA_MODES_WARPS   4u
#define CUDA_MODES_THREADS (CUDA_MODES_WARPS * CUDA_WARP)

/* A warp's shared memory. */
template <uint32_t LANES> struct cuda_modes_shared {
    float in[CUDA_WARP / LANES * CUDA_MODES_STRIDE]; /* (channels, bout) */
    float sum[CUDA_WARP * CUDA_MODES_STRIDE];        /* (channels, LANES, bout) */
};

/* Where a warp stands. */
struct cuda_modes_warp {
    uint32_t lane;        /* of the warp */
    uint32_t from;        /* its first channel */
    uint32_t channels;    /* of the layer: those from there on are nobody's */
    uint32_t first, step; /* it takes the pieces first, first + step, ... */
};

/* Inputs of a bout on their way: lane l has channel l % C, frames l / C + LANES j, of C channels. */
template <uint32_t LANES> struct cuda_modes_bout {
    float in[LANES < CUDA_MODES_BOUT ? CUDA_MODES_BOUT / LANES : 1];
};

/* Warps that take a layer's channels side by side. */
template <uint32_t LANES> __host__ __device__ static inline uint32_t cuda_modes_groups(uint32_t channels)
{
    return (channels + CUDA_WARP / LANES - 1) / (CUDA_WARP / LANES);
}

/* A grid of at most `most` blocks, but of enough for every channel, for so many pieces. */
static inline uint32_t cuda_modes_grid(uint32_t groups, uint64_t pieces, uint32_t most)
{
    uint32_t least = cuda_blocks(groups, CUDA_MODES_WARPS);
    uint64_t all = (groups * pieces + CUDA_MODES_WARPS - 1) / CUDA_MODES_WARPS;

    most = most > least ? most : least;
    return (uint32_t)(all < most ? all : most);
}

/* This warp of the grid; `first` is out of reach for those that have no part. */
template <uint32_t LANES> __device__ static inline struct cuda_modes_warp cuda_modes_begin(uint32_t channels)
{
    uint32_t groups = cuda_modes_groups<LANES>(channels);
    uint32_t unit = blockIdx.x * CUDA_MODES_WARPS + threadIdx.x / CUDA_WARP;
    uint32_t step = gridDim.x * CUDA_MODES_WARPS / groups;
    uint32_t first = unit / groups < step ? unit / groups : UINT32_MAX;

    return {threadIdx.x % CUDA_WARP, unit % groups * (CUDA_WARP / LANES), channels, first, step};
}

/* MODES of a row of `there` floats; zeros beyond. `g` is the lane within the channel. */
template <uint32_t MODES, uint32_t LANES>
__device__ static inline void cuda_modes_load(const float *from, uint32_t g, uint32_t there, float (&to)[MODES])
{
    if constexpr (MODES == 2) {
        float2 v = there ? *reinterpret_cast<const float2 *>(from) : make_float2(0, 0);

        to[0] = v.x;
        to[1] = v.y;
    } else {
#pragma unroll
        for (uint32_t k = 0; k < MODES / 4; k++) {
            uint32_t at = 4 * (g + LANES * k);
            float4 v = at < there ? *reinterpret_cast<const float4 *>(from + at) : make_float4(0, 0, 0, 0);

            to[4 * k] = v.x;
            to[4 * k + 1] = v.y;
            to[4 * k + 2] = v.z;
            to[4 * k + 3] = v.w;
        }
    }
}

template <uint32_t MODES, uint32_t LANES>
__device__ static inline void cuda_modes_store(float *to, uint32_t g, uint32_t there, const float (&from)[MODES])
{
    if constexpr (MODES == 2) {
        if (there)
            *reinterpret_cast<float2 *>(to) = make_float2(from[0], from[1]);
    } else {
#pragma unroll
        for (uint32_t k = 0; k < MODES / 4; k++) {
            uint32_t at = 4 * (g + LANES * k);

            if (at < there) /* a plain store of 16 bytes is taken apart into four where registers lie badly */
                __stcg(reinterpret_cast<float4 *>(to + at),
                       make_float4(from[4 * k], from[4 * k + 1], from[4 * k + 2], from[4 * k + 3]));
        }
    }
}

/* Asks for the inputs of at most `left` frames; x begins at the first of them. Who is beyond the channels reads the
 * last one's: nothing of his is kept. */
template <uint32_t LANES>
__device__ static inline void cuda_modes_read(const struct cuda_modes_warp *w, const float *x, uint32_t left,
                                              struct cuda_modes_bout<LANES> *bout)
{
    constexpr uint32_t C = CUDA_WARP / LANES, EACH = sizeof(bout->in) / sizeof(float);
    uint32_t wanted = w->from + w->lane % C, channel = wanted < w->channels ? wanted : w->channels - 1;
    uint32_t t = w->lane / C;

    x += t * w->channels + channel;
    if (left >= CUDA_MODES_BOUT && LANES <= CUDA_MODES_BOUT) {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++)
            bout->in[j] = x[j * LANES * w->channels];
    } else {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++, t += LANES)
            bout->in[j] = t < left && t < CUDA_MODES_BOUT ? x[j * LANES * w->channels] : 0;
    }
}

/* Puts them where the lanes of their channels find them. */
template <uint32_t LANES>
__device__ static inline void cuda_modes_stage(const struct cuda_modes_warp *w,
                                               const struct cuda_modes_bout<LANES> *bout,
                                               struct cuda_modes_shared<LANES> *s)
{
    constexpr uint32_t C = CUDA_WARP / LANES;

#pragma unroll
    for (uint32_t j = 0; j < sizeof(bout->in) / sizeof(float); j++) {
        uint32_t t = w->lane / C + LANES * j;

        if (t < CUDA_MODES_BOUT)
            s->in[w->lane % C * CUDA_MODES_STRIDE + t] = bout->in[j];
    }
    __syncwarp();
}

/* Outputs of n frames from the lanes' sums and d u; y begins at the first of them. `add`: from the sums and what an
 * earlier panel left there. `activation` of what is written: CUDA_NO_ACTIVATION before the last panel. */
template <uint32_t LANES>
__device__ static inline void cuda_modes_write(const struct cuda_modes_warp *w,
                                               const struct cuda_modes_shared<LANES> *s, uint32_t n, bool add,
                                               const float *d, uint32_t activation, float *y)
{
    constexpr uint32_t C = CUDA_WARP / LANES, QUADS = CUDA_MODES_BOUT / 4;
    uint32_t t = w->lane % QUADS * 4;
    bool whole = n == CUDA_MODES_BOUT;

    __syncwarp();
#pragma unroll 1
    for (uint32_t k = 0; k < C * QUADS; k += CUDA_WARP) {
        uint32_t c = (w->lane + k) / QUADS, channel = w->from + c;
        const float *sums = s->sum + c * LANES * CUDA_MODES_STRIDE + t, *in = s->in + c * CUDA_MODES_STRIDE + t;

        if (c >= C || channel >= w->channels || t >= n)
            break;

        float4 u = *reinterpret_cast<const float4 *>(in), sum = *reinterpret_cast<const float4 *>(sums);
#pragma unroll 4
        for (uint32_t g = 1; g < LANES; g++) {
            float4 v = *reinterpret_cast<const float4 *>(sums + g * CUDA_MODES_STRIDE);

            sum = make_float4(sum.x + v.x, sum.y + v.y, sum.z + v.z, sum.w + v.w);
        }
        float scale = add ? 0 : d[channel], out[4] = {sum.x, sum.y, sum.z, sum.w}, by[4] = {u.x, u.y, u.z, u.w};
        float *to = y + (t * w->channels + channel);
#pragma unroll
        for (uint32_t f = 0; f < 4; f++)
            if (whole || t + f < n)
                to[f * w->channels] =
                    cuda_activate(activation, add ? to[f * w->channels] + out[f] : fmaf(scale, by[f], out[f]));
    }
    __syncwarp();
}

#endif
