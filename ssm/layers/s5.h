/* SPDX-License-Identifier: Apache-2.0
 *
 * What s5 keeps after loading: one system of P stored complex modes that all H channels drive and read.
 */
#ifndef SSM_LAYERS_S5_H
#define SSM_LAYERS_S5_H

#include "ssm/matrix.h"

/* State: (2, P+16), re then im; lengths marked +16 are padded with zeros to a multiple of 16 lanes. */
struct ssm_s5 {
    uint32_t padded;     /* P+16 */
    float *a_re, *a_im;  /* (P+16) Abar - 1 */
    struct ssm_matrix b; /* (2 (P+16), H): Re Bbar, then Im Bbar */
    struct ssm_matrix c; /* (H, 2 (P+16)): Re C, then -Im C, both twice under conjugate symmetry */
    float *d;            /* (H) */
};

#endif
