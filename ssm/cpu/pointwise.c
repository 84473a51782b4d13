/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers that look at one frame only, and mean, which looks at all of them through its sum.
 *
 * activation takes each function where it is accurate: gelu as x/2 erfc(-x/sqrt 2), which does not cancel for negative
 * x; softplus(v) = v beyond 20, where exp would only overflow. */
#include <math.h>
#include <string.h>

#include "ssm/cpu/ops.h"
#include "ssm/layers/params.h"

static float sigmoid(float v)
{
    return 1 / (1 + expf(-v));
}

static float activate(enum ssm_activation_fn fn, float v)
{
    switch (fn) {
    case SSM_RELU:
        return v > 0 ? v : 0;
    case SSM_GELU:
        return 0.5f * v * erfcf(v * -0.70710678118654752f);
    case SSM_GELU_TANH:
        return 0.5f * v * (1 + tanhf(0.79788456080286536f * (v + 0.044715f * v * v * v)));
    case SSM_SILU:
        return v / (1 + expf(-v));
    case SSM_TANH:
        return tanhf(v);
    case SSM_SIGMOID:
        return sigmoid(v);
    case SSM_SOFTPLUS:
        return v > 20 ? v : log1pf(expf(v));
    }
    return v;
}

void SSM_CPU(ssm_cpu_activation)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_activation *p = layer->params;
    size_t n = (size_t)tile->frames * layer->out;

    for (size_t i = 0; i < n; i++)
        y[i] = activate(p->fn, x[i]);
}

void SSM_CPU(ssm_cpu_glu)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    for (size_t t = 0; t < tile->frames; t++) {
        const float *from = x + t * layer->in;

        for (size_t h = 0; h < layer->out; h++)
            y[t * layer->out + h] = from[h] * sigmoid(from[layer->out + h]);
    }
}

void SSM_CPU(ssm_cpu_scale)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_scale *p = layer->params;
    size_t n = (size_t)tile->frames * layer->out;

    for (size_t i = 0; i < n; i++)
        y[i] = p->value * x[i];
}

void SSM_CPU(ssm_cpu_slice)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_slice *p = layer->params;

    for (size_t t = 0; t < tile->frames; t++)
        memcpy(y + t * layer->out, x + t * layer->in + p->from, layer->out * sizeof(*y));
}

void SSM_CPU(ssm_cpu_embedding)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_embedding *p = layer->params;

    (void)x; /* tokens, not floats */
    for (size_t t = 0; t < tile->frames; t++)
        memcpy(y + t * layer->out, p->weight + (size_t)tile->tokens[t] * layer->out, layer->out * sizeof(*y));
}

/* The running sum is kept in two float32, the second holding what the first could not. */
void SSM_CPU(ssm_cpu_mean)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    uint32_t H = layer->out;

    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        float *high = ssm_row_state(layer, row), *low = high + H;

        for (size_t t = 0; t < row->frames; t++) {
            const float *from = x + (row->first + t) * H;
            double count = (double)(row->index + t + 1);

            for (size_t h = 0; h < H; h++) {
                double sum = (double)high[h] + low[h] + from[h];

                high[h] = (float)sum;
                low[h] = (float)(sum - high[h]);
                y[(row->first + t) * H + h] = (float)(sum / count);
            }
        }
    }
}
