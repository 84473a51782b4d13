/* SPDX-License-Identifier: Apache-2.0
 *
 * rls as docs/MODELS.md defines it, in the covariance form: P itself, symmetrised after every update, everything in
 * float64 and the whole past kept in arrays. Slow, and good for some thousands of frames; the kernel under test keeps
 * a square root of P.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/reference/rls.h"

struct past {
    int n;
    double *P;      /* (n, n) */
    double *W;      /* (targets, n) */
    double *g, *Pg; /* (n) */
};

/* One observation of weight row `c` errors[c] along g: k = P g / (l + g'Pg), W += e k', P = (P - k g'P) / l. */
static void observe(const struct reference_rls *p, struct past *s, const double *errors, double l)
{
    int n = s->n;
    double a = l;

    for (int i = 0; i < n; i++) {
        s->Pg[i] = 0;
        for (int j = 0; j < n; j++) {
            s->Pg[i] += s->P[i * n + j] * s->g[j];
        }
        a += s->g[i] * s->Pg[i];
    }
    for (int c = 0; c < p->targets; c++) {
        for (int i = 0; i < n; i++) {
            s->W[c * n + i] += errors[c] * s->Pg[i] / a;
        }
    }
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double mean = (s->P[i * n + j] + s->P[j * n + i]) / 2;
            s->P[i * n + j] = s->P[j * n + i] = (mean - s->Pg[i] * s->Pg[j] / a) / l;
        }
    }
}

static double weigh(const double *w, const double *g, int n)
{
    double sum = 0;

    for (int i = 0; i < n; i++) {
        sum += w[i] * g[i];
    }
    return sum;
}

static void features_at(const struct reference_rls *p, const float *f, int t, double *g)
{
    for (int i = 0; i < p->features; i++) {
        g[i] = f[t * p->features + i];
    }
    g[p->features] = 1;
}

static void learn(const struct reference_rls *p, struct past *s, const float *f, const float *u, int t, double *errors)
{
    int i = (t - p->horizon) % s->n;
    double r = sqrt((1 - p->forgetting) * s->n * p->regularization);

    features_at(p, f, t - p->horizon, s->g);
    for (int c = 0; c < p->targets; c++) {
        errors[c] = u[t * p->inputs + c] - weigh(s->W + c * s->n, s->g, s->n);
    }
    observe(p, s, errors, p->forgetting);
    memset(s->g, 0, (size_t)s->n * sizeof(double));
    s->g[i] = r;
    for (int c = 0; c < p->targets; c++) {
        errors[c] = -s->W[c * s->n + i] * r;
    }
    observe(p, s, errors, 1);
}

static void answer(const struct reference_rls *p, struct past *s, const float *f, const float *u, int t, double *out,
                   double *means)
{
    int width = 3 * p->targets, heard = t - p->horizon;
    double *y = out + t * width;

    features_at(p, f, t, s->g);
    for (int c = 0; c < p->targets; c++) {
        double *m = means + 2 * c;
        y[c] = weigh(s->W + c * s->n, s->g, s->n);
        y[p->targets + c] = y[2 * p->targets + c] = 0;
        if (heard >= 0) {
            double e = u[t * p->inputs + c] - out[heard * width + c];
            m[0] += fmax(1 / p->short_frames, 1.0 / (heard + 1)) * (e * e - m[0]);
            m[1] += fmax(1 / p->long_frames, 1.0 / (heard + 1)) * (e * e - m[1]);
            y[p->targets + c] = e;
            y[2 * p->targets + c] = m[1] > 0 ? sqrt(m[0] / m[1]) : 0;
        }
    }
}

int reference_rls_run(const struct reference_rls *p, int frames, const float *f, const float *u, double *out)
{
    int n = p->features + 1;
    size_t doubles = (size_t)n * n + (size_t)p->targets * n + 2 * (size_t)n + 3 * (size_t)p->targets;
    double *memory = calloc(doubles, sizeof(double));
    struct past s = {.n = n, .P = memory};

    if (memory == NULL) {
        return -1;
    }
    s.W = s.P + n * n;
    s.g = s.W + p->targets * n;
    s.Pg = s.g + n;
    double *errors = s.Pg + n, *means = errors + p->targets;
    for (int i = 0; i < n; i++) {
        s.P[i * n + i] = 1 / p->regularization;
    }
    for (int t = 0; t < frames; t++) {
        if (t >= p->horizon) {
            learn(p, &s, f, u, t, errors);
        }
        answer(p, &s, f, u, t, out, means);
    }
    free(memory);
    return 0;
}
