/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU's kernels: one function for each layer kind, advancing a tile of rows through one layer.
 *
 * Every file of ssm/cpu is compiled once per instruction set (the Makefile's ISAS: ref is plain C for any processor)
 * with
 * -DSSM_ISA=..., and SSM_CPU() gives each copy its own names. The body is written once; the bits of a result belong to
 * the pair (source, instruction set), so nothing here may depend on how rows were grouped into tiles, on alignment or
 * on time:
 *
 *   - sums run in one fixed order (index order, or 16 interleaved lanes folded by v16_sum);
 *   - products are fused where SSM_FMA or v16_fma says so and nowhere else (-ffp-contract=off).
 *
 * A tile is at most SSM_TILE_FRAMES frames of one or many streams, small enough that the activations of a layer stay in
 * L1/L2 while the tile runs depth-first through the graph. Activations are (frames, channels), row major, the frames of
 * all rows one after another. x and y never overlap. Kernels allocate nothing; scratch comes from the tile.
 *
 * In a graph that changes rates the same rows have other indices and numbers of frames at every clock (ssm/clock.h),
 * and a tile is up to a cell of the model (ssm/model.h): graph.c gives it in pieces to kernels that do not take any
 * rows.
 *
 * In the conv view a tile may be wide: SSM_CONV_FRAMES frames of one row, from the grid on. Only ssm_cpu_conv, for
 * layers with a conv form, and joins of branches that hold one meet it; graph.c gives it to all others in tiles of
 * SSM_TILE_FRAMES. To kernels a row of the conv view is a scan.
 *
 * Threads: a tile belongs to one thread; layers are shared and immutable.
 */
#ifndef SSM_CPU_OPS_H
#define SSM_CPU_OPS_H

#include <stdatomic.h>

#include "ssm/conv.h"
#include "ssm/layer.h"

struct ssm_tile_row {
    unsigned char *state; /* the stream's slot; a layer's part begins at state + layer->state_offset */
    uint64_t index;       /* absolute index of the row's first frame */
    uint32_t first;       /* that frame's place in the tile */
    uint32_t frames;      /* at least 1, but see ssm_tile_clock */
    enum ssm_view
        view; /* SSM_STEP, or SSM_SCAN: frames from `index` on; whole blocks of the grid may take the chunk form */
};

/* The rows of a tile at one clock, all of them in the same order. */
struct ssm_tile_clock {
    struct ssm_tile_row *rows; /* of a clock but the input's, `frames` may be 0 */
    uint32_t frames;           /* sum over rows */
    bool sparse;               /* some row has none */
};

struct ssm_tile {
    const struct ssm_tile_row *rows; /* at the clock of the layer's input */
    uint32_t count;
    uint32_t frames;                     /* sum over rows */
    const struct ssm_tile_clock *clocks; /* every clock of the model */
    const uint32_t *room;                /* frames that buffers hold, at every clock */
    uint32_t inputs;                     /* channels of the model's input */
    const float *signal;                 /* the model's input (frames, inputs), NULL for tokens */
    const int32_t *tokens;               /* (frames), NULL for signals */
    atomic_uint *passed;         /* of a row that threads share: per layer of the graph, its tiles that are through it;
                                    else NULL, and below the graph's own layers */
    unsigned turn;               /* which of that row's tiles this is */
    const struct ssm_conv *conv; /* of a wide tile; NULL: a tile of at most SSM_TILE_FRAMES */
    float *scratch;              /* ssm_cpu_scratch_floats() floats for the whole graph, handed down the recursion */
};

typedef void ssm_cpu_op(const struct ssm_layer *layer, const struct ssm_tile *tile, const float *x, float *y);

#define SSM_CPU_PASTE2(a, b) a##_##b
#define SSM_CPU_PASTE(a, b)  SSM_CPU_PASTE2(a, b)
#define SSM_CPU_STRING2(a)   #a
#define SSM_CPU_STRING(a)    SSM_CPU_STRING2(a)

#ifdef SSM_ISA /* within ssm/cpu */
#define SSM_CPU(name) SSM_CPU_PASTE(name, SSM_ISA)
#define X(name)       ssm_cpu_op SSM_CPU(ssm_cpu_##name);
SSM_LAYER_KINDS(X)
#undef X

/* Run a tile through layers in order: x (frames, sequence->in) to y (frames, sequence->out). */
void SSM_CPU(ssm_cpu_sequence)(const struct ssm_sequence *sequence, const struct ssm_tile *tile, const float *x,
                               float *y);

/* A wide tile through a layer that has a conv form. */
void SSM_CPU(ssm_cpu_conv)(const struct ssm_conv_layer *layer, const struct ssm_tile *tile, const float *x, float *y);

/* Where a kernel finds a row's part of the layer's state. */
static inline void *ssm_row_state(const struct ssm_layer *layer, const struct ssm_tile_row *row)
{
    return row->state + layer->state_offset;
}

/* Whether a whole block of the grid, to be taken by the chunk form, begins at frame t of the row. */
static inline bool ssm_row_block(const struct ssm_tile_row *row, uint32_t t)
{
    return row->view == SSM_SCAN && (row->index + t) % SSM_SCAN_BLOCK == 0 && row->frames - t >= SSM_SCAN_BLOCK;
}

/* Frames from t on that are to be stepped before the next such block, or the end. */
static inline uint32_t ssm_row_stretch(const struct ssm_tile_row *row, uint32_t t)
{
    uint32_t to_grid = SSM_SCAN_BLOCK - (uint32_t)((row->index + t) % SSM_SCAN_BLOCK);

    return row->view == SSM_SCAN && to_grid < row->frames - t ? to_grid : row->frames - t;
}
#endif

/* How many of `left` frames from absolute index `from` on fit `space` frames: a row that must be cut and is not stepped
 * is cut on the grid, which may leave nothing. */
static inline uint32_t ssm_row_piece(enum ssm_view view, uint64_t from, uint32_t left, uint32_t space)
{
    if (left <= space)
        return left;
    if (view != SSM_STEP) {
        uint64_t end = (from + space) / SSM_SCAN_BLOCK * SSM_SCAN_BLOCK;

        return end > from ? (uint32_t)(end - from) : 0;
    }
    return space;
}

/* ---- what the engine sees ---------------------------------------------------------------------------------------- */

struct ssm_cpu {
    const char *isa;
    void (*sequence)(const struct ssm_sequence *sequence, const struct ssm_tile *tile, const float *x, float *y);
};
extern const struct ssm_cpu ssm_cpu_table_ref;
#if defined(__x86_64__)
extern const struct ssm_cpu ssm_cpu_table_avx2;
extern const struct ssm_cpu ssm_cpu_table_avx512;
#endif

/* The table for that name ("ref", "avx2", "avx512"; NULL: the best here), or NULL when this processor or build lacks
 * it. */
const struct ssm_cpu *ssm_cpu_select(const char *isa);
/* Floats of scratch that a graph needs for a tile whose buffers hold room[k] frames at clock k. A wide tile needs those
 * of its own, and then those of ssm_cpu_conv or of a tile of SSM_TILE_FRAMES. */
size_t ssm_cpu_scratch_floats(const struct ssm_sequence *graph, const uint32_t *room);
/* Flush-to-zero for the calling thread: returns what to give to ssm_cpu_floats_restore. */
unsigned ssm_cpu_floats_flush(void);
void ssm_cpu_floats_restore(unsigned saved);

#endif
