/* SPDX-License-Identifier: Apache-2.0
 *
 * From the config.json of transformers to a list of layers:
 *
 *     embedding, num_hidden_layers times residual{rmsnorm, mixer}, rmsnorm, linear without bias
 *
 * Keys that do not change the result (training, initialisation, generation, precision of the residual) are ignored,
 * those that would are refused. An absent key takes the default of transformers' MambaConfig or Mamba2Config:
 *
 *                          mamba                    mamba2
 *     hidden_size          768                      4096
 *     num_hidden_layers    32                       64
 *     vocab_size           50280                    32768
 *     state_size           16                       128
 *     conv_kernel          4                        4
 *     expand               2                        2
 *     intermediate_size    expand * hidden_size     the same
 *     layer_norm_epsilon   1e-5                     1e-5
 *     use_bias             false                    false
 *     use_conv_bias        true                     true
 *     hidden_act           silu                     silu
 *     tie_word_embeddings  true                     false
 *     time_step_rank       "auto": hidden_size / 16, rounded up
 *     num_heads, head_dim                           128, 64
 *     n_groups                                      8
 *     time_step_limit                               0 to Infinity
 *     rms_norm             (always)                 true
 *
 * The gated norm of mamba2 is taken over each group's channels, as state-spaces/mamba trains and computes it.
 */
#include "ssm/huggingface.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ssm/layers/norm.h"

#define HEAD       "lm_head.weight"
#define LAYERS_MAX 1024u /* three of ours each */

static const char *const KINDS[] = {"mamba", "mamba2", NULL};
static const char *const ACTIVATIONS[] = {"silu", "swish", NULL}; /* two names of one function */

struct published {
    bool second; /* mamba2 */
    uint32_t hidden, layers, vocab, state, conv;
    uint32_t inner;
    double eps;
    bool bias, conv_bias, tied;
    uint32_t rank;                    /* mamba */
    uint32_t heads, head_dim, groups; /* mamba2 */
    bool rms_norm;
    const char *embedding; /* name of the layer */
};

static const struct published DEFAULTS[] = {
    {.hidden = 768, .layers = 32, .vocab = 50280, .state = 16, .tied = true},
    {.second = true,
     .hidden = 4096,
     .layers = 64,
     .vocab = 32768,
     .state = 128,
     .heads = 128,
     .head_dim = 64,
     .groups = 8},
};

static int kind_of(const json_t *config)
{
    const char *word = json_string_value(json_object_get(config, "model_type"));

    for (int i = 0; word && KINDS[i]; i++)
        if (strcmp(word, KINDS[i]) == 0)
            return i;
    return -1;
}

bool ssm_is_huggingface(const json_t *config)
{
    return kind_of(config) >= 0;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* What would change the result and has no place in our layers. */
static int refuse_others(struct ssm_build *b, const json_t *config)
{
    const json_t *quantized = json_object_get(config, "quantization_config");
    bool rms_norm;
    int word, status;

    if ((status = ssm_key_word(b, NULL, config, "hidden_act", ACTIVATIONS, &word, 0)) ||
        (status = ssm_key_flag(b, NULL, config, "rms_norm", &rms_norm, true)))
        return status;
    if (!rms_norm && kind_of(config) == 0)
        return ssm_fail(b, NULL, SSM_UNSUPPORTED, "key 'rms_norm' is false: only RMS norms are read in a mamba model");
    if (quantized && !json_is_null(quantized))
        return ssm_fail(b, NULL, SSM_UNSUPPORTED,
                        "key 'quantization_config': only weights in F32, F16 and BF16 are read");
    if (json_array_size(json_object_get(config, "attn_layer_idx")) > 0)
        return ssm_fail(b, NULL, SSM_UNSUPPORTED, "key 'attn_layer_idx': attention among the layers is not read");
    return SSM_OK;
}

/* intermediate_size, or what expand makes of hidden_size, cut to a whole number. */
static int read_inner(struct ssm_build *b, const json_t *config, struct published *p)
{
    double expand;
    int status = ssm_key_number_or(b, NULL, config, "expand", &expand, 1e-3, 1e3, 2);

    if (status)
        return status;
    return ssm_key_count_or(b, NULL, config, "intermediate_size", &p->inner, 1, SSM_CHANNELS_MAX,
                            (uint32_t)(expand * p->hidden));
}

static int read_mamba(struct ssm_build *b, const json_t *config, struct published *p)
{
    const char *rank = json_string_value(json_object_get(config, "time_step_rank"));

    p->rank = (p->hidden + 15) / 16;
    if (rank && strcmp(rank, "auto") == 0)
        return SSM_OK;
    return ssm_key_count_or(b, NULL, config, "time_step_rank", &p->rank, 1, SSM_CHANNELS_MAX, p->rank);
}

static int read_mamba2(struct ssm_build *b, const json_t *config, struct published *p)
{
    int status;

    if ((status = ssm_key_count_or(b, NULL, config, "num_heads", &p->heads, 1, SSM_CHANNELS_MAX, p->heads)) ||
        (status = ssm_key_count_or(b, NULL, config, "head_dim", &p->head_dim, 1, SSM_CHANNELS_MAX, p->head_dim)) ||
        (status = ssm_key_count_or(b, NULL, config, "n_groups", &p->groups, 1, SSM_CHANNELS_MAX, p->groups)) ||
        (status = ssm_key_flag(b, NULL, config, "rms_norm", &p->rms_norm, true)))
        return status;
    if ((uint64_t)p->heads * p->head_dim != p->inner)
        return ssm_fail(b, NULL, SSM_CONFIG,
                        "%u heads of %u channels are not the %u that expand or intermediate_size "
                        "make of hidden_size %u",
                        p->heads, p->head_dim, p->inner, p->hidden);
    return SSM_OK;
}

static int read_keys(struct ssm_build *b, const json_t *config, struct published *p)
{
    const uint32_t most = SSM_CHANNELS_MAX;
    int status;

    *p = DEFAULTS[kind_of(config)];
    if ((status = refuse_others(b, config)) ||
        (status = ssm_key_count_or(b, NULL, config, "hidden_size", &p->hidden, 1, most, p->hidden)) ||
        (status = ssm_key_count_or(b, NULL, config, "num_hidden_layers", &p->layers, 1, LAYERS_MAX, p->layers)) ||
        (status = ssm_key_count_or(b, NULL, config, "vocab_size", &p->vocab, 1, most, p->vocab)) ||
        (status = ssm_key_count_or(b, NULL, config, "state_size", &p->state, 1, most, p->state)) ||
        (status = ssm_key_count_or(b, NULL, config, "conv_kernel", &p->conv, 1, most, 4)) ||
        (status = ssm_key_number_or(b, NULL, config, "layer_norm_epsilon", &p->eps, SSM_EPS_MIN, 1, 1e-5)) ||
        (status = ssm_key_flag(b, NULL, config, "use_bias", &p->bias, false)) ||
        (status = ssm_key_flag(b, NULL, config, "use_conv_bias", &p->conv_bias, true)) ||
        (status = ssm_key_flag(b, NULL, config, "tie_word_embeddings", &p->tied, p->tied)) ||
        (status = read_inner(b, config, p)))
        return status;
    return p->second ? read_mamba2(b, config, p) : read_mamba(b, config, p);
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

/* The layers take a bias that is there; whether it should be, the configuration knows. */
static int check_bias(struct ssm_build *b, uint32_t layer, const char *part, const char *key, bool use)
{
    char name[96];

    snprintf(name, sizeof(name), "backbone.layers.%u.mixer.%s.bias", layer, part);
    if ((ssm_tensors_find(b->tensors, name) != NULL) == use)
        return SSM_OK;
    return ssm_fail(b, NULL, SSM_TENSOR,
                    use ? "key '%s' is true, but tensor '%s' is missing in %s"
                        : "key '%s' is false, but there is a tensor '%s' in %s",
                    key, name, b->dir);
}

static int read_tensors(struct ssm_build *b, struct published *p)
{
    char embedding[64];
    int status;

    p->embedding = "backbone.embeddings";
    if (!b->tensors)
        return SSM_OK;
    if (ssm_tensors_find(b->tensors, "backbone.embedding.weight"))
        p->embedding = "backbone.embedding";
    for (uint32_t i = 0; i < p->layers; i++)
        if ((status = check_bias(b, i, "in_proj", "use_bias", p->bias)) ||
            (status = check_bias(b, i, "out_proj", "use_bias", p->bias)) ||
            (status = check_bias(b, i, "conv1d", "use_conv_bias", p->conv_bias)))
            return status;
    snprintf(embedding, sizeof(embedding), "%s.weight", p->embedding);
    return p->tied ? ssm_tensors_alias(b->tensors, HEAD, embedding, b->err) : SSM_OK;
}

/* ---- writing: a function that makes JSON returns NULL without memory --------------------------------------------- */

/* time_step_limit as dt_limit. Newer files write an infinite number as {"__float__": "Infinity"}. */
static json_t *limit_new(const json_t *config)
{
    const json_t *limit = json_object_get(config, "time_step_limit"), *value, *tagged;
    json_t *out;
    size_t i;

    if (!limit)
        return json_pack("[f,n]", 0.0);
    if (!json_is_array(limit))
        return json_deep_copy(limit);
    out = json_array();
    json_array_foreach(limit, i, value)
    {
        tagged = json_object_get(value, "__float__");
        json_array_append_new(out, json_deep_copy(tagged ? tagged : value));
    }
    return out;
}

static json_t *mixer_new(const struct published *p, const json_t *config, uint32_t layer)
{
    char name[64];

    snprintf(name, sizeof(name), "backbone.layers.%u.mixer", layer);
    if (!p->second)
        return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i}", "type", "mamba", "name", name, "dim", p->hidden,
                         "inner", p->inner, "state", p->state, "conv", p->conv, "dt_rank", p->rank);
    return json_pack("{s:s, s:s, s:i, s:f, s:i, s:i, s:i, s:i, s:f, s:b, s:o}", "type", "mamba2", "name", name, "dim",
                     p->hidden, "expand", (double)p->inner / p->hidden, "state", p->state, "conv", p->conv, "head_dim",
                     p->head_dim, "groups", p->groups, "eps", p->eps, "rms_norm", p->rms_norm, "dt_limit",
                     limit_new(config));
}

static json_t *norm_new(const struct published *p, const char *name)
{
    return json_pack("{s:s, s:s, s:i, s:f}", "type", "rmsnorm", "name", name, "dim", p->hidden, "eps", p->eps);
}

static json_t *block_new(const struct published *p, const json_t *config, uint32_t layer)
{
    char name[64];

    snprintf(name, sizeof(name), "backbone.layers.%u.norm", layer);
    return json_pack("{s:s, s:[o, o]}", "type", "residual", "layers", norm_new(p, name), mixer_new(p, config, layer));
}

static json_t *layers_new(const struct published *p, const json_t *config)
{
    json_t *layers = json_pack("[{s:s, s:s, s:i, s:i}]", "type", "embedding", "name", p->embedding, "vocab", p->vocab,
                               "dim", p->hidden);
    int failed = !layers;

    for (uint32_t i = 0; !failed && i < p->layers; i++)
        failed = json_array_append_new(layers, block_new(p, config, i));
    failed = failed || json_array_append_new(layers, norm_new(p, "backbone.norm_f")) ||
             json_array_append_new(layers, json_pack("{s:s, s:s, s:i, s:i, s:b}", "type", "linear", "name", "lm_head",
                                                     "in", p->hidden, "out", p->vocab, "bias", 0));
    if (!failed)
        return layers;
    json_decref(layers);
    return NULL;
}

int ssm_huggingface_translate(struct ssm_build *b, const json_t *config, json_t **out)
{
    struct published p;
    int status;

    *out = NULL;
    if ((status = read_keys(b, config, &p)) || (status = read_tensors(b, &p)))
        return status;
    *out = json_pack("{s:s, s:i, s:s, s:{s:s, s:i}, s:{s:s, s:i}, s:o}", "model_type", "ssmd", "format_version", 1,
                     "name", KINDS[p.second], "input", "kind", "tokens", "vocab", p.vocab, "output", "kind", "signal",
                     "channels", p.vocab, "layers", layers_new(&p, config));
    return *out ? SSM_OK : ssm_fail(b, NULL, SSM_NOMEM, "out of memory");
}
