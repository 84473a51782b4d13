/* SPDX-License-Identifier: Apache-2.0
 *
 * The one arithmetic of cuda/matrix_few.cu and cuda/matrix_many.cu, which differ in who computes what when, and the
 * packed weights.
 *
 * Float32 products would be bound by 67 TFLOP/s; the matrix units do 16 times that in binary16, and two of those in the
 * place of each number of x keep float32's accuracy:
 *
 *     x   a row's segment of 64 inputs, times the power of two that brings its largest into [2^14, 2^15): hi + lo
 *     w   an output's weights, times such a power of two: one number where that is as exact (weights of bfloat16 are),
 *         else hi + lo
 *     sum of a segment   whi xlo (+ wlo xhi) + whi xhi, in groups of 32 inputs, by the matrix unit; wlo xlo is below
 *                        the rounding
 *     total              <- total + segment / (x's power of two), in float32, segment after segment
 *
 * Totals are in units of w's power of two, by which they are divided at last, less 2^14 which x's takes over: so they
 * are finite where the sum of |x| and start / (largest weight) are.
 *
 * Each segment begins at 0, for the unit cuts off the low bits of a sum where float32 would round them, and a long chain
 * would drift.
 *
 * Of 32 inputs lane 4 g + t takes the eight from 8 t on, four into each of two products of 16: which of the 16 places an
 * input has does not matter as long as w and x agree, and eight neighbours are one load.
 *
 * A tile's 16 outputs are 8 neighbours of the first half of all outputs and the 8 that lie half of them behind: a lane
 * then has both that meet in a glu.
 *
 * SHAPES   tiles (ceil(out/16), ceil(in/32), 2, parts, 32 lanes) of uint4, as a of cuda/mma.cuh: outputs are rows there,
 *          frames columns, inputs the 16 places. Zeros beyond out and in.
 * BITS     the order of an output's sum is given by `in` alone, and x's power of two by the row's segment alone. Parts
 *          and w's power of two belong to the matrix.
 * ERROR    |y - exact| <= 2^-21 sum |w||x| + (in / 64 + 2) 2^-24 max over segments |total|, and of numbers below 2^-16
 *          of the largest weight of the output, or of the largest of the segment of x, 2^-39 of that. Weights all
 *          below 2^-46 keep fewer digits, and above 2^90 start does.
 */
#ifndef CUDA_MATRIX_TILES_CUH
#define CUDA_MATRIX_TILES_CUH

#include "cuda/math.cuh"
#include "cuda/matrix.cuh"
#include "cuda/mma.cuh"

#define MATRIX_PANEL   16u /* outputs of a tile */
#define MATRIX_PAIRS   8u  /* of outputs half of all apart, in a tile */
#define MATRIX_GROUP   32u /* inputs of a tile, two products of 16 */
#define MATRIX_SEGMENT 64u /* inputs that one power of two is for */
#define MATRIX_ROWS    8u  /* frames of a product */

/* Those of cuda/matrix_few.cu and cuda/matrix_many.cu. */
cudaError_t cuda_matrix_few(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream);
cudaError_t cuda_matrix_many(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream);

__host__ __device__ static inline uint32_t matrix_panels(const struct cuda_matrix *w)
{
    return (w->out + MATRIX_PANEL - 1) / MATRIX_PANEL;
}

__host__ __device__ static inline uint32_t matrix_groups(const struct cuda_matrix *w)
{
    return (w->in + MATRIX_GROUP - 1) / MATRIX_GROUP;
}

__host__ __device__ static inline uint32_t matrix_segments(const struct cuda_matrix *w)
{
    return (w->in + MATRIX_SEGMENT - 1) / MATRIX_SEGMENT;
}

/* How far the two outputs of a pair are apart. */
__host__ __device__ static inline uint32_t matrix_half(const struct cuda_matrix *w)
{
    return (w->out + 1) / 2;
}

/* Whether rows of x can be read four floats at a time. */
static inline bool matrix_vectors(const struct cuda_matrix *w, const struct cuda_product *p)
{
    return (uintptr_t)p->x % 16 == 0 && p->x_stride % 4 == 0 && w->in % 4 == 0;
}

/* Eight neighbouring inputs of one frame, in two parts. */
struct matrix_x {
    uint32_t hi[4], lo[4];
};

/* ROWS products of one panel and one group, a (2, PARTS), b (ROWS). The order is the contract. */
template <int PARTS, int ROWS>
__device__ static inline void matrix_group(float (*sum)[4], const uint4 *a, const struct matrix_x *b)
{
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            cuda_mma(sum[r], a[k * PARTS], b[r].lo[2 * k], b[r].lo[2 * k + 1]);
    if (PARTS == 2)
#pragma unroll
        for (int k = 0; k < 2; k++)
#pragma unroll
            for (int r = 0; r < ROWS; r++)
                cuda_mma(sum[r], a[k * PARTS + PARTS - 1], b[r].hi[2 * k], b[r].hi[2 * k + 1]);
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            cuda_mma(sum[r], a[k * PARTS], b[r].hi[2 * k], b[r].hi[2 * k + 1]);
}

/* What a segment's sum is multiplied by, x having been by this power of two. */
__device__ static inline float matrix_inverse(uint32_t scale_bits)
{
    return __uint_as_float((240u << 23) - scale_bits);
}

__device__ static inline float matrix_total(float total, float segment, float inverse)
{
    return fmaf(segment, inverse, total);
}

/* ---- outputs, in pairs: number i and number i + half ------------------------------------------------------------- */

struct matrix_pair {
    float low, high;
};

__device__ static inline bool matrix_low(const struct cuda_matrix *w, uint32_t i)
{
    return i < matrix_half(w);
}

__device__ static inline bool matrix_high(const struct cuda_matrix *w, uint32_t i)
{
    return i + matrix_half(w) < w->out;
}

/* Scales are padded as panels are. */
__device__ static inline struct matrix_pair matrix_scale(const struct cuda_matrix *w, uint32_t i)
{
    return {__ldg(w->scale + i), __ldg(w->scale + i + matrix_half(w))};
}

/* What the outputs of frame r begin with, before they are scaled. */
__device__ static inline struct matrix_pair matrix_start(const struct cuda_matrix *w, const struct cuda_product *p,
                                                         size_t r, uint32_t i)
{
    bool low = matrix_low(w, i), high = matrix_high(w, i);
    const float *y = p->y + r * p->y_stride;

    if (p->add)
        return {low ? y[i] : 0, high ? y[i + matrix_half(w)] : 0};
    return {low && p->start ? __ldg(p->start + i) : 0, high && p->start ? __ldg(p->start + i + matrix_half(w)) : 0};
}

/* Totals to outputs. */
__device__ static inline float matrix_output(float total, float scale)
{
    return total * __uint_as_float((254u << 23) - __float_as_uint(scale));
}

/* Whether something is done to outputs, and what: of a glu `low` is what comes out. */
__device__ static inline bool matrix_changes(const struct cuda_product *p)
{
    return p->activation != CUDA_NO_ACTIVATION || p->glu;
}

__device__ static inline void matrix_change(const struct cuda_product *p, float *low, float *high)
{
    if (p->activation != CUDA_NO_ACTIVATION) {
        *low = cuda_activate(p->activation, *low);
        *high = cuda_activate(p->activation, *high);
    }
    if (p->glu)
        *low = *low * cuda_sigmoid(*high);
}

/* The largest absolute value of those that 4 neighbouring lanes hold, as bits, to all four. */
__device__ static inline uint32_t matrix_largest(uint32_t bits)
{
    bits = max(bits, __shfl_xor_sync(CUDA_LANES, bits, 1));
    return max(bits, __shfl_xor_sync(CUDA_LANES, bits, 2));
}

__device__ static inline uint32_t matrix_absolute(float v)
{
    return __float_as_uint(v) & 0x7fffffffu;
}

#endif
