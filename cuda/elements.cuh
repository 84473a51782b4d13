/* SPDX-License-Identifier: Apache-2.0
 *
 * How kernels go over activations: some neighbouring channels in one access, and blocks that take frames by channels.
 *
 * A thread takes V channels at once, 4 where the width allows and 1 elsewhere, so that a warp reads 512 bytes in one
 * instruction. That needs activations and states that begin at multiples of 16 bytes, which those of this device do.
 * Blocks are as many as fill the device, and go over the rest in strides: a room that is much larger than the count
 * costs nothing then. */
#ifndef CUDA_ELEMENTS_CUH
#define CUDA_ELEMENTS_CUH

#include "cuda/kind.cuh"

#define CUDA_ELEMENTS_BLOCK  256u
#define CUDA_ELEMENTS_BLOCKS 2112u /* of 256 threads: twice what 132 multiprocessors hold at a time */

template <uint32_t V> struct __align__(V * sizeof(float)) cuda_floats
{
    float v[V];
};

template <uint32_t V> __device__ static inline cuda_floats<V> cuda_floats_load(const float *p)
{
    return *reinterpret_cast<const cuda_floats<V> *>(p);
}

template <uint32_t V> __device__ static inline void cuda_floats_store(float *p, cuda_floats<V> a)
{
    *reinterpret_cast<cuda_floats<V> *>(p) = a;
}

struct cuda_shape {
    dim3 grid, block;
};

/* One thread for each of n elements. */
static inline struct cuda_shape cuda_elements_shape(uint64_t n)
{
    uint32_t blocks = n < (uint64_t)CUDA_ELEMENTS_BLOCKS * CUDA_ELEMENTS_BLOCK ? cuda_blocks(n, CUDA_ELEMENTS_BLOCK)
                                                                               : CUDA_ELEMENTS_BLOCKS;

    return {dim3(blocks ? blocks : 1), dim3(CUDA_ELEMENTS_BLOCK)};
}

/* A block of lanes (x) by items (y): `wide` elements of each of n items, at least `least` lanes to an item. */
static inline struct cuda_shape cuda_items_shape(uint64_t wide, uint64_t n, uint32_t least)
{
    uint32_t lanes = least, items, blocks = CUDA_ELEMENTS_BLOCKS;

    while (lanes < wide && lanes < CUDA_ELEMENTS_BLOCK)
        lanes *= 2;
    items = CUDA_ELEMENTS_BLOCK / lanes;
    if (n < (uint64_t)blocks * items)
        blocks = cuda_blocks(n, items);
    return {dim3(blocks ? blocks : 1), dim3(lanes, items)};
}

/* The first item of a thread, and how far it is to its next one. */
__device__ static inline size_t cuda_item_first(void)
{
    return (size_t)blockIdx.x * blockDim.y + threadIdx.y;
}
__device__ static inline size_t cuda_item_stride(void)
{
    return (size_t)gridDim.x * blockDim.y;
}

#endif
