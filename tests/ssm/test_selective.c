/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba and mamba2 on random shapes, weights and chunkings, in step and scan view and on every instruction set, against
 * the float64 reference: sizes that fill no vector, one state, one channel, groups, norms, limits of dt, memories of
 * thousands of frames.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/reference/selective.h"
#include "tests/ssm/trial.h"

static const uint32_t widths[] = {1, 2, 3, 5, 8, 16, 17, 32};
static const uint32_t states[] = {1, 2, 3, 7, 8, 16, 17, 64};
static const float arounds[] = {-2, -2, 0, 21}; /* where dt lies before softplus; beyond 20, softplus is the identity */

/* A tensor, or NULL and none for a bias that the trial leaves out. */
static const float *maybe(struct trial *t, bool use, float spread, const char *name, uint32_t n)
{
    return use ? making_tensor(&t->model, spread, name, 1, n) : NULL;
}

/* A_log of -1 +- 2: decays of 0.05 to 3 for each unit of dt. */
static const float *rates(struct trial *t, const char *name, uint32_t rank, uint32_t channels, uint32_t state)
{
    float *A_log = making_tensor(&t->model, 2, name, rank, channels, state);

    for (size_t i = 0; i < (size_t)channels * (rank == 2 ? state : 1); i++)
        A_log[i] -= 1;
    return A_log;
}

/* Sizes but conv and the tensors of them all; `around` is where the bias of dt lies. */
static void mamba_make(struct trial *t, struct reference_mamba *m, float around, const char *inner_key)
{
    uint32_t dim = (uint32_t)m->dim, inner = (uint32_t)m->inner, N = (uint32_t)m->state, R = (uint32_t)m->dt_rank;
    uint32_t conv = (uint32_t)m->conv;
    float *dt_bias;

    m->in_weight = making_tensor(&t->model, 1.5f / sqrtf((float)dim), "m.in_proj.weight", 2, 2 * inner, dim);
    m->in_bias = maybe(t, trial_coin(t), 0.5f, "m.in_proj.bias", 2 * inner);
    m->conv_weight = making_tensor(&t->model, 0.7f, "m.conv1d.weight", 3, inner, 1u, conv);
    m->conv_bias = maybe(t, trial_coin(t), 0.5f, "m.conv1d.bias", inner);
    m->x_weight = making_tensor(&t->model, 2 / sqrtf((float)inner), "m.x_proj.weight", 2, R + 2 * N, inner);
    m->dt_weight = making_tensor(&t->model, 1 / sqrtf((float)R), "m.dt_proj.weight", 2, inner, R);
    m->dt_bias = dt_bias = making_tensor(&t->model, 1, "m.dt_proj.bias", 1, inner);
    for (uint32_t i = 0; i < inner; i++)
        dt_bias[i] += around;
    m->A_log = rates(t, "m.A_log", 2, inner, N);
    m->D = making_tensor(&t->model, 1, "m.D", 1, inner);
    m->out_weight = making_tensor(&t->model, 1 / sqrtf((float)inner), "m.out_proj.weight", 2, dim, inner);
    m->out_bias = maybe(t, trial_coin(t), 0.5f, "m.out_proj.bias", dim);
    making_layers(&t->model, "{'type':'mamba','name':'m','dim':%u,%s'state':%u,'conv':%u,'dt_rank':%u}", dim, inner_key,
                  N, conv, R);
}

static void mamba(struct trial *t)
{
    struct reference_mamba m = {.dim = TRIAL_PICK(t, widths),
                                .state = TRIAL_PICK(t, states),
                                .conv = trial_between(t, 1, 5),
                                .dt_rank = trial_between(t, 1, 5)};
    char inner_key[32] = "";

    m.inner = 2 * m.dim;
    if (t->number % 3 == 1) {
        m.inner = trial_size(t);
        snprintf(inner_key, sizeof(inner_key), "'inner':%zu,", m.inner);
    } else if (t->number % 3 == 2) {
        m.inner = 3 * m.dim;
        snprintf(inner_key, sizeof(inner_key), "'expand':3,");
    }
    mamba_make(t, &m, TRIAL_PICK(t, arounds), inner_key);
    trial_input(t, (uint32_t)m.dim, (uint32_t)m.dim, t->number % 5 == 0 ? 30 : 1);
    reference_mamba(&m, t->wide, t->frames, t->want);
}

/* Many states, many channels. */
static void mamba_wide(struct trial *t)
{
    static const struct {
        uint32_t dim, inner, state, rank;
    } shapes[] = {{24, 48, 256, 6}, {96, 193, 16, 7}, {64, 128, 16, 4},
                  {17, 33, 129, 2}, {8, 130, 64, 9},  {5, 7, 300, 1}};
    uint32_t i = t->number % (sizeof(shapes) / sizeof(*shapes));
    struct reference_mamba m = {.dim = shapes[i].dim,
                                .inner = shapes[i].inner,
                                .state = shapes[i].state,
                                .conv = trial_between(t, 2, 4),
                                .dt_rank = shapes[i].rank};
    char inner_key[32];

    snprintf(inner_key, sizeof(inner_key), "'inner':%zu,", m.inner);
    mamba_make(t, &m, TRIAL_PICK(t, arounds), inner_key);
    trial_input(t, (uint32_t)m.dim, (uint32_t)m.dim, 1);
    reference_mamba(&m, t->wide, t->frames, t->want);
}

/* A steady dt near 0.0003: memories of thousands of frames, in which a decay rounded to float32 would err every time by
 * the same amount. */
static void mamba_slow(struct trial *t)
{
    struct reference_mamba m = {.dim = 3, .inner = 6, .state = 4, .conv = 4, .dt_rank = 1};

    mamba_make(t, &m, -8, "");
    memset((float *)m.dt_weight, 0, m.inner * m.dt_rank * sizeof(float));
    memset((float *)m.D, 0, m.inner * sizeof(float));
    trial_input_slow(t, 3, 3);
    reference_mamba(&m, t->wide, t->frames, t->want);
}

static void mamba2_make(struct trial *t, struct reference_mamba2 *m, float around, const char *more)
{
    uint32_t dim = (uint32_t)m->dim, heads = (uint32_t)m->heads, inner = heads * (uint32_t)m->head_dim;
    uint32_t mixed = inner + 2 * (uint32_t)(m->groups * m->state), conv = (uint32_t)m->conv;
    float *dt_bias;

    m->in_weight =
        making_tensor(&t->model, 1.5f / sqrtf((float)dim), "m.in_proj.weight", 2, inner + mixed + heads, dim);
    m->in_bias = maybe(t, trial_coin(t), 0.5f, "m.in_proj.bias", inner + mixed + heads);
    m->conv_weight = making_tensor(&t->model, 0.7f, "m.conv1d.weight", 3, mixed, 1u, conv);
    m->conv_bias = maybe(t, trial_coin(t), 0.5f, "m.conv1d.bias", mixed);
    m->dt_bias = dt_bias = making_tensor(&t->model, 1, "m.dt_bias", 1, heads);
    for (uint32_t h = 0; h < heads; h++)
        dt_bias[h] += around;
    m->A_log = rates(t, "m.A_log", 1, heads, 0);
    m->D = making_tensor(&t->model, 1, "m.D", 1, heads);
    m->norm_weight = maybe(t, m->rms_norm, 1, "m.norm.weight", inner);
    m->out_weight = making_tensor(&t->model, 1 / sqrtf((float)inner), "m.out_proj.weight", 2, dim, inner);
    m->out_bias = maybe(t, trial_coin(t), 0.5f, "m.out_proj.bias", dim);
    making_layers(&t->model,
                  "{'type':'mamba2','name':'m','dim':%u,'expand':%.17g,'state':%zu,'conv':%u,'head_dim':%zu,"
                  "'groups':%zu,'eps':%.17g,'rms_norm':%s,'norm_before_gate':%s%s}",
                  dim, (double)inner / dim, m->state, conv, m->head_dim, m->groups, m->eps, trial_bool(m->rms_norm),
                  trial_bool(m->norm_before_gate), more);
}

static void mamba2(struct trial *t)
{
    static const uint32_t head_dims[] = {1, 3, 4, 8, 16, 17, 32};
    static const struct {
        double least, most;
        const char *key;
    } limits[] = {{0, INFINITY, ""},
                  {0.02, 0.3, ",'dt_limit':[0.02,0.3]"},
                  {0.1, INFINITY, ",'dt_limit':[0.1,Infinity]"},
                  {0, INFINITY, ",'dt_limit':[0,null]"}};
    static const double eps[] = {1e-5, 1e-2, 1};
    uint32_t limit = t->number % 4;
    struct reference_mamba2 m = {.dim = TRIAL_PICK(t, widths),
                                 .groups = trial_between(t, 1, 3),
                                 .head_dim = TRIAL_PICK(t, head_dims),
                                 .state = TRIAL_PICK(t, states),
                                 .conv = trial_between(t, 1, 5),
                                 .eps = TRIAL_PICK(t, eps),
                                 .rms_norm = t->number % 5 > 0,
                                 .norm_before_gate = t->number % 2,
                                 .dt_min = limits[limit].least,
                                 .dt_max = limits[limit].most};

    m.heads = m.groups * trial_between(t, 1, 3);
    mamba2_make(t, &m, TRIAL_PICK(t, arounds), limits[limit].key);
    trial_input(t, (uint32_t)m.dim, (uint32_t)m.dim, 1);
    reference_mamba2(&m, t->wide, t->frames, t->want);
}

static void mamba2_wide(struct trial *t)
{
    static const struct {
        uint32_t dim, groups, heads, head_dim, state;
    } shapes[] = {{32, 1, 3, 64, 128}, {20, 2, 4, 33, 64}, {16, 1, 2, 16, 256}, {48, 1, 5, 64, 16}, {9, 3, 3, 80, 130}};
    uint32_t i = t->number % (sizeof(shapes) / sizeof(*shapes));
    struct reference_mamba2 m = {.dim = shapes[i].dim,
                                 .groups = shapes[i].groups,
                                 .heads = shapes[i].heads,
                                 .head_dim = shapes[i].head_dim,
                                 .state = shapes[i].state,
                                 .conv = 4,
                                 .eps = 1e-5,
                                 .rms_norm = true,
                                 .norm_before_gate = t->number % 2,
                                 .dt_max = INFINITY};

    mamba2_make(t, &m, TRIAL_PICK(t, arounds), "");
    trial_input(t, (uint32_t)m.dim, (uint32_t)m.dim, 1);
    reference_mamba2(&m, t->wide, t->frames, t->want);
}

static void mamba2_slow(struct trial *t)
{
    struct reference_mamba2 m = {
        .dim = 4, .heads = 2, .head_dim = 4, .groups = 1, .state = 5, .conv = 4, .eps = 1e-5, .dt_max = INFINITY};

    mamba2_make(t, &m, -8, "");
    memset((float *)m.in_weight + 2 * (m.heads * m.head_dim + m.state) * m.dim, 0, m.heads * m.dim * sizeof(float));
    memset((float *)m.D, 0, m.heads * sizeof(float));
    trial_input_slow(t, 4, 4);
    reference_mamba2(&m, t->wide, t->frames, t->want);
}

static const struct trial_kind kinds[] = {
    {"mamba", mamba, 60, 5e-6},   {"mamba_wide", mamba_wide, 12, 5e-6},   {"mamba_slow", mamba_slow, 2, 1e-5},
    {"mamba2", mamba2, 70, 3e-6}, {"mamba2_wide", mamba2_wide, 10, 3e-6}, {"mamba2_slow", mamba2_slow, 2, 1e-5},
};

int main(void)
{
    return trial_main("selective", kinds, sizeof(kinds) / sizeof(*kinds));
}
