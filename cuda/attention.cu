/* SPDX-License-Identifier: Apache-2.0
 *
 * attention over a cache of the first S and the last W frames (letters and layout: ssm/layers/attention.h).
 *
 *     score[j] = q . turn(k[j], -(n-1-j)) / sqrt(D)           j = 0..n-1: the n kept frames, oldest first
 *     head     = sum over j of exp(score[j] - max) v[j] / sum over j of exp(score[j] - max)
 *
 * Only how far a key lies behind the query enters a score, so the key is turned back by that and the query not at all.
 * Before the window slides and after, that is the same row of the table of turns.
 *
 * Nothing is sequential: frame t sees frames that came in this launch where they were projected and older ones in the
 * cache, which is written when all have looked (cache_keep). So a row of hundreds of frames is as many blocks at once,
 * one for each frame and key head, and a row of one frame is the same block with the same bits.
 *
 * A block takes the kept frames in segments of SEGMENT, whose softmax has its own maximum, and joins them from oldest to
 * newest. When frames are too few to fill the device, segments are blocks of their own (`parts`), joined by a kernel
 * behind them in the same order with the same arithmetic.
 *
 * SHAPES   x, y (frames, dim); q, mixed (frames, Q, D); k, v (frames, K, D); the state as in attention.h.
 * BITS     of a score: LANES chains over D, folded in halves. Of a segment's weights: 32 chains, folded in halves; of
 *          its values: a chain for each of the groups of threads that D leaves room for, added in order. Where a
 *          segment begins depends on n alone, and n on t.
 * COST     per frame 4*dim*(Q+K)*D flops for the projections, n*(4*Q + 3*K)*D and n*Q exponentials for the rest. The
 *          kept 2*n*K*D floats are read once, from device memory when the tile's caches exceed L2, and that is the
 *          floor: 8 heads of 64 channels and 1,024 frames are 4 MiB or 1.4 us at 3.0 TB/s. A table of C*D floats is
 *          shared by all rows and stays in L2.
 * ERROR    of a score, (D/LANES + 6) * eps * |q||k| / sqrt(D) more than of q and k; weights are at most 1. */
#include <math.h>

#include "cuda/matrix.cuh"
#include "ssm/layers/attention.h"

#define THREADS 128u
#define SEGMENT 256u /* kept frames */
#define LANES   8u   /* that share a score */
#define KEYS    4u   /* that they have in hand at once */
#define GROUPS  16u  /* of threads that share the values of a segment, at most */

#define PART_BLOCKS 256u         /* segments are blocks of their own below so many blocks otherwise, */
#define PART_BYTES  (32ul << 20) /* as far as their results take no more */

struct attention {
    struct cuda_matrix q, k, v, o;
    const float *q_bias, *k_bias, *v_bias, *o_bias;
    const float *turns;    /* (C, 2, D/2); NULL: no positions */
    const uint32_t *first; /* (K+1): query heads first[g]..first[g+1] share key head g */
    uint32_t group;        /* the most that share one */
};

/* Maximum and sum of the weights so far, as powers of two. */
struct total {
    float most, sum;
};

/* What the kernels are given. */
struct attending {
    struct cuda_span span;
    const float *q, *k, *v, *turns;
    const uint32_t *first;
    float *mixed;
    float *part;         /* (frames, Q, segments, D); NULL: segments are joined where they are made */
    struct total *total; /* (frames, Q, segments); without parts (frames, Q) */
    uint32_t segments;
    uint32_t heads, key_heads, head_dim, sinks, window, state_offset;
    float scale; /* of the power of two: log2(e) / sqrt(D) */
};

/* One frame, and what it sees. */
struct frame {
    const struct cuda_row *row;
    const float *cache; /* the layer's state */
    uint64_t t;
    uint32_t at;     /* its place in the tile */
    uint32_t kept;   /* n */
    uint32_t oldest; /* ring slot of the window's oldest frame */
};

/* Where a kept frame's key and value lie. */
struct place {
    const float *key, *value;
};

/* ---- finding ----------------------------------------------------------------------------------------------------- */

__device__ static struct frame frame_find(const struct attending &a, uint32_t at)
{
    uint32_t most = a.sinks + a.window;
    struct frame f;

    f.row = &a.span.rows[a.span.owner[at]];
    f.cache = cuda_row_state<const float>(f.row, a.state_offset);
    f.at = at;
    f.t = f.row->index + (at - f.row->first);
    f.kept = f.t < most ? (uint32_t)f.t + 1 : most;
    f.oldest = f.t < most ? 0 : (uint32_t)((f.t + 1 - a.sinks) % a.window);
    return f;
}

/* The j-th oldest of the kept frames, for key head g. */
__device__ static struct place place_find(const struct attending &a, const struct frame &f, uint32_t g, uint32_t j)
{
    size_t D = a.head_dim, shared = a.key_heads * D, most = a.sinks + a.window;
    uint64_t t = j < a.sinks ? j : f.t - (f.kept - 1 - j);
    uint32_t slot = j;
    size_t from;

    if (t >= f.row->index) {
        from = (f.row->first + (size_t)(t - f.row->index)) * shared + g * D;
        return place{a.k + from, a.v + from};
    }
    if (j >= a.sinks) {
        slot = j - a.sinks + f.oldest;
        slot = a.sinks + (slot < a.window ? slot : slot - a.window);
    }
    from = (g * most + slot) * D;
    return place{f.cache + from, f.cache + a.key_heads * most * D + from};
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

template <int VEC> struct vector {
    float of[VEC];
};

template <int VEC> __device__ static inline vector<VEC> vector_load(const float *from)
{
    vector<VEC> v;

    if (VEC == 4) {
        float4 four = *reinterpret_cast<const float4 *>(from);

        v.of[0] = four.x;
        v.of[1 % VEC] = four.y;
        v.of[2 % VEC] = four.z;
        v.of[3 % VEC] = four.w;
    } else {
        v.of[0] = *from;
    }
    return v;
}

/* Turns the pair (a, b) of a key back. */
template <int VEC>
__device__ static inline void turn_back(vector<VEC> *a, vector<VEC> *b, const vector<VEC> &cosine,
                                        const vector<VEC> &sine)
{
#pragma unroll
    for (int e = 0; e < VEC; e++) {
        float re = a->of[e], im = b->of[e];

        a->of[e] = fmaf(im, sine.of[e], re * cosine.of[e]);
        b->of[e] = fmaf(-re, sine.of[e], im * cosine.of[e]);
    }
}

template <int VEC> __device__ static inline float dot_add(const vector<VEC> &a, const vector<VEC> &b, float sum)
{
#pragma unroll
    for (int e = 0; e < VEC; e++)
        sum = fmaf(a.of[e], b.of[e], sum);
    return sum;
}

/* What one of LANES lanes has of the scores of KEYS keys for HEADS queries, into sum (KEYS, HEADS). behind[c]: how far
 * key c lies behind. */
template <int HEADS, int VEC>
__device__ static inline void scores_part(const struct attending &a, const float *const *key, const uint32_t *behind,
                                          const float *const *query, float *sum)
{
    uint32_t lane = threadIdx.x % LANES, half = a.turns ? a.head_dim / 2 : a.head_dim;

    for (uint32_t i = lane * VEC; i < half; i += LANES * VEC) {
        vector<VEC> re[KEYS], im[KEYS];

#pragma unroll
        for (uint32_t c = 0; c < KEYS; c++) {
            re[c] = vector_load<VEC>(key[c] + i);
            if (a.turns) {
                const float *turn = a.turns + (size_t)behind[c] * 2 * half + i;

                im[c] = vector_load<VEC>(key[c] + half + i);
                turn_back(&re[c], &im[c], vector_load<VEC>(turn), vector_load<VEC>(turn + half));
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            vector<VEC> q = vector_load<VEC>(query[h] + i);

#pragma unroll
            for (uint32_t c = 0; c < KEYS; c++)
                sum[c * HEADS + h] = dot_add(q, re[c], sum[c * HEADS + h]);
            if (a.turns) {
                q = vector_load<VEC>(query[h] + half + i);
#pragma unroll
                for (uint32_t c = 0; c < KEYS; c++)
                    sum[c * HEADS + h] = dot_add(q, im[c], sum[c * HEADS + h]);
            }
        }
    }
}

#define NOWHERE 0x10000u

/* The sums of N values over 2 * APART lanes, which exchange halves of what they have: each is left with some of them, one
 * at least, in value[0] on. Returns the place of the first, or beyond NOWHERE to a lane whose neighbour has the same. */
template <int N, int APART> __device__ static inline uint32_t lanes_add(float *value)
{
    bool upper = threadIdx.x & APART;
    uint32_t first = upper ? (N > 1 ? N / 2 : NOWHERE) : 0;

    if (N == 1)
        value[0] += __shfl_xor_sync(CUDA_LANES, value[0], APART);
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        float low = value[i], high = value[N / 2 + i];

        value[i] = (upper ? high : low) + __shfl_xor_sync(CUDA_LANES, upper ? low : high, APART);
    }
    if constexpr (APART > 1)
        first += lanes_add<(N > 1 ? N / 2 : 1), APART / 2>(value);
    return first;
}

/* The scores of the segment's `count` places, the first of which lies `behind` the newest, for HEADS queries. All lanes
 * of a warp go through the same number of rounds; what is beyond the last place is scored and not kept. */
template <int HEADS, int VEC>
__device__ static void segment_score(const struct attending &a, const struct place *place, uint32_t count,
                                     uint32_t behind, const float *const *query, float (*score)[SEGMENT])
{
    uint32_t team = threadIdx.x / LANES;

    for (uint32_t begin = team * KEYS; begin - team * KEYS < count; begin += THREADS / LANES * KEYS) {
        float sum[KEYS * HEADS] = {};
        const float *key[KEYS];
        uint32_t away[KEYS], first;

#pragma unroll
        for (uint32_t c = 0; c < KEYS; c++) {
            uint32_t j = begin + c < count ? begin + c : count - 1;

            key[c] = place[j].key;
            away[c] = behind - j;
        }
        scores_part<HEADS, VEC>(a, key, away, query, sum);
        first = lanes_add<KEYS * HEADS, LANES / 2>(sum);
#pragma unroll
        for (uint32_t i = 0; i < (KEYS * HEADS + LANES - 1) / LANES; i++) {
            uint32_t j = begin + (first + i) / HEADS;

            if (first < NOWHERE && j < count)
                score[(first + i) % HEADS][j] = sum[i] * a.scale;
        }
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* Scores become weights, of one head by one warp; returns maximum and sum, to all lanes. */
__device__ static struct total segment_weigh(float *score, uint32_t count)
{
    uint32_t lane = threadIdx.x % CUDA_WARP;
    struct total total = {-INFINITY, 0};

    for (uint32_t j = lane; j < count; j += CUDA_WARP)
        total.most = fmaxf(total.most, score[j]);
#pragma unroll
    for (uint32_t apart = CUDA_WARP / 2; apart > 0; apart /= 2)
        total.most = fmaxf(total.most, __shfl_xor_sync(CUDA_LANES, total.most, apart));
    for (uint32_t j = lane; j < count; j += CUDA_WARP) {
        score[j] = exp2f(score[j] - total.most);
        total.sum += score[j];
    }
#pragma unroll
    for (uint32_t apart = CUDA_WARP / 2; apart > 0; apart /= 2)
        total.sum += __shfl_xor_sync(CUDA_LANES, total.sum, apart);
    return total;
}

/* How what was mixed so far and what a segment adds are joined: so far * keep + segment * gain. */
struct joint {
    float keep, gain;
};

/* `before` becomes the total with the segment's. The first segment of all finds {-INFINITY, 0}; the last one divides by
 * the sum. */
__device__ static struct joint total_join(struct total *before, struct total segment, bool last)
{
    float most = fmaxf(before->most, segment.most);
    struct joint joint = {exp2f(before->most - most), exp2f(segment.most - most)};

    before->sum = fmaf(segment.sum, joint.gain, before->sum * joint.keep);
    before->most = most;
    if (last) {
        joint.keep /= before->sum;
        joint.gain /= before->sum;
    }
    return joint;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* The threads of a block over D: `columns` of VEC channels beside one another, `groups` of them that take places by
 * turns. */
struct division {
    uint32_t columns, groups, column, group;
};

template <int VEC> __device__ static struct division division_make(uint32_t head_dim)
{
    uint32_t columns = head_dim / VEC, groups;

    columns = columns < THREADS ? columns : THREADS;
    groups = THREADS / columns;
    return division{columns, groups < GROUPS ? groups : GROUPS, threadIdx.x % columns, threadIdx.x / columns};
}

/* One thread's part of the weighted sum of the values, VEC channels from `channel` on. */
template <int HEADS, int VEC>
__device__ static inline void values_part(const struct place *place, uint32_t count, const float (*weight)[SEGMENT],
                                          const struct division &d, uint32_t channel, float (*sum)[VEC])
{
#pragma unroll 4
    for (uint32_t j = d.group; j < count; j += d.groups) {
        vector<VEC> value = vector_load<VEC>(place[j].value + channel);

#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float w = weight[h][j];

#pragma unroll
            for (int e = 0; e < VEC; e++)
                sum[h][e] = fmaf(w, value.of[e], sum[h][e]);
        }
    }
}

/* What the block shares, for HEADS queries. */
template <int HEADS, int VEC> struct room {
    struct place place[SEGMENT];
    float weight[HEADS][SEGMENT];
    struct joint joint[HEADS];
    float sum[THREADS][HEADS][VEC];
};

/* The segment's values into `to` (heads, D), `stride` floats apart: joined with what is there, or as they are. */
template <int HEADS, int VEC>
__device__ static void segment_mix(const struct attending &a, struct room<HEADS, VEC> *room, uint32_t count,
                                   uint32_t heads, float *to, size_t stride, bool begun)
{
    struct division d = division_make<VEC>(a.head_dim);

    for (uint32_t from = 0; from < a.head_dim; from += d.columns * VEC) {
        uint32_t channel = from + d.column * VEC;
        float sum[HEADS][VEC] = {};

        if (d.group < d.groups && channel < a.head_dim)
            values_part<HEADS, VEC>(room->place, count, room->weight, d, channel, sum);
#pragma unroll
        for (int i = 0; i < HEADS * VEC; i++)
            room->sum[threadIdx.x][i / VEC][i % VEC] = sum[i / VEC][i % VEC];
        __syncthreads();
        for (uint32_t e = threadIdx.x; e < heads * d.columns * VEC; e += THREADS) {
            uint32_t h = e / (d.columns * VEC), column = e % (d.columns * VEC);
            float *at = to + h * stride + from + column, all = 0;

            if (from + column >= a.head_dim)
                continue;
            for (uint32_t g = 0; g < d.groups; g++)
                all += room->sum[g * d.columns + column / VEC][h][column % VEC];
            *at = begun ? fmaf(all, room->joint[h].gain, *at * room->joint[h].keep) : all * room->joint[h].gain;
        }
        __syncthreads();
    }
}

/* ---- a block ----------------------------------------------------------------------------------------------------- */

/* `heads` queries from `head` on, at most HEADS, with the segment whose places are in the room. */
template <int HEADS, int VEC>
__device__ static void heads_attend(const struct attending &a, const struct frame &f, struct room<HEADS, VEC> *room,
                                    uint32_t head, uint32_t heads, uint32_t begin)
{
    uint32_t count = f.kept - begin < SEGMENT ? f.kept - begin : SEGMENT, warp = threadIdx.x / CUDA_WARP;
    size_t first = (size_t)f.at * a.heads + head, D = a.head_dim;
    const float *query[HEADS];

#pragma unroll
    for (int h = 0; h < HEADS; h++)
        query[h] = a.q + (first + ((uint32_t)h < heads ? h : 0)) * D;
    segment_score<HEADS, VEC>(a, room->place, count, f.kept - 1 - begin, query, room->weight);
    __syncthreads();
    if (warp < heads) {
        struct total total = segment_weigh(room->weight[warp], count);

        if (threadIdx.x % CUDA_WARP == 0 && a.part) {
            a.total[(first + warp) * a.segments + begin / SEGMENT] = total;
            room->joint[warp].gain = 1;
        } else if (threadIdx.x % CUDA_WARP == 0) {
            struct total before = {-INFINITY, 0};

            if (begin > 0)
                before = a.total[first + warp];
            room->joint[warp] = total_join(&before, total, begin + SEGMENT >= f.kept);
            a.total[first + warp] = before;
        }
    }
    __syncthreads();
    if (a.part)
        segment_mix<HEADS, VEC>(a, room, count, heads, a.part + (first * a.segments + begin / SEGMENT) * D,
                                a.segments * D, false);
    else
        segment_mix<HEADS, VEC>(a, room, count, heads, a.mixed + first * D, D, begin > 0);
}

/* Block (frame, key head, segment). */
template <int HEADS, int VEC> __global__ static void __launch_bounds__(THREADS, 4) attend(struct attending a)
{
    __shared__ struct room<HEADS, VEC> room;
    struct frame f;

    if (blockIdx.x >= a.span.count->frames)
        return;
    f = frame_find(a, blockIdx.x);
    for (uint32_t g = blockIdx.y; g < a.key_heads; g += gridDim.y)
        for (uint32_t begin = blockIdx.z * SEGMENT; begin < f.kept; begin += gridDim.z * SEGMENT) {
            for (uint32_t j = threadIdx.x; j < SEGMENT && begin + j < f.kept; j += THREADS)
                room.place[j] = place_find(a, f, g, begin + j);
            __syncthreads();
            for (uint32_t h = a.first[g], end = a.first[g + 1]; h < end; h += HEADS)
                heads_attend<HEADS, VEC>(a, f, &room, h, end - h < HEADS ? end - h : HEADS, begin);
        }
}

/* Segments that were blocks of their own, from oldest to newest: block (frame, head), a thread for each channel. */
__global__ static void __launch_bounds__(THREADS) parts_join(struct attending a)
{
    struct frame f;

    if (blockIdx.x >= a.span.count->frames)
        return;
    f = frame_find(a, blockIdx.x);
    for (uint32_t h = blockIdx.y; h < a.heads; h += gridDim.y) {
        size_t first = (size_t)f.at * a.heads + h, D = a.head_dim;

        for (uint32_t i = threadIdx.x; i < D; i += THREADS) {
            const float *part = a.part + first * a.segments * D + i;
            struct total before = {-INFINITY, 0};
            float mixed = 0;

            for (uint32_t s = 0; s * SEGMENT < f.kept; s++) {
                struct joint joint = total_join(&before, a.total[first * a.segments + s], (s + 1) * SEGMENT >= f.kept);

                mixed = s ? fmaf(part[s * D], joint.gain, mixed * joint.keep) : part[0] * joint.gain;
            }
            a.mixed[first * D + i] = mixed;
        }
    }
}

/* The tile's keys and values into the caches; of the frames of a row that would lie at one slot only the last. */
__global__ static void __launch_bounds__(THREADS) cache_keep(struct attending a)
{
    size_t D = a.head_dim, shared = a.key_heads * D, most = a.sinks + a.window, slot;
    struct frame f;
    float *cache;

    if (blockIdx.x >= a.span.count->frames)
        return;
    f = frame_find(a, blockIdx.x);
    if (f.t >= a.sinks && f.t + a.window < f.row->index + f.row->frames)
        return;
    slot = f.t < a.sinks ? (size_t)f.t : a.sinks + (size_t)((f.t - a.sinks) % a.window);
    cache = cuda_row_state<float>(f.row, a.state_offset);
    for (uint32_t e = blockIdx.y * THREADS + threadIdx.x; e < shared; e += gridDim.y * THREADS) {
        float *key = cache + (e / D * most + slot) * D + e % D;

        key[0] = a.k[f.at * shared + e];
        key[shared * most] = a.v[f.at * shared + e];
    }
}

/* ---- launching --------------------------------------------------------------------------------------------------- */

static void build(struct cuda_build *b, const struct ssm_layer *layer, void **params)
{
    const struct ssm_attention *p = (const struct ssm_attention *)layer->params;
    struct attention *c = (struct attention *)cuda_params(b, sizeof(*c));
    uint32_t *first = (uint32_t *)cuda_params(b, (p->key_heads + 1) * sizeof(*first));

    *params = c;
    if (!c || !first)
        return;
    cuda_matrix_build(b, &p->q.weight, &c->q);
    cuda_matrix_build(b, &p->k.weight, &c->k);
    cuda_matrix_build(b, &p->v.weight, &c->v);
    cuda_matrix_build(b, &p->o.weight, &c->o);
    c->q_bias = cuda_upload_floats(b, p->q.bias, p->q.weight.out);
    c->k_bias = cuda_upload_floats(b, p->k.bias, p->k.weight.out);
    c->v_bias = cuda_upload_floats(b, p->v.bias, p->v.weight.out);
    c->o_bias = cuda_upload_floats(b, p->o.bias, p->o.weight.out);
    if (p->turns)
        c->turns = cuda_upload_floats(b, p->turns, (size_t)(p->sinks + p->window) * 2 * (p->head_dim / 2));
    for (uint32_t g = 0; g <= p->key_heads; g++)
        first[g] = ssm_attention_group(p, g);
    c->first = (const uint32_t *)cuda_upload(b, first, (p->key_heads + 1) * sizeof(*first));
    c->group = (p->heads + p->key_heads - 1) / p->key_heads;
}

/* Where things lie in the scratch, in bytes. */
struct plan {
    size_t k, v, mixed, total, part, bytes; /* q is first */
    uint32_t segments;
    bool parts;
};

static size_t whole(size_t bytes)
{
    return (bytes + 255) & ~(size_t)255;
}

static struct plan plan_make(const struct ssm_attention *p, const struct cuda_span *span)
{
    size_t frames = span->frames_room, D = p->head_dim, shared, queries, totals, parts;
    struct plan plan;

    plan.segments = cuda_blocks((uint64_t)p->sinks + p->window, SEGMENT);
    queries = whole(frames * p->heads * D * sizeof(float));
    shared = whole(frames * p->key_heads * D * sizeof(float));
    totals = whole(frames * p->heads * sizeof(struct total));
    parts = plan.segments * (queries + totals);
    plan.parts = plan.segments > 1 && frames * p->key_heads <= PART_BLOCKS && parts <= PART_BYTES;
    plan.k = queries;
    plan.v = plan.k + shared;
    plan.mixed = plan.v + shared;
    plan.total = plan.mixed + queries;
    plan.part = plan.total + plan.segments * totals;
    /* larger rooms never need less, though they may do without parts */
    parts = parts < PART_BYTES ? parts : PART_BYTES;
    plan.bytes = plan.total + (parts > totals ? parts : totals);
    return plan;
}

static size_t scratch(const struct cuda_layer *l, const struct cuda_tile *tile)
{
    const struct ssm_attention *p = (const struct ssm_attention *)l->layer->params;

    return plan_make(p, &tile->clock[l->layer->clock]).bytes;
}

template <int HEADS, int VEC> static cudaError_t attend_launch(const struct attending &a, cudaStream_t stream)
{
    uint32_t frames = a.span.frames_room, wide = 32768;
    dim3 grid(frames, a.key_heads < wide ? a.key_heads : wide, a.part ? (a.segments < wide ? a.segments : wide) : 1);

    CUDA_LAUNCH((attend<HEADS, VEC>), grid, dim3(THREADS), 0, stream, a);
    if (a.part)
        CUDA_LAUNCH(parts_join, dim3(frames, a.heads < wide ? a.heads : wide), dim3(THREADS), 0, stream, a);
    grid = dim3(frames, cuda_blocks((uint64_t)a.key_heads * a.head_dim, 4 * THREADS));
    CUDA_LAUNCH(cache_keep, grid, dim3(THREADS), 0, stream, a);
    return cudaGetLastError();
}

template <int VEC> static cudaError_t heads_launch(const struct attending &a, uint32_t group, cudaStream_t stream)
{
    return group == 1   ? attend_launch<1, VEC>(a, stream)
           : group == 2 ? attend_launch<2, VEC>(a, stream)
                        : attend_launch<4, VEC>(a, stream);
}

static cudaError_t project(const struct cuda_matrix *w, const float *start, const float *x, float *y,
                           const struct cuda_span *span, cudaStream_t stream)
{
    struct cuda_product p = {};

    p.x = x;
    p.x_stride = w->in;
    p.y = y;
    p.y_stride = w->out;
    p.start = start;
    p.count = &span->count->frames;
    p.room = span->frames_room;
    return cuda_matrix_launch(w, &p, stream);
}

static cudaError_t launch(const struct cuda_layer *l, const struct cuda_tile *tile, const float *x, float *y)
{
    const struct ssm_attention *p = (const struct ssm_attention *)l->layer->params;
    const struct attention *c = (const struct attention *)l->params;
    const struct cuda_span *span = &tile->clock[l->layer->clock];
    struct plan plan = plan_make(p, span);
    float *q = (float *)tile->scratch, *k = (float *)(tile->scratch + plan.k), *v = (float *)(tile->scratch + plan.v);
    struct attending a = {};
    cudaError_t error;

    a.span = *span;
    a.q = q;
    a.k = k;
    a.v = v;
    a.mixed = (float *)(tile->scratch + plan.mixed);
    a.total = (struct total *)(tile->scratch + plan.total);
    a.part = plan.parts ? (float *)(tile->scratch + plan.part) : NULL;
    a.segments = plan.segments;
    a.turns = c->turns;
    a.first = c->first;
    a.heads = p->heads;
    a.key_heads = p->key_heads;
    a.head_dim = p->head_dim;
    a.sinks = p->sinks;
    a.window = p->window;
    a.state_offset = l->layer->state_offset;
    a.scale = (float)(1.4426950408889634 / sqrt((double)p->head_dim));
    if ((error = project(&c->q, c->q_bias, x, q, span, tile->stream)) ||
        (error = project(&c->k, c->k_bias, x, k, span, tile->stream)) ||
        (error = project(&c->v, c->v_bias, x, v, span, tile->stream)))
        return error;
    /* pairs of four, so that halves of a key are aligned too */
    error = p->head_dim % 8 ? heads_launch<1>(a, c->group, tile->stream) : heads_launch<4>(a, c->group, tile->stream);
    if (error)
        return error;
    return project(&c->o, c->o_bias, a.mixed, y, span, tile->stream);
}

const struct cuda_kind cuda_kind_attention = {build, scratch, launch};
