/* SPDX-License-Identifier: Apache-2.0
 * Durations of the way of a sample; see timing.h. */
#include "daemon/timing.h"

static void span_add(struct histogram *histogram, uint64_t from_ns, uint64_t to_ns)
{
    histogram_add(histogram, to_ns > from_ns ? to_ns - from_ns : 0);
}

void timing_batch(struct loop *loop, const struct batch *batch)
{
    histogram_add(&loop->histograms.batch_streams, batch->n);
    histogram_add(&loop->histograms.batch_frames, batch->frames);
    histogram_add(&loop->histograms.step, batch->job.busy_ns);
}

void timing_chunk(struct loop *loop, const struct batch *batch, const struct chunk *chunk)
{
    if (chunk->arrived_ns > 0)
        span_add(&loop->histograms.queue, chunk->arrived_ns, batch->job.began_ns);
}

void timing_row(const struct batch *batch, const struct batch_row *row)
{
    struct stream *stream = row->stream;
    struct outlet *outlet;

    TAILQ_FOREACH(outlet, &stream->outlets, of_stream) {
        struct outlet_timing *timed = &outlet->timed;

        if (outlet->next >= stream->ring.hi || (timed->end > 0 && timed->epoch == stream->epoch))
            continue;
        *timed = (struct outlet_timing){.epoch = stream->epoch,
                                        .end = stream->ring.hi,
                                        .done_ns = batch->job.began_ns + batch->job.busy_ns,
                                        .arrived_ns = row->arrived_ns};
    }
}

void timing_sent(struct loop *loop, struct outlet *outlet, uint64_t now_ns)
{
    struct outlet_timing *timed = &outlet->timed;

    if (timed->end == 0 || timed->epoch != outlet->stream->epoch || outlet->next < timed->end)
        return;
    span_add(&loop->histograms.deliver, timed->done_ns, now_ns);
    if (timed->arrived_ns > 0)
        span_add(&loop->histograms.end_to_end, timed->arrived_ns, now_ns);
    timed->end = 0;
}
