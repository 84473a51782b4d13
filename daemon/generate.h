/* SPDX-License-Identifier: Apache-2.0
 *
 * Generation: a stream of tokens that feeds itself. What a batch brought is turned into what its streams keep, on the
 * thread that advanced it: the most probable tokens of each frame, and the next token of a stream that generates.
 *
 * A drawn token is delivered with the result that it was drawn from and consumed next, as a step row of one frame. It
 * need not go to the loop and back in between: as long as the batch has time (BATCH_NS) and the stream's ring has room
 * reserved, the engine feeds it at once, all streams of the batch that generate side by side. Steps give the same bits
 * however they are cut and whoever is beside (ssm/ssm.h), and the number that draws a token depends on its index alone,
 * so neither load nor bursts show in what is generated.
 *
 * The last token drawn is delivered and not consumed: whoever goes on, with data or another generation, says so. The
 * state is then that of a stream which was sent the prompt and all drawn tokens but the last.
 *
 * Threads: a stream's generation belongs to whoever has its batch, but for what is marked as the loop's; that alone may
 * be read when a stream may be in a batch.
 */
#ifndef DAEMON_GENERATE_H
#define DAEMON_GENERATE_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/engine.h"
#include "daemon/stream.h"
#include "ssm/sample.h"

#define GENERATE_STOPS 64
#define GENERATE_BURST 64 /* the most tokens that a stream draws in one batch */

struct generation {
    struct ssm_sampler sampler;
    int32_t stop[GENERATE_STOPS];
    uint32_t stops;
    uint64_t maximum;
    uint64_t first;  /* index of the result with the first token */
    uint64_t made;   /* tokens drawn */
    uint64_t told;   /* the loop's: those of them whose results are in the ring */
    bool is_running; /* the loop's */
    bool is_stopped; /* the loop's: it ends when its batch is back, as `ending` says */
    bool is_silent;  /* the loop's: its end is nobody's any more */
    bool is_drawn;   /* whoever drew the last token: no more, as `drawn` says */
    bool has_token;  /* `token` was drawn and is not consumed */
    int32_t token;
    Ssmd__Ending ending; /* the loop's */
    Ssmd__Ending drawn;
};

/* The stream has its next row: queued frames, or a drawn token. */
bool generate_is_ready(const struct stream *stream);
bool generate_is_running(const struct stream *stream);

/* A job's `after`, of a struct batch: fills what its rows' streams keep, and goes on generating. scratch is that of
 * ssm_sample for the model's vocabulary; it may be NULL when no stream of the batch generates. */
void generate_after(struct job *job, float *scratch);

/* ---- on the loop thread (daemon/control_generate.c) -------------------------------------------------------------- */

struct loop;

/* The stream generates no more: now, or when its batch is back. Does nothing when it does not generate. */
void generate_stop(struct loop *loop, struct stream *stream, Ssmd__Ending ending);
/* Its batch is back: ends a generation that is over. */
void generate_settle(struct loop *loop, struct stream *stream);
/* As a message. */
void generate_info_fill(const struct generation *g, Ssmd__Generation *out);

#endif
