/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the poles of a discrete system lie: the loader refuses a model with one outside the unit circle.
 */
#ifndef SSM_POLES_H
#define SSM_POLES_H

#include "ssm/ssm.h"

/* A pole may leave the unit circle by this much (rounding), no more. */
#define SSM_POLE_LIMIT (1.0 + 1e-6)

/* The spectral radius of A (n,n), row major, as far as it matters against `limit`: *out is the radius, or an upper
 * bound of it that does not pass the limit, or a lower bound that does (within a hundredth of what it has above 1).
 * limit 0 is never met: the radius itself. SSM_NOMEM, or SSM_NONFINITE when A is not finite.
 *
 * A falls into blocks that feed back on themselves and a one-way flow between them, which adds no pole. Of a block, and
 * any m, (|trace A^m| / n)^(1/m) <= radius <= |A^m|^(1/m), and the right side tends to the radius: m is doubled by
 * squaring, to 2^40, or until one side decides. What rounding may have done to the powers is counted against both.
 *
 * ERROR of a block of one coordinate (all of a triangular A): none. Of others: as if A had been changed by a few n *
 * eps * |A|; eigenvalues are not computed, so nothing is lost to their conditioning beyond that. */
SSM_MUST_CHECK int ssm_spectral_radius(const double *A, uint32_t n, double limit, double *out);

#endif
