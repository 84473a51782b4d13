/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole models with many streams on everything that is here, instruction sets and devices, against the plainest one
 * ("ref"). What one layer does is in the random trials of its kind (tests/ssm/trial.h), which run on devices too; here
 * are depth, rates that change and come together again, tokens, and crowds: more rows than a tile has room for, of
 * different length and view.
 *
 *   - a stream alone is as near to ref as its model's bound;
 *   - in a crowd, however its input is cut, it has the bits that it has alone; so it has on an engine of small rooms or
 *     several threads, of which crowds see little of one another's tiles;
 *   - a stream that goes from one engine to the other and back, as images, is as near to ref as if it had stayed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/lib/models.h"
#include "tests/ssm/crowd.h"
#include "tests/ssm/deep.h"

#define TRAVELS 6u

/* ---- models ------------------------------------------------------------------------------------------------------ */

static struct ssm_model *loaded(struct making *m, uint32_t in, uint32_t out)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};

    if (making_load(m, &model, in, out, &err))
        fail_msg("%s", err.text);
    making_fini(m);
    return model;
}

static struct ssm_model *s4d_new(void)
{
    static struct making m;

    models_s4d(&m, 3, 24, 16);
    return loaded(&m, 1, 1);
}

static struct ssm_model *mamba_new(void)
{
    static struct making m;

    models_mamba(&m, 3, 20);
    return loaded(&m, 1, 1);
}

static struct ssm_model *language_new(void)
{
    static struct making m;

    models_language(&m, &(struct models_language){.layers = 3, .dim = 32, .vocab = 97, .logits = 97});
    return loaded(&m, 1, 97);
}

/* Weights that bfloat16 holds. */
static struct ssm_model *narrow_new(void)
{
    static struct making m;

    models_language(&m, &(struct models_language){.layers = 2, .dim = 48, .vocab = 131, .logits = 50, .narrow = true});
    return loaded(&m, 1, 50);
}

static struct ssm_model *denoiser_new(void)
{
    static struct making m;

    models_denoiser(&m, 4, 8);
    return loaded(&m, 1, 1);
}

/* A bound is on max|got - ref| / max|ref| over a stream. */
static const struct conform {
    const char *name;
    struct ssm_model *(*make)(void);
    double bound;
} cases[] = {
    {"deep", deep_new, 1e-4}, /* rls learns from its own rounding */
    {"s4d", s4d_new, 1e-5},       {"mamba", mamba_new, 1e-5},       {"language", language_new, 1e-5},
    {"narrow", narrow_new, 1e-5}, {"denoiser", denoiser_new, 1e-5},
};

/* ---- one model on one engine ------------------------------------------------------------------------------------- */

struct meeting {
    const struct conform *of;
    const char *isa;
    uint32_t seed, n;
    struct ssm_model *model;
    struct running on, ref;
    struct crowd_stream *streams, *wanted; /* (n): there, and on ref */
    void **in;                             /* (n) */
};

static void *memory(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);

    assert_non_null(p);
    return p;
}

static void *input_make(struct meeting *m, uint32_t frames)
{
    const struct ssm_model_info *info = ssm_model_info(m->model);
    int32_t *tokens = memory((size_t)frames * info->in_channels, sizeof(*tokens));
    float *signal = (float *)(void *)tokens;

    for (size_t i = 0; i < (size_t)frames * info->in_channels; i++)
        if (info->input == SSM_TOKENS)
            tokens[i] = (int32_t)making_number(&m->seed, info->vocab);
        else
            signal[i] = making_noise(&m->seed);
    return tokens;
}

/* Mostly short, some of many blocks, a few of one frame. */
static uint32_t length_any(struct meeting *m)
{
    static const uint32_t most[] = {1, 8, 40, 40, 90, 90, 200, 600};

    return 1 + making_number(&m->seed, most[making_number(&m->seed, sizeof(most) / sizeof(*most))]);
}

static void meeting_open(struct meeting *m)
{
    m->n = running_isa_slow(m->isa) ? 50 : 300;
    m->seed = 4711;
    m->model = m->of->make();
    running_open(&m->on, m->model, m->isa, 1, m->n);
    running_open(&m->ref, m->model, "ref", 1, m->n);
    m->streams = memory(m->n, sizeof(*m->streams));
    m->wanted = memory(m->n, sizeof(*m->wanted));
    m->in = memory(m->n, sizeof(*m->in));
    for (uint32_t i = 0; i < m->n; i++) {
        struct crowd_stream *s = &m->streams[i];

        s->view = making_number(&m->seed, 3) ? SSM_STEP : SSM_SCAN;
        s->frames = length_any(m);
        s->in = m->in[i] = input_make(m, s->frames);
        m->wanted[i] = *s;
        crowd_alone(&m->on, s);
        crowd_alone(&m->ref, &m->wanted[i]);
    }
}

static void meeting_close(struct meeting *m)
{
    crowd_free(m->streams, m->n);
    crowd_free(m->wanted, m->n);
    for (uint32_t i = 0; i < m->n; i++)
        free(m->in[i]);
    free(m->in);
    free(m->streams);
    free(m->wanted);
    running_close(&m->on);
    running_close(&m->ref);
    ssm_model_free(m->model);
}

/* What stream i gave, against ref. */
static void error_check(const struct meeting *m, uint32_t i, const float *got, const char *what)
{
    const struct crowd_stream *s = &m->wanted[i];
    size_t n = s->made * ssm_model_info(m->model)->out_channels;
    double *want = memory(n, sizeof(*want)), error;

    for (size_t k = 0; k < n; k++)
        want[k] = s->out[k];
    error = running_error(got, want, n);
    if (!(error <= m->of->bound))
        fail_msg("%s on %s: stream %u of %u frames in view %d, %s: error %.3g > %.3g", m->of->name, m->isa, i,
                 s->frames, (int)s->view, what, error, m->of->bound);
    free(want);
}

/* ---- images ------------------------------------------------------------------------------------------------------ */

/* The next frames of the stream on that engine. */
static void travel_on(const struct meeting *m, struct running *r, struct ssm_slot slot, uint32_t i, uint32_t from,
                      uint32_t to, float *out, uint64_t *made)
{
    const struct ssm_model_info *info = ssm_model_info(m->model);
    struct ssm_row row = {.slot = slot, .view = m->wanted[i].view, .frames = to - from};

    if (to == from)
        return;
    row.in = (const char *)m->in[i] + (size_t)from * info->in_channels * 4;
    row.out = out + *made * info->out_channels;
    assert_int_equal(ssm_advance(r->program, &row, 1), SSM_OK);
    *made += row.out_frames;
}

static void travel_move(const struct running *from, struct ssm_slot slot, const struct running *to,
                        struct ssm_slot guest, unsigned char *image)
{
    struct ssm_error err = {""};

    assert_int_equal(ssm_slot_export(from->program, slot, image), SSM_OK);
    if (ssm_slot_import(to->program, guest, image, ssm_image_bytes(from->model), &err))
        fail_msg("no image moves from %s: %s", ssm_engine_describe(from->engine), err.text);
}

/* There, on ref, and there again. */
static void travel_check(struct meeting *m, uint32_t i)
{
    uint32_t frames = m->wanted[i].frames, first = making_number(&m->seed, frames + 1);
    uint32_t second = first + making_number(&m->seed, frames - first + 1);
    struct ssm_slot slot = running_acquire(&m->on), guest = running_acquire(&m->ref);
    unsigned char *image = memory(ssm_image_bytes(m->model), 1);
    float *out = memory(ssm_out_frames_max(m->model, frames) * ssm_model_info(m->model)->out_channels, sizeof(*out));
    uint64_t made = 0;

    travel_on(m, &m->on, slot, i, 0, first, out, &made);
    travel_move(&m->on, slot, &m->ref, guest, image);
    travel_on(m, &m->ref, guest, i, first, second, out, &made);
    travel_move(&m->ref, guest, &m->on, slot, image);
    travel_on(m, &m->on, slot, i, second, frames, out, &made);
    assert_int_equal(made, m->wanted[i].made);
    error_check(m, i, out, "to ref and back");
    ssm_slot_release(m->on.program, slot);
    ssm_slot_release(m->ref.program, guest);
    free(image);
    free(out);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void model__many_streams__conform(void **state)
{
    struct meeting m = *(const struct meeting *)*state;
    struct running otherwise;
    char what[96];

    if (!running_isa_here(m.isa))
        skip();
    meeting_open(&m);
    snprintf(what, sizeof(what), "%s on %s", m.of->name, m.isa);
    for (uint32_t i = 0; i < m.n; i++) {
        assert_int_equal(m.streams[i].made, m.wanted[i].made);
        error_check(&m, i, m.streams[i].out, "alone");
    }
    crowd_check(&m.on, m.streams, m.n, 150, &m.seed, what);
    running_open_otherwise(&otherwise, m.model, m.isa, m.n);
    crowd_check(&otherwise, m.streams, m.n, 400, &m.seed, what);
    running_close(&otherwise);
    for (uint32_t i = 0; i < TRAVELS; i++)
        travel_check(&m, i);
    meeting_close(&m);
}

int main(void)
{
    enum { CASES = sizeof(cases) / sizeof(*cases), ISAS_MOST = 8 };
    static struct meeting meetings[CASES * ISAS_MOST];
    static struct CMUnitTest tests[CASES * ISAS_MOST];
    static char names[CASES * ISAS_MOST][64];
    size_t n = 0;

    for (int i = 0; running_isas[i]; i++)
        for (size_t k = 0; k < CASES; k++, n++) {
            meetings[n] = (struct meeting){.of = &cases[k], .isa = running_isas[i]};
            snprintf(names[n], sizeof(names[n]), "%s__many_streams_on_%s__conform", cases[k].name, running_isas[i]);
            tests[n] = (struct CMUnitTest){
                .name = names[n], .test_func = model__many_streams__conform, .initial_state = &meetings[n]};
        }
    return _cmocka_run_group_tests("conform", tests, n, NULL, NULL);
}
