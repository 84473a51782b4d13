/* SPDX-License-Identifier: Apache-2.0
 * Shared by mamba and mamba2; see selective.h. */
#include "ssm/layers/selective.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ssm/build.h"

uint32_t ssm_spread_lanes(const struct ssm_spread *spread)
{
    uint32_t lanes = 0;

    for (; spread->count; spread++)
        lanes += spread->count * spread->lanes;
    return lanes;
}

uint32_t ssm_spread_channels(const struct ssm_spread *spread)
{
    uint32_t channels = 0;

    for (; spread->count; spread++)
        channels += spread->count * spread->length;
    return channels;
}

/* place[c] is the lane of channel c; free(). */
static uint32_t *places_new(const struct ssm_spread *spread)
{
    uint32_t *place = calloc((size_t)ssm_spread_channels(spread) + 1, sizeof(*place)), channel = 0, lane = 0;

    for (; place && spread->count; spread++)
        for (uint32_t i = 0; i < spread->count; i++, lane += spread->lanes)
            for (uint32_t k = 0; k < spread->length; k++)
                place[channel++] = lane + k;
    return place;
}

int ssm_selective_inner(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, uint32_t dim,
                        uint32_t *inner)
{
    double expand, whole;
    int status = ssm_key_number_or(b, l, keys, "expand", &expand, 1e-3, 1e3, 2);

    if (status)
        return status;
    whole = round(expand * dim);
    if (!(fabs(expand * dim - whole) <= 1e-6) || !(whole >= 1 && whole <= SSM_CHANNELS_MAX))
        return ssm_fail(b, l, SSM_CONFIG,
                        "has \"expand\": %.9g, which makes %.9g channels of \"dim\": %u: it must be a whole number "
                        "from 1 to %u",
                        expand, expand * dim, dim, SSM_CHANNELS_MAX);
    *inner = (uint32_t)whole;
    return SSM_OK;
}

int ssm_spread_take(struct ssm_build *b, const struct ssm_layer *l, const char *suffix, const struct ssm_spread *spread,
                    float **out)
{
    uint32_t channels = ssm_spread_channels(spread), *place = places_new(spread);
    float *stored = NULL;
    int status = ssm_tensor_take(b, l, suffix, &stored, 1, (uint64_t[]){channels});

    *out = status ? NULL : ssm_floats_new(SSM_PAD16(ssm_spread_lanes(spread)));
    if (!status && (!place || !*out))
        status = ssm_fail(b, l, SSM_NOMEM, "no memory for '%s.%s'", l->name, suffix);
    for (uint32_t c = 0; !status && c < channels; c++)
        (*out)[place[c]] = stored[c];
    free(stored);
    free(place);
    return status;
}

static int bias_take(struct ssm_build *b, const struct ssm_layer *l, const char *suffix,
                     const struct ssm_spread *spread, enum ssm_bias bias, float **out)
{
    if (bias == SSM_BIAS_REQUIRED || (bias == SSM_BIAS_IF_PRESENT && ssm_tensor_exists(b, l, suffix)))
        return ssm_spread_take(b, l, suffix, spread, out);
    *out = ssm_floats_new(SSM_PAD16(ssm_spread_lanes(spread)));
    return *out ? SSM_OK : ssm_fail(b, l, SSM_NOMEM, "no memory for '%s.%s'", l->name, suffix);
}

static int weight_pack(const float *stored, const struct ssm_spread *out, const struct ssm_spread *in,
                       struct ssm_matrix *weight)
{
    uint32_t rows = ssm_spread_channels(out), columns = ssm_spread_channels(in), lanes = ssm_spread_lanes(in);
    uint32_t *row = places_new(out), *column = places_new(in);
    float *spread = ssm_floats_new((size_t)ssm_spread_lanes(out) * lanes);
    int status = row && column && spread ? SSM_OK : SSM_NOMEM;

    for (size_t o = 0; !status && o < rows; o++)
        for (size_t i = 0; i < columns; i++)
            spread[(size_t)row[o] * lanes + column[i]] = stored[o * columns + i];
    if (!status)
        status = ssm_matrix_pack(weight, spread, ssm_spread_lanes(out), lanes);
    free(row);
    free(column);
    free(spread);
    return status;
}

int ssm_projection_spread(struct ssm_build *b, const struct ssm_layer *l, const char *prefix,
                          const struct ssm_spread *out, const struct ssm_spread *in, enum ssm_bias bias,
                          struct ssm_linear *p)
{
    char suffix[32];
    float *stored = NULL;
    int status;

    snprintf(suffix, sizeof(suffix), "%s.weight", prefix);
    status = ssm_tensor_take(b, l, suffix, &stored, 2, (uint64_t[]){ssm_spread_channels(out), ssm_spread_channels(in)});
    if (!status && (status = weight_pack(stored, out, in, &p->weight)))
        status = ssm_fail(b, l, status, "no memory for '%s.%s'", l->name, suffix);
    free(stored);
    snprintf(suffix, sizeof(suffix), "%s.bias", prefix);
    return status ? status : bias_take(b, l, suffix, out, bias, &p->bias);
}

int ssm_window_take(struct ssm_build *b, const struct ssm_layer *l, const struct ssm_spread *spread,
                    struct ssm_window *w)
{
    uint32_t channels = ssm_spread_channels(spread), *place = places_new(spread);
    float *stored = NULL;
    int status = ssm_tensor_take(b, l, "conv1d.weight", &stored, 3, (uint64_t[]){channels, 1, w->kernel});

    w->lanes = ssm_spread_lanes(spread);
    w->taps = status ? NULL : ssm_floats_new((size_t)w->kernel * w->lanes);
    if (!status && (!place || !w->taps))
        status = ssm_fail(b, l, SSM_NOMEM, "no memory for its convolution");
    for (size_t c = 0; !status && c < channels; c++)
        for (size_t k = 0; k < w->kernel; k++)
            w->taps[k * w->lanes + place[c]] = stored[c * w->kernel + k];
    free(stored);
    free(place);
    return status ? status : bias_take(b, l, "conv1d.bias", spread, SSM_BIAS_IF_PRESENT, &w->bias);
}

void ssm_window_fini(struct ssm_window *w)
{
    free(w->taps);
    free(w->bias);
}

float ssm_selective_rate(float a_log)
{
    double rate = -exp((double)a_log) * 1.4426950408889634074;

    return isfinite((float)rate) ? (float)rate : NAN;
}

int ssm_selective_size(struct ssm_build *b, struct ssm_layer *l, uint64_t state, uint64_t scratch)
{
    if (state > SSM_STATE_BYTES_MAX / sizeof(float))
        return ssm_fail(b, l, SSM_LIMIT, "has a state of %llu numbers: at most %zu", (unsigned long long)state,
                        SSM_STATE_BYTES_MAX / sizeof(float));
    if (scratch > SSM_SELECTIVE_SCRATCH_MAX)
        return ssm_fail(b, l, SSM_LIMIT, "works on %llu numbers at once: at most %u", (unsigned long long)scratch,
                        SSM_SELECTIVE_SCRATCH_MAX);
    l->state_bytes = (uint32_t)(state * sizeof(float));
    l->scratch_floats = (uint32_t)scratch;
    return SSM_OK;
}
