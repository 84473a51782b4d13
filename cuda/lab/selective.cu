/* SPDX-License-Identifier: Apache-2.0
 *
 * The selective scan of mamba, and its update of one frame, alone: what cuda/mamba.cu launches between the projections.
 *
 * SHAPES   1536 channels, N 16, R 48. Update: 8192 rows of a frame. Scan: 8 rows of 2048 frames, 4 of 65536; stepped,
 *          and in whole blocks of the grid that follow one another or are taken side by side.
 * BYTES    of the update, the states, read and written, and u, z, the result and what dt, B and C come from; of the
 *          scan, those alone and each row's state once.
 */
#include "cuda/lab/lab.cuh"
#include "cuda/mamba.cuh"

#include <stdio.h>
#include <stdlib.h>

#define STATES 16u
#define RANK   48u

/* Activations that shrink from one run to the next: each run's result is the next one's input. */
#define SPREAD 0.5f

struct work {
    struct mamba_system system;
    struct mamba_signal signal;
    struct mamba_blocks blocks;
    struct cuda_span span;
    struct cuda_tile tile;
};

static cudaError_t update_run(void *arg, cudaStream_t stream)
{
    struct work *w = (struct work *)arg;

    return cuda_mamba_step(&w->system, &w->signal, &w->span, stream);
}

static cudaError_t scan_run(void *arg, cudaStream_t stream)
{
    struct work *w = (struct work *)arg;

    w->tile.stream = stream;
    return cuda_mamba_rows(&w->system, &w->signal, &w->blocks, &w->tile, &w->span);
}

static void system_make(struct mamba_system *s, uint32_t channels)
{
    size_t n = (size_t)channels * STATES;
    float *rate = (float *)calloc(n, sizeof(*rate));

    if (!rate)
        exit(1);
    for (size_t i = 0; i < n; i++)
        rate[i] = -1.4427f * (float)(1 + i / CUDA_PANEL % STATES);
    s->lanes = channels;
    s->states = STATES;
    s->rank = RANK;
    s->mixed_stride = RANK + 2 * STATES;
    s->offset = 0;
    s->rate = (const float *)lab_upload(rate, n * sizeof(*rate));
    s->d = lab_noise(channels, SPREAD);
    s->dt_weight = lab_noise((size_t)channels * RANK, 0.1f);
    s->dt_bias = lab_noise(channels, 1);
    free(rate);
}

static void signal_make(struct mamba_signal *signal, const struct mamba_system *s, size_t frames)
{
    signal->xz = lab_noise(frames * 2 * s->lanes, 1);
    signal->mixed = lab_noise(frames * s->mixed_stride, SPREAD);
    signal->u = lab_noise(frames * s->lanes, 1);
}

struct shape {
    const char *name;
    uint32_t rows, frames;
    uint32_t view;
    bool side_by_side;
};

static void shape_measure(struct lab *lab, const struct shape *shape)
{
    const uint32_t channels = lab->quick ? 48 : 1536;
    size_t frames = (size_t)shape->rows * shape->frames, states = (size_t)channels * STATES * sizeof(float);
    struct work w = {};
    char what[96];
    double bytes;

    system_make(&w.system, channels);
    signal_make(&w.signal, &w.system, frames);
    lab_span(&w.span, shape->rows, shape->frames, shape->view, states);
    w.tile.clock = &w.span;
    w.tile.scans = shape->view == SSM_SCAN;
    if (shape->side_by_side) {
        w.blocks.state = (float *)lab_memory(cuda_slots(&w.span) * states);
        w.blocks.dt = (float *)lab_memory((size_t)cuda_slots(&w.span) * channels * sizeof(float));
    }
    bytes = 2.0 * (double)shape->rows * (double)states +
            (double)frames * (3.0 * channels + w.system.mixed_stride) * sizeof(float);
    snprintf(what, sizeof(what), "mamba %s, %u x %u x %u x %u", shape->name, shape->rows, channels, STATES,
             shape->frames);
    lab_report(lab, what, lab_time(lab, shape->frames == 1 ? update_run : scan_run, &w), bytes);
    lab_forget();
}

int main(int argc, char **argv)
{
    static const struct shape shapes[] = {
        {"update", 8192, 1, SSM_STEP, false}, {"stepped", 8, 2048, SSM_STEP, false},
        {"scan", 8, 2048, SSM_SCAN, false},   {"scan side by side", 8, 2048, SSM_SCAN, true},
        {"scan", 4, 65536, SSM_SCAN, false},  {"scan side by side", 4, 65536, SSM_SCAN, true}};
    struct lab lab;

    lab_open(&lab, argc, argv, (size_t)8192 * 1536 * STATES * sizeof(float));
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct shape shape = shapes[i];

        if (lab.quick) {
            shape.rows = shape.rows > 8 ? 5 : 2;
            shape.frames = shape.frames == 1 ? 1 : 200;
        }
        shape_measure(&lab, &shape);
    }
    lab_close(&lab);
    return 0;
}
