/* SPDX-License-Identifier: Apache-2.0
 *
 * rls: recursive least squares with exponential forgetting, frame by frame (definition in ssm/layers/rls.c).
 *
 * P is kept as S S', S square: P = (P - P g g' P / (l + g' P g)) / l becomes Potter's update of S, which cannot lose
 * symmetry or sign. Forgetting alone would let P grow without bound where the signal says nothing (silence,
 * clipping), so each frame is followed by one imagined observation "this weight is 0" on the next coordinate, which
 * keeps the ridge alive.
 *
 * One observation (g, target u, forgetting l), with v = S' g and a = l + v'v:
 *     k = S v / a,   W += (u - W g) k',   S = (S - c (S v) v') / sqrt(l),   c = 1 / (a (1 + sqrt(l / a)))
 * Each pass over S takes its rows one by one, independent of one another, which is what keeps the processor busy.
 *
 * The view does not matter: rls has no parallel form, and a scan steps it.
 * SOURCE  Potter 1963, as in Bierman, "Factorization Methods for Discrete Sequential Estimation"; forgetting as in
 *         Haykin, "Adaptive Filter Theory" (both give the covariance form that tests/reference/rls.c writes out).
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ssm/cpu/ops.h"
#include "ssm/cpu/vec.h"
#include "ssm/layers/rls.h"

enum { LANES = 8 };

/* One observation, ready to be applied row by row. */
struct observation {
    double direction[SSM_RLS_LD_MAX] __attribute__((aligned(64))); /* v */
    double along[SSM_RLS_LD_MAX];                                  /* S v */
    double gain;                                                   /* 1 / a: k = S v / a */
    double turn;                                                   /* c / sqrt(l) */
    double shrink;                                                 /* 1 / sqrt(l) */
    double error[SSM_RLS_TARGETS_MAX];
};

struct work {
    double past[SSM_RLS_LD_MAX] __attribute__((aligned(64))); /* g = f_(t-h), then f_t; 0 from n on */
    struct observation seen, ridge;
};

/* sum a[j] b[j] over j < ld, a multiple of 8: 8 interleaved lanes, folded in halves. */
static inline double dot(const double *restrict a, const double *restrict b, uint32_t ld)
{
    double lane[LANES] = {0};

    for (uint32_t j = 0; j < ld; j += LANES) {
        for (int i = 0; i < LANES; i++) {
            lane[i] = SSM_FMA(a[j + i], b[j + i], lane[i]);
        }
    }
    for (int width = LANES / 2; width > 0; width /= 2) {
        for (int i = 0; i < width; i++) {
            lane[i] += lane[i + width];
        }
    }
    return lane[0];
}

static void observation_weigh(struct observation *o, double l, uint32_t ld)
{
    double a = l + dot(o->direction, o->direction, ld);
    double root = sqrt(l);

    o->gain = 1 / a;
    o->turn = 1 / (a * (1 + sqrt(l / a)) * root);
    o->shrink = 1 / root;
}

/* v = S' g */
static void observation_see(struct observation *o, const double *restrict root, const double *restrict g, uint32_t n,
                            uint32_t ld)
{
    double *restrict v = o->direction;

    memset(v, 0, ld * sizeof(*v));
    for (uint32_t i = 0; i < n; i++) {
        const double *restrict row = root + (size_t)i * ld;
        for (uint32_t j = 0; j < ld; j++) {
            v[j] = SSM_FMA(g[i], row[j], v[j]);
        }
    }
}

/* row = shrink * row - (turn * along) * v */
static inline void row_turn(double *restrict row, const struct observation *restrict o, double along, uint32_t ld)
{
    double by = -o->turn * along;

    for (uint32_t j = 0; j < ld; j++) {
        row[j] = SSM_FMA(by, o->direction[j], o->shrink * row[j]);
    }
}

/* Learn from the pair (g, u): the observation, then the regularising one along coordinate i. */
static void learn(const struct ssm_rls *p, struct work *w, double *root, double *weights, const float *u, uint32_t i)
{
    struct observation *seen = &w->seen, *ridge = &w->ridge;

    observation_see(seen, root, w->past, p->n, p->ld);
    observation_weigh(seen, p->forgetting, p->ld);
    for (uint32_t j = 0; j < p->n; j++) {
        seen->along[j] = dot(root + (size_t)j * p->ld, seen->direction, p->ld);
    }
    /* row i as the first observation leaves it gives the direction of the second */
    memcpy(ridge->direction, root + (size_t)i * p->ld, p->ld * sizeof(*root));
    row_turn(ridge->direction, seen, seen->along[i], p->ld);
    for (uint32_t j = 0; j < p->ld; j++) {
        ridge->direction[j] *= p->pull;
    }
    observation_weigh(ridge, 1, p->ld);
    for (uint32_t c = 0; c < p->targets; c++) {
        const double *wc = weights + (size_t)c * p->ld;
        seen->error[c] = (u[c] - dot(wc, w->past, p->ld)) * seen->gain;
        ridge->error[c] = -p->pull * SSM_FMA(seen->error[c], seen->along[i], wc[i]) * ridge->gain;
    }
    for (uint32_t j = 0; j < p->n; j++) {
        row_turn(root + (size_t)j * p->ld, seen, seen->along[j], p->ld);
        ridge->along[j] = dot(root + (size_t)j * p->ld, ridge->direction, p->ld);
    }
    for (uint32_t j = 0; j < p->n; j++) {
        row_turn(root + (size_t)j * p->ld, ridge, ridge->along[j], p->ld);
    }
    for (uint32_t c = 0; c < p->targets; c++) {
        double *restrict wc = weights + (size_t)c * p->ld;
        for (uint32_t j = 0; j < p->n; j++) {
            wc[j] = SSM_FMA(ridge->error[c], ridge->along[j], SSM_FMA(seen->error[c], seen->along[j], wc[j]));
        }
    }
}

/* Update the running means with the squared error of the prediction that left h frames ago; `heard` such errors came
 * before this one. Returns the score. */
static float score(const struct ssm_rls *p, double *means, double error, uint64_t heard)
{
    double own = 1 / ((double)heard + 1), square = error * error;
    double quick = 1 / p->short_frames, slow = 1 / p->long_frames;

    means[0] += (quick > own ? quick : own) * (square - means[0]);
    means[1] += (slow > own ? slow : own) * (square - means[1]);
    return means[1] > 0 ? (float)sqrt(means[0] / means[1]) : 0;
}

/* Into float32; what is too large for it becomes the largest, since one infinite error would spoil the means for
 * good. */
static inline float narrow(double x)
{
    return (float)(x > FLT_MAX ? FLT_MAX : x < -FLT_MAX ? -FLT_MAX : x);
}

static void frame(const struct ssm_rls *p, struct work *w, unsigned char *state, uint64_t t, const float *x,
                  const float *u, float *y)
{
    double *root = (double *)(void *)state;
    double *weights = (double *)(void *)(state + p->weights_at);
    double *means = (double *)(void *)(state + p->means_at);
    float *features = (float *)(void *)(state + p->features_at) + (t % p->horizon) * p->features;
    float *issued = (float *)(void *)(state + p->issued_at) + (t % p->horizon) * p->targets;
    float *errors = y + p->targets, *scores = errors + p->targets;

    if (t == 0) {
        for (uint32_t i = 0; i < p->n; i++) {
            root[(size_t)i * p->ld + i] = 1 / sqrt(p->regularization);
        }
    }
    if (t >= p->horizon) {
        for (uint32_t k = 0; k < p->features; k++) {
            w->past[k] = features[k];
        }
        learn(p, w, root, weights, u, (uint32_t)((t - p->horizon) % p->n));
    }
    for (uint32_t k = 0; k < p->features; k++) {
        features[k] = x[k];
        w->past[k] = x[k];
    }
    for (uint32_t c = 0; c < p->targets; c++) {
        errors[c] = scores[c] = 0;
        if (t >= p->horizon) {
            errors[c] = narrow((double)u[c] - issued[c]);
            scores[c] = score(p, means + 2 * (size_t)c, errors[c], t - p->horizon);
        }
        y[c] = issued[c] = narrow(dot(weights + (size_t)c * p->ld, w->past, p->ld));
    }
}

/* SHAPES   x (frames, K); signal (frames, in_channels), its first `targets` are u; y (frames, 3 targets): predictions
 *          for t+h, errors of the predictions for t, scores.
 * ALIASING none.
 * COST     per frame 10 n^2 flops in float64; S (8 n^2 bytes) is read five times and written twice, in L1 or L2.
 * ERROR    against the definition in float64: the rounding of the float32 features and outputs. */
void SSM_CPU(ssm_cpu_rls)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_rls *p = layer->params;
    struct work w;

    memset(w.past, 0, p->ld * sizeof(w.past[0]));
    w.past[p->features] = 1;
    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        for (uint32_t i = 0; i < row->frames; i++) {
            size_t at = row->first + i;
            frame(p, &w, ssm_row_state(layer, row), row->index + i, x + at * layer->in, tile->signal + at * p->inputs,
                  y + at * layer->out);
        }
    }
}
