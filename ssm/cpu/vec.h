/* SPDX-License-Identifier: Apache-2.0
 *
 * Sixteen float32 lanes, the same on every instruction set, and the fused product where the processor has it.
 *
 * Lanes never mix but in v16_sum, which folds 16 -> 8 -> 4 -> 2 -> 1 in that order everywhere: two instruction sets
 * differ only by the rounding that fusing saves. Loads and stores need no alignment. v16_max and v16_min give b where
 * either is NaN. v16_power2 reads the low byte of each lane's bits as the exponent of a power of two: 2^(byte - 127),
 * 0 for byte 0, infinity for byte 255. Functions built on these are in ssm/cpu/vmath.h.
 */
#ifndef SSM_CPU_VEC_H
#define SSM_CPU_VEC_H

#include <string.h>

#if defined(__FMA__)
#define SSM_FMAF(a, b, c) __builtin_fmaf((a), (b), (c)) /* a*b + c, float32 */
#define SSM_FMA(a, b, c)  __builtin_fma((a), (b), (c))  /* a*b + c, float64 */
#else
#define SSM_FMAF(a, b, c) ((a) * (b) + (c))
#define SSM_FMA(a, b, c)  ((a) * (b) + (c))
#endif

#define V16 16

#if defined(__AVX512F__)
#include <immintrin.h>
typedef __m512 v16;
static inline v16 v16_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v16_store(float *p, v16 a)
{
    _mm512_storeu_ps(p, a);
}
static inline v16 v16_set(float a)
{
    return _mm512_set1_ps(a);
}
static inline v16 v16_mul(v16 a, v16 b)
{
    return _mm512_mul_ps(a, b);
}
static inline v16 v16_add(v16 a, v16 b)
{
    return _mm512_add_ps(a, b);
}
static inline v16 v16_sub(v16 a, v16 b)
{
    return _mm512_sub_ps(a, b);
}
static inline v16 v16_div(v16 a, v16 b)
{
    return _mm512_div_ps(a, b);
}
static inline v16 v16_max(v16 a, v16 b)
{
    return _mm512_max_ps(a, b);
}
static inline v16 v16_min(v16 a, v16 b)
{
    return _mm512_min_ps(a, b);
}
static inline v16 v16_power2(v16 a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 23));
}
/* a*b + c */
static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
/* c - a*b */
static inline v16 v16_fnma(v16 a, v16 b, v16 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
static inline __m256 v16_fold(v16 a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
typedef struct {
    __m256 lo, hi;
} v16;
static inline v16 v16_load(const float *p)
{
    return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
static inline void v16_store(float *p, v16 a)
{
    _mm256_storeu_ps(p, a.lo);
    _mm256_storeu_ps(p + 8, a.hi);
}
static inline v16 v16_set(float a)
{
    return (v16){_mm256_set1_ps(a), _mm256_set1_ps(a)};
}
static inline v16 v16_mul(v16 a, v16 b)
{
    return (v16){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
static inline v16 v16_add(v16 a, v16 b)
{
    return (v16){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
static inline v16 v16_sub(v16 a, v16 b)
{
    return (v16){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
static inline v16 v16_div(v16 a, v16 b)
{
    return (v16){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
static inline v16 v16_max(v16 a, v16 b)
{
    return (v16){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
static inline v16 v16_min(v16 a, v16 b)
{
    return (v16){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
static inline v16 v16_power2(v16 a)
{
    return (v16){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.lo), 23)),
                 _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a.hi), 23))};
}
static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
static inline v16 v16_fnma(v16 a, v16 b, v16 c)
{
    return (v16){_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
static inline __m256 v16_fold(v16 a)
{
    return _mm256_add_ps(a.lo, a.hi);
}
#else
#include <stdint.h>
typedef struct {
    float lane[V16];
} v16;
#define V16_EACH(expression)                                                                                           \
    v16 r;                                                                                                             \
    for (int i = 0; i < V16; i++)                                                                                      \
        r.lane[i] = (expression);                                                                                      \
    return r
static inline v16 v16_load(const float *p)
{
    V16_EACH(p[i]);
}
static inline void v16_store(float *p, v16 a)
{
    for (int i = 0; i < V16; i++)
        p[i] = a.lane[i];
}
static inline v16 v16_set(float a)
{
    V16_EACH(a);
}
static inline v16 v16_mul(v16 a, v16 b)
{
    V16_EACH(a.lane[i] * b.lane[i]);
}
static inline v16 v16_add(v16 a, v16 b)
{
    V16_EACH(a.lane[i] + b.lane[i]);
}
static inline v16 v16_sub(v16 a, v16 b)
{
    V16_EACH(a.lane[i] - b.lane[i]);
}
static inline v16 v16_div(v16 a, v16 b)
{
    V16_EACH(a.lane[i] / b.lane[i]);
}
static inline v16 v16_max(v16 a, v16 b)
{
    V16_EACH(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]);
}
static inline v16 v16_min(v16 a, v16 b)
{
    V16_EACH(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]);
}
static inline v16 v16_power2(v16 a)
{
    union {
        float value;
        uint32_t bits;
    } lane;
    v16 r;

    for (int i = 0; i < V16; i++) {
        lane.value = a.lane[i];
        lane.bits <<= 23;
        r.lane[i] = lane.value;
    }
    return r;
}
static inline v16 v16_fma(v16 a, v16 b, v16 c)
{
    V16_EACH(a.lane[i] * b.lane[i] + c.lane[i]);
}
static inline v16 v16_fnma(v16 a, v16 b, v16 c)
{
    V16_EACH(c.lane[i] - a.lane[i] * b.lane[i]);
}
#endif

/* The first n lanes, zeros behind them; all of them when n is at least 16. Store leaves what lies behind alone. */
static inline v16 v16_load_first(const float *p, size_t n)
{
    float lanes[V16] = {0};

    if (n >= V16)
        return v16_load(p);
    memcpy(lanes, p, n * sizeof(*p));
    return v16_load(lanes);
}
static inline void v16_store_first(float *p, v16 a, size_t n)
{
    float lanes[V16];

    if (n >= V16) {
        v16_store(p, a);
        return;
    }
    v16_store(lanes, a);
    memcpy(p, lanes, n * sizeof(*p));
}

/* The sum of the lanes, folded in halves. */
static inline float v16_sum(v16 a)
{
#if defined(__AVX2__) && defined(__FMA__)
    __m256 e = v16_fold(a);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(e), _mm256_extractf128_ps(e, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    q = _mm_add_ss(q, _mm_shuffle_ps(q, q, 1));
    return _mm_cvtss_f32(q);
#else
    for (int width = V16 / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            a.lane[i] += a.lane[i + width];
    return a.lane[0];
#endif
}

#endif
