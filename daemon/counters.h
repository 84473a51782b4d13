/* SPDX-License-Identifier: Apache-2.0
 *
 * What the daemon counts: one table of name and help, read by `stats`. A new counter is one row here and its use.
 * Counters of the first table only rise; those of the second are taken when somebody asks.
 *
 * Threads: all belong to the loop thread; the engine hands its numbers over with each batch.
 */
#ifndef DAEMON_COUNTERS_H
#define DAEMON_COUNTERS_H

#include <stdint.h>

#define COUNTERS(X)                                                                                                    \
    X(data_messages, "data messages received")                                                                         \
    X(chunks, "chunks accepted")                                                                                       \
    X(frames, "frames accepted")                                                                                       \
    X(frames_applied, "frames that are in a state")                                                                    \
    X(chunks_duplicate, "chunks acknowledged again: every frame was accepted before")                                  \
    X(chunks_trimmed, "chunks whose first frames were accepted before")                                                \
    X(chunks_gap, "chunks refused: they begin beyond the index expected")                                              \
    X(chunks_stale, "chunks refused: of an earlier epoch")                                                             \
    X(chunks_overflow_stream, "chunks refused: the stream's window is full")                                           \
    X(chunks_overflow_connection, "chunks refused: the connection's window is full")                                   \
    X(chunks_overflow_memory, "chunks refused: input_memory is used up")                                               \
    X(chunks_bad_sample, "chunks refused: a sample is not finite or a token outside the vocabulary")                   \
    X(chunks_bad_format, "chunks refused: not a format of this stream")                                                \
    X(chunks_bad_handle, "chunks refused: not a handle of the connection")                                             \
    X(chunks_dead_handle, "chunks ignored: the handle died and its connection was told")                               \
    X(chunks_too_large, "chunks refused: more frames than chunk_frames")                                               \
    X(chunks_closed, "chunks refused: the stream is closing, busy or the daemon draining")                             \
    X(messages_malformed, "messages refused: not of this protocol, or with wrong lengths")                             \
    X(messages_unknown, "messages of connections that did not say hello")                                              \
    X(requests, "requests received")                                                                                   \
    X(requests_refused, "requests answered with an error")                                                             \
    X(connections_accepted, "connections that said hello")                                                             \
    X(sockets_refused, "connections closed at once: the daemon has as many descriptors as it may")                     \
    X(connections_forgotten, "connections forgotten: silent, gone or slower than their outbox")                        \
    X(connections_outbox_full, "connections forgotten because their outbox was full")                                  \
    X(connections_blocked, "times a connection's queue was full; what waits is sent later")                            \
    X(streams_opened, "streams created")                                                                               \
    X(streams_resumed, "streams resumed by their writer")                                                              \
    X(streams_taken_over, "streams taken over by another writer")                                                      \
    X(streams_reset, "streams reset")                                                                                  \
    X(states_taken_up, "streams taken up from the state directory")                                                    \
    X(states_refused, "files of the state directory set aside")                                                        \
    X(snapshots, "images of streams made")                                                                             \
    X(restores, "streams made from an image")                                                                          \
    X(forks, "streams made from another's state")                                                                      \
    X(rollbacks, "streams that went back")                                                                             \
    X(streams_closed, "streams closed")                                                                                \
    X(streams_lingered, "closed streams dropped before their results were received")                                   \
    X(generations, "generations begun")                                                                                \
    X(tokens_generated, "tokens drawn by generations and consumed")                                                    \
    X(streams_failed, "streams stopped because the engine refused their frames")                                       \
    X(batches, "batches advanced")                                                                                     \
    X(rows_step, "rows advanced by the recurrence")                                                                    \
    X(rows_scan, "rows advanced by the scan")                                                                          \
    X(engine_busy_ns, "time the engine spent advancing")                                                               \
    X(results, "result frames computed")                                                                               \
    X(results_sent, "result frames sent to writers and readers")                                                       \
    X(result_messages, "result messages sent")                                                                         \
    X(rings_full, "times a stream's input waited for its result ring")                                                 \
    X(rings_released, "rings of idle streams given back")                                                              \
    X(readers_lost, "result frames that readers were too slow for")                                                    \
    X(acknowledgements, "stream acknowledgements sent")                                                                \
    X(tap_published, "messages published on the tap")                                                                  \
    X(tap_refused, "subscriptions of the tap that were not taken")                                                     \
    X(models_loaded, "models loaded")                                                                                  \
    X(models_failed, "models that could not be loaded")                                                                \
    X(models_unloaded, "models unloaded to make room")

#define GAUGES(X)                                                                                                      \
    X(streams, "streams now")                                                                                          \
    X(connections, "connections now")                                                                                  \
    X(connections_port, "connections now of the I/O thread that has most")                                             \
    X(readers, "streams being read now, each reader counted")                                                          \
    X(subscriptions, "subscriptions of the tap now")                                                                   \
    X(models, "models loaded now")                                                                                     \
    X(input_bytes, "input memory in use, free lists included")                                                         \
    X(ring_bytes, "result ring memory in use")                                                                         \
    X(image_bytes, "images on their way")                                                                              \
    X(history_bytes, "checkpoints and kept input")                                                                     \
    X(stream_bytes, "bytes of one open stream besides its state and ring")                                             \
    X(uptime_ms, "time since the daemon was ready")

struct counters {
#define X(name, help) uint64_t name;
    COUNTERS(X)
#undef X
};

#endif
