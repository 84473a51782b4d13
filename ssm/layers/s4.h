/* SPDX-License-Identifier: Apache-2.0
 *
 * What s4 keeps after loading: for each channel Abar = I + diag(e) - sum over r of U_r V_r^T, Bbar and C (ssm/dplr.h),
 * as rows of M+16 floats that lie together, in the order in which a step reads them.
 */
#ifndef SSM_LAYERS_S4_H
#define SSM_LAYERS_S4_H

#include <stddef.h>
#include <stdint.h>

#include "ssm/ssm.h"

/* The rows of one channel, (re, im) each; 2 V and 2 C count the conjugate pairs, zeros fill the lanes from M on. */
enum ssm_s4_row {
    SSM_S4_E = 0,  /* Abar's diagonal part - 1 */
    SSM_S4_B = 2,  /* Bbar */
    SSM_S4_C = 4,  /* 2 C */
    SSM_S4_UV = 6, /* then for each r: U_r, 2 V_r */
};
#define SSM_S4_ROWS(rank) (SSM_S4_UV + 4 * (rank))

/* State: (H, 2, M+16), re then im. */
struct ssm_s4 {
    uint32_t modes;  /* M = N/2 stored, one of each pair */
    uint32_t padded; /* M+16 */
    uint32_t rank;
    float *rows; /* (H, SSM_S4_ROWS(rank), M+16) */
    float *d;    /* (H) */
};

/* A channel's rows. */
static inline const float *ssm_s4_channel(const struct ssm_s4 *p, size_t h)
{
    return p->rows + h * SSM_S4_ROWS(p->rank) * p->padded;
}

#endif
