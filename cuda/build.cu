/* SPDX-License-Identifier: Apache-2.0
 *
 * Building a program's layers: the table of kinds, and the memory of what they upload, which is cut from chunks so that
 * a model of hundreds of small arrays costs few allocations. */
#include <stdlib.h>
#include <string.h>

#include "cuda/graph.cuh"
#include "ssm/layers/params.h"

#define CHUNK_BYTES ((size_t)4 << 20)

static const struct cuda_kind *const KINDS[] = {
#define X(name) &cuda_kind_##name,
    SSM_LAYER_KINDS(X)
#undef X
};

struct cuda_chunk {
    struct cuda_chunk *next;
    unsigned char *memory; /* device */
    size_t bytes, used;
};

void cuda_build_fini(struct cuda_build *b)
{
    for (struct cuda_chunk *next, *at = b->chunks; at; at = next) {
        next = at->next;
        (void)cudaFree(at->memory);
        free(at);
    }
    for (void *next, *at = b->params; at; at = next) {
        next = *(void **)at;
        free(at);
    }
    b->chunks = NULL;
    b->params = NULL;
}

/* The newest chunk, with room for so many bytes. */
static struct cuda_chunk *chunk_find(struct cuda_build *b, size_t bytes)
{
    struct cuda_chunk *chunk = b->chunks;

    if (chunk && chunk->bytes - chunk->used >= bytes)
        return chunk;
    chunk = (struct cuda_chunk *)calloc(1, sizeof(*chunk));
    if (!chunk) {
        b->status = SSM_NOMEM;
        return NULL;
    }
    chunk->bytes = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
    b->status = cuda_check(b->device, cudaMalloc((void **)&chunk->memory, chunk->bytes));
    if (b->status) {
        free(chunk);
        return NULL;
    }
    chunk->next = b->chunks;
    b->chunks = chunk;
    return chunk;
}

void *cuda_upload(struct cuda_build *b, const void *host, size_t bytes)
{
    size_t room = (bytes + 255) & ~(size_t)255;
    struct cuda_chunk *chunk = b->status ? NULL : chunk_find(b, room ? room : 256);
    void *at;

    if (!chunk)
        return NULL;
    at = chunk->memory + chunk->used;
    chunk->used += room ? room : 256;
    if (bytes > 0)
        b->status = cuda_check(b->device, cudaMemcpy(at, host, bytes, cudaMemcpyHostToDevice));
    return at;
}

void *cuda_params(struct cuda_build *b, size_t bytes)
{
    void **at = b->status ? NULL : (void **)calloc(1, 64 + bytes); /* the list's link is in the first 64 */

    if (!at) {
        b->status = b->status ? b->status : SSM_NOMEM;
        return NULL;
    }
    *at = b->params;
    b->params = at;
    return (unsigned char *)at + 64;
}

/* Gives the layers behind l, up to `end`, to it as far as its kind takes them: an activation, a glu. */
static void layer_fuse(struct cuda_layer *l, const struct cuda_layer *end)
{
    const struct cuda_layer *next = l + 1;

    if (next < end && next->layer->kind->id == SSM_KIND_activation) {
        enum ssm_activation_fn fn = ((const struct ssm_activation *)next->layer->params)->fn;

        if (l->kind->takes & (CUDA_TAKES_ACTIVATION | (fn == SSM_RELU ? CUDA_TAKES_RELU : 0))) {
            l->after.activation = CUDA_ACTIVATION(fn);
            l->fused++;
            next++;
        }
    }
    if (next < end && next->layer->kind->id == SSM_KIND_glu && l->kind->takes & CUDA_TAKES_GLU) {
        l->after.glu = true;
        l->fused++;
    }
}

void cuda_sequence_build(struct cuda_build *b, const struct ssm_sequence *from, struct cuda_sequence *out)
{
    out->sequence = from;
    out->layers = (struct cuda_layer *)cuda_params(b, from->count * sizeof(*out->layers));
    for (uint32_t i = 0; b->status == SSM_OK && i < from->count; i++) {
        struct cuda_layer *l = &out->layers[i];

        l->layer = &from->layers[i];
        l->kind = KINDS[l->layer->kind->id];
        if (l->kind->build)
            l->kind->build(b, l->layer, &l->params);
        if (b->status == SSM_OK && l->layer->branches > 0)
            l->branch = (struct cuda_sequence *)cuda_params(b, l->layer->branches * sizeof(*l->branch));
        for (uint32_t k = 0; b->status == SSM_OK && k < l->layer->branches; k++)
            cuda_sequence_build(b, &l->layer->branch[k], &l->branch[k]);
    }
    for (uint32_t i = 0; b->status == SSM_OK && i < from->count; i += 1 + out->layers[i].fused) {
        layer_fuse(&out->layers[i], out->layers + from->count);
        out->last = &out->layers[i];
    }
}
