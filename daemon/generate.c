/* SPDX-License-Identifier: Apache-2.0
 *
 * What follows the advance of a batch. First every row's outputs become what its stream keeps; then rounds of one token
 * for each stream that still generates, until the batch's time is over.
 */
#include "daemon/generate.h"
#include "daemon/batch.h"
#include "daemon/clock.h"

#include <math.h>

bool generate_is_running(const struct stream *stream)
{
    return stream->generation && stream->generation->is_running;
}

bool generate_is_ready(const struct stream *stream)
{
    return stream->head || (generate_is_running(stream) && stream->generation->has_token);
}

/* One frame as it is kept: the drawn token's place, and the most probable ones. */
static void frame_keep(const struct stream *stream, const float *logits, uint32_t vocab, struct ssm_top *kept)
{
    if (stream->generates)
        *kept++ = (struct ssm_top){-1, 0};
    if (stream->top_k > 0 && ssm_top_k(logits, vocab, stream->top_k, kept) != SSM_OK)
        for (uint32_t i = 0; i < stream->top_k; i++)
            kept[i] = (struct ssm_top){-1, NAN};
}

static bool is_stop(const struct generation *g, int32_t token)
{
    for (uint32_t i = 0; i < g->stops; i++)
        if (g->stop[i] == token)
            return true;
    return false;
}

/* Draws the token that follows the frame, which is the stream's last so far; `index` is the token's. */
static void token_draw(struct generation *g, const float *logits, uint32_t vocab, uint64_t index, float *scratch,
                       struct ssm_top *kept)
{
    struct ssm_top drawn;

    g->has_token = false;
    if (ssm_sample(&g->sampler, logits, vocab, index, scratch, &drawn) != SSM_OK) {
        g->is_drawn = true;
        g->drawn = SSMD__ENDING__FAILED;
        return;
    }
    *kept = drawn;
    ssm_sampler_push(&g->sampler, drawn.token);
    g->token = drawn.token;
    g->has_token = true;
    g->made++;
    if (is_stop(g, drawn.token)) {
        g->is_drawn = true;
        g->drawn = SSMD__ENDING__STOP_TOKEN;
    } else if (g->made == g->maximum) {
        g->is_drawn = true;
        g->drawn = SSMD__ENDING__MAXIMUM;
    }
}

/* `frames` new outputs of the row, behind those that are kept already. */
static void row_keep(const struct batch *batch, uint32_t i, const float *out, uint32_t frames, float *scratch)
{
    struct batch_row *of = &batch->of[i];
    struct stream *stream = of->stream;
    uint32_t channels = batch->model->info.out_channels;

    for (uint32_t f = 0; f < frames; f++) {
        const float *logits = out + (size_t)f * channels;
        struct ssm_top *kept = (struct ssm_top *)(void *)(of->kept + (size_t)of->kept_n * stream->ring.channels);

        frame_keep(stream, logits, channels, kept);
        of->kept_n++;
        if (of->draws && f + 1 == frames)
            token_draw(stream->generation, logits, channels, stream->applied + of->queued + of->fed, scratch, kept);
    }
}

/* The rows of one more token for each stream that may draw another; how many. */
static uint32_t round_form(const struct batch *batch)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < batch->n; i++) {
        const struct batch_row *of = &batch->of[i];
        const struct generation *g = of->stream->generation;

        if (!of->draws || of->burst == 0 || batch->rows[i].status != SSM_OK || !g->has_token || g->is_drawn)
            continue;
        batch->round_of[n] = i;
        batch->round[n++] = (struct ssm_row){
            .slot = batch->rows[i].slot, .view = SSM_STEP, .frames = 1, .in = &g->token, .out = batch->rows[i].out};
    }
    return n;
}

void generate_after(struct job *job, float *scratch)
{
    struct batch *batch = job->owner;
    uint32_t n;

    for (uint32_t i = 0; i < batch->n; i++)
        if (batch->of[i].kept && batch->rows[i].status == SSM_OK)
            row_keep(batch, i, batch->rows[i].out, batch->rows[i].out_frames, scratch);
    while (clock_now_ns() - job->began_ns < batch->time_ns && (n = round_form(batch)) > 0) {
        if (ssm_advance(job->program, batch->round, n) == SSM_DEVICE) { /* else each row has its status */
            job->status = SSM_DEVICE;
            return;
        }
        batch->frames += n;
        batch->advances++;
        for (uint32_t k = 0; k < n; k++) {
            struct batch_row *of = &batch->of[batch->round_of[k]];

            batch->rows[batch->round_of[k]].status = batch->round[k].status;
            if (batch->round[k].status != SSM_OK)
                continue;
            of->burst--;
            of->fed++;
            row_keep(batch, batch->round_of[k], batch->round[k].out, 1, scratch);
        }
    }
}
