/* SPDX-License-Identifier: Apache-2.0
 *
 * rnn, gru and lstm: random trials against the float64 reference, and what their definition refuses.
 *
 * Weights are uniform in 2/sqrt(H), twice torch's own, so that the state matters and gates leave the middle of the
 * sigmoid; much more would make a chaotic system, whose trajectory no rounding survives. Biases are large, because a
 * bias on the wrong side of gru's reset gate shows in nothing else.
 */
#include <math.h>
#include <string.h>

#include "tests/reference/recurrent.h"
#include "tests/ssm/refusing.h"
#include "tests/ssm/trial.h"

/* The four tensors of layer 'r' for G gates. */
static struct reference_recurrent tensors_make(struct making *m, uint32_t gates, uint32_t in, uint32_t H)
{
    float spread = 2 / sqrtf((float)H);

    return (struct reference_recurrent){.in = in,
                                        .hidden = H,
                                        .weight_ih = making_tensor(m, spread, "r.weight_ih", 2, gates * H, in),
                                        .weight_hh = making_tensor(m, spread, "r.weight_hh", 2, gates * H, H),
                                        .bias_ih = making_tensor(m, 1, "r.bias_ih", 1, gates * H),
                                        .bias_hh = making_tensor(m, 1, "r.bias_hh", 1, gates * H)};
}

/* ---- trials ------------------------------------------------------------------------------------------------------ */

static struct reference_recurrent cell_prepare(struct trial *t, const char *type, uint32_t gates)
{
    uint32_t in = trial_size(t), H = t->number % 8 == 7 ? trial_wide(t) : trial_size(t);
    struct reference_recurrent p = tensors_make(&t->model, gates, in, H);

    making_layers(&t->model, "{'type':'%s','name':'r','in':%u,'hidden':%u}", type, in, H);
    trial_input(t, in, H, t->number % 4 == 3 ? 5 : 1); /* 5: into saturation */
    return p;
}

static void rnn(struct trial *t)
{
    struct reference_recurrent p = cell_prepare(t, "rnn", 1);

    reference_rnn(&p, t->wide, t->frames, t->want);
}

static void gru(struct trial *t)
{
    struct reference_recurrent p = cell_prepare(t, "gru", 3);

    reference_gru(&p, t->wide, t->frames, t->want);
}

static void lstm(struct trial *t)
{
    struct reference_recurrent p = cell_prepare(t, "lstm", 4);

    reference_lstm(&p, t->wide, t->frames, t->want);
}

static const struct trial_kind kinds[] = {
    {"rnn", rnn, 40, 4e-6},
    {"gru", gru, 40, 4e-6},
    {"lstm", lstm, 40, 4e-6},
};

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

/* A gru of 2 channels and 3 hidden ones, whole but for what the test changes. */
static struct making *gru_make(const char *layer)
{
    static struct making m;

    making_init(&m, 1);
    tensors_make(&m, 3, 2, 3);
    making_layers(&m, "%s", layer);
    return &m;
}

static struct making_tensor *tensor_find(struct making *m, const char *name)
{
    for (uint32_t i = 0; i < m->tensors; i++)
        if (strcmp(m->tensor[i].name, name) == 0)
            return &m->tensor[i];
    fail_msg("no tensor '%s'", name);
    return NULL;
}

static void recurrent__wrong_key__is_refused(void **state)
{
    (void)state;
    refusing_check(gru_make("{'type':'gru','name':'r','in':2}"), 2, 3, SSM_CONFIG, "layer 0 (gru 'r')", "'hidden'",
                   "missing", NULL);
    refusing_check(gru_make("{'type':'gru','name':'r','hidden':3}"), 2, 3, SSM_CONFIG, "'in'", "missing", NULL);
    refusing_check(gru_make("{'type':'gru','name':'r','in':2,'hidden':0}"), 2, 3, SSM_CONFIG, "'hidden'", "not 0",
                   NULL);
    refusing_check(gru_make("{'type':'gru','name':'r','in':2,'hidden':3.5}"), 2, 3, SSM_CONFIG, "'hidden'", "3.5",
                   NULL);
    refusing_check(gru_make("{'type':'gru','name':'r','in':2,'hidden':3,'bias':false}"), 2, 3, SSM_CONFIG,
                   "unknown key 'bias'", NULL);
    refusing_check(gru_make("{'type':'gru','name':'r','in':4,'hidden':3}"), 2, 3, SSM_CONFIG, "layer 0 (gru 'r')", "4",
                   "2", NULL);
    refusing_check(gru_make("{'type':'gru','in':2,'hidden':3}"), 2, 3, SSM_CONFIG, "'name' is missing", NULL);
}

static void recurrent__too_large__is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    refusing_check(gru_make("{'type':'lstm','name':'r','in':2,'hidden':1048576}"), 2, 3, SSM_CONFIG, "'hidden'",
                   "16384", "1048576", NULL);
}

/* A file of another cell has another number of gates. */
static void recurrent__another_cells_tensors__are_refused(void **state)
{
    (void)state;
    refusing_check(gru_make("{'type':'lstm','name':'r','in':2,'hidden':3}"), 2, 3, SSM_TENSOR, "'r.weight_ih'",
                   "(9, 2)", "(12, 2)", NULL);
    refusing_check(gru_make("{'type':'rnn','name':'r','in':2,'hidden':3}"), 2, 3, SSM_TENSOR, "'r.weight_ih'", "(9, 2)",
                   "(3, 2)", NULL);
}

static void recurrent__wrong_or_missing_tensor__is_refused_by_name(void **state)
{
    static const char gru_layer[] = "{'type':'gru','name':'r','in':2,'hidden':3}";
    struct making *m = gru_make(gru_layer);

    (void)state;
    tensor_find(m, "r.weight_hh")->dims[1] = 2;
    refusing_check(m, 2, 3, SSM_TENSOR, "'r.weight_hh'", "(9, 2)", "(9, 3)", NULL);
    m = gru_make(gru_layer);
    tensor_find(m, "r.bias_hh")->dims[0] = 8;
    refusing_check(m, 2, 3, SSM_TENSOR, "'r.bias_hh'", "(8)", "(9)", NULL);
    m = gru_make(gru_layer);
    strcpy(tensor_find(m, "r.bias_ih")->name, "r.bias");
    refusing_check(m, 2, 3, SSM_TENSOR, "'r.bias_ih' is missing", NULL);
    m = gru_make(gru_layer);
    making_tensor(m, 1, "r.weight_hr", 2, 3u, 3u);
    refusing_check(m, 2, 3, SSM_TENSOR, "'r.weight_hr'", "belongs to no layer", NULL);
    m = gru_make(gru_layer);
    tensor_find(m, "r.weight_hh")->values[5] = NAN;
    refusing_check(m, 2, 3, SSM_NONFINITE, "'r.weight_hh'", "element 5", NULL);
    m = gru_make(gru_layer);
    tensor_find(m, "r.bias_ih")->values[8] = INFINITY;
    refusing_check(m, 2, 3, SSM_NONFINITE, "'r.bias_ih'", "element 8", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recurrent__wrong_key__is_refused),
        cmocka_unit_test(recurrent__too_large__is_refused_before_memory_is_taken),
        cmocka_unit_test(recurrent__another_cells_tensors__are_refused),
        cmocka_unit_test(recurrent__wrong_or_missing_tensor__is_refused_by_name),
    };
    int refusals = cmocka_run_group_tests_name("recurrent: refusals", tests, NULL, NULL);

    return trial_main("recurrent", kinds, sizeof(kinds) / sizeof(*kinds)) + refusals;
}
