/* SPDX-License-Identifier: Apache-2.0
 *
 * hippo: x <- x + (Abar - I) x + Bbar u for each channel; the output is the state, so every view steps.
 *
 * Constant coefficients are cuda/recurrence.cu, a channel of a row being one state. legs with `scaled` is
 * cuda/hippo_legs.cu.
 *
 * SHAPES   state and y (channels, order); u (channels).
 * BITS     those of the recurrence.
 * COST     2*order*order*channels flops and 4*channels*(order + 1) bytes a frame: bound by the flops. */
#include "cuda/hippo.cuh"
#include "cuda/recurrence.cuh"
#include "ssm/layers/params.h"

struct hippo {
    bool scaled;
    struct cuda_legs legs; /* scaled */
    struct cuda_recurrence a;
    const float *b; /* (order) */
};

static void hippo_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_hippo *p = (const struct ssm_hippo *)layer->params;
    struct hippo *d = (struct hippo *)(*params = cuda_params(b, sizeof(*d)));

    if (!d)
        return;
    d->scaled = p->scaled;
    if (d->scaled) {
        d->legs = {p->channels, p->order, p->how, layer->state_offset};
        return;
    }
    cuda_recurrence_build(b, CUDA_CELL_LINEAR, &p->a, NULL, &d->a);
    d->b = cuda_upload_floats(b, p->b, p->order);
}

static cudaError_t hippo_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct hippo *d = (const struct hippo *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    struct cuda_recurrence_run run = {};

    if (d->scaled)
        return cuda_legs_launch(&d->legs, span, x, y, tile->stream);
    run.span = span;
    run.state_offset = l->layer->state_offset;
    run.channels = l->layer->in;
    run.in = x;
    run.in_stride = l->layer->in;
    run.in_channel = 1;
    run.factor = d->b;
    run.out = y;
    run.out_stride = l->layer->out;
    return cuda_recurrence_launch(&d->a, &run, tile->stream);
}

const struct cuda_kind cuda_kind_hippo = {hippo_build, NULL, hippo_launch};
