/* SPDX-License-Identifier: Apache-2.0
 * The sign of a shifted matrix, for its modes above a frequency; see band.h. Runs at load only. */
#include "ssm/band.h"

#include <complex.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/discretize.h"

#define ITERATIONS_MAX 60
#define EDGE           1e-6 /* the limit is moved up by this, so that a mode on it, which is kept, is off the edge */
#define CLOSE          1e-9 /* of two iterates: quadratic convergence has made the later one exact */
#define LEAK_MAX       1e-5 /* of K^2 = K: the parts are told apart */

/* A bound of the imaginary parts of A's eigenvalues: the norm of its skew part. */
static double imaginary_bound(const double *A, uint32_t n)
{
    double most = 0;

    for (size_t i = 0; i < n; i++) {
        double sum = 0;

        for (size_t j = 0; j < n; j++)
            sum += fabs(A[i * n + j] - A[j * n + i]) / 2;
        most = sum > most ? sum : most;
    }
    return most;
}

static void rows_swap(double complex *X, size_t n, size_t a, size_t b)
{
    for (size_t j = 0; a != b && j < n; j++) {
        double complex t = X[a * n + j];

        X[a * n + j] = X[b * n + j];
        X[b * n + j] = t;
    }
}

/* Y <- X^-1 by Gauss-Jordan with partial pivoting; X is destroyed. False when it is singular. */
static bool invert(double complex *X, double complex *Y, size_t n)
{
    memset(Y, 0, n * n * sizeof(*Y));
    for (size_t i = 0; i < n; i++)
        Y[i * n + i] = 1;
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;

        for (size_t i = k + 1; i < n; i++)
            pivot = cabs(X[i * n + k]) > cabs(X[pivot * n + k]) ? i : pivot;
        if (!(cabs(X[pivot * n + k]) > 0))
            return false;
        rows_swap(X, n, k, pivot);
        rows_swap(Y, n, k, pivot);
        double complex g = 1 / X[k * n + k];
        for (size_t j = 0; j < n; j++) {
            X[k * n + j] *= g;
            Y[k * n + j] *= g;
        }
        for (size_t i = 0; i < n; i++) {
            double complex f = X[i * n + k];

            if (i == k || f == 0)
                continue;
            for (size_t j = k; j < n; j++)
                X[i * n + j] -= f * X[k * n + j];
            for (size_t j = 0; j < n; j++)
                Y[i * n + j] -= f * Y[k * n + j];
        }
    }
    return true;
}

static double frobenius(const double complex *X, size_t nn)
{
    double sum = 0;

    for (size_t i = 0; i < nn; i++)
        sum += creal(X[i] * conj(X[i]));
    return sqrt(sum);
}

/* X <- sign(X). False when it does not converge. work: 2 (n,n). */
static bool sign(double complex *X, size_t n, double complex *work)
{
    size_t nn = n * n;
    double complex *copy = work, *inverse = work + nn;
    bool scales = true;

    for (int k = 0; k < ITERATIONS_MAX; k++) {
        double moved = 0, size = frobenius(X, nn), factor = 1;

        memcpy(copy, X, nn * sizeof(*X));
        if (!invert(copy, inverse, n))
            return false;
        if (scales)
            factor = sqrt(frobenius(inverse, nn) / size);
        for (size_t i = 0; i < nn; i++) {
            double complex next = (factor * X[i] + inverse[i] / factor) / 2;

            moved += creal((next - X[i]) * conj(next - X[i]));
            X[i] = next;
        }
        if (!isfinite(moved))
            return false;
        scales = scales && sqrt(moved) > 0.01 * size;
        if (sqrt(moved) <= CLOSE * size)
            return true;
    }
    return false;
}

/* Whether K is a projector, to what rounding lets it be. work: (n,n). */
static bool is_projector(const double *K, uint32_t n, double *work)
{
    double size = 1, off = 0;

    ssm_multiply_f64(K, K, n, n, n, work);
    for (size_t i = 0; i < (size_t)n * n; i++) {
        off = fmax(off, fabs(work[i] - K[i]));
        size = fmax(size, fabs(K[i]));
    }
    return off <= LEAK_MAX * size;
}

int ssm_band_projector(const double *A, uint32_t n, double limit, double *K, uint32_t *above)
{
    size_t nn = (size_t)n * n;
    double trace = 0;
    double complex *X;
    int status = SSM_OK;

    *above = 0;
    if (imaginary_bound(A, n) <= limit)
        return SSM_OK;
    if (n > SSM_BAND_STATE_MAX)
        return SSM_LIMIT;
    X = calloc(3 * nn, sizeof(*X));
    if (!X)
        return SSM_NOMEM;
    for (size_t i = 0; i < nn; i++)
        X[i] = -I * A[i] - (i % ((size_t)n + 1) == 0 ? limit * (1 + EDGE) : 0);
    if (!sign(X, n, X + nn))
        status = SSM_UNSUPPORTED;
    for (size_t i = 0; status == SSM_OK && i < nn; i++)
        K[i] = -creal(X[i]);
    for (size_t i = 0; i < n; i++)
        trace += K[i * n + i];
    if (status == SSM_OK && !is_projector(K, n, (double *)(X + nn)))
        status = SSM_UNSUPPORTED;
    if (status == SSM_OK)
        *above = (uint32_t)lround((n - trace) / 2);
    free(X);
    return status;
}
