/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory for frames that were accepted and are not yet applied: one block for each chunk, from free lists by size.
 *
 * Bounded by input_memory: blocks in use and on the lists count alike, and when the bound is reached the lists of other
 * sizes are given back first. After warm-up nothing is allocated.
 *
 * Threads: acquire and release on the loop thread; the engine reads samples of chunks that are on their way.
 */
#ifndef DAEMON_INPUT_H
#define DAEMON_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INPUT_CLASSES 32 /* block sizes are powers of two */

/* Frames of one stream, converted: what one chunk of a message becomes. */
struct chunk {
    struct chunk *next;
    uint64_t first; /* absolute index of frame 0 */
    int64_t time;
    uint64_t arrived_ns; /* when it was accepted; 0: not the sender's */
    uint64_t due_ns;     /* its results are wanted by then (stream_due); 0: backfill, nobody waits for it */
    uint32_t frames;
    uint32_t used; /* frames that rows have taken */
    uint8_t class; /* of its block */
    bool backfill;
    bool has_time;
    bool flush;                   /* zeros that push the tail out; not the sender's */
    _Alignas(16) float samples[]; /* (frames, channels); int32 for tokens */
};

struct input {
    uint64_t limit; /* bytes; the loop thread may change it */
    uint64_t bytes; /* in use and on the lists */
    struct chunk *free[INPUT_CLASSES];
};

void input_init(struct input *input, uint64_t limit);
void input_fini(struct input *input); /* every chunk was released */
/* A chunk with room for `bytes` of samples, its header zeroed; NULL when input_memory is used up. */
struct chunk *input_acquire(struct input *input, size_t bytes);
void input_release(struct input *input, struct chunk *chunk); /* NULL is legal */

#endif
