/* SPDX-License-Identifier: Apache-2.0
 *
 * Handles of a connection: dead ones stay up to a bound, and those that are free again are given again beyond it.
 * tests/sys/test_limits.c has the limits that a client can see at once.
 */
#include "daemon/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void limits__dead_handles__are_bounded_and_free_ones_are_reused(void **state)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    struct conn *conn;
    uint32_t handle;

    (void)state;
    assert_int_equal(conns_init(&loop->conns), 0);
    conn = conns_insert(&loop->conns, &(struct peer){&loop->ports.port[0], (const uint8_t *)"c", 1});
    for (uint32_t i = 0; i < 100; i++) { /* in use: they do not count */
        assert_true(limits_handle_acquire(loop, conn, &handle));
        conn->writes++;
    }
    for (uint32_t i = 0; i < LIMITS_DEAD; i++) {
        assert_true(limits_handle_acquire(loop, conn, &handle));
        conn_handle_release(conn, handle, false);
    }
    assert_false(limits_handle_acquire(loop, conn, &handle));
    assert_int_equal(loop->counters.limit_handles, 1);
    conn->writes--;
    conn_handle_release(conn, 7, true);
    assert_true(limits_handle_acquire(loop, conn, &handle));
    assert_int_equal(handle, 7);
    conn->writes++;
    assert_false(limits_handle_acquire(loop, conn, &handle));
    assert_int_equal(loop->counters.limit_handles, 2);
    conns_remove(&loop->conns, conn);
    conns_fini(&loop->conns);
    free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits__dead_handles__are_bounded_and_free_ones_are_reused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
