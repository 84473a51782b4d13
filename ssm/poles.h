/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the poles of a discrete system lie: the loader refuses a model with one outside the unit circle.
 */
#ifndef SSM_POLES_H
#define SSM_POLES_H

#include "ssm/ssm.h"

/* A pole may leave the unit circle by this much (rounding), no more. */
#define SSM_POLE_LIMIT (1.0 + 1e-6)

/* The spectral radius of A (n,n), row major. SSM_NOMEM, or SSM_NONFINITE when A is not finite.
 *
 * A falls into blocks that feed back on themselves and a one-way flow between them, which adds no pole. The radius of a
 * block is the limit of |A^m|^(1/m), here up to m = 2^40 by repeated squaring.
 *
 * ERROR of a block of one coordinate (all of a triangular A): none. Of others: as if A had been changed by a few n * eps * |A|;
 * eigenvalues are not computed, so nothing is lost to their conditioning beyond that. */
SSM_MUST_CHECK int ssm_spectral_radius(const double *A, uint32_t n, double *out);

#endif
