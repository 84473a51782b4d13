/* SPDX-License-Identifier: Apache-2.0
 *
 * What rnn, gru and lstm keep after loading. H hidden channels, G gates: 1 for rnn, 3 (r, z, n) for gru, 4 (i, f, g, o)
 * for lstm, in torch's order, each H rows of both maps.
 *
 * State, all of it zero for a fresh stream: h (H); for lstm c (H) after it.
 */
#ifndef SSM_LAYERS_RECURRENT_H
#define SSM_LAYERS_RECURRENT_H

#include "ssm/layers/params.h"

#define SSM_HIDDEN_MAX 16384 /* the cost of a frame grows with its square */

struct ssm_recurrent {
    uint32_t gates;           /* G */
    struct ssm_linear input;  /* (G*H, in): weight_ih, bias_ih */
    struct ssm_linear hidden; /* (G*H, H): weight_hh, bias_hh */
};

#endif
