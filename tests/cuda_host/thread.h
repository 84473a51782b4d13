/* SPDX-License-Identifier: Apache-2.0
 *
 * What a thread of a kernel sees: its place, barriers, its warp, atomics, and loads and stores with a cache's name.
 *
 * A block's threads take turns on one thread of the host, so that an atomic operation is a plain one. */
#ifndef CUDA_HOST_THREAD_H
#define CUDA_HOST_THREAD_H

#include <stdint.h>
#include <string.h>

#include "tests/cuda_host/vectors.h"

/* Where the thread that runs is. Set by block.cpp, under its lock. */
struct cuda_host_here {
    uint3 thread, block;
    dim3 threads, blocks;
    unsigned lane;
    void *shared; /* the launch's dynamic bytes */
};
extern struct cuda_host_here cuda_host_here;

#define threadIdx (cuda_host_here.thread)
#define blockIdx  (cuda_host_here.block)
#define blockDim  (cuda_host_here.threads)
#define gridDim   (cuda_host_here.blocks)
static const int warpSize = 32;

/* ---- barriers and what a warp does together ---------------------------------------------------------------------- */

/* What lanes meet for; those of one mask must mean the same. */
enum cuda_host_meeting { CUDA_HOST_SYNC = 1, CUDA_HOST_SHUFFLE, CUDA_HOST_VOTE };

/* How many threads of the block brought something other than 0; in the high half, how many came. */
uint64_t cuda_host_block_barrier(bool vote);
/* Waits for the lanes of the mask. A shuffle returns the value of lane `source`, all ones if that lane does not take
 * part; a vote the lanes that brought something other than 0, and in the high half those that came. */
uint64_t cuda_host_meet(unsigned mask, enum cuda_host_meeting what, uint64_t value, unsigned source);

static inline void __syncthreads(void)
{
    cuda_host_block_barrier(false);
}
static inline int __syncthreads_count(int vote)
{
    return (int)(uint32_t)cuda_host_block_barrier(vote != 0);
}
static inline int __syncthreads_or(int vote)
{
    return __syncthreads_count(vote) != 0;
}
static inline int __syncthreads_and(int vote)
{
    uint64_t votes = cuda_host_block_barrier(vote != 0);

    return (uint32_t)votes == votes >> 32;
}
static inline void __syncwarp(unsigned mask = 0xffffffff)
{
    cuda_host_meet(mask, CUDA_HOST_SYNC, 0, 0);
}

static inline unsigned __ballot_sync(unsigned mask, int vote)
{
    return (unsigned)cuda_host_meet(mask, CUDA_HOST_VOTE, vote != 0, 0);
}
static inline int __any_sync(unsigned mask, int vote)
{
    return __ballot_sync(mask, vote) != 0;
}
static inline int __all_sync(unsigned mask, int vote)
{
    uint64_t votes = cuda_host_meet(mask, CUDA_HOST_VOTE, vote != 0, 0);

    return (uint32_t)votes == votes >> 32;
}

template <typename T> static inline T cuda_host_shuffle(unsigned mask, T value, unsigned source)
{
    uint64_t bits = 0;

    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    static_assert(__is_trivially_copyable(T), "shuffles move plain values");
    memcpy(&bits, &value, sizeof value);
    bits = cuda_host_meet(mask, CUDA_HOST_SHUFFLE, bits, source);
    memcpy(&value, &bits, sizeof value);
    return value;
}
/* Lanes stay within groups of `width`, a power of two; one that would leave its group keeps its own value. */
template <typename T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32)
{
    unsigned group = cuda_host_here.lane & ~(unsigned)(width - 1);

    return cuda_host_shuffle(mask, value, group + ((unsigned)lane & (unsigned)(width - 1)));
}
template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = cuda_host_here.lane, place = lane & (unsigned)(width - 1);

    return cuda_host_shuffle(mask, value, place >= by ? lane - by : lane);
}
template <typename T> static inline T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32)
{
    unsigned lane = cuda_host_here.lane, place = lane & (unsigned)(width - 1);

    return cuda_host_shuffle(mask, value, place + by < (unsigned)width ? lane + by : lane);
}
template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int by, int width = 32)
{
    unsigned lane = cuda_host_here.lane, last = lane | (unsigned)(width - 1), source = lane ^ (unsigned)by;

    return cuda_host_shuffle(mask, value, source <= last ? source : lane);
}

/* See cuda/launch.cuh: it is this kernel's turn already. */
void cuda_host_turn(void);
static inline void cuda_wait_turn(void)
{
    cuda_host_turn();
}

/* For who looks for races: see races.cpp. */
#ifdef CUDA_HOST_RACES
void cuda_host_fence(void);
void cuda_host_atomic(void);
#else
static inline void cuda_host_fence(void)
{
}
static inline void cuda_host_atomic(void)
{
}
#endif

static inline void __threadfence(void)
{
    cuda_host_fence();
}
static inline void __threadfence_block(void)
{
}
static inline void __threadfence_system(void)
{
    cuda_host_fence();
}

/* ---- atomics ----------------------------------------------------------------------------------------------------- */

#define CUDA_HOST_ATOMIC(name, type, expression)                                                                       \
    __attribute__((no_sanitize("thread"))) static inline type name(type *p, type v)                                    \
    {                                                                                                                  \
        type old = *p;                                                                                                 \
                                                                                                                       \
        *p = (expression);                                                                                             \
        cuda_host_atomic();                                                                                            \
        return old;                                                                                                    \
    }
#define CUDA_HOST_ATOMICS(type)                                                                                        \
    CUDA_HOST_ATOMIC(atomicMax, type, old > v ? old : v)                                                               \
    CUDA_HOST_ATOMIC(atomicMin, type, old < v ? old : v)                                                               \
    CUDA_HOST_ATOMIC(atomicAnd, type, old &v)                                                                          \
    CUDA_HOST_ATOMIC(atomicOr, type, old | v)                                                                          \
    CUDA_HOST_ATOMIC(atomicXor, type, old ^ v)
#define CUDA_HOST_ATOMIC_CAS(type)                                                                                     \
    __attribute__((no_sanitize("thread"))) static inline type atomicCAS(type *p, type expected, type v)                \
    {                                                                                                                  \
        type old = *p;                                                                                                 \
                                                                                                                       \
        *p = old == expected ? v : old;                                                                                \
        cuda_host_atomic();                                                                                            \
        return old;                                                                                                    \
    }

CUDA_HOST_ATOMICS(int)
CUDA_HOST_ATOMICS(unsigned)
CUDA_HOST_ATOMICS(long long)
CUDA_HOST_ATOMICS(unsigned long long)
CUDA_HOST_ATOMIC(atomicAdd, int, (int)((unsigned)old + (unsigned)v))
CUDA_HOST_ATOMIC(atomicAdd, unsigned, old + v)
CUDA_HOST_ATOMIC(atomicAdd, unsigned long long, old + v)
CUDA_HOST_ATOMIC(atomicAdd, float, old + v)
CUDA_HOST_ATOMIC(atomicAdd, double, old + v)
CUDA_HOST_ATOMIC(atomicSub, int, (int)((unsigned)old - (unsigned)v))
CUDA_HOST_ATOMIC(atomicSub, unsigned, old - v)
CUDA_HOST_ATOMIC(atomicInc, unsigned, old >= v ? 0 : old + 1)
CUDA_HOST_ATOMIC(atomicExch, int, v)
CUDA_HOST_ATOMIC(atomicExch, unsigned, v)
CUDA_HOST_ATOMIC(atomicExch, unsigned long long, v)
CUDA_HOST_ATOMIC(atomicExch, float, v)
CUDA_HOST_ATOMIC_CAS(int)
CUDA_HOST_ATOMIC_CAS(unsigned)
CUDA_HOST_ATOMIC_CAS(unsigned long long)

/* ---- loads and stores that say how they are cached --------------------------------------------------------------- */

#define CUDA_HOST_LOAD(name)                                                                                           \
    template <typename T> static inline T name(const T *p)                                                             \
    {                                                                                                                  \
        return *p;                                                                                                     \
    }
#define CUDA_HOST_STORE(name)                                                                                          \
    template <typename T> static inline void name(T *p, T v)                                                           \
    {                                                                                                                  \
        *p = v;                                                                                                        \
    }
CUDA_HOST_LOAD(__ldg)
CUDA_HOST_LOAD(__ldca)
CUDA_HOST_LOAD(__ldcg)
CUDA_HOST_LOAD(__ldcs)
CUDA_HOST_LOAD(__ldcv)
CUDA_HOST_LOAD(__ldlu)
CUDA_HOST_STORE(__stcg)
CUDA_HOST_STORE(__stcs)
CUDA_HOST_STORE(__stwb)
CUDA_HOST_STORE(__stwt)

#endif
