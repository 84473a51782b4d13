/* SPDX-License-Identifier: Apache-2.0
 *
 * The scan against the recurrence for a long chunk.
 *
 * "scan": the diagonal recurrence alone in the three forms of ssm/scan.h, for few lanes and many, on one thread and on
 * all; nanoseconds for a lane and frame.
 * "view": whole models over one stream, in microseconds a frame: frame by frame as it arrives (chunk 1), and a chunk of
 * FRAMES in each view, on one thread and on all. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/lib/models.h"
#include "bench/lib/report.h"
#include "ssm/scan.h"

#define FRAMES 8192
#define BLOCK  64
#define TRIES  5

static uint32_t cores(void)
{
    cpu_set_t cpus;

    return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (uint32_t)CPU_COUNT(&cpus) : 1;
}

static void *room(size_t floats)
{
    void *p = calloc(floats, sizeof(float));

    if (!p) {
        fprintf(stderr, "scan: no memory\n");
        exit(1);
    }
    return p;
}

/* ---- the recurrence alone ---------------------------------------------------------------------------------------- */

enum form { SEQUENTIAL, BLOCKS, BLELLOCH, FORMS };
static const char *const form_names[FORMS] = {"sequential", "blocks", "blelloch"};

static void forms_measure(uint32_t lanes, uint32_t threads)
{
    size_t n = (size_t)FRAMES * lanes;
    struct ssm_scan s = {.frames = FRAMES, .lanes = lanes};
    float *a = room(n), *b = room(n), *tree;
    struct ssm_team *team;
    uint32_t seed = 1;

    s.a_re = room(n);
    s.b_re = room(n);
    s.h_re = room(lanes);
    tree = room(ssm_scan_tree_floats(&s));
    if (ssm_team_new(&team, threads))
        exit(1);
    for (size_t i = 0; i < n; i++) {
        a[i] = 0.95f + 0.05f * making_noise(&seed);
        b[i] = making_noise(&seed);
    }
    for (enum form form = 0; form < FORMS; form++) {
        double ns[TRIES];

        if (form != BLOCKS && threads > 1)
            continue; /* they have one thread here */
        for (int i = 0; i < TRIES; i++) {
            uint64_t begin;

            memcpy(s.a_re, a, n * sizeof(*a));
            memcpy(s.b_re, b, n * sizeof(*b));
            begin = bench_now_ns();
            if (form == SEQUENTIAL)
                ssm_scan_sequential(&s);
            else if (form == BLOCKS)
                ssm_scan_blocks(&s, 0, BLOCK, team);
            else
                ssm_scan_blelloch(&s, tree);
            ns[i] = (double)(bench_now_ns() - begin);
        }
        bench_report("scan", "\"form\": \"%s\", \"lanes\": %u, \"frames\": %d, \"threads\": %u, \"ns\": %.4f",
                     form_names[form], lanes, FRAMES, threads, bench_quantile(ns, TRIES, 0.5) / (double)n);
    }
    ssm_team_free(team);
    free(a);
    free(b);
    free(s.a_re);
    free(s.b_re);
    free(s.h_re);
    free(tree);
}

/* ---- whole models ------------------------------------------------------------------------------------------------ */

#define WIDTH           64
#define BLOCKS_OF_MODEL 4

static double pass(struct ssm_program *program, enum ssm_view view, uint32_t chunk, const float *in, float *out)
{
    struct ssm_row row = {.view = view};
    uint64_t begin;

    if (ssm_slot_acquire(program, &row.slot))
        exit(1);
    begin = bench_now_ns();
    for (uint32_t t = 0; t < FRAMES; t += chunk) {
        row.frames = chunk;
        row.in = in + t;
        row.out = out + t;
        if (ssm_advance(program, &row, 1))
            exit(1);
    }
    ssm_slot_release(program, row.slot);
    return (double)(bench_now_ns() - begin) * 1e-3 / FRAMES;
}

static void views_measure(const char *name, struct ssm_model *model, uint32_t threads)
{
    static const struct {
        const char *name;
        enum ssm_view view;
        uint32_t chunk;
    } ways[] = {
        {"step", SSM_STEP, 1}, {"step", SSM_STEP, FRAMES}, {"scan", SSM_SCAN, FRAMES}, {"conv", SSM_CONV, FRAMES}};
    struct ssm_engine_options options = {.threads = threads};
    struct ssm_program *program;
    struct ssm_engine *engine;
    struct ssm_error err;
    float *in = room(FRAMES), *out = room(FRAMES);
    uint32_t seed = 2;

    for (int i = 0; i < FRAMES; i++)
        in[i] = making_noise(&seed);
    if (ssm_engine_new(&engine, &options, &err) || ssm_program_new(&program, engine, model, 1, &err) ||
        ssm_program_prepare(program, SSM_CONV, &err)) {
        fprintf(stderr, "scan: %s\n", err.text);
        exit(1);
    }
    for (size_t w = 0; w < sizeof(ways) / sizeof(*ways); w++) {
        double us[TRIES];

        for (int i = 0; i < TRIES; i++)
            us[i] = pass(program, ways[w].view, ways[w].chunk, in, out);
        bench_report("view",
                     "\"model\": \"%s\", \"view\": \"%s\", \"chunk\": %u, \"threads\": %u, \"us_per_frame\": %.3f",
                     name, ways[w].name, ways[w].chunk, threads, bench_quantile(us, TRIES, 0.5));
    }
    ssm_program_free(program);
    ssm_engine_free(engine);
    free(in);
    free(out);
}

int main(void)
{
    static const uint32_t lanes[] = {1, 4, 16, 64, 256, 1024};
    struct ssm_model *s4d, *mamba;
    struct making m;

    models_s4d(&m, BLOCKS_OF_MODEL, WIDTH, WIDTH / 2);
    s4d = models_load(&m, 1, 1);
    models_mamba(&m, BLOCKS_OF_MODEL, WIDTH);
    mamba = models_load(&m, 1, 1);
    for (size_t i = 0; i < sizeof(lanes) / sizeof(*lanes); i++)
        for (uint32_t threads = 1; threads <= cores(); threads += cores() > 1 ? cores() - 1 : 1)
            forms_measure(lanes[i], threads);
    for (uint32_t threads = 1; threads <= cores(); threads += cores() > 1 ? cores() - 1 : 1) {
        views_measure("s4d", s4d, threads);
        views_measure("mamba", mamba, threads);
    }
    ssm_model_free(s4d);
    ssm_model_free(mamba);
    return 0;
}
