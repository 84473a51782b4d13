/* SPDX-License-Identifier: Apache-2.0
 *
 * Results of one stream that arrived and were not yet taken.
 *
 * Two sides: chunks are appended to `in`, and taken from `out`; when `out` is used up the sides change places. So what
 * was handed to the caller never moves while more arrives. Credit bounds what both hold (client.h). Chunks that follow
 * one another without a time are merged, so that one-sample results do not cost a record each.
 */
#ifndef SSMD_CLIENTS_C_RESULTS_H
#define SSMD_CLIENTS_C_RESULTS_H

#include <stddef.h>
#include <stdint.h>

struct result_chunk {
    uint64_t epoch, first;
    uint64_t lost; /* results missing just before `first` */
    size_t offset; /* in floats */
    int64_t time;
    uint32_t frames;
    int has_time;
};

struct results_side {
    float *samples;
    size_t used, capacity; /* floats */
    struct result_chunk *chunks;
    size_t count, chunk_capacity;
    size_t taken; /* chunks handed out */
};

struct results {
    struct results_side in, out;
    uint32_t channels;
    uint64_t waiting; /* bytes not handed out yet */
};

void results_fini(struct results *r);
/* Copies frames * channels floats, at any alignment; chunk->offset is filled in here. 0, or -1 without memory. */
int results_push(struct results *r, const struct result_chunk *chunk, const void *samples);
/* The oldest chunk and its samples, which live until the next call; 0 when there is none. */
int results_take(struct results *r, struct result_chunk *out, const float **samples);
/* Forgets what was not taken; what the caller holds stays where it is. */
void results_clear(struct results *r);

#endif
