/* SPDX-License-Identifier: Apache-2.0
 *
 * Sleep and push race on (asleep, tail): each side writes its own, then reads the other's, all sequentially consistent,
 * so that at least one of them sees the other.
 */
#include "daemon/spsc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int spsc_init(struct spsc *queue)
{
    return spsc_init_items(queue, SPSC_SLOTS, sizeof(void *));
}

int spsc_init_items(struct spsc *queue, unsigned slots, size_t item_bytes)
{
    memset(queue, 0, sizeof(*queue));
    queue->slots = slots;
    queue->item_bytes = item_bytes;
    queue->fd = -1;
    queue->items = calloc(slots, item_bytes);
    if (queue->items)
        queue->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return queue->fd < 0 ? -1 : 0;
}

void spsc_fini(struct spsc *queue)
{
    if (queue->items && queue->fd >= 0)
        close(queue->fd);
    free(queue->items);
    queue->items = NULL;
    queue->fd = -1;
}

void *spsc_back(struct spsc *queue)
{
    unsigned tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);

    if (tail - atomic_load_explicit(&queue->head, memory_order_acquire) == queue->slots)
        return NULL;
    return queue->items + (tail & (queue->slots - 1)) * queue->item_bytes;
}

void spsc_back_done(struct spsc *queue)
{
    atomic_store(&queue->tail, atomic_load_explicit(&queue->tail, memory_order_relaxed) + 1);
    if (atomic_exchange(&queue->asleep, false))
        spsc_wake(queue);
}

void *spsc_front(struct spsc *queue)
{
    unsigned head = atomic_load_explicit(&queue->head, memory_order_relaxed);

    if (head == atomic_load_explicit(&queue->tail, memory_order_acquire))
        return NULL;
    return queue->items + (head & (queue->slots - 1)) * queue->item_bytes;
}

void spsc_front_done(struct spsc *queue)
{
    unsigned head = atomic_load_explicit(&queue->head, memory_order_relaxed);

    atomic_store_explicit(&queue->head, head + 1, memory_order_release);
}

bool spsc_push(struct spsc *queue, void *pointer)
{
    void **item = spsc_back(queue);

    if (!item)
        return false;
    *item = pointer;
    spsc_back_done(queue);
    return true;
}

void *spsc_pop(struct spsc *queue)
{
    void **item = spsc_front(queue), *pointer;

    if (!item)
        return NULL;
    pointer = *item;
    spsc_front_done(queue);
    return pointer;
}

bool spsc_sleep(struct spsc *queue)
{
    atomic_store(&queue->asleep, true);
    if (atomic_load(&queue->tail) == atomic_load_explicit(&queue->head, memory_order_relaxed))
        return true;
    atomic_store(&queue->asleep, false);
    return false;
}

void spsc_awake(struct spsc *queue, bool is_readable)
{
    uint64_t count;

    atomic_store(&queue->asleep, false);
    if (is_readable)
        (void)!read(queue->fd, &count, sizeof(count));
}

void spsc_wake(struct spsc *queue)
{
    uint64_t one = 1;

    (void)!write(queue->fd, &one, sizeof(one));
}
