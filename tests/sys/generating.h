/* SPDX-License-Identifier: Apache-2.0
 *
 * Generation by hand: libssm in this process, fed its own output token by token. What a daemon's generations are held
 * against, bit for bit.
 *
 * Everything fails the running test when it cannot do what it says.
 */
#ifndef TESTS_SYS_GENERATING_H
#define TESTS_SYS_GENERATING_H

#include "ssm/sample.h"
#include "tests/sys/reference.h"
#include "tests/sys/wire.h"

enum { GENERATING_MOST = 4096 };

/* A request's options, with lists that live as long as this. */
struct generating {
    Ssmd__Generate request;
    uint32_t prompt[64];
};

/* A prompt of n tokens that depend on `seed`, temperature 4 (the small model is sure of itself), `maximum` tokens. */
void generating_init(struct generating *g, const struct reference *r, uint32_t seed, uint32_t n, uint64_t maximum);

/* What a fresh stream gives: the tokens with their log-probabilities; how many. */
uint32_t generating_by_hand(struct reference *r, const Ssmd__Generate *request, struct ssm_top *out);

/* The result of index i of a stream opened with `generates`: its drawn token. */
struct ssm_top generating_token(const struct wire_stream *s, uint64_t index);
/* Waits for the end of the connection's nth generation (from 0) and its results; the event. */
const struct wire_event *generating_wait(struct wire *w, const struct wire_stream *s, size_t nth);

#endif
