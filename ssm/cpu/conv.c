/* SPDX-License-Identifier: Apache-2.0
 *
 * The conv view: a wide tile of S = SSM_CONV_FRAMES frames through the channels of one layer, which are convolutions.
 *
 *     y[t] = sum over s <= t of K[t-s] u[s] + (C Abar^(t+1)) x
 *     x <- Abar^S x + sum over s of Abar^(S-1-s) Bbar u[s]
 *
 * The convolution is a product of spectra, by KissFFT: a well-kept transform, which nothing here needs to be faster
 * than. On the slant, u[t] exp(pi i t / 2S), S complex points are enough for S real frames and nothing is padded: what
 * wraps around comes back times i, in the imaginary part, and the real part is what a causal convolution gives.
 *
 * The state passes in blocks of B frames, all of them by two products for each channel (ssm/conv.h).
 *
 * SHAPES  u, y (S, H); state (H, width).
 * BITS    an output depends on the tile's whole input, so on where rows are cut.
 * COST    per frame and channel: two complex transforms of S points, and of the state 4 width + 4 width^2 / B, diagonal
 *         4 width + 8 width / B. The state alone is the scan's work, so on a CPU this gains nothing: a four-block S4D
 *         stack of 64 channels, N = 64, takes 3.1 us a frame scanned and 7.9 so (AVX2, bench/scan).
 * ERROR   of the convolution about log2(S) eps times sqrt(S) rms(u) |K|, |K| the root of the sum of squares.
 * SOURCE  Arndt 2011, "Matters Computational", weighted and right-angle convolution. */
#include "ssm/conv.h"

#include <string.h>

#include <kissfft/kiss_fft.h>

#include "ssm/cpu/diagonal.h"
#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"

#define S    SSM_CONV_FRAMES
#define TURN 64 /* frames that are transposed at once, in L1 */

/* ---- the state of one channel ------------------------------------------------------------------------------------ */

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

/* ---- sixteen channels, which lie H floats from frame to frame ---------------------------------------------------- */

/* lines (channels, S) = the transpose of u. */
static void lines_take(float *lines, const float *u, size_t H, size_t channels)
{
    for (size_t from = 0; from < S; from += TURN)
        for (size_t c = 0; c < channels; c++)
            for (size_t t = from; t < from + TURN; t++)
                lines[c * S + t] = u[t * H + c];
}

/* y = the transpose of lines. */
static void lines_give(const float *lines, float *y, size_t H, size_t channels)
{
    for (size_t from = 0; from < S; from += TURN)
        for (size_t c = 0; c < channels; c++)
            for (size_t t = from; t < from + TURN; t++)
                y[t * H + c] = lines[c * S + t];
}

/* y (S) = K * u of one channel; x is room for two spectra. */
static void channel_convolve(const struct ssm_conv *conv, const float *spectrum, const float *u, float *y, float *x)
{
    kiss_fft_cpx *frames = (kiss_fft_cpx *)x, *points = frames + S;

    for (size_t t = 0; t < S; t++)
        frames[t] = (kiss_fft_cpx){u[t] * conv->slant[2 * t], u[t] * conv->slant[2 * t + 1]};
    kiss_fft(conv->forward, frames, points);
    for (size_t k = 0; k < S; k++) {
        float re = spectrum[2 * k], im = spectrum[2 * k + 1];

        points[k] = (kiss_fft_cpx){points[k].r * re - points[k].i * im, points[k].r * im + points[k].i * re};
    }
    kiss_fft(conv->back, points, frames);
    for (size_t t = 0; t < S; t++)
        y[t] = frames[t].r * conv->slant[2 * t] + frames[t].i * conv->slant[2 * t + 1];
}

void SSM_CPU(ssm_cpu_conv)(const struct ssm_conv_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    size_t H = layer->layer->out, width = layer->width;
    float *state = ssm_row_state(layer->layer, tile->rows);
    float *room = tile->scratch, *sum = room + 4 * S, *lines = sum + S, *states = lines + S * V16;

    for (size_t h = 0; h < H; h += V16) {
        size_t channels = H - h < V16 ? H - h : V16;

        lines_take(lines, x + h, H, channels);
        for (size_t c = 0; c < channels; c++) {
            float *line = lines + c * S;

            channel_convolve(tile->conv, layer->spectra + (h + c) * S * 2, line, sum, room);
            channel_carry(&layer->carry[h + c], width, layer->block, state + (h + c) * width, line, states);
            for (size_t t = 0; t < S; t++)
                line[t] += sum[t];
        }
        lines_give(lines, y + h, H, channels);
    }
}
