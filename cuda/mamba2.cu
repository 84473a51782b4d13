/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba2: one selective state-space block with a single decay for each head.
 *
 * Launches: in_proj; the convolution with silu, out of `all` into `mixed`; the recurrence; norm and gate, in y's place;
 * out_proj.
 *
 * Recurrence: a state is eight times mamba's and has one decay for all of a head, so a step is a copy of the state with
 * three fused products for each number on the way. A warp has a panel of 16 channels of a head, as in cuda/mamba.cu:
 * lane = 4 g + q has channels 4q..4q+3 of the states that are g modulo 8, up to 16 of them at once, so that all of the
 * panel's state is under way in one go. It stays in registers through all frames of the row. dt and the decay are worked
 * out for 32 frames at once, one for each lane, and handed round. More than 128 states are taken a chunk at a time, y
 * being added to.
 *
 * Whole blocks of the grid, in the scan view, take the chunk form (cuda/mamba2_blocks.cu); here only the states between
 * blocks are combined, in index order: state + (exp2(rate sum dt) - 1) state + what the block leaves from zero.
 *
 * SHAPES   scratch: all (frames, lanes), mixed (frames, window), y (frames, H P16), and of blocks (slots, H P16, N4),
 *          (slots, G, 64, 64), (slots, H).
 * BITS     y: state n belongs to lane n % 8; a lane's states in index order, then the lanes, near ones first, then
 *          chunks of 128 states in index order. The norm: thread t of 2^k adds up every 2^k-th quad from t on, then
 *          lanes of a quad, then threads, far ones first; k follows from the channels of a group.
 * COST     of the recurrence 6*H*P*N flops a frame, and 8*H*P16*N4 bytes of state for each row: 1.57 MB of 24 heads of
 *          64 x 128, 0.52 us at 3.0 TB/s; for 512 rows 0.27 ms. Long rows are bound by some 250 instructions of a warp for
 *          a frame of its 2048 states.
 * ERROR    as ssm/cpu/mamba2.c's: the decay is applied less 1.
 * SOURCE   Dao and Gu 2024, "Transformers are SSMs", section 6 (the recurrent form). */
#include "cuda/mamba2.cuh"

#define WARPS        2376u /* blocks of one warp that the device holds: 18 on each of 132 multiprocessors */
#define NORM_THREADS 256u  /* at most */

struct mamba2_params {
    struct cuda_projection in_proj, out_proj;
    struct cuda_window window;
    struct mamba2_system system;
    const float *norm;   /* (H P16); NULL: none */
    float eps, channels; /* of the norm: of a group */
    bool norm_before_gate;
};

static void build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_mamba2 *from = (const struct ssm_mamba2 *)layer->params;
    struct mamba2_params *p = (struct mamba2_params *)cuda_params(b, sizeof(*p));
    struct mamba2_system *s = p ? &p->system : NULL;

    *params = p;
    if (!p)
        return;
    cuda_projection_build(b, &from->in_proj, &p->in_proj);
    cuda_projection_build(b, &from->out_proj, &p->out_proj);
    cuda_window_build(b, &from->window, &p->window);
    p->norm = from->rms_norm ? cuda_upload_floats(b, from->norm, from->inner_lanes) : NULL;
    p->norm_before_gate = from->norm_before_gate;
    p->eps = from->eps;
    p->channels = (float)(from->heads / from->groups * from->head_dim);
    s->heads = from->heads;
    s->groups = from->groups;
    s->states = from->state;
    s->head_lanes = from->head_lanes;
    s->state_lanes = from->state_lanes;
    s->state_padded = from->state_padded;
    s->inner = from->inner_lanes;
    s->window = from->window.lanes;
    s->lanes = from->lanes;
    s->dt = from->lanes - from->dt_lanes;
    s->offset = layer->state_offset + (from->window.kernel - 1) * from->window.lanes * (uint32_t)sizeof(float);
    s->dt_min = from->dt_min;
    s->dt_max = from->dt_max;
    s->rate = cuda_upload_floats(b, from->rate, from->heads);
    s->d = cuda_upload_floats(b, from->d, from->heads);
}

/* Floats of scratch, one array after another. */
struct sizes {
    size_t all, mixed, y, state, products, dt;
};

static struct sizes sizes_of(const struct mamba2_system *s, const struct cuda_span *span)
{
    size_t frames = span->frames_room, slots = span->longest_room >= SSM_DEVICE_BLOCK ? cuda_slots(span) : 0;
    struct sizes z = {frames * s->lanes,
                      frames * s->window,
                      frames * s->inner,
                      slots * s->inner * s->state_padded,
                      slots * s->groups * SSM_DEVICE_BLOCK * SSM_DEVICE_BLOCK,
                      slots * s->heads};

    return z;
}

static size_t scratch(const struct cuda_layer *l, const struct cuda_tile *tile)
{
    const struct mamba2_params *p = (const struct mamba2_params *)l->params;
    struct sizes z = sizes_of(&p->system, &tile->clock[l->layer->clock]);

    return (z.all + z.mixed + z.y + z.state + z.products + z.dt) * sizeof(float);
}

/* ---- the recurrence ------------------------------------------------------------------------------------------------ */

/* A warp's panel of a row. */
struct panel {
    uint32_t lane, q, g;
    uint32_t head, group;    /* the lane where its B begins */
    uint32_t first, channel; /* among the lanes of x: the panel's first, and which is this lane's own */
    float4 *h;               /* (N4, 16), at the lane's channels */
};

template <uint32_t NT>
__device__ static inline void states_load(const struct mamba2_system *sys, const float4 *h, bool begins, uint32_t n,
                                          float4 *to)
{
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += CUDA_PANEL_LANES)
        to[i] = begins || n >= sys->states ? cuda_quad(0) : __ldcs(h + n * 4);
}

template <uint32_t NT>
__device__ static inline void states_store(const struct mamba2_system *sys, const float4 *from, uint32_t n, float4 *h)
{
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += CUDA_PANEL_LANES)
        if (n < sys->states)
            __stcs(h + n * 4, from[i]);
}

/* States n, n + 8, ... of the lane's channels through a frame of the tile; what they add to y of the lane's own
 * channel. */
template <uint32_t NT>
__device__ static inline float frame_step(const struct mamba2_system *sys, const struct panel *p, const float *mixed,
                                          float dt, float change, uint32_t n, float4 *h)
{
    const float *b = mixed + p->group + n, *c = b + sys->groups * sys->state_lanes;
    float4 x = __ldg(reinterpret_cast<const float4 *>(mixed + p->first) + p->q), part = cuda_quad(0);

    x = cuda_quad_mul(x, cuda_quad(dt));
#pragma unroll
    for (uint32_t i = 0; i < NT; i++) {
        bool there = n + i * CUDA_PANEL_LANES < sys->states;
        float in = there ? __ldg(b + i * CUDA_PANEL_LANES) : 0, out = there ? __ldg(c + i * CUDA_PANEL_LANES) : 0;

        h[i] = cuda_quad_fma(x, cuda_quad(in), cuda_quad_fma(cuda_quad(change), h[i], h[i]));
        part = cuda_quad_fma(h[i], cuda_quad(out), part);
    }
    return cuda_panel_sum(part, p->lane);
}

/* Frames of the tile, from `first` on, which follow one another in a row, through a chunk of the states. */
template <uint32_t NT>
__device__ static inline void chunk_step(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                                         const struct panel *p, size_t first, uint32_t frames, uint32_t chunk,
                                         float4 *h)
{
    bool last = chunk + NT * CUDA_PANEL_LANES >= sys->states;
    float rate = sys->rate[p->head], d = sys->d[p->head];

    for (uint32_t from = 0; from < frames; from += CUDA_WARP) {
        uint32_t count = min(CUDA_WARP, frames - from);
        float dt = p->lane < count ? mamba2_dt(sys, sig, first + from + p->lane, p->head) : 0;
        float change = cuda_exp2m1(dt * rate);

        for (uint32_t t = 0; t < count; t++) {
            size_t frame = first + from + t;
            const float *mixed = sig->mixed + frame * sys->window;
            float *y = sig->y + frame * sys->inner + p->channel;
            float sum = frame_step<NT>(sys, p, mixed, __shfl_sync(CUDA_LANES, dt, (int)t),
                                       __shfl_sync(CUDA_LANES, change, (int)t), chunk + p->g, h);

            if (p->g >= 4)
                continue;
            sum = chunk == 0 ? sum : *y + sum;
            *y = last ? fmaf(d, mixed[p->channel], sum) : sum;
        }
    }
}

template <uint32_t NT>
__device__ static inline void frames_step(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                                          const struct panel *p, size_t first, uint32_t frames, bool begins)
{
    for (uint32_t n = 0; n < sys->states; n += NT * CUDA_PANEL_LANES) {
        float4 h[NT];

        states_load<NT>(sys, p->h, begins, n + p->g, h);
        chunk_step<NT>(sys, sig, p, first, frames, n, h);
        states_store<NT>(sys, h, n + p->g, p->h);
    }
}

/* `count` blocks, from that of number `slot` on, that follow one another: what they leave becomes what enters them, and
 * the row's state what leaves the last. */
template <uint32_t NT>
__device__ static inline void blocks_join(const struct mamba2_system *sys, const struct mamba2_blocks *blocks,
                                          const struct panel *p, uint32_t slot, uint32_t count, bool begins)
{
    size_t apart = (size_t)sys->inner * sys->state_padded / 4;
    float4 *block =
        reinterpret_cast<float4 *>(blocks->state + ((size_t)slot * sys->inner + p->first) * sys->state_padded);
    const float *dt = blocks->dt + (size_t)slot * sys->heads + p->head;

    for (uint32_t n = p->g; n < sys->states + p->g; n += NT * CUDA_PANEL_LANES) {
        float4 h[NT], left[NT], next[NT];

        states_load<NT>(sys, p->h, begins, n, h);
        states_load<NT>(sys, block + p->q, false, n, next);
        for (uint32_t k = 0; k < count; k++) {
            float4 change = cuda_quad(cuda_exp2m1(dt[(size_t)k * sys->heads] * sys->rate[p->head]));

#pragma unroll
            for (uint32_t i = 0; i < NT; i++)
                left[i] = next[i];
            if (k + 1 < count) /* under way while this one is combined */
                states_load<NT>(sys, block + (k + 1) * apart + p->q, false, n, next);
            states_store<NT>(sys, h, n, block + k * apart + p->q);
#pragma unroll
            for (uint32_t i = 0; i < NT; i++)
                h[i] = cuda_quad_add(cuda_quad_fma(change, h[i], h[i]), left[i]);
        }
        states_store<NT>(sys, h, n, p->h);
    }
}

template <uint32_t NT, bool BLOCKS>
__global__ static void __launch_bounds__(CUDA_WARP)
    mamba2_rows(struct mamba2_system sys, struct mamba2_signal sig, struct mamba2_blocks blocks, struct cuda_span span)
{
    uint32_t lane = threadIdx.x, first = blockIdx.x * CUDA_PANEL;
    uint32_t head = first / sys.head_lanes, group = mamba2_group_lane(&sys, head);
    struct panel p = {lane, lane % 4, lane / 4, head, group, first, first + cuda_panel_channel(lane), NULL};

    for (uint32_t r = blockIdx.y; r < span.count->rows; r += gridDim.y) {
        const struct cuda_row *row = &span.rows[r];

        p.h = reinterpret_cast<float4 *>(cuda_row_state<float>(row, sys.offset) + (size_t)first * sys.state_padded);
        p.h += p.q;
        for (uint32_t t = 0; t < row->frames;) {
            bool begins = t == 0 && row->begins;
            uint32_t frames = BLOCKS ? cuda_row_stretch(row, t) : row->frames;

            if (BLOCKS && cuda_row_block(row, t)) {
                frames = (row->frames - t) / SSM_DEVICE_BLOCK;
                blocks_join<NT>(&sys, &blocks, &p, (row->first + t) / SSM_DEVICE_BLOCK, frames, begins);
                frames *= SSM_DEVICE_BLOCK;
            } else {
                frames_step<NT>(&sys, &sig, &p, row->first + t, frames, begins);
            }
            t += frames;
        }
    }
}

template <uint32_t NT>
static void rows_launch(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                        const struct mamba2_blocks *blocks, const struct cuda_span *span, bool whole,
                        cudaStream_t stream)
{
    uint32_t panels = sys->inner / CUDA_PANEL, most = WARPS / panels + 1;
    dim3 grid(panels, span->rows_room < most ? span->rows_room : most), block(CUDA_WARP);

    if (whole)
        CUDA_LAUNCH((mamba2_rows<NT, true>), grid, block, 0, stream, *sys, *sig, *blocks, *span);
    else
        CUDA_LAUNCH((mamba2_rows<NT, false>), grid, block, 0, stream, *sys, *sig, *blocks, *span);
}

static cudaError_t recurrence_launch(const struct mamba2_system *sys, const struct mamba2_signal *sig,
                                     const struct mamba2_blocks *blocks, const struct cuda_tile *tile,
                                     const struct cuda_span *span)
{
    bool whole = tile->scans && span->longest_room >= SSM_DEVICE_BLOCK;
    cudaError_t e;

    if (whole && (e = cuda_mamba2_leave(sys, sig, blocks, span, tile->stream)))
        return e;
    if (sys->states <= 16)
        rows_launch<2>(sys, sig, blocks, span, whole, tile->stream);
    else if (sys->states <= 32)
        rows_launch<4>(sys, sig, blocks, span, whole, tile->stream);
    else if (sys->states <= 64)
        rows_launch<8>(sys, sig, blocks, span, whole, tile->stream);
    else
        rows_launch<16>(sys, sig, blocks, span, whole, tile->stream);
    if ((e = cudaGetLastError()))
        return e;
    return whole ? cuda_mamba2_finish(sys, sig, blocks, span, tile->stream) : cudaSuccess;
}

/* ---- norm and gate -------------------------------------------------------------------------------------------------- */

struct gate {
    const float *norm; /* (H P16); NULL: none */
    float eps, channels;
    uint32_t group; /* lanes of one */
    bool first;     /* before the norm */
};

/* The sum over the block's threads, in all of them; shared: one for each warp. */
__device__ static inline float threads_sum(float v, float *shared)
{
    uint32_t warps = blockDim.x / CUDA_WARP;
    float sum;

    v = cuda_warp_sum(v);
    if (threadIdx.x % CUDA_WARP == 0)
        shared[threadIdx.x / CUDA_WARP] = v;
    __syncthreads();
    sum = shared[0];
    for (uint32_t i = 1; i < warps; i++)
        sum = sum + shared[i];
    return sum;
}

/* A block has a group of a frame. y becomes what goes into out_proj. */
__global__ static void __launch_bounds__(NORM_THREADS)
    mamba2_gate(struct gate how, struct mamba2_system sys, struct mamba2_signal sig, struct cuda_span span)
{
    __shared__ float shared[NORM_THREADS / CUDA_WARP];
    uint32_t from = blockIdx.y * how.group, quads = how.group / 4;
    size_t frame = blockIdx.x;
    const float4 *z = reinterpret_cast<const float4 *>(sig.all + frame * sys.lanes + from);
    const float4 *norm = reinterpret_cast<const float4 *>(how.norm ? how.norm + from : NULL);
    float4 *y = reinterpret_cast<float4 *>(sig.y + frame * sys.inner + from), squares = cuda_quad(0);
    float scale;

    if (frame >= span.count->frames)
        return;
    for (uint32_t i = threadIdx.x; i < quads; i += blockDim.x) {
        float4 value = y[i];

        if (how.first) {
            value = cuda_quad_mul(value, cuda_quad_silu(z[i]));
            y[i] = value;
        }
        squares = cuda_quad_fma(value, value, squares);
    }
    if (!norm)
        return;
    scale = threads_sum((squares.x + squares.y) + (squares.z + squares.w), shared);
    scale = 1 / sqrtf(scale / how.channels + how.eps);
    for (uint32_t i = threadIdx.x; i < quads; i += blockDim.x) {
        float4 value = cuda_quad_mul(cuda_quad_mul(y[i], cuda_quad(scale)), norm[i]);

        y[i] = how.first ? value : cuda_quad_mul(value, cuda_quad_silu(z[i]));
    }
}

static cudaError_t gate_launch(const struct mamba2_params *p, const struct mamba2_signal *sig,
                               const struct cuda_span *span, cudaStream_t stream)
{
    const struct mamba2_system *sys = &p->system;
    struct gate how = {p->norm, p->eps, p->channels, sys->inner / sys->groups, !p->norm || !p->norm_before_gate};
    uint32_t threads = CUDA_WARP;

    while (threads < NORM_THREADS && threads < how.group / 4)
        threads *= 2;
    CUDA_LAUNCH(mamba2_gate, dim3(span->frames_room, sys->groups), dim3(threads), 0, stream, how, *sys, *sig, *span);
    return cudaGetLastError();
}

static cudaError_t launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct mamba2_params *p = (const struct mamba2_params *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    const struct mamba2_system *sys = &p->system;
    struct sizes z = sizes_of(sys, span);
    float *all = (float *)tile->scratch, *mixed = all + z.all, *inner = mixed + z.mixed, *state = inner + z.y;
    struct mamba2_signal sig = {all, mixed, inner};
    struct mamba2_blocks blocks = {state, state + z.state + z.products, state + z.state};
    cudaError_t e;

    if ((e = cuda_projection_launch(&p->in_proj, span, x, l->layer->in, all, sys->lanes, NULL, tile->stream)) ||
        (e = cuda_window_launch(&p->window, span, l->layer->state_offset, all + sys->inner, sys->lanes, mixed,
                                tile->stream)) ||
        (e = recurrence_launch(sys, &sig, &blocks, tile, span)) || (e = gate_launch(p, &sig, span, tile->stream)))
        return e;
    return cuda_projection_launch(&p->out_proj, span, inner, sys->inner, y, l->layer->out, tile->after.residual,
                                  tile->stream);
}

const struct cuda_kind cuda_kind_mamba2 = {build, scratch, launch, CUDA_TAKES_RESIDUAL};
