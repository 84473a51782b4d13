/* SPDX-License-Identifier: Apache-2.0
 *
 * Which published ids become streams, and how: the lines `publish` of the configuration. Of several prefixes that an id
 * begins with the longest counts.
 *
 *     publish = PREFIX|* model=SPEC [rate=HZ] [channels=N] [gap=reset|hold|zero|refuse] [max_fill=FRAMES]
 *               [source_ms=MS] [evict_ms=MS]
 *
 * Threads: pure functions of what they are given.
 */
#ifndef DAEMON_MAPPING_H
#define DAEMON_MAPPING_H

#include <stddef.h>
#include <stdint.h>

#include "daemon/conf_rule.h"
#include "daemon/source.h"

#define MAPPING_MAX_FILL     16384 /* frames, unless the rule says */
#define MAPPING_MAX_FILL_MAX 16777216
#define MAPPING_SOURCE_MS    3000 /* unless the rule says */

struct mapping {
    uint8_t prefix_size; /* 0: every id */
    char prefix[PROTO_ID_MAX + 1];
    char model[CONF_TEXT_SIZE];
    double rate;       /* 0: the model's */
    uint32_t channels; /* 0: the model's */
    struct source_rule source;
    bool has_evict_ms; /* else the configuration's */
    uint32_t evict_ms;
    uint64_t retry_ns; /* the model failed: not before */
};

struct mappings {
    uint32_t n;
    struct mapping of[CONF_RULES_MAX];
};

/* One line: 0, or -1 and in `why` what is wrong with it. */
int mapping_parse(struct mapping *out, const char *text, char *why, size_t why_size);
/* Every line. Returns the number of the first that is wrong, with `why`, or -1 when all are right. */
int mappings_parse(struct mappings *out, const struct conf_rules *rules, char *why, size_t why_size);
/* The one for the id, or NULL. */
struct mapping *mappings_find(struct mappings *mappings, const uint8_t *id, size_t size);

#endif
