/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading a model: the top of config.json (docs/MODELS.md), the graph, and what the two say about each other.
 *
 * The graph is the truth. What the configuration states besides it (output channels, rates) and what the caller knows
 * about the stream (the hint) must agree with it, and a message names both.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/build.h"
#include "ssm/config.h"
#include "ssm/fingerprint.h"
#include "ssm/huggingface.h"
#include "ssm/image.h"
#include "ssm/model.h"

#define FORMAT_VERSION 1u
#define RATE_MIN       1e-9 /* Hz */
#define RATE_MAX       1e9

static const char *const MODEL_KEYS[] = {"model_type", "format_version", "name", "input", "output", "layers", NULL};
static const char *const SIGNAL_KEYS[] = {"kind", "channels", "sample_rate", NULL};
static const char *const TOKENS_KEYS[] = {"kind", "vocab", NULL};
static const char *const OUTPUT_KEYS[] = {"kind", "channels", "sample_rate", "labels", NULL};
static const char *const INPUT_KINDS[] = {"signal", "tokens", NULL};
static const char *const OUTPUT_KINDS[] = {"signal", NULL};

/* ---- the top of the configuration -------------------------------------------------------------------------------- */

static int check_type(struct ssm_build *b, const json_t *config)
{
    char text[48];
    const json_t *type = json_object_get(config, "model_type");
    const char *word = json_string_value(type);
    if (!word || strcmp(word, "ssmd") != 0)
        return ssm_fail(b, NULL, SSM_CONFIG, "key 'model_type' must be \"ssmd\", \"mamba\" or \"mamba2\", not %s",
                        ssm_key_text(type, text, sizeof(text)));
    const json_t *version = json_object_get(config, "format_version");
    if (!json_is_integer(version) || json_integer_value(version) < 1)
        return ssm_fail(b, NULL, SSM_CONFIG, "key 'format_version' must be %u, not %s", FORMAT_VERSION,
                        ssm_key_text(version, text, sizeof(text)));
    if (json_integer_value(version) > FORMAT_VERSION)
        return ssm_fail(b, NULL, SSM_UNSUPPORTED, "format_version %lld is from the future; this version reads %u",
                        (long long)json_integer_value(version), FORMAT_VERSION);
    return ssm_key_check_known(b, NULL, config, MODEL_KEYS);
}

static int read_name(struct ssm_build *b, const json_t *config, struct ssm_model_info *info)
{
    const json_t *value = json_object_get(config, "name");
    const char *name = value ? json_string_value(value) : "unnamed";
    if (!name || !*name || strlen(name) >= sizeof(info->name))
        return ssm_fail(b, NULL, SSM_CONFIG, "key 'name' must be a string of 1 to %zu bytes", sizeof(info->name) - 1);
    memcpy(info->name, name, strlen(name) + 1);
    return SSM_OK;
}

/* The object at `key`, a part of the model for messages. */
static int find_part(struct ssm_build *b, const json_t *config, const char *key, const json_t **out,
                     struct ssm_layer *part)
{
    *out = json_object_get(config, key);
    snprintf(part->where, sizeof(part->where), "'%s'", key);
    if (json_is_object(*out))
        return SSM_OK;
    return ssm_fail(b, NULL, SSM_CONFIG, "key '%s' is missing or not an object", key);
}

static int read_rate(struct ssm_build *b, const struct ssm_layer *part, const json_t *keys, double *out)
{
    return ssm_key_number(b, part, keys, "sample_rate", out, RATE_MIN, RATE_MAX);
}

static int read_input(struct ssm_build *b, const json_t *config, struct ssm_model_info *info)
{
    struct ssm_layer part = {0};
    const json_t *input;
    int kind;
    int rc = find_part(b, config, "input", &input, &part);
    if (!rc)
        rc = ssm_key_word(b, &part, input, "kind", INPUT_KINDS, &kind, -1);
    if (rc)
        return rc;
    info->input = kind == 0 ? SSM_SIGNAL : SSM_TOKENS;
    info->in_channels = 1;
    if (info->input == SSM_TOKENS) {
        rc = ssm_key_check_known(b, &part, input, TOKENS_KEYS);
        return rc ? rc : ssm_key_count(b, &part, input, "vocab", &info->vocab, 1, INT32_MAX);
    }
    rc = ssm_key_check_known(b, &part, input, SIGNAL_KEYS);
    if (!rc)
        rc = ssm_key_count(b, &part, input, "channels", &info->in_channels, 1, SSM_CHANNELS_MAX);
    return rc ? rc : read_rate(b, &part, input, &info->in_rate);
}

static bool rates_are_equal(double a, double b)
{
    return fabs(a - b) <= 1e-9 * b;
}

/* The model is for a stream of this rate (0: its own). One of another rate than the configuration's is known by it, so it
 * is taken as written in nine digits. */
static int set_rate(struct ssm_build *b, struct ssm_model_info *info, double rate)
{
    char text[32];

    memcpy(info->source, info->fingerprint, sizeof(info->source));
    info->config_rate = info->in_rate;
    if (!(rate > 0) || !(info->in_rate > 0) || rates_are_equal(rate, info->in_rate))
        return SSM_OK;
    if (!(rate >= RATE_MIN && rate <= RATE_MAX))
        return ssm_fail(b, NULL, SSM_INVAL, "a stream's rate is %g to %g Hz, not %.9g", RATE_MIN, RATE_MAX, rate);
    snprintf(text, sizeof(text), "%.9g", rate);
    b->rate = strtod(text, NULL);
    b->stretch = info->in_rate / b->rate;
    info->in_rate = b->rate;
    ssm_fingerprint_at_rate(info->fingerprint, info->source, b->rate);
    return SSM_OK;
}

static int check_labels(struct ssm_build *b, const struct ssm_layer *part, const json_t *labels, uint32_t channels)
{
    bool good = !labels || (json_is_array(labels) && json_array_size(labels) == channels);
    for (size_t i = 0; good && i < json_array_size(labels); i++)
        good = json_is_string(json_array_get(labels, i));
    if (good)
        return SSM_OK;
    return ssm_fail(b, part, SSM_CONFIG, "key 'labels' must be a list of %u strings, one per channel", channels);
}

/* What 'output' states against the graph, whose channels and ratio info has. */
static int check_output(struct ssm_build *b, const json_t *config, struct ssm_model_info *info)
{
    struct ssm_layer part = {0};
    const json_t *output;
    int kind;
    uint32_t channels = 0;
    double rate = 0;
    int rc = find_part(b, config, "output", &output, &part);
    if (!rc)
        rc = ssm_key_check_known(b, &part, output, OUTPUT_KEYS);
    if (!rc)
        rc = ssm_key_word(b, &part, output, "kind", OUTPUT_KINDS, &kind, -1);
    if (!rc)
        rc = ssm_key_count(b, &part, output, "channels", &channels, 1, SSM_CHANNELS_MAX);
    if (!rc && (info->input == SSM_SIGNAL || json_object_get(output, "sample_rate")))
        rc = read_rate(b, &part, output, &rate);
    if (!rc)
        rc = check_labels(b, &part, json_object_get(output, "labels"), channels);
    if (rc)
        return rc;
    if (channels != info->out_channels)
        return ssm_fail(b, &part, SSM_CONFIG, "key 'channels' is %u, but the layers end with %u", channels,
                        info->out_channels);
    double expected = info->config_rate * info->ratio_num / info->ratio_den;
    if (info->input == SSM_SIGNAL && !rates_are_equal(rate, expected))
        return ssm_fail(b, &part, SSM_CONFIG, "key 'sample_rate' is %.9g, but the layers make %.9g of the input's %.9g",
                        rate, expected, info->config_rate);
    info->out_rate = info->input == SSM_SIGNAL ? info->in_rate * info->ratio_num / info->ratio_den : rate;
    return SSM_OK;
}

/* What the clocks say of the whole graph. */
static void set_time(const struct ssm_model *model, struct ssm_model_info *info)
{
    const struct ssm_clock *end = &model->clocks.clock[model->graph.out_clock];

    info->ratio_num = (uint32_t)end->num;
    info->ratio_den = (uint32_t)end->den;
    info->hop = model->clocks.hop;
    info->lookahead = model->clocks.lookahead;
    info->grid = ssm_clocks_aligned(&model->clocks) ? SSM_SCAN_BLOCK : model->cell;
}

static int build_model(struct ssm_build *b, struct ssm_model *model, const json_t *config, double rate)
{
    struct ssm_model_info *info = &model->info;
    int rc = check_type(b, config);
    if (!rc)
        rc = read_name(b, config, info);
    if (!rc)
        rc = read_input(b, config, info);
    if (!rc)
        rc = set_rate(b, info, rate);
    if (rc)
        return rc;
    b->signal = info->input == SSM_SIGNAL;
    b->in_channels = info->in_channels;
    b->vocab = info->vocab;
    rc = ssm_build_graph(b, json_object_get(config, "layers"), &model->graph);
    if (!rc)
        rc = ssm_build_settle(b, &model->graph, &model->cell);
    if (rc)
        return rc;
    info->out_channels = model->graph.out;
    info->state_bytes = b->state_bytes;
    info->weight_bytes = b->weight_bytes;
    info->layers = b->layers;
    info->modes_zeroed = b->modes_zeroed;
    memcpy(info->fixed_by, b->fixed_by, sizeof(info->fixed_by));
    model->image_bytes = ssm_image_size(&model->graph);
    set_time(model, info);
    return check_output(b, config, info);
}

int ssm_model_build(struct ssm_model **out, const json_t *config, const char *dir, const char *file, double rate,
                    struct ssm_error *err)
{
    struct ssm_build b = {.file = file, .dir = dir, .err = err, .names = json_object(), .stretch = 1};
    struct ssm_model *model = calloc(1, sizeof(*model));
    json_t *translated = NULL;
    int rc = SSM_OK;
    *out = NULL;
    if (!model || !b.names)
        rc = ssm_error_set(err, SSM_NOMEM, "%s: out of memory", file);
    if (model)
        atomic_init(&model->references, 1);
    if (!rc && (rc = ssm_clocks_init(&model->clocks)))
        rc = ssm_error_set(err, rc, "%s: out of memory", file);
    if (!rc && dir)
        rc = ssm_tensors_open(&b.tensors, dir, err);
    if (!rc)
        rc = ssm_fingerprint(model->info.fingerprint, config, b.tensors, file, err);
    if (!rc && ssm_is_huggingface(config))
        rc = ssm_huggingface_translate(&b, config, &translated);
    if (!rc)
        b.clocks = &model->clocks;
    if (!rc)
        rc = build_model(&b, model, translated ? translated : config, rate);
    ssm_tensors_close(b.tensors);
    json_decref(b.names);
    json_decref(translated);
    if (rc)
        ssm_model_free(model);
    else
        *out = model;
    return rc;
}

/* ---- loading ----------------------------------------------------------------------------------------------------- */

/* A stream of another width cannot use the model; of another rate neither, if it was not made for it. */
static int check_hint(const struct ssm_model_info *info, const struct ssm_model_hint *hint, const char *spec,
                      struct ssm_error *err)
{
    if (!hint)
        return SSM_OK;
    if (hint->channels && hint->channels != info->in_channels)
        return ssm_error_set(err, SSM_INVAL, "%s takes %u channels, the stream has %u: use %u", spec, info->in_channels,
                             hint->channels, info->in_channels);
    if (hint->rate > 0 && info->in_rate > 0 && !rates_are_equal(hint->rate, info->in_rate))
        return ssm_error_set(err, SSM_INVAL, "%s takes a rate of %.9g Hz, the stream has %.9g: use %.9g", spec,
                             info->in_rate, hint->rate, info->in_rate);
    return SSM_OK;
}

static int load_directory(struct ssm_model **out, const char *dir, const struct ssm_model_hint *hint,
                          struct ssm_error *err)
{
    char *file;
    json_t *config = NULL;
    if (asprintf(&file, "%s/config.json", dir) < 0)
        return ssm_error_set(err, SSM_NOMEM, "%s: out of memory", dir);
    int rc = ssm_config_load(&config, file, err);
    if (!rc)
        rc = ssm_model_build(out, config, dir, file, hint ? hint->rate : 0, err);
    json_decref(config);
    free(file);
    return rc;
}

static int load_template(struct ssm_model **out, const char *spec, const struct ssm_model_hint *hint,
                         struct ssm_error *err)
{
    json_t *config = NULL;
    int rc = ssm_template_config(&config, spec, hint, err);
    if (!rc)
        rc = ssm_model_build(out, config, NULL, spec, 0, err);
    json_decref(config);
    return rc;
}

int ssm_model_load(struct ssm_model **out, const char *spec, const struct ssm_model_hint *hint, struct ssm_error *err)
{
    struct ssm_model *model = NULL;
    *out = NULL;
    int rc = ssm_is_template(spec) ? load_template(&model, spec, hint, err) : load_directory(&model, spec, hint, err);
    if (!rc)
        rc = check_hint(&model->info, hint, spec, err);
    if (rc)
        ssm_model_free(model);
    else
        *out = model;
    return rc;
}

struct ssm_model *ssm_model_ref(struct ssm_model *model)
{
    atomic_fetch_add_explicit(&model->references, 1, memory_order_relaxed);
    return model;
}

void ssm_model_free(struct ssm_model *model)
{
    if (!model || atomic_fetch_sub_explicit(&model->references, 1, memory_order_acq_rel) != 1)
        return;
    ssm_sequence_fini(&model->graph);
    ssm_clocks_fini(&model->clocks);
    free(model);
}

const struct ssm_model_info *ssm_model_info(const struct ssm_model *model)
{
    return &model->info;
}

/* ---- input and output -------------------------------------------------------------------------------------------- */

/* frames * num / den, rounded up; UINT64_MAX when it is more. */
static uint64_t frames_scaled(uint64_t frames, uint64_t num, uint64_t den)
{
    __extension__ unsigned __int128 scaled = ((unsigned __int128)frames * num + den - 1) / den;

    return scaled < UINT64_MAX ? (uint64_t)scaled : UINT64_MAX;
}

uint64_t ssm_out_frames(const struct ssm_model *model, uint64_t frames)
{
    return frames_scaled(frames, model->info.ratio_num, model->info.ratio_den);
}

uint64_t ssm_out_frames_max(const struct ssm_model *model, uint64_t frames)
{
    uint64_t hop = model->info.hop, hops = frames / hop + (frames % hop > 0);

    return frames_scaled(hops, hop * model->info.ratio_num, model->info.ratio_den);
}

static int check_signal(const unsigned char *in, uint64_t samples, uint64_t *where)
{
    for (uint64_t i = 0; i < samples; i++) {
        uint32_t bits;
        memcpy(&bits, in + i * sizeof(bits), sizeof(bits));
        if ((bits & 0x7f800000u) == 0x7f800000u) {
            *where = i;
            return SSM_NONFINITE;
        }
    }
    return SSM_OK;
}

static int check_tokens(const unsigned char *in, uint64_t tokens, uint32_t vocab, uint64_t *where)
{
    for (uint64_t i = 0; i < tokens; i++) {
        uint32_t token; /* a negative one is huge */
        memcpy(&token, in + i * sizeof(token), sizeof(token));
        if (token >= vocab) {
            *where = i;
            return SSM_INVAL;
        }
    }
    return SSM_OK;
}

int ssm_input_check(const struct ssm_model *model, const void *in, uint64_t frames, uint64_t *where)
{
    uint32_t channels = model->info.in_channels;
    if (model->info.input == SSM_TOKENS)
        return check_tokens(in, frames, model->info.vocab, where);
    int rc = check_signal(in, frames * channels, where);
    if (rc)
        *where /= channels;
    return rc;
}
