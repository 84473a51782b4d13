/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine on a device, through libssm's own interface: what an ssm_advance takes from call to return, copies to and
 * from the device included.
 *
 *   decode   mamba-130m, one token of each of 1 to 512 streams; all logits come back, or (logits 16) computed likewise
 *            but few of them fetched: what a sampler on the device would leave
 *   prompt   the same model over 512 and 2048 tokens, as a scan
 *   live     the S4D audio model and the denoiser: thousands of streams of 16 kHz, a chunk of each
 *   small    both with 1 and 16 streams: from a chunk's arrival at the engine to its result
 *   layer    one mamba layer of mamba-130m over 8 sequences of 2048 frames, as a scan and stepped
 *
 * Models are made here, with weights at random (bench/lib/models.h). A figure is the median of many advances after a
 * warm-up. Streams of a graph with strides are staggered over its hop, as live ones are: else all would have their
 * heavy advance at once. `--write DIR` leaves the audio models there as directories for a daemon. */
#include <argp.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/lib/models.h"
#include "bench/lib/report.h"

#define REPEATS_MAX   20000u
#define REPEATS_LEAST 5u

struct bench {
    const char *backend, *write_to;
    bool quick, describe;
    char **only; /* NULL at the end; none: all */
    struct ssm_engine *engine;
    double seconds; /* for one figure, besides its warm-up */
    unsigned failures;
    const char *model; /* only that one; NULL: all */
    uint32_t streams;  /* only so many; 0: all counts */
};

static bool is_asked(const struct bench *bench, const char *model, uint32_t streams)
{
    return (!bench->model || strcmp(bench->model, model) == 0) && (!bench->streams || bench->streams == streams);
}

static void *room(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);

    if (!p) {
        fprintf(stderr, "cuda: no memory\n");
        exit(1);
    }
    return p;
}

/* ---- a batch, again and again ------------------------------------------------------------------------------------ */

struct batch {
    struct bench *bench;
    const char *name;
    struct ssm_program *program;
    struct ssm_row *rows;
    uint32_t streams; /* that there are; a measure takes the first of them */
    void *in;
    float *out;
};

struct times {
    double p50_ms, p99_ms, max_ms;
    uint32_t repeats;
};

static void batch_fail(struct batch *b, const char *what, const char *why)
{
    fprintf(stderr, "cuda: %s: %s: %s\n", b->name, what, why);
    b->bench->failures++;
}

/* Any input: noise, or tokens. Both are 4 bytes wide. */
static void *input_make(const struct ssm_model_info *info, size_t n)
{
    uint32_t seed = 3;
    float *x = room(n, sizeof(*x));
    int32_t *tokens = (int32_t *)x;

    for (size_t i = 0; i < n; i++) {
        if (info->input == SSM_TOKENS)
            tokens[i] = (int32_t)making_number(&seed, info->vocab);
        else
            x[i] = making_noise(&seed);
    }
    return x;
}

/* The streams into every phase of the hop. */
static int batch_stagger(struct batch *b, uint32_t hop)
{
    for (uint32_t i = 0; i < b->streams; i++)
        b->rows[i].frames = 1 + (uint32_t)((uint64_t)i * 97 % hop);
    return hop > 1 ? ssm_advance(b->program, b->rows, b->streams) : SSM_OK;
}

/* `streams` fresh streams with room for advances of `frames`. */
static bool batch_open(struct batch *b, struct bench *bench, const char *name, struct ssm_model *model,
                       uint32_t streams, uint32_t frames)
{
    const struct ssm_model_info *info = ssm_model_info(model);
    uint32_t most = frames > info->hop ? frames : info->hop;
    size_t in = (size_t)most * info->in_channels, out = ssm_out_frames_max(model, most) * info->out_channels;
    struct ssm_error err;
    int status = SSM_OK;

    *b = (struct batch){.bench = bench, .name = name, .streams = streams};
    if (ssm_program_new(&b->program, bench->engine, model, streams, &err)) {
        batch_fail(b, "no program", err.text);
        return false;
    }
    b->rows = room(streams, sizeof(*b->rows));
    b->in = input_make(info, in * streams);
    b->out = room(out * streams, sizeof(*b->out));
    for (uint32_t i = 0; i < streams && status == SSM_OK; i++) {
        b->rows[i] = (struct ssm_row){.in = (const float *)b->in + in * i, .out = b->out + out * i};
        status = ssm_slot_acquire(b->program, &b->rows[i].slot);
    }
    status = status ? status : batch_stagger(b, info->hop);
    if (status)
        batch_fail(b, "no streams", ssm_status_text(status));
    return status == SSM_OK;
}

static void batch_close(struct batch *b)
{
    ssm_program_free(b->program);
    free(b->rows);
    free(b->in);
    free(b->out);
}

/* One advance; its milliseconds, or less than 0. */
static double batch_advance(struct batch *b, uint32_t streams, bool fresh)
{
    uint64_t begin;

    for (uint32_t i = 0; fresh && i < streams; i++)
        if (ssm_slot_reset(b->program, b->rows[i].slot))
            return -1;
    begin = bench_now_ns();
    if (ssm_advance(b->program, b->rows, streams))
        return -1;
    return (double)(bench_now_ns() - begin) * 1e-6;
}

static bool batch_is_finite(const struct batch *b, uint32_t streams)
{
    uint32_t channels = ssm_model_info(ssm_program_model(b->program))->out_channels;

    for (uint32_t i = 0; i < streams; i++)
        for (size_t k = 0; k < (size_t)b->rows[i].out_frames * channels; k++)
            if (!isfinite(b->rows[i].out[k]))
                return false;
    return true;
}

/* `frames` of each of the first `streams`, from fresh states every time or on and on. */
static bool batch_measure(struct batch *b, uint32_t streams, uint32_t frames, enum ssm_view view, bool fresh,
                          struct times *times)
{
    double *ms = room(REPEATS_MAX, sizeof(*ms)), last = 0;
    uint64_t budget = (uint64_t)(b->bench->seconds * 1e9), begin = bench_now_ns();
    uint32_t n = 0, warm = 0;
    bool is_good;

    for (uint32_t i = 0; i < streams; i++) {
        b->rows[i].frames = frames;
        b->rows[i].view = view;
    }
    while (last >= 0 && (warm < REPEATS_LEAST || bench_now_ns() - begin < budget / 4)) {
        last = batch_advance(b, streams, fresh);
        warm++;
    }
    begin = bench_now_ns();
    while (last >= 0 && n < REPEATS_MAX && (n < REPEATS_LEAST || bench_now_ns() - begin < budget))
        ms[n++] = last = batch_advance(b, streams, fresh);
    is_good = last >= 0 && batch_is_finite(b, streams);
    if (is_good)
        *times = (struct times){.p50_ms = bench_quantile(ms, n, 0.5),
                                .p99_ms = bench_quantile(ms, n, 0.99),
                                .max_ms = bench_quantile(ms, n, 1),
                                .repeats = n};
    else
        batch_fail(b, "no figure", last < 0 ? "an advance failed" : "a result is not finite");
    free(ms);
    return is_good;
}

/* ---- what is measured -------------------------------------------------------------------------------------------- */

#define LOGITS_FEW 16u

static struct ssm_model *language_make(const struct bench *bench, bool all, const char **name)
{
    struct models_language size = {.layers = 24, .dim = 768, .vocab = 50280, .narrow = true};
    struct making m;

    *name = "mamba-130m";
    if (bench->quick) {
        size = (struct models_language){.layers = 2, .dim = 32, .vocab = 97, .narrow = true};
        *name = "mamba-tiny";
    }
    size.logits = all ? size.vocab : LOGITS_FEW;
    models_language(&m, &size);
    return models_load(&m, 1, size.logits);
}

static void decode_measure(struct bench *bench, struct ssm_model *model, const char *name)
{
    static const uint32_t counts[2][5] = {{1, 32, 128, 512}, {1, 3}};
    const uint32_t *streams = counts[bench->quick];
    struct times t;
    struct batch b;
    bool is_open = batch_open(&b, bench, name, model, bench->quick ? 3 : 512, 1);

    for (; is_open && *streams; streams++)
        if (is_asked(bench, name, *streams) && batch_measure(&b, *streams, 1, SSM_STEP, false, &t))
            bench_report("cuda-decode",
                         "\"model\": \"%s\", \"logits\": %u, \"streams\": %u, \"ms\": %.4f, \"p99_ms\": %.4f, "
                         "\"tokens_per_s\": %.0f, \"repeats\": %u",
                         name, ssm_model_info(model)->out_channels, *streams, t.p50_ms, t.p99_ms,
                         *streams / (t.p50_ms * 1e-3), t.repeats);
    batch_close(&b);
}

static void decode(struct bench *bench)
{
    for (int all = 0; all < 2; all++) {
        const char *name;
        struct ssm_model *model = language_make(bench, all, &name);

        decode_measure(bench, model, name);
        ssm_model_free(model);
    }
}

static void prompt(struct bench *bench)
{
    static const uint32_t counts[2][3] = {{512, 2048}, {64, 130}};
    const uint32_t *frames = counts[bench->quick];
    const char *name;
    struct ssm_model *model = language_make(bench, false, &name);
    struct times t;
    struct batch b;
    bool is_open = batch_open(&b, bench, name, model, 1, frames[1]);

    for (; is_open && *frames; frames++)
        if (batch_measure(&b, 1, *frames, SSM_SCAN, true, &t))
            bench_report("cuda-prompt",
                         "\"model\": \"%s\", \"logits\": %u, \"tokens\": %u, \"ms\": %.4f, \"p99_ms\": %.4f, "
                         "\"tokens_per_s\": %.0f, \"repeats\": %u",
                         name, ssm_model_info(model)->out_channels, *frames, t.p50_ms, t.p99_ms,
                         *frames / (t.p50_ms * 1e-3), t.repeats);
    batch_close(&b);
    ssm_model_free(model);
}

static const char *const audio_names[] = {"s4d", "denoiser", NULL};

static void audio_make(const struct bench *bench, struct making *m, int which)
{
    if (which == 0)
        models_s4d(m, bench->quick ? 2 : 4, bench->quick ? 8 : 64, bench->quick ? 4 : 32);
    else
        models_denoiser(m, bench->quick ? 3 : 8, bench->quick ? 8 : 64);
}

static void live_measure(struct bench *bench, const char *name, struct ssm_model *model)
{
    static const uint32_t counts[2][4] = {{1000, 5000, 10000}, {1, 5}}, chunks[] = {160, 16};
    struct times t;
    struct batch b;
    bool is_open = batch_open(&b, bench, name, model, bench->quick ? 5 : 10000, chunks[0]);

    for (int k = 0; is_open && k < 2; k++)
        for (const uint32_t *streams = counts[bench->quick]; *streams; streams++)
            if (is_asked(bench, name, *streams) && batch_measure(&b, *streams, chunks[k], SSM_STEP, false, &t))
                bench_report("cuda-live",
                             "\"model\": \"%s\", \"streams\": %u, \"chunk\": %u, \"ms\": %.4f, \"p99_ms\": %.4f, "
                             "\"max_ms\": %.4f, \"fit\": %.0f, \"repeats\": %u",
                             name, *streams, chunks[k], t.p50_ms, t.p99_ms, t.max_ms,
                             *streams * (chunks[k] / MODELS_AUDIO_RATE) / (t.p50_ms * 1e-3), t.repeats);
    batch_close(&b);
}

static void live(struct bench *bench)
{
    for (int i = 0; audio_names[i]; i++) {
        struct ssm_model *model;
        struct making m;

        audio_make(bench, &m, i);
        model = models_load(&m, 1, 1);
        live_measure(bench, audio_names[i], model);
        ssm_model_free(model);
    }
}

static void small_measure(struct bench *bench, const char *name, struct ssm_model *model)
{
    const uint32_t many = bench->quick ? 2 : 16, chunk = 160;
    struct times t;
    struct batch b;
    bool is_open = batch_open(&b, bench, name, model, many, chunk);

    for (uint32_t streams = 1; is_open && streams <= many; streams += many - 1)
        if (is_asked(bench, name, streams) && batch_measure(&b, streams, chunk, SSM_STEP, false, &t))
            bench_report("cuda-small",
                         "\"model\": \"%s\", \"streams\": %u, \"chunk\": %u, \"p50_us\": %.1f, \"p99_us\": %.1f, "
                         "\"repeats\": %u",
                         name, streams, chunk, t.p50_ms * 1e3, t.p99_ms * 1e3, t.repeats);
    batch_close(&b);
}

static void small(struct bench *bench)
{
    for (int i = 0; audio_names[i]; i++) {
        struct ssm_model *model;
        struct making m;

        audio_make(bench, &m, i);
        model = models_load(&m, 1, 1);
        small_measure(bench, audio_names[i], model);
        ssm_model_free(model);
    }
}

static void layer(struct bench *bench)
{
    static const char *const names[] = {[SSM_STEP] = "step", [SSM_SCAN] = "scan"};
    const uint32_t dim = bench->quick ? 16 : 768, streams = bench->quick ? 2 : 8, frames = bench->quick ? 130 : 2048;
    struct ssm_model *model;
    struct making m;
    struct times t;
    struct batch b;
    bool is_open;

    models_mamba_layer(&m, dim);
    model = models_load(&m, dim, dim);
    is_open = batch_open(&b, bench, "mamba", model, streams, frames);
    for (int view = SSM_STEP; is_open && view <= SSM_SCAN; view++)
        if (batch_measure(&b, streams, frames, (enum ssm_view)view, true, &t))
            bench_report("cuda-layer",
                         "\"layer\": \"mamba\", \"dim\": %u, \"streams\": %u, \"frames\": %u, \"view\": \"%s\", "
                         "\"ms\": %.4f, \"p99_ms\": %.4f, \"repeats\": %u",
                         dim, streams, frames, names[view], t.p50_ms, t.p99_ms, t.repeats);
    batch_close(&b);
    ssm_model_free(model);
}

static const struct {
    const char *name;
    void (*run)(struct bench *bench);
} groups[] = {{"small", small}, {"live", live}, {"decode", decode}, {"prompt", prompt}, {"layer", layer}};

/* ---- options ----------------------------------------------------------------------------------------------------- */

static void models_write(const struct bench *bench)
{
    char path[512];

    for (int i = 0; audio_names[i]; i++) {
        struct making m;

        snprintf(path, sizeof(path), "%s/%s", bench->write_to, audio_names[i]);
        if (mkdir(path, 0777) && errno != EEXIST) {
            fprintf(stderr, "cuda: %s: %s\n", path, strerror(errno));
            exit(1);
        }
        audio_make(bench, &m, i);
        making_write(&m, path, 1, 1);
        making_fini(&m);
    }
}

static error_t key_take(int key, char *arg, struct argp_state *state)
{
    struct bench *bench = state->input;

    switch (key) {
    case 'b':
        bench->backend = arg;
        break;
    case 'q':
        bench->quick = true;
        break;
    case 'd':
        bench->describe = true;
        break;
    case 'w':
        bench->write_to = arg;
        break;
    case 'm':
        bench->model = arg;
        break;
    case 'n':
        bench->streams = (uint32_t)strtoul(arg, NULL, 10);
        break;
    case 's':
        bench->seconds = strtod(arg, NULL);
        break;
    case ARGP_KEY_ARGS:
        bench->only = state->argv + state->next;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static bool is_wanted(const struct bench *bench, const char *name)
{
    for (char **only = bench->only; only && *only; only++)
        if (strcmp(*only, name) == 0)
            return true;
    return !bench->only;
}

int main(int argc, char **argv)
{
    static const struct argp_option keys[] = {
        {"backend", 'b', "NAME", 0, "cuda; cpu to try this program", 0},
        {"quick", 'q', NULL, 0, "models and batches so small that an emulated device runs them", 0},
        {"describe", 'd', NULL, 0, "only say what the device is", 0},
        {"write", 'w', "DIR", 0, "only write the audio models into DIR", 0},
        {"model", 'm', "NAME", 0, "only that model (to look at it with a profiler)", 0},
        {"streams", 'n', "N", 0, "only that many streams", 0},
        {"seconds", 's', "S", 0, "of each measure, about (2)", 0},
        {0},
    };
    static const struct argp argp = {keys,
                                     key_take,
                                     "[small|live|decode|prompt|layer...]",
                                     "Measures the engine on a device. The plugin is $SSMD_CUDA_LIBRARY, or where the "
                                     "loader looks.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct bench bench = {.backend = "cuda"};
    struct ssm_engine_options options = {0};
    struct ssm_error err;

    argp_parse(&argp, argc, argv, 0, NULL, &bench);
    if (bench.seconds <= 0)
        bench.seconds = bench.quick ? 0.05 : 2;
    if (bench.write_to) {
        models_write(&bench);
        return 0;
    }
    options.backend = bench.backend;
    if (ssm_engine_new(&bench.engine, &options, &err)) {
        fprintf(stderr, "cuda: %s\n", err.text);
        return 1;
    }
    bench_report_device(ssm_engine_describe(bench.engine));
    if (bench.describe)
        printf("%s\n", ssm_engine_describe(bench.engine));
    for (size_t i = 0; !bench.describe && i < sizeof(groups) / sizeof(*groups); i++)
        if (is_wanted(&bench, groups[i].name))
            groups[i].run(&bench);
    ssm_engine_free(bench.engine);
    return bench.failures ? 1 : 0;
}
