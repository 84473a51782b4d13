/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokens per second of 1 and 16 generations at a time: the engine alone (advance and sample in a loop, all streams in one
 * batch), and through the daemon and libssmclient, with prompt, sockets and delivery. Two models: one that takes next to
 * nothing, which shows what a token costs beside the model, and a Mamba language model of some 4 million weights. */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/lib/models.h"
#include "bench/lib/report.h"
#include "clients/c/ssmclient.h"
#include "ssm/sample.h"

#define MANY  16
#define TRIES 3

struct size {
    const char *name;
    uint32_t vocab, dim, layers, tokens;
};

static void check(bool is_good, const char *what)
{
    if (is_good)
        return;
    fprintf(stderr, "generate: %s\n", what);
    exit(1);
}

static uint32_t cores(void)
{
    cpu_set_t cpus;

    return sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (uint32_t)CPU_COUNT(&cpus) : 1;
}

static void report(const struct size *size, const char *where, uint32_t streams, double *per_s)
{
    bench_report("generate",
                 "\"model\": \"%s\", \"vocab\": %u, \"where\": \"%s\", \"streams\": %u, \"tokens_per_s\": %.0f",
                 size->name, size->vocab, where, streams, bench_quantile(per_s, TRIES, 0.5));
}

/* ---- the engine alone -------------------------------------------------------------------------------------------- */

static void engine_run(const struct size *size, struct ssm_model *model, uint32_t streams)
{
    struct ssm_engine_options options = {.threads = cores()};
    static struct ssm_sampler sampler[MANY];
    struct ssm_sampling sampling;
    struct ssm_engine *engine;
    struct ssm_program *program;
    struct ssm_row rows[MANY];
    int32_t token[MANY] = {0};
    float *logits = malloc((size_t)MANY * size->vocab * sizeof(float));
    float *scratch = malloc(ssm_sample_floats(size->vocab) * sizeof(float));
    double per_s[TRIES];

    ssm_sampling_init(&sampling);
    check(logits && scratch && ssm_engine_new(&engine, &options, NULL) == SSM_OK &&
              ssm_program_new(&program, engine, model, MANY, NULL) == SSM_OK,
          "no engine");
    for (uint32_t i = 0; i < streams; i++) {
        rows[i] =
            (struct ssm_row){.view = SSM_STEP, .frames = 1, .in = &token[i], .out = logits + (size_t)i * size->vocab};
        check(ssm_slot_acquire(program, &rows[i].slot) == SSM_OK, "no slot");
        ssm_sampler_init(&sampler[i], &sampling);
    }
    for (int t = 0; t < TRIES; t++) {
        uint64_t begin = bench_now_ns();

        for (uint32_t n = 0; n < size->tokens; n++) {
            check(ssm_advance(program, rows, streams) == SSM_OK, "no advance");
            for (uint32_t i = 0; i < streams; i++) {
                struct ssm_top top;

                check(ssm_sample(&sampler[i], rows[i].out, size->vocab, n, scratch, &top) == SSM_OK, "no sample");
                ssm_sampler_push(&sampler[i], top.token);
                token[i] = top.token;
            }
        }
        per_s[t] = (double)size->tokens * streams / ((double)(bench_now_ns() - begin) * 1e-9);
    }
    report(size, "engine", streams, per_s);
    ssm_program_free(program);
    ssm_engine_free(engine);
    free(logits);
    free(scratch);
}

/* ---- through the daemon ------------------------------------------------------------------------------------------ */

static double generations_run(const struct size *size, struct ssmc *c, struct ssmc_stream **s, uint32_t streams)
{
    static const int32_t prompt[] = {1, 2, 3, 4};
    struct ssmc_generate_options options = {.prompt = prompt, .prompt_n = 4, .maximum = size->tokens};
    uint32_t left = streams;
    uint64_t begin = bench_now_ns();

    ssmc_sampling_init(&options.sampling);
    for (uint32_t i = 0; i < streams; i++)
        check(ssmc_generate(s[i], &options, 60000) == 0, ssmc_error_text(c));
    while (left > 0) {
        check(ssmc_poll(c, 1000) >= 0, ssmc_error_text(c));
        for (uint32_t i = 0; i < streams; i++) {
            struct ssmc_token token;
            int rc = 1;

            while (ssmc_ending(s[i]) != SSMC_FAILED && rc == 1)
                rc = ssmc_next_token(s[i], &token);
            if (rc != SSMC_ENDED || ssmc_ending(s[i]) != SSMC_MAXIMUM)
                continue;
            left--;
            check(ssmc_reset(s[i], 60000) == 0, ssmc_error_text(c));
        }
    }
    return (double)size->tokens * streams / ((double)(bench_now_ns() - begin) * 1e-9);
}

static void daemon_run(const struct size *size, uint32_t streams)
{
    struct ssmc_stream *s[MANY];
    double per_s[TRIES];
    struct ssmc *c;
    char id[32], error[512];

    check(ssmc_connect(&c, NULL, error, sizeof(error)) == 0, error);
    for (uint32_t i = 0; i < streams; i++) {
        struct ssmc_open_options open = {
            .id = id, .model = size->name, .results = 1, .results_from = SSMC_OLDEST, .generates = 1};

        snprintf(id, sizeof(id), "generate-%u", i);
        check(ssmc_open(c, &s[i], &open, 60000) == 0, ssmc_error_text(c));
    }
    for (int t = 0; t < TRIES; t++)
        per_s[t] = generations_run(size, c, s, streams);
    report(size, "daemon", streams, per_s);
    for (uint32_t i = 0; i < streams; i++)
        check(ssmc_close(s[i], 60000) == 0, ssmc_error_text(c));
    ssmc_free(c);
}

int main(void)
{
    static const struct size sizes[] = {{"lm-tiny", 256, 16, 1, 20000}, {"lm-small", 8192, 256, 4, 1000}};
    const char *dir = getenv("SSMD_DIR");
    char path[256];

    check(dir && getenv("SSMD_ENDPOINT"), "SSMD_DIR is not set; run it by `make bench`");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        static struct making m;
        struct ssm_model *model;

        snprintf(path, sizeof(path), "%s/models/%s", dir, sizes[i].name);
        check(mkdir(path, 0700) == 0, "cannot make the model's directory");
        models_language(
            &m, &(struct models_language){
                    .layers = sizes[i].layers, .dim = sizes[i].dim, .vocab = sizes[i].vocab, .logits = sizes[i].vocab});
        making_write(&m, path, 1, sizes[i].vocab);
        making_fini(&m);
        check(ssm_model_load(&model, path, NULL, NULL) == SSM_OK, "cannot load the model");
        for (uint32_t streams = 1; streams <= MANY; streams += MANY - 1) {
            engine_run(&sizes[i], model, streams);
            daemon_run(&sizes[i], streams);
        }
        ssm_model_free(model);
    }
    return 0;
}
