/* SPDX-License-Identifier: Apache-2.0
 *
 * Configurations: what is legal loads, and every refusal names the file, the layer and the key or tensor.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/config.h"
#include "ssm/model.h"
#include "tests/ssm/model_dir.h"

#define HEAD                 "\"model_type\":\"ssmd\",\"format_version\":1,"
#define IN                   "\"input\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":100},"
#define OUT                  "\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":100},"
#define LAYERS               "\"layers\":[{\"type\":\"scale\",\"value\":2}]"
#define TOKENS               "\"input\":{\"kind\":\"tokens\",\"vocab\":5},"
#define SIGNAL_MODEL(layers) "{" HEAD IN OUT "\"layers\":[" layers "]}"

static const float WEIGHT[8] = {1, 2, 3, 4, 5, 6, 7, 8};

/* Builds from text without tensors. */
static int build(const char *text, struct ssm_model **out, struct ssm_error *err)
{
    json_t *config = NULL;
    *out = NULL;
    err->text[0] = '\0';
    int rc = ssm_config_parse(&config, text, strlen(text), "m/config.json", err);
    if (!rc)
        rc = ssm_model_build(out, config, NULL, "m/config.json", 0, err);
    json_decref(config);
    return rc;
}

static void check_refusal(const char *text, int status, const char *says)
{
    struct ssm_model *model;
    struct ssm_error err;
    int rc = build(text, &model, &err);
    if (rc != status || !strstr(err.text, says) || !strstr(err.text, "m/config.json"))
        print_error("%s\n -> %d: %s (should be %d and say: %s)\n", text, rc, err.text, status, says);
    assert_int_equal(rc, status);
    assert_null(model);
    assert_non_null(strstr(err.text, says));
    assert_non_null(strstr(err.text, "m/config.json"));
}

struct refusal {
    const char *text;
    int status;
    const char *says;
};

static void check_refusals(const struct refusal *refusals, size_t count)
{
    for (size_t i = 0; i < count; i++)
        check_refusal(refusals[i].text, refusals[i].status, refusals[i].says);
}

#define CHECK_REFUSALS(table) check_refusals((table), sizeof(table) / sizeof((table)[0]))

/* ---- the top ----------------------------------------------------------------------------------------------------- */

static void build__legal_config__fills_info(void **state)
{
    (void)state;
    struct ssm_model *model;
    struct ssm_error err;
    const char *text =
        "{" HEAD "\"name\":\"twice\"," IN
        "\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":100.0,\"labels\":[\"x\"]}," LAYERS "}";
    assert_int_equal(build(text, &model, &err), SSM_OK);
    const struct ssm_model_info *info = ssm_model_info(model);
    assert_string_equal(info->name, "twice");
    assert_int_equal(info->input, SSM_SIGNAL);
    assert_int_equal(info->in_channels, 1);
    assert_int_equal(info->out_channels, 1);
    assert_true(info->in_rate == 100 && info->out_rate == 100);
    assert_int_equal(info->ratio_num, 1);
    assert_int_equal(info->ratio_den, 1);
    assert_int_equal(info->hop, 1);
    assert_int_equal(info->lookahead, 0);
    assert_int_equal(info->layers, 1);
    assert_int_equal(ssm_out_frames_max(model, 77), 77);
    assert_ptr_equal(ssm_model_ref(model), model);
    ssm_model_free(model);
    assert_string_equal(ssm_model_info(model)->name, "twice");
    ssm_model_free(model);
}

static const struct refusal TOP[] = {
    {"", SSM_CONFIG, "not JSON"},
    {"[]", SSM_CONFIG, "not a JSON object"},
    {"{\"model_type\":\"ssmd\",\"model_type\":\"ssmd\"}", SSM_CONFIG, "duplicate"},
    {"{}", SSM_CONFIG, "'model_type' must be \"ssmd\", \"mamba\" or \"mamba2\", not nothing"},
    {"{\"model_type\":\"gpt2\"}", SSM_CONFIG, "\"mamba2\", not \"gpt2\""},
    {"{\"model_type\":\"ssmd\"," IN OUT LAYERS "}", SSM_CONFIG, "'format_version'"},
    {"{\"model_type\":\"ssmd\",\"format_version\":\"1\"," IN OUT LAYERS "}", SSM_CONFIG, "'format_version'"},
    {"{\"model_type\":\"ssmd\",\"format_version\":0," IN OUT LAYERS "}", SSM_CONFIG, "'format_version'"},
    {"{\"model_type\":\"ssmd\",\"format_version\":2," IN OUT LAYERS "}", SSM_UNSUPPORTED, "format_version 2"},
    {"{" HEAD "\"colour\":1," IN OUT LAYERS "}", SSM_CONFIG, "unknown key 'colour'"},
    {"{" HEAD "\"name\":7," IN OUT LAYERS "}", SSM_CONFIG, "'name'"},
    {"{" HEAD "\"name\":\"\"," IN OUT LAYERS "}", SSM_CONFIG, "'name'"},
    {"{" HEAD IN OUT "\"layers\":{}}", SSM_CONFIG, "'layers'"},
    {"{" HEAD IN OUT "\"name\":\"x\"}", SSM_CONFIG, "'layers'"},
};

static void build__wrong_top__is_refused_and_named(void **state)
{
    (void)state;
    CHECK_REFUSALS(TOP);
}

static const struct refusal PORTS[] = {
    {"{" HEAD OUT LAYERS "}", SSM_CONFIG, "'input' is missing"},
    {"{" HEAD "\"input\":1," OUT LAYERS "}", SSM_CONFIG, "'input' is missing or not an object"},
    {"{" HEAD "\"input\":{}," OUT LAYERS "}", SSM_CONFIG, "'input': key 'kind' is missing"},
    {"{" HEAD "\"input\":{\"kind\":\"video\"}," OUT LAYERS "}", SSM_CONFIG, "one of signal, tokens, not \"video\""},
    {"{" HEAD "\"input\":{\"kind\":\"signal\",\"channels\":1}," OUT LAYERS "}", SSM_CONFIG, "'sample_rate' is missing"},
    {"{" HEAD "\"input\":{\"kind\":\"signal\",\"sample_rate\":1}," OUT LAYERS "}", SSM_CONFIG, "'channels' is missing"},
    {"{" HEAD "\"input\":{\"kind\":\"signal\",\"channels\":0,\"sample_rate\":1}," OUT LAYERS "}", SSM_CONFIG,
     "'channels'"},
    {"{" HEAD "\"input\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":0}," OUT LAYERS "}", SSM_CONFIG,
     "'sample_rate'"},
    {"{" HEAD "\"input\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":NaN}," OUT LAYERS "}", SSM_CONFIG,
     "not \"NaN\""},
    {"{" HEAD "\"input\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":Infinity}," OUT LAYERS "}", SSM_CONFIG,
     "not \"Infinity\""},
    {"{" HEAD "\"input\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":1,\"vocab\":3}," OUT LAYERS "}",
     SSM_CONFIG, "'input': unknown key 'vocab'"},
    {"{" HEAD "\"input\":{\"kind\":\"tokens\"}," OUT LAYERS "}", SSM_CONFIG, "'vocab' is missing"},
    {"{" HEAD "\"input\":{\"kind\":\"tokens\",\"vocab\":3,\"sample_rate\":1}," OUT LAYERS "}", SSM_CONFIG,
     "'input': unknown key 'sample_rate'"},
    {"{" HEAD IN LAYERS "}", SSM_CONFIG, "'output' is missing"},
    {"{" HEAD IN "\"output\":{\"kind\":\"tokens\",\"channels\":1}," LAYERS "}", SSM_CONFIG, "'output': key 'kind'"},
    {"{" HEAD IN "\"output\":{\"kind\":\"signal\",\"channels\":2,\"sample_rate\":100}," LAYERS "}", SSM_CONFIG,
     "'channels' is 2, but the layers end with 1"},
    {"{" HEAD IN "\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":50}," LAYERS "}", SSM_CONFIG,
     "'sample_rate' is 50, but the layers make 100"},
    {"{" HEAD IN "\"output\":{\"kind\":\"signal\",\"channels\":1}," LAYERS "}", SSM_CONFIG, "'sample_rate' is missing"},
    {"{" HEAD IN "\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":100,\"unit\":1}," LAYERS "}",
     SSM_CONFIG, "'output': unknown key 'unit'"},
    {"{" HEAD IN "\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":100,\"labels\":[]}," LAYERS "}",
     SSM_CONFIG, "'labels' must be a list of 1 strings"},
    {"{" HEAD IN "\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":100,\"labels\":[1]}," LAYERS "}",
     SSM_CONFIG, "'labels'"},
};

static void build__wrong_input_or_output__is_refused_and_named(void **state)
{
    (void)state;
    CHECK_REFUSALS(PORTS);
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static const struct refusal LAYER[] = {
    {SIGNAL_MODEL("3"), SSM_CONFIG, "layer 0 (no type): must be an object"},
    {SIGNAL_MODEL("{}"), SSM_CONFIG, "layer 0 (no type): key 'type' is missing"},
    {SIGNAL_MODEL("{\"type\":\"warp\"}"), SSM_UNSUPPORTED, "layer 0 (warp): this version has no layer type 'warp'"},
    {SIGNAL_MODEL("{\"type\":\"mean\"},{\"type\":\"scale\",\"value\":1,\"vlaue\":2}"), SSM_CONFIG,
     "layer 1 (scale): unknown key 'vlaue'"},
    {SIGNAL_MODEL("{\"type\":\"scale\",\"name\":\"loud\"}"), SSM_CONFIG,
     "layer 0 (scale 'loud'): key 'value' is missing"},
    {SIGNAL_MODEL("{\"type\":\"scale\",\"value\":\"1\"}"), SSM_CONFIG, "key 'value' must be a number"},
    {SIGNAL_MODEL("{\"type\":\"scale\",\"value\":NaN}"), SSM_CONFIG, "not \"NaN\""},
    {SIGNAL_MODEL("{\"type\":\"mean\",\"name\":\"a\"},{\"type\":\"mean\",\"name\":\"a\"}"), SSM_CONFIG,
     "the name 'a' is already another layer's"},
    {SIGNAL_MODEL(
         "{\"type\":\"residual\",\"layers\":[{\"type\":\"mean\",\"name\":\"a\"}]},{\"type\":\"mean\",\"name\":\"a\"}"),
     SSM_CONFIG, "layer 1 (mean): the name 'a'"},
    {SIGNAL_MODEL("{\"type\":\"mean\",\"name\":\"\"}"), SSM_CONFIG, "'name'"},
    {SIGNAL_MODEL("{\"type\":\"activation\",\"fn\":\"swish\"}"), SSM_CONFIG, "one of relu, gelu"},
    {SIGNAL_MODEL("{\"type\":\"slice\",\"from\":0,\"to\":2}"), SSM_CONFIG, "layer 0 (slice)"},
    {SIGNAL_MODEL("{\"type\":\"glu\"}"), SSM_CONFIG, "layer 0 (glu)"},
    {SIGNAL_MODEL("{\"type\":\"linear\",\"name\":\"a\",\"in\":2,\"out\":1}"), SSM_CONFIG,
     "layer 0 (linear 'a'): wants 2 channels, but 1 come in"},
    {SIGNAL_MODEL("{\"type\":\"linear\",\"name\":\"a\",\"in\":1,\"out\":1}"), SSM_TENSOR,
     "tensor 'a.weight' is missing"},
    {SIGNAL_MODEL("{\"type\":\"linear\",\"in\":1,\"out\":1}"), SSM_CONFIG, "layer 0 (linear): key 'name' is missing"},
    {SIGNAL_MODEL("{\"type\":\"linear\",\"name\":\"a\",\"in\":1,\"out\":1.0}"), SSM_CONFIG,
     "'out' must be a whole number"},
    {SIGNAL_MODEL("{\"type\":\"linear\",\"name\":\"a\",\"in\":1,\"out\":1,\"bias\":0}"), SSM_CONFIG,
     "'bias' must be true or false"},
    {SIGNAL_MODEL("{\"type\":\"residual\"}"), SSM_CONFIG, "layer 0 (residual): its layers must be a list"},
    {SIGNAL_MODEL("{\"type\":\"residual\",\"layers\":[{\"type\":\"mean\"},{\"type\":\"warp\"}]}"), SSM_UNSUPPORTED,
     "layer 0.1 (warp)"},
    {SIGNAL_MODEL("{\"type\":\"mean\"},{\"type\":\"add\",\"branches\":[[],[{\"type\":\"mean\"},{\"type\":\"warp\"}]]}"),
     SSM_UNSUPPORTED, "layer 1.1.1 (warp)"},
    {SIGNAL_MODEL("{\"type\":\"embedding\",\"name\":\"e\",\"vocab\":3,\"dim\":1}"), SSM_CONFIG, "input is tokens"},
    {"{" HEAD TOKENS OUT LAYERS "}", SSM_CONFIG,
     "layer 0 (scale): a model whose input is tokens begins with an embedding"},
    {"{" HEAD TOKENS OUT "\"layers\":[]}", SSM_CONFIG, "begins with an embedding"},
    {"{" HEAD TOKENS OUT "\"layers\":[{\"type\":\"embedding\",\"name\":\"e\",\"vocab\":6,\"dim\":1}]}", SSM_CONFIG,
     "layer 0 (embedding 'e'): key 'vocab' must be 5"},
};

static void build__wrong_layer__is_refused_and_named(void **state)
{
    (void)state;
    CHECK_REFUSALS(LAYER);
}

static void build__branches_of_other_widths__are_refused(void **state)
{
    (void)state;
    check_refusal(
        SIGNAL_MODEL("{\"type\":\"hippo\",\"measure\":\"legt\",\"channels\":1,\"order\":4,\"dt\":0.1,"
                     "\"discretization\":\"bilinear\"},{\"type\":\"add\",\"branches\":[[],[{\"type\":\"slice\","
                     "\"from\":0,\"to\":2}]]}"),
        SSM_CONFIG, "layer 1 (add)");
}

/* `depth` residuals inside one another. */
static char *nested(unsigned depth)
{
    char *text = malloc(512 + depth * 64);
    assert_non_null(text);
    strcpy(text, "{" HEAD IN OUT "\"layers\":[");
    for (unsigned i = 0; i < depth; i++)
        strcat(text, "{\"type\":\"residual\",\"layers\":[");
    for (unsigned i = 0; i < depth; i++)
        strcat(text, "]}");
    return strcat(text, "]}");
}

static void build__nesting__is_bounded(void **state)
{
    (void)state;
    struct ssm_model *model;
    struct ssm_error err;
    char *text = nested(60);
    assert_int_equal(build(text, &model, &err), SSM_OK);
    assert_int_equal(ssm_model_info(model)->layers, 60);
    ssm_model_free(model);
    free(text);
    text = nested(500);
    check_refusal(text, SSM_LIMIT, "nested deeper");
    free(text);
}

static void build__number_of_layers__is_bounded(void **state)
{
    (void)state;
    char *text = malloc(64 * 5000);
    assert_non_null(text);
    size_t n = (size_t)sprintf(text, "{" HEAD IN OUT "\"layers\":[");
    for (int i = 0; i < 5000; i++)
        n += (size_t)sprintf(text + n, "%s{\"type\":\"mean\"}", i ? "," : "");
    strcpy(text + n, "]}");
    check_refusal(text, SSM_LIMIT, "layers");
    free(text);
}

static void build__states__are_aligned_and_do_not_overlap(void **state)
{
    (void)state;
    struct ssm_model *model;
    struct ssm_error err;
    const char *text = SIGNAL_MODEL("{\"type\":\"mean\"},{\"type\":\"residual\",\"layers\":[{\"type\":\"mean\"}]},"
                                    "{\"type\":\"scale\",\"value\":1},{\"type\":\"mean\"}");
    assert_int_equal(build(text, &model, &err), SSM_OK);
    const struct ssm_layer *l = model->graph.layers;
    const struct ssm_layer *with_state[] = {&l[0], &l[1].branch[0].layers[0], &l[3]};
    size_t end = 0;
    for (size_t i = 0; i < 3; i++) {
        assert_true(with_state[i]->state_bytes > 0);
        assert_int_equal(with_state[i]->state_offset % 64, 0);
        assert_true(with_state[i]->state_offset >= end);
        end = with_state[i]->state_offset + with_state[i]->state_bytes;
    }
    assert_true(ssm_model_info(model)->state_bytes >= end);
    assert_int_equal(l[2].state_bytes, 0);
    ssm_model_free(model);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void parse__words_of_python__are_strings_where_a_value_stands(void **state)
{
    (void)state;
    json_t *json = NULL;
    const char *text = "{\"a\":[0,Infinity],\"b\":-Infinity,\"c\":NaN ,\"d\":\"NaN, Infinity] \\\" NaN}\",\"e\":[NaN]}";
    assert_int_equal(ssm_config_parse(&json, text, strlen(text), "f", NULL), SSM_OK);
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "a"), 1)), "Infinity");
    assert_string_equal(json_string_value(json_object_get(json, "b")), "-Infinity");
    assert_string_equal(json_string_value(json_object_get(json, "c")), "NaN");
    assert_string_equal(json_string_value(json_object_get(json, "d")), "NaN, Infinity] \" NaN}");
    assert_string_equal(json_string_value(json_array_get(json_object_get(json, "e"), 0)), "NaN");
    json_decref(json);
    const char *const bad[] = {"{NaN:1}",           "{\"a\":Inf}", "{\"a\":xNaN}", "{\"a\":NaNs}",
                               "{\"a\":+Infinity}", "{\"a\":NaN",  "NaN"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(ssm_config_parse(&json, bad[i], strlen(bad[i]), "f", NULL), SSM_CONFIG);
        assert_null(json);
    }
}

static void parse__every_truncation__is_refused(void **state)
{
    (void)state;
    const char *text = SIGNAL_MODEL("{\"type\":\"scale\",\"value\":2,\"name\":\"\\u00e9\"},{\"type\":\"mean\"}");
    for (size_t n = 0; n < strlen(text); n++) {
        char *copy = malloc(n ? n : 1);
        json_t *json;
        assert_non_null(copy);
        memcpy(copy, text, n);
        assert_int_equal(ssm_config_parse(&json, copy, n, "f", NULL), SSM_CONFIG);
        free(copy);
    }
}

static void build__every_flipped_byte__is_refused_or_valid(void **state)
{
    (void)state;
    char text[] = SIGNAL_MODEL("{\"type\":\"residual\",\"name\":\"r\",\"layers\":[{\"type\":\"mean\"},"
                               "{\"type\":\"activation\",\"fn\":\"gelu\"}]},{\"type\":\"scale\",\"value\":2}");
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        char was = text[i];
        for (unsigned flip = 1; flip < 256; flip += 3) {
            struct ssm_model *model;
            struct ssm_error err;
            text[i] = (char)(was ^ (char)flip);
            if (build(text, &model, &err) == SSM_OK)
                ssm_model_free(model);
        }
        text[i] = was;
    }
}

static void error__control_characters__do_not_reach_the_message(void **state)
{
    (void)state;
    struct ssm_model *model;
    struct ssm_error err;
    assert_int_equal(build(SIGNAL_MODEL("{\"type\":\"\\u001b[2J\\n\"}"), &model, &err), SSM_UNSUPPORTED);
    for (const char *c = err.text; *c; c++)
        assert_true((unsigned char)*c >= 0x20);
}

/* ---- directories ------------------------------------------------------------------------------------------------- */

#define LINEAR                                                                                                         \
    "{" HEAD "\"name\":\"lin\",\"input\":{\"kind\":\"signal\",\"channels\":2,\"sample_rate\":100},"                    \
    "\"output\":{\"kind\":\"signal\",\"channels\":3,\"sample_rate\":100},"                                             \
    "\"layers\":[{\"type\":\"linear\",\"name\":\"a\",\"in\":2,\"out\":3}]}"

static void check_directory(const struct model_tensor *tensors, size_t count, const struct ssm_model_hint *hint,
                            int status, const char *says)
{
    struct model_dir dir;
    struct ssm_model *model = NULL;
    struct ssm_error err = {0};
    model_dir_init(&dir);
    model_dir_write_text(&dir, "config.json", LINEAR);
    model_dir_write_tensors(&dir, "model.safetensors", tensors, count);
    int rc = ssm_model_load(&model, dir.path, hint, &err);
    if (rc != status || !strstr(err.text, says) || (rc && !strstr(err.text, dir.path)))
        print_error("%d: %s (should be %d and say: %s)\n", rc, err.text, status, says);
    assert_int_equal(rc, status);
    assert_non_null(strstr(err.text, says));
    assert_true(!rc || strstr(err.text, dir.path));
    assert_int_equal(rc == SSM_OK, model != NULL);
    ssm_model_free(model);
    model_dir_fini(&dir);
}

static void load__tensors_of_every_width__are_taken(void **state)
{
    (void)state;
    const uint16_t half[6] = {0};
    check_directory((struct model_tensor[]){{"a.weight", "F32", 2, {3, 2}, WEIGHT}, {"a.bias", "F16", 1, {3}, half}}, 2,
                    NULL, SSM_OK, "");
    check_directory((struct model_tensor[]){{"a.weight", "BF16", 2, {3, 2}, half}, {"a.bias", "F32", 1, {3}, WEIGHT}},
                    2, NULL, SSM_OK, "");
}

static void load__wrong_tensors__are_refused_and_named(void **state)
{
    (void)state;
    const float bad[6] = {0, 0, 0, 0, NAN, 0}, infinite[3] = {0, -INFINITY, 0};
    const struct model_tensor weight = {"a.weight", "F32", 2, {3, 2}, WEIGHT}, bias = {"a.bias", "F32", 1, {3}, WEIGHT};
    check_directory(&weight, 1, NULL, SSM_TENSOR, "layer 0 (linear 'a'): tensor 'a.bias' is missing");
    check_directory((struct model_tensor[]){weight, bias, {"b.bias", "F32", 1, {3}, WEIGHT}}, 3, NULL, SSM_TENSOR,
                    "tensor 'b.bias' of ");
    check_directory((struct model_tensor[]){{"a.weight", "F32", 2, {2, 3}, WEIGHT}, bias}, 2, NULL, SSM_TENSOR,
                    "tensor 'a.weight' has shape (2, 3) in ");
    check_directory((struct model_tensor[]){{"a.weight", "F32", 2, {2, 3}, WEIGHT}, bias}, 2, NULL, SSM_TENSOR,
                    "the layer needs (3, 2)");
    check_directory((struct model_tensor[]){{"a.weight", "F32", 1, {6}, WEIGHT}, bias}, 2, NULL, SSM_TENSOR,
                    "shape (6)");
    check_directory((struct model_tensor[]){{"a.weight", "I64", 2, {3, 2}, NULL}, bias}, 2, NULL, SSM_UNSUPPORTED,
                    "tensor 'a.weight' is I64");
    check_directory((struct model_tensor[]){{"a.weight", "F32", 2, {3, 2}, bad}, bias}, 2, NULL, SSM_NONFINITE,
                    "tensor 'a.weight' has a NaN or an infinity at element 4");
    check_directory((struct model_tensor[]){weight, {"a.bias", "F32", 1, {3}, infinite}}, 2, NULL, SSM_NONFINITE,
                    "tensor 'a.bias' has a NaN or an infinity at element 1");
}

static void load__hint_that_contradicts__is_refused_with_what_to_use(void **state)
{
    (void)state;
    const struct model_tensor good[] = {{"a.weight", "F32", 2, {3, 2}, WEIGHT}, {"a.bias", "F32", 1, {3}, WEIGHT}};
    check_directory(good, 2, &(struct ssm_model_hint){100, 2}, SSM_OK, "");
    check_directory(good, 2, &(struct ssm_model_hint){0, 0}, SSM_OK, "");
    check_directory(good, 2, &(struct ssm_model_hint){44100, 2}, SSM_OK, ""); /* pointwise: at any rate */
    check_directory(good, 2, &(struct ssm_model_hint){100, 1}, SSM_INVAL, "takes 2 channels, the stream has 1");
}

static void load__no_such_directory__says_so(void **state)
{
    (void)state;
    struct ssm_model *model;
    struct ssm_error err = {0};
    assert_int_equal(ssm_model_load(&model, "/nowhere/model", NULL, &err), SSM_NOENT);
    assert_null(model);
    assert_non_null(strstr(err.text, "/nowhere/model/config.json"));
}

static void load__without_error_text__still_answers(void **state)
{
    (void)state;
    struct ssm_model *model;
    assert_int_equal(ssm_model_load(&model, "/nowhere/model", NULL, NULL), SSM_NOENT);
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

static void input_check__bad_value__names_its_frame(void **state)
{
    (void)state;
    struct ssm_model *model;
    struct ssm_error err;
    uint64_t where = 99;
    const char *text = "{" HEAD "\"input\":{\"kind\":\"signal\",\"channels\":2,\"sample_rate\":1},"
                       "\"output\":{\"kind\":\"signal\",\"channels\":2,\"sample_rate\":1}," LAYERS "}";
    float in[6] = {0, 1, -1, 3e38f, 5, 6};
    assert_int_equal(build(text, &model, &err), SSM_OK);
    assert_int_equal(ssm_input_check(model, in, 3, &where), SSM_OK);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 6; i++) {
        float was = in[i];
        in[i] = bad[i % 3];
        assert_int_equal(ssm_input_check(model, in, 3, &where), SSM_NONFINITE);
        assert_int_equal(where, i / 2);
        in[i] = was;
    }
    ssm_model_free(model);
}

static void input_check__token_outside_the_vocabulary__names_its_frame(void **state)
{
    (void)state;
    struct model_dir dir;
    struct ssm_model *model;
    uint64_t where = 99;
    model_dir_init(&dir);
    model_dir_write_text(&dir, "config.json",
                         "{" HEAD TOKENS "\"output\":{\"kind\":\"signal\",\"channels\":1},"
                         "\"layers\":[{\"type\":\"embedding\",\"name\":\"e\",\"vocab\":5,\"dim\":1}]}");
    model_dir_write_tensors(&dir, "model.safetensors", &(struct model_tensor){"e.weight", "F32", 2, {5, 1}, WEIGHT}, 1);
    assert_int_equal(ssm_model_load(&model, dir.path, NULL, NULL), SSM_OK);
    assert_int_equal(ssm_input_check(model, (int32_t[]){0, 4, 2}, 3, &where), SSM_OK);
    assert_int_equal(ssm_input_check(model, (int32_t[]){0, 5, 2}, 3, &where), SSM_INVAL);
    assert_int_equal(where, 1);
    assert_int_equal(ssm_input_check(model, (int32_t[]){0, 4, -1}, 3, &where), SSM_INVAL);
    assert_int_equal(where, 2);
    ssm_model_free(model);
    model_dir_fini(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(build__legal_config__fills_info),
        cmocka_unit_test(build__wrong_top__is_refused_and_named),
        cmocka_unit_test(build__wrong_input_or_output__is_refused_and_named),
        cmocka_unit_test(build__wrong_layer__is_refused_and_named),
        cmocka_unit_test(build__branches_of_other_widths__are_refused),
        cmocka_unit_test(build__nesting__is_bounded),
        cmocka_unit_test(build__number_of_layers__is_bounded),
        cmocka_unit_test(build__states__are_aligned_and_do_not_overlap),
        cmocka_unit_test(parse__words_of_python__are_strings_where_a_value_stands),
        cmocka_unit_test(parse__every_truncation__is_refused),
        cmocka_unit_test(build__every_flipped_byte__is_refused_or_valid),
        cmocka_unit_test(error__control_characters__do_not_reach_the_message),
        cmocka_unit_test(load__tensors_of_every_width__are_taken),
        cmocka_unit_test(load__wrong_tensors__are_refused_and_named),
        cmocka_unit_test(load__hint_that_contradicts__is_refused_with_what_to_use),
        cmocka_unit_test(load__no_such_directory__says_so),
        cmocka_unit_test(load__without_error_text__still_answers),
        cmocka_unit_test(input_check__bad_value__names_its_frame),
        cmocka_unit_test(input_check__token_outside_the_vocabulary__names_its_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
