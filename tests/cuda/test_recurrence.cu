// SPDX-License-Identifier: Apache-2.0
// Dense recurrences of cuda/recurrence.cuh: against float64, and the same bits from every room and cut.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "cuda/recurrence.cuh"

enum { ROWS = 13, FRAMES = 60, STATE = 64 }; /* bytes before the layer's state */

/* What it uploads: a few arrays, freed by the test. */
struct cuda_build {
    void *memory[4];
    uint32_t count;
};

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

void *cuda_upload(struct cuda_build *b, const void *host, size_t bytes)
{
    assert_true(host && b->count < sizeof(b->memory) / sizeof(*b->memory));
    return b->memory[b->count++] = device_copy(host, bytes);
}

static uint32_t seed = 1;

/* Uniform in [-1, 1). */
static float noise(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return (float)(int32_t)seed * 0x1p-31f;
}

static float *noises_new(size_t n, float spread)
{
    float *v = (float *)malloc((n + 1) * sizeof(*v));

    assert_non_null(v);
    for (size_t i = 0; i < n; i++)
        v[i] = noise() * spread;
    return v;
}

/* A recurrence, its rows and what it made of them. */
struct trial {
    enum cuda_cell cell;
    uint32_t H, G, channels, vectors, width, outs; /* width: of in; outs: of out; vectors of H are a channel's state */
    float *w, *bias, *in, *factor,
        *state; /* (G*H, H), (G*H), (FRAMES, width), (H) or NULL, (ROWS, vectors, channels*H) */
    struct cuda_build build;
    struct cuda_recurrence r;
    uint32_t first[ROWS], frames[ROWS];
    float *out, *left; /* (FRAMES, outs), and the state as it was left */
};

static void trial_init(struct trial *t, enum cuda_cell cell, uint32_t H, uint32_t channels)
{
    struct ssm_matrix m;

    memset(t, 0, sizeof(*t));
    t->cell = cell;
    t->H = H;
    t->G = cell == CUDA_CELL_GRU ? 3 : cell == CUDA_CELL_LSTM ? 4 : 1;
    t->channels = channels;
    t->vectors = cell == CUDA_CELL_LSTM ? 2 : 1;
    t->width = channels > 1 ? channels : t->G * H;
    t->outs = channels * H;
    t->w = noises_new((size_t)t->G * H * H, cell == CUDA_CELL_LINEAR ? 0.5f / (float)H : 1 / sqrtf((float)H));
    t->bias = noises_new(t->G * H, 1);
    t->in = noises_new((size_t)FRAMES * t->width, 1);
    t->factor = channels > 1 ? noises_new(H, 1) : NULL;
    t->state = noises_new((size_t)ROWS * t->vectors * t->outs, 1);
    t->out = noises_new((size_t)FRAMES * t->outs, 1);
    t->left = noises_new((size_t)ROWS * t->vectors * t->outs, 1);
    m = {t->G * H, H, noises_new((size_t)(t->G * H + 15) / 16 * 16 * H, 0)};
    for (size_t o = 0; o < t->G * H; o++)
        for (size_t i = 0; i < H; i++)
            m.panels[(o / 16 * H + i) * 16 + o % 16] = t->w[o * H + i];
    cuda_recurrence_build(&t->build, cell, &m, cell == CUDA_CELL_LINEAR ? NULL : t->bias, &t->r);
    free(m.panels);
    for (uint32_t n = 0, first = 0; n < ROWS; first += t->frames[n], n++) {
        t->first[n] = first;
        t->frames[n] = n * 5 % 8; /* 0 to 7 */
        assert_true(first + t->frames[n] <= FRAMES);
    }
}

static void trial_fini(struct trial *t)
{
    free(t->w);
    free(t->bias);
    free(t->in);
    free(t->factor);
    free(t->state);
    free(t->out);
    free(t->left);
    for (uint32_t i = 0; i < t->build.count; i++)
        ok(cudaFree(t->build.memory[i]));
}

/* Frames [from, to) of each row, from `start` (as state) on, with room for so many rows and frames of one. */
static void trial_run(struct trial *t, const float *start, uint32_t from, uint32_t to, uint32_t rows_room,
                      uint32_t longest)
{
    size_t each = (size_t)t->vectors * t->outs, bytes = each * sizeof(float) + STATE;
    unsigned char *states, *host = (unsigned char *)calloc(ROWS, bytes);
    struct cuda_row rows[ROWS];
    struct cuda_count count = {ROWS, FRAMES}, *d_count;
    struct cuda_span span = {};
    struct cuda_recurrence_run run = {};
    void *memory[5];

    assert_non_null(host);
    for (uint32_t n = 0; n < ROWS; n++)
        memcpy(host + n * bytes + STATE, start + n * each, each * sizeof(float));
    memory[0] = states = (unsigned char *)device_copy(host, ROWS * bytes);
    for (uint32_t n = 0; n < ROWS; n++) {
        uint32_t begin = from < t->frames[n] ? from : t->frames[n], end = to < t->frames[n] ? to : t->frames[n];

        rows[n] = {states + n * bytes, 100 + begin, t->first[n] + begin, end - begin, SSM_STEP, 0};
    }
    memory[1] = d_count = (struct cuda_count *)device_copy(&count, sizeof(count));
    span.rows = (const struct cuda_row *)(memory[2] = device_copy(rows, sizeof(rows)));
    span.count = d_count;
    span.rows_room = rows_room;
    span.frames_room = FRAMES;
    span.longest_room = longest;
    run.span = &span;
    run.state_offset = STATE;
    run.channels = t->channels;
    run.in = (const float *)(memory[3] = device_copy(t->in, FRAMES * t->width * sizeof(float)));
    run.in_stride = t->width;
    run.in_channel = 1;
    run.factor = NULL;
    if (t->factor)
        run.factor = (const float *)cuda_upload(&t->build, t->factor, t->H * sizeof(float));
    run.out = (float *)(memory[4] = device_copy(t->out, FRAMES * t->outs * sizeof(float)));
    run.out_stride = t->outs;
    ok(cuda_recurrence_launch(&t->r, &run, NULL));
    ok(cudaDeviceSynchronize());
    ok(cudaMemcpy(t->out, run.out, FRAMES * t->outs * sizeof(float), cudaMemcpyDeviceToHost));
    ok(cudaMemcpy(host, states, ROWS * bytes, cudaMemcpyDeviceToHost));
    for (uint32_t n = 0; n < ROWS; n++)
        memcpy(t->left + n * each, host + n * bytes + STATE, each * sizeof(float));
    free(host);
    for (uint32_t i = 0; i < 5; i++)
        ok(cudaFree(memory[i]));
    if (t->factor)
        ok(cudaFree(t->build.memory[--t->build.count]));
}

static double sigmoid(double v)
{
    return 1 / (1 + exp(-v));
}

/* One frame of one channel in float64: h (H), c (H). */
static void reference_step(const struct trial *t, const float *in, uint32_t channel, double *h, double *c)
{
    double *gate = (double *)calloc((size_t)t->G * t->H * 2, sizeof(*gate)), *sum = gate + (size_t)t->G * t->H;

    for (uint32_t o = 0; o < t->G * t->H; o++) {
        gate[o] = t->factor ? (double)in[channel] * t->factor[o] : in[o];
        sum[o] = t->cell == CUDA_CELL_LINEAR ? 0 : t->bias[o];
        for (uint32_t i = 0; i < t->H; i++)
            sum[o] += (double)t->w[(size_t)o * t->H + i] * h[i];
    }
    for (uint32_t i = 0, H = t->H; i < H; i++) {
        double first = gate[i] + sum[i];

        if (t->cell == CUDA_CELL_RNN)
            h[i] = tanh(first);
        else if (t->cell == CUDA_CELL_LINEAR)
            h[i] += first;
        else if (t->cell == CUDA_CELL_GRU) {
            double z = sigmoid(gate[H + i] + sum[H + i]), n = tanh(gate[2 * H + i] + sigmoid(first) * sum[2 * H + i]);

            h[i] = (1 - z) * n + z * h[i];
        } else {
            c[i] = sigmoid(gate[H + i] + sum[H + i]) * c[i] + sigmoid(first) * tanh(gate[2 * H + i] + sum[2 * H + i]);
            h[i] = sigmoid(gate[3 * H + i] + sum[3 * H + i]) * tanh(c[i]);
        }
    }
    free(gate);
}

static double trial_error(const struct trial *t)
{
    double *h = (double *)calloc((size_t)t->H * 2, sizeof(*h)), *c = h + t->H, worst = 0;

    for (uint32_t n = 0; n < ROWS; n++)
        for (uint32_t k = 0; k < t->channels; k++) {
            const float *state = t->state + (size_t)n * t->vectors * t->outs + (size_t)k * t->H;

            for (uint32_t i = 0; i < t->H; i++) {
                h[i] = state[i];
                c[i] = t->vectors > 1 ? state[t->H + i] : 0;
            }
            for (uint32_t f = 0; f < t->frames[n]; f++) {
                size_t frame = t->first[n] + f;

                reference_step(t, t->in + frame * t->width, k, h, c);
                for (uint32_t i = 0; i < t->H; i++)
                    worst = fmax(worst, fabs(t->out[frame * t->outs + k * t->H + i] - h[i]));
            }
        }
    free(h);
    return worst;
}

static void cell_try(enum cuda_cell cell, uint32_t H, uint32_t channels)
{
    static const struct {
        uint32_t rows_room, longest;
    } rooms[] = {{ROWS, 7}, {600, 2}, {600, 7}, {2200, 2}, {2200, 7}};
    struct trial t;
    size_t outs, states;
    float *out, *left;

    trial_init(&t, cell, H, channels);
    outs = (size_t)FRAMES * t.outs * sizeof(float);
    states = (size_t)ROWS * t.vectors * t.outs * sizeof(float);
    trial_run(&t, t.state, 0, 7, ROWS, 2);
    assert_true(trial_error(&t) < 2e-6);
    out = noises_new(outs / sizeof(float), 0);
    left = noises_new(states / sizeof(float), 0);
    memcpy(out, t.out, outs);
    memcpy(left, t.left, states);
    for (uint32_t k = 0; k < sizeof(rooms) / sizeof(*rooms); k++) {
        trial_run(&t, t.state, 0, 7, rooms[k].rows_room, rooms[k].longest);
        if (memcmp(t.out, out, outs) || memcmp(t.left, left, states))
            fail_msg("cell %d, H %u: other bits with room for %u rows of %u", (int)cell, H, rooms[k].rows_room,
                     rooms[k].longest);
    }
    trial_run(&t, t.state, 0, 3, ROWS, 7); /* cut in two */
    {
        float *half = noises_new(states / sizeof(float), 0);

        memcpy(half, t.left, states);
        trial_run(&t, half, 3, 7, 600, 7);
        free(half);
    }
    assert_memory_equal(t.out, out, outs);
    assert_memory_equal(t.left, left, states);
    free(out);
    free(left);
    trial_fini(&t);
}

static void recurrence__every_cell_width_and_room__same_bits_near_float64(void **state)
{
    static const uint32_t widths[] = {1, 5, 16, 17, 64, 70, 150};

    (void)state;
    for (uint32_t i = 0; i < sizeof(widths) / sizeof(*widths); i++) {
        cell_try(CUDA_CELL_RNN, widths[i], 1);
        cell_try(CUDA_CELL_GRU, widths[i], 1);
        cell_try(CUDA_CELL_LSTM, widths[i], 1);
        cell_try(CUDA_CELL_LINEAR, widths[i], 1);
        cell_try(CUDA_CELL_LINEAR, widths[i], 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recurrence__every_cell_width_and_room__same_bits_near_float64),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
