/* SPDX-License-Identifier: Apache-2.0
 *
 * What the definitions of s4 and s5 refuse: keys and shapes that do not fit, values that have no float32, and poles
 * outside the unit circle; each message names the layer, and the tensor or the key that is to blame.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/refusing.h"

enum { H = 2, M = 3 }; /* channels and stored modes of the models here */

/* A legal model, to be spoilt in one place. */
struct made {
    struct making model;
    float *log_dt, *A, *B, *C, *P, *D; /* s5: log_step, Lambda, and no P */
};

static struct made *s4_make(const char *keys)
{
    static struct made m;

    making_init(&m.model, 1);
    m.log_dt = making_tensor(&m.model, 0, "s.log_dt", 1, (uint32_t)H);
    m.A = making_tensor(&m.model, 0, "s.A", 3, (uint32_t)H, (uint32_t)M, 2u);
    m.B = making_tensor(&m.model, 1, "s.B", 3, (uint32_t)H, (uint32_t)M, 2u);
    m.C = making_tensor(&m.model, 1, "s.C", 3, (uint32_t)H, (uint32_t)M, 2u);
    m.P = making_tensor(&m.model, 1, "s.P", 4, 2u, (uint32_t)H, (uint32_t)M, 2u);
    m.D = making_tensor(&m.model, 1, "s.D", 1, (uint32_t)H);
    for (int h = 0; h < H; h++)
        m.log_dt[h] = logf(0.1f);
    for (int i = 0; i < H * M; i++) {
        m.A[2 * i] = -0.5f;
        m.A[2 * i + 1] = (float)(1 + i % M);
    }
    making_layers(&m.model, "{'type':'s4','name':'s',%s}", keys);
    return &m;
}

static struct made *s5_make(const char *keys)
{
    static struct made m;

    making_init(&m.model, 1);
    m.log_dt = making_tensor(&m.model, 0, "s.log_step", 1, (uint32_t)M);
    m.A = making_tensor(&m.model, 0, "s.Lambda", 2, (uint32_t)M, 2u);
    m.B = making_tensor(&m.model, 1, "s.B", 3, (uint32_t)M, (uint32_t)H, 2u);
    m.C = making_tensor(&m.model, 1, "s.C", 3, (uint32_t)H, (uint32_t)M, 2u);
    m.D = making_tensor(&m.model, 1, "s.D", 1, (uint32_t)H);
    for (int p = 0; p < M; p++) {
        m.log_dt[p] = logf(0.1f);
        m.A[2 * p] = -0.5f;
        m.A[2 * p + 1] = (float)(1 + p);
    }
    making_layers(&m.model, "{'type':'s5','name':'s',%s}", keys);
    return &m;
}

#define S4_KEYS "'channels':2,'state':6,'rank':2,'discretization':'bilinear'"
#define S5_KEYS "'channels':2,'state':3,'discretization':'zoh','conjugate_symmetry':true"

#define assert_refused(made, ...) refusing_check(&(made)->model, H, H, __VA_ARGS__)

static void assert_loads(struct made *m)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};

    if (making_load(&m->model, &model, H, H, &err))
        fail_msg("refused: %s", err.text);
    ssm_model_free(model);
    making_fini(&m->model);
}

/* ---- keys and shapes --------------------------------------------------------------------------------------------- */

static void s4__wrong_keys__are_refused_and_named(void **state)
{
    (void)state;
    assert_loads(s4_make(S4_KEYS));
    assert_refused(s4_make(S4_KEYS ",'lmax':1"), SSM_CONFIG, "layer 0 (s4 's')", "unknown key 'lmax'", NULL);
    assert_refused(s4_make("'channels':2,'state':5,'rank':2,'discretization':'bilinear'"), SSM_CONFIG, "even", "5",
                   NULL);
    assert_refused(s4_make("'channels':2,'state':0,'rank':2,'discretization':'bilinear'"), SSM_CONFIG, "'state'", NULL);
    assert_refused(s4_make("'channels':3,'state':6,'rank':2,'discretization':'bilinear'"), SSM_CONFIG, "3 channels",
                   NULL);
    assert_refused(s4_make("'channels':2,'state':6,'rank':0,'discretization':'bilinear'"), SSM_CONFIG, "'rank'", NULL);
    assert_refused(s4_make("'channels':2,'state':6,'rank':17,'discretization':'bilinear'"), SSM_CONFIG, "'rank'", "16",
                   NULL);
    assert_refused(s4_make("'channels':2,'state':6,'discretization':'bilinear'"), SSM_CONFIG, "'rank' is missing",
                   NULL);
    assert_refused(s4_make("'channels':2,'state':6,'rank':2"), SSM_CONFIG, "'discretization' is missing", NULL);
    assert_refused(s4_make("'channels':2,'state':6,'rank':2,'discretization':'zoh'"), SSM_CONFIG,
                   "one of bilinear, not \"zoh\"", NULL);
}

static void s5__wrong_keys__are_refused_and_named(void **state)
{
    (void)state;
    assert_loads(s5_make(S5_KEYS));
    assert_refused(s5_make(S5_KEYS ",'blocks':1"), SSM_CONFIG, "layer 0 (s5 's')", "unknown key 'blocks'", NULL);
    assert_refused(s5_make("'channels':2,'state':0,'discretization':'zoh','conjugate_symmetry':true"), SSM_CONFIG,
                   "'state'", NULL);
    assert_refused(s5_make("'channels':1,'state':3,'discretization':'zoh','conjugate_symmetry':true"), SSM_CONFIG,
                   "1 channels", NULL);
    assert_refused(s5_make("'channels':2,'state':3,'discretization':'tustin','conjugate_symmetry':true"), SSM_CONFIG,
                   "zoh, bilinear", NULL);
    assert_refused(s5_make("'channels':2,'state':3,'discretization':'zoh'"), SSM_CONFIG,
                   "'conjugate_symmetry' is missing", NULL);
    assert_refused(s5_make("'channels':2,'state':3,'discretization':'zoh','conjugate_symmetry':1"), SSM_CONFIG,
                   "true or false", NULL);
}

static void tensors__of_another_shape__are_refused_and_named(void **state)
{
    (void)state;
    assert_refused(s4_make("'channels':2,'state':8,'rank':2,'discretization':'bilinear'"), SSM_TENSOR, "'s.A'",
                   "(2, 3, 2)", "(2, 4, 2)", NULL);
    assert_refused(s4_make("'channels':2,'state':6,'rank':1,'discretization':'bilinear'"), SSM_TENSOR, "'s.P'",
                   "(2, 2, 3, 2)", "(1, 2, 3, 2)", NULL);
    assert_refused(s5_make("'channels':2,'state':4,'discretization':'zoh','conjugate_symmetry':true"), SSM_TENSOR,
                   "'s.Lambda'", "(3, 2)", "(4, 2)", NULL);
}

static void tensors__not_finite__are_refused_and_named(void **state)
{
    static const char *const names[] = {"s.log_dt", "s.A", "s.B", "s.C", "s.P", "s.D"};

    (void)state;
    for (int i = 0; i < 6; i++) {
        struct made *m = s4_make(S4_KEYS);

        *(float *[]){m->log_dt, m->A, m->B, m->C, m->P, m->D}[i] = i % 2 ? NAN : INFINITY;
        assert_refused(m, SSM_NONFINITE, "layer 0 (s4 's')", names[i], NULL);
    }
    struct made *m = s5_make(S5_KEYS);

    m->A[3] = NAN;
    assert_refused(m, SSM_NONFINITE, "layer 0 (s5 's')", "s.Lambda", "element 3", NULL);
}

static void coefficients__too_large_for_float32__are_refused(void **state)
{
    struct made *m = s4_make(S4_KEYS);

    (void)state;
    m->C[7] = 3e38f;
    assert_refused(m, SSM_NONFINITE, "channel 1 of 's.C'", "2 C", NULL);
    m = s4_make(S4_KEYS);
    m->log_dt[1] = 800; /* dt itself is no finite number */
    assert_refused(m, SSM_NONFINITE, "channel 1 of 's'", "dt inf", NULL);
    m = s4_make(S4_KEYS);
    m->log_dt[1] = 200; /* but this is: the modes stand still at -1 */
    assert_loads(m);
    m = s5_make(S5_KEYS);
    m->C[0] = 3e38f;
    assert_refused(m, SSM_NONFINITE, "'s.C' is too large", NULL);
    m = s5_make("'channels':2,'state':3,'discretization':'forward','conjugate_symmetry':true");
    m->A[0] = m->A[1] = 0;
    m->log_dt[0] = 89;
    assert_refused(m, SSM_NONFINITE, "'s.B' has no Bbar", "forward", NULL);
}

/* ---- poles ------------------------------------------------------------------------------------------------------- */

static void s5__pole_outside__is_refused_by_name(void **state)
{
    struct made *m = s5_make(S5_KEYS);

    (void)state;
    m->A[4] = 0.001f;
    assert_refused(m, SSM_UNSTABLE, "layer 0 (s5 's')", "mode 2 of 's.Lambda'", "1.0001", "zoh", NULL);
    m = s5_make("'channels':2,'state':3,'discretization':'forward','conjugate_symmetry':true");
    m->A[3] = 9; /* |1 + 0.1 (-0.5 + 9 i)| = 1.3 */
    assert_refused(m, SSM_UNSTABLE, "mode 1 of 's.Lambda'", "forward", NULL);
    m = s5_make(S5_KEYS); /* on the circle */
    m->A[0] = 0;
    assert_loads(m);
}

static void s4__pole_outside__is_refused_by_name(void **state)
{
    struct made *m = s4_make(S4_KEYS);

    (void)state;
    m->A[2 * (M + 1)] = 0.5f; /* channel 1, mode 1, which nothing feeds back */
    for (int r = 0; r < 2; r++)
        memset(m->P + (r * H + 1) * M * 2, 0, M * 2 * sizeof(*m->P));
    assert_refused(m, SSM_UNSTABLE, "layer 0 (s4 's')", "channel 1 of 's.A'", "mode 1", "0.5", NULL);
    m = s4_make(S4_KEYS);
    m->A[2 * (M + 1)] = 20; /* 2 / dt */
    m->A[2 * (M + 1) + 1] = 0;
    m->log_dt[1] = logf(0.1f);
    assert_refused(m, SSM_UNSTABLE, "channel 1 of 's.A'", NULL);
}

/* The low-rank part may hold back a mode that grows by itself; Re A = 0 needs no look. */
static void s4__growing_mode_that_is_held_back__loads(void **state)
{
    struct made *m = s4_make(S4_KEYS);

    (void)state;
    m->A[0] = 0.05f;
    m->P[0] = 2;
    assert_loads(m);
    m = s4_make(S4_KEYS);
    for (int i = 0; i < H * M; i++)
        m->A[2 * i] = 0;
    assert_loads(m);
}

static void s4__growing_mode_of_a_large_state__is_refused(void **state)
{
    static struct made m;

    (void)state;
    making_init(&m.model, 1);
    making_tensor(&m.model, 0, "s.log_dt", 1, (uint32_t)H);
    making_tensor(&m.model, 0, "s.A", 3, (uint32_t)H, 129u, 2u)[2 * 77] = 0.25f;
    making_tensor(&m.model, 1, "s.B", 3, (uint32_t)H, 129u, 2u);
    making_tensor(&m.model, 1, "s.C", 3, (uint32_t)H, 129u, 2u);
    making_tensor(&m.model, 1, "s.P", 4, 1u, (uint32_t)H, 129u, 2u);
    making_tensor(&m.model, 1, "s.D", 1, (uint32_t)H);
    making_layers(&m.model, "{'type':'s4','name':'s','channels':2,'state':258,'rank':1,'discretization':'bilinear'}");
    assert_refused(&m, SSM_LIMIT, "channel 0, mode 77 of 's.A'", "0.25", "256", "258", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(s4__wrong_keys__are_refused_and_named),
        cmocka_unit_test(s5__wrong_keys__are_refused_and_named),
        cmocka_unit_test(tensors__of_another_shape__are_refused_and_named),
        cmocka_unit_test(tensors__not_finite__are_refused_and_named),
        cmocka_unit_test(coefficients__too_large_for_float32__are_refused),
        cmocka_unit_test(s5__pole_outside__is_refused_by_name),
        cmocka_unit_test(s4__pole_outside__is_refused_by_name),
        cmocka_unit_test(s4__growing_mode_that_is_held_back__loads),
        cmocka_unit_test(s4__growing_mode_of_a_large_state__is_refused),
    };

    return cmocka_run_group_tests_name("dplr_definitions", tests, NULL, NULL);
}
