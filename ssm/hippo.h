/* SPDX-License-Identifier: Apache-2.0
 *
 * HiPPO: the matrices that make a linear system remember its input as coefficients of orthogonal functions.
 *
 * x' = A x + B u, N coefficients per channel. Source: Gu et al. 2020, "HiPPO: Recurrent Memory with Optimal Polynomial
 * Projections", appendix D, as spelled by the published code (docs/MODELS.md lists the formulas):
 *
 *     legs  scaled Legendre: all history, uniformly; lti here, or time-varying (A/t, B/t)
 *     legt  translated Legendre: a sliding window of length 2 in the matrices' own time (the published code halves
 *           them), so that dt = 2 / (samples in the window)
 *     lagt  translated Laguerre: exponentially decaying history
 *     fout  truncated Fourier: a sliding window; A is singular
 */
#ifndef SSM_HIPPO_H
#define SSM_HIPPO_H

#include "ssm/ssm.h"

enum ssm_measure { SSM_LEGS, SSM_LEGT, SSM_LAGT, SSM_FOUT };

/* The words of config.json in the order of the enum, NULL at the end. */
extern const char *const ssm_measure_words[];

/* Fills A (N,N), row major, and B (N). */
void ssm_hippo_matrices(enum ssm_measure measure, uint32_t N, double *A, double *B);

#endif
