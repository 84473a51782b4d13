/* SPDX-License-Identifier: Apache-2.0
 *
 * The tap: results and events of every stream, published on an XPUB for whoever watches. Lossy: a watcher that does not
 * keep up loses messages and nobody else notices. Nothing is encoded while nobody watches.
 *
 * Subscriptions are approved one by one (ZMQ_XPUB_MANUAL): a prefix no longer than an id and its NUL, and
 * tap_subscriptions at most. What libzmq itself keeps for subscriptions that were never approved is beyond our reach:
 * the tap belongs on ipc or loopback.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_TAP_H
#define DAEMON_TAP_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/counters.h"
#include "daemon/stream.h"

#define TAP_DRAIN 256 /* subscriptions looked at in one tick */

#define TAP_TEXT_BYTES  300 /* of an event's sentence; longer ones are cut */
#define TAP_EVENT_BYTES 400

struct tap {
    void *socket;                  /* NULL when it is off */
    uint32_t subscriptions, limit; /* tap_subscriptions; the loop thread may change it */
    struct counters *counters;
};

/* Take subscriptions. True when there may be more. */
bool tap_drain(struct tap *tap);
/* Results of a stream from output index `first` on. */
void tap_publish(struct tap *tap, const struct stream *stream, uint64_t first, const float *samples, uint32_t frames,
                 bool has_time, int64_t time, double rate);
void tap_publish_event(struct tap *tap, const struct stream *stream, Ssmd__Event__Kind kind);

/* What happened to published frames: an event with a sentence, of a stream or of an id that has none. */
struct tap_note {
    Ssmd__Event__Kind kind;
    const struct stream *stream; /* or NULL, then */
    const uint8_t *id;
    size_t id_size;
    uint64_t first, next; /* frames that it is about; none when equal */
    const char *text;
};
void tap_publish_note(struct tap *tap, const struct tap_note *note);

#endif
