/* SPDX-License-Identifier: Apache-2.0
 *
 * rnn, gru, lstm: the gates of a frame are a = W_ih x + b_ih and b = W_hh h + b_hh, each (G,H), and a cell makes of them
 * and of the state the new state and h, which is the output.
 *
 * The a of all frames of a tile are one product. The b must wait for h, frame by frame, but not row by row: the t-th
 * frames of all rows that have one are taken together, so that many streams with one frame each share every load of
 * W_hh.
 *
 * SHAPES   x (frames, in), y (frames, H); state h (H), for lstm then c (H).
 * BITS     both products give each row its own bits whatever is beside it, and a cell sees one row: the same at any
 *          chunking and in any company. The scan steps them: there is no other form.
 * COST     2*G*H*(in + H) flops per frame, and G*H of expf or tanhf. */
#include <math.h>
#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"
#include "ssm/layers/recurrent.h"

/* One frame of one row: gates a, b (G,H), state in place, h into y. */
typedef void cell_fn(const float *a, const float *b, float *state, float *y, size_t H);

static inline float sigmoid(float v)
{
    return 1 / (1 + expf(-v));
}

static void rnn_cell(const float *a, const float *b, float *state, float *y, size_t H)
{
    for (size_t i = 0; i < H; i++)
        y[i] = state[i] = tanhf(a[i] + b[i]);
}

/* r, z, n; the reset gate stands before the recurrent part of n, its bias included. */
static void gru_cell(const float *a, const float *b, float *state, float *y, size_t H)
{
    for (size_t i = 0; i < H; i++) {
        float r = sigmoid(a[i] + b[i]), z = sigmoid(a[H + i] + b[H + i]);
        float n = tanhf(SSM_FMAF(r, b[2 * H + i], a[2 * H + i]));

        y[i] = state[i] = SSM_FMAF(z, state[i] - n, n); /* (1 - z) n + z h */
    }
}

/* i, f, g, o */
static void lstm_cell(const float *a, const float *b, float *state, float *y, size_t H)
{
    float *c = state + H;

    for (size_t i = 0; i < H; i++) {
        float input = sigmoid(a[i] + b[i]), forget = sigmoid(a[H + i] + b[H + i]);
        float candidate = tanhf(a[2 * H + i] + b[2 * H + i]), output = sigmoid(a[3 * H + i] + b[3 * H + i]);

        c[i] = SSM_FMAF(forget, c[i], input * candidate);
        y[i] = state[i] = output * tanhf(c[i]);
    }
}

/* The rows that have a t-th frame, into `active`; returns their number. */
static uint32_t rows_find(const struct ssm_tile *tile, uint32_t t, const struct ssm_tile_row **active)
{
    uint32_t n = 0;

    for (uint32_t r = 0; r < tile->count; r++)
        if (tile->rows[r].frames > t)
            active[n++] = &tile->rows[r];
    return n;
}

static void tile_run(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y,
                     cell_fn *cell)
{
    const struct ssm_recurrent *p = layer->params;
    const struct ssm_tile_row *active[SSM_TILE_FRAMES];
    size_t H = layer->out, gates = p->gates * H;
    float *a = tile->scratch, *b = a + SSM_TILE_FRAMES * gates, *hidden = b + SSM_TILE_FRAMES * gates;
    uint32_t n;

    SSM_CPU(ssm_cpu_matrix)(&p->input.weight, p->input.bias, false, x, layer->in, a, gates, tile->frames);
    for (uint32_t t = 0; (n = rows_find(tile, t, active)) > 0; t++) {
        for (uint32_t i = 0; i < n; i++)
            memcpy(hidden + i * H, ssm_row_state(layer, active[i]), H * sizeof(*hidden));
        SSM_CPU(ssm_cpu_matrix)(&p->hidden.weight, p->hidden.bias, false, hidden, H, b, gates, n);
        for (uint32_t i = 0; i < n; i++) {
            size_t frame = active[i]->first + t;

            cell(a + frame * gates, b + i * gates, ssm_row_state(layer, active[i]), y + frame * H, H);
        }
    }
}

void SSM_CPU(ssm_cpu_rnn)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    tile_run(layer, tile, x, y, rnn_cell);
}

void SSM_CPU(ssm_cpu_gru)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    tile_run(layer, tile, x, y, gru_cell);
}

void SSM_CPU(ssm_cpu_lstm)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    tile_run(layer, tile, x, y, lstm_cell);
}
