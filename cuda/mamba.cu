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
 * access of 16 bytes for each lane is 512 contiguous bytes of the state for the warp. It takes two rows at once, and
 * copies the states of the next two into shared memory meanwhile, which takes no registers. dt's weights of the panel,
 * and the rows' dt, B and C, lie there too, rates in registers. What is once for a channel (dt, softplus, the gate) is
 * one channel's for each lane. Blocks are as many as are resident, and go through the rows in strides: a block more
 * would be a second round. The kernel begins early (cuda/launch.cuh): the first states and weights are under way while
 * x_proj still runs.
 *
 * Longer rows are cuda/mamba_rows.cu.
 *
 * SHAPES   scratch: xz (frames, 2L), u (frames, L), mixed (frames, R + 2N padded to quads); for blocks side by side
 *          (slots, L, N + 1).
 * BITS     cuda/mamba.cuh.
 * COST     of the recurrence, for each row: L*N times 6 flops and an exponential of 9 instructions, 2*L*R flops of dt,
 *          and some 60*L. 8*L*N bytes of state must move: 8,192 rows of 1536 x 16 move 1.61 GB, 0.54 ms at 3.0 TB/s;
 *          u, z and y are 0.15 GB more. The arithmetic is some 400 instructions of a warp for 2 KiB that move, which
 *          at 3.0 TB/s leave 600. 16 warps have 32 KiB of states under way on each multiprocessor, which 1.5 TB/s of
 *          reads take 2.8 us to bring: a round may take that long.
 * ERROR    as ssm/cpu/mamba.c's: the decay is applied less 1.
 * SOURCE   Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces". */
#include <stdlib.h>

#include "cuda/mamba.cuh"

#define STEP_WARPS      4u
#define STEP_THREADS    (STEP_WARPS * CUDA_WARP)
#define STEP_BLOCKS     4u /* that a multiprocessor holds: 128 registers for each thread */
#define MULTIPROCESSORS 132u

/* Few channels in long rows leave the device idle when blocks of the grid follow one another, and fill it when they are
 * taken side by side, for twice the exponentials. */
#define FEW_PANELS  48u
#define LONG_FRAMES 512u

struct mamba_params {
    struct cuda_projection in_proj, x_proj, out_proj;
    struct cuda_window window;
    struct mamba_system system;
};

/* Panels (L/16, R, 16) to (L/16, ceil(R/4), 16, 4), zeros beyond R. */
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

static void build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_mamba *from = (const struct ssm_mamba *)layer->params;
    struct mamba_params *p = (struct mamba_params *)cuda_params(b, sizeof(*p));

    *params = p;
    if (!p)
        return;
    cuda_projection_build(b, &from->in_proj, &p->in_proj);
    cuda_projection_build(b, &from->x_proj, &p->x_proj);
    cuda_projection_build(b, &from->out_proj, &p->out_proj);
    cuda_window_build(b, &from->window, &p->window);
    p->system.lanes = from->lanes;
    p->system.states = from->state;
    p->system.rank = from->rank;
    p->system.mixed_stride = (from->rank + 2 * from->state + 3) & ~3u;
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

/* ---- rows of one frame ------------------------------------------------------------------------------------------- */

/* Rows that a warp has under way at once: four accesses of 16 bytes for each lane, where a state is that large. */
template <uint32_t NT> struct step {
    static constexpr uint32_t rows = NT <= 2 ? 2 : 1;
};

/* Where a lane is in the panel; what is the same for all rows. NT: states of a lane that are under way at once; more of
 * them follow in groups. */
template <uint32_t NT> struct panel {
    uint32_t lane, q, g, first, channel; /* first: of the panel's channels; channel: which is this lane's own */
    const float4 *weight;                /* of dt, (ceil(R/4), 16): shared */
    float *mixed;                        /* (step::rows, mixed_stride), the warp's: shared */
    float4 *states;                      /* (2, step::rows, NT, 32), the warp's, rows in turns: shared */
    float bias, d;
    float4 rate[NT]; /* of the first group */
};

/* A row of one frame. */
struct step_row {
    float4 *h; /* this lane's states, 4 apart; NULL: no such row, or no frame of it */
    bool begins;
    uint32_t frame;
};

/* 16 bytes to shared memory, zeros when not `there`, without waiting: states_wait does. */
__device__ static inline void state_copy(float4 *to, const float4 *from, bool there)
{
#ifdef __CUDA_ARCH__
    uint32_t place = (uint32_t)__cvta_generic_to_shared(to), valid = there ? 16 : 0;

    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(place), "l"(from), "r"(valid) : "memory");
#else
    *to = there ? *from : cuda_quad(0);
#endif
}

/* All states that were asked for go into one group. */
__device__ static inline void states_group(void)
{
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Until this lane's are there, but those of the last BUT groups. */
template <int BUT> __device__ static inline void states_wait(void)
{
#ifdef __CUDA_ARCH__
    asm volatile("cp.async.wait_group %0;" ::"n"(BUT) : "memory");
#endif
}

template <uint32_t NT>
__device__ static inline void states_load(const struct mamba_system *sys, const struct step_row *row, uint32_t n,
                                          float4 *to)
{
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += CUDA_PANEL_LANES) {
        to[i] = cuda_quad(0);
        if (row->h && !row->begins && n < sys->states)
            to[i] = __ldcg(row->h + n * 4);
    }
}

template <uint32_t NT>
__device__ static inline void rates_load(const struct mamba_system *sys, const struct panel<NT> *p, uint32_t n,
                                         float4 *to)
{
    const float4 *rate = reinterpret_cast<const float4 *>(sys->rate + (size_t)p->first * sys->states) + p->q;

#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += CUDA_PANEL_LANES) {
        to[i] = cuda_quad(0);
        if (n < sys->states)
            to[i] = __ldg(rate + n * 4);
    }
}

/* Rows become those of turn `turn`, their first states being asked for. */
template <uint32_t NT>
__device__ static inline void rows_begin(const struct mamba_system *sys, const struct panel<NT> *p,
                                         const struct cuda_row *row, uint32_t turn, struct step_row *x)
{
    const uint32_t rows = step<NT>::rows;
    float4 *to = p->states + turn % 2 * rows * NT * CUDA_WARP + p->lane;
    const float4 *none = reinterpret_cast<const float4 *>(sys->rate); /* where nothing is copied from */

#pragma unroll
    for (uint32_t k = 0; k < rows; k++) {
        bool there = row[k].frames > 0;

        x[k].h = NULL;
        x[k].begins = row[k].begins != 0;
        x[k].frame = there ? row[k].first : 0; /* which may be read, whoever has it */
        if (there)
            x[k].h = reinterpret_cast<float4 *>(cuda_row_state<float>(&row[k], sys->offset) +
                                                (size_t)p->first * sys->states) +
                     p->q;
#pragma unroll
        for (uint32_t i = 0; i < NT; i++) {
            uint32_t n = p->g + i * CUDA_PANEL_LANES;
            bool has = there && !x[k].begins && n < sys->states;

            state_copy(to + (k * NT + i) * CUDA_WARP, has ? x[k].h + n * 4 : none, has);
        }
    }
    states_group();
}

/* Of the lane's four channels, what the lanes from `from` on have of one each. */
__device__ static inline float4 panel_quad(float v, uint32_t from)
{
    return make_float4(__shfl_sync(CUDA_LANES, v, (int)from), __shfl_sync(CUDA_LANES, v, (int)from + 8),
                       __shfl_sync(CUDA_LANES, v, (int)from + 4), __shfl_sync(CUDA_LANES, v, (int)from + 12));
}

/* States n, n + 8, ... of four channels through a frame, and back to memory; their part of y is added to `part`. */
template <uint32_t NT>
__device__ static inline float4 states_step(const struct mamba_system *sys, const float4 *rate, const float *mixed,
                                            float4 dt, float4 drive, uint32_t n, const struct step_row *row,
                                            const float4 *state, float4 part)
{
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += CUDA_PANEL_LANES) {
        bool there = n < sys->states;
        float b = there ? mixed[sys->rank + n] : 0, c = there ? mixed[sys->rank + sys->states + n] : 0;
        float4 a = rate[i], x = state[i];

        x.x = mamba_advance(x.x, mamba_change(dt.x * a.x), drive.x, b);
        x.y = mamba_advance(x.y, mamba_change(dt.y * a.y), drive.y, b);
        x.z = mamba_advance(x.z, mamba_change(dt.z * a.z), drive.z, b);
        x.w = mamba_advance(x.w, mamba_change(dt.w * a.w), drive.w, b);
        part = cuda_quad_fma(x, cuda_quad(c), part);
        if (there && row->h)
            __stcs(row->h + n * 4, x);
    }
    return part;
}

/* All states of a row, the lane's first at `first`; the sum of y of the lane's own channel. */
template <uint32_t NT>
__device__ static inline float row_step(const struct mamba_system *sys, const struct panel<NT> *p, const float *mixed,
                                        float4 dt, float4 drive, const struct step_row *row, const float4 *first)
{
    const uint32_t group = NT * CUDA_PANEL_LANES;
    float4 part = cuda_quad(0), rate[NT], state[NT];
    float sum = 0;

#pragma unroll
    for (uint32_t i = 0; i < NT; i++) {
        rate[i] = p->rate[i];
        state[i] = first[i * CUDA_WARP];
    }
    for (uint32_t n = 0; n < sys->states; n += group) {
        part = states_step<NT>(sys, rate, mixed, dt, drive, n + p->g, row, state, part);
        if (n + group < sys->states) {
            states_load<NT>(sys, row, n + group + p->g, state);
            rates_load<NT>(sys, p, n + group + p->g, rate);
        }
        if ((n + group) % CUDA_PANEL_CHUNK == 0 || n + group >= sys->states) {
            float chunk = cuda_panel_sum(part, p->lane);

            sum = n < CUDA_PANEL_CHUNK ? chunk : sum + chunk;
            part = cuda_quad(0);
        }
    }
    return sum;
}

/* One frame of each of the rows that are under way. What is once for a channel is done by the lanes of g < 4 for the
 * first row, by the others for the second. */
template <uint32_t NT>
__device__ static inline void rows_step(const struct mamba_system *sys, const struct mamba_signal *sig,
                                        const struct panel<NT> *p, uint32_t turn, const struct step_row *row)
{
    const uint32_t rows = step<NT>::rows, last = rows - 1;
    bool second = rows > 1 && p->g >= 4, stores = p->g < 4 * rows && (second ? row[last].h : row[0].h) != NULL;
    size_t frame = second ? row[last].frame : row[0].frame;
    float *u = sig->u + frame * sys->lanes + p->channel;
    float own = *u, gate = sig->xz[(frame * 2 + 1) * sys->lanes + p->channel], dt[rows], sum[rows], mine;
    float4 drive[rows];
    const float4 *states = p->states + turn % 2 * rows * NT * CUDA_WARP + p->lane;

#pragma unroll
    for (uint32_t k = 0; k < rows; k++) {
        const float *mixed = sig->mixed + (size_t)row[k].frame * sys->mixed_stride;

        drive[k] = reinterpret_cast<const float4 *>(sig->u + (size_t)row[k].frame * sys->lanes + p->first)[p->q];
        for (uint32_t i = p->lane * 4; i < sys->mixed_stride; i += CUDA_WARP * 4)
            *reinterpret_cast<float4 *>(p->mixed + k * sys->mixed_stride + i) =
                *reinterpret_cast<const float4 *>(mixed + i);
    }
    __syncwarp();
    mamba_dt_part<rows>(sys, p->weight + (p->channel - p->first), p->bias, p->mixed, sys->mixed_stride, p->g / 4, dt);
#pragma unroll
    for (uint32_t k = 0; k < rows; k++)
        dt[k] = dt[k] + __shfl_xor_sync(CUDA_LANES, dt[k], 16);
    mine = cuda_softplus(second ? dt[last] : dt[0]);
    states_wait<1>();
#pragma unroll
    for (uint32_t k = 0; k < rows; k++) {
        float4 all = panel_quad(mine, p->q + k * 16);

        sum[k] = row_step<NT>(sys, p, p->mixed + k * sys->mixed_stride, all, cuda_quad_mul(all, drive[k]), &row[k],
                             states + k * NT * CUDA_WARP);
    }
    if (stores)
        *u = mamba_finish(second ? sum[last] : sum[0], p->d, own, gate);
    __syncwarp(); /* before the next rows' in p->mixed */
}

/* Rows r and further ones, as some without frames where there are none. */
template <uint32_t NT>
__device__ static inline void rows_find(const struct cuda_span *span, uint32_t count, uint32_t r, uint32_t stride,
                                        struct cuda_row *to)
{
#pragma unroll
    for (uint32_t k = 0; k < step<NT>::rows; k++, r += stride) {
        to[k] = {};
        if (r < count)
            to[k] = cuda_row_early(&span->rows[r]);
    }
}

/* What is the same for all rows; `quads` of dt's weights to shared memory. */
template <uint32_t NT>
__device__ static inline void panel_load(const struct mamba_system *sys, float4 *shared, uint32_t quads,
                                         struct panel<NT> *p)
{
    const float4 *weight = reinterpret_cast<const float4 *>(sys->dt_weight) + (size_t)blockIdx.x * quads;

    rates_load<NT>(sys, p, p->g, p->rate);
    p->bias = sys->dt_bias[p->channel];
    p->d = sys->d[p->channel];
#pragma unroll 2
    for (uint32_t i = threadIdx.x; i < quads; i += STEP_THREADS)
        shared[i] = __ldg(weight + i);
}

template <uint32_t NT>
__global__ static void __launch_bounds__(STEP_THREADS, STEP_BLOCKS)
    mamba_step(struct mamba_system sys, struct mamba_signal sig, struct cuda_span span)
{
    const uint32_t rows = step<NT>::rows;
    uint32_t lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP;
    uint32_t first = blockIdx.x * CUDA_PANEL, quads = mamba_rank_quads(&sys) * CUDA_PANEL;
    uint32_t stride = gridDim.y * STEP_WARPS, r = blockIdx.y + warp * gridDim.y, count = __ldcg(&span.count->rows);
    struct panel<NT> p = {lane, lane % 4, lane / 4, first, first + cuda_panel_channel(lane), NULL, NULL, NULL,
                          0,    0,        {}};
    struct cuda_row next[rows];
    struct step_row x[rows], y[rows];

    CUDA_SHARED(float4, shared);
    p.weight = shared + STEP_WARPS * 2 * rows * NT * CUDA_WARP;
    p.states = shared + warp * 2 * rows * NT * CUDA_WARP;
    p.mixed = reinterpret_cast<float *>(shared + STEP_WARPS * 2 * rows * NT * CUDA_WARP + quads) +
              (size_t)warp * rows * sys.mixed_stride;
    rows_find<NT>(&span, count, r, stride, next);
    rows_begin<NT>(&sys, &p, next, 0, x);
    rows_find<NT>(&span, count, r + rows * stride, stride, next);
    panel_load<NT>(&sys, shared + STEP_WARPS * 2 * rows * NT * CUDA_WARP, quads, &p);
    cuda_wait_turn();
    __syncthreads();
    for (uint32_t turn = 0; r < count; turn++) {
        rows_begin<NT>(&sys, &p, next, turn + 1, y);
        rows_find<NT>(&span, count, r + 2 * rows * stride, stride, next);
        rows_step<NT>(&sys, &sig, &p, turn, x);
        r += rows * stride;
#pragma unroll
        for (uint32_t k = 0; k < rows; k++)
            x[k] = y[k];
    }
    states_wait<0>();
}

/* What the warps of a block share. */
static size_t step_shared(const struct mamba_system *sys)
{
    uint32_t rows = sys->states <= 2 * CUDA_PANEL_LANES ? step<2>::rows : step<4>::rows;
    uint32_t held = sys->states <= CUDA_PANEL_LANES ? 2 : 4; /* rows times states of a lane, which are copied */

    return ((size_t)STEP_WARPS * 2 * held * CUDA_WARP + mamba_rank_quads(sys) * CUDA_PANEL) * sizeof(float4) +
           (size_t)STEP_WARPS * rows * sys->mixed_stride * sizeof(float);
}

bool cuda_mamba_steps(const struct mamba_system *sys)
{
    return step_shared(sys) <= 48u * 1024;
}

cudaError_t cuda_mamba_step(const struct mamba_system *sys, const struct mamba_signal *sig,
                            const struct cuda_span *span, cudaStream_t stream)
{
    uint32_t panels = sys->lanes / CUDA_PANEL, y = cuda_blocks(span->rows_room, STEP_WARPS);
    uint32_t most = STEP_BLOCKS * MULTIPROCESSORS / panels;
    dim3 grid(panels, y < most ? y : most ? most : 1), block(STEP_THREADS);
    size_t shared = step_shared(sys);

    if (sys->states <= CUDA_PANEL_LANES)
        CUDA_LAUNCH_SOON(mamba_step<1>, grid, block, shared, stream, *sys, *sig, *span);
    else if (sys->states <= 2 * CUDA_PANEL_LANES)
        CUDA_LAUNCH_SOON(mamba_step<2>, grid, block, shared, stream, *sys, *sig, *span);
    else
        CUDA_LAUNCH_SOON(mamba_step<4>, grid, block, shared, stream, *sys, *sig, *span);
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

    if ((e = cuda_projection_launch(&p->in_proj, span, x, l->layer->in, xz, 2 * sys->lanes, NULL, tile->stream)) ||
        (e = cuda_window_launch(&p->window, span, l->layer->state_offset, xz, 2 * sys->lanes, u, tile->stream)) ||
        (e = cuda_projection_launch(&p->x_proj, span, u, sys->lanes, mixed, sys->mixed_stride, NULL, tile->stream)))
        return e;
    e = span->longest_room == 1 && cuda_mamba_steps(sys) ? cuda_mamba_step(sys, &sig, span, tile->stream)
                                                             : cuda_mamba_rows(sys, &sig, &blocks, tile, span);
    if (e)
        return e;
    return cuda_projection_launch(&p->out_proj, span, u, sys->lanes, y, l->layer->out, tile->after.residual,
                                  tile->stream);
}

const struct cuda_kind cuda_kind_mamba = {build, scratch, launch, CUDA_TAKES_RESIDUAL};
