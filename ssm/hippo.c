/* SPDX-License-Identifier: Apache-2.0
 * The HiPPO matrices; see hippo.h. n is the row, k the column, R_n = sqrt(2n + 1). */
#include "ssm/hippo.h"

#include <math.h>
#include <string.h>

const char *const ssm_measure_words[] = {"legs", "legt", "lagt", "fout", NULL};

static double R(uint32_t n)
{
    return sqrt(2.0 * n + 1);
}

static double legs(uint32_t n, uint32_t k)
{
    return n > k ? -R(n) * R(k) : n == k ? -(n + 1.0) : 0;
}

static double legt(uint32_t n, uint32_t k)
{
    return -0.5 * R(n) * R(k) * (k > n && (k - n) % 2 ? -1 : 1);
}

static double lagt(uint32_t n, uint32_t k)
{
    return n > k ? -1 : n == k ? -0.5 : 0;
}

static double fout_b(uint32_t n)
{
    return n == 0 ? 1 : n % 2 == 0 ? sqrt(2) : 0;
}

/* Rotations of frequency j between rows 2j and 2j + 1, less the rank that forgets what leaves the window. */
static double fout(uint32_t n, uint32_t k)
{
    double rotation = 0;

    if (n % 2 == 0 && k == n + 1)
        rotation = -M_PI * (n / 2);
    else if (k % 2 == 0 && n == k + 1)
        rotation = M_PI * (k / 2);
    return rotation - fout_b(n) * fout_b(k);
}

void ssm_hippo_matrices(enum ssm_measure measure, uint32_t N, double *A, double *B)
{
    for (uint32_t n = 0; n < N; n++) {
        for (uint32_t k = 0; k < N; k++) {
            double *a = &A[(size_t)n * N + k];

            switch (measure) {
            case SSM_LEGS:
                *a = legs(n, k);
                break;
            case SSM_LEGT:
                *a = legt(n, k);
                break;
            case SSM_LAGT:
                *a = lagt(n, k);
                break;
            case SSM_FOUT:
                *a = fout(n, k);
                break;
            }
        }
        B[n] = measure == SSM_LEGS ? R(n) : measure == SSM_LEGT ? R(n) / 2 : measure == SSM_LAGT ? 1 : fout_b(n);
    }
}
