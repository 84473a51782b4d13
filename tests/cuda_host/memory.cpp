/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory of the devices and pinned memory, copies and fills; see cuda_runtime.h.
 *
 * What is new is 0xff throughout: NaN as float32, float64 and bfloat16. Small pieces come from malloc, so that the
 * address sanitizer sees every step beyond them. Large ones are maps of one file of such bytes, copied when written: a
 * pool that takes all there is costs no time and no memory. They end at a closed page.
 *
 * Under the address sanitizer small pieces of device memory are closed to the host except while operations run.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/cuda_host/inside.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)0)
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)0)
#endif

#define LARGE     ((size_t)1 << 20)
#define PATTERN   ((size_t)16 << 20) /* bytes of the file */
#define ALIGNMENT ((size_t)256)

static struct allocation *allocations; /* by address */
static size_t count, room;
static uint64_t used[DEVICES_MAX];

#ifdef __SANITIZE_ADDRESS__
static bool opened;

static void open_all(bool open)
{
    size_t i;

    for (i = 0; i < count; i++) {
        const struct allocation *a = &allocations[i];

        if (a->device == OF_HOST || a->mapped_bytes > 0)
            continue;
        if (open)
            ASAN_UNPOISON_MEMORY_REGION(a->memory, a->bytes);
        else
            ASAN_POISON_MEMORY_REGION(a->memory, a->bytes);
    }
    opened = open;
}

void memory_open(bool open)
{
    if (opened != open)
        open_all(open);
}
#else
void memory_open(bool)
{
}
#endif

static size_t rounded(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

/* How many begin at or before the address. */
static size_t before(const void *address)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (allocations[mid].memory <= address)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct allocation *memory_find(const void *address)
{
    size_t n = before(address);
    const struct allocation *a = n > 0 ? &allocations[n - 1] : NULL;

    return a && static_cast<const unsigned char *>(address) < a->memory + a->bytes ? a : NULL;
}

void memory_count(uint64_t *device_blocks, uint64_t *device_bytes, uint64_t *host_blocks)
{
    size_t i;

    *device_blocks = *device_bytes = *host_blocks = 0;
    for (i = 0; i < count; i++) {
        if (allocations[i].device == OF_HOST) {
            ++*host_blocks;
        } else {
            ++*device_blocks;
            *device_bytes += allocations[i].bytes;
        }
    }
}

/* ---- new and old ------------------------------------------------------------------------------------------------- */

/* The file of 0xff; -1: none can be had. */
static int pattern(void)
{
    static int file = -1;
    void *p;

    if (file >= 0)
        return file;
    file = memfd_create("cuda_host", MFD_CLOEXEC);
    if (file < 0)
        return -1;
    if (ftruncate(file, (off_t)PATTERN) == 0 &&
        (p = mmap(NULL, PATTERN, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)) != MAP_FAILED) {
        memset(p, 0xff, PATTERN);
        munmap(p, PATTERN);
        return file;
    }
    close(file);
    return file = -1;
}

static bool map_large(struct allocation *a)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = rounded(a->bytes, page), at;
    int file = pattern();

    if (file < 0)
        return false;
    a->mapped_bytes = pages + page;
    a->mapped = static_cast<unsigned char *>(
        mmap(NULL, a->mapped_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (a->mapped == MAP_FAILED)
        return false;
    for (at = 0; at < pages; at += PATTERN) {
        size_t n = pages - at < PATTERN ? pages - at : PATTERN;

        if (mmap(a->mapped + at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file, 0) ==
            MAP_FAILED) {
            munmap(a->mapped, a->mapped_bytes);
            return false;
        }
    }
    a->memory = a->mapped + pages - rounded(a->bytes, ALIGNMENT);
    ASAN_POISON_MEMORY_REGION(a->memory + a->bytes, rounded(a->bytes, ALIGNMENT) - a->bytes);
    return true;
}

static bool take(struct allocation *a)
{
    void *p;

    if (a->bytes >= LARGE && map_large(a))
        return true;
    a->mapped_bytes = 0;
    if (posix_memalign(&p, ALIGNMENT, a->bytes))
        return false;
    memset(p, 0xff, a->bytes);
    a->memory = static_cast<unsigned char *>(p);
    if (a->device != OF_HOST)
        ASAN_POISON_MEMORY_REGION(p, a->bytes);
    return true;
}

static void give(struct allocation *a)
{
    if (a->mapped_bytes > 0) {
        ASAN_UNPOISON_MEMORY_REGION(a->mapped, a->mapped_bytes);
        munmap(a->mapped, a->mapped_bytes);
    } else {
        ASAN_UNPOISON_MEMORY_REGION(a->memory, a->bytes);
        free(a->memory);
    }
}

static cudaError_t allocate(void **out, size_t bytes, int device)
{
    struct allocation a = {NULL, bytes, device, NULL, 0};
    size_t place;

    *out = NULL;
    if (bytes == 0)
        return cudaSuccess;
    if (device != OF_HOST && used[device] + rounded(bytes, ALIGNMENT) > device_memory())
        return cudaErrorMemoryAllocation;
    if (count == room) {
        size_t more = room ? 2 * room : 64;
        void *p = realloc(allocations, more * sizeof *allocations);

        if (!p)
            return cudaErrorMemoryAllocation;
        allocations = static_cast<struct allocation *>(p);
        room = more;
    }
    if (!take(&a))
        return cudaErrorMemoryAllocation;
    place = before(a.memory);
    memmove(&allocations[place + 1], &allocations[place], (count - place) * sizeof *allocations);
    allocations[place] = a;
    count++;
    if (device != OF_HOST)
        used[device] += rounded(bytes, ALIGNMENT);
    *out = a.memory;
    return cudaSuccess;
}

static cudaError_t release(void *memory, bool of_host)
{
    size_t n = before(memory);
    struct allocation a;

    if (!memory)
        return cudaSuccess;
    if (n == 0 || allocations[n - 1].memory != memory || (allocations[n - 1].device == OF_HOST) != of_host)
        return cudaErrorInvalidValue;
    a = allocations[n - 1];
    memmove(&allocations[n - 1], &allocations[n], (count - n) * sizeof *allocations);
    count--;
    if (!of_host)
        used[a.device] -= rounded(a.bytes, ALIGNMENT);
    give(&a);
    return cudaSuccess;
}

/* ---- the calls --------------------------------------------------------------------------------------------------- */

static cudaError_t allocate_call(void **out, size_t bytes, bool of_host)
{
    cudaError_t e = host_enter();

    if (!e)
        e = capture_forbids();
    if (!e)
        e = allocate(out, bytes, of_host ? OF_HOST : device_current());
    return host_leave(e);
}

/* Waits for the device first, as the toolkit's does. */
static cudaError_t release_call(void *memory, bool of_host)
{
    cudaError_t failed = host_enter(), e = capture_forbids();
    int device;

    if (!failed && !e && memory)
        for (device = 0; device < DEVICES_MAX; device++)
            streams_run_all(device);
    if (!e)
        e = release(memory, of_host);
    return host_leave(failed ? failed : e);
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    return allocate_call(out, bytes, false);
}

cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    return allocate_call(out, bytes, true);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned)
{
    return allocate_call(out, bytes, true);
}

cudaError_t cudaFree(void *memory)
{
    return release_call(memory, false);
}

cudaError_t cudaFreeHost(void *memory)
{
    return release_call(memory, true);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    cudaError_t e = host_enter();

    if (e)
        return host_leave(e);
    *total = device_memory();
    *free_bytes = *total > used[device_current()] ? *total - used[device_current()] : 0;
    return host_leave(cudaSuccess);
}

/* Whether `bytes` from the address on lie in one allocation of a device, or of the host. */
static bool lies(const void *address, size_t bytes, bool on_device)
{
    const struct allocation *a = memory_find(address);

    if (!a)
        return !on_device;
    return (a->device != OF_HOST) == on_device &&
           bytes <= (size_t)(a->memory + a->bytes - static_cast<const unsigned char *>(address));
}

static cudaError_t copy_check(const void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    const struct allocation *a = memory_find(to), *b = memory_find(from);
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;

    if (kind == cudaMemcpyDefault) {
        to_device = a && a->device != OF_HOST;
        from_device = b && b->device != OF_HOST;
    } else if ((unsigned)kind > cudaMemcpyDefault) {
        return cudaErrorInvalidMemcpyDirection;
    }
    return lies(to, bytes, to_device) && lies(from, bytes, from_device) ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    cudaError_t e = host_enter();

    if (!e)
        e = capture_forbids();
    if (!e && bytes > 0)
        e = copy_check(to, from, bytes, kind);
    if (e || bytes == 0)
        return host_leave(e);
    streams_run_blocking(device_current());
    memory_open(true);
    memcpy(to, from, bytes);
    return host_leave(cudaSuccess);
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    cudaError_t e = host_enter();

    if (!e)
        e = capture_forbids();
    if (!e && bytes > 0 && !lies(memory, bytes, true))
        e = cudaErrorInvalidValue;
    if (e || bytes == 0)
        return host_leave(e);
    streams_run_blocking(device_current());
    memory_open(true);
    memset(memory, value, bytes);
    return host_leave(cudaSuccess);
}

/* Pageable memory: its bytes are taken at the call, or are there when the call returns. */
static cudaError_t copy_queue(struct CUstream_st *s, void *to, const void *from, size_t bytes)
{
    bool from_pageable = !memory_find(from) && !s->capture, to_pageable = !memory_find(to) && !s->capture;
    struct op *op = op_new(OP_COPY);
    cudaError_t e;

    if (!op)
        return cudaErrorMemoryAllocation;
    op->to = to;
    op->from = from;
    op->bytes = bytes;
    if (from_pageable && !to_pageable) {
        op->staged = malloc(bytes);
        if (!op->staged) {
            op_free(op);
            return cudaErrorMemoryAllocation;
        }
        memcpy(op->staged, from, bytes);
        op->from = op->staged;
    }
    e = stream_give(s, op);
    if (!e && to_pageable)
        stream_run(s, s->given);
    return e;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream_find(stream);

    if (!e && !s)
        e = cudaErrorInvalidResourceHandle;
    if (!e && bytes > 0)
        e = copy_check(to, from, bytes, kind);
    if (!e && bytes > 0)
        e = copy_queue(s, to, from, bytes);
    return host_leave(e);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    cudaError_t e = host_enter();
    struct CUstream_st *s = stream_find(stream);
    struct op *op;

    if (!e && !s)
        e = cudaErrorInvalidResourceHandle;
    if (!e && bytes > 0 && !lies(memory, bytes, true))
        e = cudaErrorInvalidValue;
    if (e || bytes == 0)
        return host_leave(e);
    op = op_new(OP_FILL);
    if (!op)
        return host_leave(cudaErrorMemoryAllocation);
    op->to = memory;
    op->value = value;
    op->bytes = bytes;
    return host_leave(stream_give(s, op));
}
