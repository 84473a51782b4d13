/* SPDX-License-Identifier: Apache-2.0
 * A deep model that holds every kind of layer; see deep.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/ssm/deep.h"
#include "tests/ssm/making.h"

static void linear_tensors(struct making *m, const char *weight, const char *bias, uint32_t out, uint32_t in)
{
    making_tensor(m, 1 / sqrtf((float)in), weight, 2, out, in);
    making_tensor(m, 0.1f, bias, 1, out);
}

/* 3 channels to 12; a residual s4d block; norms; convolutions of both forms. */
static void first_half(struct making *m)
{
    float *log_dt, *var;

    linear_tensors(m, "encoder.weight", "encoder.bias", 12, DEEP_IN);
    making_layers(m, "{'type':'linear','name':'encoder','in':3,'out':12}");
    making_layers(m,
                  "{'type':'residual','layers':[{'type':'layernorm','name':'ln','dim':12},"
                  "{'type':'s4d','name':'s4d','channels':12,'state':10,'discretization':'zoh','input_matrix':true},"
                  "{'type':'activation','fn':'gelu'},{'type':'linear','name':'mix','in':12,'out':24},{'type':'glu'}]}");
    making_tensor(m, 1, "ln.weight", 1, 12u);
    making_tensor(m, 0.1f, "ln.bias", 1, 12u);
    log_dt = making_tensor(m, 1, "s4d.log_dt", 1, 12u);
    for (int i = 0; i < 12; i++)
        log_dt[i] -= 3;
    making_tensor(m, 0.5f, "s4d.log_A_real", 2, 12u, 5u);
    making_tensor(m, 20, "s4d.A_imag", 2, 12u, 5u);
    making_tensor(m, 1, "s4d.B", 3, 12u, 5u, 2u);
    making_tensor(m, 1, "s4d.C", 3, 12u, 5u, 2u);
    making_tensor(m, 1, "s4d.D", 1, 12u);
    linear_tensors(m, "mix.weight", "mix.bias", 24, 12);
    making_layers(m, "{'type':'rmsnorm','name':'rms','dim':12}");
    making_tensor(m, 1, "rms.weight", 1, 12u);
    making_layers(m, "{'type':'conv1d','name':'grouped','in':12,'out':12,'kernel':3,'groups':3,'dilation':5,"
                     "'padding':'causal'}");
    making_tensor(m, 0.5f, "grouped.weight", 3, 12u, 4u, 3u);
    making_tensor(m, 0.1f, "grouped.bias", 1, 12u);
    making_layers(m, "{'type':'residual','layers':[{'type':'conv1d','name':'depthwise','in':12,'out':12,'kernel':4,"
                     "'groups':12,'padding':'causal','bias':false},{'type':'activation','fn':'silu'}]}");
    making_tensor(m, 0.5f, "depthwise.weight", 3, 12u, 1u, 4u);
    making_layers(m, "{'type':'batchnorm','name':'bn','dim':12}");
    making_tensor(m, 1, "bn.weight", 1, 12u);
    making_tensor(m, 0.1f, "bn.bias", 1, 12u);
    making_tensor(m, 0.1f, "bn.running_mean", 1, 12u);
    var = making_tensor(m, 0.2f, "bn.running_var", 1, 12u);
    for (int i = 0; i < 12; i++)
        var[i] += 0.5f;
}

/* Residual blocks of what else keeps a state: s4, s5, the recurrent cells, attention. */
static void middle(struct making *m)
{
    static const char *const cells[] = {"rnn", "gru", "lstm"};
    static const char *const projections[] = {"att.q_proj.weight", "att.k_proj.weight", "att.v_proj.weight",
                                              "att.o_proj.weight"};
    static const uint32_t shapes[][2] = {{12, 12}, {4, 12}, {4, 12}, {12, 12}};
    float *A;

    making_layers(m, "{'type':'residual','layers':[{'type':'s4','name':'s4','channels':12,'state':6,'rank':1,"
                     "'discretization':'bilinear'},{'type':'s5','name':'s5','channels':12,'state':7,'discretization':"
                     "'zoh','conjugate_symmetry':true}]}");
    making_tensor(m, 1, "s4.log_dt", 1, 12u);
    A = making_tensor(m, 1, "s4.A", 3, 12u, 3u, 2u);
    for (int i = 0; i < 36; i++)
        A[2 * i] = -0.5f - fabsf(A[2 * i]);
    making_tensor(m, 1, "s4.B", 3, 12u, 3u, 2u);
    making_tensor(m, 0.2f, "s4.C", 3, 12u, 3u, 2u);
    making_tensor(m, 0.5f, "s4.P", 4, 1u, 12u, 3u, 2u);
    making_tensor(m, 1, "s4.D", 1, 12u);
    A = making_tensor(m, 2, "s5.Lambda", 2, 7u, 2u);
    for (int i = 0; i < 7; i++)
        A[2 * i] = -0.1f - fabsf(A[2 * i]);
    making_tensor(m, 0.3f, "s5.B", 3, 7u, 12u, 2u);
    making_tensor(m, 0.3f, "s5.C", 3, 12u, 7u, 2u);
    making_tensor(m, 1, "s5.D", 1, 12u);
    making_tensor(m, 1, "s5.log_step", 1, 7u);
    for (uint32_t i = 0; i < 3; i++) {
        char name[32];

        making_layers(m, "{'type':'residual','layers':[{'type':'%s','name':'%s','in':12,'hidden':12}]}", cells[i],
                      cells[i]);
        for (int part = 0; part < 4; part++) {
            uint32_t gates = 12 * (i == 0 ? 1 : i + 2);

            snprintf(name, sizeof(name), "%s.%s_%s", cells[i], part < 2 ? "weight" : "bias", part % 2 ? "hh" : "ih");
            making_tensor(m, 0.3f, name, part < 2 ? 2 : 1, gates, 12u);
        }
    }
    making_layers(m, "{'type':'residual','layers':[{'type':'attention','name':'att','dim':12,'heads':3,'kv_heads':1,"
                     "'head_dim':4,'window':5,'sinks':2,'rope_theta':100}]}");
    for (int i = 0; i < 4; i++)
        making_tensor(m, 0.5f, projections[i], 2, shapes[i][0], shapes[i][1]);
}

/* Branches with lti and mean; a product; hippo in both forms; rls beside a head. */
static void second_half(struct making *m)
{
    float *A;

    making_layers(m, "{'type':'add','branches':[[],[{'type':'mean'}],[{'type':'slice','from':2,'to':3},{'type':'lti',"
                     "'name':'lti','in':1,'state':7,'out':12,'dt':0.05,'discretization':'bilinear'}]]}");
    A = making_tensor(m, 0.3f, "lti.A", 2, 7u, 7u);
    for (int i = 0; i < 7; i++)
        A[i * 7 + i] -= 3;
    making_tensor(m, 1, "lti.B", 2, 7u, 1u);
    making_tensor(m, 1, "lti.C", 2, 12u, 7u);
    making_tensor(m, 1, "lti.D", 2, 12u, 1u);
    making_layers(
        m, "{'type':'multiply','branches':[[{'type':'activation','fn':'sigmoid'}],[{'type':'scale','value':0.5}]]}");
    making_layers(m, "{'type':'linear','name':'two','in':12,'out':2}");
    linear_tensors(m, "two.weight", "two.bias", 2, 12);
    making_layers(m, "{'type':'hippo','measure':'legt','channels':2,'order':5,'dt':0.03,'discretization':'zoh'}");
    making_layers(
        m, "{'type':'hippo','measure':'legs','channels':10,'order':2,'discretization':'bilinear','scaled':true}");
    making_layers(m, "{'type':'add','branches':[[{'type':'rls','targets':1,'horizon':2,'forgetting':0.99,"
                     "'regularization':1,'short':3,'long':20},{'type':'linear','name':'left','in':3,'out':4}],"
                     "[{'type':'linear','name':'right','in':20,'out':4}]]}");
    linear_tensors(m, "left.weight", "left.bias", 4, 3);
    linear_tensors(m, "right.weight", "right.bias", 4, 20);
}

struct ssm_model *deep_new(void)
{
    struct making m;
    struct ssm_error err = {""};
    struct ssm_model *model = NULL;

    making_init(&m, 31);
    first_half(&m);
    middle(&m);
    second_half(&m);
    if (making_load(&m, &model, DEEP_IN, DEEP_OUT, &err))
        fail_msg("the deep model: %s", err.text);
    making_fini(&m);
    return model;
}
