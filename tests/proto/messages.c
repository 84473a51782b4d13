/* SPDX-License-Identifier: Apache-2.0
 *
 * Fields are set by walking the descriptors, so that a field added to ssmd.proto is covered without a line here:
 * numbers get odd values, repeated fields three elements, submessages are filled in turn, and of a oneof each case
 * makes a message.
 */
#include "tests/proto/messages.h"

#include <assert.h>
#include <string.h>

#define POOL_BYTES 65536
#define REPEATED   3

static _Alignas(16) uint8_t pool[POOL_BYTES];
static size_t pool_used;

static void *pool_take(size_t size)
{
    void *at = pool + pool_used;

    pool_used += (size + 15) / 16 * 16;
    assert(pool_used <= POOL_BYTES);
    memset(at, 0, size);
    return at;
}

static ProtobufCMessage *message_make(const ProtobufCMessageDescriptor *type, unsigned which);

static size_t value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    default:
        return 4;
    }
}

static void value_set(void *to, const ProtobufCFieldDescriptor *field, unsigned i)
{
    static char text[] = "s'\"\n\x7f";
    static uint8_t bytes[] = {0, 255, 'a', 16};
    uint64_t large = UINT64_C(0x8000000000000001) >> (7 * i);
    uint32_t small = 300u + i;
    double real = 0.5 + i;
    const ProtobufCEnumDescriptor *names;

    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        *(char **)to = text;
        break;
    case PROTOBUF_C_TYPE_BYTES:
        *(ProtobufCBinaryData *)to = (ProtobufCBinaryData){sizeof(bytes), bytes};
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)to = message_make(field->descriptor, i);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        names = field->descriptor;
        *(int *)to = names->values[i % names->n_values].value;
        break;
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)to = 1;
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        memcpy(to, &real, 8);
        break;
    default:
        memcpy(to, value_size(field->type) == 8 ? (void *)&large : (void *)&small, value_size(field->type));
        break;
    }
}

static bool is_flags(const ProtobufCFieldDescriptor *field)
{
    return strcmp(field->name, "flags") == 0;
}

static void field_set(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    char *base = (char *)message;
    size_t size = value_size(field->type);
    char *array;

    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->quantifier_offset)
            *(protobuf_c_boolean *)(base + field->quantifier_offset) = 1;
        value_set(base + field->offset, field, 0);
        return;
    }
    array = pool_take(REPEATED * size);
    for (unsigned i = 0; i < REPEATED; i++)
        value_set(array + i * size, field, i);
    if (is_flags(field))
        memset(array, 0, REPEATED * size);
    *(size_t *)(void *)(base + field->quantifier_offset) = REPEATED;
    *(void **)(void *)(base + field->offset) = array;
}

/* Of a oneof the case number `which` (modulo what there is). */
static ProtobufCMessage *message_make(const ProtobufCMessageDescriptor *type, unsigned which)
{
    ProtobufCMessage *message = pool_take(type->sizeof_message);
    unsigned cases = 0, seen = 0;

    type->message_init(message);
    for (unsigned i = 0; i < type->n_fields; i++)
        cases += (type->fields[i].flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    for (unsigned i = 0; i < type->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &type->fields[i];

        if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)) {
            field_set(message, field);
        } else if (seen++ == which % cases) {
            *(int *)(void *)((char *)message + field->quantifier_offset) = (int)field->id;
            value_set((char *)message + field->offset, field, which / cases);
        }
    }
    return message;
}

bool messages_take(size_t i, struct messages_sample *out)
{
    /* 13 requests; replies with 6 answers (in turn), ack, refusals, event, going_away; headers */
    enum { REQUESTS = 13, DAEMON = 5, ANSWERS = 6 };
    static const ProtobufCMessageDescriptor *const rest[] = {&ssmd__data_header__descriptor,
                                                             &ssmd__result_header__descriptor,
                                                             &ssmd__tap_header__descriptor, &ssmd__event__descriptor};
    const ProtobufCMessage *message;

    pool_used = 0;
    if (i < REQUESTS) {
        out->part = MESSAGES_FROM_CLIENT;
        message = message_make(&ssmd__from_client__descriptor, (unsigned)i);
    } else if (i < REQUESTS + DAEMON * ANSWERS) {
        out->part = MESSAGES_FROM_DAEMON;
        message = message_make(&ssmd__from_daemon__descriptor, (unsigned)(i - REQUESTS));
    } else if (i < REQUESTS + DAEMON * ANSWERS + 4) {
        i -= REQUESTS + DAEMON * ANSWERS;
        out->part = (enum messages_part)(MESSAGES_DATA_HEADER + i);
        message = message_make(rest[i], 0);
    } else {
        return false;
    }
    out->size = proto_size(message);
    assert(out->size <= MESSAGES_BYTES);
    proto_encode(message, out->bytes);
    return true;
}
