/* SPDX-License-Identifier: Apache-2.0
 *
 * The queue of results.h.
 */
#include "clients/c/results.h"

#include <stdlib.h>
#include <string.h>

static void side_fini(struct results_side *side)
{
    free(side->samples);
    free(side->chunks);
}

void results_fini(struct results *r)
{
    side_fini(&r->in);
    side_fini(&r->out);
    *r = (struct results){0};
}

/* realloc to at least `need` elements of `size` bytes, by doubling; the same pointer when there is room, NULL without
 * memory. */
static void *grown(void *data, size_t *capacity, size_t need, size_t size)
{
    if (need <= *capacity)
        return data;
    size_t n = *capacity ? *capacity : 64;
    while (n < need) {
        if (n > SIZE_MAX / 2 / size)
            return NULL;
        n *= 2;
    }
    void *larger = realloc(data, n * size);
    if (larger)
        *capacity = n;
    return larger;
}

static int is_continuation(const struct results_side *in, const struct result_chunk *chunk)
{
    if (in->count == 0 || chunk->has_time || chunk->lost > 0)
        return 0;
    const struct result_chunk *last = &in->chunks[in->count - 1];
    return !last->has_time && last->epoch == chunk->epoch && last->first + last->frames == chunk->first &&
           last->frames <= UINT32_MAX - chunk->frames;
}

int results_push(struct results *r, const struct result_chunk *chunk, const void *samples)
{
    struct results_side *in = &r->in;
    size_t n = (size_t)chunk->frames * r->channels;
    if (n > SIZE_MAX / sizeof(float) / 2 - in->used)
        return -1;
    float *room = grown(in->samples, &in->capacity, in->used + n, sizeof(float));
    if (!room)
        return -1;
    in->samples = room;
    if (is_continuation(in, chunk)) {
        in->chunks[in->count - 1].frames += chunk->frames;
    } else {
        struct result_chunk *chunks = grown(in->chunks, &in->chunk_capacity, in->count + 1, sizeof *in->chunks);
        if (!chunks)
            return -1;
        in->chunks = chunks;
        in->chunks[in->count] = *chunk;
        in->chunks[in->count].offset = in->used;
        in->count++;
    }
    memcpy(in->samples + in->used, samples, n * sizeof(float));
    in->used += n;
    r->waiting += n * sizeof(float);
    return 0;
}

int results_take(struct results *r, struct result_chunk *out, const float **samples)
{
    if (r->out.taken == r->out.count) {
        struct results_side spent = r->out;
        r->out = r->in;
        spent.used = spent.count = spent.taken = 0;
        r->in = spent;
    }
    if (r->out.taken == r->out.count)
        return 0;
    *out = r->out.chunks[r->out.taken++];
    *samples = r->out.samples + out->offset;
    r->waiting -= (uint64_t)out->frames * r->channels * sizeof(float);
    return 1;
}

void results_clear(struct results *r)
{
    r->in.used = r->in.count = r->in.taken = 0;
    r->out.taken = r->out.count;
    r->waiting = 0;
}
