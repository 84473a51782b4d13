/* SPDX-License-Identifier: Apache-2.0
 *
 * Every layer kind as docs/MODELS.md defines it, over a whole sequence at once, in plain float64 and for reading.
 *
 * Nothing here is shared with libssm: no packing, no blocks, no carried state; a recurrence is a loop over time, a
 * convolution is its sum, a matrix exponential its series. x and y are (T, channels), row major; weights are the
 * tensors as stored. rls has a file of its own.
 */
#ifndef TESTS_REFERENCE_LAYERS_H
#define TESTS_REFERENCE_LAYERS_H

#include <stdbool.h>
#include <stddef.h>

/* In the words of config.json. */
enum reference_how { REFERENCE_ZOH, REFERENCE_BILINEAR, REFERENCE_FORWARD, REFERENCE_BACKWARD };
enum reference_measure { REFERENCE_LEGS, REFERENCE_LEGT, REFERENCE_LAGT, REFERENCE_FOUT };

/* bias may be NULL, here and below. */
void reference_linear(const float *weight, const float *bias, size_t in, size_t out, const double *x, size_t T,
                      double *y);
void reference_embedding(const float *weight, size_t dim, const int *tokens, size_t T, double *y);
void reference_layernorm(const float *weight, const float *bias, double eps, size_t H, const double *x, size_t T,
                         double *y);
void reference_rmsnorm(const float *weight, double eps, size_t H, const double *x, size_t T, double *y);
void reference_batchnorm(const float *weight, const float *bias, const float *mean, const float *var, double eps,
                         size_t H, const double *x, size_t T, double *y);
/* fn in the words of config.json */
void reference_activation(const char *fn, const double *x, size_t n, double *y);
void reference_glu(size_t H, const double *x, size_t T, double *y); /* x (T, 2H) */
void reference_slice(size_t in, size_t from, size_t to, const double *x, size_t T, double *y);
void reference_mean(size_t H, const double *x, size_t T, double *y);

struct reference_conv1d {
    size_t in, out, kernel, groups, dilation;
    const float *weight; /* (out, in/groups, kernel) */
    const float *bias;
};
void reference_conv1d(const struct reference_conv1d *c, const double *x, size_t T, double *y);

struct reference_lti {
    size_t in, state, out;
    double dt;
    enum reference_how how;
    const float *A, *B, *C, *D;
};
void reference_lti(const struct reference_lti *s, const double *x, size_t T, double *y);

struct reference_s4d {
    size_t channels, modes;
    enum reference_how how;
    const float *log_dt, *log_A_real, *A_imag, *C, *D;
    const float *B; /* NULL: ones */
};
void reference_s4d(const struct reference_s4d *s, const double *x, size_t T, double *y);

struct reference_hippo {
    enum reference_measure measure;
    size_t channels, order;
    double dt;
    enum reference_how how;
    bool scaled;
};
void reference_hippo(const struct reference_hippo *h, const double *x, size_t T, double *y);

/* A (n,n), B (n,m) to Abar, Bbar. */
void reference_discretize(enum reference_how how, double dt, const double *A, const double *B, size_t n, size_t m,
                          double *Abar, double *Bbar);

#endif
