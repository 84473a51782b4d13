/* SPDX-License-Identifier: Apache-2.0
 *
 * States as values: snapshot, restore, fork and rollback as tasks, and images on their way from and to clients.
 *
 * A task on a stream waits its turn: a barrier at the index that was expected when it came. Input goes on being
 * accepted behind it; rows end at the barrier, which is where a chunk ends, so that the cut shows in no bit. Then the
 * stream is held (PLACE_HELD: in no batch) while the keeper, a worker thread, copies its state and results; a large
 * state holds up nobody but its own stream.
 *
 *     snapshot   stream -> image, which the client fetches in pieces
 *     fork       stream -> new stream
 *     restore    image, which the client has put in pieces -> new stream; waits for the model
 *     evict      stream -> file (daemon/evict.h), which may become a stream again as with restore
 *     rollback   checkpoint -> the stream's own slot; then kept input runs again (daemon/rollback.c)
 *
 * Bounds: max_images tasks, and as many images, of image_memory bytes together; beyond it LIMIT. What a connection left
 * behind goes with it.
 *
 * Threads: the loop thread; run functions on the keeper, which touches only what the task names.
 */
#ifndef DAEMON_STATE_H
#define DAEMON_STATE_H

#include "daemon/image.h"
#include "daemon/models.h"
#include "daemon/source.h"
#include "daemon/worker.h"

/* An image on its way, named by a number of its connection. */
struct image {
    TAILQ_ENTRY(image) link;
    struct conn *conn; /* NULL: the store's */
    uint32_t number;
    unsigned char *bytes;
    size_t size;
    size_t moved;  /* bytes that were put or fetched */
    bool is_ready; /* whole: a snapshot that is made, or put to its end */
    bool is_put;
};

enum task_kind { TASK_SNAPSHOT, TASK_FORK, TASK_RESTORE, TASK_ROLLBACK, TASK_EVICT };

struct task {
    struct work work;
    enum task_kind kind;
    int status; /* set by the keeper, with the error */
    struct ssm_error error;

    struct conn *conn; /* that asked; NULL: it went away, or the store */
    uint64_t request_id;
    struct stream *stream; /* that is held; NULL for restore */
    uint64_t at;           /* the barrier */
    struct model *model;   /* of the new stream: counted in model->streams */
    uint8_t id[PROTO_ID_MAX];
    uint8_t id_size;
    uint8_t writer[PROTO_WRITER_BYTES];
    bool is_away; /* the keeper has it, or waits for it */

    struct site *site;        /* of the slots */
    struct ssm_slot from, to; /* to: the new stream's, or the one that goes back */
    const struct ring *source;
    uint64_t keep;    /* first result of the source that goes along */
    struct ring ring; /* the new stream's */
    struct image *image;
    struct image_sections sections;
    /* restore: what the image said */
    uint64_t epoch, next;
    bool wants_results, is_closed;
    uint32_t top_k; /* as the stream was opened */
    bool generates;
    const struct policy_class *class;
    uint32_t history_interval, history_depth;
    struct source publisher; /* is_known false: it has none */
    float *last;
    size_t last_n;
    /* evict.c's */
    int fd;            /* of the folder */
    int file_fd;       /* that is being read */
    uint64_t since_ns; /* when the stream was fed last */
    /* the store's, which keeps writer and epoch; reason NULL: the stream is there */
    void (*outcome)(struct loop *loop, const struct task *task, const char *reason);
    Ssmd__Code code; /* with a reason */
    char file[2 * PROTO_ID_MAX + 16];
    void (*step)(struct loop *loop, struct task *task); /* what the loop does next: in its turn, or after the keeper */

    TAILQ_ENTRY(task) of_stream;
    TAILQ_ENTRY(task) of_all;
    TAILQ_ENTRY(task) of_backlog;
};

struct states {
    struct worker keeper;
    TAILQ_HEAD(, image) images;
    TAILQ_HEAD(, task) tasks, backlog;
    uint32_t images_n, tasks_n, in_keeper;
    uint32_t numbers;       /* the last one given */
    uint64_t bytes;         /* of images */
    uint64_t history_bytes; /* of all streams' histories */
    uint64_t state_bytes;   /* of all streams' states, and of those that tasks make */
    struct proto_arena arena;
};

int states_start(struct states *states); /* 0, or -1 and errno */
/* Waits for the keeper. What is done is still taken by states_take. */
void states_stop(struct states *states);
void states_fini(struct states *states);
/* What the keeper has done since. */
void states_take(struct loop *loop);
/* Whether tasks are under way. */
bool states_are_busy(const struct states *states);
/* Tasks and images of a connection that goes away. */
void states_conn_drop(struct loop *loop, struct conn *conn);
/* Tasks that wait for a stream that ends. */
void states_stream_drop(struct loop *loop, struct stream *stream);
/* What is left when the daemon stops, and the streams are gone. */
void states_drop(struct loop *loop);

/* In the stream's turn (its queue is empty, or a barrier stands before it): begins what is due. True when something
 * is. */
bool state_turn(struct loop *loop, struct stream *stream);

/* ---- for those who make tasks ------------------------------------------------------------------------------------ */

/* A task for the connection's request; NULL after answering that there are too many. */
struct task *task_new(struct loop *loop, struct conn *conn, uint64_t request_id, enum task_kind kind);
/* Queues it: its step comes in the stream's turn. */
void task_wait(struct loop *loop, struct task *task, struct stream *stream);
/* Hands it to the keeper: `run` there, `step` here afterwards. The stream, if any, is held. */
void task_submit(struct loop *loop, struct task *task, void (*run)(struct work *work),
                 void (*step)(struct loop *loop, struct task *task));
/* Frees it, and what it still has: slot, ring, image, its count of the model. The stream, if any, goes on. */
void task_free(struct loop *loop, struct task *task);
void task_refuse(struct loop *loop, struct task *task, Ssmd__Code code, const char *text);
/* The wire's code for what libssm said of an image or a state. */
Ssmd__Code task_code(int status);
/* A slot for a new stream of the site (NULL: there is none), whose model the task counts: NULL, or why not (LIMIT). */
const char *task_slot_acquire(struct loop *loop, struct task *task, struct site *site);
/* The new stream of a task that is done, with the task's slot and ring, at frame `next`; NULL without memory. Readers
 * of prefixes are told when the caller has finished it (reader_match). */
struct stream *task_stream_new(struct loop *loop, struct task *task, uint64_t next);

/* `bytes` more for an image of the connection; NULL when there are too many, or they are too large. */
struct image *image_new(struct loop *loop, struct conn *conn, size_t bytes);
void image_free(struct loop *loop, struct image *image);
struct image *image_find(struct loop *loop, const struct conn *conn, uint32_t number);

/* ---- requests (daemon/control_state.c, daemon/control_restore.c) -------------------------------------------------- */

void control_snapshot(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Snapshot *snapshot);
void control_fetch(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Fetch *fetch);
void control_put(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Put *put);
void control_restore(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Restore *restore);
void control_fork(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Fork *fork);
/* The image into a stream of that id (NULL: its own) when its model is there; `task` has conn or not. Answers. */
void restore_begin(struct loop *loop, struct task *task, const ProtobufCBinaryData *id);

/* ---- going back (daemon/rollback.c) ------------------------------------------------------------------------------ */

/* A stream that waits to go back, in its turn. */
void rollback_turn(struct loop *loop, struct stream *stream);
/* From now on the stream can: OK, or why not, with the sentence in `text`. It is in no batch. */
Ssmd__Code rollback_prepare(struct loop *loop, struct stream *stream, uint32_t interval, uint32_t depth, char *text,
                            size_t size);
/* The stream's history, if any, is given back. */
void rollback_drop(struct loop *loop, struct stream *stream);

#endif
