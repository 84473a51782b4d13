/* SPDX-License-Identifier: Apache-2.0
 *
 * The product: its weights are packed here, and each launch goes to the form that its room asks for.
 *
 * Few rows are bound by the bytes of the weights, so every segment of the inputs is another warp's and all loads are in
 * flight at once (cuda/matrix_few.cu). Many rows are bound by the matrix units, so weights and rows are shared through
 * shared memory (cuda/matrix_many.cu). Which one runs shows in no bit (cuda/matrix_tiles.cuh), so the limits here are
 * free to move. */
#include <math.h>
#include <stdlib.h>

#include "cuda/matrix_tiles.cuh"

#define FEW_ROWS  64u     /* up to which weights are read once or twice */
#define HALF_GRID 66u     /* of the smallest tiles, that are worth a kernel of tiles: half the multiprocessors */
#define LARGEST   0x1p60f /* of the powers of two for weights, so that totals stay finite */
#define UNIT      0x1p-14f /* of scales that are kept */

static float weight(const struct ssm_matrix *m, uint32_t o, uint32_t i)
{
    return o < m->out && i < m->in ? m->panels[((size_t)(o / SSM_PANEL) * m->in + i) * SSM_PANEL + o % SSM_PANEL] : 0;
}

/* (out padded): the power of two that brings the largest weight of each output into [2^14, 2^15). */
static void scales_find(const struct ssm_matrix *m, float *scale, uint32_t padded)
{
    for (uint32_t o = 0; o < padded; o++) {
        union {
            float f;
            uint32_t u;
        } largest = {0}, power;

        for (uint32_t i = 0; i < m->in; i++)
            largest.f = fmaxf(largest.f, fabsf(weight(m, o, i)));
        power.u = cuda_half_scale_bits(largest.u);
        scale[o] = largest.f == 0 ? 1 : fminf(power.f, LARGEST);
    }
}

/* Whether one binary16 holds every weight, those aside that are too small to matter. */
static bool weights_are_short(const struct ssm_matrix *m, const float *scale)
{
    for (uint32_t o = 0; o < m->out; o++)
        for (uint32_t i = 0; i < m->in; i++) {
            float w = weight(m, o, i) * scale[o];

            if (fabsf(w - cuda_half_value(cuda_half_round(w))) > 0x1p-25f)
                return false;
        }
    return true;
}

/* How outputs are laid in tiles: pairs that are half of all apart, or neighbours. */
struct laying {
    uint32_t step, apart, end; /* from panel to panel; in a pair; of the pairs' first outputs */
};

/* One lane's numbers of a tile: product k of group g, of panel p. */
static uint4 tile_lane(const struct ssm_matrix *m, const float *scale, const struct laying *laying, uint32_t p,
                       uint32_t g, uint32_t k, uint32_t part, uint32_t lane)
{
    uint32_t word[4] = {0, 0, 0, 0}, first = p * laying->step + lane / 4;

    for (uint32_t n = 0; n < 8 && first < laying->end; n++) {
        uint32_t o = first + n / 2 % 2 * laying->apart;
        uint32_t i = g * MATRIX_GROUP + lane % 4 * 8 + k * 4 + n / 4 * 2 + n % 2;
        float w = weight(m, o, i) * scale[o];
        uint32_t half = cuda_half_round(w);

        if (part == 1)
            half = cuda_half_round(w - cuda_half_value(half));
        word[n / 2] |= half << n % 2 * 16;
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

static void tiles_fill(const struct ssm_matrix *m, const float *scale, const struct laying *laying,
                       const struct cuda_matrix *w, uint4 *tiles)
{
    uint32_t panels = matrix_panels(w), groups = matrix_groups(w);

    for (uint32_t p = 0; p < panels; p++)
        for (uint32_t g = 0; g < groups; g++)
            for (uint32_t k = 0; k < 2; k++)
                for (uint32_t part = 0; part < w->parts; part++)
                    for (uint32_t lane = 0; lane < CUDA_WARP; lane++)
                        *tiles++ = tile_lane(m, scale, laying, p, g, k, part, lane);
}

static void matrix_build(struct cuda_build *b, const struct ssm_matrix *matrix, bool plain, struct cuda_matrix *out)
{
    struct laying laying = {MATRIX_PANEL, MATRIX_PANEL / 2, matrix->out};
    uint32_t padded;
    size_t bytes;
    float *scale;
    uint4 *tiles;

    *out = {};
    out->out = matrix->out;
    out->in = matrix->in;
    if (!plain)
        laying = {MATRIX_PAIRS, matrix_half(out), matrix_half(out)};
    padded = matrix_panels(out) * MATRIX_PANEL;
    scale = (float *)malloc(padded * sizeof(*scale) + 1);
    if (scale) {
        scales_find(matrix, scale, padded);
        out->parts = weights_are_short(matrix, scale) ? 1 : 2;
    }
    bytes = (size_t)padded / MATRIX_PANEL * matrix_groups(out) * 2 * out->parts * CUDA_WARP * sizeof(*tiles);
    tiles = (uint4 *)malloc(bytes + 1);
    if (scale && tiles)
        tiles_fill(matrix, scale, &laying, out, tiles);
    for (uint32_t o = 0; scale && o < padded; o++)
        scale[o] *= UNIT;
    out->tiles = (const uint4 *)cuda_upload(b, tiles, bytes); /* NULL: a failure too */
    out->scale = cuda_upload_floats(b, scale, padded);
    free(tiles);
    free(scale);
}

void cuda_matrix_build(struct cuda_build *b, const struct ssm_matrix *matrix, struct cuda_matrix *out)
{
    matrix_build(b, matrix, false, out);
}

void cuda_matrix_build_plain(struct cuda_build *b, const struct ssm_matrix *matrix, struct cuda_matrix *out)
{
    matrix_build(b, matrix, true, out);
}

cudaError_t cuda_matrix_launch(const struct cuda_matrix *w, const struct cuda_product *p, cudaStream_t stream)
{
    uint64_t tiles = (uint64_t)cuda_blocks(w->out, 64) * cuda_blocks(p->room, 32);

    if (p->glu && w->out % 2)
        return cudaErrorInvalidValue;
    if (p->room == 0 || w->out == 0)
        return cudaSuccess;
    return p->room <= FEW_ROWS || tiles < HALF_GRID ? cuda_matrix_few(w, p, stream) : cuda_matrix_many(w, p, stream);
}
