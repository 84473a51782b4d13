/* SPDX-License-Identifier: Apache-2.0
 *
 * The third face of a state-space layer: what one channel answers to an impulse, K[l] = C Abar^l Bbar, with D added at
 * l = 0, so that y[t] = sum over l of K[l] u[t-l] from a state of zero.
 *
 * In float64, from the float32 coefficients that the steps use, so that all views describe the same system. Meant for
 * loading: nothing here is fast, and memory is taken from the heap. Safe from any thread.
 */
#ifndef SSM_KERNEL_H
#define SSM_KERNEL_H

#include <complex.h>

#include "ssm/layers/params.h"
#include "ssm/layers/s4.h"

#define SSM_KERNEL_FRAMES_MAX (1u << 24)

/* K (frames) of channel h. SSM_INVAL when frames is 0 or above SSM_KERNEL_FRAMES_MAX.
 * COST   about 10 M frames flops.
 * ERROR  |K - exact| <= (frames + M) * 2^-51 * sum |C||Bbar| */
SSM_MUST_CHECK int ssm_kernel_s4d(const struct ssm_s4d *p, uint32_t h, uint32_t frames, double *K);

/* The same for s4, by its generating function. SSM_NOMEM.
 * COST   (r+1)^2 M complex products for each of n/2 roots of unity, n being the power of two that is at least `frames`,
 *        and log2(n) products of (N, N) matrices: M = 32, r = 1, 16384 frames, 11 ms. The recurrence itself, one frame
 *        after another in float64, takes 2.4 ms for the same; what this form has is that no frame waits for another.
 * ERROR  measured on HiPPO's LegS and LegT, 1000 and 16384 frames: at most 2e-12 of max |K|. */
SSM_MUST_CHECK int ssm_kernel_s4(const struct ssm_s4 *p, uint32_t h, uint32_t frames, double *K);

/* Abar of s4's channel h over the coordinates (Re x, Im x): (N, N), row major. SSM_NOMEM. */
SSM_MUST_CHECK int ssm_kernel_s4_matrix(const struct ssm_s4 *p, uint32_t h, double *Abar);

/* x[l] <- sum over k of x[k] exp(+2 pi i k l / n), n a power of two; turn (n/2) has exp(2 pi i k / n). */
void ssm_kernel_transform(double complex *x, const double complex *turn, size_t n);

#endif
