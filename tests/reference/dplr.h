/* SPDX-License-Identifier: Apache-2.0
 *
 * s5 and s4 as docs/MODELS.md defines them, in plain float64: s5 mode by mode, s4 with the whole matrix over its
 * conjugate-extended coordinates. Shares nothing with libssm. x and y are (T, H), row major; tensors are as stored,
 * complex ones as (re, im).
 */
#ifndef TESTS_REFERENCE_DPLR_H
#define TESTS_REFERENCE_DPLR_H

#include <complex.h>

#include "tests/reference/layers.h"

struct reference_s5 {
    size_t channels, modes;
    enum reference_how how;
    bool conjugate_symmetry;
    const float *Lambda, *B, *C, *log_step, *D; /* (P,2) (P,H,2) (H,P,2) (P) (H) */
};
void reference_s5(const struct reference_s5 *s, const double *x, size_t T, double *y);

struct reference_s4 {
    size_t channels, modes, rank;
    const float *log_dt, *A, *B, *C, *P, *D; /* (H) (H,M,2) (H,M,2) (H,M,2) (r,H,M,2) (H) */
};
void reference_s4(const struct reference_s4 *s, const double *x, size_t T, double *y);

/* The discrete system of channel h: Abar (2M, 2M), Bbar (2M), and C (2M) with y = sum C x. */
void reference_s4_discrete(const struct reference_s4 *s, size_t h, double complex *Abar, double complex *Bbar,
                           double complex *C);

#endif
