/* SPDX-License-Identifier: Apache-2.0
 *
 * A client for tests that speaks the protocol by hand, message by message: nothing is resent, granted or waited for
 * unless the test says so. Everything that the daemon must never do fails the running test as soon as it is seen:
 * results out of order, of another epoch, beyond the credit, or for input that was not sent.
 *
 *     struct wire *w = wire_new(endpoint, "a");                           a connection that said hello as writer "a"
 *     struct wire_stream *s = wire_open(w, "id", "scale:...", WIRE_RESULTS);
 *     wire_push(w, s, samples, frames, 0);
 *     WIRE_UNTIL(w, s->results == frames);
 *     wire_free(w);
 *
 * Threads: a connection belongs to the test's thread. Times out after WIRE_MS, which is long: sanitizers are slow.
 */
#ifndef TESTS_SYS_WIRE_H
#define TESTS_SYS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/codec.h"

enum { WIRE_MS = 60000, WIRE_NOTES = 4096 };

struct wire_stream {
    char id[PROTO_ID_MAX + 1];
    uint32_t handle;
    bool is_reader, has_ended, is_taken_over;
    uint32_t in_channels, out_channels;
    uint64_t epoch, sent, applied, durable;
    uint64_t begin;   /* output index where results began: of the first in `out` */
    uint64_t next;    /* output index expected next */
    uint64_t results; /* frames in `out`; what was lost is left out */
    uint64_t lost;    /* frames that LOST named */
    uint64_t grant;   /* keep so many bytes of credit; 0: only wire_credit grants */
    uint64_t limit;   /* granted */
    uint64_t bytes;   /* got of it */
    float *out;
    uint64_t capacity; /* frames */
    int64_t *times;    /* of every frame in `out`; INT64_MIN: none */
};

struct wire_refusal {
    uint32_t handle;
    int code;
    uint64_t epoch, expected, first, index;
    bool has_index;
    char text[200];
};

struct wire_event {
    int kind;
    uint32_t handle;
    uint64_t epoch, first, next;
    int ending; /* GENERATED: first and next are the generation's */
};

struct wire_error {
    int code;
    char text[200];
};

struct wire {
    void *context, *socket;
    uint8_t writer[PROTO_WRITER_BYTES];
    uint8_t incarnation[16];
    uint64_t request, stray; /* replies to nothing we asked */
    struct proto_arena arena, reply_arena;
    Ssmd__Reply *reply; /* the last, in reply_arena */
    struct wire_stream **streams;
    size_t streams_n; /* by handle */
    struct wire_refusal refusals[WIRE_NOTES];
    size_t refusals_n;
    struct wire_event events[WIRE_NOTES];
    size_t events_n;
    struct wire_error errors[WIRE_NOTES]; /* answers to messages without a number */
    size_t errors_n;
    size_t acks_n, messages_n;
    bool is_going_away;
    uint64_t read_limit;   /* of the last wire_read */
    const char *feature;   /* asked for in wire_hello, words separated by blanks; NULL: none */
    Ssmd__History history; /* of wire_try_open; interval 0: none */
    uint32_t top_k;        /* of streams opened from here on */
    double rate;           /* ... 0: the model's */
    bool native_rate;
    bool generates;
    char *class; /* ... in this class, where the feature is "schedule"; NULL: none */
    /* Sees every reply to a request, in its turn among all that comes; may be NULL. */
    void (*on_reply)(struct wire *w, const Ssmd__Reply *reply);
    void *owner; /* for on_reply */
};

/* Connects; `writer` (up to 16 characters) is the identity. wire_new and wire_slow say hello and wire_connect does not.
 * wire_slow takes no message that the test does not poll for, but for the few that a socket holds. */
struct wire *wire_connect(const char *endpoint, const char *writer);
struct wire *wire_new(const char *endpoint, const char *writer);
struct wire *wire_slow(const char *endpoint, const char *writer);
/* Says nothing: the connection breaks. NULL is legal. */
void wire_free(struct wire *w);

/* The words as a field of bytes, without their NUL; they stay the caller's. */
ProtobufCBinaryData wire_bytes(const char *words);

/* ---- requests: each waits for its answer, which is in w->reply; the return value is its enum Code ---------------- */

int wire_hello(struct wire *w);
int wire_request(struct wire *w, Ssmd__FromClient *message);
/* Sends one and does not wait; the request's number. The stream of an open that was sent so, when it is answered. */
uint64_t wire_request_send(struct wire *w, Ssmd__FromClient *message);
struct wire_stream *wire_opened(struct wire *w, const Ssmd__StreamInfo *info);
int wire_ping(struct wire *w);
uint64_t wire_counter(struct wire *w, const char *name);

enum { WIRE_RESULTS = 1, WIRE_CREATE = 2, WIRE_RESUME = 4, WIRE_TAKE_OVER = 8, WIRE_NO_CREDIT = 16, WIRE_FROM = 32 };

/* An open that may be refused. *out is NULL then. results_from counts with WIRE_FROM. */
int wire_try_open(struct wire *w, struct wire_stream **out, const char *id, const char *model, unsigned flags,
                  uint64_t results_from);
/* One that may not. With WIRE_RESULTS and without WIRE_NO_CREDIT credit is granted all the time. */
struct wire_stream *wire_open(struct wire *w, const char *id, const char *model, unsigned flags);
/* A reader; `limit` is the first credit of each of its streams. They come through events: wire_find. */
int wire_read(struct wire *w, const char *id, bool prefix, const uint64_t *from, uint64_t limit);
/* Asks for a generation; `request` without handle, epoch and first. What the stream may consume counts as sent. */
int wire_generate(struct wire *w, struct wire_stream *s, Ssmd__Generate *request);
int wire_cancel(struct wire *w, const struct wire_stream *s);
int wire_close(struct wire *w, const struct wire_stream *s);
int wire_reset(struct wire *w, struct wire_stream *s);
int wire_move(struct wire *w, struct wire_stream *s);
int wire_reload(struct wire *w, const char *model); /* NULL: all */
/* Sends the request and does not wait. */
void wire_move_send(struct wire *w, const struct wire_stream *s);
/* Sends the request and does not wait; the request's number. */
uint64_t wire_close_send(struct wire *w, const struct wire_stream *s);
/* The stream's results below `received` may go, payload bytes up to `limit` may come. */
void wire_credit(struct wire *w, struct wire_stream *s, uint64_t received, uint64_t limit);

/* ---- data -------------------------------------------------------------------------------------------------------- */

struct wire_chunk {
    const struct wire_stream *stream;
    uint64_t first;
    uint32_t frames;
    uint32_t format; /* enum Format */
    uint32_t flags;  /* PROTO_FLAG_* */
    int64_t time;
    const void *samples;
};
void wire_send(struct wire *w, const struct wire_chunk *chunks, size_t n);
/* The stream's next frames, float32. */
void wire_push(struct wire *w, struct wire_stream *s, const float *samples, uint32_t frames, uint32_t flags);
/* Any parts at all. */
void wire_send_parts(struct wire *w, size_t n, const void *const *parts, const size_t *sizes);

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

/* Takes one message, waiting up to timeout_ms for it: whether one came. */
bool wire_poll(struct wire *w, int timeout_ms);
long wire_now_ms(void);
/* The reader's or writer's stream of this id, or NULL; the newest if there were several. */
struct wire_stream *wire_find(const struct wire *w, const char *id);
size_t wire_refusals(const struct wire *w, int code);
size_t wire_errors(const struct wire *w, int code);
size_t wire_events(const struct wire *w, int kind);
const struct wire_refusal *wire_last_refusal(const struct wire *w);

/* Takes messages until the condition holds; fails the test when it does not for WIRE_MS. */
#define WIRE_UNTIL(w, condition)                                                                                       \
    do {                                                                                                               \
        long until_ = wire_now_ms() + WIRE_MS;                                                                         \
        while (!(condition)) {                                                                                         \
            wire_poll((w), 50);                                                                                        \
            if (wire_now_ms() > until_)                                                                                \
                fail_msg("not within %d s: %s", WIRE_MS / 1000, #condition);                                           \
        }                                                                                                              \
    } while (0)

#endif
