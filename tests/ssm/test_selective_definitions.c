/* SPDX-License-Identifier: Apache-2.0
 *
 * What the definitions of mamba and mamba2 refuse: each message names the layer, the key or the tensor, what was found
 * and what would do.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/refusing.h"

/* dim 4, inner 8, state 3, conv 2, dt_rank 1 */
static const char mamba_keys[] = "'dim':4,'inner':8,'state':3,'conv':2,'dt_rank':1";
/* dim 4, inner 8, 4 heads of 2 channels, 2 groups, state 3, conv 2 */
static const char mamba2_keys[] = "'dim':4,'expand':2,'state':3,'conv':2,'head_dim':2,'groups':2";

static struct making *mamba(const char *keys)
{
    static struct making m;

    making_init(&m, 1);
    making_tensor(&m, 1, "m.in_proj.weight", 2, 16u, 4u);
    making_tensor(&m, 1, "m.conv1d.weight", 3, 8u, 1u, 2u);
    making_tensor(&m, 1, "m.conv1d.bias", 1, 8u);
    making_tensor(&m, 1, "m.x_proj.weight", 2, 7u, 8u);
    making_tensor(&m, 1, "m.dt_proj.weight", 2, 8u, 1u);
    making_tensor(&m, 1, "m.dt_proj.bias", 1, 8u);
    making_tensor(&m, 1, "m.A_log", 2, 8u, 3u);
    making_tensor(&m, 1, "m.D", 1, 8u);
    making_tensor(&m, 1, "m.out_proj.weight", 2, 4u, 8u);
    making_layers(&m, "{'type':'mamba','name':'m',%s}", keys);
    return &m;
}

static struct making *mamba2(const char *keys)
{
    static struct making m;

    making_init(&m, 1);
    making_tensor(&m, 1, "m.in_proj.weight", 2, 32u, 4u);
    making_tensor(&m, 1, "m.conv1d.weight", 3, 20u, 1u, 2u);
    making_tensor(&m, 1, "m.conv1d.bias", 1, 20u);
    making_tensor(&m, 1, "m.dt_bias", 1, 4u);
    making_tensor(&m, 1, "m.A_log", 1, 4u);
    making_tensor(&m, 1, "m.D", 1, 4u);
    making_tensor(&m, 1, "m.norm.weight", 1, 8u);
    making_tensor(&m, 1, "m.out_proj.weight", 2, 4u, 8u);
    making_layers(&m, "{'type':'mamba2','name':'m',%s}", keys);
    return &m;
}

static struct making_tensor *tensor(struct making *m, const char *name)
{
    for (uint32_t i = 0; i < m->tensors; i++)
        if (strcmp(m->tensor[i].name, name) == 0)
            return &m->tensor[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

#define assert_refused(making, ...) refusing_check(making, 4, 4, __VA_ARGS__)

static void assert_loads(struct making *m)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};

    if (making_load(m, &model, 4, 4, &err))
        fail_msg("refused: %s\n  %s", err.text, m->layers);
    ssm_model_free(model);
    making_fini(m);
}

static void selective__legal__loads(void **state)
{
    (void)state;
    assert_loads(mamba(mamba_keys));
    assert_loads(mamba("'dim':4,'state':3,'conv':2,'dt_rank':1"));
    assert_loads(mamba("'dim':4,'expand':2.0,'inner':8,'state':3,'conv':2,'dt_rank':1"));
    assert_loads(mamba2(mamba2_keys));
    assert_loads(mamba2("'dim':4,'state':3,'conv':2,'head_dim':2,'groups':2,'dt_limit':[0,'Infinity']"));
    assert_loads(mamba2("'dim':4,'state':3,'conv':2,'head_dim':2,'groups':2,'dt_limit':[0.5,null]"));
    assert_loads(mamba2("'dim':4,'state':3,'conv':2,'head_dim':2,'groups':2,'dt_limit':[0.5,0.5]"));
}

struct refusal {
    const char *keys, *says;
};

static void mamba__wrong_keys__are_refused(void **state)
{
    static const struct refusal refusals[] = {
        {"'dim':5,'state':3,'conv':2,'dt_rank':1", "wants 5 channels, but 4 come in"},
        {"'state':3,'conv':2,'dt_rank':1", "'dim' is missing"},
        {"'dim':4,'conv':2,'dt_rank':1", "'state' is missing"},
        {"'dim':4,'state':3,'dt_rank':1", "'conv' is missing"},
        {"'dim':4,'state':3,'conv':2", "'dt_rank' is missing"},
        {"'dim':4,'state':0,'conv':2,'dt_rank':1", "'state'"},
        {"'dim':4,'state':3,'conv':0,'dt_rank':1", "'conv'"},
        {"'dim':4,'state':3,'conv':2,'dt_rank':'auto'", "'dt_rank'"},
        {"'dim':4,'inner':0,'state':3,'conv':2,'dt_rank':1", "'inner'"},
        {"'dim':4,'inner':9,'expand':2,'state':3,'conv':2,'dt_rank':1", "\"inner\": 9, but its expand makes 8"},
        {"'dim':4,'expand':1.3,'state':3,'conv':2,'dt_rank':1", "\"expand\": 1.3, which makes 5.2"},
        {"'dim':4,'expand':'2','state':3,'conv':2,'dt_rank':1", "'expand'"},
        {"'dim':4,'state':3,'conv':2,'dt_rank':1,'heads':2", "unknown key 'heads'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++)
        assert_refused(mamba(refusals[i].keys), SSM_CONFIG, "layer 0 (mamba 'm')", refusals[i].says, NULL);
}

static void mamba2__wrong_keys__are_refused(void **state)
{
#define SIZES "'dim':4,'state':3,'conv':2,'head_dim':2,'groups':2"
    static const struct refusal refusals[] = {
        {"'dim':4,'state':3,'conv':2,'groups':2", "'head_dim' is missing"},
        {"'dim':4,'state':3,'conv':2,'head_dim':2", "'groups' is missing"},
        {"'dim':4,'state':3,'conv':2,'head_dim':3,'groups':1", "\"head_dim\": 3, which must divide its 8 inner"},
        {"'dim':4,'state':3,'conv':2,'head_dim':9,'groups':1", "'head_dim'"},
        {"'dim':4,'state':3,'conv':2,'head_dim':2,'groups':3", "\"groups\": 3, which must divide its 4 heads"},
        {SIZES ",'inner':8", "unknown key 'inner'"},
        {SIZES ",'eps':0", "'eps'"},
        {SIZES ",'rms_norm':1", "'rms_norm'"},
        {SIZES ",'dt_limit':0.1", "'dt_limit' must be [least, most]"},
        {SIZES ",'dt_limit':[0.1]", "'dt_limit' must be [least, most]"},
        {SIZES ",'dt_limit':[-0.1,1]", "not [-0.1"},
        {SIZES ",'dt_limit':[0.2,0.1]", "0 <= least <= most"},
        {SIZES ",'dt_limit':[null,0.1]", "'dt_limit'"},
        {SIZES ",'dt_limit':[0,'NaN']", "not [0,\"NaN\"]"},
        {SIZES ",'dt_limit':[0,1e300]", "'dt_limit'"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++)
        assert_refused(mamba2(refusals[i].keys), SSM_CONFIG, "layer 0 (mamba2 'm')", refusals[i].says, NULL);
}

static void selective__tensors_of_other_shapes__are_refused(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 9; i++) {
        struct making *m = mamba(mamba_keys);
        char name[64];

        snprintf(name, sizeof(name), "'%s'", m->tensor[i].name);
        m->tensor[i].dims[0]--;
        assert_refused(m, SSM_TENSOR, "layer 0 (mamba 'm')", name, "has shape", NULL);
    }
    for (uint32_t i = 0; i < 8; i++) {
        struct making *m = mamba2(mamba2_keys);
        char name[64];

        snprintf(name, sizeof(name), "'%s'", m->tensor[i].name);
        m->tensor[i].dims[0]--;
        assert_refused(m, SSM_TENSOR, "layer 0 (mamba2 'm')", name, "has shape", NULL);
    }
}

static void selective__missing_or_surplus_tensors__are_refused(void **state)
{
    struct making *m = mamba(mamba_keys);

    (void)state;
    strcpy(tensor(m, "m.dt_proj.bias")->name, "m.dt_proj.other");
    assert_refused(m, SSM_TENSOR, "'m.dt_proj.bias' is missing", NULL);
    m = mamba(mamba_keys);
    making_tensor(m, 1, "m.x_proj.bias", 1, 7u);
    assert_refused(m, SSM_TENSOR, "'m.x_proj.bias'", "belongs to no layer", NULL);
    m = mamba2("'dim':4,'state':3,'conv':2,'head_dim':2,'groups':2,'rms_norm':false");
    assert_refused(m, SSM_TENSOR, "'m.norm.weight'", "belongs to no layer", NULL);
    m = mamba2(mamba2_keys);
    making_tensor(m, 1, "m.out_proj.bias", 1, 5u);
    assert_refused(m, SSM_TENSOR, "'m.out_proj.bias' has shape (5)", NULL);
}

static void selective__numbers_that_are_not_finite__are_refused(void **state)
{
    struct making *m = mamba(mamba_keys);
    float *bias;

    (void)state;
    tensor(m, "m.A_log")->values[2 * 3 + 1] = 89;
    assert_refused(m, SSM_NONFINITE, "channel 2, state 1 of 'm.A_log' is 89", "too large", NULL);
    m = mamba2(mamba2_keys);
    tensor(m, "m.A_log")->values[3] = 89;
    assert_refused(m, SSM_NONFINITE, "head 3 of 'm'", "exp(89)", NULL);
    m = mamba2(mamba2_keys);
    tensor(m, "m.dt_bias")->values[1] = 3e38f;
    bias = making_tensor(m, 0, "m.in_proj.bias", 1, 32u);
    bias[28 + 1] = 3e38f; /* z, x: 8 each; B, C: 6 each; then dt */
    assert_refused(m, SSM_NONFINITE, "head 1 of 'm'", NULL);
    m = mamba(mamba_keys);
    tensor(m, "m.D")->values[7] = NAN;
    assert_refused(m, SSM_NONFINITE, "'m.D'", "element 7", NULL);
}

/* Sizes whose products pass 32 bits are refused by the size, before anything is allocated. */
static void selective__huge_sizes__are_refused(void **state)
{
    (void)state;
    assert_refused(mamba("'dim':4,'inner':1048576,'state':4096,'conv':1024,'dt_rank':1048576"), SSM_LIMIT,
                   "layer 0 (mamba 'm')", "at most", NULL);
    assert_refused(mamba("'dim':4,'inner':600000,'state':3,'conv':2,'dt_rank':1"), SSM_LIMIT, "at once", NULL);
    assert_refused(mamba2("'dim':4,'expand':1000,'state':4096,'conv':1024,'head_dim':1,'groups':4000"), SSM_LIMIT,
                   "layer 0 (mamba2 'm')", "at most", NULL);
    assert_refused(mamba2("'dim':4,'expand':1000,'state':4096,'conv':1,'head_dim':1,'groups':4000"), SSM_LIMIT,
                   "at most", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(selective__legal__loads),
        cmocka_unit_test(mamba__wrong_keys__are_refused),
        cmocka_unit_test(mamba2__wrong_keys__are_refused),
        cmocka_unit_test(selective__tensors_of_other_shapes__are_refused),
        cmocka_unit_test(selective__missing_or_surplus_tensors__are_refused),
        cmocka_unit_test(selective__numbers_that_are_not_finite__are_refused),
        cmocka_unit_test(selective__huge_sizes__are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
