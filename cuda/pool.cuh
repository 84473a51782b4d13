/* SPDX-License-Identifier: Apache-2.0
 *
 * Where the states of a program's slots lie: in places on the device, or, when there are more of them than places, in
 * pinned host memory until their next row.
 *
 * Places come in slabs that never move, as many as are needed, until the device has no more memory to give or
 * `resident` of them are there. Who leaves is who was not in a tile for longest, about (a hand goes round). Copies run
 * on a stream of their own, beside the tile that computes; the next tile waits for them by an event.
 *
 * A slot without a place and without host memory is fresh: all zero.
 *
 * Threads: any; a lock guards the tables, and is not held while a copy is waited for but by those who must have it.
 */
#ifndef CUDA_POOL_CUH
#define CUDA_POOL_CUH

#include <pthread.h>

#include "cuda/device.cuh"

struct cuda_place {
    int32_t slot;  /* who lies there; -1: nobody */
    int32_t next;  /* free one behind this free one; -1: none */
    uint32_t held; /* copies being made of it, on other threads */
    uint64_t tile; /* that last used it */
};

/* Pinned host memory for one state. */
struct cuda_buffer {
    unsigned char *bytes;
    struct cuda_buffer *next; /* behind it in its list */
};

struct cuda_pool {
    struct ssm_device *device;
    size_t state_bytes; /* of a state */
    size_t place_bytes; /* the same, as a multiple of 256 */
    uint32_t max_slots, most; /* places there may ever be */
    uint32_t slab_places;
    uint32_t places;     /* there are */
    int32_t free;        /* first of them that nobody has; -1: none */
    uint32_t hand;
    unsigned char **slab;     /* device: (most / slab_places) */
    struct cuda_place *place; /* (most) */
    int32_t *where;           /* (max_slots): place, or -1 */
    struct cuda_buffer **away; /* (max_slots): of those that once left; NULL. What it holds counts while the slot has no
                                  place */
    struct cuda_buffer *spare; /* buffers that nobody has */
    struct cuda_buffer *pinned; /* what was allocated for them: arrays of buffers, linked by their first one */
    cudaStream_t copies, images;
    cudaEvent_t arrived; /* of the copies for the next tile */
    pthread_mutex_t lock;
    int ready; /* streams, event and lock are there */
};

/* `least` places are there from the start. most = 0: as many as fit. A failed pool still needs cuda_pool_fini; a zeroed
 * one is legal there. */
int cuda_pool_init(struct cuda_pool *pool, struct ssm_device *device, size_t state_bytes, uint32_t max_slots,
                   uint32_t least, uint32_t most);
void cuda_pool_fini(struct cuda_pool *pool);

/* Gives each of the n slots of a tile a place, and *state[i] its address. `fresh[i]`: its contents do not matter.
 * tile: its number, from 1 on; done: the number of the last tile that is known to be finished; before: an event behind
 * all tiles submitted so far. *copied: whether the tile must wait for pool->arrived. SSM_NOMEM: nothing moved that
 * shows. */
int cuda_pool_place(struct cuda_pool *pool, uint32_t n, const int32_t *slot, const uint8_t *fresh,
                    unsigned char **state, uint64_t tile, uint64_t done, cudaEvent_t before, int *copied);
/* A state to or from host memory; waits. The slot is in no tile that is not finished. */
int cuda_pool_store(struct cuda_pool *pool, int32_t slot, void *states);
int cuda_pool_load(struct cuda_pool *pool, int32_t slot, const void *states);
int cuda_pool_copy(struct cuda_pool *pool, int32_t from, int32_t to);
void cuda_pool_forget(struct cuda_pool *pool, int32_t slot);

#endif
