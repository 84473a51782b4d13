/* SPDX-License-Identifier: Apache-2.0
 *
 * lti: the dense system, stepped.
 *
 *     drive = Bbar u for all frames, one product
 *     x <- x + (drive + (Abar - I) x), frame by frame, cuda/recurrence.cu
 *     y = D u and y += C x for all frames, two products
 *
 * Each x takes its drive's place. All but the middle is matrix work over all frames, so nothing but n^2 products waits
 * for the frame before, and the block form of the CPU would save little of them.
 *
 * SHAPES   x (n) per row; u (in), y (out) per frame; scratch (frames, n).
 * BITS     those of the product and of the recurrence; the scan steps.
 * COST     2*(n*n + n*in + out*n + out*in) flops and 16*n + 8*out + 8*in bytes a frame. */
#include "cuda/matrix.cuh"
#include "cuda/recurrence.cuh"
#include "ssm/layers/params.h"

struct lti {
    struct cuda_matrix b, c, d;
    struct cuda_recurrence a;
};

static void lti_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_lti *p = (const struct ssm_lti *)layer->params;
    struct lti *d = (struct lti *)(*params = cuda_params(b, sizeof(*d)));

    if (!d)
        return;
    cuda_matrix_build(b, &p->b, &d->b);
    cuda_matrix_build(b, &p->c, &d->c);
    cuda_matrix_build(b, &p->d, &d->d);
    cuda_recurrence_build(b, CUDA_CELL_LINEAR, &p->a, NULL, &d->a);
}

static size_t lti_scratch(const struct cuda_layer *l, const struct cuda_tile *tile)
{
    const struct lti *d = (const struct lti *)l->params;

    return (size_t)tile->clock[l->layer->clock].frames_room * d->a.units * sizeof(float);
}

static cudaError_t lti_product(const struct cuda_layer *l, const struct cuda_tile *tile, const struct cuda_matrix *w,
                               const float *x, float *y, bool add)
{
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    struct cuda_product p = {};

    p.x = x;
    p.x_stride = w->in;
    p.y = y;
    p.y_stride = w->out;
    p.add = add;
    p.count = &span->count->frames;
    p.room = span->frames_room;
    return cuda_matrix_launch(w, &p, tile->stream);
}

static cudaError_t lti_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct lti *d = (const struct lti *)l->params;
    float *states = (float *)tile->scratch;
    struct cuda_recurrence_run run = {};
    cudaError_t error;

    run.span = &tile->clock[l->layer->clock];
    run.state_offset = l->layer->state_offset;
    run.channels = 1;
    run.in = states;
    run.in_stride = d->a.units;
    run.out = states;
    run.out_stride = d->a.units;
    if ((error = lti_product(l, tile, &d->b, x, states, false)) ||
        (error = cuda_recurrence_launch(&d->a, &run, tile->stream)) ||
        (error = lti_product(l, tile, &d->d, x, y, false)))
        return error;
    return lti_product(l, tile, &d->c, states, y, true);
}

const struct cuda_kind cuda_kind_lti = {lti_build, lti_scratch, lti_launch};
