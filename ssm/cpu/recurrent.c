/* SPDX-License-Identifier: Apache-2.0
 *
 * rnn, gru, lstm: the gates of a frame are a = W_ih x + b_ih and b = W_hh h + b_hh, each (G,H), and a cell makes of
 * them and of the state the new state and h, which is the output.
 *
 * The a of all frames of a tile are one product. The b must wait for h, frame by frame, but not row by row: the t-th
 * frames of all rows that have one are taken together, so that many streams with one frame each share every load of
 * W_hh.
 *
 * SHAPES   x (frames, in), y (frames, H); state h (H), for lstm then c (H).
 * BITS     both products give each row its own bits whatever is beside it, and a cell sees one row: the same at any
 *          chunking and in any company. The scan steps them: there is no other form.
 * COST     2*G*H*(in + H) flops per frame, and G*H exponentials. */
#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vmath.h"
#include "ssm/layers/recurrent.h"

/* One frame of one row: gates a, b (G,H), state in place, h into y; 16 of H at a time, what is left padded to as
 * many. */
typedef void cell_fn(const float *a, const float *b, float *state, float *y, size_t H);

/* a + b of the gate's units from i on. */
static inline v16 gate(const float *a, const float *b, size_t g, size_t i, size_t H)
{
    return v16_add(v16_load_first(a + g * H + i, H - i), v16_load_first(b + g * H + i, H - i));
}

static inline void output(float *state, float *y, size_t i, size_t H, v16 h)
{
    v16_store_first(state + i, h, H - i);
    v16_store_first(y + i, h, H - i);
}

static void rnn_cell(const float *a, const float *b, float *state, float *y, size_t H)
{
    for (size_t i = 0; i < H; i += V16)
        output(state, y, i, H, v16_tanh(gate(a, b, 0, i, H)));
}

/* r, z, n; the reset gate stands before the recurrent part of n, its bias included. */
static void gru_cell(const float *a, const float *b, float *state, float *y, size_t H)
{
    for (size_t i = 0; i < H; i += V16) {
        v16 r = v16_sigmoid(gate(a, b, 0, i, H)), z = v16_sigmoid(gate(a, b, 1, i, H));
        v16 a_n = v16_load_first(a + 2 * H + i, H - i), b_n = v16_load_first(b + 2 * H + i, H - i);
        v16 n = v16_tanh(v16_fma(r, b_n, a_n)), h = v16_load_first(state + i, H - i);

        output(state, y, i, H, v16_fma(z, v16_sub(h, n), n)); /* (1 - z) n + z h */
    }
}

/* i, f, g, o */
static void lstm_cell(const float *a, const float *b, float *state, float *y, size_t H)
{
    float *cell = state + H;

    for (size_t i = 0; i < H; i += V16) {
        v16 in = v16_sigmoid(gate(a, b, 0, i, H)), forget = v16_sigmoid(gate(a, b, 1, i, H));
        v16 candidate = v16_tanh(gate(a, b, 2, i, H)), out = v16_sigmoid(gate(a, b, 3, i, H));
        v16 c = v16_fma(forget, v16_load_first(cell + i, H - i), v16_mul(in, candidate));

        v16_store_first(cell + i, c, H - i);
        output(state, y, i, H, v16_mul(out, v16_tanh(c)));
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
