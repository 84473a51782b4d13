/* SPDX-License-Identifier: Apache-2.0
 *
 * The way of a tile; see program.cuh. Everything here runs on the one thread that submits and waits. */
#include "cuda/program.cuh"

#include <string.h>

#define APART_BYTES ((size_t)256 << 10) /* copies of that size are worth a stream of their own */
#define LOOKS       2000u               /* at an event, some 100 us, before the thread sleeps */

/* Who owns each frame. One warp for each row at each clock (grid.y). The tile's first kernel, launched when all in
 * front of it has ended, so that those behind it find states, rows and counts. */
__global__ static void tile_begin(const struct cuda_count *counts, const struct cuda_row *rows, uint32_t rows_room,
                                  uint32_t *const *owner)
{
    uint32_t k = blockIdx.y, r = (blockIdx.x * blockDim.x + threadIdx.x) / CUDA_WARP;

    cuda_wait_turn();
    if (r >= counts[k].rows)
        return;
    rows += (size_t)k * rows_room + r;
    for (uint32_t t = threadIdx.x % CUDA_WARP; t < rows->frames; t += CUDA_WARP)
        owner[k][rows->first + t] = r;
}

/* A fresh state is zero, whatever its place held before. Blocks: row, part of its state. */
__global__ static void state_clear(const struct cuda_count *counts, const struct cuda_row *rows, size_t bytes)
{
    const struct cuda_row *row = &rows[blockIdx.x];
    size_t stride = (size_t)gridDim.y * blockDim.x * sizeof(uint4);

    if (blockIdx.x >= counts->rows || !row->begins)
        return;
    for (size_t at = ((size_t)blockIdx.y * blockDim.x + threadIdx.x) * sizeof(uint4); at < bytes; at += stride)
        *(uint4 *)(row->state + at) = make_uint4(0, 0, 0, 0);
}

/* ---- buckets ----------------------------------------------------------------------------------------------------- */

static uint32_t power_above(uint32_t n, uint32_t most)
{
    uint32_t power = 1;

    while (power < n && power < most)
        power *= 2;
    return power < most ? power : most;
}

static struct cuda_bucket bucket_of(const struct ssm_device_program *p, const struct ssm_device_tile *tile)
{
    struct cuda_bucket bucket = {.rows = power_above(tile->rows, p->rows_room),
                                 .frames = power_above(tile->frames[0], p->frames_room[0]),
                                 .longest = 0,
                                 .scans = 0};

    for (uint32_t i = 0; i < tile->rows; i++) {
        bucket.longest = tile->row[i].frames > bucket.longest ? tile->row[i].frames : bucket.longest;
        bucket.scans |= tile->row[i].view == SSM_SCAN;
    }
    bucket.longest = power_above(bucket.longest, p->frames_room[0]);
    return bucket;
}

/* Frames that `frames` input frames of `rows` rows pass there, at most. */
static uint32_t clock_room(const struct ssm_device_program *p, uint32_t k, uint64_t frames, uint64_t rows)
{
    const struct ssm_clock *clock = &p->model.clocks->clock[k];
    uint64_t hop = p->model.clocks->hop, whole = (frames + rows * (hop - 1) + hop - 1) / hop * hop;
    uint64_t room = ssm_clock_frames(clock, whole);

    return room < p->frames_room[k] ? (uint32_t)room : p->frames_room[k];
}

void cuda_program_span(struct ssm_device_program *p, uint32_t which, const struct cuda_bucket *bucket)
{
    const struct cuda_count *counts = (const struct cuda_count *)p->stage[which].device_head;
    uint32_t clocks = p->model.clocks->count;
    const struct cuda_row *rows = (const struct cuda_row *)(counts + clocks + clocks % 2);

    for (uint32_t k = 0; k < clocks; k++) {
        struct cuda_span *span = &p->spans[k];

        span->rows = rows + (size_t)k * bucket->rows;
        span->count = counts + k;
        span->owner = p->owner[k];
        span->rows_room = bucket->rows;
        span->frames_room = clock_room(p, k, bucket->frames, bucket->rows);
        span->longest_room = clock_room(p, k, bucket->longest, 1);
        span->frames_room = span->frames_room ? span->frames_room : 1;
        span->longest_room = span->longest_room ? span->longest_room : 1;
    }
}

/* ---- computing --------------------------------------------------------------------------------------------------- */

static cudaError_t tile_launch(struct ssm_device_program *p, uint32_t which, const struct cuda_bucket *bucket)
{
    const struct cuda_stage *s = &p->stage[which];
    bool tokens = p->model.info->input == SSM_TOKENS;
    struct cuda_tile tile = {.stream = p->compute,
                             .clock = p->spans,
                             .signal = tokens ? NULL : (const float *)s->input,
                             .tokens = tokens ? (const int32_t *)s->input : NULL,
                             .inputs = p->model.info->in_channels,
                             .scans = bucket->scans != 0,
                             .scratch = NULL};
    dim3 grid(cuda_blocks((uint64_t)bucket->rows * CUDA_WARP, 128), p->model.clocks->count);
    cudaError_t result;

    CUDA_LAUNCH(tile_begin, grid, dim3(128), 0, p->compute, p->spans[0].count, p->spans[0].rows, bucket->rows,
                p->device_owner);
    if ((result = cudaGetLastError()) != cudaSuccess)
        return result;
    return cuda_sequence_launch(&p->graph, &tile, p->arena, tile.signal, s->output);
}

static bool bucket_equal(const struct cuda_bucket *a, const struct cuda_bucket *b)
{
    return a->rows == b->rows && a->frames == b->frames && a->longest == b->longest && a->scans == b->scans;
}

/* The bucket's place among the captured ones; a new one takes the place of the one unused longest. */
static struct cuda_captured *captured_find(struct ssm_device_program *p, const struct cuda_bucket *bucket)
{
    struct cuda_captured *oldest = &p->captured[0];

    for (uint32_t i = 0; i < CUDA_GRAPHS; i++) {
        struct cuda_captured *c = &p->captured[i];

        if (c->used > 0 && bucket_equal(&c->bucket, bucket))
            return c;
        oldest = c->used < oldest->used ? c : oldest;
    }
    for (uint32_t k = 0; k < SSM_DEVICE_TILES; k++) {
        if (oldest->exec[k])
            (void)cudaGraphExecDestroy(oldest->exec[k]);
        oldest->exec[k] = NULL;
    }
    oldest->bucket = *bucket;
    oldest->used = 0;
    return oldest;
}

static cudaError_t tile_capture(struct ssm_device_program *p, uint32_t which, const struct cuda_bucket *bucket,
                                cudaGraphExec_t *exec)
{
    cudaGraph_t graph = NULL;
    cudaError_t result = cudaStreamBeginCapture(p->compute, cudaStreamCaptureModeThreadLocal), end;

    if (result != cudaSuccess)
        return result;
    result = tile_launch(p, which, bucket);
    end = cudaStreamEndCapture(p->compute, &graph);
    result = result == cudaSuccess ? end : result;
    if (result == cudaSuccess)
        result = cudaGraphInstantiate(exec, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    return result;
}

/* The tile through all layers: launched the first time its bucket comes, replayed from the second on. */
static cudaError_t tile_compute(struct ssm_device_program *p, uint32_t which, const struct cuda_bucket *bucket)
{
    struct cuda_captured *c = captured_find(p, bucket);
    bool known = c->used > 0;
    cudaError_t result = cudaSuccess;

    c->used = p->submitted;
    cuda_program_span(p, which, bucket);
    if (!known)
        return tile_launch(p, which, bucket);
    if (!c->exec[which])
        result = tile_capture(p, which, bucket, &c->exec[which]);
    return result == cudaSuccess ? cudaGraphLaunch(c->exec[which], p->compute) : result;
}

/* ---- the way of a tile ------------------------------------------------------------------------------------------- */

struct ssm_device_tile *cuda_program_tile(struct ssm_device_program *program, uint32_t which)
{
    return &program->stage[which].tile;
}

/* Rows and counts as kernels read them, into pinned memory; *begins: whether some row's state is to be cleared. Returns
 * the bytes. */
static size_t head_write(struct ssm_device_program *p, struct cuda_stage *s, const struct cuda_bucket *bucket,
                         bool *begins)
{
    uint32_t clocks = p->model.clocks->count, n = s->tile.rows;
    struct cuda_count *counts = (struct cuda_count *)s->head;
    struct cuda_row *rows = (struct cuda_row *)(counts + clocks + clocks % 2);

    *begins = false;
    for (uint32_t i = 0; i < n; i++)
        *begins = *begins || p->fresh[i];
    for (uint32_t k = 0; k < clocks; k++) {
        const struct ssm_device_row *from = s->tile.row + (size_t)k * s->tile.rows_room;
        struct cuda_row *to = rows + (size_t)k * bucket->rows;

        counts[k].rows = n;
        counts[k].frames = s->tile.frames[k];
        for (uint32_t i = 0; i < n; i++) {
            to[i].state = p->state[i];
            to[i].index = from[i].index;
            to[i].first = from[i].first;
            to[i].frames = from[i].frames;
            to[i].view = from[i].view;
            to[i].begins = p->fresh[i];
        }
    }
    return (size_t)((unsigned char *)(rows + (size_t)clocks * bucket->rows) - s->head);
}

/* What the tile needs, to the device. */
static cudaError_t tile_up(struct ssm_device_program *p, struct cuda_stage *s, size_t head, cudaStream_t stream)
{
    const struct ssm_model_info *info = p->model.info;
    size_t bytes = (size_t)s->tile.frames[0] * (info->input == SSM_TOKENS ? 1 : info->in_channels) * 4;
    cudaError_t result = cudaMemcpyAsync(s->device_head, s->head, head, cudaMemcpyHostToDevice, stream);

    if (result == cudaSuccess)
        result = cudaMemcpyAsync(s->input, s->tile.input, bytes, cudaMemcpyHostToDevice, stream);
    if (stream == p->compute || result != cudaSuccess)
        return result;
    if ((result = cudaEventRecord(s->up, stream)) != cudaSuccess)
        return result;
    return cudaStreamWaitEvent(p->compute, s->up, 0);
}

static cudaError_t tile_down(struct ssm_device_program *p, struct cuda_stage *s)
{
    uint32_t end = p->model.graph->out_clock;
    size_t bytes = (size_t)s->tile.frames[end] * p->model.info->out_channels * sizeof(float);
    cudaStream_t stream = bytes < APART_BYTES ? p->compute : p->down;
    cudaError_t result = cudaEventRecord(s->computed, p->compute);

    if (result == cudaSuccess && stream != p->compute)
        result = cudaStreamWaitEvent(stream, s->computed, 0);
    if (result == cudaSuccess && bytes > 0)
        result = cudaMemcpyAsync(s->tile.output, s->output, bytes, cudaMemcpyDeviceToHost, stream);
    return result == cudaSuccess ? cudaEventRecord(s->done, stream) : result;
}

static cudaError_t tile_run(struct ssm_device_program *p, uint32_t which, const struct cuda_bucket *bucket, bool copied)
{
    struct cuda_stage *s = &p->stage[which];
    bool begins, alone = p->submitted == p->finished + 1; /* no tile beside which a copy could run */
    size_t head = head_write(p, s, bucket, &begins), bytes = p->model.info->state_bytes;
    cudaError_t result = tile_up(p, s, head, alone ? p->compute : p->up);

    if (result == cudaSuccess && copied)
        result = cudaStreamWaitEvent(p->compute, p->pool.arrived, 0);
    if (result == cudaSuccess && begins && bytes > 0) {
        struct cuda_count *counts = (struct cuda_count *)s->device_head;
        uint32_t clocks = p->model.clocks->count, parts = cuda_blocks(bytes, 16384);

        CUDA_LAUNCH(state_clear, dim3(s->tile.rows, parts < 64 ? parts : 64), dim3(256), 0, p->compute, counts,
                    (struct cuda_row *)(counts + clocks + clocks % 2), bytes);
        result = cudaGetLastError();
    }
    if (result == cudaSuccess)
        result = tile_compute(p, which, bucket);
    return result == cudaSuccess ? tile_down(p, s) : result;
}

int cuda_program_submit(struct ssm_device_program *p, uint32_t which)
{
    struct cuda_stage *s = &p->stage[which];
    struct cuda_bucket bucket = bucket_of(p, &s->tile);
    cudaEvent_t before = p->stage[(which + SSM_DEVICE_TILES - 1) % SSM_DEVICE_TILES].computed;
    int copied, status = cuda_enter(p->device);

    if (status)
        return status;
    for (uint32_t i = 0; i < s->tile.rows; i++) {
        p->slot[i] = s->tile.row[i].slot;
        p->fresh[i] = s->tile.row[i].index == 0;
    }
    s->number = ++p->submitted;
    status = cuda_pool_place(&p->pool, s->tile.rows, p->slot, p->fresh, p->state, s->number, p->finished, before,
                             &copied);
    if (status == SSM_OK)
        status = cuda_check(p->device, tile_run(p, which, &bucket, copied != 0));
    if (status) /* some of a batch may have run: its states are not what libssm thinks */
        cuda_fail(p->device, cudaErrorMemoryAllocation);
    return status ? SSM_DEVICE : SSM_OK;
}

int cuda_program_wait(struct ssm_device_program *p, uint32_t which)
{
    struct cuda_stage *s = &p->stage[which];
    cudaError_t result = cudaErrorNotReady;

    if (cuda_enter(p->device))
        return SSM_DEVICE;
    for (uint32_t looks = 0; result == cudaErrorNotReady && looks < LOOKS; looks++)
        result = cudaEventQuery(s->done);
    (void)cudaGetLastError(); /* which remembers that it was not ready */
    if (result == cudaErrorNotReady)
        result = cudaEventSynchronize(s->done);
    if (result == cudaSuccess)
        p->finished = s->number;
    return cuda_check(p->device, result) ? SSM_DEVICE : SSM_OK;
}
