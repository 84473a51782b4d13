/* SPDX-License-Identifier: Apache-2.0
 *
 * s5: a product from all channels into P complex modes, the diagonal recurrence, and a product back.
 *
 *     v[t] = Bbar u[t];   x[p] <- a[p] x[p] + v[t][p];   y[t] = D u[t] + Re(C x)    (c holds the 2 of the pairs)
 *
 * Both products run over all frames of the tile at once, whoever they belong to. Between them a thread takes one mode
 * of one row through its frames, v becoming x in its place; of a scan, through one block (cuda/diagonal.cuh), so that a
 * long row fills the device.
 *
 * SHAPES   state (2, P+16); scratch: v, and then x in its place, (frames, 2, P+16), and what enters blocks;
 *          u, y (frames, H).
 * BITS     y sums D u, then the modes in the order of a product of 2 (P+16) inputs. A mode's order is that of time.
 * COST     8 H P + 8 P + 2 H flops a frame, 16 P in a scan's blocks instead of 8 P. The bytes of the recurrence, 16 P
 *          a frame (24 P in blocks), are its floor: H = P = 64 is 0.49 ns a frame for the products at 67 TFLOP/s and
 *          0.34 ns for the recurrence at 3.0 TB/s, as long as v does not stay in the cache.
 * SOURCE   Smith et al. 2023, "Simplified State Space Layers for Sequence Modeling". */
#include "cuda/diagonal.cuh"
#include "cuda/matrix.cuh"
#include "ssm/layers/s5.h"

#define THREADS 128u
#define AHEAD   8u /* frames that a thread asks for at once */

/* The kind's own. */
struct s5 {
    struct cuda_matrix b, c;
    const float *a_re, *a_im; /* (P+16) Abar - 1 */
    const float *jump;        /* (2, P+16) Abar^64 - 1 */
    const float *d;           /* (H) */
    uint32_t padded;
};

struct s5_work {
    struct cuda_pieces at;
    const float *a_re, *a_im;
    uint32_t padded;
    float *v; /* (frames, 2, P+16) */
};

/* A block of threads: neighbours in x are neighbours in memory. */
static dim3 threads_of(uint32_t width)
{
    uint32_t x = CUDA_WARP;

    while (x < width && x < THREADS)
        x *= 2;
    return dim3(x, THREADS / x);
}

static dim3 grid_of(uint32_t width, uint64_t rows)
{
    dim3 threads = threads_of(width);
    uint32_t y = cuda_blocks(rows, threads.y);

    return dim3(cuda_blocks(width, threads.x), y < 65535 ? y : 65535);
}

/* One mode through `frames`; v begins at the first. KEEP: x takes its place. */
template <bool KEEP>
__device__ static inline void mode_advance(float a_re, float a_im, uint32_t padded, float *v, uint32_t frames,
                                           float *x_re, float *x_im)
{
    float in_re[AHEAD], in_im[AHEAD];

    for (uint32_t t = 0; t < frames; t += AHEAD, v += (size_t)2 * AHEAD * padded) {
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            in_re[i] = t + i < frames ? v[(size_t)2 * i * padded] : 0;
            in_im[i] = t + i < frames ? v[((size_t)2 * i + 1) * padded] : 0;
        }
#pragma unroll
        for (uint32_t i = 0; i < AHEAD; i++) {
            if (t + i < frames) {
                cuda_diagonal_step(a_re, a_im, in_re[i], in_im[i], x_re, x_im);
                if (KEEP) {
                    v[(size_t)2 * i * padded] = *x_re;
                    v[((size_t)2 * i + 1) * padded] = *x_im;
                }
            }
        }
    }
}

/* What the frames of each block leave. */
__global__ void __launch_bounds__(THREADS) s5_gather(struct s5_work w)
{
    uint32_t mode = blockIdx.x * blockDim.x + threadIdx.x, count = cuda_pieces_count(&w.at, CUDA_PART_BLOCKS);

    if (mode >= w.padded)
        return;
    for (uint32_t i = blockIdx.y * blockDim.y + threadIdx.y; i < count; i += gridDim.y * blockDim.y) {
        struct cuda_piece piece = cuda_piece_block(&w.at, i);
        float *to = w.at.enters + (size_t)i * w.at.floats + mode, x_re = 0, x_im = 0;

        if (piece.frames) {
            mode_advance<false>(w.a_re[mode], w.a_im[mode], w.padded, w.v + (size_t)piece.first * 2 * w.padded + mode,
                                piece.frames, &x_re, &x_im);
            to[0] = x_re;
            to[w.padded] = x_im;
        }
    }
}

/* The frames of each piece, from the state that enters it. */
__global__ void __launch_bounds__(THREADS) s5_advance(struct s5_work w, enum cuda_part part)
{
    uint32_t mode = blockIdx.x * blockDim.x + threadIdx.x, count = cuda_pieces_count(&w.at, part);

    if (mode >= w.padded)
        return;
    for (uint32_t i = blockIdx.y * blockDim.y + threadIdx.y; i < count; i += gridDim.y * blockDim.y) {
        struct cuda_piece piece = cuda_piece_find(&w.at, part, i);

        if (piece.frames) {
            float x_re = piece.from[mode], x_im = piece.from[mode + w.padded];

            mode_advance<true>(w.a_re[mode], w.a_im[mode], w.padded, w.v + (size_t)piece.first * 2 * w.padded + mode,
                               piece.frames, &x_re, &x_im);
            if (piece.to) {
                piece.to[mode] = x_re;
                piece.to[mode + w.padded] = x_im;
            }
        }
    }
}

/* y = D u. */
__global__ void __launch_bounds__(THREADS)
    s5_pass(const struct cuda_count *count, uint32_t channels, const float *d, const float *x, float *y)
{
    uint32_t channel = blockIdx.x * blockDim.x + threadIdx.x, frames = count->frames;

    if (channel >= channels)
        return;
    for (uint32_t t = blockIdx.y * blockDim.y + threadIdx.y; t < frames; t += gridDim.y * blockDim.y)
        y[(size_t)t * channels + channel] = d[channel] * x[(size_t)t * channels + channel];
}

/* ---- host -------------------------------------------------------------------------------------------------------- */

static void build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_s5 *p = (const struct ssm_s5 *)layer->params;
    struct s5 *out = (struct s5 *)cuda_params(b, sizeof(*out));
    float *jump = (float *)cuda_params(b, 2 * (size_t)p->padded * sizeof(float));

    if (!out || !jump)
        return;
    for (size_t n = 0; n < p->padded; n++)
        cuda_diagonal_jump(p->a_re[n], p->a_im[n], &jump[n], &jump[p->padded + n]);
    cuda_matrix_build(b, &p->b, &out->b);
    cuda_matrix_build(b, &p->c, &out->c);
    out->a_re = cuda_upload_floats(b, p->a_re, p->padded);
    out->a_im = cuda_upload_floats(b, p->a_im, p->padded);
    out->jump = cuda_upload_floats(b, jump, 2 * (size_t)p->padded);
    out->d = cuda_upload_floats(b, p->d, layer->out);
    out->padded = p->padded;
    *params = out;
}

/* v comes first. */
static size_t v_bytes(const struct s5 *p, const struct cuda_span *span)
{
    return ((size_t)span->frames_room * 2 * p->padded * sizeof(float) + 255) & ~(size_t)255;
}

static size_t scratch(const struct cuda_layer *l, const struct cuda_tile *tile)
{
    const struct cuda_span *span = &tile->clock[l->layer->clock];

    size_t places = tile->scans ? cuda_places(span->frames_room) : 0;

    return v_bytes((const struct s5 *)l->params, span) + places * l->layer->state_bytes;
}

static cudaError_t modes_launch(const struct s5 *p, const struct cuda_tile *tile, const struct s5_work *w)
{
    const struct cuda_span *span = &w->at.span;
    dim3 threads = threads_of(p->padded), rows = grid_of(p->padded, span->rows_room);
    uint32_t places = (uint32_t)cuda_places(span->frames_room);
    cudaError_t status;

    CUDA_LAUNCH(s5_advance, rows, threads, 0, tile->stream, *w, CUDA_PART_HEADS);
    if (tile->scans && places) {
        dim3 blocks = grid_of(p->padded, places);

        CUDA_LAUNCH(s5_gather, blocks, threads, 0, tile->stream, *w);
        if ((status = cuda_diagonal_combine(&w->at, p->jump, 1, p->padded, tile->stream)))
            return status;
        CUDA_LAUNCH(s5_advance, blocks, threads, 0, tile->stream, *w, CUDA_PART_BLOCKS);
        CUDA_LAUNCH(s5_advance, rows, threads, 0, tile->stream, *w, CUDA_PART_TAILS);
    }
    return cudaGetLastError();
}

static cudaError_t launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct s5 *p = (const struct s5 *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    uint32_t H = l->layer->out, floats = l->layer->state_bytes / (uint32_t)sizeof(float);
    float *v = (float *)tile->scratch, *enters = (float *)(tile->scratch + v_bytes(p, span));
    struct s5_work w = {{*span, l->layer->state_offset, floats, enters}, p->a_re, p->a_im, p->padded, v};
    struct cuda_product in = {x, H, v, floats, NULL, false, &span->count->frames, span->frames_room};
    struct cuda_product out = {v, floats, y, H, NULL, true, &span->count->frames, span->frames_room};
    cudaError_t status;

    if ((status = cuda_matrix_launch(&p->b, &in, tile->stream)) || (status = modes_launch(p, tile, &w)))
        return status;
    CUDA_LAUNCH(s5_pass, grid_of(H, span->frames_room), threads_of(H), 0, tile->stream, span->count, H, p->d, x, y);
    if ((status = cudaGetLastError()))
        return status;
    return cuda_matrix_launch(&p->c, &out, tile->stream);
}

extern const struct cuda_kind cuda_kind_s5 = {build, scratch, launch};
