/* SPDX-License-Identifier: Apache-2.0
 *
 * layernorm, rmsnorm, batchnorm.
 *
 * Sums over channels run in 16 interleaved lanes folded in halves, so they are accurate for wide frames and the same
 * bits for any tile; the variance is taken about the mean in a second pass, which does not cancel. */
#include <math.h>
#include <string.h>

#include "ssm/cpu/ops.h"
#include "ssm/cpu/vec.h"
#include "ssm/layers/params.h"

/* sum of (x - mean)^power, power 1 or 2 */
static float moment(const float *x, uint32_t n, float mean, bool square)
{
    v16 sum = v16_set(0), shift = v16_set(-mean), one = v16_set(1);
    float last[V16];

    for (uint32_t i = 0; i < n; i += V16) {
        const float *from = x + i;
        v16 d;

        if (n - i < V16) {
            for (uint32_t k = 0; k < V16; k++)
                last[k] = k < n - i ? x[i + k] : mean;
            from = last;
        }
        d = v16_add(v16_load(from), shift);
        sum = v16_fma(d, square ? d : one, sum);
    }
    return v16_sum(sum);
}

void SSM_CPU(ssm_cpu_layernorm)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_norm *p = layer->params;
    uint32_t H = layer->out;

    for (size_t t = 0; t < tile->frames; t++) {
        const float *from = x + t * H;
        float mean = moment(from, H, 0, false) / (float)H;
        float scale = 1 / sqrtf(moment(from, H, mean, true) / (float)H + p->eps);

        for (size_t h = 0; h < H; h++)
            y[t * H + h] = (from[h] - mean) * scale * p->weight[h] + p->bias[h];
    }
}

void SSM_CPU(ssm_cpu_rmsnorm)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_norm *p = layer->params;
    uint32_t H = layer->out;

    for (size_t t = 0; t < tile->frames; t++) {
        const float *from = x + t * H;
        float scale = 1 / sqrtf(moment(from, H, 0, true) / (float)H + p->eps);

        for (size_t h = 0; h < H; h++)
            y[t * H + h] = from[h] * scale * p->weight[h];
    }
}

void SSM_CPU(ssm_cpu_batchnorm)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_norm *p = layer->params;
    uint32_t H = layer->out;

    for (size_t t = 0; t < tile->frames; t++)
        for (size_t h = 0; h < H; h++)
            y[t * H + h] = (x[t * H + h] - p->mean[h]) * p->weight[h] + p->bias[h];
}
