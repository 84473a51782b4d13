/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a message part of the protocol: the first byte says which, the rest is the part. A data header's chunks
 * are laid over a payload as long as the part, and its samples decoded.
 */
#include <stdlib.h>

#include "proto/codec.h"
#include "tests/fuzz/fuzz.h"

static void read_chunks(const Ssmd__DataHeader *header, const uint8_t *payload, size_t size)
{
    size_t offset = 0;
    for (size_t i = 0; i < header->n_handle; i++) {
        struct proto_chunk chunk;
        size_t begin = offset, bytes = 0, where;
        proto_chunk_take(header, i, &chunk);
        if (proto_payload_take(chunk.format, chunk.frames, 1 + chunk.handle % 7, size, &offset, &bytes))
            return;
        if (offset > size || offset - begin != bytes)
            abort(); /* accepted what lies outside */
        size_t samples = bytes / proto_sample_bytes(chunk.format);
        float *out = malloc(samples * sizeof(float) + 1);
        if (out && proto_signal_decode(chunk.format, payload + begin, samples, out, &where) == PROTO_SAMPLE &&
            where >= samples)
            abort();
        free(out);
    }
}

int fuzz_codec(const uint8_t *bytes, size_t size)
{
    struct proto_arena arena;
    Ssmd__FromClient *request;
    Ssmd__FromDaemon *answer;
    Ssmd__DataHeader *data;
    Ssmd__ResultHeader *result;
    Ssmd__TapHeader *tap;
    Ssmd__Event *event;
    Ssmd__PublishHeader *publish;
    if (size == 0)
        return 0;
    const uint8_t *part = bytes + 1;
    proto_arena_init(&arena);
    switch (bytes[0] % 7) {
    case 0:
        (void)!proto_from_client_decode(&arena, part, size - 1, &request);
        break;
    case 1:
        (void)!proto_from_daemon_decode(&arena, part, size - 1, &answer);
        break;
    case 2:
        if (proto_data_header_decode(&arena, part, size - 1, &data) == PROTO_OK)
            read_chunks(data, part, size - 1);
        break;
    case 3:
        (void)!proto_result_header_decode(&arena, part, size - 1, &result);
        break;
    case 4:
        (void)!proto_tap_header_decode(&arena, part, size - 1, &tap);
        break;
    case 5:
        (void)!proto_event_decode(&arena, part, size - 1, &event);
        break;
    default:
        (void)!proto_publish_header_decode(&arena, part, size - 1, &publish);
        break;
    }
    if (arena.size > PROTO_ARENA_FACTOR * size + 2 * PROTO_ARENA_EXTRA)
        abort(); /* took more than it may */
    proto_arena_fini(&arena);
    return 0;
}
