/* SPDX-License-Identifier: Apache-2.0
 *
 * The publisher of a stream, as the stream sees it: which run writes it, which index is expected next of that run, and
 * what a chunk means that begins elsewhere. Arithmetic only: no sockets, streams or memory, so that every policy can be
 * tried alone.
 *
 * A run counts its frames as it likes: the first index that is heard of it is the stream's next frame, and from there
 * on the two go together. A run owns the stream until it was silent for live_ns; only then another one is taken.
 *
 * Threads: pure functions of what they are given.
 */
#ifndef DAEMON_SOURCE_H
#define DAEMON_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/codec.h"

/* What is done about frames that never came. */
enum gap_policy {
    GAP_RESET, /* the stream begins again with what follows the gap */
    GAP_HOLD,  /* the last frame is repeated */
    GAP_ZERO,  /* zeros stand in for them */
    GAP_REFUSE /* nothing more of this run is taken */
};

struct source_rule {
    enum gap_policy gap;
    uint64_t max_fill; /* frames: what is longer resets the stream */
    uint64_t live_ns;  /* silence after which another run may write */
};

struct source {
    bool is_known;
    uint8_t run[PROTO_SOURCE_BYTES];
    uint64_t next;     /* the run's index of the stream's next frame */
    uint64_t heard_ns; /* last */
};

enum source_verdict {
    SOURCE_ACCEPT,    /* take the frames behind `skip` */
    SOURCE_FILL,      /* ... behind `fill` frames that stand in for missing ones */
    SOURCE_RESET,     /* reset the stream, then take the chunk */
    SOURCE_DUPLICATE, /* all of it was taken before */
    SOURCE_GAP,       /* frames are missing, and the policy is to refuse */
    SOURCE_SECOND     /* another run is live */
};

struct source_judgement {
    enum source_verdict verdict;
    uint32_t skip;
    uint64_t fill;
};

/* Whether the run may write: it does already, or nobody does any more. */
bool source_may_write(const struct source *source, const struct source_rule *rule, const uint8_t *run, uint64_t now_ns);
/* A run that may write begins at its index `first`; nothing changes when it does already. True when it is new. */
bool source_begin(struct source *source, const uint8_t *run, uint64_t first);
/* Judge a chunk; changes nothing. `room` is how many frames the stream could queue at most: a gap that cannot be filled
 * within it is too long. The chunk ends below 2^64. */
void source_judge(const struct source *source, const struct source_rule *rule, uint64_t room, const uint8_t *run,
                  uint64_t first, uint32_t frames, uint64_t now_ns, struct source_judgement *out);

/* The policy of that name, or -1; and its name. */
int source_policy_find(const char *name);
const char *source_policy_name(enum gap_policy policy);

#endif
