/* SPDX-License-Identifier: Apache-2.0
 *
 * The models that benchmarks measure, of published shapes and with weights at random: their cost depends on the shape
 * alone. Each function fills m (making_init'd by itself; making_fini is the caller's), to be loaded or written with the
 * channels that its comment says. What goes wrong ends the program.
 */
#ifndef BENCH_MODELS_H
#define BENCH_MODELS_H

#include "tests/ssm/making.h"

#define MODELS_AUDIO_RATE 16000.0

/* Encoder 1 to `width`, residual blocks {layernorm, s4d of `width` channels and `modes` stored modes, gelu, linear to
 * twice the width, glu}, decoder to 1. Channels: 1, 1. */
void models_s4d(struct making *m, uint32_t blocks, uint32_t width, uint32_t modes);

/* The same frame around blocks {layernorm, mamba of state 16, conv 4, rank 4}. Channels: 1, 1. */
void models_mamba(struct making *m, uint32_t blocks, uint32_t width);

/* One mamba layer of state 16 and conv 4, rank dim/16, and nothing else. Channels: dim, dim. */
void models_mamba_layer(struct making *m, uint32_t dim);

/* A Mamba language model: embedding, residual blocks of rmsnorm and mamba (expand 2, state 16, conv 4, rank dim/16),
 * norm, head; mamba-130m is {24, 768, 50280}. `logits` below the vocabulary: so many of the head's results leave the
 * model. All are computed, but what a result costs on its way out is not in the figure. Channels: 1, logits. */
struct models_language {
    uint32_t layers, dim, vocab, logits;
    bool narrow; /* weights that bfloat16 holds */
};
void models_language(struct making *m, const struct models_language *size);

/* A U-Net of strided convolutions around three mamba blocks, which denoises speech: the shape of golden/denoise-mamba,
 * whose depth is 8 and width 64. Channels: 1, 1. */
void models_denoiser(struct making *m, uint32_t depth, uint32_t width);

/* The model that m describes; frees m's tensors. */
struct ssm_model *models_load(struct making *m, uint32_t in_channels, uint32_t out_channels);

#endif
