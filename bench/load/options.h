/* SPDX-License-Identifier: Apache-2.0
 *
 * What ssm-load is told. Read once, in main, before there are threads.
 */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { LOAD_MODELS_MAX = 16 };

struct load_model {
    const char *spec;
    double share;  /* of the streams, against the other models' */
    double factor; /* results are so many times the samples; NAN: not known */
};

struct load_options {
    const char *endpoint, *name;
    uint32_t streams, connections, threads, slow;
    struct load_model model[LOAD_MODELS_MAX];
    uint32_t models;
    double rate; /* Hz; 0: the model's */
    uint32_t chunk;
    double chunk_ms; /* 0: chunk counts frames */
    double speed;    /* 0: as fast as the windows allow */
    double gather_ms, jitter_ms, backfill, behind_s, disconnect, duration_s, deadline_ms;
    uint32_t backfill_chunk;
    bool json;
};

/* Ends the program with a sentence when they are wrong, and with the manual for --help. */
void load_options_read(struct load_options *out, int argc, char **argv);

#endif
