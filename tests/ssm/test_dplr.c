/* SPDX-License-Identifier: Apache-2.0
 *
 * s5 and s4 on random shapes and weights against the float64 reference of tests/reference/dplr.c, on every instruction
 * set, in every view and in changing views; and slow memories over 20,000 frames, s4 with HiPPO's own matrices at
 * steps from 0.001 to 0.1, where Abar itself in float32 would be off by 7e-6 (measured) and fail. What the definitions
 * refuse is in test_dplr_definitions.c.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/safetensors.h"
#include "tests/reference/dplr.h"
#include "tests/ssm/trial.h"

static const char *const hows[] = {"zoh", "bilinear", "forward", "backward"};
static const uint32_t modes_of[] = {1, 2, 3, 8, 16, 17, 32, 33};

/* ---- s5 ---------------------------------------------------------------------------------------------------------- */

static void s5_layer(struct trial *t, const struct reference_s5 *s)
{
    uint32_t H = (uint32_t)s->channels, P = (uint32_t)s->modes;

    making_layers(&t->model,
                  "{'type':'s5','name':'s','channels':%u,'state':%u,'discretization':'%s','conjugate_symmetry':%s}", H,
                  P, hows[s->how], trial_bool(s->conjugate_symmetry));
}

static void s5_make(struct trial *t, uint32_t H, uint32_t P)
{
    struct reference_s5 s = {.channels = H, .modes = P, .how = (enum reference_how)(t->number % 4)};
    float *Lambda = making_tensor(&t->model, 1, "s.Lambda", 2, P, 2u);
    float *log_step = making_tensor(&t->model, 1, "s.log_step", 1, P);

    s.conjugate_symmetry = trial_coin(t);
    for (uint32_t p = 0; p < P; p++) {
        float imag = 3.14159265f * (float)(p % 32) + Lambda[2 * p + 1];

        Lambda[2 * p] = -0.7f + 0.4f * Lambda[2 * p]; /* not exp: the sign is the tensor's own */
        Lambda[2 * p + 1] = s.how == REFERENCE_FORWARD ? 0.5f * Lambda[2 * p + 1] : p % 3 == 2 ? -imag : imag;
        log_step[p] = -4.6f + 2.3f * log_step[p]; /* 0.001 to 0.1 */
    }
    if (t->number % 5 == 4) /* an integrator, on the circle */
        Lambda[0] = Lambda[1] = 0;
    s.Lambda = Lambda;
    s.log_step = log_step;
    s.B = making_tensor(&t->model, 1, "s.B", 3, P, H, 2u);
    s.C = making_tensor(&t->model, 1, "s.C", 3, H, P, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, H);
    s5_layer(t, &s);
    trial_input(t, H, H, 1);
    reference_s5(&s, t->wide, t->frames, t->want);
}

static void s5(struct trial *t)
{
    uint32_t H = trial_size(t);

    s5_make(t, H, TRIAL_PICK(t, modes_of));
}

static void s5_wide(struct trial *t)
{
    static const uint32_t modes[] = {64, 129, 256, 100};

    s5_make(t, t->number % 3 == 2 ? trial_wide(t) : trial_size(t), modes[t->number % 4]);
}

/* Modes that remember for thousands of frames: Abar itself in float32 would be far off. */
static void s5_slow(struct trial *t)
{
    enum { H = 3, P = 17 };
    struct reference_s5 s = {.channels = H, .modes = P, .conjugate_symmetry = true};
    float *Lambda = making_tensor(&t->model, 0, "s.Lambda", 2, (uint32_t)P, 2u);
    float *log_step = making_tensor(&t->model, 0, "s.log_step", 1, (uint32_t)P);

    for (uint32_t p = 0; p < P; p++) {
        Lambda[2 * p] = -0.5f;
        Lambda[2 * p + 1] = 3.14159265f * (float)p;
        log_step[p] = logf(0.01f) - 4.6f * (float)p / P;
    }
    s.Lambda = Lambda;
    s.log_step = log_step;
    s.B = making_tensor(&t->model, 1, "s.B", 3, (uint32_t)P, (uint32_t)H, 2u);
    s.C = making_tensor(&t->model, 1, "s.C", 3, (uint32_t)H, (uint32_t)P, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, (uint32_t)H);
    s5_layer(t, &s);
    trial_input_slow(t, H, H);
    reference_s5(&s, t->wide, t->frames, t->want);
}

/* ---- s4 ---------------------------------------------------------------------------------------------------------- */

static void s4_layer(struct trial *t, const struct reference_s4 *s)
{
    making_layers(&t->model,
                  "{'type':'s4','name':'s','channels':%zu,'state':%zu,'rank':%zu,'discretization':'bilinear'}",
                  s->channels, 2 * s->modes, s->rank);
}

/* Modes as S4D draws them, and a low-rank part as loud as HiPPO's. Every fourth trial has a mode with Re A > 0 that the
 * low-rank part holds back, so that the poles must be looked for. */
static void s4_make(struct trial *t, uint32_t H, uint32_t M)
{
    uint32_t rank = 1 + t->number % 3;
    struct reference_s4 s = {.channels = H, .modes = M, .rank = rank};
    float *log_dt = making_tensor(&t->model, 1, "s.log_dt", 1, H);
    float *A = making_tensor(&t->model, 1, "s.A", 3, H, M, 2u);
    float *P = making_tensor(&t->model, 1, "s.P", 4, rank, H, M, 2u);

    for (uint32_t h = 0; h < H; h++)
        log_dt[h] = -4.6f + 2.3f * log_dt[h]; /* 0.001 to 0.1 */
    for (uint32_t i = 0; i < H * M; i++) {
        A[2 * i] = -0.5f + 0.4f * A[2 * i];
        A[2 * i + 1] += 3.14159265f * (float)(i % M);
    }
    for (uint32_t i = 0; i < 2 * rank * H * M; i++)
        P[i] *= sqrtf((float)(i / 2 % M) + 0.5f);
    if (t->number % 4 == 3)
        for (uint32_t h = 0; h < H; h++) {
            A[2 * h * M] = 0.01f;
            A[2 * h * M + 1] = 1;
            P[2 * h * M] = 2;
        }
    s.log_dt = log_dt;
    s.A = A;
    s.P = P;
    s.B = making_tensor(&t->model, 1, "s.B", 3, H, M, 2u);
    s.C = making_tensor(&t->model, 1, "s.C", 3, H, M, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, H);
    s4_layer(t, &s);
    trial_input(t, H, H, 1);
    reference_s4(&s, t->wide, t->frames, t->want);
}

static void s4(struct trial *t)
{
    uint32_t H = trial_size(t);

    s4_make(t, H, TRIAL_PICK(t, modes_of));
}

static void s4_wide(struct trial *t)
{
    static const uint32_t modes[] = {64, 128, 2, 70};
    uint32_t M = modes[t->number % 4];

    s4_make(t, M < 10 ? trial_wide(t) : trial_between(t, 1, 7), M);
}

/* Channel 0 of a tensor of a golden case, for each of `channels` channels of the new tensor. */
static const float *tensor_borrow(struct trial *t, struct ssm_tensors *set, const char *name, uint32_t ranks,
                                  uint32_t channels, uint32_t M)
{
    const struct ssm_tensor *from = ssm_tensors_find(set, name);
    float *all = trial_memory(from->elements, sizeof(*all)), *to;
    size_t each = 2 * (size_t)M, stride = from->elements / ranks;
    uint64_t where;

    assert_int_equal(ssm_tensor_widen(from, all, &where), SSM_OK);
    name = strrchr(name, '.');
    if (strcmp(name, ".P") == 0)
        to = making_tensor(&t->model, 0, "s.P", 4, ranks, channels, M, 2u);
    else
        to = making_tensor(&t->model, 0, name[1] == 'A' ? "s.A" : "s.B", 3, channels, M, 2u);
    for (uint32_t r = 0; r < ranks; r++)
        for (uint32_t h = 0; h < channels; h++)
            memcpy(to + (r * channels + h) * each, all + r * stride, each * sizeof(*to));
    free(all);
    return to;
}

/* HiPPO's matrices as the golden case has them, at dt 0.001, 0.01 and 0.1. */
static void s4_hippo(struct trial *t, const char *dir, uint32_t M, uint32_t rank)
{
    enum { H = 3 };
    struct reference_s4 s = {.channels = H, .modes = M, .rank = rank};
    float *log_dt = making_tensor(&t->model, 0, "s.log_dt", 1, (uint32_t)H);
    struct ssm_tensors *set;

    assert_int_equal(ssm_tensors_open(&set, dir, NULL), SSM_OK);
    for (uint32_t h = 0; h < H; h++)
        log_dt[h] = logf(0.001f) + logf(10) * (float)h;
    s.log_dt = log_dt;
    s.A = tensor_borrow(t, set, "s4.A", 1, H, M);
    s.B = tensor_borrow(t, set, "s4.B", 1, H, M);
    s.P = tensor_borrow(t, set, "s4.P", rank, H, M);
    s.C = making_tensor(&t->model, 1, "s.C", 3, (uint32_t)H, M, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, (uint32_t)H);
    ssm_tensors_close(set);
    s4_layer(t, &s);
    trial_input_slow(t, H, H);
    reference_s4(&s, t->wide, t->frames, t->want);
}

static void s4_legs(struct trial *t)
{
    s4_hippo(t, "tests/golden/s4-legs", 32, 1);
}

static void s4_legt(struct trial *t)
{
    s4_hippo(t, "tests/golden/s4-legt", 16, 2);
}

static const struct trial_kind kinds[] = {
    {"s5", s5, 60, 3e-6},          {"s5_wide", s5_wide, 8, 3e-6}, {"s5_slow", s5_slow, 2, 3e-6}, {"s4", s4, 48, 4e-6},
    {"s4_wide", s4_wide, 8, 4e-6}, {"s4_legs", s4_legs, 1, 3e-6}, {"s4_legt", s4_legt, 1, 3e-6},
};

int main(void)
{
    return trial_main("dplr", kinds, sizeof(kinds) / sizeof(*kinds));
}
