/* SPDX-License-Identifier: Apache-2.0
 *
 * See serving.h.
 */
#include "tests/sys/serving.h"
#include "tests/sys/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct models_dir serving_models;

int serving_group_open(void **state)
{
    (void)state;
    models_dir_init(&serving_models);
    return 0;
}

int serving_group_close(void **state)
{
    (void)state;
    models_dir_fini(&serving_models);
    return 0;
}

struct sys_daemon *serving_start(const char *lines)
{
    struct sys_daemon *daemon;
    char all[512];

    assert_in_range(snprintf(all, sizeof(all), "models = %s\n%s", serving_models.path, lines), 1, sizeof(all) - 1);
    assert_int_equal(sys_daemon_start(&daemon, all), 0);
    return daemon;
}

void serving_stop(struct sys_daemon *daemon)
{
    assert_int_equal(sys_daemon_stop(daemon, WIRE_MS), 0);
    sys_daemon_free(daemon);
}
