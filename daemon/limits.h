/* SPDX-License-Identifier: Apache-2.0
 *
 * What may still come to be, in all and for one connection: streams, readers, states. Each question is answered with
 * NULL, or with the sentence that the client gets (LIMIT), which names the key; and each refusal is counted under its
 * own name. The other bounds stand where their queues are (docs/ARCHITECTURE.md has the table of all).
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_LIMITS_H
#define DAEMON_LIMITS_H

#include "daemon/loop.h"

#define LIMITS_READERS 4     /* of max_streams, all connections together */
#define LIMITS_DEAD    16384 /* handles of a connection */

/* One more stream in the daemon. */
const char *limits_stream(struct loop *loop);
/* One more stream that the connection writes. */
const char *limits_writer(struct loop *loop, const struct conn *conn);
/* One more stream that the connection reads. */
const char *limits_reader(struct loop *loop, const struct conn *conn);

/* A handle of the connection. False, counted, when there is no memory, or so many of its handles are dead that it had
 * better reconnect: dead ones stay, since messages for them may be on their way. */
bool limits_handle_acquire(struct loop *loop, struct conn *conn, uint32_t *out);

/* A slot of the site (NULL: there is none, which is the answer) for a stream's state, counted in state_memory until it is released. (Checkpoints of histories are
 * counted in history_memory.) */
const char *limits_slot_acquire(struct loop *loop, struct site *site, struct ssm_slot *out);
/* A slot of index -1 is none. */
void limits_slot_release(struct loop *loop, struct site *site, struct ssm_slot slot);

#endif
