/* SPDX-License-Identifier: Apache-2.0
 *
 * Diagonal plus low rank, in float64: the discrete form of s4's systems, and where their poles lie.
 *
 * M stored modes stand for 2 M coordinates, (v, conj v) for every vector v, and over those the matrix is
 *     A = diag(lambda) - sum over r of P_r P_r^H.
 * P_r^H x over the 2 M coordinates is then 2 Re(sum over the stored of conj(P_rn) x_n): a real number, so that all r of
 * them, and what they feed back, need no imaginary part.
 *
 * Bilinear, with G = (I - dt/2 diag(lambda))^-1 and Woodbury's identity, nothing of size M x M anywhere:
 *     Abar = I + diag(e) - sum over r of U_r V_r^T      e = dt lambda G,  V_r = conj(P_r) G,
 *     Bbar = dt (G B - (1/2) U V^T B)                   U = dt G P (I + dt/2 P^H G P)^-1
 * Abar - I is what is kept: of a slow memory, float32 holds the difference and loses its sum with 1. Every term is at
 * most of the size of the modes' own step, |e| <= 2 and |U V^T| <= 4 for a dissipative A, so that nothing large
 * cancels.
 *
 * Source: Gu, Goel, Re 2022, "Efficiently Modeling Long Sequences with Structured State Spaces", appendix C.
 */
#ifndef SSM_DPLR_H
#define SSM_DPLR_H

#include <complex.h>

#include "ssm/ssm.h"

#define SSM_DPLR_RANK_MAX 16

/* One continuous system. */
struct ssm_dplr {
    uint32_t modes, rank; /* M, r <= SSM_DPLR_RANK_MAX */
    double dt;
    const double complex *lambda, *B; /* (M) */
    const double complex *P;          /* (r, M) */
};

/* Abar - I as e (M), U and V (r, M), and Bbar (M). SSM_NOMEM, or SSM_UNSTABLE when I - dt/2 A has no inverse; what
 * overflows comes out as no finite number. */
SSM_MUST_CHECK int ssm_dplr_bilinear(const struct ssm_dplr *s, double complex *e, double complex *U, double complex *V,
                                     double complex *Bbar);

/* x <- M^-1 x by elimination with partial pivoting; M (n,n), row major, is destroyed. SSM_UNSTABLE when M is
 * singular. */
SSM_MUST_CHECK int ssm_dplr_solve(double complex *M, double complex *x, uint32_t n);

/* The real form of I + diag(e) - U V^T over the coordinates (Re x, Im x): Abar (2M, 2M), row major. Its eigenvalues
 * are those of the 2 M coordinates. */
void ssm_dplr_dense(uint32_t modes, uint32_t rank, const double complex *e, const double complex *U,
                    const double complex *V, double *Abar);

#endif
