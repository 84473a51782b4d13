/* SPDX-License-Identifier: Apache-2.0
 *
 * From the ports to streams: receive, decode, admit, convert, queue. Threads: the loop thread.
 */
#ifndef DAEMON_INGEST_H
#define DAEMON_INGEST_H

#include <stdbool.h>
#include <zmq.h>

#include "daemon/loop.h"

#define INGEST_DRAIN_MESSAGES 512
#define INGEST_DRAIN_BYTES    (2u << 20)

/* Take messages until there are none, or enough for one tick. True when there may be more. */
bool ingest_drain(struct loop *loop);

/* ---- for other ways in (daemon/publish.c) ------------------------------------------------------------------------ */

/* Samples of the stream's format into a chunk: PROTO_OK, PROTO_NOMEM when input_memory is used up, or why not, with the
 * sample in *where. */
int ingest_convert(struct loop *loop, const struct stream *stream, uint32_t format, const unsigned char *bytes,
                   uint32_t frames, struct chunk **out, size_t *where);
/* The chunk is the stream's next: it fits the windows, and was judged. */
void ingest_push(struct loop *loop, struct stream *stream, struct chunk *chunk);

#endif
