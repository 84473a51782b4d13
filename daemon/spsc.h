/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded ring of pointers from one thread to another, with an eventfd that becomes readable when something is in it.
 *
 * The writer wakes the reader only when the reader said that it was going to sleep, so that a busy pair costs no system
 * calls. The reader's order is: spsc_pop until empty, spsc_sleep (which looks once more), then wait on fd.
 *
 * Threads: spsc_push from one, spsc_pop and spsc_sleep from one other.
 */
#ifndef DAEMON_SPSC_H
#define DAEMON_SPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define SPSC_SLOTS 128 /* power of two; more than the batches and models that can be on their way */

struct spsc {
    _Alignas(64) atomic_uint head; /* next to pop */
    _Alignas(64) atomic_uint tail; /* next to push */
    _Alignas(64) atomic_bool asleep;
    int fd;
    void *slot[SPSC_SLOTS];
};

int spsc_init(struct spsc *queue); /* 0, or -1 and errno */
void spsc_fini(struct spsc *queue);
/* False when it is full. */
bool spsc_push(struct spsc *queue, void *item);
/* NULL when it is empty. */
void *spsc_pop(struct spsc *queue);
/* Announces sleep; false when something came in the meantime (pop it first). */
bool spsc_sleep(struct spsc *queue);
/* After spsc_sleep: the reader is awake. With `is_readable` the wake-up is taken off fd. */
void spsc_awake(struct spsc *queue, bool is_readable);

#endif
