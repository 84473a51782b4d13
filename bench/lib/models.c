/* SPDX-License-Identifier: Apache-2.0
 * Models of benchmarks; see models.h. */
#include "bench/lib/models.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define STATE 16u
#define TAPS  4u

static void values_set(float *values, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        values[i] = value;
}

/* A tensor of the layer "<block>.<name>"; dimensions behind the rank may be anything. */
static float *block_tensor(struct making *m, float spread, uint32_t block, const char *name, uint32_t rank, uint32_t d0,
                           uint32_t d1, uint32_t d2)
{
    char full[64];

    snprintf(full, sizeof(full), "%u.%s", block, name);
    return making_tensor(m, spread, full, rank, d0, d1, d2);
}

static void layernorm_tensors(struct making *m, uint32_t block, uint32_t width)
{
    values_set(block_tensor(m, 0, block, "n.weight", 1, width, 0, 0), width, 1);
    block_tensor(m, 0.1f, block, "n.bias", 1, width, 0, 0);
}

/* The tensors of a mamba layer named "<block>.m"; decays of exp(-dt) to exp(-13 dt). */
static void mamba_tensors(struct making *m, uint32_t block, uint32_t dim, uint32_t rank)
{
    const uint32_t inner = 2 * dim;
    float *a;

    block_tensor(m, 0.1f, block, "m.in_proj.weight", 2, 2 * inner, dim, 0);
    block_tensor(m, 0.5f, block, "m.conv1d.weight", 3, inner, 1, TAPS);
    block_tensor(m, 0.1f, block, "m.conv1d.bias", 1, inner, 0, 0);
    block_tensor(m, 0.1f, block, "m.x_proj.weight", 2, rank + 2 * STATE, inner, 0);
    block_tensor(m, 0.5f, block, "m.dt_proj.weight", 2, inner, rank, 0);
    block_tensor(m, 1, block, "m.dt_proj.bias", 1, inner, 0, 0);
    a = block_tensor(m, 0, block, "m.A_log", 2, inner, STATE, 0);
    for (uint32_t i = 0; i < inner * STATE; i++)
        a[i] = 0.17f * (float)(i % STATE);
    block_tensor(m, 1, block, "m.D", 1, inner, 0, 0);
    block_tensor(m, 0.1f, block, "m.out_proj.weight", 2, dim, inner, 0);
}

/* ---- stacks over audio ------------------------------------------------------------------------------------------- */

static void stack_begin(struct making *m, uint32_t width)
{
    making_init(m, 4);
    m->rate = MODELS_AUDIO_RATE;
    making_layers(m, "{'type':'linear','name':'encoder','in':1,'out':%u,'bias':false}", width);
    making_tensor(m, 1, "encoder.weight", 2, width, 1u);
}

static void stack_end(struct making *m, uint32_t width)
{
    making_layers(m, "{'type':'linear','name':'decoder','in':%u,'out':1,'bias':false}", width);
    making_tensor(m, 0.2f, "decoder.weight", 2, 1u, width);
}

static void s4d_tensors(struct making *m, uint32_t block, uint32_t width, uint32_t modes)
{
    float *imag, *log_dt = block_tensor(m, 2.3f, block, "s.log_dt", 1, width, 0, 0);

    values_set(block_tensor(m, 0, block, "s.log_A_real", 2, width, modes, 0), (size_t)width * modes, -0.693f);
    imag = block_tensor(m, 0, block, "s.A_imag", 2, width, modes, 0);
    for (uint32_t i = 0; i < width; i++)
        log_dt[i] -= 4.6f;
    for (uint32_t i = 0; i < width * modes; i++)
        imag[i] = 3.14159265f * (float)(i % modes);
    block_tensor(m, 1, block, "s.C", 3, width, modes, 2);
    block_tensor(m, 1, block, "s.D", 1, width, 0, 0);
}

void models_s4d(struct making *m, uint32_t blocks, uint32_t width, uint32_t modes)
{
    stack_begin(m, width);
    for (uint32_t k = 0; k < blocks; k++) {
        making_layers(
            m,
            "{'type':'residual','layers':[{'type':'layernorm','name':'%u.n','dim':%u},{'type':'s4d','name':"
            "'%u.s','channels':%u,'state':%u,'discretization':'zoh'},{'type':'activation','fn':'gelu'},{'type':"
            "'linear','name':'%u.l','in':%u,'out':%u,'bias':false},{'type':'glu'}]}",
            k, width, k, width, 2 * modes, k, width, 2 * width);
        layernorm_tensors(m, k, width);
        s4d_tensors(m, k, width, modes);
        block_tensor(m, 0.2f, k, "l.weight", 2, 2 * width, width, 0);
    }
    stack_end(m, width);
}

void models_mamba(struct making *m, uint32_t blocks, uint32_t width)
{
    const uint32_t rank = 4;

    stack_begin(m, width);
    for (uint32_t k = 0; k < blocks; k++) {
        making_layers(m,
                      "{'type':'residual','layers':[{'type':'layernorm','name':'%u.n','dim':%u},{'type':'mamba','name':"
                      "'%u.m','dim':%u,'state':%u,'conv':%u,'dt_rank':%u}]}",
                      k, width, k, width, STATE, TAPS, rank);
        layernorm_tensors(m, k, width);
        mamba_tensors(m, k, width, rank);
    }
    stack_end(m, width);
}

void models_mamba_layer(struct making *m, uint32_t dim)
{
    const uint32_t rank = (dim + 15) / 16;

    making_init(m, 4);
    making_layers(m, "{'type':'mamba','name':'0.m','dim':%u,'state':%u,'conv':%u,'dt_rank':%u}", dim, STATE, TAPS,
                  rank);
    mamba_tensors(m, 0, dim, rank);
}

/* ---- language ---------------------------------------------------------------------------------------------------- */

void models_language(struct making *m, const struct models_language *size)
{
    const uint32_t rank = (size->dim + 15) / 16;

    making_init(m, 1);
    m->vocab = size->vocab;
    m->narrow = size->narrow;
    making_tensor(m, 1, "embedding.weight", 2, size->vocab, size->dim);
    making_layers(m, "{'type':'embedding','name':'embedding','vocab':%u,'dim':%u}", size->vocab, size->dim);
    for (uint32_t i = 0; i < size->layers; i++) {
        making_layers(m,
                      "{'type':'residual','layers':[{'type':'rmsnorm','name':'%u.norm','dim':%u},"
                      "{'type':'mamba','name':'%u.m','dim':%u,'state':%u,'conv':%u,'dt_rank':%u}]}",
                      i, size->dim, i, size->dim, STATE, TAPS, rank);
        block_tensor(m, 1, i, "norm.weight", 1, size->dim, 0, 0);
        mamba_tensors(m, i, size->dim, rank);
    }
    making_tensor(m, 1, "norm.weight", 1, size->dim);
    making_tensor(m, 0.3f, "head.weight", 2, size->vocab, size->dim);
    making_layers(m, "{'type':'rmsnorm','name':'norm','dim':%u}", size->dim);
    making_layers(m, "{'type':'linear','name':'head','in':%u,'out':%u,'bias':false}", size->dim, size->vocab);
    if (size->logits < size->vocab)
        making_layers(m, "{'type':'slice','from':0,'to':%u}", size->logits);
}

/* ---- denoiser ---------------------------------------------------------------------------------------------------- */

/* The layers are text of nested residuals, so they are gathered before making_layers has them. */
struct unet {
    struct making *m;
    FILE *text;
    uint32_t depth, width;
};

/* Channels below `level` strides: 1, half the width, then the width. */
static uint32_t unet_channels(const struct unet *u, uint32_t level)
{
    return level == 0 ? 1 : level == 1 ? u->width / 2 : u->width;
}

/* Weights of a layer with `fan` inputs to a sum, as torch draws them. */
static void unet_tensors(struct unet *u, const char *layer, uint32_t number, uint32_t fan, uint32_t out, uint32_t rank,
                         uint32_t d0, uint32_t d1, uint32_t d2)
{
    float spread = 1 / sqrtf((float)fan);
    char name[64];

    snprintf(name, sizeof(name), "%s%u.weight", layer, number);
    making_tensor(u->m, spread, name, rank, d0, d1, d2);
    snprintf(name, sizeof(name), "%s%u.bias", layer, number);
    making_tensor(u->m, spread, name, 1, out);
}

static void unet_linear(struct unet *u, const char *layer, uint32_t number, uint32_t in, uint32_t out)
{
    fprintf(u->text, "{'type':'linear','name':'%s%u','in':%u,'out':%u}", layer, number, in, out);
    unet_tensors(u, layer, number, in, out, 2, out, in, 0);
}

static void unet_conv(struct unet *u, bool transposed, uint32_t number, uint32_t in, uint32_t out)
{
    const char *layer = transposed ? "up" : "down";

    fprintf(u->text, "{'type':'%s','name':'%s%u','in':%u,'out':%u,'kernel':%u,'stride':2%s}",
            transposed ? "conv_transpose1d" : "conv1d", layer, number, in, out, TAPS,
            transposed ? "" : ",'padding':'valid'");
    unet_tensors(u, layer, number, in * TAPS, out, 3, transposed ? in : out, transposed ? out : in, TAPS);
}

static void unet_bottom(struct unet *u)
{
    const uint32_t width = u->width, rank = (width + 15) / 16;

    unet_linear(u, "bottom", 0, width, width);
    for (uint32_t k = 0; k < 3; k++) {
        fprintf(u->text,
                ",{'type':'residual','layers':[{'type':'layernorm','name':'%u.n','dim':%u},{'type':'mamba','name':"
                "'%u.m','dim':%u,'state':%u,'conv':%u,'dt_rank':%u}]}",
                k, width, k, width, STATE, TAPS, rank);
        layernorm_tensors(u->m, k, width);
        mamba_tensors(u->m, k, width, rank);
    }
    fprintf(u->text, ",{'type':'layernorm','name':'%u.n','dim':%u},", 3, width);
    layernorm_tensors(u->m, 3, width);
    unet_linear(u, "bottom", 1, width, width);
}

/* From the channels of `level` strides down, through everything deeper, and back up to them. */
static void unet_level(struct unet *u, uint32_t level)
{
    uint32_t outer = unet_channels(u, level), inner = unet_channels(u, level + 1);

    unet_conv(u, false, level, outer, inner);
    fprintf(u->text, ",{'type':'activation','fn':'relu'},");
    unet_linear(u, "encoder", level, inner, 2 * inner);
    fprintf(u->text, ",{'type':'glu'},{'type':'residual','layers':[");
    if (level + 1 < u->depth)
        unet_level(u, level + 1);
    else
        unet_bottom(u);
    fprintf(u->text, "]},");
    unet_linear(u, "decoder", level, inner, 2 * inner);
    fprintf(u->text, ",{'type':'glu'},");
    unet_conv(u, true, level, inner, outer);
    if (level > 0)
        fprintf(u->text, ",{'type':'activation','fn':'relu'}");
}

void models_denoiser(struct making *m, uint32_t depth, uint32_t width)
{
    struct unet u = {.m = m, .depth = depth, .width = width};
    size_t size;
    char *text;

    making_init(m, 5);
    m->rate = MODELS_AUDIO_RATE;
    u.text = open_memstream(&text, &size);
    if (!u.text)
        exit(1);
    unet_level(&u, 0);
    if (fclose(u.text))
        exit(1);
    making_layers(m, "{'type':'scale','value':16},%s,{'type':'scale','value':0.0625}", text);
    free(text);
}

struct ssm_model *models_load(struct making *m, uint32_t in_channels, uint32_t out_channels)
{
    struct ssm_model *model;
    struct ssm_error err;

    if (making_load(m, &model, in_channels, out_channels, &err)) {
        fprintf(stderr, "bench: %s\n", err.text);
        exit(1);
    }
    making_fini(m);
    return model;
}
