/* SPDX-License-Identifier: Apache-2.0
 *
 * mamba's recurrence for rows of many frames.
 *
 * A block has a row's panel of 16 channels; its 128 threads have one channel each, and every eighth state of it: NT of
 * them, in registers from the row's first frame to its last (of more than 128, a chunk at a time). Frames come in pieces of
 * at most 64, which never cross the grid: first dt and dt u of all of them, then B and C, into shared memory, where a
 * thread reads four frames at once; then the states through the frames; then D and the gate. A frame's sum over states
 * is spread over 8 threads of one warp, which leave their parts in shared memory for 16 frames and add them up then:
 * that costs a third of adding them up by shuffles.
 *
 * A whole block of the grid, in the scan view, is worked twice side by side: from the state that enters it, for the
 * outputs, and from zero. The state that enters the next block is, of what entered this one and what it leaves from
 * zero, state + (exp2(rate sum dt) - 1) state + left. The exponentials are the same for both, so this costs two fused
 * products more for a state and frame. Where few channels would leave the device idle, the same numbers come of three
 * passes, whose choice therefore shows in no bit: what each block leaves, all at once (mamba_leave); the states
 * between blocks in index order, and the frames that stand outside of whole blocks (mamba_rows); all blocks' outputs at
 * once (mamba_outputs).
 *
 * SHAPES   grid (L/16, rows), or (L/16, slots) for blocks side by side.
 * BITS     cuda/mamba.cuh; a sum of dt: frames that are equal modulo 8 in index order, then those eight in order.
 * COST     for each state and frame: the exponential's argument and 9 instructions of it, 3 fused products (5 in whole
 *          blocks), and about 2 of shared memory and of sums; for each channel and frame 2*R flops of dt and some 60
 *          instructions, which 16 states share. So 24 of 16 states, and 8 x 1536 x 16 x 2048 of them are 0.40 G: 0.34
 *          ms at the 28 T lane instructions per second that an H100 issues; 4 x 1536 x 16 x 65536 5.4 ms. u, z and y are
 *          12*L bytes of each frame: 0.10 ms and 1.6 ms at 3.0 TB/s. One special function of each state and frame
 *          takes 0.11 ms and 1.8 ms.
 * ERROR    as ssm/cpu/mamba.c's.
 * SOURCE   Blelloch 1990, "Prefix Sums and Their Applications", for the three passes. */
#include "cuda/mamba.cuh"

#define THREADS 128u
#define TEAMS   (THREADS / CUDA_PANEL) /* threads of a channel, which share states, or frames */
#define PIECE   SSM_DEVICE_BLOCK
#define PASS    16u /* frames whose sums wait in shared memory */
#define QUAD    4u

/* What becomes of a piece: it goes on from the state; a whole block does, and from zero as well; only that, for those who
 * take blocks side by side; or a whole block's outputs, of the state that enters it. */
enum how { PIECE_STEP, PIECE_WHOLE, PIECE_LEAVES, PIECE_FINISH };

/* Frames of B and C that shared memory holds, and blocks that a multiprocessor is to hold (six of 16 states: those of 8
 * rows of 1536 channels are there at once then). */
template <uint32_t NT> struct staged {
    static constexpr uint32_t frames = NT <= 2 ? 64 : NT == 4 ? 32 : 16;
    static constexpr uint32_t blocks = NT <= 2 ? 6 : NT == 4 ? 5 : NT == 8 ? 4 : 3;
};

/* Rows are a quad wider than what they hold, so that threads of neighbouring rows meet other banks. */
template <uint32_t NT> struct __align__(16) piece_shared {
    float dt[CUDA_PANEL][PIECE + QUAD], drive[CUDA_PANEL][PIECE + QUAD], y[CUDA_PANEL][PIECE + QUAD];
    float b[NT * TEAMS][staged<NT>::frames + QUAD], c[NT * TEAMS][staged<NT>::frames + QUAD];
    float part[THREADS / CUDA_WARP][CUDA_WARP][PASS + QUAD];
    float sum[CUDA_PANEL][TEAMS];
};

/* Frames of the tile that a block of threads works on. */
struct piece {
    uint32_t panel;         /* number of it */
    uint32_t first, frames; /* the first one's place, and how many: at most PIECE */
};

/* A thread among its states: in a warp, lane = 4 g + channel, so that a channel's lanes share a warp. */
__device__ static inline uint32_t thread_channel(void)
{
    return threadIdx.x / CUDA_WARP * 4 + threadIdx.x % 4;
}

__device__ static inline uint32_t thread_team(void)
{
    return threadIdx.x % CUDA_WARP / 4;
}

/* ---- around the states: a thread has a channel and every eighth frame, and 16 channels are neighbours ------------- */

/* dt, before softplus, of F frames from the piece's t on, 8 apart. */
template <uint32_t NT, uint32_t F>
__device__ static inline void dt_stage(const struct mamba_system *sys, const struct mamba_signal *sig,
                                       const struct piece *p, struct piece_shared<NT> *s, uint32_t t)
{
    uint32_t c = threadIdx.x % CUDA_PANEL, channel = p->panel * CUDA_PANEL + c;
    const float *mixed = sig->mixed + (size_t)(p->first + t) * sys->mixed_stride;
    const float4 *weight = reinterpret_cast<const float4 *>(sys->dt_weight) +
                           (size_t)p->panel * mamba_rank_quads(sys) * CUDA_PANEL + c;
    float dt[F], rest[F], bias = sys->dt_bias[channel];

    mamba_dt_part<F>(sys, weight, bias, mixed, (size_t)sys->mixed_stride * TEAMS, 0, dt);
    mamba_dt_part<F>(sys, weight, bias, mixed, (size_t)sys->mixed_stride * TEAMS, 1, rest);
#pragma unroll
    for (uint32_t f = 0; f < F; f++)
        s->dt[c][t + f * TEAMS] = dt[f] + rest[f];
}

/* dt and dt u of every frame of the piece, and the sum of this thread's dt. */
template <uint32_t NT>
__device__ static inline void piece_stage(const struct mamba_system *sys, const struct mamba_signal *sig,
                                          const struct piece *p, struct piece_shared<NT> *s)
{
    uint32_t team = threadIdx.x / CUDA_PANEL, c = threadIdx.x % CUDA_PANEL, t = team;
    const float *u = sig->u + (size_t)p->first * sys->lanes + p->panel * CUDA_PANEL + c;
    float sum = 0;

    for (; t + (QUAD - 1) * TEAMS < p->frames; t += QUAD * TEAMS)
        dt_stage<NT, QUAD>(sys, sig, p, s, t);
    for (; t < p->frames; t += TEAMS)
        dt_stage<NT, 1>(sys, sig, p, s, t);
#pragma unroll 2
    for (t = team; t < p->frames; t += TEAMS) {
        float dt = cuda_softplus(s->dt[c][t]);

        sum = sum + dt;
        s->dt[c][t] = dt;
        s->drive[c][t] = dt * u[(size_t)t * sys->lanes];
    }
    s->sum[c][team] = sum;
}

/* The sum of dt over a whole block, of a channel. */
template <uint32_t NT> __device__ static inline float piece_dt(const struct piece_shared<NT> *s, uint32_t channel)
{
    float sum = s->sum[channel][0];

    for (uint32_t i = 1; i < TEAMS; i++)
        sum = sum + s->sum[channel][i];
    return sum;
}

/* B and C of frames [from, from + frames) of the piece, states from n on. */
template <uint32_t NT>
__device__ static inline void mixed_stage(const struct mamba_system *sys, const struct mamba_signal *sig,
                                          const struct piece *p, struct piece_shared<NT> *s, uint32_t n, uint32_t from,
                                          uint32_t frames)
{
    const uint32_t chunk = NT * TEAMS; /* a power of two that divides THREADS */
    uint32_t k = threadIdx.x % chunk, t = threadIdx.x / chunk;
    const float *at = sig->mixed + (size_t)(p->first + from + t) * sys->mixed_stride + sys->rank + n + k;
    bool there = n + k < sys->states;

#pragma unroll 4
    for (; t < frames; t += THREADS / chunk, at += (size_t)THREADS / chunk * sys->mixed_stride) {
        s->b[k][t] = there ? __ldg(at) : 0;
        s->c[k][t] = there ? __ldg(at + sys->states) : 0;
    }
}

/* y in u's place. */
template <uint32_t NT>
__device__ static inline void piece_finish(const struct mamba_system *sys, const struct mamba_signal *sig,
                                           const struct piece *p, const struct piece_shared<NT> *s)
{
    uint32_t c = threadIdx.x % CUDA_PANEL, channel = p->panel * CUDA_PANEL + c;
    float d = sys->d[channel];

#pragma unroll 2
    for (uint32_t t = threadIdx.x / CUDA_PANEL; t < p->frames; t += TEAMS) {
        size_t f = p->first + t;
        float *u = sig->u + f * sys->lanes + channel;

        *u = mamba_finish(s->y[c][t], d, *u, sig->xz[(f * 2 + 1) * sys->lanes + channel]);
    }
}

/* ---- the states: a thread has a channel and, of a chunk of states, every eighth ------------------------------------ */

template <uint32_t NT> struct states {
    float h[NT], left[NT], rate[NT]; /* left: from zero on, in a whole block */
};

/* States n + team, n + team + 8, ...; at: (N, 16), the panel's. */
template <uint32_t NT>
__device__ static inline void states_load(const struct mamba_system *sys, const float *at, uint32_t n, float *to)
{
    n += thread_team();
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += TEAMS)
        to[i] = n < sys->states ? at[n * CUDA_PANEL + thread_channel()] : 0;
}

template <uint32_t NT>
__device__ static inline void states_store(const struct mamba_system *sys, const float *from, uint32_t n, float *at)
{
    n += thread_team();
#pragma unroll
    for (uint32_t i = 0; i < NT; i++, n += TEAMS)
        if (n < sys->states)
            at[n * CUDA_PANEL + thread_channel()] = from[i];
}

/* F (4 or 1) of a row of shared memory. */
template <uint32_t F> __device__ static inline void frames_load(const float *row, float *to)
{
    if (F == QUAD) {
        float4 v = *reinterpret_cast<const float4 *>(row);

        to[0] = v.x;
        to[1 % F] = v.y;
        to[2 % F] = v.z;
        to[3 % F] = v.w;
    } else {
        to[0] = *row;
    }
}

template <uint32_t F> __device__ static inline void frames_store(const float *from, float *row)
{
    if (F == QUAD)
        *reinterpret_cast<float4 *>(row) = make_float4(from[0], from[1 % F], from[2 % F], from[3 % F]);
    else
        *row = from[0];
}

/* F frames, from t of the piece on, which is `at` of what is staged of B and C; their sums to part. */
template <uint32_t NT, enum how HOW, uint32_t F>
__device__ static inline void frames_run(const struct piece_shared<NT> *s, struct states<NT> *x, uint32_t t,
                                         uint32_t at, float *part)
{
    uint32_t channel = thread_channel(), team = thread_team();
    float dt[F], drive[F], b[F], c[F], y[F];

    frames_load<F>(&s->dt[channel][t], dt);
    frames_load<F>(&s->drive[channel][t], drive);
#pragma unroll
    for (uint32_t f = 0; f < F; f++)
        y[f] = 0;
#pragma unroll
    for (uint32_t i = 0; i < NT; i++) {
        frames_load<F>(&s->b[i * TEAMS + team][at], b);
        frames_load<F>(&s->c[i * TEAMS + team][at], c);
#pragma unroll
        for (uint32_t f = 0; f < F; f++) {
            float change = mamba_change(dt[f] * x->rate[i]);

            x->h[i] = mamba_advance(x->h[i], change, drive[f], b[f]);
            if (HOW == PIECE_WHOLE)
                x->left[i] = mamba_advance(x->left[i], change, drive[f], b[f]);
            y[f] = fmaf(x->h[i], c[f], y[f]);
        }
    }
    if (HOW != PIECE_LEAVES)
        frames_store<F>(y, part);
}

/* The parts of `frames` frames of this warp's channels added up, two frames for each lane, into y from t on. */
template <uint32_t NT>
__device__ static inline void parts_sum(struct piece_shared<NT> *s, uint32_t t, uint32_t frames, bool add)
{
    uint32_t lane = threadIdx.x % CUDA_WARP, warp = threadIdx.x / CUDA_WARP, c = lane / 8, f = lane % 8 * 2;
    float2 v[TEAMS], *y = reinterpret_cast<float2 *>(&s->y[warp * 4 + c][t + f]);

    if (f >= frames)
        return;
#pragma unroll
    for (uint32_t g = 0; g < TEAMS; g++)
        v[g] = *reinterpret_cast<const float2 *>(&s->part[warp][g * 4 + c][f]);
#pragma unroll
    for (uint32_t apart = 1; apart < TEAMS; apart *= 2)
#pragma unroll
        for (uint32_t g = 0; g < TEAMS; g += 2 * apart) {
            v[g].x = v[g].x + v[g + apart].x;
            v[g].y = v[g].y + v[g + apart].y;
        }
    if (add) {
        v[0].x = y->x + v[0].x;
        v[0].y = y->y + v[0].y;
    }
    *y = v[0];
}

/* The chunk of states from n on through the piece. */
template <uint32_t NT, enum how HOW>
__device__ static inline void chunk_run(const struct mamba_system *sys, const struct mamba_signal *sig,
                                        const struct piece *p, struct piece_shared<NT> *s, uint32_t n,
                                        struct states<NT> *x)
{
    const uint32_t room = staged<NT>::frames;
    float *part = s->part[threadIdx.x / CUDA_WARP][threadIdx.x % CUDA_WARP];

    for (uint32_t from = 0; from < p->frames; from += room) {
        uint32_t frames = min(room, p->frames - from);

        if (n > 0 || from > 0)
            __syncthreads();
        mixed_stage<NT>(sys, sig, p, s, n, from, frames);
        __syncthreads();
        for (uint32_t pass = 0; pass < frames; pass += PASS) {
            uint32_t count = min(PASS, frames - pass), f = 0;

            for (; f + QUAD <= count; f += QUAD)
                frames_run<NT, HOW, QUAD>(s, x, from + pass + f, pass + f, part + f);
            for (; f < count; f++)
                frames_run<NT, HOW, 1>(s, x, from + pass + f, pass + f, part + f);
            if (HOW == PIECE_LEAVES)
                continue;
            __syncwarp();
            parts_sum<NT>(s, from + pass, count, n > 0);
            __syncwarp();
        }
    }
}

/* A piece, from the state at `enters` (N, 16), NULL for zeros, to that at `leaves`, which may be the same memory. */
template <uint32_t NT, enum how HOW>
__device__ static inline void piece_run(const struct mamba_system *sys, const struct mamba_signal *sig,
                                        const struct piece *p, struct piece_shared<NT> *s, const float *enters,
                                        float *leaves)
{
    const float *rate = sys->rate + (size_t)p->panel * CUDA_PANEL * sys->states;

    for (uint32_t n = 0; n < sys->states; n += NT * TEAMS) {
        struct states<NT> x = {};
        float entered[NT] = {};

        if (enters)
            states_load<NT>(sys, enters, n, entered);
        states_load<NT>(sys, rate, n, x.rate);
        if (n == 0)
            piece_stage<NT>(sys, sig, p, s);
#pragma unroll
        for (uint32_t i = 0; i < NT; i++)
            x.h[i] = entered[i];
        chunk_run<NT, HOW>(sys, sig, p, s, n, &x);
        if (HOW == PIECE_WHOLE) {
            float dt = piece_dt<NT>(s, thread_channel());

#pragma unroll
            for (uint32_t i = 0; i < NT; i++)
                x.h[i] = mamba_carry(entered[i], x.rate[i] * dt, x.left[i]);
        }
        if (HOW != PIECE_FINISH)
            states_store<NT>(sys, x.h, n, leaves);
    }
    __syncthreads();
    if (HOW != PIECE_LEAVES)
        piece_finish<NT>(sys, sig, p, s);
}

/* ---- blocks side by side -------------------------------------------------------------------------------------------- */

__device__ static inline float *block_state(const struct mamba_system *sys, const struct mamba_blocks *blocks,
                                            uint32_t slot, uint32_t panel)
{
    return blocks->state + ((size_t)slot * sys->lanes + panel * CUDA_PANEL) * sys->states;
}

/* `count` blocks, from that of number `slot` on, that follow one another: what they leave becomes what enters them, and
 * the state h what leaves the last. */
template <uint32_t NT>
__device__ static inline void blocks_join(const struct mamba_system *sys, const struct mamba_blocks *blocks,
                                          uint32_t panel, uint32_t slot, uint32_t count, bool begins, float *h)
{
    const uint32_t ahead = NT <= 4 ? 8 : 2; /* blocks whose numbers are under way at once */
    const float *sums = blocks->dt + (size_t)slot * sys->lanes + panel * CUDA_PANEL + thread_channel();

    for (uint32_t n = 0; n < sys->states; n += NT * TEAMS) {
        float x[NT] = {}, rate[NT], left[ahead][NT], dt[ahead];

        if (!begins)
            states_load<NT>(sys, h, n, x);
        states_load<NT>(sys, sys->rate + (size_t)panel * CUDA_PANEL * sys->states, n, rate);
        for (uint32_t k = 0; k < count; k += ahead) {
#pragma unroll
            for (uint32_t j = 0; j < ahead; j++)
                if (k + j < count) {
                    dt[j] = sums[(size_t)(k + j) * sys->lanes];
                    states_load<NT>(sys, block_state(sys, blocks, slot + k + j, panel), n, left[j]);
                }
#pragma unroll
            for (uint32_t j = 0; j < ahead; j++)
                if (k + j < count) {
                    states_store<NT>(sys, x, n, block_state(sys, blocks, slot + k + j, panel));
#pragma unroll
                    for (uint32_t i = 0; i < NT; i++)
                        x[i] = mamba_carry(x[i], rate[i] * dt[j], left[j][i]);
                }
        }
        states_store<NT>(sys, x, n, h);
    }
}

template <uint32_t NT>
__global__ static void __launch_bounds__(THREADS, staged<NT>::blocks)
    mamba_leave(struct mamba_system sys, struct mamba_signal sig, struct mamba_blocks blocks, struct cuda_span span)
{
    __shared__ struct piece_shared<NT> s;
    uint32_t t = 0;
    const struct cuda_row *row = cuda_slot_row(&span, blockIdx.y, &t);

    if (!row)
        return;
    struct piece p = {blockIdx.x, row->first + t, PIECE};

    piece_run<NT, PIECE_LEAVES>(&sys, &sig, &p, &s, NULL, block_state(&sys, &blocks, blockIdx.y, p.panel));
    if (threadIdx.x < CUDA_PANEL)
        blocks.dt[(size_t)blockIdx.y * sys.lanes + p.panel * CUDA_PANEL + threadIdx.x] =
            piece_dt<NT>(&s, threadIdx.x);
}

template <uint32_t NT>
__global__ static void __launch_bounds__(THREADS, staged<NT>::blocks)
    mamba_outputs(struct mamba_system sys, struct mamba_signal sig, struct mamba_blocks blocks,
                        struct cuda_span span)
{
    __shared__ struct piece_shared<NT> s;
    uint32_t t = 0;
    const struct cuda_row *row = cuda_slot_row(&span, blockIdx.y, &t);

    if (!row)
        return;
    struct piece p = {blockIdx.x, row->first + t, PIECE};

    piece_run<NT, PIECE_FINISH>(&sys, &sig, &p, &s, block_state(&sys, &blocks, blockIdx.y, p.panel), NULL);
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

/* ASIDE: outputs of whole blocks are others' to make. */
template <uint32_t NT, bool SCANS, bool ASIDE>
__global__ static void __launch_bounds__(THREADS, ASIDE ? 3 : staged<NT>::blocks)
    mamba_rows(struct mamba_system sys, struct mamba_signal sig, struct mamba_blocks blocks, struct cuda_span span)
{
    __shared__ struct piece_shared<NT> s;
    uint32_t panel = blockIdx.x;

    if (blockIdx.y >= span.count->rows)
        return;
    const struct cuda_row *row = &span.rows[blockIdx.y];
    float *h = cuda_row_state<float>(row, sys.offset) + (size_t)panel * CUDA_PANEL * sys.states;

    for (uint32_t t = 0; t < row->frames;) {
        bool zero = t == 0 && row->begins, whole = SCANS && cuda_row_block(row, t);
        struct piece p = {panel, row->first + t, min(PIECE, cuda_row_stretch(row, t))};

        if (whole && ASIDE) {
            uint32_t count = (row->frames - t) / PIECE;

            blocks_join<NT>(&sys, &blocks, panel, p.first / PIECE, count, zero, h);
            p.frames = count * PIECE;
        } else if (whole) {
            piece_run<NT, PIECE_WHOLE>(&sys, &sig, &p, &s, zero ? NULL : h, h);
        } else {
            piece_run<NT, PIECE_STEP>(&sys, &sig, &p, &s, zero ? NULL : h, h);
        }
        t += p.frames;
    }
}

template <uint32_t NT>
static cudaError_t rows_launch(const struct mamba_system *sys, const struct mamba_signal *sig,
                               const struct mamba_blocks *blocks, const struct cuda_tile *tile,
                               const struct cuda_span *span)
{
    uint32_t panels = sys->lanes / CUDA_PANEL;
    dim3 rows(panels, span->rows_room), slots(panels, cuda_slots(span)), threads(THREADS);

    if (blocks->state) {
        CUDA_LAUNCH(mamba_leave<NT>, slots, threads, 0, tile->stream, *sys, *sig, *blocks, *span);
        CUDA_LAUNCH((mamba_rows<NT, true, true>), rows, threads, 0, tile->stream, *sys, *sig, *blocks, *span);
        CUDA_LAUNCH(mamba_outputs<NT>, slots, threads, 0, tile->stream, *sys, *sig, *blocks, *span);
    } else if (tile->scans) {
        CUDA_LAUNCH((mamba_rows<NT, true, false>), rows, threads, 0, tile->stream, *sys, *sig, *blocks, *span);
    } else {
        CUDA_LAUNCH((mamba_rows<NT, false, false>), rows, threads, 0, tile->stream, *sys, *sig, *blocks, *span);
    }
    return cudaGetLastError();
}

cudaError_t cuda_mamba_rows(const struct mamba_system *sys, const struct mamba_signal *sig,
                            const struct mamba_blocks *blocks, const struct cuda_tile *tile,
                            const struct cuda_span *span)
{
    uint32_t N = sys->states;

    return N <= 8    ? rows_launch<1>(sys, sig, blocks, tile, span)
           : N <= 16 ? rows_launch<2>(sys, sig, blocks, tile, span)
           : N <= 32 ? rows_launch<4>(sys, sig, blocks, tile, span)
           : N <= 64 ? rows_launch<8>(sys, sig, blocks, tile, span)
                     : rows_launch<16>(sys, sig, blocks, tile, span);
}
