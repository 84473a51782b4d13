/* SPDX-License-Identifier: Apache-2.0
 *
 * rnn, gru, lstm: the input's part of the gates of all frames is one product, a = W_ih x + b_ih; the rest waits for h,
 * frame by frame, and is cuda/recurrence.cu.
 *
 * SHAPES   x (frames, in), y (frames, H), scratch a (frames, G*H); state h (H), for lstm then c (H).
 * BITS     those of the product and of the recurrence: the same at any chunking and in any company. The scan steps.
 * COST     2*G*H*(in + H) flops a frame. a is written and read once, 8*G*H bytes a frame. */
#include "cuda/matrix.cuh"
#include "cuda/recurrence.cuh"
#include "ssm/layers/recurrent.h"

struct recurrent {
    struct cuda_matrix input;
    const float *bias; /* b_ih */
    struct cuda_recurrence hidden;
};

static void recurrent_build(struct cuda_build *b, const struct ssm_layer *layer, enum cuda_cell cell, void **params)
{
    const struct ssm_recurrent *p = (const struct ssm_recurrent *)layer->params;
    struct recurrent *d = (struct recurrent *)(*params = cuda_params(b, sizeof(*d)));

    if (!d)
        return;
    cuda_matrix_build(b, &p->input.weight, &d->input);
    d->bias = cuda_upload_floats(b, p->input.bias, p->input.weight.out);
    cuda_recurrence_build(b, cell, &p->hidden.weight, p->hidden.bias, &d->hidden);
}

static void rnn_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    recurrent_build(b, layer, CUDA_CELL_RNN, params);
}

static void gru_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    recurrent_build(b, layer, CUDA_CELL_GRU, params);
}

static void lstm_build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    recurrent_build(b, layer, CUDA_CELL_LSTM, params);
}

static size_t recurrent_scratch(const struct cuda_layer *l, const struct cuda_tile *tile)
{
    const struct recurrent *d = (const struct recurrent *)l->params;

    return (size_t)tile->clock[l->layer->clock].frames_room * d->input.out * sizeof(float);
}

static cudaError_t recurrent_launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct recurrent *d = (const struct recurrent *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    float *gates = (float *)tile->scratch;
    struct cuda_recurrence_run run = {};
    struct cuda_product p = {};
    cudaError_t error;

    p.x = x;
    p.x_stride = l->layer->in;
    p.y = gates;
    p.y_stride = d->input.out;
    p.start = d->bias;
    p.count = &span->count->frames;
    p.room = span->frames_room;
    error = cuda_matrix_launch(&d->input, &p, tile->stream);
    if (error != cudaSuccess)
        return error;
    run.span = span;
    run.state_offset = l->layer->state_offset;
    run.channels = 1;
    run.in = gates;
    run.in_stride = d->input.out;
    run.out = y;
    run.out_stride = l->layer->out;
    return cuda_recurrence_launch(&d->hidden, &run, tile->stream);
}

const struct cuda_kind cuda_kind_rnn = {rnn_build, recurrent_scratch, recurrent_launch};
const struct cuda_kind cuda_kind_gru = {gru_build, recurrent_scratch, recurrent_launch};
const struct cuda_kind cuda_kind_lstm = {lstm_build, recurrent_scratch, recurrent_launch};
