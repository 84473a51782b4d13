/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers that look at one frame only, and mean, which looks at all of them through its sum.
 *
 * activation takes each function where it is accurate: gelu by erfc and gelu_tanh as x sigmoid(2 ...), which do not
 * cancel for negative x. All run in sixteen lanes; what is left at the end is padded to as many, so that a value's bits
 * do not depend on its place. */
#include <math.h>
#include <string.h>

#include "ssm/cpu/ops.h"
#include "ssm/cpu/vmath.h"
#include "ssm/layers/params.h"

static inline v16 relu(v16 v)
{
    return v16_max(v16_set(0), v);
}

/* x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)) */
static inline v16 gelu_tanh(v16 v)
{
    v16 cube = v16_mul(v16_mul(v, v), v), inner = v16_fma(cube, v16_set(0.044715f), v);

    return v16_div(v, v16_add(v16_set(1), v16_exp(v16_mul(inner, v16_set(-1.5957691216057308f)))));
}

/* y = fn(x), or fn(x) * factor, over n values. */
static inline __attribute__((always_inline)) void map(v16 (*fn)(v16), const float *x, const float *factor, float *y,
                                                      size_t n)
{
    for (size_t i = 0; i < n; i += V16) {
        v16 value = fn(v16_load_first(x + i, n - i));

        v16_store_first(y + i, factor ? v16_mul(v16_load_first(factor + i, n - i), value) : value, n - i);
    }
}

void SSM_CPU(ssm_cpu_activation)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_activation *p = layer->params;
    size_t n = (size_t)tile->frames * layer->out;

    switch (p->fn) {
    case SSM_RELU:
        map(relu, x, NULL, y, n);
        break;
    case SSM_GELU:
        map(v16_gelu, x, NULL, y, n);
        break;
    case SSM_GELU_TANH:
        map(gelu_tanh, x, NULL, y, n);
        break;
    case SSM_SILU:
        map(v16_silu, x, NULL, y, n);
        break;
    case SSM_TANH:
        map(v16_tanh, x, NULL, y, n);
        break;
    case SSM_SIGMOID:
        map(v16_sigmoid, x, NULL, y, n);
        break;
    case SSM_SOFTPLUS:
        map(v16_softplus, x, NULL, y, n);
        break;
    }
}

void SSM_CPU(ssm_cpu_glu)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    for (size_t t = 0; t < tile->frames; t++, x += layer->in, y += layer->out)
        map(v16_sigmoid, x + layer->out, x, y, layer->out);
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
