/* SPDX-License-Identifier: Apache-2.0
 *
 * States as values: snapshot, restore, fork.
 *
 * An image travels in pieces, each asked for or sent when the one before is there. It belongs to the connection, so
 * when that breaks in the middle the daemon no longer has it (NO_IMAGE), and all begins again: a snapshot is then of a
 * later index, which is as good.
 */
#include "clients/c/client.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE_BYTES = 256 << 10, PIECE_HEADER = 256 };

/* An image on its way, here and at the daemon. */
struct moving {
    uint8_t *bytes;
    uint64_t size, at;
    uint32_t number;
    bool has_number;
    struct ssmc_image *image; /* of a snapshot */
};

static int check_images(struct ssmc *c)
{
    if (c->link != LINK_UP || c->has_images)
        return SSMC_OK;
    return fail(c, SSMC_INVAL, "the daemon at %s is too old to give or take states", c->endpoint);
}

static bool is_gone(const struct ssmc *c, int rc)
{
    return rc == SSMC_REFUSED && c->error_code == SSMD__CODE__NO_IMAGE;
}

static int take_stream(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    (void)c;
    if (context)
        stream_info_copy(context, reply->stream);
    return SSMC_OK;
}

/* ---- snapshot ---------------------------------------------------------------------------------------------------- */

static int take_image(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    struct moving *m = context;
    const Ssmd__ImageInfo *info = reply->image;
    uint8_t *bytes = info->bytes > 0 && info->bytes <= SIZE_MAX ? realloc(m->bytes, info->bytes) : NULL;
    if (!bytes)
        return fail(c, SSMC_NOMEM, "no memory for an image of %llu bytes", (unsigned long long)info->bytes);
    m->bytes = bytes;
    m->size = info->bytes;
    m->at = 0;
    m->number = info->image;
    m->image->epoch = info->epoch;
    m->image->index = info->index;
    return SSMC_OK;
}

static int take_piece(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    struct moving *m = context;
    const Ssmd__Piece *piece = reply->piece;
    if (piece->offset != m->at || piece->data.len < 1 || piece->data.len > m->size - m->at)
        return fail(c, SSMC_PROTOCOL, "the daemon sent another piece of an image than was asked for");
    memcpy(m->bytes + m->at, piece->data.data, piece->data.len);
    m->at += piece->data.len;
    return SSMC_OK;
}

static int fetch(struct ssmc *c, struct moving *m, int64_t until)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Fetch request = SSMD__FETCH__INIT;
    int rc = SSMC_OK;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_FETCH;
    message.fetch = &request;
    request.image = m->number;
    request.bytes = PIECE_BYTES;
    while (rc == 0 && m->at < m->size) {
        request.offset = m->at;
        rc = request_call(c, &message, SSMD__REPLY__ANSWER_PIECE, take_piece, m, left_ms(until));
    }
    return rc;
}

int ssmc_snapshot(struct ssmc *c, const char *id, size_t id_size, struct ssmc_image *out, int timeout_ms)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Snapshot request = SSMD__SNAPSHOT__INIT;
    struct moving m = {.image = out};
    int64_t until = deadline_ns(timeout_ms);
    memset(out, 0, sizeof *out);
    int rc = stream_id_check(c, id, &id_size);
    if (rc == 0)
        rc = check_images(c);
    if (rc != 0)
        return rc;
    request.id = (ProtobufCBinaryData){id_size, (uint8_t *)id};
    message.request_case = SSMD__FROM_CLIENT__REQUEST_SNAPSHOT;
    message.snapshot = &request;
    do {
        rc = request_call(c, &message, SSMD__REPLY__ANSWER_IMAGE, take_image, &m, left_ms(until));
        if (rc == 0)
            rc = fetch(c, &m, until);
    } while (is_gone(c, rc) && now_ns() < until);
    if (rc != 0) {
        free(m.bytes);
        return rc;
    }
    out->bytes = m.bytes;
    out->size = m.size;
    return SSMC_OK;
}

/* ---- restore ----------------------------------------------------------------------------------------------------- */

static int take_offset(struct ssmc *c, void *context, const Ssmd__Reply *reply)
{
    struct moving *m = context;
    if (reply->image->offset <= m->at || reply->image->offset > m->size)
        return fail(c, SSMC_PROTOCOL, "the daemon took another piece of an image than was sent");
    m->at = reply->image->offset;
    m->number = reply->image->image;
    m->has_number = true;
    return SSMC_OK;
}

static int put(struct ssmc *c, struct moving *m, int64_t until)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Put request = SSMD__PUT__INIT;
    int rc = SSMC_OK;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_PUT;
    message.put = &request;
    request.bytes = m->size;
    m->at = 0;
    m->has_number = false;
    while (rc == 0 && m->at < m->size) {
        size_t most = c->daemon.message_bytes - PIECE_HEADER;
        most = most < PIECE_BYTES ? most : PIECE_BYTES;
        request.has_image = m->has_number;
        request.image = m->number;
        request.offset = m->at;
        request.data.data = m->bytes + m->at;
        request.data.len = m->size - m->at < most ? m->size - m->at : most;
        rc = request_call(c, &message, SSMD__REPLY__ANSWER_IMAGE, take_offset, m, left_ms(until));
    }
    return rc;
}

int ssmc_restore(struct ssmc *c, const void *image, size_t size, const char *id, size_t id_size,
                 struct ssmc_stream_info *out, int timeout_ms)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Restore request = SSMD__RESTORE__INIT;
    struct moving m = {.bytes = (uint8_t *)image, .size = size};
    int64_t until = deadline_ns(timeout_ms);
    int rc = id ? stream_id_check(c, id, &id_size) : SSMC_OK;
    if (rc == 0)
        rc = check_images(c);
    if (rc == 0 && size == 0)
        rc = fail(c, SSMC_INVAL, "an image has at least one byte");
    if (rc != 0)
        return rc;
    request.has_id = id != NULL;
    request.id = (ProtobufCBinaryData){id_size, (uint8_t *)id};
    message.request_case = SSMD__FROM_CLIENT__REQUEST_RESTORE;
    message.restore = &request;
    do {
        rc = put(c, &m, until);
        request.image = m.number;
        if (rc == 0)
            rc = request_call(c, &message, SSMD__REPLY__ANSWER_STREAM, take_stream, out, left_ms(until));
    } while (is_gone(c, rc) && now_ns() < until);
    return rc;
}

/* ---- fork -------------------------------------------------------------------------------------------------------- */

int ssmc_fork(struct ssmc *c, const char *id, size_t id_size, const char *as, size_t as_size,
              struct ssmc_stream_info *out, int timeout_ms)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Fork request = SSMD__FORK__INIT;
    int rc = stream_id_check(c, id, &id_size);
    if (rc == 0)
        rc = stream_id_check(c, as, &as_size);
    if (rc == 0)
        rc = check_images(c);
    if (rc != 0)
        return rc;
    request.id = (ProtobufCBinaryData){id_size, (uint8_t *)id};
    request.new_id = (ProtobufCBinaryData){as_size, (uint8_t *)as};
    message.request_case = SSMD__FROM_CLIENT__REQUEST_FORK;
    message.fork = &request;
    return request_call(c, &message, SSMD__REPLY__ANSWER_STREAM, take_stream, out, timeout_ms);
}
