/* SPDX-License-Identifier: Apache-2.0
 *
 * What most tests of the whole daemon begin and end with: the directory of small models for the group, and a daemon
 * that offers them for each test.
 *
 * Everything fails the running test when it cannot do what it says.
 */
#ifndef TESTS_SYS_SERVING_H
#define TESTS_SYS_SERVING_H

#include "tests/sys/daemon.h"
#include "tests/sys/reference.h"

extern struct models_dir serving_models; /* of the group */

/* Set-up and teardown of a group. */
int serving_group_open(void **state);
int serving_group_close(void **state);

/* A daemon with the group's models and these lines of configuration. */
struct sys_daemon *serving_start(const char *lines);
/* It ends well; then it is gone. */
void serving_stop(struct sys_daemon *daemon);

#endif
