/* SPDX-License-Identifier: Apache-2.0
 *
 * Graphs that change rates: random ones (strides, factors, kernels, dilations, groups, nested joins, ratios below and
 * above 1) against the whole-sequence reference of tests/reference/rates.h on the input continued with zeros.
 *
 * What is held against the definitions, not against libssm's clocks: every output leaves with the input that
 * completes it, never before input floor(t / ratio) and in order, whatever the chunking; hop; lookahead; a closed stream
 * has ceil(L * ratio) outputs.
 *
 * A frame that no tap of a transposed convolution reaches (kernel < stride) depends on nothing, and still waits for the
 * one before it: where such frames are, an output may leave later than it could, never earlier.
 */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/reference/layers.h"
#include "tests/reference/rates.h"
#include "tests/ssm/making.h"
#include "tests/ssm/refusing.h"
#include "tests/ssm/running.h"

#define GRAPHS   60
#define BOUND    3e-6
#define HOP_MAX  400
#define DEEPEST  3
#define CHANNELS 6
#define BEYOND   4000 /* zeros after the input: several hops and lookaheads */

/* A graph being made: its JSON grows while its reference runs. */
struct graph {
    struct making model;
    uint32_t seed;
    char json[MAKING_LAYERS_MAX];
    size_t at;
    uint32_t names;
    bool gaps; /* a transposed convolution leaves frames that depend on nothing */
    unsigned long hop;
    unsigned long num, den; /* rate of the place at work */
    size_t in, out, frames; /* frames: L */
    float *x;               /* (frames, in) */
    struct track y;         /* of the input and BEYOND zeros */
};

static unsigned long gcd(unsigned long a, unsigned long b)
{
    return b ? gcd(b, a % b) : a;
}

static void rate_scale(struct graph *g, unsigned long num, unsigned long den)
{
    unsigned long common;

    g->num *= num;
    g->den *= den;
    common = gcd(g->num, g->den);
    g->num /= common;
    g->den /= common;
    g->hop = g->hop / gcd(g->hop, g->den) * g->den;
}

static uint32_t between(struct graph *g, uint32_t from, uint32_t to)
{
    return from + making_number(&g->seed, to - from + 1);
}

__attribute__((format(printf, 2, 3))) static void json_add(struct graph *g, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g->at += (size_t)vsnprintf(g->json + g->at, sizeof(g->json) - g->at, format, args);
    va_end(args);
    assert_true(g->at < sizeof(g->json));
}

static const float *tensor(struct graph *g, const char *suffix, uint32_t rank, uint32_t a, uint32_t b, uint32_t c)
{
    char name[32];
    float spread = 1.5f / sqrtf((float)(rank == 3 ? b * c : b) + 1);

    snprintf(name, sizeof(name), "n%u.%s", g->names, suffix);
    return making_tensor(&g->model, rank == 1 ? 0.5f : spread, name, rank, a, b, c);
}

static void become(struct track *to, struct track from)
{
    track_free(to);
    *to = from;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static void strided_add(struct graph *g, struct track *x, uint32_t out, uint32_t stride)
{
    struct reference_strided c = {.in = x->channels, .out = out, .stride = stride, .groups = 1, .dilation = 1};
    bool bias = between(g, 0, 1);

    if (c.in == c.out && between(g, 0, 3) == 0)
        c.groups = c.in;
    else if (c.in % 2 == 0 && out % 2 == 0 && between(g, 0, 2) == 0)
        c.groups = 2;
    c.kernel = between(g, 1, 5); /* also shorter than the stride */
    c.dilation = between(g, 0, 2) ? 1 : between(g, 2, 4);
    c.causal = between(g, 0, 1);
    g->names++;
    c.weight = tensor(g, "weight", 3, out, (uint32_t)(c.in / c.groups), (uint32_t)c.kernel);
    c.bias = bias ? tensor(g, "bias", 1, out, 0, 0) : NULL;
    json_add(g,
             "{'type':'conv1d','name':'n%u','in':%zu,'out':%u,'kernel':%zu,'stride':%u,'groups':%zu,'dilation':%zu,"
             "'bias':%s,'padding':'%s'},",
             g->names, c.in, out, c.kernel, stride, c.groups, c.dilation, bias ? "true" : "false",
             c.causal ? "causal" : "valid");
    become(x, reference_strided(&c, x));
    rate_scale(g, 1, stride);
}

static void transposed_add(struct graph *g, struct track *x, uint32_t out, uint32_t stride)
{
    uint32_t in = (uint32_t)x->channels, kernel = between(g, between(g, 0, 9) ? stride : 1, 2 * stride + 2);
    const float *weight, *bias;

    g->gaps = g->gaps || kernel < stride;
    g->names++;
    weight = tensor(g, "weight", 3, in, out, kernel);
    bias = tensor(g, "bias", 1, out, 0, 0);
    json_add(g, "{'type':'conv_transpose1d','name':'n%u','in':%u,'out':%u,'kernel':%u,'stride':%u},", g->names, in, out,
             kernel, stride);
    become(x, reference_transposed(weight, bias, in, out, kernel, stride, x));
    rate_scale(g, stride, 1);
}

static void resample_add(struct graph *g, struct track *x, uint32_t out, uint32_t factor, bool up)
{
    uint32_t in = (uint32_t)x->channels;
    const float *weight;

    g->names++;
    weight = tensor(g, "weight", 3, in, out, factor);
    json_add(g, "{'type':'%s','name':'n%u','in':%u,'out':%u,'factor':%u},", up ? "upsample" : "downsample", g->names,
             in, out, factor);
    become(x, up ? reference_upsample(weight, in, out, factor, x) : reference_downsample(weight, in, out, factor, x));
    rate_scale(g, up ? factor : 1, up ? 1 : factor);
}

static void down_add(struct graph *g, struct track *x, uint32_t out, uint32_t factor)
{
    if (between(g, 0, 2) == 0)
        resample_add(g, x, out, factor, false);
    else
        strided_add(g, x, out, factor);
}

static void up_add(struct graph *g, struct track *x, uint32_t out, uint32_t factor)
{
    if (between(g, 0, 2) == 0)
        resample_add(g, x, out, factor, true);
    else
        transposed_add(g, x, out, factor);
}

/* A layer that keeps rate and width, with memory or without: a place's own index shows in mean. */
static void plain_add(struct graph *g, struct track *x)
{
    struct track y = track_new(x->T, x->channels);
    uint32_t H = (uint32_t)x->channels;

    memcpy(y.need, x->need, x->T * sizeof(*y.need));
    switch (between(g, 0, 3)) {
    case 0:
        json_add(g, "{'type':'activation','fn':'tanh'},");
        reference_activation("tanh", x->x, x->T * H, y.x);
        break;
    case 1:
        json_add(g, "{'type':'mean'},");
        reference_mean(H, x->x, x->T, y.x);
        break;
    case 2:
        g->names++;
        json_add(g, "{'type':'linear','name':'n%u','in':%u,'out':%u,'bias':false},", g->names, H, H);
        reference_linear(tensor(g, "weight", 2, H, H, 0), NULL, H, H, x->x, x->T, y.x);
        break;
    default: {
        struct reference_s4d s = {.channels = H, .modes = 3, .how = REFERENCE_ZOH};
        char name[32];

        g->names++;
        snprintf(name, sizeof(name), "n%u.C", g->names);
        s.log_dt = tensor(g, "log_dt", 1, H, 0, 0);
        s.log_A_real = tensor(g, "log_A_real", 2, H, 3, 0);
        s.A_imag = tensor(g, "A_imag", 2, H, 3, 0);
        s.C = making_tensor(&g->model, 0.3f, name, 3, H, 3u, 2u);
        s.D = tensor(g, "D", 1, H, 0, 0);
        json_add(g, "{'type':'s4d','name':'n%u','channels':%u,'state':6,'discretization':'zoh'},", g->names, H);
        reference_s4d(&s, x->x, x->T, y.x);
    }
    }
    become(x, y);
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

static void sequence_add(struct graph *g, struct track *x, uint32_t deep, const uint32_t *factors, uint32_t n,
                         uint32_t out);

static struct track track_copy(const struct track *x)
{
    struct track y = track_new(x->T, x->channels);

    memcpy(y.x, x->x, x->T * x->channels * sizeof(*y.x));
    memcpy(y.need, x->need, x->T * sizeof(*y.need));
    return y;
}

/* Branches that change the rate and bring it back, each in its own way. */
static void join_add(struct graph *g, struct track *x, uint32_t deep)
{
    bool residual = between(g, 0, 1), multiply = !residual && between(g, 0, 1);
    uint32_t branches = residual ? 1 : between(g, 1, 3), H = (uint32_t)x->channels;
    unsigned long num = g->num, den = g->den;
    struct track sum = track_copy(x);

    json_add(g, residual ? "{'type':'residual','layers':[" : "{'type':'%s','branches':[",
             multiply ? "multiply" : "add");
    for (uint32_t b = 0; b < branches; b++) {
        uint32_t factors[4], n = 0;
        struct track y = track_copy(x);

        for (uint32_t pairs = between(g, 0, 2); pairs > 0; pairs--) {
            factors[n++] = between(g, 2, 3);
            factors[n] = factors[n - 1] | 0x100; /* up again */
            n++;
        }
        if (!residual)
            json_add(g, "[");
        if (residual || between(g, 0, 3) > 0) /* else the identity */
            sequence_add(g, &y, deep + 1, factors, n, H);
        if (!residual) {
            g->at -= g->json[g->at - 1] == ',';
            json_add(g, "],");
        }
        assert_true(g->num == num && g->den == den);
        if (b == 0 && !residual)
            become(&sum, track_copy(&y));
        else
            reference_join(&sum, &y, multiply);
        track_free(&y);
    }
    g->at -= g->json[g->at - 1] == ',';
    json_add(g, "]},");
    become(x, sum);
}

/* The factors in some order (0x100: up), with other layers between, ending `out` wide. */
static void sequence_add(struct graph *g, struct track *x, uint32_t deep, const uint32_t *factors, uint32_t n,
                         uint32_t out)
{
    bool done[4] = {false};

    for (uint32_t left = n; left > 0; left--) {
        uint32_t pick = making_number(&g->seed, n), width = between(g, 1, CHANNELS);

        while (done[pick])
            pick = (pick + 1) % n;
        if (factors[pick] & 0x100 ? g->num * (factors[pick] & 0xff) > 12 * g->den : false)
            continue; /* never run far above the input's rate: another comes first */
        done[pick] = true;
        if (factors[pick] & 0x100)
            up_add(g, x, width, factors[pick] & 0xff);
        else
            down_add(g, x, width, factors[pick]);
        if (between(g, 0, 1))
            plain_add(g, x);
        if (deep < DEEPEST && between(g, 0, 2) == 0)
            join_add(g, x, deep);
    }
    for (uint32_t i = 0; i < n; i++)
        if (!done[i])
            factors[i] & 0x100 ? up_add(g, x, 2, factors[i] & 0xff) : down_add(g, x, 2, factors[i]);
    if (between(g, 0, 1) || n == 0)
        plain_add(g, x);
    strided_add(g, x, out, 1);
}

/* ---- the graph --------------------------------------------------------------------------------------------------- */

static void graph_make(struct graph *g, uint32_t seed)
{
    static const uint32_t ups[] = {2, 3, 0x102, 0x103};
    uint32_t factors[4], n;
    struct track x;

    memset(g, 0, sizeof(*g));
    making_init(&g->model, seed);
    g->seed = seed;
    making_number(&g->seed, 2);
    g->num = g->den = g->hop = 1;
    g->in = between(g, 1, 3);
    g->out = between(g, 1, 3);
    n = between(g, 1, 4);
    for (uint32_t i = 0; i < n; i++)
        factors[i] = ups[making_number(&g->seed, 4)];
    g->frames = between(g, 0, 5) == 0 ? between(g, 1, 12) : between(g, 100, 900);
    g->x = calloc(g->frames * g->in, sizeof(*g->x));
    assert_non_null(g->x);
    x = track_new(g->frames + BEYOND, g->in);
    for (size_t i = 0; i < g->frames * g->in; i++)
        x.x[i] = g->x[i] = making_noise(&g->seed) + 0.5f * sinf(0.05f * (float)i);
    for (size_t t = 0; t < x.T; t++)
        x.need[t] = (long)t;
    sequence_add(g, &x, 0, factors, n, (uint32_t)g->out);
    g->json[g->at - 1] = '\0';
    g->y = x;
}

static void graph_free(struct graph *g)
{
    making_fini(&g->model);
    track_free(&g->y);
    free(g->x);
}

static int graph_load(struct graph *g, struct ssm_model **model, struct ssm_error *err)
{
    g->model.rate_ratio = (double)g->num / (double)g->den;
    g->model.layers[0] = '\0';
    making_layers(&g->model, "%s", g->json);
    return making_load(&g->model, model, (uint32_t)g->in, (uint32_t)g->out, err);
}

/* The input frame with which output t leaves, by the definition; in order. */
static long *leaves_new(const struct graph *g, size_t n, long *lookahead)
{
    long *leaves = calloc(n + 1, sizeof(*leaves)), last = 0;

    assert_non_null(leaves);
    *lookahead = 0;
    for (size_t t = 0; t < n; t++) {
        long time = (long)(t * g->den / g->num), need = g->y.need[t];

        if (need - time > *lookahead)
            *lookahead = need - time;
        last = need > last ? need : last;
        last = time > last ? time : last;
        leaves[t] = last;
    }
    return leaves;
}

/* One stream over the input and `zeros` more, in chunks of at most `most`: after each, exactly what must have left. */
static void stream_check(struct graph *g, struct running *r, enum ssm_view view, uint32_t most, const long *leaves,
                         size_t all, uint32_t zeros, float *got)
{
    struct ssm_slot slot = running_acquire(r);
    uint32_t frames = (uint32_t)g->frames + zeros;
    float *in = calloc((size_t)frames * g->in + 1, sizeof(*in));
    size_t made = 0;
    uint32_t seed = g->seed + most;

    assert_non_null(in);
    memcpy(in, g->x, g->frames * g->in * sizeof(*in));
    for (uint32_t t = 0, taken; t < frames; t += taken) {
        size_t due = made;
        struct ssm_row row = {.slot = slot, .view = view, .in = in + (size_t)t * g->in};

        taken = most ? 1 + making_number(&seed, most) : frames;
        taken = taken < frames - t ? taken : frames - t;
        row.frames = taken;
        row.out = calloc(ssm_out_frames_max(r->model, taken) * g->out + 1, sizeof(*row.out));
        assert_non_null(row.out);
        assert_int_equal(ssm_advance(r->program, &row, 1), SSM_OK);
        while (due < all && leaves[due] < (long)(t + taken))
            due++;
        if (g->gaps && row.out_frames < due - made)
            due = made + row.out_frames;
        if (due < all ? row.out_frames != due - made : row.out_frames < due - made)
            fail_msg("after %u frames %zu outputs have left, not %zu\n  %s", t + taken, made + row.out_frames, due,
                     g->json);
        memcpy(got + made * g->out, row.out, (due - made) * g->out * sizeof(*got));
        made = due;
        free(row.out);
    }
    assert_int_equal(made, all);
    ssm_slot_release(r->program, slot);
    free(in);
}

static void error_check(const struct graph *g, const float *got, size_t all, const char *what)
{
    double error = running_error(got, g->y.x, all * g->out);

    if (!(error <= BOUND))
        fail_msg("%s: error %.3g > %.3g\n  %s", what, error, BOUND, g->json);
}

static void graph_check(struct graph *g, struct ssm_model *model, const char *isa)
{
    const struct ssm_model_info *info = ssm_model_info(model);
    size_t all = (size_t)ssm_out_frames(model, g->frames), bytes = all * g->out * sizeof(float);
    float *first = calloc(bytes + 1, 1), *again = calloc(bytes + 1, 1);
    uint32_t grid, seed = g->seed;
    struct running r;
    long lookahead, *leaves = leaves_new(g, all, &lookahead);

    assert_true(first && again);
    running_open(&r, model, isa, 1, 4);
    grid = ssm_program_grid(r.program);
    stream_check(g, &r, SSM_STEP, 0, leaves, all, info->lookahead, first);
    error_check(g, first, all, "steps");
    for (uint32_t most = 1; most < 1000; most = most * 7 + 3) {
        stream_check(g, &r, SSM_STEP, most, leaves, all, info->lookahead, again);
        if (memcmp(first, again, bytes) != 0)
            fail_msg("steps in chunks of up to %u have other bits\n  %s", most, g->json);
    }
    stream_check(g, &r, SSM_SCAN, 64, leaves, all, info->lookahead, again);
    error_check(g, again, all, "scans");
    running_pass(&r, SSM_SCAN, g->x, (uint32_t)g->frames, first, NULL, (uint32_t)g->frames, 1);
    error_check(g, first, all, "a scan");
    running_pass(&r, SSM_SCAN, g->x, (uint32_t)g->frames, again, &seed, 2 * grid, grid);
    if (memcmp(first, again, bytes) != 0)
        fail_msg("scans on the grid have other bits\n  %s", g->json);
    running_close(&r);
    free(leaves);
    free(first);
    free(again);
}

static void multirate__random_graphs__match_the_whole_sequence_and_leave_in_time(void **state)
{
    uint32_t checked = 0, below = 0, above = 0, gaps = 0;
    size_t longest = 0;

    (void)state;
    for (uint32_t seed = 1; checked < GRAPHS; seed++) {
        struct graph g;
        struct ssm_model *model;
        struct ssm_error err = {""};
        long lookahead;

        graph_make(&g, seed * 2654435761u);
        if (g.hop > HOP_MAX) {
            graph_free(&g);
            continue;
        }
        if (graph_load(&g, &model, &err))
            fail_msg("%s\n  %s", err.text, g.json);
        free(leaves_new(&g, g.y.T, &lookahead));
        assert_int_equal(ssm_model_info(model)->ratio_num, g.num);
        assert_int_equal(ssm_model_info(model)->ratio_den, g.den);
        if (g.gaps && ssm_model_info(model)->lookahead > lookahead)
            lookahead = ssm_model_info(model)->lookahead;
        gaps += g.gaps;
        if (ssm_model_info(model)->hop != g.hop || ssm_model_info(model)->lookahead != lookahead)
            fail_msg("hop %u, lookahead %u instead of %lu, %ld\n  %s", ssm_model_info(model)->hop,
                     ssm_model_info(model)->lookahead, g.hop, lookahead, g.json);
        for (int i = 0; running_isas[i]; i++)
            if (running_isa_here(running_isas[i]) && !(running_isa_slow(running_isas[i]) && checked % 4 > 0))
                graph_check(&g, model, running_isas[i]);
        below += g.num < g.den;
        above += g.num > g.den;
        longest = g.hop > longest ? g.hop : longest;
        ssm_model_free(model);
        graph_free(&g);
        checked++;
    }
    print_message("%u graphs: ratio below 1 %u, above 1 %u, gaps %u, hops up to %zu\n", checked, below, above, gaps,
                  longest);
    assert_true(below >= 10 && above >= 10 && gaps < GRAPHS / 2 && longest >= 12);
}

/* Streams at phases of their own in shared batches, long rows among them, on a team: the bits of a stream alone. */
static void company_check(struct graph *g, struct ssm_model *model, const char *isa, uint32_t threads)
{
    enum { COMPANY = 5 };
    size_t all = (size_t)ssm_out_frames(model, g->frames), bytes = all * g->out * sizeof(float);
    size_t most = ssm_out_frames_max(model, (uint64_t)g->frames);
    float *alone = calloc(bytes + 1, 1), *got = calloc(COMPANY * (all + most), g->out * sizeof(*got));
    struct ssm_slot slot[COMPANY];
    uint32_t done[COMPANY] = {0}, left = COMPANY, seed = g->seed;
    size_t made[COMPANY] = {0};
    struct running r;

    assert_true(alone && got);
    running_open(&r, model, isa, threads, COMPANY + 1);
    running_pass(&r, SSM_STEP, g->x, (uint32_t)g->frames, alone, NULL, (uint32_t)g->frames, 1);
    for (int i = 0; i < COMPANY; i++)
        slot[i] = running_acquire(&r);
    while (left > 0) {
        struct ssm_row rows[COMPANY];
        int of[COMPANY];
        size_t n = 0;

        for (int i = 0; i < COMPANY; i++) {
            uint32_t frames = i == 0 ? (uint32_t)g->frames : 1 + making_number(&seed, i == 1 ? 300 : 20);

            frames = frames < g->frames - done[i] ? frames : (uint32_t)g->frames - done[i];
            if (frames == 0 || making_number(&seed, 3) == 0)
                continue;
            of[n] = i;
            rows[n++] = (struct ssm_row){.slot = slot[i],
                                         .frames = frames,
                                         .in = g->x + (size_t)done[i] * g->in,
                                         .out = got + (i * (all + most) + made[i]) * g->out};
            done[i] += frames;
            left -= done[i] == g->frames;
        }
        assert_int_equal(ssm_advance(r.program, rows, n), SSM_OK);
        for (size_t k = 0; k < n; k++)
            made[of[k]] += rows[k].out_frames;
    }
    for (int i = 0; i < COMPANY; i++) {
        assert_int_equal(made[i], made[0]);
        if (memcmp(got + i * (all + most) * g->out, alone, made[i] * g->out * sizeof(*got)) != 0)
            fail_msg("%u threads: stream %d of a shared batch has other bits\n  %s", threads, i, g->json);
    }
    running_close(&r);
    free(alone);
    free(got);
}

/* A stream cut in pieces of at most `most`, to frame `end`. Returns the outputs, which go to `out`. */
static size_t cut_run(const struct graph *g, struct running *r, struct ssm_slot slot, uint32_t begin, uint32_t end,
                      uint32_t most, float *out)
{
    uint32_t seed = g->seed + most;
    size_t made = 0;

    for (uint32_t taken; begin < end; begin += taken) {
        struct ssm_row row = {.slot = slot, .in = g->x + (size_t)begin * g->in, .out = out + made * g->out};

        taken = 1 + making_number(&seed, most);
        row.frames = taken = taken < end - begin ? taken : end - begin;
        assert_int_equal(ssm_advance(r->program, &row, 1), SSM_OK);
        made += row.out_frames;
    }
    return made;
}

/* At a random frame, streams that were cut differently have the same image, and what goes on from it elsewhere has the
 * bits of a stream that was never away. */
static void image_check(struct graph *g, struct ssm_model *model, const char *isa)
{
    uint32_t at = between(g, 0, (uint32_t)g->frames), end = (uint32_t)g->frames;
    size_t bytes = ssm_image_bytes(model), made[3], room = ssm_out_frames_max(model, g->frames + 1) * g->out;
    unsigned char *image = calloc(2, bytes);
    float *out[3];
    struct running here, away;
    struct ssm_error err = {""};
    struct ssm_slot slot[3];

    assert_non_null(image);
    running_open(&here, model, isa, 1, 4);
    running_open(&away, model, isa, 1, 4);
    for (int i = 0; i < 3; i++) {
        out[i] = calloc(2 * room, sizeof(*out[i]));
        assert_non_null(out[i]);
        slot[i] = running_acquire(i < 2 ? &here : &away);
    }
    cut_run(g, &here, slot[0], 0, at, 1, out[0]);
    cut_run(g, &here, slot[1], 0, at, 90, out[1]);
    cut_run(g, &away, slot[2], 0, end, 50, out[2]); /* another stream's remains */
    assert_int_equal(ssm_slot_export(here.program, slot[0], image), SSM_OK);
    assert_int_equal(ssm_slot_export(here.program, slot[1], image + bytes), SSM_OK);
    if (memcmp(image, image + bytes, bytes) != 0)
        fail_msg("the image at frame %u depends on the chunks\n  %s", at, g->json);
    if (ssm_slot_import(away.program, slot[2], image, bytes, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < 3; i++)
        made[i] = cut_run(g, i < 2 ? &here : &away, slot[i], at, end, 30, out[i]);
    assert_int_equal(made[2], made[0]);
    if (memcmp(out[0], out[2], made[0] * g->out * sizeof(float)) != 0)
        fail_msg("other bits after an image at frame %u\n  %s", at, g->json);
    running_close(&here);
    running_close(&away);
    for (int i = 0; i < 3; i++)
        free(out[i]);
    free(image);
}

static void multirate__shared_batches_teams_and_images__leave_the_bits_of_a_stream_alone(void **state)
{
    bool device = running_isa_here("cuda");
    uint32_t checked = 0;

    (void)state;
    for (uint32_t seed = 500; checked < GRAPHS / 2; seed++) {
        struct graph g;
        struct ssm_model *model;
        struct ssm_error err = {""};

        graph_make(&g, seed * 2654435761u);
        if (g.hop <= HOP_MAX) {
            if (graph_load(&g, &model, &err))
                fail_msg("%s\n  %s", err.text, g.json);
            for (uint32_t threads = 1; threads <= 3; threads++)
                company_check(&g, model, NULL, threads);
            image_check(&g, model, NULL);
            if (device && !(running_isa_slow("cuda") && checked % 4 > 0)) {
                company_check(&g, model, "cuda", 1);
                image_check(&g, model, "cuda");
            }
            ssm_model_free(model);
            checked++;
        }
        graph_free(&g);
    }
}

/* One model of a wrong configuration; `ratio` is what its output states. */
static void refuse(const char *layers, uint32_t vocab, double ratio, int status, const char *word, const char *another)
{
    struct making m;

    making_init(&m, 3);
    m.vocab = vocab;
    m.rate_ratio = ratio;
    if (strstr(layers, "'name':'d'"))
        making_tensor(&m, 0.1f, "d.weight", 3, 1, 1, 2);
    if (strstr(layers, "'name':'c'"))
        making_tensor(&m, 0.1f, "c.weight", 3, 1, 1, 3);
    if (vocab)
        making_tensor(&m, 1, "e.weight", 2, vocab, 1);
    making_layers(&m, "%s", layers);
    refusing_check(&m, 1, 1, status, word, another, NULL);
}

#define DOWN    "{'type':'downsample','name':'d','in':1,'out':1,'factor':2}"
#define VALID   "{'type':'conv1d','name':'c','in':1,'out':1,'kernel':3,'padding':'valid','bias':false}"
#define FACTORS "{'type':'conv1d','name':'c','in':1,'out':1,'kernel':3,'stride':65536,'padding':'causal','bias':false}"

static void multirate__wrong_models__are_refused_with_the_reason(void **state)
{
    (void)state;
    refuse("{'type':'residual','layers':[" DOWN "]}," VALID, 0, 1, SSM_CONFIG, "different rates", "1/2");
    refuse("{'type':'add','branches':[[" DOWN "],[" VALID "]]}", 0, 1, SSM_CONFIG, "add", "different rates");
    refuse(DOWN "," VALID, 0, 1, SSM_CONFIG, "sample_rate", "50");
    refuse(VALID "," DOWN
                 ",{'type':'rls','targets':1,'horizon':2,'forgetting':0.99,'regularization':1,'short':3,'long':9}",
           0, 0.5, SSM_UNSUPPORTED, "rls", "model's input");
    refuse("{'type':'embedding','name':'e','vocab':5,'dim':1}," VALID, 5, 1, SSM_CONFIG, "tokens", "look ahead");
    refuse(DOWN "," FACTORS, 0, 1, SSM_LIMIT, "hop", "65536");
    refuse("{'type':'downsample','name':'d','in':1,'out':1,'factor':0}," VALID, 0, 1, SSM_CONFIG, "factor", "0");
    refuse("{'type':'conv_transpose1d','name':'c','in':1,'out':1,'kernel':3,'bias':false}," DOWN, 0, 1, SSM_CONFIG,
           "stride", "missing");
    refuse("{'type':'upsample','name':'d','in':2,'out':1,'factor':2}," VALID, 0, 1, SSM_CONFIG, "2 channels", "1 come");
    refuse("{'type':'conv1d','name':'c','in':1,'out':1,'kernel':3,'padding':'same','bias':false}," DOWN, 0, 1,
           SSM_CONFIG, "padding", "same");
}

static void multirate__lookahead_over_its_bound__is_refused_and_below_it_loads(void **state)
{
    (void)state;
    for (uint32_t layers = 15; layers <= 17; layers += 2) { /* each looks 65536 frames ahead; 2^20 are the most */
        struct ssm_model *model = NULL;
        struct ssm_error err = {""};
        struct making m;

        making_init(&m, 5);
        for (uint32_t i = 0; i < layers; i++) {
            char name[32];

            snprintf(name, sizeof(name), "c%u.weight", i);
            making_tensor(&m, 0.1f, name, 3, 1, 1, 2);
            making_layers(&m,
                          "{'type':'conv1d','name':'c%u','in':1,'out':1,'kernel':2,'dilation':65536,'padding':'valid',"
                          "'bias':false}",
                          i);
        }
        if (layers == 17) {
            refusing_check(&m, 1, 1, SSM_LIMIT, "lookahead", "1048576", NULL);
            continue;
        }
        assert_int_equal(making_load(&m, &model, 1, 1, &err), SSM_OK);
        assert_int_equal(ssm_model_info(model)->lookahead, 15 * 65536);
        ssm_model_free(model);
        making_fini(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multirate__random_graphs__match_the_whole_sequence_and_leave_in_time),
        cmocka_unit_test(multirate__shared_batches_teams_and_images__leave_the_bits_of_a_stream_alone),
        cmocka_unit_test(multirate__wrong_models__are_refused_with_the_reason),
        cmocka_unit_test(multirate__lookahead_over_its_bound__is_refused_and_below_it_loads),
    };

    return cmocka_run_group_tests_name("multirate", tests, NULL, NULL);
}
