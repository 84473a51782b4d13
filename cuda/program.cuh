/* SPDX-License-Identifier: Apache-2.0
 *
 * A model compiled for one GPU: its layers, its states, its tiles, and the graphs that steady tiles replay.
 *
 * What a tile passes through:
 *     rows and input        pinned host memory -> device           on the stream `up`, beside the tile before
 *     cuda_pool_place       states that are elsewhere -> their places  on the pool's stream, likewise
 *     tile_begin            owner of every frame; zero states of who begins
 *     the layers            launched one by one, or as the graph of the tile's bucket      on `compute`
 *     output                device -> pinned host memory           on `down`, beside the tile behind
 * The host waits on one event for each tile.
 *
 * A bucket is what grids are sized by (rooms): rows, frames and the longest row, each rounded up to a power of two. A
 * bucket that comes a second time is captured, and replayed from then on.
 */
#ifndef CUDA_PROGRAM_CUH
#define CUDA_PROGRAM_CUH

#include "cuda/graph.cuh"
#include "cuda/pool.cuh"

#define CUDA_GRAPHS 64u /* kept; the one unused longest goes */

struct cuda_bucket {
    uint32_t rows, frames, longest; /* at the input's clock */
    uint32_t scans;
};

struct cuda_captured {
    struct cuda_bucket bucket;
    cudaGraphExec_t exec[SSM_DEVICE_TILES]; /* they differ in where input and output lie; NULL: not captured yet */
    uint64_t used;                          /* number of the last tile; 0: free */
};

/* One of the tiles: what libssm fills, and its counterpart on the device. */
struct cuda_stage {
    struct ssm_device_tile tile;
    unsigned char *head;        /* pinned: counts (clocks), then rows (clocks, bucket's rows) */
    unsigned char *device_head; /* the same on the device */
    void *input;                /* device */
    float *output;              /* device */
    cudaEvent_t up, computed, done;
    uint64_t number; /* of the tile that was submitted last in it */
};

struct ssm_device_program {
    struct ssm_device *device;
    struct ssm_device_model model;
    struct cuda_build build;
    struct cuda_sequence graph;
    struct cuda_pool pool;
    struct cuda_stage stage[SSM_DEVICE_TILES];
    uint32_t rows_room;
    uint32_t *frames_room;     /* (clocks) */
    uint32_t **owner;          /* host: (clocks) of device: (frames_room) */
    uint32_t **device_owner;   /* the same pointers on the device */
    struct cuda_span *spans;   /* (clocks), of the tile at work */
    unsigned char *arena;      /* device */
    cudaStream_t up, compute, down;
    struct cuda_captured captured[CUDA_GRAPHS];
    uint64_t submitted, finished; /* tiles */
    /* of the tile that is being placed: (rows_room) each */
    int32_t *slot;
    uint8_t *fresh;
    unsigned char **state;
};

extern "C" {
int cuda_program_compile(struct ssm_device_program **out, struct ssm_device *device,
                         const struct ssm_device_model *model, uint32_t max_slots, uint32_t resident,
                         uint32_t frames, struct ssm_error *err);
void cuda_program_discard(struct ssm_device_program *program);
struct ssm_device_tile *cuda_program_tile(struct ssm_device_program *program, uint32_t which);
int cuda_program_submit(struct ssm_device_program *program, uint32_t which);
int cuda_program_wait(struct ssm_device_program *program, uint32_t which);
}

/* The rooms of a bucket at every clock, into program->spans, for the tile in `which`. */
void cuda_program_span(struct ssm_device_program *program, uint32_t which, const struct cuda_bucket *bucket);

#endif
