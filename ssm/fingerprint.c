/* SPDX-License-Identifier: Apache-2.0
 * XXH3-128 over configuration and tensors; see fingerprint.h. Every text is hashed with its length, so that no two
 * lists of tensors run together to the same bytes. */
#include "ssm/fingerprint.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "ssm/model.h"

static int hash_bytes(void *state, const void *bytes, size_t size)
{
    return XXH3_128bits_update(state, bytes, size) == XXH_OK ? 0 : -1;
}

static int hash_number(void *state, uint64_t number)
{
    return hash_bytes(state, &number, sizeof(number));
}

static int hash_text(void *state, const char *text)
{
    return hash_number(state, strlen(text)) || hash_bytes(state, text, strlen(text)) ? -1 : 0;
}

/* A piece of the dump, as jansson hands it out. */
static int hash_json(const char *text, size_t size, void *state)
{
    return hash_bytes(state, text, size);
}

static int hash_tensor(void *state, const struct ssm_tensor *t)
{
    if (hash_text(state, t->name) || hash_text(state, t->dtype_word) || hash_number(state, t->rank))
        return -1;
    for (uint32_t i = 0; i < t->rank; i++)
        if (hash_number(state, t->dims[i]))
            return -1;
    return hash_bytes(state, t->data, t->bytes);
}

int ssm_fingerprint(unsigned char out[SSM_FINGERPRINT_BYTES], const json_t *config, struct ssm_tensors *tensors,
                    const char *file, struct ssm_error *err)
{
    XXH3_state_t *state = XXH3_createState();
    XXH128_canonical_t digest;
    int failed = !state || XXH3_128bits_reset(state) != XXH_OK ||
                 json_dump_callback(config, hash_json, state, JSON_COMPACT | JSON_SORT_KEYS);

    for (size_t i = 0; !failed && tensors && i < ssm_tensors_count(tensors); i++)
        failed = hash_tensor(state, ssm_tensors_at(tensors, i));
    if (!failed) {
        XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(state));
        memcpy(out, digest.digest, SSM_FINGERPRINT_BYTES);
    }
    XXH3_freeState(state);
    return failed ? ssm_error_set(err, SSM_NOMEM, "%s: out of memory", file) : SSM_OK;
}

void ssm_fingerprint_at_rate(unsigned char out[SSM_FINGERPRINT_BYTES],
                             const unsigned char source[SSM_FINGERPRINT_BYTES], double rate)
{
    char text[SSM_FINGERPRINT_BYTES + 48];
    XXH128_canonical_t digest;
    int n;

    memcpy(text, source, SSM_FINGERPRINT_BYTES);
    n = snprintf(text + SSM_FINGERPRINT_BYTES, sizeof(text) - SSM_FINGERPRINT_BYTES, "rate=%.9g", rate);
    XXH128_canonicalFromHash(&digest, XXH3_128bits(text, SSM_FINGERPRINT_BYTES + (size_t)n));
    memcpy(out, digest.digest, SSM_FINGERPRINT_BYTES);
}
