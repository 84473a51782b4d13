/* SPDX-License-Identifier: Apache-2.0
 *
 * The spectral radius; see poles.h. Runs at load only.
 *
 * The powers of a matrix that feeds its coordinates forward only grow as m^(n-1) beside the poles' p^m: for a chain of
 * 64 the diagonal, where the pole is, underflows below the corner long before m = 2^40, and what is left looks
 * nilpotent. So the powers are taken of one feedback block at a time. */
#include "ssm/poles.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/discretize.h"

enum { SQUARINGS = 40 }; /* 2^40 leaves log(cond) / 2^40 */

enum { FREE, TAKEN, AHEAD, BOTH }; /* of a coordinate: FREE is in no block yet */

struct blocks {
    const double *A;
    uint32_t n;
    unsigned char *mark; /* (n) */
    uint32_t *stack;     /* (n) */
    uint32_t *member;    /* (n): the block at hand */
};

/* Marks as `to` every coordinate that is marked `from` and can be reached from `start` through such: along the entries
 * A[i][k], i fed by k, or against them. */
static void reach(struct blocks *b, uint32_t start, unsigned char from, unsigned char to, bool along)
{
    uint32_t depth = 0;

    b->mark[start] = to;
    b->stack[depth++] = start;
    while (depth > 0) {
        size_t at = b->stack[--depth];

        for (size_t next = 0; next < b->n; next++)
            if (b->mark[next] == from && b->A[along ? next * b->n + at : at * b->n + next] != 0) {
                b->mark[next] = to;
                b->stack[depth++] = (uint32_t)next;
            }
    }
}

/* The block of `start`: what it feeds and is fed by. Returns its size, its coordinates being in b->member. */
static uint32_t block_take(struct blocks *b, uint32_t start)
{
    uint32_t count = 0;

    reach(b, start, FREE, AHEAD, true);
    reach(b, start, AHEAD, BOTH, false);
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->mark[i] == BOTH)
            b->member[count++] = i;
        b->mark[i] = b->mark[i] == BOTH ? TAKEN : b->mark[i] == AHEAD ? FREE : b->mark[i];
    }
    return count;
}

static double trace(const double *P, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += P[i * n + i];
    return sum;
}

/* Of P (n,n), which is destroyed; Q is work space. See poles.h for `limit` and what comes back.
 *
 * P stands for A^power = exp(logarithm) (P + E), |P| = 1 being its norm and |E| <= doubt what rounding may have done:
 * (P + E)^2 - P^2 is at most doubt (2 + doubt), and a product of n terms errs by n eps |P|^2. */
static double powers_radius(double *P, uint32_t n, double limit, double *Q)
{
    const double rounding = 2.0 * n * DBL_EPSILON, high = log(limit); /* -infinity for 0 */
    double logarithm = 0, power = 1, doubt = 0;

    for (int i = 0; i <= SQUARINGS; i++, power *= 2) {
        double norm = ssm_norm_1_f64(P, n);

        if (!(norm > 0))
            return 0;
        logarithm += log(norm);
        doubt = doubt / norm + rounding;
        for (size_t k = 0; k < (size_t)n * n; k++)
            P[k] /= norm;
        double above = (logarithm + log1p(doubt)) / power;
        double below = (logarithm + log(fmax(fabs(trace(P, n)) / n - doubt, 0))) / power;

        if (above <= high)
            return fmin(exp(above), limit);
        if (below > high && limit > 0 && above - below <= 0.01 * below)
            return exp(below);
        if (i == SQUARINGS)
            break;
        ssm_multiply_f64(P, P, n, n, n, Q);
        memcpy(P, Q, (size_t)n * n * sizeof(*P));
        doubt = doubt * (2 + doubt) + rounding;
        logarithm *= 2;
    }
    return exp(logarithm / power);
}

/* Of the block b->member[0..count); P and Q are work space. */
static double block_radius(const struct blocks *b, uint32_t count, double limit, double *P, double *Q)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++)
            P[i * count + k] = b->A[(size_t)b->member[i] * b->n + b->member[k]];
    return count == 1 ? fabs(P[0]) : powers_radius(P, count, limit, Q);
}

int ssm_spectral_radius(const double *A, uint32_t n, double limit, double *out)
{
    struct blocks b = {.A = A, .n = n};
    double *P = calloc((size_t)n * n, sizeof(*P)), *Q = calloc((size_t)n * n, sizeof(*Q)), radius = 0;
    int status = SSM_OK;

    b.mark = calloc(n, sizeof(*b.mark));
    b.stack = calloc(n, sizeof(*b.stack));
    b.member = calloc(n, sizeof(*b.member));
    if (!P || !Q || !b.mark || !b.stack || !b.member)
        status = SSM_NOMEM;
    else if (!isfinite(ssm_norm_1_f64(A, n)))
        status = SSM_NONFINITE;
    for (uint32_t i = 0; status == SSM_OK && i < n; i++)
        if (b.mark[i] == FREE)
            radius = fmax(radius, block_radius(&b, block_take(&b, i), limit, P, Q));
    if (status == SSM_OK)
        *out = radius;
    free(P);
    free(Q);
    free(b.mark);
    free(b.stack);
    free(b.member);
    return status;
}
