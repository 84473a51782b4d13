/* SPDX-License-Identifier: Apache-2.0
 *
 * Publishers: an XPUB socket that connects. An XPUB and no PUB, because it sees the daemon's subscription come and go:
 * so nothing is sent into the void before the daemon listens or while it is away, and a full queue is told and not
 * hidden.
 */
#include "clients/c/ssmclient.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <zmq.h>

#include "proto/codec.h"

enum { PUBLISH_MESSAGES = 10000, TIMEOUT_MS = 5000 };

struct ssmc_publisher {
    void *zmq, *socket;
    uint8_t run[PROTO_SOURCE_BYTES];
    bool is_heard; /* the daemon's subscription is there */
};

int ssmc_publish_endpoint(char *out, size_t size, const char *endpoint)
{
    const char *named = getenv("SSMD_PUBLISH"), *slash;
    int n;
    if (named && *named) {
        n = snprintf(out, size, "%s", named);
    } else {
        if (!endpoint)
            endpoint = ssmc_default_endpoint();
        slash = strncmp(endpoint, "ipc://", 6) == 0 ? strrchr(endpoint, '/') : NULL;
        if (!slash)
            return SSMC_INVAL;
        n = snprintf(out, size, "%.*s/ssmd-publish.sock", (int)(slash - endpoint), endpoint);
    }
    return n > 0 && (size_t)n < size ? SSMC_OK : SSMC_INVAL;
}

static int set_options(void *socket)
{
    static const struct {
        int option, value;
    } options[] = {
        {ZMQ_SNDHWM, PUBLISH_MESSAGES},
        {ZMQ_XPUB_NODROP, 1},
        {ZMQ_IMMEDIATE, 1},
        {ZMQ_HANDSHAKE_IVL, 5000},
        {ZMQ_HEARTBEAT_IVL, 1000},
        {ZMQ_HEARTBEAT_TIMEOUT, 3000},
        {ZMQ_HEARTBEAT_TTL, 4000},
        {ZMQ_RECONNECT_IVL, 100},
        {ZMQ_RECONNECT_IVL_MAX, 5000},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_IPV6, 1},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (zmq_setsockopt(socket, options[i].option, &options[i].value, sizeof(int)) != 0)
            return -1;
    return 0;
}

/* The daemon subscribes to everything with one byte, 1, and a socket that broke brings 0. */
static void take_subscriptions(struct ssmc_publisher *p, int wait_ms)
{
    uint8_t byte[2];
    int n;
    zmq_setsockopt(p->socket, ZMQ_RCVTIMEO, &wait_ms, sizeof wait_ms);
    n = zmq_recv(p->socket, byte, sizeof byte, 0);
    while (n >= 0) {
        if (n == 1)
            p->is_heard = byte[0] == 1;
        n = zmq_recv(p->socket, byte, sizeof byte, ZMQ_DONTWAIT);
    }
}

int ssmc_publisher_open(struct ssmc_publisher **out, const struct ssmc_publisher_options *options, char *err,
                        size_t err_size)
{
    char endpoint[512] = "";
    struct ssmc_publisher *p = calloc(1, sizeof *p);
    int rc = p ? SSMC_OK : SSMC_NOMEM;
    *out = NULL;
    if (rc == SSMC_OK && options->endpoint)
        rc = snprintf(endpoint, sizeof endpoint, "%s", options->endpoint) < (int)sizeof endpoint ? SSMC_OK : SSMC_INVAL;
    else if (rc == SSMC_OK)
        rc = ssmc_publish_endpoint(endpoint, sizeof endpoint, NULL);
    if (rc == SSMC_OK && options->run)
        memcpy(p->run, options->run, sizeof p->run);
    else if (rc == SSMC_OK && getrandom(p->run, sizeof p->run, 0) != sizeof p->run)
        rc = SSMC_IO;
    if (rc == SSMC_OK) {
        p->zmq = zmq_ctx_new();
        p->socket = p->zmq ? zmq_socket(p->zmq, ZMQ_XPUB) : NULL;
        rc = p->socket && set_options(p->socket) == 0 && zmq_connect(p->socket, endpoint) == 0 ? SSMC_OK : SSMC_IO;
    }
    if (rc == SSMC_OK) {
        take_subscriptions(p, options->timeout_ms ? options->timeout_ms : TIMEOUT_MS);
        rc = p->is_heard ? SSMC_OK : SSMC_TIMEOUT;
    }
    if (rc == SSMC_OK) {
        *out = p;
        return SSMC_OK;
    }
    if (err && err_size > 0)
        snprintf(err, err_size,
                 rc == SSMC_TIMEOUT ? "nobody listens at %s: is ssmd running, and has it a publish_endpoint there?"
                                    : "cannot publish to \"%s\"",
                 endpoint);
    ssmc_publisher_free(p, 0);
    return rc;
}

void ssmc_publisher_free(struct ssmc_publisher *p, int linger_ms)
{
    if (!p)
        return;
    if (p->socket) {
        zmq_setsockopt(p->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
        zmq_close(p->socket);
    }
    if (p->zmq)
        zmq_ctx_term(p->zmq);
    free(p);
}

/* One part; what failed part-way would be a message cut short, so only the first may find the queue full. */
static int send_part(struct ssmc_publisher *p, const void *bytes, size_t size, bool is_last)
{
    return zmq_send(p->socket, bytes, size, ZMQ_DONTWAIT | (is_last ? 0 : ZMQ_SNDMORE)) < 0 ? -1 : 0;
}

int ssmc_publish(struct ssmc_publisher *p, const char *id, size_t id_size, const struct ssmc_frames *frames)
{
    Ssmd__PublishHeader header = SSMD__PUBLISH_HEADER__INIT;
    uint8_t topic[PROTO_ID_MAX + 1] = {0}, bytes[128];
    size_t size, sample = proto_sample_bytes((uint32_t)frames->format);
    if (id_size == 0)
        id_size = strlen(id);
    if (id_size == 0 || id_size > PROTO_ID_MAX || memchr(id, '\0', id_size) || sample == 0 || frames->frames == 0 ||
        frames->channels == 0)
        return SSMC_INVAL;
    memcpy(topic, id, id_size);
    header.source = (ProtobufCBinaryData){sizeof p->run, p->run};
    header.first = frames->first;
    header.frames = frames->frames;
    header.format = (uint32_t)frames->format;
    header.has_flags = (frames->flags & SSMC_BACKFILL) != 0;
    header.flags = PROTO_FLAG_BACKFILL;
    header.has_time = (frames->flags & SSMC_HAS_TIME) != 0;
    header.time = frames->time;
    header.has_rate = frames->rate > 0;
    header.rate = frames->rate;
    header.has_channels = true;
    header.channels = frames->channels;
    size = proto_size(&header.base);
    if (size > sizeof bytes)
        return SSMC_INVAL;
    proto_encode(&header.base, bytes);
    take_subscriptions(p, 0);
    if (!p->is_heard)
        return SSMC_IO;
    if (send_part(p, topic, id_size + 1, false) != 0)
        return errno == EAGAIN ? SSMC_FULL : SSMC_IO;
    if (send_part(p, bytes, size, false) != 0 ||
        send_part(p, frames->samples, (size_t)frames->frames * frames->channels * sample, true) != 0)
        return SSMC_IO;
    return SSMC_OK;
}
