/* SPDX-License-Identifier: Apache-2.0
 *
 * A golden case: a model directory with an input, and what somebody else's code made of it (case.json says whose).
 */
#ifndef TESTS_GOLDEN_CASE_H
#define TESTS_GOLDEN_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define CASES_MAX 1024

struct golden {
    char dir[512];
    bool may_skip;
    uint64_t steps;
    uint32_t in_channels, out_channels;
    double tolerance;
    void *in;
    float *expected, *out, *first;
    uint64_t out_frames;
};

/* Reads what is in g->dir; what fails fails the test. golden_free frees it. */
void golden_load(struct golden *g);
void golden_free(struct golden *g);
/* max|out - expected| / max|expected|; not a number where out is not. */
double golden_error(const struct golden *g);

/* One test for each case under tests/golden, which may not skip, and under $GOLDEN, which may; cases and tests have
 * room for CASES_MAX. Returns how many. */
size_t golden_find_all(struct golden *cases, struct CMUnitTest *tests, CMUnitTestFunction test);

#endif
