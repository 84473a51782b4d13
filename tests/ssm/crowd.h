/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams of one model in shared batches: random mates in random order, padding among them, rows cut where their view
 * allows it. Each must leave the bits that it leaves alone.
 *
 *     struct crowd_stream s[N] = {{.view = SSM_STEP, .in = x, .frames = T}, ...};
 *     crowd_alone(&r, &s[i]);                 each in one row: s[i].out, s[i].made
 *     crowd_check(&r, s, N, 40, &seed, text); in batches, rows of up to 40 frames
 *     crowd_free(s, N);
 */
#ifndef TESTS_SSM_CROWD_H
#define TESTS_SSM_CROWD_H

#include "tests/ssm/running.h"

struct crowd_stream {
    enum ssm_view view; /* a scan is cut on the program's grid */
    const void *in;     /* (frames, in_channels), or tokens */
    uint32_t frames;
    float *out; /* (made, out_channels), owned */
    uint64_t made;
};

/* A fresh stream over all frames in one row: sets out and made. */
void crowd_alone(struct running *r, struct crowd_stream *s);
/* The streams together, `out` being what each must leave. Every third one comes with a frame at a time, if it steps, and
 * every third one with few; the others with rows of up to `most`. `what` begins the message of a failed test. */
void crowd_check(struct running *r, const struct crowd_stream *streams, uint32_t n, uint32_t most, uint32_t *seed,
                 const char *what);
void crowd_free(struct crowd_stream *streams, uint32_t n);

#endif
