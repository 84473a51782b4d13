/* SPDX-License-Identifier: Apache-2.0
 *
 * Published ids that have no stream yet: the first data of one makes it. What that takes is tried in this order, and
 * the data waits meanwhile: room below max_streams, the image of an evicted stream of that id, the model of the line
 * `publish` that the id belongs to.
 *
 * Arrivals are found by a table of their own, since ten thousand sensors may begin while their model is being loaded.
 * There are at most ARRIVALS_MAX.
 *
 * Threads: the loop thread.
 */
#include "daemon/publish.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "daemon/admission.h"
#include "daemon/control.h"
#include "daemon/limits.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/reader.h"

#define ARRIVALS_MAX 65536
#define RETRY_NS     (5000 * CLOCK_MS) /* until a model that failed is tried again */

static struct arrival **arrival_seek(struct publish *publish, const uint8_t *id, size_t id_size)
{
    struct arrival **at = &publish->buckets[XXH3_64bits(id, id_size) % ARRIVAL_BUCKETS];

    while (*at && ((*at)->id_size != id_size || memcmp((*at)->id, id, id_size) != 0))
        at = &(*at)->next;
    return at;
}

static void arrival_free(struct loop *loop, struct arrival *arrival)
{
    struct arrival **at = arrival_seek(&loop->publish, arrival->id, arrival->id_size);

    *at = arrival->next;
    loop->publish.arrivals_n--;
    publish_drop(loop, &arrival->held);
    free(arrival);
}

void arrivals_fini(struct loop *loop)
{
    for (uint32_t i = 0; i < ARRIVAL_BUCKETS; i++)
        while (loop->publish.buckets[i])
            arrival_free(loop, loop->publish.buckets[i]);
}

/* There will be no stream for now: what waited is dropped. */
static void arrival_fail(struct loop *loop, struct arrival *arrival, const char *text)
{
    publish_refuse_id(loop, arrival->id, arrival->id_size, text);
    arrival_free(loop, arrival);
}

/* ---- the stream -------------------------------------------------------------------------------------------------- */

/* NULL, or why the model is none for the line. */
static const char *model_check(const struct mapping *mapping, const struct ssm_model_info *info)
{
    bool fills = mapping->source.gap == GAP_HOLD || mapping->source.gap == GAP_ZERO;

    if (info->input == SSM_TOKENS && fills)
        return "the model takes tokens, and gap=hold and gap=zero are for signals: say gap=reset or gap=refuse";
    if (mapping->rate > 0 && info->in_rate > 0 && fabs(mapping->rate - info->in_rate) > 1e-6 * info->in_rate)
        return "the model runs at another rate than the `publish` line says";
    if (mapping->channels > 0 && mapping->channels != info->in_channels)
        return "the model takes another number of channels than the `publish` line says";
    return NULL;
}

static void held_take(struct loop *loop, struct arrival *arrival)
{
    struct publish_chunk *chunk;

    while ((chunk = publish_unhold(loop, &arrival->held)) != NULL) {
        struct stream *stream = streams_find(&loop->streams, arrival->id, arrival->id_size);

        if (stream)
            publish_take(loop, stream, chunk);
        else
            loop->counters.publish_dropped++;
        publish_chunk_free(chunk);
    }
    arrival_free(loop, arrival);
}

static void stream_make(struct loop *loop, struct arrival *arrival, struct mapping *mapping, struct model *model)
{
    static const uint8_t nobody[PROTO_WRITER_BYTES];
    const char *wrong = model_check(mapping, &model->info);
    struct stream *stream;
    char text[320];

    if (wrong) {
        mapping->retry_ns = loop->now_ns + RETRY_NS;
        arrival_fail(loop, arrival, wrong);
        return;
    }
    wrong = publish_shape_check(&model->info, STAILQ_FIRST(&arrival->held.chunks));
    if (wrong) { /* no stream is made of that */
        arrival_fail(loop, arrival, wrong);
        return;
    }
    wrong = limits_stream(loop);
    if (!wrong && admission_check(loop, model, text, sizeof(text)) != SSMD__CODE__OK)
        wrong = text;
    if (wrong) {
        arrival_fail(loop, arrival, wrong);
        return;
    }
    stream = control_stream_new(
        loop, &(struct stream_making){.id = arrival->id, .id_size = arrival->id_size, .writer = nobody, .model = model},
        &wrong);
    if (!stream || !publish_attach(stream, mapping)) {
        if (stream)
            loop_stream_remove(loop, stream);
        arrival_fail(loop, arrival, wrong ? wrong : "no memory for one more stream");
        return;
    }
    admission_live(loop, stream);
    stream->active_ns = loop->now_ns;
    log_event(LOG_DEBUG, "stream_published", "stream=%.*s model=%s", stream->id_size, stream->id, model->name);
    reader_match(loop, stream);
    held_take(loop, arrival);
}

static void arrival_step(struct loop *loop, struct arrival *arrival);

static void model_found(struct loop *loop, struct open_request *request, struct model *model, Ssmd__Code code,
                        const char *text)
{
    struct arrival *arrival = *arrival_seek(&loop->publish, request->id, request->id_size);
    struct mapping *mapping = mappings_find(&loop->publish.mappings, request->id, request->id_size);

    if (streams_find(&loop->streams, request->id, request->id_size)) {
        held_take(loop, arrival); /* a client was faster */
    } else if (evict_has(loop, request->id, request->id_size)) {
        arrival_step(loop, arrival); /* ... and its stream has left since */
    } else if (!mapping) {
        arrival_fail(loop, arrival, "the `publish` line of this id was taken back");
    } else if (!model) {
        if (code != SSMD__CODE__LIMIT) /* which may be over in a moment */
            mapping->retry_ns = loop->now_ns + RETRY_NS;
        arrival_fail(loop, arrival, text);
    } else {
        stream_make(loop, arrival, mapping, model);
    }
}

static void model_seek(struct loop *loop, struct arrival *arrival)
{
    struct mapping *mapping = mappings_find(&loop->publish.mappings, arrival->id, arrival->id_size);
    struct open_request *request = mapping ? calloc(1, sizeof(*request)) : NULL;
    struct model *model = NULL;
    const char *text = NULL;
    Ssmd__Code code;

    if (!request) {
        arrival_fail(loop, arrival, mapping ? "the daemon is out of memory" : "no `publish` line maps this id");
        return;
    }
    request->finish = model_found;
    request->rate = mapping->rate;
    request->native_rate = mapping->rate > 0; /* a sensor cannot be asked to resample */
    request->channels = mapping->channels;
    request->id_size = arrival->id_size;
    memcpy(request->id, arrival->id, arrival->id_size);
    switch (models_find(loop, mapping->model, request, &model, &code, &text)) {
    case MODELS_WAITS:
        return; /* it is theirs now */
    case MODELS_REFUSED:
    case MODELS_READY:
        model_found(loop, request, model, code, text);
        break;
    }
    free(request);
}

/* ---- arriving ---------------------------------------------------------------------------------------------------- */

static void waited(struct loop *loop, struct evict_wait *wait, Ssmd__Code code, const char *text)
{
    struct arrival *arrival = (struct arrival *)((char *)wait - offsetof(struct arrival, wait));

    if (code != SSMD__CODE__OK)
        arrival_fail(loop, arrival, text);
    else
        arrival_step(loop, arrival);
}

/* What is to be done next for it: it may be gone afterwards. */
static void arrival_step(struct loop *loop, struct arrival *arrival)
{
    bool needs_room = loop->streams.n >= loop->conf.max_streams && !arrival->has_waited;
    const char *full;

    arrival->wait.done = waited;
    arrival->has_waited |= needs_room;
    if (streams_find(&loop->streams, arrival->id, arrival->id_size))
        held_take(loop, arrival);
    else if (needs_room && evict_make_room(loop, &arrival->wait))
        return;
    else if (evict_has(loop, arrival->id, arrival->id_size))
        evict_return(loop, arrival->id, arrival->id_size, &arrival->wait);
    else if ((full = limits_stream(loop)) != NULL)
        arrival_fail(loop, arrival, full);
    else
        model_seek(loop, arrival);
}

/* The chunk joins those that wait. False when it could not, and was dropped. */
static bool arrival_hold(struct loop *loop, struct arrival *arrival, struct publish_chunk *chunk)
{
    if (publish_hold(loop, &arrival->held, chunk, false))
        return true;
    loop->counters.publish_dropped++;
    if (!arrival->was_told)
        publish_refuse_id(loop, arrival->id, arrival->id_size,
                          "the stream's model or image is being loaded, and publish_memory or its window is used up: "
                          "the chunk is dropped");
    arrival->was_told = true;
    return false;
}

void arrival_take(struct loop *loop, const uint8_t *id, size_t id_size, struct publish_chunk *chunk)
{
    struct arrival **at = arrival_seek(&loop->publish, id, id_size), *arrival = *at;
    const struct mapping *mapping;

    if (arrival) {
        (void)arrival_hold(loop, arrival, chunk);
        return;
    }
    mapping = mappings_find(&loop->publish.mappings, id, id_size);
    if (!mapping) {
        loop->counters.publish_unmapped++;
        publish_refuse_id(loop, id, id_size, "no `publish` line maps this id");
        return;
    }
    if (loop->now_ns < mapping->retry_ns) { /* why was said when it failed */
        loop->counters.publish_dropped++;
        return;
    }
    if (loop->publish.arrivals_n >= ARRIVALS_MAX || !(arrival = calloc(1, sizeof(*arrival)))) {
        loop->counters.publish_dropped++;
        publish_refuse_id(
            loop, id, id_size,
            "too many ids wait for their stream: the chunk is dropped, and the id's next one tries again");
        return;
    }
    STAILQ_INIT(&arrival->held.chunks);
    arrival->id_size = (uint8_t)id_size;
    memcpy(arrival->id, id, id_size);
    *at = arrival;
    loop->publish.arrivals_n++;
    if (arrival_hold(loop, arrival, chunk))
        arrival_step(loop, arrival);
    else
        arrival_free(loop, arrival);
}
