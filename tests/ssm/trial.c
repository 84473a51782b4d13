/* SPDX-License-Identifier: Apache-2.0
 * Random trials of layer kinds; see trial.h. */
#include "tests/ssm/trial.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ssm/crowd.h"

#define PLANS_MAX   256
#define SLOW_FRAMES 5000u /* where a machine is slow, longer inputs pass alone */

static const uint32_t lengths[] = {1, 2, 15, 16, 17, 48, 63, 64, 65, 127, 200};
static const uint32_t sizes[] = {1, 2, 3, 5, 8, 13, 16, 17, 31, 32, 33, 64, 67};
uint32_t trial_size(struct trial *t)
{
    return TRIAL_PICK(t, sizes);
}

uint32_t trial_wide(struct trial *t)
{
    static const uint32_t wides[] = {96, 128, 129, 192, 200, 257, 300};

    return TRIAL_PICK(t, wides);
}

uint32_t trial_between(struct trial *t, uint32_t from, uint32_t to)
{
    return from + making_number(&t->seed, to - from + 1);
}

bool trial_coin(struct trial *t)
{
    return making_number(&t->seed, 2);
}

const char *trial_bool(bool value)
{
    return value ? "true" : "false";
}

void trial_narrow(const float *weights, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &weights[i], sizeof(bits));
        bits &= 0xffff0000;
        memcpy((float *)&weights[i], &bits, sizeof(bits));
    }
}

void *trial_memory(size_t n, size_t size)
{
    void *p = calloc(n + 1, size);

    assert_non_null(p);
    return p;
}

/* The trial's input: frames of noise with a slow part, so that memories have something to remember. */
void trial_input(struct trial *t, uint32_t in, uint32_t out, float loud)
{
    t->in = in;
    t->out = out;
    t->frames = t->frames ? t->frames : TRIAL_PICK(t, lengths);
    t->x = trial_memory((size_t)t->frames * in, sizeof(*t->x));
    t->wide = trial_memory((size_t)t->frames * in, sizeof(*t->wide));
    t->want = trial_memory((size_t)t->frames * out, sizeof(*t->want));
    for (size_t i = 0; i < (size_t)t->frames * in; i++) {
        t->x[i] = loud * (making_noise(&t->seed) + 0.5f * sinf(0.02f * (float)i));
        t->wide[i] = t->x[i];
    }
}

/* 20,000 frames that change slowly, for memories that are as slow: an error of their poles shows. */
void trial_input_slow(struct trial *t, uint32_t in, uint32_t out)
{
    t->frames = 20000;
    trial_input(t, in, out, 1);
    for (size_t i = 0; i < (size_t)t->frames * in; i++) {
        t->x[i] = 0.2f * t->x[i] + sinf(0.0003f * (float)(i / in));
        t->wide[i] = t->x[i];
    }
}

static void trial_fini(struct trial *t)
{
    making_fini(&t->model);
    free(t->x);
    free(t->tokens);
    free(t->wide);
    free(t->want);
    t->x = NULL;
    t->tokens = NULL;
    t->wide = t->want = NULL;
}

static const void *input_at(const struct trial *t, uint32_t frame)
{
    return t->tokens ? (const void *)(t->tokens + frame) : t->x + (size_t)frame * t->in;
}

/* A random length of at most `most`, and no more than what is left. */
static uint32_t chunk_any(struct trial *t, uint32_t most, uint32_t at)
{
    uint32_t frames = 1 + making_number(&t->seed, most);

    return frames < t->frames - at ? frames : t->frames - at;
}

/* What the engine makes of the input in one view, or in one for each chunk, and some chunking, against the reference.
 * most 0: in one piece. `got` is (frames, out). */
static void views_check(struct trial *t, struct running *r, const enum ssm_view *views, uint32_t n, uint32_t most,
                        float *got)
{
    struct ssm_slot slot = running_acquire(r);
    double error;

    for (uint32_t at = 0, frames; at < t->frames; at += frames) {
        frames = most ? chunk_any(t, most, at) : t->frames;
        running_advance(r, slot, views[making_number(&t->seed, n)], input_at(t, at), frames, got + (size_t)at * t->out);
    }
    ssm_slot_release(r->program, slot);
    error = running_error(got, t->want, (size_t)t->frames * t->out);
    if (!(error <= t->bound))
        fail_msg("%s %s, trial %u, %u view(s) from %d, %u frames in chunks of up to %u: error %.3g > %.3g\n  %.400s",
                 t->kind, t->isa, t->number, n, (int)views[0], t->frames, most, error, t->bound, t->model.layers);
}

/* COMPANY streams of the same input in shared batches, odd ones scanning: the bits of a stream alone, which are in
 * `steps` and `scans`. */
static void company_check(struct trial *t, struct running *r, float *steps, float *scans)
{
    enum { COMPANY = 5 };
    struct crowd_stream streams[COMPANY];
    char what[600];

    snprintf(what, sizeof(what), "%s %s, trial %u\n  %.400s\n ", t->kind, t->isa, t->number, t->model.layers);
    for (int i = 0; i < COMPANY; i++)
        streams[i] = (struct crowd_stream){.view = i % 2 ? SSM_SCAN : SSM_STEP,
                                           .in = input_at(t, 0),
                                           .frames = t->frames,
                                           .out = i % 2 ? scans : steps,
                                           .made = t->frames};
    crowd_check(r, streams, COMPANY, t->frames > 1000 ? 700 : 70, &t->seed, what);
}

/* The state at a random frame, as an image into a used slot of another program and as a copy beside it: both go on with
 * the bits `want` of a stream that never stopped. */
static void image_check(struct trial *t, struct running *r, const float *want)
{
    uint32_t at = making_number(&t->seed, t->frames), rest = t->frames - at;
    struct ssm_slot slot = running_acquire(r), copy = running_acquire(r), guest;
    size_t bytes = ssm_image_bytes(r->model), from = (size_t)at * t->out, n = (size_t)rest * t->out;
    unsigned char *image = trial_memory(2, bytes);
    float *got = trial_memory((size_t)t->frames * t->out, sizeof(*got));
    struct ssm_error err = {""};
    struct running away;
    bool same;

    running_open(&away, r->model, t->isa, 1, 1);
    guest = running_acquire(&away);
    running_advance(&away, guest, SSM_STEP, input_at(t, 0), t->frames, got);
    if (at > 0)
        running_advance(r, slot, SSM_STEP, input_at(t, 0), at, got);
    assert_int_equal(ssm_slot_copy(r->program, slot, copy), SSM_OK);
    if (ssm_slot_export(r->program, slot, image) || ssm_slot_import(away.program, guest, image, bytes, &err))
        fail_msg("%s %s, trial %u: no image at frame %u: %s\n  %.400s", t->kind, t->isa, t->number, at, err.text,
                 t->model.layers);
    assert_int_equal(ssm_slot_export(away.program, guest, image + bytes), SSM_OK);
    same = memcmp(image, image + bytes, bytes) == 0;
    running_advance(&away, guest, SSM_STEP, input_at(t, at), rest, got);
    same = same && memcmp(got, want + from, n * sizeof(*got)) == 0;
    running_advance(r, copy, SSM_STEP, input_at(t, at), rest, got);
    if (!same || memcmp(got, want + from, n * sizeof(*got)) != 0)
        fail_msg("%s %s, trial %u: other bits after an image or a copy at frame %u of %u\n  %.400s", t->kind, t->isa,
                 t->number, at, t->frames, t->model.layers);
    running_close(&away);
    ssm_slot_release(r->program, slot);
    ssm_slot_release(r->program, copy);
    free(image);
    free(got);
}

/* A stream that moves at a random frame from one of two engines to the other, as an image, is as near to the
 * reference. */
static void travel_check(struct trial *t, struct running *from, struct running *to, float *got)
{
    uint32_t at = making_number(&t->seed, t->frames);
    struct ssm_slot here = running_acquire(from), there = running_acquire(to);
    size_t bytes = ssm_image_bytes(from->model);
    unsigned char *image = trial_memory(1, bytes);
    struct ssm_error err = {""};
    double error;

    if (at > 0)
        running_advance(from, here, SSM_STEP, input_at(t, 0), at, got);
    assert_int_equal(ssm_slot_export(from->program, here, image), SSM_OK);
    if (ssm_slot_import(to->program, there, image, bytes, &err))
        fail_msg("%s %s, trial %u: no image at frame %u: %s", t->kind, t->isa, t->number, at, err.text);
    running_advance(to, there, SSM_SCAN, input_at(t, at), t->frames - at, got + (size_t)at * t->out);
    error = running_error(got, t->want, (size_t)t->frames * t->out);
    if (!(error <= t->bound))
        fail_msg("%s, trial %u, from %s to %s at frame %u of %u: error %.3g > %.3g\n  %.400s", t->kind, t->number,
                 ssm_engine_describe(from->engine), ssm_engine_describe(to->engine), at, t->frames, error, t->bound,
                 t->model.layers);
    ssm_slot_release(from->program, here);
    ssm_slot_release(to->program, there);
    free(image);
}

/* Steps and scans: their error, and the bits of a stream under any cut, in any company, and on an engine that is
 * otherwise. */
static void bits_check(struct trial *t, struct running *r, float *steps, float *got)
{
    static const enum ssm_view views[] = {SSM_STEP, SSM_SCAN};
    size_t n = (size_t)t->frames * t->out;
    float *scans = trial_memory(n, sizeof(*scans));
    struct running otherwise;

    views_check(t, r, &views[0], 1, 0, steps);
    views_check(t, r, &views[0], 1, 7, got);
    if (memcmp(steps, got, n * sizeof(*got)) != 0)
        fail_msg("%s %s, trial %u: steps in chunks have other bits\n  %.400s", t->kind, t->isa, t->number,
                 t->model.layers);
    views_check(t, r, &views[1], 1, 0, scans);
    views_check(t, r, &views[1], 1, 40, got);
    if (!t->slow || t->frames <= SLOW_FRAMES) {
        company_check(t, r, steps, scans);
        running_open_otherwise(&otherwise, r->model, t->isa, 8);
        company_check(t, &otherwise, steps, scans);
        running_close(&otherwise);
    }
    free(scans);
}

static void trial_check(struct trial *t)
{
    static const enum ssm_view views[] = {SSM_STEP, SSM_SCAN, SSM_CONV};
    uint32_t some = t->frames > SSM_CONV_FRAMES ? 3 * SSM_CONV_FRAMES : 40; /* long inputs pass wide tiles too */
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    struct running r, ref;
    size_t n = (size_t)t->frames * t->out;
    float *steps = trial_memory(n, sizeof(*steps)), *got = trial_memory(n, sizeof(*got));

    if (making_load(&t->model, &model, t->in, t->out, &err))
        fail_msg("%s, trial %u: %s\n  %.400s", t->kind, t->number, err.text, t->model.layers);
    running_open(&r, model, t->isa, 1, 8);
    if (ssm_program_prepare(r.program, SSM_CONV, &err))
        fail_msg("%s, trial %u: %s\n  %.400s", t->kind, t->number, err.text, t->model.layers);
    bits_check(t, &r, steps, got);
    image_check(t, &r, steps);
    running_open(&ref, model, "ref", 1, 1);
    travel_check(t, &r, &ref, got);
    travel_check(t, &ref, &r, got);
    running_close(&ref);
    views_check(t, &r, &views[2], 1, 0, got);
    views_check(t, &r, &views[2], 1, some, got);
    views_check(t, &r, views, 3, some, got); /* any change of view, from whatever state it finds */
    running_close(&r);
    ssm_model_free(model);
    free(steps);
    free(got);
}

struct plan {
    const struct trial_kind *kind;
    const char *isa;
    char name[96];
};

static void kind__random_trials__match_float64(void **state)
{
    const struct plan *plan = *state;
    bool slow = running_isa_slow(plan->isa);
    uint32_t trials = slow ? (plan->kind->trials + 1) / 2 : plan->kind->trials;

    if (!running_isa_here(plan->isa))
        skip();
    for (uint32_t i = 0; i < trials; i++) {
        struct trial t = {.isa = plan->isa, .kind = plan->kind->name, .slow = slow, .number = i, .seed = 77 + i};

        t.bound = plan->kind->bound;
        making_init(&t.model, 1000 + i);
        making_number(&t.seed, 2);
        plan->kind->prepare(&t);
        trial_check(&t);
        trial_fini(&t);
    }
}

int trial_main(const char *group, const struct trial_kind *kinds, size_t count)
{
    static struct plan plans[PLANS_MAX];
    static struct CMUnitTest tests[PLANS_MAX];
    size_t n = 0;

    for (int i = 0; running_isas[i]; i++)
        for (size_t k = 0; k < count; k++, n++) {
            assert(n < PLANS_MAX);
            plans[n].kind = &kinds[k];
            plans[n].isa = running_isas[i];
            snprintf(plans[n].name, sizeof(plans[n].name), "%s__random_trials_on_%s__match_float64", kinds[k].name,
                     running_isas[i]);
            tests[n] = (struct CMUnitTest){
                .name = plans[n].name, .test_func = kind__random_trials__match_float64, .initial_state = &plans[n]};
        }
    return _cmocka_run_group_tests(group, tests, n, NULL, NULL);
}
