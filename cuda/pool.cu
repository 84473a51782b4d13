/* SPDX-License-Identifier: Apache-2.0
 * See pool.cuh. */
#include "cuda/pool.cuh"

#include <stdlib.h>
#include <string.h>

#define SLAB_BYTES   ((size_t)64 << 20) /* about; more when one state is larger */
#define PINNED_BYTES ((size_t)4 << 20)  /* likewise */
#define MARGIN_BYTES ((size_t)512 << 20) /* of device memory that slabs leave to others */

void cuda_pool_fini(struct cuda_pool *pool)
{
    for (uint32_t i = 0; pool->slab && i < cuda_blocks(pool->places, pool->slab_places); i++)
        (void)cudaFree(pool->slab[i]);
    for (struct cuda_buffer *next, *at = pool->pinned; at; at = next) {
        next = at->next;
        (void)cudaFreeHost(at[1].bytes);
        free(at);
    }
    if (pool->arrived)
        (void)cudaEventDestroy(pool->arrived);
    if (pool->copies)
        (void)cudaStreamDestroy(pool->copies);
    if (pool->images)
        (void)cudaStreamDestroy(pool->images);
    if (pool->ready)
        pthread_mutex_destroy(&pool->lock);
    free(pool->slab);
    free(pool->place);
    free(pool->where);
    free(pool->away);
}

/* ---- under the lock ---------------------------------------------------------------------------------------------- */

static unsigned char *address(const struct cuda_pool *pool, uint32_t place)
{
    return pool->slab[place / pool->slab_places] + (size_t)(place % pool->slab_places) * pool->place_bytes;
}

/* One more slab, if the device has memory to spare. */
static int places_grow(struct cuda_pool *pool)
{
    uint32_t n = pool->most - pool->places < pool->slab_places ? pool->most - pool->places : pool->slab_places;
    size_t room = 0, all = 0;
    void *slab;
    int status;

    if (n == 0)
        return SSM_NOMEM;
    if ((status = cuda_check(pool->device, cudaMemGetInfo(&room, &all))))
        return status;
    if (pool->places > 0 && room < n * pool->place_bytes + MARGIN_BYTES)
        return SSM_NOMEM;
    if ((status = cuda_check(pool->device, cudaMalloc(&slab, n * pool->place_bytes))))
        return status;
    pool->slab[pool->places / pool->slab_places] = (unsigned char *)slab;
    for (uint32_t i = n; i-- > 0;) { /* the first one is used first */
        pool->place[pool->places + i] = (struct cuda_place){.slot = -1, .next = pool->free, .held = 0, .tile = 0};
        pool->free = (int32_t)(pool->places + i);
    }
    pool->places += n;
    return SSM_OK;
}

/* Makes spare buffers. The first of an array only links it to the others. */
static int pinned_grow(struct cuda_pool *pool)
{
    size_t n = PINNED_BYTES / pool->place_bytes;
    struct cuda_buffer *buffer;
    unsigned char *bytes;
    int status;

    n = n ? n : 1;
    buffer = (struct cuda_buffer *)calloc(n + 1, sizeof(*buffer));
    if (!buffer)
        return SSM_NOMEM;
    if ((status = cuda_check(pool->device, cudaMallocHost((void **)&bytes, n * pool->place_bytes)))) {
        free(buffer);
        return status;
    }
    buffer->next = pool->pinned;
    pool->pinned = buffer;
    for (size_t i = 0; i < n; i++) {
        buffer[1 + i].bytes = bytes + i * pool->place_bytes;
        buffer[1 + i].next = pool->spare;
        pool->spare = &buffer[1 + i];
    }
    return SSM_OK;
}

/* Host memory for the slot's state, in away[]. */
static int away_take(struct cuda_pool *pool, int32_t slot)
{
    int status;

    if (pool->away[slot])
        return SSM_OK;
    if (!pool->spare && (status = pinned_grow(pool)))
        return status;
    pool->away[slot] = pool->spare;
    pool->spare = pool->spare->next;
    return SSM_OK;
}

static void place_free(struct cuda_pool *pool, int32_t slot)
{
    int32_t at = pool->where[slot];

    if (at < 0)
        return;
    pool->place[at].slot = -1;
    pool->place[at].next = pool->free;
    pool->free = at;
    pool->where[slot] = -1;
}

/* Who leaves for a tile: the next that nobody holds, of those that no unfinished tile uses if there are any. -1: all are
 * in this tile, or held. */
static int32_t victim_find(struct cuda_pool *pool, uint64_t tile, uint64_t done)
{
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < pool->places; i++) {
            uint32_t at = pool->hand;
            const struct cuda_place *place = &pool->place[at];

            pool->hand = at + 1 == pool->places ? 0 : at + 1;
            if (place->held == 0 && place->tile < tile && (pass == 1 || place->tile <= done))
                return (int32_t)at;
        }
    return -1;
}

/* What one call of cuda_pool_place is about. */
struct placing {
    uint64_t tile, done;
    cudaEvent_t before;
    int waited; /* the copies wait for `before` already */
    int copied;
};

/* Copies into and out of a place wait for the last tile that used it. */
static int place_wait(struct cuda_pool *pool, struct placing *p, int32_t at)
{
    if (p->waited || pool->place[at].tile <= p->done)
        return SSM_OK;
    p->waited = 1;
    return cuda_check(pool->device, cudaStreamWaitEvent(pool->copies, p->before, 0));
}

/* The state at that place to host memory. */
static int place_leave(struct cuda_pool *pool, struct placing *p, int32_t at)
{
    int32_t slot = pool->place[at].slot;
    int status = away_take(pool, slot);

    if (status == SSM_OK)
        status = place_wait(pool, p, at);
    if (status == SSM_OK)
        status = cuda_check(pool->device, cudaMemcpyAsync(pool->away[slot]->bytes, address(pool, (uint32_t)at),
                                                          pool->state_bytes, cudaMemcpyDeviceToHost, pool->copies));
    p->copied = 1;
    if (status == SSM_OK)
        place_free(pool, slot);
    return status;
}

/* A place that nobody has, at the head of the free list. */
static int place_make(struct cuda_pool *pool, struct placing *p)
{
    int status;
    int32_t at;

    if (pool->free >= 0)
        return SSM_OK;
    if (pool->places < pool->most && (status = places_grow(pool)) != SSM_NOMEM)
        return status;
    at = victim_find(pool, p->tile, p->done);
    return at < 0 ? SSM_NOMEM : place_leave(pool, p, at);
}

static int slot_place(struct cuda_pool *pool, struct placing *p, int32_t slot, int fresh)
{
    int status = place_make(pool, p);
    int32_t at = pool->free;

    if (status)
        return status;
    if (!fresh && !pool->away[slot])
        return SSM_INVAL; /* libssm says it has consumed frames: nowhere */
    if (!fresh) {
        if ((status = place_wait(pool, p, at)))
            return status;
        status = cuda_check(pool->device, cudaMemcpyAsync(address(pool, (uint32_t)at), pool->away[slot]->bytes,
                                                          pool->state_bytes, cudaMemcpyHostToDevice, pool->copies));
        p->copied = 1;
    }
    if (status)
        return status;
    pool->free = pool->place[at].next;
    pool->place[at].slot = slot;
    pool->where[slot] = at;
    return SSM_OK;
}

/* ---- the interface ----------------------------------------------------------------------------------------------- */

int cuda_pool_init(struct cuda_pool *pool, struct ssm_device *device, size_t state_bytes, uint32_t max_slots,
                   uint32_t least, uint32_t most)
{
    int status;

    memset(pool, 0, sizeof(*pool));
    pool->device = device;
    pool->state_bytes = state_bytes;
    pool->place_bytes = state_bytes ? (state_bytes + 255) & ~(size_t)255 : 256;
    pool->max_slots = max_slots;
    pool->most = most && most < max_slots ? most : max_slots;
    pool->slab_places = (uint32_t)(SLAB_BYTES / pool->place_bytes);
    pool->slab_places = pool->slab_places < 1 ? 1 : pool->slab_places > 4096 ? 4096 : pool->slab_places;
    pool->slab_places = pool->slab_places > pool->most ? pool->most : pool->slab_places;
    pool->free = -1;
    pool->slab = (unsigned char **)calloc(cuda_blocks(pool->most, pool->slab_places), sizeof(*pool->slab));
    pool->place = (struct cuda_place *)calloc(pool->most, sizeof(*pool->place));
    pool->where = (int32_t *)malloc(max_slots * sizeof(*pool->where));
    pool->away = (struct cuda_buffer **)calloc(max_slots, sizeof(*pool->away));
    if (!pool->slab || !pool->place || !pool->where || !pool->away || pthread_mutex_init(&pool->lock, NULL) != 0)
        return SSM_NOMEM;
    pool->ready = 1;
    memset(pool->where, 0xff, max_slots * sizeof(*pool->where));
    status = cuda_check(device, cudaStreamCreateWithFlags(&pool->copies, cudaStreamNonBlocking));
    if (status == SSM_OK)
        status = cuda_check(device, cudaStreamCreateWithFlags(&pool->images, cudaStreamNonBlocking));
    if (status == SSM_OK)
        status = cuda_check(device, cudaEventCreateWithFlags(&pool->arrived, cudaEventDisableTiming));
    while (status == SSM_OK && pool->places < least)
        status = places_grow(pool);
    return status;
}

int cuda_pool_place(struct cuda_pool *pool, uint32_t n, const int32_t *slot, const uint8_t *fresh,
                    unsigned char **state, uint64_t tile, uint64_t done, cudaEvent_t before, int *copied)
{
    struct placing p = {.tile = tile, .done = done, .before = before, .waited = 0, .copied = 0};
    int status = SSM_OK;

    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < n; i++) /* those that are there must not leave for the others */
        if (pool->where[slot[i]] >= 0)
            pool->place[pool->where[slot[i]]].tile = tile;
    for (uint32_t i = 0; status == SSM_OK && i < n; i++) {
        if (pool->where[slot[i]] < 0)
            status = slot_place(pool, &p, slot[i], fresh[i]);
        if (status)
            break;
        pool->place[pool->where[slot[i]]].tile = tile;
        state[i] = address(pool, (uint32_t)pool->where[slot[i]]);
    }
    if (p.copied && status == SSM_OK)
        status = cuda_check(pool->device, cudaEventRecord(pool->arrived, pool->copies));
    *copied = p.copied;
    pthread_mutex_unlock(&pool->lock);
    return status;
}

/* It stays where it is meanwhile. */
int cuda_pool_store(struct cuda_pool *pool, int32_t slot, void *states)
{
    int32_t at;
    int status;

    pthread_mutex_lock(&pool->lock);
    at = pool->where[slot];
    if (at >= 0)
        pool->place[at].held++;
    pthread_mutex_unlock(&pool->lock);
    if (at < 0) { /* it may be on its way out */
        status = cuda_check(pool->device, cudaStreamSynchronize(pool->copies));
        if (status == SSM_OK && !pool->away[slot])
            return SSM_INVAL;
        if (status == SSM_OK)
            memcpy(states, pool->away[slot]->bytes, pool->state_bytes);
        return status;
    }
    status = cuda_check(pool->device, cudaMemcpyAsync(states, address(pool, (uint32_t)at), pool->state_bytes,
                                                      cudaMemcpyDeviceToHost, pool->images));
    if (status == SSM_OK)
        status = cuda_check(pool->device, cudaStreamSynchronize(pool->images));
    pthread_mutex_lock(&pool->lock);
    pool->place[at].held--;
    pthread_mutex_unlock(&pool->lock);
    return status;
}

/* The slot's host memory, to be written: nothing on its way to or from it, and no place that would count instead. */
static int away_open(struct cuda_pool *pool, int32_t slot)
{
    int status;

    pthread_mutex_lock(&pool->lock);
    place_free(pool, slot);
    status = away_take(pool, slot);
    pthread_mutex_unlock(&pool->lock);
    return status ? status : cuda_check(pool->device, cudaStreamSynchronize(pool->copies));
}

int cuda_pool_load(struct cuda_pool *pool, int32_t slot, const void *states)
{
    int status = away_open(pool, slot);

    if (status == SSM_OK)
        memcpy(pool->away[slot]->bytes, states, pool->state_bytes);
    return status;
}

int cuda_pool_copy(struct cuda_pool *pool, int32_t from, int32_t to)
{
    int status = away_open(pool, to);

    return status ? status : cuda_pool_store(pool, from, pool->away[to]->bytes);
}

void cuda_pool_forget(struct cuda_pool *pool, int32_t slot)
{
    pthread_mutex_lock(&pool->lock);
    place_free(pool, slot);
    if (pool->away[slot]) {
        pool->away[slot]->next = pool->spare;
        pool->spare = pool->away[slot];
        pool->away[slot] = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
}
