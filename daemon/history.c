/* SPDX-License-Identifier: Apache-2.0
 * Checkpoints and kept input of one stream; see history.h. */
#include "daemon/history.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/batch.h"

#define NONE UINT64_MAX

enum { KEPT_BACKFILL = 1, KEPT_ROW_BEGINS = 2 };

struct checkpoint {
    uint64_t at;  /* frames consumed; NONE: there is none */
    uint64_t out; /* results given */
    struct ssm_slot slot;
};

struct history {
    struct ssm_program *program;
    struct checkpoint *checkpoints; /* (n) */
    float *samples;                 /* (n * interval, channels), tokens as int32 */
    uint8_t *marks;                 /* (n * interval): KEPT_* */
    uint32_t n, interval, depth, channels;
    uint32_t grid; /* the batches' of the model */
    uint64_t bytes;
};

static uint32_t checkpoints_needed(uint32_t interval, uint32_t depth)
{
    return (depth + interval - 1) / interval + 1;
}

uint64_t history_bytes(const struct ssm_model *model, uint32_t interval, uint32_t depth)
{
    const struct ssm_model_info *info = ssm_model_info(model);
    uint64_t n, frame = info->in_channels * sizeof(float) + 1;

    if (interval == 0 || interval % batch_grid(info) || interval > HISTORY_INTERVAL_MAX || depth == 0 ||
        depth > HISTORY_DEPTH_MAX)
        return UINT64_MAX;
    n = checkpoints_needed(interval, depth);
    return n * (sizeof(struct checkpoint) + info->state_bytes) + n * interval * frame;
}

struct history *history_new(struct ssm_program *program, struct ssm_slot slot, uint32_t interval, uint32_t depth,
                            uint64_t index, uint64_t out)
{
    const struct ssm_model *model = ssm_program_model(program);
    struct history *h = calloc(1, sizeof(*h));
    size_t frames;

    if (!h)
        return NULL;
    h->program = program;
    h->interval = interval;
    h->depth = depth;
    h->channels = ssm_model_info(model)->in_channels;
    h->grid = batch_grid(ssm_model_info(model));
    h->bytes = history_bytes(model, interval, depth);
    h->n = checkpoints_needed(interval, depth);
    frames = (size_t)h->n * interval;
    h->checkpoints = calloc(h->n, sizeof(*h->checkpoints));
    h->samples = malloc(frames * h->channels * sizeof(float));
    h->marks = malloc(frames);
    for (uint32_t i = 0; h->checkpoints && i < h->n; i++)
        h->checkpoints[i] = (struct checkpoint){.at = NONE, .slot = {.index = -1}};
    if (!h->checkpoints || !h->samples || !h->marks)
        goto fail;
    for (uint32_t i = 0; i < h->n; i++)
        if (ssm_slot_acquire(program, &h->checkpoints[i].slot) != SSM_OK)
            goto fail;
    struct checkpoint *first = &h->checkpoints[index / interval % h->n];

    if (ssm_slot_copy(program, slot, first->slot) != SSM_OK)
        goto fail;
    first->at = index;
    first->out = out;
    return h;
fail:
    history_free(h);
    return NULL;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    for (uint32_t i = 0; history->checkpoints && i < history->n; i++)
        ssm_slot_release(history->program, history->checkpoints[i].slot);
    free(history->checkpoints);
    free(history->samples);
    free(history->marks);
    free(history);
}

void history_fill(const struct history *history, Ssmd__History *message)
{
    uint64_t oldest = NONE;

    for (uint32_t i = 0; i < history->n; i++)
        oldest = history->checkpoints[i].at < oldest ? history->checkpoints[i].at : oldest;
    message->interval = history->interval;
    message->depth = history->depth;
    message->has_bytes = message->has_oldest = true;
    message->bytes = history->bytes;
    message->oldest = oldest;
}

uint64_t history_bytes_of(const struct history *history)
{
    return history->bytes;
}

void history_reset(struct history *history, struct ssm_slot slot)
{
    for (uint32_t i = 0; i < history->n; i++)
        history->checkpoints[i].at = NONE;
    if (ssm_slot_copy(history->program, slot, history->checkpoints[0].slot) == SSM_OK)
        history->checkpoints[0].at = history->checkpoints[0].out = 0;
}

/* ---- as frames are applied --------------------------------------------------------------------------------------- */

uint64_t history_stop(const struct history *history, uint64_t begin)
{
    return (begin / history->interval + 1) * history->interval;
}

struct ssm_slot history_slot_due(struct history *history, uint64_t end)
{
    struct checkpoint *due = &history->checkpoints[end / history->interval % history->n];

    if (end % history->interval != 0)
        return (struct ssm_slot){.index = -1};
    due->at = NONE; /* until it is known to have gone well */
    return due->slot;
}

void history_keep(struct history *history, uint64_t first, uint32_t frames, bool backfill, const void *in, uint64_t out,
                  bool copied)
{
    uint64_t size = (uint64_t)history->n * history->interval, end = first + frames;
    size_t frame = history->channels * sizeof(float);
    const char *from = in;

    for (uint32_t done = 0; done < frames;) {
        uint64_t at = (first + done) % size;
        uint32_t n = frames - done < size - at ? frames - done : (uint32_t)(size - at);

        memcpy((char *)history->samples + at * frame, from + done * frame, n * frame);
        memset(history->marks + at, backfill ? KEPT_BACKFILL : 0, n);
        if (done == 0)
            history->marks[at] |= KEPT_ROW_BEGINS;
        done += n;
    }
    if (end % history->interval == 0 && copied) {
        struct checkpoint *made = &history->checkpoints[end / history->interval % history->n];

        made->at = end;
        made->out = out;
    }
}

/* ---- going back -------------------------------------------------------------------------------------------------- */

bool history_find(const struct history *history, uint64_t index, struct ssm_slot *slot, uint64_t *at, uint64_t *out)
{
    const struct checkpoint *c = &history->checkpoints[index / history->interval % history->n];

    if (c->at == NONE || c->at > index || c->at / history->interval != index / history->interval)
        return false;
    *slot = c->slot;
    *at = c->at;
    *out = c->out;
    return true;
}

/* Rows are cut anew, as the batch has room; but for a scan off the grid, where a cut shows. */
uint32_t history_take(const struct history *history, uint64_t at, uint64_t end, uint32_t most, void *in, bool *backfill)
{
    uint64_t size = (uint64_t)history->n * history->interval;
    size_t frame = history->channels * sizeof(float);
    uint32_t n = 0;

    *backfill = history->marks[at % size] & KEPT_BACKFILL;
    for (; at < end && n < most; at++, n++) {
        uint8_t mark = history->marks[at % size];

        if (((mark & KEPT_BACKFILL) != 0) != *backfill)
            break;
        if (n > 0 && *backfill && (mark & KEPT_ROW_BEGINS) && at % history->grid != 0)
            break;
        memcpy((char *)in + n * frame, (const char *)history->samples + at % size * frame, frame);
    }
    return n;
}

void history_forget(struct history *history, uint64_t index)
{
    for (uint32_t i = 0; i < history->n; i++)
        if (history->checkpoints[i].at != NONE && history->checkpoints[i].at > index)
            history->checkpoints[i].at = NONE;
}
