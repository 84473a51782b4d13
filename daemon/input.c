/* SPDX-License-Identifier: Apache-2.0
 *
 * Power-of-two blocks: at most half of one is wasted, and a stream whose chunks vary a little reuses the same ones.
 */
#include "daemon/input.h"

#include <stdlib.h>
#include <string.h>

#define INPUT_CLASS_MIN 8 /* 256 bytes */

void input_init(struct input *input, uint64_t limit)
{
    memset(input, 0, sizeof(*input));
    input->limit = limit;
}

static void class_drop(struct input *input, unsigned class)
{
    while (input->free[class]) {
        struct chunk *chunk = input->free[class];

        input->free[class] = chunk->next;
        input->bytes -= UINT64_C(1) << class;
        free(chunk);
    }
}

void input_fini(struct input *input)
{
    for (unsigned i = 0; i < INPUT_CLASSES; i++)
        class_drop(input, i);
}

static unsigned class_find(size_t size)
{
    unsigned class = INPUT_CLASS_MIN;

    while (class < INPUT_CLASSES && ((size_t)1 << class) < size)
        class ++;
    return class;
}

/* Other sizes hoard what this one needs: the largest first, since few of them make much room. */
static bool room_make(struct input *input, uint64_t size)
{
    for (unsigned i = INPUT_CLASSES; i-- > 0 && input->bytes + size > input->limit;)
        class_drop(input, i);
    return input->bytes + size <= input->limit;
}

struct chunk *input_acquire(struct input *input, size_t bytes)
{
    unsigned class = class_find(sizeof(struct chunk) + bytes);
    uint64_t size = UINT64_C(1) << class;
    struct chunk *chunk;

    if (class >= INPUT_CLASSES)
        return NULL;
    chunk = input->free[class];
    if (chunk) {
        input->free[class] = chunk->next;
    } else {
        if (input->bytes + size > input->limit && !room_make(input, size))
            return NULL;
        chunk = aligned_alloc(64, size);
        if (!chunk)
            return NULL;
        input->bytes += size;
    }
    memset(chunk, 0, sizeof(*chunk));
    chunk->class = (uint8_t) class;
    return chunk;
}

void input_release(struct input *input, struct chunk *chunk)
{
    if (!chunk)
        return;
    chunk->next = input->free[chunk->class];
    input->free[chunk->class] = chunk;
}
