/* SPDX-License-Identifier: Apache-2.0
 *
 * The contract that a device fulfils: a table of functions that a plugin exports under SSM_BACKEND_SYMBOL.
 *
 * libssm cuts rows into tiles, names slots and makes images; the device keeps the states, and takes one tile after
 * another through the whole graph. It sees model, clocks and layers (ssm/layer.h, ssm/layers) as plain data, and calls
 * nothing of libssm. Plain C at the edge; a plugin may be written in C++.
 *
 * A tile is many rows at once: on a device they fill it, where on a CPU they would leave the cache. Its memory belongs
 * to the device (pinned); libssm writes rows and input there, and reads the output. A program has SSM_DEVICE_TILES of
 * them, so that one is filled while another is computed.
 *
 * Slots are libssm's numbers. The device keeps as many states resident as it has room for, and sees to the others
 * itself: a row's state is there when the row runs. A row that begins at index 0 begins with a fresh state, all zero,
 * whatever the slot held before. States cross the edge as the slot's bytes in the layout of struct ssm_part.
 *
 * Views: a row of SSM_STEP may be cut anywhere and gives the same bits. A row of SSM_SCAN takes the whole blocks of the
 * grid of SSM_DEVICE_BLOCK absolute indices that it holds in the chunk form and steps the rest; libssm cuts such rows on
 * that grid. Graphs that are not aligned are stepped.
 *
 * Threads: a program's submit and wait belong to one thread. load, store and copy may run on any thread beside them, for
 * slots that nobody else touches; the device sees to its own tables.
 *
 * Errors: 0 or a negative enum ssm_status. SSM_DEVICE is for good: every later call on that device fails likewise.
 */
#ifndef SSM_BACKEND_H
#define SSM_BACKEND_H

#include "ssm/layer.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SSM_BACKEND_VERSION 1u
#define SSM_BACKEND_SYMBOL  "ssm_backend"

#define SSM_DEVICE_TILES 2u
#define SSM_DEVICE_BLOCK 64u /* a multiple of SSM_SCAN_BLOCK */

/* What a row brings at one clock. */
struct ssm_device_row {
    uint64_t index;  /* absolute index of its first frame there */
    uint32_t first;  /* that frame's place among the tile's */
    uint32_t frames; /* at least 1 at the input's clock */
    int32_t slot;
    uint32_t view; /* SSM_STEP or SSM_SCAN */
};

struct ssm_device_tile {
    const uint32_t *frames_room; /* (clocks) that it has room for */
    uint32_t rows_room;
    uint32_t rows;              /* set by libssm, as all that follows but the pointers and the output */
    uint32_t *frames;           /* (clocks), the sum over rows */
    struct ssm_device_row *row; /* (clocks, rows_room): every clock has the same rows in the same order */
    void *input;                /* (frames, in_channels) float32, or (frames) int32 tokens */
    float *output;              /* (frames at the output's clock, out_channels) */
};

/* A model as a device sees it; all of it outlives the program. */
struct ssm_device_model {
    const struct ssm_model_info *info;
    const struct ssm_sequence *graph;
    const struct ssm_clocks *clocks;
    uint32_t cell; /* input frames: tiles of graphs that are not aligned have room for whole cells */
};

struct ssm_device;         /* the plugin's own */
struct ssm_device_program; /* likewise */

struct ssm_backend {
    uint32_t version; /* SSM_BACKEND_VERSION */
    uint32_t size;    /* of this struct, in bytes */

    /* How many devices are there; SSM_UNSUPPORTED, and why, when there is no driver. */
    int (*count)(uint32_t *devices, struct ssm_error *err);
    int (*open)(struct ssm_device **out, uint32_t number, struct ssm_error *err);
    void (*close)(struct ssm_device *device); /* after its programs; NULL is legal */
    /* "NVIDIA H100 80GB HBM3 (sm_90), driver 13.0", and why it failed if it has; lives as long as the device. */
    const char *(*describe)(const struct ssm_device *device);

    /* Uploads the weights and makes room for states: of at most max_slots, and as many of them resident as fit, or
     * `resident` if that is not 0 and fewer. Tiles have room for `frames`, about, or for what suits the device if that is
     * 0. */
    int (*compile)(struct ssm_device_program **out, struct ssm_device *device, const struct ssm_device_model *model,
                   uint32_t max_slots, uint32_t resident, uint32_t frames, struct ssm_error *err);
    void (*discard)(struct ssm_device_program *program); /* NULL is legal */

    /* Tile number `which` of SSM_DEVICE_TILES, to be filled; not between its submit and its wait. */
    struct ssm_device_tile *(*tile)(struct ssm_device_program *program, uint32_t which);
    /* Starts it behind those that were submitted before. A slot occurs once in a tile. */
    int (*submit)(struct ssm_device_program *program, uint32_t which);
    /* Until its output is there. */
    int (*wait)(struct ssm_device_program *program, uint32_t which);

    /* The state of a slot that has consumed frames, to or from (state_bytes) host memory. */
    int (*store)(struct ssm_device_program *program, int32_t slot, void *states);
    int (*load)(struct ssm_device_program *program, int32_t slot, const void *states);
    int (*copy)(struct ssm_device_program *program, int32_t from, int32_t to);
    /* Nobody needs its state any more. */
    void (*forget)(struct ssm_device_program *program, int32_t slot);
};

#ifdef __cplusplus
}
#endif
#endif
