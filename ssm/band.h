/* SPDX-License-Identifier: Apache-2.0
 *
 * Which part of a dense system oscillates too fast for a rate, and the system without it: lti at a lower rate than the
 * one that it was made for.
 */
#ifndef SSM_BAND_H
#define SSM_BAND_H

#include "ssm/ssm.h"

/* A (n,n), row major. K (n,n) becomes the projector, along the other eigenvectors, onto the space of those whose
 * eigenvalue has |Im| <= limit (which may be infinite): C K reads a state x' = A x + B u without the modes above.
 * *above: pairs of modes that K leaves out; when 0, K is not written.
 *
 * No eigenvectors are computed. The sign of the matrix -i A - limit I, by Newton's iteration, is +1 on modes with Im >
 * limit and -1 on the others; A is real, so its conjugate is the same for Im < -limit, and K = -Re(sign).
 *
 * SSM_NOMEM, SSM_LIMIT (n over SSM_BAND_STATE_MAX, and modes above cannot be excluded), or SSM_UNSUPPORTED: modes so near
 * the limit, or eigenvectors so near one another, that the two parts cannot be separated in float64.
 * COST about 20 inversions of a complex (n,n). SOURCE Higham 2008, "Functions of Matrices", chapter 5. */
SSM_MUST_CHECK int ssm_band_projector(const double *A, uint32_t n, double limit, double *K, uint32_t *above);

#define SSM_BAND_STATE_MAX 256

#endif
