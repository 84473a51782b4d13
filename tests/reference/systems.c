/* SPDX-License-Identifier: Apache-2.0
 * The state-space layers in plain float64: discretisation, lti, s4d, hippo; see layers.h. */
#include <assert.h>
#include <complex.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/reference/layers.h"

static double *doubles(size_t n)
{
    double *p = calloc(n ? n : 1, sizeof(*p));

    assert(p);
    return p;
}

/* C = A B, A (n,m), B (m,p) */
static void product(const double *A, const double *B, size_t n, size_t m, size_t p, double *C)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < p; j++) {
            double sum = 0;

            for (size_t k = 0; k < m; k++)
                sum += A[i * m + k] * B[k * p + j];
            C[i * p + j] = sum;
        }
}

/* Gauss-Jordan with row pivoting: M (n,n) is destroyed, inverse gets M^-1. */
static void invert(double *M, size_t n, double *inverse)
{
    for (size_t i = 0; i < n * n; i++)
        inverse[i] = i % (n + 1) == 0;
    for (size_t k = 0; k < n; k++) {
        size_t best = k;
        double pivot;

        for (size_t i = k; i < n; i++)
            best = fabs(M[i * n + k]) > fabs(M[best * n + k]) ? i : best;
        for (size_t j = 0; j < n; j++) {
            double m = M[k * n + j], v = inverse[k * n + j];

            M[k * n + j] = M[best * n + j], M[best * n + j] = m;
            inverse[k * n + j] = inverse[best * n + j], inverse[best * n + j] = v;
        }
        pivot = M[k * n + k];
        for (size_t j = 0; j < n; j++)
            M[k * n + j] /= pivot, inverse[k * n + j] /= pivot;
        for (size_t i = 0; i < n; i++) {
            double f = M[i * n + k];

            for (size_t j = 0; i != k && j < n; j++)
                M[i * n + j] -= f * M[k * n + j], inverse[i * n + j] -= f * inverse[k * n + j];
        }
    }
}

/* Abar = exp(dt A), F = integral from 0 to dt of exp(s A) ds: both series over dt / 2^k, where they fall fast, then k
 * times F <- F + exp F, exp <- exp exp. */
static void flow(double dt, const double *A, size_t n, double *Abar, double *F)
{
    size_t nn = n * n;
    double *term = doubles(nn), *next = doubles(nn), norm = 0;
    int halvings = 0;

    for (size_t i = 0; i < nn; i++)
        norm += fabs(dt * A[i]);
    for (; norm > 0.5; norm /= 2)
        halvings++;
    dt = ldexp(dt, -halvings);
    for (size_t i = 0; i < nn; i++) {
        term[i] = Abar[i] = i % (n + 1) == 0; /* (dt A)^0 / 0! */
        F[i] = dt * term[i];
    }
    for (int k = 1; k <= 25; k++) {
        product(A, term, n, n, n, next);
        for (size_t i = 0; i < nn; i++) {
            term[i] = next[i] * dt / k;
            Abar[i] += term[i];
            F[i] += term[i] * dt / (k + 1);
        }
    }
    for (; halvings > 0; halvings--) {
        product(Abar, F, n, n, n, next);
        for (size_t i = 0; i < nn; i++)
            F[i] += next[i];
        product(Abar, Abar, n, n, n, next);
        memcpy(Abar, next, nn * sizeof(*Abar));
    }
    free(term);
    free(next);
}

void reference_discretize(enum reference_how how, double dt, const double *A, const double *B, size_t n, size_t m,
                          double *Abar, double *Bbar)
{
    double *left = doubles(n * n), *right = doubles(n * n), *inverse = doubles(n * n), *Bdt = doubles(n * m);
    double implicit = how == REFERENCE_BILINEAR ? dt / 2 : how == REFERENCE_BACKWARD ? dt : 0;
    double explicit = how == REFERENCE_BILINEAR ? dt / 2 : how == REFERENCE_FORWARD ? dt : 0;

    if (how == REFERENCE_ZOH) {
        flow(dt, A, n, Abar, right);
        product(right, B, n, n, m, Bbar);
    } else {
        for (size_t i = 0; i < n * n; i++) {
            left[i] = (i % (n + 1) == 0) - implicit * A[i];
            right[i] = (i % (n + 1) == 0) + explicit * A[i];
        }
        for (size_t i = 0; i < n * m; i++)
            Bdt[i] = dt * B[i];
        invert(left, n, inverse);
        product(inverse, right, n, n, n, Abar);
        product(inverse, Bdt, n, n, m, Bbar);
    }
    free(left);
    free(right);
    free(inverse);
    free(Bdt);
}

/* x <- Abar x + Bbar u */
static void advance(const double *Abar, const double *Bbar, size_t n, size_t m, const double *u, double *x)
{
    double *next = doubles(n);

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++)
            next[i] += Abar[i * n + k] * x[k];
        for (size_t k = 0; k < m; k++)
            next[i] += Bbar[i * m + k] * u[k];
    }
    memcpy(x, next, n * sizeof(*x));
    free(next);
}

static double *widened(const float *from, size_t n)
{
    double *to = doubles(n);

    for (size_t i = 0; i < n; i++)
        to[i] = from[i];
    return to;
}

void reference_lti(const struct reference_lti *s, const double *x, size_t T, double *y)
{
    size_t n = s->state;
    double *A = widened(s->A, n * n), *B = widened(s->B, n * s->in), *state = doubles(n);
    double *Abar = doubles(n * n), *Bbar = doubles(n * s->in);

    reference_discretize(s->how, s->dt, A, B, n, s->in, Abar, Bbar);
    for (size_t t = 0; t < T; t++) {
        const double *u = x + t * s->in;

        advance(Abar, Bbar, n, s->in, u, state);
        for (size_t o = 0; o < s->out; o++) {
            double sum = 0;

            for (size_t k = 0; k < n; k++)
                sum += s->C[o * n + k] * state[k];
            for (size_t i = 0; i < s->in; i++)
                sum += s->D[o * s->in + i] * u[i];
            y[t * s->out + o] = sum;
        }
    }
    free(A);
    free(B);
    free(state);
    free(Abar);
    free(Bbar);
}

static void mode_discretize(enum reference_how how, double dt, double complex a, double complex *abar,
                            double complex *bbar)
{
    if (how == REFERENCE_ZOH)
        *abar = cexp(dt * a), *bbar = (*abar - 1) / a;
    else if (how == REFERENCE_BILINEAR)
        *abar = (1 + dt * a / 2) / (1 - dt * a / 2), *bbar = dt / (1 - dt * a / 2);
    else if (how == REFERENCE_FORWARD)
        *abar = 1 + dt * a, *bbar = dt;
    else
        *abar = 1 / (1 - dt * a), *bbar = dt / (1 - dt * a);
}

void reference_s4d(const struct reference_s4d *s, const double *x, size_t T, double *y)
{
    size_t H = s->channels;

    for (size_t h = 0; h < H; h++) {
        for (size_t t = 0; t < T; t++)
            y[t * H + h] = s->D[h] * x[t * H + h];
        for (size_t n = 0; n < s->modes; n++) {
            size_t at = h * s->modes + n;
            double complex a = -exp(s->log_A_real[at]) + I * s->A_imag[at], c = s->C[2 * at] + I * s->C[2 * at + 1];
            double complex abar, bbar, state = 0;

            mode_discretize(s->how, exp(s->log_dt[h]), a, &abar, &bbar);
            if (s->B)
                bbar *= s->B[2 * at] + I * s->B[2 * at + 1];
            for (size_t t = 0; t < T; t++) {
                state = abar * state + bbar * x[t * H + h];
                y[t * H + h] += 2 * creal(c * state);
            }
        }
    }
}

static void hippo_matrices(enum reference_measure measure, size_t N, double *A, double *B)
{
    for (size_t n = 0; n < N; n++) {
        double Rn = sqrt(2.0 * (double)n + 1), fn = n == 0 ? 1 : n % 2 == 0 ? sqrt(2) : 0;

        B[n] = measure == REFERENCE_LEGS ? Rn : measure == REFERENCE_LEGT ? Rn / 2 : measure == REFERENCE_LAGT ? 1 : fn;
        for (size_t k = 0; k < N; k++) {
            double Rk = sqrt(2.0 * (double)k + 1), fk = k == 0 ? 1 : k % 2 == 0 ? sqrt(2) : 0, a;

            if (measure == REFERENCE_LEGS)
                a = n > k ? -Rn * Rk : n == k ? -(double)(n + 1) : 0;
            else if (measure == REFERENCE_LEGT)
                a = -Rn * Rk / 2 * (k <= n ? 1 : pow(-1, (double)(k - n)));
            else if (measure == REFERENCE_LAGT)
                a = n > k ? -1 : n == k ? -0.5 : 0;
            else if (n + 1 == k && n % 2 == 0) /* freqs 0, 1, ..., N/2-1 */
                a = -M_PI * (double)(n / 2) - fn * fk;
            else if (k + 1 == n && k % 2 == 0)
                a = M_PI * (double)(k / 2) - fn * fk;
            else
                a = -fn * fk;
            A[n * N + k] = a;
        }
    }
}

/* zoh over the step log(t+1) - log t, the others with A/t, B/t and step 1: the same as step 1/t. */
static double scaled_step(enum reference_how how, size_t t)
{
    return how == REFERENCE_ZOH ? log((double)t + 1) - log((double)t) : 1.0 / (double)t;
}

void reference_hippo(const struct reference_hippo *h, const double *x, size_t T, double *y)
{
    size_t N = h->order, width = h->channels * N;
    double *A = doubles(N * N), *B = doubles(N), *Abar = doubles(N * N), *Bbar = doubles(N), *state = doubles(width);

    hippo_matrices(h->measure, N, A, B);
    if (!h->scaled)
        reference_discretize(h->how, h->dt, A, B, N, 1, Abar, Bbar);
    for (size_t t = 0; t < T; t++) {
        if (h->scaled && t > 0)
            reference_discretize(h->how, scaled_step(h->how, t), A, B, N, 1, Abar, Bbar);
        for (size_t c = 0; c < h->channels; c++) {
            if (h->scaled && t == 0)
                state[c * N] = x[c];
            else
                advance(Abar, Bbar, N, 1, &x[t * h->channels + c], state + c * N);
        }
        memcpy(y + t * width, state, width * sizeof(*y));
    }
    free(A);
    free(B);
    free(Abar);
    free(Bbar);
    free(state);
}
