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
 *          their sum, belong to the device; the twin takes them in index order.
 * SOURCE   PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type".
 */
#ifndef CUDA_MMA_CUH
#define CUDA_MMA_CUH

#include "cuda/half.cuh"

#ifndef __CUDA_ARCH__
/* What the lanes of each warp hold, for the twin. */
struct cuda_mma_operands {
    uint32_t a[CUDA_WARP][4], b[CUDA_WARP][2];
};

__device__ static inline float cuda_mma_element(const struct cuda_mma_operands *m, uint32_t row, uint32_t column,
                                                float sum)
{
    for (uint32_t k = 0; k < 16; k++) {
        uint32_t t = k % 8 / 2, shift = k % 2 * 16;
        uint32_t a = m->a[row % 8 * 4 + t][row / 8 + k / 8 * 2], b = m->b[column * 4 + t][k / 8];

        sum = fmaf(cuda_half_value(a >> shift & 0xffffu), cuda_half_value(b >> shift & 0xffffu), sum);
    }
    return sum;
}
#endif

/* All lanes of the warp come here together. */
__device__ static inline void cuda_mma(float *d, const uint4 &a, uint32_t b0, uint32_t b1)
{
#ifdef __CUDA_ARCH__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#else
    __shared__ struct cuda_mma_operands warps[CUDA_WARP];
    struct cuda_mma_operands *m = &warps[threadIdx.x / CUDA_WARP];
    uint32_t lane = threadIdx.x % CUDA_WARP, row = lane / 4, column = lane % 4 * 2;

    m->a[lane][0] = a.x;
    m->a[lane][1] = a.y;
    m->a[lane][2] = a.z;
    m->a[lane][3] = a.w;
    m->b[lane][0] = b0;
    m->b[lane][1] = b1;
    __syncwarp();
    for (uint32_t i = 0; i < 4; i++)
        d[i] = cuda_mma_element(m, row + i / 2 * 8, column + i % 2, d[i]);
    __syncwarp();
#endif
}

/* BYTES (4 or 16, both sides aligned to it) to shared memory, the first `valid` of them from `from` and zeros behind;
 * there after cuda_copies_wait and a barrier. */
template <int BYTES> __device__ static inline void cuda_copy(void *to, const void *from, uint32_t valid)
{
#ifdef __CUDA_ARCH__
    uint32_t place = (uint32_t)__cvta_generic_to_shared(to);

    if (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(valid) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(place), "l"(from), "r"(valid) : "memory");
#else
    for (uint32_t i = 0; i < BYTES; i++)
        ((unsigned char *)to)[i] = i < valid ? ((const unsigned char *)from)[i] : 0;
#endif
}

/* Until all of this thread's copies are there. */
__device__ static inline void cuda_copies_wait(void)
{
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

#endif
