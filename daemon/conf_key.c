/* SPDX-License-Identifier: Apache-2.0
 *
 * Values of the configuration: from text, to text, and what they may be. What is written here can be read here, to the
 * same value; --print-config and the tests rely on it.
 */
#include "daemon/conf_key.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct conf_key keys[] = {
#define X(member, type, range, standard, reload, help)                                                                 \
    {#member,                                                                                                          \
     CONF_##type,                                                                                                      \
     range,                                                                                                            \
     standard,                                                                                                         \
     CONF_##reload,                                                                                                    \
     help,                                                                                                             \
     offsetof(struct conf, member),                                                                                    \
     sizeof(((struct conf *)0)->member)},
    CONF_KEYS(X)
#undef X
};

const struct conf_key *conf_keys(size_t *n)
{
    *n = sizeof(keys) / sizeof(keys[0]);
    return keys;
}

static void *member_of(const struct conf_key *key, struct conf *conf)
{
    return (char *)conf + key->offset;
}

static const void *member_of_const(const struct conf_key *key, const struct conf *conf)
{
    return (const char *)conf + key->offset;
}

int conf_number_decode(const char *text, const char *end, int base, uint64_t *out)
{
    char *stop;

    if (!isdigit((unsigned char)text[0]))
        return -1;
    errno = 0;
    *out = strtoull(text, &stop, base);
    return errno == 0 && stop == end ? 0 : -1;
}

int conf_bytes_decode(const char *text, const char *end, uint64_t *out)
{
    unsigned shift = 0;

    if (end == text)
        return -1;
    switch (toupper((unsigned char)end[-1])) {
    case 'K':
        shift = 10;
        break;
    case 'M':
        shift = 20;
        break;
    case 'G':
        shift = 30;
        break;
    default:
        return conf_number_decode(text, end, 10, out);
    }
    if (conf_number_decode(text, end - 1, 10, out) != 0 || *out > UINT64_MAX >> shift)
        return -1;
    *out <<= shift;
    return 0;
}

static int quantity_decode(const struct conf_key *key, const char *text, const char *end, uint64_t *out)
{
    if (key->type == CONF_BYTES)
        return conf_bytes_decode(text, end, out);
    return conf_number_decode(text, end, key->type == CONF_MODE ? 8 : 10, out);
}

static int in_range(const struct conf_key *key, uint64_t value)
{
    const char *dots = strstr(key->range, "..");
    uint64_t low = 0, high = 0;

    if (quantity_decode(key, key->range, dots, &low) != 0 ||
        quantity_decode(key, dots + 2, dots + strlen(dots), &high) != 0)
        return 0;
    return value >= low && value <= high;
}

int conf_is_choice(const char *range, const char *text)
{
    size_t size = strlen(text);

    while (*range != '\0') {
        size_t word = strcspn(range, "|");

        if (word == size && memcmp(range, text, size) == 0)
            return 1;
        range += word + (range[word] == '|');
    }
    return 0;
}

static int text_decode(const char *text, size_t size, char out[CONF_TEXT_SIZE])
{
    if (size >= CONF_TEXT_SIZE)
        return -1;
    memcpy(out, text, size);
    memset(out + size, 0, CONF_TEXT_SIZE - size);
    return 0;
}

static int list_decode(const char *text, struct conf_list *out)
{
    memset(out, 0, sizeof(*out));
    for (text += strspn(text, " \t,"); *text != '\0'; text += strspn(text, " \t,")) {
        size_t size = strcspn(text, " \t,");

        if (out->n == CONF_LIST_MAX || text_decode(text, size, out->item[out->n]) != 0)
            return -1;
        out->n++;
        text += size;
    }
    return out->n > 0 ? 0 : -1;
}

static int rule_add(const char *text, struct conf_rules *out)
{
    if (text[0] == '\0')
        return 0;
    if (out->n == CONF_RULES_MAX || text_decode(text, strlen(text), out->item[out->n]) != 0)
        return -1;
    out->n++;
    return 0;
}

int conf_value_decode(const struct conf_key *key, const char *text, struct conf *conf)
{
    void *member = member_of(key, conf);
    uint64_t value;

    switch (key->type) {
    case CONF_LIST:
        return list_decode(text, member);
    case CONF_RULES:
        return rule_add(text, member);
    case CONF_TEXT:
        return text_decode(text, strlen(text), member);
    case CONF_CHOICE:
        return conf_is_choice(key->range, text) ? text_decode(text, strlen(text), member) : -1;
    case CONF_SWITCH:
        if (!conf_is_choice(key->range, text))
            return -1;
        *(uint32_t *)member = strcmp(text, "yes") == 0;
        return 0;
    case CONF_COUNT:
    case CONF_MILLIS:
    case CONF_MODE:
    case CONF_BYTES:
        break;
    }
    if (quantity_decode(key, text, text + strlen(text), &value) != 0 || !in_range(key, value))
        return -1;
    if (key->type == CONF_BYTES)
        *(uint64_t *)member = value;
    else
        *(uint32_t *)member = (uint32_t)value;
    return 0;
}

static void bytes_encode(uint64_t value, char *out, size_t size)
{
    static const char units[] = "\0KMG";
    unsigned unit = 0;

    while (unit < 3 && value > 0 && value % 1024 == 0) {
        value /= 1024;
        unit++;
    }
    snprintf(out, size, "%" PRIu64 "%.1s", value, units + unit);
}

static void items_encode(const char (*item)[CONF_TEXT_SIZE], uint32_t n, const char *between, char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < n; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", i > 0 ? between : "", item[i]);
}

void conf_value_encode(const struct conf_key *key, const struct conf *conf, char out[CONF_VALUE_SIZE])
{
    const void *member = member_of_const(key, conf);

    switch (key->type) {
    case CONF_COUNT:
    case CONF_MILLIS:
        snprintf(out, CONF_VALUE_SIZE, "%u", *(const uint32_t *)member);
        break;
    case CONF_MODE:
        snprintf(out, CONF_VALUE_SIZE, "%04o", *(const uint32_t *)member);
        break;
    case CONF_SWITCH:
        snprintf(out, CONF_VALUE_SIZE, "%s", *(const uint32_t *)member ? "yes" : "no");
        break;
    case CONF_BYTES:
        bytes_encode(*(const uint64_t *)member, out, CONF_VALUE_SIZE);
        break;
    case CONF_LIST:
        items_encode(((const struct conf_list *)member)->item, ((const struct conf_list *)member)->n, " ", out,
                     CONF_VALUE_SIZE);
        break;
    case CONF_RULES:
        items_encode(((const struct conf_rules *)member)->item, ((const struct conf_rules *)member)->n, "\n", out,
                     CONF_VALUE_SIZE);
        break;
    case CONF_CHOICE:
    case CONF_TEXT:
        snprintf(out, CONF_VALUE_SIZE, "%s", (const char *)member);
        break;
    }
}

static const char *noun_of(const struct conf_key *key)
{
    switch (key->type) {
    case CONF_BYTES:
        return "bytes (with K, M or G)";
    case CONF_MILLIS:
        return "milliseconds";
    case CONF_MODE:
        return "an octal number";
    default:
        return "a number";
    }
}

void conf_range_text(const struct conf_key *key, char *out, size_t size)
{
    const char *dots = strstr(key->range, "..");
    size_t used;

    if (key->type == CONF_LIST) {
        snprintf(out, size, "1 to %d entries of at most %d bytes", CONF_LIST_MAX, CONF_TEXT_SIZE - 1);
    } else if (key->type == CONF_RULES) {
        snprintf(out, size, "%s, up to %d such lines", key->range, CONF_RULES_MAX);
    } else if (key->type == CONF_TEXT) {
        snprintf(out, size, "text of at most %d bytes", CONF_TEXT_SIZE - 1);
    } else if (dots) {
        snprintf(out, size, "%s from %.*s to %s", noun_of(key), (int)(dots - key->range), key->range, dots + 2);
    } else {
        used = (size_t)snprintf(out, size, "one of");
        for (const char *word = key->range; *word != '\0' && used < size;) {
            size_t length = strcspn(word, "|");

            used +=
                (size_t)snprintf(out + used, size - used, "%s %.*s", word > key->range ? "," : "", (int)length, word);
            word += length + (word[length] == '|');
        }
    }
}
