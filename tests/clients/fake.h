/* SPDX-License-Identifier: Apache-2.0
 *
 * A daemon that can be told to misbehave: one stream of one float32 channel whose results are its samples, on a thread
 * of the test process. It speaks the protocol with the same codec and nothing else of the daemon's.
 *
 * Threads: the fields are the fake's and the test's; hold them with fake_lock. Everything a test changes takes effect
 * on the next message.
 */
#ifndef TESTS_CLIENTS_FAKE_H
#define TESTS_CLIENTS_FAKE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FAKE_FRAMES = 1 << 16, FAKE_ID_MAX = 256 };

struct fake {
    char endpoint[128], directory[64];
    pthread_t thread;
    pthread_mutex_t mutex;
    void *zmq, *router;
    bool stops;
    /* what it is told */
    bool is_silent;      /* takes everything, answers nothing */
    bool forgets;        /* does not know the connection: once */
    bool holds;          /* applies nothing; afterwards, at the next message */
    bool gives_times;    /* results have one, and so stay apart */
    bool repeats_acks;   /* every acknowledgement three times, an old one among them */
    bool acks_too_much;  /* frames that were never sent: once */
    unsigned swallows;   /* so many data messages vanish */
    unsigned truncates;  /* so many next replies are cut in the middle */
    unsigned skips;      /* so many result frames vanish: a hole */
    uint32_t open_error; /* Code of the answer to open; 0: none */
    uint32_t refuses;    /* Code with which the next chunk is refused: once */
    uint8_t incarnation[16];
    uint32_t message_bytes, chunk_frames;
    uint64_t stream_window, connection_window;
    /* the stream */
    bool exists, wants_results, is_closing;
    uint64_t epoch, next, applied, sent, sent_bytes; /* sent: the next result to send */
    uint32_t handle;
    float samples[FAKE_FRAMES]; /* by index: input, and so results */
    /* what it saw */
    unsigned hellos, opens, closes, data_messages, chunks, gaps, pings, byes, modes[3];
    uint64_t unreceived_max; /* result frames sent and not received, at most */
    uint64_t credit_limit, received, results_from, last_first, chunk_frames_max, backfills;
    bool had_results_from;
    uint8_t client[FAKE_ID_MAX];
    size_t client_size;
    uint64_t hello_request; /* of the message being answered */
};

/* Aborts when the machine gives it no socket. */
struct fake *fake_start(void);
void fake_stop(struct fake *f);
void fake_lock(struct fake *f);
void fake_unlock(struct fake *f);
/* The stream is taken over by somebody else. */
void fake_take_over(struct fake *f);
/* The daemon was started anew: another incarnation, no stream. It does not know the connection. */
void fake_crash(struct fake *f);

#endif
