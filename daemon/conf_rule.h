/* SPDX-License-Identifier: Apache-2.0
 *
 * A rule of the configuration, `SUBJECT key=value key=value ...`, taken apart. Who uses a kind of rule reads it with
 * this, and is asked by conf_load whether it is right, so that a daemon that starts has understood every line.
 *
 * Threads: reentrant.
 */
#ifndef DAEMON_CONF_RULE_H
#define DAEMON_CONF_RULE_H

#include "daemon/conf.h"

#define CONF_RULE_WORDS 16

struct conf_rule {
    char text[CONF_TEXT_SIZE]; /* what the pointers point into */
    const char *subject;
    uint32_t n;
    const char *key[CONF_RULE_WORDS], *value[CONF_RULE_WORDS];
};

/* 0, or -1 and in `why` what is wrong: no subject, a word that is not key=value, a key that comes twice. */
int conf_rule_split(struct conf_rule *out, const char *text, char *why, size_t why_size);
/* The value of a key, or NULL. */
const char *conf_rule_find(const struct conf_rule *rule, const char *key);
/* The first key that is none of the words in `known` ("rate|channels"), or NULL. */
const char *conf_rule_unknown(const struct conf_rule *rule, const char *known);

/* Values as the keys of the configuration have them: 0, or -1 when the text is not such a number in [low, high]. */
int conf_count_read(const char *text, uint64_t low, uint64_t high, uint64_t *out);
int conf_bytes_read(const char *text, uint64_t low, uint64_t high, uint64_t *out);
/* A finite number above 0. */
int conf_real_read(const char *text, double *out);

#endif
