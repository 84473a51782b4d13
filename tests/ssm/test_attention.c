/* SPDX-License-Identifier: Apache-2.0
 *
 * attention: closed forms, what a bounded cache forgets and keeps, random trials against the float64 reference, and
 * what its definition refuses.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/reference/attention.h"
#include "tests/ssm/refusing.h"
#include "tests/ssm/running.h"
#include "tests/ssm/trial.h"

/* Weights of the query and the key are large enough for scores of a few, and so for weights that differ. */
static struct reference_projection projection_make(struct making *m, const char *name, uint32_t out, uint32_t in,
                                                   bool bias)
{
    char weight[32], added[32];

    snprintf(weight, sizeof(weight), "a.%s.weight", name);
    snprintf(added, sizeof(added), "a.%s.bias", name);
    return (struct reference_projection){.weight = making_tensor(m, 3 / sqrtf((float)in), weight, 2, out, in),
                                         .bias = bias ? making_tensor(m, 1, added, 1, out) : NULL};
}

/* The tensors of layer 'a' and the layer, its shape being the reference's. `biases`: one bit for each projection. */
static void attention_make(struct making *m, struct reference_attention *a, uint32_t biases)
{
    uint32_t dim = (uint32_t)a->dim, queries = (uint32_t)(a->heads * a->head_dim);
    uint32_t shared = (uint32_t)(a->kv_heads * a->head_dim);

    a->q = projection_make(m, "q_proj", queries, dim, biases & 1);
    a->k = projection_make(m, "k_proj", shared, dim, biases & 2);
    a->v = projection_make(m, "v_proj", shared, dim, biases & 4);
    a->o = projection_make(m, "o_proj", dim, queries, biases & 8);
    making_layers(m,
                  "{'type':'attention','name':'a','dim':%zu,'heads':%zu,'kv_heads':%zu,'head_dim':%zu,'window':%zu,"
                  "'sinks':%zu,'rope_theta':%.17g}",
                  a->dim, a->heads, a->kv_heads, a->head_dim, a->window, a->sinks, a->rope_theta);
}

/* ---- trials ------------------------------------------------------------------------------------------------------ */

/* Key heads need not divide heads; windows from one frame to more than there are. */
static void trial_make(struct trial *t, double theta, uint32_t head_dim)
{
    static const uint32_t windows[] = {1, 2, 3, 7, 15, 16, 17, 40, 300};
    static const uint32_t sinks[] = {0, 0, 1, 2, 4, 5, 17};
    struct reference_attention a = {.dim = trial_size(t),
                                    .heads = trial_between(t, 1, 5),
                                    .head_dim = head_dim,
                                    .window = TRIAL_PICK(t, windows),
                                    .sinks = TRIAL_PICK(t, sinks),
                                    .rope_theta = theta};

    a.kv_heads = trial_between(t, 1, (uint32_t)a.heads);
    attention_make(&t->model, &a, making_number(&t->seed, 16));
    trial_input(t, (uint32_t)a.dim, (uint32_t)a.dim, 1);
    assert_int_equal(reference_attention(&a, t->wide, t->frames, t->want), 0);
}

static void attention(struct trial *t)
{
    static const uint32_t head_dims[] = {2, 4, 6, 8, 16, 18, 32, 34, 64};
    static const double thetas[] = {10000, 10000, 500000, 2, 1};
    double theta = TRIAL_PICK(t, thetas);

    trial_make(t, theta, TRIAL_PICK(t, head_dims));
}

static void attention_nope(struct trial *t)
{
    trial_make(t, 0, trial_size(t));
}

/* Caches of several hundred frames, which slide; groups of many query heads; heads of many channels. The long ones come
 * last, where a slow machine leaves them out. */
static void attention_wide(struct trial *t)
{
    static const struct reference_attention shapes[] = {
        {.dim = 8, .heads = 3, .kv_heads = 1, .head_dim = 1000, .window = 20, .sinks = 2, .rope_theta = 10000},
        {.dim = 5, .heads = 2, .kv_heads = 1, .head_dim = 259, .window = 9, .sinks = 0, .rope_theta = 0},
        {.dim = 48, .heads = 4, .kv_heads = 2, .head_dim = 64, .window = 300, .sinks = 4, .rope_theta = 10000},
        {.dim = 20, .heads = 9, .kv_heads = 1, .head_dim = 20, .window = 257, .sinks = 0, .rope_theta = 100},
        {.dim = 64, .heads = 3, .kv_heads = 3, .head_dim = 8, .window = 310, .sinks = 1, .rope_theta = 10000},
        {.dim = 16, .heads = 1, .kv_heads = 1, .head_dim = 160, .window = 101, .sinks = 180, .rope_theta = 0},
    };
    uint32_t i = t->number % (sizeof(shapes) / sizeof(*shapes));
    struct reference_attention a = shapes[i];

    attention_make(&t->model, &a, making_number(&t->seed, 16));
    t->frames = a.window > 100 ? 400 : 70;
    trial_input(t, (uint32_t)a.dim, (uint32_t)a.dim, 1);
    assert_int_equal(reference_attention(&a, t->wide, t->frames, t->want), 0);
}

static const struct trial_kind kinds[] = {
    {"attention", attention, 60, 2e-6},
    {"attention_wide", attention_wide, 6, 3e-6},
    {"attention_nope", attention_nope, 40, 2e-6},
};

/* ---- closed forms and properties --------------------------------------------------------------------------------- */

/* A model of that layer, opened on the best instruction set. */
static void attention_open(struct running *r, struct reference_attention *a)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct making m;

    making_init(&m, 1);
    attention_make(&m, a, 15);
    if (making_load(&m, &model, (uint32_t)a->dim, (uint32_t)a->dim, &err))
        fail_msg("%s", err.text);
    making_fini(&m);
    running_open(r, model, NULL, 1, 2);
    ssm_model_free(model);
}

/* With no query all weights are equal: the mean of what is kept, exactly, being 4 whole numbers. */
static void attention__without_query__is_the_mean_of_sinks_and_window(void **state)
{
    struct making m;
    struct ssm_model *model = NULL;
    struct running r;
    float in[40], out[40];

    (void)state;
    making_init(&m, 1);
    making_tensor(&m, 0, "a.q_proj.weight", 2, 1u, 1u);
    making_tensor(&m, 1, "a.k_proj.weight", 2, 1u, 1u);
    making_tensor(&m, 0, "a.v_proj.weight", 2, 1u, 1u)[0] = 1;
    making_tensor(&m, 0, "a.o_proj.weight", 2, 1u, 1u)[0] = 1;
    making_layers(&m,
                  "{'type':'attention','name':'a','dim':1,'heads':1,'head_dim':1,'window':2,'sinks':2,'rope_theta':0}");
    assert_int_equal(making_load(&m, &model, 1, 1, NULL), SSM_OK);
    running_open(&r, model, NULL, 1, 1);
    for (int t = 0; t < 40; t++)
        in[t] = (float)(t * t % 17);
    running_pass(&r, SSM_STEP, in, 40, out, NULL, 7, 1);
    assert_true(out[0] == in[0] && out[1] == (in[0] + in[1]) / 2);
    for (int t = 3; t < 40; t++)
        assert_true(out[t] == (in[0] + in[1] + in[t - 1] + in[t]) / 4);
    running_close(&r);
    ssm_model_free(model);
    making_fini(&m);
}

/* Two streams, one 13 frames older: what they got before the window, sinks apart, has left no trace, not in one bit;
 * what the sinks got has. */
static void attention__beyond_the_window__forgets_all_but_the_sinks(void **state)
{
    enum { DIM = 5, WINDOW = 6, AGE = 13, FRAMES = 20 };

    (void)state;
    for (uint32_t sinks = 0; sinks < 2; sinks++) {
        struct reference_attention a = {.dim = DIM,
                                        .heads = 2,
                                        .kv_heads = 1,
                                        .head_dim = 4,
                                        .window = WINDOW,
                                        .sinks = sinks,
                                        .rope_theta = 10000};
        float in[AGE + FRAMES][DIM], older[AGE + FRAMES][DIM], younger[FRAMES][DIM];
        struct running r;
        uint32_t seed = 3;

        for (int t = 0; t < AGE + FRAMES; t++)
            for (int i = 0; i < DIM; i++)
                in[t][i] = making_noise(&seed);
        attention_open(&r, &a);
        running_pass(&r, SSM_STEP, in, AGE + FRAMES, older[0], NULL, 8, 1);
        running_pass(&r, SSM_STEP, in[AGE], FRAMES, younger[0], NULL, 3, 1);
        for (int t = 0; t < FRAMES; t++) {
            bool same = memcmp(older[AGE + t], younger[t], sizeof(younger[t])) == 0;

            assert_int_equal(same, sinks == 0 && t >= WINDOW - 1);
        }
        running_close(&r);
    }
}

static void attention__state__is_the_cache_and_nothing_else(void **state)
{
    struct reference_attention a = {
        .dim = 3, .heads = 6, .kv_heads = 2, .head_dim = 8, .window = 29, .sinks = 3, .rope_theta = 10000};
    struct running r;

    (void)state;
    attention_open(&r, &a);
    assert_int_equal(ssm_model_info(r.model)->state_bytes, 2 * (29 + 3) * 2 * 8 * sizeof(float));
    running_close(&r);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

/* 4 channels, 2 heads of 2, whole but for what the test changes; `keys` follow type, name and dim. */
static struct making *small_make(const char *keys)
{
    static struct making m;

    making_init(&m, 1);
    for (int i = 0; i < 4; i++)
        projection_make(&m, (const char *const[]){"q_proj", "k_proj", "v_proj", "o_proj"}[i], 4, 4, false);
    making_layers(&m, "{'type':'attention','name':'a','dim':4,%s}", keys);
    return &m;
}

static const char small[] = "'heads':2,'head_dim':2,'window':3,'sinks':1,'rope_theta':100";

static void attention__wrong_key__is_refused(void **state)
{
    static const struct {
        const char *keys, *word, *other;
    } wrong[] = {
        {"'head_dim':2,'window':3,'sinks':1,'rope_theta':0", "'heads'", "missing"},
        {"'heads':2,'window':3,'sinks':1,'rope_theta':0", "'head_dim'", "missing"},
        {"'heads':2,'head_dim':2,'sinks':1,'rope_theta':0", "'window'", "missing"},
        {"'heads':2,'head_dim':2,'window':3,'rope_theta':0", "'sinks'", "missing"},
        {"'heads':2,'head_dim':2,'window':3,'sinks':1", "'rope_theta'", "missing"},
        {"'heads':0,'head_dim':2,'window':3,'sinks':1,'rope_theta':0", "'heads'", "not 0"},
        {"'heads':2,'head_dim':2,'window':0,'sinks':1,'rope_theta':0", "'window'", "not 0"},
        {"'heads':2,'head_dim':2,'window':3,'sinks':-1,'rope_theta':0", "'sinks'", "not -1"},
        {"'heads':2,'kv_heads':3,'head_dim':2,'window':3,'sinks':1,'rope_theta':0", "'kv_heads'", "from 1 to 2"},
        {"'heads':2,'kv_heads':0,'head_dim':2,'window':3,'sinks':1,'rope_theta':0", "'kv_heads'", "not 0"},
        {"'heads':2,'head_dim':2,'window':3,'sinks':1,'rope_theta':-1", "'rope_theta'", "not -1"},
        {"'heads':2,'head_dim':2,'window':3,'sinks':1,'rope_theta':'high'", "'rope_theta'", "high"},
        {"'heads':2,'head_dim':2,'window':3,'sinks':1,'rope_theta':0.5", "rope_theta", "at least 1"},
        {"'heads':2,'head_dim':3,'window':3,'sinks':1,'rope_theta':100", "head_dim", "even"},
        {"'heads':2,'head_dim':2,'window':3,'sinks':1,'rope_theta':100,'eps':1", "unknown key", "'eps'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        refusing_check(small_make(wrong[i].keys), 4, 4, SSM_CONFIG, "layer 0 (attention 'a')", wrong[i].word,
                       wrong[i].other, NULL);
    refusing_check(small_make(small), 3, 4, SSM_CONFIG, "wants 4 channels", "3", NULL);
}

static void attention__too_large__is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    refusing_check(small_make("'heads':65536,'head_dim':65536,'window':16777216,'sinks':16777216,'rope_theta':0"), 4, 4,
                   SSM_LIMIT, "layer 0 (attention 'a')", "65536 heads of 65536 channels", "1048576", NULL);
    refusing_check(small_make("'heads':64,'head_dim':64,'window':16384,'sinks':4,'rope_theta':0"), 4, 4, SSM_LIMIT,
                   "layer 0 (attention 'a')", "537001984 bytes for each stream", "window (16384)", "sinks (4)", NULL);
    refusing_check(small_make("'heads':1024,'kv_heads':1,'head_dim':8,'window':65536,'sinks':4,'rope_theta':0"), 4, 4,
                   SSM_LIMIT, "layer 0 (attention 'a')", "numbers at once", "heads (1024)", NULL);
}

static void attention__wrong_or_missing_tensor__is_refused_by_name(void **state)
{
    struct making *m = small_make(small);

    (void)state;
    m->tensor[1].dims[0] = 2; /* of kv_heads 1 */
    refusing_check(m, 4, 4, SSM_TENSOR, "'a.k_proj.weight'", "(2, 4)", "(4, 4)", NULL);
    m = small_make(small);
    making_tensor(m, 1, "a.o_proj.bias", 1, 5u);
    refusing_check(m, 4, 4, SSM_TENSOR, "'a.o_proj.bias'", "(5)", "(4)", NULL);
    m = small_make(small);
    strcpy(m->tensor[2].name, "a.v.weight");
    refusing_check(m, 4, 4, SSM_TENSOR, "'a.v_proj.weight' is missing", NULL);
    m = small_make(small);
    making_tensor(m, 1, "a.bias", 1, 4u);
    refusing_check(m, 4, 4, SSM_TENSOR, "'a.bias'", "belongs to no layer", NULL);
    m = small_make(small);
    m->tensor[3].values[7] = NAN;
    refusing_check(m, 4, 4, SSM_NONFINITE, "'a.o_proj.weight'", "element 7", NULL);
    m = small_make(small);
    making_tensor(m, 1, "a.q_proj.bias", 1, 4u)[3] = INFINITY;
    refusing_check(m, 4, 4, SSM_NONFINITE, "'a.q_proj.bias'", "element 3", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention__without_query__is_the_mean_of_sinks_and_window),
        cmocka_unit_test(attention__beyond_the_window__forgets_all_but_the_sinks),
        cmocka_unit_test(attention__state__is_the_cache_and_nothing_else),
        cmocka_unit_test(attention__wrong_key__is_refused),
        cmocka_unit_test(attention__too_large__is_refused_before_memory_is_taken),
        cmocka_unit_test(attention__wrong_or_missing_tensor__is_refused_by_name),
    };
    int plain = cmocka_run_group_tests_name("attention: forms and refusals", tests, NULL, NULL);

    return trial_main("attention", kinds, sizeof(kinds) / sizeof(*kinds)) + plain;
}
