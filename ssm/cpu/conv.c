/* SPDX-License-Identifier: Apache-2.0
 *
 * The conv view: a wide tile of S = SSM_CONV_FRAMES frames through the channels of one layer, which are convolutions.
 *
 *     y[t] = sum over s <= t of K[t-s] u[s] + (C Abar^(t+1)) x,      x <- Abar^S x + sum over s of Abar^(S-1-s) Bbar u[s]
 *
 * The convolution is a product of spectra. Sixteen channels lie in the lanes, as they lie in the activations, so that a
 * transform is one chain of vectors with no lane crossed. On the slant, u[t] exp(pi i t / 2S), S complex points are
 * enough for S real frames and nothing is padded: what wraps around comes back times i, in the imaginary part, and the
 * real part is what a causal convolution gives.
 *
 * Radix 4, frequencies decimated forward and times back: spectra stay in the order that the forward transform leaves,
 * digits of base 4 reversed, and nothing is permuted.
 *
 * The state passes in blocks of B frames, all of them by two products for each channel (ssm/conv.h).
 *
 * SHAPES  u, y (S, H); state (H, width).
 * BITS    an output depends on the tile's whole input, so on where rows are cut.
 * COST    per frame and channel: 8.5 log2(S) flops of transforms, and of the state 4 width + 4 width^2 / B, diagonal
 *         4 width + 8 width / B. The state alone is the scan's work, so on a CPU this gains nothing: 65536 frames of 4
 *         layers of 64 channels, AVX2, in seconds of step, scan and this: s4d of N = 64 0.18, 0.13, 0.25; of N = 512
 *         1.11, 1.98, 1.24; s4 of N = 64 0.32, 0.32, 0.45.
 * ERROR   of the convolution about log2(S) eps times sqrt(S) rms(u) |K|, |K| the root of the sum of squares.
 * SOURCE  Arndt 2011, "Matters Computational", weighted and right-angle convolution. */
#include "ssm/conv.h"

#include <string.h>

#include "ssm/cpu/diagonal.h"
#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"

#define S    SSM_CONV_FRAMES
#define TURN 64 /* frames that are transposed at once, in L1 */

struct complex16 {
    v16 re, im;
};

static inline struct complex16 load(const float *x)
{
    return (struct complex16){v16_load(x), v16_load(x + V16)};
}

static inline void store(float *x, struct complex16 a)
{
    v16_store(x, a.re);
    v16_store(x + V16, a.im);
}

static inline struct complex16 plus(struct complex16 a, struct complex16 b)
{
    return (struct complex16){v16_add(a.re, b.re), v16_add(a.im, b.im)};
}

static inline struct complex16 minus(struct complex16 a, struct complex16 b)
{
    return (struct complex16){v16_fnma(b.re, v16_set(1), a.re), v16_fnma(b.im, v16_set(1), a.im)};
}

static inline struct complex16 times(struct complex16 a, v16 re, v16 im)
{
    return (struct complex16){v16_fnma(a.im, im, v16_mul(a.re, re)), v16_fma(a.im, re, v16_mul(a.re, im))};
}

static inline struct complex16 times_i(struct complex16 a)
{
    return (struct complex16){v16_mul(a.im, v16_set(-1)), a.re};
}

/* ---- the transform ------------------------------------------------------------------------------------------------ */

/* Four points of a transform of four: sums of x[p] i^(k p), k = 0..3; conjugated, the way back. */
static inline void four(struct complex16 *x, bool back)
{
    struct complex16 even = plus(x[0], x[2]), odd = minus(x[0], x[2]), sum = plus(x[1], x[3]);
    struct complex16 side = times_i(minus(x[1], x[3]));

    x[0] = plus(even, sum);
    x[1] = back ? minus(odd, side) : plus(odd, side);
    x[2] = minus(even, sum);
    x[3] = back ? plus(odd, side) : minus(odd, side);
}

/* One pass over `size` points: x (4, size/4) across its rows, which turn by w^(row j) after it, or before it on the way
 * back. */
static inline __attribute__((always_inline)) void pass(const float *turn, float *x, size_t size, bool back)
{
    size_t row = size / 4 * 2 * V16;

    for (size_t j = 0; j < size / 4; j++, x += 2 * V16) {
        struct complex16 at[4];

        for (size_t r = 0; r < 4; r++) {
            const float *w = turn + 2 * (S / size) * r * j;

            at[r] = load(x + r * row);
            if (back && r > 0)
                at[r] = times(at[r], v16_set(w[0]), v16_set(-w[1]));
        }
        four(at, back);
        for (size_t r = 0; r < 4; r++) {
            const float *w = turn + 2 * (S / size) * r * j;

            if (!back && r > 0)
                at[r] = times(at[r], v16_set(w[0]), v16_set(w[1]));
            store(x + r * row, at[r]);
        }
    }
}

/* x (size, 2, 16) <- its circular convolution with what `spectrum` is of, depth first, so that all but the first passes
 * stay in L1. */
static void spectrum_apply(const float *turn, const float *spectrum, float *x, size_t size)
{
    struct complex16 at[4];

    if (size > 4) {
        pass(turn, x, size, false);
        for (size_t part = 0; part < 4; part++)
            spectrum_apply(turn, spectrum + part * (size / 4) * 2 * V16, x + part * (size / 4) * 2 * V16, size / 4);
        pass(turn, x, size, true);
        return;
    }
    for (size_t r = 0; r < 4; r++)
        at[r] = load(x + r * 2 * V16);
    four(at, false);
    for (size_t r = 0; r < 4; r++)
        at[r] = times(at[r], v16_load(spectrum + r * 2 * V16), v16_load(spectrum + r * 2 * V16 + V16));
    four(at, true);
    for (size_t r = 0; r < 4; r++)
        store(x + r * 2 * V16, at[r]);
}

/* ---- the state of one channel -------------------------------------------------------------------------------------- */

/* to += from + jump from, all (width). */
static void state_jump(const struct ssm_conv_carry *c, const float *from, float *to, size_t width)
{
    if (c->modes) {
        for (size_t n = 0, half = width / 2; n < half; n += V16) {
            v16 re = v16_load(from + n), im = v16_load(from + half + n);

            diagonal_step(v16_load(c->modes + n), v16_load(c->modes + half + n), v16_load(to + n),
                          v16_load(to + half + n), &re, &im);
            v16_store(to + n, re);
            v16_store(to + half + n, im);
        }
        return;
    }
    for (size_t n = 0; n < width; n += V16)
        v16_store(to + n, v16_add(v16_load(from + n), v16_load(to + n)));
    SSM_CPU(ssm_cpu_matrix)(&c->jump, NULL, true, from, width, to, width, 1);
}

/* What the state gives to the channel's outputs, and the state after. line (S): the inputs, and then those outputs;
 * states: room for what enters each block from `state` alone, and what leaves it. */
static void channel_carry(const struct ssm_conv_carry *c, size_t width, uint32_t block, float *state, float *line,
                          float *states)
{
    uint32_t blocks = S / block;
    float *enters = states, *leaves = enters + blocks * width;

    SSM_CPU(ssm_cpu_matrix)(&c->in, NULL, false, line, block, leaves, width, blocks);
    memcpy(enters, state, width * sizeof(*state));
    memset(enters + width, 0, (blocks - 1) * width * sizeof(*state));
    for (size_t b = 0; b < blocks; b++) {
        state_jump(c, b == 0 ? state : leaves + (b - 1) * width, leaves + b * width, width);
        if (b + 1 < blocks)
            state_jump(c, enters + b * width, enters + (b + 1) * width, width);
    }
    memcpy(state, leaves + (blocks - 1) * width, width * sizeof(*state));
    SSM_CPU(ssm_cpu_matrix)(&c->out, NULL, false, enters, width, line, block, blocks);
}

/* ---- sixteen channels, which lie H floats from frame to frame ------------------------------------------------------ */

/* lines (channels, S) = the transpose of u. */
static void lines_take(float *lines, const float *u, size_t H, size_t channels)
{
    for (size_t from = 0; from < S; from += TURN)
        for (size_t c = 0; c < channels; c++)
            for (size_t t = from; t < from + TURN; t++)
                lines[c * S + t] = u[t * H + c];
}

/* y += the transpose of lines. */
static void lines_add(const float *lines, float *y, size_t H, size_t channels)
{
    for (size_t from = 0; from < S; from += TURN)
        for (size_t c = 0; c < channels; c++)
            for (size_t t = from; t < from + TURN; t++)
                y[t * H + c] += lines[c * S + t];
}

/* y = K * u of these channels; x is room for (S, 2, 16). */
static void channels_convolve(const struct ssm_conv *conv, const float *spectra, const float *u, float *y, size_t H,
                              size_t channels, float *x)
{
    float lanes[V16] = {0};

    for (size_t t = 0; t < S; t++) {
        v16 input;

        memcpy(lanes, u + t * H, channels * sizeof(*u));
        input = v16_load(lanes);
        v16_store(x + t * 2 * V16, v16_mul(input, v16_set(conv->slant[2 * t])));
        v16_store(x + t * 2 * V16 + V16, v16_mul(input, v16_set(conv->slant[2 * t + 1])));
    }
    spectrum_apply(conv->turn, spectra, x, S);
    for (size_t t = 0; t < S; t++) {
        struct complex16 a = load(x + t * 2 * V16);

        v16_store(lanes, v16_fma(a.im, v16_set(conv->slant[2 * t + 1]), v16_mul(a.re, v16_set(conv->slant[2 * t]))));
        memcpy(y + t * H, lanes, channels * sizeof(*y));
    }
}

void SSM_CPU(ssm_cpu_conv)(const struct ssm_conv_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    size_t H = layer->layer->out, width = layer->width;
    float *state = ssm_row_state(layer->layer, tile->rows);
    float *room = tile->scratch, *lines = room + S * 2 * V16, *states = lines + S * V16;

    for (size_t h = 0; h < H; h += V16) {
        size_t channels = H - h < V16 ? H - h : V16;

        lines_take(lines, x + h, H, channels);
        for (size_t c = 0; c < channels; c++)
            channel_carry(&layer->carry[h + c], width, layer->block, state + (h + c) * width, lines + c * S, states);
        channels_convolve(tile->conv, layer->spectra + h * S * 2, x + h, y + h, H, channels, room);
        lines_add(lines, y + h, H, channels);
    }
}
