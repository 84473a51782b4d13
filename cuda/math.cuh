/* SPDX-License-Identifier: Apache-2.0
 *
 * Exponentials on the device: exp, 2^x - 1, and on them sigmoid, silu, softplus, tanh and gelu; and the warp's sum.
 *
 * The forms and the coefficients are those of ssm/cpu/vmath.h: whole powers by adding a large number, the fraction by a
 * polynomial of fused products, quotients rounded to nearest. The toolkit's own functions would be as accurate, but
 * have other bits in the host build; these have the same there as here, so a test that ran without a GPU says what the
 * GPU computes. Memory that moves 8 bytes for each value leaves 70 instructions of each lane for it, so polynomials
 * cost nothing there. cuda_exp2 is the exception, for who is bound by exponentials: one instruction of the special
 * function unit (MUFU.EX2), in the host build exp2f.
 *
 *     x = k + r, k whole, |r| <= 1/2:   2^x = 2^k (1 + r Q(r)),   Q of degree 5
 *
 * COST     instructions of float32: cuda_exp2m1 13, cuda_exp 14, and a quotient some 10 (a reciprocal 5) beside one of
 *          the special function unit; cuda_exp2 that one and a product or two around it.
 * ERROR    in units of 2^-24 of the result, over all that is not below the normal range: cuda_exp 3, sigmoid and silu
 *          3, softplus 4, tanh 5, gelu 8, gelu_tanh 10 above -2 (below it grows as its argument does); cuda_exp2m1 and
 *          cuda_expm1 4, also near 0 and right down to it; cuda_exp2 4. exp is 0 below -87.7 and infinite above 88.4;
 *          softplus(v) is v above 20; no finite x gives NaN, and NaN stays NaN.
 */
#ifndef CUDA_MATH_CUH
#define CUDA_MATH_CUH

#include "cuda/kind.cuh"
#include "ssm/layers/params.h"

#include <math.h>

/* Adding it rounds to whole numbers, to even, and leaves them + 127 in the low bits. */
#define CUDA_WHOLE (0x1.8p23f + 127)

#define CUDA_LOG2E 0x1.715476p0f

/* The larger, the smaller; NaN where one of them is (fmaxf and fminf give the other); +0 is larger than -0. */
__device__ static inline float cuda_max(float a, float b)
{
#ifdef __CUDA_ARCH__
    float r;

    asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
#else
    return a != a || a > b || (a == b && !signbit(a)) ? a : b;
#endif
}

__device__ static inline float cuda_min(float a, float b)
{
#ifdef __CUDA_ARCH__
    float r;

    asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
#else
    return a != a || a < b || (a == b && signbit(a)) ? a : b;
#endif
}

/* 2^k of a whole number that CUDA_WHOLE was added to: 0 for k = -127, infinity for 128. */
__device__ static inline float cuda_power2(float whole)
{
    return __uint_as_float(__float_as_uint(whole) << 23);
}

/* 2^r - 1 = r Q(r), |r| <= 1/2, to 2^-26 of 2^r. */
__device__ static inline float cuda_exp2m1_fraction(float r)
{
    float q = fmaf(r, 0x1.41fbbcp-13f, 0x1.5f3e52p-10f);

    q = fmaf(r, q, 0x1.3b2d4cp-7f);
    q = fmaf(r, q, 0x1.c6aee8p-5f);
    q = fmaf(r, q, 0x1.ebfbdcp-3f);
    q = fmaf(r, q, 0x1.62e430p-1f);
    return r * q;
}

/* 2^x - 1 for x <= 0: near 0 it keeps the digits that 2^x would lose beside the 1, and a slow memory lives on them. */
__device__ static inline float cuda_exp2m1(float x)
{
    float whole, power;

    x = cuda_max(-127, x);
    whole = x + CUDA_WHOLE;
    power = cuda_power2(whole);
    return fmaf(power, cuda_exp2m1_fraction(x - (whole - CUDA_WHOLE)), power - 1);
}

/* exp(x) - 1 for x <= 0, likewise. */
__device__ static inline float cuda_expm1(float x)
{
    return cuda_exp2m1(x * CUDA_LOG2E);
}

/* exp(x + rest), |rest| small: for an x whose rounding would show. ln 2 is in two parts, the first of 16 bits, so that
 * its product with k is exact. */
__device__ static inline float cuda_exp_rest(float x, float rest)
{
    float whole, k, r;

    x = cuda_min(88.8f, cuda_max(-88.1f, x));
    whole = fmaf(x, CUDA_LOG2E, CUDA_WHOLE);
    k = whole - CUDA_WHOLE;
    r = rest + fmaf(-k, 0x1.7f7d1cp-20f, fmaf(-k, 0x1.62e4p-1f, x));
    return (1 + cuda_exp2m1_fraction(r * CUDA_LOG2E)) * cuda_power2(whole);
}

__device__ static inline float cuda_exp(float x)
{
    return cuda_exp_rest(x, 0);
}

/* 2^x by the special function unit, for any x; a result below the normal range is 0. */
__device__ static inline float cuda_exp2(float x)
{
#ifdef __CUDA_ARCH__
    float r;

    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#else
    return exp2f(x);
#endif
}

__device__ static inline float cuda_sigmoid(float v)
{
    return 1 / (1 + cuda_exp(-v));
}

__device__ static inline float cuda_silu(float v)
{
    return v / (1 + cuda_exp(-v));
}

/* max(v, 0) + log(1 + u), u = exp(-|v|), by 2 atanh(s), s = u / (2 + u) <= 1/3. */
__device__ static inline float cuda_softplus(float v)
{
    float u = cuda_exp(-fabsf(v)), s = u / (2 + u), square = s * s;
    float sum = fmaf(square, 0.14005993f, 0.14000903f);

    sum = fmaf(square, sum, 0.20010763f);
    sum = fmaf(square, sum, 0.33333209f);
    s = s + s;
    return cuda_max(0, v) + fmaf(s * square, sum, s);
}

/* -w / (2 + w), w = exp(-2|v|) - 1, with the sign of v. */
__device__ static inline float cuda_tanh(float v)
{
    float w = cuda_expm1(-2 * fabsf(v));

    return copysignf(w / (-2 - w), v);
}

/* The erf form: max(v, 0) - a/2 erfc(z), a = |v|, z = a/sqrt 2, and erfc(z) = exp(-z^2) t Q(t), t = 2 / (2 + z), Q of
 * degree 8. z^2 is worked out in two parts, the square of a's first 11 bits, which is exact, and the rest. Beyond 14
 * nothing is left of erfc. */
__device__ static inline float cuda_gelu(float v)
{
    float a = cuda_min(14, fabsf(v)), first = (a + 0x1.8p16f) - 0x1.8p16f;
    float power = cuda_exp_rest(-0.5f * (first * first), (a - first) * (-0.5f * (a + first)));
    float t = 2 / fmaf(a, 0x1.6a09e6p-1f, 2);
    float q = fmaf(t, -0x1.e27f5ap-5f, 0x1.2320a8p-2f);

    q = fmaf(t, q, -0x1.f36ceep-2f);
    q = fmaf(t, q, 0x1.1e7d5p-2f);
    q = fmaf(t, q, -0x1.d2508p-6f);
    q = fmaf(t, q, 0x1.a1287ap-3f);
    q = fmaf(t, q, 0x1.f144c4p-3f);
    q = fmaf(t, q, 0x1.2132bap-2f);
    q = fmaf(t, q, 0x1.20da9p-2f);
    return fmaf(-(0.5f * a * t), q * power, cuda_max(0, v));
}

/* The tanh form: v sigmoid(2 sqrt(2/pi) (v + 0.044715 v^3)), which does not cancel for negative v. */
__device__ static inline float cuda_gelu_tanh(float v)
{
    float inner = fmaf(v * v * v, 0.044715f, v);

    return v / (1 + cuda_exp(inner * -1.5957691216057308f));
}

/* The sum over groups of W neighbouring lanes (a power of two), in all of them: halves folded, far ones first, so that
 * every lane adds the same pairs. All lanes of the warp take part. */
template <uint32_t W> __device__ static inline float cuda_lanes_sum(float v)
{
#pragma unroll
    for (uint32_t apart = W / 2; apart > 0; apart /= 2)
        v = v + __shfl_xor_sync(CUDA_LANES, v, (int)apart);
    return v;
}

__device__ static inline float cuda_warp_sum(float v)
{
    return cuda_lanes_sum<CUDA_WARP>(v);
}

/* One of CUDA_ACTIVATION, or v itself. */
__device__ static inline float cuda_activate(uint32_t activation, float v)
{
    switch (activation) {
    case CUDA_ACTIVATION(SSM_RELU):
        return cuda_max(0, v);
    case CUDA_ACTIVATION(SSM_GELU):
        return cuda_gelu(v);
    case CUDA_ACTIVATION(SSM_GELU_TANH):
        return cuda_gelu_tanh(v);
    case CUDA_ACTIVATION(SSM_SILU):
        return cuda_silu(v);
    case CUDA_ACTIVATION(SSM_TANH):
        return cuda_tanh(v);
    case CUDA_ACTIVATION(SSM_SIGMOID):
        return cuda_sigmoid(v);
    case CUDA_ACTIVATION(SSM_SOFTPLUS):
        return cuda_softplus(v);
    default:
        return v;
    }
}

#endif
