/* SPDX-License-Identifier: Apache-2.0
 *
 * A hundred thousand operations in random order, against a model of the state machine (machine.h).
 *
 * MACHINE_SEED and MACHINE_OPERATIONS in the environment repeat a run, or make it longer. Under sanitizers there are
 * fewer.
 */
#include "tests/sys/machine.h"
#include "tests/sys/serving.h"
#include "tests/ssm/making.h"
#include "tests/ssm/model_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OPERATIONS 20000
#else
#define OPERATIONS 100000
#endif
#define SEED 20240611

static struct machine machine;
static struct sys_daemon *machine_daemon;

static uint32_t from_environment(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

static void operations__100000_in_random_order__are_answered_as_the_model_says(void **state)
{
    uint32_t operations = from_environment("MACHINE_OPERATIONS", OPERATIONS), dice;

    (void)state;
    machine_daemon = serving_start("linger_ms = 3600000\nidle_ms = 3600000\n");
    machine_init(&machine, sys_daemon_endpoint(machine_daemon), from_environment("MACHINE_SEED", SEED));
    while (machine.operations < operations) {
        machine_round(&machine);
        machine_settle(&machine);
        dice = making_number(&machine.seed, 10);
        if (dice < 2)
            machine_break(&machine, dice == 0);
    }
    machine_fini(&machine);
    serving_stop(machine_daemon);
    machine_daemon = NULL;
}

static int say_where(void **state)
{
    (void)state;
    print_message("MACHINE_SEED=%u, after %llu operations\n", from_environment("MACHINE_SEED", SEED),
                  (unsigned long long)machine.operations);
    sys_daemon_free(machine_daemon); /* of a run that failed */
    return 0;
}

/* Beside the group's models one that adds its samples up. */
static int group_open(void **state)
{
    static const float one = 1;
    const struct model_tensor tensors[] = {
        {.name = "sum.A", .rank = 2, .dims = {1, 1}},
        {.name = "sum.B", .rank = 2, .dims = {1, 1}, .data = &one},
        {.name = "sum.C", .rank = 2, .dims = {1, 1}, .data = &one},
        {.name = "sum.D", .rank = 2, .dims = {1, 1}},
    };
    struct model_dir dir;

    (void)serving_group_open(state);
    snprintf(dir.path, sizeof(dir.path), "%.40s/sum", serving_models.path);
    if (mkdir(dir.path, 0700) != 0)
        return -1;
    model_dir_write_text(&dir, "config.json",
                         "{\"model_type\":\"ssmd\",\"format_version\":1,\"name\":\"sum\","
                         "\"input\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":1000},"
                         "\"output\":{\"kind\":\"signal\",\"channels\":1,\"sample_rate\":1000},"
                         "\"layers\":[{\"type\":\"lti\",\"name\":\"sum\",\"in\":1,\"state\":1,\"out\":1,\"dt\":1,"
                         "\"discretization\":\"zoh\"}]}");
    model_dir_write_tensors(&dir, "model.safetensors", tensors, 4);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(operations__100000_in_random_order__are_answered_as_the_model_says, say_where),
    };

    return cmocka_run_group_tests_name("machine", tests, group_open, serving_group_close);
}
