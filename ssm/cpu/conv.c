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
 * The state passes in blocks of B = SSM_CONV_BLOCK frames, all of them by two products for each channel (ssm/conv.h).
 *
 * SHAPES  u, y (S, H); state (H, width).
 * BITS    an output depends on the tile's whole input, so on where rows are cut.
 * COST    per frame and channel: 8.5 log2(S) flops of transforms, 4 width + 4 width^2 / B (diagonal: 8 width / B) of
 *         the state.
 * ERROR   of the convolution about log2(S) eps times sqrt(S) rms(u) |K|, |K| the root of the sum of squares.
 * SOURCE  Nussbaumer 1982, "Fast Fourier Transform and Convolution Algorithms": the transform with a fractional shift. */
#include "ssm/conv.h"

#include <string.h>

#include "ssm/cpu/diagonal.h"
#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"

#define B      SSM_CONV_BLOCK
#define S      SSM_CONV_FRAMES
#define BLOCKS (S / B)

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

/* x[k] <- sum over t of x[t] exp(2 pi i k t / S), x (S, 2, 16), in reversed digits. */
static void forward(const float *turn, float *x)
{
    for (size_t size = S, step = 2; size > 1; size /= 4, step *= 4)
        for (size_t j = 0; j < size / 4; j++) {
            const float *w1 = turn + j * step, *w2 = turn + 2 * j * step, *w3 = turn + 3 * j * step;

            for (float *at = x + j * 2 * V16, *end = x + S * 2 * V16; at < end; at += size * 2 * V16) {
                float *one = at + size / 4 * 2 * V16, *two = at + size / 2 * 2 * V16, *three = two + (one - at);
                struct complex16 a = load(at), b = load(one), c = load(two), d = load(three);
                struct complex16 even = plus(a, c), odd = minus(a, c), sum = plus(b, d), side = times_i(minus(b, d));

                store(at, plus(even, sum));
                store(one, times(plus(odd, side), v16_set(w1[0]), v16_set(w1[1])));
                store(two, times(minus(even, sum), v16_set(w2[0]), v16_set(w2[1])));
                store(three, times(minus(odd, side), v16_set(w3[0]), v16_set(w3[1])));
            }
        }
}

/* The way back, times S. */
static void backward(const float *turn, float *x)
{
    for (size_t size = 4, step = S / 2; size <= S; size *= 4, step /= 4)
        for (size_t j = 0; j < size / 4; j++) {
            const float *w1 = turn + j * step, *w2 = turn + 2 * j * step, *w3 = turn + 3 * j * step;

            for (float *at = x + j * 2 * V16, *end = x + S * 2 * V16; at < end; at += size * 2 * V16) {
                float *one = at + size / 4 * 2 * V16, *two = at + size / 2 * 2 * V16, *three = two + (one - at);
                struct complex16 a = load(at), b = times(load(one), v16_set(w1[0]), v16_set(-w1[1]));
                struct complex16 c = times(load(two), v16_set(w2[0]), v16_set(-w2[1]));
                struct complex16 d = times(load(three), v16_set(w3[0]), v16_set(-w3[1]));
                struct complex16 even = plus(a, c), odd = minus(a, c), sum = plus(b, d), side = times_i(minus(b, d));

                store(at, plus(even, sum));
                store(one, minus(odd, side));
                store(two, minus(even, sum));
                store(three, plus(odd, side));
            }
        }
}

/* y = K * u of up to 16 channels, H floats from frame to frame; x is room for (S, 2, 16). */
static void channels_convolve(const struct ssm_conv *conv, const float *spectra, const float *u, float *y, size_t H,
                              size_t channels, float *x)
{
    float lanes[V16] = {0};

    for (size_t t = 0; t < S; t++) {
        memcpy(lanes, u + t * H, channels * sizeof(*u));
        v16 input = v16_load(lanes);

        v16_store(x + t * 2 * V16, v16_mul(input, v16_set(conv->slant[2 * t])));
        v16_store(x + t * 2 * V16 + V16, v16_mul(input, v16_set(conv->slant[2 * t + 1])));
    }
    forward(conv->turn, x);
    for (size_t k = 0; k < S; k++) {
        const float *by = spectra + k * 2 * V16;
        float *at = x + k * 2 * V16;

        store(at, times(load(at), v16_load(by), v16_load(by + V16)));
    }
    backward(conv->turn, x);
    for (size_t t = 0; t < S; t++) {
        struct complex16 a = load(x + t * 2 * V16);

        v16_store(lanes, v16_fma(a.im, v16_set(conv->slant[2 * t + 1]), v16_mul(a.re, v16_set(conv->slant[2 * t]))));
        memcpy(y + t * H, lanes, channels * sizeof(*y));
    }
}

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

/* What the state gives to the channel's outputs, and the state after. u and y stand `stride` floats from frame to frame;
 * scratch: u and y as lines, the states that enter the blocks from `state` alone, and those that leave them. */
static void channel_carry(const struct ssm_conv_carry *c, size_t width, float *state, const float *u, float *y,
                          size_t stride, float *scratch)
{
    float *in = scratch, *out = in + S, *enters = out + S, *leaves = enters + BLOCKS * width;

    for (size_t t = 0; t < S; t++)
        in[t] = u[t * stride];
    SSM_CPU(ssm_cpu_matrix)(&c->in, NULL, false, in, B, leaves, width, BLOCKS);
    memcpy(enters, state, width * sizeof(*state));
    memset(enters + width, 0, (BLOCKS - 1) * width * sizeof(*state));
    for (size_t b = 0; b < BLOCKS; b++) {
        state_jump(c, b == 0 ? state : leaves + (b - 1) * width, leaves + b * width, width);
        if (b + 1 < BLOCKS)
            state_jump(c, enters + b * width, enters + (b + 1) * width, width);
    }
    memcpy(state, leaves + (BLOCKS - 1) * width, width * sizeof(*state));
    SSM_CPU(ssm_cpu_matrix)(&c->out, NULL, false, enters, width, out, B, BLOCKS);
    for (size_t t = 0; t < S; t++)
        y[t * stride] += out[t];
}

void SSM_CPU(ssm_cpu_conv)(const struct ssm_conv_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    size_t H = layer->layer->out;
    float *state = ssm_row_state(layer->layer, tile->rows), *rest = tile->scratch + S * 2 * V16;

    for (size_t h = 0; h < H; h += V16)
        channels_convolve(tile->conv, layer->spectra + h * S * 2, x + h, y + h, H, H - h < V16 ? H - h : V16,
                          tile->scratch);
    for (size_t h = 0; h < H; h++)
        channel_carry(&layer->carry[h], layer->width, state + h * layer->width, x + h, y + h, H, rest);
}
