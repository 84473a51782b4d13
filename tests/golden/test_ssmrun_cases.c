/* SPDX-License-Identifier: Apache-2.0
 *
 * Every golden case through the program: ssmrun in each mode, in chunks of several sizes, its output file against what
 * somebody else's code computed. A case of $GOLDEN that ssmrun says this version cannot run is skipped.
 */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "tests/golden/case.h"
#include "tests/ssm/model_dir.h"

static struct model_dir scratch;

/* Its exit code; 128 and more: it did not end by itself. */
static int ssmrun(const struct golden *g, const char *output, const char *mode, const char *chunk)
{
    const char *build = getenv("BUILD");
    char program[256], input[600];
    int status;
    pid_t pid;

    snprintf(program, sizeof(program), "%s/bin/ssmrun", build && *build ? build : "build");
    snprintf(input, sizeof(input), "%s/input.f32", g->dir);
    if (access(input, R_OK) != 0)
        snprintf(input, sizeof(input), "%s/input.i32", g->dir);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int nowhere = open("/dev/null", O_RDWR);

        dup2(nowhere, STDOUT_FILENO);
        execl(program, "ssmrun", "--model", g->dir, "--input", input, "--output", output, "--mode", mode, "--chunk",
              chunk, (char *)NULL);
        _exit(98);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* Reads exactly the frames that are expected. */
static void output_read(struct golden *g, const char *path)
{
    size_t n = g->out_frames * g->out_channels;
    FILE *file = fopen(path, "rb");

    assert_non_null(file);
    assert_int_equal(fread(g->out, sizeof(float), n + 1, file), n);
    fclose(file);
    unlink(path);
}

static void ssmrun__golden_case_in_every_mode_and_chunk__matches_the_reference(void **state)
{
    static const char *const modes[] = {"step", "scan", "conv"};
    struct golden *g = *state;
    char output[128], whole[24];
    const char *chunks[] = {"1", "7", "64", "501", whole};
    unsigned failures = 0;

    snprintf(output, sizeof(output), "%s/out.f32", scratch.path);
    golden_load(g);
    snprintf(whole, sizeof(whole), "%llu", (unsigned long long)g->steps);
    for (size_t m = 0; m < 3; m++)
        for (size_t c = 0; c < 5; c++) {
            int code = ssmrun(g, output, modes[m], chunks[c]);
            double error;

            if (code == EX_UNAVAILABLE && g->may_skip && m + c == 0) {
                golden_free(g);
                skip();
            }
            assert_int_equal(code, EX_OK);
            output_read(g, output);
            error = golden_error(g);
            if (!(error <= g->tolerance)) {
                print_error("%s: --mode %s --chunk %s: error %.3g, tolerance %.3g\n", g->dir, modes[m], chunks[c],
                            error, g->tolerance);
                failures++;
            }
        }
    golden_free(g);
    assert_int_equal(failures, 0);
}

static int setup(void **state)
{
    (void)state;
    model_dir_init(&scratch);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_dir_fini(&scratch);
    return 0;
}

int main(void)
{
    static struct golden cases[CASES_MAX];
    static struct CMUnitTest tests[CASES_MAX];
    size_t n = golden_find_all(cases, tests, ssmrun__golden_case_in_every_mode_and_chunk__matches_the_reference);

    return _cmocka_run_group_tests("ssmrun_cases", tests, n, setup, teardown);
}
