/* SPDX-License-Identifier: Apache-2.0
 *
 * rnn, gru and lstm as torch defines them, over a whole sequence from a zero state, in plain float64 and for reading.
 * Gate k of H channels is rows k*H..k*H+H-1 of every tensor; nothing is shared with libssm.
 */
#ifndef TESTS_REFERENCE_RECURRENT_H
#define TESTS_REFERENCE_RECURRENT_H

#include <stddef.h>

#define REFERENCE_HIDDEN_MAX 512 /* of lstm */

struct reference_recurrent {
    size_t in, hidden;
    const float *weight_ih; /* (G*hidden, in): G is 1 for rnn; 3, r z n, for gru; 4, i f g o, for lstm */
    const float *weight_hh; /* (G*hidden, hidden) */
    const float *bias_ih, *bias_hh;
};

/* x (T, in), y (T, hidden) */
void reference_rnn(const struct reference_recurrent *p, const double *x, size_t T, double *y);
void reference_gru(const struct reference_recurrent *p, const double *x, size_t T, double *y);
void reference_lstm(const struct reference_recurrent *p, const double *x, size_t T, double *y);

#endif
