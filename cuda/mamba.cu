/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba: one selective state-space block, and its recurrence for rows of one frame.
 *
 * Five launches take a tile through the layer: in_proj; the convolution with silu, out of xz into u; x_proj; the
 * recurrence, with dt's projection, softplus, D and the gate in one kernel, y in u's place; out_proj. dt's projection
 * is narrow: with 48 ranks it is 48 products for each channel beside 16 states, so it costs less than a launch and the
 * two passes over (frames, L) that it saves. It is this file's own, in one order of sums for every kernel.
 *
 * Rows of one frame move a state for a few operations on each number of it, so the kernel here is made for memory. A
 * warp has a panel of 16 channels: lane = 4 g + q has channels 4q..4q+3 of the states that are g modulo 8, so that an
 * access of 16 bytes for each lane is 512 contiguous bytes of the state for the warp. It goes through the rows in
 * strides, the panel's weights and rates staying in L1; states pass by it. The lanes of one g, or of two, have one
 * channel each for what is once for a channel: dt, softplus, the gate.
 *
 * Longer rows are cuda/mamba_rows.cu.
 *
 * SHAPES   scratch: xz (frames, 2L), u (frames, L), mixed (frames, R and R + 2N padded to quads); for blocks side by side
 *          (slots, L, N + 1).
 * BITS     cuda/mamba.cuh.
 * COST     of the recurrence, for each row: L*N times 6 flops and an exponential of 9 instructions, 2*L*R flops of dt,
 *          and some 60*L. 8*L*N bytes of state must move: 8,192 rows of 1536 x 16 move 1.61 GB, 0.54 ms at 3.0 TB/s;
 *          u, z and y are 0.15 GB more. The arithmetic is some 250 instructions of a warp for 2 KiB that move, which
 *          at 3.0 TB/s leave 600.
 * ERROR    as ssm/cpu/mamba.c's: the decay is applied less 1.
 * SOURCE   Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces". */
#include <stdlib.h>

#include "cuda/mamba.cuh"

#define WARPS 4224u /* blocks of one warp that the device holds: 32 on each of 132 multiprocessors */

/* Few channels in long rows leave the device idle when blocks of the grid follow one another, and fill it when they are
 * taken side by side, for twice the exponentials. */
#define FEW_PANELS  48u
#define LONG_FRAMES 512u

struct mamba_params {
    struct cuda_projection in_proj, x_proj, out_proj;
    struct cuda_window window;
    struct mamba_system system;
};

/* Panels (L/16, R, 16) to (L/16, rank/4, 16, 4), zeros beyond R. */
static const float *dt_weight_upload(struct cuda_build *b, const struct ssm_matrix *m)
{
    size_t quads = (m->in + 3) / 4, panels = m->out / SSM_PANEL, n = panels * quads * SSM_PANEL * 4;
    float *packed = (float *)calloc(n, sizeof(*packed));
    const float *there;

    for (size_t p = 0; packed && p < panels; p++)
        for (size_t r = 0; r < m->in; r++)
            for (size_t c = 0; c < SSM_PANEL; c++)
                packed[((p * quads + r / 4) * SSM_PANEL + c) * 4 + r % 4] = m->panels[(p * m->in + r) * SSM_PANEL + c];
    there = cuda_upload_floats(b, packed, n);
    free(packed);
    return there;
}

/* x_proj with outputs of zero between dt, of R, and what follows, so that every frame's dt is whole quads. */
static void x_proj_build(struct cuda_build *b, const struct ssm_linear *from, uint32_t R, struct cuda_projection *out)
{
    uint32_t zeros = (4 - R % 4) % 4;
    struct ssm_linear spread = {{from->weight.out + zeros, from->weight.in, NULL}, NULL};
    size_t in = from->weight.in, panels = (spread.weight.out + SSM_PANEL - 1) / SSM_PANEL;

    spread.weight.panels = (float *)calloc(panels * in * SSM_PANEL, sizeof(float));
    spread.bias = (float *)calloc(spread.weight.out, sizeof(float));
    for (size_t o = 0; spread.weight.panels && spread.bias && o < from->weight.out; o++) {
        size_t to = o < R ? o : o + zeros;

        spread.bias[to] = from->bias[o];
        for (size_t i = 0; i < in; i++)
            spread.weight.panels[(to / SSM_PANEL * in + i) * SSM_PANEL + to % SSM_PANEL] =
                from->weight.panels[(o / SSM_PANEL * in + i) * SSM_PANEL + o % SSM_PANEL];
    }
    if (spread.weight.panels && spread.bias)
        cuda_projection_build(b, &spread, out);
    else
        (void)cuda_upload(b, NULL, 1); /* which the build remembers */
    free(spread.weight.panels);
    free(spread.bias);
}

static void build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_mamba *from = (const struct ssm_mamba *)layer->params;
    struct mamba_params *p = (struct mamba_params *)cuda_params(b, sizeof(*p));

    *params = p;
    if (!p)
        return;
    cuda_projection_build(b, &from->in_proj, &p->in_proj);
    x_proj_build(b, &from->x_proj, from->rank, &p->x_proj);
    cuda_projection_build(b, &from->out_proj, &p->out_proj);
    cuda_window_build(b, &from->window, &p->window);
    p->system.lanes = from->lanes;
    p->system.states = from->state;
    p->system.rank = (from->rank + 3) & ~3u;
    p->system.mixed_stride = (p->system.rank + 2 * from->state + 3) & ~3u;
    p->system.offset = layer->state_offset + (from->window.kernel - 1) * from->lanes * (uint32_t)sizeof(float);
    p->system.rate = cuda_upload_floats(b, from->rate, (size_t)from->lanes * from->state);
    p->system.d = cuda_upload_floats(b, from->d, from->lanes);
    p->system.dt_weight = dt_weight_upload(b, &from->dt_proj.weight);
    p->system.dt_bias = cuda_upload_floats(b, from->dt_proj.bias, from->lanes);
}

/* Floats of scratch, one array after another. */
struct sizes {
    size_t xz, u, mixed, state, dt;
};

static struct sizes sizes_of(const struct mamba_params *p, const struct cuda_span *span)
{
    const struct mamba_system *s = &p->system;
    size_t frames = ((size_t)span->frames_room + 15) & ~(size_t)15; /* so that every array begins aligned */
    size_t slots = s->lanes / CUDA_PANEL <= FEW_PANELS ? cuda_slots(span) : 0;
    struct sizes z = {frames * 2 * s->lanes, frames * s->lanes, frames * s->mixed_stride, slots * s->lanes * s->states,
                      slots * s->lanes};

    return z;
}

static size_t scratch(const struct cuda_layer *l, const struct cuda_tile *tile)
{
    struct sizes z = sizes_of((const struct mamba_params *)l->params, &tile->clock[l->layer->clock]);

    return (z.xz + z.u + z.mixed + z.state + z.dt) * sizeof(float);
}

/* A warp's panel, for one row after another. */
struct panel {
    uint32_t lane, q, g, first, channel; /* first: of the panel's channels; channel: which is this lane's own */
};

/* dt of the lane's four channels. */
__device__ static inline float4 panel_dt(const struct mamba_system *sys, const struct panel *p, const float *mixed)
{
    float dt, other;

    mamba_dt_part<1, 4>(sys, p->channel, mixed, 0, p->g / 4, &dt);
    other = __shfl_xor_sync(CUDA_LANES, dt, 16);
    dt = mamba_softplus(dt + other);
    return make_float4(__shfl_sync(CUDA_LANES, dt, (int)p->q), __shfl_sync(CUDA_LANES, dt, (int)p->q + 8),
                       __shfl_sync(CUDA_LANES, dt, (int)p->q + 4), __shfl_sync(CUDA_LANES, dt, (int)p->q + 12));
}

template <uint32_t NT>
__device__ static inline void states_load(const struct mamba_system *sys, const float4 *h, bool begins, uint32_t n,
                                          float4 *to)
{
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += CUDA_PANEL_LANES)
        to[i] = begins || n >= sys->states ? cuda_quad(0) : __ldcs(h + n * 4);
}

/* States n, n + 8, ... of four channels through a frame, and back to memory; their part of y is added to `part`. */
template <uint32_t NT>
__device__ static inline float4 states_step(const struct mamba_system *sys, const float4 *rate, const float *mixed,
                                            float4 dt, float4 drive, uint32_t n, const float4 *from, float4 *h,
                                            float4 part)
{
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += CUDA_PANEL_LANES)
        if (n < sys->states) {
            float b = __ldg(mixed + sys->rank + n), c = __ldg(mixed + sys->rank + sys->states + n);
            float4 a = __ldg(rate + n * 4), x = from[i];

            x.x = mamba_advance(x.x, mamba_change(dt.x * a.x), drive.x, b);
            x.y = mamba_advance(x.y, mamba_change(dt.y * a.y), drive.y, b);
            x.z = mamba_advance(x.z, mamba_change(dt.z * a.z), drive.z, b);
            x.w = mamba_advance(x.w, mamba_change(dt.w * a.w), drive.w, b);
            part = cuda_quad_fma(x, cuda_quad(c), part);
            __stcs(h + n * 4, x);
        }
    return part;
}

/* One frame of a row. NT: states of a lane that are under way at once; more of them follow in groups. */
template <uint32_t NT>
__device__ static inline void panel_step(const struct mamba_system *sys, const struct mamba_signal *sig,
                                         const struct panel *p, const struct cuda_row *row)
{
    const uint32_t group = NT * CUDA_PANEL_LANES;
    const float *mixed = sig->mixed + (size_t)row->first * sys->mixed_stride;
    float *u = sig->u + (size_t)row->first * sys->lanes + p->first;
    float4 *h = reinterpret_cast<float4 *>(cuda_row_state<float>(row, sys->offset) + (size_t)p->first * sys->states);
    const float4 *rate = reinterpret_cast<const float4 *>(sys->rate + (size_t)p->first * sys->states);
    float own = u[p->channel - p->first], gate = sig->xz[((size_t)row->first * 2 + 1) * sys->lanes + p->channel];
    float4 state[NT], dt, drive = *reinterpret_cast<const float4 *>(u + p->q * 4), part = cuda_quad(0);
    float sum = 0;

    states_load<NT>(sys, h + p->q, row->begins, p->g, state);
    dt = panel_dt(sys, p, mixed);
    drive = cuda_quad_mul(dt, drive);
    for (uint32_t n = 0; n < sys->states; n += group) {
        part = states_step<NT>(sys, rate + p->q, mixed, dt, drive, n + p->g, state, h + p->q, part);
        if (n + group < sys->states)
            states_load<NT>(sys, h + p->q, row->begins, n + group + p->g, state);
        if ((n + group) % CUDA_PANEL_CHUNK == 0 || n + group >= sys->states) {
            float chunk = cuda_panel_sum(part, p->lane);

            sum = n < CUDA_PANEL_CHUNK ? chunk : sum + chunk;
            part = cuda_quad(0);
        }
    }
    if (p->g < 4)
        u[p->channel - p->first] = mamba_finish(sum, sys->d[p->channel], own, gate);
}

template <uint32_t NT>
__global__ static void __launch_bounds__(CUDA_WARP)
    mamba_step(struct mamba_system sys, struct mamba_signal sig, struct cuda_span span)
{
    uint32_t lane = threadIdx.x, first = blockIdx.x * CUDA_PANEL;
    struct panel p = {lane, lane % 4, lane / 4, first, first + cuda_panel_channel(lane)};

    for (uint32_t r = blockIdx.y; r < span.count->rows; r += gridDim.y)
        if (span.rows[r].frames > 0)
            panel_step<NT>(&sys, &sig, &p, &span.rows[r]);
}

cudaError_t cuda_mamba_step(const struct mamba_system *sys, const struct mamba_signal *sig,
                            const struct cuda_span *span, cudaStream_t stream)
{
    uint32_t panels = sys->lanes / CUDA_PANEL, most = WARPS / panels + 1;
    dim3 grid(panels, span->rows_room < most ? span->rows_room : most), block(CUDA_WARP);

    if (sys->states <= CUDA_PANEL_LANES)
        CUDA_LAUNCH(mamba_step<1>, grid, block, 0, stream, *sys, *sig, *span);
    else if (sys->states <= 2 * CUDA_PANEL_LANES)
        CUDA_LAUNCH(mamba_step<2>, grid, block, 0, stream, *sys, *sig, *span);
    else
        CUDA_LAUNCH(mamba_step<4>, grid, block, 0, stream, *sys, *sig, *span);
    return cudaGetLastError();
}

static cudaError_t launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct mamba_params *p = (const struct mamba_params *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    const struct mamba_system *sys = &p->system;
    struct sizes z = sizes_of(p, span);
    float *xz = (float *)tile->scratch, *u = xz + z.xz, *mixed = u + z.u, *state = mixed + z.mixed;
    struct mamba_signal sig = {xz, mixed, u};
    bool side_by_side = tile->scans && (uint64_t)sys->lanes / CUDA_PANEL * span->rows_room <= FEW_PANELS &&
                        span->longest_room >= LONG_FRAMES;
    struct mamba_blocks blocks = {side_by_side ? state : NULL, state + z.state};
    cudaError_t e;

    if ((e = cuda_projection_launch(&p->in_proj, span, x, l->layer->in, xz, 2 * sys->lanes, tile->stream)) ||
        (e = cuda_window_launch(&p->window, span, l->layer->state_offset, xz, 2 * sys->lanes, u, tile->stream)) ||
        (e = cuda_projection_launch(&p->x_proj, span, u, sys->lanes, mixed, sys->mixed_stride, tile->stream)))
        return e;
    e = span->longest_room == 1 ? cuda_mamba_step(sys, &sig, span, tile->stream)
                                : cuda_mamba_rows(sys, &sig, &blocks, tile, span);
    if (e)
        return e;
    return cuda_projection_launch(&p->out_proj, span, u, sys->lanes, y, l->layer->out, tile->stream);
}

const struct cuda_kind cuda_kind_mamba = {build, scratch, launch};
