/* SPDX-License-Identifier: Apache-2.0
 *
 * What the layers' definitions refuse: shapes that do not fit, and poles outside the unit circle; each message names
 * the layer, and the tensor or the key that is to blame.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/refusing.h"

static void assert_loads(struct making *m, uint32_t in, uint32_t out)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};

    if (making_load(m, &model, in, out, &err))
        fail_msg("refused: %s", err.text);
    ssm_model_free(model);
    making_fini(m);
}

/* A model of these layers without tensors. */
static struct making *plain(const char *layers)
{
    static struct making m;

    making_init(&m, 1);
    making_layers(&m, "%s", layers);
    return &m;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

static void slice__out_of_range__is_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'slice','from':1,'to':5}"), 4, 4, SSM_CONFIG, "layer 0 (slice)", "'to'", "5", NULL);
    refusing_check(plain("{'type':'slice','from':2,'to':2}"), 4, 4, SSM_CONFIG, "layer 0 (slice)", "'to'", NULL);
    refusing_check(plain("{'type':'slice','from':4,'to':5}"), 4, 1, SSM_CONFIG, "layer 0 (slice)", "'from'", NULL);
    refusing_check(plain("{'type':'slice','from':-1,'to':2}"), 4, 3, SSM_CONFIG, "layer 0 (slice)", "'from'", NULL);
}

static void glu__odd_width__is_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'scale','value':1},{'type':'glu'}"), 5, 2, SSM_CONFIG, "layer 1 (glu)", "5", "even",
                   NULL);
}

static void residual__other_width__is_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'residual','layers':[{'type':'slice','from':0,'to':2}]}"), 3, 3, SSM_CONFIG,
                   "layer 0 (residual)", "3", "2", NULL);
}

static void branches__unequal_or_none__are_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'add','branches':[[],[{'type':'slice','from':0,'to':2}]]}"), 3, 3, SSM_CONFIG,
                   "layer 0 (add)", "branch 1", "2", NULL);
    refusing_check(plain("{'type':'multiply','branches':[[{'type':'slice','from':0,'to':2}],[]]}"), 3, 3, SSM_CONFIG,
                   "layer 0 (multiply)", "branch 1", NULL);
    refusing_check(plain("{'type':'add','branches':[]}"), 3, 3, SSM_CONFIG, "layer 0 (add)", "branches", NULL);
    refusing_check(plain("{'type':'add','branches':{}}"), 3, 3, SSM_CONFIG, "layer 0 (add)", "branches", NULL);
    refusing_check(plain("{'type':'add'}"), 3, 3, SSM_CONFIG, "layer 0 (add)", "branches", NULL);
}

static void nested_layer__wrong__is_named_by_its_path(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'scale','value':1},{'type':'add','branches':[[],[{'type':'residual','layers':["
                         "{'type':'scale','value':2},{'type':'glu'}]}]]}"),
                   3, 3, SSM_CONFIG, "layer 1.1.0.1 (glu)", NULL);
}

static void linear__other_width_than_comes__is_refused(void **state)
{
    struct making m;

    (void)state;
    making_init(&m, 1);
    making_tensor(&m, 1, "l.weight", 2, 2u, 4u);
    making_tensor(&m, 1, "l.bias", 1, 2u);
    making_layers(&m, "{'type':'linear','name':'l','in':4,'out':2}");
    refusing_check(&m, 3, 2, SSM_CONFIG, "layer 0 (linear 'l')", "4", "3", NULL);
}

static void conv1d__groups_that_do_not_divide__are_refused(void **state)
{
    (void)state;
    refusing_check(
        plain("{'type':'conv1d','name':'c','in':6,'out':6,'kernel':3,'groups':4,'padding':'causal','bias':false}"), 6,
        6, SSM_CONFIG, "layer 0 (conv1d 'c')", "4 groups", NULL);
}

static void conv1d__past_too_long__is_refused_before_memory_is_taken(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'conv1d','name':'c','in':1024,'out':1,'kernel':65536,'dilation':65536,"
                         "'padding':'causal','bias':false}"),
                   1024, 1, SSM_LIMIT, "layer 0 (conv1d 'c')", "frames of 1024 channels", NULL);
    refusing_check(plain("{'type':'conv1d','name':'c','in':64,'out':1,'kernel':8192,'padding':'causal','bias':false}"),
                   64, 1, SSM_LIMIT, "layer 0 (conv1d 'c')", "kernel of 8192 over 64 channels", NULL);
}

static void norm__wrong_dim_or_eps__is_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'rmsnorm','name':'n','dim':4}"), 3, 4, SSM_CONFIG, "layer 0 (rmsnorm 'n')", NULL);
    refusing_check(plain("{'type':'rmsnorm','name':'n','dim':3,'eps':-1e-5}"), 3, 3, SSM_CONFIG, "'eps'", NULL);
    /* a silent frame would be 0 / 0; 1e-40 is a denormal float32, 1e-50 is 0 */
    refusing_check(plain("{'type':'rmsnorm','name':'n','dim':3,'eps':0}"), 3, 3, SSM_CONFIG, "'eps'", NULL);
    refusing_check(plain("{'type':'layernorm','name':'n','dim':3,'eps':1e-40}"), 3, 3, SSM_CONFIG, "'eps'", NULL);
    refusing_check(plain("{'type':'rmsnorm','name':'n','dim':3,'eps':1e-50}"), 3, 3, SSM_CONFIG, "'eps'", NULL);
    refusing_check(plain("{'type':'layernorm','name':'n','dim':3,'eps':'small'}"), 3, 3, SSM_CONFIG, "'eps'", NULL);
}

static void batchnorm__variance_not_positive__is_refused(void **state)
{
    static const char *const names[] = {"n.weight", "n.bias", "n.running_mean"};
    struct making m;
    float *var;

    (void)state;
    making_init(&m, 1);
    for (int i = 0; i < 3; i++)
        making_tensor(&m, 1, names[i], 1, 2u);
    var = making_tensor(&m, 1, "n.running_var", 1, 2u);
    var[0] = 1;
    var[1] = -0.5f;
    making_layers(&m, "{'type':'batchnorm','name':'n','dim':2}");
    refusing_check(&m, 2, 2, SSM_TENSOR, "layer 0 (batchnorm 'n')", "running_var[1]", NULL);
}

static void activation__unknown_function__is_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'activation','fn':'mish'}"), 2, 2, SSM_CONFIG, "layer 0 (activation)", "gelu_tanh",
                   "mish", NULL);
}

static void hippo__impossible_keys__are_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'hippo','measure':'fout','channels':1,'order':3,'dt':0.1,'discretization':'zoh'}"), 1,
                   3, SSM_CONFIG, "layer 0 (hippo)", "order 3", NULL);
    refusing_check(
        plain("{'type':'hippo','measure':'legt','channels':1,'order':3,'dt':0.1,'discretization':'zoh','scaled':true}"),
        1, 3, SSM_CONFIG, "layer 0 (hippo)", "scaled", NULL);
    refusing_check(plain("{'type':'hippo','measure':'legt','channels':1,'order':3,'discretization':'zoh'}"), 1, 3,
                   SSM_CONFIG, "layer 0 (hippo)", "'dt'", NULL);
    refusing_check(plain("{'type':'hippo','measure':'legt','channels':1,'order':3,'dt':0,'discretization':'zoh'}"), 1,
                   3, SSM_CONFIG, "layer 0 (hippo)", "'dt'", NULL);
}

static void s4d__odd_state__is_refused(void **state)
{
    (void)state;
    refusing_check(plain("{'type':'s4d','name':'s','channels':2,'state':3,'discretization':'zoh'}"), 2, 2, SSM_CONFIG,
                   "layer 0 (s4d 's')", "even", NULL);
}

/* ---- poles ------------------------------------------------------------------------------------------------------- */

/* lti of n states whose A is `diagonal` with `above` on the first superdiagonal, dt 1. */
static struct making *lti(uint32_t n, float diagonal, float above, const char *how)
{
    static struct making m;
    float *A;

    making_init(&m, 1);
    A = making_tensor(&m, 0, "sys.A", 2, n, n);
    for (uint32_t i = 0; i < n; i++) {
        A[i * n + i] = diagonal;
        if (i + 1 < n)
            A[i * n + i + 1] = above;
    }
    making_tensor(&m, 1, "sys.B", 2, n, 1u);
    making_tensor(&m, 1, "sys.C", 2, 1u, n);
    making_tensor(&m, 1, "sys.D", 2, 1u, 1u);
    making_layers(&m, "{'type':'lti','name':'sys','in':1,'state':%u,'out':1,'dt':1,'discretization':'%s'}", n, how);
    return &m;
}

static void lti__pole_outside__is_refused_by_name(void **state)
{
    (void)state;
    refusing_check(lti(3, 0.001f, 0, "zoh"), 1, 1, SSM_UNSTABLE, "layer 0 (lti 'sys')", "sys.A", "1.001", NULL);
    refusing_check(lti(3, 0.001f, 1, "bilinear"), 1, 1, SSM_UNSTABLE, "layer 0 (lti 'sys')", "sys.A", NULL);
    refusing_check(lti(3, -2.1f, 0, "forward"), 1, 1, SSM_UNSTABLE, "layer 0 (lti 'sys')", "sys.A", "forward", NULL);
    refusing_check(lti(3, 0.5f, 0, "backward"), 1, 1, SSM_UNSTABLE, "layer 0 (lti 'sys')", "sys.A", NULL);
}

/* backward with dt A = 1 has no inverse at all. */
static void lti__no_discrete_form__is_refused(void **state)
{
    (void)state;
    refusing_check(lti(2, 1, 0, "backward"), 1, 1, SSM_UNSTABLE, "layer 0 (lti 'sys')", "backward", NULL);
}

/* On the circle: an integrator, and a long chain of them, are legal. */
static void lti__pole_on_the_circle__loads(void **state)
{
    (void)state;
    assert_loads(lti(1, 0, 0, "zoh"), 1, 1);
    assert_loads(lti(5, 0, 1, "bilinear"), 1, 1);
    assert_loads(lti(64, 0, 1, "forward"), 1, 1);
}

/* One Jordan block: its powers grow like m^(n-1) before the pole shows, which must hide neither a bad pole nor a good
 * one. */
static void lti__long_chain__is_judged_by_its_pole(void **state)
{
    (void)state;
    refusing_check(lti(64, 0.01f, 1, "forward"), 1, 1, SSM_UNSTABLE, "layer 0 (lti 'sys')", "1.01", NULL);
    refusing_check(lti(300, 0.5f, 3, "forward"), 1, 1, SSM_UNSTABLE, "layer 0 (lti 'sys')", "1.5", NULL);
    assert_loads(lti(300, -0.01f, 1, "forward"), 1, 1);
}

static void s4d__pole_outside__is_refused_by_name(void **state)
{
    struct making m;
    float *log_dt, *real, *imag;

    (void)state;
    making_init(&m, 1);
    log_dt = making_tensor(&m, 0, "enc.log_dt", 1, 2u);
    real = making_tensor(&m, 0, "enc.log_A_real", 2, 2u, 3u);
    imag = making_tensor(&m, 0, "enc.A_imag", 2, 2u, 3u);
    making_tensor(&m, 1, "enc.C", 3, 2u, 3u, 2u);
    making_tensor(&m, 1, "enc.D", 1, 2u);
    log_dt[0] = log_dt[1] = logf(0.1f);
    real[5] = -1;
    imag[5] = 9; /* |1 + 0.1 (-0.37 + 9 i)| = 1.32 */
    making_layers(&m, "{'type':'s4d','name':'enc','channels':2,'state':6,'discretization':'forward'}");
    refusing_check(&m, 2, 2, SSM_UNSTABLE, "layer 0 (s4d 'enc')", "enc.log_A_real", "channel 1, mode 2", NULL);
}

/* A pole on the circle, and a step so long that Bbar = dt has no float32. */
static void coefficients__too_large_for_float32__are_refused(void **state)
{
    static const char *const names[] = {"enc.log_dt", "enc.D"};
    struct making m;

    (void)state;
    making_init(&m, 1);
    for (int i = 0; i < 2; i++)
        making_tensor(&m, 0, names[i], 1, 1u)[0] = 89;
    making_tensor(&m, 0, "enc.log_A_real", 2, 1u, 1u)[0] = -100;
    making_tensor(&m, 0, "enc.A_imag", 2, 1u, 1u);
    making_tensor(&m, 1, "enc.C", 3, 1u, 1u, 2u);
    making_layers(&m, "{'type':'s4d','name':'enc','channels':1,'state':2,'discretization':'zoh'}");
    refusing_check(&m, 1, 1, SSM_NONFINITE, "layer 0 (s4d 'enc')", "channel 0, mode 0", NULL);
    making_init(&m, 1);
    making_tensor(&m, 0, "sys.A", 2, 1u, 1u);
    making_tensor(&m, 0, "sys.B", 2, 1u, 1u)[0] = 1e20f;
    making_tensor(&m, 1, "sys.C", 2, 1u, 1u);
    making_tensor(&m, 1, "sys.D", 2, 1u, 1u);
    making_layers(&m, "{'type':'lti','name':'sys','in':1,'state':1,'out':1,'dt':1e20,'discretization':'forward'}");
    refusing_check(&m, 1, 1, SSM_NONFINITE, "layer 0 (lti 'sys')", "1e+20", NULL);
}

static void hippo__forward_with_large_dt__is_refused(void **state)
{
    (void)state;
    refusing_check(
        plain("{'type':'hippo','measure':'legs','channels':1,'order':8,'dt':0.3,'discretization':'forward'}"), 1, 8,
        SSM_UNSTABLE, "layer 0 (hippo)", "dt 0.3", "forward", NULL);
    assert_loads(plain("{'type':'hippo','measure':'legs','channels':1,'order':8,'dt':0.2,'discretization':'forward'}"),
                 1, 8);
    assert_loads(
        plain("{'type':'hippo','measure':'legs','channels':1,'order':8,'discretization':'forward','scaled':true}"), 1,
        8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slice__out_of_range__is_refused),
        cmocka_unit_test(glu__odd_width__is_refused),
        cmocka_unit_test(residual__other_width__is_refused),
        cmocka_unit_test(branches__unequal_or_none__are_refused),
        cmocka_unit_test(nested_layer__wrong__is_named_by_its_path),
        cmocka_unit_test(linear__other_width_than_comes__is_refused),
        cmocka_unit_test(conv1d__groups_that_do_not_divide__are_refused),
        cmocka_unit_test(conv1d__past_too_long__is_refused_before_memory_is_taken),
        cmocka_unit_test(norm__wrong_dim_or_eps__is_refused),
        cmocka_unit_test(batchnorm__variance_not_positive__is_refused),
        cmocka_unit_test(activation__unknown_function__is_refused),
        cmocka_unit_test(hippo__impossible_keys__are_refused),
        cmocka_unit_test(s4d__odd_state__is_refused),
        cmocka_unit_test(lti__pole_outside__is_refused_by_name),
        cmocka_unit_test(lti__no_discrete_form__is_refused),
        cmocka_unit_test(lti__pole_on_the_circle__loads),
        cmocka_unit_test(lti__long_chain__is_judged_by_its_pole),
        cmocka_unit_test(s4d__pole_outside__is_refused_by_name),
        cmocka_unit_test(coefficients__too_large_for_float32__are_refused),
        cmocka_unit_test(hippo__forward_with_large_dt__is_refused),
    };
    return cmocka_run_group_tests_name("definitions", tests, NULL, NULL);
}
