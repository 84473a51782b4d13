/* SPDX-License-Identifier: Apache-2.0
 *
 * The rows of CONF_KEYS as data, for conf.c (which reads values), conf_print.c (which writes them) and their tests.
 */
#ifndef DAEMON_CONF_KEY_H
#define DAEMON_CONF_KEY_H

#include "daemon/conf.h"

enum conf_type {
    CONF_COUNT,
    CONF_BYTES,
    CONF_MILLIS,
    CONF_MODE,
    CONF_SWITCH,
    CONF_CHOICE,
    CONF_TEXT,
    CONF_LIST,
    CONF_RULES
};
enum conf_change { CONF_live, CONF_restart };

struct conf_key {
    const char *name;
    enum conf_type type;
    const char *range;
    const char *standard;
    enum conf_change change;
    const char *help;
    size_t offset, size; /* in struct conf */
};

/* Rows in the order of the table; *n gets their number. */
const struct conf_key *conf_keys(size_t *n);

/* Reads `text` into the key's member of conf; a rule is added to those that are there. Returns 0, or -1 when it is not a
 * value of the key's type and range. */
int conf_value_decode(const struct conf_key *key, const char *text, struct conf *conf);

#define CONF_VALUE_SIZE (CONF_RULES_MAX * CONF_TEXT_SIZE)
/* Writes the key's member of conf as conf_value_decode would read it; rules are separated by newlines. */
void conf_value_encode(const struct conf_key *key, const struct conf *conf, char out[CONF_VALUE_SIZE]);

/* What a value may be, in words: "a number from 1 to 256". */
void conf_range_text(const struct conf_key *key, char *out, size_t size);

/* For rules, whose values are written alike: a number of a base, or of bytes with K, M or G, from text to end and nothing
 * around it; whether a word is one of those in `range`, separated by '|'. */
int conf_number_decode(const char *text, const char *end, int base, uint64_t *out);
int conf_bytes_decode(const char *text, const char *end, uint64_t *out);
int conf_is_choice(const char *range, const char *text);

#endif
