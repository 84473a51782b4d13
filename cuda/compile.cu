/* SPDX-License-Identifier: Apache-2.0
 *
 * Making and unmaking a program: layers uploaded, room for tiles, streams and events. See program.cuh.
 *
 * How many frames a tile has room for: so many that its kernels fill the device, also those of slow layers, of which a
 * frame in hundreds is left; and so few that the activations of one layer are still in the cache when the next reads
 * them (50 MB of an H100). ARENA_BYTES for all that one frame passes is where both hold for the audio models. */
#include <stdlib.h>
#include <string.h>

#include "cuda/program.cuh"

#define FRAMES_MAX    (1u << 17)
#define FRAMES_WIDE   4096u /* tiles are not cut below that for the cache's sake */
#define ARENA_BYTES   ((size_t)160 << 20)
#define ARENA_SHARE   64 /* of the device's free memory; what scans need comes on top, to a quarter */
#define OUTPUT_BYTES  ((size_t)256 << 20)
#define ROWS_MAX      16384u
#define RESERVE_BYTES ((size_t)2 << 30) /* of places that are there from the start: a tile must find one for each row */

/* Rooms of a tile for `frames` input frames, a multiple of the hop. */
static void rooms_set(struct ssm_device_program *p, uint32_t frames)
{
    for (uint32_t k = 0; k < p->model.clocks->count; k++) {
        p->frames_room[k] = (uint32_t)ssm_clock_frames(&p->model.clocks->clock[k], frames);
        p->spans[k].frames_room = p->spans[k].longest_room = p->frames_room[k] ? p->frames_room[k] : 1;
        p->spans[k].rows_room = p->rows_room;
    }
}

static size_t arena_bytes(const struct ssm_device_program *p, bool scans)
{
    struct cuda_tile tile = {.stream = NULL,
                             .clock = p->spans,
                             .signal = NULL,
                             .tokens = NULL,
                             .inputs = p->model.info->in_channels,
                             .scans = scans,
                             .scratch = NULL};

    return cuda_sequence_arena(&p->graph, &tile);
}

/* The rooms of this program's tiles; `most` frames if that is not 0. Returns the bytes of the arena. */
static size_t rooms_choose(struct ssm_device_program *p, uint32_t most, size_t memory)
{
    uint32_t unit = ssm_clocks_aligned(p->model.clocks) ? 2 * SSM_DEVICE_BLOCK : p->model.cell;
    uint32_t limit = most ? most : FRAMES_MAX, frames = unit;
    uint32_t end = p->model.graph->out_clock;
    size_t arena;

    while (frames <= limit / 2)
        frames *= 2;
    for (;; frames /= 2) {
        size_t output, steps;

        rooms_set(p, frames);
        arena = arena_bytes(p, true);
        steps = arena_bytes(p, false);
        output = (size_t)p->frames_room[end] * p->model.info->out_channels * sizeof(float);
        if (frames == unit || !((steps > ARENA_BYTES && frames > FRAMES_WIDE) || arena > memory / 4 ||
                                steps > memory / ARENA_SHARE ||
                                (output > OUTPUT_BYTES && frames > unit)))
            return arena;
    }
}

static int stage_init(struct ssm_device_program *p, struct cuda_stage *s)
{
    const struct ssm_model_info *info = p->model.info;
    uint32_t clocks = p->model.clocks->count, end = p->model.graph->out_clock;
    size_t channels = info->input == SSM_TOKENS ? 1 : info->in_channels;
    size_t in = (size_t)p->frames_room[0] * channels * 4;
    size_t out = (size_t)p->frames_room[end] * info->out_channels * sizeof(float);
    size_t head = clocks * (sizeof(struct cuda_count) + (size_t)p->rows_room * sizeof(struct cuda_row)) + 64;
    int status = SSM_OK;

    s->tile.frames_room = p->frames_room;
    s->tile.rows_room = p->rows_room;
    s->tile.frames = (uint32_t *)calloc(clocks, sizeof(*s->tile.frames));
    s->tile.row = (struct ssm_device_row *)calloc((size_t)clocks * p->rows_room, sizeof(*s->tile.row));
    if (!s->tile.frames || !s->tile.row)
        return SSM_NOMEM;
#define TRY(call) status = status ? status : cuda_check(p->device, call)
    TRY(cudaMallocHost(&s->tile.input, in));
    TRY(cudaMallocHost((void **)&s->tile.output, out ? out : 4));
    TRY(cudaMallocHost((void **)&s->head, head));
    TRY(cudaMalloc((void **)&s->device_head, head));
    TRY(cudaMalloc(&s->input, in));
    TRY(cudaMalloc((void **)&s->output, out ? out : 4));
    TRY(cudaEventCreateWithFlags(&s->up, cudaEventDisableTiming));
    TRY(cudaEventCreateWithFlags(&s->computed, cudaEventDisableTiming));
    TRY(cudaEventCreateWithFlags(&s->done, cudaEventDisableTiming | cudaEventBlockingSync));
    return status;
}

static void stage_fini(struct cuda_stage *s)
{
    free(s->tile.frames);
    free(s->tile.row);
    (void)cudaFreeHost(s->tile.input);
    (void)cudaFreeHost(s->tile.output);
    (void)cudaFreeHost(s->head);
    (void)cudaFree(s->device_head);
    (void)cudaFree(s->input);
    (void)cudaFree(s->output);
    if (s->up)
        (void)cudaEventDestroy(s->up);
    if (s->computed)
        (void)cudaEventDestroy(s->computed);
    if (s->done)
        (void)cudaEventDestroy(s->done);
}

/* Who owns each frame, at every clock. */
static int owners_init(struct ssm_device_program *p)
{
    uint32_t clocks = p->model.clocks->count;
    size_t bytes = clocks * sizeof(*p->owner);
    int status = SSM_OK;

    p->owner = (uint32_t **)calloc(clocks, sizeof(*p->owner));
    if (!p->owner)
        return SSM_NOMEM;
    for (uint32_t k = 0; k < clocks; k++)
        TRY(cudaMalloc((void **)&p->owner[k], (p->frames_room[k] + 1) * sizeof(**p->owner)));
    TRY(cudaMalloc((void **)&p->device_owner, bytes));
    TRY(cudaMemcpy(p->device_owner, p->owner, bytes, cudaMemcpyHostToDevice));
    return status;
}

static int tables_init(struct ssm_device_program *p)
{
    uint32_t clocks = p->model.clocks->count;

    p->frames_room = (uint32_t *)calloc(clocks, sizeof(*p->frames_room));
    p->spans = (struct cuda_span *)calloc(clocks, sizeof(*p->spans));
    p->slot = (int32_t *)calloc(p->rows_room, sizeof(*p->slot));
    p->fresh = (uint8_t *)calloc(p->rows_room, sizeof(*p->fresh));
    p->state = (unsigned char **)calloc(p->rows_room, sizeof(*p->state));
    return p->frames_room && p->spans && p->slot && p->fresh && p->state ? SSM_OK : SSM_NOMEM;
}

/* How many rows a tile may have, each with a place from the start. */
static uint32_t rows_choose(const struct ssm_device_model *model, uint32_t max_slots, uint32_t resident, size_t memory)
{
    size_t reserve = memory / 8 < RESERVE_BYTES ? memory / 8 : RESERVE_BYTES;
    size_t fit = reserve / (model->info->state_bytes + 256), rows = fit < ROWS_MAX ? fit : ROWS_MAX;

    rows = resident && rows > resident ? resident : rows;
    rows = rows > max_slots ? max_slots : rows;
    return rows ? (uint32_t)rows : 1;
}

static int program_init(struct ssm_device_program *p, uint32_t max_slots, uint32_t resident, uint32_t most)
{
    size_t room = 0, all = 0, arena = 0;
    int status = SSM_OK;

    TRY(cudaMemGetInfo(&room, &all));
    p->rows_room = rows_choose(&p->model, max_slots, resident, room);
    status = status ? status : tables_init(p);
    p->build.device = p->device;
    if (status == SSM_OK) {
        cuda_sequence_build(&p->build, p->model.graph, &p->graph);
        status = p->build.status;
    }
    TRY(cudaMemGetInfo(&room, &all));
    if (status == SSM_OK)
        arena = rooms_choose(p, most, room);
    TRY(cudaMalloc((void **)&p->arena, arena ? arena : 256));
    TRY(cudaStreamCreateWithFlags(&p->up, cudaStreamNonBlocking));
    TRY(cudaStreamCreateWithFlags(&p->compute, cudaStreamNonBlocking));
    TRY(cudaStreamCreateWithFlags(&p->down, cudaStreamNonBlocking));
    status = status ? status : owners_init(p);
    for (uint32_t i = 0; status == SSM_OK && i < SSM_DEVICE_TILES; i++)
        status = stage_init(p, &p->stage[i]);
    if (status == SSM_OK)
        status =
            cuda_pool_init(&p->pool, p->device, p->model.info->state_bytes, max_slots, p->rows_room, resident);
    return status;
}
#undef TRY

int cuda_program_compile(struct ssm_device_program **out, struct ssm_device *device,
                         const struct ssm_device_model *model, uint32_t max_slots, uint32_t resident, uint32_t frames,
                         struct ssm_error *err)
{
    struct ssm_device_program *p;
    int status = cuda_enter(device);

    *out = NULL;
    if (status)
        return cuda_error_set(err, status, "%s", cuda_failure_text(device, status));
    p = (struct ssm_device_program *)calloc(1, sizeof(*p));
    if (!p)
        return cuda_error_set(err, SSM_NOMEM, "no memory");
    p->device = device;
    p->model = *model;
    if ((status = program_init(p, max_slots, resident, frames))) {
        cuda_error_set(err, status, "%s: %s", device->text, cuda_failure_text(device, status));
        cuda_program_discard(p);
        return status;
    }
    *out = p;
    return SSM_OK;
}

void cuda_program_discard(struct ssm_device_program *p)
{
    if (!p)
        return;
    (void)cudaSetDevice(p->device->number);
    (void)cudaDeviceSynchronize();
    for (uint32_t i = 0; i < CUDA_GRAPHS; i++)
        for (uint32_t k = 0; k < SSM_DEVICE_TILES; k++)
            if (p->captured[i].exec[k])
                (void)cudaGraphExecDestroy(p->captured[i].exec[k]);
    for (uint32_t i = 0; i < SSM_DEVICE_TILES; i++)
        stage_fini(&p->stage[i]);
    for (uint32_t k = 0; p->owner && k < p->model.clocks->count; k++)
        (void)cudaFree(p->owner[k]);
    (void)cudaFree(p->device_owner);
    (void)cudaFree(p->arena);
    if (p->up)
        (void)cudaStreamDestroy(p->up);
    if (p->compute)
        (void)cudaStreamDestroy(p->compute);
    if (p->down)
        (void)cudaStreamDestroy(p->down);
    cuda_pool_fini(&p->pool);
    cuda_build_fini(&p->build);
    free(p->owner);
    free(p->frames_room);
    free(p->spans);
    free(p->slot);
    free(p->fresh);
    free(p->state);
    free(p);
}
