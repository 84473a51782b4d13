/* SPDX-License-Identifier: Apache-2.0
 *
 * $BUILD/bin/ssmctl as a user runs it: arguments, standard input from a file, what it printed, its exit code.
 */
#ifndef TESTS_CLIENTS_RUN_H
#define TESTS_CLIENTS_RUN_H

#include <stddef.h>
#include <sys/types.h>

struct run {
    pid_t pid;
    int code;        /* exit code, or 128 + signal */
    char *out, *err; /* what it printed, after run_wait */
    size_t out_size;
    char out_path[64], err_path[64];
};

/* Starts it with these arguments after the name, NULL at the end; `input` is a path or NULL. Aborts when it cannot. */
void run_start(struct run *r, const char *endpoint, const char *input, const char *const *args);
/* Waits for its end (at most 60 s, then it is killed) and reads what it printed; its exit code. */
int run_wait(struct run *r);
void run_fini(struct run *r);
/* A whole file, with a 0 behind it; size may be NULL. To be freed. */
char *run_read_file(const char *path, size_t *size);

#endif
