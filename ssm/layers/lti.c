/* SPDX-License-Identifier: Apache-2.0
 * lti: the dense textbook system x_t = Abar x_(t-1) + Bbar u_t, y_t = C x_t + D u_t.
 * Kept as x += (Abar - I) x + Bbar u: for slow systems Abar in float32 loses what the difference keeps. */
#include <stdlib.h>
#include <string.h>

#include "ssm/band.h"
#include "ssm/discretize.h"
#include "ssm/layers/params.h"
#include "ssm/poles.h"

#define L SSM_SCAN_BLOCK

struct lti_sizes {
    uint32_t n, in, out;
};

/* The tensors, and A and B in float64. */
struct lti_tensors {
    float *A, *B, *C, *D;
};

static double *widen(const float *from, size_t n)
{
    double *to = malloc((n ? n : 1) * sizeof(*to));

    for (size_t i = 0; to && i < n; i++)
        to[i] = from[i];
    return to;
}

/* Abar (n,n) and Bbar (n,in) as the kernels will use them: rounded to float32, Abar through its difference to I. */
static int coefficients(struct ssm_build *b, struct ssm_layer *l, struct lti_sizes z, const struct lti_tensors *t,
                        double dt, enum ssm_discretization how, double *Abar, double *Bbar)
{
    struct ssm_lti *p = l->params;
    double *A = widen(t->A, (size_t)z.n * z.n), *B = widen(t->B, (size_t)z.n * z.in), radius;
    int status = A && B ? SSM_OK : SSM_NOMEM;

    if (status == SSM_OK)
        status = ssm_discretize(how, dt, A, B, z.n, z.in, Abar, Bbar);
    if (status == SSM_OK)
        status = ssm_spectral_radius(Abar, z.n, SSM_POLE_LIMIT, &radius);
    if (status == SSM_OK && !(radius <= SSM_POLE_LIMIT)) {
        status = ssm_fail(b, l, SSM_UNSTABLE,
                          "has a pole outside the unit circle: '%s.A' has spectral radius %.9g or more after %s",
                          l->name, radius, ssm_discretization_words[how]);
        goto out;
    }
    for (size_t i = 0; status == SSM_OK && i < (size_t)z.n * z.n; i++)
        Abar[i] = (float)(Abar[i] - (i % (z.n + (size_t)1) == 0));
    for (size_t i = 0; status == SSM_OK && i < (size_t)z.n * z.in; i++)
        Bbar[i] = (float)Bbar[i];
    if (status == SSM_OK && (status = ssm_matrix_pack_f64(&p->a, Abar, z.n, z.n)) == SSM_OK)
        status = ssm_matrix_pack_f64(&p->b, Bbar, z.n, z.in);
    for (size_t i = 0; i < z.n; i++)
        Abar[i * z.n + i] += 1;
    if (status)
        status = ssm_fail(b, l, status, "'%s.A' cannot be discretised with dt %g by %s: %s", l->name, dt,
                          ssm_discretization_words[how], ssm_status_text(status));
out:
    free(A);
    free(B);
    return status;
}

/* At a lower rate than the configuration's: C without the modes that lie above half of it. */
static int band_limit(struct ssm_build *b, const struct ssm_layer *l, struct lti_sizes z, const struct lti_tensors *t,
                      double dt)
{
    size_t n = z.n, nn = n * n;
    double band = ssm_build_band(b, dt), *A = widen(t->A, nn), *C = widen(t->C, z.out * n);
    double *work = calloc(nn + z.out * n, sizeof(*work)), *kept = work + nn;
    int status = A && C && work ? SSM_OK : SSM_NOMEM;
    uint32_t above = 0;

    if (status == SSM_OK)
        status = ssm_band_projector(A, z.n, band, work, &above);
    if (status == SSM_OK && above > 0) {
        ssm_multiply_f64(C, work, z.out, z.n, z.n, kept);
        for (size_t i = 0; i < z.out * n; i++)
            t->C[i] = (float)kept[i];
        ssm_build_zeroed(b, above);
    }
    if (status)
        status = ssm_fail(b, l, status,
                          "the modes of '%s.A' above half the stream's rate (%.9g rad per unit of dt) cannot be told "
                          "from the others: %s; resample the stream",
                          l->name, band, ssm_status_text(status));
    free(A);
    free(C);
    free(work);
    return status;
}

/* Whether L frames at once take fewer products than L steps: they do for few inputs and outputs. */
static bool block_pays(struct lti_sizes z)
{
    double n = z.n, in = z.in, out = z.out;

    return (L * out + n) * (n + L * in) < L * (n * n + n * in + out * n + out * in);
}

/* The rows of the chunk form: power = C Abar^(j+1) beside the kernels, and Abar^L - I beside Abar^(L-1-i) Bbar. */
static int block_form(struct ssm_lti *p, struct lti_sizes z, const struct lti_tensors *t, const double *Abar,
                      const double *Bbar)
{
    size_t n = z.n, width = n + (size_t)L * z.in;
    double *y = calloc((size_t)L * z.out * width, sizeof(*y)), *x = calloc(n * width, sizeof(*x));
    double *power = calloc(2 * n * n, sizeof(*power)), *next = power + n * n;        /* Abar^l */
    double *C = widen(t->C, z.out * n), *kernel = calloc(n * z.in, sizeof(*kernel)); /* Abar^l Bbar */
    double *cp = calloc((size_t)z.out * (n + z.in), sizeof(*cp)), *ck = cp + (size_t)z.out * n;
    int status = y && x && power && C && kernel && cp ? SSM_OK : SSM_NOMEM;

    if (status)
        goto out;
    for (size_t i = 0; i < n; i++)
        power[i * n + i] = 1;
    for (size_t l = 0; l < L; l++) {
        ssm_multiply_f64(power, Bbar, z.n, z.n, z.in, kernel);
        ssm_multiply_f64(C, kernel, z.out, z.n, z.in, ck);
        for (size_t j = l; j < L; j++)
            for (size_t o = 0; o < z.out; o++)
                for (size_t i = 0; i < z.in; i++)
                    y[(j * z.out + o) * width + n + (j - l) * z.in + i] =
                        ck[o * z.in + i] + (l == 0 ? (double)t->D[o * z.in + i] : 0);
        for (size_t r = 0; r < n; r++)
            memcpy(x + r * width + n + (L - 1 - l) * z.in, kernel + r * z.in, z.in * sizeof(*x));
        ssm_multiply_f64(power, Abar, z.n, z.n, z.n, next);
        memcpy(power, next, n * n * sizeof(*power));
        ssm_multiply_f64(C, power, z.out, z.n, z.n, cp);
        for (size_t o = 0; o < z.out; o++)
            memcpy(y + (l * z.out + o) * width, cp + o * n, n * sizeof(*y));
    }
    for (size_t r = 0; r < n; r++) {
        memcpy(x + r * width, power + r * n, n * sizeof(*x));
        x[r * width + r] -= 1;
    }
    if ((status = ssm_matrix_pack_f64(&p->block_y, y, (uint32_t)(L * z.out), (uint32_t)width)) == SSM_OK)
        status = ssm_matrix_pack_f64(&p->block_x, x, z.n, (uint32_t)width);
out:
    free(y);
    free(x);
    free(power);
    free(C);
    free(kernel);
    free(cp);
    return status;
}

static int tensors_take(struct ssm_build *b, const struct ssm_layer *l, struct lti_sizes z, struct lti_tensors *t)
{
    int status;

    if ((status = ssm_tensor_take(b, l, "A", &t->A, 2, (uint64_t[]){z.n, z.n})) ||
        (status = ssm_tensor_take(b, l, "B", &t->B, 2, (uint64_t[]){z.n, z.in})) ||
        (status = ssm_tensor_take(b, l, "C", &t->C, 2, (uint64_t[]){z.out, z.n})))
        return status;
    return ssm_tensor_take(b, l, "D", &t->D, 2, (uint64_t[]){z.out, z.in});
}

static int derive(struct ssm_build *b, struct ssm_layer *l, struct lti_sizes z, const struct lti_tensors *t, double dt,
                  enum ssm_discretization how)
{
    struct ssm_lti *p = l->params;
    double *Abar = calloc((size_t)z.n * z.n, sizeof(*Abar)), *Bbar = calloc((size_t)z.n * z.in, sizeof(*Bbar));
    int status = Abar && Bbar ? SSM_OK : ssm_fail(b, l, SSM_NOMEM, "no memory");

    if (status == SSM_OK)
        status = coefficients(b, l, z, t, dt, how, Abar, Bbar);
    if (status == SSM_OK &&
        ((status = ssm_matrix_pack(&p->c, t->C, z.out, z.n)) || (status = ssm_matrix_pack(&p->d, t->D, z.out, z.in)) ||
         (block_pays(z) && (status = block_form(p, z, t, Abar, Bbar)))))
        status = ssm_fail(b, l, status, "cannot keep its matrices: %s", ssm_status_text(status));
    free(Abar);
    free(Bbar);
    return status;
}

static int init(struct ssm_build *b, struct ssm_layer *l, const json_t *keys)
{
    struct ssm_lti *p = l->params = calloc(1, sizeof(*p));
    struct lti_tensors t = {0};
    struct lti_sizes z;
    double dt;
    int how, status;

    if (!p)
        return ssm_fail(b, l, SSM_NOMEM, "no memory");
    if ((status = ssm_key_count(b, l, keys, "in", &z.in, 1, 4096)) || (status = ssm_expect_in(b, l, z.in)) ||
        (status = ssm_key_count(b, l, keys, "state", &z.n, 1, 1024)) ||
        (status = ssm_key_count(b, l, keys, "out", &z.out, 1, 4096)) ||
        (status = ssm_key_number(b, l, keys, "dt", &dt, 1e-30, 1e30)) ||
        (status = ssm_key_word(b, l, keys, "discretization", ssm_discretization_words, &how, -1)) ||
        (status = tensors_take(b, l, z, &t)))
        goto out;
    p->n = z.n;
    l->out = z.out;
    l->state_bytes = (uint32_t)(z.n * sizeof(float));
    l->scratch_floats = z.n + L * z.in + z.n; /* (x, u[0..L)), the change of x */
    if ((status = ssm_part_add(b, l, &(struct ssm_part){.rows = 1, .columns = z.n})))
        goto out;
    dt = ssm_build_dt(b, dt);
    if ((status = band_limit(b, l, z, &t, dt)) == SSM_OK)
        status = derive(b, l, z, &t, dt, (enum ssm_discretization)how);
out:
    free(t.A);
    free(t.B);
    free(t.C);
    free(t.D);
    return status;
}

static void fini(struct ssm_layer *l)
{
    struct ssm_lti *p = l->params;

    if (!p)
        return;
    ssm_matrix_fini(&p->a);
    ssm_matrix_fini(&p->b);
    ssm_matrix_fini(&p->c);
    ssm_matrix_fini(&p->d);
    ssm_matrix_fini(&p->block_y);
    ssm_matrix_fini(&p->block_x);
}

const struct ssm_kind ssm_kind_lti = {
    .id = SSM_KIND_lti,
    .type = "lti",
    .keys = (const char *const[]){"in", "state", "out", "dt", "discretization", NULL},
    .init = init,
    .any_rate = true,
    .fini = fini,
};
