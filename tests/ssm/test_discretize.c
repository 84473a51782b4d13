/* SPDX-License-Identifier: Apache-2.0
 *
 * Discretisation, the matrix exponential and the spectral radius against closed forms.
 */
#include <complex.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ssm/discretize.h"
#include "ssm/poles.h"
#include "tests/reference/layers.h"
#include "tests/ssm/making.h"

#define CLOSE 1e-13

static void assert_near(double got, double want, double bound)
{
    if (!(fabs(got - want) <= bound * fmax(1, fabs(want))))
        fail_msg("%.17g is not %.17g within %g", got, want, bound);
}

static void assert_all_near(const double *got, const double *want, size_t n, double bound)
{
    for (size_t i = 0; i < n; i++)
        assert_near(got[i], want[i], bound);
}

static void discretize(enum ssm_discretization how, double dt, const double *A, const double *B, uint32_t n, uint32_t m,
                       double *Abar, double *Bbar)
{
    assert_int_equal(ssm_discretize(how, dt, A, B, n, m, Abar, Bbar), SSM_OK);
}

static void scalar__every_rule__is_its_formula(void **state)
{
    static const double poles[] = {-3, -0.25, -1e-9, 0, 0.5};
    const double b = 0.7, dt = 0.3;

    (void)state;
    for (size_t i = 0; i < sizeof(poles) / sizeof(*poles); i++) {
        double a = poles[i], abar, bbar;

        discretize(SSM_ZOH, dt, &a, &b, 1, 1, &abar, &bbar);
        assert_near(abar, exp(dt * a), CLOSE);
        assert_near(bbar, a == 0 ? dt * b : expm1(dt * a) / a * b, CLOSE);
        discretize(SSM_BILINEAR, dt, &a, &b, 1, 1, &abar, &bbar);
        assert_near(abar, (1 + dt * a / 2) / (1 - dt * a / 2), CLOSE);
        assert_near(bbar, dt * b / (1 - dt * a / 2), CLOSE);
        discretize(SSM_FORWARD, dt, &a, &b, 1, 1, &abar, &bbar);
        assert_near(abar, 1 + dt * a, CLOSE);
        assert_near(bbar, dt * b, CLOSE);
        discretize(SSM_BACKWARD, dt, &a, &b, 1, 1, &abar, &bbar);
        assert_near(abar, 1 / (1 - dt * a), CLOSE);
        assert_near(bbar, dt * b / (1 - dt * a), CLOSE);
    }
}

/* exp(dt [[0, -w], [w, 0]]) turns by dt w; also far beyond a whole turn, where the exponential squares many times. */
static void rotation__zoh__turns_by_the_angle(void **state)
{
    static const double angles[] = {1e-6, 0.3, 3, 40, 5000};
    const double B[] = {1, 0};

    (void)state;
    for (size_t i = 0; i < sizeof(angles) / sizeof(*angles); i++) {
        double dt = 0.25, w = angles[i] / dt, A[] = {0, -w, w, 0}, Abar[4], Bbar[2];
        double turned[] = {cos(angles[i]), -sin(angles[i]), sin(angles[i]), cos(angles[i])};
        double driven[] = {sin(angles[i]) / w, 2 * pow(sin(angles[i] / 2), 2) / w};

        discretize(SSM_ZOH, dt, A, B, 2, 1, Abar, Bbar);
        assert_all_near(Abar, turned, 4, 1e-15 * fmax(100, 10 * angles[i]));
        assert_all_near(Bbar, driven, 2, 1e-12);
    }
}

static void rotation__bilinear__keeps_length(void **state)
{
    const double A[] = {0, -7, 7, 0}, B[] = {1, 0};
    double Abar[4], Bbar[2];

    (void)state;
    discretize(SSM_BILINEAR, 0.5, A, B, 2, 1, Abar, Bbar);
    assert_near(Abar[0] * Abar[0] + Abar[2] * Abar[2], 1, CLOSE);
    assert_near(Abar[0], (1 - 1.75 * 1.75) / (1 + 1.75 * 1.75), CLOSE);
    assert_near(Abar[2], 2 * 1.75 / (1 + 1.75 * 1.75), CLOSE);
}

/* A double integrator: exp(dt A) = I + dt A, and Bbar = (dt^2/2, dt). A has no inverse. */
static void singular_a__zoh__integrates_twice(void **state)
{
    const double A[] = {0, 1, 0, 0}, B[] = {0, 1}, dt = 0.125;
    double Abar[4], Bbar[2];

    (void)state;
    discretize(SSM_ZOH, dt, A, B, 2, 1, Abar, Bbar);
    assert_all_near(Abar, (const double[]){1, dt, 0, 1}, 4, CLOSE);
    assert_all_near(Bbar, (const double[]){dt * dt / 2, dt}, 2, CLOSE);
}

static void jordan_block__zoh__has_the_t_exp_term(void **state)
{
    const double a = -0.5, dt = 2, A[] = {-0.5, 1, 0, -0.5}, B[] = {0, 0};
    double Abar[4], Bbar[2];

    (void)state;
    discretize(SSM_ZOH, dt, A, B, 2, 1, Abar, Bbar);
    assert_all_near(Abar, (const double[]){exp(dt * a), dt * exp(dt * a), 0, exp(dt * a)}, 4, CLOSE);
}

/* 2x2 with known inverse: A = [[-2, 1], [0, -4]], dt = 1. */
static void triangular__rational_rules__are_the_inverses(void **state)
{
    const double A[] = {-2, 1, 0, -4}, B[] = {1, 3};
    double Abar[4], Bbar[2];

    (void)state;
    discretize(SSM_BACKWARD, 1, A, B, 2, 1, Abar, Bbar); /* inverse of [[3, -1], [0, 5]] */
    assert_all_near(Abar, (const double[]){1. / 3, 1. / 15, 0, 1. / 5}, 4, CLOSE);
    assert_all_near(Bbar, (const double[]){1. / 3 + 3. / 15, 3. / 5}, 2, CLOSE);
    discretize(SSM_BILINEAR, 1, A, B, 2, 1, Abar, Bbar); /* inverse of [[2, -1/2], [0, 3]] times [[0, 1/2], [0, -1]] */
    assert_all_near(Abar, (const double[]){0, 1. / 6, 0, -1. / 3}, 4, CLOSE);
    assert_all_near(Bbar, (const double[]){1. / 2 + 3. / 12, 1}, 2, CLOSE);
    discretize(SSM_FORWARD, 1, A, B, 2, 1, Abar, Bbar);
    assert_all_near(Abar, (const double[]){-1, 1, 0, -3}, 4, CLOSE);
    assert_all_near(Bbar, B, 2, CLOSE);
}

/* The pivot of the first column is not where it stands: A = [[1, 1], [1, 0]] / dt makes I - dt A = [[0, -1], [-1,
 * 1]]. */
static void zero_pivot__backward__swaps_rows(void **state)
{
    const double A[] = {1, 1, 1, 0}, B[] = {1, 2};
    double Abar[4], Bbar[2];

    (void)state;
    discretize(SSM_BACKWARD, 1, A, B, 2, 1, Abar, Bbar);
    assert_all_near(Abar, (const double[]){-1, -1, -1, 0}, 4, CLOSE);
    assert_all_near(Bbar, (const double[]){-3, -1}, 2, CLOSE);
}

static void no_inverse__backward_and_bilinear__are_refused(void **state)
{
    const double one = 1, two = 2, b = 1;
    double abar, bbar;

    (void)state;
    assert_int_equal(ssm_discretize(SSM_BACKWARD, 1, &one, &b, 1, 1, &abar, &bbar), SSM_UNSTABLE);
    assert_int_equal(ssm_discretize(SSM_BILINEAR, 1, &two, &b, 1, 1, &abar, &bbar), SSM_UNSTABLE);
}

static void overflow__zoh__is_refused(void **state)
{
    const double a[] = {1e308, 1e308, 1e308, 1e308}, b[] = {1, 1};
    double abar[4], bbar[2];

    (void)state;
    assert_int_equal(ssm_discretize(SSM_ZOH, 1e10, a, b, 2, 1, abar, bbar), SSM_NONFINITE);
}

static void random_systems__every_rule__match_the_series(void **state)
{
    uint32_t seed = 4711;

    (void)state;
    for (uint32_t n = 1; n <= 13; n++) {
        double A[13 * 13], B[13 * 3], Abar[13 * 13], Bbar[13 * 3], want[13 * 13], driven[13 * 3];

        for (uint32_t i = 0; i < n * n; i++)
            A[i] = 3 * making_noise(&seed);
        for (uint32_t i = 0; i < n * 3; i++)
            B[i] = making_noise(&seed);
        for (int how = 0; how < 4; how++) {
            discretize((enum ssm_discretization)how, 0.37, A, B, n, 3, Abar, Bbar);
            reference_discretize((enum reference_how)how, 0.37, A, B, n, 3, want, driven);
            assert_all_near(Abar, want, (size_t)n * n, 1e-10);
            assert_all_near(Bbar, driven, (size_t)n * 3, 1e-10);
        }
    }
}

static void mode__every_rule__is_its_formula(void **state)
{
    const double complex poles[] = {-0.5, -0.5 + 3 * I, -1e-12, -1e-9 + 1e-10 * I, 20 * I, -1e3};
    const double dt = 0.05;

    (void)state;
    for (size_t i = 0; i < sizeof(poles) / sizeof(*poles); i++) {
        double complex a = poles[i], abar, bbar, z = dt * a, series = 1;

        for (int k = 30; k >= 2; k--) /* (exp(z) - 1) / z */
            series = 1 + series * z / k;
        ssm_discretize_mode(SSM_ZOH, dt, a, &abar, &bbar);
        assert_near(cabs(abar - cexp(z)), 0, CLOSE);
        if (cabs(z) < 5)
            assert_near(cabs(bbar / (dt * series) - 1), 0, 1e-13);
        else
            assert_near(cabs(bbar - (cexp(z) - 1) / a), 0, 1e-13);
        ssm_discretize_mode(SSM_BILINEAR, dt, a, &abar, &bbar);
        assert_near(cabs(abar - (2 + z) / (2 - z)), 0, CLOSE);
        assert_near(cabs(bbar - 2 * dt / (2 - z)), 0, CLOSE);
        ssm_discretize_mode(SSM_FORWARD, dt, a, &abar, &bbar);
        assert_near(cabs(abar - (1 + z)), 0, CLOSE);
        assert_near(cabs(bbar - dt), 0, CLOSE);
        ssm_discretize_mode(SSM_BACKWARD, dt, a, &abar, &bbar);
        assert_near(cabs(abar - 1 / (1 - z)), 0, CLOSE);
        assert_near(cabs(bbar - dt / (1 - z)), 0, CLOSE);
    }
}

static void mode__pole_at_zero__integrates(void **state)
{
    double complex abar, bbar;

    (void)state;
    ssm_discretize_mode(SSM_ZOH, 0.05, 0, &abar, &bbar);
    assert_true(abar == 1 && bbar == 0.05);
}

/* ---- spectral radius --------------------------------------------------------------------------------------------- */

static double radius(const double *A, uint32_t n)
{
    double out = -1;

    assert_int_equal(ssm_spectral_radius(A, n, 0, &out), SSM_OK);
    return out;
}

static void radius__triangular__is_the_largest_diagonal(void **state)
{
    const double A[] = {0.5, 9, -3, 0, -0.9, 7, 0, 0, 0.25};

    (void)state;
    assert_near(radius(A, 3), 0.9, 1e-9);
}

static void radius__defective_and_far_from_normal__is_still_the_pole(void **state)
{
    const double jordan[] = {0.999, 1e6, 0, 0.999}, unit[] = {1, 1e6, 0, 1};

    (void)state;
    assert_near(radius(jordan, 2), 0.999, 1e-9);
    assert_near(radius(unit, 2), 1, 1e-9);
}

/* Jordan blocks long enough that their powers' corner buries the diagonal, in order and shuffled. */
static void radius__long_chain__is_its_pole(void **state)
{
    enum { N = 200 };
    static double A[N * N], shuffled[N * N];

    (void)state;
    for (int i = 0; i < N; i++) {
        A[i * N + i] = i == 150 ? -1.25 : 0.9;
        if (i > 0)
            A[i * N + i - 1] = 2;
    }
    for (int i = 0; i < N; i++)
        for (int k = 0; k < N; k++)
            shuffled[i * N + k] = A[i * 77 % N * N + k * 77 % N];
    assert_true(radius(A, N) == 1.25);
    assert_true(radius(shuffled, N) == 1.25);
}

/* Two rotations, one feeding the other: two blocks of two. */
static void radius__blocks__is_the_largest(void **state)
{
    const double A[] = {0, -0.5, 9, 0, 0.5, 0, 0, 0, 0, 0, 0.6, -0.8, 0, 0, 0.8, 0.6};

    (void)state;
    assert_near(radius(A, 4), 1, 1e-12);
}

static void radius__nilpotent__is_zero(void **state)
{
    double A[49] = {0};

    (void)state;
    for (int i = 0; i < 6; i++)
        A[i * 7 + i + 1] = 1e3;
    assert_true(radius(A, 7) == 0);
    assert_true(radius((const double[]){0}, 1) == 0);
}

static void radius__rotation__is_one(void **state)
{
    const double c = cos(0.1), s = sin(0.1), A[] = {c, -s, s, c}, big[] = {3 * c, -3 * s, 3 * s, 3 * c};

    (void)state;
    assert_near(radius(A, 2), 1, 1e-9);
    assert_near(radius(big, 2), 3, 1e-9);
}

/* An orthogonal similarity keeps the poles: Householder Q = I - 2 v v' / v'v of a triangular matrix. */
static void radius__dense_and_not_normal__is_the_hidden_pole(void **state)
{
    double T[25], Q[25], QT[25], A[25], v[5], square = 0;
    uint32_t seed = 99;

    (void)state;
    for (int i = 0; i < 5; i++) {
        v[i] = 0.3 + making_noise(&seed);
        square += v[i] * v[i];
    }
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 5; k++) {
            Q[i * 5 + k] = (i == k) - 2 * v[i] * v[k] / square;
            T[i * 5 + k] = k > i ? 5 * making_noise(&seed) : i == k ? 0.2 * (i + 1) - 0.02 : 0;
        }
    ssm_multiply_f64(Q, T, 5, 5, 5, QT);
    ssm_multiply_f64(QT, Q, 5, 5, 5, A);
    assert_near(radius(A, 5), 0.98, 1e-7);
}

/* A rotation scaled to `scale`, in other coordinates so that it is far from normal. */
static double bounded_radius(double scale, double limit)
{
    const double c = scale * cos(0.7), s = scale * sin(0.7), A[] = {c, -50 * s, s / 50, c};
    double out = -1;

    assert_int_equal(ssm_spectral_radius(A, 2, limit, &out), SSM_OK);
    return out;
}

/* Whatever stops it early is on the right side of the limit, and of the radius. */
static void radius__against_a_limit__is_a_bound_on_its_side(void **state)
{
    static const double scales[] = {1e-3, 0.5, 0.999, 1 - 1e-7, 1, 1 + 5e-7, 1 + 2e-6, 1 + 1e-4, 1.5, 1e3};
    const double limit = SSM_POLE_LIMIT;

    (void)state;
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
        double got = bounded_radius(scales[i], limit);

        if (scales[i] < limit)
            assert_true(got <= limit && got >= scales[i] * (1 - 1e-12));
        else
            assert_true(got > limit && got <= scales[i] * (1 + 1e-9) && log(got) >= 0.98 * log(scales[i]));
        assert_near(bounded_radius(scales[i], 0), scales[i], 1e-9 * scales[i]);
    }
}

static void radius__not_finite__is_refused(void **state)
{
    double out;

    (void)state;
    assert_int_equal(ssm_spectral_radius((const double[]){NAN}, 1, 0, &out), SSM_NONFINITE);
    assert_int_equal(ssm_spectral_radius((const double[]){0, INFINITY, 0, 0}, 2, 1, &out), SSM_NONFINITE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar__every_rule__is_its_formula),
        cmocka_unit_test(rotation__zoh__turns_by_the_angle),
        cmocka_unit_test(rotation__bilinear__keeps_length),
        cmocka_unit_test(singular_a__zoh__integrates_twice),
        cmocka_unit_test(jordan_block__zoh__has_the_t_exp_term),
        cmocka_unit_test(triangular__rational_rules__are_the_inverses),
        cmocka_unit_test(zero_pivot__backward__swaps_rows),
        cmocka_unit_test(no_inverse__backward_and_bilinear__are_refused),
        cmocka_unit_test(overflow__zoh__is_refused),
        cmocka_unit_test(random_systems__every_rule__match_the_series),
        cmocka_unit_test(mode__every_rule__is_its_formula),
        cmocka_unit_test(mode__pole_at_zero__integrates),
        cmocka_unit_test(radius__triangular__is_the_largest_diagonal),
        cmocka_unit_test(radius__defective_and_far_from_normal__is_still_the_pole),
        cmocka_unit_test(radius__long_chain__is_its_pole),
        cmocka_unit_test(radius__blocks__is_the_largest),
        cmocka_unit_test(radius__nilpotent__is_zero),
        cmocka_unit_test(radius__rotation__is_one),
        cmocka_unit_test(radius__dense_and_not_normal__is_the_hidden_pole),
        cmocka_unit_test(radius__against_a_limit__is_a_bound_on_its_side),
        cmocka_unit_test(radius__not_finite__is_refused),
    };
    return cmocka_run_group_tests_name("discretize", tests, NULL, NULL);
}
