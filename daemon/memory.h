/* SPDX-License-Identifier: Apache-2.0
 *
 * What memory a configuration allows, item by item: everything that grows with clients, streams or models, at its
 * bound. Kept beside the structures that it counts; `ssmd --check-config` prints it.
 *
 * Threads: any; pure.
 */
#ifndef DAEMON_MEMORY_H
#define DAEMON_MEMORY_H

#include <stdint.h>
#include <stdio.h>

#include "daemon/conf.h"

#define MEMORY_ITEMS 20

struct memory_item {
    const char *name;
    const char *of; /* which keys decide, and how */
    uint64_t bytes; /* no more than UINT64_MAX / MEMORY_ITEMS */
};

/* Fills `out`, returns how many. */
uint32_t memory_items(const struct conf *conf, struct memory_item out[MEMORY_ITEMS]);
/* The sum. */
uint64_t memory_bytes(const struct conf *conf);
/* A table of them, and what is not in it. */
void memory_print(const struct conf *conf, FILE *out);

#endif
