/* SPDX-License-Identifier: Apache-2.0
 *
 * From streams to connections: results under credit, acknowledgements, refusals, replies and events. What a tick
 * produced for one connection leaves together: one message of results (columns for many streams), one of
 * acknowledgements, one of refusals.
 *
 * Order on a connection: replies and events when they are made; results, acknowledgements and refusals at the end of
 * the tick. When the connection's queue is full everything keeps that order and waits.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_DELIVER_H
#define DAEMON_DELIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/loop.h"

#define DELIVER_RESULT_BYTES (256u << 10) /* about the size of one result message */

struct deliver; /* columns of the message being built */

struct deliver *deliver_new(void);
void deliver_free(struct deliver *deliver);

/* Send a message of one part, now or (bounded) later. */
void deliver_message(struct loop *loop, struct conn *conn, const ProtobufCMessage *message);
/* A reply without an answer, or with an error when code is not OK. request_id 0 with no error sends nothing. */
void deliver_reply(struct loop *loop, struct conn *conn, Ssmd__Reply *reply);
void deliver_done(struct loop *loop, struct conn *conn, uint64_t request_id);
void deliver_error(struct loop *loop, struct conn *conn, uint64_t request_id, Ssmd__Code code, const char *text);
/* The same to a peer that is no connection: lost when its queue is full. */
void deliver_error_to(const struct peer *peer, uint64_t request_id, Ssmd__Code code, const char *text);
void deliver_event(struct loop *loop, struct conn *conn, Ssmd__Event *event);

/* At the end of the tick: acknowledge the stream to its writer. */
void deliver_ack(struct loop *loop, struct stream *stream);
/* ... tell it of a refused chunk. False when there are too many in this tick. */
bool deliver_refusal(struct loop *loop, struct conn *conn, const struct refusal *refusal);
/* ... send what the outlet may have. */
void deliver_wake(struct loop *loop, struct outlet *outlet);

/* Everything that is due, to everybody; what is_blocked waits for the next flush. */
void deliver_flush(struct loop *loop);
/* Whether nothing is left that credit allows to leave. */
bool deliver_is_idle(const struct loop *loop);

#endif
