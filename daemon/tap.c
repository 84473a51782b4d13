/* SPDX-License-Identifier: Apache-2.0
 *
 * One message of three parts for each piece of results: topic (id and NUL), header, payload.
 */
#include "daemon/tap.h"

#include <stdio.h>
#include <string.h>
#include <zmq.h>

/* The first byte says subscribe (1) or unsubscribe (0), the rest is the prefix. libzmq reports each of both, also for a
 * watcher that goes away; those that are not approved count too, so that the count comes back to 0. */
static void subscription_take(struct tap *tap, const uint8_t *bytes, size_t size)
{
    if (size == 0 || bytes[0] > 1)
        return;
    if (size - 1 > PROTO_ID_MAX + 1) {
        tap->counters->tap_refused += bytes[0];
    } else if (bytes[0] == 0) {
        (void)!zmq_setsockopt(tap->socket, ZMQ_UNSUBSCRIBE, bytes + 1, size - 1);
        if (tap->subscriptions > 0)
            tap->subscriptions--;
    } else if (tap->subscriptions++ >= tap->limit ||
               zmq_setsockopt(tap->socket, ZMQ_SUBSCRIBE, bytes + 1, size - 1) != 0) {
        tap->counters->tap_refused++;
    }
}

bool tap_drain(struct tap *tap)
{
    zmq_msg_t part;

    if (!tap->socket)
        return false;
    for (int i = 0; i < TAP_DRAIN; i++) {
        int size;

        zmq_msg_init(&part);
        size = zmq_msg_recv(&part, tap->socket, ZMQ_DONTWAIT);
        if (size >= 0)
            subscription_take(tap, zmq_msg_data(&part), (size_t)size);
        zmq_msg_close(&part);
        if (size < 0)
            return false;
    }
    return true;
}

static void publish(struct tap *tap, const Ssmd__TapHeader *header, const void *payload, size_t size)
{
    uint8_t bytes[256]; /* an id and at most six numbers */
    uint8_t topic[PROTO_ID_MAX + 1] = {0};

    if (proto_size(&header->base) > sizeof(bytes))
        return;
    proto_encode(&header->base, bytes);
    memcpy(topic, header->id.data, header->id.len);
    /* XPUB never blocks and never fails for a slow watcher: it drops. */
    if (zmq_send(tap->socket, topic, header->id.len + 1u, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
        return;
    (void)!zmq_send(tap->socket, bytes, proto_size(&header->base), ZMQ_SNDMORE | ZMQ_DONTWAIT);
    (void)!zmq_send(tap->socket, payload, size, ZMQ_DONTWAIT);
    tap->counters->tap_published++;
}

static void header_fill(Ssmd__TapHeader *header, const struct stream *stream, Ssmd__TapHeader__Kind kind)
{
    ssmd__tap_header__init(header);
    header->id.data = (uint8_t *)stream->id;
    header->id.len = stream->id_size;
    header->epoch = stream->epoch;
    header->index = stream->ring.hi;
    header->channels = stream->ring.channels;
    header->kind = kind;
}

void tap_publish(struct tap *tap, const struct stream *stream, uint64_t first, const float *samples, uint32_t frames,
                 bool has_time, int64_t time, double rate)
{
    Ssmd__TapHeader header;

    if (!tap->socket || tap->subscriptions == 0)
        return;
    header_fill(&header, stream, SSMD__TAP_HEADER__KIND__DATA);
    header.index = first;
    header.has_time = has_time;
    header.time = time;
    header.has_pairs = header.pairs = stream_keeps_pairs(stream);
    header.has_rate = rate > 0;
    header.rate = rate;
    publish(tap, &header, samples, (size_t)frames * stream->ring.channels * sizeof(float));
}

static void publish_event(struct tap *tap, const Ssmd__TapHeader *header, const Ssmd__Event *event)
{
    uint8_t bytes[TAP_EVENT_BYTES];
    size_t size = proto_size(&event->base);

    if (size > sizeof(bytes))
        return;
    proto_encode(&event->base, bytes);
    publish(tap, header, bytes, size);
}

void tap_publish_event(struct tap *tap, const struct stream *stream, Ssmd__Event__Kind kind)
{
    Ssmd__TapHeader header;
    Ssmd__Event event = SSMD__EVENT__INIT;

    if (!tap->socket || tap->subscriptions == 0)
        return;
    header_fill(&header, stream, SSMD__TAP_HEADER__KIND__EVENT);
    event.kind = kind;
    event.has_epoch = event.has_first = true;
    event.epoch = stream->epoch;
    event.first = stream->ring.hi;
    publish_event(tap, &header, &event);
}

void tap_publish_note(struct tap *tap, const struct tap_note *note)
{
    Ssmd__TapHeader header;
    Ssmd__Event event = SSMD__EVENT__INIT;
    char text[TAP_TEXT_BYTES];

    if (!tap->socket || tap->subscriptions == 0)
        return;
    if (note->stream) {
        header_fill(&header, note->stream, SSMD__TAP_HEADER__KIND__EVENT);
    } else {
        ssmd__tap_header__init(&header);
        header.id = (ProtobufCBinaryData){note->id_size, (uint8_t *)note->id};
        header.kind = SSMD__TAP_HEADER__KIND__EVENT;
    }
    event.kind = note->kind;
    event.has_epoch = note->stream != NULL;
    event.epoch = header.epoch;
    event.has_first = event.has_next = note->next > note->first;
    event.first = note->first;
    event.next = note->next;
    snprintf(text, sizeof(text), "%s", note->text);
    event.text = text;
    publish_event(tap, &header, &event);
}
