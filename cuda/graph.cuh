/* SPDX-License-Identifier: Apache-2.0
 *
 * A model's layers on the device, and the walk of a tile through them.
 *
 * Every sequence runs between two buffers of its widest inner output; what its layers need beyond that, branches and
 * scratch, lies above them in one arena. The same walk, launching nothing, says how large the arena must be for given
 * rooms: so the two cannot differ.
 *
 * Neighbours are fused where a kind takes what follows into its own stores (struct cuda_after): an activation, a glu, and
 * at the end of a residual's branch the input that is added. It saves a pass over memory and a launch each, and no bit
 * shows it.
 */
#ifndef CUDA_GRAPH_CUH
#define CUDA_GRAPH_CUH

#include "cuda/device.cuh"
#include "cuda/kind.cuh"

struct cuda_sequence {
    const struct ssm_sequence *sequence;
    struct cuda_layer *layers;     /* (sequence->count) */
    const struct cuda_layer *last; /* that is launched; NULL of an empty one */
};

/* What is uploaded and allocated for a program while it is built; all of it goes at once. */
struct cuda_chunk;
struct cuda_build {
    struct ssm_device *device;
    struct cuda_chunk *chunks; /* of device memory */
    void *params;              /* list of host memory, linked by its first bytes */
    int status;                /* the first failure */
};
void cuda_build_fini(struct cuda_build *b);

/* Builds all layers, of all depths; b->status says whether that went well. */
void cuda_sequence_build(struct cuda_build *b, const struct ssm_sequence *from, struct cuda_sequence *out);

/* Bytes of arena that tiles of those rooms need. */
size_t cuda_sequence_arena(const struct cuda_sequence *sequence, const struct cuda_tile *tile);
/* Launches the tile through all layers: x (frames, sequence->in; NULL for tokens) to y. tile->scratch is ignored. */
cudaError_t cuda_sequence_launch(const struct cuda_sequence *sequence, const struct cuda_tile *tile,
                                 unsigned char *arena, const float *x, float *y);

#endif
