/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program is prepared with for the conv view: of every layer that has a conv form, the convolution kernels as
 * spectra, and what carries the state over.
 *
 * A wide tile is SSM_CONV_FRAMES frames of one row. A layer that has a conv form takes it whole (ssm/cpu/conv.c): the
 * convolution of the tile's input with the kernel of ssm/kernel.h, what the state adds to it, and the state after. The
 * state passes the tile in blocks of B = layer->block frames, a channel's being one real vector x of `width`
 * coordinates, as in its slot:
 *
 *     y[j] += out[j] x,   x <- x + jump x + in u        of each block, u and y being its frames
 *
 * Kinds with a conv form are those that ssm_conv_new knows; every other layer, and an s4 of more than
 * SSM_CONV_DENSE_MAX states, runs as in a scan. To add a kind, add its kernel and its carry there.
 *
 * From the rounded coefficients of the step, in float64, rounded once. Immutable, and shared by all threads.
 */
#ifndef SSM_CONV_H
#define SSM_CONV_H

#include "ssm/layer.h"
#include "ssm/matrix.h"

#define SSM_CONV_DENSE_MAX 256 /* s4's jump is dense: N^2 floats a channel */

/* How the state of one channel passes a block. */
struct ssm_conv_carry {
    struct ssm_matrix in;   /* (width, B): Abar^(B-1-i) Bbar */
    struct ssm_matrix out;  /* (B, width): C Abar^(j+1) */
    struct ssm_matrix jump; /* (width, width): Abar^B - I; empty when diagonal */
    float *modes;           /* (2, width/2): the same of each mode, re and im, when diagonal; or NULL */
};

struct ssm_conv_layer {
    const struct ssm_layer *layer;
    uint32_t width, block;        /* block: a power of 2; longer where a jump is dense and dear */
    struct ssm_conv_carry *carry; /* (H) */
    float *spectra;               /* (H, SSM_CONV_FRAMES, 2): re and im, divided by SSM_CONV_FRAMES */
};

struct ssm_conv {
    struct ssm_conv_layer *layers;
    uint32_t count;
    struct kiss_fft_state *forward, *back; /* only read: all threads may share them */
    float *slant;                          /* (SSM_CONV_FRAMES, 2): exp(pi i t / (2 SSM_CONV_FRAMES)) */
    size_t scratch_floats;                 /* that any of the layers needs for a wide tile */
};

/* Of a layer: two spectra, what one of them gives, the lines of 16 channels, and the states before and after each
 * block. */
static inline size_t ssm_conv_scratch_floats(size_t width, size_t block)
{
    return (4 + 1 + 16) * SSM_CONV_FRAMES + 2 * SSM_CONV_FRAMES / block * width;
}

/* SSM_NOMEM, or SSM_NONFINITE for a kernel that float32 does not hold; then *out is NULL. */
int ssm_conv_new(struct ssm_conv **out, const struct ssm_sequence *graph, struct ssm_error *err);
void ssm_conv_free(struct ssm_conv *conv);

/* The layer's conv form, or NULL; and whether it has one, or a layer of its branches has. */
const struct ssm_conv_layer *ssm_conv_find(const struct ssm_conv *conv, const struct ssm_layer *layer);
bool ssm_conv_holds(const struct ssm_conv *conv, const struct ssm_layer *layer);

#endif
