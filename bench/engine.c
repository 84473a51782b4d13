/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine alone, one thread: microseconds per frame of the built-in models, for one stream and for 100 at a time,
 * stepped in 10 ms chunks and scanned in chunks of 4096. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/report.h"
#include "ssm/ssm.h"

#define STREAMS_MAX 100
#define FRAMES_MAX  4096

static void run(struct ssm_engine *engine, struct ssm_model *model, uint32_t streams, uint32_t frames,
                enum ssm_view view)
{
    const struct ssm_model_info *info = ssm_model_info(model);
    struct ssm_program *program;
    struct ssm_row row[STREAMS_MAX];
    struct ssm_error err;
    float *in = calloc((size_t)frames * info->in_channels, sizeof(*in));
    float *out = calloc((size_t)frames * info->out_channels * streams, sizeof(*out));
    uint64_t begin, done = 0, taken;

    if (!in || !out || ssm_program_new(&program, engine, model, streams, &err)) {
        fprintf(stderr, "engine: no memory\n");
        exit(1);
    }
    for (uint32_t i = 0; i < frames; i++)
        in[i] = (float)((i * 7919u) % 1000u) / 1000 - 0.5f;
    for (uint32_t i = 0; i < streams; i++) {
        row[i] = (struct ssm_row){.view = view, .frames = frames, .in = in};
        row[i].out = out + (size_t)i * frames * info->out_channels;
        if (ssm_slot_acquire(program, &row[i].slot))
            exit(1);
    }
    begin = bench_now_ns();
    do {
        if (ssm_advance(program, row, streams))
            exit(1);
        done += (uint64_t)streams * frames;
        taken = bench_now_ns() - begin;
    } while (taken < 500000000u);
    bench_report(
        "engine",
        "\"model\": \"%s\", \"isa\": \"%s\", \"view\": \"%s\", \"streams\": %u, \"chunk\": %u, \"us_per_frame\": %.4f, "
        "\"real_time_factor\": %.1f",
        info->name, ssm_engine_isa(engine), view == SSM_STEP ? "step" : "scan", streams, frames,
        (double)taken * 1e-3 / (double)done, (double)done / ((double)taken * 1e-9) / info->in_rate);
    ssm_program_free(program);
    free(in);
    free(out);
}

int main(void)
{
    static const char *const specs[] = {"memory:rate=16000", "forecast:rate=16000", "forecast:rate=360"};
    struct ssm_engine *engine;
    struct ssm_error err;

    if (ssm_engine_new(&engine, NULL, &err)) {
        fprintf(stderr, "engine: %s\n", err.text);
        return 1;
    }
    for (size_t i = 0; i < sizeof(specs) / sizeof(*specs); i++) {
        struct ssm_model *model;

        if (ssm_model_load(&model, specs[i], NULL, &err)) {
            fprintf(stderr, "engine: %s\n", err.text);
            return 1;
        }
        run(engine, model, 1, 160, SSM_STEP);
        run(engine, model, STREAMS_MAX, 160, SSM_STEP);
        run(engine, model, 1, FRAMES_MAX, SSM_SCAN);
        ssm_model_free(model);
    }
    ssm_engine_free(engine);
    return 0;
}
