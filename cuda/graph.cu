/* SPDX-License-Identifier: Apache-2.0
 * See graph.cuh. */
#include "cuda/graph.cuh"

#include "cuda/join.cuh"

struct walk {
    const struct cuda_tile *tile;
    unsigned char *arena; /* NULL: only measure */
    size_t at, most;      /* bytes taken, and at most so far */
    cudaError_t result;
};

/* `residual`: added to y by the last layer, which takes that; or NULL. */
static void sequence_walk(struct walk *w, const struct cuda_sequence *s, const float *residual, const float *x,
                          float *y);

/* The next bytes of the arena; w->at goes back to what it was when they are no longer needed. */
static unsigned char *take(struct walk *w, size_t bytes)
{
    unsigned char *at = w->arena ? w->arena + w->at : NULL;

    w->at += (bytes + 255) & ~(size_t)255;
    w->most = w->at > w->most ? w->at : w->most;
    return at;
}

static float *take_frames(struct walk *w, uint32_t clock, uint32_t channels)
{
    return (float *)take(w, (size_t)w->tile->clock[clock].frames_room * channels * sizeof(float));
}

static void done(struct walk *w, cudaError_t result)
{
    if (w->result == cudaSuccess)
        w->result = result;
}

/* ---- joins ------------------------------------------------------------------------------------------------------- */

/* Branches at one clock: the first into y, every other into a buffer of its own and joined to y; of a residual, its
 * input to the first. */
static void same_walk(struct walk *w, const struct cuda_layer *l, bool own, enum cuda_joining how, const float *x,
                      float *y)
{
    const struct cuda_span *span = &w->tile->clock[l->layer->out_clock];
    const struct cuda_layer *last = l->branch[0].last;
    bool fused = own && last && last->kind->takes & CUDA_TAKES_RESIDUAL;

    sequence_walk(w, &l->branch[0], fused ? x : NULL, x, y);
    if (own && !fused && w->arena)
        done(w, cuda_join_same(how, span, l->layer->out, x, y, w->tile->stream));
    for (uint32_t i = 1; i < l->layer->branches; i++) {
        size_t before = w->at;
        float *to = take_frames(w, l->layer->out_clock, l->layer->out);

        sequence_walk(w, &l->branch[i], NULL, x, to);
        if (w->arena)
            done(w, cuda_join_same(how, span, l->layer->out, to, y, w->tile->stream));
        w->at = before;
    }
}

/* Branches that end at other clocks than their input's: every side passes its ring. The two sides of a residual, its
 * input and its branch, pass theirs together. */
static void apart_walk(struct walk *w, const struct cuda_layer *l, bool own, enum cuda_joining how, const float *x,
                       float *y)
{
    for (uint32_t i = 0; i < l->layer->branches; i++) {
        const struct ssm_sequence *branch = &l->layer->branch[i];
        size_t before = w->at;
        float *to = branch->count > 0 ? take_frames(w, branch->out_clock, branch->out) : NULL;
        const float *from = branch->count > 0 ? to : x;

        if (branch->count > 0)
            sequence_walk(w, &l->branch[i], NULL, x, to);
        if (w->arena && own)
            done(w, cuda_join_pair(l->layer, w->tile, how, x, from, y));
        else if (w->arena)
            done(w, cuda_join_side(l->layer, w->tile, i, i > 0 ? how : CUDA_TAKE, from, y));
        w->at = before;
    }
}

/* ---- sequences --------------------------------------------------------------------------------------------------- */

static void layer_walk(struct walk *w, const struct cuda_layer *l, const float *residual, const float *x, float *y)
{
    size_t before = w->at;
    struct cuda_tile tile = *w->tile;

    tile.after = l->after;
    tile.after.residual = residual;
    if (l->layer->branches > 0) {
        bool own = l->layer->kind->id == SSM_KIND_residual;
        enum cuda_joining how = l->layer->kind->id == SSM_KIND_multiply ? CUDA_MULTIPLY : CUDA_ADD;

        if (l->layer->join)
            apart_walk(w, l, own, how, x, y);
        else
            same_walk(w, l, own, how, x, y);
        return;
    }
    if (l->kind->scratch)
        tile.scratch = take(w, l->kind->scratch(l, w->tile));
    if (w->arena && w->result == cudaSuccess)
        done(w, l->kind->launch(l, &tile, x, y));
    w->at = before;
}

static void sequence_walk(struct walk *w, const struct cuda_sequence *s, const float *residual, const float *x,
                          float *y)
{
    size_t before = w->at, largest = 0;
    const struct cuda_layer *end = s->layers + s->sequence->count;
    unsigned char *buffer[2];

    for (const struct cuda_layer *l = s->layers; l < end && l != s->last; l += 1 + l->fused) {
        const struct ssm_layer *layer = l[l->fused].layer;
        size_t bytes = (size_t)w->tile->clock[layer->out_clock].frames_room * layer->out * sizeof(float);

        largest = bytes > largest ? bytes : largest;
    }
    buffer[0] = take(w, largest);
    buffer[1] = take(w, largest);
    if (!s->last && w->arena)
        done(w, cuda_join_same(CUDA_TAKE, &w->tile->clock[s->sequence->clock], s->sequence->in, x, y, w->tile->stream));
    for (const struct cuda_layer *l = s->layers; l < end; l += 1 + l->fused) {
        float *to = l == s->last ? y : (float *)buffer[x == (float *)buffer[0]];

        layer_walk(w, l, l == s->last ? residual : NULL, x, to);
        x = to;
    }
    w->at = before;
}

size_t cuda_sequence_arena(const struct cuda_sequence *sequence, const struct cuda_tile *tile)
{
    struct walk w = {.tile = tile, .arena = NULL, .at = 0, .most = 0, .result = cudaSuccess};

    sequence_walk(&w, sequence, NULL, NULL, NULL);
    return w.most;
}

cudaError_t cuda_sequence_launch(const struct cuda_sequence *sequence, const struct cuda_tile *tile,
                                 unsigned char *arena, const float *x, float *y)
{
    struct walk w = {.tile = tile, .arena = arena, .at = 0, .most = 0, .result = cudaSuccess};

    sequence_walk(&w, sequence, NULL, x, y);
    return w.result;
}
