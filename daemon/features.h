/* SPDX-License-Identifier: Apache-2.0
 *
 * What a client may ask for in hello beyond the first protocol: one row here, and a check where it is used. A request
 * or a field whose feature was not granted is refused as one that the daemon does not know.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_FEATURES_H
#define DAEMON_FEATURES_H

#include <stdint.h>

#include "proto/codec.h"

/* member, word on the wire */
#define FEATURES(X)                                                                                                    \
    X(IMAGES, "images")                                                                                                \
    X(TOKENS, "tokens")                                                                                                \
    X(SCHEDULE, "schedule")                                                                                            \
    X(HISTOGRAMS, "histograms")                                                                                        \
    X(EVICTIONS, "evictions")                                                                                          \
    X(RATES, "rates")                                                                                                  \
    X(VERSIONS, "versions")

enum feature_bit {
#define X(name, word) FEATURE_BIT_##name,
    FEATURES(X)
#undef X
        FEATURES_COUNT
};

#define FEATURE_IMAGES     (1u << FEATURE_BIT_IMAGES)
#define FEATURE_TOKENS     (1u << FEATURE_BIT_TOKENS)
#define FEATURE_SCHEDULE   (1u << FEATURE_BIT_SCHEDULE)
#define FEATURE_HISTOGRAMS (1u << FEATURE_BIT_HISTOGRAMS)
#define FEATURE_EVICTIONS  (1u << FEATURE_BIT_EVICTIONS)
#define FEATURE_RATES      (1u << FEATURE_BIT_RATES)
#define FEATURE_VERSIONS   (1u << FEATURE_BIT_VERSIONS)

/* Those of the wished for that this daemon has. */
uint32_t features_grant(const Ssmd__Hello *hello);
/* Their words; how many. */
uint32_t features_words(uint32_t granted, char *words[FEATURES_COUNT]);
/* What a request needs: 0, or some of the above. */
uint32_t features_needed(const Ssmd__FromClient *message);

#endif
