/* SPDX-License-Identifier: Apache-2.0
 * Sums of bounds; see memory.h. Below 2^20 streams, 2^17 connections and windows of 2^38 the products stay below 2^60. */
#include "daemon/memory.h"

#include "daemon/batch.h"
#include "daemon/conn.h"
#include "daemon/deliver.h"
#include "daemon/http.h"
#include "daemon/limits.h"
#include "daemon/ring.h"
#include "daemon/state.h"
#include "daemon/tap.h"

#include <inttypes.h>
#include <string.h>

/* Of an approved prefix of 65 random bytes: libzmq's tree has a node for each byte. Measured: 20,000 prefixes of 256
 * bytes took 170 MiB, 34 bytes for each. */
#define TAP_PREFIX_BYTES (34 * (PROTO_ID_MAX + 2))

static uint64_t rings_bytes(const struct conf *conf)
{
    uint64_t all = (uint64_t)conf->max_streams * conf->result_ring;

    return all < conf->ring_memory ? all : conf->ring_memory;
}

/* A ring has no more times than frames of one channel. */
static uint64_t times_bytes(const struct conf *conf)
{
    uint64_t frames = conf->result_ring / sizeof(float);

    return conf->max_streams * (frames < RING_MARKS_MAX ? frames : RING_MARKS_MAX) * sizeof(struct ring_mark);
}

static uint64_t batches_bytes(void)
{
    const struct batch *b = NULL;
    uint64_t row = sizeof(*b->rows) + sizeof(*b->round) + sizeof(*b->round_of) + sizeof(*b->of) + sizeof(*b->copies);

    return (BATCHES + 1) * (BATCH_ROWS * row + BATCH_PIECES * sizeof(*b->pieces) +
                            (BATCH_IN_FLOATS + BATCH_OUT_FLOATS) * sizeof(float));
}

/* Of one device: its staging grows as its models need. */
static uint64_t device_bytes(const struct conf *conf)
{
    const struct batch *b = NULL;
    uint64_t row = sizeof(*b->rows) + sizeof(*b->round) + sizeof(*b->round_of) + sizeof(*b->of) + sizeof(*b->copies);

    if (strcmp(conf->backend, "cpu") == 0)
        return 0;
    return BATCHES * (BATCH_DEVICE_ROWS * row + BATCH_DEVICE_PIECES * sizeof(*b->pieces) +
                      (BATCH_DEVICE_IN_FLOATS + (uint64_t)BATCH_DEVICE_OUT_FLOATS) * sizeof(float));
}

/* Tables double. */
static uint64_t handles_bytes(uint32_t streams)
{
    return 2 * (uint64_t)streams * sizeof(struct handle);
}

static uint64_t connections_bytes(const struct conf *conf)
{
    uint64_t each = sizeof(struct conn) + UINT8_MAX + CONN_REFUSALS_MAX * sizeof(struct refusal) +
                    CONN_PREFIXES_MAX * sizeof(struct prefix) + CONN_OUTBOX_BYTES +
                    CONN_OUTBOX_MESSAGES * sizeof(struct parcel) + handles_bytes(LIMITS_DEAD);

    return conf->max_connections * each;
}

/* A stream is written on one connection; dead handles count with connections. */
static uint64_t streams_bytes(const struct conf *conf)
{
    uint64_t each = sizeof(struct stream) + PROTO_ID_MAX + 1 + 2 * sizeof(struct stream *) + sizeof(struct outlet);

    return conf->max_streams * each + handles_bytes(conf->max_streams);
}

static uint64_t readers_bytes(const struct conf *conf)
{
    uint32_t most = LIMITS_READERS * conf->max_streams;

    return most * sizeof(struct outlet) + handles_bytes(most);
}

static uint64_t messages_bytes(const struct conf *conf, uint64_t largest)
{
    return (uint64_t)conf->max_connections * conf->connection_messages * largest;
}

uint32_t memory_items(const struct conf *conf, struct memory_item out[MEMORY_ITEMS])
{
    const struct memory_item items[] = {
        {"input", "input_memory", conf->input_memory},
        {"results", "ring_memory, or max_streams x result_ring", rings_bytes(conf)},
        {"times of results", "max_streams; of streams whose chunks carry a time", times_bytes(conf)},
        {"images", "image_memory", conf->image_memory},
        {"histories", "history_memory", conf->history_memory},
        {"published, waiting", "publish_memory", conf->publish_memory},
        {"states", "state_memory", conf->state_memory},
        {"weights", "model_memory", conf->model_memory},
        {"forks and restores", "max_images x result_ring",
         conf->max_images * (sizeof(struct task) + conf->result_ring)},
        {"streams", "max_streams", streams_bytes(conf)},
        {"readers", "4 x max_streams", readers_bytes(conf)},
        {"connections", "max_connections; replies and events that wait, dead handles", connections_bytes(conf)},
        {"messages in", "max_connections x connection_messages x max_message", messages_bytes(conf, conf->max_message)},
        {"messages out", "max_connections x connection_messages x 256 KiB", messages_bytes(conf, DELIVER_RESULT_BYTES)},
        {"opens that wait", "fixed", (uint64_t)MODELS_MAX * MODELS_WAITS_MAX * sizeof(struct open_request)},
        {"batches", "fixed", batches_bytes()},
        {"batches on a device", "backend; so much for each device", device_bytes(conf)},
        {"tap subscriptions", "tap_subscriptions, about", (uint64_t)conf->tap_subscriptions * TAP_PREFIX_BYTES},
        {"I/O threads", "io_threads, when there are several",
         (uint64_t)(conf->io_threads > 1 ? conf->io_threads : 0) * (PORT_IN_BYTES + 2 * conf->max_message)},
        {"metrics", "fixed", sizeof(struct http) + HTTP_CONNECTIONS * HTTP_REQUEST_BYTES},
    };

    _Static_assert(sizeof(items) / sizeof(items[0]) == MEMORY_ITEMS, "every row has its place");
    for (uint32_t i = 0; i < MEMORY_ITEMS; i++)
        out[i] = items[i];
    return MEMORY_ITEMS;
}

uint64_t memory_bytes(const struct conf *conf)
{
    struct memory_item items[MEMORY_ITEMS];
    uint64_t sum = 0;

    for (uint32_t i = 0, n = memory_items(conf, items); i < n; i++)
        sum += items[i].bytes;
    return sum;
}

static void line_print(FILE *out, const char *name, uint64_t bytes, const char *of)
{
    fprintf(out, "  %-20s %12.1f MiB%s%s\n", name, (double)bytes / (1 << 20), *of ? "  " : "", of);
}

void memory_print(const struct conf *conf, FILE *out)
{
    struct memory_item items[MEMORY_ITEMS];
    uint32_t n = memory_items(conf, items);

    fprintf(out, "The most memory that it allows, with every bound reached at once:\n");
    for (uint32_t i = 0; i < n; i++)
        line_print(out, items[i].name, items[i].bytes, items[i].of);
    line_print(out, "together", memory_bytes(conf), "");
    fprintf(
        out,
        "Not in it: a model while it is being read, what a device's plugin and driver take, and what ZeroMQ takes for\n"
        "publishers (1024 messages each), for peers that say no hello and for subscriptions of the tap that it was "
        "not\n"
        "told to take. So all of them belong on ipc or loopback.\n");
}
