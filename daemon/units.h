/* SPDX-License-Identifier: Apache-2.0
 *
 * The engines of the daemon: one for each device that the configuration wants and this machine has, and one for the
 * processor. Each is a unit, with a thread of its own (daemon/engine.h) and the batches that come and go between it and
 * the loop (daemon/batch.h); what one unit does waits for no other.
 *
 *     backend = cpu    the processor
 *     backend = cuda   devices; without any the daemon does not start
 *     backend = auto   devices, and the processor as a spare for models that no device takes; without any, which the
 *                      log says with the reason, the processor
 *
 * A device that fails is for good: its unit takes no more batches, nothing of its states is trusted, and the daemon stops
 * with UNITS_EXIT, so that whoever supervises it starts it again (daemon/failure.h).
 *
 * Threads: the loop thread.
 */
#ifndef DAEMON_UNITS_H
#define DAEMON_UNITS_H

#include <stdbool.h>
#include <stdint.h>
#include <sysexits.h>
#include <zmq.h>

#include "daemon/batch.h"
#include "daemon/conf.h"
#include "daemon/engine.h"

#define UNITS_MAX  SITES_MAX
#define UNITS_EXIT EX_TEMPFAIL /* a device failed: a restart may help */

#define UNIT_NAME_SIZE 16
#define UNIT_TEXT_SIZE 128

struct unit {
    struct engine engine;
    struct batcher batcher;
    bool is_device;
    bool is_spare; /* has models that no device takes */
    bool has_failed;
    char name[UNIT_NAME_SIZE]; /* "cpu", "cuda0" */
    char text[UNIT_TEXT_SIZE]; /* ssm_engine_describe */
    uint64_t batches, busy_ns;
};

struct units {
    uint32_t n;
    struct unit of[UNITS_MAX]; /* devices first */
};

/* Starts them: 0, or an exit code after saying why not. The conf stays as long as they do. */
int units_start(struct units *units, const struct conf *conf);
/* Waits for the jobs that are in them; their programs are gone, or on their way. */
void units_stop(struct units *units);
/* Frees their batches; also of those that were never started. */
void units_fini(struct units *units, struct input *input);

/* Where the stream waits for its turn. */
static inline struct batcher *batcher_of(const struct stream *stream)
{
    return &stream->site->unit->batcher;
}

/* The processor's, or NULL. */
struct unit *units_cpu(struct units *units);
/* Whether batches are under way anywhere, and whether streams wait for their turn. */
bool units_are_busy(const struct units *units);
bool units_are_idle(const struct units *units);

/* For the loop's wait: an item for each unit; what spsc.h says of sleeping. */
void units_items(const struct units *units, zmq_pollitem_t *items);
bool units_sleep(struct units *units);
void units_awake(struct units *units, const zmq_pollitem_t *items);

/* Threads of the processor's engine: as configured, or one for each processor that the daemon may use. */
uint32_t units_threads(const struct conf *conf);

#endif
