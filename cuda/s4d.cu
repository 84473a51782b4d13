/* SPDX-License-Identifier: Apache-2.0
 *
 * s4d: H diagonal systems of M complex modes, stepped; scans in blocks of the grid.
 *
 *     x[n] <- x[n] + a[n] ((1 + i r[n]) x[n] + b[n] u);   y = sum over n of Re(c[n] x[n]) + d u
 *
 * Abar - 1 = a (1 + i r) with a and r real, and Bbar = a b: the real part of Abar - 1 taken out of the whole change. So
 * a component is three fused operations of which only the last rounds at the size of x. (The change summed as it stands
 * takes a product, two fused and an addition; x carried through all three fused ones rounds at its size three times.)
 * a of less than TINY is TINY: what it would add is below the last bit of x, and b and r need it as their divisor.
 *
 * Modes and state stand in registers for all frames of a row (cuda/modes.cuh); a warp takes one row after another, so
 * that coefficients are loaded once for many. A scan's blocks go the three passes of cuda/diagonal.cuh: gathered, the
 * modes need no outputs; the outputs are those of the step from what enters the block.
 *
 * SHAPES   state (H, 2, M+16); coefs (H, 6, M+16); u, y (frames, H).
 * BITS     the step depends on the frames before and nothing else, however they are cut; see the two headers for sums.
 * COST     8 fused operations a mode, frame and channel, 14 in a scan's blocks; 8 a channel beside them. Bytes: the
 *          state twice for each row, 8 for each input and output. The audio model's layer (H = 64, M = 32), 10,000 rows
 *          of 160 frames: 26.2 G fused operations, 0.78 ms at 67 TFLOP/s; 1.15 GB, 0.38 ms at 3.0 TB/s. Of 16 frames:
 *          0.078 ms, and 0.41 GB, 0.14 ms. In the code for sm_90 sixteen frames of eight modes in a lane are 1024 fused
 *          operations among 1180 instructions, so that to issue them is a floor of 0.9 ms.
 * ERROR    20,000 frames, M = 32, S4D-Lin and S4D-Inv, dt 1e-5 to 0.1, against float64 of the same float32 Abar and
 *          Bbar: max|y - y_f64| / max|y_f64| at most 9e-6 for noise, a slow sine and tones (the change summed as it
 *          stands: 9e-6; x carried through three roundings: 8e-5). A constant input, which a float32 state follows only
 *          to a last bit over |a|: 5e-5 (5e-5; 5e-4). Scans were no worse than steps.
 *          |Bbar / (Abar - 1)| beyond 2^127, a state that a constant input drives beyond float32, is no finite number
 *          here from the first frame on.
 * SOURCE   Gu et al. 2022, "On the Parameterization and Initialization of Diagonal State Space Models". */
#include <math.h>

#include "cuda/diagonal.cuh"
#include "cuda/modes.cuh"
#include "ssm/layers/params.h"

#define TINY   0x1p-40f
#define BLOCKS 4u /* of a processor at least: 128 registers a thread */

enum coef { COEF_A, COEF_R, COEF_B_RE, COEF_B_IM, COEF_C_RE, COEF_C_IM, COEFS };

/* The kind's own. */
struct s4d {
    const float *coefs; /* (H, COEFS, M+16) */
    const float *jump;  /* (H, 2, M+16) Abar^64 - 1 */
    const float *d;     /* (H) */
    uint32_t modes, padded;
    uint32_t wave; /* thread blocks that run at once */
};

struct s4d_work {
    struct cuda_pieces at;
    struct s4d p;
    uint32_t channels;
    const float *x;
    float *y;
    uint32_t activation; /* of the outputs */
};

template <uint32_t MODES> struct coefs {
    float a[MODES], r[MODES], b_re[MODES], b_im[MODES], c_re[MODES], c_im[MODES];
};

template <uint32_t MODES> struct modes {
    float re[MODES], im[MODES];
};

/* ---- one lane ---------------------------------------------------------------------------------------------------- */

/* Where the lane's modes of a panel begin in rows of M+16, and how many floats are there. */
struct place {
    uint32_t channel, g, from, there;
};

template <uint32_t LANES>
__device__ static inline struct place place_find(const struct s4d_work *w, const struct cuda_modes_warp *warp,
                                                 uint32_t from)
{
    uint32_t channel = warp->from + warp->lane / LANES;

    return {channel, warp->lane % LANES, from, channel < w->channels ? w->p.padded - from : 0};
}

/* Without c, where no outputs are wanted. */
template <uint32_t MODES, uint32_t LANES>
__device__ static inline void coefs_load(const struct s4d_work *w, const struct place *at, bool outputs,
                                         struct coefs<MODES> *c)
{
    const float *rows = w->p.coefs + (size_t)at->channel * COEFS * w->p.padded + at->from;
    uint32_t padded = w->p.padded;

    cuda_modes_load<MODES, LANES>(rows + COEF_A * padded, at->g, at->there, c->a);
    cuda_modes_load<MODES, LANES>(rows + COEF_R * padded, at->g, at->there, c->r);
    cuda_modes_load<MODES, LANES>(rows + COEF_B_RE * padded, at->g, at->there, c->b_re);
    cuda_modes_load<MODES, LANES>(rows + COEF_B_IM * padded, at->g, at->there, c->b_im);
    if (outputs) {
        cuda_modes_load<MODES, LANES>(rows + COEF_C_RE * padded, at->g, at->there, c->c_re);
        cuda_modes_load<MODES, LANES>(rows + COEF_C_IM * padded, at->g, at->there, c->c_im);
    }
}

template <uint32_t MODES>
__device__ static inline void modes_frame(const struct coefs<MODES> *c, float u, struct modes<MODES> *x)
{
#pragma unroll
    for (uint32_t n = 0; n < MODES; n++) {
        float re = x->re[n], im = x->im[n];

        x->re[n] = fmaf(c->a[n], fmaf(-c->r[n], im, fmaf(c->b_re[n], u, re)), re);
        x->im[n] = fmaf(c->a[n], fmaf(c->r[n], re, fmaf(c->b_im[n], u, im)), im);
    }
}

template <uint32_t MODES>
__device__ static inline float modes_output(const struct coefs<MODES> *c, const struct modes<MODES> *x)
{
    float sum = c->c_re[0] * x->re[0];

    sum = fmaf(-c->c_im[0], x->im[0], sum);
#pragma unroll
    for (uint32_t n = 1; n < MODES; n++)
        sum = fmaf(-c->c_im[n], x->im[n], fmaf(c->c_re[n], x->re[n], sum));
    return sum;
}

/* n frames of a bout; OUTPUTS: each lane's sums of them. */
template <uint32_t MODES, bool OUTPUTS>
__device__ static inline void bout_advance(const struct coefs<MODES> *c, const float *in, uint32_t n, float *sum,
                                           struct modes<MODES> *x)
{
    const float *fours = in + (n & ~3u), *end = in + n;

#pragma unroll 1
    for (; in < fours; in += 4, sum += OUTPUTS ? 4 : 0) {
        float4 u = *reinterpret_cast<const float4 *>(in), out;

        modes_frame(c, u.x, x);
        out.x = OUTPUTS ? modes_output(c, x) : 0;
        modes_frame(c, u.y, x);
        out.y = OUTPUTS ? modes_output(c, x) : 0;
        modes_frame(c, u.z, x);
        out.z = OUTPUTS ? modes_output(c, x) : 0;
        modes_frame(c, u.w, x);
        out.w = OUTPUTS ? modes_output(c, x) : 0;
        if (OUTPUTS)
            *reinterpret_cast<float4 *>(sum) = out;
    }
#pragma unroll 1
    for (; in < end; in++, sum += OUTPUTS ? 1 : 0) {
        modes_frame(c, *in, x);
        if (OUTPUTS)
            *sum = modes_output(c, x);
    }
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

/* What the frames of each block leave. */
template <uint32_t MODES, uint32_t LANES>
__global__ void __launch_bounds__(CUDA_MODES_THREADS, BLOCKS) s4d_gather(struct s4d_work w)
{
    __shared__ struct cuda_modes_shared<LANES> shared[CUDA_MODES_WARPS];
    struct cuda_modes_shared<LANES> *s = &shared[threadIdx.x / CUDA_WARP];
    struct cuda_modes_warp warp = cuda_modes_begin<LANES>(w.channels);
    uint32_t count = cuda_pieces_count(&w.at, CUDA_PART_BLOCKS);

    for (uint32_t panel = 0; panel < w.p.modes; panel += MODES * LANES) {
        struct place at = place_find<LANES>(&w, &warp, panel);
        uint32_t lane = at.channel * 2 * w.p.padded + panel;
        struct coefs<MODES> c;

        coefs_load<MODES, LANES>(&w, &at, false, &c);
        for (uint32_t i = warp.first; i < count; i += warp.step) {
            struct cuda_piece piece = cuda_piece_block(&w.at, i);
            const float *x = w.x + (size_t)piece.first * w.channels;
            float *to = w.at.enters + (size_t)i * w.at.floats + lane;
            struct cuda_modes_bout<LANES> next;
            struct modes<MODES> state = {
            };

            if (!piece.frames)
                continue;
            cuda_modes_read<LANES>(&warp, x, CUDA_MODES_BOUT, &next);
            for (uint32_t t = 0; t < SSM_DEVICE_BLOCK; t += CUDA_MODES_BOUT) {
                cuda_modes_stage<LANES>(&warp, &next, s);
                x += CUDA_MODES_BOUT * w.channels;
                if (t + CUDA_MODES_BOUT < SSM_DEVICE_BLOCK)
                    cuda_modes_read<LANES>(&warp, x, CUDA_MODES_BOUT, &next);
                bout_advance<MODES, false>(&c, s->in + warp.lane / LANES * CUDA_MODES_STRIDE, CUDA_MODES_BOUT, NULL,
                                           &state);
                __syncwarp();
            }
            cuda_modes_store<MODES, LANES>(to, at.g, at.there, state.re);
            cuda_modes_store<MODES, LANES>(to + w.p.padded, at.g, at.there, state.im);
        }
    }
}

/* The frames of each piece, from the state that enters it. */
template <uint32_t MODES, uint32_t LANES>
__global__ void __launch_bounds__(CUDA_MODES_THREADS, BLOCKS) s4d_advance(struct s4d_work w, enum cuda_part part)
{
    __shared__ struct cuda_modes_shared<LANES> shared[CUDA_MODES_WARPS];
    struct cuda_modes_shared<LANES> *s = &shared[threadIdx.x / CUDA_WARP];
    struct cuda_modes_warp warp = cuda_modes_begin<LANES>(w.channels);
    uint32_t count = cuda_pieces_count(&w.at, part);

    for (uint32_t panel = 0; panel < w.p.modes; panel += MODES * LANES) {
        struct place at = place_find<LANES>(&w, &warp, panel);
        uint32_t lane = at.channel * 2 * w.p.padded + panel;
        uint32_t activation = panel + MODES * LANES < w.p.modes ? CUDA_NO_ACTIVATION : w.activation;
        struct coefs<MODES> c;

        coefs_load<MODES, LANES>(&w, &at, true, &c);
        for (uint32_t i = warp.first; i < count; i += warp.step) {
            struct cuda_piece piece = cuda_piece_find(&w.at, part, i);
            const float *x = w.x + (size_t)piece.first * w.channels;
            float *y = w.y + (size_t)piece.first * w.channels;
            struct cuda_modes_bout<LANES> next;
            struct modes<MODES> state;

            if (!piece.frames)
                continue;
            cuda_modes_read<LANES>(&warp, x, piece.frames, &next);
            cuda_modes_load<MODES, LANES>(piece.from + lane, at.g, at.there, state.re);
            cuda_modes_load<MODES, LANES>(piece.from + lane + w.p.padded, at.g, at.there, state.im);
            for (uint32_t left = piece.frames, n; left; left -= n) {
                n = left < CUDA_MODES_BOUT ? left : CUDA_MODES_BOUT;
                cuda_modes_stage<LANES>(&warp, &next, s);
                x += n * w.channels;
                if (left > n)
                    cuda_modes_read<LANES>(&warp, x, left - n, &next);
                bout_advance<MODES, true>(&c, s->in + warp.lane / LANES * CUDA_MODES_STRIDE, n,
                                          s->sum + warp.lane * CUDA_MODES_STRIDE, &state);
                cuda_modes_write<LANES>(&warp, s, n, LANES == CUDA_WARP && panel > 0, w.p.d, activation, y);
                y += n * w.channels;
            }
            if (piece.to) {
                cuda_modes_store<MODES, LANES>(piece.to + lane, at.g, at.there, state.re);
                cuda_modes_store<MODES, LANES>(piece.to + lane + w.p.padded, at.g, at.there, state.im);
            }
        }
    }
}

/* ---- host -------------------------------------------------------------------------------------------------------- */

/* Kernels for so many modes, the last one for any. */
struct shape {
    uint32_t modes;
    uint32_t (*groups)(uint32_t channels);
    void (*advance)(struct s4d_work w, enum cuda_part part);
    void (*gather)(struct s4d_work w);
};

#define SHAPE(MODES, LANES)                                                                                            \
    {                                                                                                                  \
        MODES *LANES, cuda_modes_groups<LANES>, s4d_advance<MODES, LANES>, s4d_gather<MODES, LANES>                    \
    }

static const struct shape shapes[] = {SHAPE(2, 1), SHAPE(4, 1), SHAPE(8, 1),  SHAPE(8, 2),
                                      SHAPE(8, 4), SHAPE(8, 8), SHAPE(8, 16), SHAPE(8, 32)};

static const struct shape *shape_find(uint32_t modes)
{
    size_t last = sizeof(shapes) / sizeof(*shapes) - 1, i = 0;

    while (i < last && shapes[i].modes < modes)
        i++;
    return &shapes[i];
}

/* Channel h's coefficients and jump, mode n; `stride` from row to row. */
static void mode_derive(const struct ssm_s4d *p, size_t h, size_t n, float *coefs, float *jump)
{
    size_t at = h * p->padded + n, stride = p->padded;
    float a = fabsf(p->a_re[at]) < TINY ? -TINY : p->a_re[at], r = (float)((double)p->a_im[at] / a);

    coefs += h * COEFS * stride + n;
    coefs[COEF_A * stride] = a;
    coefs[COEF_R * stride] = r;
    coefs[COEF_B_RE * stride] = (float)((double)p->b_re[at] / a);
    coefs[COEF_B_IM * stride] = (float)((double)p->b_im[at] / a);
    coefs[COEF_C_RE * stride] = p->c_re[at];
    coefs[COEF_C_IM * stride] = p->c_im[at];
    jump += h * 2 * stride + n;
    cuda_diagonal_jump(a, (double)a * r, jump, jump + stride);
}

static void build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_s4d *p = (const struct ssm_s4d *)layer->params;
    size_t lanes = (size_t)layer->out * p->padded;
    struct s4d *out = (struct s4d *)cuda_params(b, sizeof(*out));
    float *coefs = (float *)cuda_params(b, COEFS * lanes * sizeof(float));
    float *jump = (float *)cuda_params(b, 2 * lanes * sizeof(float));

    if (!out || !coefs || !jump)
        return;
    for (size_t h = 0; h < layer->out; h++)
        for (size_t n = 0; n < p->modes; n++)
            mode_derive(p, h, n, coefs, jump);
    out->coefs = cuda_upload_floats(b, coefs, COEFS * lanes);
    out->jump = cuda_upload_floats(b, jump, 2 * lanes);
    out->d = cuda_upload_floats(b, p->d, layer->out);
    out->modes = p->modes;
    out->padded = p->padded;
    out->wave = BLOCKS * cuda_processors();
    *params = out;
}

static size_t scratch(const struct cuda_layer *l, const struct cuda_tile *tile)
{
    return tile->scans ? cuda_places(tile->clock[l->layer->clock].frames_room) * l->layer->state_bytes : 0;
}

static void pieces_advance(const struct shape *shape, const struct s4d_work *w, enum cuda_part part, uint64_t pieces,
                           cudaStream_t stream)
{
    uint32_t grid = cuda_modes_grid(shape->groups(w->channels), pieces, w->p.wave);

    if (grid)
        CUDA_LAUNCH(shape->advance, dim3(grid), dim3(CUDA_MODES_THREADS), 0, stream, *w, part);
}

static cudaError_t launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct s4d *p = (const struct s4d *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    uint32_t floats = l->layer->state_bytes / (uint32_t)sizeof(float);
    struct s4d_work w = {{*span, l->layer->state_offset, floats, (float *)tile->scratch}, *p, l->layer->out, x, y,
                         tile->after.activation};
    const struct shape *shape = shape_find(p->modes);
    uint32_t places = (uint32_t)cuda_places(span->frames_room);
    uint32_t grid = cuda_modes_grid(shape->groups(w.channels), places, p->wave);
    cudaError_t status;

    pieces_advance(shape, &w, CUDA_PART_HEADS, span->rows_room, tile->stream);
    if (tile->scans && places) {
        CUDA_LAUNCH(shape->gather, dim3(grid), dim3(CUDA_MODES_THREADS), 0, tile->stream, w);
        if ((status = cuda_diagonal_combine(&w.at, p->jump, w.channels, p->modes, tile->stream)))
            return status;
        pieces_advance(shape, &w, CUDA_PART_BLOCKS, places, tile->stream);
        pieces_advance(shape, &w, CUDA_PART_TAILS, span->rows_room, tile->stream);
    }
    return cudaGetLastError();
}

extern const struct cuda_kind cuda_kind_s4d = {build, scratch, launch, CUDA_TAKES_ACTIVATION};
