/* SPDX-License-Identifier: Apache-2.0
 * Lines `publish` taken apart; see mapping.h. */
#include "daemon/mapping.h"
#include "daemon/clock.h"

#include <stdio.h>
#include <string.h>

static const char KNOWN[] = "model|rate|channels|gap|max_fill|source_ms|evict_ms";

static int refuse(char *why, size_t size, const char *text)
{
    snprintf(why, size, "%s", text);
    return -1;
}

/* An optional number: 0 when it is absent or right. */
static int count_take(const struct conf_rule *rule, const char *key, uint64_t low, uint64_t high, uint64_t *out,
                      char *why, size_t why_size)
{
    const char *text = conf_rule_find(rule, key);

    if (!text || conf_count_read(text, low, high, out) == 0)
        return 0;
    snprintf(why, why_size, "%s=%s: must be a number from %llu to %llu", key, text, (unsigned long long)low,
             (unsigned long long)high);
    return -1;
}

static int numbers_take(struct mapping *out, const struct conf_rule *rule, char *why, size_t size)
{
    uint64_t channels = 0, max_fill = MAPPING_MAX_FILL, source_ms = MAPPING_SOURCE_MS, evict_ms = 0;
    const char *rate = conf_rule_find(rule, "rate");

    if (rate && conf_real_read(rate, &out->rate) != 0)
        return refuse(why, size, "rate=: must be a positive number of Hz");
    if (count_take(rule, "channels", 1, 65536, &channels, why, size) != 0 ||
        count_take(rule, "max_fill", 0, MAPPING_MAX_FILL_MAX, &max_fill, why, size) != 0 ||
        count_take(rule, "source_ms", 1, 86400000, &source_ms, why, size) != 0 ||
        count_take(rule, "evict_ms", 0, UINT32_MAX, &evict_ms, why, size) != 0)
        return -1;
    out->channels = (uint32_t)channels;
    out->source.max_fill = max_fill;
    out->source.live_ns = source_ms * CLOCK_MS;
    out->has_evict_ms = conf_rule_find(rule, "evict_ms") != NULL;
    out->evict_ms = (uint32_t)evict_ms;
    return 0;
}

int mapping_parse(struct mapping *out, const char *text, char *why, size_t why_size)
{
    struct conf_rule rule;
    const char *word;
    int policy = GAP_RESET;

    memset(out, 0, sizeof(*out));
    if (conf_rule_split(&rule, text, why, why_size) != 0)
        return -1;
    if (strlen(rule.subject) > PROTO_ID_MAX)
        return refuse(why, why_size, "the prefix is longer than an id may be (64 bytes)");
    if ((word = conf_rule_unknown(&rule, KNOWN)) != NULL) {
        snprintf(why, why_size, "unknown word %s: the rule is %s", word, CONF_PUBLISH_FORM);
        return -1;
    }
    if (strcmp(rule.subject, "*") != 0) {
        snprintf(out->prefix, sizeof(out->prefix), "%s", rule.subject);
        out->prefix_size = (uint8_t)strlen(rule.subject);
    }
    if (!(word = conf_rule_find(&rule, "model")) || word[0] == '\0')
        return refuse(why, why_size, "model= is missing: the model that the published frames go through");
    snprintf(out->model, sizeof(out->model), "%s", word);
    if ((word = conf_rule_find(&rule, "gap")) != NULL && (policy = source_policy_find(word)) < 0)
        return refuse(why, why_size, "gap=: must be one of reset, hold, zero, refuse");
    out->source.gap = (enum gap_policy)policy;
    return numbers_take(out, &rule, why, why_size);
}

int mappings_parse(struct mappings *out, const struct conf_rules *rules, char *why, size_t why_size)
{
    memset(out, 0, sizeof(*out));
    for (uint32_t i = 0; i < rules->n; i++) {
        struct mapping *m = &out->of[i];

        if (mapping_parse(m, rules->item[i], why, why_size) != 0)
            return (int)i;
        for (uint32_t k = 0; k < i; k++) {
            if (m->prefix_size == out->of[k].prefix_size && strcmp(m->prefix, out->of[k].prefix) == 0) {
                refuse(why, why_size, "the prefix has a rule already");
                return (int)i;
            }
        }
        out->n++;
    }
    return -1;
}

struct mapping *mappings_find(struct mappings *mappings, const uint8_t *id, size_t size)
{
    struct mapping *best = NULL;

    for (uint32_t i = 0; i < mappings->n; i++) {
        struct mapping *m = &mappings->of[i];

        if (size >= m->prefix_size && (m->prefix_size == 0 || memcmp(id, m->prefix, m->prefix_size) == 0) &&
            (!best || m->prefix_size > best->prefix_size))
            best = m;
    }
    return best;
}
