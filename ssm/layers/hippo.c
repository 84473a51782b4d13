/* SPDX-License-Identifier: Apache-2.0
 * hippo: a memory of each channel as coefficients of orthogonal functions; the output is the state, channel-major.
 *
 * x += (Abar - I) x + Bbar u. Only legs may be `scaled`: time-varying, x_0 = (u_0, 0, ...), then step t with A/t and
 * B/t (ssm/cpu/hippo.c computes it in O(order) from t).
 *
 * At another rate the step is the same time, so that a window keeps its seconds; `scaled` has no scale of time and stays
 * as it is. No mode is zeroed: the output is what the state says of the past, not a sum of modes, and stays so at any
 * step (with zoh exactly, for an input that is held between frames). */
#include <jansson.h>
#include <stdlib.h>

#include "ssm/discretize.h"
#include "ssm/layers/params.h"
#include "ssm/poles.h"

static int derive(struct ssm_build *b, struct ssm_layer *l, double dt)
{
    struct ssm_hippo *p = l->params;
    uint32_t N = p->order;
    size_t nn = (size_t)N * N;
    double *work = calloc(2 * nn + 2 * (size_t)N, sizeof(*work)), *A = work, *Abar = A + nn, *B = Abar + nn,
           *Bbar = B + N;
    double radius;
    int status;

    p->b = ssm_floats_new(SSM_PAD16(N));
    if (!work || !p->b) {
        status = ssm_fail(b, l, SSM_NOMEM, "no memory for order %u", N);
        goto out;
    }
    ssm_hippo_matrices(p->measure, N, A, B);
    if ((status = ssm_discretize((enum ssm_discretization)p->how, dt, A, B, N, 1, Abar, Bbar)) ||
        (status = ssm_spectral_radius(Abar, N, SSM_POLE_LIMIT, &radius))) {
        status = ssm_fail(b, l, status, "cannot be discretised with dt %g by %s: %s", dt,
                          ssm_discretization_words[p->how], ssm_status_text(status));
        goto out;
    }
    if (!(radius <= SSM_POLE_LIMIT)) {
        status = ssm_fail(
            b, l, SSM_UNSTABLE,
            "has a pole outside the unit circle: spectral radius %.9g or more with dt %g by %s; take a smaller dt or "
            "bilinear",
            radius, dt, ssm_discretization_words[p->how]);
        goto out;
    }
    for (size_t i = 0; i < N; i++) {
        Abar[i * N + i] -= 1;
        p->b[i] = (float)Bbar[i];
    }
    if ((status = ssm_matrix_pack_f64(&p->a, Abar, N, N)))
        status =
            ssm_fail(b, l, status, "has no coefficients of order %u with dt %g: %s", N, dt, ssm_status_text(status));
out:
    free(work);
    return status;
}

static int keys_read(struct ssm_build *b, struct ssm_layer *l, const json_t *keys, double *dt)
{
    struct ssm_hippo *p = l->params;
    int measure, status;

    if ((status = ssm_key_word(b, l, keys, "measure", ssm_measure_words, &measure, -1)) ||
        (status = ssm_key_count(b, l, keys, "channels", &p->channels, 1, 65536)) ||
        (status = ssm_expect_in(b, l, p->channels)) ||
        (status = ssm_key_count(b, l, keys, "order", &p->order, 1, 1024)) ||
        (status = ssm_key_word(b, l, keys, "discretization", ssm_discretization_words, &p->how, -1)) ||
        (status = ssm_key_flag(b, l, keys, "scaled", &p->scaled, false)))
        return status;
    p->measure = (enum ssm_measure)measure;
    if (p->scaled && p->measure != SSM_LEGS)
        return ssm_fail(b, l, SSM_CONFIG, "is scaled, which only the measure legs can be, not %s",
                        ssm_measure_words[measure]);
    if (p->measure == SSM_FOUT && p->order % 2)
        return ssm_fail(b, l, SSM_CONFIG, "has order %u: fout stores pairs, so it must be even", p->order);
    if ((uint64_t)p->channels * p->order > SSM_CHANNELS_MAX)
        return ssm_fail(b, l, SSM_LIMIT, "gives %u x %u channels, more than %u", p->channels, p->order,
                        SSM_CHANNELS_MAX);
    if (p->scaled && !json_object_get(keys, "dt")) {
        *dt = 1;
        return SSM_OK;
    }
    return ssm_key_number(b, l, keys, "dt", dt, 1e-30, 1e30);
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_hippo *p = l->params = calloc(1, sizeof(*p));
    double dt;
    int status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = keys_read(b, l, keys, &dt)))
        return status;
    l->out = p->channels * p->order;
    l->state_bytes = (uint32_t)(l->out * sizeof(float));
    l->scratch_floats = l->out;
    if ((status = ssm_part_add(b, l, &(struct ssm_part){.rows = p->channels, .columns = p->order})))
        return status;
    return p->scaled ? SSM_OK : derive(b, l, ssm_build_dt(b, dt));
}

static void fini(struct ssm_layer *l)
{
    struct ssm_hippo *p = l->params;

    if (!p)
        return;
    ssm_matrix_fini(&p->a);
    free(p->b);
}

const struct ssm_kind ssm_kind_hippo = {
    .id = SSM_KIND_hippo,
    .type = "hippo",
    .keys = (const char *const[]){"measure", "channels", "order", "dt", "discretization", "scaled", NULL},
    .init = init,
    .any_rate = true,
    .fini = fini,
};
