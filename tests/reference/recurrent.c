/* SPDX-License-Identifier: Apache-2.0
 * Recurrent cells in plain float64; see recurrent.h. h_(t-1) is the output of the frame before. */
#include "tests/reference/recurrent.h"

#include <assert.h>
#include <math.h>

static double sigmoid(double v)
{
    return 1 / (1 + exp(-v));
}

/* Row k*hidden + i of W_ih x + b_ih. */
static double from_input(const struct reference_recurrent *p, size_t k, size_t i, const double *x)
{
    size_t row = k * p->hidden + i;
    double sum = p->bias_ih[row];

    for (size_t j = 0; j < p->in; j++)
        sum += p->weight_ih[row * p->in + j] * x[j];
    return sum;
}

/* Row k*hidden + i of W_hh h + b_hh; h NULL: zeros. */
static double from_hidden(const struct reference_recurrent *p, size_t k, size_t i, const double *h)
{
    size_t row = k * p->hidden + i;
    double sum = p->bias_hh[row];

    for (size_t j = 0; h && j < p->hidden; j++)
        sum += p->weight_hh[row * p->hidden + j] * h[j];
    return sum;
}

/* h = tanh(W_ih x + b_ih + W_hh h + b_hh) */
void reference_rnn(const struct reference_recurrent *p, const double *x, size_t T, double *y)
{
    const double *h = NULL;

    for (size_t t = 0; t < T; h = y, x += p->in, y += p->hidden, t++)
        for (size_t i = 0; i < p->hidden; i++)
            y[i] = tanh(from_input(p, 0, i, x) + from_hidden(p, 0, i, h));
}

/* n = tanh(W_in x + b_in + r (W_hn h + b_hn)); h = (1 - z) n + z h */
void reference_gru(const struct reference_recurrent *p, const double *x, size_t T, double *y)
{
    const double *h = NULL;

    for (size_t t = 0; t < T; h = y, x += p->in, y += p->hidden, t++)
        for (size_t i = 0; i < p->hidden; i++) {
            double r = sigmoid(from_input(p, 0, i, x) + from_hidden(p, 0, i, h));
            double z = sigmoid(from_input(p, 1, i, x) + from_hidden(p, 1, i, h));
            double n = tanh(from_input(p, 2, i, x) + r * from_hidden(p, 2, i, h));

            y[i] = (1 - z) * n + z * (h ? h[i] : 0);
        }
}

/* c = f c + i g; h = o tanh(c) */
void reference_lstm(const struct reference_recurrent *p, const double *x, size_t T, double *y)
{
    double c[REFERENCE_HIDDEN_MAX] = {0};
    const double *h = NULL;

    assert(p->hidden <= REFERENCE_HIDDEN_MAX);
    for (size_t t = 0; t < T; h = y, x += p->in, y += p->hidden, t++)
        for (size_t k = 0; k < p->hidden; k++) {
            double i = sigmoid(from_input(p, 0, k, x) + from_hidden(p, 0, k, h));
            double f = sigmoid(from_input(p, 1, k, x) + from_hidden(p, 1, k, h));
            double g = tanh(from_input(p, 2, k, x) + from_hidden(p, 2, k, h));
            double o = sigmoid(from_input(p, 3, k, x) + from_hidden(p, 3, k, h));

            c[k] = f * c[k] + i * g;
            y[k] = o * tanh(c[k]);
        }
}
