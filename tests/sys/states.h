/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests about states, by hand (wire.h): snapshot and fetch, put and restore, fork, rollback. Each waits for its
 * answers and returns the enum Code of the first that refuses; w->reply has the last. And what their tests share.
 */
#ifndef TESTS_SYS_STATES_H
#define TESTS_SYS_STATES_H

#include "tests/sys/reference.h"
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
/* A stream with results and a history. */
struct wire_stream *states_open_with_history(struct wire *w, const char *id, const char *model, uint32_t interval,
                                             uint32_t depth);
/* The stream goes on at `index` when it is not refused. */
int states_rollback(struct wire *w, struct wire_stream *s, uint64_t index);

/* The answer had that code and these words. */
void states_refused(const struct wire *w, int code, int expected, const char *says);

/* ---- what the streams are held against --------------------------------------------------------------------------- */

enum { STATES_CASES_MAX = 64 };

extern struct reference states_cases[STATES_CASES_MAX]; /* every golden case */
extern size_t states_cases_n;
extern struct reference *states_golden; /* one of them: forecast, which learns */

/* Set-up and teardown of a group: the cases, and the directory of models (serving.h). */
int states_group_open(void **state);
int states_group_close(void **state);

const void *states_in_at(const struct reference *r, uint64_t frame);
/* Frames from..to-1 of the case as the stream's next, in chunks of 100. */
void states_push(struct wire *w, struct wire_stream *s, const struct reference *r, uint64_t from, uint64_t to,
                 uint32_t flags);
/* Results of the case that are there after `frames` frames, before it is closed. */
uint64_t states_results(struct reference *r, uint64_t frames);
/* The shortest interval of a history that the case's model allows. */
uint32_t states_interval(const struct reference *r);
/* Everything in s->out is the library's from output index s->begin on, up to what `end` frames give. */
void states_bits_check(const struct wire_stream *s, struct reference *r, uint64_t end);

#endif
