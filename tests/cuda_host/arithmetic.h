/* SPDX-License-Identifier: Apache-2.0
 *
 * Intrinsics and functions that CUDA has beyond <math.h>. The build contracts no products (-ffp-contract=off), so that
 * a plain operation is already the _rn form. The fast forms (__expf and its like) are the C library's: closer than a
 * device's, never further. */
#ifndef CUDA_HOST_ARITHMETIC_H
#define CUDA_HOST_ARITHMETIC_H

#include <math.h>
#include <string.h>

#define CUDA_HOST_1(name, type, expression)                                                                            \
    static inline type name(type a)                                                                                    \
    {                                                                                                                  \
        return expression;                                                                                             \
    }
#define CUDA_HOST_2(name, type, expression)                                                                            \
    static inline type name(type a, type b)                                                                            \
    {                                                                                                                  \
        return expression;                                                                                             \
    }
#define CUDA_HOST_CAST(name, to, from, expression)                                                                     \
    static inline to name(from a)                                                                                      \
    {                                                                                                                  \
        return (to)(expression);                                                                                       \
    }
#define CUDA_HOST_BITS(name, to, from)                                                                                 \
    static inline to name(from a)                                                                                      \
    {                                                                                                                  \
        to b;                                                                                                          \
                                                                                                                       \
        static_assert(sizeof a == sizeof b, "bits of one size");                                                       \
        memcpy(&b, &a, sizeof b);                                                                                      \
        return b;                                                                                                      \
    }

CUDA_HOST_2(__fadd_rn, float, a + b)
CUDA_HOST_2(__fsub_rn, float, a - b)
CUDA_HOST_2(__fmul_rn, float, a *b)
CUDA_HOST_2(__fdiv_rn, float, a / b)
CUDA_HOST_1(__fsqrt_rn, float, sqrtf(a))
CUDA_HOST_1(__frcp_rn, float, 1.0f / a)
CUDA_HOST_1(__frsqrt_rn, float, (float)(1.0 / sqrt((double)a)))
CUDA_HOST_2(__dadd_rn, double, a + b)
CUDA_HOST_2(__dsub_rn, double, a - b)
CUDA_HOST_2(__dmul_rn, double, a *b)
CUDA_HOST_2(__ddiv_rn, double, a / b)
CUDA_HOST_1(__dsqrt_rn, double, sqrt(a))
CUDA_HOST_1(__drcp_rn, double, 1.0 / a)
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline double __fma_rn(double a, double b, double c)
{
    return fma(a, b, c);
}

/* The C library declares functions of these names, which it does not have. */
#define __expf   expf
#define __exp10f exp10f
#define __logf   logf
#define __log2f  log2f
#define __log10f log10f
#define __sinf   sinf
#define __cosf   cosf
#define __tanf   tanf
#define __tanhf  tanhf
#define __powf   powf

CUDA_HOST_2(__fdividef, float, a / b)
CUDA_HOST_2(fdividef, float, a / b)
CUDA_HOST_1(__saturatef, float, a > 0 ? (a < 1 ? a : 1.0f) : 0.0f)
CUDA_HOST_1(rsqrtf, float, (float)(1.0 / sqrt((double)a)))
CUDA_HOST_1(rsqrt, double, 1.0 / sqrt(a))
CUDA_HOST_1(sinpi, double, sin(M_PI *a))
CUDA_HOST_1(cospi, double, cos(M_PI *a))
CUDA_HOST_1(sinpif, float, (float)sinpi((double)a))
CUDA_HOST_1(cospif, float, (float)cospi((double)a))

CUDA_HOST_BITS(__float_as_int, int, float)
CUDA_HOST_BITS(__float_as_uint, unsigned, float)
CUDA_HOST_BITS(__int_as_float, float, int)
CUDA_HOST_BITS(__uint_as_float, float, unsigned)
CUDA_HOST_BITS(__double_as_longlong, long long, double)
CUDA_HOST_BITS(__longlong_as_double, double, long long)

CUDA_HOST_CAST(__float2int_rn, int, float, rintf(a))
CUDA_HOST_CAST(__float2int_rz, int, float, a)
CUDA_HOST_CAST(__float2int_rd, int, float, floorf(a))
CUDA_HOST_CAST(__float2int_ru, int, float, ceilf(a))
CUDA_HOST_CAST(__float2uint_rn, unsigned, float, rintf(a))
CUDA_HOST_CAST(__float2uint_rz, unsigned, float, a)
CUDA_HOST_CAST(__int2float_rn, float, int, a)
CUDA_HOST_CAST(__uint2float_rn, float, unsigned, a)
CUDA_HOST_CAST(__double2int_rn, int, double, rint(a))
CUDA_HOST_CAST(__double2float_rn, float, double, a)
CUDA_HOST_CAST(__int2double_rn, double, int, a)
CUDA_HOST_CAST(__ll2float_rn, float, long long, a)
CUDA_HOST_CAST(__ll2double_rn, double, long long, a)

CUDA_HOST_CAST(__popc, int, unsigned, __builtin_popcount(a))
CUDA_HOST_CAST(__popcll, int, unsigned long long, __builtin_popcountll(a))
CUDA_HOST_CAST(__ffs, int, int, __builtin_ffs(a))
CUDA_HOST_CAST(__ffsll, int, long long, __builtin_ffsll(a))
CUDA_HOST_CAST(__clz, int, int, a ? __builtin_clz((unsigned)a) : 32)
CUDA_HOST_CAST(__clzll, int, long long, a ? __builtin_clzll((unsigned long long)a) : 64)
CUDA_HOST_2(__umulhi, unsigned, (unsigned)((unsigned long long)a *b >> 32))
CUDA_HOST_2(__mulhi, int, (int)((long long)a *b >> 32))
CUDA_HOST_2(__umul64hi, unsigned long long, (unsigned long long)((unsigned __int128)a *b >> 64))

/* The toolkit's overloads: of one type each, and the mixed ones that it has, the unsigned type taking the signed one
 * and the double the float. As there, NaN yields to the other argument. */
#define CUDA_HOST_MIN_MAX(result, one, other)                                                                          \
    static inline result min(one a, other b)                                                                           \
    {                                                                                                                  \
        return (result)a < (result)b ? (result)a : (result)b;                                                          \
    }                                                                                                                  \
    static inline result max(one a, other b)                                                                           \
    {                                                                                                                  \
        return (result)a > (result)b ? (result)a : (result)b;                                                          \
    }
#define CUDA_HOST_MIN_MAX_REAL(result, one, other, suffix)                                                             \
    static inline result min(one a, other b)                                                                           \
    {                                                                                                                  \
        return fmin##suffix(a, b);                                                                                     \
    }                                                                                                                  \
    static inline result max(one a, other b)                                                                           \
    {                                                                                                                  \
        return fmax##suffix(a, b);                                                                                     \
    }
CUDA_HOST_MIN_MAX(int, int, int)
CUDA_HOST_MIN_MAX(unsigned, unsigned, unsigned)
CUDA_HOST_MIN_MAX(unsigned, int, unsigned)
CUDA_HOST_MIN_MAX(unsigned, unsigned, int)
CUDA_HOST_MIN_MAX(long, long, long)
CUDA_HOST_MIN_MAX(unsigned long, unsigned long, unsigned long)
CUDA_HOST_MIN_MAX(unsigned long, long, unsigned long)
CUDA_HOST_MIN_MAX(unsigned long, unsigned long, long)
CUDA_HOST_MIN_MAX(long long, long long, long long)
CUDA_HOST_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
CUDA_HOST_MIN_MAX(unsigned long long, long long, unsigned long long)
CUDA_HOST_MIN_MAX(unsigned long long, unsigned long long, long long)
CUDA_HOST_MIN_MAX_REAL(float, float, float, f)
CUDA_HOST_MIN_MAX_REAL(double, double, double, )
CUDA_HOST_MIN_MAX_REAL(double, float, double, )
CUDA_HOST_MIN_MAX_REAL(double, double, float, )

#endif
