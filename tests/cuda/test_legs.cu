// SPDX-License-Identifier: Apache-2.0
// hippo's time-varying legs (cuda/hippo_legs.cu) against plain loops of float64, at orders for every number of lanes.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "cuda/hippo.cuh"
#include "ssm/discretize.h"

enum { ROWS = 3, CHANNELS = 2, FRAMES = 9 }; /* of every row */

static void ok(cudaError_t e)
{
    if (e)
        fail_msg("%s", cudaGetErrorString(e));
}

static void *device_copy(const void *host, size_t bytes)
{
    void *at = NULL;

    ok(cudaMalloc(&at, bytes));
    ok(cudaMemcpy(at, host, bytes, cudaMemcpyHostToDevice));
    return at;
}

static double R(uint32_t n)
{
    return sqrt(2.0 * n + 1);
}

/* out = x + h A x */
static void product(const double *x, double h, uint32_t N, double *out)
{
    double before = 0;

    for (uint32_t n = 0; n < N; n++) {
        out[n] = x[n] - h * ((n + 1.0) * x[n] + R(n) * before);
        before += R(n) * x[n];
    }
}

/* x <- (I - h A)^-1 x */
static void solve(double *x, double h, uint32_t N)
{
    double before = 0;

    for (uint32_t n = 0; n < N; n++) {
        x[n] = (x[n] - h * R(n) * before) / (1 + h * (n + 1.0));
        before += R(n) * x[n];
    }
}

/* x' = A x + B u over `time`, by bilinear steps far below 1/|A|. */
static void flow(double *x, double u, double time, uint32_t N)
{
    double steps = ceil(10 + 300.0 * time * N * N), h = time / steps, next[1024];

    for (double s = 0; s < steps; s++) {
        product(x, h / 2, N, next);
        for (uint32_t n = 0; n < N; n++)
            x[n] = next[n] + h * R(n) * u;
        solve(x, h / 2, N);
    }
}

static void reference_step(enum ssm_discretization how, uint64_t t, double u, uint32_t N, double *x)
{
    double h = 1.0 / (double)t, next[1024];

    if (how == SSM_ZOH) {
        flow(x, u, log1p(h), N);
        return;
    }
    product(x, how == SSM_BILINEAR ? h / 2 : how == SSM_FORWARD ? h : 0, N, next);
    for (uint32_t n = 0; n < N; n++)
        x[n] = next[n] + h * R(n) * u;
    if (how != SSM_FORWARD)
        solve(x, how == SSM_BILINEAR ? h / 2 : h, N);
}

struct trial {
    struct cuda_legs legs;
    uint64_t index;
    float *u, *state, *y; /* (ROWS * FRAMES, CHANNELS), (ROWS, CHANNELS, N), (ROWS * FRAMES, CHANNELS, N) */
};

/* Frames [from, to) of every row, the state in place. */
static void trial_run(struct trial *t, uint32_t from, uint32_t to)
{
    size_t states = (size_t)CHANNELS * t->legs.order * sizeof(float), outs = ROWS * FRAMES * states;
    float *state = (float *)device_copy(t->state, ROWS * states), *y = (float *)device_copy(t->y, outs);
    float *u = (float *)device_copy(t->u, ROWS * FRAMES * CHANNELS * sizeof(float));
    struct cuda_count count = {ROWS, ROWS * FRAMES}, *d_count = (struct cuda_count *)device_copy(&count, sizeof(count));
    struct cuda_row rows[ROWS], *d_rows;
    struct cuda_span span = {};

    for (uint32_t n = 0; n < ROWS; n++)
        rows[n] = {(unsigned char *)state + n * states, t->index + from, n * FRAMES + from, to - from, SSM_STEP, 0};
    d_rows = (struct cuda_row *)device_copy(rows, sizeof(rows));
    span.rows = d_rows;
    span.count = d_count;
    span.rows_room = ROWS + 4;
    ok(cuda_legs_launch(&t->legs, &span, u, y, NULL));
    ok(cudaDeviceSynchronize());
    ok(cudaMemcpy(t->state, state, ROWS * states, cudaMemcpyDeviceToHost));
    ok(cudaMemcpy(t->y, y, outs, cudaMemcpyDeviceToHost));
    ok(cudaFree(state));
    ok(cudaFree(y));
    ok(cudaFree(u));
    ok(cudaFree(d_count));
    ok(cudaFree(d_rows));
}

/* The largest error over the largest value, of channel k of row n. */
static double channel_error(const struct trial *t, const float *start, uint32_t n, uint32_t k)
{
    uint32_t N = t->legs.order;
    double x[1024], worst = 0, largest = 1e-30;

    for (uint32_t i = 0; i < N; i++)
        x[i] = start[i];
    for (uint32_t f = 0; f < FRAMES; f++) {
        size_t frame = (size_t)n * FRAMES + f;
        double u = t->u[frame * CHANNELS + k];

        if (t->index + f == 0)
            for (uint32_t i = 0; i < N; i++)
                x[i] = i == 0 ? u : 0;
        else
            reference_step((enum ssm_discretization)t->legs.how, t->index + f, u, N, x);
        for (uint32_t i = 0; i < N; i++) {
            x[i] = (float)x[i];
            largest = fmax(largest, fabs(x[i]));
            worst = fmax(worst, fabs(t->y[(frame * CHANNELS + k) * N + i] - x[i]));
        }
    }
    return worst / largest;
}

static void order_try(uint32_t N, int how, uint64_t index)
{
    size_t states = (size_t)ROWS * CHANNELS * N, outs = FRAMES * states;
    struct trial t = {{CHANNELS, N, how, 0}, index, NULL, NULL, NULL};
    float *start = (float *)calloc(states, sizeof(float)), *whole = (float *)calloc(outs, sizeof(float));

    t.u = (float *)calloc(ROWS * FRAMES * CHANNELS, sizeof(float));
    t.state = (float *)calloc(states, sizeof(float));
    t.y = (float *)calloc(outs, sizeof(float));
    for (uint32_t i = 0; i < ROWS * FRAMES * CHANNELS; i++)
        t.u[i] = sinf((float)i * 1.7f);
    for (uint32_t i = 0; i < states && index > 0; i++)
        start[i] = sinf((float)i * 0.3f) / (float)(1 + i % N);
    memcpy(t.state, start, states * sizeof(float));
    trial_run(&t, 0, FRAMES);
    for (uint32_t i = 0; i < ROWS * CHANNELS; i++)
        if (!(channel_error(&t, start + (size_t)i * N, i / CHANNELS, i % CHANNELS) < 1e-6))
            fail_msg("order %u, %s, from %llu: row %u, channel %u", N, how == SSM_ZOH ? "zoh" : "other",
                     (unsigned long long)index, i / CHANNELS, i % CHANNELS);
    memcpy(whole, t.y, outs * sizeof(float));
    memcpy(t.state, start, states * sizeof(float));
    trial_run(&t, 0, 4);
    trial_run(&t, 4, FRAMES);
    assert_memory_equal(t.y, whole, outs * sizeof(float));
    free(start);
    free(whole);
    free(t.u);
    free(t.state);
    free(t.y);
}

static void legs__every_order_and_discretization__match_the_plain_loops(void **state)
{
    static const uint32_t orders[] = {1, 2, 20, 32, 33, 100, 200, 256, 257, 300, 1024};
    static const int hows[] = {SSM_BILINEAR, SSM_BACKWARD};

    (void)state;
    for (uint32_t i = 0; i < sizeof(orders) / sizeof(*orders); i++) {
        for (uint32_t k = 0; k < 2; k++) {
            order_try(orders[i], hows[k], 0);
            order_try(orders[i], hows[k], 1000);
        }
        order_try(orders[i], SSM_FORWARD, (uint64_t)1 << 21); /* where it is stable */
        order_try(orders[i], SSM_ZOH, (uint64_t)1 << 21);
    }
    order_try(3, SSM_FORWARD, 0);
    order_try(5, SSM_ZOH, 0);
    order_try(40, SSM_ZOH, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legs__every_order_and_discretization__match_the_plain_loops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
