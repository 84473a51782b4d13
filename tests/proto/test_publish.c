/* SPDX-License-Identifier: Apache-2.0
 *
 * The header of a publisher: what it says is what was said, and what cannot be is refused at every truncation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"

static struct proto_arena arena;
static uint8_t run[PROTO_SOURCE_BYTES] = "a run";
static Ssmd__PublishHeader header;

static int header_setup(void **state)
{
    (void)state;
    proto_arena_init(&arena);
    ssmd__publish_header__init(&header);
    header.source = (ProtobufCBinaryData){sizeof(run), run};
    header.first = UINT64_C(1) << 40;
    header.frames = 100;
    header.format = SSMD__FORMAT__S16LE;
    return 0;
}

static int header_teardown(void **state)
{
    (void)state;
    proto_arena_fini(&arena);
    return 0;
}

/* The header's first `size` bytes, on a block of just their size; `more` bytes behind them. */
static int decode(size_t size, const char *more, size_t more_size, Ssmd__PublishHeader **out)
{
    uint8_t bytes[256], *copy = malloc(size + more_size + 1);
    int status;

    assert_non_null(copy);
    assert_in_range(proto_size(&header.base), 1, sizeof(bytes));
    proto_encode(&header.base, bytes);
    memcpy(copy, bytes, size);
    memcpy(copy + size, more, more_size);
    status = proto_publish_header_decode(&arena, copy, size + more_size, out);
    free(copy);
    assert_true((status == PROTO_OK) == (*out != NULL));
    return status;
}

static int decode_whole(void)
{
    Ssmd__PublishHeader *out;

    return decode(proto_size(&header.base), "", 0, &out);
}

static void header__every_field__comes_back(void **state)
{
    Ssmd__PublishHeader *out;

    (void)state;
    header.has_flags = header.has_time = header.has_rate = header.has_channels = true;
    header.flags = PROTO_FLAG_BACKFILL;
    header.time = -5;
    header.rate = 360;
    header.channels = 3;
    assert_int_equal(decode(proto_size(&header.base), "", 0, &out), PROTO_OK);
    assert_memory_equal(out->source.data, run, sizeof(run));
    assert_int_equal(out->first, header.first);
    assert_int_equal(out->frames, 100);
    assert_int_equal(out->format, SSMD__FORMAT__S16LE);
    assert_int_equal(out->flags, PROTO_FLAG_BACKFILL);
    assert_int_equal(out->time, -5);
    assert_true(out->rate == 360);
    assert_int_equal(out->channels, 3);
}

static void header__that_cannot_be__is_refused(void **state)
{
    Ssmd__PublishHeader *out;

    (void)state;
    assert_int_equal(decode_whole(), PROTO_OK);
    header.source.len = PROTO_SOURCE_BYTES - 1;
    assert_int_equal(decode_whole(), PROTO_MALFORMED);
    header.source.len = 0;
    assert_int_equal(decode_whole(), PROTO_MALFORMED);
    header.source.len = PROTO_SOURCE_BYTES;
    header.frames = 0;
    assert_int_equal(decode_whole(), PROTO_MALFORMED);
    header.frames = 1;
    header.has_flags = true;
    header.flags = PROTO_FLAG_TIME; /* the time says so itself */
    assert_int_equal(decode_whole(), PROTO_UNKNOWN);
    header.flags = 0;
    assert_int_equal(decode_whole(), PROTO_OK);
    assert_int_equal(decode(proto_size(&header.base), "\x48\x01", 2, &out), PROTO_UNKNOWN); /* field 9 */
    for (size_t size = 0; size < proto_size(&header.base); size++)
        if (decode(size, "", 0, &out) == PROTO_OK)
            assert_int_equal(size, proto_size(&header.base) - 2); /* all but the flags */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(header__every_field__comes_back, header_setup, header_teardown),
        cmocka_unit_test_setup_teardown(header__that_cannot_be__is_refused, header_setup, header_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
