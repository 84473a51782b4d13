/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches: what the engine advances at once. A batch is of one model and holds a stream at most once (I1), with a row
 * of the frames that wait for it: adjacent chunks of one kind merge.
 *
 * Live chunks become SSM_STEP rows, whose output does not depend on how they are cut. Chunks marked as backfill become
 * SSM_SCAN rows, whose output may: so a scan row begins where a chunk begins or on the grid, and ends where a chunk
 * ends or on the grid, and chunks merge only when they meet on the grid. The grid is of absolute frame indices
 * (model->grid, a multiple of the engine's own), so that load and timing never show in the output (I4).
 *
 * Two batches: one on the device while the other fills. They are formed when the engine has less than two and somebody
 * has input, so an idle daemon answers at once and a busy one in large batches. A third one is the loop's own: when all
 * that a model has to do is less than handing it over costs, the loop does it itself, beside what the engine has. So a
 * light model's live chunks wait for no heavy model's batches.
 *
 * A batch is short, BATCH_NS of the engine's time as the model's frames have cost so far: whoever comes next waits for
 * the two in flight, however much somebody else has queued. Cutting changes no bit (above).
 *
 * All of that is for one engine, and there is a batcher for each (daemon/units.h). On a device a batch takes its time
 * however little is in it, and thousands of rows fill it: BATCH_DEVICE_NS, as many frames as daemon/cost.h says, and
 * staging that grows to what they need. A row of the step view is sequential there, however idle the device, so it is
 * cut at BATCH_DEVICE_STEP. The loop advances nothing on a device itself.
 *
 * A batch is of live streams or of backfill, and daemon/lane.h says whose turn it is. Batches fill while the engine is
 * busy: there is nothing to tune.
 *
 * A stream joins only with as many frames as its result ring has room for; a full ring stalls that stream and no other.
 * A row ends at the latest where a task or a checkpoint of the stream is due (stream_frames_to_stop), which is where a
 * chunk ends or on the grid.
 *
 * A stream that generates (daemon/generate.h) joins with its drawn token when nothing is queued, one frame in the step
 * view, and draws more tokens inside the batch while there is time and room; the engine does that, never the loop.
 *
 * Threads: the loop thread forms and finishes them; in between a batch belongs to the engine.
 */
#ifndef DAEMON_BATCH_H
#define DAEMON_BATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/engine.h"
#include "daemon/models.h"
#include "daemon/stream.h"

#define BATCH_GRID       64 /* of models whose grid in the engine is less; a device's is no more (ssm_program_grid) */
#define BATCHES          2
#define BATCH_LOOP       BATCHES /* the loop's own, in batcher.batch */
#define BATCH_NS         150000
#define BATCH_LOOP_NS    40000 /* the most that the loop computes itself in one tick */
#define BATCH_ROWS       4096
#define BATCH_PIECES     8192
#define BATCH_ROW_TIMES  64 /* timed pieces of one row */
#define BATCH_IN_FLOATS  (1u << 20)
#define BATCH_OUT_FLOATS (1u << 20)

/* On a device; staging begins with what is above and grows to at most so many floats. */
#define BATCH_DEVICE_NS         1000000
#define BATCH_DEVICE_ROWS       16384
#define BATCH_DEVICE_PIECES     32768
#define BATCH_DEVICE_STEP       512 /* frames of a row of the step view */
#define BATCH_DEVICE_IN_FLOATS  (8u << 20)
#define BATCH_DEVICE_OUT_FLOATS (32u << 20)

/* Frames of a row that came in one chunk. */
struct batch_piece {
    uint32_t frames;
    bool has_time;
    int64_t time;
};

/* The stream of a row, and the chunks that it used up. */
struct batch_row {
    struct stream *stream;
    struct chunk *used;  /* to be released when the row is done */
    uint64_t first;      /* index of its first frame */
    uint64_t arrived_ns; /* of the chunk that its last frame came in; 0: not a sender's */
    uint32_t pieces;     /* of batch->pieces, after those of the rows before */
    bool is_flush;
    bool draws;      /* its last frame is the stream's last, and the stream generates */
    uint32_t queued; /* frames of the row that were accepted as data */
    uint32_t fed;    /* drawn tokens that the state has consumed in this batch */
    uint32_t burst;  /* further ones that have room in the ring */
    float *kept;     /* pairs instead of all outputs; NULL: row->out is kept */
    uint32_t kept_n; /* frames of it */
};

struct batch {
    struct job job;
    struct model *model;
    struct lane *lane; /* whose streams are in it */
    uint64_t time_ns;  /* that it should take */
    uint32_t advances; /* that it has taken: more than 1 when tokens were drawn and fed on */
    struct ssm_row *rows;
    struct ssm_row *round; /* the engine's: one more token for those that generate */
    uint32_t *round_of;    /* ... of which rows */
    struct batch_row *of;
    struct batch_piece *pieces;
    struct job_copy *copies; /* checkpoints that its rows reach */
    uint32_t n, pieces_n, frames, copies_n;
    float *in, *out;                             /* staging */
    size_t in_size, in_used, out_size, out_used; /* floats */
    bool in_flight;
    bool keeps_pairs; /* some rows do */
};

struct batcher {
    struct batch batch[BATCHES + 1];
    struct lanes lanes;           /* with ready streams */
    TAILQ_HEAD(, stream) stalled; /* wait for room in their rings */
    uint32_t in_flight;
    uint32_t row_frames, frames; /* limits */
    uint32_t rows, pieces;       /* ... of a batch */
    uint32_t threads;            /* of the engine, at least 1; 0: a device */
    uint64_t time_ns;            /* of a batch */
    uint64_t now_ns;             /* of this tick: the loop's */
};

/* threads as above. */
int batcher_init(struct batcher *batcher, uint32_t row_frames, uint32_t frames, uint32_t threads);
void batcher_fini(struct batcher *batcher, struct input *input);

static inline uint32_t batch_grid(const struct ssm_model_info *info)
{
    return (BATCH_GRID + info->grid - 1) / info->grid * info->grid;
}

/* The stream has input, or room again: it joins a batch when its turn comes (daemon/lane.h). Does nothing while it is in
 * one, or has no input. */
void batcher_add(struct batcher *batcher, struct stream *stream);
/* Takes it off every list. It is not in a batch. */
void batcher_remove(struct batcher *batcher, struct stream *stream);
/* Try the stalled again: the ring budget may have changed. */
void batcher_retry(struct batcher *batcher);

/* Fill `batch` with rows of the lane's streams. Returns the number of rows; streams without room in their rings, or all of them
 * without memory for the rows, are stalled and counted in *stalled. `budget` is of the rings, `ring_limit` the bytes of
 * one. */
uint32_t batch_fill(struct batcher *batcher, struct batch *batch, struct lane *lane, struct ring_budget *budget,
                    uint64_t ring_limit, uint64_t *stalled);

/* The engine's time for all that the lane's streams have queued, as the model's frames have cost so far; UINT64_MAX when
 * it is more than `most`, nobody has seen the model run yet, or one of them generates. */
uint64_t batch_ready_ns(const struct lane *lane, uint64_t most);

/* A batch is back: what its model's frames cost is known better. */
void batch_cost_learn(struct batch *batch);

/* Frames of so many channels that a stream's ring may grow to, and (limit 0) that it gets whatever the budget says:
 * powers of two that hold at least two pieces of the grid. */
uint32_t batch_ring_most(const struct model *model, uint32_t channels, uint64_t ring_limit);

#endif
