/* SPDX-License-Identifier: Apache-2.0
 *
 * The payload of a data message: where each chunk's samples lie, and what they are as numbers.
 *
 * The bytes are little-endian at any alignment; this code assumes a little-endian machine with IEEE 754 numbers, which
 * the compiler checks below.
 */
#include "proto/codec.h"

#include <math.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "samples are read as they lie in memory");
_Static_assert(sizeof(float) == 4 && sizeof(double) == 8, "IEEE 754 numbers");

void proto_chunk_take(const Ssmd__DataHeader *header, size_t i, struct proto_chunk *out)
{
    out->handle = header->handle[i];
    out->epoch = header->epoch[i];
    out->first = header->first[i];
    out->frames = header->frames[i];
    out->format = header->format[i];
    out->flags = header->n_flags ? header->flags[i] : 0;
    out->time = 0;
    if (!header->n_time)
        out->flags &= ~PROTO_FLAG_TIME;
    else if (!header->n_flags || (out->flags & PROTO_FLAG_TIME))
        out->time = header->time[i], out->flags |= PROTO_FLAG_TIME;
}

size_t proto_sample_bytes(uint32_t format)
{
    switch (format) {
    case SSMD__FORMAT__S16LE:
        return 2;
    case SSMD__FORMAT__F32LE:
    case SSMD__FORMAT__S32LE:
    case SSMD__FORMAT__I32LE:
        return 4;
    case SSMD__FORMAT__F64LE:
        return 8;
    default:
        return 0;
    }
}

int proto_payload_take(uint32_t format, uint32_t frames, uint32_t channels, size_t size, size_t *offset, size_t *bytes)
{
    size_t sample = proto_sample_bytes(format), n;

    if (!sample)
        return PROTO_FORMAT;
    if (__builtin_mul_overflow((size_t)frames, (size_t)channels, &n) || __builtin_mul_overflow(n, sample, &n))
        return PROTO_PAYLOAD;
    if (*offset > size || n > size - *offset)
        return PROTO_PAYLOAD;
    *offset += n;
    *bytes = n;
    return PROTO_OK;
}

/* The first sample that is not finite, or n. The common case runs without a branch for each sample. */
static size_t finite_check(const float *x, size_t n)
{
    uint32_t bad = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;

        memcpy(&bits, &x[i], 4);
        bad |= (bits & 0x7f800000u) == 0x7f800000u;
    }
    if (!bad)
        return n;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return i;
    return n;
}

int proto_signal_decode(uint32_t format, const void *in, size_t n, float *out, size_t *where)
{
    const unsigned char *bytes = in;
    size_t bad;

    switch (format) {
    case SSMD__FORMAT__F32LE:
        memcpy(out, in, n * 4);
        break;
    case SSMD__FORMAT__F64LE:
        for (size_t i = 0; i < n; i++) {
            double value;

            memcpy(&value, bytes + 8 * i, 8);
            out[i] = (float)value; /* beyond float32's range: infinite, and refused below */
        }
        break;
    case SSMD__FORMAT__S16LE:
        for (size_t i = 0; i < n; i++) {
            int16_t value;

            memcpy(&value, bytes + 2 * i, 2);
            out[i] = (float)value / 32768.0f;
        }
        return PROTO_OK;
    case SSMD__FORMAT__S32LE:
        for (size_t i = 0; i < n; i++) {
            int32_t value;

            memcpy(&value, bytes + 4 * i, 4);
            out[i] = (float)value / 2147483648.0f;
        }
        return PROTO_OK;
    default:
        return PROTO_FORMAT;
    }
    bad = finite_check(out, n);
    if (bad == n)
        return PROTO_OK;
    *where = bad;
    return PROTO_SAMPLE;
}

int proto_tokens_decode(uint32_t format, const void *in, size_t n, uint32_t vocab, int32_t *out, size_t *where)
{
    if (format != SSMD__FORMAT__I32LE)
        return PROTO_FORMAT;
    memcpy(out, in, n * 4);
    for (size_t i = 0; i < n; i++) {
        if (out[i] < 0 || (uint32_t)out[i] >= vocab) {
            *where = i;
            return PROTO_SAMPLE;
        }
    }
    return PROTO_OK;
}
