// SPDX-License-Identifier: Apache-2.0
// mamba and mamba2 launched with rows and rooms of the test's choice: the form that a launch takes follows from its rooms,
// and must show in no bit; scans agree with steps. (Against float64: tests/ssm/test_selective.c.)
// Linked with the kernels (CUDA_KERNELS).
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

#include "cuda/mamba.cuh"
#include "cuda/mamba2.cuh"

enum { UPLOADS_MAX = 32, ROWS_MAX = 16, DIM = 5 };

static void ok(cudaError_t e)
{
    if (e)
        fail_msg("%s", cudaGetErrorString(e));
}

/* ---- what a program gives to a layer ------------------------------------------------------------------------------- */

struct cuda_build {
    void *device[UPLOADS_MAX];
    uint32_t uploads;
    void *params;
};

void *cuda_upload(struct cuda_build *b, const void *host, size_t bytes)
{
    void *at = NULL;

    assert_true(host && b->uploads < UPLOADS_MAX);
    ok(cudaMalloc(&at, bytes));
    ok(cudaMemcpy(at, host, bytes, cudaMemcpyHostToDevice));
    b->device[b->uploads++] = at;
    return at;
}

void *cuda_params(struct cuda_build *b, size_t bytes)
{
    return b->params = calloc(1, bytes);
}

/* ---- layers of random weights -------------------------------------------------------------------------------------- */

static uint32_t seed = 1;

/* Uniform in [-1, 1). */
static float noise(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return (float)(int32_t)seed * 0x1p-31f;
}

static float *floats_make(size_t n, float spread)
{
    float *v = (float *)calloc(n + 1, sizeof(*v));

    assert_non_null(v);
    for (size_t i = 0; i < n; i++)
        v[i] = spread * noise();
    return v;
}

static void linear_make(struct ssm_linear *p, uint32_t out, uint32_t in)
{
    p->weight.out = out;
    p->weight.in = in;
    p->weight.panels = floats_make((size_t)(out + 15) / 16 * 16 * in, 1.5f / sqrtf((float)in));
    p->bias = floats_make(out + 16, 0.3f);
}

static void linear_free(struct ssm_linear *p)
{
    free(p->weight.panels);
    free(p->bias);
}

static void window_make(struct ssm_window *w, uint32_t kernel, uint32_t lanes)
{
    w->kernel = kernel;
    w->lanes = lanes;
    w->taps = floats_make((size_t)kernel * lanes, 1.5f / sqrtf((float)kernel));
    w->bias = floats_make(lanes, 0.3f);
}

static float *rates_make(size_t n)
{
    float *rate = floats_make(n, 1);

    for (size_t i = 0; i < n; i++)
        rate[i] = -exp2f(4 * rate[i] - 2);
    return rate;
}

/* A layer of either kind, and what it is built of. */
struct subject {
    struct ssm_layer layer;
    struct cuda_layer on_device;
    struct cuda_build build;
    struct ssm_mamba mamba;
    struct ssm_mamba2 mamba2;
};

static void subject_build(struct subject *s, const struct cuda_kind *kind, void *params, size_t state_floats)
{
    s->layer.in = s->layer.out = DIM;
    s->layer.state_offset = 64;
    s->layer.state_bytes = (uint32_t)(state_floats * sizeof(float));
    s->layer.params = params;
    s->on_device.layer = &s->layer;
    s->on_device.kind = kind;
    kind->build(&s->build, &s->layer, &s->on_device.params);
}

static void mamba_make(struct subject *s, uint32_t lanes, uint32_t states, uint32_t rank, uint32_t kernel)
{
    struct ssm_mamba *p = &s->mamba;

    *s = {};
    p->lanes = lanes;
    p->state = states;
    p->rank = rank;
    linear_make(&p->in_proj, 2 * lanes, DIM);
    window_make(&p->window, kernel, lanes);
    linear_make(&p->x_proj, rank + 2 * states, lanes);
    linear_make(&p->dt_proj, lanes, rank);
    linear_make(&p->out_proj, DIM, lanes);
    p->rate = rates_make((size_t)lanes * states);
    p->d = floats_make(lanes, 1);
    subject_build(s, &cuda_kind_mamba, p, (size_t)lanes * (kernel - 1 + states));
}

static void mamba2_make(struct subject *s, uint32_t heads, uint32_t head_dim, uint32_t groups, uint32_t states)
{
    struct ssm_mamba2 *p = &s->mamba2;
    uint32_t window;

    *s = {};
    p->heads = heads;
    p->groups = groups;
    p->state = states;
    p->head_dim = p->head_lanes = head_dim; /* a multiple of 16 here */
    p->state_lanes = (states + 15) & ~15u;
    p->state_padded = (states + 3) & ~3u;
    p->inner_lanes = heads * head_dim;
    p->dt_lanes = (heads + 15) & ~15u;
    window = p->inner_lanes + 2 * groups * p->state_lanes;
    p->lanes = p->inner_lanes + window + p->dt_lanes;
    p->rms_norm = states % 2;
    p->eps = 1e-5f;
    p->dt_max = INFINITY;
    linear_make(&p->in_proj, p->lanes, DIM);
    window_make(&p->window, 4, window);
    for (uint32_t i = p->inner_lanes; i < window; i++) /* lanes of B and C that hold nothing */
        if ((i - p->inner_lanes) % p->state_lanes >= states)
            p->window.bias[i] = p->window.taps[i] = p->window.taps[i + window] = p->window.taps[i + 2 * window] =
                p->window.taps[i + 3 * window] = 0;
    linear_make(&p->out_proj, DIM, p->inner_lanes);
    p->rate = rates_make(p->dt_lanes);
    p->d = floats_make(heads, 1);
    p->norm = floats_make(p->inner_lanes, 1);
    subject_build(s, &cuda_kind_mamba2, p, 3 * (size_t)window + (size_t)p->inner_lanes * p->state_padded);
}

static void subject_fini(struct subject *s)
{
    linear_free(&s->mamba.in_proj);
    linear_free(&s->mamba.x_proj);
    linear_free(&s->mamba.dt_proj);
    linear_free(&s->mamba.out_proj);
    linear_free(&s->mamba2.in_proj);
    linear_free(&s->mamba2.out_proj);
    free(s->mamba.window.taps);
    free(s->mamba.window.bias);
    free(s->mamba.rate);
    free(s->mamba.d);
    free(s->mamba2.window.taps);
    free(s->mamba2.window.bias);
    free(s->mamba2.rate);
    free(s->mamba2.d);
    free(s->mamba2.norm);
    for (uint32_t i = 0; i < s->build.uploads; i++)
        ok(cudaFree(s->build.device[i]));
    free(s->build.params);
}

/* ---- tiles --------------------------------------------------------------------------------------------------------- */

/* A stream on the device: its state, the input that it will see, and what came out. */
struct stream {
    unsigned char *state; /* device */
    uint64_t start;       /* index of its first frame here */
    uint32_t view, frames, done;
    float *x, *y; /* (frames, DIM) */
};

static void stream_init(const struct subject *s, struct stream *of, uint64_t start, uint32_t view, uint32_t frames)
{
    size_t bytes = s->layer.state_offset + s->layer.state_bytes;

    memset(of, 0, sizeof(*of));
    of->start = start;
    of->view = view;
    of->frames = frames;
    of->x = floats_make((size_t)frames * DIM, 1);
    of->y = floats_make((size_t)frames * DIM, 0);
    ok(cudaMalloc((void **)&of->state, bytes));
    ok(cudaMemset(of->state, 0, bytes));
}

/* The same stream from the beginning, in another view if asked for. */
static void stream_again(const struct subject *s, struct stream *of, const struct stream *from, uint32_t view)
{
    stream_init(s, of, from->start, view, from->frames);
    memcpy(of->x, from->x, (size_t)from->frames * DIM * sizeof(float));
}

static void stream_fini(struct stream *of)
{
    free(of->x);
    free(of->y);
    ok(cudaFree(of->state));
}

struct rooms {
    uint32_t rows, frames, longest; /* beyond what the tile has */
};

/* The next take[r] frames of every stream in one tile, whose rooms are so much larger than it asks for. */
static void tile_run(const struct subject *s, struct stream *of, const uint32_t *take, uint32_t n, struct rooms more)
{
    struct cuda_row row[ROWS_MAX] = {};
    struct cuda_count count = {n, 0};
    struct cuda_span span = {};
    struct cuda_tile tile = {};
    uint32_t owner[8192];
    float *x, *y;
    void *device[3] = {};

    assert_true(n <= ROWS_MAX);
    for (uint32_t r = 0; r < n; r++) {
        row[r].state = of[r].state;
        row[r].index = of[r].start + of[r].done;
        row[r].first = count.frames;
        row[r].frames = take[r];
        row[r].view = of[r].view;
        row[r].begins = row[r].index == 0;
        tile.scans = tile.scans || of[r].view == SSM_SCAN;
        span.longest_room = take[r] > span.longest_room ? take[r] : span.longest_room;
        for (uint32_t t = 0; t < take[r]; t++)
            owner[count.frames++] = r;
    }
    assert_true(count.frames <= 8192);
    span.rows_room = n + more.rows;
    span.frames_room = count.frames + more.frames;
    span.longest_room += more.longest;
    ok(cudaMalloc((void **)&x, (size_t)span.frames_room * DIM * sizeof(float)));
    ok(cudaMalloc((void **)&y, (size_t)span.frames_room * DIM * sizeof(float)));
    ok(cudaMalloc(&device[0], sizeof(row)));
    ok(cudaMalloc(&device[1], sizeof(count)));
    ok(cudaMalloc(&device[2], sizeof(owner)));
    ok(cudaMemcpy(device[0], row, sizeof(row), cudaMemcpyHostToDevice));
    ok(cudaMemcpy(device[1], &count, sizeof(count), cudaMemcpyHostToDevice));
    ok(cudaMemcpy(device[2], owner, sizeof(owner), cudaMemcpyHostToDevice));
    for (uint32_t r = 0; r < n; r++)
        ok(cudaMemcpy(x + (size_t)row[r].first * DIM, of[r].x + (size_t)of[r].done * DIM, take[r] * DIM * sizeof(float),
                      cudaMemcpyHostToDevice));
    span.rows = (const struct cuda_row *)device[0];
    span.count = (const struct cuda_count *)device[1];
    span.owner = (const uint32_t *)device[2];
    tile.clock = &span;
    ok(cudaMalloc((void **)&tile.scratch, s->on_device.kind->scratch(&s->on_device, &tile)));
    ok(s->on_device.kind->launch(&s->on_device, &tile, x, y));
    ok(cudaDeviceSynchronize());
    for (uint32_t r = 0; r < n; r++) {
        ok(cudaMemcpy(of[r].y + (size_t)of[r].done * DIM, y + (size_t)row[r].first * DIM, take[r] * DIM * sizeof(float),
                      cudaMemcpyDeviceToHost));
        of[r].done += take[r];
    }
    ok(cudaFree(x));
    ok(cudaFree(y));
    ok(cudaFree(tile.scratch));
    for (int i = 0; i < 3; i++)
        ok(cudaFree(device[i]));
}

/* Output and state of two streams are the same bits. */
static void streams_same(const struct subject *s, const struct stream *a, const struct stream *b, const char *what)
{
    size_t bytes = s->layer.state_offset + s->layer.state_bytes;
    unsigned char *states = (unsigned char *)malloc(2 * bytes);

    assert_non_null(states);
    for (uint32_t i = 0; i < a->frames * DIM; i++)
        if (memcmp(&a->y[i], &b->y[i], sizeof(float)))
            fail_msg("%s: frame %u of %u: %.9g is not %.9g", what, i / DIM, a->frames, (double)a->y[i],
                     (double)b->y[i]);
    ok(cudaMemcpy(states, a->state, bytes, cudaMemcpyDeviceToHost));
    ok(cudaMemcpy(states + bytes, b->state, bytes, cudaMemcpyDeviceToHost));
    if (memcmp(states, states + bytes, bytes))
        fail_msg("%s: states differ", what);
    free(states);
}

/* max |a - b| / max |a|. */
static double streams_apart(const struct stream *a, const struct stream *b)
{
    double apart = 0, size = 0;

    for (uint32_t i = 0; i < a->frames * DIM; i++) {
        assert_true(isfinite(a->y[i]) && isfinite(b->y[i]));
        apart = fmax(apart, fabs((double)a->y[i] - b->y[i]));
        size = fmax(size, fabs((double)a->y[i]));
    }
    return apart / size;
}

/* One long row that is scanned: alone in rooms that are just so, where its blocks may go side by side; in wide rooms; cut
 * on the grid, in company; and stepped. */
static void long_row_try(struct subject *s, uint64_t start, const char *what)
{
    static const struct rooms none = {0, 0, 0}, wide = {200, 700, 5000};
    struct stream alone, roomy, cut[3], stepped;
    uint32_t frames = 600, head = (uint32_t)(64 - start % 64) % 64 + 128;
    double apart;

    stream_init(s, &alone, start, SSM_SCAN, frames);
    stream_again(s, &roomy, &alone, SSM_SCAN);
    stream_again(s, &stepped, &alone, SSM_STEP);
    stream_init(s, &cut[0], 7, SSM_STEP, 100);
    stream_again(s, &cut[1], &alone, SSM_SCAN);
    stream_init(s, &cut[2], 0, SSM_SCAN, 400);
    tile_run(s, &alone, &frames, 1, none);
    tile_run(s, &roomy, &frames, 1, wide);
    tile_run(s, &stepped, &frames, 1, none);
    {
        uint32_t first[] = {3, head, 64}, second[] = {97, frames - head, 330};

        tile_run(s, cut, first, 3, none);
        tile_run(s, cut, second, 3, wide);
    }
    streams_same(s, &alone, &roomy, what);
    streams_same(s, &alone, &cut[1], what);
    apart = streams_apart(&stepped, &alone);
    print_message("%s: scan and step differ by %.2g\n", what, apart);
    assert_true(apart < 3e-6);
    for (int i = 0; i < 3; i++)
        stream_fini(&cut[i]);
    stream_fini(&alone);
    stream_fini(&roomy);
    stream_fini(&stepped);
}

/* Frames one at a time, by the kernel for that and by the one for longer rows, and several at once in company. */
static void short_rows_try(struct subject *s, const char *what)
{
    static const struct rooms none = {0, 0, 0}, wide = {3, 9, 20};
    struct stream single, roomy, crowd[3];
    uint32_t one = 1;

    stream_init(s, &single, 0, SSM_STEP, 23);
    stream_again(s, &roomy, &single, SSM_STEP);
    stream_init(s, &crowd[0], 70, SSM_STEP, 40);
    stream_again(s, &crowd[1], &single, SSM_STEP);
    stream_init(s, &crowd[2], 0, SSM_STEP, 40);
    for (uint32_t t = 0; t < single.frames; t++) {
        tile_run(s, &single, &one, 1, none);
        tile_run(s, &roomy, &one, 1, wide);
    }
    for (uint32_t t = 0; t < 3; t++) {
        static const uint32_t take[3][3] = {{5, 2, 0}, {1, 17, 1}, {0, 4, 31}};

        tile_run(s, crowd, take[t], 3, t == 1 ? wide : none);
    }
    streams_same(s, &single, &roomy, what);
    streams_same(s, &single, &crowd[1], what);
    for (int i = 0; i < 3; i++)
        stream_fini(&crowd[i]);
    stream_fini(&single);
    stream_fini(&roomy);
}

static void mamba__rooms_cuts_and_company__same_bits(void **state)
{
    static const struct {
        uint32_t lanes, states, rank, kernel;
    } shapes[] = {{16, 1, 1, 1}, {32, 7, 5, 4}, {16, 16, 48, 4}, {48, 33, 3, 2}, {16, 64, 4, 4}, {16, 300, 9, 21}};

    (void)state;
    for (uint32_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct subject s;
        char what[64];

        snprintf(what, sizeof(what), "mamba %u x %u, rank %u, conv %u", shapes[i].lanes, shapes[i].states,
                 shapes[i].rank, shapes[i].kernel);
        mamba_make(&s, shapes[i].lanes, shapes[i].states, shapes[i].rank, shapes[i].kernel);
        short_rows_try(&s, what);
        long_row_try(&s, i % 2 ? 1000 + i : 0, what);
        subject_fini(&s);
    }
}

static void mamba2__rooms_cuts_and_company__same_bits(void **state)
{
    static const struct {
        uint32_t heads, head_dim, groups, states;
    } shapes[] = {{1, 16, 1, 1}, {4, 16, 2, 18}, {2, 32, 1, 37}, {1, 80, 1, 64}, {2, 16, 1, 131}};

    (void)state;
    for (uint32_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
        struct subject s;
        char what[64];

        snprintf(what, sizeof(what), "mamba2 %u heads of %u x %u, %u groups", shapes[i].heads, shapes[i].head_dim,
                 shapes[i].states, shapes[i].groups);
        mamba2_make(&s, shapes[i].heads, shapes[i].head_dim, shapes[i].groups, shapes[i].states);
        short_rows_try(&s, what);
        long_row_try(&s, i % 2 ? 1000 + i : 0, what);
        subject_fini(&s);
    }
}

/* 2^x - 1 to the digits that cuda/mamba.cuh promises, near 0 and far from it. */
static void change__every_size__within_its_error(void **state)
{
    double worst[2] = {0, 0};

    (void)state;
    for (uint32_t i = 0; i < 2000000; i++) {
        float x = -exp2f(noise() * 17 - 10), got = mamba_change(x);
        double want = expm1((double)x * 0.69314718055994530942), error = fabs((got - want) / want) * 0x1p24;
        int far = x < -0.5f;

        worst[far] = error > worst[far] ? error : worst[far];
    }
    print_message("change errs by %.2f and %.2f\n", worst[0], worst[1]);
    assert_true(worst[0] < 4 && worst[1] < 8);
    assert_true(mamba_change(-INFINITY) == -1 && mamba_change(0) == 0 && isnan(mamba_change(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(change__every_size__within_its_error),
        cmocka_unit_test(mamba__rooms_cuts_and_company__same_bits),
        cmocka_unit_test(mamba2__rooms_cuts_and_company__same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
