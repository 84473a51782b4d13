/* SPDX-License-Identifier: Apache-2.0
 * Slots in slabs; see pool.h. */
#include "ssm/pool.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct ssm_slot_head) <= 64, "the states begin 64 bytes behind the head");

int ssm_pool_init(struct ssm_pool *pool, size_t state_bytes, uint32_t max_slots)
{
    size_t slabs = ((size_t)max_slots + SSM_SLAB_SLOTS - 1) / SSM_SLAB_SLOTS;

    memset(pool, 0, sizeof(*pool));
    pool->free = -1;
    if (max_slots == 0 || max_slots > INT32_MAX || state_bytes > SIZE_MAX / SSM_SLAB_SLOTS - 128)
        return SSM_INVAL;
    pool->slot_bytes = (64 + state_bytes + 63) & ~(size_t)63;
    pool->max_slots = max_slots;
    pool->slab = calloc(slabs, sizeof(*pool->slab));
    return pool->slab ? SSM_OK : SSM_NOMEM;
}

void ssm_pool_fini(struct ssm_pool *pool)
{
    for (uint32_t i = 0; i < pool->slabs; i++)
        free(pool->slab[i]);
    free(pool->slab);
    pool->slab = NULL;
}

static struct ssm_slot_head *head_at(const struct ssm_pool *pool, uint32_t index)
{
    unsigned char *at = pool->slab[index / SSM_SLAB_SLOTS] + (index % SSM_SLAB_SLOTS) * pool->slot_bytes;

    return (struct ssm_slot_head *)(void *)at;
}

static int pool_grow(struct ssm_pool *pool)
{
    uint32_t first = pool->slabs * SSM_SLAB_SLOTS, slots;
    unsigned char *slab;

    if (first >= pool->max_slots)
        return SSM_LIMIT;
    slots = pool->max_slots - first < SSM_SLAB_SLOTS ? pool->max_slots - first : SSM_SLAB_SLOTS;
    slab = aligned_alloc(64, slots * pool->slot_bytes);
    if (!slab)
        return SSM_NOMEM;
    pool->slab[first / SSM_SLAB_SLOTS] = slab;
    for (uint32_t i = slots; i-- > 0;) { /* the first slot of the slab ends up first in the list */
        struct ssm_slot_head *head = head_at(pool, first + i);

        memset(head, 0, sizeof(*head));
        head->next_free = pool->free;
        pool->free = (int32_t)(first + i);
    }
    pool->slabs++;
    return SSM_OK;
}

void ssm_pool_clear(const struct ssm_pool *pool, struct ssm_slot_head *head)
{
    head->frames = 0;
    memset(ssm_slot_states(head), 0, pool->slot_bytes - 64);
}

int ssm_pool_acquire(struct ssm_pool *pool, struct ssm_slot *out)
{
    struct ssm_slot_head *head;
    int status;

    *out = (struct ssm_slot){.index = -1};
    if (pool->free < 0 && (status = pool_grow(pool)))
        return status;
    out->index = pool->free;
    head = head_at(pool, (uint32_t)pool->free);
    pool->free = head->next_free;
    head->taken = 1;
    out->generation = ++head->generation;
    ssm_pool_clear(pool, head);
    return SSM_OK;
}

struct ssm_slot_head *ssm_pool_find(const struct ssm_pool *pool, struct ssm_slot slot)
{
    struct ssm_slot_head *head;

    if (slot.index < 0 || (uint32_t)slot.index >= pool->max_slots ||
        (uint32_t)slot.index / SSM_SLAB_SLOTS >= pool->slabs)
        return NULL;
    head = head_at(pool, (uint32_t)slot.index);
    return head->taken && head->generation == slot.generation ? head : NULL;
}

int ssm_pool_reset(struct ssm_pool *pool, struct ssm_slot slot)
{
    struct ssm_slot_head *head = ssm_pool_find(pool, slot);

    if (!head)
        return SSM_STALE;
    ssm_pool_clear(pool, head);
    return SSM_OK;
}

void ssm_pool_release(struct ssm_pool *pool, struct ssm_slot slot)
{
    struct ssm_slot_head *head = ssm_pool_find(pool, slot);

    if (!head)
        return;
    head->taken = 0;
    head->next_free = pool->free;
    pool->free = slot.index;
}
