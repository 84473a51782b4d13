/* SPDX-License-Identifier: Apache-2.0
 *
 * The states of one program: slots in slabs that never move, named by index and generation.
 *
 * Threads: acquire, reset and release belong to one thread (the owner of the streams); find may run at the same time on
 * another, for slots that are neither being acquired, reset nor released. The table of slabs is allocated once, so that
 * a growing pool does not move under a running advance.
 */
#ifndef SSM_POOL_H
#define SSM_POOL_H

#include "ssm/ssm.h"

#define SSM_SLAB_SLOTS 64u

struct ssm_slot_head { /* before the layers' states, 64 bytes */
    uint64_t frames;   /* consumed since fresh */
    uint32_t generation;
    uint32_t taken; /* 1 while a stream holds it */
    int32_t next_free;
    uint64_t batch; /* mark of the last advance that used it: a slot appears once per advance */
};

struct ssm_pool {
    size_t slot_bytes; /* head and states, multiple of 64 */
    uint32_t max_slots;
    _Atomic uint32_t
        slabs;    /* raised when the slab it counts is ready: a find on another thread sees the whole slab or none */
    int32_t free; /* index of the first free slot, -1 none */
    unsigned char **slab;
};

SSM_MUST_CHECK int ssm_pool_init(struct ssm_pool *pool, size_t state_bytes, uint32_t max_slots);
void ssm_pool_fini(struct ssm_pool *pool);
SSM_MUST_CHECK int ssm_pool_acquire(struct ssm_pool *pool, struct ssm_slot *out);
SSM_MUST_CHECK int ssm_pool_reset(struct ssm_pool *pool, struct ssm_slot slot);
void ssm_pool_release(struct ssm_pool *pool, struct ssm_slot slot);
/* NULL when the name is stale or no slot. */
struct ssm_slot_head *ssm_pool_find(const struct ssm_pool *pool, struct ssm_slot slot);
/* Makes the slot's state a fresh one. */
void ssm_pool_clear(const struct ssm_pool *pool, struct ssm_slot_head *head);
/* The layers' states of a slot. */
static inline unsigned char *ssm_slot_states(struct ssm_slot_head *head)
{
    return (unsigned char *)head + 64;
}

#endif
