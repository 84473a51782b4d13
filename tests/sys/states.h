/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests about states, by hand (wire.h): snapshot and fetch, put and restore, fork, rollback. Each waits for its
 * answers and returns the enum Code of the first that refuses; w->reply has the last.
 */
#ifndef TESTS_SYS_STATES_H
#define TESTS_SYS_STATES_H

#include "tests/sys/wire.h"

struct states_image {
    unsigned char *bytes; /* free() */
    size_t size;
    uint64_t epoch, index;
    size_t pieces;
};

/* A connection that was granted the feature "images". */
struct wire *states_wire_new(const char *endpoint, const char *writer);

int states_snapshot(struct wire *w, const char *id, struct states_image *out);
/* Only the first answer: the image's number. */
int states_snapshot_begin(struct wire *w, const char *id, uint32_t *image, uint64_t *bytes);
int states_fetch(struct wire *w, uint32_t image, uint64_t offset, uint32_t bytes);
int states_put(struct wire *w, const unsigned char *bytes, size_t size, size_t piece, uint32_t *image);
/* Puts and restores; id NULL: the image's. */
int states_restore(struct wire *w, const unsigned char *bytes, size_t size, const char *id);
int states_fork(struct wire *w, const char *id, const char *as);
/* The stream goes on at `index` when it is not refused. */
int states_rollback(struct wire *w, struct wire_stream *s, uint64_t index);

#endif
