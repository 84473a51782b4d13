/* SPDX-License-Identifier: Apache-2.0
 *
 * Preparing a graph for the conv view; see conv.h. */
#include "ssm/conv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <kissfft/kiss_fft.h>

#include "ssm/discretize.h"
#include "ssm/kernel.h"
#include "ssm/model.h"

#define S SSM_CONV_FRAMES

#define BLOCK_DIAGONAL 16
#define BLOCK_DENSE    64

/* In float64, for one channel after another. */
struct work {
    double *K;                  /* (S) */
    double complex *values;     /* (S) */
    const double complex *turn; /* (S/2): exp(2 pi i k / S) */
    uint32_t block;             /* B */
    double *in, *out;           /* (width, B), (B, width) */
};

/* ---- the state over a block -------------------------------------------------------------------------------------- */

static int s4d_carry(const struct ssm_s4d *p, uint32_t h, const struct work *w, struct ssm_conv_carry *c)
{
    size_t padded = p->padded, width = 2 * padded, B = w->block;

    c->modes = ssm_floats_new(width);
    if (!c->modes)
        return SSM_NOMEM;
    for (size_t n = 0; n < p->modes; n++) {
        size_t lane = h * padded + n;
        double complex a = 1 + (double)p->a_re[lane] + I * p->a_im[lane], power = 1;
        double complex b = p->b_re[lane] + I * (double)p->b_im[lane], r = p->c_re[lane] + I * (double)p->c_im[lane];

        for (size_t i = 0; i < B; i++) {
            w->in[n * B + B - 1 - i] = creal(power * b);
            w->in[(padded + n) * B + B - 1 - i] = cimag(power * b);
            power *= a;
            w->out[i * width + n] = creal(r * power);
            w->out[i * width + padded + n] = -cimag(r * power);
        }
        c->modes[n] = (float)(creal(power) - 1);
        c->modes[padded + n] = (float)cimag(power);
    }
    return SSM_OK;
}

/* Coordinate k of (Re x, Im x) lies at this place of the channel's state. */
static size_t s4_place(const struct ssm_s4 *p, size_t k)
{
    return k < p->modes ? k : p->padded + k - p->modes;
}

/* jump = A^B - I, A (N, N) being destroyed; power and padded are room for (N, N) and (width, width), the latter
 * zeros. */
static int s4_jump(const struct ssm_s4 *p, uint32_t B, double *A, double *power, double *padded,
                   struct ssm_matrix *jump)
{
    uint32_t N = 2 * p->modes, width = 2 * p->padded;

    for (uint32_t n = 1; n < B; n *= 2) {
        ssm_multiply_f64(A, A, N, N, N, power);
        memcpy(A, power, (size_t)N * N * sizeof(*A));
    }
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t k = 0; k < N; k++)
            padded[s4_place(p, i) * width + s4_place(p, k)] = A[i * N + k] - (i == k);
    return ssm_matrix_pack_f64(jump, padded, width, width);
}

static int s4_carry(const struct ssm_s4 *p, uint32_t h, const struct work *w, struct ssm_conv_carry *c)
{
    uint32_t N = 2 * p->modes, width = 2 * p->padded, B = w->block;
    const float *b = ssm_s4_channel(p, h) + SSM_S4_B * p->padded, *r = ssm_s4_channel(p, h) + SSM_S4_C * p->padded;
    double *A = calloc(2 * (size_t)N * N + (size_t)width * width + 3 * N, sizeof(*A)), *power = A + (size_t)N * N;
    double *padded = power + (size_t)N * N, *x = padded + (size_t)width * width, *y = x + N, *next = y + N;
    int status = SSM_NOMEM;

    if (!A || (status = ssm_kernel_s4_matrix(p, h, A)))
        goto out;
    for (uint32_t k = 0; k < N; k++) {
        x[k] = b[s4_place(p, k)];
        y[k] = k < p->modes ? r[k] : -r[s4_place(p, k)];
    }
    for (uint32_t i = 0; i < B; i++) {
        for (uint32_t k = 0; k < N; k++)
            w->in[s4_place(p, k) * B + B - 1 - i] = x[k];
        ssm_multiply_f64(A, x, N, N, 1, next);
        memcpy(x, next, N * sizeof(*x));
        ssm_multiply_f64(y, A, 1, N, N, next);
        memcpy(y, next, N * sizeof(*y));
        for (uint32_t k = 0; k < N; k++)
            w->out[i * width + s4_place(p, k)] = y[k];
    }
    status = s4_jump(p, B, A, power, padded, &c->jump);
out:
    free(A);
    return status;
}

/* ---- the spectra ------------------------------------------------------------------------------------------------- */

/* The spectrum of K on the slant, in the order and with the sign of KissFFT. */
static int spectrum_fill(const struct work *w, float *spectrum)
{
    for (size_t t = 0; t < S; t++)
        w->values[t] = w->K[t] / S * cexp(I * (M_PI / (2 * S) * (double)t));
    ssm_kernel_transform(w->values, w->turn, S);
    for (size_t k = 0; k < S; k++) {
        double complex value = w->values[(S - k) % S];

        spectrum[2 * k] = (float)creal(value);
        spectrum[2 * k + 1] = (float)cimag(value);
        if (!isfinite(spectrum[2 * k]) || !isfinite(spectrum[2 * k + 1]))
            return SSM_NONFINITE;
    }
    return SSM_OK;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

/* Floats of one channel's state, or 0 when the layer has no conv form. */
static uint32_t layer_width(const struct ssm_layer *layer)
{
    const struct ssm_s4d *s4d = layer->params;
    const struct ssm_s4 *s4 = layer->params;

    if (layer->kind->id == SSM_KIND_s4d)
        return 2 * s4d->padded;
    if (layer->kind->id == SSM_KIND_s4 && 2 * s4->modes <= SSM_CONV_DENSE_MAX)
        return 2 * s4->padded;
    return 0;
}

static int channel_init(struct ssm_conv_layer *c, uint32_t h, const struct work *w)
{
    const struct ssm_layer *layer = c->layer;
    struct ssm_conv_carry *carry = &c->carry[h];
    bool diagonal = layer->kind->id == SSM_KIND_s4d;
    int status;

    memset(w->in, 0, 2 * (size_t)c->width * c->block * sizeof(*w->in));
    if ((status = diagonal ? ssm_kernel_s4d(layer->params, h, S, w->K) : ssm_kernel_s4(layer->params, h, S, w->K)) ||
        (status = spectrum_fill(w, c->spectra + (size_t)h * S * 2)) ||
        (status = diagonal ? s4d_carry(layer->params, h, w, carry) : s4_carry(layer->params, h, w, carry)) ||
        (status = ssm_matrix_pack_f64(&carry->in, w->in, c->width, c->block)) ||
        (status = ssm_matrix_pack_f64(&carry->out, w->out, c->block, c->width)))
        return status;
    return SSM_OK;
}

static int layer_init(struct ssm_conv_layer *c, const double complex *turn)
{
    size_t H = c->layer->out;
    double *reals = calloc(S + 2 * (size_t)c->width * c->block, sizeof(*reals));
    struct work w = {.K = reals, .values = calloc(S, sizeof(*w.values)), .turn = turn, .block = c->block};
    int status = SSM_NOMEM;

    c->carry = calloc(H, sizeof(*c->carry));
    c->spectra = ssm_floats_new(H * S * 2);
    if (!reals || !w.values || !c->carry || !c->spectra)
        goto out;
    w.in = reals + S;
    w.out = w.in + (size_t)c->width * c->block;
    status = SSM_OK;
    for (uint32_t h = 0; status == SSM_OK && h < H; h++)
        status = channel_init(c, h, &w);
out:
    free(reals);
    free(w.values);
    return status;
}

/* One entry for each layer that has a conv form; in a first pass, without c->layers, only their number. */
static void layers_list(struct ssm_conv *c, const struct ssm_sequence *sequence)
{
    for (uint32_t i = 0; i < sequence->count; i++) {
        const struct ssm_layer *layer = &sequence->layers[i];
        uint32_t width = layer_width(layer);

        if (width > 0 && c->layers)
            c->layers[c->count] =
                (struct ssm_conv_layer){.layer = layer,
                                        .width = width,
                                        .block = layer->kind->id == SSM_KIND_s4d ? BLOCK_DIAGONAL : BLOCK_DENSE};
        c->count += width > 0;
        for (uint32_t b = 0; b < layer->branches; b++)
            layers_list(c, &layer->branch[b]);
    }
}

/* Room for the layers, and what transforms them; turn (S/2) is for the spectra's own, in float64. */
static int conv_init(struct ssm_conv *c, const struct ssm_sequence *graph, double complex *turn)
{
    layers_list(c, graph);
    c->layers = calloc(c->count + 1, sizeof(*c->layers));
    c->forward = kiss_fft_alloc(S, 0, NULL, NULL);
    c->back = kiss_fft_alloc(S, 1, NULL, NULL);
    c->slant = ssm_floats_new(2 * S);
    if (!c->layers || !c->forward || !c->back || !c->slant || !turn)
        return SSM_NOMEM;
    c->count = 0;
    layers_list(c, graph);
    for (uint32_t i = 0; i < c->count; i++) {
        size_t floats = ssm_conv_scratch_floats(c->layers[i].width, c->layers[i].block);

        c->scratch_floats = floats > c->scratch_floats ? floats : c->scratch_floats;
    }
    for (size_t k = 0; k < S; k++) {
        double complex slant = cexp(I * (M_PI / (2 * S) * (double)k));

        c->slant[2 * k] = (float)creal(slant);
        c->slant[2 * k + 1] = (float)cimag(slant);
        if (k < S / 2)
            turn[k] = cexp(I * (2 * M_PI / S * (double)k));
    }
    return SSM_OK;
}

int ssm_conv_new(struct ssm_conv **out, const struct ssm_sequence *graph, struct ssm_error *err)
{
    struct ssm_conv *c = calloc(1, sizeof(*c));
    double complex *turn = calloc(S / 2, sizeof(*turn));
    const char *where = "the model";
    int status = c ? conv_init(c, graph, turn) : SSM_NOMEM;

    for (uint32_t i = 0; status == SSM_OK && i < c->count; i++) {
        where = c->layers[i].layer->where;
        status = layer_init(&c->layers[i], turn);
    }
    free(turn);
    *out = c;
    if (status == SSM_OK)
        return SSM_OK;
    ssm_conv_free(c);
    *out = NULL;
    return ssm_error_set(err, status, "%s has no conv view: %s", where,
                         status == SSM_NONFINITE ? "its convolution kernel is too large for float32"
                                                 : ssm_status_text(status));
}

void ssm_conv_free(struct ssm_conv *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; c->layers && i < c->count; i++) {
        struct ssm_conv_layer *l = &c->layers[i];

        for (uint32_t h = 0; l->carry && h < l->layer->out; h++) {
            ssm_matrix_fini(&l->carry[h].in);
            ssm_matrix_fini(&l->carry[h].out);
            ssm_matrix_fini(&l->carry[h].jump);
            free(l->carry[h].modes);
        }
        free(l->carry);
        free(l->spectra);
    }
    free(c->layers);
    kiss_fft_free(c->forward);
    kiss_fft_free(c->back);
    free(c->slant);
    free(c);
}

const struct ssm_conv_layer *ssm_conv_find(const struct ssm_conv *c, const struct ssm_layer *layer)
{
    for (uint32_t i = 0; i < c->count; i++)
        if (c->layers[i].layer == layer)
            return &c->layers[i];
    return NULL;
}

bool ssm_conv_holds(const struct ssm_conv *c, const struct ssm_layer *layer)
{
    if (ssm_conv_find(c, layer))
        return true;
    for (uint32_t b = 0; b < layer->branches; b++)
        for (uint32_t i = 0; i < layer->branch[b].count; i++)
            if (ssm_conv_holds(c, &layer->branch[b].layers[i]))
                return true;
    return false;
}
