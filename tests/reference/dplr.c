/* SPDX-License-Identifier: Apache-2.0
 * s5 and s4 in plain float64; see dplr.h. */
#include "tests/reference/dplr.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double complex *complexes(size_t n)
{
    double complex *p = calloc(n ? n : 1, sizeof(*p));

    assert(p);
    return p;
}

/* Element i of a tensor of (re, im). */
static double complex at(const float *tensor, size_t i)
{
    return (double)tensor[2 * i] + I * (double)tensor[2 * i + 1];
}

static void mode_discretize(enum reference_how how, double dt, double complex a, double complex *abar,
                            double complex *bbar)
{
    if (how == REFERENCE_ZOH)
        *abar = cexp(dt * a), *bbar = a == 0 ? dt : (*abar - 1) / a;
    else if (how == REFERENCE_BILINEAR)
        *abar = (1 + dt * a / 2) / (1 - dt * a / 2), *bbar = dt / (1 - dt * a / 2);
    else if (how == REFERENCE_FORWARD)
        *abar = 1 + dt * a, *bbar = dt;
    else
        *abar = 1 / (1 - dt * a), *bbar = dt / (1 - dt * a);
}

void reference_s5(const struct reference_s5 *s, const double *x, size_t T, double *y)
{
    size_t H = s->channels, P = s->modes;
    double complex *state = complexes(P);

    for (size_t t = 0; t < T; t++) {
        for (size_t p = 0; p < P; p++) {
            double complex abar, bbar, Bu = 0;

            mode_discretize(s->how, exp((double)s->log_step[p]), at(s->Lambda, p), &abar, &bbar);
            for (size_t h = 0; h < H; h++)
                Bu += at(s->B, p * H + h) * x[t * H + h];
            state[p] = abar * state[p] + bbar * Bu;
        }
        for (size_t h = 0; h < H; h++) {
            double complex Cx = 0;

            for (size_t p = 0; p < P; p++)
                Cx += at(s->C, h * P + p) * state[p];
            y[t * H + h] = (s->conjugate_symmetry ? 2 : 1) * creal(Cx) + s->D[h] * x[t * H + h];
        }
    }
    free(state);
}

/* X (n,p) <- M^-1 X: Gauss-Jordan with row pivoting; M (n,n) is destroyed. */
static void solve(double complex *M, double complex *X, size_t n, size_t p)
{
    for (size_t k = 0; k < n; k++) {
        size_t best = k;
        double complex pivot;

        for (size_t i = k; i < n; i++)
            best = cabs(M[i * n + k]) > cabs(M[best * n + k]) ? i : best;
        for (size_t j = 0; j < n; j++) {
            double complex m = M[k * n + j];

            M[k * n + j] = M[best * n + j], M[best * n + j] = m;
        }
        for (size_t j = 0; j < p; j++) {
            double complex v = X[k * p + j];

            X[k * p + j] = X[best * p + j], X[best * p + j] = v;
        }
        pivot = M[k * n + k];
        for (size_t j = 0; j < n; j++)
            M[k * n + j] /= pivot;
        for (size_t j = 0; j < p; j++)
            X[k * p + j] /= pivot;
        for (size_t i = 0; i < n; i++) {
            double complex f = M[i * n + k];

            for (size_t j = 0; i != k && j < n; j++)
                M[i * n + j] -= f * M[k * n + j];
            for (size_t j = 0; i != k && j < p; j++)
                X[i * p + j] -= f * X[k * p + j];
        }
    }
}

/* v extended: the M stored elements of channel h, then their conjugates. */
static void extend(const float *tensor, size_t h, size_t M, double complex *v)
{
    for (size_t n = 0; n < M; n++) {
        v[n] = at(tensor, h * M + n);
        v[M + n] = conj(v[n]);
    }
}

void reference_s4_discrete(const struct reference_s4 *s, size_t h, double complex *Abar, double complex *Bbar,
                           double complex *C)
{
    size_t M = s->modes, N = 2 * M;
    double dt = exp((double)s->log_dt[h]);
    double complex *A = complexes(N * N), *left = complexes(N * N), *joined = complexes(N * (N + 1));
    double complex *v = complexes(N), *B = complexes(N);

    extend(s->A, h, M, v);
    for (size_t n = 0; n < N; n++)
        A[n * N + n] = v[n];
    for (size_t r = 0; r < s->rank; r++) {
        extend(s->P + r * s->channels * M * 2, h, M, v);
        for (size_t n = 0; n < N; n++)
            for (size_t k = 0; k < N; k++)
                A[n * N + k] -= v[n] * conj(v[k]);
    }
    extend(s->B, h, M, B);
    extend(s->C, h, M, C);
    for (size_t n = 0; n < N; n++) { /* (I - dt/2 A) [Abar | Bbar] = [I + dt/2 A | dt B] */
        for (size_t k = 0; k < N; k++) {
            left[n * N + k] = (n == k) - dt / 2 * A[n * N + k];
            joined[n * (N + 1) + k] = (n == k) + dt / 2 * A[n * N + k];
        }
        joined[n * (N + 1) + N] = dt * B[n];
    }
    solve(left, joined, N, N + 1);
    for (size_t n = 0; n < N; n++) {
        memcpy(Abar + n * N, joined + n * (N + 1), N * sizeof(*Abar));
        Bbar[n] = joined[n * (N + 1) + N];
    }
    free(A);
    free(left);
    free(joined);
    free(v);
    free(B);
}

void reference_s4(const struct reference_s4 *s, const double *x, size_t T, double *y)
{
    size_t H = s->channels, N = 2 * s->modes;
    double complex *Abar = complexes(N * N), *Bbar = complexes(N), *C = complexes(N);

    for (size_t h = 0; h < H; h++) {
        double complex *state = complexes(N), *next = complexes(N);

        reference_s4_discrete(s, h, Abar, Bbar, C);
        for (size_t t = 0; t < T; t++) {
            double complex sum = 0;

            for (size_t n = 0; n < N; n++) {
                next[n] = Bbar[n] * x[t * H + h];
                for (size_t k = 0; k < N; k++)
                    next[n] += Abar[n * N + k] * state[k];
            }
            memcpy(state, next, N * sizeof(*state));
            for (size_t n = 0; n < N; n++)
                sum += C[n] * state[n];
            y[t * H + h] = creal(sum) + s->D[h] * x[t * H + h];
        }
        free(state);
        free(next);
    }
    free(Abar);
    free(Bbar);
    free(C);
}
