/* SPDX-License-Identifier: Apache-2.0
 *
 * The diagonal recurrence of s4d, s5 and s4: sixteen complex modes, one a lane, over one frame.
 *
 *     x <- a x + b          a kept less 1: of a slow mode, float32 keeps the difference, not its sum with 1
 *
 * Only what b is differs: s4d drives every mode with its channel's sample, s5 with a product over all channels, s4 with
 * its sample less what the low-rank part feeds back. Panels of 16 modes stand outside and time inside where modes do
 * not hear of one another (s4d, s5), so that state and coefficients stay in registers. */
#ifndef SSM_CPU_DIAGONAL_H
#define SSM_CPU_DIAGONAL_H

#include "ssm/cpu/vec.h"

/* BITS  the whole change is summed first, in this order, and added to x once: nothing else is rounded at the size of x.
 * COST  8 flops a mode. */
static inline void diagonal_step(v16 a_re, v16 a_im, v16 b_re, v16 b_im, v16 *x_re, v16 *x_im)
{
    v16 old_re = *x_re;

    *x_re = v16_add(*x_re, v16_fma(a_re, *x_re, v16_fnma(a_im, *x_im, b_re)));
    *x_im = v16_add(*x_im, v16_fma(a_re, *x_im, v16_fma(a_im, old_re, b_im)));
}

#endif
