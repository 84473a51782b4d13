/* SPDX-License-Identifier: Apache-2.0
 * Words to bits and back; see features.h. */
#include "daemon/features.h"

#include <string.h>

static const char *const words_of[FEATURES_COUNT] = {
#define X(name, word) [FEATURE_BIT_##name] = (word),
    FEATURES(X)
#undef X
};

uint32_t features_grant(const Ssmd__Hello *hello)
{
    uint32_t granted = 0;

    for (size_t i = 0; i < hello->n_features; i++)
        for (uint32_t bit = 0; bit < FEATURES_COUNT; bit++)
            if (strcmp(hello->features[i], words_of[bit]) == 0)
                granted |= 1u << bit;
    return granted;
}

uint32_t features_words(uint32_t granted, char *words[FEATURES_COUNT])
{
    uint32_t n = 0;

    for (uint32_t bit = 0; bit < FEATURES_COUNT; bit++)
        if (granted & (1u << bit))
            words[n++] = (char *)words_of[bit];
    return n;
}

uint32_t features_needed(const Ssmd__FromClient *message)
{
    switch (message->request_case) {
    case SSMD__FROM_CLIENT__REQUEST_SNAPSHOT:
    case SSMD__FROM_CLIENT__REQUEST_FETCH:
    case SSMD__FROM_CLIENT__REQUEST_PUT:
    case SSMD__FROM_CLIENT__REQUEST_RESTORE:
    case SSMD__FROM_CLIENT__REQUEST_FORK:
    case SSMD__FROM_CLIENT__REQUEST_ROLLBACK:
        return FEATURE_IMAGES;
    case SSMD__FROM_CLIENT__REQUEST_OPEN:
        return (message->open->history ? FEATURE_IMAGES : 0) |
               (message->open->has_top_k || message->open->has_generates ? FEATURE_TOKENS : 0) |
               (message->open->class_ ? FEATURE_SCHEDULE : 0) | (message->open->has_native_rate ? FEATURE_RATES : 0);
    case SSMD__FROM_CLIENT__REQUEST_GENERATE:
    case SSMD__FROM_CLIENT__REQUEST_CANCEL:
        return FEATURE_TOKENS;
    case SSMD__FROM_CLIENT__REQUEST_RELOAD:
    case SSMD__FROM_CLIENT__REQUEST_MOVE:
        return FEATURE_VERSIONS;
    default:
        return 0;
    }
}
