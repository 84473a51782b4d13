/* SPDX-License-Identifier: Apache-2.0
 *
 * protobuf-c with its dangers taken out: a bounded arena instead of malloc, and one walk over the decoded message by
 * its descriptors that refuses what protobuf-c keeps silently (unknown fields, numbers that no enum has).
 */
#include "proto/codec.h"

#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN 16

const char *proto_status_text(int status)
{
    switch (status) {
#define X(name, value, text)                                                                                           \
    case PROTO_##name:                                                                                                 \
        return text;
        PROTO_STATUSES(X)
#undef X
    default:
        return "an unknown status";
    }
}

/* ---- arena ------------------------------------------------------------------------------------------------------- */

void proto_arena_init(struct proto_arena *arena)
{
    memset(arena, 0, sizeof(*arena));
}

void proto_arena_fini(struct proto_arena *arena)
{
    free(arena->base);
    memset(arena, 0, sizeof(*arena));
}

/* Room for a message of `size` bytes. The block is not moved while a message lies in it, so the most is taken at
 * once. */
static int arena_begin(struct proto_arena *arena, size_t size)
{
    size_t need;
    unsigned char *base;

    if (size > (SIZE_MAX - PROTO_ARENA_EXTRA) / PROTO_ARENA_FACTOR)
        return PROTO_NOMEM;
    need = size * PROTO_ARENA_FACTOR + PROTO_ARENA_EXTRA;
    if (need > arena->size) {
        base = aligned_alloc(ARENA_ALIGN, (need + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN);
        if (!base)
            return PROTO_NOMEM;
        free(arena->base);
        arena->base = base;
        arena->size = need;
    }
    arena->used = 0;
    arena->limit = need;
    arena->overflow = false;
    return PROTO_OK;
}

static void *arena_alloc(void *context, size_t size)
{
    struct proto_arena *arena = context;
    size_t begin = (arena->used + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;

    if (begin > arena->limit || size > arena->limit - begin) {
        arena->overflow = true;
        return NULL;
    }
    arena->used = begin + size;
    return arena->base + begin;
}

static void arena_free(void *context, void *pointer)
{
    (void)context;
    (void)pointer;
}

/* ---- the walk ---------------------------------------------------------------------------------------------------- */

static int message_check(const ProtobufCMessage *message);

/* Whether an optional or oneof field is there. */
static bool field_is_set(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;

    if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const int *)(const void *)(base + field->quantifier_offset) == (int)field->id;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return *(void *const *)(const void *)(base + field->offset) != NULL;
    return field->label == PROTOBUF_C_LABEL_REQUIRED ||
           *(const protobuf_c_boolean *)(base + field->quantifier_offset) != 0;
}

static int field_check(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    const void *value = base + field->offset;
    size_t n;

    if (field->type == PROTOBUF_C_TYPE_MESSAGE && field->label == PROTOBUF_C_LABEL_REPEATED) {
        n = *(const size_t *)(const void *)(base + field->quantifier_offset);
        for (size_t i = 0; i < n; i++) {
            int status = message_check((*(ProtobufCMessage * *const *)value)[i]);

            if (status < 0)
                return status;
        }
        return PROTO_OK;
    }
    if (field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_ENUM)
        return PROTO_OK;
    if (!field_is_set(message, field))
        return PROTO_OK;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE)
        return message_check(*(ProtobufCMessage *const *)value);
    if (!protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)value))
        return PROTO_UNKNOWN;
    return PROTO_OK;
}

/* The messages of this protocol do not nest in themselves, so the recursion is as deep as their definition. */
static int message_check(const ProtobufCMessage *message)
{
    if (message->n_unknown_fields > 0)
        return PROTO_UNKNOWN;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        int status = field_check(message, &message->descriptor->fields[i]);

        if (status < 0)
            return status;
    }
    return PROTO_OK;
}

static int decode(struct proto_arena *arena, const ProtobufCMessageDescriptor *type, const void *bytes, size_t size,
                  ProtobufCMessage **out)
{
    ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};
    ProtobufCMessage *message;
    int status;

    *out = NULL;
    status = arena_begin(arena, size);
    if (status < 0)
        return status;
    message = protobuf_c_message_unpack(type, &allocator, size, bytes);
    if (!message)
        return PROTO_MALFORMED;
    status = message_check(message);
    if (status < 0)
        return status;
    *out = message;
    return PROTO_OK;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

int proto_from_client_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__FromClient **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__from_client__descriptor, bytes, size, &message);

    *out = (Ssmd__FromClient *)message;
    if (status == PROTO_OK && (*out)->request_case == SSMD__FROM_CLIENT__REQUEST_CREDIT) {
        const Ssmd__Credit *c = (*out)->credit;

        if (c->n_received != c->n_handle || c->n_limit != c->n_handle)
            status = PROTO_COLUMNS;
    }
    if (status == PROTO_OK && (*out)->request_case == SSMD__FROM_CLIENT__REQUEST__NOT_SET)
        status = PROTO_MALFORMED;
    if (status < 0)
        *out = NULL;
    return status;
}

int proto_from_daemon_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__FromDaemon **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__from_daemon__descriptor, bytes, size, &message);

    *out = (Ssmd__FromDaemon *)message;
    if (status == PROTO_OK && (*out)->message_case == SSMD__FROM_DAEMON__MESSAGE_ACK) {
        const Ssmd__Ack *a = (*out)->ack;

        if (a->n_epoch != a->n_handle || a->n_applied != a->n_handle || a->n_durable != a->n_handle)
            status = PROTO_COLUMNS;
    }
    if (status == PROTO_OK && (*out)->message_case == SSMD__FROM_DAEMON__MESSAGE__NOT_SET)
        status = PROTO_MALFORMED;
    if (status < 0)
        *out = NULL;
    return status;
}

int proto_data_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__DataHeader **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__data_header__descriptor, bytes, size, &message);
    const Ssmd__DataHeader *h = (const Ssmd__DataHeader *)message;

    *out = NULL;
    if (status < 0)
        return status;
    if (h->n_epoch != h->n_handle || h->n_first != h->n_handle || h->n_frames != h->n_handle ||
        h->n_format != h->n_handle || (h->n_flags && h->n_flags != h->n_handle) ||
        (h->n_time && h->n_time != h->n_handle))
        return PROTO_COLUMNS;
    for (size_t i = 0; i < h->n_flags; i++)
        if (h->flags[i] & ~(PROTO_FLAG_BACKFILL | PROTO_FLAG_TIME))
            return PROTO_UNKNOWN;
    *out = (Ssmd__DataHeader *)message;
    return PROTO_OK;
}

int proto_publish_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__PublishHeader **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__publish_header__descriptor, bytes, size, &message);
    const Ssmd__PublishHeader *h = (const Ssmd__PublishHeader *)message;

    *out = NULL;
    if (status < 0)
        return status;
    if (h->source.len != PROTO_SOURCE_BYTES || h->frames == 0)
        return PROTO_MALFORMED;
    if (h->has_flags && (h->flags & ~PROTO_FLAG_BACKFILL))
        return PROTO_UNKNOWN;
    *out = (Ssmd__PublishHeader *)message;
    return PROTO_OK;
}

int proto_result_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__ResultHeader **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__result_header__descriptor, bytes, size, &message);
    const Ssmd__ResultHeader *h = (const Ssmd__ResultHeader *)message;

    *out = NULL;
    if (status < 0)
        return status;
    if (h->n_epoch != h->n_handle || h->n_first != h->n_handle || h->n_frames != h->n_handle ||
        (h->n_flags && h->n_flags != h->n_handle) || (h->n_time && h->n_time != h->n_handle))
        return PROTO_COLUMNS;
    *out = (Ssmd__ResultHeader *)message;
    return PROTO_OK;
}

int proto_tap_header_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__TapHeader **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__tap_header__descriptor, bytes, size, &message);

    *out = (Ssmd__TapHeader *)message;
    return status;
}

int proto_event_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__Event **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__event__descriptor, bytes, size, &message);

    *out = (Ssmd__Event *)message;
    return status;
}

int proto_stream_image_decode(struct proto_arena *arena, const void *bytes, size_t size, Ssmd__StreamImage **out)
{
    ProtobufCMessage *message;
    int status = decode(arena, &ssmd__stream_image__descriptor, bytes, size, &message);
    const Ssmd__StreamImage *i = (const Ssmd__StreamImage *)message;

    *out = NULL;
    if (status < 0)
        return status;
    if (i->n_flags != i->n_frames || i->n_time != i->n_frames)
        return PROTO_COLUMNS;
    *out = (Ssmd__StreamImage *)message;
    return PROTO_OK;
}

size_t proto_size(const ProtobufCMessage *message)
{
    return protobuf_c_message_get_packed_size(message);
}

void proto_encode(const ProtobufCMessage *message, void *out)
{
    protobuf_c_message_pack(message, out);
}
