/* SPDX-License-Identifier: Apache-2.0
 *
 * The selective scan, and its state update alone, as the product launches them: a mamba layer whose width outside is
 * small, so that next to nothing but the recurrence over 1536 channels is left of it.
 *
 * SHAPES   scan: 8 rows of 2048 frames, and 4 of 65536; N 16. Update: 8192 rows of one frame.
 * BYTES    of the scan, u, dt, z and the result, (frames, channels) each; of the update, the states, read and written.
 *          What the projections move beside that is in the time and not in the bytes: the rates are lower bounds.
 */
#include "cuda/lab/lab.cuh"

#include <stdio.h>
#include <stdlib.h>

extern "C" {
#include "ssm/layers/mamba.h"
}

#define DIM   16u /* outside, and of the rank of dt */
#define RANK  16u
#define TAPS  4u
#define STATE 16u

/* ---- the layer, as the loader would make it ---------------------------------------------------------------------- */

static float *floats_make(size_t n, float spread)
{
    static uint32_t seed = 1;
    float *v = (float *)calloc(n + 1, sizeof(*v));

    if (!v)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        v[i] = spread * ((float)(seed >> 8) / 8388608.0f - 1);
    }
    return v;
}

static void linear_make(struct ssm_linear *linear, uint32_t out, uint32_t in, float spread)
{
    linear->weight.out = out;
    linear->weight.in = in;
    linear->weight.panels = floats_make((size_t)(out + 15) / 16 * in * 16, spread);
    linear->bias = floats_make(out + 16, 0.5f);
}

static void linear_free(struct ssm_linear *linear)
{
    free(linear->weight.panels);
    free(linear->bias);
}

static void mamba_make(struct ssm_mamba *p, uint32_t channels)
{
    p->lanes = channels;
    p->state = STATE;
    p->rank = RANK;
    linear_make(&p->in_proj, 2 * channels, DIM, 0.3f);
    linear_make(&p->x_proj, RANK + 2 * STATE, channels, 0.05f);
    linear_make(&p->dt_proj, channels, RANK, 0.1f);
    linear_make(&p->out_proj, DIM, channels, 0.05f);
    p->window.kernel = TAPS;
    p->window.lanes = channels;
    p->window.taps = floats_make((size_t)TAPS * channels, 0.5f);
    p->window.bias = floats_make(channels, 0.1f);
    p->rate = floats_make((size_t)channels * STATE, 1);
    for (size_t i = 0; i < (size_t)channels * STATE; i++)
        p->rate[i] = -1.4427f * (float)(1 + i / 16 % STATE);
    p->d = floats_make(channels + 16, 1);
}

static void mamba_free(struct ssm_mamba *p)
{
    linear_free(&p->in_proj);
    linear_free(&p->x_proj);
    linear_free(&p->dt_proj);
    linear_free(&p->out_proj);
    free(p->window.taps);
    free(p->window.bias);
    free(p->rate);
    free(p->d);
}

/* ---- a tile of it ------------------------------------------------------------------------------------------------ */

struct work {
    struct cuda_layer layer;
    struct cuda_tile tile;
    struct cuda_span span;
    float *x, *y;
};

static cudaError_t work_run(void *arg, cudaStream_t stream)
{
    struct work *w = (struct work *)arg;

    w->tile.stream = stream;
    return w->layer.kind->launch(&w->layer, &w->tile, w->x, w->y);
}

/* `rows` rows of `frames` frames each, in the middle of their streams, as the product's tiles hold them. */
static void span_make(struct cuda_span *span, uint32_t rows, uint32_t frames, uint32_t view, size_t state_bytes)
{
    struct cuda_count count = {rows, rows * frames};
    struct cuda_row *row = (struct cuda_row *)calloc(rows, sizeof(*row));
    uint32_t *owner = (uint32_t *)calloc((size_t)rows * frames, sizeof(*owner));
    unsigned char *states = (unsigned char *)lab_memory(rows * state_bytes);
    void *on_device[3] = {lab_memory(sizeof(count)), lab_memory(rows * sizeof(*row)),
                          lab_memory((size_t)rows * frames * sizeof(*owner))};

    if (!row || !owner)
        exit(1);
    for (uint32_t r = 0; r < rows; r++) {
        row[r].state = states + r * state_bytes;
        row[r].index = 64 * SSM_DEVICE_BLOCK;
        row[r].first = r * frames;
        row[r].frames = frames;
        row[r].view = view;
        for (uint32_t t = 0; t < frames; t++)
            owner[row[r].first + t] = r;
    }
    lab_check(cudaMemcpy(on_device[0], &count, sizeof(count), cudaMemcpyHostToDevice), "rows");
    lab_check(cudaMemcpy(on_device[1], row, rows * sizeof(*row), cudaMemcpyHostToDevice), "rows");
    lab_check(cudaMemcpy(on_device[2], owner, (size_t)rows * frames * sizeof(*owner), cudaMemcpyHostToDevice), "rows");
    span->count = (const struct cuda_count *)on_device[0];
    span->rows = (const struct cuda_row *)on_device[1];
    span->owner = (const uint32_t *)on_device[2];
    span->rows_room = rows;
    span->frames_room = rows * frames;
    span->longest_room = frames;
    free(row);
    free(owner);
}

static size_t padded(size_t bytes)
{
    return (bytes + 255) & ~(size_t)255;
}

static void shape_measure(struct lab *lab, const struct cuda_layer *layer, uint32_t rows, uint32_t frames,
                          uint32_t view)
{
    const struct ssm_mamba *p = (const struct ssm_mamba *)layer->layer->params;
    size_t all = (size_t)rows * frames, h = (size_t)p->lanes * STATE * sizeof(float);
    struct work w;
    char what[96];

    w.layer = *layer;
    w.tile = {};
    span_make(&w.span, rows, frames, view, padded(layer->layer->state_bytes));
    w.tile.clock = &w.span;
    w.tile.scans = view == SSM_SCAN;
    w.tile.inputs = DIM;
    w.tile.scratch = (unsigned char *)lab_memory(layer->kind->scratch ? layer->kind->scratch(layer, &w.tile) : 0);
    w.x = lab_noise(all * DIM, 1);
    w.y = (float *)lab_memory(all * DIM * sizeof(float));
    snprintf(what, sizeof(what), "selective %s, %u x %u x %u x %u frames", view == SSM_SCAN ? "scan" : "step", rows,
             p->lanes, STATE, frames);
    lab_report(lab, what, lab_time(lab, work_run, &w),
               4.0 * (double)all * p->lanes * sizeof(float) + 2.0 * (double)rows * (double)h);
    lab_forget();
}

int main(int argc, char **argv)
{
    struct ssm_mamba params = {};
    struct ssm_layer definition = {};
    struct cuda_layer layer = {};
    struct lab lab;
    uint32_t channels;

    lab_open(&lab, argc, argv, (size_t)8192 * 1536 * STATE * sizeof(float));
    channels = lab.quick ? 48 : 1536;
    mamba_make(&params, channels);
    definition.params = &params;
    definition.in = definition.out = DIM;
    definition.state_bytes = (uint32_t)((TAPS - 1 + STATE) * channels * sizeof(float));
    definition.keeps_state = true;
    layer.layer = &definition;
    layer.kind = &cuda_kind_mamba;
    layer.kind->build(&lab.build, &definition, &layer.params);
    if (lab.build.status) {
        fprintf(stderr, "lab: the layer cannot be built\n");
        return 1;
    }
    shape_measure(&lab, &layer, lab.quick ? 5 : 8192, 1, SSM_STEP);
    for (uint32_t view = SSM_STEP; view <= SSM_SCAN; view++)
        shape_measure(&lab, &layer, lab.quick ? 2 : 8, lab.quick ? 200 : 2048, view);
    shape_measure(&lab, &layer, lab.quick ? 1 : 4, lab.quick ? 260 : 65536, SSM_SCAN);
    mamba_free(&params);
    lab_close(&lab);
    return 0;
}
