/* SPDX-License-Identifier: Apache-2.0
 *
 * Sleep and push race on (asleep, tail): each side writes its own, then reads the other's, all sequentially consistent,
 * so that at least one of them sees the other.
 */
#include "daemon/spsc.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int spsc_init(struct spsc *queue)
{
    memset(queue, 0, sizeof(*queue));
    queue->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return queue->fd < 0 ? -1 : 0;
}

void spsc_fini(struct spsc *queue)
{
    if (queue->fd >= 0)
        close(queue->fd);
    queue->fd = -1;
}

bool spsc_push(struct spsc *queue, void *item)
{
    unsigned tail = atomic_load_explicit(&queue->tail, memory_order_relaxed);
    uint64_t one = 1;

    if (tail - atomic_load_explicit(&queue->head, memory_order_acquire) == SPSC_SLOTS)
        return false;
    queue->slot[tail % SPSC_SLOTS] = item;
    atomic_store(&queue->tail, tail + 1);
    if (atomic_exchange(&queue->asleep, false))
        (void)!write(queue->fd, &one, sizeof(one));
    return true;
}

void *spsc_pop(struct spsc *queue)
{
    unsigned head = atomic_load_explicit(&queue->head, memory_order_relaxed);
    void *item;

    if (head == atomic_load_explicit(&queue->tail, memory_order_acquire))
        return NULL;
    item = queue->slot[head % SPSC_SLOTS];
    atomic_store_explicit(&queue->head, head + 1, memory_order_release);
    return item;
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
