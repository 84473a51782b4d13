/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames at i % capacity, marks in a ring of their own. Untimed results leave no marks until the first timed one; from
 * then on every append leaves one (adjacent equal ones merge), so that a frame's mark is the first whose end lies
 * beyond it.
 */
#include "daemon/ring.h"
#include "daemon/clock.h"

#include <stdlib.h>
#include <string.h>

#define HISTORY_BYTES (512u << 10) /* of rings that grow only for history, in one ms */
#define MARKS_MIN     16u

void ring_init(struct ring *ring, uint32_t channels)
{
    memset(ring, 0, sizeof(*ring));
    ring->channels = channels;
}

size_t ring_bytes(const struct ring *ring)
{
    return (size_t)ring->capacity * ring->channels * sizeof(float);
}

void ring_release(struct ring *ring, struct ring_budget *budget)
{
    budget->bytes -= ring_bytes(ring);
    free(ring->frames);
    free(ring->marks);
    ring->frames = NULL;
    ring->marks = NULL;
    ring->capacity = ring->mark_capacity = 0;
    ring->mark_lo = ring->mark_n = 0;
    ring->lo = ring->hi;
}

void ring_fini(struct ring *ring, struct ring_budget *budget)
{
    ring_release(ring, budget);
}

void ring_reset(struct ring *ring)
{
    ring->lo = ring->hi = 0;
    ring->mark_lo = ring->mark_n = 0;
}

int ring_copy(struct ring *to, const struct ring *from)
{
    size_t frames = ring_bytes(from), marks = from->mark_capacity * sizeof(*from->marks);

    *to = *from;
    to->frames = frames ? malloc(frames) : NULL;
    to->marks = marks ? malloc(marks) : NULL;
    if ((frames && !to->frames) || (marks && !to->marks)) {
        free(to->frames);
        free(to->marks);
        ring_init(to, from->channels);
        return -1;
    }
    if (frames)
        memcpy(to->frames, from->frames, frames);
    if (marks)
        memcpy(to->marks, from->marks, marks);
    return 0;
}

static struct ring_mark *mark_at(const struct ring *ring, uint32_t i)
{
    return &ring->marks[(ring->mark_lo + i) & (ring->mark_capacity - 1)];
}

/* The position of the first mark whose end lies beyond index; mark_n when there is none. */
static uint32_t mark_find(const struct ring *ring, uint64_t index)
{
    uint32_t from = 0, to = ring->mark_n;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;

        if (mark_at(ring, middle)->end > index)
            to = middle;
        else
            from = middle + 1;
    }
    return from;
}

uint64_t ring_room(const struct ring *ring, uint64_t keep, uint32_t most)
{
    uint64_t capacity = most > ring->capacity ? most : ring->capacity;
    uint64_t held = keep < ring->hi ? ring->hi - keep : 0;

    if (ring->mark_n - mark_find(ring, keep) > RING_MARKS_MAX - RING_MARKS_SPARE)
        return 0;
    return held < capacity ? capacity - held : 0;
}

static int frames_grow(struct ring *ring, struct ring_budget *budget, uint32_t capacity)
{
    size_t frame = ring->channels * sizeof(float);
    float *frames = malloc(capacity * frame);

    if (!frames)
        return -1;
    for (uint64_t i = ring->lo, n; i < ring->hi; i += n) { /* what lies together in both */
        uint64_t from = i & (ring->capacity - 1), to = i & (capacity - 1);

        n = ring->hi - i;
        n = n < ring->capacity - from ? n : ring->capacity - from;
        n = n < capacity - to ? n : capacity - to;
        memcpy(frames + to * ring->channels, ring->frames + from * ring->channels, n * frame);
    }
    free(ring->frames);
    budget->bytes += (uint64_t)(capacity - ring->capacity) * frame;
    ring->frames = frames;
    ring->capacity = capacity;
    return 0;
}

/* Growing only to keep what was received may wait: rings of streams that began together double together, and a hundred
 * times 256 KiB of new memory stopped the loop for 25 ms. */
static bool history_waits(struct ring_budget *budget, size_t bytes)
{
    if (budget->now_ns - budget->history_ns > CLOCK_MS) {
        budget->history_ns = budget->now_ns;
        budget->history_bytes = 0;
    }
    if (budget->history_bytes > 0 && budget->history_bytes + bytes > HISTORY_BYTES)
        return true;
    budget->history_bytes += bytes;
    return false;
}

int ring_reserve(struct ring *ring, struct ring_budget *budget, uint64_t keep, uint32_t frames, uint32_t most,
                 uint32_t floor)
{
    uint64_t held = keep < ring->hi ? ring->hi - keep : 0;
    uint64_t need = held + frames;                /* to go on */
    uint64_t want = ring->hi - ring->lo + frames; /* to keep what there is as well */
    uint64_t capacity = ring->capacity ? ring->capacity : 1;
    size_t frame = ring->channels * sizeof(float);

    if (want <= ring->capacity)
        return 0;
    while (capacity < want && capacity < most)
        capacity *= 2;
    while (capacity > ring->capacity && capacity / 2 >= need && capacity > floor &&
           budget->bytes + (capacity - ring->capacity) * frame > budget->limit)
        capacity /= 2;
    if (capacity < need)
        return -1;
    if (capacity > floor && capacity > ring->capacity &&
        budget->bytes + (capacity - ring->capacity) * frame > budget->limit)
        return ring->capacity >= need ? 0 : -1;
    if (capacity <= ring->capacity || (ring->capacity >= need && history_waits(budget, capacity * frame)))
        return 0;
    return frames_grow(ring, budget, (uint32_t)capacity) == 0 || ring->capacity >= need ? 0 : -1;
}

/* One more mark fits afterwards. When there are too many, the oldest frames go with theirs: they were received, since
 * ring_room keeps some marks spare. */
static void marks_grow(struct ring *ring)
{
    uint32_t capacity = ring->mark_capacity ? ring->mark_capacity * 2 : MARKS_MIN;
    uint32_t old = mark_find(ring, ring->lo);
    struct ring_mark *marks;

    ring->mark_lo += old;
    ring->mark_n -= old;
    if (ring->mark_n < ring->mark_capacity)
        return;
    marks = capacity <= RING_MARKS_MAX ? malloc(capacity * sizeof(*marks)) : NULL;
    if (!marks) {
        if (ring->mark_n > 0) {
            ring->lo = mark_at(ring, 0)->end;
            ring->mark_lo++;
            ring->mark_n--;
        }
        return;
    }
    for (uint32_t i = 0; i < ring->mark_n; i++)
        marks[i] = *mark_at(ring, i);
    free(ring->marks);
    ring->marks = marks;
    ring->mark_capacity = capacity;
    ring->mark_lo = 0;
}

static void mark_append(struct ring *ring, bool has_time, int64_t time)
{
    struct ring_mark *last = ring->mark_n > 0 ? mark_at(ring, ring->mark_n - 1) : NULL;

    if (last && last->has_time == has_time && last->time == time) {
        last->end = ring->hi;
        return;
    }
    marks_grow(ring);
    if (ring->mark_capacity == 0)
        return;
    *mark_at(ring, ring->mark_n++) = (struct ring_mark){ring->hi, time, has_time};
}

void ring_truncate(struct ring *ring, uint64_t hi)
{
    ring->hi = hi;
    if (ring->lo > hi)
        ring->lo = hi;
    while (ring->mark_n > 0 && mark_at(ring, ring->mark_n - 1)->end > hi) {
        bool begins_before = ring->mark_n > 1 ? mark_at(ring, ring->mark_n - 2)->end < hi : ring->lo < hi;

        if (begins_before) {
            mark_at(ring, ring->mark_n - 1)->end = hi;
            break;
        }
        ring->mark_n--;
    }
}

void ring_append(struct ring *ring, const float *samples, uint32_t frames, bool has_time, int64_t time)
{
    uint32_t done = 0;

    if (has_time && ring->mark_n == 0 && ring->hi > ring->lo) /* what came before had none */
        mark_append(ring, false, 0);
    while (done < frames) {
        uint32_t at = (uint32_t)(ring->hi & (ring->capacity - 1));
        uint32_t n = ring->capacity - at < frames - done ? ring->capacity - at : frames - done;

        memcpy(ring->frames + (size_t)at * ring->channels, samples + (size_t)done * ring->channels,
               (size_t)n * ring->channels * sizeof(float));
        ring->hi += n;
        done += n;
    }
    if (ring->hi - ring->lo > ring->capacity)
        ring->lo = ring->hi - ring->capacity;
    if (has_time || ring->mark_n > 0)
        mark_append(ring, has_time, time);
}

void ring_peek(const struct ring *ring, uint64_t index, uint32_t max, struct ring_piece *out)
{
    uint64_t end = ring->hi - index < max ? ring->hi : index + max;
    uint32_t at = (uint32_t)(index & (ring->capacity - 1));
    uint32_t found = mark_find(ring, index);
    const struct ring_mark *mark = found < ring->mark_n ? mark_at(ring, found) : NULL;

    out->has_time = mark && mark->has_time;
    out->time = out->has_time ? mark->time : 0;
    if (mark && mark->end < end)
        end = mark->end;
    out->frames = (uint32_t)(end - index);
    if (out->frames > ring->capacity - at)
        out->frames = ring->capacity - at;
    out->samples = ring->frames + (size_t)at * ring->channels;
}
