/* SPDX-License-Identifier: Apache-2.0
 * One model on one engine, for tests; see running.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/making.h"
#include "tests/ssm/running.h"

const char *const running_isas[] = {"ref", "avx2", "avx512", "cuda", NULL};

/* NULL: where libssm looks by itself. */
static const char *plugin(void)
{
    static char path[512];
    const char *given = getenv("SSMD_CUDA_LIBRARY"), *build = getenv("BUILD");

    if (given && *given)
        return NULL;
    snprintf(path, sizeof(path), "%s/cuda_host/libssm-cuda.so", build && *build ? build : "build");
    return path;
}

static struct ssm_engine_options options_of(const char *isa, uint32_t threads)
{
    if (isa && strcmp(isa, "cuda") == 0)
        return (struct ssm_engine_options){.backend = "cuda", .library = plugin()};
    return (struct ssm_engine_options){.isa = isa, .threads = threads};
}

static bool is_emulated(const struct ssm_engine *engine)
{
    return strstr(ssm_engine_describe(engine), "emulator") != NULL;
}

/* Tiles of an emulated device need not fill one, and it has little memory. */
static int engine_new(struct ssm_engine **out, struct ssm_engine_options options, struct ssm_error *err)
{
    int status = ssm_engine_new(out, &options, err);

    if (status || options.tile || !is_emulated(*out))
        return status;
    ssm_engine_free(*out);
    options.tile = 8192;
    return ssm_engine_new(out, &options, err);
}

bool running_isa_here(const char *isa)
{
    struct ssm_engine *engine = NULL;
    bool here = engine_new(&engine, options_of(isa, 1), NULL) == SSM_OK;

    ssm_engine_free(engine);
    return here;
}

bool running_isa_slow(const char *isa)
{
    struct ssm_engine *engine = NULL;
    bool slow = engine_new(&engine, options_of(isa, 1), NULL) == SSM_OK && is_emulated(engine);

    ssm_engine_free(engine);
    return slow;
}

static void open_with(struct running *r, struct ssm_model *model, struct ssm_engine_options options, uint32_t slots)
{
    struct ssm_error err = {""};

    r->model = ssm_model_ref(model);
    if (engine_new(&r->engine, options, &err) || ssm_program_new(&r->program, r->engine, model, slots, &err))
        fail_msg("no engine: %s", err.text);
}

void running_open(struct running *r, struct ssm_model *model, const char *isa, uint32_t threads, uint32_t slots)
{
    open_with(r, model, options_of(isa, threads), slots);
}

void running_open_otherwise(struct running *r, struct ssm_model *model, const char *isa, uint32_t slots)
{
    struct ssm_engine_options options = options_of(isa, 3);

    options.tile = 1; /* a device rounds up to what it must take */
    options.resident = 2;
    open_with(r, model, options, slots);
}

void running_close(struct running *r)
{
    ssm_program_free(r->program);
    ssm_engine_free(r->engine);
    ssm_model_free(r->model);
}

struct ssm_slot running_acquire(struct running *r)
{
    struct ssm_slot slot;

    assert_int_equal(ssm_slot_acquire(r->program, &slot), SSM_OK);
    return slot;
}

void running_advance(struct running *r, struct ssm_slot slot, enum ssm_view view, const void *in, uint32_t frames,
                     float *out)
{
    struct ssm_row row = {.slot = slot, .view = view, .frames = frames, .in = in, .out = out};

    assert_int_equal(ssm_advance(r->program, &row, 1), SSM_OK);
    assert_int_equal(row.out_frames, frames);
}

/* One row, whose outputs from `made` on go to `out` as far as there are `all`. Returns how many are made. */
static uint64_t pass_row(struct running *r, struct ssm_row row, uint64_t made, uint64_t all, float *out)
{
    const struct ssm_model_info *info = ssm_model_info(r->model);
    uint64_t most = ssm_out_frames_max(r->model, row.frames), left = all - made;
    float *zeros = calloc((size_t)row.frames * info->in_channels + 1, sizeof(*zeros));

    row.out = calloc(most * info->out_channels + 1, sizeof(*row.out));
    assert_true(zeros && row.out);
    row.in = row.in ? row.in : zeros;
    assert_int_equal(ssm_advance(r->program, &row, 1), SSM_OK);
    assert_true(row.out_frames <= most);
    left = row.out_frames < left ? row.out_frames : left;
    memcpy(out + made * info->out_channels, row.out, left * info->out_channels * sizeof(*out));
    free(zeros);
    free(row.out);
    return made + left;
}

void running_pass(struct running *r, enum ssm_view view, const void *in, uint32_t frames, float *out, uint32_t *seed,
                  uint32_t most, uint32_t grid)
{
    const struct ssm_model_info *info = ssm_model_info(r->model);
    uint64_t all = ssm_out_frames(r->model, frames), made = 0;
    struct ssm_row row = {.slot = running_acquire(r), .view = view};

    for (uint32_t t = 0, taken; t < frames; t += taken) {
        taken = seed ? 1 + making_number(seed, most) : most;
        taken = (taken + grid - 1) / grid * grid;
        taken = taken < frames - t ? taken : frames - t;
        row.frames = taken;
        row.in = (const char *)in + (size_t)t * info->in_channels * 4; /* tokens and floats are 4 bytes */
        made = pass_row(r, row, made, all, out);
    }
    row = (struct ssm_row){.slot = row.slot, .view = SSM_STEP, .frames = info->lookahead};
    if (info->lookahead > 0)
        made = pass_row(r, row, made, all, out);
    assert_int_equal(made, all);
    ssm_slot_release(r->program, row.slot);
}

double running_error(const float *got, const double *want, size_t n)
{
    double error = 0, largest = 0, own = 0;

    for (size_t i = 0; i < n; i++) {
        if (!isfinite(got[i]))
            return INFINITY;
        error = fmax(error, fabs(got[i] - want[i]));
        largest = fmax(largest, fabs(want[i]));
        own = fmax(own, fabs((double)got[i]));
    }
    largest = largest > 0 ? largest : own;
    return largest > 0 ? error / largest : 0;
}
