/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests: every one is answered once, in the order in which it came, but open (waits for its model), reset and close
 * (wait for their turn in the stream's queue).
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_CONTROL_H
#define DAEMON_CONTROL_H

#include "daemon/loop.h"

/* One part from a peer: `conn` is NULL when it has not said hello. */
void control_take(struct loop *loop, struct conn *conn, const struct peer *peer, const void *bytes, size_t size);

/* The request `open`. */
void control_open(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Open *open);
/* ... when its model is there (or NULL, and why not). Does not free request. */
void control_open_finish(struct loop *loop, struct open_request *request, struct model *model, Ssmd__Code code,
                         const char *text);
/* Opens of a connection that goes away are forgotten. */
void control_opens_drop(struct loop *loop, const struct conn *conn);
/* A new stream, or NULL without memory. */
struct stream_making {
    const uint8_t *id;
    size_t id_size;
    const uint8_t *writer; /* PROTO_WRITER_BYTES */
    struct model *model;
    uint32_t top_k;
    bool generates;
};
struct stream *control_stream_new(struct loop *loop, const struct stream_making *making, const char **text);
/* The request `hello`; conn may be NULL. */
void control_hello(struct loop *loop, struct conn *conn, const struct peer *peer, uint64_t request_id,
                   const Ssmd__Hello *hello);
/* The requests list, info and stats. */
void control_list(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__List *list);
void control_info(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Info *info);
void control_stats(struct loop *loop, struct conn *conn, uint64_t request_id);

/* The requests generate and cancel. */
void control_generate(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Generate *request);
void control_cancel(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Cancel *cancel);

/* A stream as a message to `conn`; it points into the stream, and into itself: do not copy. */
struct control_info {
    Ssmd__StreamInfo message;
    Ssmd__Generation generation;
    Ssmd__History history;
};
void control_info_fill(const struct conn *conn, const struct stream *stream, struct control_info *out);
/* ... as the reply to open, reset, close or info. */
void control_info_send(struct loop *loop, struct conn *conn, uint64_t request_id, const struct control_info *info);

#endif
