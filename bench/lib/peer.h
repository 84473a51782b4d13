/* SPDX-License-Identifier: Apache-2.0
 *
 * The least that speaks the protocol: one DEALER that sends what it is told as fast as the window allows and counts
 * what comes back. The benchmarks use it, and not libssmclient, so that they measure the daemon: it keeps nothing and
 * resends nothing.
 *
 * Threads: one. Every failure ends the benchmark with a sentence.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/codec.h"

struct peer_stream {
    uint32_t handle;
    uint64_t epoch;
    uint64_t sent;     /* frames */
    uint64_t applied;  /* frames */
    uint64_t received; /* result frames */
    uint64_t bytes;    /* of results */
    uint64_t granted;  /* bytes of credit */
    int64_t time;      /* echoed by the newest result */
};

struct peer {
    void *socket;
    int timer_fd;
    uint32_t streams;
    struct peer_stream *stream;
    uint32_t *by_handle; /* handle to position */
    uint32_t handles;
    uint64_t request_id;
    uint64_t window;        /* bytes of one stream */
    uint64_t ring;          /* bytes of results kept for one stream */
    uint64_t results;       /* result pieces since the peer was opened */
    uint64_t result_frames; /* in them */
    uint64_t errors;        /* refusals and error replies */
    struct proto_arena arena;
    unsigned char *encoded;
    size_t encoded_size;
    void (*on_result)(struct peer *peer, uint32_t stream, uint32_t frames);
    void *context;
};

/* Connects, says hello and opens `streams` streams PREFIX0.. of `model`; results are delivered when `results`. */
void peer_open(struct peer *peer, void *zmq, const char *endpoint, const char *prefix, uint32_t streams,
               const char *model, double rate, bool results);
void peer_close(struct peer *peer);
/* One data message: `frames` samples of one channel from `samples` for each of n streams from position `first` on. */
void peer_send(struct peer *peer, uint32_t first, uint32_t n, uint32_t frames, const float *samples, int64_t time);
/* Take what has come, waiting up to timeout_ms for the first; grants credit for what was received. Returns messages. */
uint32_t peer_poll(struct peer *peer, int timeout_ms);
/* Take what comes until the monotonic clock says `until_ns`, asleep when nothing does. */
void peer_wait(struct peer *peer, uint64_t until_ns);
/* Ask, and return the reply (valid until the next call); request_id is filled in. */
Ssmd__Reply *peer_ask(struct peer *peer, Ssmd__FromClient *request);
/* The value of a counter of the daemon, UINT64_MAX when it has none of that name. */
uint64_t peer_counter(struct peer *peer, const char *name);

#endif
