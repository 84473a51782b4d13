/* SPDX-License-Identifier: Apache-2.0
 *
 * What a layer keeps after loading: the coefficients that its kernels read, derived in float64 and rounded once.
 *
 * A kind's definition fills its struct, its kernels read it, nobody else knows it. Every view of a layer (step, scan)
 * derives from the same rounded coefficients. Lengths marked +16 are padded with zeros to a multiple of 16 lanes.
 */
#ifndef SSM_LAYERS_PARAMS_H
#define SSM_LAYERS_PARAMS_H

#include "ssm/hippo.h"
#include "ssm/layer.h"
#include "ssm/matrix.h"

#define SSM_PAD16(n) (((n) + 15u) & ~15u)

struct ssm_linear {
    struct ssm_matrix weight;
    float *bias; /* (out+16), zeros without bias */
};

struct ssm_embedding {
    uint32_t vocab;
    float *weight; /* (vocab, dim) */
};

struct ssm_norm { /* layernorm, rmsnorm, batchnorm */
    float eps;
    float *weight; /* (dim); batchnorm: weight / sqrt(running_var + eps) */
    float *bias;   /* (dim); NULL for rmsnorm */
    float *mean;   /* (dim); batchnorm only */
};

enum ssm_activation_fn { SSM_RELU, SSM_GELU, SSM_GELU_TANH, SSM_SILU, SSM_TANH, SSM_SIGMOID, SSM_SOFTPLUS };
struct ssm_activation {
    enum ssm_activation_fn fn;
};

struct ssm_scale {
    float value;
};

struct ssm_slice {
    uint32_t from, to;
};

/* Dense system. State: x (n). Kept as differences: x += (Abar - I) x + Bbar u. */
struct ssm_lti {
    uint32_t n;
    struct ssm_matrix a; /* (n, n): Abar - I */
    struct ssm_matrix b; /* (n, in) */
    struct ssm_matrix c; /* (out, n) */
    struct ssm_matrix d; /* (out, in) */
    /* The chunk form over L = SSM_SCAN_BLOCK frames, from the rounded coefficients; empty where it would cost more:
     *     y[j] = sum over i <= j of K[j-i] u[i] + C Abar^(j+1) x
     *     x <- Abar^L x + sum over i of Abar^(L-1-i) Bbar u[i] */
    struct ssm_matrix block_y; /* (L*out, n + L*in) over (x, u[0..L)) */
    struct ssm_matrix block_x; /* (n, n + L*in): Abar^L - I beside the powers */
};

/* H independent systems of M = N/2 stored complex modes. State: (H, 2, M+16), re then im. */
struct ssm_s4d {
    uint32_t modes;     /* M */
    uint32_t padded;    /* M+16 */
    float *a_re, *a_im; /* (H, M+16) Abar - 1: of a slow mode, float32 keeps the difference, not its sum with 1 */
    float *b_re, *b_im; /* (H, M+16) Bbar */
    float *c_re, *c_im; /* (H, M+16) 2 C, conjugate pairs counted */
    float *d;           /* (H) */
    /* The chunk form over L = SSM_SCAN_BLOCK frames, per channel, from the rounded coefficients. */
    float *kernel;            /* (H, 2L): L zeros, then K[l] = Re sum 2 C Abar^l Bbar, D added at l = 0 */
    float *out_re, *out_im;   /* (H, M, L): 2 C Abar^(j+1), what the carried state adds to frame j */
    float *in_re, *in_im;     /* (H, L, M+16): Abar^(L-1-i) Bbar, what frame i leaves in the state */
    float *jump_re, *jump_im; /* (H, M+16): Abar^L - 1 */
};

/* HiPPO memory of each channel. State and output: (channels, order). */
struct ssm_hippo {
    uint32_t channels, order;
    enum ssm_measure measure;
    int how;             /* enum ssm_discretization */
    bool scaled;         /* time-varying legs: coefficients depend on t */
    struct ssm_matrix a; /* (order, order): Abar - I; empty when scaled */
    float *b;            /* (order+16); empty when scaled */
};

#endif
