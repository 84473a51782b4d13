/* SPDX-License-Identifier: Apache-2.0
 *
 * From continuous time to the sample grid, in float64: x' = A x + B u becomes x_t = Abar x_(t-1) + Bbar u_t.
 *
 *     zoh       Abar = exp(dt A)                       Bbar = (integral from 0 to dt of exp(s A) ds) B
 *     bilinear  Abar = (I - dt/2 A)^-1 (I + dt/2 A)    Bbar = (I - dt/2 A)^-1 dt B
 *     forward   Abar = I + dt A                        Bbar = dt B
 *     backward  Abar = (I - dt A)^-1                   Bbar = Abar dt B
 *
 * Matrices are row major. Sources: docs/MODELS.md; Van Loan 1978 for zoh (one exponential of the augmented matrix, so a
 * singular A is no special case); Higham 2005, "The Scaling and Squaring Method for the Matrix Exponential Revisited".
 */
#ifndef SSM_DISCRETIZE_H
#define SSM_DISCRETIZE_H

#ifndef __cplusplus
#include <complex.h>
#endif

#include "ssm/ssm.h"

enum ssm_discretization { SSM_ZOH, SSM_BILINEAR, SSM_FORWARD, SSM_BACKWARD };

/* The words of config.json in the order of the enum, NULL at the end. */
extern const char *const ssm_discretization_words[];

/* A (n,n), B (n,m) to Abar (n,n), Bbar (n,m). SSM_NOMEM, or SSM_UNSTABLE when I - dt A has no inverse. */
SSM_MUST_CHECK int ssm_discretize(enum ssm_discretization how, double dt, const double *A, const double *B, uint32_t n,
                                  uint32_t m, double *Abar, double *Bbar);
#ifndef __cplusplus
/* The same for one mode: *abar, and *bbar for B = 1. */
void ssm_discretize_mode(enum ssm_discretization how, double dt, double complex a, double complex *abar,
                         double complex *bbar);
#endif

/* The largest column sum of |A|, A (n,n); NaN when A holds one. */
double ssm_norm_1_f64(const double *A, uint32_t n);
/* C (n,p) = A (n,m) B (m,p); C overlaps neither. */
void ssm_multiply_f64(const double *A, const double *B, uint32_t n, uint32_t m, uint32_t p, double *C);

#endif
