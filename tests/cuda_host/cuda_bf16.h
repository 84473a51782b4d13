/* SPDX-License-Identifier: Apache-2.0
 *
 * bfloat16: the upper half of a float32. Rounded to nearest, ties to even; every NaN becomes 0x7fff, as on a device. */
#ifndef CUDA_HOST_CUDA_BF16_H
#define CUDA_HOST_CUDA_BF16_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tests/cuda_host/vectors.h"

struct __nv_bfloat16_raw {
    unsigned short x;
};

static inline unsigned short cuda_host_bfloat16_bits(float f)
{
    uint32_t bits;

    if (isnan(f))
        return 0x7fff;
    memcpy(&bits, &f, sizeof bits);
    return (unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

struct __nv_bfloat16 {
    unsigned short __x;

    __nv_bfloat16() = default;
    __nv_bfloat16(float f) : __x(cuda_host_bfloat16_bits(f))
    {
    }
    __nv_bfloat16(__nv_bfloat16_raw raw) : __x(raw.x)
    {
    }
    operator float() const
    {
        uint32_t bits = (uint32_t)__x << 16;
        float f;

        memcpy(&f, &bits, sizeof f);
        return f;
    }
};

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline __nv_bfloat16 __float2bfloat16_rn(float f)
{
    return __nv_bfloat16(f);
}
static inline __nv_bfloat16 __float2bfloat16(float f)
{
    return __nv_bfloat16(f);
}
static inline float __bfloat162float(__nv_bfloat16 h)
{
    return (float)h;
}
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 h)
{
    return h.__x;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return __nv_bfloat16(__nv_bfloat16_raw{bits});
}
static inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
    return __nv_bfloat162{x, y};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return __nv_bfloat162{__nv_bfloat16(x), __nv_bfloat16(y)};
}
static inline __nv_bfloat162 __float22bfloat162_rn(float2 v)
{
    return __floats2bfloat162_rn(v.x, v.y);
}
static inline float2 __bfloat1622float2(__nv_bfloat162 v)
{
    return make_float2((float)v.x, (float)v.y);
}
static inline float __low2float(__nv_bfloat162 v)
{
    return (float)v.x;
}
static inline float __high2float(__nv_bfloat162 v)
{
    return (float)v.y;
}

#endif
