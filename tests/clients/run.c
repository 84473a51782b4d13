/* SPDX-License-Identifier: Apache-2.0
 *
 * See run.h.
 */
#include "tests/clients/run.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 32, WAIT_MS = 60000, SLICE_MS = 10 };

static void must(int is_true, const char *what)
{
    if (is_true)
        return;
    perror(what);
    abort();
}

static int open_temporary(char path[64])
{
    strcpy(path, "/tmp/ssmctl-test-XXXXXX");
    int fd = mkstemp(path);
    must(fd >= 0, "mkstemp");
    return fd;
}

void run_start(struct run *r, const char *endpoint, const char *input, const char *const *args)
{
    const char *build = getenv("BUILD");
    char program[512];
    char *argv[ARGUMENTS_MAX] = {program};
    snprintf(program, sizeof program, "%s/bin/ssmctl", build && *build ? build : "build");
    for (int i = 0; args[i]; i++) {
        must(i + 2 < ARGUMENTS_MAX, "too many arguments");
        argv[i + 1] = (char *)args[i];
    }
    *r = (struct run){0};
    int out = open_temporary(r->out_path), err = open_temporary(r->err_path);
    int in = open(input ? input : "/dev/null", O_RDONLY);
    must(in >= 0, input);
    r->pid = fork();
    must(r->pid >= 0, "fork");
    if (r->pid == 0) {
        dup2(in, STDIN_FILENO);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        setenv("SSMD_ENDPOINT", endpoint, 1);
        execv(program, argv);
        perror(program);
        _exit(127);
    }
    close(in);
    close(out);
    close(err);
}

char *run_read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    must(file != NULL, path);
    must(fseek(file, 0, SEEK_END) == 0, path);
    long n = ftell(file);
    rewind(file);
    char *bytes = calloc(1, (size_t)n + 1);
    must(bytes != NULL && fread(bytes, 1, (size_t)n, file) == (size_t)n, path);
    fclose(file);
    if (size)
        *size = (size_t)n;
    return bytes;
}

int run_wait(struct run *r)
{
    int status = 0;
    pid_t ended = 0;
    for (int i = 0; i < WAIT_MS / SLICE_MS && ended == 0; i++) {
        ended = waitpid(r->pid, &status, WNOHANG);
        if (ended == 0)
            usleep(SLICE_MS * 1000);
    }
    if (ended == 0) {
        kill(r->pid, SIGKILL);
        waitpid(r->pid, &status, 0);
    }
    r->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r->out = run_read_file(r->out_path, &r->out_size);
    r->err = run_read_file(r->err_path, NULL);
    unlink(r->out_path);
    unlink(r->err_path);
    return r->code;
}

void run_fini(struct run *r)
{
    free(r->out);
    free(r->err);
    r->out = r->err = NULL;
}
