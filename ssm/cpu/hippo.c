/* SPDX-License-Identifier: Apache-2.0
 *
 * hippo: x <- x + (Abar - I) x + Bbar u for each channel; the output is the state, so every view steps: a chunk form
 * would have nothing to leave out.
 *
 * legs with `scaled` is time-varying, and its A = -(D + strict lower part of R R'), D = diag(n+1), R_n = sqrt(2n+1),
 * lets every product and every solve run in O(order) with one running sum; float64 within the step.
 *
 *     t = 0      x = (u, 0, 0, ...)
 *     t >= 1     bilinear, forward, backward with A/t, B/t and step 1;  zoh: x' = A x + B u over a
 *                time of log(t+1) - log t
 *
 * SHAPES   state and y (channels, order); u (channels). SOURCE Gu et al. 2020, "HiPPO", theorem 2 and appendix D. */
#include <math.h>
#include <string.h>

#include "ssm/cpu/matrix.h"
#include "ssm/cpu/vec.h"
#include "ssm/discretize.h"
#include "ssm/layers/params.h"

#define ORDER_MAX 1024 /* the definition allows no more */

/* out = x + h A x */
static void legs_explicit(const double *x, double h, uint32_t N, double *out)
{
    double before = 0; /* sum over k < n of R_k x_k */

    for (uint32_t n = 0; n < N; n++) {
        double R = sqrt(2.0 * n + 1);

        out[n] = x[n] - h * ((n + 1.0) * x[n] + R * before);
        before += R * x[n];
    }
}

/* x <- (I - h A)^-1 x, forward substitution */
static void legs_implicit(double *x, double h, uint32_t N)
{
    double before = 0;

    for (uint32_t n = 0; n < N; n++) {
        double R = sqrt(2.0 * n + 1);

        x[n] = (x[n] - h * R * before) / (1 + h * (n + 1.0));
        before += R * x[n];
    }
}

/* x <- the solution of x' = A x + B u after `time`, u constant: Taylor steps of length below 1/|A|, which is at most
 * N^2 + N, so that the terms fall at once. The input is one more coordinate, held in `term_u`. */
static void legs_flow(double *x, double u, double time, uint32_t N)
{
    double steps = ceil(time * ((double)N * N + N)), h = time / steps, term[ORDER_MAX], next[ORDER_MAX];

    for (double s = 0; s < steps; s++) {
        double term_u = u;

        memcpy(term, x, N * sizeof(*term));
        for (int k = 1; k <= 18; k++, term_u = 0) {
            legs_explicit(term, 1, N, next); /* term + A term */
            for (uint32_t n = 0; n < N; n++) {
                term[n] = (next[n] - term[n] + sqrt(2.0 * n + 1) * term_u) * h / k;
                x[n] += term[n];
            }
        }
    }
}

static void legs_step(const struct ssm_hippo *p, uint64_t t, double u, double *x)
{
    double out[ORDER_MAX], h = 1.0 / (double)t;
    uint32_t N = p->order;

    switch ((enum ssm_discretization)p->how) {
    case SSM_ZOH:
        legs_flow(x, u, log1p(h), N);
        return;
    case SSM_BILINEAR:
        legs_explicit(x, h / 2, N, out);
        break;
    case SSM_FORWARD:
        legs_explicit(x, h, N, out);
        break;
    case SSM_BACKWARD:
        memcpy(out, x, N * sizeof(*out));
        break;
    }
    for (uint32_t n = 0; n < N; n++)
        out[n] += h * sqrt(2.0 * n + 1) * u;
    if (p->how != SSM_FORWARD)
        legs_implicit(out, p->how == SSM_BILINEAR ? h / 2 : h, N);
    memcpy(x, out, N * sizeof(*x));
}

static void frame_scaled(const struct ssm_hippo *p, uint64_t t, const float *u, float *state)
{
    double x[ORDER_MAX];

    for (uint32_t c = 0; c < p->channels; c++, state += p->order) {
        if (t == 0) {
            memset(state, 0, p->order * sizeof(*state));
            state[0] = u[c];
            continue;
        }
        for (uint32_t n = 0; n < p->order; n++)
            x[n] = state[n];
        legs_step(p, t, u[c], x);
        for (uint32_t n = 0; n < p->order; n++)
            state[n] = (float)x[n];
    }
}

static void frame_step(const struct ssm_hippo *p, const float *u, float *state, float *change)
{
    for (size_t c = 0; c < p->channels; c++)
        for (size_t n = 0; n < p->order; n++)
            change[c * p->order + n] = p->b[n] * u[c];
    SSM_CPU(ssm_cpu_matrix)(&p->a, NULL, true, state, p->order, change, p->order, p->channels);
    for (size_t i = 0; i < (size_t)p->channels * p->order; i++)
        state[i] += change[i];
}

void SSM_CPU(ssm_cpu_hippo)(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y)
{
    const struct ssm_hippo *p = layer->params;

    for (uint32_t r = 0; r < tile->count; r++) {
        const struct ssm_tile_row *row = &tile->rows[r];
        float *state = ssm_row_state(layer, row);

        for (size_t t = 0; t < row->frames; t++) {
            const float *u = x + (row->first + t) * layer->in;

            if (p->scaled)
                frame_scaled(p, row->index + t, u, state);
            else
                frame_step(p, u, state, tile->scratch);
            memcpy(y + (row->first + t) * layer->out, state, layer->out * sizeof(*y));
        }
    }
}
