/* SPDX-License-Identifier: Apache-2.0
 *
 * The daemon's handle of a stream to our stream: a hash table with chains through the streams themselves, so that a
 * stream costs no node, and as many buckets as streams.
 */
#include "clients/c/client.h"

#include <stdlib.h>

static size_t bucket_of(const struct ssmc *c, uint32_t handle)
{
    return (size_t)((handle * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (c->bucket_count - 1);
}

static int grow(struct ssmc *c)
{
    size_t count = c->bucket_count ? 2 * c->bucket_count : 16;
    struct ssmc_stream **old = c->buckets;
    size_t old_count = c->bucket_count;
    struct ssmc_stream **buckets = calloc(count, sizeof(struct ssmc_stream *));
    if (!buckets)
        return -1;
    c->buckets = buckets;
    c->bucket_count = count;
    for (size_t i = 0; i < old_count; i++)
        for (struct ssmc_stream *s = old[i], *next; s; s = next) {
            next = s->handle_next;
            size_t b = bucket_of(c, s->handle);
            s->handle_next = c->buckets[b];
            c->buckets[b] = s;
        }
    free(old);
    return 0;
}

int handle_add(struct ssmc *c, struct ssmc_stream *s, uint32_t handle)
{
    struct ssmc_stream *before = handle_find(c, handle);
    if (before && before->is_freed)
        ssmc_stream_free(before); /* the daemon has done with it, or it would not give the number again */
    else if (before)
        handle_remove(c, before);
    if (c->handle_count >= c->bucket_count && grow(c) != 0)
        return -1;
    s->handle = handle;
    s->has_handle = true;
    size_t b = bucket_of(c, handle);
    s->handle_next = c->buckets[b];
    c->buckets[b] = s;
    c->handle_count++;
    return 0;
}

void handle_remove(struct ssmc *c, struct ssmc_stream *s)
{
    if (!s->has_handle)
        return;
    struct ssmc_stream **at = &c->buckets[bucket_of(c, s->handle)];
    while (*at != s)
        at = &(*at)->handle_next;
    *at = s->handle_next;
    s->has_handle = false;
    c->handle_count--;
}

struct ssmc_stream *handle_find(const struct ssmc *c, uint32_t handle)
{
    if (c->bucket_count == 0)
        return NULL;
    struct ssmc_stream *s = c->buckets[bucket_of(c, handle)];
    while (s && s->handle != handle)
        s = s->handle_next;
    return s;
}
