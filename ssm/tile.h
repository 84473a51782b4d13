/* SPDX-License-Identifier: Apache-2.0
 *
 * A tile being filled with pieces of rows, and run.
 *
 * A piece's place at every clock of the model follows from the stream's index alone. A tile is run when it is full at
 * any clock, or when a row goes on that is in it already: a stream occurs in a tile once.
 *
 * Rows are cut by the view. A row that is stepped may be cut anywhere. A scanning row of an aligned graph is cut on the
 * grid of absolute indices, so that every whole block of the grid inside the row lies inside one tile, whoever shares
 * it. In a graph that is not aligned, what lies together of a block depends at every clock on where the row is cut: so
 * there whole cells of the grid of model->cell frames are scanned, each for itself, and what is short of one is stepped.
 */
#ifndef SSM_TILE_H
#define SSM_TILE_H

#include "ssm/engine.h"

#define SSM_TILE_ROWS SSM_TILE_FRAMES

/* What one thread needs to run tiles. */
struct ssm_workspace {
    float *input;   /* (cell, in_channels) */
    int32_t *token; /* (cell) */
    float *output;  /* (room at the output's clock, out_channels) */
    float *scratch;
    float *wide;                   /* scratch of wide tiles; NULL unless the program is prepared for the conv view */
    uint32_t *room;                /* (clocks) */
    struct ssm_tile_row *row;      /* (clocks, SSM_TILE_ROWS) */
    struct ssm_tile_clock *clocks; /* (clocks), of the tile */
    uint64_t *begin, *end;         /* (clocks), of a piece */
    const void *source[SSM_TILE_ROWS];
    float *target[SSM_TILE_ROWS]; /* where the row's output goes */
};

int ssm_workspace_init(struct ssm_workspace *w, const struct ssm_model *model);
void ssm_workspace_fini(struct ssm_workspace *w);

struct ssm_filling {
    const struct ssm_program *program;
    struct ssm_workspace *space;
    struct ssm_tile tile;
};

void ssm_filling_init(struct ssm_filling *f, const struct ssm_program *program, struct ssm_workspace *space);

struct ssm_piece {
    uint32_t frames; /* 0: nothing fits before the tile is run */
    enum ssm_view view;
};

/* The next piece of a row of that view: from absolute index `from` on, `left` frames before the row's end, into a tile
 * that holds `held` frames already. */
struct ssm_piece ssm_piece_next(const struct ssm_program *program, enum ssm_view view, uint64_t from, uint32_t left,
                                uint32_t held);

/* Adds the row's frames from `at` on to the tile, which is run first when it cannot take them; their output goes to
 * `out`. The state's own count stands at the row's begin. Returns the output frames. */
uint32_t ssm_filling_add(struct ssm_filling *f, const struct ssm_row *row, struct ssm_slot_head *head, uint32_t at,
                         struct ssm_piece piece, float *out);
/* Runs the tile; an empty one is legal. */
void ssm_filling_run(struct ssm_filling *f);

/* Output frames that a stream has given after n input frames. */
uint64_t ssm_filling_made(const struct ssm_filling *f, uint64_t n);

#endif
