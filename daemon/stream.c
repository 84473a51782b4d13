/* SPDX-License-Identifier: Apache-2.0
 *
 * The index is one sorted array: opening moves at most 8 bytes for each stream, finding is a bisection, and list and
 * prefix need no second structure. The sample path never looks an id up; it has handles.
 */
#include "daemon/stream.h"
#include "daemon/history.h"
#include "daemon/state.h"

#include <stdlib.h>
#include <string.h>

int stream_id_compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    size_t common = a_size < b_size ? a_size : b_size;
    int order = common > 0 ? memcmp(a, b, common) : 0;

    if (order != 0)
        return order;
    return a_size < b_size ? -1 : a_size > b_size;
}

bool stream_id_is_valid(const uint8_t *id, size_t size)
{
    return size >= 1 && size <= PROTO_ID_MAX && memchr(id, '\0', size) == NULL;
}

void streams_init(struct streams *streams)
{
    memset(streams, 0, sizeof(*streams));
}

void streams_fini(struct streams *streams)
{
    free(streams->sorted);
    memset(streams, 0, sizeof(*streams));
}

uint32_t streams_seek(const struct streams *streams, const uint8_t *id, size_t size, bool beyond)
{
    uint32_t from = 0, to = streams->n;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        const struct stream *s = streams->sorted[middle];
        int order = stream_id_compare(s->id, s->id_size, id, size);

        if (order < 0 || (beyond && order == 0))
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

struct stream *streams_find(const struct streams *streams, const uint8_t *id, size_t size)
{
    uint32_t at = streams_seek(streams, id, size, false);
    struct stream *s = at < streams->n ? streams->sorted[at] : NULL;

    return s && s->id_size == size && memcmp(s->id, id, size) == 0 ? s : NULL;
}

static int capacity_grow(struct streams *streams)
{
    uint32_t capacity = streams->capacity ? streams->capacity * 2 : 64;
    struct stream **sorted;

    if (streams->n < streams->capacity)
        return 0;
    sorted = realloc(streams->sorted, capacity * sizeof(*sorted));
    if (!sorted)
        return -1;
    streams->sorted = sorted;
    streams->capacity = capacity;
    return 0;
}

struct stream *streams_insert(struct streams *streams, const uint8_t *id, size_t size, uint32_t out_channels)
{
    struct stream *s;
    uint32_t at;

    if (capacity_grow(streams) != 0)
        return NULL;
    s = calloc(1, sizeof(*s) + size + 1);
    if (!s)
        return NULL;
    s->slot.index = -1;
    s->epoch = streams_epoch_new(streams);
    ring_init(&s->ring, out_channels);
    TAILQ_INIT(&s->outlets);
    TAILQ_INIT(&s->tasks);
    s->id_size = (uint8_t)size;
    memcpy(s->id, id, size);
    at = streams_seek(streams, id, size, false);
    memmove(streams->sorted + at + 1, streams->sorted + at, (streams->n - at) * sizeof(*streams->sorted));
    streams->sorted[at] = s;
    streams->n++;
    return s;
}

void streams_remove(struct streams *streams, struct stream *stream)
{
    uint32_t at = streams_seek(streams, stream->id, stream->id_size, false);

    streams->n--;
    memmove(streams->sorted + at, streams->sorted + at + 1, (streams->n - at) * sizeof(*streams->sorted));
    free(stream->generation);
    free(stream);
}

uint64_t streams_epoch_new(struct streams *streams)
{
    return ++streams->epochs;
}

size_t stream_bytes(const struct stream *stream)
{
    return sizeof(*stream) + stream->id_size + 1u + sizeof(struct stream *) + sizeof(struct outlet);
}

/* ---- admission --------------------------------------------------------------------------------------------------- */

static void refuse(struct stream_admission *out, Ssmd__Code code, const char *text)
{
    out->verdict = VERDICT_REFUSE;
    out->code = code;
    out->text = text;
}

void stream_admit(const struct stream *stream, const struct proto_chunk *chunk, uint32_t in_channels,
                  const struct stream_limits *limits, struct stream_admission *out)
{
    uint64_t bytes;

    memset(out, 0, sizeof(*out));
    if (chunk->epoch != stream->epoch) {
        refuse(out, SSMD__CODE__STALE_EPOCH,
               "the stream is in another epoch: it was reset or taken over; open it again");
        return;
    }
    if (chunk->frames == 0) {
        refuse(out, SSMD__CODE__MALFORMED, "a chunk has at least 1 frame");
        return;
    }
    if (chunk->first <= stream->next && stream->next - chunk->first >= chunk->frames) {
        out->verdict = VERDICT_DUPLICATE;
        return;
    }
    if (stream->is_failed)
        refuse(out, SSMD__CODE__INTERNAL, "the engine refused frames of this stream: reset it and report this");
    else if (stream->is_closing)
        refuse(out, SSMD__CODE__CLOSED, "the stream is closed and takes no more input");
    else if (stream->request == REQUEST_ROLLBACK)
        refuse(out, SSMD__CODE__BUSY,
               "the stream waits to go back: send from the index and in the epoch of the answer");
    else if (stream->request == REQUEST_RESET || stream->request == REQUEST_MOVE)
        refuse(out, SSMD__CODE__BUSY, "the stream waits to be reset: send from index 0 in the epoch of the answer");
    else if (limits->is_generating)
        refuse(out, SSMD__CODE__BUSY, "the stream is generating: cancel that, or wait for its end");
    else if (limits->is_draining)
        refuse(out, SSMD__CODE__DRAINING, "the daemon is stopping: send this again to the next one");
    else if (chunk->frames > limits->chunk_frames)
        refuse(out, SSMD__CODE__TOO_LARGE, "the chunk has more frames than the daemon's limit chunk_frames");
    else if (chunk->first > stream->next)
        refuse(out, SSMD__CODE__GAP, "frames are missing before this chunk: send from the index expected");
    if (out->verdict == VERDICT_REFUSE)
        return;
    out->skip = (uint32_t)(stream->next - chunk->first);
    bytes = (uint64_t)(chunk->frames - out->skip) * in_channels * 4;
    if (stream->queued_bytes + bytes > limits->stream_window) {
        refuse(out, SSMD__CODE__OVERFLOW,
               "more than stream_window bytes of this stream are not applied: wait for "
               "acknowledgements, then send from the index expected");
    } else if (limits->connection_queued + bytes > limits->connection_window) {
        refuse(out, SSMD__CODE__OVERFLOW,
               "more than connection_window bytes of this connection are not applied: wait for "
               "acknowledgements, then send from the index expected");
        out->overflow = OVERFLOW_CONNECTION;
    } else if (limits->model_queued + bytes > limits->model_window) {
        refuse(out, SSMD__CODE__OVERFLOW,
               "the queue of this model, which `serve` limits, is full: wait for acknowledgements, then send from the "
               "index expected");
        out->overflow = OVERFLOW_MODEL;
    }
}

bool stream_refusal_is_new(struct stream *stream, Ssmd__Code code)
{
    uint32_t bit = 1u << ((unsigned)code & 31u);

    if ((stream->refused & bit) || (code == SSMD__CODE__GAP && stream->refused))
        return false;
    stream->refused |= bit;
    return true;
}

uint32_t stream_result_channels(const struct ssm_model_info *info, uint32_t top_k, bool generates)
{
    return top_k + generates > 0 ? 2 * (top_k + generates) : info->out_channels;
}

bool stream_keeps_pairs(const struct stream *stream)
{
    return stream->generates || stream->top_k > 0;
}

uint64_t stream_due(struct stream *stream, uint64_t now_ns, uint64_t duration_ns, uint64_t deadline_ns)
{
    uint64_t begin = now_ns > stream->paced_ns ? now_ns : stream->paced_ns;

    if (begin > now_ns + STREAM_AHEAD_NS)
        begin = now_ns + STREAM_AHEAD_NS;
    stream->paced_ns = begin + duration_ns;
    return begin + deadline_ns;
}

void stream_push(struct stream *stream, struct chunk *chunk, uint64_t bytes)
{
    chunk->next = NULL;
    if (stream->tail)
        stream->tail->next = chunk;
    else
        stream->head = chunk;
    stream->tail = chunk;
    if (!chunk->flush) {
        stream->next += chunk->frames;
        stream->queued_bytes += bytes;
        stream->refused = 0;
    }
}

uint64_t stream_frames_to_stop(const struct stream *stream)
{
    const struct task *task = TAILQ_FIRST(&stream->tasks);
    const struct chunk *head = stream->head; /* NULL: what comes next is drawn */
    uint64_t begin = head ? head->first + head->used : stream->applied, stop = task ? task->at : UINT64_MAX, due;

    if (head && head->flush) /* behind every task, and no part of a history */
        return UINT64_MAX;
    if (stream->history && (due = history_stop(stream->history, begin)) < stop)
        stop = due;
    return stop - begin;
}

uint64_t stream_keep_image(const struct stream *stream)
{
    return stream->publication ? stream->ring.lo : stream_keep(stream);
}

uint64_t stream_keep(const struct stream *stream)
{
    return stream->wants_results ? stream->received : stream->ring.hi;
}
