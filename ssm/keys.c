/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the keys of one layer (or of another object of the configuration): type, range, and messages that name file,
 * layer and key, what was found and what would do.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssm/build.h"

const char *ssm_key_text(const json_t *value, char *text, size_t size)
{
    size_t n = json_dumpb(value, text, size, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    if (n == 0)
        snprintf(text, size, "nothing");
    else if (n < size)
        text[n] = '\0';
    else
        memcpy(text + size - 4, "...", 4);
    return text;
}

int ssm_key_check_known(struct ssm_build *b, const struct ssm_layer *l, const json_t *object, const char *const *keys)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        bool known = l && (strcmp(key, "type") == 0 || strcmp(key, "name") == 0);
        for (size_t i = 0; !known && keys[i]; i++)
            known = strcmp(key, keys[i]) == 0;
        if (!known)
            return ssm_fail(b, l, SSM_CONFIG, "unknown key '%.64s'", key);
    }
    return SSM_OK;
}

static int missing(struct ssm_build *b, const struct ssm_layer *l, const char *key)
{
    return ssm_fail(b, l, SSM_CONFIG, "key '%s' is missing", key);
}

int ssm_key_count(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, uint32_t *out,
                  uint32_t min, uint32_t max)
{
    char text[48];
    const json_t *value = json_object_get(keys, key);
    *out = 0;
    if (!value)
        return missing(b, l, key);
    json_int_t count = json_integer_value(value);
    if (!json_is_integer(value) || count < (json_int_t)min || count > (json_int_t)max)
        return ssm_fail(b, l, SSM_CONFIG, "key '%s' must be a whole number from %u to %u, not %s", key, min, max,
                        ssm_key_text(value, text, sizeof(text)));
    *out = (uint32_t)count;
    return SSM_OK;
}

int ssm_key_count_or(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, uint32_t *out,
                     uint32_t min, uint32_t max, uint32_t otherwise)
{
    *out = otherwise;
    return json_object_get(keys, key) ? ssm_key_count(b, l, keys, key, out, min, max) : SSM_OK;
}

int ssm_key_number(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, double *out,
                   double min, double max)
{
    char text[48];
    const json_t *value = json_object_get(keys, key);
    *out = 0;
    if (!value)
        return missing(b, l, key);
    double number = json_number_value(value);
    if (!json_is_number(value) || !isfinite(number) || !(number >= min && number <= max))
        return ssm_fail(b, l, SSM_CONFIG, "key '%s' must be a number from %.9g to %.9g, not %s", key, min, max,
                        ssm_key_text(value, text, sizeof(text)));
    *out = number;
    return SSM_OK;
}

int ssm_key_number_or(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, double *out,
                      double min, double max, double otherwise)
{
    *out = otherwise;
    return json_object_get(keys, key) ? ssm_key_number(b, l, keys, key, out, min, max) : SSM_OK;
}

int ssm_key_flag(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key, bool *out,
                 bool otherwise)
{
    char text[48];
    const json_t *value = json_object_get(keys, key);
    *out = otherwise;
    if (!value)
        return SSM_OK;
    if (!json_is_boolean(value))
        return ssm_fail(b, l, SSM_CONFIG, "key '%s' must be true or false, not %s", key,
                        ssm_key_text(value, text, sizeof(text)));
    *out = json_is_true(value);
    return SSM_OK;
}

int ssm_key_word(struct ssm_build *b, const struct ssm_layer *l, const json_t *keys, const char *key,
                 const char *const *words, int *out, int otherwise)
{
    char text[48], list[160] = "";
    const json_t *value = json_object_get(keys, key);
    *out = otherwise;
    if (!value)
        return otherwise >= 0 ? SSM_OK : missing(b, l, key);
    for (int i = 0; words[i]; i++) {
        if (json_is_string(value) && strcmp(words[i], json_string_value(value)) == 0) {
            *out = i;
            return SSM_OK;
        }
        size_t n = strlen(list);
        snprintf(list + n, sizeof(list) - n, i ? ", %s" : "%s", words[i]);
    }
    return ssm_fail(b, l, SSM_CONFIG, "key '%s' must be one of %s, not %s", key, list,
                    ssm_key_text(value, text, sizeof(text)));
}
