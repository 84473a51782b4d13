/* SPDX-License-Identifier: Apache-2.0
 * The three forms of the scan; see scan.h. */
#include "ssm/scan.h"

#include <stdatomic.h>
#include <string.h>

/* `lanes` maps or states; im is NULL for real ones. */
struct lanes {
    float *re, *im;
};

static struct lanes lanes_at(float *re, float *im, uint32_t lanes, size_t t)
{
    return (struct lanes){re + t * lanes, im ? im + t * lanes : NULL};
}

static void lanes_set(struct lanes x, float value, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x.re[i] = value;
    if (x.im)
        memset(x.im, 0, n * sizeof(*x.im));
}

static void lanes_copy(struct lanes to, struct lanes from, uint32_t n)
{
    memcpy(to.re, from.re, n * sizeof(*to.re));
    if (to.im)
        memcpy(to.im, from.im, n * sizeof(*to.im));
}

/* y <- a x + y */
static void lanes_apply(struct lanes a, struct lanes x, struct lanes y, uint32_t n)
{
    for (uint32_t i = 0; !a.im && i < n; i++)
        y.re[i] += a.re[i] * x.re[i];
    for (uint32_t i = 0; a.im && i < n; i++) {
        float re = a.re[i] * x.re[i] - a.im[i] * x.im[i], im = a.re[i] * x.im[i] + a.im[i] * x.re[i];

        y.re[i] += re;
        y.im[i] += im;
    }
}

/* y <- a y */
static void lanes_multiply(struct lanes a, struct lanes y, uint32_t n)
{
    for (uint32_t i = 0; !a.im && i < n; i++)
        y.re[i] *= a.re[i];
    for (uint32_t i = 0; a.im && i < n; i++) {
        float re = a.re[i] * y.re[i] - a.im[i] * y.im[i], im = a.re[i] * y.im[i] + a.im[i] * y.re[i];

        y.re[i] = re;
        y.im[i] = im;
    }
}

struct map {
    struct lanes a, b;
};

/* `then` becomes first o then. */
static void map_combine(struct map first, struct map then, uint32_t n)
{
    lanes_apply(then.a, first.b, then.b, n);
    lanes_multiply(first.a, then.a, n);
}

static struct map map_at(const struct ssm_scan *s, size_t t)
{
    return (struct map){lanes_at(s->a_re, s->a_im, s->lanes, t), lanes_at(s->b_re, s->b_im, s->lanes, t)};
}

static struct lanes scan_state(const struct ssm_scan *s)
{
    return (struct lanes){s->h_re, s->h_im};
}

void ssm_scan_sequential(const struct ssm_scan *s)
{
    struct lanes h = scan_state(s);

    for (uint32_t t = 0; t < s->frames; t++) {
        struct map frame = map_at(s, t);

        lanes_apply(frame.a, h, frame.b, s->lanes);
        h = frame.b;
    }
    if (s->frames > 0)
        lanes_copy(scan_state(s), h, s->lanes);
}

/* ---- blocks of time ---------------------------------------------------------------------------------------------- */

struct blocks {
    const struct ssm_scan *scan;
    uint32_t size, n;
    uint32_t head;    /* frames before the first line of the grid */
    bool entering;    /* the second of the parallel passes */
    atomic_uint next; /* block that nobody has claimed */
};

static uint32_t block_begin(const struct blocks *b, uint32_t i)
{
    uint64_t begin = i == 0 ? 0 : b->head + (uint64_t)(i - 1) * b->size;

    return begin < b->scan->frames ? (uint32_t)begin : b->scan->frames;
}

/* First pass: every frame's map becomes that of its block up to it. Second: the map is applied to the state that enters
 * the block, which is the state after the block before. */
static void blocks_pass(void *context, uint32_t member)
{
    struct blocks *b = context;
    const struct ssm_scan *s = b->scan;
    uint32_t i;

    (void)member;
    while ((i = atomic_fetch_add(&b->next, 1)) < b->n) {
        uint32_t begin = block_begin(b, i), end = block_begin(b, i + 1);

        for (uint32_t t = begin + 1; t < end && !b->entering; t++)
            map_combine(map_at(s, t - 1), map_at(s, t), s->lanes);
        for (uint32_t t = begin; t + 1 < end && b->entering; t++)
            lanes_apply(map_at(s, t).a, begin > 0 ? map_at(s, begin - 1).b : scan_state(s), map_at(s, t).b, s->lanes);
    }
}

static void blocks_run(struct blocks *b, struct ssm_team *team)
{
    atomic_store(&b->next, 0);
    if (team)
        ssm_team_run(team, blocks_pass, b);
    else
        blocks_pass(b, 0);
}

void ssm_scan_blocks(const struct ssm_scan *s, uint64_t first, uint32_t block, struct ssm_team *team)
{
    struct blocks b = {.scan = s, .size = block, .head = block - (uint32_t)(first % block)};
    struct lanes h = scan_state(s);

    if (s->frames == 0)
        return;
    b.n = s->frames <= b.head ? 1 : 1 + (s->frames - b.head + block - 1) / block;
    blocks_run(&b, team);
    for (uint32_t i = 0; i < b.n; i++) { /* the state after each block */
        struct map last = map_at(s, block_begin(&b, i + 1) - 1);

        lanes_apply(last.a, h, last.b, s->lanes);
        h = last.b;
    }
    b.entering = true;
    blocks_run(&b, team);
    lanes_copy(scan_state(s), h, s->lanes);
}

/* ---- the balanced tree ------------------------------------------------------------------------------------------- */

static size_t tree_leaves(const struct ssm_scan *s)
{
    size_t leaves = 1;

    while (leaves < s->frames)
        leaves *= 2;
    return leaves;
}

size_t ssm_scan_tree_floats(const struct ssm_scan *s)
{
    return (tree_leaves(s) + 1) * s->lanes * (s->a_im ? 4 : 2);
}

/* The leaf's map, and after the down-sweep what comes before it. */
static struct map leaf_at(const struct ssm_scan *s, float *tree, size_t i)
{
    size_t plane = (tree_leaves(s) + 1) * s->lanes;
    float *at = tree + i * s->lanes;

    return (struct map){{at, s->a_im ? at + 2 * plane : NULL}, {at + plane, s->a_im ? at + 3 * plane : NULL}};
}

static void map_copy(struct map to, struct map from, uint32_t n)
{
    lanes_copy(to.a, from.a, n);
    lanes_copy(to.b, from.b, n);
}

void ssm_scan_blelloch(const struct ssm_scan *s, float *tree)
{
    size_t leaves = tree_leaves(s);
    struct map left, right, kept = leaf_at(s, tree, leaves);
    struct lanes h = scan_state(s);

    for (size_t t = 0; t < leaves; t++) { /* frames beyond the last are the identity (1, 0) */
        left = leaf_at(s, tree, t);
        if (t < s->frames) {
            map_copy(left, map_at(s, t), s->lanes);
        } else {
            lanes_set(left.a, 1, s->lanes);
            lanes_set(left.b, 0, s->lanes);
        }
    }
    for (size_t half = 1; half < leaves; half *= 2) /* up: the right child becomes left o right */
        for (size_t i = 2 * half - 1; i < leaves; i += 2 * half)
            map_combine(leaf_at(s, tree, i - half), leaf_at(s, tree, i), s->lanes);
    right = leaf_at(s, tree, leaves - 1);
    lanes_set(right.a, 1, s->lanes);
    lanes_set(right.b, 0, s->lanes);
    for (size_t half = leaves / 2; half > 0; half /= 2) /* down: left gets the parent's, right parent o left */
        for (size_t i = 2 * half - 1; i < leaves; i += 2 * half) {
            left = leaf_at(s, tree, i - half);
            right = leaf_at(s, tree, i);
            map_copy(kept, left, s->lanes);
            map_copy(left, right, s->lanes);
            map_combine(left, kept, s->lanes);
            map_copy(right, kept, s->lanes);
        }
    for (size_t t = 0; t < s->frames; t++) { /* the state before each frame, then the frame itself */
        left = leaf_at(s, tree, t);
        lanes_apply(left.a, h, left.b, s->lanes);
        lanes_apply(map_at(s, t).a, left.b, map_at(s, t).b, s->lanes);
    }
    if (s->frames > 0)
        lanes_copy(h, map_at(s, s->frames - 1).b, s->lanes);
}
