/* SPDX-License-Identifier: Apache-2.0
 *
 * ssmd's command line: finds out what is wanted, reads the configuration, and hands both to daemon_run. Exit codes are
 * those of sysexits.h, so that a service manager can tell a wrong configuration (78, do not restart) from bad luck.
 */
#include "daemon/conf.h"
#include "daemon/daemon.h"
#include "daemon/log.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum action { ACTION_RUN, ACTION_CHECK, ACTION_PRINT, ACTION_EXAMPLE, ACTION_MAN };

struct options {
    enum action action;
    const char *config;
};

enum { KEY_CHECK = 256, KEY_PRINT, KEY_EXAMPLE, KEY_MAN };

static const struct argp_option option_table[] = {
    {"config", 'c', "FILE", 0, "Read this configuration; without it the built-in one is used", 0},
    {"check-config", KEY_CHECK, NULL, 0, "Say whether the configuration is right, and what memory it allows", 0},
    {"print-config", KEY_PRINT, NULL, 0, "Print the configuration with every key", 0},
    {"print-example", KEY_EXAMPLE, NULL, OPTION_HIDDEN, "Print daemon/ssmd.conf", 0},
    {"print-man", KEY_MAN, NULL, OPTION_HIDDEN, "Print the keys for docs/man/ssmd.conf.5", 0},
    {0},
};

static error_t option_take(int key, char *arg, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case 'c':
        options->config = arg;
        return 0;
    case KEY_CHECK:
        options->action = ACTION_CHECK;
        return 0;
    case KEY_PRINT:
        options->action = ACTION_PRINT;
        return 0;
    case KEY_EXAMPLE:
        options->action = ACTION_EXAMPLE;
        return 0;
    case KEY_MAN:
        options->action = ACTION_MAN;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "%s: ssmd takes options only", arg);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The keys of the configuration follow the options in --help. argp frees what this returns. */
static char *help_filter(int key, const char *text, void *input)
{
    char *keys = NULL;
    size_t size = 0;
    FILE *out;

    (void)input;
    if (key != ARGP_KEY_HELP_EXTRA)
        return (char *)text;
    out = open_memstream(&keys, &size);
    if (!out)
        return NULL;
    fprintf(out, "Keys of the configuration file (`key = value`), with their defaults:\n");
    conf_print_help(out);
    return fclose(out) == 0 ? keys : NULL;
}

static void version_print(FILE *out, struct argp_state *state)
{
    (void)state;
    fprintf(out, "ssmd %s\n", SSMD_VERSION);
}

/* One line for each error. A site of its own each, since none of them may be held back. */
static void report_log(struct conf_report *report)
{
    char *rest = report->text, *line;

    while ((line = strsep(&rest, "\n")) != NULL) {
        struct log_site site = {0};

        log_write(&site, LOG_ERR, "conf_refused", " error=%s", line);
    }
}

/* What was printed is on its way to a file, perhaps a full one: at every exit, argp's too. */
static void stdout_close(void)
{
    if (fclose(stdout) != 0) {
        fprintf(stderr, "ssmd: standard output: %s\n", strerror(errno));
        _exit(EX_IOERR);
    }
}

static int check(const struct options *options, const struct conf *conf)
{
    const char *name = options->config ? options->config : "the built-in configuration";

    printf("%s: ok; input, results and messages take at most %" PRIu64 " MiB, weights of models %" PRIu64
           " MiB more; states come on top\n",
           name, conf_memory_bytes(conf) >> 20, conf->model_memory >> 20);
    if (conf->models[0] && access(conf->models, R_OK | X_OK) != 0)
        fprintf(stderr, "%s: warning: models = %s: %s\n", name, conf->models, strerror(errno));
    if (conf->state_dir[0] && access(conf->state_dir, R_OK | W_OK | X_OK) != 0)
        fprintf(stderr, "%s: warning: state_dir = %s: %s\n", name, conf->state_dir, strerror(errno));
    return EX_OK;
}

static int run(const struct options *options, const struct conf *conf)
{
    log_set_level(log_level_find(conf->log_level));
    return daemon_run(conf, options->config);
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        .options = option_table,
        .parser = option_take,
        .doc = "Advance state-space models over many live streams of samples, served over ZeroMQ.",
        .help_filter = help_filter,
    };
    struct options options = {.action = ACTION_RUN};
    struct conf_report report;
    struct conf conf;

    atexit(stdout_close);
    argp_err_exit_status = EX_USAGE;
    argp_program_version_hook = version_print;
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    log_init(STDERR_FILENO, log_form_find(STDERR_FILENO), LOG_INFO);
    if (options.action == ACTION_EXAMPLE || options.action == ACTION_MAN) {
        (options.action == ACTION_MAN ? conf_print_man : conf_print_example)(stdout);
        return EX_OK;
    }
    if (conf_load(&conf, options.config, &report) != 0) {
        if (options.action == ACTION_RUN)
            report_log(&report);
        else
            fprintf(stderr, "%s\n", report.text);
        return EX_CONFIG;
    }
    if (options.action == ACTION_CHECK)
        return check(&options, &conf);
    if (options.action == ACTION_PRINT) {
        conf_print(&conf, stdout);
        return EX_OK;
    }
    return run(&options, &conf);
}
