/* SPDX-License-Identifier: Apache-2.0
 *
 * The least that speaks the protocol: one DEALER that sends what it is told as fast as the window allows and counts
 * what comes back. The benchmarks and ssm-load use it, and not libssmclient, so that they measure the daemon: it keeps
 * no frames, and resends only what its user sends again.
 *
 *     peer_open(...)                               connected, every stream open
 *     peer_init(...), streams' model and rate, peer_begin(...), peer_poll(...) until peer_is_open(...)
 *                                                  the same without waiting, and of several models; peer_begin again
 *                                                  leaves the connection without a word and comes back on another
 *
 * Threads: one. Every failure ends the benchmark with a sentence. Results that are lost or come twice, and refusals, are
 * counted where `is_tolerant`; otherwise the former end the benchmark too.
 */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/codec.h"

struct peer_stream {
    const char *model;
    double rate; /* 0 before it is open: the model's */
    uint32_t handle;
    bool is_open, wants_credit;
    uint32_t in_channels, out_channels, ratio_num, ratio_den;
    uint64_t epoch;
    uint64_t sent;     /* frames; what the daemon has, when it was opened again or refused a chunk */
    uint64_t applied;  /* frames */
    bool is_refused;   /* nothing was applied since the daemon refused the frames from `expected` on */
    uint64_t expected; /* of the last refusal */
    uint64_t received; /* result frames */
    uint64_t bytes;    /* of results of this handle */
    uint64_t granted;  /* bytes of credit of this handle */
    int64_t time;      /* echoed by the newest result that has one; 0: it has none */
};

/* The data message being made. */
enum { PEER_CHUNKS_MAX = 1024, PEER_FLOATS_MAX = 128 << 10 };
struct peer_message {
    uint32_t n;
    bool has_flags;
    uint32_t handle[PEER_CHUNKS_MAX], frames[PEER_CHUNKS_MAX], format[PEER_CHUNKS_MAX], flags[PEER_CHUNKS_MAX];
    uint64_t epoch[PEER_CHUNKS_MAX], first[PEER_CHUNKS_MAX];
    int64_t time[PEER_CHUNKS_MAX];
    size_t floats;
    float samples[PEER_FLOATS_MAX];
};

struct peer {
    void *zmq, *socket;
    const char *endpoint;
    char prefix[32]; /* of ids */
    uint8_t writer[PROTO_WRITER_BYTES];
    int timer_fd;
    bool wants_results, is_tolerant;
    bool is_greeted;   /* hello was answered on this socket */
    bool is_forgotten; /* the daemon does not know it any more: peer_begin */
    uint32_t streams;
    struct peer_stream *stream;
    uint32_t asked, opened; /* streams whose open was sent, and answered, on this socket */
    uint32_t opens_ahead;   /* opens sent before one is answered */
    uint32_t *by_handle;    /* handle to position; UINT32_MAX: none */
    uint32_t handles;
    uint32_t *credit; /* positions that want credit */
    uint32_t credit_n;
    uint64_t request_id;
    uint64_t window;            /* bytes of one stream */
    uint64_t connection_window; /* of all */
    uint64_t ring;              /* bytes of results kept for one stream */
    uint64_t results;           /* result pieces since the peer was opened */
    uint64_t result_frames;     /* in them */
    uint64_t lost, doubled;     /* result frames missing before the next, or there before */
    uint64_t errors;            /* refusals and error replies */
    char error[200];            /* the first of them */
    struct proto_arena arena;
    struct peer_message *message;
    unsigned char *encoded;
    size_t encoded_size;
    /* May be NULL. stream[at].time is of these frames; stream[at].received lies behind them. The values are
     * float32 at any alignment. */
    void (*on_result)(struct peer *peer, uint32_t at, uint32_t frames, const unsigned char *values);
    void (*on_open)(struct peer *peer, uint32_t at);
    void *context;
};

/* Connects, says hello and opens `streams` streams PREFIX0.. of `model`; results are delivered when `results`. */
void peer_open(struct peer *peer, void *zmq, const char *endpoint, const char *prefix, uint32_t streams,
               const char *model, double rate, bool results);
/* A peer of that many streams which says nothing yet; set the streams' models and rates. */
void peer_init(struct peer *peer, void *zmq, const char *endpoint, const char *prefix, uint32_t streams, bool results);
/* Connects and says hello; peer_poll opens the streams. A connection that was there ends without bye, and the streams
 * are resumed by the same writer: `sent` is then what the daemon has, and results go on behind what was received. */
void peer_begin(struct peer *peer);
bool peer_is_open(const struct peer *peer);
/* Closes the streams and waits for their last results. */
void peer_finish(struct peer *peer);
/* Frees everything; says nothing. */
void peer_fini(struct peer *peer);
/* Both. */
void peer_close(struct peer *peer);
/* One data message: `frames` samples of one channel from `samples` for each of n streams from position `first` on. */
void peer_send(struct peer *peer, uint32_t first, uint32_t n, uint32_t frames, const float *samples, int64_t time);
/* Room for the stream's next frames in the message being made, which is sent when it is full; fill it before the next
 * call. `flags` is PROTO_FLAG_BACKFILL or 0; time 0: none. */
float *peer_put(struct peer *peer, uint32_t at, uint32_t frames, uint32_t flags, int64_t time);
/* Sends the message, if there is one. */
void peer_flush(struct peer *peer);
/* Take what has come, waiting up to timeout_ms for the first; opens what is not open, and grants credit for what was
 * received. Returns messages. */
uint32_t peer_poll(struct peer *peer, int timeout_ms);
/* Take what comes until the monotonic clock says `until_ns`, asleep when nothing does. */
void peer_wait(struct peer *peer, uint64_t until_ns);
/* Ask, and return the reply (valid until the next call); request_id is filled in. */
Ssmd__Reply *peer_ask(struct peer *peer, Ssmd__FromClient *request);
/* The value of a counter of the daemon, UINT64_MAX when it has none of that name. */
uint64_t peer_counter(struct peer *peer, const char *name);

#endif
