/* SPDX-License-Identifier: Apache-2.0
 * Messages of publishers, and what they mean to streams that are there; see publish.h. */
#include "daemon/publish.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/ingest.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/port_thread.h"

#define FILL_FRAMES 4096 /* of one chunk that stands in for missing frames */

void publish_init(struct publish *publish)
{
    proto_arena_init(&publish->arena);
}

void publish_fini(struct loop *loop)
{
    arrivals_fini(loop);
    proto_arena_fini(&loop->publish.arena);
}

void publish_configure(struct loop *loop)
{
    char why[512];

    (void)mappings_parse(&loop->publish.mappings, &loop->conf.publish, why, sizeof(why)); /* conf_load has tried it */
}

/* ---- what waits -------------------------------------------------------------------------------------------------- */

static uint64_t chunk_bytes(const struct publish_chunk *chunk)
{
    return sizeof(*chunk) + zmq_msg_size((zmq_msg_t *)&chunk->payload);
}

bool publish_hold(struct loop *loop, struct publish_held *held, struct publish_chunk *chunk, bool before)
{
    uint64_t bytes = chunk_bytes(chunk);
    struct publish_chunk *kept;

    if (loop->publish.held_bytes + bytes > loop->conf.publish_memory || held->bytes + bytes > loop->conf.stream_window)
        return false;
    kept = malloc(sizeof(*kept));
    if (!kept)
        return false;
    *kept = *chunk;
    zmq_msg_init(&kept->payload);
    zmq_msg_move(&kept->payload, &chunk->payload);
    if (before)
        STAILQ_INSERT_HEAD(&held->chunks, kept, link);
    else
        STAILQ_INSERT_TAIL(&held->chunks, kept, link);
    held->bytes += bytes;
    loop->publish.held_bytes += bytes;
    return true;
}

struct publish_chunk *publish_unhold(struct loop *loop, struct publish_held *held)
{
    struct publish_chunk *chunk = STAILQ_FIRST(&held->chunks);

    if (!chunk)
        return NULL;
    STAILQ_REMOVE_HEAD(&held->chunks, link);
    held->bytes -= chunk_bytes(chunk);
    loop->publish.held_bytes -= chunk_bytes(chunk);
    return chunk;
}

void publish_chunk_free(struct publish_chunk *chunk)
{
    zmq_msg_close(&chunk->payload);
    free(chunk);
}

void publish_drop(struct loop *loop, struct publish_held *held)
{
    struct publish_chunk *chunk;

    while ((chunk = publish_unhold(loop, held)) != NULL) {
        loop->counters.publish_dropped++;
        publish_chunk_free(chunk);
    }
}

/* ---- saying so --------------------------------------------------------------------------------------------------- */

void publish_refuse_id(struct loop *loop, const uint8_t *id, size_t id_size, const char *text)
{
    struct tap_note note = {.kind = SSMD__EVENT__KIND__PUBLISH_REFUSED, .id = id, .id_size = id_size, .text = text};

    log_event(LOG_WARNING, "publish_refused", "stream=%.*s reason=%s", (int)id_size, id, text);
    tap_publish_note(&loop->tap, &note);
}

static uint32_t bit_of(Ssmd__Event__Kind kind)
{
    return 1u << ((unsigned)kind & 31u);
}

/* Frames first to next-1 of the stream, or none; each kind once until a chunk is taken. */
static void announce(struct loop *loop, struct stream *stream, Ssmd__Event__Kind kind, uint64_t first, uint64_t next,
                     const char *text)
{
    struct tap_note note = {.kind = kind, .stream = stream, .first = first, .next = next, .text = text};
    uint32_t bit = bit_of(kind);

    if (stream->publication && (stream->publication->told & bit))
        return;
    if (stream->publication)
        stream->publication->told |= bit;
    log_event(LOG_WARNING, "publish_event", "stream=%.*s first=%llu next=%llu reason=%s", stream->id_size, stream->id,
              (unsigned long long)first, (unsigned long long)next, text);
    tap_publish_note(&loop->tap, &note);
}

static void refuse(struct loop *loop, struct stream *stream, const char *text)
{
    loop->counters.publish_refused++;
    announce(loop, stream, SSMD__EVENT__KIND__PUBLISH_REFUSED, 0, 0, text);
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

bool publish_attach(struct stream *stream, const struct mapping *mapping)
{
    uint32_t channels = stream->model->info.in_channels;
    struct publication *p = calloc(1, sizeof(*p) + channels * sizeof(float));

    if (!p)
        return false;
    STAILQ_INIT(&p->held.chunks);
    p->channels = channels;
    p->rule = mapping->source;
    p->has_evict_ms = mapping->has_evict_ms;
    p->evict_ms = mapping->evict_ms;
    stream->publication = p;
    return true;
}

void publish_restore(struct loop *loop, struct stream *stream, const struct source *source, const float *last, size_t n)
{
    const struct mapping *mapping = mappings_find(&loop->publish.mappings, stream->id, stream->id_size);

    if (!mapping || !publish_attach(stream, mapping))
        return; /* nobody maps it any more: a client may take it over */
    stream->publication->source = *source;
    if (n == stream->publication->channels)
        memcpy(stream->publication->last, last, n * sizeof(float));
}

void publish_detach(struct loop *loop, struct stream *stream)
{
    if (!stream->publication)
        return;
    publish_drop(loop, &stream->publication->held);
    free(stream->publication);
    stream->publication = NULL;
}

bool publish_is_live(const struct stream *stream)
{
    const struct publication *p = stream->publication;

    return p && p->source.is_known && clock_now_ns() - p->source.heard_ns < p->rule.live_ns;
}

uint64_t publish_evict_ms(const struct loop *loop, const struct stream *stream)
{
    const struct publication *p = stream->publication;

    return p && p->has_evict_ms ? p->evict_ms : loop->conf.evict_ms;
}

/* ---- taking frames ----------------------------------------------------------------------------------------------- */

/* `frames` frames that stand in for missing ones, as chunks; NULL when there is no memory for all of them. */
static struct chunk *fill_make(struct loop *loop, const struct publication *p, uint64_t frames)
{
    struct chunk *first = NULL, **end = &first;

    while (frames > 0) {
        uint32_t n = frames < FILL_FRAMES ? (uint32_t)frames : FILL_FRAMES;
        struct chunk *chunk = input_acquire(&loop->input, (size_t)n * p->channels * sizeof(float));

        if (!chunk) {
            while (first) {
                chunk = first;
                first = chunk->next;
                input_release(&loop->input, chunk);
            }
            return NULL;
        }
        chunk->frames = n;
        for (uint32_t i = 0; i < n; i++) {
            if (p->rule.gap == GAP_HOLD)
                memcpy(chunk->samples + (size_t)i * p->channels, p->last, p->channels * sizeof(float));
            else
                memset(chunk->samples + (size_t)i * p->channels, 0, p->channels * sizeof(float));
        }
        *end = chunk;
        end = &chunk->next;
        frames -= n;
    }
    return first;
}

static void fill_push(struct loop *loop, struct stream *stream, struct chunk *fill, uint64_t frames)
{
    uint64_t first = stream->next;

    while (fill) {
        struct chunk *next = fill->next;

        ingest_push(loop, stream, fill);
        fill = next;
    }
    loop->counters.publish_gaps_filled++;
    loop->counters.publish_frames_filled += frames;
    announce(loop, stream, SSMD__EVENT__KIND__GAP_FILLED, first, first + frames,
             stream->publication->rule.gap == GAP_HOLD ? "frames were missing: the last one was repeated"
                                                       : "frames were missing: zeros stand in for them");
}

/* The chunk behind `skip`, and the fill before it: all of it or nothing. */
static void accept(struct loop *loop, struct stream *stream, const struct publish_chunk *c,
                   const struct source_judgement *j)
{
    struct publication *p = stream->publication;
    const unsigned char *bytes = zmq_msg_data((zmq_msg_t *)&c->payload);
    uint32_t frames = c->frames - j->skip;
    uint64_t size = (frames + j->fill) * p->channels * sizeof(float);
    struct chunk *chunk = NULL, *fill = NULL;
    size_t where = 0;
    int status;

    if (stream->queued_bytes + size > loop->conf.stream_window) {
        loop->counters.chunks_overflow_stream++;
        refuse(loop, stream, "more than stream_window bytes of this stream wait to be applied: the chunk is dropped");
        return;
    }
    if (stream->model->queued_bytes + size > stream->model->queue_limit) {
        loop->counters.chunks_overflow_model++;
        refuse(loop, stream, "the queue of this model, which `serve` limits, is full: the chunk is dropped");
        return;
    }
    bytes += (size_t)j->skip * p->channels * proto_sample_bytes(c->format);
    status = ingest_convert(loop, stream, c->format, bytes, frames, &chunk, &where);
    if (status == PROTO_OK && j->fill > 0 && !(fill = fill_make(loop, p, j->fill))) {
        input_release(&loop->input, chunk);
        status = PROTO_NOMEM;
    }
    if (status < 0) {
        loop->counters.chunks_overflow_memory += status == PROTO_NOMEM;
        loop->counters.chunks_bad_sample += status == PROTO_SAMPLE;
        loop->counters.chunks_bad_format += status == PROTO_FORMAT;
        refuse(loop, stream,
               status == PROTO_NOMEM ? "the daemon's input_memory is used up: the chunk is dropped"
                                     : proto_status_text(status));
        return;
    }
    p->told &= bit_of(SSMD__EVENT__KIND__SOURCE_REFUSED); /* a second run goes on being there */
    if (fill)
        fill_push(loop, stream, fill, j->fill);
    chunk->backfill = (c->flags & PROTO_FLAG_BACKFILL) != 0;
    chunk->has_time = (c->flags & PROTO_FLAG_TIME) != 0;
    chunk->time = c->time;
    memcpy(p->last, chunk->samples + (size_t)(frames - 1) * p->channels, p->channels * sizeof(float));
    loop->counters.chunks_trimmed += j->skip > 0;
    p->source.next = c->first + c->frames;
    ingest_push(loop, stream, chunk);
}

/* The stream begins again behind the gap when its queue is empty; the chunk waits for that. */
static void reset_begin(struct loop *loop, struct stream *stream, struct publish_chunk *c)
{
    struct publication *p = stream->publication;

    loop->counters.publish_gaps_reset++;
    announce(loop, stream, SSMD__EVENT__KIND__GAP_RESET, stream->next, stream->next + (c->first - p->source.next),
             "frames were missing: the stream begins again behind them");
    p->source.next = c->first;
    stream->request = REQUEST_RESET;
    stream->request_conn = NULL;
    stream->request_id = 0;
    loop_stream_settle(loop, stream);
    if (!publish_hold(loop, &p->held, c, true)) /* what is held came later */
        loop->counters.publish_dropped++;
}

static void gap_refuse(struct loop *loop, struct stream *stream, const struct publish_chunk *c)
{
    uint64_t missing = c->first - stream->publication->source.next;

    loop->counters.publish_gaps_refused++;
    announce(loop, stream, SSMD__EVENT__KIND__GAP_REFUSED, stream->next, stream->next + missing,
             "frames were missing, and the stream's policy is to refuse what follows: it goes on with another run of "
             "the publisher, or with the frames that were missing");
}

const char *publish_shape_check(const struct ssm_model_info *info, const struct publish_chunk *c)
{
    size_t offset = 0, bytes;

    if (c->rate > 0 && info->in_rate > 0 &&
        (c->rate > info->in_rate * (1 + 1e-6) || c->rate < info->in_rate * (1 - 1e-6)))
        return "the publisher's rate is not the model's: resample what is published";
    if (c->channels > 0 && c->channels != info->in_channels)
        return "the publisher has not as many channels as the model takes";
    if (proto_sample_bytes(c->format) == 0)
        return proto_status_text(PROTO_FORMAT);
    if (proto_payload_take(c->format, c->frames, info->in_channels, zmq_msg_size((zmq_msg_t *)&c->payload), &offset,
                           &bytes) < 0 ||
        offset != zmq_msg_size((zmq_msg_t *)&c->payload))
        return proto_status_text(PROTO_PAYLOAD);
    return NULL;
}

/* A chunk of a run that may be the stream's. */
static void judge(struct loop *loop, struct stream *stream, struct publish_chunk *c)
{
    struct publication *p = stream->publication;
    uint64_t window = loop->conf.stream_window, queue = stream->model->queue_limit;
    uint64_t room = (window < queue ? window : queue) / (p->channels * sizeof(float));
    struct source_judgement j;

    if (!source_may_write(&p->source, &p->rule, c->run, loop->now_ns)) {
        loop->counters.publish_sources_refused++;
        announce(loop, stream, SSMD__EVENT__KIND__SOURCE_REFUSED, 0, 0,
                 "another publisher writes this stream: it must be silent for source_ms first");
        return;
    }
    if (source_begin(&p->source, c->run, c->first)) {
        loop->counters.publish_sources++;
        p->told = 0;
    }
    p->source.heard_ns = loop->now_ns;
    source_judge(&p->source, &p->rule, room, c->run, c->first, c->frames, loop->now_ns, &j);
    switch (j.verdict) {
    case SOURCE_ACCEPT:
    case SOURCE_FILL:
        accept(loop, stream, c, &j);
        break;
    case SOURCE_RESET:
        reset_begin(loop, stream, c);
        break;
    case SOURCE_GAP:
        gap_refuse(loop, stream, c);
        break;
    case SOURCE_DUPLICATE:
        loop->counters.chunks_duplicate++;
        break;
    case SOURCE_SECOND: /* not after source_may_write */
        break;
    }
}

/* A stream that is no publisher's. */
static void stranger_refuse(struct loop *loop, struct stream *stream)
{
    loop->counters.publish_sources_refused++;
    if (!stream->was_told)
        announce(loop, stream, SSMD__EVENT__KIND__SOURCE_REFUSED, 0, 0,
                 "a client writes this stream, and nothing published is taken until it is closed");
    stream->was_told = true;
}

void publish_take(struct loop *loop, struct stream *stream, struct publish_chunk *c)
{
    struct publication *p = stream->publication;
    const char *wrong = p ? publish_shape_check(&stream->model->info, c) : NULL;

    if (!p) {
        stranger_refuse(loop, stream);
    } else if (stream->is_failed) {
        refuse(loop, stream, "the engine refused frames of this stream: take it over, reset it and report this");
    } else if (wrong) {
        loop->counters.chunks_bad_format += proto_sample_bytes(c->format) == 0;
        refuse(loop, stream, wrong);
    } else if (stream->request == REQUEST_RESET) {
        if (publish_hold(loop, &p->held, c, false))
            return;
        loop->counters.publish_dropped++;
        announce(loop, stream, SSMD__EVENT__KIND__PUBLISH_REFUSED, 0, 0,
                 "the stream waits to be reset, and publish_memory or its window is used up: the chunk is dropped");
    } else {
        judge(loop, stream, c);
    }
}

void publish_go_on(struct loop *loop, struct stream *stream)
{
    struct publish_chunk *chunk;

    while (stream->publication && stream->request == REQUEST_NONE &&
           (chunk = publish_unhold(loop, &stream->publication->held)) != NULL) {
        publish_take(loop, stream, chunk);
        publish_chunk_free(chunk);
    }
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

/* The header, and the payload, which is taken. NULL, or why it is no message of a publisher. */
static const char *chunk_read(struct loop *loop, zmq_msg_t *head, zmq_msg_t *payload, struct publish_chunk *out)
{
    Ssmd__PublishHeader *h;
    int status = proto_publish_header_decode(&loop->publish.arena, zmq_msg_data(head), zmq_msg_size(head), &h);

    if (status < 0)
        return proto_status_text(status);
    if (h->first > INT64_MAX)
        return "the index of the first frame is beyond 2^63";
    if (h->frames > loop->conf.chunk_frames)
        return "the chunk has more frames than the daemon's limit chunk_frames";
    *out = (struct publish_chunk){
        .first = h->first,
        .frames = h->frames,
        .format = h->format,
        .flags = (h->has_flags ? h->flags : 0) | (h->has_time ? PROTO_FLAG_TIME : 0),
        .time = h->time,
        .rate = h->has_rate ? h->rate : 0,
        .channels = h->has_channels ? h->channels : 0,
    };
    memcpy(out->run, h->source.data, PROTO_SOURCE_BYTES);
    zmq_msg_init(&out->payload);
    zmq_msg_move(&out->payload, payload);
    return NULL;
}

static void message_take(struct loop *loop, zmq_msg_t *parts, int n)
{
    const uint8_t *id = zmq_msg_data(&parts[0]);
    size_t size = zmq_msg_size(&parts[0]);
    struct publish_chunk chunk;
    struct stream *stream;
    const char *wrong;

    loop->counters.publish_messages++;
    if (size > 0 && id[size - 1] == '\0')
        size--; /* the topic is that of the tap, or the id alone */
    if (n != PORT_PARTS || !stream_id_is_valid(id, size)) {
        loop->counters.publish_refused++;
        log_event(LOG_WARNING, "publish_refused", "parts=%d reason=%s", n,
                  n != PORT_PARTS ? "a message of a publisher has three parts: id, header, samples"
                                  : "an id has 1 to 64 bytes and no NUL");
        return;
    }
    if (loop->drain_ns) {
        loop->counters.publish_dropped++;
        return;
    }
    stream = streams_find(&loop->streams, id, size);
    wrong = chunk_read(loop, &parts[1], &parts[2], &chunk);
    if (wrong) {
        if (stream && stream->publication) {
            refuse(loop, stream, wrong);
        } else {
            loop->counters.publish_refused++;
            publish_refuse_id(loop, id, size, wrong);
        }
        return;
    }
    if (stream)
        publish_take(loop, stream, &chunk);
    else
        arrival_take(loop, id, size, &chunk);
    zmq_msg_close(&chunk.payload);
}

bool publish_drain(struct loop *loop)
{
    zmq_msg_t parts[PORT_PARTS];
    size_t bytes = 0;

    for (int i = 0; i < INGEST_DRAIN_MESSAGES && bytes < INGEST_DRAIN_BYTES; i++) {
        int n = router_receive(loop->publish.socket, parts, &bytes);

        if (n == 0)
            return false;
        message_take(loop, parts, n);
        for (int k = 0; k < n && k < PORT_PARTS; k++)
            zmq_msg_close(&parts[k]);
    }
    return true;
}
