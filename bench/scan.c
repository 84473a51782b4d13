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

#include "bench/lib/report.h"
#include "ssm/scan.h"
#include "tests/ssm/making.h"

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

static void tensor_fill(float *values, size_t n, float value)
{
    for (size_t i = 0; i < n; i++)
        values[i] = value;
}

/* Encoder 1 to 64, four residual blocks {layernorm, mixer, gelu, linear 64 to 128, glu}, decoder 64 to 1. */
static void stack_begin(struct making *m)
{
    making_init(m, 4);
    making_layers(m, "{'type':'linear','name':'encoder','in':1,'out':%u,'bias':false}", WIDTH);
    making_tensor(m, 1, "encoder.weight", 2, (uint32_t)WIDTH, 1u);
}

static struct ssm_model *stack_end(struct making *m)
{
    struct ssm_model *model;
    struct ssm_error err;

    making_layers(m, "{'type':'linear','name':'decoder','in':%u,'out':1,'bias':false}", WIDTH);
    making_tensor(m, 0.2f, "decoder.weight", 2, 1u, (uint32_t)WIDTH);
    if (making_load(m, &model, 1, 1, &err)) {
        fprintf(stderr, "scan: %s\n", err.text);
        exit(1);
    }
    making_fini(m);
    return model;
}

static float *block_tensor(struct making *m, float spread, int block, const char *name, uint32_t rank, uint32_t d0,
                           uint32_t d1, uint32_t d2)
{
    char full[64];

    snprintf(full, sizeof(full), "%d.%s", block, name);
    return making_tensor(m, spread, full, rank, d0, d1, d2);
}

static struct ssm_model *s4d_make(void)
{
    const uint32_t H = WIDTH, M = 32;
    struct making m;

    stack_begin(&m);
    for (int k = 0; k < BLOCKS_OF_MODEL; k++) {
        float *imag, *log_dt;

        making_layers(
            &m,
            "{'type':'residual','layers':[{'type':'layernorm','name':'%d.n','dim':%u},{'type':'s4d','name':"
            "'%d.s','channels':%u,'state':%u,'discretization':'zoh'},{'type':'activation','fn':'gelu'},{'type':"
            "'linear','name':'%d.l','in':%u,'out':%u,'bias':false},{'type':'glu'}]}",
            k, H, k, H, 2 * M, k, H, 2 * H);
        tensor_fill(block_tensor(&m, 0, k, "n.weight", 1, H, 0, 0), H, 1);
        block_tensor(&m, 0.1f, k, "n.bias", 1, H, 0, 0);
        log_dt = block_tensor(&m, 2.3f, k, "s.log_dt", 1, H, 0, 0);
        tensor_fill(block_tensor(&m, 0, k, "s.log_A_real", 2, H, M, 0), H * M, -0.693f);
        imag = block_tensor(&m, 0, k, "s.A_imag", 2, H, M, 0);
        for (uint32_t i = 0; i < H; i++)
            log_dt[i] -= 4.6f;
        for (uint32_t i = 0; i < H * M; i++)
            imag[i] = 3.14159265f * (float)(i % M);
        block_tensor(&m, 1, k, "s.C", 3, H, M, 2);
        block_tensor(&m, 1, k, "s.D", 1, H, 0, 0);
        block_tensor(&m, 0.2f, k, "l.weight", 2, 2 * H, H, 0);
    }
    return stack_end(&m);
}

static struct ssm_model *mamba_make(void)
{
    const uint32_t H = WIDTH, I = 2 * WIDTH, N = 16, R = 4;
    struct making m;

    stack_begin(&m);
    for (int k = 0; k < BLOCKS_OF_MODEL; k++) {
        float *a;

        making_layers(&m,
                      "{'type':'residual','layers':[{'type':'layernorm','name':'%d.n','dim':%u},{'type':'mamba','name':"
                      "'%d.m','dim':%u,'state':%u,'conv':4,'dt_rank':%u}]}",
                      k, H, k, H, N, R);
        tensor_fill(block_tensor(&m, 0, k, "n.weight", 1, H, 0, 0), H, 1);
        block_tensor(&m, 0.1f, k, "n.bias", 1, H, 0, 0);
        block_tensor(&m, 0.1f, k, "m.in_proj.weight", 2, 2 * I, H, 0);
        block_tensor(&m, 0.5f, k, "m.conv1d.weight", 3, I, 1, 4);
        block_tensor(&m, 0.1f, k, "m.conv1d.bias", 1, I, 0, 0);
        block_tensor(&m, 0.1f, k, "m.x_proj.weight", 2, R + 2 * N, I, 0);
        block_tensor(&m, 0.5f, k, "m.dt_proj.weight", 2, I, R, 0);
        block_tensor(&m, 1, k, "m.dt_proj.bias", 1, I, 0, 0);
        a = block_tensor(&m, 0, k, "m.A_log", 2, I, N, 0);
        for (uint32_t i = 0; i < I * N; i++)
            a[i] = 0.17f * (float)(i % N);
        block_tensor(&m, 1, k, "m.D", 1, I, 0, 0);
        block_tensor(&m, 0.1f, k, "m.out_proj.weight", 2, H, I, 0);
    }
    return stack_end(&m);
}

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
    struct ssm_model *s4d = s4d_make(), *mamba = mamba_make();

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
