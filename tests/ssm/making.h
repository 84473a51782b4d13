/* SPDX-License-Identifier: Apache-2.0
 *
 * Models for tests: tensors of random numbers and a configuration, written to a temporary directory as config.json and
 * model.safetensors, loaded with ssm_model_load, and the directory removed again.
 *
 *     struct making m;
 *     making_init(&m, seed);
 *     w = making_tensor(&m, 0.5, "l.weight", 2, 7, 3);               uniform in [-0.5, 0.5)
 *     making_layers(&m, "{'type':'linear','name':'l','in':%u,...}, {...}", 3);
 *     status = making_load(&m, &model, 3, 7, &err);
 *     making_fini(&m);                                               also frees the tensors
 */
#ifndef TESTS_SSM_MAKING_H
#define TESTS_SSM_MAKING_H

#include <stdbool.h>
#include <stdint.h>

#include "ssm/ssm.h"

enum { MAKING_TENSORS_MAX = 512, MAKING_LAYERS_MAX = 65536 };

struct making_tensor {
    char name[64];
    uint32_t rank;
    uint32_t dims[4];
    float *values;
};

struct making {
    uint32_t seed;
    uint32_t vocab;    /* set after init: a model of tokens */
    double rate;       /* of the input, Hz; 0 is 100 */
    double rate_ratio; /* of the output's rate over the input's; 0 is 1 */
    bool narrow;       /* tensors are written as BF16: rounded, and half the bytes */
    struct making_tensor tensor[MAKING_TENSORS_MAX];
    uint32_t tensors;
    char layers[MAKING_LAYERS_MAX]; /* JSON, what stands between [ and ] */
};

/* xorshift32: uniform in [-1, 1), and a number below n. */
float making_noise(uint32_t *seed);
uint32_t making_number(uint32_t *seed, uint32_t below);

void making_init(struct making *m, uint32_t seed); /* seed is not 0 */
void making_fini(struct making *m);

/* A tensor of rank dimensions (uint32_t each), uniform in [-spread, spread); the test may overwrite its values before
 * making_load. Owned by m. */
float *making_tensor(struct making *m, float spread, const char *name, uint32_t rank, ...);

/* Appends layers, printf-style JSON with ' for ". */
void making_layers(struct making *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes config.json and model.safetensors of the model that has `in` channels (1 for tokens) and `out` into a directory
 * that is there. */
void making_write(const struct making *m, const char *dir, uint32_t in_channels, uint32_t out_channels);

/* Loads the model that has `in` channels (1 for tokens) and `out`. */
SSM_MUST_CHECK int making_load(const struct making *m, struct ssm_model **out, uint32_t in_channels,
                               uint32_t out_channels, struct ssm_error *err);

#endif
