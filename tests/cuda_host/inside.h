/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the runtime know of one another; see cuda_runtime.h. All of it under one lock, which host_enter
 * takes. */
#ifndef CUDA_HOST_INSIDE_H
#define CUDA_HOST_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/cuda_host/launch.h"

#define DEVICES_MAX 16

/* ---- device.cpp -------------------------------------------------------------------------------------------------- */

/* Where every call begins: takes the lock, counts the call, and says what it is to fail with. A call that releases
 * something does so all the same. */
cudaError_t host_enter(void);
/* Where it ends: keeps the error for cudaGetLastError, and gives the lock back. */
cudaError_t host_leave(cudaError_t error);

int device_current(void);
uint64_t device_memory(void); /* bytes of each */

/* ---- memory.cpp -------------------------------------------------------------------------------------------------- */

#define OF_HOST (-1)

struct allocation {
    unsigned char *memory;
    size_t bytes;
    int device; /* or OF_HOST: pinned */
    unsigned char *mapped;
    size_t mapped_bytes; /* 0: from malloc */
};

/* Which allocation holds the address; NULL: pageable memory of the host. */
const struct allocation *memory_find(const void *address);
/* Whether device memory may be touched now; host_leave closes it. */
void memory_open(bool open);
void memory_count(uint64_t *device_blocks, uint64_t *device_bytes, uint64_t *host_blocks);

/* ---- stream.cpp -------------------------------------------------------------------------------------------------- */

enum op_kind { OP_KERNEL, OP_COPY, OP_FILL, OP_WAIT, OP_RECORD, OP_GRAPH };

struct ops;

struct op {
    struct op *next;
    uint64_t number; /* in its stream */
    enum op_kind kind;
    struct cuda_host_kernel *kernel;
    void *to;
    const void *from; /* or `staged`, which the op owns */
    void *staged;
    size_t bytes;
    int value;
    uint64_t stream, until; /* waits until that stream has done that number */
    struct CUevent_st *event;
    struct ops *graph;
};

struct CUstream_st {
    struct CUstream_st *next;
    uint64_t id; /* never used again */
    int device;
    bool blocking; /* waits for the legacy stream, and that one for it */
    struct op *head, *tail;
    uint64_t given, done; /* numbers of the last one queued, and run */

    struct ops *capture; /* NULL: none */
    enum cudaStreamCaptureMode mode;
    pthread_t by; /* who began it */
    bool invalid;
};

struct CUevent_st {
    struct CUevent_st *next;
    uint32_t references; /* the handle, and queued records */
    int device;
    bool timing;
    bool captured;           /* its last record went into a graph */
    uint64_t stream, number; /* of its last record; stream 0: none */
    uint64_t ns;
};

struct op *op_new(enum op_kind kind); /* NULL: no memory */
void op_free(struct op *op);
void op_run(struct op *op);

/* The stream of that handle, NULL being the current device's legacy stream. NULL: no such stream. */
struct CUstream_st *stream_find(cudaStream_t handle);
/* Takes op over: queues it, or captures it. */
cudaError_t stream_give(struct CUstream_st *s, struct op *op);
void stream_run(struct CUstream_st *s, uint64_t until);
/* What a synchronous copy waits for, and all that there is. */
void streams_run_blocking(int device);
void streams_run_all(int device);
/* What is queued on the device never runs. */
void streams_drop(int device);
struct CUstream_st *streams_first(void);
void streams_count(uint64_t *streams, uint64_t *events, uint64_t *queued);

/* ---- graph.cpp --------------------------------------------------------------------------------------------------- */

/* What a stream was given while it captured; of the graph, its executables, and launches that are queued. */
struct ops {
    uint32_t references;
    struct op *head, *tail;
};

void ops_add(struct ops *ops, struct op *op);
void ops_release(struct ops *ops);
void ops_run(const struct ops *ops);
/* For calls that must not happen while somebody captures: invalidates those captures, and says so. */
cudaError_t capture_forbids(void);
uint64_t graphs_count(void);
uint64_t graphs_replayed(void); /* so far */

#endif
