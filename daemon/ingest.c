/* SPDX-License-Identifier: Apache-2.0
 *
 * A data message is taken whole or refused whole as far as its form goes: the first pass over the columns finds where
 * every chunk's samples lie and whether the payload is as long as they say; the second admits chunk by chunk, and each
 * of them is accepted, acknowledged as a duplicate, or refused with a name.
 */
#include "daemon/ingest.h"
#include "daemon/admission.h"
#include "daemon/control.h"
#include "daemon/deliver.h"
#include "daemon/generate.h"

#include <stdlib.h>
#include <string.h>
#include <zmq.h>

/* ---- refusing ---------------------------------------------------------------------------------------------------- */

static void refusal_count(struct counters *c, Ssmd__Code code, enum stream_overflow of)
{
    switch (code) {
    case SSMD__CODE__GAP:
        c->chunks_gap++;
        break;
    case SSMD__CODE__STALE_EPOCH:
        c->chunks_stale++;
        break;
    case SSMD__CODE__OVERFLOW:
        c->chunks_overflow_stream += of == OVERFLOW_STREAM;
        c->chunks_overflow_connection += of == OVERFLOW_CONNECTION;
        c->chunks_overflow_model += of == OVERFLOW_MODEL;
        c->chunks_overflow_memory += of == OVERFLOW_MEMORY;
        break;
    case SSMD__CODE__BAD_SAMPLE:
        c->chunks_bad_sample++;
        break;
    case SSMD__CODE__BAD_FORMAT:
        c->chunks_bad_format++;
        break;
    case SSMD__CODE__BAD_HANDLE:
        c->chunks_bad_handle++;
        break;
    case SSMD__CODE__TOO_LARGE:
        c->chunks_too_large++;
        break;
    default:
        c->chunks_closed++;
        break;
    }
}

static void chunk_refuse(struct loop *loop, struct stream *stream, const struct proto_chunk *chunk, Ssmd__Code code,
                         const char *text, const uint64_t *index)
{
    struct refusal refusal = {
        .handle = chunk->handle,
        .code = code,
        .text = text,
        .epoch = stream->epoch,
        .expected = stream->next,
        .first = chunk->first,
        .index = index ? *index : 0,
        .has_index = index != NULL,
    };
    uint32_t before = stream->refused;

    if (stream_refusal_is_new(stream, code) && !deliver_refusal(loop, stream->conn, &refusal))
        stream->refused = before; /* the next one is answered instead */
}

/* A chunk for no stream: the message is refused as a whole, since nobody knows where the next chunk begins. */
static void handle_refuse(struct loop *loop, struct conn *conn, const struct proto_chunk *chunk, Ssmd__Code code,
                          const char *text)
{
    struct refusal refusal = {.handle = chunk->handle, .code = code, .text = text, .first = chunk->first};

    refusal_count(&loop->counters, code, OVERFLOW_STREAM);
    (void)deliver_refusal(loop, conn, &refusal);
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

int ingest_convert(struct loop *loop, const struct stream *stream, uint32_t format, const unsigned char *bytes,
                   uint32_t frames, struct chunk **out, size_t *where)
{
    const struct ssm_model_info *info = &stream->model->info;
    size_t n = (size_t)frames * info->in_channels;
    struct chunk *chunk = input_acquire(&loop->input, n * sizeof(float));
    int status;

    *out = NULL;
    if (!chunk)
        return PROTO_NOMEM;
    if (info->input == SSM_TOKENS)
        status = proto_tokens_decode(format, bytes, n, info->vocab, (int32_t *)(void *)chunk->samples, where);
    else
        status = proto_signal_decode(format, bytes, n, chunk->samples, where);
    if (status < 0) {
        input_release(&loop->input, chunk);
        return status;
    }
    chunk->frames = frames;
    *out = chunk;
    return PROTO_OK;
}

void ingest_push(struct loop *loop, struct stream *stream, struct chunk *chunk)
{
    uint64_t bytes = (uint64_t)chunk->frames * stream->model->info.in_channels * sizeof(float);

    chunk->first = stream->next;
    chunk->arrived_ns = loop->now_ns;
    if (!chunk->backfill) {
        chunk->due_ns = loop_chunk_due(loop, stream, chunk->frames);
        admission_live(loop, stream);
    }
    free(stream->generation); /* it ended; what was drawn last is the sender's to consume */
    stream->generation = NULL;
    stream->active_ns = loop->now_ns;
    loop->counters.chunks++;
    loop->counters.frames += chunk->frames;
    loop_chunk_push(stream, chunk, bytes);
}

/* Convert and queue the frames of an admitted chunk behind `skip`. */
static void chunk_accept(struct loop *loop, struct stream *stream, const struct proto_chunk *from,
                         const unsigned char *bytes, uint32_t skip)
{
    uint32_t channels = stream->model->info.in_channels;
    struct chunk *chunk;
    size_t where = 0;
    uint64_t index;
    int status;

    bytes += (size_t)skip * channels * proto_sample_bytes(from->format);
    status = ingest_convert(loop, stream, from->format, bytes, from->frames - skip, &chunk, &where);
    if (status == PROTO_NOMEM) {
        refusal_count(&loop->counters, SSMD__CODE__OVERFLOW, OVERFLOW_MEMORY);
        chunk_refuse(loop, stream, from, SSMD__CODE__OVERFLOW,
                     "the daemon's input_memory is used up: wait, then send from the index expected", NULL);
        return;
    }
    if (status < 0) {
        Ssmd__Code code = status == PROTO_SAMPLE ? SSMD__CODE__BAD_SAMPLE : SSMD__CODE__BAD_FORMAT;

        refusal_count(&loop->counters, code, OVERFLOW_STREAM);
        index = stream->next + where / channels;
        chunk_refuse(loop, stream, from, code, proto_status_text(status), status == PROTO_SAMPLE ? &index : NULL);
        return;
    }
    chunk->backfill = (from->flags & PROTO_FLAG_BACKFILL) != 0;
    chunk->has_time = (from->flags & PROTO_FLAG_TIME) != 0;
    chunk->time = from->time;
    loop->counters.chunks_trimmed += skip > 0;
    ingest_push(loop, stream, chunk);
}

static void chunk_take(struct loop *loop, struct conn *conn, struct stream *stream, const struct proto_chunk *chunk,
                       const unsigned char *bytes)
{
    struct stream_admission admission;
    struct stream_limits limits = {
        .chunk_frames = loop->conf.chunk_frames,
        .stream_window = loop->conf.stream_window,
        .connection_window = loop->conf.connection_window,
        .connection_queued = conn->queued_bytes,
        .model_window = stream->model->queue_limit,
        .model_queued = stream->model->queued_bytes,
        .is_draining = loop->drain_ns != 0,
        .is_generating = generate_is_running(stream),
    };

    stream_admit(stream, chunk, stream->model->info.in_channels, &limits, &admission);
    switch (admission.verdict) {
    case VERDICT_ACCEPT:
        chunk_accept(loop, stream, chunk, bytes, admission.skip);
        break;
    case VERDICT_DUPLICATE:
        loop->counters.chunks_duplicate++;
        deliver_ack(loop, stream);
        break;
    case VERDICT_REFUSE:
        refusal_count(&loop->counters, admission.code, admission.overflow);
        chunk_refuse(loop, stream, chunk, admission.code, admission.text, NULL);
        break;
    }
}

/* First pass: every handle is one that this connection writes or wrote, and the payload is as long as the columns
 * say. */
static bool message_check(struct loop *loop, struct conn *conn, const Ssmd__DataHeader *header, size_t size)
{
    size_t offset = 0, bytes;

    for (size_t i = 0; i < header->n_handle; i++) {
        const struct handle *handle = conn_handle_find(conn, header->handle[i]);
        struct proto_chunk chunk;
        int status;

        proto_chunk_take(header, i, &chunk);
        if (!handle || handle->state == HANDLE_READS) {
            handle_refuse(loop, conn, &chunk, SSMD__CODE__BAD_HANDLE,
                          "not a handle that this connection writes: nothing of the message was taken");
            return false;
        }
        status = proto_payload_take(chunk.format, chunk.frames, handle->channels, size, &offset, &bytes);
        if (status == PROTO_FORMAT) {
            handle_refuse(loop, conn, &chunk, SSMD__CODE__BAD_FORMAT,
                          "a sample format that this version does not know: nothing of the message was taken");
            return false;
        }
        if (status < 0)
            offset = SIZE_MAX;
        if (offset == SIZE_MAX)
            break;
    }
    if (offset == size)
        return true;
    loop->counters.messages_malformed++;
    deliver_error(loop, conn, 0, SSMD__CODE__MALFORMED, proto_status_text(PROTO_PAYLOAD));
    return false;
}

static void data_take(struct loop *loop, struct conn *conn, zmq_msg_t *head, zmq_msg_t *payload)
{
    const unsigned char *bytes = zmq_msg_data(payload);
    size_t size = zmq_msg_size(payload), offset = 0, length;
    Ssmd__DataHeader *header;
    int status = proto_data_header_decode(&loop->arena, zmq_msg_data(head), zmq_msg_size(head), &header);

    loop->counters.data_messages++;
    if (status < 0) {
        loop->counters.messages_malformed++;
        deliver_error(loop, conn, 0, status == PROTO_UNKNOWN ? SSMD__CODE__FEATURE : SSMD__CODE__MALFORMED,
                      proto_status_text(status));
        return;
    }
    if (!message_check(loop, conn, header, size))
        return;
    for (size_t i = 0; i < header->n_handle; i++) {
        const struct handle *handle = conn_handle_find(conn, header->handle[i]);
        size_t begin = offset;
        struct proto_chunk chunk;

        proto_chunk_take(header, i, &chunk);
        if (proto_payload_take(chunk.format, chunk.frames, handle->channels, size, &offset, &length) < 0)
            return; /* not after message_check */
        if (handle->state == HANDLE_DEAD)
            loop->counters.chunks_dead_handle++;
        else
            chunk_take(loop, conn, handle->stream, &chunk, bytes + begin);
    }
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void message_take(struct loop *loop, struct port *port, zmq_msg_t *parts, int n)
{
    const struct peer peer = {port, zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0])};
    struct conn *conn = conns_find(&loop->conns, &peer);

    if (conn && conn->is_gone) { /* it is here after all: as a stranger */
        loop_conn_forget(loop, conn);
        conn = NULL;
    }
    if (conn)
        conn->heard_ns = loop->now_ns;
    if (n == 2) {
        control_take(loop, conn, &peer, zmq_msg_data(&parts[1]), zmq_msg_size(&parts[1]));
    } else if (!conn) {
        loop->counters.messages_unknown++;
        deliver_error_to(&peer, 0, SSMD__CODE__NO_HELLO, "the daemon does not know this connection: say hello");
    } else if (n == 3) {
        data_take(loop, conn, &parts[1], &parts[2]);
    } else {
        loop->counters.messages_malformed++;
        deliver_error(loop, conn, 0, SSMD__CODE__MALFORMED, "a message has one part (request) or two (data)");
    }
}

bool ingest_drain(struct loop *loop)
{
    zmq_msg_t parts[PORT_PARTS];
    struct port *port;
    size_t bytes = 0;

    for (int i = 0; i < INGEST_DRAIN_MESSAGES && bytes < INGEST_DRAIN_BYTES; i++) {
        int n = ports_receive(&loop->ports, &port, parts, &bytes);

        if (n == 0)
            return false;
        if (n >= 2)
            message_take(loop, port, parts, n);
        for (int k = 0; k < n && k < PORT_PARTS; k++)
            zmq_msg_close(&parts[k]);
    }
    return true;
}
