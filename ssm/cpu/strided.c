/* SPDX-License-Identifier: Apache-2.0
 *
 * conv1d, conv_transpose1d, downsample, upsample: a window that moves on by a stride (ssm/layers/strided.h).
 *
 * A row's past frames and its new ones are laid end to end, in pieces of SSM_TILE_FRAMES; each place of the window is
 * one row of a matrix product over its frames, oldest first; the last frames become the past again. Chunks leave no seam
 * because every output sums the same numbers in the same order wherever the cut was.
 *
 * These kernels are given rows of any length, none too. */
#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"
#include "ssm/layers/strided.h"

/* Places whose last frame is among the first `frames`. */
static uint64_t places(const struct ssm_strided *p, uint64_t frames)
{
    return ssm_clock_windows(frames, p->past - p->before + 1, p->stride);
}

/* y[j][c] = bias[c] + sum over k of taps[k][c] * line[j*stride + k*dilation][c] */
static void depthwise(const struct ssm_strided *p, uint32_t channels, const float *line, float *y, uint32_t n)
{
    for (size_t j = 0; j < n; j++) {
        float *to = y + j * channels;

        memcpy(to, p->bias, channels * sizeof(*to));
        for (size_t k = 0; k < p->kernel; k++) {
            const float *from = line + (j * p->stride + k * p->dilation) * channels, *tap = p->taps + k * channels;

            for (size_t c = 0; c < channels; c++)
                to[c] = SSM_FMAF(tap[c], from[c], to[c]);
        }
    }
}

/* The windows of group g, (n, kernel * width), oldest frame first. */
static void windows_gather(const struct ssm_strided *p, uint32_t in, uint32_t g, uint32_t width, const float *line,
                           float *windows, uint32_t n)
{
    for (size_t j = 0; j < n; j++)
        for (size_t k = 0; k < p->kernel; k++, windows += width)
            memcpy(windows, line + (j * p->stride + k * p->dilation) * in + g * width, width * sizeof(*windows));
}

static void grouped(const struct ssm_layer *layer, const float *line, float *windows, float *y, uint32_t n)
{
    const struct ssm_strided *p = layer->params;
    uint32_t gi = layer->in / p->groups, go = layer->out / p->groups;

    for (size_t j = 0; j < n; j++)
        memcpy(y + j * layer->out, p->bias, layer->out * sizeof(*y));
    for (uint32_t g = 0; g < p->groups; g++) {
        windows_gather(p, layer->in, g, gi, line, windows, n);
        SSM_CPU(ssm_cpu_matrix)
        (&p->group[g], NULL, true, windows, (size_t)p->kernel * gi, y + (size_t)g * go, layer->out, n);
    }
}

/* n places from the line on, the first window beginning there. */
static void places_run(const struct ssm_layer *layer, const float *line, float *windows, float *y, uint32_t n)
{
    const struct ssm_strided *p = layer->params;

    if (p->taps)
        depthwise(p, layer->in, line, y, n);
    else if (p->groups == 1 && (p->dilation == 1 || p->kernel == 1)) /* windows lie in the line as they are */
        SSM_CPU(ssm_cpu_matrix)
    (p->group, p->bias, false, line, (size_t)p->stride * layer->in, y, (size_t)p->phases * layer->out, n);
    else grouped(layer, line, windows, y, n);
}

static void row_run(const struct ssm_layer *layer, const struct ssm_tile_row *row, const float *x, float *line,
                    float *y)
{
    const struct ssm_strided *p = layer->params;
    size_t in = layer->in;
    float *past = ssm_row_state(layer, row), *windows = line + ((size_t)p->past + SSM_TILE_FRAMES) * in;
    uint64_t at = row->index, place = places(p, at);

    for (uint32_t left = row->frames, frames; left > 0; left -= frames, at += frames, x += frames * in) {
        uint32_t n;

        frames = left < SSM_TILE_FRAMES ? left : SSM_TILE_FRAMES;
        n = (uint32_t)(places(p, at + frames) - place);
        memcpy(line, past, p->past * in * sizeof(*line));
        memcpy(line + p->past * in, x, frames * in * sizeof(*line));
        /* the line begins with frame at - past */
        if (n > 0)
            places_run(layer, line + (place * p->stride + p->past - p->before - at) * in, windows, y, n);
        memcpy(past, line + frames * in, p->past * in * sizeof(*line));
        y += (size_t)n * p->phases * layer->out;
        place += n;
    }
}

static void windows_run(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_tile_row *to = tile->clocks[layer->out_clock].rows;

    for (uint32_t r = 0; r < tile->count; r++)
        row_run(layer, &tile->rows[r], x + (size_t)tile->rows[r].first * layer->in, tile->scratch,
                y + (size_t)to[r].first * layer->out);
}

void SSM_CPU(ssm_cpu_conv1d)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    windows_run(layer, tile, x, y);
}

void SSM_CPU(ssm_cpu_conv_transpose1d)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x,
                                       float *y)
{
    windows_run(layer, tile, x, y);
}

void SSM_CPU(ssm_cpu_downsample)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    windows_run(layer, tile, x, y);
}

void SSM_CPU(ssm_cpu_upsample)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    windows_run(layer, tile, x, y);
}
