/* SPDX-License-Identifier: Apache-2.0
 *
 * The carry of a diagonal scan from block to block (cuda/diagonal.cuh): one thread a mode, one block after another.
 *
 *     e <- x,   x <- x + (jump x + e)         e: what a block left, then what enters it
 *
 * SHAPES   state, jump and a place of `enters`: (channels, 2, padded).
 * BITS     index order, whatever the number of blocks.
 * COST     8 flops and 16 bytes a block and mode: the bytes give the floor, 5.3 ps at 3.0 TB/s. One row has few
 *          threads, so each asks for AHEAD blocks at once; what a row of few channels then waits for is the latency of
 *          one round of reads for AHEAD * SSM_DEVICE_BLOCK frames.
 * SOURCE   Blelloch 1990, "Prefix Sums and Their Applications"; ssm/scan.h (blocks). */
#include "cuda/diagonal.cuh"

#define THREADS 128u
#define AHEAD   16u

struct diagonal_work {
    struct cuda_pieces at;
    const float *jump;
    uint32_t channels, modes, padded;
};

/* `blocks` of a mode, each `stride` floats behind the one before; AHEAD of them are read before they are needed. */
__device__ static inline void mode_combine(float jump_re, float jump_im, float *enters, size_t stride, uint32_t padded,
                                           uint32_t blocks, float *x_re, float *x_im)
{
    float left_re[AHEAD], left_im[AHEAD];

    for (uint32_t k = 0; k < blocks; k += AHEAD) {
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            left_re[i] = k + i < blocks ? enters[(k + i) * stride] : 0;
            left_im[i] = k + i < blocks ? enters[(k + i) * stride + padded] : 0;
        }
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            if (k + i < blocks) {
                enters[(k + i) * stride] = *x_re;
                enters[(k + i) * stride + padded] = *x_im;
                cuda_diagonal_step(jump_re, jump_im, left_re[i], left_im[i], x_re, x_im);
            }
        }
    }
}

__global__ void __launch_bounds__(THREADS) diagonal_combine(struct diagonal_work w)
{
    uint32_t mode = blockIdx.x * THREADS + threadIdx.x, rows = w.at.span.count->rows;

    if (mode >= w.channels * w.modes)
        return;

    size_t lane = (size_t)(mode / w.modes) * 2 * w.padded + mode % w.modes;
    float jump_re = w.jump[lane], jump_im = w.jump[lane + w.padded];

    for (uint32_t r = blockIdx.y; r < rows; r += gridDim.y) {
        const struct cuda_row *row = &w.at.span.rows[r];
        uint32_t blocks, head = cuda_row_head(row, &blocks);

        if (blocks) {
            float *state = cuda_row_state<float>(row, w.at.state_offset) + lane;
            float *enters = w.at.enters + (size_t)((row->first + head) / SSM_DEVICE_BLOCK) * w.at.floats + lane;
            float x_re = state[0], x_im = state[w.padded];

            mode_combine(jump_re, jump_im, enters, w.at.floats, w.padded, blocks, &x_re, &x_im);
            state[0] = x_re;
            state[w.padded] = x_im;
        }
    }
}

cudaError_t cuda_diagonal_combine(const struct cuda_pieces *pieces, const float *jump, uint32_t channels,
                                  uint32_t modes, cudaStream_t stream)
{
    struct diagonal_work w = {*pieces, jump, channels, modes, pieces->floats / (2 * channels)};
    uint32_t rows = pieces->span.rows_room < 4096 ? pieces->span.rows_room : 4096;
    dim3 grid(cuda_blocks((uint64_t)channels * modes, THREADS), rows);

    if (rows)
        CUDA_LAUNCH(diagonal_combine, grid, dim3(THREADS), 0, stream, w);
    return cudaGetLastError();
}
