/* SPDX-License-Identifier: Apache-2.0
 *
 * The three forms of the scan against the plain recurrence in float64 and so against each other: any length and number
 * of lanes, real and complex, from any state, blocks of any size anywhere on the grid; and blocks bit for bit whatever
 * the number of threads.
 */
#include <complex.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/scan.h"
#include "tests/ssm/making.h"

static const uint32_t lengths[] = {1, 2, 3, 5, 16, 17, 63, 64, 65, 100, 128, 1000, 1009};
static const uint32_t widths[] = {1, 2, 3, 7, 16, 17};
static const uint32_t blocks[] = {1, 2, 7, 16, 64, 5000};

enum { PLANES = 4 }; /* a_re, a_im, b_re, b_im */

struct problem {
    uint32_t frames, lanes;
    bool complex_lanes;
    float *given;         /* (PLANES, frames, lanes), then the state's (2, lanes) */
    float *work;          /* the same, what a form works on */
    double complex *want; /* (frames, lanes) */
};

static size_t plane(const struct problem *p)
{
    return (size_t)p->frames * p->lanes;
}

static size_t problem_floats(const struct problem *p)
{
    return PLANES * plane(p) + 2 * (size_t)p->lanes;
}

/* Poles anywhere in the unit disc, half of them near its edge. */
static void problem_init(struct problem *p, uint32_t frames, uint32_t lanes, bool complex_lanes, uint32_t *seed)
{
    *p = (struct problem){.frames = frames, .lanes = lanes, .complex_lanes = complex_lanes};
    p->given = calloc(problem_floats(p), sizeof(float));
    p->work = calloc(problem_floats(p), sizeof(float));
    p->want = calloc(plane(p), sizeof(*p->want));
    assert_true(p->given && p->work && p->want);
    for (size_t i = 0; i < plane(p); i++) {
        float radius = making_number(seed, 2) ? 0.999f : making_noise(seed), angle = 3 * making_noise(seed);

        p->given[i] = complex_lanes ? radius * cosf(angle) : radius;
        p->given[plane(p) + i] = complex_lanes ? radius * sinf(angle) : 0;
        p->given[2 * plane(p) + i] = making_noise(seed);
        p->given[3 * plane(p) + i] = complex_lanes ? making_noise(seed) : 0;
    }
    for (size_t i = PLANES * plane(p); i < problem_floats(p); i++)
        p->given[i] = complex_lanes || i < PLANES * plane(p) + lanes ? 3 * making_noise(seed) : 0;
}

static void problem_solve(struct problem *p)
{
    const float *a = p->given, *b = p->given + 2 * plane(p), *h = p->given + PLANES * plane(p);

    for (uint32_t n = 0; n < p->lanes; n++) {
        double complex state = h[n] + I * h[p->lanes + n];

        for (size_t t = 0, i = n; t < p->frames; t++, i += p->lanes)
            p->want[i] = state = (a[i] + I * a[plane(p) + i]) * state + b[i] + I * b[plane(p) + i];
    }
}

static struct ssm_scan problem_scan(struct problem *p)
{
    float *w = memcpy(p->work, p->given, problem_floats(p) * sizeof(float)), *h = w + PLANES * plane(p);
    bool c = p->complex_lanes;

    return (struct ssm_scan){.frames = p->frames,
                             .lanes = p->lanes,
                             .a_re = w,
                             .a_im = c ? w + plane(p) : NULL,
                             .b_re = w + 2 * plane(p),
                             .b_im = c ? w + 3 * plane(p) : NULL,
                             .h_re = h,
                             .h_im = c ? h + p->lanes : NULL};
}

static void problem_check(const struct problem *p, const struct ssm_scan *s, const char *form)
{
    double error = 0, scale = 0;

    for (size_t i = 0; i < plane(p); i++) {
        double complex got = s->b_re[i] + I * (s->b_im ? s->b_im[i] : 0);

        error = fmax(error, cabs(got - p->want[i]));
        scale = fmax(scale, cabs(p->want[i]));
        assert_true(isfinite(creal(got)) && isfinite(cimag(got)));
    }
    for (uint32_t n = 0; n < p->lanes; n++) { /* the state afterwards is the last frame's */
        assert_true(s->h_re[n] == s->b_re[plane(p) - p->lanes + n]);
        assert_true(!s->h_im || s->h_im[n] == s->b_im[plane(p) - p->lanes + n]);
    }
    if (!(error <= 2e-6 * scale))
        fail_msg("%s, %u frames of %u %s lanes: error %.3g", form, p->frames, p->lanes,
                 p->complex_lanes ? "complex" : "real", error / scale);
}

static void problem_fini(struct problem *p)
{
    free(p->given);
    free(p->work);
    free(p->want);
}

static void forms_check(struct problem *p, uint32_t *seed)
{
    struct ssm_scan s = problem_scan(p);
    float *tree = calloc(ssm_scan_tree_floats(&s), sizeof(*tree));

    assert_non_null(tree);
    ssm_scan_sequential(&s);
    problem_check(p, &s, "sequential");
    s = problem_scan(p);
    ssm_scan_blelloch(&s, tree);
    problem_check(p, &s, "blelloch");
    for (size_t i = 0; i < sizeof(blocks) / sizeof(*blocks); i++) {
        s = problem_scan(p);
        ssm_scan_blocks(&s, making_number(seed, 3) ? making_number(seed, 100) : 0, blocks[i], NULL);
        problem_check(p, &s, "blocks");
    }
    free(tree);
}

static void scan__three_forms__are_the_recurrence(void **state)
{
    uint32_t seed = 3;

    (void)state;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
        for (size_t k = 0; k < sizeof(widths) / sizeof(*widths); k++)
            for (int c = 0; c < 2; c++) {
                struct problem p;

                problem_init(&p, lengths[i], widths[k], c, &seed);
                problem_solve(&p);
                forms_check(&p, &seed);
                problem_fini(&p);
            }
}

/* Cut anywhere and by any team, blocks on the grid are the same bits: cuts on its lines change nothing either. */
static void scan_blocks__any_team_and_any_cut_on_the_grid__same_bits(void **state)
{
    enum { FRAMES = 1003, LANES = 5, BLOCK = 16, FIRST = 7 };
    struct problem p;
    uint32_t seed = 9;
    float *want = calloc(2 * (size_t)FRAMES * LANES, sizeof(*want));
    size_t bytes = 2 * (size_t)FRAMES * LANES * sizeof(*want);

    (void)state;
    assert_non_null(want);
    problem_init(&p, FRAMES, LANES, true, &seed);
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct ssm_scan s = problem_scan(&p), piece;
        struct ssm_team *team = NULL;

        assert_int_equal(ssm_team_new(&team, threads), SSM_OK);
        ssm_scan_blocks(&s, FIRST, BLOCK, team);
        if (threads == 1)
            memcpy(want, s.b_re, bytes);
        assert_memory_equal(want, s.b_re, bytes);
        piece = s = problem_scan(&p);
        for (uint32_t t = 0; t < FRAMES; t += piece.frames) {
            uint32_t end = (FIRST + t + threads * BLOCK) / BLOCK * BLOCK - FIRST;

            piece.frames = (end < FRAMES ? end : FRAMES) - t;
            piece.a_re = s.a_re + t * LANES;
            piece.a_im = s.a_im + t * LANES;
            piece.b_re = s.b_re + t * LANES;
            piece.b_im = s.b_im + t * LANES;
            ssm_scan_blocks(&piece, FIRST + t, BLOCK, team);
        }
        assert_memory_equal(want, s.b_re, bytes);
        ssm_team_free(team);
    }
    problem_fini(&p);
    free(want);
}

static void scan__no_frames__leaves_the_state(void **state)
{
    float h = 0.5f, tree[8] = {0};
    struct ssm_scan s = {.lanes = 1, .h_re = &h};

    (void)state;
    ssm_scan_sequential(&s);
    ssm_scan_blocks(&s, 3, 16, NULL);
    ssm_scan_blelloch(&s, tree);
    assert_true(h == 0.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scan__three_forms__are_the_recurrence),
        cmocka_unit_test(scan_blocks__any_team_and_any_cut_on_the_grid__same_bits),
        cmocka_unit_test(scan__no_frames__leaves_the_state),
    };
    return cmocka_run_group_tests_name("scan", tests, NULL, NULL);
}
