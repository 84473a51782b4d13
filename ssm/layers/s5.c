/* SPDX-License-Identifier: Apache-2.0
 * s5: one system of P stored complex modes for all H channels, x = Abar x + Bbar u, y = Re(C x) + D u, the Re twice
 * when conjugate_symmetry says that each stored mode stands for a pair.
 *
 * A = diag(Lambda), the step of mode p is exp(log_step[p]).
 * Source: Smith et al. 2023, "Simplified State Space Layers for Sequence Modeling". */
#include "ssm/layers/s5.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#include "ssm/discretize.h"
#include "ssm/layers/params.h"
#include "ssm/poles.h"

struct s5_tensors {
    float *Lambda, *B, *C, *log_step;
};

/* Row p of Bbar, B (2 padded, H) in float64, and the pole of mode p; of one above half the rate neither, and no C. */
static int mode_derive(struct ssm_build *b, struct ssm_layer *l, const struct s5_tensors *t, size_t P, size_t p,
                       enum ssm_discretization how, double *B)
{
    struct ssm_s5 *s = l->params;
    size_t H = l->out;
    double dt = ssm_build_dt(b, exp((double)t->log_step[p]));
    double complex abar, bbar;

    if (fabs((double)t->Lambda[2 * p + 1]) > ssm_build_band(b, dt)) {
        for (size_t h = 0; h < H; h++)
            t->C[(h * P + p) * 2] = t->C[(h * P + p) * 2 + 1] = 0;
        ssm_build_zeroed(b, 1);
        return SSM_OK;
    }
    ssm_discretize_mode(how, dt, t->Lambda[2 * p] + I * t->Lambda[2 * p + 1], &abar, &bbar);
    if (!(cabs(abar) <= SSM_POLE_LIMIT))
        return ssm_fail(b, l, SSM_UNSTABLE,
                        "has a pole outside the unit circle: mode %zu of '%s.Lambda' has |Abar| = %.9g after %s", p,
                        l->name, cabs(abar), ssm_discretization_words[how]);
    s->a_re[p] = (float)(creal(abar) - 1);
    s->a_im[p] = (float)cimag(abar);
    for (size_t h = 0; h < H; h++) {
        const float *entry = t->B + (p * H + h) * 2;
        double complex in = bbar * (entry[0] + I * entry[1]);

        B[p * H + h] = creal(in);
        B[(s->padded + p) * H + h] = cimag(in);
    }
    return SSM_OK;
}

static int derive(struct ssm_build *b, struct ssm_layer *l, const struct s5_tensors *t, uint32_t P,
                  enum ssm_discretization how, bool pairs)
{
    struct ssm_s5 *s = l->params;
    size_t H = l->out, width = 2 * (size_t)s->padded;
    double *B = calloc(width * H, sizeof(*B)), *C = calloc(width * H, sizeof(*C));
    int status = SSM_NOMEM;

    s->a_re = ssm_floats_new(s->padded);
    s->a_im = ssm_floats_new(s->padded);
    if (!B || !C || !s->a_re || !s->a_im) {
        status = ssm_fail(b, l, status, "no memory for %u modes of %zu channels", P, H);
        goto out;
    }
    for (size_t p = 0; p < P; p++)
        if ((status = mode_derive(b, l, t, P, p, how, B)))
            goto out;
    for (size_t h = 0; h < H; h++)
        for (size_t p = 0; p < P; p++) {
            C[h * width + p] = (pairs ? 2.0 : 1.0) * t->C[(h * P + p) * 2];
            C[h * width + s->padded + p] = -(pairs ? 2.0 : 1.0) * t->C[(h * P + p) * 2 + 1];
        }
    if ((status = ssm_matrix_pack_f64(&s->b, B, (uint32_t)width, (uint32_t)H)))
        status = ssm_fail(b, l, status, "'%s.B' has no Bbar in float32 after %s: %s", l->name,
                          ssm_discretization_words[how], ssm_status_text(status));
    else if ((status = ssm_matrix_pack_f64(&s->c, C, (uint32_t)H, (uint32_t)width)))
        status = ssm_fail(b, l, status, "'%s.C' is too large: %s", l->name, ssm_status_text(status));
out:
    free(B);
    free(C);
    return status;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_s5 *s = l->params = calloc(1, sizeof(*s));
    struct s5_tensors t = {0};
    uint32_t H, P;
    bool pairs;
    int how, status;

    if (!s)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "channels", &H, 1, 65536)) || (status = ssm_expect_in(b, l, H)) ||
        (status = ssm_key_count(b, l, keys, "state", &P, 1, 8192)) ||
        (status = ssm_key_word(b, l, keys, "discretization", ssm_discretization_words, &how, -1)) ||
        (status = ssm_key_flag(b, l, keys, "conjugate_symmetry", &pairs, false)))
        return status;
    if (!json_object_get(keys, "conjugate_symmetry"))
        return ssm_fail(b, l, SSM_CONFIG, "key 'conjugate_symmetry' is missing: true if each mode stands for a pair");
    l->out = H;
    s->padded = SSM_PAD16(P);
    l->state_bytes = (uint32_t)(2 * s->padded * sizeof(float));
    l->scratch_floats = 2 * s->padded * SSM_TILE_FRAMES;
    if ((status = ssm_part_add(b, l, &(struct ssm_part){.rows = 2, .columns = P, .row_stride = s->padded})) ||
        (status = ssm_tensor_take(b, l, "Lambda", &t.Lambda, 2, (uint64_t[]){P, 2})) ||
        (status = ssm_tensor_take(b, l, "B", &t.B, 3, (uint64_t[]){P, H, 2})) ||
        (status = ssm_tensor_take(b, l, "C", &t.C, 3, (uint64_t[]){H, P, 2})) ||
        (status = ssm_tensor_take(b, l, "log_step", &t.log_step, 1, (uint64_t[]){P})) ||
        (status = ssm_tensor_take(b, l, "D", &s->d, 1, (uint64_t[]){H})))
        goto out;
    status = derive(b, l, &t, P, (enum ssm_discretization)how, pairs);
out:
    free(t.Lambda);
    free(t.B);
    free(t.C);
    free(t.log_step);
    return status;
}

static void fini(struct ssm_layer *l)
{
    struct ssm_s5 *s = l->params;

    if (!s)
        return;
    ssm_matrix_fini(&s->b);
    ssm_matrix_fini(&s->c);
    free(s->a_re);
    free(s->a_im);
    free(s->d);
}

const struct ssm_kind ssm_kind_s5 = {
    .id = SSM_KIND_s5,
    .type = "s5",
    .keys = (const char *const[]){"channels", "state", "discretization", "conjugate_symmetry", NULL},
    .init = init,
    .any_rate = true,
    .fini = fini,
};
