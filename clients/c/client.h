/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside libssmclient: the connection, its streams, and what its files owe one another.
 *
 *     connection.c  ssmc_connect, ssmc_poll, ssmc_free: the order in which everything else runs
 *     link.c        socket, hello, liveness, reconnection with back-off
 *     request.c     request ids and the calls that wait for a reply
 *     dispatch.c    from a message to the stream that it is about
 *     stream.c      push, results, the end of a stream here
 *     control.c     drain, close, reset, move, rollback
 *     generate.c    generate, cancel, drawn tokens
 *     resume.c      open; after a reconnection every stream again, from where the daemon stands
 *     transmit.c    chunks of many streams into one message; credit
 *     reader.c      reliable views of other writers' streams
 *     query.c       list, info, models, stats, ping
 *     state.c       snapshot, restore, fork
 *     publisher.c   publishers, which need no connection
 *     handles.c     the daemon's handle of a stream to our stream
 *     kept.c, results.c, fifo.c   frames not durable yet; results not taken yet; the queue beneath
 *
 * The link: DOWN -> CONNECTING (socket made) -> HELLO (said) -> UP. Whatever goes wrong (the socket drops, the daemon
 * is silent, it forgot us, it says what we do not understand) ends in link_restart: a fresh socket with nothing in its
 * queues, and every stream opened again. One way back instead of many.
 *
 * Bounds: input kept per stream and in flight per connection by the daemon's windows; results by credit; requests by
 * what the caller has on its stack plus REOPEN_MAX; one message being built.
 */
#ifndef SSMD_CLIENTS_C_CLIENT_H
#define SSMD_CLIENTS_C_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/c/kept.h"
#include "clients/c/results.h"
#include "clients/c/ssmclient.h"
#include "proto/codec.h"

#define MS_NS INT64_C(1000000)

enum {
    HELLO_MS = 5000,      /* a hello not answered for so long: try a fresh socket */
    BACKOFF_MIN_MS = 100, /* between attempts, doubled up to the maximum */
    BACKOFF_MAX_MS = 5000,
    PING_MS = 2000,       /* silence after which the daemon is asked */
    DEAD_MS = 6000,       /* and how long it may think about that */
    CREDIT_SMALL_MS = 20, /* credit that is not worth a message is granted at most so often */
    REOPEN_MAX = 64,      /* streams being opened again at a time */
    CHUNKS_MAX = 4096,    /* of one message */
    HOLD_MS = 100,        /* before frames that found no room are sent again */
    CREDIT_MAX = 1024,    /* streams of one grant */
    BUFFER_DEFAULT = 1 << 20,
    TEXT_MAX = 512,
};

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_HELLO, LINK_UP };

enum stream_state {
    STREAM_OPENING, /* has no handle: waits for its (re)opening */
    STREAM_LIVE,
    STREAM_CLOSED, /* closed and answered; results may still come */
    STREAM_DEAD,   /* dead_status says why */
};

struct request;
/* A reply came, or none will: reply is NULL when the link broke. */
typedef void request_answer_fn(struct ssmc *c, struct request *r, const Ssmd__Reply *reply);

/* One request on its way. Lives in its stream, its reader or on the stack of the call that waits. */
struct request {
    uint64_t id; /* 0: not on its way */
    request_answer_fn *answer;
    void *context;
    struct request *next;
};

struct reader;

enum generation_state { GENERATION_NONE, GENERATION_ASKING, GENERATION_RUNNING, GENERATION_ENDED };

struct generation {
    enum generation_state state;
    size_t pushed;           /* tokens of the prompt that went as data */
    uint64_t first, next;    /* results with its tokens; next once it ended */
    int ending;              /* enum ssmc_ending */
    bool is_cancelled;       /* as the daemon has answered */
    struct ssmc_result held; /* results that tokens are being taken from */
    uint32_t at;
};

struct ssmc_stream {
    struct ssmc *c;
    struct ssmc_stream *prev, *next; /* of the connection */
    struct ssmc_stream *handle_next; /* of a bucket of the handle table */
    struct ssmc_stream *dirty_next;  /* has unsent chunks */
    struct ssmc_stream *credit_next; /* has credit to grant */
    struct ssmc_stream *reopen_next; /* waits to be opened again */
    struct reader *reader;           /* NULL: a writer's stream */
    enum stream_state state;
    bool is_dirty, owes_credit, waits_reopen, has_handle;
    bool is_new; /* ssmc_open waits for its first opening */
    bool wants_results, restart_lost;
    bool is_closing, close_sent, close_answered;
    bool is_resetting, is_rolling;
    bool is_moving; /* the reset is to the newest version of the model */
    uint64_t roll_to;
    int control_status;            /* what close, reset or rollback came to */
    bool is_ended;                 /* reader: nothing more will come */
    bool is_reopening;             /* its open is on its way */
    bool must_create, from_oldest; /* how to open it: anew; with results from the oldest kept */
    bool is_held;                  /* the daemon had no room for frames from held_index on */
    uint64_t held_index;
    bool has_new_daemon; /* the incarnation changed since it was opened last */
    uint8_t incarnation[16];
    bool is_freed; /* the caller gave it up; what still comes for the handle is passed over */
    int dead_status;
    char *dead_text;
    uint32_t handle;
    struct request request; /* of open, close or reset: one at a time */
    char *model;            /* as asked for */
    double rate;
    bool native_rate;
    uint32_t channels;
    uint32_t top_k;
    char deadline_class[32];
    bool generates;
    struct generation generation;
    Ssmd__History history;        /* asked for; interval 0: none */
    struct ssmc_stream_info info; /* as the daemon said last; epoch, applied, durable are kept current */

    struct kept kept; /* writer */
    struct results results;
    size_t buffer_bytes;
    uint64_t result_epoch;
    uint64_t result_next;             /* index of the next result to arrive */
    uint64_t result_taken;            /* results below are the caller's or were taken by it */
    uint64_t result_hand, hand_epoch; /* end of the chunk that the caller holds now */
    uint64_t arrived_bytes;           /* payload since the handle was given */
    uint64_t granted_limit, granted_received;
    uint64_t lost; /* reader: results missing before the next chunk */
};

/* A standing ssmc_read. */
struct reader {
    struct reader *next;
    struct request request;
    char id[PROTO_ID_MAX];
    size_t id_size;
    bool is_prefix, needs_read, is_standing;
    uint64_t from;
    ssmc_found_fn *found;
    void *context;
};

struct ssmc {
    void *zmq, *socket, *monitor;
    int epoll_fd;
    char *endpoint, *name;
    uint8_t writer[PROTO_WRITER_BYTES];

    enum link_state link;
    bool was_up;
    bool was_away;      /* for SSMC_AWAY_MS or longer, before the link came up */
    int64_t link_at_ns; /* DOWN: when to try; HELLO: when to give up */
    int64_t backoff_ms;
    int64_t heard_ns, lost_ns, pinged_ns, sent_ns, credit_ns,
        monitor_ns; /* lost: when it was heard last on the link before */

    struct ssmc_daemon_info daemon;
    uint32_t chunk_frames, idle_ms;
    bool has_images, has_tokens, has_schedule, has_rates, has_versions; /* features that the daemon granted */

    char error[TEXT_MAX];
    int error_code;
    int broken; /* a status that the next ssmc_poll returns */

    uint64_t last_request;
    struct request *requests;
    struct request ping;

    struct ssmc_stream *streams;
    struct ssmc_stream **buckets; /* handles.c */
    size_t bucket_count, handle_count;
    struct ssmc_stream *dirty, *dirty_tail;
    size_t unsent_bytes; /* pushed since everything was sent last */
    struct ssmc_stream *credit;
    struct ssmc_stream *reopen, *reopen_tail;
    unsigned reopening;
    unsigned held;   /* streams that are */
    int64_t held_ns; /* when they were tried last */
    struct reader *readers;
    struct reader orphans; /* of streams whose ssmc_read failed after they were found */

    uint64_t in_flight;    /* bytes pushed and not applied, all streams: the connection window */
    struct outbox *outbox; /* transmit.c */
    struct proto_arena arena;
};

/* Sets ssmc_error_text and returns the status. */
int fail(struct ssmc *c, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for a refusal of the daemon; SSMC_REFUSED. */
int fail_refused(struct ssmc *c, const Ssmd__Error *error);
int64_t now_ns(void);
/* now + timeout; INT64_MAX for ever. */
int64_t deadline_ns(int timeout_ms);
/* The timeout that is left of it. */
int left_ms(int64_t until);
/* ssmc_poll until something happens or `until` comes; a second at most, so that a link that comes back is used. */
int poll_until(struct ssmc *c, int64_t until);

/* ---- link.c */
/* Moves on whatever is due; never waits. */
void link_step(struct ssmc *c);
/* Drops the socket and comes back after delay_ms (-1: the back-off). The text is kept for ssmc_error_text. */
void link_restart(struct ssmc *c, int delay_ms, const char *why);
void link_close(struct ssmc *c);
/* Waits for the socket, a timer of ours or until_ns. 0, or SSMC_INTERRUPTED. */
int link_wait(struct ssmc *c, int64_t until_ns);
/* Who we are and what we ask for. */
void link_hello(struct ssmc *c, Ssmd__Hello *hello);
/* Sends one control message now: 0, or -1 when the socket takes nothing. */
int link_send(struct ssmc *c, const Ssmd__FromClient *message);

/* ---- request.c */
/* Sends it and remembers whom to tell: 0, or -1 when the socket takes nothing now. */
int request_send(struct ssmc *c, struct request *r, Ssmd__FromClient *message, request_answer_fn *answer,
                 void *context);
void request_forget(struct ssmc *c, struct request *r);
/* Tells everyone that the link broke. */
void request_lose_all(struct ssmc *c);
void request_answer(struct ssmc *c, const Ssmd__Reply *reply);
/* What to make of a reply without error; returns the status of the call. */
typedef int reply_fn(struct ssmc *c, void *context, const Ssmd__Reply *reply);
/* Sends, waits, sends again when the link breaks. `kind` is the answer that must be there. */
int request_call(struct ssmc *c, Ssmd__FromClient *message, Ssmd__Reply__AnswerCase kind, reply_fn *done, void *context,
                 int timeout_ms);

/* ---- dispatch.c */
/* Takes what has come, at most a fixed number of messages: how many, or a negative status. */
int dispatch_receive(struct ssmc *c);

/* ---- handles.c */
int handle_add(struct ssmc *c, struct ssmc_stream *s, uint32_t handle);
void handle_remove(struct ssmc *c, struct ssmc_stream *s);
struct ssmc_stream *handle_find(const struct ssmc *c, uint32_t handle);

/* ---- stream.c */
struct ssmc_stream *stream_new(struct ssmc *c);
void stream_info_copy(struct ssmc_stream_info *out, const Ssmd__StreamInfo *info);
/* Fills in what the daemon said; SSMC_PROTOCOL when it cannot be. */
/* Whether it may be an id; *size 0 is that of a string. */
int stream_id_check(struct ssmc *c, const char *id, size_t *size);
int stream_take_info(struct ssmc_stream *s, const Ssmd__StreamInfo *info);
void stream_acknowledge(struct ssmc_stream *s, uint64_t applied, uint64_t durable);
/* Lets the input go on at index `next` with nothing kept; frames from `applied` on are queued at the daemon. */
void stream_restart_input(struct ssmc_stream *s, uint64_t applied, uint64_t next);
/* What was handed to the caller is received. */
void stream_receive(struct ssmc_stream *s);
/* The daemon has no room: frames from `index` on go out again when some are applied, or after a while. */
void stream_hold(struct ssmc_stream *s, uint64_t index);
void stream_retry_held(struct ssmc *c);
/* Results begin at `next` in `epoch`. */
void stream_restart_results(struct ssmc_stream *s, uint64_t epoch, uint64_t next);
/* From here on every call on the stream fails with `status`. */
void stream_kill(struct ssmc_stream *s, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* SSMC_OK, or why the stream can do no more, with its text. */
int stream_check(const struct ssmc_stream *s);
/* Bytes of the daemon's window that frames take: float32 or int32 samples. */
uint64_t stream_window_bytes(const struct ssmc_stream *s, uint64_t frames);

/* ---- resume.c */
void resume_enqueue(struct ssmc_stream *s);
void resume_cancel(struct ssmc_stream *s);
void resume_step(struct ssmc *c);
/* The stream has its handle: results and credit begin. Nothing is sent that was not marked. */
int resume_attach(struct ssmc_stream *s, const Ssmd__StreamInfo *info);
/* In a new epoch everything begins where the daemon says, results at `result`; what was kept is forgotten. */
void resume_new_epoch(struct ssmc_stream *s, const Ssmd__StreamInfo *info, uint64_t result);

/* ---- generate.c */
/* Applied frames beyond what was pushed: whether a generation accounts for them; the input's index follows then. */
bool generate_take_ack(struct ssmc_stream *s, uint64_t applied);
/* Where and why it ended, as an event or a reopened stream says. */
void generate_take_end(struct ssmc_stream *s, const Ssmd__Generation *generation);
/* The stream was opened again: if it generates what was asked for here, the input stands where the daemon says. */
void generate_resume(struct ssmc_stream *s, const Ssmd__StreamInfo *info);

/* ---- transmit.c */
int transmit_new(struct ssmc *c);
void transmit_free(struct ssmc *c);
void transmit_mark(struct ssmc_stream *s);
void transmit_credit_mark(struct ssmc_stream *s);
void transmit_forget(struct ssmc_stream *s);
/* Sends chunks while there are any and the socket takes them. */
void transmit_data(struct ssmc *c);
/* Grants credit where it is worth a message; where any is owed when it is time for that, or if `all`. */
void transmit_credit(struct ssmc *c, bool all);

/* ---- reader.c */
void reader_reading(struct ssmc *c, const Ssmd__Event *event);
void reader_step(struct ssmc *c);
void reader_lose_link(struct ssmc *c);
void reader_free_all(struct ssmc *c);

#endif
