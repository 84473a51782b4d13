/* SPDX-License-Identifier: Apache-2.0
 *
 * Published checkpoints: what their configurations become, which keys are ignored, which refused, and what the tensors
 * decide. That the numbers are right, the golden cases mamba-lm*, mamba2-lm tell.
 */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/config.h"
#include "ssm/huggingface.h"
#include "tests/ssm/model_dir.h"
#include "tests/ssm/running.h"

/* hidden 2, one block, vocabulary 5, inner 4, state 3, conv 2, rank 1 */
#define MAMBA                                                                                                          \
    "\"model_type\":\"mamba\",\"hidden_size\":2,\"num_hidden_layers\":1,\"vocab_size\":5,\"state_size\":3,"            \
    "\"conv_kernel\":2"
#define MIXER     "backbone.layers.0.mixer."
#define EMBEDDING 0
#define CONV_BIAS 6
#define TENSORS   11

static float numbers[64];

static const struct model_tensor mamba_tensors[TENSORS] = {
    {"backbone.embeddings.weight", NULL, 2, {5, 2}, numbers},
    {"backbone.norm_f.weight", NULL, 1, {2}, numbers + 3},
    {"backbone.layers.0.norm.weight", NULL, 1, {2}, numbers + 5},
    {MIXER "in_proj.weight", NULL, 2, {8, 2}, numbers + 2},
    {MIXER "x_proj.weight", NULL, 2, {7, 4}, numbers + 7},
    {MIXER "conv1d.weight", NULL, 3, {4, 1, 2}, numbers + 11},
    {MIXER "conv1d.bias", NULL, 1, {4}, numbers + 13},
    {MIXER "dt_proj.weight", NULL, 2, {4, 1}, numbers + 17},
    {MIXER "dt_proj.bias", NULL, 1, {4}, numbers + 19},
    {MIXER "A_log", NULL, 2, {4, 3}, numbers + 1},
    {MIXER "out_proj.weight", NULL, 2, {2, 4}, numbers + 23},
};
static const struct model_tensor d = {MIXER "D", NULL, 1, {4}, numbers + 29};

/* Loads a directory of that configuration and mamba_tensors, D, and `more`; tensor `change` (-1: none) is `to`. */
static int load(const char *config, int change, const struct model_tensor *to, const struct model_tensor *more,
                struct ssm_model **out, struct ssm_error *err)
{
    struct model_tensor tensors[TENSORS + 2];
    struct model_dir dir;
    size_t n = TENSORS;
    int status;

    for (int i = 0; i < 64; i++)
        numbers[i] = (float)(i * 37 % 64 - 32) / 40;
    memcpy(tensors, mamba_tensors, sizeof(mamba_tensors));
    if (change >= 0)
        tensors[change] = *to;
    tensors[n++] = d;
    if (more)
        tensors[n++] = *more;
    model_dir_init(&dir);
    model_dir_write_text(&dir, "config.json", config);
    model_dir_write_tensors(&dir, "model.safetensors", tensors, n);
    status = ssm_model_load(out, dir.path, NULL, err);
    model_dir_fini(&dir);
    return status;
}

/* The outputs (4, 5) of four tokens. */
static void outputs(const char *config, int change, const struct model_tensor *to, const struct model_tensor *more,
                    float *y)
{
    static const int32_t tokens[] = {0, 4, 2, 2};
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct running r;

    if (load(config, change, to, more, &model, &err))
        fail_msg("%s: %s", config, err.text);
    assert_int_equal(ssm_model_info(model)->input, SSM_TOKENS);
    assert_int_equal(ssm_model_info(model)->vocab, 5);
    assert_int_equal(ssm_model_info(model)->out_channels, 5);
    running_open(&r, model, "ref", 1, 1);
    running_advance(&r, running_acquire(&r), SSM_STEP, tokens, 4, y);
    running_close(&r);
    ssm_model_free(model);
}

static void assert_refused(const char *config, int change, const struct model_tensor *to,
                           const struct model_tensor *more, int status, const char *says)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    int is = load(config, change, to, more, &model, &err);

    if (is != status || !strstr(err.text, says))
        fail_msg("%s\n  -> %d: %s\n  (should be %d and say: %s)", config, is, err.text, status, says);
    assert_null(model);
}

/* ---- what a configuration becomes -------------------------------------------------------------------------------- */

static json_t *translate(const char *text)
{
    struct ssm_error err = {""};
    struct ssm_build b = {.file = "config.json", .err = &err};
    json_t *config = NULL, *out = NULL;

    assert_int_equal(ssm_config_parse(&config, text, strlen(text), "config.json", &err), SSM_OK);
    assert_true(ssm_is_huggingface(config));
    if (ssm_huggingface_translate(&b, config, &out))
        fail_msg("%s: %s", text, err.text);
    json_decref(config);
    return out;
}

/* The translation's `layers` has that many, and the first mixer is `mixer`. */
static void assert_becomes(const char *text, size_t layers, int vocab, const char *mixer)
{
    json_t *out = translate(text), *list = json_object_get(out, "layers"), *want = json_loads(mixer, 0, NULL);
    const json_t *is = json_array_get(json_object_get(json_array_get(list, 1), "layers"), 1);

    assert_non_null(want);
    assert_int_equal(json_array_size(list), layers + 3);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(out, "output"), "channels")), vocab);
    if (!json_equal(is, want)) {
        char *words = json_dumps(is, JSON_SORT_KEYS);

        print_error("%s\n -> %s\nnot %s\n", text, words, mixer);
        free(words);
        fail();
    }
    json_decref(want);
    json_decref(out);
}

static void translate__absent_keys__take_the_defaults_of_transformers(void **state)
{
    (void)state;
    assert_becomes("{\"model_type\":\"mamba\"}", 32, 50280,
                   "{\"type\":\"mamba\",\"name\":\"backbone.layers.0.mixer\",\"dim\":768,\"inner\":1536,\"state\":16,"
                   "\"conv\":4,\"dt_rank\":48}");
    assert_becomes("{\"model_type\":\"mamba2\"}", 64, 32768,
                   "{\"type\":\"mamba2\",\"name\":\"backbone.layers.0.mixer\",\"dim\":4096,\"expand\":2.0,"
                   "\"state\":128,\"conv\":4,\"head_dim\":64,\"groups\":8,\"eps\":1e-5,\"rms_norm\":true,"
                   "\"dt_limit\":[0.0,null]}");
}

static void translate__given_keys__are_taken(void **state)
{
    (void)state;
    assert_becomes("{" MAMBA ",\"expand\":3,\"time_step_rank\":\"auto\"}", 1, 5,
                   "{\"type\":\"mamba\",\"name\":\"backbone.layers.0.mixer\",\"dim\":2,\"inner\":6,\"state\":3,"
                   "\"conv\":2,\"dt_rank\":1}");
    assert_becomes("{" MAMBA ",\"intermediate_size\":7,\"time_step_rank\":9}", 1, 5,
                   "{\"type\":\"mamba\",\"name\":\"backbone.layers.0.mixer\",\"dim\":2,\"inner\":7,\"state\":3,"
                   "\"conv\":2,\"dt_rank\":9}");
    assert_becomes("{\"model_type\":\"mamba2\",\"hidden_size\":4,\"num_heads\":3,\"head_dim\":2,\"expand\":1.5,"
                   "\"n_groups\":3,\"layer_norm_epsilon\":0.5,\"rms_norm\":false,"
                   "\"time_step_limit\":[0.5,{\"__float__\":\"Infinity\"}]}",
                   64, 32768,
                   "{\"type\":\"mamba2\",\"name\":\"backbone.layers.0.mixer\",\"dim\":4,\"expand\":1.5,"
                   "\"state\":128,\"conv\":4,\"head_dim\":2,\"groups\":3,\"eps\":0.5,\"rms_norm\":false,"
                   "\"dt_limit\":[0.5,\"Infinity\"]}");
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static void load__keys_that_change_nothing__are_ignored(void **state)
{
    float plain[20], more[20];

    (void)state;
    outputs("{" MAMBA "}", -1, NULL, NULL, plain);
    outputs("{" MAMBA ",\"architectures\":[\"MambaForCausalLM\"],\"residual_in_fp32\":false,\"time_step_min\":1,"
            "\"use_cache\":true,\"torch_dtype\":\"bfloat16\",\"hidden_act\":\"swish\",\"rms_norm\":true,"
            "\"quantization_config\":null,\"attn_layer_idx\":[],\"bos_token_id\":0}",
            -1, NULL, NULL, more);
    assert_memory_equal(plain, more, sizeof(plain));
}

static void load__keys_that_change_the_result__are_refused(void **state)
{
    static const struct {
        const char *keys;
        int status;
        const char *says;
    } refusals[] = {
        {"\"hidden_act\":\"gelu\"", SSM_CONFIG, "'hidden_act' must be one of silu, swish, not \"gelu\""},
        {"\"rms_norm\":false", SSM_UNSUPPORTED, "'rms_norm'"},
        {"\"quantization_config\":{}", SSM_UNSUPPORTED, "'quantization_config'"},
        {"\"attn_layer_idx\":[3]", SSM_UNSUPPORTED, "'attn_layer_idx'"},
        {"\"layer_norm_epsilon\":0", SSM_CONFIG, "'layer_norm_epsilon'"},
        {"\"layer_norm_epsilon\":NaN", SSM_CONFIG, "'layer_norm_epsilon'"},
        {"\"expand\":-1", SSM_CONFIG, "'expand'"},
        {"\"intermediate_size\":0", SSM_CONFIG, "'intermediate_size'"},
        {"\"time_step_rank\":\"none\"", SSM_CONFIG, "'time_step_rank'"},
        {"\"tie_word_embeddings\":1", SSM_CONFIG, "'tie_word_embeddings'"},
        {"\"use_bias\":true", SSM_TENSOR, "'use_bias' is true, but tensor '" MIXER "in_proj.bias' is missing"},
        {"\"use_conv_bias\":false", SSM_TENSOR,
         "'use_conv_bias' is false, but there is a tensor '" MIXER "conv1d.bias'"},
        {"\"tie_word_embeddings\":false", SSM_TENSOR, "'lm_head.weight' is missing"},
    };
    char config[512];

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
        snprintf(config, sizeof(config), "{" MAMBA ",%s}", refusals[i].keys);
        assert_refused(config, -1, NULL, NULL, refusals[i].status, refusals[i].says);
    }
    assert_refused("{\"model_type\":\"mamba2\",\"hidden_size\":4,\"num_heads\":3,\"head_dim\":2,\"n_groups\":1}", -1,
                   NULL, NULL, SSM_CONFIG, "3 heads of 2 channels are not the 8");
    assert_refused("{" MAMBA ",\"num_hidden_layers\":2000}", -1, NULL, NULL, SSM_CONFIG, "duplicate");
    assert_refused("{\"model_type\":\"mamba\",\"num_hidden_layers\":2000}", -1, NULL, NULL, SSM_CONFIG,
                   "'num_hidden_layers'");
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static void load__either_spelling_of_the_embedding__is_the_same_model(void **state)
{
    struct model_tensor other = mamba_tensors[EMBEDDING];
    float plain[20], respelled[20];

    (void)state;
    other.name = "backbone.embedding.weight";
    outputs("{" MAMBA "}", -1, NULL, NULL, plain);
    outputs("{" MAMBA "}", EMBEDDING, &other, NULL, respelled);
    assert_memory_equal(plain, respelled, sizeof(plain));
    other.name = "backbone.tokens.weight";
    assert_refused("{" MAMBA "}", EMBEDDING, &other, NULL, SSM_TENSOR, "'backbone.embeddings.weight'");
}

static void load__tied__does_not_read_the_head(void **state)
{
    struct model_tensor head = mamba_tensors[EMBEDDING], odd = {"lm_head.weight", "I64", 1, {1}, NULL};
    float tied[20], same[20], untied[20], apart[20];

    (void)state;
    head.name = "lm_head.weight";
    outputs("{" MAMBA "}", -1, NULL, NULL, tied);
    outputs("{" MAMBA "}", -1, NULL, &odd, same);
    assert_memory_equal(tied, same, sizeof(tied));
    outputs("{" MAMBA ",\"tie_word_embeddings\":false}", -1, NULL, &head, untied);
    assert_memory_equal(tied, untied, sizeof(tied));
    head.data = numbers + 20;
    outputs("{" MAMBA "}", -1, NULL, &head, same);
    assert_memory_equal(tied, same, sizeof(tied));
    outputs("{" MAMBA ",\"tie_word_embeddings\":false}", -1, NULL, &head, apart);
    assert_memory_not_equal(tied, apart, sizeof(tied));
}

static void load__surplus_or_odd_tensors__are_refused(void **state)
{
    struct model_tensor more = {"backbone.layers.1.norm.weight", NULL, 1, {2}, NULL};
    struct model_tensor conv = mamba_tensors[CONV_BIAS];

    (void)state;
    assert_refused("{" MAMBA "}", -1, NULL, &more, SSM_TENSOR, "'backbone.layers.1.norm.weight'");
    conv.dims[0] = 5;
    assert_refused("{" MAMBA "}", CONV_BIAS, &conv, NULL, SSM_TENSOR, "'" MIXER "conv1d.bias' has shape (5)");
    assert_refused("{\"model_type\":\"mamba\",\"hidden_size\":2,\"num_hidden_layers\":1,\"vocab_size\":6}", -1, NULL,
                   NULL, SSM_TENSOR, "'backbone.embeddings.weight' has shape (5, 2)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(translate__absent_keys__take_the_defaults_of_transformers),
        cmocka_unit_test(translate__given_keys__are_taken),
        cmocka_unit_test(load__keys_that_change_nothing__are_ignored),
        cmocka_unit_test(load__keys_that_change_the_result__are_refused),
        cmocka_unit_test(load__either_spelling_of_the_embedding__is_the_same_model),
        cmocka_unit_test(load__tied__does_not_read_the_head),
        cmocka_unit_test(load__surplus_or_odd_tensors__are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
