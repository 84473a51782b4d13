/* SPDX-License-Identifier: Apache-2.0
 *
 * The definition of rls in plain float64, written for reading.
 */
#ifndef TESTS_REFERENCE_RLS_H
#define TESTS_REFERENCE_RLS_H

struct reference_rls {
    int features, targets, horizon; /* K; the model's input has `inputs` channels, the first `targets` are forecast */
    int inputs;
    double forgetting, regularization, short_frames, long_frames;
};

/* f: (frames, features); u: (frames, inputs); out: (frames, 3 targets): predictions, errors, scores.
 * Returns 0, or -1 when there is no memory. */
int reference_rls_run(const struct reference_rls *p, int frames, const float *f, const float *u, double *out);

#endif
