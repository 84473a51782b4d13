/* SPDX-License-Identifier: Apache-2.0
 *
 * Images of states: what goes on from one is the same bits as if nothing had happened, whatever the model (deep.h; every
 * kind alone is in the random trials, trial.c); their bytes are what docs/MODELS.md says; what is damaged, forged or
 * another model's is refused and changes nothing.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "tests/ssm/deep.h"
#include "tests/ssm/making.h"
#include "tests/ssm/model_dir.h"
#include "tests/ssm/running.h"

enum { FRAMES = 200, HEAD = 48, FRAMES_AT = 40, FINGERPRINT_AT = 24 };

struct fixture {
    struct ssm_model *model;
    float in[FRAMES][DEEP_IN], want[FRAMES][DEEP_OUT], got[FRAMES][DEEP_OUT];
    unsigned char *image, *other;
    size_t bytes;
};

static int fixture_open(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    uint32_t seed = 5;

    assert_non_null(f);
    f->model = deep_new();
    f->bytes = ssm_image_bytes(f->model);
    f->image = calloc(2, f->bytes);
    assert_non_null(f->image);
    f->other = f->image + f->bytes;
    for (uint32_t t = 0; t < FRAMES; t++)
        for (uint32_t c = 0; c < DEEP_IN; c++)
            f->in[t][c] = making_noise(&seed);
    *state = f;
    return 0;
}

static int fixture_close(void **state)
{
    struct fixture *f = *state;

    ssm_model_free(f->model);
    free(f->image);
    free(f);
    return 0;
}

static void pass(struct fixture *f, struct running *r, struct ssm_slot slot, enum ssm_view view, uint32_t from,
                 uint32_t to, float (*out)[DEEP_OUT])
{
    if (to > from)
        running_advance(r, slot, view, f->in[from], to - from, out[from]);
}

static void export_check(const struct running *r, struct ssm_slot slot, void *image)
{
    assert_int_equal(ssm_slot_export(r->program, slot, image), SSM_OK);
}

/* A stream whose state is taken at `at` and goes on in a slot that another has used, in another program. */
static void travel(struct fixture *f, const char *isa, enum ssm_view view, uint32_t at)
{
    struct running home, away;
    struct ssm_slot slot, guest;
    struct ssm_error err = {""};

    running_open(&home, f->model, isa, 1, 2);
    running_open(&away, f->model, isa, 1, 2);
    running_pass(&home, view, f->in[0], FRAMES, f->want[0], NULL, FRAMES, 1);
    slot = running_acquire(&home);
    guest = running_acquire(&away);
    pass(f, &away, guest, SSM_STEP, 0, 77, f->got); /* what the image must overwrite */
    pass(f, &home, slot, view, 0, at, f->got);
    export_check(&home, slot, f->image);
    if (ssm_slot_import(away.program, guest, f->image, f->bytes, &err))
        fail_msg("%s", err.text);
    export_check(&away, guest, f->other);
    assert_memory_equal(f->image, f->other, f->bytes);
    pass(f, &away, guest, view, at, FRAMES, f->got);
    assert_memory_equal(f->got, f->want, sizeof(f->got));
    running_close(&home);
    running_close(&away);
}

static void image__any_index_into_a_used_slot__goes_on_with_the_same_bits(void **state)
{
    static const uint32_t indices[] = {0, 1, 2, 3, 7, 16, 31, 64, 77, 128, 199};

    for (int i = 0; running_isas[i]; i++)
        for (size_t k = 0; running_isa_here(running_isas[i]) && k < sizeof(indices) / sizeof(*indices); k++)
            travel(*state, running_isas[i], SSM_STEP, indices[k]);
}

static void image__on_the_grid_of_a_scan__goes_on_with_the_same_bits(void **state)
{
    struct fixture *f = *state;

    for (int i = 0; running_isas[i]; i++) {
        struct running r;
        uint32_t grid;

        if (!running_isa_here(running_isas[i]))
            continue;
        running_open(&r, f->model, running_isas[i], 1, 1);
        grid = ssm_program_grid(r.program);
        running_close(&r);
        for (uint32_t at = 0; at < FRAMES; at += grid)
            travel(f, running_isas[i], SSM_SCAN, at);
    }
}

static void copy__into_a_used_slot__goes_on_with_the_same_bits_beside_the_first(void **state)
{
    struct fixture *f = *state;
    struct running r;

    running_open(&r, f->model, NULL, 1, 3);
    running_pass(&r, SSM_STEP, f->in[0], FRAMES, f->want[0], NULL, FRAMES, 1);
    for (uint32_t at = 1; at < FRAMES; at += 33) {
        struct ssm_slot from = running_acquire(&r), to = running_acquire(&r);

        pass(f, &r, to, SSM_STEP, 0, 50, f->got);
        pass(f, &r, from, SSM_STEP, 0, at, f->got);
        assert_int_equal(ssm_slot_copy(r.program, from, to), SSM_OK);
        for (int i = 0; i < 2; i++) {
            pass(f, &r, i ? to : from, SSM_STEP, at, FRAMES, f->got);
            assert_memory_equal(f->got, f->want, sizeof(f->got));
        }
        ssm_slot_release(r.program, from);
        ssm_slot_release(r.program, to);
        assert_int_equal(ssm_slot_copy(r.program, from, to), SSM_STALE);
    }
    running_close(&r);
}

/* The same state is the same bytes in every instruction set, whatever its slot looks like there. */
static void image__other_instruction_sets__is_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    struct running best, r;
    struct ssm_slot slot;

    running_open(&best, f->model, NULL, 1, 1);
    slot = running_acquire(&best);
    pass(f, &best, slot, SSM_STEP, 0, 50, f->got);
    export_check(&best, slot, f->image);
    running_close(&best);
    for (int i = 0; running_isas[i]; i++) {
        if (!running_isa_here(running_isas[i]))
            continue;
        running_open(&r, f->model, running_isas[i], 1, 1);
        slot = running_acquire(&r);
        assert_int_equal(ssm_slot_import(r.program, slot, f->image, f->bytes, NULL), SSM_OK);
        export_check(&r, slot, f->other);
        assert_memory_equal(f->image, f->other, f->bytes);
        running_close(&r);
    }
}

static void image__fresh_slots__are_the_same_bytes(void **state)
{
    struct fixture *f = *state;
    struct running r;
    struct ssm_slot used;

    running_open(&r, f->model, NULL, 1, 2);
    export_check(&r, running_acquire(&r), f->image);
    used = running_acquire(&r);
    pass(f, &r, used, SSM_STEP, 0, 99, f->got);
    assert_int_equal(ssm_slot_reset(r.program, used), SSM_OK);
    export_check(&r, used, f->other);
    assert_memory_equal(f->image, f->other, f->bytes);
    running_close(&r);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

/* The image of a stream at frame 40 in f->image, of the slot's own state at frame 9 in f->other. */
static struct ssm_slot refusing_open(struct fixture *f, struct running *r)
{
    struct ssm_slot slot;

    running_open(r, f->model, NULL, 1, 2);
    slot = running_acquire(r);
    pass(f, r, slot, SSM_STEP, 0, 40, f->got);
    export_check(r, slot, f->image);
    assert_int_equal(ssm_slot_reset(r->program, slot), SSM_OK);
    pass(f, r, slot, SSM_STEP, 0, 9, f->got);
    export_check(r, slot, f->other);
    return slot;
}

static void reseal(unsigned char *image, size_t bytes)
{
    uint64_t checksum = XXH3_64bits(image, bytes - 8);

    memcpy(image + bytes - 8, &checksum, sizeof(checksum));
}

/* Refused with that status and those words, and the slot is as it was. */
static void refused(struct fixture *f, struct running *r, struct ssm_slot slot, size_t bytes, int status,
                    const char *says)
{
    unsigned char *copy = malloc(bytes ? bytes : 1), *now = malloc(f->bytes);
    struct ssm_error err = {""};

    assert_non_null(copy);
    assert_non_null(now);
    memcpy(copy, f->image, bytes < f->bytes ? bytes : f->bytes); /* its very size, for the sanitizer */
    if (ssm_slot_import(r->program, slot, copy, bytes, &err) != status || !strstr(err.text, says))
        fail_msg("expected %d and '%s': %s", status, says, err.text);
    assert_int_equal(ssm_image_check(f->model, copy, bytes, NULL), status);
    export_check(r, slot, now);
    assert_memory_equal(now, f->other, f->bytes);
    free(copy);
    free(now);
}

static void import__any_byte_flipped__is_refused(void **state)
{
    struct fixture *f = *state;
    struct running r;
    struct ssm_slot slot = refusing_open(f, &r);

    for (size_t i = 0; i < f->bytes; i++) {
        f->image[i] ^= 1u << (i % 8);
        assert_int_not_equal(ssm_slot_import(r.program, slot, f->image, f->bytes, NULL), SSM_OK);
        f->image[i] ^= 1u << (i % 8);
    }
    export_check(&r, slot, f->image);
    assert_memory_equal(f->image, f->other, f->bytes);
    running_close(&r);
}

static void import__cut_at_any_length__is_refused(void **state)
{
    struct fixture *f = *state;
    struct running r;
    struct ssm_slot slot = refusing_open(f, &r);

    for (size_t bytes = 0; bytes < f->bytes; bytes += 1 + bytes / 16)
        refused(f, &r, slot, bytes, SSM_FORMAT, "image");
    refused(f, &r, slot, f->bytes + 1, SSM_FORMAT, "cut or damaged");
    running_close(&r);
}

static void import__forged_with_a_good_checksum__is_refused(void **state)
{
    static const uint32_t nan = 0x7fc00000u;
    struct fixture *f = *state;
    struct running r;
    struct ssm_slot slot = refusing_open(f, &r);
    uint64_t frames = UINT64_MAX, kept;
    uint32_t version = 2, number;

    memcpy(&number, f->image + HEAD, sizeof(number));
    memcpy(f->image + HEAD, &nan, sizeof(nan));
    reseal(f->image, f->bytes);
    refused(f, &r, slot, f->bytes, SSM_NONFINITE, "layer 1.1 (s4d 's4d'): the image has a number that is not finite");
    memcpy(f->image + HEAD, &number, sizeof(number));
    memcpy(&kept, f->image + FRAMES_AT, sizeof(kept));
    memcpy(f->image + FRAMES_AT, &frames, sizeof(frames));
    reseal(f->image, f->bytes);
    refused(f, &r, slot, f->bytes, SSM_FORMAT, "18446744073709551615 frames");
    memcpy(f->image + FRAMES_AT, &kept, sizeof(kept));
    memcpy(f->image + 8, &version, sizeof(version));
    reseal(f->image, f->bytes);
    refused(f, &r, slot, f->bytes, SSM_UNSUPPORTED, "version 2; this version reads 1");
    running_close(&r);
}

static void import__another_models__is_refused_by_name(void **state)
{
    struct fixture *f = *state;
    struct running r, other;
    struct ssm_slot slot = refusing_open(f, &r), theirs;
    struct ssm_model *model;
    struct ssm_error err;
    unsigned char *image;
    size_t bytes;

    assert_int_equal(ssm_model_load(&model, "forecast:rate=360", NULL, &err), SSM_OK);
    running_open(&other, model, NULL, 1, 1);
    theirs = running_acquire(&other);
    bytes = ssm_image_bytes(model);
    image = malloc(bytes);
    assert_non_null(image);
    export_check(&other, theirs, image);
    assert_int_equal(ssm_slot_import(r.program, slot, image, bytes, &err), SSM_FOREIGN);
    assert_non_null(strstr(err.text, "another model"));
    assert_int_equal(ssm_slot_import(other.program, theirs, f->image, f->bytes, &err), SSM_FOREIGN);
    assert_non_null(strstr(err.text, "'forecast:"));
    free(image);
    running_close(&other);
    ssm_model_free(model);
    running_close(&r);
}

static void slot__stale__is_refused(void **state)
{
    struct fixture *f = *state;
    struct running r;
    struct ssm_slot slot = refusing_open(f, &r);

    ssm_slot_release(r.program, slot);
    assert_int_equal(ssm_slot_export(r.program, slot, f->other), SSM_STALE);
    assert_int_equal(ssm_slot_import(r.program, slot, f->image, f->bytes, NULL), SSM_STALE);
    running_close(&r);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

/* A directory of one configuration without tensors, loaded. */
static struct ssm_model *text_load(const char *config)
{
    struct model_dir dir;
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};

    model_dir_init(&dir);
    model_dir_write_text(&dir, "config.json", config);
    if (ssm_model_load(&model, dir.path, NULL, &err))
        fail_msg("%s", err.text);
    model_dir_fini(&dir);
    return model;
}

#define MEAN_OUTPUT "\"output\":{\"channels\":3,\"kind\":\"signal\",\"sample_rate\":"
#define MEAN                                                                                                           \
    "{\"format_version\":1,\"input\":{\"channels\":3,\"kind\":\"signal\",\"sample_rate\":10},"                         \
    "\"layers\":[{\"type\":\"mean\"}],\"model_type\":\"ssmd\"," MEAN_OUTPUT "10}}"

/* Written out as the description has it: the sum of each channel, then what its rounding left. */
static void image__of_a_mean__is_what_the_description_says(void **state)
{
    static const float in[2][3] = {{1, 2, 1e8f}, {0.5f, -4, 1}};
    static const float sums[6] = {1.5f, -2, 1e8f, 0, 0, 1};
    struct ssm_model *model = text_load(MEAN);
    unsigned char want[HEAD + sizeof(sums) + 8] = "ssmstate\1", got[sizeof(want)];
    uint64_t bytes = sizeof(want), frames = 2;
    XXH128_canonical_t fingerprint;
    struct running r;
    struct ssm_slot slot;
    float out[6];

    (void)state;
    XXH128_canonicalFromHash(&fingerprint, XXH3_128bits(MEAN, strlen(MEAN)));
    assert_memory_equal(ssm_model_info(model)->fingerprint, &fingerprint, sizeof(fingerprint));
    memcpy(want + 16, &bytes, sizeof(bytes));
    memcpy(want + FINGERPRINT_AT, &fingerprint, sizeof(fingerprint));
    memcpy(want + FRAMES_AT, &frames, sizeof(frames));
    memcpy(want + HEAD, sums, sizeof(sums));
    reseal(want, sizeof(want));
    assert_int_equal(ssm_image_bytes(model), sizeof(want));
    running_open(&r, model, NULL, 1, 1);
    slot = running_acquire(&r);
    running_advance(&r, slot, SSM_STEP, in[0], 2, out);
    export_check(&r, slot, got);
    assert_memory_equal(got, want, sizeof(want));
    running_close(&r);
    ssm_model_free(model);
}

static void export__a_state_that_overflowed__is_refused(void **state)
{
    static const float loud[3] = {3e38f, 3e38f, 3e38f};
    struct ssm_model *model = text_load(MEAN);
    unsigned char *image = malloc(ssm_image_bytes(model));
    struct running r;
    struct ssm_slot slot;
    float out[3];

    (void)state;
    assert_non_null(image);
    running_open(&r, model, NULL, 1, 1);
    slot = running_acquire(&r);
    for (int i = 0; i < 2; i++)
        running_advance(&r, slot, SSM_STEP, loud, 1, out);
    assert_int_equal(ssm_slot_export(r.program, slot, image), SSM_NONFINITE);
    free(image);
    running_close(&r);
    ssm_model_free(model);
}

/* One layer of the kind with tensors of any values. */
static size_t layer_bytes(struct making *m, uint32_t in, uint32_t out)
{
    struct ssm_model *model = NULL;
    struct ssm_error err = {""};
    size_t bytes;

    if (making_load(m, &model, in, out, &err))
        fail_msg("%s", err.text);
    bytes = ssm_image_bytes(model);
    ssm_model_free(model);
    making_fini(m);
    return bytes - HEAD - 8;
}

static void image__odd_sizes__hold_no_padding(void **state)
{
    struct making m;

    (void)state;
    making_init(&m, 3);
    making_layers(&m, "{'type':'s4d','name':'l','channels':3,'state':10,'discretization':'zoh'}");
    making_tensor(&m, 1, "l.log_dt", 1, 3u);
    making_tensor(&m, 1, "l.log_A_real", 2, 3u, 5u);
    making_tensor(&m, 1, "l.A_imag", 2, 3u, 5u);
    making_tensor(&m, 1, "l.C", 3, 3u, 5u, 2u);
    making_tensor(&m, 1, "l.D", 1, 3u);
    assert_int_equal(layer_bytes(&m, 3, 3), 3 * 2 * 5 * 4);

    making_init(&m, 3);
    making_layers(&m, "{'type':'mamba','name':'l','dim':3,'inner':19,'state':5,'conv':4,'dt_rank':2}");
    making_tensor(&m, 1, "l.in_proj.weight", 2, 38u, 3u);
    making_tensor(&m, 1, "l.conv1d.weight", 3, 19u, 1u, 4u);
    making_tensor(&m, 1, "l.x_proj.weight", 2, 12u, 19u);
    making_tensor(&m, 1, "l.dt_proj.weight", 2, 19u, 2u);
    making_tensor(&m, 1, "l.dt_proj.bias", 1, 19u);
    making_tensor(&m, 1, "l.A_log", 2, 19u, 5u);
    making_tensor(&m, 1, "l.D", 1, 19u);
    making_tensor(&m, 1, "l.out_proj.weight", 2, 3u, 19u);
    assert_int_equal(layer_bytes(&m, 3, 3), (3 * 19 + 5 * 19) * 4);

    making_init(&m, 3);
    making_layers(&m, "{'type':'mamba2','name':'l','dim':3,'expand':6,'state':5,'conv':4,'head_dim':9,'groups':1}");
    making_tensor(&m, 1, "l.in_proj.weight", 2, 48u, 3u);
    making_tensor(&m, 1, "l.conv1d.weight", 3, 28u, 1u, 4u);
    making_tensor(&m, 1, "l.dt_bias", 1, 2u);
    making_tensor(&m, 1, "l.A_log", 1, 2u);
    making_tensor(&m, 1, "l.D", 1, 2u);
    making_tensor(&m, 1, "l.norm.weight", 1, 18u);
    making_tensor(&m, 1, "l.out_proj.weight", 2, 3u, 18u);
    assert_int_equal(layer_bytes(&m, 3, 3), (3 * 28 + 2 * 5 * 9) * 4);
}

/* ---- fingerprints ------------------------------------------------------------------------------------------------ */

static bool same_print(struct ssm_model *a, struct ssm_model *b)
{
    bool same = memcmp(ssm_model_info(a)->fingerprint, ssm_model_info(b)->fingerprint, SSM_FINGERPRINT_BYTES) == 0;

    ssm_model_free(a);
    ssm_model_free(b);
    return same;
}

static void fingerprint__other_blanks_and_order_of_keys__is_the_same(void **state)
{
    (void)state;
    assert_true(same_print(text_load(MEAN), text_load("{ \"model_type\": \"ssmd\", \"format_version\": 1,\n"
                                                      "\"layers\": [{\"type\": \"mean\"}], " MEAN_OUTPUT " 10},\n"
                                                      "\"input\": {\"sample_rate\": 10, \"kind\": \"signal\", "
                                                      "\"channels\": 3}}")));
}

static void fingerprint__another_rate__differs(void **state)
{
    (void)state;
    assert_false(
        same_print(text_load(MEAN), text_load("{\"format_version\":1,\"input\":{\"channels\":3,\"kind\":"
                                              "\"signal\",\"sample_rate\":20},\"layers\":[{\"type\":\"mean\"}],"
                                              "\"model_type\":\"ssmd\"," MEAN_OUTPUT "20}}")));
}

static struct ssm_model *template_load(const char *spec)
{
    struct ssm_model *model = NULL;

    assert_int_equal(ssm_model_load(&model, spec, NULL, NULL), SSM_OK);
    return model;
}

static void fingerprint__two_spellings_of_a_template__is_the_same(void **state)
{
    (void)state;
    assert_true(
        same_print(template_load("forecast:rate=360"), template_load("forecast:channels=1,order=16,rate=360.0")));
    assert_false(same_print(template_load("forecast:rate=360"), template_load("forecast:rate=360,order=17")));
}

static struct ssm_model *linear_load(float first, const char *name)
{
    struct making m;
    struct ssm_model *model = NULL;
    char weight[40];

    making_init(&m, 9);
    making_layers(&m, "{'type':'linear','name':'%s','in':2,'out':2,'bias':false}", name);
    snprintf(weight, sizeof(weight), "%s.weight", name);
    making_tensor(&m, 1, weight, 2, 2u, 2u)[0] = first;
    assert_int_equal(making_load(&m, &model, 2, 2, NULL), SSM_OK);
    making_fini(&m);
    return model;
}

static void fingerprint__one_weight_or_name_differs__differs(void **state)
{
    (void)state;
    assert_true(same_print(linear_load(1, "a"), linear_load(1, "a")));
    assert_false(same_print(linear_load(1, "a"), linear_load(nextafterf(1, 2), "a")));
    assert_false(same_print(linear_load(1, "a"), linear_load(1, "b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(image__any_index_into_a_used_slot__goes_on_with_the_same_bits),
        cmocka_unit_test(image__on_the_grid_of_a_scan__goes_on_with_the_same_bits),
        cmocka_unit_test(copy__into_a_used_slot__goes_on_with_the_same_bits_beside_the_first),
        cmocka_unit_test(image__other_instruction_sets__is_the_same_bytes),
        cmocka_unit_test(image__fresh_slots__are_the_same_bytes),
        cmocka_unit_test(import__any_byte_flipped__is_refused),
        cmocka_unit_test(import__cut_at_any_length__is_refused),
        cmocka_unit_test(import__forged_with_a_good_checksum__is_refused),
        cmocka_unit_test(import__another_models__is_refused_by_name),
        cmocka_unit_test(slot__stale__is_refused),
        cmocka_unit_test(image__of_a_mean__is_what_the_description_says),
        cmocka_unit_test(export__a_state_that_overflowed__is_refused),
        cmocka_unit_test(image__odd_sizes__hold_no_padding),
        cmocka_unit_test(fingerprint__other_blanks_and_order_of_keys__is_the_same),
        cmocka_unit_test(fingerprint__another_rate__differs),
        cmocka_unit_test(fingerprint__two_spellings_of_a_template__is_the_same),
        cmocka_unit_test(fingerprint__one_weight_or_name_differs__differs),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
