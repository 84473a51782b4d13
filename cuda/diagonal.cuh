/* SPDX-License-Identifier: Apache-2.0
 *
 * What s4d and s5 share: how a tile's rows are cut into pieces, and the scan's carry from block to block.
 *
 *     x <- x + (a x + b)          a kept less 1, complex, one system for each lane
 *
 * A row is stepped up to the grid (its head), goes through whole blocks of the grid of SSM_DEVICE_BLOCK absolute
 * indices, and is stepped behind them (its tail); a row without whole blocks is all head. The blocks of all rows go
 * three passes, so that one long row fills the device:
 *
 *     gather      each block by itself, from zero: what its frames leave, to `enters` of its place
 *     combine     each row's blocks in index order: e <- x, x <- x + (jump x + e),   jump = (1+a)^64 - 1
 *     the frames  each block by itself, from what entered it
 *
 * BITS   a block's passes know of nothing but its own frames and the state that enters it, so a row may be cut anywhere
 *        on the grid, and neither rooms nor the rows beside show.
 *
 * Places: a block has the place of its first frame / SSM_DEVICE_BLOCK among the tile's. Blocks do not overlap, so no
 * two have the same, and a place finds its block without a list: it is the one, if any, that holds the last frame of
 * the place.
 */
#ifndef CUDA_DIAGONAL_CUH
#define CUDA_DIAGONAL_CUH

#include "cuda/kind.cuh"

enum cuda_part { CUDA_PART_HEADS, CUDA_PART_BLOCKS, CUDA_PART_TAILS };

/* A tile's rows at the layer's clock, and where blocks keep what enters them. */
struct cuda_pieces {
    struct cuda_span span;
    uint32_t state_offset;
    uint32_t floats; /* of the layer's state of one stream */
    float *enters;   /* device: (places, floats); NULL in tiles without scans */
};

/* Frames that follow one another, through which a state goes. */
struct cuda_piece {
    const float *from; /* state that enters */
    float *to;         /* where it goes; NULL: nobody needs it */
    uint32_t first;    /* place of the first frame in the activations */
    uint32_t frames;   /* 0: nothing to do */
};

/* Places for blocks in a tile of so many frames. */
static inline size_t cuda_places(uint32_t frames_room)
{
    return frames_room / SSM_DEVICE_BLOCK;
}

/* Processors of the current device, so that a grid may be one wave. */
static inline uint32_t cuda_processors(void)
{
    int device = 0, count = 0;

    if (cudaGetDevice(&device) || cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) || count < 1)
        return 1;
    return (uint32_t)count;
}

/* (1+a)^64 - 1 of the coefficient a, from which nothing is taken that is not there: e <- e (2 + e), in float64. */
static inline void cuda_diagonal_jump(double a_re, double a_im, float *jump_re, float *jump_im)
{
    for (uint32_t power = 1; power < SSM_DEVICE_BLOCK; power *= 2) {
        double re = a_re * (2 + a_re) - a_im * a_im;

        a_im = 2 * a_im * (1 + a_re);
        a_re = re;
    }
    *jump_re = (float)a_re;
    *jump_im = (float)a_im;
}

/* The second pass: what the blocks left becomes what enters them, and the rows' states pass the blocks. State, jump and
 * each place of `enters` are (channels, 2, padded), re then im, of which `modes` columns are there. */
cudaError_t cuda_diagonal_combine(const struct cuda_pieces *pieces, const float *jump, uint32_t channels,
                                  uint32_t modes, cudaStream_t stream);

/* ---- on the device ----------------------------------------------------------------------------------------------- */

/* One frame, or one block: the whole change is summed first and added to x once. */
__device__ static inline void cuda_diagonal_step(float a_re, float a_im, float b_re, float b_im, float *x_re,
                                                 float *x_im)
{
    float old_re = *x_re;

    *x_re = *x_re + fmaf(a_re, *x_re, fmaf(-a_im, *x_im, b_re));
    *x_im = *x_im + fmaf(a_re, *x_im, fmaf(a_im, old_re, b_im));
}

/* Frames of a row before its first whole block, and how many of those it has. */
__device__ static inline uint32_t cuda_row_head(const struct cuda_row *row, uint32_t *blocks)
{
    uint32_t head = (uint32_t)(-row->index % SSM_DEVICE_BLOCK);

    *blocks = 0;
    if (row->view != SSM_SCAN || row->frames < head + SSM_DEVICE_BLOCK)
        return row->frames;
    *blocks = (row->frames - head) / SSM_DEVICE_BLOCK;
    return head;
}

/* How many pieces there may be of a part; some of them are nothing. */
__device__ static inline uint32_t cuda_pieces_count(const struct cuda_pieces *p, enum cuda_part part)
{
    return part == CUDA_PART_BLOCKS ? p->span.count->frames / SSM_DEVICE_BLOCK : p->span.count->rows;
}

/* The block of that place; frames 0 when there is none. */
__device__ static inline struct cuda_piece cuda_piece_block(const struct cuda_pieces *p, uint32_t place)
{
    uint32_t last = place * SSM_DEVICE_BLOCK + SSM_DEVICE_BLOCK - 1;
    const struct cuda_row *row = &p->span.rows[p->span.owner[last]];
    uint32_t t = last - row->first, into = (uint32_t)((row->index + t) % SSM_DEVICE_BLOCK);
    struct cuda_piece piece = {p->enters + (size_t)place * p->floats, NULL, last - into, 0};

    if (row->view == SSM_SCAN && into <= t && row->frames - (t - into) >= SSM_DEVICE_BLOCK)
        piece.frames = SSM_DEVICE_BLOCK;
    return piece;
}

__device__ static inline struct cuda_piece cuda_piece_find(const struct cuda_pieces *p, enum cuda_part part, uint32_t i)
{
    if (part == CUDA_PART_BLOCKS)
        return cuda_piece_block(p, i);

    const struct cuda_row *row = &p->span.rows[i];
    uint32_t blocks, head = cuda_row_head(row, &blocks), done = head + blocks * SSM_DEVICE_BLOCK;
    float *state = cuda_row_state<float>(row, p->state_offset);
    struct cuda_piece piece = {state, state, row->first, head};

    if (part == CUDA_PART_TAILS) {
        piece.first += done;
        piece.frames = row->frames - done;
    }
    return piece;
}

#endif
