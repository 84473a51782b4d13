/* SPDX-License-Identifier: Apache-2.0
 *
 * A weight matrix packed for the batch-invariant product of ssm/cpu/linear.c: panels of 16 outputs, zero-padded, so
 * that one kernel serves every width and each output sums over its inputs in index order.
 */
#ifndef SSM_MATRIX_H
#define SSM_MATRIX_H

#include "ssm/ssm.h"

#define SSM_PANEL 16

struct ssm_matrix {
    uint32_t out, in;
    float *panels; /* (ceil(out/16), in, 16), 64-byte aligned, owned */
};

/* Packs w (out, in), row major, of float32 or of float64 (rounded once). SSM_NOMEM; SSM_NONFINITE when a
 * float64 has no finite float32; or 0. */
SSM_MUST_CHECK int ssm_matrix_pack(struct ssm_matrix *m, const float *w, uint32_t out, uint32_t in);
SSM_MUST_CHECK int ssm_matrix_pack_f64(struct ssm_matrix *m, const double *w, uint32_t out, uint32_t in);
void ssm_matrix_fini(struct ssm_matrix *m);

#endif
