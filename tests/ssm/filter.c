/* SPDX-License-Identifier: Apache-2.0
 *
 * SSMD_TEST_FILTER in the environment of any test program: only tests whose names match it run (* and ?, as cmocka has
 * them). scripts/check-cuda runs few of a suite under a sanitizer that makes each launch many times slower. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

__attribute__((constructor)) static void filter_read(void)
{
    const char *filter = getenv("SSMD_TEST_FILTER");

    if (filter && *filter)
        cmocka_set_test_filter(filter);
}
