/* SPDX-License-Identifier: Apache-2.0
 *
 * libssmclient: streams of samples to an ssmd daemon, results back, over one connection.
 *
 *     struct ssmc          a connection: one ZeroMQ DEALER, many streams, one writer identity kept over reconnections
 *     struct ssmc_stream   a stream opened or read on it
 *
 * The library owns the bookkeeping that a careful client needs (proto/PROTOCOL.md): it keeps every frame until the
 * daemon has made it durable, sends no more than the window allows, grants credit as results are taken, and after a
 * broken connection says hello again, resumes every stream from the index that the daemon names and sends the rest once
 * more; as backfill when the daemon was not heard of for SSMC_AWAY_MS, so that catching up takes the scan, in the room
 * that live streams leave. Results reach the caller complete, in order and once.
 *
 * Threads: a connection and its streams belong to one thread; there is no thread inside but ZeroMQ's own I/O thread.
 * Time: nothing blocks longer than its timeout. ssmc_poll drives everything: call it while waiting for anything, at
 * least a few times a second. timeout_ms: 0 looks once, -1 waits for ever.
 * Errors: 0 or a negative enum ssmc_status; ssmc_error_text(c) is the sentence, the daemon's own where it refused.
 * Memory: input is copied; result pointers live until the next call on the same stream.
 */
#ifndef SSMCLIENT_H
#define SSMCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SSMC_API        __attribute__((visibility("default")))
#define SSMC_MUST_CHECK __attribute__((warn_unused_result))
#else
#define SSMC_API
#define SSMC_MUST_CHECK
#endif

#define SSMC_STATUSES(X)                                                                                               \
    X(OK, 0, "no error")                                                                                               \
    X(NOMEM, -1, "out of memory")                                                                                      \
    X(INVAL, -2, "an argument is out of its range")                                                                    \
    X(TIMEOUT, -3, "the daemon did not answer in time")                                                                \
    X(REFUSED, -4, "the daemon refused")                                                                               \
    X(PROTOCOL, -5, "the daemon sent something this library does not understand")                                      \
    X(FULL, -6, "the window is full: poll, then push again")                                                           \
    X(LOST, -7, "frames that the daemon lost are no longer kept here")                                                 \
    X(TAKEN, -8, "another writer took the stream")                                                                     \
    X(ENDED, -9, "the stream has ended")                                                                               \
    X(IO, -10, "the connection failed")                                                                                \
    X(INTERRUPTED, -11, "a signal came")

enum ssmc_status {
#define X(name, value, text) SSMC_##name = (value),
    SSMC_STATUSES(X)
#undef X
};

struct ssmc;
struct ssmc_stream;

SSMC_API const char *ssmc_status_text(int status);
/* The endpoint used when none is given: $SSMD_ENDPOINT, or $XDG_RUNTIME_DIR/ssmd/ssmd.sock when that socket exists, or
 * ipc:///run/ssmd/ssmd.sock. Points to static storage. */
SSMC_API const char *ssmc_default_endpoint(void);

#define SSMC_AWAY_MS 3000

/* ---- connection -------------------------------------------------------------------------------------------------- */

struct ssmc_options {
    const char *endpoint;  /* NULL: ssmc_default_endpoint() */
    const char *name;      /* for the daemon's log; may be NULL */
    const uint8_t *writer; /* 16 bytes; NULL: random */
    int timeout_ms;        /* of the hello; 0: 5000 */
};

/* Connects and says hello. *out is NULL on failure and err (may be NULL, err_size bytes) has the sentence. */
SSMC_API SSMC_MUST_CHECK int ssmc_connect(struct ssmc **out, const struct ssmc_options *options, char *err,
                                          size_t err_size);
/* Says bye and frees the connection and its streams' client side; the daemon keeps the streams. */
SSMC_API void ssmc_free(struct ssmc *c);
SSMC_API const char *ssmc_error_text(const struct ssmc *c);
/* The wire's number (proto/ssmd.proto enum Code) of the last SSMC_REFUSED. */
SSMC_API int ssmc_error_code(const struct ssmc *c);

/* Receive, acknowledge, grant, resend, reconnect; waits up to timeout_ms for something to happen.
 * Returns 1 when something did, 0 on time-out, or a negative status. */
SSMC_API SSMC_MUST_CHECK int ssmc_poll(struct ssmc *c, int timeout_ms);
/* A descriptor that becomes readable when ssmc_poll has something to do (ZMQ_FD: edge-triggered, poll with
 * timeouts). */
SSMC_API int ssmc_fd(struct ssmc *c);

struct ssmc_daemon_info {
    char daemon[64];
    uint8_t incarnation[16];
    uint32_t version;
    int durability; /* 0 none, 1 snapshot, 2 journal */
    uint32_t message_bytes;
    uint64_t stream_window, connection_window, result_ring;
    uint32_t streams_max;
    char tap[256];       /* endpoint, "" when off */
    uint32_t reconnects; /* of this connection so far */
    int is_connected;    /* 0 while the daemon is away; ssmc_poll goes on trying */
};
SSMC_API void ssmc_daemon_info(const struct ssmc *c, struct ssmc_daemon_info *out);

/* ---- streams ----------------------------------------------------------------------------------------------------- */

enum ssmc_open_mode { SSMC_ANY = 0, SSMC_CREATE = 1, SSMC_RESUME = 2 };
enum ssmc_format { SSMC_F32 = 1, SSMC_S16 = 2, SSMC_S32 = 3, SSMC_F64 = 4, SSMC_I32 = 5 };

struct ssmc_open_options {
    const char *id; /* 1 to 64 bytes */
    size_t id_size; /* 0: strlen(id) */
    const char *model;
    double rate;       /* 0: the model's */
    int native_rate;   /* when that is another: discretise the model anew for it instead of refusing, if it can be */
    uint32_t channels; /* 0: the model's */
    enum ssmc_open_mode mode;
    int take_over;
    int results;               /* deliver results */
    uint64_t results_from;     /* output index; SSMC_OLDEST: the oldest not received */
    size_t buffer_bytes;       /* results held here before credit stops; 0: 1 MiB */
    uint32_t history_interval; /* frames between checkpoints, a multiple of 64; 0: the stream need not go back */
    uint32_t history_depth;    /* the last so many frames can be taken back by ssmc_rollback */
    uint32_t top_k;            /* tokens: results are pairs of so many most probable tokens; 0: none */
    int generates;             /* tokens: ... and before them the drawn one; ssmc_generate needs it */
    const char
        *deadline_class; /* of the daemon's configuration; NULL: the model's. When results of live frames are due */
    int restart_lost;    /* after a daemon crash begin again at 0 instead of failing with SSMC_LOST: the caller sees the
                              index drop in ssmc_stream_info and pushes from there */
};
#define SSMC_OLDEST UINT64_MAX

struct ssmc_stream_info {
    char id[65];
    size_t id_size;
    char model[256];
    uint64_t epoch, next, applied, durable, result_first, result_next;
    double rate, out_rate;
    uint32_t channels, out_channels, vocab;
    int tokens;
    uint32_t ratio_num, ratio_den, hop, lookahead;
    uint64_t state_bytes, queued;
    int created, attached, closing;
    uint32_t top_k; /* as opened */
    int generates;
    int generating;                           /* now */
    uint32_t history_interval, history_depth; /* 0: it has none */
    uint64_t history_bytes, history_oldest;   /* what it costs; the lowest index that rollback reaches */
    char deadline_class[32];                  /* "": results are due one chunk's duration after it came */
    uint64_t deadline_misses;                 /* live chunks whose results came later */
    char ended[80];                           /* readers: why it ended, when it was not closed but evicted; else "" */
    double catch_up;       /* frames of backfill in a second, now or the last time there was some; 0: there was none */
    double config_rate;    /* of the model's directory: another than `rate` when it was discretised anew */
    uint32_t modes_zeroed; /* then: modes above half the rate, which contribute nothing */
    uint32_t version, newest_version; /* of the model, counted from 1; 0: a template, or a daemon that has none */
};

SSMC_API SSMC_MUST_CHECK int ssmc_open(struct ssmc *c, struct ssmc_stream **out,
                                       const struct ssmc_open_options *options, int timeout_ms);
/* What is known here of the stream now: `next` is the next frame to push. */
SSMC_API void ssmc_stream_info(const struct ssmc_stream *s, struct ssmc_stream_info *out);

/* Queue `frames` frames of the model's channels for sending. SSMC_FULL takes nothing when the window is full and
 * SSMC_LOST when the daemon lost frames that cannot be sent again. */
enum ssmc_push_flags { SSMC_BACKFILL = 1, SSMC_HAS_TIME = 2 };
SSMC_API SSMC_MUST_CHECK int ssmc_push(struct ssmc_stream *s, enum ssmc_format format, const void *samples,
                                       uint32_t frames, unsigned flags, int64_t time);
/* Frames that ssmc_push would take now. */
SSMC_API uint64_t ssmc_room(const struct ssmc_stream *s);

/* A token and the natural logarithm of its probability. */
struct ssmc_pair {
    int32_t token;
    float logprob;
};

struct ssmc_result {
    uint64_t epoch;
    uint64_t first; /* output index */
    uint32_t frames;
    uint32_t channels;    /* values of 4 bytes in a frame */
    const float *samples; /* (frames, channels); NULL where there are pairs */
    const struct ssmc_pair
        *pairs; /* (frames, channels / 2) with top_k or generates, else NULL. With generates the first
                                      of each frame is the token drawn from it, or -1 */
    int has_time;
    int64_t time;
    uint64_t lost; /* readers: results missing just before `first` */
};
/* The next results, if any have come: 1 and *out, 0 when there are none now, or a negative status (SSMC_ENDED at the
 * end of a read stream, with the sentence why when it was evicted). Never waits: poll first. */
SSMC_API SSMC_MUST_CHECK int ssmc_next(struct ssmc_stream *s, struct ssmc_result *out);

/* Waits until every pushed frame is applied; the results may still be on their way. SSMC_FULL: take results first. */
SSMC_API SSMC_MUST_CHECK int ssmc_drain(struct ssmc_stream *s, int timeout_ms);
/* Ends the stream. SSMC_OK: every result has arrived and remains to be taken with ssmc_next until 0. SSMC_FULL: take
 * results with ssmc_next first, then call again. SSMC_TIMEOUT: call again to go on waiting. SSMC_LOST with
 * restart_lost: the stream began again, push from the index in ssmc_stream_info. */
SSMC_API SSMC_MUST_CHECK int ssmc_close(struct ssmc_stream *s, int timeout_ms);
/* Restart at index 0 in a new epoch, after what was pushed. SSMC_FULL and SSMC_TIMEOUT as for ssmc_close. */
SSMC_API SSMC_MUST_CHECK int ssmc_reset(struct ssmc_stream *s, int timeout_ms);
/* Restart so with the newest version of the model, after the last result of what was pushed; when there is none newer
 * nothing happens. SSMC_REFUSED when that has other shapes or cannot be loaded; the stream is then as it was. SSMC_FULL and
 * SSMC_TIMEOUT as for ssmc_close. A reset takes the newest version too, when its shapes are the same. */
SSMC_API SSMC_MUST_CHECK int ssmc_move(struct ssmc_stream *s, int timeout_ms);
/* Takes back the frames from `index` on, after what was pushed: the stream goes on at `index` in a new epoch, and its
 * results from the result_next of ssmc_stream_info on come anew. It needs a history. SSMC_FULL and SSMC_TIMEOUT as for
 * ssmc_close; SSMC_REFUSED when the index is not within the history. */
SSMC_API SSMC_MUST_CHECK int ssmc_rollback(struct ssmc_stream *s, uint64_t index, int timeout_ms);
/* Free the client side; the daemon's stream goes on existing. */
SSMC_API void ssmc_stream_free(struct ssmc_stream *s);

/* ---- generation -------------------------------------------------------------------------------------------------- */

/* How tokens are drawn; the options apply in this order, which is that of transformers. */
struct ssmc_sampling {
    float repetition_penalty;   /* > 0; 1: none */
    uint32_t repetition_window; /* recent tokens that it counts, at most 1024 */
    float temperature;          /* 0: always the most probable */
    uint32_t top_k;             /* 0: all */
    float top_p;                /* 1: all */
    float min_p;                /* 0: all */
    uint64_t seed;              /* the same seed draws the same tokens */
};
/* Temperature 1, nothing else, seed 0. */
SSMC_API void ssmc_sampling_init(struct ssmc_sampling *out);

struct ssmc_generate_options {
    const int32_t *prompt; /* none: go on with the token drawn last, which the daemon has not consumed */
    size_t prompt_n;
    uint64_t maximum; /* tokens, at least 1 */
    const int32_t *stop;
    size_t stop_n; /* at most 64 */
    const int32_t *recent;
    size_t recent_n; /* consumed before, for the penalty; at most 1024 */
    struct ssmc_sampling sampling;
};
/* Sends the prompt and returns when the daemon generates; it consumes every drawn token but the last. SSMC_TIMEOUT: call
 * again with the same options. Results that were not taken before are dropped. Until the generation has ended the stream
 * takes no input. */
SSMC_API SSMC_MUST_CHECK int ssmc_generate(struct ssmc_stream *s, const struct ssmc_generate_options *options,
                                           int timeout_ms);

struct ssmc_token {
    int32_t token;
    float logprob;               /* the model's own, before any option */
    uint64_t index;              /* of the token in the stream */
    const struct ssmc_pair *top; /* the most probable, as opened with top_k; lives until the next call */
    uint32_t top_n;
};
/* The next token, if one has come: 1 and *out, 0 when there is none now, or a negative status: SSMC_ENDED behind the
 * last one. Never waits: poll first. Takes the results that ssmc_next would give. */
SSMC_API SSMC_MUST_CHECK int ssmc_next_token(struct ssmc_stream *s, struct ssmc_token *out);
/* The generation ends after the token being drawn; nothing to do when there is none. Take tokens until SSMC_ENDED. */
SSMC_API SSMC_MUST_CHECK int ssmc_cancel(struct ssmc_stream *s, int timeout_ms);
/* Why the last generation ended; -1 when it has not. */
enum ssmc_ending { SSMC_STOP_TOKEN, SSMC_MAXIMUM, SSMC_CANCELLED, SSMC_STREAM_CLOSED, SSMC_FAILED };
SSMC_API int ssmc_ending(const struct ssmc_stream *s);
/* ---- states as values -------------------------------------------------------------------------------------------- */

struct ssmc_image {
    void *bytes; /* free() */
    size_t size;
    uint64_t epoch, index; /* of the stream; frames below index are in it */
};
/* The image of any stream, whoever writes it: its state after every frame that the daemon has accepted, and the results
 * that its writer has not received. On failure out->bytes is NULL. */
SSMC_API SSMC_MUST_CHECK int ssmc_snapshot(struct ssmc *c, const char *id, size_t id_size, struct ssmc_image *out,
                                           int timeout_ms);
/* A new stream of an image, in this daemon or another one that has the model; `id` NULL: the image's. It is this
 * connection's, to be opened with SSMC_RESUME; *out (may be NULL) describes it. After a broken connection a refusal
 * because it exists may mean that it was made. The same of ssmc_fork. */
SSMC_API SSMC_MUST_CHECK int ssmc_restore(struct ssmc *c, const void *image, size_t size, const char *id,
                                          size_t id_size, struct ssmc_stream_info *out, int timeout_ms);
/* A new stream `as` of the state of any stream `id`, at the same index. */
SSMC_API SSMC_MUST_CHECK int ssmc_fork(struct ssmc *c, const char *id, size_t id_size, const char *as, size_t as_size,
                                       struct ssmc_stream_info *out, int timeout_ms);

/* ---- readers ----------------------------------------------------------------------------------------------------- */

/* Read one id or (prefix) every id that begins with it. Streams come through `found`, which may be called from
 * ssmc_read and ssmc_poll; take results with ssmc_next, free with ssmc_stream_free. */
typedef void ssmc_found_fn(void *context, struct ssmc_stream *stream);
SSMC_API SSMC_MUST_CHECK int ssmc_read(struct ssmc *c, const char *id, size_t id_size, int prefix, uint64_t from,
                                       ssmc_found_fn *found, void *context, int timeout_ms);

/* ---- publishers -------------------------------------------------------------------------------------------------- */

/* A publisher sends frames and hears nothing: no stream is opened, nothing is kept, and what the daemon or the network
 * drops is a gap that the daemon's configuration deals with (its lines `publish`). It needs no struct ssmc. */
struct ssmc_publisher;

struct ssmc_publisher_options {
    const char *endpoint; /* NULL: $SSMD_PUBLISH, or ssmd-publish.sock beside ssmc_default_endpoint() */
    const uint8_t *run;   /* 16 bytes that name this run; NULL: random. A restarted publisher is another run */
    int timeout_ms;       /* until the daemon listens; 0: 5000 */
};

/* Frames of one stream, as this run counts them. */
struct ssmc_frames {
    uint64_t first; /* index of the first */
    const void *samples;
    enum ssmc_format format;
    uint32_t frames, channels;
    unsigned flags; /* enum ssmc_push_flags */
    int64_t time;
    double rate; /* Hz; when not 0 the daemon sees that it is the stream's */
};

/* Where publishers connect: see above. `endpoint` is the daemon's own, NULL: the default. SSMC_INVAL when it is not an
 * ipc endpoint and $SSMD_PUBLISH is not set. */
SSMC_API SSMC_MUST_CHECK int ssmc_publish_endpoint(char *out, size_t size, const char *endpoint);
/* Returns when the daemon listens, so that what follows is not lost. On failure *out is NULL and err has the
 * sentence. */
SSMC_API SSMC_MUST_CHECK int ssmc_publisher_open(struct ssmc_publisher **out,
                                                 const struct ssmc_publisher_options *options, char *err,
                                                 size_t err_size);
/* Sends and never waits. SSMC_FULL: the daemon does not keep up; SSMC_IO: it is away. Nothing was sent then, and a gap
 * remains if it is not sent again. */
SSMC_API SSMC_MUST_CHECK int ssmc_publish(struct ssmc_publisher *p, const char *id, size_t id_size,
                                          const struct ssmc_frames *frames);
/* What was sent may take so long to leave. */
SSMC_API void ssmc_publisher_free(struct ssmc_publisher *p, int linger_ms);

/* ---- queries ----------------------------------------------------------------------------------------------------- */

typedef void ssmc_stream_fn(void *context, const struct ssmc_stream_info *info);
SSMC_API SSMC_MUST_CHECK int ssmc_list(struct ssmc *c, const char *prefix, size_t prefix_size, ssmc_stream_fn *each,
                                       void *context, int timeout_ms);
SSMC_API SSMC_MUST_CHECK int ssmc_info(struct ssmc *c, const char *id, size_t id_size, struct ssmc_stream_info *out,
                                       int timeout_ms);

struct ssmc_model_info {
    const char *name;
    const char *state;
    int is_template, tokens;
    uint32_t streams, channels, out_channels, vocab, hop, lookahead;
    double rate, out_rate;
    uint64_t state_bytes;
    uint32_t priority; /* its share of the engine when there is not enough, relative to the others' */
    double cost;       /* measured: seconds of the engine for one second of a stream; 0: not known */
    double load;       /* the part of the engine's time that its live streams need */
    uint64_t deadline_misses;
    uint64_t queued_bytes;            /* input of its streams that is not applied */
    double config_rate;               /* another than `rate`: discretised anew, beside the one at its own rate */
    uint32_t modes_zeroed;            /* then: modes above half the rate, which contribute nothing */
    uint32_t version, newest_version; /* of a directory that is loaded, counted from 1; else 0 */
    uint64_t weight_bytes;
};
typedef void ssmc_model_fn(void *context, const struct ssmc_model_info *info);
SSMC_API SSMC_MUST_CHECK int ssmc_models(struct ssmc *c, ssmc_model_fn *each, void *context, int timeout_ms);

struct ssmc_reload {
    uint32_t unchanged, added, failed; /* directories; of those that failed the versions in memory stay */
    char failure[512];                 /* of the last one */
};
/* Lets the daemon read the directories that it has in memory again, or one of them (`model`, else NULL). What differs
 * becomes the version that new streams get. */
SSMC_API SSMC_MUST_CHECK int ssmc_reload(struct ssmc *c, const char *model, struct ssmc_reload *out, int timeout_ms);

struct ssmc_counter {
    const char *name, *help;
    const char *model; /* NULL: of the whole daemon */
    uint64_t value;
};
/* A distribution: of the `count` values that there were, the share quantile[i] does not exceed value[i]. */
struct ssmc_histogram {
    const char *name, *help;
    int is_nanoseconds; /* else plain numbers */
    uint64_t count, sum, max;
    size_t quantiles;
    const double *quantile;
    const uint64_t *value;
};
typedef void ssmc_counter_fn(void *context, const struct ssmc_counter *counter);
typedef void ssmc_histogram_fn(void *context, const struct ssmc_histogram *histogram);
/* What the daemon counts and measures. Either function may be NULL. */
SSMC_API SSMC_MUST_CHECK int ssmc_stats(struct ssmc *c, ssmc_counter_fn *counter, ssmc_histogram_fn *histogram,
                                        void *context, int timeout_ms);
SSMC_API SSMC_MUST_CHECK int ssmc_ping(struct ssmc *c, uint64_t *round_trip_ns, int timeout_ms);

#ifdef __cplusplus
}
#endif
#endif
