/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of keys as people read it: --print-config, --help, the annotated ssmd.conf and the man page. The files that
 * are kept in the tree (daemon/ssmd.conf, the list in docs/man/ssmd.conf.5) are compared with what this writes by
 * tests/daemon/test_conf.c; `ssmd --print-example` and `ssmd --print-man` renew them.
 */
#include "daemon/conf.h"
#include "daemon/conf_key.h"

#include <string.h>

#define FILE_WIDTH     100
#define TERMINAL_WIDTH 76 /* argp wraps at 79 itself */

/* Words of `text` in lines of at most `width` columns, each after `indent`; the first line begins at column `at`. */
static void text_wrap(FILE *out, const char *text, const char *indent, size_t at, size_t width)
{
    while (*text != '\0') {
        size_t word = strcspn(text, " ");

        if (at + word + 1 > width) {
            fprintf(out, "\n%s", indent);
            at = strlen(indent);
        }
        at += (size_t)fprintf(out, " %.*s", (int)word, text);
        text += word + strspn(text + word, " ");
    }
    fputc('\n', out);
}

static const char *change_text(const struct conf_key *key)
{
    return key->change == CONF_live ? "Reloaded by SIGHUP." : "A change needs a restart.";
}

void conf_print(const struct conf *conf, FILE *out)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    char value[CONF_VALUE_SIZE], *rest, *line;

    for (size_t i = 0; i < n; i++) {
        conf_value_encode(&keys[i], conf, value);
        rest = value;
        while ((line = strsep(&rest, "\n")) != NULL) /* rules have a line each */
            fprintf(out, "%s =%s%s\n", keys[i].name, line[0] != '\0' ? " " : "", line);
    }
}

void conf_print_example(FILE *out)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    char range[256];

    fprintf(out, "# The configuration of ssmd. Every key is here, commented out, with its default.\n"
                 "#\n"
                 "# One `key = value` per line; a '#' begins a comment. Try a change before the daemon does:\n"
                 "#     ssmd --check-config --config FILE\n");
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "\n#");
        text_wrap(out, keys[i].help, "#", 1, FILE_WIDTH);
        conf_range_text(&keys[i], range, sizeof(range));
        fprintf(out, "# (%s) %s\n", range, change_text(&keys[i]));
        fprintf(out, "#%s =%s%s\n", keys[i].name, keys[i].standard[0] != '\0' ? " " : "", keys[i].standard);
    }
}

/* '-' and '\' mean something to roff, and so does a '.' or '\'' at the beginning of a line. */
static void roff_print(FILE *out, const char *text)
{
    if (text[0] == '.' || text[0] == '\'')
        fputs("\\&", out);
    for (; *text != '\0'; text++) {
        if (*text == '-' || *text == '\\')
            fputs(*text == '-' ? "\\-" : "\\e", out);
        else
            fputc(*text, out);
    }
}

void conf_print_man(FILE *out)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    char range[256];

    for (size_t i = 0; i < n; i++) {
        fprintf(out, ".TP\n.B %s\n", keys[i].name);
        roff_print(out, keys[i].help);
        conf_range_text(&keys[i], range, sizeof(range));
        fputs("\nValue: ", out);
        roff_print(out, range);
        fprintf(out, ". Default: ");
        roff_print(out, keys[i].standard[0] != '\0' ? keys[i].standard : "nothing");
        fprintf(out, ". %s\n", change_text(&keys[i]));
    }
}

void conf_print_help(FILE *out)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);

    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)fprintf(out, "  %-22s", keys[i].name);
        char text[1024];

        snprintf(text, sizeof(text), "%s [%s]", keys[i].help, keys[i].standard[0] != '\0' ? keys[i].standard : "empty");
        text_wrap(out, text, "                        ", at, TERMINAL_WIDTH);
    }
}
