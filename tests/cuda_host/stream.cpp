/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams and events; see cuda_runtime.h.
 *
 * Operations of a stream have numbers, 1, 2, ...; an event is a stream and a number there. So waiting is running a
 * stream up to a number, and what that one waits for first. It ends, for an operation waits only for what was queued
 * before it. Streams are told by numbers that are never used again: one that is gone has done its work.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/cuda_host/block.h"
#include "tests/cuda_host/inside.h"

static struct CUstream_st *streams; /* all, the legacy ones as well */
static struct CUstream_st *legacy[DEVICES_MAX];
static struct CUevent_st *events;
static uint64_t last_id;

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static void event_release(struct CUevent_st *event)
{
    struct CUevent_st **at = &events;

    if (--event->references > 0)
        return;
    while (*at != event)
        at = &(*at)->next;
    *at = event->next;
    free(event);
}

struct op *op_new(enum op_kind kind)
{
    struct op *op = static_cast<struct op *>(calloc(1, sizeof *op));

    if (op)
        op->kind = kind;
    return op;
}

void op_free(struct op *op)
{
    if (op->kernel)
        op->kernel->free(op->kernel);
    if (op->event)
        event_release(op->event);
    if (op->graph)
        ops_release(op->graph);
    free(op->staged);
    free(op);
}

static struct CUstream_st *by_id(uint64_t id)
{
    struct CUstream_st *s = streams;

    while (s && s->id != id)
        s = s->next;
    return s;
}

void op_run(struct op *op)
{
    struct CUstream_st *s;

    memory_open(true);
    switch (op->kind) {
    case OP_KERNEL:
        block_run_all(op->kernel);
        break;
    case OP_COPY:
        memcpy(op->to, op->from, op->bytes);
        break;
    case OP_FILL:
        memset(op->to, op->value, op->bytes);
        break;
    case OP_WAIT:
        if ((s = by_id(op->stream)))
            stream_run(s, op->until);
        break;
    case OP_RECORD:
        op->event->ns = now_ns();
        break;
    case OP_GRAPH:
        ops_run(op->graph);
        break;
    }
}

/* ---- queues ------------------------------------------------------------------------------------------------------ */

static struct CUstream_st *stream_new(int device, bool blocking)
{
    struct CUstream_st *s = static_cast<struct CUstream_st *>(calloc(1, sizeof *s));

    if (!s)
        return NULL;
    s->id = ++last_id;
    s->device = device;
    s->blocking = blocking;
    s->next = streams;
    streams = s;
    return s;
}

struct CUstream_st *stream_find(cudaStream_t handle)
{
    struct CUstream_st *s = streams;

    if (!handle) {
        if (!legacy[device_current()])
            legacy[device_current()] = stream_new(device_current(), false);
        return legacy[device_current()];
    }
    while (s && s != handle)
        s = s->next;
    return s;
}

struct CUstream_st *streams_first(void)
{
    return streams;
}

void stream_run(struct CUstream_st *s, uint64_t until)
{
    while (s->head && s->head->number <= until) {
        struct op *op = s->head;

        s->head = op->next;
        op_run(op);
        s->done = op->number;
        op_free(op);
    }
}

static void queue(struct CUstream_st *s, struct op *op)
{
    op->number = ++s->given;
    op->next = NULL;
    if (s->head)
        s->tail->next = op;
    else
        s->head = op;
    s->tail = op;
}

static cudaError_t queue_wait(struct CUstream_st *s, const struct CUstream_st *other, uint64_t until)
{
    struct op *op;

    if (other == s || other->done >= until)
        return cudaSuccess;
    op = op_new(OP_WAIT);
    if (!op)
        return cudaErrorMemoryAllocation;
    op->stream = other->id;
    op->until = until;
    queue(s, op);
    return cudaSuccess;
}

/* The legacy stream goes behind all blocking ones, and they behind it. */
static cudaError_t queue_legacy_waits(struct CUstream_st *s)
{
    struct CUstream_st *other, *old = legacy[s->device];
    cudaError_t e = cudaSuccess;

    if (s->blocking && old)
        return queue_wait(s, old, old->given);
    for (other = streams; s == old && other && !e; other = other->next)
        if (other->blocking && other->device == s->device)
            e = queue_wait(s, other, other->given);
    return e;
}

cudaError_t stream_give(struct CUstream_st *s, struct op *op)
{
    cudaError_t e = cudaSuccess;

    if (s->capture) {
        e = s->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
        if (e)
            op_free(op);
        else
            ops_add(s->capture, op);
        return e;
    }
    if (s == legacy[s->device])
        e = capture_forbids();
    if (!e)
        e = queue_legacy_waits(s);
    if (e)
        op_free(op);
    else
        queue(s, op);
    return e;
}

void streams_run_blocking(int device)
{
    struct CUstream_st *s;

    for (s = streams; s; s = s->next)
        if (s->device == device && (s->blocking || s == legacy[device]))
            stream_run(s, s->given);
}

void streams_run_all(int device)
{
    struct CUstream_st *s;

    for (s = streams; s; s = s->next)
        if (s->device == device)
            stream_run(s, s->given);
}

static void stream_drop(struct CUstream_st *s)
{
    while (s->head) {
        struct op *op = s->head;

        s->head = op->next;
        op_free(op);
    }
    s->done = s->given;
}

void streams_drop(int device)
{
    struct CUstream_st *s;

    for (s = streams; s; s = s->next)
        if (s->device == device)
            stream_drop(s);
}

void streams_count(uint64_t *n_streams, uint64_t *n_events, uint64_t *queued)
{
    struct CUstream_st *s;
    struct CUevent_st *e;
    struct op *op;

    *n_streams = *n_events = *queued = 0;
    for (s = streams; s; s = s->next) {
        *n_streams += s != legacy[s->device];
        for (op = s->head; op; op = op->next)
            ++*queued;
    }
    for (e = events; e; e = e->next)
        ++*n_events;
}

/* ---- calls on streams -------------------------------------------------------------------------------------------- */

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int)
{
    cudaError_t e = host_enter();

    *out = NULL;
    if (!e && !(*out = stream_new(device_current(), !(flags & cudaStreamNonBlocking))))
        e = cudaErrorMemoryAllocation;
    return host_leave(e);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    return cudaStreamCreateWithPriority(out, flags, 0);
}

cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    return cudaStreamCreateWithPriority(out, cudaStreamDefault, 0);
}

/* Returns at once on a device, and the work goes on: here it is done now. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream ? stream_find(stream) : NULL, **at = &streams;

    if (!s)
        return host_leave(e ? e : cudaErrorInvalidResourceHandle);
    if (e)
        stream_drop(s);
    stream_run(s, s->given);
    if (s->capture)
        ops_release(s->capture);
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    free(s);
    return host_leave(e);
}

/* For calls that wait for a stream: not while it captures. */
static cudaError_t may_wait(struct CUstream_st *s)
{
    if (!s)
        return cudaErrorInvalidResourceHandle;
    if (s->capture) {
        s->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    return s == legacy[s->device] ? capture_forbids() : cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream_find(stream);

    if (!e)
        e = may_wait(s);
    if (!e)
        stream_run(s, s->given);
    return host_leave(e);
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream_find(stream);

    if (!e)
        e = may_wait(s);
    if (!e && s->head) {
        stream_run(s, s->given);
        e = cudaErrorNotReady;
    }
    return host_leave(e);
}

cudaError_t cudaDeviceSynchronize(void)
{
    cudaError_t e = host_enter();

    if (!e)
        e = capture_forbids();
    if (!e)
        streams_run_all(device_current());
    return host_leave(e);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static struct CUevent_st *event_find(cudaEvent_t handle)
{
    struct CUevent_st *e = events;

    while (e && e != handle)
        e = e->next;
    return e;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    cudaError_t e = host_enter();
    struct CUevent_st *event;

    *out = NULL;
    if (e)
        return host_leave(e);
    event = static_cast<struct CUevent_st *>(calloc(1, sizeof *event));
    if (!event)
        return host_leave(cudaErrorMemoryAllocation);
    event->references = 1;
    event->device = device_current();
    event->timing = !(flags & cudaEventDisableTiming);
    event->next = events;
    events = event;
    *out = event;
    return host_leave(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    return cudaEventCreateWithFlags(out, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t handle)
{
    cudaError_t e = host_enter();
    struct CUevent_st *event = event_find(handle);

    if (!event)
        return host_leave(e ? e : cudaErrorInvalidResourceHandle);
    event_release(event);
    return host_leave(e);
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUevent_st *event = event_find(handle);
    struct CUstream_st *s = stream_find(stream);
    struct op *op;

    if (!e && (!event || !s || event->device != s->device))
        e = cudaErrorInvalidResourceHandle;
    if (e)
        return host_leave(e);
    op = op_new(OP_RECORD);
    if (!op)
        return host_leave(cudaErrorMemoryAllocation);
    op->event = event;
    event->references++;
    event->captured = s->capture != NULL;
    e = stream_give(s, op);
    if (!e && !event->captured) {
        event->stream = s->id;
        event->number = s->given;
    }
    return host_leave(e);
}

/* Runs what is before the event; whether there was anything. */
static bool event_run(const struct CUevent_st *event)
{
    struct CUstream_st *s = event->stream ? by_id(event->stream) : NULL;

    if (!s || s->done >= event->number)
        return false;
    stream_run(s, event->number);
    return true;
}

static cudaError_t event_check(cudaError_t e, const struct CUevent_st *event)
{
    if (e)
        return e;
    if (!event)
        return cudaErrorInvalidResourceHandle;
    return event->captured ? cudaErrorCapturedEvent : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle)
{
    cudaError_t e = host_enter();
    struct CUevent_st *event = event_find(handle);

    e = event_check(e, event);
    if (!e)
        event_run(event);
    return host_leave(e);
}

cudaError_t cudaEventQuery(cudaEvent_t handle)
{
    cudaError_t e = host_enter();
    struct CUevent_st *event = event_find(handle);

    e = event_check(e, event);
    if (!e && event_run(event))
        e = cudaErrorNotReady;
    return host_leave(e);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    cudaError_t e = host_enter();
    struct CUevent_st *a = event_find(start), *b = event_find(end);

    e = event_check(event_check(e, a), b);
    if (!e && (!a->timing || !b->timing || !a->stream || !b->stream))
        e = cudaErrorInvalidResourceHandle;
    if (!e && (event_run(a) | event_run(b)))
        e = cudaErrorNotReady;
    if (!e)
        *ms = (float)((double)((int64_t)b->ns - (int64_t)a->ns) * 1e-6);
    return host_leave(e);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned)
{
    cudaError_t e = host_enter();
    struct CUevent_st *event = event_find(handle);
    struct CUstream_st *s = stream_find(stream), *other;

    if (!e && (!event || !s))
        e = cudaErrorInvalidResourceHandle;
    if (e)
        return host_leave(e);
    if (s->capture || event->captured) {
        /* Within one capture the order of the one stream is enough; into it and out of it there is no way. */
        if (s->capture && event->captured)
            return host_leave(s->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
        s->invalid = s->capture != NULL;
        return host_leave(s->capture ? cudaErrorStreamCaptureIsolation : cudaErrorCapturedEvent);
    }
    other = event->stream ? by_id(event->stream) : NULL;
    return host_leave(other ? queue_wait(s, other, event->number) : cudaSuccess);
}
