/* SPDX-License-Identifier: Apache-2.0
 *
 * What a warp does together with its matrix unit, and copies that run beside it; each with its twin in plain C++.
 *
 *     d (16, 8) += a (16, 16) b (16, 8),   a and b of binary16, d of float32
 *
 * Lane 4 g + t, g < 8, t < 4, holds
 *     a[0]  row g,     columns 2t, 2t+1      b[0]  rows 2t, 2t+1   of column g
 *     a[1]  row g + 8, the same              b[1]  rows 2t+8, 2t+9 of column g
 *     a[2]  row g,     columns 2t+8, 2t+9    d[0], d[1]  row g,     columns 2t, 2t+1
 *     a[3]  row g + 8, the same              d[2], d[3]  row g + 8, the same
 *
 * BITS     a column of d depends on its column of b alone. The order within the 16 products, and how a unit rounds
 *          their sum, belong to the device.
 * ERROR    products are exact; their sum with d is cut, not rounded, to float32, and on a device its smaller terms
 *          lose what lies 24 bits or more below the largest. The twin sums in float64 and cuts.
 * SOURCE   PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
 */
#ifndef CUDA_MMA_CUH
#define CUDA_MMA_CUH

#include <math.h>

#include "cuda/half.cuh"

#ifndef __CUDA_ARCH__
/* What the lanes of a warp bring, for the twin: a by rows, b by columns. */
struct cuda_mma_operands {
    float a[16][16], b[8][16];
};

/* v without the bits that float32 has no room for. */
__device__ static inline float cuda_mma_cut(double v)
{
    float f = (float)v;

    return fabs((double)f) > fabs(v) ? __uint_as_float(__float_as_uint(f) - 1) : f;
}

__device__ static inline void cuda_mma_bring(struct cuda_mma_operands *m, const uint32_t *a, const uint32_t *b)
{
    uint32_t g = threadIdx.x % CUDA_WARP / 4, t = threadIdx.x % 4;

    for (uint32_t i = 0; i < 8; i++)
        m->a[g + i / 2 % 2 * 8][t * 2 + i / 4 * 8 + i % 2] = cuda_half_value(a[i / 2] >> i % 2 * 16 & 0xffffu);
    for (uint32_t i = 0; i < 4; i++)
        m->b[g][t * 2 + i / 2 * 8 + i % 2] = cuda_half_value(b[i / 2] >> i % 2 * 16 & 0xffffu);
}
#endif

/* All lanes of the warp come here together. */
__device__ static inline void cuda_mma(float *d, const uint4 &a, uint32_t b0, uint32_t b1)
{
#ifdef __CUDA_ARCH__
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#else
    __shared__ struct cuda_mma_operands warps[CUDA_WARP];
    struct cuda_mma_operands *m = &warps[threadIdx.x / CUDA_WARP];
    uint32_t row = threadIdx.x % CUDA_WARP / 4, column = threadIdx.x % 4 * 2;
    const uint32_t words[] = {a.x, a.y, a.z, a.w, b0, b1};

    cuda_mma_bring(m, words, words + 4);
    __syncwarp();
    for (uint32_t i = 0; i < 4; i++) {
        double sum = d[i];

        for (uint32_t k = 0; k < 16; k++)
            sum += (double)m->a[row + i / 2 * 8][k] * m->b[column + i % 2][k];
        d[i] = cuda_mma_cut(sum);
    }
    __syncwarp();
#endif
}

/* 16 bytes to shared memory, there after cuda_copies_wait and a barrier. Copies since the last cuda_copies_end are a
 * group. */
__device__ static inline void cuda_copy(uint4 *to, const uint4 *from)
{
#ifdef __CUDA_ARCH__
    uint32_t place = (uint32_t)__cvta_generic_to_shared(to);

    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(from) : "memory");
#else
    *to = *from;
#endif
}

__device__ static inline void cuda_copies_end(void)
{
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Until this thread's groups of copies are there, but for the last `but`. */
template <int BUT> __device__ static inline void cuda_copies_wait(void)
{
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_group %0;" ::"n"(BUT) : "memory");
#endif
}

#endif
