/* SPDX-License-Identifier: Apache-2.0
 *
 * The spectral radius; see poles.h. Runs at load only.
 *
 * The powers of a matrix that feeds its coordinates forward only grow as m^(n-1) beside the poles' p^m: for a chain of 64 the
 * diagonal, where the pole is, underflows below the corner long before m = 2^40, and what is left looks nilpotent. So the
 * powers are taken of one feedback block at a time. */
#include "ssm/poles.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/discretize.h"

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

/* Of P (n,n), which is destroyed; Q is work space. P is A^power divided by exp(power * logarithm), renormalised at every
 * squaring; 2^40 leaves log(cond) / 2^40. */
static double powers_radius(double *P, uint32_t n, double *Q)
{
    double logarithm = 0, power = 1;

    for (int i = 0; i <= 40; i++, power *= 2) {
        double norm = ssm_norm_1_f64(P, n);

        if (!(norm > 0))
            return 0;
        logarithm += log(norm) / power;
        for (size_t k = 0; k < (size_t)n * n; k++)
            P[k] /= norm;
        ssm_multiply_f64(P, P, n, n, n, Q);
        memcpy(P, Q, (size_t)n * n * sizeof(*P));
    }
    return exp(logarithm);
}

/* Of the block b->member[0..count); P and Q are work space. */
static double block_radius(const struct blocks *b, uint32_t count, double *P, double *Q)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++)
            P[i * count + k] = b->A[(size_t)b->member[i] * b->n + b->member[k]];
    return count == 1 ? fabs(P[0]) : powers_radius(P, count, Q);
}

int ssm_spectral_radius(const double *A, uint32_t n, double *out)
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
            radius = fmax(radius, block_radius(&b, block_take(&b, i), P, Q));
    if (status == SSM_OK)
        *out = radius;
    free(P);
    free(Q);
    free(b.mark);
    free(b.stack);
    free(b.member);
    return status;
}
