/* SPDX-License-Identifier: Apache-2.0
 * Discretisation in float64; see discretize.h. Runs at load only: plain loops over rows. */
#include "ssm/discretize.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char *const ssm_discretization_words[] = {"zoh", "bilinear", "forward", "backward", NULL};

typedef double pair __attribute__((vector_size(16), aligned(8), may_alias));

/* Four rows of C, from c on, += the four rows of A at a, columns k and k + 1 of them, times the two rows of B at b. The
 * sums are those of one product after another, in the order of k. */
static void quad_add(const double *a, size_t m, const double *b, size_t p, double *c)
{
    const double a00 = a[0], a01 = a[1], a10 = a[m], a11 = a[m + 1];
    const double a20 = a[2 * m], a21 = a[2 * m + 1], a30 = a[3 * m], a31 = a[3 * m + 1];
    double *c1 = c + p, *c2 = c1 + p, *c3 = c2 + p;

    for (size_t j = 0; j < p / 2 * 2; j += 2) {
        pair b0 = *(const pair *)(b + j), b1 = *(const pair *)(b + p + j);

        *(pair *)(c + j) = *(pair *)(c + j) + a00 * b0 + a01 * b1;
        *(pair *)(c1 + j) = *(pair *)(c1 + j) + a10 * b0 + a11 * b1;
        *(pair *)(c2 + j) = *(pair *)(c2 + j) + a20 * b0 + a21 * b1;
        *(pair *)(c3 + j) = *(pair *)(c3 + j) + a30 * b0 + a31 * b1;
    }
    if (p % 2)
        for (size_t r = 0; r < 4; r++)
            c[r * p + p - 1] = c[r * p + p - 1] + a[r * m] * b[p - 1] + a[r * m + 1] * b[2 * p - 1];
}

static bool quad_is_zero(const double *a, size_t m)
{
    for (size_t r = 0; r < 4; r++)
        if (a[r * m] != 0 || a[r * m + 1] != 0)
            return false;
    return true;
}

/* Row i of C += the columns k >= from of row i of A times B. */
static void row_add(const double *a, const double *B, size_t from, size_t m, size_t p, double *c)
{
    for (size_t k = from; k < m; k++)
        for (size_t j = 0; j < p && a[k] != 0; j++)
            c[j] += a[k] * B[k * p + j];
}

void ssm_multiply_f64(const double *A, const double *B, uint32_t n, uint32_t m, uint32_t p, double *C)
{
    size_t quads = n / 4 * 4, pairs = m / 2 * 2;

    memset(C, 0, (size_t)n * p * sizeof(*C));
    for (size_t i = 0; i < quads; i += 4)
        for (size_t k = 0; k < pairs; k += 2)
            if (!quad_is_zero(A + i * m + k, m))
                quad_add(A + i * m + k, m, B + k * p, p, C + i * p);
    for (size_t i = 0; i < n; i++)
        row_add(A + i * m, B, i < quads ? pairs : 0, m, p, C + i * p);
}

static double *doubles_new(size_t n)
{
    return calloc(n, sizeof(double));
}

double ssm_norm_1_f64(const double *A, uint32_t n)
{
    double norm = 0;

    for (size_t j = 0; j < n; j++) {
        double sum = 0;

        for (size_t i = 0; i < n; i++)
            sum += fabs(A[i * n + j]);
        norm = sum > norm || isnan(sum) ? sum : norm;
    }
    return norm;
}

static void rows_swap(double *A, size_t columns, size_t a, size_t b)
{
    for (size_t j = 0; j < columns; j++) {
        double t = A[a * columns + j];

        A[a * columns + j] = A[b * columns + j];
        A[b * columns + j] = t;
    }
}

/* X (n,p) <- M^-1 X by elimination with partial pivoting; M (n,n) is destroyed. */
static int solve_in_place(double *M, double *X, size_t n, size_t p)
{
    for (size_t k = 0; k < n; k++) {
        size_t pivot = k;

        for (size_t i = k + 1; i < n; i++)
            if (fabs(M[i * n + k]) > fabs(M[pivot * n + k]))
                pivot = i;
        if (!(fabs(M[pivot * n + k]) > 0))
            return SSM_UNSTABLE;
        if (pivot != k) {
            rows_swap(M, n, k, pivot);
            rows_swap(X, p, k, pivot);
        }
        for (size_t i = k + 1; i < n; i++) {
            double f = M[i * n + k] / M[k * n + k];

            if (f == 0)
                continue;
            for (size_t j = k; j < n; j++)
                M[i * n + j] -= f * M[k * n + j];
            for (size_t j = 0; j < p; j++)
                X[i * p + j] -= f * X[k * p + j];
        }
    }
    for (size_t k = n; k-- > 0;) {
        for (size_t i = k + 1; i < n; i++)
            for (size_t j = 0; j < p; j++)
                X[k * p + j] -= M[k * n + i] * X[i * p + j];
        for (size_t j = 0; j < p; j++)
            X[k * p + j] /= M[k * n + k];
    }
    return SSM_OK;
}

/* U and V of the order-13 diagonal Pade approximant: exp(A) = (V - U)^-1 (V + U). A2, A4, A6 and T are work space. */
static void pade_13(const double *A, uint32_t n, double *U, double *V, double *A2, double *A4, double *A6, double *T)
{
    static const double b[] = {64764752532480000.,
                               32382376266240000.,
                               7771770303897600.,
                               1187353796428800.,
                               129060195264000.,
                               10559470521600.,
                               670442572800.,
                               33522128640.,
                               1323241920.,
                               40840800.,
                               960960.,
                               16380.,
                               182.,
                               1.};
    size_t nn = (size_t)n * n;

    ssm_multiply_f64(A, A, n, n, n, A2);
    ssm_multiply_f64(A2, A2, n, n, n, A4);
    ssm_multiply_f64(A4, A2, n, n, n, A6);
    for (size_t i = 0; i < nn; i++)
        V[i] = b[13] * A6[i] + b[11] * A4[i] + b[9] * A2[i];
    ssm_multiply_f64(A6, V, n, n, n, T);
    for (size_t i = 0; i < nn; i++)
        T[i] += b[7] * A6[i] + b[5] * A4[i] + b[3] * A2[i] + (i % ((size_t)n + 1) == 0 ? b[1] : 0);
    ssm_multiply_f64(A, T, n, n, n, U);
    for (size_t i = 0; i < nn; i++)
        T[i] = b[12] * A6[i] + b[10] * A4[i] + b[8] * A2[i];
    ssm_multiply_f64(A6, T, n, n, n, V);
    for (size_t i = 0; i < nn; i++)
        V[i] += b[6] * A6[i] + b[4] * A4[i] + b[2] * A2[i] + (i % ((size_t)n + 1) == 0 ? b[0] : 0);
}

/* A (n,n) <- exp(A). */
static int exponential_in_place(double *A, uint32_t n)
{
    size_t nn = (size_t)n * n;
    double *work = doubles_new(6 * nn), *U = work, *V = work + nn, *T = work + 2 * nn;
    double norm = ssm_norm_1_f64(A, n);
    int squarings = 0, status = SSM_OK;

    if (!work)
        return SSM_NOMEM;
    if (!isfinite(norm)) {
        status = SSM_NONFINITE;
        goto out;
    }
    if (norm > 5.371920351148152)
        squarings = (int)ceil(log2(norm / 5.371920351148152));
    for (size_t i = 0; i < nn; i++)
        A[i] = ldexp(A[i], -squarings);
    pade_13(A, n, U, V, work + 3 * nn, work + 4 * nn, work + 5 * nn, T);
    for (size_t i = 0; i < nn; i++) {
        A[i] = V[i] + U[i];
        T[i] = V[i] - U[i];
    }
    status = solve_in_place(T, A, n, n);
    for (; status == SSM_OK && squarings > 0; squarings--) {
        ssm_multiply_f64(A, A, n, n, n, T);
        memcpy(A, T, nn * sizeof(*A));
    }
out:
    free(work);
    return status;
}

/* The augmented exponential: exp(dt [[A, B], [0, 0]]) = [[Abar, Bbar], [0, I]]. */
static int discretize_zoh(double dt, const double *A, const double *B, uint32_t n, uint32_t m, double *Abar,
                          double *Bbar)
{
    size_t w = (size_t)n + m;
    double *M = doubles_new(w * w);
    int status;

    if (!M)
        return SSM_NOMEM;
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++)
            M[i * w + j] = dt * A[i * n + j];
        for (size_t j = 0; j < m; j++)
            M[i * w + n + j] = dt * B[i * m + j];
    }
    status = exponential_in_place(M, (uint32_t)w);
    for (size_t i = 0; status == SSM_OK && i < n; i++) {
        memcpy(Abar + i * n, M + i * w, n * sizeof(*M));
        memcpy(Bbar + i * m, M + i * w + n, m * sizeof(*M));
    }
    free(M);
    return status;
}

/* (I - implicit dt A)^-1 applied to [I + explicit dt A | dt B]: bilinear (1/2, 1/2), backward (1, 0), forward (0,
 * 1). */
static int discretize_rational(double implicit, double explicit, double dt, const double *A, const double *B,
                               uint32_t n, uint32_t m, double *Abar, double *Bbar)
{
    size_t w = (size_t)n + m;
    double *M = doubles_new((size_t)n * n), *X = doubles_new((size_t)n * w);
    int status = M && X ? SSM_OK : SSM_NOMEM;

    for (size_t i = 0; status == SSM_OK && i < n; i++) {
        for (size_t j = 0; j < n; j++) {
            M[i * n + j] = (i == j) - implicit * dt * A[i * n + j];
            X[i * w + j] = (i == j) + explicit * dt * A[i * n + j];
        }
        for (size_t j = 0; j < m; j++)
            X[i * w + n + j] = dt * B[i * m + j];
    }
    if (status == SSM_OK)
        status = solve_in_place(M, X, n, w);
    for (size_t i = 0; status == SSM_OK && i < n; i++) {
        memcpy(Abar + i * n, X + i * w, n * sizeof(*X));
        memcpy(Bbar + i * m, X + i * w + n, m * sizeof(*X));
    }
    free(M);
    free(X);
    return status;
}

int ssm_discretize(enum ssm_discretization how, double dt, const double *A, const double *B, uint32_t n, uint32_t m,
                   double *Abar, double *Bbar)
{
    switch (how) {
    case SSM_ZOH:
        return discretize_zoh(dt, A, B, n, m, Abar, Bbar);
    case SSM_BILINEAR:
        return discretize_rational(0.5, 0.5, dt, A, B, n, m, Abar, Bbar);
    case SSM_FORWARD:
        return discretize_rational(0, 1, dt, A, B, n, m, Abar, Bbar);
    case SSM_BACKWARD:
        return discretize_rational(1, 0, dt, A, B, n, m, Abar, Bbar);
    }
    return SSM_INVAL;
}

/* exp(z) - 1 without cancellation near 0. */
static double complex expm1_complex(double complex z)
{
    double re = creal(z), half = sin(cimag(z) / 2);

    return expm1(re) * cos(cimag(z)) - 2 * half * half + I * exp(re) * sin(cimag(z));
}

void ssm_discretize_mode(enum ssm_discretization how, double dt, double complex a, double complex *abar,
                         double complex *bbar)
{
    switch (how) {
    case SSM_ZOH:
        *abar = cexp(dt * a);
        *bbar = a == 0 ? dt : expm1_complex(dt * a) / a;
        break;
    case SSM_BILINEAR:
        *abar = (1 + dt / 2 * a) / (1 - dt / 2 * a);
        *bbar = dt / (1 - dt / 2 * a);
        break;
    case SSM_FORWARD:
        *abar = 1 + dt * a;
        *bbar = dt;
        break;
    case SSM_BACKWARD:
        *abar = 1 / (1 - dt * a);
        *bbar = *abar * dt;
        break;
    }
}
