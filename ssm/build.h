/* SPDX-License-Identifier: Apache-2.0
 *
 * The making of a graph: what is known while a configuration becomes layers. Lives for one ssm_model_build.
 *
 * Invariants: every layer's name is used once; every tensor is taken once, and none is left over; depth and number of
 * layers are bounded, so that a hostile configuration costs a bounded stack and memory.
 */
#ifndef SSM_BUILD_H
#define SSM_BUILD_H

#include <jansson.h>

#include "ssm/layer.h"
#include "ssm/safetensors.h"

#define SSM_DEPTH_MAX       64u
#define SSM_LAYERS_MAX      4096u
#define SSM_STATE_BYTES_MAX ((size_t)1 << 30)

struct ssm_step {
    uint32_t layer; /* position in its list */
    int32_t branch; /* of that layer, into which the next step goes; -1 when it has only one */
};

struct ssm_build {
    const char *file;            /* of the configuration, for messages */
    const char *dir;             /* of the tensors, for messages; NULL for templates */
    struct ssm_error *err;       /* may be NULL */
    struct ssm_tensors *tensors; /* NULL for templates */
    json_t *names;               /* the layers' names, as the keys of an object */
    struct ssm_clocks *clocks;   /* the model's */
    bool signal;
    uint32_t in_channels;
    uint32_t vocab;        /* 0 for signals */
    double rate, stretch;  /* the stream's, when the model is discretised anew for it: then steps grow by `stretch` */
    uint32_t modes_zeroed; /* so far */
    char fixed_by[96];     /* struct ssm_model_info's; "" so far */

    struct ssm_step trail[SSM_DEPTH_MAX]; /* to the layer at work, trail[depth] being its own */
    uint32_t depth;
    uint32_t layers;               /* so far, of all depths */
    const struct ssm_layer *first; /* of the model */
    size_t state_bytes;            /* so far, multiple of 64 */
    size_t weight_bytes;           /* so far, as float32 */
};

/* The whole graph from the array `layers`, its clocks settled; err says what is wrong. On failure *out still needs
 * ssm_sequence_fini. */
int ssm_build_graph(struct ssm_build *b, const json_t *layers, struct ssm_sequence *out);
/* Settles the graph's clocks, what joins keep and where every layer's state lies; *cell is struct ssm_model's. */
int ssm_build_settle(struct ssm_build *b, struct ssm_sequence *graph, uint32_t *cell);
/* Frees what the sequence owns, of all depths; a zeroed or half-built one is legal. */
void ssm_sequence_fini(struct ssm_sequence *sequence);

/* Refuses a key of `object` that is not among `keys` (NULL at the end), "type" and "name". */
int ssm_key_check_known(struct ssm_build *b, const struct ssm_layer *l, const json_t *object, const char *const *keys);
/* A short text of a JSON value for messages, into `text`, which it returns. */
const char *ssm_key_text(const json_t *value, char *text, size_t size);

#endif
