/* SPDX-License-Identifier: Apache-2.0
 *
 * Every layer kind on random shapes, weights and chunkings, in step and scan view and on every instruction set, against
 * the float64 reference of tests/reference. A bound is on max|got - want| / max|want| over a trial of up to 200 frames,
 * of the slow kinds 20,000.
 */
#include <math.h>
#include <stdlib.h>

#include "tests/reference/layers.h"
#include "tests/ssm/trial.h"

static const char *const hows[] = {"zoh", "bilinear", "forward", "backward"};
static const char *const measures[] = {"legs", "legt", "lagt", "fout"};

/* ---- pointwise --------------------------------------------------------------------------------------------------- */

static void linear(struct trial *t)
{
    uint32_t in = trial_size(t), out = trial_size(t);
    bool bias = trial_coin(t);
    const float *w = making_tensor(&t->model, 1, "l.weight", 2, out, in);
    const float *b = bias ? making_tensor(&t->model, 1, "l.bias", 1, out) : NULL;

    making_layers(&t->model, "{'type':'linear','name':'l','in':%u,'out':%u,'bias':%s}", in, out, trial_bool(bias));
    trial_input(t, in, out, 1);
    reference_linear(w, b, in, out, t->wide, t->frames, t->want);
}

/* Weights of float32 and of bfloat16 by turns, which a device keeps apart. */
static void linear_wide(struct trial *t)
{
    static const uint32_t sizes[] = {1, 16, 129, 257, 517, 1031};
    uint32_t in = TRIAL_PICK(t, sizes), out = t->number % 3 == 2 ? trial_size(t) : trial_wide(t);
    const float *w = making_tensor(&t->model, 1, "l.weight", 2, out, in);
    const float *b = making_tensor(&t->model, 1, "l.bias", 1, out);

    if (t->number % 2)
        trial_narrow(w, (size_t)out * in);
    making_layers(&t->model, "{'type':'linear','name':'l','in':%u,'out':%u}", in, out);
    trial_input(t, in, out, 1);
    reference_linear(w, b, in, out, t->wide, t->frames, t->want);
}

static void embedding(struct trial *t)
{
    uint32_t vocab = trial_size(t), dim = t->number % 5 == 4 ? trial_wide(t) : trial_size(t);
    const float *w = making_tensor(&t->model, 1, "e.weight", 2, vocab, dim);

    t->model.vocab = vocab;
    making_layers(&t->model, "{'type':'embedding','name':'e','vocab':%u,'dim':%u}", vocab, dim);
    trial_input(t, 1, dim, 1);
    t->tokens = trial_memory(t->frames, sizeof(*t->tokens));
    for (uint32_t i = 0; i < t->frames; i++)
        t->tokens[i] = (int)making_number(&t->seed, vocab);
    reference_embedding(w, dim, t->tokens, t->frames, t->want);
}

/* eps from far below to far above the variance, so that a wrong or misplaced one shows; NULL: the key is left out. */
static double eps_any(struct trial *t, const char **key)
{
    static const struct {
        double value;
        const char *key;
    } eps[] = {{1e-5, ""}, {1e-5, ",'eps':1e-5"}, {1e-12, ",'eps':1e-12"}, {0.25, ",'eps':0.25"}, {1, ",'eps':1"}};
    size_t i = making_number(&t->seed, 5);

    *key = eps[i].key;
    return eps[i].value;
}

/* Frames around 1, 1e-2 (where eps 1e-5 shows) and 100. */
static float loudness_any(struct trial *t)
{
    static const float loud[] = {1, 0.01f, 100};

    return TRIAL_PICK(t, loud);
}

/* A width, now and then one of those that devices take in other ways. */
static uint32_t width_any(struct trial *t)
{
    static const uint32_t wide[] = {96, 128, 130, 256, 300, 512, 768, 1024, 1025, 1028, 2560};

    return t->number % 4 == 3 ? TRIAL_PICK(t, wide) : trial_size(t);
}

static void layernorm(struct trial *t)
{
    uint32_t H = width_any(t) + 1;
    const float *w = making_tensor(&t->model, 1, "n.weight", 1, H), *b = making_tensor(&t->model, 0.1f, "n.bias", 1, H);
    const char *key;
    double eps = eps_any(t, &key);

    making_layers(&t->model, "{'type':'layernorm','name':'n','dim':%u%s}", H, key);
    trial_input(t, H, H, loudness_any(t));
    reference_layernorm(w, b, eps, H, t->wide, t->frames, t->want);
}

static void rmsnorm(struct trial *t)
{
    uint32_t H = width_any(t);
    const float *w = making_tensor(&t->model, 1, "n.weight", 1, H);
    const char *key;
    double eps = eps_any(t, &key);

    making_layers(&t->model, "{'type':'rmsnorm','name':'n','dim':%u%s}", H, key);
    trial_input(t, H, H, loudness_any(t));
    reference_rmsnorm(w, eps, H, t->wide, t->frames, t->want);
}

static void batchnorm(struct trial *t)
{
    uint32_t H = width_any(t);
    const float *w = making_tensor(&t->model, 1, "n.weight", 1, H), *b = making_tensor(&t->model, 1, "n.bias", 1, H);
    const float *mean = making_tensor(&t->model, 1, "n.running_mean", 1, H);
    float *var = making_tensor(&t->model, 1, "n.running_var", 1, H);
    const char *key;
    double eps = eps_any(t, &key);

    for (uint32_t h = 0; h < H; h++)
        var[h] = h % 3 == 2 ? 1e-5f : 0.1f + fabsf(var[h]);
    making_layers(&t->model, "{'type':'batchnorm','name':'n','dim':%u%s}", H, key);
    trial_input(t, H, H, 1);
    reference_batchnorm(w, b, mean, var, eps, H, t->wide, t->frames, t->want);
}

static void activation(struct trial *t)
{
    static const char *const fns[] = {"relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "softplus"};
    const char *fn = fns[t->number % 7];
    uint32_t H = trial_size(t);

    making_layers(&t->model, "{'type':'activation','fn':'%s'}", fn);
    trial_input(t, H, H, t->number % 2 ? 4 : 40); /* 40: into saturation and past softplus' 20 */
    reference_activation(fn, t->wide, (size_t)t->frames * H, t->want);
}

static void glu(struct trial *t)
{
    uint32_t H = trial_size(t);

    making_layers(&t->model, "{'type':'glu'}");
    trial_input(t, 2 * H, H, 4);
    reference_glu(H, t->wide, t->frames, t->want);
}

static void scale(struct trial *t)
{
    uint32_t H = trial_size(t);
    double value = making_noise(&t->seed);

    making_layers(&t->model, "{'type':'scale','value':%.17g}", value);
    trial_input(t, H, H, 1);
    for (size_t i = 0; i < (size_t)t->frames * H; i++)
        t->want[i] = value * t->wide[i];
}

static void slice(struct trial *t)
{
    uint32_t in = trial_size(t), from = making_number(&t->seed, in), to = trial_between(t, from + 1, in);

    making_layers(&t->model, "{'type':'slice','from':%u,'to':%u}", from, to);
    trial_input(t, in, to - from, 1);
    reference_slice(in, from, to, t->wide, t->frames, t->want);
}

/* ---- joins: the branches hold layers whose reference is known ---------------------------------------------------- */

static void residual(struct trial *t)
{
    uint32_t H = trial_size(t), inner = trial_size(t);
    const float *up = making_tensor(&t->model, 1, "up.weight", 2, inner, H);
    const float *down = making_tensor(&t->model, 1, "down.weight", 2, H, inner);
    double *hidden;

    making_layers(&t->model,
                  "{'type':'residual','layers':["
                  "{'type':'linear','name':'up','in':%u,'out':%u,'bias':false},{'type':'activation','fn':'tanh'},"
                  "{'type':'linear','name':'down','in':%u,'out':%u,'bias':false}]}",
                  H, inner, inner, H);
    trial_input(t, H, H, 1);
    hidden = trial_memory((size_t)t->frames * inner, sizeof(*hidden));
    reference_linear(up, NULL, H, inner, t->wide, t->frames, hidden);
    reference_activation("tanh", hidden, (size_t)t->frames * inner, hidden);
    reference_linear(down, NULL, inner, H, hidden, t->frames, t->want);
    for (size_t i = 0; i < (size_t)t->frames * H; i++)
        t->want[i] += t->wide[i];
    free(hidden);
}

/* Four branches: nothing, a running mean, a product, and one that is nested. */
static void join(struct trial *t, bool multiply)
{
    const char *type = multiply ? "multiply" : "add";
    uint32_t H = trial_size(t);
    const float *w = making_tensor(&t->model, 1, "w.weight", 2, H, H);
    double *mean, *wide;

    making_layers(&t->model,
                  "{'type':'%s','branches':[[],[{'type':'mean'}],"
                  "[{'type':'linear','name':'w','in':%u,'out':%u,'bias':false}],"
                  "[{'type':'%s','branches':[[{'type':'scale','value':0.5}],[]]}]]}",
                  type, H, H, type);
    trial_input(t, H, H, 1);
    mean = trial_memory((size_t)t->frames * H, sizeof(*mean));
    wide = trial_memory((size_t)t->frames * H, sizeof(*wide));
    reference_mean(H, t->wide, t->frames, mean);
    reference_linear(w, NULL, H, H, t->wide, t->frames, wide);
    for (size_t i = 0; i < (size_t)t->frames * H; i++) {
        double x = t->wide[i];

        t->want[i] = multiply ? x * mean[i] * wide[i] * (0.5 * x * x) : x + mean[i] + wide[i] + (0.5 * x + x);
    }
    free(mean);
    free(wide);
}

static void add(struct trial *t)
{
    join(t, false);
}

static void multiply(struct trial *t)
{
    join(t, true);
}

/* ---- memories ---------------------------------------------------------------------------------------------------- */

static void mean(struct trial *t)
{
    uint32_t H = trial_size(t);

    making_layers(&t->model, "{'type':'mean'}");
    trial_input(t, H, H, 1);
    reference_mean(H, t->wide, t->frames, t->want);
}

/* By turns dense, depthwise, grouped, and depthwise that widens. */
static void conv1d(struct trial *t)
{
    uint32_t shape = t->number % 4, H = t->number % 20 == 17 ? trial_wide(t) : trial_size(t);
    uint32_t g = shape == 2 ? trial_between(t, 2, 5) : 1;
    struct reference_conv1d c = {.in = g * H, .out = g * trial_size(t), .groups = g};
    bool bias = trial_coin(t);

    if (shape == 1 || shape == 3) {
        c.groups = c.in;
        c.out = c.in * (shape == 3 ? 2 : 1);
    }
    c.kernel = trial_between(t, 1, 9);
    c.dilation = trial_coin(t) ? 1 : trial_between(t, 2, 11);
    c.weight =
        making_tensor(&t->model, 1, "c.weight", 3, (uint32_t)c.out, (uint32_t)(c.in / c.groups), (uint32_t)c.kernel);
    c.bias = bias ? making_tensor(&t->model, 1, "c.bias", 1, (uint32_t)c.out) : NULL;
    making_layers(&t->model,
                  "{'type':'conv1d','name':'c','in':%zu,'out':%zu,'kernel':%zu,'groups':%zu,'dilation':%zu,'bias':%s,"
                  "'padding':'causal'}",
                  c.in, c.out, c.kernel, c.groups, c.dilation, trial_bool(bias));
    trial_input(t, (uint32_t)c.in, (uint32_t)c.out, 1);
    reference_conv1d(&c, t->wide, t->frames, t->want);
}

/* So many frames and outputs that a device takes them by large blocks, whose bits are those of small ones. */
static void conv1d_many(struct trial *t)
{
    struct reference_conv1d c = {.in = trial_between(t, 1, 8), .out = trial_between(t, 127, 130), .groups = 1};

    c.kernel = trial_between(t, 1, 4);
    c.dilation = trial_between(t, 1, 3);
    c.weight = making_tensor(&t->model, 1, "c.weight", 3, (uint32_t)c.out, (uint32_t)c.in, (uint32_t)c.kernel);
    making_layers(&t->model,
                  "{'type':'conv1d','name':'c','in':%zu,'out':%zu,'kernel':%zu,'dilation':%zu,'bias':false,"
                  "'padding':'causal'}",
                  c.in, c.out, c.kernel, c.dilation);
    t->frames = 9000;
    trial_input(t, (uint32_t)c.in, (uint32_t)c.out, 1);
    reference_conv1d(&c, t->wide, t->frames, t->want);
}

/* A random A made stable: x' = (S - d I) x with S skew plus a little of anything. */
static void stable_fill(float *A, uint32_t n, uint32_t *seed)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k <= i; k++) {
            float a = making_noise(seed);

            A[i * n + k] = i == k ? -1.5f - a : a;
            A[k * n + i] = i == k ? A[i * n + k] : -a + 0.1f * making_noise(seed) / (float)n;
        }
}

static void lti_make(struct trial *t, uint32_t state)
{
    static const uint32_t widths[] = {1, 1, 2, 3, 5, 17};
    struct reference_lti s = {.in = TRIAL_PICK(t, widths), .state = state, .out = TRIAL_PICK(t, widths), .dt = 0.02};
    uint32_t in = (uint32_t)s.in, n = (uint32_t)s.state, out = (uint32_t)s.out;
    float *A = making_tensor(&t->model, 1, "s.A", 2, n, n);

    s.how = (enum reference_how)(t->number % 4);
    stable_fill(A, n, &t->seed);
    s.A = A;
    s.B = making_tensor(&t->model, 1, "s.B", 2, n, in);
    s.C = making_tensor(&t->model, 1, "s.C", 2, out, n);
    s.D = making_tensor(&t->model, 0.1f, "s.D", 2, out, in);
    making_layers(&t->model, "{'type':'lti','name':'s','in':%u,'state':%u,'out':%u,'dt':%.17g,'discretization':'%s'}",
                  in, n, out, s.dt, hows[s.how]);
    trial_input(t, in, out, 1);
    reference_lti(&s, t->wide, t->frames, t->want);
}

static void lti(struct trial *t)
{
    static const uint32_t states[] = {1, 2, 3, 7, 16, 17, 32, 37};

    lti_make(t, TRIAL_PICK(t, states));
}

static void lti_wide(struct trial *t)
{
    static const uint32_t states[] = {64, 65, 100, 129};

    lti_make(t, states[t->number % 4]);
}

static void s4d_make(struct trial *t, uint32_t H, uint32_t modes)
{
    struct reference_s4d s = {.channels = H, .modes = modes, .how = (enum reference_how)(t->number % 4)};
    bool input_matrix = trial_coin(t), forward = s.how == REFERENCE_FORWARD;
    float *log_dt = making_tensor(&t->model, 1, "s.log_dt", 1, H);
    float *real = making_tensor(&t->model, 0.5f, "s.log_A_real", 2, H, modes);
    float *imag = making_tensor(&t->model, 1, "s.A_imag", 2, H, modes);

    for (uint32_t i = 0; i < H; i++) /* 0.001 to 0.1 */
        log_dt[i] = -4.6f + 2.3f * log_dt[i];
    for (uint32_t i = 0; i < H * modes; i++) {
        imag[i] = forward ? 0.5f * imag[i] : 3.14159265f * (float)(i % modes) + imag[i];
        real[i] -= 0.7f;
    }
    s.log_dt = log_dt;
    s.log_A_real = real;
    s.A_imag = imag;
    s.C = making_tensor(&t->model, 1, "s.C", 3, H, modes, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, H);
    s.B = input_matrix ? making_tensor(&t->model, 1, "s.B", 3, H, modes, 2u) : NULL;
    making_layers(&t->model,
                  "{'type':'s4d','name':'s','channels':%u,'state':%u,'discretization':'%s','input_matrix':%s}", H,
                  2 * modes, hows[s.how], trial_bool(input_matrix));
    trial_input(t, H, H, 1);
    reference_s4d(&s, t->wide, t->frames, t->want);
}

static void s4d(struct trial *t)
{
    static const uint32_t modes_of[] = {1, 2, 3, 8, 16, 17, 32, 33};
    uint32_t H = trial_size(t);

    s4d_make(t, H, TRIAL_PICK(t, modes_of));
}

/* Many channels or many modes: 128 are a state of 256. */
static void s4d_wide(struct trial *t)
{
    static const uint32_t modes_of[] = {4, 64, 128, 100, 2, 131};
    uint32_t modes = modes_of[t->number % 6];

    s4d_make(t, modes < 10 ? trial_wide(t) : trial_between(t, 1, 9), modes);
}

/* Modes that remember for thousands of frames, S4D's own from dt 0.01 down to 0.0001: Abar itself in float32 would be
 * off by 3e-5 here. */
static void s4d_slow(struct trial *t)
{
    enum { H = 3, MODES = 17 };
    struct reference_s4d s = {.channels = H, .modes = MODES};
    float *log_dt = making_tensor(&t->model, 0, "s.log_dt", 1, (uint32_t)H);
    float *real = making_tensor(&t->model, 0, "s.log_A_real", 2, (uint32_t)H, (uint32_t)MODES);
    float *imag = making_tensor(&t->model, 0, "s.A_imag", 2, (uint32_t)H, (uint32_t)MODES);

    for (uint32_t h = 0; h < H; h++)
        log_dt[h] = logf(0.01f) - 2.3f * (float)h;
    for (uint32_t i = 0; i < H * MODES; i++) {
        real[i] = logf(0.5f);
        imag[i] = 3.14159265f * (float)(i % MODES);
    }
    s.log_dt = log_dt;
    s.log_A_real = real;
    s.A_imag = imag;
    s.C = making_tensor(&t->model, 1, "s.C", 3, (uint32_t)H, (uint32_t)MODES, 2u);
    s.D = making_tensor(&t->model, 1, "s.D", 1, (uint32_t)H);
    making_layers(&t->model, "{'type':'s4d','name':'s','channels':3,'state':34,'discretization':'zoh'}");
    trial_input_slow(t, H, H);
    reference_s4d(&s, t->wide, t->frames, t->want);
}

/* A window of 20,000 frames. */
static void legt_slow(struct trial *t)
{
    struct reference_hippo h = {
        .measure = REFERENCE_LEGT, .channels = 1, .order = 24, .dt = 1e-4, .how = REFERENCE_BILINEAR};

    making_layers(&t->model,
                  "{'type':'hippo','measure':'legt','channels':1,'order':24,'dt':1e-4,'discretization':'bilinear'}");
    trial_input_slow(t, 1, 24);
    reference_hippo(&h, t->wide, t->frames, t->want);
}

/* measures x discretisations by turns; forward needs a dt that its fastest pole bears. */
static void hippo_make(struct trial *t, uint32_t channels, uint32_t order)
{
    struct reference_hippo h = {.measure = (enum reference_measure)(t->number % 4),
                                .how = (enum reference_how)(t->number / 4 % 4),
                                .channels = channels,
                                .order = order};

    if (h.measure == REFERENCE_FOUT)
        h.order += h.order % 2;
    h.dt = h.how == REFERENCE_FORWARD ? 0.25 / (double)(h.order * h.order) : 0.02;
    making_layers(&t->model,
                  "{'type':'hippo','measure':'%s','channels':%zu,'order':%zu,'dt':%.17g,'discretization':'%s'}",
                  measures[h.measure], h.channels, h.order, h.dt, hows[h.how]);
    trial_input(t, (uint32_t)h.channels, (uint32_t)(h.channels * h.order), 1);
    reference_hippo(&h, t->wide, t->frames, t->want);
}

static void hippo(struct trial *t)
{
    static const uint32_t orders[] = {1, 2, 3, 4, 7, 8, 16, 17, 32};
    static const uint32_t widths[] = {1, 2, 3, 5, 17};
    uint32_t channels = TRIAL_PICK(t, widths);

    hippo_make(t, channels, TRIAL_PICK(t, orders));
}

static void hippo_wide(struct trial *t)
{
    static const uint32_t orders[] = {64, 65, 100, 3};
    uint32_t order = orders[t->number / 2 % 4];

    hippo_make(t, order < 10 ? 70 : trial_between(t, 1, 3), order);
}

/* forward multiplies what rounding left by up to (order-1)! before it calms, in any arithmetic: small orders. */
static void hippo_scaled(struct trial *t)
{
    static const uint32_t orders[] = {1, 2, 3, 4, 8, 13};
    static const uint32_t widths[] = {1, 2, 3};
    struct reference_hippo h = {.measure = REFERENCE_LEGS,
                                .how = (enum reference_how)(t->number % 4),
                                .channels = TRIAL_PICK(t, widths),
                                .order = TRIAL_PICK(t, orders),
                                .scaled = true};

    if (h.how == REFERENCE_FORWARD && h.order > 4)
        h.order = 4;
    making_layers(&t->model,
                  "{'type':'hippo','measure':'legs','channels':%zu,'order':%zu,'discretization':'%s','scaled':true}",
                  h.channels, h.order, hows[h.how]);
    trial_input(t, (uint32_t)h.channels, (uint32_t)(h.channels * h.order), 1);
    reference_hippo(&h, t->wide, t->frames, t->want);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static const struct trial_kind kinds[] = {
    {"linear", linear, 40, 1e-6},
    {"embedding", embedding, 10, 0},
    {"layernorm", layernorm, 40, 1e-6},
    {"rmsnorm", rmsnorm, 40, 5e-7},
    {"batchnorm", batchnorm, 30, 5e-7},
    {"activation", activation, 42, 3e-7},
    {"glu", glu, 10, 3e-7},
    {"scale", scale, 10, 2e-7},
    {"slice", slice, 20, 0},
    {"residual", residual, 20, 2e-6},
    {"add", add, 20, 5e-7},
    {"multiply", multiply, 20, 1e-6},
    {"mean", mean, 10, 1e-7},
    {"conv1d", conv1d, 60, 2e-6},
    {"conv1d_many", conv1d_many, 3, 2e-6},
    {"lti", lti, 64, 2e-6},
    {"s4d", s4d, 48, 4e-6},
    {"s4d_slow", s4d_slow, 2, 1e-5},
    {"hippo", hippo, 80, 2e-6},
    {"legt_slow", legt_slow, 1, 1e-5},
    {"hippo_scaled", hippo_scaled, 40, 5e-7},
    {"linear_wide", linear_wide, 12, 1e-6},
    {"lti_wide", lti_wide, 8, 2e-6},
    {"s4d_wide", s4d_wide, 12, 4e-6},
    {"hippo_wide", hippo_wide, 8, 2e-6},
};

int main(void)
{
    return trial_main("layers", kinds, sizeof(kinds) / sizeof(*kinds));
}
