/* SPDX-License-Identifier: Apache-2.0
 *
 * The codec against strangers: every kind of message survives its round trip, and every truncation, every flipped byte
 * and random damage give an error or a message that holds together, never a crash (run under the address sanitizer
 * too).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/proto/messages.h"

static struct proto_arena arena;

static int arena_setup(void **state)
{
    (void)state;
    proto_arena_init(&arena);
    return 0;
}

static int arena_teardown(void **state)
{
    (void)state;
    proto_arena_fini(&arena);
    return 0;
}

/* Decode as every kind of part there is. Bytes are copied to a block of just their size, so that reading beyond
 * shows. */
static int decode_as(enum messages_part part, const uint8_t *bytes, size_t size, ProtobufCMessage **out)
{
    uint8_t *copy = malloc(size ? size : 1);
    int status;

    *out = NULL;
    assert_non_null(copy);
    if (size)
        memcpy(copy, bytes, size);
    switch (part) {
    case MESSAGES_FROM_CLIENT:
        status = proto_from_client_decode(&arena, copy, size, (Ssmd__FromClient **)out);
        break;
    case MESSAGES_FROM_DAEMON:
        status = proto_from_daemon_decode(&arena, copy, size, (Ssmd__FromDaemon **)out);
        break;
    case MESSAGES_DATA_HEADER:
        status = proto_data_header_decode(&arena, copy, size, (Ssmd__DataHeader **)out);
        break;
    case MESSAGES_RESULT_HEADER:
        status = proto_result_header_decode(&arena, copy, size, (Ssmd__ResultHeader **)out);
        break;
    case MESSAGES_TAP_HEADER:
        status = proto_tap_header_decode(&arena, copy, size, (Ssmd__TapHeader **)out);
        break;
    default:
        status = proto_event_decode(&arena, copy, size, (Ssmd__Event **)out);
        break;
    }
    free(copy);
    return status;
}

/* A decoded message can be walked: encoding it reads every field and column. */
static void assert_whole_or_refused(enum messages_part part, const uint8_t *bytes, size_t size)
{
    ProtobufCMessage *message;
    int status = decode_as(part, bytes, size, &message);
    uint8_t *again;

    assert_true(arena.used <= size * PROTO_ARENA_FACTOR + PROTO_ARENA_EXTRA);
    if (status < 0) {
        assert_null(message);
        assert_string_not_equal(proto_status_text(status), proto_status_text(1));
        return;
    }
    assert_non_null(message);
    again = malloc(proto_size(message) + 1);
    assert_non_null(again);
    proto_encode(message, again);
    if (part == MESSAGES_DATA_HEADER) {
        struct proto_chunk chunk;

        for (size_t i = 0; i < ((Ssmd__DataHeader *)message)->n_handle; i++)
            proto_chunk_take((Ssmd__DataHeader *)message, i, &chunk);
    }
    free(again);
}

static void codec__every_message__comes_back_the_same(void **state)
{
    struct messages_sample sample;

    (void)state;
    for (size_t i = 0; messages_take(i, &sample); i++) {
        ProtobufCMessage *message;
        uint8_t again[MESSAGES_BYTES];

        assert_int_equal(decode_as(sample.part, sample.bytes, sample.size, &message), PROTO_OK);
        assert_int_equal(proto_size(message), sample.size);
        proto_encode(message, again);
        assert_memory_equal(again, sample.bytes, sample.size);
    }
}

static void codec__truncated_at_every_length__is_an_error_or_a_message(void **state)
{
    struct messages_sample sample;

    (void)state;
    for (size_t i = 0; messages_take(i, &sample); i++)
        for (size_t size = 0; size < sample.size; size++)
            for (int part = 0; part < MESSAGES_PARTS; part++)
                assert_whole_or_refused((enum messages_part)part, sample.bytes, size);
}

static void codec__every_byte_flipped__is_an_error_or_a_message(void **state)
{
    struct messages_sample sample;

    (void)state;
    for (size_t i = 0; messages_take(i, &sample); i++) {
        for (size_t at = 0; at < sample.size; at++) {
            for (int bit = 0; bit < 8; bit++) {
                sample.bytes[at] ^= (uint8_t)(1u << bit);
                assert_whole_or_refused(sample.part, sample.bytes, sample.size);
                sample.bytes[at] ^= (uint8_t)(1u << bit);
            }
            sample.bytes[at] ^= 0xff;
            assert_whole_or_refused(sample.part, sample.bytes, sample.size);
            sample.bytes[at] ^= 0xff;
        }
    }
}

static void codec__random_damage__is_an_error_or_a_message(void **state)
{
    struct messages_sample sample;
    unsigned seed = 20250607;

    (void)state;
    for (int round = 0; round < 200; round++) {
        for (size_t i = 0; messages_take(i, &sample); i++) {
            for (int n = rand_r(&seed) % 6; n >= 0; n--)
                sample.bytes[(size_t)rand_r(&seed) % sample.size] = (uint8_t)rand_r(&seed);
            assert_whole_or_refused(sample.part, sample.bytes, sample.size);
        }
    }
}

static void codec__noise__is_an_error_or_a_message(void **state)
{
    unsigned seed = 7;
    uint8_t noise[97];

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)rand_r(&seed) % sizeof(noise);

        for (size_t i = 0; i < size; i++)
            noise[i] = (uint8_t)(rand_r(&seed) >> 4);
        assert_whole_or_refused((enum messages_part)(round % MESSAGES_PARTS), noise, size);
    }
}

/* A varint field number 999 at the end of the message. */
static void codec__unknown_field__is_refused(void **state)
{
    struct messages_sample sample;

    (void)state;
    for (size_t i = 0; messages_take(i, &sample); i++) {
        static const uint8_t unknown[] = {0xb8, 0x3e, 0x01};
        ProtobufCMessage *message;

        memcpy(sample.bytes + sample.size, unknown, sizeof(unknown));
        assert_int_equal(decode_as(sample.part, sample.bytes, sample.size + sizeof(unknown), &message), PROTO_UNKNOWN);
        assert_null(message);
    }
}

static void codec__unknown_field_in_a_submessage__is_refused(void **state)
{
    /* FromClient: request_id = 1, ping { field 9 = 1 } */
    static const uint8_t ping[] = {0x08, 0x01, 0x5a, 0x02, 0x48, 0x01};
    /* FromDaemon: reply { request_id = 1, list { streams {...} more, field 15 } } two levels down */
    static const uint8_t list[] = {0x0a, 0x08, 0x08, 0x01, 0x2a, 0x04, 0x10, 0x00, 0x78, 0x01};
    ProtobufCMessage *message;

    (void)state;
    assert_int_equal(decode_as(MESSAGES_FROM_CLIENT, ping, sizeof(ping), &message), PROTO_UNKNOWN);
    assert_int_equal(decode_as(MESSAGES_FROM_DAEMON, list, sizeof(list), &message), PROTO_UNKNOWN);
}

static void codec__number_that_no_enum_has__is_refused(void **state)
{
    Ssmd__FromClient m = SSMD__FROM_CLIENT__INIT;
    Ssmd__Open open = SSMD__OPEN__INIT;
    ProtobufCMessage *message;
    uint8_t bytes[256];

    (void)state;
    open.id.data = (uint8_t *)(uintptr_t) "a";
    open.id.len = 1;
    open.model = (char *)(uintptr_t) "m";
    open.has_mode = true;
    open.mode = (Ssmd__OpenMode)3;
    m.request_id = 1;
    m.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
    m.open = &open;
    proto_encode(&m.base, bytes);
    assert_int_equal(decode_as(MESSAGES_FROM_CLIENT, bytes, proto_size(&m.base), &message), PROTO_UNKNOWN);
}

static void codec__message_without_a_request__is_malformed(void **state)
{
    static const uint8_t bytes[] = {0x08, 0x01};
    ProtobufCMessage *message;

    (void)state;
    assert_int_equal(decode_as(MESSAGES_FROM_CLIENT, bytes, sizeof(bytes), &message), PROTO_MALFORMED);
    assert_int_equal(decode_as(MESSAGES_FROM_DAEMON, bytes, 0, &message), PROTO_MALFORMED);
}

/* 1 MiB of empty submessages would be 76 MiB of structs. */
static void codec__a_mebibyte_of_empty_submessages__stays_within_the_arena(void **state)
{
    size_t inner = (1 << 20) - 16, n = 0;
    uint8_t *bytes = malloc(1 << 20);
    ProtobufCMessage *message;

    (void)state;
    assert_non_null(bytes);
    bytes[n++] = 0x1a; /* FromDaemon.refusals, inner bytes long */
    for (size_t left = inner; left > 0; left >>= 7)
        bytes[n++] = (uint8_t)((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    for (size_t i = 0; i < inner / 2; i++) {
        bytes[n++] = 0x0a; /* Refusals.refusal, empty */
        bytes[n++] = 0x00;
    }
    assert_true(decode_as(MESSAGES_FROM_DAEMON, bytes, n, &message) < 0);
    assert_true(arena.size <= n * PROTO_ARENA_FACTOR + PROTO_ARENA_EXTRA);
    free(bytes);
}

static void codec__columns_of_every_length__fit_the_arena(void **state)
{
    enum { N = 5000 };
    static uint32_t small[N];
    static uint64_t large[N];
    static int64_t times[N];
    Ssmd__DataHeader h = SSMD__DATA_HEADER__INIT, *out;
    uint8_t *bytes;

    (void)state;
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = h.n_format = h.n_flags = h.n_time = N;
    h.handle = h.frames = h.format = h.flags = small; /* all 0: one byte each on the wire, the worst there is */
    h.epoch = h.first = large;
    h.time = times;
    bytes = malloc(proto_size(&h.base));
    assert_non_null(bytes);
    proto_encode(&h.base, bytes);
    assert_int_equal(proto_data_header_decode(&arena, bytes, proto_size(&h.base), &out), PROTO_OK);
    assert_int_equal(out->n_time, N);
    free(bytes);
}

static void codec__columns_that_differ_in_length__are_refused(void **state)
{
    uint32_t a[3] = {1, 2, 3};
    uint64_t b[3] = {1, 2, 3};
    Ssmd__DataHeader h = SSMD__DATA_HEADER__INIT, *out;
    uint8_t bytes[256];

    (void)state;
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = 3;
    h.n_format = 2;
    h.handle = h.frames = h.format = a;
    h.epoch = h.first = b;
    proto_encode(&h.base, bytes);
    assert_int_equal(proto_data_header_decode(&arena, bytes, proto_size(&h.base), &out), PROTO_COLUMNS);
    h.n_format = 3;
    h.n_flags = 1;
    h.flags = a;
    proto_encode(&h.base, bytes);
    assert_int_equal(proto_data_header_decode(&arena, bytes, proto_size(&h.base), &out), PROTO_COLUMNS);
}

static void codec__unknown_flag__is_refused(void **state)
{
    uint32_t one = 1, flag = 4;
    uint64_t zero = 0;
    Ssmd__DataHeader h = SSMD__DATA_HEADER__INIT, *out;
    uint8_t bytes[64];

    (void)state;
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = h.n_format = h.n_flags = 1;
    h.handle = h.frames = h.format = &one;
    h.epoch = h.first = &zero;
    h.flags = &flag;
    proto_encode(&h.base, bytes);
    assert_int_equal(proto_data_header_decode(&arena, bytes, proto_size(&h.base), &out), PROTO_UNKNOWN);
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */

static void chunk__time__is_meaningful_with_its_flag_or_without_flags(void **state)
{
    uint32_t one[2] = {1, 1}, flags[2] = {PROTO_FLAG_TIME, PROTO_FLAG_BACKFILL};
    uint64_t zero[2] = {0, 0};
    int64_t time[2] = {-5, 7};
    Ssmd__DataHeader h = SSMD__DATA_HEADER__INIT;
    struct proto_chunk chunk;

    (void)state;
    h.n_handle = h.n_epoch = h.n_first = h.n_frames = h.n_format = h.n_time = 2;
    h.handle = h.frames = h.format = one;
    h.epoch = h.first = zero;
    h.time = time;
    proto_chunk_take(&h, 1, &chunk);
    assert_int_equal(chunk.flags, PROTO_FLAG_TIME);
    assert_int_equal(chunk.time, 7);
    h.n_flags = 2;
    h.flags = flags;
    proto_chunk_take(&h, 0, &chunk);
    assert_int_equal(chunk.time, -5);
    proto_chunk_take(&h, 1, &chunk);
    assert_int_equal(chunk.flags, PROTO_FLAG_BACKFILL);
    h.n_time = 0;
    proto_chunk_take(&h, 0, &chunk);
    assert_int_equal(chunk.flags, 0);
}

static void payload__split__is_exact_and_never_overflows(void **state)
{
    size_t offset = 0, bytes = 0;

    (void)state;
    assert_int_equal(proto_payload_take(SSMD__FORMAT__S16LE, 7, 3, 100, &offset, &bytes), PROTO_OK);
    assert_int_equal(bytes, 42);
    assert_int_equal(offset, 42);
    assert_int_equal(proto_payload_take(SSMD__FORMAT__F64LE, 7, 1, 97, &offset, &bytes), PROTO_PAYLOAD);
    assert_int_equal(offset, 42);
    assert_int_equal(proto_payload_take(SSMD__FORMAT__F64LE, UINT32_MAX, UINT32_MAX, SIZE_MAX, &offset, &bytes),
                     PROTO_PAYLOAD);
    assert_int_equal(proto_payload_take(6, 1, 1, 100, &offset, &bytes), PROTO_FORMAT);
    assert_int_equal(proto_payload_take(0, 1, 1, 100, &offset, &bytes), PROTO_FORMAT);
    offset = 101;
    assert_int_equal(proto_payload_take(SSMD__FORMAT__F32LE, 0, 1, 100, &offset, &bytes), PROTO_PAYLOAD);
}

static void samples__every_format__becomes_what_the_protocol_says(void **state)
{
    int16_t s16[] = {-32768, 0, 16384, 32767};
    int32_t s32[] = {INT32_MIN, 1 << 30};
    double f64[] = {0.1, -1e-300};
    float out[4];
    size_t where;

    (void)state;
    assert_int_equal(proto_signal_decode(SSMD__FORMAT__S16LE, s16, 4, out, &where), PROTO_OK);
    assert_true(out[0] == -1.0f && out[1] == 0.0f && out[2] == 0.5f && out[3] == 32767.0f / 32768.0f);
    assert_int_equal(proto_signal_decode(SSMD__FORMAT__S32LE, s32, 2, out, &where), PROTO_OK);
    assert_true(out[0] == -1.0f && out[1] == 0.5f);
    assert_int_equal(proto_signal_decode(SSMD__FORMAT__F64LE, f64, 2, out, &where), PROTO_OK);
    assert_true(out[0] == 0.1f && out[1] == 0.0f);
    assert_int_equal(proto_signal_decode(SSMD__FORMAT__I32LE, s32, 1, out, &where), PROTO_FORMAT);
}

static void samples__not_finite__are_named(void **state)
{
    float f32[] = {1, 2, NAN, INFINITY};
    double f64[] = {1, 1e300};
    float out[4];
    size_t where = 99;

    (void)state;
    assert_int_equal(proto_signal_decode(SSMD__FORMAT__F32LE, f32, 4, out, &where), PROTO_SAMPLE);
    assert_int_equal(where, 2);
    assert_int_equal(proto_signal_decode(SSMD__FORMAT__F32LE, f32 + 3, 1, out, &where), PROTO_SAMPLE);
    assert_int_equal(where, 0);
    assert_int_equal(proto_signal_decode(SSMD__FORMAT__F64LE, f64, 2, out, &where), PROTO_SAMPLE);
    assert_int_equal(where, 1);
}

static void tokens__outside_the_vocabulary__are_named(void **state)
{
    int32_t in[] = {0, 6, 7, -1}, out[4];
    size_t where = 99;

    (void)state;
    assert_int_equal(proto_tokens_decode(SSMD__FORMAT__I32LE, in, 2, 7, out, &where), PROTO_OK);
    assert_int_equal(out[1], 6);
    assert_int_equal(proto_tokens_decode(SSMD__FORMAT__I32LE, in, 4, 7, out, &where), PROTO_SAMPLE);
    assert_int_equal(where, 2);
    assert_int_equal(proto_tokens_decode(SSMD__FORMAT__I32LE, in + 3, 1, 7, out, &where), PROTO_SAMPLE);
    assert_int_equal(proto_tokens_decode(SSMD__FORMAT__F32LE, in, 1, 7, out, &where), PROTO_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codec__every_message__comes_back_the_same),
        cmocka_unit_test(codec__truncated_at_every_length__is_an_error_or_a_message),
        cmocka_unit_test(codec__every_byte_flipped__is_an_error_or_a_message),
        cmocka_unit_test(codec__random_damage__is_an_error_or_a_message),
        cmocka_unit_test(codec__noise__is_an_error_or_a_message),
        cmocka_unit_test(codec__unknown_field__is_refused),
        cmocka_unit_test(codec__unknown_field_in_a_submessage__is_refused),
        cmocka_unit_test(codec__number_that_no_enum_has__is_refused),
        cmocka_unit_test(codec__message_without_a_request__is_malformed),
        cmocka_unit_test(codec__a_mebibyte_of_empty_submessages__stays_within_the_arena),
        cmocka_unit_test(codec__columns_of_every_length__fit_the_arena),
        cmocka_unit_test(codec__columns_that_differ_in_length__are_refused),
        cmocka_unit_test(codec__unknown_flag__is_refused),
        cmocka_unit_test(chunk__time__is_meaningful_with_its_flag_or_without_flags),
        cmocka_unit_test(payload__split__is_exact_and_never_overflows),
        cmocka_unit_test(samples__every_format__becomes_what_the_protocol_says),
        cmocka_unit_test(samples__not_finite__are_named),
        cmocka_unit_test(tokens__outside_the_vocabulary__are_named),
    };

    return cmocka_run_group_tests(tests, arena_setup, arena_teardown);
}
