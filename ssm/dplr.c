/* SPDX-License-Identifier: Apache-2.0
 * Diagonal plus low rank in float64; see dplr.h. Runs at load only. */
#include "ssm/dplr.h"

#include <string.h>

int ssm_dplr_solve(double complex *M, double complex *x, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        uint32_t pivot = k;

        for (uint32_t i = k + 1; i < n; i++)
            if (cabs(M[i * n + k]) > cabs(M[pivot * n + k]))
                pivot = i;
        if (M[pivot * n + k] == 0)
            return SSM_UNSTABLE;
        for (uint32_t j = 0; j <= n; j++) {
            double complex *a = j < n ? &M[k * n + j] : &x[k], *b = j < n ? &M[pivot * n + j] : &x[pivot], t = *a;

            *a = *b;
            *b = t;
        }
        for (uint32_t i = k + 1; i < n; i++) {
            double complex f = M[i * n + k] / M[k * n + k];

            for (uint32_t j = k; j < n; j++)
                M[i * n + j] -= f * M[k * n + j];
            x[i] -= f * x[k];
        }
    }
    for (uint32_t k = n; k-- > 0;) {
        for (uint32_t i = k + 1; i < n; i++)
            x[k] -= M[k * n + i] * x[i];
        x[k] /= M[k * n + k];
    }
    return SSM_OK;
}

/* v^T x over the 2 M coordinates. */
static double dot(const double complex *v, const double complex *x, uint32_t M)
{
    double sum = 0;

    for (uint32_t n = 0; n < M; n++)
        sum += 2 * creal(v[n] * x[n]);
    return sum;
}

int ssm_dplr_bilinear(const struct ssm_dplr *s, double complex *e, double complex *U, double complex *V,
                      double complex *Bbar)
{
    uint32_t M = s->modes, R = s->rank;
    double complex core[SSM_DPLR_RANK_MAX * SSM_DPLR_RANK_MAX], work[SSM_DPLR_RANK_MAX * SSM_DPLR_RANK_MAX];
    double complex column[SSM_DPLR_RANK_MAX];
    int status;

    for (uint32_t n = 0; n < M; n++) {
        double complex g = 1 / (1 - s->dt / 2 * s->lambda[n]);

        e[n] = s->dt * s->lambda[n] * g;
        Bbar[n] = s->dt * g * s->B[n];
        for (uint32_t r = 0; r < R; r++)
            V[r * M + n] = conj(s->P[r * M + n]) * g;
    }
    for (uint32_t q = 0; q < R; q++)
        for (uint32_t r = 0; r < R; r++)
            core[q * R + r] = (q == r) + s->dt / 2 * dot(V + q * M, s->P + r * M, M);
    memset(U, 0, (size_t)R * M * sizeof(*U));
    for (uint32_t r = 0; r < R; r++) { /* column r of the inverse of core */
        memcpy(work, core, (size_t)R * R * sizeof(*work));
        for (uint32_t q = 0; q < R; q++)
            column[q] = q == r;
        if ((status = ssm_dplr_solve(work, column, R)))
            return status;
        for (uint32_t q = 0; q < R; q++)
            for (uint32_t n = 0; n < M; n++)
                U[r * M + n] += s->dt / (1 - s->dt / 2 * s->lambda[n]) * s->P[q * M + n] * column[q];
    }
    for (uint32_t r = 0; r < R; r++) {
        double back = s->dt / 2 * dot(V + r * M, s->B, M);

        for (uint32_t n = 0; n < M; n++)
            Bbar[n] -= U[r * M + n] * back;
    }
    return SSM_OK;
}

void ssm_dplr_dense(uint32_t modes, uint32_t rank, const double complex *e, const double complex *U,
                    const double complex *V, double *Abar)
{
    size_t M = modes, width = 2 * M;

    memset(Abar, 0, width * width * sizeof(*Abar));
    for (size_t n = 0; n < M; n++) {
        double *re = Abar + n * width, *im = Abar + (M + n) * width;

        re[n] = im[M + n] = 1 + creal(e[n]);
        re[M + n] = -cimag(e[n]);
        im[n] = cimag(e[n]);
        for (uint32_t r = 0; r < rank; r++)
            for (size_t k = 0; k < M; k++) {
                double complex u = U[r * M + n], v = V[r * M + k];

                re[k] -= 2 * creal(u) * creal(v);
                re[M + k] += 2 * creal(u) * cimag(v);
                im[k] -= 2 * cimag(u) * creal(v);
                im[M + k] += 2 * cimag(u) * cimag(v);
            }
    }
}
