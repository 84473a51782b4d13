/* SPDX-License-Identifier: Apache-2.0
 *
 * One message of every kind, encoded, with every field set.
 */
#ifndef TESTS_PROTO_MESSAGES_H
#define TESTS_PROTO_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/codec.h"

#define MESSAGES_BYTES 2048

enum messages_part {
    MESSAGES_FROM_CLIENT,
    MESSAGES_FROM_DAEMON,
    MESSAGES_DATA_HEADER,
    MESSAGES_RESULT_HEADER,
    MESSAGES_TAP_HEADER,
    MESSAGES_EVENT,
    MESSAGES_PARTS
};

struct messages_sample {
    enum messages_part part;
    size_t size;
    uint8_t bytes[MESSAGES_BYTES + 16]; /* room to append */
};

/* The i-th, or false when there are no more. */
bool messages_take(size_t i, struct messages_sample *out);

#endif
