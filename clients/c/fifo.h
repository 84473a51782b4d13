/* SPDX-License-Identifier: Apache-2.0
 *
 * A byte queue whose contents are contiguous and are named by offsets that never repeat.
 *
 * Offsets count every byte ever appended, so that they stay true while the front is dropped and the memory moves.
 * The memory grows by doubling and moves its contents to the front when at least half of it is free, so a byte is moved
 * once on average. How much may be queued is the caller's to bound. Not thread safe.
 */
#ifndef SSMD_CLIENTS_C_FIFO_H
#define SSMD_CLIENTS_C_FIFO_H

#include <stddef.h>
#include <stdint.h>

struct fifo {
    uint8_t *data;
    size_t capacity;
    size_t start;        /* where `begin` lies in data */
    uint64_t begin, end; /* offsets of the first byte and of the one after the last */
};

/* An all-zero fifo is an empty one. */
void fifo_fini(struct fifo *f);
/* Room for n bytes at the end, to be filled by the caller: a pointer, or NULL without memory (nothing changed). Moves
 * the contents: earlier pointers die. */
void *fifo_append(struct fifo *f, size_t n);
/* begin <= offset < end; what follows lies behind it up to `end`. */
void *fifo_at(const struct fifo *f, uint64_t offset);
/* Forgets the bytes below `offset` (begin <= offset <= end). */
void fifo_drop(struct fifo *f, uint64_t offset);
/* Forgets everything; offsets go on. */
void fifo_clear(struct fifo *f);

static inline size_t fifo_size(const struct fifo *f)
{
    return (size_t)(f->end - f->begin);
}

#endif
