/* SPDX-License-Identifier: Apache-2.0
 *
 * The histogram against the sorted values themselves: quantiles within the bound that its head promises, counts below
 * Prometheus' bounds exact.
 */
#include "daemon/histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define VALUES_MAX 20011

static uint64_t values[VALUES_MAX];

static uint64_t random_next(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *seed >> 11;
}

static int value_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void fill(struct histogram *h, size_t n)
{
    histogram_init(h, &histogram_bounds_seconds);
    for (size_t i = 0; i < n; i++)
        histogram_add(h, values[i]);
    qsort(values, n, sizeof(*values), value_compare);
}

static void assert_quantiles(const struct histogram *h, size_t n)
{
    static const double q[] = {0, 0.001, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};

    for (size_t i = 0; i < sizeof(q) / sizeof(q[0]); i++) {
        size_t rank = (size_t)ceil(q[i] * (double)n);
        double exact = (double)values[rank < 1 ? 0 : rank - 1], got = (double)histogram_quantile(h, q[i]);

        if (!(fabs(got - exact) <= exact / 32))
            fail_msg("quantile %g of %zu is %g and should be %g", q[i], n, got, exact);
    }
}

static void histogram__values_of_every_size__gives_quantiles_within_one_in_32(void **state)
{
    static const size_t sizes[] = {1, 2, 3, 17, 997, VALUES_MAX};
    static struct histogram h;
    uint64_t seed = 7;

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint64_t sum = 0;

        for (size_t i = 0; i < sizes[s]; i++) {
            values[i] = random_next(&seed) >> (random_next(&seed) % 52);
            sum += values[i];
        }
        fill(&h, sizes[s]);
        assert_quantiles(&h, sizes[s]);
        assert_int_equal(h.count, sizes[s]);
        assert_int_equal(h.sum, sum);
        assert_int_equal(h.max, values[sizes[s] - 1]);
    }
}

static void histogram__small_values__are_exact(void **state)
{
    static struct histogram h;

    (void)state;
    for (size_t i = 0; i < 32; i++)
        values[i] = i;
    fill(&h, 32);
    for (size_t i = 1; i <= 32; i++)
        assert_int_equal(histogram_quantile(&h, (double)i / 32), i - 1);
}

static void histogram__the_smallest_and_the_largest_number__are_kept(void **state)
{
    static struct histogram h;

    (void)state;
    histogram_init(&h, &histogram_bounds_sizes);
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    histogram_add(&h, 0);
    histogram_add(&h, UINT64_MAX);
    assert_int_equal(histogram_quantile(&h, 0.5), 0);
    assert_true(histogram_quantile(&h, 1) == UINT64_MAX);
    assert_int_equal(h.below[0], 1);
    assert_int_equal(h.below[histogram_bounds_sizes.n], 1);
}

static void histogram__values_at_and_beyond_each_bound__are_told_apart(void **state)
{
    static const struct histogram_bounds *const all[] = {&histogram_bounds_seconds, &histogram_bounds_sizes};
    static struct histogram h;

    (void)state;
    for (size_t k = 0; k < 2; k++) {
        histogram_init(&h, all[k]);
        for (uint32_t i = 0; i < all[k]->n; i++) {
            assert_true(i == 0 || all[k]->at[i] > all[k]->at[i - 1]);
            histogram_add(&h, all[k]->at[i]);
            histogram_add(&h, all[k]->at[i] + 1);
        }
        assert_int_equal(h.below[all[k]->n], 1);
        for (uint32_t i = 0, sum = 0; i < all[k]->n; i++) {
            uint32_t expected = 0;

            for (uint32_t j = 0; j < all[k]->n; j++)
                expected += (all[k]->at[j] <= all[k]->at[i]) + (all[k]->at[j] + 1 <= all[k]->at[i]);
            sum += (uint32_t)h.below[i];
            assert_int_equal(sum, expected);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histogram__values_of_every_size__gives_quantiles_within_one_in_32),
        cmocka_unit_test(histogram__small_values__are_exact),
        cmocka_unit_test(histogram__the_smallest_and_the_largest_number__are_kept),
        cmocka_unit_test(histogram__values_at_and_beyond_each_bound__are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
