/* SPDX-License-Identifier: Apache-2.0
 *
 * The diagonal recurrence as a prefix scan, in three forms.
 *
 *     h_t = a_t h_(t-1) + b_t
 *
 * A frame is the map h -> a h + b. Two maps, the first and then the second, are one map again,
 *
 *     (a, b) o (a', b') = (a a', a' b + b')
 *
 * and because o is associative, all prefixes can be had in any bracketing:
 *
 *     sequential   frame after frame: T steps of one o each, all lanes at once
 *     blocks       the maps of fixed blocks of time, each from its own begin (parallel); the states between blocks in
 *                  index order; each block's frames from the state that enters it (parallel)
 *     blelloch     up-sweep and down-sweep over a balanced tree: 2 log T levels, each parallel
 *
 * Which is used when, measured by bench/scan: on a CPU a core's lanes are filled by channels and modes of the same
 * frame, so sequential does the least work and is what the kernels of ssm/cpu are, s4d's and lti's over blocks of
 * SSM_SCAN_BLOCK frames; threads share a long row without another form (ssm/cpu/graph.c). The other two are what a
 * device with more lanes than channels needs, and what the kernels are tested against.
 *
 * SHAPES  a, b: (frames, lanes) each, row major, real parts and, for complex lanes, imaginary parts.
 * BITS    each form has its own order of sums; blocks and their states are combined in index order, so that neither the
 *         number of threads nor time changes a bit. Blocks lie on a grid: that of absolute frame indices when
 *         `first` is the index of the first frame.
 * ERROR   of each form, against exact arithmetic: about (log2 T of the sums that a form makes) eps for |a| <= 1.
 * SOURCE  Blelloch 1990, "Prefix Sums and Their Applications"; the operator: Smith et al. 2023 (S5), appendix H. */
#ifndef SSM_SCAN_H
#define SSM_SCAN_H

#include <stdbool.h>

#include "ssm/ssm.h"
#include "ssm/team.h"

struct ssm_scan {
    uint32_t frames, lanes;
    float *a_re, *a_im; /* a_im, b_im, h_im NULL: real lanes */
    float *b_re, *b_im; /* in: b_t; out: h_t */
    float *h_re, *h_im; /* (lanes) the state before the first frame; out: after the last */
};

/* b becomes h; a is not changed. */
void ssm_scan_sequential(const struct ssm_scan *scan);

/* b becomes h; a becomes the product of a over the block so far. `first` is the absolute index of frame 0, `block` the
 * frames of a block of the grid. team may be NULL. */
void ssm_scan_blocks(const struct ssm_scan *scan, uint64_t first, uint32_t block, struct ssm_team *team);

/* b becomes h; a is not changed. tree: ssm_scan_tree_floats(scan) floats. */
void ssm_scan_blelloch(const struct ssm_scan *scan, float *tree);
size_t ssm_scan_tree_floats(const struct ssm_scan *scan);

#endif
