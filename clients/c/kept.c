/* SPDX-License-Identifier: Apache-2.0
 *
 * The kept frames of kept.h.
 */
#include "clients/c/kept.h"

#include <string.h>

void kept_fini(struct kept *k)
{
    fifo_fini(&k->samples);
    fifo_fini(&k->chunks);
}

void kept_restart(struct kept *k, uint64_t next)
{
    fifo_clear(&k->samples);
    fifo_clear(&k->chunks);
    k->sent = k->chunks.end;
    k->skip = 0;
    k->next = next;
}

int kept_push(struct kept *k, const struct kept_chunk *chunk, const void *samples)
{
    size_t bytes = (size_t)chunk->frames * chunk->frame_bytes;
    uint64_t offset = k->samples.end;
    void *room = fifo_append(&k->samples, bytes);
    if (!room)
        return -1;
    struct kept_chunk *slot = fifo_append(&k->chunks, sizeof *slot);
    if (!slot) {
        k->samples.end = offset;
        return -1;
    }
    memcpy(room, samples, bytes);
    *slot = *chunk;
    slot->first = k->next;
    slot->offset = offset;
    k->next += chunk->frames;
    return 0;
}

int kept_has_unsent(const struct kept *k)
{
    return k->sent < k->chunks.end;
}

int kept_unsent(const struct kept *k, struct kept_chunk *out, const void **samples)
{
    if (!kept_has_unsent(k))
        return 0;
    *out = *(const struct kept_chunk *)fifo_at(&k->chunks, k->sent);
    *samples = (const uint8_t *)fifo_at(&k->samples, out->offset) + (size_t)k->skip * out->frame_bytes;
    out->first += k->skip;
    out->frames -= k->skip;
    return 1;
}

void kept_mark_sent(struct kept *k)
{
    k->sent += sizeof(struct kept_chunk);
    k->skip = 0;
}

void kept_release(struct kept *k, uint64_t index)
{
    while (fifo_size(&k->chunks) > 0) {
        const struct kept_chunk *front = fifo_at(&k->chunks, k->chunks.begin);
        if (front->first + front->frames > index)
            return;
        fifo_drop(&k->samples, front->offset + (uint64_t)front->frames * front->frame_bytes);
        fifo_drop(&k->chunks, k->chunks.begin + sizeof *front);
        if (k->sent < k->chunks.begin) {
            k->sent = k->chunks.begin;
            k->skip = 0;
        }
    }
}

int kept_rewind(struct kept *k, uint64_t index)
{
    if (index > k->next || index < kept_first(k))
        return -1;
    k->sent = k->chunks.end;
    k->skip = 0;
    for (uint64_t at = k->chunks.begin; at < k->chunks.end; at += sizeof(struct kept_chunk)) {
        const struct kept_chunk *chunk = fifo_at(&k->chunks, at);
        if (chunk->first + chunk->frames <= index)
            continue;
        k->sent = at;
        k->skip = (uint32_t)(index - chunk->first);
        break;
    }
    return 0;
}

void kept_mark_backfill(struct kept *k)
{
    for (uint64_t at = k->sent; at < k->chunks.end; at += sizeof(struct kept_chunk))
        ((struct kept_chunk *)fifo_at(&k->chunks, at))->backfill = 1;
}

uint64_t kept_first(const struct kept *k)
{
    if (fifo_size(&k->chunks) == 0)
        return k->next;
    return ((const struct kept_chunk *)fifo_at(&k->chunks, k->chunks.begin))->first;
}

uint64_t kept_sent_index(const struct kept *k)
{
    if (!kept_has_unsent(k))
        return k->next;
    return ((const struct kept_chunk *)fifo_at(&k->chunks, k->sent))->first + k->skip;
}
