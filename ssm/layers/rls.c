/* SPDX-License-Identifier: Apache-2.0
 *
 * rls: the definition of the on-line forecaster (docs/MODELS.md, docs/FORECAST.md; kernel in ssm/cpu/rls.c).
 *
 * It learns the linear map from its input at t-h to the model's input at t by recursive least squares with exponential
 * forgetting, predicts h frames ahead, and scores how much larger its recent error is than its usual one. It has no
 * tensors: everything it knows it learns, per stream.
 *
 * The state grows with the square of the features, so its size is worked out in 64 bits and bounded.
 */
#include <math.h>
#include <stdlib.h>

#include "ssm/layer.h"
#include "ssm/layers/rls.h"

static const char *const rls_keys[] = {"targets", "horizon", "forgetting", "regularization", "short", "long", NULL};

static int read_keys(struct ssm_build *build, struct ssm_layer *layer, const json_t *keys, struct ssm_rls *rls)
{
    uint32_t inputs = ssm_build_in_channels(build), short_frames, long_frames;
    uint32_t most = inputs < SSM_RLS_TARGETS_MAX ? inputs : SSM_RLS_TARGETS_MAX;
    int status = ssm_key_count(build, layer, keys, "targets", &rls->targets, 1, most);

    status = status ? status : ssm_key_count(build, layer, keys, "horizon", &rls->horizon, 1, 1u << 26);
    status = status ? status : ssm_key_number(build, layer, keys, "forgetting", &rls->forgetting, 1e-3, 1);
    status = status ? status : ssm_key_number(build, layer, keys, "regularization", &rls->regularization, 1e-30, 1e30);
    status = status ? status : ssm_key_count(build, layer, keys, "short", &short_frames, 1, INT32_MAX);
    status = status ? status : ssm_key_count(build, layer, keys, "long", &long_frames, 1, INT32_MAX);
    if (status == SSM_OK) {
        rls->short_frames = short_frames;
        rls->long_frames = long_frames;
    }
    return status;
}

/* Where each part of the state begins; returns the bytes of all. Every count is bounded, so 64 bits do not overflow. */
static uint64_t lay_out(struct ssm_rls *rls)
{
    uint64_t weights = (uint64_t)rls->n * rls->ld * sizeof(double);
    uint64_t means = weights + (uint64_t)rls->targets * rls->ld * sizeof(double);
    uint64_t features = means + (uint64_t)rls->targets * 2 * sizeof(double);
    uint64_t issued = features + (uint64_t)rls->horizon * rls->features * sizeof(float);

    rls->weights_at = weights;
    rls->means_at = means;
    rls->features_at = features;
    rls->issued_at = issued;
    return issued + (uint64_t)rls->horizon * rls->targets * sizeof(float);
}

static int parts_add(struct ssm_build *build, struct ssm_layer *layer)
{
    const struct ssm_rls *rls = layer->params;
    const struct ssm_part parts[] = {
        {SSM_ELEMENT_F64, .rows = rls->n, .columns = rls->n, .row_stride = rls->ld},
        {SSM_ELEMENT_F64, (uint32_t)rls->weights_at, .rows = rls->targets, .columns = rls->n, .row_stride = rls->ld},
        {SSM_ELEMENT_F64, (uint32_t)rls->means_at, .rows = rls->targets, .columns = 2},
        {SSM_ELEMENT_F32, (uint32_t)rls->features_at, .rows = rls->horizon, .columns = rls->features},
        {SSM_ELEMENT_F32, (uint32_t)rls->issued_at, .rows = rls->horizon, .columns = rls->targets},
    };
    int status = SSM_OK;

    for (size_t i = 0; status == SSM_OK && i < sizeof(parts) / sizeof(*parts); i++) {
        status = ssm_part_add(build, layer, &parts[i]);
    }
    return status;
}

static int rls_init(struct ssm_build *build, struct ssm_layer *layer, const json_t *keys)
{
    struct ssm_rls *rls;
    uint64_t bytes;
    int status;

    if (!ssm_build_is_signal(build)) {
        return ssm_fail(build, layer, SSM_CONFIG,
                        "rls forecasts the model's input, which must be a signal, not tokens");
    }
    if (layer->clock != 0) {
        return ssm_fail(build, layer, SSM_UNSUPPORTED,
                        "rls stands at the model's input: no layer before it may change the rate or wait for later "
                        "input");
    }
    if (layer->in > SSM_RLS_FEATURES_MAX) {
        return ssm_fail(build, layer, SSM_LIMIT,
                        "rls takes at most %d channels, and %u come in; its cost grows with their square",
                        SSM_RLS_FEATURES_MAX, layer->in);
    }
    rls = layer->params = calloc(1, sizeof(*rls));
    if (rls == NULL) {
        return ssm_fail(build, layer, SSM_NOMEM, "out of memory");
    }
    status = read_keys(build, layer, keys, rls);
    if (status) {
        return status;
    }
    rls->inputs = ssm_build_in_channels(build);
    rls->features = layer->in;
    rls->n = layer->in + 1;
    rls->ld = SSM_RLS_LD(rls->n);
    rls->pull = sqrt((1 - rls->forgetting) * rls->n * rls->regularization);
    bytes = lay_out(rls);
    if (bytes > SSM_RLS_STATE_MAX) {
        return ssm_fail(build, layer, SSM_LIMIT,
                        "rls would need %llu bytes for each stream, and %u is the most; lower horizon (%u frames) or "
                        "the channels that come in (%u)",
                        (unsigned long long)bytes, SSM_RLS_STATE_MAX, rls->horizon, layer->in);
    }
    layer->state_bytes = (uint32_t)bytes;
    layer->out = 3 * rls->targets;
    return parts_add(build, layer);
}

static void rls_fini(struct ssm_layer *layer)
{
    free(layer->params);
    layer->params = NULL;
}

const struct ssm_kind ssm_kind_rls = {
    .id = SSM_KIND_rls, .type = "rls", .keys = rls_keys, .init = rls_init, .fini = rls_fini};
