/* SPDX-License-Identifier: Apache-2.0
 * Capture, and graphs of what was captured; see cuda_runtime.h. */
#include <stdlib.h>

#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_host/inside.h"

struct CUgraph_st {
    struct CUgraph_st *next;
    struct ops *ops;
};

struct CUgraphExec_st {
    struct CUgraphExec_st *next;
    struct ops *ops;
};

static struct CUgraph_st *graphs;
static struct CUgraphExec_st *execs;
static uint64_t replays;

/* ---- what was captured ------------------------------------------------------------------------------------------- */

static struct ops *ops_new(void)
{
    struct ops *ops = static_cast<struct ops *>(calloc(1, sizeof *ops));

    if (ops)
        ops->references = 1;
    return ops;
}

void ops_add(struct ops *ops, struct op *op)
{
    op->next = NULL;
    if (ops->head)
        ops->tail->next = op;
    else
        ops->head = op;
    ops->tail = op;
}

void ops_release(struct ops *ops)
{
    if (--ops->references > 0)
        return;
    while (ops->head) {
        struct op *op = ops->head;

        ops->head = op->next;
        op_free(op);
    }
    free(ops);
}

void ops_run(const struct ops *ops)
{
    struct op *op;

    replays++;
    for (op = ops->head; op; op = op->next)
        op_run(op);
}

uint64_t graphs_replayed(void)
{
    return replays;
}

uint64_t graphs_count(void)
{
    uint64_t n = 0;
    struct CUgraph_st *g;
    struct CUgraphExec_st *x;

    for (g = graphs; g; g = g->next)
        n++;
    for (x = execs; x; x = x->next)
        n++;
    return n;
}

/* ---- capture ----------------------------------------------------------------------------------------------------- */

cudaError_t capture_forbids(void)
{
    struct CUstream_st *s;
    cudaError_t e = cudaSuccess;

    for (s = streams_first(); s; s = s->next) {
        bool mine = pthread_equal(s->by, pthread_self());

        if (!s->capture || s->mode == cudaStreamCaptureModeRelaxed ||
            (s->mode == cudaStreamCaptureModeThreadLocal && !mine))
            continue;
        s->invalid = true;
        e = cudaErrorStreamCaptureUnsupported;
    }
    return e;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream ? stream_find(stream) : NULL;

    if (!e && !s)
        e = stream ? cudaErrorInvalidResourceHandle : cudaErrorStreamCaptureUnsupported;
    if (!e && s->capture)
        e = cudaErrorInvalidValue;
    if (!e && !(s->capture = ops_new()))
        e = cudaErrorMemoryAllocation;
    if (e)
        return host_leave(e);
    s->mode = mode;
    s->by = pthread_self();
    s->invalid = false;
    return host_leave(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream ? stream_find(stream) : NULL;
    struct CUgraph_st *graph = NULL;

    *out = NULL;
    if (!s || !s->capture)
        return host_leave(e ? e : cudaErrorInvalidValue);
    if (!e && s->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(s->by, pthread_self()))
        return host_leave(cudaErrorStreamCaptureWrongThread);
    if (!e && s->invalid)
        e = cudaErrorStreamCaptureInvalidated;
    if (!e && !(graph = static_cast<struct CUgraph_st *>(calloc(1, sizeof *graph))))
        e = cudaErrorMemoryAllocation;
    if (e) {
        ops_release(s->capture);
    } else {
        graph->ops = s->capture;
        graph->next = graphs;
        graphs = graph;
        *out = graph;
    }
    s->capture = NULL;
    return host_leave(e);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream_find(stream);

    if (!e && !s)
        e = cudaErrorInvalidResourceHandle;
    if (!e)
        *status = !s->capture  ? cudaStreamCaptureStatusNone
                  : s->invalid ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
    return host_leave(e);
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

static struct CUgraph_st **graph_find(cudaGraph_t handle)
{
    struct CUgraph_st **at = &graphs;

    while (*at && *at != handle)
        at = &(*at)->next;
    return at;
}

static struct CUgraphExec_st **exec_find(cudaGraphExec_t handle)
{
    struct CUgraphExec_st **at = &execs;

    while (*at && *at != handle)
        at = &(*at)->next;
    return at;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t handle, unsigned long long)
{
    cudaError_t e = host_enter();
    struct CUgraph_st *graph = *graph_find(handle);
    struct CUgraphExec_st *exec;

    *out = NULL;
    if (!e && !graph)
        e = cudaErrorInvalidValue;
    if (e)
        return host_leave(e);
    exec = static_cast<struct CUgraphExec_st *>(calloc(1, sizeof *exec));
    if (!exec)
        return host_leave(cudaErrorMemoryAllocation);
    exec->ops = graph->ops;
    exec->ops->references++;
    exec->next = execs;
    execs = exec;
    *out = exec;
    return host_leave(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUgraphExec_st *exec = *exec_find(handle);
    struct CUstream_st *s = stream_find(stream);
    struct op *op;

    if (!e && (!exec || !s))
        e = cudaErrorInvalidValue;
    if (e)
        return host_leave(e);
    op = op_new(OP_GRAPH);
    if (!op)
        return host_leave(cudaErrorMemoryAllocation);
    op->graph = exec->ops;
    op->graph->references++;
    return host_leave(stream_give(s, op));
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle)
{
    cudaError_t e = host_enter();
    struct CUgraphExec_st **at = exec_find(handle), *exec = *at;

    if (!exec)
        return host_leave(e ? e : cudaErrorInvalidValue);
    *at = exec->next;
    ops_release(exec->ops);
    free(exec);
    return host_leave(e);
}

cudaError_t cudaGraphDestroy(cudaGraph_t handle)
{
    cudaError_t e = host_enter();
    struct CUgraph_st **at = graph_find(handle), *graph = *at;

    if (!graph)
        return host_leave(e ? e : cudaErrorInvalidValue);
    *at = graph->next;
    ops_release(graph->ops);
    free(graph);
    return host_leave(e);
}
