/* SPDX-License-Identifier: Apache-2.0
 *
 * Reliable views of streams that others write.
 *
 * Each ssmc_read stands until the connection is freed. The daemon announces every stream it matches (READING), and
 * again after a reconnection: a stream known by its id goes on then, and only results that the daemon no longer keeps
 * count as lost. A read of one id asks for exactly the next result first; only when that is gone for what there is. A
 * prefix has one index for all of its streams, so it asks for everything from the beginning: what had come is passed
 * over here, what is gone the daemon names, and streams that were opened in the meantime are whole.
 */
#include "clients/c/client.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool is_match(const struct reader *reader, const Ssmd__StreamInfo *info)
{
    bool fits = reader->is_prefix ? info->id.len >= reader->id_size : info->id.len == reader->id_size;
    return fits && (reader->id_size == 0 || memcmp(info->id.data, reader->id, reader->id_size) == 0);
}

static struct ssmc_stream *find_stream(const struct ssmc *c, const struct reader *reader, const Ssmd__StreamInfo *info)
{
    struct ssmc_stream *s = c->streams;
    while (s && !(s->reader == reader && !s->is_freed && !s->is_ended && s->info.id_size == info->id.len &&
                  memcmp(s->info.id, info->id.data, info->id.len) == 0))
        s = s->next;
    return s;
}

/* A stream that is already known goes on under its new handle. */
static void go_on(struct ssmc_stream *s, const Ssmd__Event *event)
{
    uint64_t first = event->has_first ? event->first : event->stream->result_first;
    bool is_new = memcmp(s->incarnation, s->c->daemon.incarnation, sizeof s->incarnation) != 0;
    if (is_new || event->stream->epoch != s->result_epoch) {
        s->result_epoch = event->stream->epoch; /* a new daemon counts its epochs anew */
        s->result_next = first;
    } else if (first > s->result_next) {
        s->lost += first - s->result_next;
        s->result_next = first;
    }
}

static struct ssmc_stream *begin(struct ssmc *c, struct reader *reader, const Ssmd__Event *event)
{
    struct ssmc_stream *s = stream_new(c);
    if (!s)
        return NULL;
    s->reader = reader;
    s->buffer_bytes = BUFFER_DEFAULT;
    uint64_t first = event->has_first ? event->first : event->stream->result_first;
    if (reader->from != SSMC_OLDEST && first < reader->from)
        first = reader->from; /* found after a reconnection: what the caller does not want may come */
    stream_restart_results(s, event->stream->epoch, first);
    return s;
}

void reader_reading(struct ssmc *c, const Ssmd__Event *event)
{
    const Ssmd__StreamInfo *info = event->stream;
    struct reader *reader = c->readers;
    if (!info || !event->has_handle)
        return;
    struct ssmc_stream *s = NULL;
    for (; reader; reader = reader->next) {
        if (!is_match(reader, info))
            continue;
        s = find_stream(c, reader, info);
        if (!s || !s->has_handle)
            break; /* otherwise another read of the same stream is meant */
    }
    if (!reader)
        return;
    bool is_known = s != NULL;
    if (is_known)
        go_on(s, event);
    else if (!(s = begin(c, reader, event)))
        return;
    Ssmd__StreamInfo with_handle = *info;
    with_handle.has_handle = 1;
    with_handle.handle = event->handle;
    if (stream_take_info(s, info) != 0 || resume_attach(s, &with_handle) != 0) {
        stream_kill(s, SSMC_PROTOCOL, "%s", c->error);
        if (!is_known)
            ssmc_stream_free(s);
        return;
    }
    memcpy(s->incarnation, c->daemon.incarnation, sizeof s->incarnation);
    s->granted_limit = BUFFER_DEFAULT; /* as `read` said */
    if (!is_known)
        reader->found(reader->context, s);
}

static void build_read(const struct reader *reader, Ssmd__FromClient *message, Ssmd__Read *read)
{
    const ProtobufCBinaryData id = {reader->id_size, (uint8_t *)reader->id};
    read->has_prefix = reader->is_prefix;
    read->has_id = !reader->is_prefix;
    if (reader->is_prefix)
        read->prefix = id;
    else
        read->id = id;
    read->from = reader->is_prefix && reader->is_standing ? 0 : reader->from;
    read->has_from = read->from != SSMC_OLDEST;
    read->has_limit = 1;
    read->limit = BUFFER_DEFAULT;
    message->request_case = SSMD__FROM_CLIENT__REQUEST_READ;
    message->read = read;
}

static void kill_streams(struct ssmc *c, const struct reader *reader, int status, const char *why)
{
    for (struct ssmc_stream *s = c->streams; s; s = s->next)
        if (s->reader == reader && !s->is_freed)
            stream_kill(s, status, "stream %s: %s", s->info.id, why);
}

static void answer_again(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct reader *reader = r->context;
    if (!reply || !reply->error)
        return;
    if (reader->from != SSMC_OLDEST &&
        (reply->error->code == SSMD__CODE__TOO_OLD || reply->error->code == SSMD__CODE__TOO_NEW)) {
        reader->from = SSMC_OLDEST;
        reader->needs_read = true;
        return;
    }
    c->error_code = (int)reply->error->code;
    kill_streams(c, reader, reply->error->code == SSMD__CODE__NO_STREAM ? SSMC_LOST : SSMC_REFUSED, reply->error->text);
}

void reader_step(struct ssmc *c)
{
    for (struct reader *reader = c->readers; reader; reader = reader->next) {
        if (!reader->needs_read)
            continue;
        Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
        Ssmd__Read read = SSMD__READ__INIT;
        build_read(reader, &message, &read);
        if (request_send(c, &reader->request, &message, answer_again, reader) != 0)
            return;
        reader->needs_read = false;
    }
}

/* Where to go on from: behind what arrived. */
static uint64_t next_of(const struct ssmc *c, const struct reader *reader)
{
    for (const struct ssmc_stream *s = c->streams; s; s = s->next)
        if (s->reader == reader && !s->is_freed)
            return s->result_next;
    return reader->from;
}

void reader_lose_link(struct ssmc *c)
{
    for (struct reader *reader = c->readers; reader; reader = reader->next) {
        if (!reader->is_standing)
            continue;
        reader->needs_read = true;
        if (!reader->is_prefix)
            reader->from = next_of(c, reader);
    }
}

static void remove_reader(struct ssmc *c, struct reader *reader)
{
    struct reader **at = &c->readers;
    while (*at != reader)
        at = &(*at)->next;
    *at = reader->next;
    request_forget(c, &reader->request);
    free(reader);
}

void reader_free_all(struct ssmc *c)
{
    while (c->readers)
        remove_reader(c, c->readers);
}

int ssmc_read(struct ssmc *c, const char *id, size_t id_size, int prefix, uint64_t from, ssmc_found_fn *found,
              void *context, int timeout_ms)
{
    if (id && id_size == 0)
        id_size = strlen(id);
    if (id_size > PROTO_ID_MAX || (!prefix && id_size == 0))
        return fail(c, SSMC_INVAL, "an id has 1 to 64 bytes, a prefix at most 64");
    struct reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return fail(c, SSMC_NOMEM, "no memory for a reader");
    if (id_size > 0)
        memcpy(reader->id, id, id_size);
    reader->id_size = id_size;
    reader->is_prefix = prefix != 0;
    reader->from = from;
    reader->found = found;
    reader->context = context;
    reader->next = c->readers;
    c->readers = reader;
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Read read = SSMD__READ__INIT;
    build_read(reader, &message, &read);
    int rc = request_call(c, &message, SSMD__REPLY__ANSWER_READ, NULL, NULL, timeout_ms);
    if (rc == 0) {
        reader->is_standing = true;
        return rc;
    }
    kill_streams(c, reader, rc, "the read was given up");
    for (struct ssmc_stream *s = c->streams; s; s = s->next)
        if (s->reader == reader)
            s->reader = &c->orphans;
    remove_reader(c, reader);
    return rc;
}
