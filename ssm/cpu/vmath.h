/* SPDX-License-Identifier: Apache-2.0
 *
 * Exponentials in sixteen lanes: exp, 2^x - 1, and on them sigmoid, silu, softplus, tanh and gelu.
 *
 * Written once on the primitives of vec.h, for libm has no vector form whose bits are the same in every lane and on
 * every call: a channel's bits must not depend on which lane it falls into.
 *
 *     x = k + r, k whole, |r| <= 1/2:   2^x = 2^k (1 + r Q(r)),   Q of degree 5
 *
 * k comes from adding a number so large that its last bit counts ones, which leaves k + 127 in the low bits, ready to
 * become an exponent. Q and the series below are least-maximum fits in float64, their coefficients rounded once.
 *
 * ERROR    in units of 2^-24 of the result, over all that is not below the normal range: sigmoid and silu 3 (and so
 *          exp, which they are for large negative v), softplus 4, tanh 5, gelu 8; tests/ssm/test_vmath.c holds them on
 *          every instruction set. exp is 0 below -87.7 and infinite above 88.4; softplus(v) is v above 20; no finite x
 *          gives NaN, and NaN stays NaN. A result below the normal range is 0 (flush to zero).
 */
#ifndef SSM_CPU_VMATH_H
#define SSM_CPU_VMATH_H

#include "ssm/cpu/vec.h"

/* Adding it rounds to whole numbers, to even, and leaves them + 127 in the low bits. */
#define V16_WHOLE (0x1.8p23f + 127)

/* 2^r - 1 = r Q(r), |r| <= 1/2, to 2^-26 of 2^r. */
static inline v16 v16_exp2m1_fraction(v16 r)
{
    v16 q = v16_fma(r, v16_set(0x1.41fbbcp-13f), v16_set(0x1.5f3e52p-10f));

    q = v16_fma(r, q, v16_set(0x1.3b2d4cp-7f));
    q = v16_fma(r, q, v16_set(0x1.c6aee8p-5f));
    q = v16_fma(r, q, v16_set(0x1.ebfbdcp-3f));
    q = v16_fma(r, q, v16_set(0x1.62e430p-1f));
    return v16_mul(r, q);
}

/* 2^x - 1 for x <= 0: near 0 it keeps the digits that 2^x would lose beside the 1, and a slow memory lives on them. */
static inline v16 v16_exp2m1(v16 x)
{
    v16 whole, power;

    x = v16_max(v16_set(-127), x);
    whole = v16_add(x, v16_set(V16_WHOLE));
    power = v16_power2(whole);
    x = v16_sub(x, v16_sub(whole, v16_set(V16_WHOLE)));
    return v16_fma(power, v16_exp2m1_fraction(x), v16_sub(power, v16_set(1)));
}

/* exp(x + rest), |rest| small: for an x whose rounding would show. ln 2 is in two parts, the first of 16 bits, so that
 * its product with k is exact. */
static inline v16 v16_exp_rest(v16 x, v16 rest)
{
    v16 whole, k;

    x = v16_min(v16_set(88.8f), v16_max(v16_set(-88.1f), x));
    whole = v16_fma(x, v16_set(0x1.715476p0f), v16_set(V16_WHOLE));
    k = v16_sub(whole, v16_set(V16_WHOLE));
    x = v16_add(rest, v16_fnma(k, v16_set(0x1.7f7d1cp-20f), v16_fnma(k, v16_set(0x1.62e4p-1f), x)));
    x = v16_exp2m1_fraction(v16_mul(x, v16_set(0x1.715476p0f)));
    return v16_mul(v16_add(v16_set(1), x), v16_power2(whole));
}

static inline v16 v16_exp(v16 x)
{
    return v16_exp_rest(x, v16_set(0));
}

static inline v16 v16_sigmoid(v16 v)
{
    return v16_div(v16_set(1), v16_add(v16_set(1), v16_exp(v16_sub(v16_set(0), v))));
}

static inline v16 v16_silu(v16 v)
{
    return v16_div(v, v16_add(v16_set(1), v16_exp(v16_sub(v16_set(0), v))));
}

/* max(v, 0) + log(1 + u), u = exp(-|v|), by 2 atanh(s), s = u / (2 + u) <= 1/3. */
static inline v16 v16_softplus(v16 v)
{
    v16 minus = v16_sub(v16_set(0), v), u = v16_exp(v16_min(minus, v)), s = v16_div(u, v16_add(v16_set(2), u));
    v16 square = v16_mul(s, s), sum = v16_fma(square, v16_set(0.14005993f), v16_set(0.14000903f));

    sum = v16_fma(square, sum, v16_set(0.20010763f));
    sum = v16_fma(square, sum, v16_set(0.33333209f));
    s = v16_add(s, s);
    return v16_add(v16_max(v16_set(0), v), v16_fma(v16_mul(s, square), sum, s));
}

/* -w / (2 + w), w = exp(-2|v|) - 1; v itself, held within that, brings the sign. */
static inline v16 v16_tanh(v16 v)
{
    v16 minus = v16_sub(v16_set(0), v), w = v16_exp2m1(v16_mul(v16_min(minus, v), v16_set(0x1.715476p1f)));
    v16 size = v16_div(w, v16_sub(v16_set(-2), w));

    return v16_max(v16_sub(v16_set(0), size), v16_min(size, v));
}

/* The erf form: max(v, 0) - a/2 erfc(z), a = |v|, z = a/sqrt 2, and erfc(z) = exp(-z^2) t Q(t), t = 2 / (2 + z), Q of
 * degree 8. z^2 is worked out in two parts, the square of a's first 11 bits, which is exact, and the rest. Beyond 14
 * nothing is left of erfc. */
static inline v16 v16_gelu(v16 v)
{
    v16 minus = v16_sub(v16_set(0), v), a = v16_min(v16_set(14), v16_max(minus, v));
    v16 first = v16_sub(v16_add(a, v16_set(0x1.8p16f)), v16_set(0x1.8p16f));
    v16 rest = v16_mul(v16_sub(a, first), v16_mul(v16_set(-0.5f), v16_add(a, first)));
    v16 power = v16_exp_rest(v16_mul(v16_set(-0.5f), v16_mul(first, first)), rest);
    v16 t = v16_div(v16_set(2), v16_fma(a, v16_set(0x1.6a09e6p-1f), v16_set(2)));
    v16 q = v16_fma(t, v16_set(-0x1.e27f5ap-5f), v16_set(0x1.2320a8p-2f));

    q = v16_fma(t, q, v16_set(-0x1.f36ceep-2f));
    q = v16_fma(t, q, v16_set(0x1.1e7d5p-2f));
    q = v16_fma(t, q, v16_set(-0x1.d2508p-6f));
    q = v16_fma(t, q, v16_set(0x1.a1287ap-3f));
    q = v16_fma(t, q, v16_set(0x1.f144c4p-3f));
    q = v16_fma(t, q, v16_set(0x1.2132bap-2f));
    q = v16_fma(t, q, v16_set(0x1.20da9p-2f));
    return v16_fnma(v16_mul(v16_mul(v16_set(0.5f), a), t), v16_mul(q, power), v16_max(v16_set(0), v));
}

#endif
