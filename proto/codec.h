/* SPDX-License-Identifier: Apache-2.0
 *
 * Bytes to messages and back: proto/ssmd.proto for daemon and clients alike. What the messages mean is in
 * proto/PROTOCOL.md.
 *
 * Bytes come from strangers. A decoded message lies in an arena that takes at most PROTO_ARENA_FACTOR times the size of
 * its bytes plus PROTO_ARENA_EXTRA: whatever would need more is refused (1 MiB of empty submessages would unpack to 76
 * MiB otherwise). Fields that this version does not know are refused at any depth, as are numbers that no enum has, and
 * columns whose lengths disagree.
 *
 * Memory: a decoded message lives until its arena's next decode. The arena grows to what the largest message needed and
 * stays there, so that a warm one allocates nothing.
 * Threads: an arena belongs to one thread; everything else is reentrant.
 * Errors: 0 or a negative enum proto_status; proto_status_text has a sentence.
 */
#ifndef PROTO_CODEC_H
#define PROTO_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/ssmd.pb-c.h"

#define PROTO_VERSION      1
#define PROTO_WRITER_BYTES 16
#define PROTO_ID_MAX       64
#define PROTO_SOURCE_BYTES 16 /* PublishHeader.source */

#define PROTO_ARENA_FACTOR                                                                                             \
    10 /* a packed uint64 takes 1 byte on the wire and 8 here; chunks of seven columns 40 for 7 */
#define PROTO_ARENA_EXTRA 16384

#define PROTO_FLAG_BACKFILL 1u /* DataHeader.flags */
#define PROTO_FLAG_TIME     2u /* DataHeader.flags: `time` is meaningful for this chunk */
#define PROTO_RESULT_TIME   1u /* ResultHeader.flags */

/* name, value, sentence */
#define PROTO_STATUSES(X)                                                                                              \
    X(OK, 0, "no error")                                                                                               \
    X(NOMEM, -1, "out of memory")                                                                                      \
    X(MALFORMED, -2, "not a message of this protocol")                                                                 \
    X(UNKNOWN, -3, "a field or number that this version of the protocol does not know")                                \
    X(COLUMNS, -4, "the columns of the header differ in length")                                                       \
    X(PAYLOAD, -5, "the payload is not as long as the header says")                                                    \
    X(FORMAT, -6, "a sample format that this version of the protocol does not know")                                   \
    X(SAMPLE, -7, "a sample is not finite or a token is outside the vocabulary")

enum proto_status {
#define X(name, value, text) PROTO_##name = (value),
    PROTO_STATUSES(X)
#undef X
};

/* The sentence for a status; never NULL. */
const char *proto_status_text(int status);

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

struct proto_arena {
    unsigned char *base;
    size_t size, used;
    size_t limit;  /* of the message being decoded */
    bool overflow; /* the last decode ran into it */
};

void proto_arena_init(struct proto_arena *arena);
void proto_arena_fini(struct proto_arena *arena);

/* Decode one part. On failure *out is NULL. The columns of Credit, Ack, DataHeader, ResultHeader and
 * StreamImage have been compared. */
int proto_from_client_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__FromClient **out);
int proto_from_daemon_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__FromDaemon **out);
int proto_data_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__DataHeader **out);
int proto_publish_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__PublishHeader **out);
int proto_result_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__ResultHeader **out);
int proto_tap_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__TapHeader **out);
int proto_stream_image_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__StreamImage **out);
int proto_event_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__Event **out);

/* ---- chunks of a data message ------------------------------------------------------------------------------------ */

struct proto_chunk {
    uint32_t handle;
    uint32_t frames;
    uint64_t epoch;
    uint64_t first;
    uint32_t format;
    uint32_t flags; /* PROTO_FLAG_* */
    int64_t time;
};

/* Chunk i (< header->n_handle). PROTO_FLAG_TIME is in flags exactly when `time` is meaningful. */
void proto_chunk_take(const Ssmd__DataHeader *header, size_t i, struct proto_chunk *out);

/* Bytes of one sample; 0 for a format that is none. */
size_t proto_sample_bytes(uint32_t format);

/* Where a chunk's samples lie: `*offset` is where the previous ended, and moves behind this one's. PROTO_FORMAT, or
 * PROTO_PAYLOAD when they would end beyond `size`; never overflows. channels is 1 to 2^32-1. */
int proto_payload_take(uint32_t format, uint32_t frames, uint32_t channels, size_t size, size_t *offset, size_t *bytes);

/* Samples to what models take: float32 (s16 and s32 divided by 2^15 and 2^31, f64 rounded), every one finite. `in` is
 * little-endian at any alignment. PROTO_SAMPLE and the offending sample in *where, the rest of out then undefined.
 * n counts samples (frames * channels). */
int proto_signal_decode(uint32_t format, const void *in, size_t n, float *out, size_t *where);
/* The same for tokens, PROTO_FORMAT unless format is I32LE: every one in [0, vocab). */
int proto_tokens_decode(uint32_t format, const void *in, size_t n, uint32_t vocab, int32_t *out, size_t *where);

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

/* The size of a message and its bytes; out has proto_size(message) bytes. */
size_t proto_size(const ProtobufCMessage *message);
void proto_encode(const ProtobufCMessage *message, void *out);

#endif
