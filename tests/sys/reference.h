/* SPDX-License-Identifier: Apache-2.0
 *
 * What a daemon's results are held against: libssm in this process, and the golden cases; and a directory of small
 * models for the daemon.
 *
 * Everything fails the running test when it cannot do what it says.
 */
#ifndef TESTS_SYS_REFERENCE_H
#define TESTS_SYS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/ssm/running.h"

#define GOLDEN_DIRECTORY "tests/golden"

struct reference {
    char name[64]; /* of the model below a models_dir: "case-" and the directory's name */
    uint32_t in_channels, out_channels, frames;
    uint32_t out_frames; /* of the whole case, closed */
    uint32_t vocab;      /* 0: signals */
    double tolerance;
    void *in;         /* (frames, in_channels) float32, or tokens */
    float *step;      /* (out_frames, out_channels): libssm, frame by frame */
    double *expected; /* the case's own answer */
    struct ssm_model *model;
    struct running running;
};

/* One case of GOLDEN_DIRECTORY. */
void reference_load(struct reference *r, const char *name);
void reference_free(struct reference *r);
/* A fresh stream of the model over the frames, in steps, and its tail: ssm_out_frames of them. */
void reference_step(struct reference *r, const void *in, uint32_t frames, float *out);
/* Every case there is; returns how many (at most `most`). */
size_t reference_load_all(struct reference *out, size_t most);
void reference_free_all(struct reference *all, size_t n);

/* A directory of models in a temporary place: `twice` (y = 2 x), `pair` (two channels, y = 2 x), `broken` (a tensor has
 * the wrong shape), `garbled` (config.json is no JSON), `slow` (takes most of a second to load), and the golden cases
 * as `case-NAME`. What twice makes is known without a library. */
struct models_dir {
    char path[64];
};
void models_dir_init(struct models_dir *dir);
void models_dir_fini(struct models_dir *dir);

#endif
