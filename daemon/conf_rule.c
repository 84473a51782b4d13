/* SPDX-License-Identifier: Apache-2.0
 * Words at blanks, keys at the first '='; see conf_rule.h. */
#include "daemon/conf_rule.h"
#include "daemon/conf_key.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int conf_rule_split(struct conf_rule *out, const char *text, char *why, size_t why_size)
{
    char *rest = out->text, *word;

    memset(out, 0, sizeof(*out));
    snprintf(out->text, sizeof(out->text), "%s", text);
    while ((word = strsep(&rest, " \t")) != NULL) {
        char *value = strchr(word, '=');

        if (word[0] == '\0')
            continue;
        if (!out->subject) {
            out->subject = word;
            continue;
        }
        if (!value || value == word || out->n == CONF_RULE_WORDS) {
            snprintf(why, why_size, value && value != word ? "%s: too many words" : "%s: must be of the form key=value",
                     word);
            return -1;
        }
        *value++ = '\0';
        if (conf_rule_find(out, word)) {
            snprintf(why, why_size, "%s is given twice", word);
            return -1;
        }
        out->key[out->n] = word;
        out->value[out->n++] = value;
    }
    if (out->subject)
        return 0;
    snprintf(why, why_size, "the rule is empty");
    return -1;
}

const char *conf_rule_find(const struct conf_rule *rule, const char *key)
{
    for (uint32_t i = 0; i < rule->n; i++)
        if (strcmp(rule->key[i], key) == 0)
            return rule->value[i];
    return NULL;
}

const char *conf_rule_unknown(const struct conf_rule *rule, const char *known)
{
    for (uint32_t i = 0; i < rule->n; i++)
        if (!conf_is_choice(known, rule->key[i]))
            return rule->key[i];
    return NULL;
}

int conf_count_read(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
    return conf_number_decode(text, text + strlen(text), 10, out) == 0 && *out >= low && *out <= high ? 0 : -1;
}

int conf_bytes_read(const char *text, uint64_t low, uint64_t high, uint64_t *out)
{
    return conf_bytes_decode(text, text + strlen(text), out) == 0 && *out >= low && *out <= high ? 0 : -1;
}

int conf_real_read(const char *text, double *out)
{
    char *end;

    *out = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*out) && *out > 0 ? 0 : -1;
}
