/* SPDX-License-Identifier: Apache-2.0
 *
 * There are at most two lanes for each of some tens of models, so choosing looks at all of them, once for a batch.
 */
#include "daemon/lane.h"
#include "daemon/models.h"

#include <stdlib.h>
#include <string.h>

#define CHILDREN 4

void lanes_init(struct lanes *lanes)
{
    TAILQ_INIT(&lanes->live);
    TAILQ_INIT(&lanes->backfill);
    lanes->owed_ns = 0;
}

void lane_init(struct lane *lane, struct site *site, bool is_backfill)
{
    *lane = (struct lane){.site = site, .is_backfill = is_backfill};
}

void lane_fini(struct lane *lane)
{
    free(lane->entry);
}

/* ---- the heap ---------------------------------------------------------------------------------------------------- */

static bool is_before(const struct lane_entry *a, const struct lane_entry *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void sift_up(struct lane *lane, uint32_t at, struct lane_entry entry)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / CHILDREN;

        if (!is_before(&entry, &lane->entry[parent]))
            break;
        lane->entry[at] = lane->entry[parent];
        at = parent;
    }
    lane->entry[at] = entry;
}

static void sift_down(struct lane *lane, uint32_t at, struct lane_entry entry)
{
    for (;;) {
        uint32_t first = at * CHILDREN + 1, least = first;

        if (first >= lane->n)
            break;
        for (uint32_t i = first + 1; i < first + CHILDREN && i < lane->n; i++)
            if (is_before(&lane->entry[i], &lane->entry[least]))
                least = i;
        if (!is_before(&lane->entry[least], &entry))
            break;
        lane->entry[at] = lane->entry[least];
        at = least;
    }
    lane->entry[at] = entry;
}

/* The last entry takes the place of the one at `at`. */
static void entry_drop(struct lanes *lanes, struct lane *lane, uint32_t at)
{
    struct lane_entry last = lane->entry[--lane->n];

    if (lane->n == 0 && lane->is_backfill)
        TAILQ_REMOVE(&lanes->backfill, lane, link);
    else if (lane->n == 0)
        TAILQ_REMOVE(&lanes->live, lane, link);
    if (at == lane->n)
        return;
    if (at > 0 && is_before(&last, &lane->entry[(at - 1) / CHILDREN]))
        sift_up(lane, at, last);
    else
        sift_down(lane, at, last);
}

bool lane_push(struct lanes *lanes, struct lane *lane, struct stream *stream, uint64_t due_ns)
{
    if (lane->n == lane->capacity) {
        uint32_t capacity = lane->capacity ? lane->capacity * 2 : 16;
        struct lane_entry *larger = realloc(lane->entry, capacity * sizeof(*larger));

        if (!larger)
            return false;
        lane->entry = larger;
        lane->capacity = capacity;
    }
    if (lane->is_backfill && TAILQ_EMPTY(&lanes->backfill) && lanes->owed_ns + LANE_WAIT_NS < due_ns)
        lanes->owed_ns = due_ns + LANE_WAIT_NS;
    if (lane->n == 0 && lane->is_backfill)
        TAILQ_INSERT_TAIL(&lanes->backfill, lane, link);
    else if (lane->n == 0)
        TAILQ_INSERT_TAIL(&lanes->live, lane, link);
    sift_up(lane, lane->n++, (struct lane_entry){due_ns, ++lane->numbers, stream});
    return true;
}

struct stream *lane_first(const struct lane *lane)
{
    return lane->n > 0 ? lane->entry[0].stream : NULL;
}

void lane_pop(struct lanes *lanes, struct lane *lane)
{
    entry_drop(lanes, lane, 0);
}

void lane_remove(struct lanes *lanes, struct lane *lane, const struct stream *stream)
{
    for (uint32_t i = 0; i < lane->n; i++) {
        if (lane->entry[i].stream != stream)
            continue;
        entry_drop(lanes, lane, i);
        return;
    }
}

/* ---- between lanes ----------------------------------------------------------------------------------------------- */

static uint64_t key_of(const struct lane *lane)
{
    return lane->entry[0].due_ns > lane->ahead_ns ? lane->entry[0].due_ns : lane->ahead_ns;
}

struct lane *lanes_choose(const struct lanes *lanes, uint64_t now_ns)
{
    bool is_backfill = TAILQ_EMPTY(&lanes->live) || (now_ns >= lanes->owed_ns && !TAILQ_EMPTY(&lanes->backfill));
    struct lane *lane = is_backfill ? TAILQ_FIRST(&lanes->backfill) : TAILQ_FIRST(&lanes->live), *best = lane;

    for (; lane; lane = TAILQ_NEXT(lane, link))
        if (key_of(lane) < key_of(best))
            best = lane;
    return best;
}

void lane_charge(struct lanes *lanes, struct lane *lane, uint64_t now_ns, uint64_t busy_ns)
{
    const struct lane *other = lane->is_backfill ? TAILQ_FIRST(&lanes->backfill) : TAILQ_FIRST(&lanes->live);
    uint64_t wanted = lane->site->model->priority, own = wanted; /* of all that want something, this one too */

    for (; other; other = TAILQ_NEXT(other, link))
        if (other != lane)
            wanted += other->site->model->priority;
    if (lane->ahead_ns + busy_ns < now_ns)
        lane->ahead_ns = now_ns - busy_ns;
    lane->ahead_ns += busy_ns * wanted / own;
    if (lane->ahead_ns > now_ns + LANE_AHEAD_NS)
        lane->ahead_ns = now_ns + LANE_AHEAD_NS;
    if (lane->is_backfill)
        lanes->owed_ns = now_ns + busy_ns * (LANE_BACKFILL - 1);
}
