/* SPDX-License-Identifier: Apache-2.0
 *
 * What is streamed: a recording or standard input, at the model's rate. Resamples with libsamplerate when the recording
 * has another. The same file gives the same samples every time, so it can be taken up at any index: by seeking, or by
 * resampling again from the beginning.
 */
#ifndef SSMD_CLIENTS_C_CTL_SOURCE_H
#define SSMD_CLIENTS_C_CTL_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/audio/signal.h"

struct source;

/* Opens it; `spec` is what raw input is. Nothing is resampled until source_set_rate. */
int source_open(struct source **out, const char *path, const struct signal_spec *spec, struct signal_error *err);
void source_close(struct source *s);
const struct signal_spec *source_spec(const struct source *s);
bool source_is_pipe(const struct source *s);
/* Whether a read would find something at once (or the end); when not, poll(2) on source_fd waits for it. */
bool source_is_ready(const struct source *s);
/* -1 when reading never waits. */
int source_fd(const struct source *s);
/* Frames come at `rate` from now on; before the first read. */
int source_set_rate(struct source *s, double rate, struct signal_error *err);
/* Frames of the whole at the rate set, or -1 when only the end will tell. */
int64_t source_frames(const struct source *s);
/* Up to max frames into out (float, or int32 tokens); *got is 0 only at the end. */
int source_read(struct source *s, void *out, size_t max, size_t *got, struct signal_error *err);
/* The next frame to read; not for pipes, except forward to 0. */
int source_seek(struct source *s, uint64_t frame, struct signal_error *err);

#endif
