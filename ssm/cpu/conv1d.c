/* SPDX-License-Identifier: Apache-2.0
 *
 * conv1d, causal, stride 1. A row's window of past frames and its new ones are laid end to end, and each output is one
 * row of a matrix product over its taps, oldest first; the last frames become the window again. Chunks leave no seam
 * because every output sums the same numbers in the same order wherever the cut was. */
#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"
#include "ssm/layers/params.h"

/* y[t][c] = bias[c] + sum over k of taps[k][c] * line[t + k*dilation][c] */
static void depthwise(const struct ssm_conv1d *p, uint32_t channels, const float *line, float *y, uint32_t frames)
{
    for (size_t t = 0; t < frames; t++) {
        float *to = y + t * channels;

        memcpy(to, p->bias, channels * sizeof(*to));
        for (size_t k = 0; k < p->kernel; k++) {
            const float *from = line + (t + k * p->dilation) * channels, *tap = p->taps + k * channels;

            for (size_t c = 0; c < channels; c++)
                to[c] = SSM_FMAF(tap[c], from[c], to[c]);
        }
    }
}

/* The windows of group g, (frames, kernel * width), oldest tap first. */
static void windows_gather(const struct ssm_conv1d *p, uint32_t in, uint32_t g, uint32_t width, const float *line,
                           float *windows, uint32_t frames)
{
    for (size_t t = 0; t < frames; t++)
        for (size_t k = 0; k < p->kernel; k++, windows += width)
            memcpy(windows, line + (t + k * p->dilation) * in + g * width, width * sizeof(*windows));
}

static void grouped(const struct ssm_layer *layer, const float *line, float *windows, float *y, uint32_t frames)
{
    const struct ssm_conv1d *p = layer->params;
    uint32_t gi = layer->in / p->groups, go = layer->out / p->groups;

    for (size_t t = 0; t < frames; t++)
        memcpy(y + t * layer->out, p->bias, layer->out * sizeof(*y));
    for (uint32_t g = 0; g < p->groups; g++) {
        windows_gather(p, layer->in, g, gi, line, windows, frames);
        SSM_CPU(ssm_cpu_matrix)
        (&p->group[g], NULL, true, windows, (size_t)p->kernel * gi, y + (size_t)g * go, layer->out, frames);
    }
}

void SSM_CPU(ssm_cpu_conv1d)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_conv1d *p = layer->params;
    size_t in = layer->in;
    float *line = tile->scratch, *windows = line + ((size_t)p->past + SSM_TILE_FRAMES) * in;

    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        float *past = ssm_row_state(layer, row), *to = y + (size_t)row->first * layer->out;

        memcpy(line, past, p->past * in * sizeof(*line));
        memcpy(line + p->past * in, x + row->first * in, row->frames * in * sizeof(*line));
        if (p->taps)
            depthwise(p, layer->in, line, to, row->frames);
        else
            grouped(layer, line, windows, to, row->frames);
        memcpy(past, line + row->frames * in, p->past * in * sizeof(*line));
    }
}
