/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside ssmctl: what its commands share. main.c has the table of commands and the global options; each command is one
 * function that parses its own options, prints its result to standard output and what went wrong to standard error, and
 * returns a code of sysexits.h (130 after Ctrl-C).
 */
#ifndef SSMD_CLIENTS_C_CTL_CTL_H
#define SSMD_CLIENTS_C_CTL_CTL_H

#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "clients/c/ssmclient.h"

enum { EXIT_INTERRUPTED = 130 };

struct ctl {
    const char *endpoint; /* NULL: the default */
    bool is_json;
    int timeout_ms;
    const char *command; /* for messages */
    struct ssmc *c;      /* after ctl_connect */
};

/* Ctrl-C or SIGTERM came. */
extern volatile sig_atomic_t ctl_is_interrupted;

/* One line to standard error, "ssmctl: " before it. */
void ctl_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same, and a hint at --help; EX_USAGE. */
int ctl_usage(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Connects: 0, or an exit code after saying why not. */
int ctl_connect(struct ctl *ctl);
/* Says what a status of libssmclient was and returns the exit code for it. `what` names what was tried. */
int ctl_fail(const struct ctl *ctl, int status, const char *what);
int ctl_exit_code(const struct ctl *ctl, int status);
/* Flushes standard output: 0, or EX_IOERR when something did not arrive there. */
int ctl_finish(void);
/* Prints and frees it; an exit code. */
int ctl_print_json(json_t *value);
/* Ids are bytes: JSON gets valid UTF-8, with every other byte as U+FFFD. */
json_t *ctl_json_bytes(const char *bytes, size_t size);
json_t *ctl_json_stream(const struct ssmc_stream_info *info);

/* Strict numbers: the whole word, within the range; false otherwise. */
bool ctl_parse_u64(const char *word, uint64_t min, uint64_t max, uint64_t *out);
bool ctl_parse_double(const char *word, double min, double max, double *out);

/* The commands; argv[0] is the command's name. */
typedef int ctl_command_fn(struct ctl *ctl, int argc, char **argv);
ctl_command_fn ctl_stream, ctl_generate, ctl_read, ctl_watch, ctl_open, ctl_close, ctl_reset, ctl_list, ctl_info,
    ctl_stats, ctl_models, ctl_ping, ctl_snapshot, ctl_restore, ctl_fork, ctl_rollback, ctl_publish, ctl_move,
    ctl_reload;

#endif
