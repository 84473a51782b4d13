/* SPDX-License-Identifier: Apache-2.0
 *
 * What the daemon measures: the one registry, read by `stats` (daemon/control_stats.c), by /metrics
 * (daemon/exposition.c) and by docs/METRICS.md. A new counter is one row here and its use.
 *
 *     name     of the member, and in `stats`
 *     metric   in Prometheus, behind "ssmd_". Rows that are one metric under a label stand together, and their help
 *              begins alike, up to a colon: that is the metric's
 *     unit     what the member counts: one, bytes, ns or ms. Prometheus gets seconds for both times
 *     help     what operators read
 *
 * Counters only rise; gauges are taken when somebody asks; histograms are daemon/histogram.h, with the bounds that
 * Prometheus sees. A label has one of a few values that this table or the configuration bounds: never a stream's id.
 *
 * Threads: all belong to the loop thread; the engine hands its numbers over with each batch, and whoever else asks gets
 * a copy (daemon/metrics.h).
 */
#ifndef DAEMON_COUNTERS_H
#define DAEMON_COUNTERS_H

#include <stdint.h>

#include "daemon/histogram.h"

#define COUNTERS(X)                                                                                                    \
    X(data_messages, "data_messages_total", one, "data messages received")                                             \
    X(chunks, "chunks_total", one, "chunks accepted")                                                                  \
    X(frames, "frames_total", one, "frames accepted")                                                                  \
    X(frames_applied, "frames_applied_total", one, "frames that are in a state")                                       \
    X(chunks_duplicate, "chunks_duplicate_total", one, "chunks acknowledged again: every frame was accepted before")   \
    X(chunks_trimmed, "chunks_trimmed_total", one, "chunks whose first frames were accepted before")                   \
    X(chunks_gap, "chunks_refused_total{reason=gap}", one, "chunks refused: they begin beyond the index expected")     \
    X(chunks_stale, "chunks_refused_total{reason=stale}", one, "chunks refused: of an earlier epoch")                  \
    X(chunks_overflow_stream, "chunks_refused_total{reason=stream_window}", one,                                       \
      "chunks refused: the stream's window is full")                                                                   \
    X(chunks_overflow_connection, "chunks_refused_total{reason=connection_window}", one,                               \
      "chunks refused: the connection's window is full")                                                               \
    X(chunks_overflow_model, "chunks_refused_total{reason=model_queue}", one,                                          \
      "chunks refused: the model's queue, as `serve` limits it, is full")                                              \
    X(chunks_overflow_memory, "chunks_refused_total{reason=input_memory}", one,                                        \
      "chunks refused: input_memory is used up")                                                                       \
    X(chunks_bad_sample, "chunks_refused_total{reason=bad_sample}", one,                                               \
      "chunks refused: a sample is not finite or a token outside the vocabulary")                                      \
    X(chunks_bad_format, "chunks_refused_total{reason=bad_format}", one,                                               \
      "chunks refused: not a format of this stream")                                                                   \
    X(chunks_bad_handle, "chunks_refused_total{reason=bad_handle}", one,                                               \
      "chunks refused: not a handle of the connection")                                                                \
    X(chunks_too_large, "chunks_refused_total{reason=too_large}", one,                                                 \
      "chunks refused: more frames than chunk_frames")                                                                 \
    X(chunks_closed, "chunks_refused_total{reason=closed}", one,                                                       \
      "chunks refused: the stream is closing, busy or the daemon draining")                                            \
    X(chunks_dead_handle, "chunks_ignored_total", one, "chunks ignored: the handle died and its connection was told")  \
    X(messages_malformed, "messages_malformed_total", one,                                                             \
      "messages refused: not of this protocol, or with wrong lengths")                                                 \
    X(messages_unknown, "messages_unknown_total", one, "messages of connections that did not say hello")               \
    X(requests, "requests_total", one, "requests received")                                                            \
    X(requests_refused, "requests_refused_total", one, "requests answered with an error")                              \
    X(connections_accepted, "connections_accepted_total", one, "connections that said hello")                          \
    X(sockets_refused, "sockets_refused_total", one,                                                                   \
      "connections closed at once: the daemon has as many descriptors as it may")                                      \
    X(connections_forgotten, "connections_forgotten_total", one,                                                       \
      "connections forgotten: silent, gone or slower than their outbox")                                               \
    X(connections_outbox_full, "connections_outbox_full_total", one,                                                   \
      "connections forgotten because their outbox was full")                                                           \
    X(connections_blocked, "connections_blocked_total", one,                                                           \
      "times a connection's queue was full; what waits is sent later")                                                 \
    X(streams_opened, "streams_opened_total", one, "streams created")                                                  \
    X(streams_resumed, "streams_resumed_total", one, "streams resumed by their writer")                                \
    X(streams_taken_over, "streams_taken_over_total", one, "streams taken over by another writer")                     \
    X(streams_reset, "streams_reset_total", one, "streams reset")                                                      \
    X(states_taken_up, "states_taken_up_total", one, "streams taken up from the state directory")                      \
    X(states_refused, "states_refused_total", one, "files of the state directory set aside")                           \
    X(snapshots, "snapshots_total", one, "images of streams made")                                                     \
    X(restores, "restores_total", one, "streams made from an image")                                                   \
    X(forks, "forks_total", one, "streams made from another's state")                                                  \
    X(rollbacks, "rollbacks_total", one, "streams that went back")                                                     \
    X(streams_closed, "streams_closed_total", one, "streams closed")                                                   \
    X(streams_lingered, "streams_lingered_total", one, "closed streams dropped before their results were received")    \
    X(generations, "generations_total", one, "generations begun")                                                      \
    X(tokens_generated, "tokens_generated_total", one, "tokens drawn by generations and consumed")                     \
    X(streams_failed, "streams_failed_total", one, "streams stopped because the engine refused their frames")          \
    X(deadline_misses, "deadline_misses_total", one, "live chunks whose results came after their deadline")            \
    X(devices_failed, "devices_failed_total", one,                                                                     \
      "devices that failed: their streams are lost, and the daemon stops")                                             \
    X(opens_warned_load, "opens_warned_total", one, "opens that may bring the engine beyond admission_load")           \
    X(batches, "batches_total", one, "batches advanced")                                                               \
    X(rows_step, "rows_total{view=step}", one, "rows advanced: by the recurrence")                                     \
    X(rows_scan, "rows_total{view=scan}", one, "rows advanced: by the scan")                                           \
    X(engine_busy_ns, "engine_busy_seconds_total", ns, "time the engine spent advancing")                              \
    X(results, "results_total", one, "result frames computed")                                                         \
    X(results_sent, "results_sent_total", one, "result frames sent to writers and readers")                            \
    X(result_messages, "result_messages_total", one, "result messages sent")                                           \
    X(rings_full, "rings_full_total", one, "times a stream's input waited for its result ring")                        \
    X(rings_released, "rings_released_total", one, "rings of idle streams given back")                                 \
    X(readers_lost, "readers_lost_total", one, "result frames that readers were too slow for")                         \
    X(acknowledgements, "acknowledgements_total", one, "stream acknowledgements sent")                                 \
    X(tap_published, "tap_published_total", one, "messages published on the tap")                                      \
    X(tap_refused, "tap_refused_total", one, "subscriptions of the tap that were not taken")                           \
    X(publish_messages, "publish_messages_total", one, "messages of publishers received")                              \
    X(publish_unmapped, "publish_dropped_total{reason=unmapped}", one,                                                 \
      "messages of publishers dropped: no `publish` line maps the id")                                                 \
    X(publish_refused, "publish_dropped_total{reason=refused}", one,                                                   \
      "messages of publishers dropped: form, shape, samples or window; the tap and the log say which")                 \
    X(publish_dropped, "publish_dropped_total{reason=waiting}", one,                                                   \
      "messages of publishers dropped: the stream could not be made yet, publish_memory used up, or the daemon "       \
      "stopping")                                                                                                      \
    X(publish_sources_refused, "publish_dropped_total{reason=source}", one,                                            \
      "messages of publishers dropped: another publisher is live, or a client writes the stream")                      \
    X(publish_gaps_refused, "publish_dropped_total{reason=gap}", one,                                                  \
      "messages of publishers dropped: they are behind a gap, and the stream's policy refuses that")                   \
    X(publish_sources, "publish_sources_total", one, "runs of publishers that began to write a stream")                \
    X(publish_gaps_filled, "publish_gaps_total{policy=fill}", one, "gaps that did not stop a stream: filled")          \
    X(publish_gaps_reset, "publish_gaps_total{policy=reset}", one, "gaps that did not stop a stream: it was reset")    \
    X(publish_frames_filled, "publish_frames_filled_total", one, "frames that stand in for missing ones")              \
    X(evictions, "evictions_total", one, "idle streams that left memory for an image")                                 \
    X(evictions_failed, "evictions_failed_total", one,                                                                 \
      "images of idle streams that could not be written: the stream stayed")                                           \
    X(evictions_returned, "evictions_returned_total", one, "evicted streams that came back")                           \
    X(models_loaded, "models_loaded_total", one, "models loaded")                                                      \
    X(models_failed, "models_failed_total", one, "models that could not be loaded")                                    \
    X(models_unloaded, "models_unloaded_total", one,                                                                   \
      "models unloaded: to make room, or superseded and without streams")                                              \
    X(models_versions_full, "models_versions_full_total", one,                                                         \
      "versions not added because model_versions others are in use")                                                   \
    X(models_reloaded, "models_reloaded_total", one, "versions of models added by a reload")                           \
    X(models_reload_failed, "models_reload_failed_total", one,                                                         \
      "models that could not be reloaded; the version in memory stayed")                                               \
    X(streams_moved, "streams_moved_total", one, "streams moved to a newer version of their model")                    \
    X(limit_streams, "requests_limited_total{limit=streams}", one, "requests refused at a limit: max_streams")         \
    X(limit_connections, "requests_limited_total{limit=connections}", one,                                             \
      "requests refused at a limit: max_connections")                                                                  \
    X(limit_connection_streams, "requests_limited_total{limit=connection_streams}", one,                               \
      "requests refused at a limit: connection_streams")                                                               \
    X(limit_connection_readers, "requests_limited_total{limit=connection_readers}", one,                               \
      "requests refused at a limit: connection_readers")                                                               \
    X(limit_readers, "requests_limited_total{limit=readers}", one,                                                     \
      "requests refused at a limit: 4 readers for each of max_streams")                                                \
    X(limit_prefixes, "requests_limited_total{limit=prefixes}", one,                                                   \
      "requests refused at a limit: 16 prefixes of a connection")                                                      \
    X(limit_handles, "requests_limited_total{limit=handles}", one,                                                     \
      "requests refused at a limit: 16384 dead handles of a connection")                                               \
    X(limit_state_memory, "requests_limited_total{limit=state_memory}", one,                                           \
      "requests refused at a limit: state_memory")                                                                     \
    X(limit_histories, "requests_limited_total{limit=histories}", one, "requests refused at a limit: history_memory")  \
    X(limit_images, "requests_limited_total{limit=images}", one,                                                       \
      "requests refused at a limit: max_images or image_memory")                                                       \
    X(limit_load, "requests_limited_total{limit=admission_load}", one, "requests refused at a limit: admission_load")  \
    X(models_memory_full, "requests_limited_total{limit=model_memory}", one,                                           \
      "requests refused at a limit: model_memory")                                                                     \
    X(models_rates_full, "requests_limited_total{limit=model_rates}", one, "requests refused at a limit: model_rates") \
    X(limit_models, "requests_limited_total{limit=models}", one,                                                       \
      "requests refused at a limit: 64 models in use, or too many being loaded")

#define GAUGES(X)                                                                                                      \
    X(streams, "streams", one, "streams now")                                                                          \
    X(connections, "connections", one, "connections now")                                                              \
    X(connections_port, "connections_port", one, "connections now of the I/O thread that has most")                    \
    X(readers, "readers", one, "streams being read now, each reader counted")                                          \
    X(subscriptions, "subscriptions", one, "subscriptions of the tap now")                                             \
    X(models, "models", one, "models loaded now, each rate and version counted")                                       \
    X(model_bytes, "model_bytes", bytes, "weights of the models loaded now")                                           \
    X(input_bytes, "input_bytes", bytes, "input memory in use, free lists included")                                   \
    X(ring_bytes, "ring_bytes", bytes, "result ring memory in use")                                                    \
    X(image_bytes, "image_bytes", bytes, "images on their way")                                                        \
    X(publish_bytes, "publish_bytes", bytes, "published data that waits for its stream")                               \
    X(history_bytes, "history_bytes", bytes, "checkpoints and kept input")                                             \
    X(state_bytes, "state_bytes", bytes, "states of streams")                                                          \
    X(stream_bytes, "stream_bytes", bytes, "bytes of one open stream besides its state and ring")                      \
    X(uptime_ms, "uptime_seconds", ms, "time since the daemon was ready")

/* Of each model that is loaded, under the label `model`: members of struct model_counters, and what is taken then. */
#define MODEL_COUNTERS(X)                                                                                              \
    X(frames, "model_frames_total", one, "frames that are in a state of the model")                                    \
    X(results, "model_results_total", one, "result frames that the model computed")                                    \
    X(batches, "model_batches_total", one, "batches of the model")                                                     \
    X(busy_ns, "model_busy_seconds_total", ns, "time the engine spent on the model")                                   \
    X(deadline_misses, "model_deadline_misses_total", one,                                                             \
      "live chunks of the model whose results came after their deadline")

#define MODEL_GAUGES(X)                                                                                                \
    X(streams, "model_streams", one, "streams of the model, and its forks and restores under way")                     \
    X(live, "model_live_streams", one, "streams of the model that are live: they count for admission_load")            \
    X(queued_bytes, "model_queued_bytes", bytes, "input of the model's streams that is not applied")

/* Of each engine, the processor's or a device's, under the label `engine`; in `stats` its name and `_` stand before. */
#define ENGINE_COUNTERS(X)                                                                                             \
    X(batches, "engine_batches_total", one, "batches of the engine")                                                   \
    X(busy_ns, "engine_advance_seconds_total", ns, "time the engine spent advancing")

#define ENGINE_GAUGES(X)                                                                                               \
    X(states, "engine_states", one, "states of streams that are on the engine, its host memory included")              \
    X(state_bytes, "engine_state_bytes", bytes, "their size")                                                          \
    X(failed, "engine_failed", one, "whether the engine's device has failed: 0 or 1")

/* name, metric, unit, bounds (daemon/histogram.h), help */
#define HISTOGRAMS(X)                                                                                                  \
    X(queue, "queue_seconds", ns, seconds, "from a chunk's arrival to the start of the last batch that took of it")    \
    X(batch_streams, "batch_streams", one, sizes, "streams of a batch")                                                \
    X(batch_frames, "batch_frames", one, sizes, "frames of a batch, all its streams together")                         \
    X(step, "step_seconds", ns, seconds, "time to advance a batch")                                                    \
    X(deliver, "deliver_seconds", ns, seconds,                                                                         \
      "from the end of a batch until a stream's results of it were handed to ZeroMQ, waiting for credit included")     \
    X(end_to_end, "end_to_end_seconds", ns, seconds,                                                                   \
      "from the arrival of the chunk that completed results until they were handed to ZeroMQ")

struct counters {
#define X(name, metric, unit, help) uint64_t name;
    COUNTERS(X)
#undef X
};

struct model_counters {
#define X(name, metric, unit, help) uint64_t name;
    MODEL_COUNTERS(X)
#undef X
};

struct histograms {
#define X(name, metric, unit, bounds, help) struct histogram name;
    HISTOGRAMS(X)
#undef X
};

#endif
