/* SPDX-License-Identifier: Apache-2.0
 * Devices, errors and faults; launches are checked here; see cuda_runtime.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda_host/block.h"
#include "tests/cuda_host/cuda_host.h"
#include "tests/cuda_host/inside.h"

#define SHARED_DEFAULT (48 << 10)
#define SHARED_MAX     (227 << 10)
#define PROCESSORS     4 /* few, so that what is sized by them is small */
#define FUNCTIONS_MAX  4096

static pthread_mutex_t lock = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;
static bool configured;
static int devices = 1;
static uint64_t memory = UINT64_C(16) << 30;

static uint64_t calls, fails_at; /* 0: none does */
static cudaError_t failure, broken[DEVICES_MAX];
static bool failure_sticks;

static thread_local int current;
static thread_local cudaError_t last;

/* Kernels that may have more than SHARED_DEFAULT. */
static struct {
    const void *entry;
    int shared;
} functions[FUNCTIONS_MAX];
static int functions_count;

static uint64_t environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void configure(void)
{
    const char *fail = getenv("CUDA_HOST_FAIL");

    configured = true;
    devices = (int)environment("CUDA_HOST_DEVICES", 1);
    devices = devices > DEVICES_MAX ? DEVICES_MAX : devices;
    memory = environment("CUDA_HOST_MEMORY", memory);
    block_seed(environment("CUDA_HOST_SEED", 1));
    if (fail && *fail) {
        fails_at = calls + strtoull(fail, NULL, 10);
        failure_sticks = strstr(fail, ",sticky") != NULL;
        failure = failure_sticks ? cudaErrorIllegalAddress : cudaErrorUnknown;
    }
}

/* A test's handler that jumps out of a kernel that crashed leaves the lock taken, and all else as it was. */
static void take_lock(void)
{
    if (pthread_mutex_lock(&lock) == EDEADLK) {
        fprintf(stderr, "cuda_host: kernel %s, thread %u of block %u crashed before this\n", block_now.name,
                block_now.thread, block_now.block);
        abort();
    }
    if (!configured)
        configure();
}

cudaError_t host_enter(void)
{
    take_lock();
    if (broken[current])
        return broken[current];
    if (++calls != fails_at)
        return cudaSuccess;
    if (failure_sticks) {
        broken[current] = failure;
        streams_drop(current);
    }
    return failure;
}

cudaError_t host_leave(cudaError_t error)
{
    if (error && error != cudaErrorNotReady) /* which the runtime does not take for an error */
        last = error;
    memory_open(false);
    pthread_mutex_unlock(&lock);
    return error;
}

int device_current(void)
{
    return current;
}

uint64_t device_memory(void)
{
    return memory;
}

/* ---- what a test says -------------------------------------------------------------------------------------------- */

void cuda_host_fail(uint64_t n, int error, bool sticky)
{
    take_lock();
    fails_at = n ? calls + n : 0;
    failure = (cudaError_t)error;
    failure_sticks = sticky;
    if (!n) {
        memset(broken, 0, sizeof broken);
        last = cudaSuccess;
    }
    pthread_mutex_unlock(&lock);
}

uint64_t cuda_host_calls(void)
{
    uint64_t n;

    take_lock();
    n = calls;
    pthread_mutex_unlock(&lock);
    return n;
}

void cuda_host_live(struct cuda_host_live *live)
{
    take_lock();
    memory_count(&live->device_blocks, &live->device_bytes, &live->host_blocks);
    streams_count(&live->streams, &live->events, &live->queued);
    live->graphs = graphs_count();
    pthread_mutex_unlock(&lock);
}

uint64_t cuda_host_kernels(void)
{
    uint64_t n;

    take_lock();
    n = block_launches();
    pthread_mutex_unlock(&lock);
    return n;
}

uint64_t cuda_host_replays(void)
{
    uint64_t n;

    take_lock();
    n = graphs_replayed();
    pthread_mutex_unlock(&lock);
    return n;
}

void cuda_host_memory(uint64_t bytes)
{
    take_lock();
    memory = bytes;
    pthread_mutex_unlock(&lock);
}

void cuda_host_seed(uint64_t seed)
{
    take_lock();
    block_seed(seed);
    pthread_mutex_unlock(&lock);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define X(name, value, text)                                                                                           \
    case name:                                                                                                         \
        return #name;
        CUDA_HOST_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define X(name, value, text)                                                                                           \
    case name:                                                                                                         \
        return text;
        CUDA_HOST_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}

cudaError_t cudaPeekAtLastError(void)
{
    cudaError_t error;

    take_lock();
    error = broken[current] ? broken[current] : last;
    pthread_mutex_unlock(&lock);
    return error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = cudaPeekAtLastError();

    last = cudaSuccess;
    return error;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static cudaError_t version(int *out)
{
    cudaError_t e = host_enter();

    if (!e)
        *out = CUDART_VERSION;
    return host_leave(e);
}

cudaError_t cudaDriverGetVersion(int *out)
{
    return version(out);
}

cudaError_t cudaRuntimeGetVersion(int *out)
{
    return version(out);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    cudaError_t e = host_enter();

    *count = e ? 0 : devices;
    return host_leave(!e && devices == 0 ? cudaErrorNoDevice : e);
}

static bool is_device(int device)
{
    return device >= 0 && device < devices;
}

/* Devices fail one by one: whoever changes to a whole one must not be told of the other. */
cudaError_t cudaSetDevice(int device)
{
    cudaError_t e;
    int before = current;

    current = device >= 0 && device < DEVICES_MAX ? device : current;
    e = host_enter();
    if (!e && !is_device(device))
        e = cudaErrorInvalidDevice;
    if (e && e != broken[current])
        current = before;
    return host_leave(e);
}

cudaError_t cudaGetDevice(int *device)
{
    cudaError_t e = host_enter();

    *device = current;
    return host_leave(e);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    static const struct {
        enum cudaDeviceAttr attr;
        int value;
    } known[] = {{cudaDevAttrMaxThreadsPerBlock, 1024},
                 {cudaDevAttrMaxGridDimX, 0x7fffffff},
                 {cudaDevAttrMaxGridDimY, 65535},
                 {cudaDevAttrMaxGridDimZ, 65535},
                 {cudaDevAttrMaxSharedMemoryPerBlock, SHARED_DEFAULT},
                 {cudaDevAttrWarpSize, 32},
                 {cudaDevAttrMaxRegistersPerBlock, 65536},
                 {cudaDevAttrMultiProcessorCount, PROCESSORS},
                 {cudaDevAttrL2CacheSize, 50 << 20},
                 {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
                 {cudaDevAttrComputeCapabilityMajor, 9},
                 {cudaDevAttrComputeCapabilityMinor, 0},
                 {cudaDevAttrMaxSharedMemoryPerMultiprocessor, SHARED_MAX + 1024},
                 {cudaDevAttrCooperativeLaunch, 0},
                 {cudaDevAttrMaxSharedMemoryPerBlockOptin, SHARED_MAX}};
    cudaError_t e = host_enter();
    size_t i;

    if (!e && !is_device(device))
        e = cudaErrorInvalidDevice;
    for (i = 0; !e && i < sizeof known / sizeof *known; i++)
        if (known[i].attr == attr) {
            *value = known[i].value;
            return host_leave(cudaSuccess);
        }
    return host_leave(e ? e : cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    cudaError_t e = host_enter();

    if (!e && !is_device(device))
        e = cudaErrorInvalidDevice;
    if (e)
        return host_leave(e);
    *prop = cudaDeviceProp();
    strcpy(prop->name, "no GPU, its emulator");
    prop->totalGlobalMem = memory;
    prop->sharedMemPerBlock = SHARED_DEFAULT;
    prop->regsPerBlock = prop->regsPerMultiprocessor = 65536;
    prop->warpSize = 32;
    prop->maxThreadsPerBlock = prop->maxThreadsDim[0] = prop->maxThreadsDim[1] = 1024;
    prop->maxThreadsDim[2] = 64;
    prop->maxGridSize[0] = 0x7fffffff;
    prop->maxGridSize[1] = prop->maxGridSize[2] = 65535;
    prop->totalConstMem = 65536;
    prop->major = 9;
    prop->multiProcessorCount = PROCESSORS;
    prop->canMapHostMemory = prop->unifiedAddressing = 1;
    prop->pciBusID = device + 1;
    prop->asyncEngineCount = 3;
    prop->l2CacheSize = 50 << 20;
    prop->maxThreadsPerMultiProcessor = 2048;
    prop->sharedMemPerMultiprocessor = SHARED_MAX + 1024;
    prop->sharedMemPerBlockOptin = SHARED_MAX;
    return host_leave(cudaSuccess);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    cudaError_t e = host_enter();

    *least = 0;
    *greatest = -5;
    return host_leave(e);
}

/* ---- kernels ----------------------------------------------------------------------------------------------------- */

static int shared_room(const void *entry)
{
    int i;

    for (i = 0; i < functions_count; i++)
        if (functions[i].entry == entry)
            return functions[i].shared;
    return SHARED_DEFAULT;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attr, int value)
{
    cudaError_t e = host_enter();
    int i;

    if (e || attr != cudaFuncAttributeMaxDynamicSharedMemorySize)
        return host_leave(e);
    if (value < 0 || value > SHARED_MAX)
        return host_leave(cudaErrorInvalidValue);
    for (i = 0; i < functions_count && functions[i].entry != kernel; i++)
        ;
    if (i == FUNCTIONS_MAX)
        return host_leave(cudaErrorMemoryAllocation);
    functions_count += i == functions_count;
    functions[i].entry = kernel;
    functions[i].shared = value > SHARED_DEFAULT ? value : SHARED_DEFAULT;
    return host_leave(cudaSuccess);
}

/* By threads and dynamic shared memory; registers are unknown here. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads, size_t shared)
{
    cudaError_t e = host_enter();
    size_t by_shared;

    if (!e && (threads <= 0 || threads > 1024))
        e = cudaErrorInvalidValue;
    if (e)
        return host_leave(e);
    *blocks = 2048 / ((threads + 31) / 32 * 32);
    by_shared = (SHARED_MAX + 1024) / (shared + 1024);
    if ((size_t)*blocks > by_shared)
        *blocks = (int)by_shared;
    if (shared > (size_t)shared_room(kernel))
        *blocks = 0;
    return host_leave(cudaSuccess);
}

static cudaError_t launch_check(const struct cuda_host_kernel *k)
{
    const dim3 *b = &k->blocks, *t = &k->threads;

    if (b->x == 0 || b->y == 0 || b->z == 0 || b->x > 0x7fffffff || b->y > 65535 || b->z > 65535)
        return cudaErrorInvalidConfiguration;
    if (t->x == 0 || t->y == 0 || t->z == 0 || t->x > 1024 || t->y > 1024 || t->z > 64 ||
        (uint64_t)t->x * t->y * t->z > 1024)
        return cudaErrorInvalidConfiguration;
    return k->shared > (size_t)shared_room(k->entry) ? cudaErrorInvalidValue : cudaSuccess;
}

void cuda_host_enqueue(struct cuda_host_kernel *k, cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream_find(stream);
    struct op *op;

    if (!e && (!s || s->device != current))
        e = cudaErrorInvalidResourceHandle;
    if (!e)
        e = launch_check(k);
    if (!e && !(op = op_new(OP_KERNEL)))
        e = cudaErrorMemoryAllocation;
    if (e) {
        k->free(k);
        host_leave(e);
        return;
    }
    op->kernel = k;
    host_leave(stream_give(s, op));
}
