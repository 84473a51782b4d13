/* SPDX-License-Identifier: Apache-2.0
 *
 * Random trials of layer kinds: for each a function that makes a model of random shape and weights, an input, and what
 * should come out by the float64 reference; the trial runs it on every instruction set and device, in every view and in
 * changing views, at random chunkings, and judges max|got - want| / max|want| against the kind's bound. Steps at any
 * chunking, and scans that are cut on the grid, must be the same bits in any company and on any number of threads or rooms
 * of a device, and steps also when they go on from an image or a copy of the state. A stream that moves as an image
 * between there and the plainest instruction set stays within the bound.
 *
 *     static void linear(struct trial *t)
 *     {
 *         uint32_t in = trial_size(t), out = trial_size(t);
 *         const float *w = making_tensor(&t->model, 1, "l.weight", 2, out, in);
 *         making_layers(&t->model, "{'type':'linear','name':'l','in':%u,'out':%u,'bias':false}", in, out);
 *         trial_input(t, in, out, 1);
 *         reference_linear(w, NULL, in, out, t->wide, t->frames, t->want);
 *     }
 *     static const struct trial_kind kinds[] = {{"linear", linear, 40, 1e-6}};
 *     int main(void) { return trial_main("layers", kinds, 1); }
 */
#ifndef TESTS_SSM_TRIAL_H
#define TESTS_SSM_TRIAL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/ssm/making.h"

/* One model of one layer, its input and what should come out. */
struct trial {
    const char *isa, *kind;
    bool slow; /* running_isa_slow */
    double bound;
    uint32_t seed, number; /* number: which of the kind's trials, to take choices by turns */
    uint32_t in, out, frames;
    struct making model;
    float *x;     /* (frames, in) */
    int *tokens;  /* (frames); NULL for signals */
    double *wide; /* x in float64 */
    double *want; /* (frames, out) */
};

struct trial_kind {
    const char *name;
    void (*prepare)(struct trial *t); /* model, input and want */
    uint32_t trials;
    double bound;
};

#define TRIAL_PICK(t, list) (list)[making_number(&(t)->seed, sizeof(list) / sizeof(*(list)))]

/* Random choices: a size of 1 to 67, one of some hundreds, a number in [from, to], yes or no. */
uint32_t trial_size(struct trial *t);
uint32_t trial_wide(struct trial *t);
uint32_t trial_between(struct trial *t, uint32_t from, uint32_t to);
bool trial_coin(struct trial *t);
const char *trial_bool(bool value);
/* Of n weights that were made const for the reference, what bfloat16 holds. */
void trial_narrow(const float *weights, size_t n);
/* n zeroed elements (free()); without memory the test fails. */
void *trial_memory(size_t n, size_t size);

/* The trial's input: frames of noise with a slow part, so that memories have something to remember. t->frames stays
 * what it is, or becomes a length from 1 to 200 when it is 0. */
void trial_input(struct trial *t, uint32_t in, uint32_t out, float loud);
/* 20,000 frames that change slowly, for memories that are as slow: an error of their poles shows. */
void trial_input_slow(struct trial *t, uint32_t in, uint32_t out);

/* A cmocka group of one test for each kind and instruction set, named KIND__random_trials_on_ISA__match_float64; what
 * main returns. */
int trial_main(const char *group, const struct trial_kind *kinds, size_t n);

#endif
