/* SPDX-License-Identifier: Apache-2.0
 * s4: H independent systems, each diagonal plus low rank and discretised by the bilinear rule (ssm/dplr.h),
 * x = Abar x + Bbar u, y = 2 Re(sum over the N/2 stored modes of C_n x_n) + D u, with the true C (not C~).
 *
 * A model whose Re A <= 0 everywhere needs no look at its poles: A + A^H <= 0 since -P P^H is negative, and then the
 * bilinear Abar is a contraction. Others are judged by the dense Abar, which grows as N^2 and its powers as N^3.
 *
 * Source: Gu, Goel, Re 2022, "Efficiently Modeling Long Sequences with Structured State Spaces". */
#include "ssm/layers/s4.h"

#include <math.h>
#include <stdlib.h>

#include "ssm/dplr.h"
#include "ssm/layers/params.h"
#include "ssm/poles.h"

#define DENSE_STATE_MAX 256 /* N up to which poles are looked for: 70 ms a channel */

struct s4_tensors {
    float *log_dt, *A, *B, *C, *P;
};

/* One channel at work, in float64. */
struct channel {
    double complex *lambda, *P, *B;   /* continuous */
    double complex *e, *U, *V, *Bbar; /* discrete */
    double *dense;                    /* (N, N), or NULL until a channel needs it */
};

static void channel_read(const struct s4_tensors *t, const struct ssm_s4 *p, size_t H, size_t h, struct channel *c)
{
    size_t M = p->modes;

    for (size_t n = 0; n < M; n++) {
        size_t at = (h * M + n) * 2;

        c->lambda[n] = t->A[at] + I * t->A[at + 1];
        c->B[n] = t->B[at] + I * t->B[at + 1];
        for (size_t r = 0; r < p->rank; r++) {
            const float *entry = t->P + ((r * H + h) * M + n) * 2;

            c->P[r * M + n] = entry[0] + I * entry[1];
        }
    }
}

/* The poles of channel h lie in the unit circle. */
static int poles_check(struct ssm_build *b, struct ssm_layer *l, size_t h, struct channel *c)
{
    const struct ssm_s4 *p = l->params;
    uint32_t N = 2 * p->modes, bad = 0;
    double radius;
    int status;

    for (uint32_t n = 1; n < p->modes; n++)
        bad = creal(c->lambda[n]) > creal(c->lambda[bad]) ? n : bad;
    if (creal(c->lambda[bad]) <= 0)
        return SSM_OK;
    if (N > DENSE_STATE_MAX)
        return ssm_fail(b, l, SSM_LIMIT,
                        "channel %zu, mode %u of '%s.A' has real part %.9g: whether that is stable is worked out for "
                        "\"state\" up to %d, and this is %u; a real part of at most 0 always is",
                        h, bad, l->name, creal(c->lambda[bad]), DENSE_STATE_MAX, N);
    if (!c->dense)
        c->dense = malloc((size_t)N * N * sizeof(*c->dense));
    if (!c->dense)
        return ssm_fail(b, l, SSM_NOMEM, "no memory for %u x %u", N, N);
    ssm_dplr_dense(p->modes, p->rank, c->e, c->U, c->V, c->dense);
    if ((status = ssm_spectral_radius(c->dense, N, SSM_POLE_LIMIT, &radius)))
        return ssm_fail(b, l, status, "channel %zu of '%s.A' has no finite Abar: %s", h, l->name,
                        ssm_status_text(status));
    if (!(radius <= SSM_POLE_LIMIT))
        return ssm_fail(b, l, SSM_UNSTABLE,
                        "has a pole outside the unit circle: channel %zu of '%s.A' less P P^H has spectral radius %.9g "
                        "or more after bilinear; its mode %u has real part %.9g",
                        h, l->name, radius, bad, creal(c->lambda[bad]));
    return SSM_OK;
}

/* Rounds a row of the channel; false when a value has no finite float32. */
static bool row_store(const struct ssm_s4 *p, size_t h, int row, const double complex *from, double times)
{
    float *re = p->rows + (h * SSM_S4_ROWS(p->rank) + (size_t)row) * p->padded, *im = re + p->padded;
    bool finite = true;

    for (size_t n = 0; n < p->modes; n++) {
        re[n] = (float)(times * creal(from[n]));
        im[n] = (float)(times * cimag(from[n]));
        finite = finite && isfinite(re[n]) && isfinite(im[n]);
    }
    return finite;
}

static int channel_derive(struct ssm_build *b, struct ssm_layer *l, const struct s4_tensors *t, size_t h,
                          struct channel *c)
{
    const struct ssm_s4 *p = l->params;
    struct ssm_dplr system = {.modes = p->modes,
                              .rank = p->rank,
                              .dt = ssm_build_dt(b, exp((double)t->log_dt[h])),
                              .lambda = c->lambda,
                              .B = c->B,
                              .P = c->P};
    bool finite;
    int status;

    channel_read(t, p, l->out, h, c);
    if ((status = ssm_dplr_bilinear(&system, c->e, c->U, c->V, c->Bbar)))
        return ssm_fail(b, l, status, "channel %zu of '%s.A' has a pole at 2 / dt, where bilinear has none: %s", h,
                        l->name, ssm_status_text(status));
    finite = row_store(p, h, SSM_S4_E, c->e, 1) && row_store(p, h, SSM_S4_B, c->Bbar, 1);
    for (uint32_t r = 0; r < p->rank; r++)
        finite = finite && row_store(p, h, SSM_S4_UV + 4 * (int)r, c->U + r * p->modes, 1) &&
                 row_store(p, h, SSM_S4_UV + 4 * (int)r + 2, c->V + r * p->modes, 2);
    if (!finite)
        return ssm_fail(b, l, SSM_NONFINITE, "channel %zu of '%s': Abar or Bbar is too large for float32 with dt %g", h,
                        l->name, system.dt);
    for (size_t n = 0; n < p->modes; n++) { /* B is done: its place serves C */
        bool above = fabs(cimag(c->lambda[n])) > ssm_build_band(b, system.dt);

        c->B[n] = above ? 0 : t->C[(h * p->modes + n) * 2] + I * t->C[(h * p->modes + n) * 2 + 1];
        ssm_build_zeroed(b, above);
    }
    if (!row_store(p, h, SSM_S4_C, c->B, 2))
        return ssm_fail(b, l, SSM_NONFINITE, "channel %zu of '%s.C': 2 C is too large for float32", h, l->name);
    return poles_check(b, l, h, c);
}

static int derive(struct ssm_build *b, struct ssm_layer *l, const struct s4_tensors *t)
{
    struct ssm_s4 *p = l->params;
    size_t M = p->modes, R = p->rank;
    double complex *work = calloc(M * (4 + 3 * R), sizeof(*work));
    struct channel c = {.lambda = work};
    int status = SSM_OK;

    p->rows = ssm_floats_new(l->out * SSM_S4_ROWS(R) * p->padded);
    if (!work || !p->rows) {
        free(work);
        return ssm_fail(b, l, SSM_NOMEM, "no memory for %u channels of %u modes", l->out, p->modes);
    }
    c.B = c.lambda + M;
    c.e = c.B + M;
    c.Bbar = c.e + M;
    c.P = c.Bbar + M;
    c.U = c.P + R * M;
    c.V = c.U + R * M;
    for (size_t h = 0; status == SSM_OK && h < l->out; h++)
        status = channel_derive(b, l, t, h, &c);
    free(c.dense);
    free(work);
    return status;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    static const char *const words[] = {"bilinear", NULL};
    struct ssm_s4 *p = l->params = calloc(1, sizeof(*p));
    struct s4_tensors t = {0};
    uint32_t H, N;
    int how, status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "channels", &H, 1, 65536)) || (status = ssm_expect_in(b, l, H)) ||
        (status = ssm_key_count(b, l, keys, "state", &N, 2, 8192)) ||
        (status = ssm_key_count(b, l, keys, "rank", &p->rank, 1, SSM_DPLR_RANK_MAX)) ||
        (status = ssm_key_word(b, l, keys, "discretization", words, &how, -1)))
        return status;
    if (N % 2)
        return ssm_fail(b, l, SSM_CONFIG, "has \"state\": %u, which counts conjugate pairs twice and must be even", N);
    l->out = H;
    p->modes = N / 2;
    p->padded = SSM_PAD16(p->modes);
    if ((uint64_t)H * p->padded * 2 * sizeof(float) > UINT32_MAX / 4)
        return ssm_fail(b, l, SSM_LIMIT, "has a state of %u x %u modes: too large", H, p->modes);
    l->state_bytes = (uint32_t)(H * p->padded * 2 * sizeof(float));
    if ((status = ssm_part_add(
             b, l, &(struct ssm_part){.blocks = H, .rows = 2, .columns = p->modes, .row_stride = p->padded})) ||
        (status = ssm_tensor_take(b, l, "log_dt", &t.log_dt, 1, (uint64_t[]){H})) ||
        (status = ssm_tensor_take(b, l, "A", &t.A, 3, (uint64_t[]){H, p->modes, 2})) ||
        (status = ssm_tensor_take(b, l, "B", &t.B, 3, (uint64_t[]){H, p->modes, 2})) ||
        (status = ssm_tensor_take(b, l, "C", &t.C, 3, (uint64_t[]){H, p->modes, 2})) ||
        (status = ssm_tensor_take(b, l, "P", &t.P, 4, (uint64_t[]){p->rank, H, p->modes, 2})) ||
        (status = ssm_tensor_take(b, l, "D", &p->d, 1, (uint64_t[]){H})))
        goto out;
    status = derive(b, l, &t);
out:
    free(t.log_dt);
    free(t.A);
    free(t.B);
    free(t.C);
    free(t.P);
    return status;
}

static void fini(struct ssm_layer *l)
{
    struct ssm_s4 *p = l->params;

    if (!p)
        return;
    free(p->rows);
    free(p->d);
}

const struct ssm_kind ssm_kind_s4 = {
    .id = SSM_KIND_s4,
    .type = "s4",
    .keys = (const char *const[]){"channels", "state", "rank", "discretization", NULL},
    .init = init,
    .any_rate = true,
    .fini = fini,
};
