/* SPDX-License-Identifier: Apache-2.0
 *
 * What the past costs: microseconds for the next token, and bytes that a stream keeps, after a context of 64 to 16384
 * tokens, of three blocks of the same width: Mamba, attention over a sliding window with sinks, and attention over
 * everything.
 *
 * The last is the same layer with a window that never fills, here only: its cache grows by a key and a value for each
 * token, and what is counted of it is what is filled. One thread, one stream; medians of single steps. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/lib/report.h"
#include "tests/ssm/making.h"

#define DIM     256
#define HEADS   4
#define WINDOW  512
#define SINKS   4
#define LONGEST 16384
#define TOKENS  64 /* timed at each length */
#define CHUNK   256

struct block {
    const char *name;
    struct ssm_model *model;
    size_t token_bytes; /* by which the state grows; 0: it does not */
};

static void model_make(struct making *m, struct block *block)
{
    struct ssm_error err;

    if (making_load(m, &block->model, DIM, DIM, &err)) {
        fprintf(stderr, "context: %s: %s\n", block->name, err.text);
        exit(1);
    }
    making_fini(m);
}

static void mamba_make(struct block *block)
{
    struct making m;
    float *a;

    making_init(&m, 1);
    making_layers(&m, "{'type':'mamba','name':'m','dim':%u,'state':16,'conv':4,'dt_rank':16}", DIM);
    making_tensor(&m, 0.06f, "m.in_proj.weight", 2, 4u * DIM, (uint32_t)DIM);
    making_tensor(&m, 0.5f, "m.conv1d.weight", 3, 2u * DIM, 1u, 4u);
    making_tensor(&m, 0.1f, "m.conv1d.bias", 1, 2u * DIM);
    making_tensor(&m, 0.04f, "m.x_proj.weight", 2, 48u, 2u * DIM);
    making_tensor(&m, 0.2f, "m.dt_proj.weight", 2, 2u * DIM, 16u);
    making_tensor(&m, 1, "m.dt_proj.bias", 1, 2u * DIM);
    a = making_tensor(&m, 0, "m.A_log", 2, 2u * DIM, 16u);
    for (int i = 0; i < 2 * DIM * 16; i++)
        a[i] = 0.17f * (float)(i % 16);
    making_tensor(&m, 1, "m.D", 1, 2u * DIM);
    making_tensor(&m, 0.04f, "m.out_proj.weight", 2, (uint32_t)DIM, 2u * DIM);
    model_make(&m, block);
}

static void attention_make(struct block *block, uint32_t window)
{
    static const char *const projections[] = {"a.q_proj.weight", "a.k_proj.weight", "a.v_proj.weight",
                                              "a.o_proj.weight"};
    struct making m;

    making_init(&m, 2);
    making_layers(&m,
                  "{'type':'attention','name':'a','dim':%u,'heads':%u,'head_dim':%u,'window':%u,'sinks':%u,"
                  "'rope_theta':10000}",
                  DIM, HEADS, DIM / HEADS, window, SINKS);
    for (int i = 0; i < 4; i++)
        making_tensor(&m, 0.06f, projections[i], 2, (uint32_t)DIM, (uint32_t)DIM);
    model_make(&m, block);
}

static size_t state_bytes(const struct block *block, uint32_t context)
{
    return block->token_bytes ? context * block->token_bytes : ssm_model_info(block->model)->state_bytes;
}

static void advance(struct ssm_program *program, struct ssm_slot slot, enum ssm_view view, const float *in,
                    uint32_t frames, float *out)
{
    struct ssm_row row = {.slot = slot, .view = view, .frames = frames, .in = in, .out = out};

    if (ssm_advance(program, &row, 1))
        exit(1);
}

static void block_measure(struct ssm_engine *engine, const struct block *block)
{
    static float in[CHUNK * DIM], out[CHUNK * DIM];
    struct ssm_program *program;
    struct ssm_error err;
    struct ssm_slot slot;
    uint32_t seed = 3, done = 0;

    if (ssm_program_new(&program, engine, block->model, 1, &err) || ssm_slot_acquire(program, &slot)) {
        fprintf(stderr, "context: %s: no memory\n", block->name);
        exit(1);
    }
    for (int i = 0; i < CHUNK * DIM; i++)
        in[i] = making_noise(&seed);
    for (uint32_t context = 64; context <= LONGEST; context *= 2) {
        double ns[TOKENS];

        for (uint32_t n; done < context - TOKENS / 2; done += n) { /* half of the timed tokens before, half after */
            n = context - TOKENS / 2 - done < CHUNK ? context - TOKENS / 2 - done : CHUNK;
            advance(program, slot, SSM_SCAN, in, n, out);
        }
        for (int i = 0; i < TOKENS; i++, done++) {
            uint64_t begin = bench_now_ns();

            advance(program, slot, SSM_STEP, in + i * DIM, 1, out);
            ns[i] = (double)(bench_now_ns() - begin);
        }
        bench_report("context", "\"model\": \"%s\", \"tokens\": %u, \"us_per_token\": %.3f, \"bytes_per_stream\": %zu",
                     block->name, context, bench_quantile(ns, TOKENS, 0.5) * 1e-3, state_bytes(block, context));
    }
    ssm_program_free(program);
}

int main(void)
{
    struct block blocks[] = {
        {.name = "mamba"}, {.name = "window"}, {.name = "full", .token_bytes = 2 * DIM * sizeof(float)}};
    struct ssm_engine *engine;
    struct ssm_error err;

    mamba_make(&blocks[0]);
    attention_make(&blocks[1], WINDOW);
    attention_make(&blocks[2], LONGEST + TOKENS);
    if (ssm_engine_new(&engine, NULL, &err)) {
        fprintf(stderr, "context: %s\n", err.text);
        return 1;
    }
    for (size_t i = 0; i < sizeof(blocks) / sizeof(*blocks); i++) {
        block_measure(engine, &blocks[i]);
        ssm_model_free(blocks[i].model);
    }
    ssm_engine_free(engine);
    return 0;
}
