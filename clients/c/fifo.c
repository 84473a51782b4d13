/* SPDX-License-Identifier: Apache-2.0
 *
 * The byte queue of fifo.h.
 */
#include "clients/c/fifo.h"

#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 256 };

void fifo_fini(struct fifo *f)
{
    free(f->data);
    *f = (struct fifo){0};
}

/* Makes room for n more bytes behind the contents. */
static int make_room(struct fifo *f, size_t n)
{
    size_t size = fifo_size(f);
    if (f->capacity - f->start - size >= n)
        return 0;
    if (n > SIZE_MAX / 4 || size > SIZE_MAX / 4)
        return -1;
    if (f->capacity >= 2 * (size + n)) {
        memmove(f->data, f->data + f->start, size);
        f->start = 0;
        return 0;
    }
    size_t capacity = f->capacity > SMALLEST ? f->capacity : SMALLEST;
    while (capacity < 2 * (size + n))
        capacity *= 2;
    uint8_t *data = malloc(capacity);
    if (!data)
        return -1;
    if (size > 0)
        memcpy(data, f->data + f->start, size);
    free(f->data);
    f->data = data;
    f->capacity = capacity;
    f->start = 0;
    return 0;
}

void *fifo_append(struct fifo *f, size_t n)
{
    if (make_room(f, n) != 0)
        return NULL;
    void *room = f->data + f->start + fifo_size(f);
    f->end += n;
    return room;
}

void *fifo_at(const struct fifo *f, uint64_t offset)
{
    return f->data + f->start + (size_t)(offset - f->begin);
}

void fifo_drop(struct fifo *f, uint64_t offset)
{
    f->start += (size_t)(offset - f->begin);
    f->begin = offset;
    if (f->begin == f->end)
        f->start = 0;
}

void fifo_clear(struct fifo *f)
{
    fifo_drop(f, f->end);
}
