/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers: a reliable view of one stream, or of every stream with a prefix, under the reader's own credit. A reader
 * never stops the writer: what is overwritten before it was sent is named to it as LOST. Streams are announced
 * (READING), resets (EPOCH) and ends (ENDED) as well, each in its place among the results.
 *
 * What a reader must be told is state of its outlet and is told when its connection has room, so that ten thousand
 * streams read by one prefix need no queue.
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_READER_H
#define DAEMON_READER_H

#include "daemon/loop.h"

/* The request `read`: answers it. */
void reader_open(struct loop *loop, struct conn *conn, uint64_t request_id, const Ssmd__Read *read);
/* A new stream meets the prefixes of every connection. */
void reader_match(struct loop *loop, struct stream *stream);
/* Before results are sent: what must be told first. */
void reader_catch_up(struct loop *loop, struct outlet *outlet);
/* After results were sent: when the stream is over and everything sent, the reader is told and the outlet freed. */
void reader_settle(struct loop *loop, struct outlet *outlet);
/* The outlet of a reader ends, without a word; its handle as well. */
void reader_close(struct loop *loop, struct outlet *outlet);
/* The stream's epoch is about to rise. With `is_reset` results restart at 0 and what was not sent is lost. */
void reader_epoch(struct loop *loop, struct stream *stream, bool is_reset);
/* The stream is removed: its readers are told what they lost, and that it ended. */
void reader_end(struct loop *loop, struct stream *stream);

#endif
