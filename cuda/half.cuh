/* SPDX-License-Identifier: Apache-2.0
 *
 * Numbers of 16 bits as the matrix units take them (IEEE binary16), two in a word, and float32 as the sum of two.
 *
 *     v = hi + lo,   hi = round(v), lo = round(v - hi)
 *
 * is exact to 2^-23 |v| as long as lo is not below the normal range. A power of two brings the largest of some numbers
 * into [2^14, 2^15); what is 2^-16 of the largest, or more, keeps that accuracy then, and of smaller ones an absolute
 * error remains of 2^-39 of the largest.
 */
#ifndef CUDA_HALF_CUH
#define CUDA_HALF_CUH

#include "cuda/launch.cuh"

/* The bits of the nearest binary16, ties to even. */
static inline uint32_t cuda_half_round(float v)
{
    union {
        float f;
        uint32_t u;
    } in = {v}, tiny;
    uint32_t sign = in.u >> 16 & 0x8000u, size = in.u & 0x7fffffffu;

    if (size > 0x7f800000u)
        return sign | 0x7e00u;
    if (size >= 0x477ff000u)
        return sign | 0x7c00u;
    if (size < 0x38800000u) { /* below the normal range: the last bit of 1/2 is its unit */
        tiny.u = size;
        tiny.f += 0.5f;
        return sign | (tiny.u - 0x3f000000u);
    }
    size += 0xfffu + (size >> 13 & 1u);
    return sign | (size - 0x38000000u) >> 13;
}

static inline float cuda_half_value(uint32_t half)
{
    union {
        uint32_t u;
        float f;
    } out;
    uint32_t sign = (half & 0x8000u) << 16, size = half & 0x7fffu;

    if (size < 0x400u) {
        out.f = (float)size * 0x1p-24f;
        out.u |= sign;
    } else
        out.u = sign | ((size << 13) + (size >= 0x7c00u ? 0x70000000u : 0x38000000u));
    return out.f;
}

/* The power of two that brings a number of these absolute bits into [2^14, 2^15); those below 2^-98, and 0, get 2^112.
 * NaN and infinity stay what they are. */
__host__ __device__ static inline uint32_t cuda_half_scale_bits(uint32_t absolute)
{
    uint32_t exponent = absolute >> 23;

    return (exponent < 29 ? 239 : 268 - exponent) << 23;
}

/* Two numbers as two halves of a word, the first in the low one, and back. */
__device__ static inline uint32_t cuda_half_pair(float low, float high)
{
#ifdef __CUDA_ARCH__
    uint32_t pair;

    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return cuda_half_round(low) | cuda_half_round(high) << 16;
#endif
}

__device__ static inline void cuda_half_unpair(uint32_t pair, float *low, float *high)
{
#ifdef __CUDA_ARCH__
    asm("{\n\t.reg .f16 l, h;\n\tmov.b32 {l, h}, %2;\n\tcvt.f32.f16 %0, l;\n\tcvt.f32.f16 %1, h;\n\t}"
        : "=f"(*low), "=f"(*high)
        : "r"(pair));
#else
    *low = cuda_half_value(pair & 0xffffu);
    *high = cuda_half_value(pair >> 16);
#endif
}

/* hi and lo of two numbers that are scaled already. */
__device__ static inline void cuda_half_split(float first, float second, uint32_t *hi, uint32_t *lo)
{
    float a, b;

    *hi = cuda_half_pair(first, second);
    cuda_half_unpair(*hi, &a, &b);
    *lo = cuda_half_pair(first - a, second - b);
}

#endif
