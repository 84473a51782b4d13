/* SPDX-License-Identifier: Apache-2.0
 *
 * From the ports to streams: receive, decode, admit, convert, queue. Threads: the loop thread.
 */
#ifndef DAEMON_INGEST_H
#define DAEMON_INGEST_H

#include <stdbool.h>

#include "daemon/loop.h"

/* Take messages until there are none, or enough for one tick. True when there may be more. */
bool ingest_drain(struct loop *loop);

#endif
