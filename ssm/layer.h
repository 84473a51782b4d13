/* SPDX-License-Identifier: Apache-2.0
 *
 * What a layer is, inside libssm: the graph that a configuration becomes, and the table of kinds.
 *
 * A layer is a causal map between index-aligned sequences. Its definition (ssm/layers/KIND.c) reads the keys, takes the
 * tensors, derives the coefficients in float64 and says what state one stream needs; its kernel (ssm/cpu/KIND.c)
 * advances a tile of rows through it. To add a kind: one line in SSM_LAYER_KINDS, one definition file,
 * one kernel, one row in docs/MODELS.md.
 *
 * Invariants: a layer is immutable once built. A state of zero bytes is a fresh stream: what must not start at zero is
 * set by the kernel when the row's frame index is 0. State is float32 (rls: float64) in the published basis, and its
 * definition says what it holds part by part (struct ssm_part), for images.
 *
 * Letters: H channels, N modes or order, K taps, R rows, T time.
 */
#ifndef SSM_LAYER_H
#define SSM_LAYER_H

#include <stdbool.h>

#include "ssm/clock.h"

/* The table of kinds: the word of config.json. Each line gives ssm_kind_<name> (definition) and ssm_cpu_<name>
 * (kernel). */
#define SSM_LAYER_KINDS(X)                                                                                             \
    X(linear)                                                                                                          \
    X(embedding)                                                                                                       \
    X(layernorm)                                                                                                       \
    X(rmsnorm)                                                                                                         \
    X(batchnorm)                                                                                                       \
    X(activation)                                                                                                      \
    X(glu)                                                                                                             \
    X(scale)                                                                                                           \
    X(slice)                                                                                                           \
    X(residual)                                                                                                        \
    X(add)                                                                                                             \
    X(multiply)                                                                                                        \
    X(mean)                                                                                                            \
    X(conv1d)                                                                                                          \
    X(conv_transpose1d)                                                                                                \
    X(downsample)                                                                                                      \
    X(upsample)                                                                                                        \
    X(lti)                                                                                                             \
    X(s4d)                                                                                                             \
    X(s4)                                                                                                              \
    X(s5)                                                                                                              \
    X(mamba)                                                                                                           \
    X(mamba2)                                                                                                          \
    X(hippo)                                                                                                           \
    X(rls)                                                                                                             \
    X(rnn)                                                                                                             \
    X(gru)                                                                                                             \
    X(lstm)                                                                                                            \
    X(attention)

enum ssm_kind_id {
#define X(name) SSM_KIND_##name,
    SSM_LAYER_KINDS(X)
#undef X
        SSM_KIND_COUNT
};

#define SSM_CHANNELS_MAX (1u << 20) /* of any sequence, and of any vocabulary-sized output */

#define SSM_TILE_FRAMES 64 /* that a kernel is given at once, but for those that change the rate or join */

struct ssm_layer;
struct ssm_build;
typedef struct json_t json_t; /* jansson's: who reads keys includes it, who only advances layers need not have it */

/* Layers that follow one another. */
struct ssm_sequence {
    struct ssm_layer *layers;
    uint32_t count;
    uint32_t in, out;          /* channels */
    uint32_t clock, out_clock; /* of the first one's input, of the last one's output */
};

/* What comes into a join from one side: its frames [out_clock, clock) wait in the state. */
struct ssm_side {
    uint32_t clock;
    uint32_t ahead;  /* frames that it runs ahead of the join, at most */
    uint32_t offset; /* of its ring in the layer's state: (ahead, channels), frame t at t % ahead: the last that came */
    uint32_t lead;   /* place in the clocks' leads, until the model is built */
};

struct ssm_join {
    uint32_t sides; /* the branches; before them, of a residual, its input */
    struct ssm_side side[];
};

struct ssm_layer {
    const struct ssm_kind *kind;
    char where[96];            /* "layer 3 (s4d 'encoder')", for messages */
    char name[64];             /* prefixes its tensors; "" when it has none */
    uint32_t in, out;          /* channels */
    uint32_t clock, out_clock; /* of its input, of its output (ssm/clock.h) */
    uint32_t state_bytes;      /* of one stream; 0 for pointwise layers */
    uint32_t state_offset;     /* within the slot, multiple of 64 */
    struct ssm_part *part;     /* what that state is, as an image holds it (ssm_part_add) */
    uint32_t parts;
    bool keeps_state;            /* it or a layer inside it: frames must pass in order */
    uint32_t scratch_floats;     /* that its kernel needs for one tile, besides activations */
    void *params;                /* the kind's own struct (ssm/layers/params.h), owned */
    struct ssm_sequence *branch; /* of residual, add, multiply */
    uint32_t branches;
    struct ssm_join *join; /* of those, when their branches meet at different clocks; or NULL */
};

struct ssm_kind {
    enum ssm_kind_id id;
    const char *type;
    const char *const *keys; /* allowed besides "type" and "name", NULL at the end */
    /* layer->in is set; reads keys and tensors, sets out, state_bytes, scratch_floats, params and branches. */
    int (*init)(struct ssm_build *build, struct ssm_layer *layer, const json_t *keys);
    bool any_rows; /* its kernel takes rows of any number of frames, none too; others are given at least one, and at
                      most SSM_TILE_FRAMES in all */
    bool any_rate; /* means the same, in seconds, to a stream of another rate than the configuration's: it looks at one
                      frame at a time, or is a system in continuous time and takes its step from ssm_build_dt. What
                      counts frames (a kernel, a window) or learned their spacing does not (docs/MODELS.md) */
    /* Frees what params own; the graph frees params and branches themselves. NULL when they own nothing. Runs also
     * after a failed init, and then params may be NULL or half filled. */
    void (*fini)(struct ssm_layer *layer);
};

#define X(name) extern const struct ssm_kind ssm_kind_##name;
SSM_LAYER_KINDS(X)
#undef X

/* The kind of that word, or NULL. */
const struct ssm_kind *ssm_kind_find(const char *type);

/* ---- for definitions: reading keys (errors name file, layer and key) --------------------------------------------- */

int ssm_key_count(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, uint32_t *out,
                  uint32_t min, uint32_t max); /* required */
int ssm_key_count_or(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, uint32_t *out,
                     uint32_t min, uint32_t max, uint32_t otherwise);
int ssm_key_number(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, double *out,
                   double min, double max); /* required, finite, min <= value <= max */
int ssm_key_number_or(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, double *out,
                      double min, double max, double otherwise);
int ssm_key_flag(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, bool *out,
                 bool otherwise);
/* One of `words` (NULL at the end); *out is its position. otherwise < 0: the key is required. */
int ssm_key_word(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key,
                 const char *const *words, int *out, int otherwise);
/* The layers of a JSON array (NULL or another value is refused) into *out, their input having l->in channels. */
int ssm_key_sequence(struct ssm_build *b, struct ssm_layer *l, const json_t *array, struct ssm_sequence *out);

/* The layer makes `factor` frames of each of its windows of `span` input frames, which begin `stride` apart: sets
 * out_clock, which is the input's otherwise. */
int ssm_layer_rate(struct ssm_build *b, struct ssm_layer *l, uint32_t span, uint32_t stride, uint32_t factor);
/* The layer's branches meet (and its input with them, if `own`): sets out_clock and join. Branches that end at
 * different rates are refused. */
int ssm_layer_join(struct ssm_build *b, struct ssm_layer *l, bool own);

/* layer->in must be `channels`; the message says what came. */
int ssm_expect_in(struct ssm_build *b, const struct ssm_layer *l, uint32_t channels);
int ssm_fail(struct ssm_build *b, const struct ssm_layer *l, int status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- for definitions: taking tensors ----------------------------------------------------------------------------- */

/* The tensor "<layer name>.<suffix>" widened to float32 into a new 64-byte aligned array (free()), its shape being
 * exactly dims[0..rank-1] and every value finite. Each tensor is taken once. */
int ssm_tensor_take(struct ssm_build *b, const struct ssm_layer *l, const char *suffix, float **out, uint32_t rank,
                    const uint64_t *dims);
bool ssm_tensor_exists(const struct ssm_build *b, const struct ssm_layer *l, const char *suffix);

/* Facts of the model that some layers need: rls stands at the model's input. */
uint32_t ssm_build_in_channels(const struct ssm_build *b);
bool ssm_build_is_signal(const struct ssm_build *b);
bool ssm_build_is_first(const struct ssm_build *b, const struct ssm_layer *l); /* first layer of the model */

/* ---- for definitions: systems in continuous time, at the stream's rate -------------------------------------------- */

/* The step `dt` that the configuration means for its own rate, at the stream's. */
double ssm_build_dt(const struct ssm_build *b, double dt);
/* The highest |Im A| that a mode of step dt (at the stream's rate) may have, in radians per its time: half the rate, when
 * the model is discretised anew for a lower one; else infinity. What lies above contributes nothing. */
double ssm_build_band(const struct ssm_build *b, double dt);
/* So many modes lie above it and were zeroed. */
void ssm_build_zeroed(struct ssm_build *b, uint32_t modes);

/* The bias "<layer name>.bias" (channels) padded with zeros to whole vectors of 16, or only zeros when `has` is
 * false. */
int ssm_bias_take(struct ssm_build *b, const struct ssm_layer *l, bool has, uint32_t channels, float **out);

/* ---- for definitions: what the state holds ----------------------------------------------------------------------- */

enum ssm_element { SSM_ELEMENT_F32, SSM_ELEMENT_F64, SSM_ELEMENT_U32, SSM_ELEMENT_U64 };

/* One array of a layer's state. An image holds it as (blocks, rows, columns), without the padding of vectors, so that
 * it is the same bytes for every instruction set and device. Every number that the next frame depends on is in a part;
 * all other bytes of the state are zero for ever. What is a ring has its phase in the frame index, or in a part.
 *
 * In the slot, element (b, r, c) lies at offset + element size * (b block_stride + r row_stride + c/16 panel_stride +
 * c%16). */
struct ssm_part {
    enum ssm_element element;
    uint32_t offset;                                 /* bytes from the layer's state on */
    uint32_t blocks, rows, columns;                  /* blocks 0: 1 */
    uint32_t block_stride, row_stride, panel_stride; /* 0: as if what is inside were packed */
    uint64_t most; /* of U32 and U64: no image has more, so that a forged one cannot lead a kernel astray */
};

/* Adds a part (copied) to the layer, whose state_bytes are set and hold it; one without elements adds nothing. Parts
 * of a layer do not overlap. */
int ssm_part_add(struct ssm_build *b, struct ssm_layer *l, const struct ssm_part *part);

/* n zeroed, 64-byte aligned floats (free()), NULL when there is no memory; n = 0 gives one float. */
float *ssm_floats_new(size_t n);

#endif
