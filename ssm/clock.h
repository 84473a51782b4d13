/* SPDX-License-Identifier: Apache-2.0
 *
 * Time inside a graph: how many frames have passed each place after n frames of the model's input.
 *
 * A layer that keeps every frame leaves its input's clock as it is; a stride, a factor, and a join of branches that run
 * at different distances from the input make a new one. A clock is a pure function of n, so that a row's place at every
 * layer follows from the stream's index alone, and nothing of it is kept in the state.
 *
 *     slower   floor((c - span) / stride) + 1, 0 before span frames are there     (span: frames that the first one needs)
 *     faster   c * factor
 *     join     the least of two
 *     pace     the least of c and ceil(n * rate): no output before input floor(t / ratio)
 *
 * Every clock is max(0, P(n)) of a P with P(n + hop) = P(n) + hop * rate, hop being the least common multiple of the
 * rates' denominators. So `frames` input frames pass at most ceil(frames / hop) * hop * rate of them at any place.
 * Clock 0 is the model's input. A graph with no other is aligned: every place has seen n frames.
 */
#ifndef SSM_CLOCK_H
#define SSM_CLOCK_H

#include <stdbool.h>

#include "ssm/ssm.h"

enum ssm_clock_how { SSM_CLOCK_INPUT, SSM_CLOCK_SLOWER, SSM_CLOCK_FASTER, SSM_CLOCK_JOIN, SSM_CLOCK_PACE };

struct ssm_clock {
    enum ssm_clock_how how;
    uint32_t from, with;   /* clocks before this one; with: of a join */
    uint32_t span, stride; /* slower */
    uint32_t factor;       /* faster */
    uint64_t num, den;     /* its rate over the input's, reduced */
};

/* How far a clock runs ahead of a later one, which the join there keeps in a FIFO. */
struct ssm_clock_lead {
    uint32_t clock, later;
    uint32_t most; /* frames, at any n; set by ssm_clocks_settle */
};

struct ssm_clocks {
    struct ssm_clock *clock;
    uint32_t count;
    struct ssm_clock_lead *lead;
    uint32_t leads;
    uint32_t hop, lookahead; /* set by ssm_clocks_settle; 1 and 0 when aligned */
};

#define SSM_HOP_MAX       65536u
#define SSM_LOOKAHEAD_MAX (1u << 20)

/* Each adds a clock (or finds it again) and gives its number in *out: SSM_NOMEM, or SSM_LIMIT for a rate whose terms
 * pass 32 bits. The join of clocks whose rates differ is SSM_CONFIG. */
int ssm_clocks_init(struct ssm_clocks *c);
int ssm_clock_slower(struct ssm_clocks *c, uint32_t from, uint32_t span, uint32_t stride, uint32_t *out);
int ssm_clock_faster(struct ssm_clocks *c, uint32_t from, uint32_t factor, uint32_t *out);
int ssm_clock_join(struct ssm_clocks *c, uint32_t a, uint32_t b, uint32_t *out);
int ssm_clock_pace(struct ssm_clocks *c, uint32_t from, uint32_t *out);
/* Ask for how far `clock` runs ahead of `later`; *out is the place in c->lead. */
int ssm_clock_lead(struct ssm_clocks *c, uint32_t clock, uint32_t later, uint32_t *out);
/* Takes back the clock and the lead that were added last, which nothing uses. */
void ssm_clocks_pop(struct ssm_clocks *c);
void ssm_clocks_fini(struct ssm_clocks *c);

/* Works out hop, leads, and lookahead, `end` being the clock of the output, by counting through the start and one hop.
 * SSM_LIMIT when one of them passes its bound; *what says which. */
int ssm_clocks_settle(struct ssm_clocks *c, uint32_t end, const char **what);

/* counts[k] = frames that have passed clock k after n input frames. */
void ssm_clocks_count(const struct ssm_clocks *c, uint64_t n, uint64_t *counts);

/* Windows of `span` frames, `stride` apart, that are whole among the first `frames`. */
static inline uint64_t ssm_clock_windows(uint64_t frames, uint32_t span, uint32_t stride)
{
    return frames < span ? 0 : (frames - span) / stride + 1;
}

/* Frames that `frames` input frames, a multiple of the hop, pass there. */
static inline uint64_t ssm_clock_frames(const struct ssm_clock *clock, uint64_t frames)
{
    return frames / clock->den * clock->num;
}

static inline bool ssm_clocks_aligned(const struct ssm_clocks *c)
{
    return c->count == 1;
}

#endif
