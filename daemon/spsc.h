/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded ring from one thread to another, with an eventfd that becomes readable when something is in it. It holds
 * pointers (spsc_push, spsc_pop), or items of any size that are written and read where they lie (spsc_back, spsc_front).
 *
 * The writer wakes the reader only when the reader said that it was going to sleep, so that a busy pair costs no system
 * calls. The reader's order is: spsc_pop until empty, spsc_sleep (which looks once more), then wait on fd.
 *
 * Threads: spsc_push, spsc_back and spsc_back_done from one; spsc_pop, spsc_front, spsc_front_done and spsc_sleep from
 * one other; spsc_wake from any.
 */
#ifndef DAEMON_SPSC_H
#define DAEMON_SPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPSC_SLOTS 128 /* of a ring of pointers; more than the batches and models that can be on their way */

struct spsc {
    unsigned char *items;
    size_t item_bytes;
    unsigned slots; /* power of two */
    int fd;
    _Alignas(64) atomic_uint head; /* next to pop */
    _Alignas(64) atomic_uint tail; /* next to push */
    _Alignas(64) atomic_bool asleep;
};

/* A ring of SPSC_SLOTS pointers, or of `slots` (a power of two) items. 0, or -1 and errno. */
int spsc_init(struct spsc *queue);
int spsc_init_items(struct spsc *queue, unsigned slots, size_t item_bytes);
/* Also of one that was zeroed, or whose init failed. What is in it is the caller's. */
void spsc_fini(struct spsc *queue);

/* False when it is full. */
bool spsc_push(struct spsc *queue, void *pointer);
/* NULL when it is empty. */
void *spsc_pop(struct spsc *queue);

/* The item to fill, or NULL when the ring is full; spsc_back_done gives it to the reader. */
void *spsc_back(struct spsc *queue);
void spsc_back_done(struct spsc *queue);
/* The oldest item, or NULL when the ring is empty; spsc_front_done gives its room to the writer. */
void *spsc_front(struct spsc *queue);
void spsc_front_done(struct spsc *queue);

/* Announces sleep; false when something came in the meantime (pop it first). */
bool spsc_sleep(struct spsc *queue);
/* After spsc_sleep: the reader is awake. With `is_readable` the wake-up is taken off fd. */
void spsc_awake(struct spsc *queue, bool is_readable);
/* Wakes the reader, though nothing is in the ring: there is something else to look at. */
void spsc_wake(struct spsc *queue);

#endif
