/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of ssmrun.
 */
#ifndef CLIENTS_RUN_OPTIONS_H
#define CLIENTS_RUN_OPTIONS_H

#include <stdbool.h>

#include "clients/audio/signal.h"
#include "ssm/ssm.h"

struct run_options {
    const char *model, *input, *output;
    enum ssm_view view;
    uint32_t chunk;            /* frames per advance; of scan and conv, made a multiple of the model's grid */
    struct signal_spec raw_in; /* what is said about raw input */
    enum signal_format format_out;
    struct ssm_engine_options engine;
    bool has_device; /* one was named */
};

/* The word of each view, by enum ssm_view. */
extern const char *const run_modes[];

/* Fills *out, or exits with EX_USAGE and a message, as argp does. */
void run_options_load(struct run_options *out, int argc, char **argv);

#endif
