/* SPDX-License-Identifier: Apache-2.0
 *
 * The output of `ssmctl stream`: results in order, from an index, without a hole.
 *
 * A file from an earlier run is continued by copying it: sound files cannot be appended to by everybody who writes
 * them, and the old one stays under another name until the copy is there.
 */
#ifndef SSMD_CLIENTS_C_CTL_OUTPUT_H
#define SSMD_CLIENTS_C_CTL_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "clients/audio/signal.h"
#include "clients/c/ssmclient.h"

struct output {
    struct signal_writer *writer;
    char *path;
    struct signal_spec spec;
    uint64_t next; /* output index of the next frame to write */
};

/* Frames in an earlier output that could be continued; 0 when there is none. */
int output_earlier(const char *path, const struct signal_spec *spec, uint64_t *frames, struct signal_error *err);
/* Begins at output index `first`, with `earlier` frames of the file that is there kept in front. */
int output_open(struct output *o, const char *path, const struct signal_spec *spec, uint64_t earlier, uint64_t first,
                struct signal_error *err);
/* Begins again at `first`, empty. */
int output_restart(struct output *o, uint64_t first, struct signal_error *err);
/* The first `frames` of the result; pairs as two channels each: the token as a number, the log-probability. */
int output_write(struct output *o, const struct ssmc_result *result, uint32_t frames, struct signal_error *err);
/* Completes the file. */
int output_close(struct output *o, struct signal_error *err);

#endif
