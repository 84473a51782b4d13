/* SPDX-License-Identifier: Apache-2.0
 *
 * One model on one engine, for tests: open, pass a signal through one stream in chunks, close.
 */
#ifndef TESTS_SSM_RUNNING_H
#define TESTS_SSM_RUNNING_H

#include <stdbool.h>
#include <stdint.h>

#include "ssm/ssm.h"

struct running {
    struct ssm_engine *engine;
    struct ssm_program *program;
    struct ssm_model *model; /* its own reference */
};

/* What a model may run on, NULL at the end, and whether it is here: the instruction sets that a build may have, and
 * "cuda", a device behind a plugin: $SSMD_CUDA_LIBRARY, else the emulated one ($BUILD/cuda_host, tests/cuda_host). */
extern const char *const running_isas[];
bool running_isa_here(const char *isa);
bool running_isa_slow(const char *isa); /* an emulated device: suites are content with some of their cases */

/* isa NULL: the best instruction set here. What fails fails the test. */
void running_open(struct running *r, struct ssm_model *model, const char *isa, uint32_t threads, uint32_t slots);
/* The same with what must show in no bit: a processor has three threads; a device takes few frames at once, and keeps
 * few states on it. */
void running_open_otherwise(struct running *r, struct ssm_model *model, const char *isa, uint32_t slots);
void running_close(struct running *r);

struct ssm_slot running_acquire(struct running *r);
/* `frames` frames of the stream in one row. */
void running_advance(struct running *r, struct ssm_slot slot, enum ssm_view view, const void *in, uint32_t frames,
                     float *out);

/* A fresh stream over all frames, and then, in steps, over the zeros that bring its last outputs: `out` has room for
 * ssm_out_frames of them. Cut at random: pieces of 1 to most frames, each but the last a multiple of `grid`. seed NULL:
 * pieces of exactly `most`. */
void running_pass(struct running *r, enum ssm_view view, const void *in, uint32_t frames, float *out, uint32_t *seed,
                  uint32_t most, uint32_t grid);

/* max |got - want| / max |want| (max |got| when want is all 0); infinite when got has a NaN. */
double running_error(const float *got, const double *want, size_t n);

#endif
