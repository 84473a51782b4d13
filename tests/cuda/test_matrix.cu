// SPDX-License-Identifier: Apache-2.0
// The product of cuda/matrix.cuh: against float64, and the same bits from every form, room and company.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "cuda/matrix_tiles.cuh"

enum { ROWS = 75 };

/* What the matrix uploads: a few arrays, freed by the test. */
struct cuda_build {
    void *memory[8];
    uint32_t count;
};

static void ok(cudaError_t e)
{
    if (e)
        fail_msg("%s", cudaGetErrorString(e));
}

void *cuda_upload(struct cuda_build *b, const void *host, size_t bytes)
{
    void *at = NULL;

    assert_true(host && b->count < sizeof(b->memory) / sizeof(*b->memory));
    ok(cudaMalloc(&at, bytes));
    ok(cudaMemcpy(at, host, bytes, cudaMemcpyHostToDevice));
    b->memory[b->count++] = at;
    return at;
}

static uint32_t seed = 1;

/* Uniform in [-1, 1). */
static float noise(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return (float)(int32_t)seed * 0x1p-31f;
}

static float bfloat16(float v)
{
    return __bfloat162float(__float2bfloat16(v));
}

/* A product and all that it needs, on host and device. */
struct trial {
    uint32_t in, out, x_stride, y_stride;
    float *w, *x, *start, *before; /* host: (out, in), (ROWS, x_stride), (out), (ROWS, y_stride) */
    float *d_x, *d_y, *d_start;    /* device */
    uint32_t *d_count;
    struct cuda_build build;
    struct cuda_matrix matrix;
    bool add, starts;
    uint32_t activation;
    bool glu, residual; /* of d_before */
    float *d_before;
    float *got; /* (ROWS, y_stride) */
};

static float *floats_new(size_t n)
{
    float *v = (float *)calloc(n, sizeof(*v));

    assert_non_null(v);
    return v;
}

static void trial_init(struct trial *t, uint32_t in, uint32_t out, bool narrow, uint32_t pad)
{
    uint32_t panels = (out + 15) / 16;
    struct ssm_matrix m = {out, in, floats_new((size_t)panels * in * 16)};

    memset(t, 0, sizeof(*t));
    t->in = in;
    t->out = out;
    t->x_stride = in + pad;
    t->y_stride = out + pad;
    t->w = floats_new((size_t)out * in);
    t->x = floats_new((size_t)ROWS * t->x_stride);
    t->start = floats_new(out);
    t->before = floats_new((size_t)ROWS * t->y_stride);
    t->got = floats_new((size_t)ROWS * t->y_stride);
    for (uint32_t o = 0; o < out; o++)
        for (uint32_t i = 0; i < in; i++) {
            float w = noise() * ldexpf(1, (int)(o % 5) * 3 - 6);

            t->w[o * in + i] = narrow ? bfloat16(w) : w;
            m.panels[((size_t)(o / 16) * in + i) * 16 + o % 16] = t->w[o * in + i];
        }
    for (uint32_t i = 0; i < ROWS * t->x_stride; i++)
        t->x[i] = noise() * ldexpf(1, (int)(i / t->x_stride % 7) * 9 - 27);
    for (uint32_t o = 0; o < out; o++)
        t->start[o] = noise();
    for (uint32_t i = 0; i < ROWS * t->y_stride; i++)
        t->before[i] = noise();
    cuda_matrix_build(&t->build, &m, &t->matrix);
    free(m.panels);
    ok(cudaMalloc(&t->d_x, ROWS * t->x_stride * sizeof(float)));
    ok(cudaMalloc(&t->d_y, ROWS * t->y_stride * sizeof(float)));
    ok(cudaMalloc(&t->d_before, ROWS * t->y_stride * sizeof(float)));
    ok(cudaMalloc(&t->d_start, out * sizeof(float)));
    ok(cudaMalloc(&t->d_count, sizeof(uint32_t)));
    ok(cudaMemcpy(t->d_start, t->start, out * sizeof(float), cudaMemcpyHostToDevice));
}

static void trial_fini(struct trial *t)
{
    free(t->w);
    free(t->x);
    free(t->start);
    free(t->before);
    free(t->got);
    ok(cudaFree(t->d_x));
    ok(cudaFree(t->d_y));
    ok(cudaFree(t->d_before));
    ok(cudaFree(t->d_start));
    ok(cudaFree(t->d_count));
    for (uint32_t i = 0; i < t->build.count; i++)
        ok(cudaFree(t->build.memory[i]));
}

typedef cudaError_t form_fn(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream);

/* Rows [from, from + count) of x through it, into rows [0, count) of got. */
static void trial_run(struct trial *t, form_fn *form, uint32_t from, uint32_t count, uint32_t room)
{
    struct cuda_product p = {};

    ok(cudaMemcpy(t->d_x, t->x, ROWS * t->x_stride * sizeof(float), cudaMemcpyHostToDevice));
    ok(cudaMemcpy(t->d_y, t->before + from * t->y_stride, count * t->y_stride * sizeof(float), cudaMemcpyHostToDevice));
    ok(cudaMemcpy(t->d_before, t->before + from * t->y_stride, count * t->y_stride * sizeof(float),
                  cudaMemcpyHostToDevice));
    ok(cudaMemcpy(t->d_count, &count, sizeof(count), cudaMemcpyHostToDevice));
    p.x = t->d_x + from * t->x_stride;
    p.x_stride = t->x_stride;
    p.y = t->d_y;
    p.y_stride = t->y_stride;
    p.start = t->starts ? t->d_start : NULL;
    p.add = t->add;
    p.count = t->d_count;
    p.room = room;
    p.activation = t->activation;
    p.glu = t->glu;
    p.residual = t->residual ? t->d_before : NULL;
    p.residual_stride = t->y_stride;
    ok(form(&t->matrix, &p, NULL));
    ok(cudaDeviceSynchronize());
    ok(cudaMemcpy(t->got, t->d_y, count * t->y_stride * sizeof(float), cudaMemcpyDeviceToHost));
}

/* max over outputs of |got - want| / (|start| + sum |w||x|); what lies between rows of y is as it was. */
static double trial_error(const struct trial *t)
{
    double worst = 0;

    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t o = 0; o < t->y_stride; o++) {
            double want = t->add ? t->before[r * t->y_stride + o] : t->starts && o < t->out ? t->start[o] : 0;
            double size = fabs(want), error;

            if (o >= t->out) {
                assert_true(t->got[r * t->y_stride + o] == t->before[r * t->y_stride + o]);
                continue;
            }
            for (uint32_t i = 0; i < t->in; i++) {
                want += (double)t->w[o * t->in + i] * t->x[r * t->x_stride + i];
                size += fabs((double)t->w[o * t->in + i] * t->x[r * t->x_stride + i]);
            }
            error = fabs(t->got[r * t->y_stride + o] - want) / (size > 0 ? size : 1);
            assert_true(error < 1); /* false for NaN */
            worst = error > worst ? error : worst;
        }
    return worst;
}

static void forms_compare(struct trial *t, uint32_t from, uint32_t count, const float *all)
{
    static const struct {
        form_fn *form;
        uint32_t room;
    } forms[] = {{cuda_matrix_few, 8},       {cuda_matrix_few, 16},      {cuda_matrix_few, 32},
                 {cuda_matrix_few, 90},      {cuda_matrix_few, 600},     {cuda_matrix_few, 2000},
                 {cuda_matrix_few, 5000},    {cuda_matrix_many, 80},     {cuda_matrix_many, 66 * 64},
                 {cuda_matrix_many, 66 * 128}, {cuda_matrix_launch, 100}, {cuda_matrix_launch, 7}};

    for (uint32_t f = 0; f < sizeof(forms) / sizeof(*forms); f++) {
        if (forms[f].room < count)
            continue;
        trial_run(t, forms[f].form, from, count, forms[f].room);
        for (uint32_t r = 0; r < count; r++)
            if (memcmp(t->got + r * t->y_stride, all + (from + r) * t->y_stride, t->out * sizeof(float)))
                fail_msg("%u x %u: form %u, row %u of %u from %u on", t->out, t->in, f, r, count, from);
    }
}

static void shape_try(uint32_t in, uint32_t out, bool narrow, uint32_t pad, uint32_t number)
{
    struct trial t;
    float *all;
    double error;

    trial_init(&t, in, out, narrow, pad);
    assert_int_equal(t.matrix.parts, narrow ? 1 : 2);
    t.add = number % 3 == 2;
    t.starts = number % 3 == 1;
    trial_run(&t, cuda_matrix_many, 0, ROWS, ROWS);
    error = trial_error(&t);
    print_message("%u x %u%s: %.2g of sum |w||x|\n", out, in, narrow ? " narrow" : "", error);
    assert_true(error < 4e-7 + in * 1e-9);
    all = floats_new(ROWS * t.y_stride);
    memcpy(all, t.got, ROWS * t.y_stride * sizeof(float));
    forms_compare(&t, 0, ROWS, all);
    forms_compare(&t, 3, 29, all);
    forms_compare(&t, ROWS - 1, 1, all);
    forms_compare(&t, 17, 7, all);
    free(all);
    trial_fini(&t);
}

static void product__odd_and_even_shapes__match_float64_and_one_another(void **state)
{
    static const uint32_t in[] = {1, 4, 31, 32, 33, 64, 65, 96, 130, 260, 1700}, out[] = {1, 16, 17, 64, 70, 130};
    uint32_t number = 0;

    (void)state;
    for (uint32_t i = 0; i < sizeof(in) / sizeof(*in); i++)
        for (uint32_t narrow = 0; narrow < 2; narrow++, number++)
            shape_try(in[i], out[(i + narrow * 3) % 6], narrow, number % 4, number);
}

/* What is done to outputs behind the sum: as on the CPU's values of the plain product, and the same from every form. */
static void after_try(uint32_t in, uint32_t out, bool narrow, uint32_t activation, bool glu, bool residual)
{
    struct trial t;
    float *plain, *all;
    uint32_t y = glu ? out / 2 : out;

    trial_init(&t, in, out, narrow, 3);
    t.starts = true;
    trial_run(&t, cuda_matrix_few, 0, ROWS, ROWS);
    plain = floats_new(ROWS * t.y_stride);
    all = floats_new(ROWS * t.y_stride);
    memcpy(plain, t.got, ROWS * t.y_stride * sizeof(float));
    t.activation = activation;
    t.glu = glu;
    t.residual = residual;
    trial_run(&t, cuda_matrix_many, 0, ROWS, ROWS);
    memcpy(all, t.got, ROWS * t.y_stride * sizeof(float));
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t o = 0; o < t.y_stride; o++) {
            const float *row = plain + r * t.y_stride, before = t.before[r * t.y_stride + o];
            float v = row[o], gate = o < y && glu ? row[y + o] : 0;

            if (activation != CUDA_NO_ACTIVATION) {
                v = cuda_activate(activation, v);
                gate = cuda_activate(activation, gate);
            }
            if (glu)
                v = v * cuda_sigmoid(gate);
            if (residual)
                v = v + before;
            if (memcmp(&all[r * t.y_stride + o], o < y ? &v : &before, sizeof(v)))
                fail_msg("%u x %u: activation %u, row %u, output %u", out, in, activation, r, o);
        }
    forms_compare(&t, 0, ROWS, all);
    forms_compare(&t, 40, 9, all);
    free(plain);
    free(all);
    trial_fini(&t);
}

static void product__with_what_follows__has_the_bits_of_separate_layers(void **state)
{
    (void)state;
    for (uint32_t fn = SSM_RELU; fn <= SSM_SOFTPLUS; fn++)
        after_try(40, 17 + fn * 8, fn % 2, CUDA_ACTIVATION(fn), false, fn % 3 == 0);
    after_try(64, 128, true, CUDA_NO_ACTIVATION, true, true);
    after_try(64, 128, false, CUDA_NO_ACTIVATION, true, true);
    after_try(70, 22, false, CUDA_NO_ACTIVATION, true, false);
    after_try(33, 130, true, CUDA_ACTIVATION(SSM_TANH), true, true);
    after_try(9, 5, true, CUDA_NO_ACTIVATION, false, true);
}

/* So many rows that blocks take several tiles, by forms that see the same rows alone. */
static void tiles_try(uint32_t in, uint32_t out, bool narrow, uint32_t rows)
{
    struct trial t;
    struct cuda_product p = {};
    float *x = floats_new((size_t)rows * in), *got = floats_new((size_t)rows * out), *d_x, *d_y;

    trial_init(&t, in, out, narrow, 0);
    for (uint32_t r = 0; r < rows; r++)
        memcpy(x + (size_t)r * in, t.x + r % ROWS * in, in * sizeof(float));
    ok(cudaMalloc(&d_x, (size_t)rows * in * sizeof(float)));
    ok(cudaMalloc(&d_y, (size_t)rows * out * sizeof(float)));
    ok(cudaMemcpy(d_x, x, (size_t)rows * in * sizeof(float), cudaMemcpyHostToDevice));
    ok(cudaMemcpy(t.d_count, &rows, sizeof(rows), cudaMemcpyHostToDevice));
    p.x = d_x;
    p.x_stride = in;
    p.y = d_y;
    p.y_stride = out;
    p.count = t.d_count;
    p.room = rows + 9;
    ok(cuda_matrix_launch(&t.matrix, &p, NULL));
    ok(cudaMemcpy(got, d_y, (size_t)rows * out * sizeof(float), cudaMemcpyDeviceToHost));
    trial_run(&t, cuda_matrix_few, 0, ROWS, ROWS);
    for (uint32_t r = 0; r < rows; r++)
        if (memcmp(got + (size_t)r * out, t.got + r % ROWS * out, out * sizeof(float)))
            fail_msg("%u x %u: row %u", out, in, r);
    ok(cudaFree(d_x));
    ok(cudaFree(d_y));
    free(x);
    free(got);
    trial_fini(&t);
}

static void product__more_tiles_than_blocks__the_same(void **state)
{
    (void)state;
    tiles_try(20, 66, true, 132 * 128 + 300);      /* one segment, weights kept */
    tiles_try(70, 66, false, 132 * 64 + 700);      /* two parts, two segments */
    tiles_try(100, 130, true, 66 * 128 + 200);     /* two tiles of outputs */
    tiles_try(130, 7, false, 2 * 132 * 64 + 100);  /* tiles of 64 x 64, three segments */
}

/* A row that is not a number shows in no other; one of zeros gives its start. */
static void product__nan_and_zero_rows__keep_to_themselves(void **state)
{
    struct trial t;
    float *all;

    (void)state;
    trial_init(&t, 70, 20, false, 0);
    t.starts = true;
    memset(t.x + 9 * t.x_stride, 0, t.in * sizeof(float));
    trial_run(&t, cuda_matrix_many, 0, ROWS, ROWS);
    assert_memory_equal(t.got + 9 * t.y_stride, t.start, t.out * sizeof(float));
    all = floats_new(ROWS * t.y_stride);
    memcpy(all, t.got, ROWS * t.y_stride * sizeof(float));
    t.x[8 * t.x_stride + 5] = NAN;
    t.x[11 * t.x_stride + 69] = INFINITY;
    for (uint32_t f = 0; f < 2; f++) {
        trial_run(&t, f ? cuda_matrix_few : cuda_matrix_many, 0, ROWS, ROWS);
        for (uint32_t r = 0; r < ROWS; r++)
            if (r == 8 || r == 11)
                for (uint32_t o = 0; o < t.out; o++)
                    assert_false(isfinite(t.got[r * t.y_stride + o]));
            else
                assert_memory_equal(t.got + r * t.y_stride, all + r * t.y_stride, t.out * sizeof(float));
    }
    free(all);
    trial_fini(&t);
}

/* Numbers far from 1 are as exact as others, and the count, not the room, says what is written. */
static void product__sizes_far_from_one__as_exact(void **state)
{
    static const float loud[] = {1e-20f, 1e-10f, 1e15f, 1e25f};

    (void)state;
    for (uint32_t k = 0; k < sizeof(loud) / sizeof(*loud); k++) {
        struct trial t;

        trial_init(&t, 90, 18, k % 2, 1);
        for (uint32_t i = 0; i < ROWS * t.x_stride; i++)
            t.x[i] *= loud[k];
        trial_run(&t, cuda_matrix_few, 0, ROWS, ROWS);
        assert_true(trial_error(&t) < 4e-7);
        trial_fini(&t);
    }
}

static void half__every_value__there_and_back(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++)
        if ((h & 0x7fff) <= 0x7c00)
            assert_int_equal(cuda_half_round(cuda_half_value(h)), h);
    assert_true(isnan(cuda_half_value(cuda_half_round(NAN))));
    assert_int_equal(cuda_half_round(65519.0f), 0x7bff);
    assert_int_equal(cuda_half_round(65520.0f), 0x7c00);
    assert_int_equal(cuda_half_round(1 + 0x1p-11f), 0x3c00);     /* a tie, to even */
    assert_int_equal(cuda_half_round(1 + 3 * 0x1p-11f), 0x3c02); /* likewise */
    assert_int_equal(cuda_half_round(0x1p-25f), 0);              /* likewise */
    assert_int_equal(cuda_half_round(0x1.8p-24f), 2);            /* likewise */
    for (uint32_t e = 29; e < 255; e++)
        assert_int_equal(cuda_half_scale_bits(e << 23) >> 23, 268 - e);
    assert_int_equal(cuda_half_scale_bits(0) >> 23, 239);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half__every_value__there_and_back),
        cmocka_unit_test(product__odd_and_even_shapes__match_float64_and_one_another),
        cmocka_unit_test(product__with_what_follows__has_the_bits_of_separate_layers),
        cmocka_unit_test(product__more_tiles_than_blocks__the_same),
        cmocka_unit_test(product__nan_and_zero_rows__keep_to_themselves),
        cmocka_unit_test(product__sizes_far_from_one__as_exact),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
