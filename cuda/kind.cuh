/* SPDX-License-Identifier: Apache-2.0
 *
 * What a layer kind is on this device: how it is built (uploads), and its launcher, which takes all rows of a tile
 * through one layer. One .cu for each family of kinds; the table is in cuda/kinds.cu, its lines are SSM_LAYER_KINDS.
 *
 * Activations are (frames, channels), row major, the frames of all rows one after another; x and y never overlap.
 * States lie as struct ssm_part says: the CPU's layout, so that an image needs no other code. A layer's part of a row's
 * state begins at row.state + layer->state_offset, 64-byte aligned.
 *
 * A launch may be captured in a graph and replayed with other rows. So grids are sized by *rooms*, which are equal for
 * all tiles of a graph, and kernels stop at the *counts*, which they read from device memory. A launcher looks at
 * nothing else of the tile, allocates nothing and waits for nothing.
 *
 * The bits of a stream depend on nothing but its own frames: every sum runs in an order that no other row, no room and
 * no number of frames in the row has a say in. Products are fused where the source says fmaf (the build has
 * --fmad=false, the host build -ffp-contract=off), so that what is computed is what is written, there and here.
 *
 * Errors: a launcher returns 0 or the first cudaError_t.
 */
#ifndef CUDA_KIND_CUH
#define CUDA_KIND_CUH

#include "cuda/launch.cuh"
#include "ssm/backend.h"

/* A row at one clock, in device memory. */
struct cuda_row {
    unsigned char *state; /* of its slot */
    uint64_t index;       /* absolute index of its first frame there */
    uint32_t first;       /* that frame's place in the activations */
    uint32_t frames;      /* may be 0 */
    uint32_t view;        /* SSM_STEP, or SSM_SCAN: whole blocks of the grid take the chunk form */
    uint32_t begins;      /* 1: the stream's first frame of all is in this tile, its state is zero */
};

/* In device memory, one for each clock. */
struct cuda_count {
    uint32_t rows, frames;
};

/* A tile at one clock, as launchers see it. */
struct cuda_span {
    const struct cuda_row *rows;    /* device: (count->rows) */
    const struct cuda_count *count; /* device */
    const uint32_t *owner;          /* device: (count->frames), which row a frame belongs to */
    uint32_t rows_room;             /* at least count->rows */
    uint32_t frames_room;           /* at least count->frames */
    uint32_t longest_room;          /* at least the frames of any row */
};

/* What a launcher does to its outputs before it stores them, in place of the layers behind it: in this order, each or
 * none, with the bits of those layers. A kind's `takes` says which it can. */
#define CUDA_NO_ACTIVATION  0u
#define CUDA_ACTIVATION(fn) (1u + (uint32_t)(fn)) /* of enum ssm_activation_fn */

struct cuda_after {
    uint32_t activation = CUDA_NO_ACTIVATION;
    bool glu = false;      /* y has half the layer's channels */
    const float *residual = NULL; /* device: is added; of y's shape, does not overlap it. NULL: none */
};

/* RELU: that activation alone. */
enum { CUDA_TAKES_ACTIVATION = 1, CUDA_TAKES_GLU = 2, CUDA_TAKES_RESIDUAL = 4, CUDA_TAKES_RELU = 8 };

struct cuda_tile {
    cudaStream_t stream;
    const struct cuda_span *clock; /* host: (clocks of the model) */
    const float *signal;           /* device: the model's input (frames, inputs); NULL for tokens */
    const int32_t *tokens;         /* device: (frames); NULL for signals */
    uint32_t inputs;
    bool scans;                    /* whether some row of it is SSM_SCAN */
    unsigned char *scratch;        /* device: what the layer's kind asked for, 256-byte aligned */
    struct cuda_after after = {};  /* what the launched layer takes over */
};

struct cuda_sequence;

struct cuda_layer {
    const struct ssm_layer *layer;
    const struct cuda_kind *kind;
    void *params;                 /* host: the kind's own struct, holding device pointers; NULL when it has none */
    struct cuda_sequence *branch; /* (layer->branches) */
    struct cuda_after after;      /* of the layers behind it, `fused` of them, which it takes over */
    uint32_t fused;
};

/* Where a program is being built: what is uploaded lives as long as the program. */
struct cuda_build;
/* A copy in device memory, 256-byte aligned; NULL after a failure, which the build remembers: builders need not look. */
void *cuda_upload(struct cuda_build *b, const void *host, size_t bytes);
static inline float *cuda_upload_floats(struct cuda_build *b, const float *host, size_t n)
{
    return (float *)cuda_upload(b, host, n * sizeof(float));
}
/* Zeroed host memory for a kind's params; NULL likewise. */
void *cuda_params(struct cuda_build *b, size_t bytes);

struct cuda_kind {
    /* Fills *params from layer->params. NULL: nothing to build. */
    void (*build)(struct cuda_build *b, const struct ssm_layer *layer, void **params);
    /* Bytes of scratch for tiles of those rooms, a growing function of them. NULL: none. */
    size_t (*scratch)(const struct cuda_layer *l, const struct cuda_tile *tile);
    /* x (frames at layer->clock, layer->in) to y (frames at layer->out_clock, layer->out). NULL: joins, which
     * cuda/graph.cu runs. */
    cudaError_t (*launch)(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y);
    uint32_t takes = 0; /* CUDA_TAKES_: its launch looks at tile->after */
};

#define X(name) extern const struct cuda_kind cuda_kind_##name;
SSM_LAYER_KINDS(X)
#undef X

#ifdef __cplusplus
/* The layer's part of a row's state. */
template <typename T> __device__ static inline T *cuda_row_state(const struct cuda_row *row, uint32_t state_offset)
{
    return reinterpret_cast<T *>(row->state + state_offset);
}

/* A row as a kernel may read it before its turn (cuda/launch.cuh). */
__device__ static inline struct cuda_row cuda_row_early(const struct cuda_row *row)
{
    struct cuda_row r = {};

    r.state = reinterpret_cast<unsigned char *>(__ldcg(reinterpret_cast<const unsigned long long *>(&row->state)));
    r.index = __ldcg(reinterpret_cast<const unsigned long long *>(&row->index));
    r.first = __ldcg(&row->first);
    r.frames = __ldcg(&row->frames);
    r.view = __ldcg(&row->view);
    r.begins = __ldcg(&row->begins);
    return r;
}

/* Whether a whole block of the grid, to be taken by the chunk form, begins at frame t of the row. */
__device__ static inline bool cuda_row_block(const struct cuda_row *row, uint32_t t)
{
    return row->view == SSM_SCAN && (row->index + t) % SSM_DEVICE_BLOCK == 0 && row->frames - t >= SSM_DEVICE_BLOCK;
}

/* Frames from t on that are to be stepped before the next such block, or the end. */
__device__ static inline uint32_t cuda_row_stretch(const struct cuda_row *row, uint32_t t)
{
    uint32_t to_grid = SSM_DEVICE_BLOCK - (uint32_t)((row->index + t) % SSM_DEVICE_BLOCK), left = row->frames - t;

    return row->view == SSM_SCAN && to_grid < left ? to_grid : left;
}
#endif

#endif
