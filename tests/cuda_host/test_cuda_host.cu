// SPDX-License-Identifier: Apache-2.0
// The emulated device itself: threads and barriers, shuffles and votes, deferred streams, graphs, faults.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}

#include "cuda/launch.cuh"
#include "tests/cuda_host/cuda_host.h"

static void ok(cudaError_t e)
{
    if (e)
        fail_msg("%s", cudaGetErrorString(e));
}

template <typename T> static T *device_new(size_t n)
{
    T *p = NULL;

    ok(cudaMalloc(&p, n * sizeof *p));
    return p;
}

template <typename T> static void to_host(T *to, const T *from, size_t n)
{
    ok(cudaDeviceSynchronize());
    ok(cudaMemcpy(to, from, n * sizeof *to, cudaMemcpyDeviceToHost));
}

/* Nothing is left by a test. */
static int nothing_left(void **)
{
    struct cuda_host_live live;

    cuda_host_live(&live);
    return !!(live.device_blocks + live.host_blocks + live.streams + live.events + live.graphs + live.queued);
}

/* Whether the work, in a process of its own, ends it with an error that has these words. */
static void assert_aborts(void (*work)(void), const char *words)
{
    char text[4096] = "";
    size_t n = 0;
    ssize_t got;
    int ends[2], status;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], 2);
        work();
        _exit(0);
    }
    close(ends[1]);
    while (n < sizeof text - 1 && (got = read(ends[0], text + n, sizeof text - 1 - n)) > 0)
        n += (size_t)got;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (!strstr(text, words))
        fail_msg("no \"%s\" in: %s", words, text);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */

__global__ static void count_kernel(uint32_t *seen, uint32_t n)
{
    uint32_t i = ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * blockDim.x * blockDim.y * blockDim.z +
                 (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;

    if (i < n)
        atomicAdd(&seen[i], 1);
}

static void launch__any_grid__each_thread_runs_once(void **)
{
    const dim3 grids[] = {1, 7, dim3(3, 2, 5)}, blocks[] = {1, 33, 1024, dim3(5, 3, 7)};

    for (dim3 grid : grids)
        for (dim3 block : blocks) {
            uint32_t n = grid.x * grid.y * grid.z * block.x * block.y * block.z, i;
            uint32_t *seen = device_new<uint32_t>(n), *host = new uint32_t[n];

            ok(cudaMemset(seen, 0, n * sizeof *seen));
            CUDA_LAUNCH(count_kernel, grid, block, 0, NULL, seen, n);
            ok(cudaGetLastError());
            to_host(host, seen, n);
            for (i = 0; i < n; i++)
                assert_int_equal(host[i], 1);
            delete[] host;
            ok(cudaFree(seen));
        }
}

/* Every value goes through shared memory to the thread that mirrors its own, time after time. */
template <int N> __global__ static void mirror_kernel(float *x, int times)
{
    __shared__ float tile[N];
    CUDA_SHARED(float, other);
    int i = threadIdx.x, t;

    for (t = 0; t < times; t++) {
        tile[i] = x[blockIdx.x * N + i];
        __syncthreads();
        other[i] = tile[N - 1 - i] + 1;
        __syncthreads();
        x[blockIdx.x * N + N - 1 - i] = other[N - 1 - i];
        __syncthreads();
    }
}

static void barrier__shared_memory__values_cross(void **)
{
    float *x = device_new<float>(3 * 100), host[300];
    int i;

    for (i = 0; i < 300; i++)
        host[i] = (float)i;
    ok(cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice));
    CUDA_LAUNCH(mirror_kernel<100>, 3, 100, 100 * sizeof(float), NULL, x, 5);
    to_host(host, x, 300);
    for (i = 0; i < 300; i++)
        assert_true(host[i] == (float)(i / 100 * 100 + 99 - i % 100 + 5));
    ok(cudaFree(x));
}

/* Threads that return are waited for no longer. */
__global__ static void leaving_kernel(uint32_t *counts)
{
    CUDA_SHARED(uint32_t, sum);

    if (threadIdx.x == 0)
        *sum = 0;
    __syncthreads();
    if (threadIdx.x >= 50)
        return;
    atomicAdd(sum, 1);
    __syncthreads();
    if (threadIdx.x == 7)
        counts[0] = *sum;
    counts[1 + threadIdx.x] = (uint32_t)__syncthreads_count(threadIdx.x % 3 == 0);
    counts[51 + threadIdx.x] = (uint32_t)(__syncthreads_and(threadIdx.x < 50) + 2 * __syncthreads_or(threadIdx.x == 9));
}

static void barrier__threads_that_returned__not_waited_for(void **)
{
    uint32_t *counts = device_new<uint32_t>(101), host[101];
    int i;

    CUDA_LAUNCH(leaving_kernel, 1, 97, sizeof(uint32_t), NULL, counts);
    to_host(host, counts, 101);
    assert_int_equal(host[0], 50);
    for (i = 0; i < 50; i++) {
        assert_int_equal(host[1 + i], 17);
        assert_int_equal(host[51 + i], 3);
    }
    ok(cudaFree(counts));
}

/* ---- warps ------------------------------------------------------------------------------------------------------- */

template <typename T> __global__ static void shuffle_kernel(T *out, T first)
{
    T mine = first + (T)threadIdx.x, *at = out + threadIdx.x;
    uint32_t n = blockDim.x;

    at[0 * n] = __shfl_sync(CUDA_LANES, mine, 3);
    at[1 * n] = __shfl_sync(CUDA_LANES, mine, 9, 8);
    at[2 * n] = __shfl_up_sync(CUDA_LANES, mine, 1);
    at[3 * n] = __shfl_up_sync(CUDA_LANES, mine, 2, 4);
    at[4 * n] = __shfl_down_sync(CUDA_LANES, mine, 5);
    at[5 * n] = __shfl_down_sync(CUDA_LANES, mine, 1, 16);
    at[6 * n] = __shfl_xor_sync(CUDA_LANES, mine, 16);
    at[7 * n] = __shfl_xor_sync(CUDA_LANES, mine, 4, 8);
}

template <typename T> static void shuffle_all(T first)
{
    T *out = device_new<T>(8 * 64), host[8 * 64];
    int t;

    CUDA_LAUNCH(shuffle_kernel<T>, 1, 64, 0, NULL, out, first);
    to_host(host, out, 8 * 64);
    for (t = 0; t < 64; t++) {
        int w = t & 32, lane = t & 31;
        int from[8] = {w + 3,
                       (t & ~7) + 1,
                       lane >= 1 ? t - 1 : t,
                       t % 4 >= 2 ? t - 2 : t,
                       lane + 5 < 32 ? t + 5 : t,
                       t % 16 < 15 ? t + 1 : t,
                       t ^ 16,
                       t ^ 4};
        int i;

        for (i = 0; i < 8; i++)
            assert_true(host[i * 64 + t] == first + (T)from[i]);
    }
    ok(cudaFree(out));
}

static void shuffle__all_forms_and_types__lanes_trade(void **)
{
    shuffle_all<float>(0.5f);
    shuffle_all<int>(-7);
    shuffle_all<unsigned>(0xfffffff0);
    shuffle_all<double>(1e100);
    shuffle_all<long long>(-1234567890123ll);
    shuffle_all<unsigned long long>(1234567890123ull);
}

__global__ static void vote_kernel(uint32_t *out)
{
    uint32_t t = threadIdx.x;

    out[t] = __ballot_sync(CUDA_LANES, t % 3 == 0);
    out[64 + t] = (uint32_t)(__any_sync(CUDA_LANES, t == 40) + 2 * __all_sync(CUDA_LANES, t >= 32));
    /* Halves of a warp, each with the mask of its lanes. */
    if (t % 32 < 16)
        out[128 + t] = __ballot_sync(0x0000ffff, t % 2);
    else
        out[128 + t] = __ballot_sync(0xffff0000, t % 4 == 0);
    __syncwarp();
}

static void vote__lanes_and_halves__counted(void **)
{
    uint32_t *out = device_new<uint32_t>(192), host[192], t;

    CUDA_LAUNCH(vote_kernel, 1, 64, 0, NULL, out);
    to_host(host, out, 192);
    for (t = 0; t < 64; t++) {
        assert_int_equal(host[t], t < 32 ? 0x49249249 : 0x92492492);
        assert_int_equal(host[64 + t], t < 32 ? 0 : 3);
        assert_int_equal(host[128 + t], t % 32 < 16 ? 0xaaaa : 0x11110000);
    }
    ok(cudaFree(out));
}

/* ---- what is wrong on any device --------------------------------------------------------------------------------- */

__global__ static void stuck_kernel(int how)
{
    switch (how) {
    case 0: /* half at the block's barrier, half at a warp's */
        if (threadIdx.x < 16)
            __syncthreads();
        else
            __syncwarp();
        break;
    case 1: /* a mask with a lane that returns */
        if (threadIdx.x < 16)
            __syncwarp(0x0001ffff);
        break;
    case 2: /* unlike operations */
        if (threadIdx.x < 16)
            __shfl_xor_sync(CUDA_LANES, 1, 1);
        else
            __any_sync(CUDA_LANES, 1);
        break;
    case 3: /* not in its own mask */
        __syncwarp(0x0000ffff);
        break;
    }
}

template <int how> static void stuck(void)
{
    CUDA_LAUNCH(stuck_kernel, 1, 64, 0, NULL, how);
    cudaDeviceSynchronize();
}

static void barrier__nobody_can_go_on__aborts_with_the_place(void **)
{
    assert_aborts(stuck<0>, "kernel stuck_kernel, block (0, 0, 0), thread (");
    assert_aborts(stuck<0>, "nobody can go on");
    assert_aborts(stuck<1>, "mask");
    assert_aborts(stuck<2>, "unlike operations");
    assert_aborts(stuck<3>, "the mask lacks the lane");
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void memory__new__is_nan_and_counted(void **)
{
    const size_t sizes[] = {4, 260, (1u << 20) + 4, 40u << 20};

    for (size_t bytes : sizes) {
        float *x = device_new<float>(bytes / 4), ends[2];
        size_t before, after, total;
        struct cuda_host_live live;

        assert_int_equal((uintptr_t)x % 256, 0);
        ok(cudaMemcpy(&ends[0], x, 4, cudaMemcpyDeviceToHost));
        ok(cudaMemcpy(&ends[1], x + bytes / 4 - 1, 4, cudaMemcpyDeviceToHost));
        assert_true(isnan(ends[0]) && isnan(ends[1]));
        cuda_host_live(&live);
        assert_int_equal(live.device_blocks, 1);
        assert_int_equal(live.device_bytes, bytes);
        assert_int_equal(cudaMemcpy(ends, x + bytes / 4 - 1, 8, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
        assert_int_equal(cudaMemcpy(ends, x, 4, cudaMemcpyHostToHost), cudaErrorInvalidValue);
        assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
        ok(cudaMemGetInfo(&before, &total));
        ok(cudaFree(x));
        ok(cudaMemGetInfo(&after, &total));
        assert_int_equal(total, 1u << 30);
        assert_int_equal(after - before, (bytes + 255) / 256 * 256);
    }
}

static void memory__more_than_there_is__refused(void **)
{
    void *a, *b;

    cuda_host_memory(1000);
    ok(cudaMalloc(&a, 512));
    assert_int_equal(cudaMalloc(&b, 512), cudaErrorMemoryAllocation);
    assert_null(b);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    ok(cudaGetLastError());
    ok(cudaFree(a));
    cuda_host_memory(1u << 30);
}

#ifdef __SANITIZE_ADDRESS__
template <int N> __global__ static void over_static_kernel(float *x)
{
    __shared__ float tile[N];
    float *p = tile;

    p[threadIdx.x] = 1;
    x[0] = tile[0];
}
__global__ static void over_plain_kernel(float *x)
{
    __shared__ float tile[32];
    float *p = tile;

    p[threadIdx.x] = 1;
    x[0] = tile[0];
}
__global__ static void over_dynamic_kernel(float *x)
{
    CUDA_SHARED(float, tile);

    tile[threadIdx.x] = 1;
    x[0] = tile[0];
}
__global__ static void over_device_kernel(float *x)
{
    x[threadIdx.x] = 1;
}

template <int which> static void over(void)
{
    float *x = device_new<float>(which == 4 ? 1 << 20 | 32 : 32);

    if (which == 0)
        CUDA_LAUNCH(over_static_kernel<32>, 1, 33, 0, NULL, x);
    if (which == 1)
        CUDA_LAUNCH(over_plain_kernel, 1, 33, 0, NULL, x);
    if (which == 2)
        CUDA_LAUNCH(over_dynamic_kernel, 1, 33, 128, NULL, x);
    if (which >= 3)
        CUDA_LAUNCH(over_device_kernel, 1, 33, 0, NULL, which == 4 ? x + (1 << 20) : x);
    cudaDeviceSynchronize();
}

static void memory__one_element_beyond__the_sanitizer_sees(void **)
{
    assert_aborts(over<0>, "test_cuda_host.cu");
    assert_aborts(over<1>, "test_cuda_host.cu");
    assert_aborts(over<2>, "test_cuda_host.cu");
    assert_aborts(over<3>, "test_cuda_host.cu");
    assert_aborts(over<4>, "test_cuda_host.cu");
}
#endif

__global__ static void poison_kernel(float *x)
{
    __shared__ float fixed[4];
    CUDA_SHARED(float, dynamic);

    x[2 * blockIdx.x] = fixed[0];
    x[2 * blockIdx.x + 1] = dynamic[0];
    dynamic[0] = 1;
}

static void shared__not_written__is_nan(void **)
{
    float *x = device_new<float>(6), host[6];

    CUDA_LAUNCH(poison_kernel, 3, 1, 4, NULL, x);
    to_host(host, x, 6);
    for (float f : host)
        assert_true(isnan(f));
    ok(cudaFree(x));
}

/* ---- streams ----------------------------------------------------------------------------------------------------- */

__global__ static void add_kernel(float *x, float by)
{
    x[threadIdx.x] += by;
}

struct lane {
    cudaStream_t a, b;
    cudaEvent_t event;
    float *device, *host; /* (32), pinned */
};

static void lane_open(struct lane *l)
{
    ok(cudaStreamCreateWithFlags(&l->a, cudaStreamNonBlocking));
    ok(cudaStreamCreateWithPriority(&l->b, cudaStreamNonBlocking, -1));
    ok(cudaEventCreateWithFlags(&l->event, cudaEventDisableTiming));
    ok(cudaMalloc(&l->device, 32 * sizeof *l->device));
    ok(cudaMallocHost(&l->host, 32 * sizeof *l->host));
    ok(cudaMemset(l->device, 0, 32 * sizeof *l->device));
    memset(l->host, 0, 32 * sizeof *l->host);
}

static void lane_close(struct lane *l)
{
    ok(cudaStreamDestroy(l->a));
    ok(cudaStreamDestroy(l->b));
    ok(cudaEventDestroy(l->event));
    ok(cudaFree(l->device));
    ok(cudaFreeHost(l->host));
}

static void fetch(struct lane *l, cudaStream_t stream)
{
    ok(cudaMemcpyAsync(l->host, l->device, 32 * sizeof(float), cudaMemcpyDeviceToHost, stream));
}

static void stream__nobody_waits__nothing_happens(void **)
{
    struct lane l;

    lane_open(&l);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
    fetch(&l, l.a);
    ok(cudaStreamSynchronize(l.b));
    assert_true(l.host[31] == 0);
    ok(cudaStreamSynchronize(l.a));
    assert_true(l.host[31] == 1);
    lane_close(&l);
}

static void stream__waits_for_event__only_what_is_before_it(void **)
{
    struct lane l;

    lane_open(&l);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
    ok(cudaEventRecord(l.event, l.a));
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 10.0f);
    ok(cudaStreamWaitEvent(l.b, l.event));
    fetch(&l, l.b);
    ok(cudaStreamSynchronize(l.b));
    assert_true(l.host[0] == 1);
    assert_int_equal(cudaEventQuery(l.event), cudaSuccess);
    assert_int_equal(cudaStreamQuery(l.a), cudaErrorNotReady);
    assert_int_equal(cudaStreamQuery(l.a), cudaSuccess);
    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    fetch(&l, l.b);
    ok(cudaEventRecord(l.event, l.b));
    assert_true(l.host[0] == 1);
    ok(cudaEventSynchronize(l.event));
    assert_true(l.host[0] == 11);
    lane_close(&l);
}

static void stream__destroyed_or_freed_under__work_is_done(void **)
{
    struct lane l;
    float *other;

    lane_open(&l);
    ok(cudaMalloc(&other, 32 * sizeof *other));
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, other, 1.0f);
    ok(cudaFree(other));
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
    fetch(&l, l.a);
    ok(cudaEventRecord(l.event, l.a));
    ok(cudaStreamDestroy(l.a));
    ok(cudaEventSynchronize(l.event));
    assert_true(l.host[0] == 1);
    assert_int_equal(cudaStreamSynchronize(l.a), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidResourceHandle);
    ok(cudaStreamCreateWithFlags(&l.a, cudaStreamNonBlocking));
    lane_close(&l);
}

static void copy__pageable__source_taken_at_the_call(void **)
{
    struct lane l;
    float pageable[32] = {1}, back[32] = {0};

    lane_open(&l);
    ok(cudaMemcpyAsync(l.device, pageable, sizeof pageable, cudaMemcpyHostToDevice, l.a));
    pageable[0] = 2;
    ok(cudaMemcpyAsync(back, l.device, sizeof back, cudaMemcpyDeviceToHost, l.a));
    assert_true(back[0] == 1);
    l.host[0] = 3;
    ok(cudaMemcpyAsync(l.device, l.host, sizeof back, cudaMemcpyHostToDevice, l.a));
    l.host[0] = 4;
    ok(cudaMemcpyAsync(back, l.device, sizeof back, cudaMemcpyDeviceToHost, l.a));
    assert_true(back[0] == 4);
    lane_close(&l);
}

static void stream__blocking__ordered_with_the_legacy_one(void **)
{
    struct lane l;
    cudaStream_t blocking;

    lane_open(&l);
    ok(cudaStreamCreate(&blocking));
    CUDA_LAUNCH(add_kernel, 1, 32, 0, blocking, l.device, 1.0f);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, NULL, l.device, 2.0f);
    fetch(&l, blocking);
    ok(cudaStreamSynchronize(blocking));
    assert_true(l.host[0] == 3);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, blocking, l.device, 4.0f);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 8.0f);
    ok(cudaMemcpy(l.host, l.device, 4, cudaMemcpyDeviceToHost));
    assert_true(l.host[0] == 7);
    ok(cudaStreamDestroy(blocking));
    lane_close(&l);
}

/* ---- graphs ------------------------------------------------------------------------------------------------------ */

static void graph__captured_and_launched__replays(void **)
{
    struct lane l;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    enum cudaStreamCaptureStatus status;
    uint64_t replays = cuda_host_replays();

    lane_open(&l);
    ok(cudaStreamBeginCapture(l.a, cudaStreamCaptureModeThreadLocal));
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
    ok(cudaMemsetAsync(l.device, 0, 4, l.a));
    fetch(&l, l.a);
    ok(cudaStreamIsCapturing(l.a, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    ok(cudaStreamEndCapture(l.a, &graph));
    ok(cudaGraphInstantiate(&exec, graph, 0));
    ok(cudaGraphDestroy(graph));
    ok(cudaDeviceSynchronize());
    assert_true(l.host[1] == 0);
    ok(cudaGraphLaunch(exec, l.a));
    ok(cudaGraphLaunch(exec, l.a));
    assert_true(l.host[1] == 0);
    ok(cudaGraphLaunch(exec, l.a));
    ok(cudaGraphExecDestroy(exec));
    ok(cudaStreamSynchronize(l.a));
    assert_true(l.host[0] == 0 && l.host[1] == 3);
    assert_int_equal(cuda_host_replays() - replays, 3);
    lane_close(&l);
}

static void capture__unsafe_call__invalidates(void **)
{
    const enum cudaStreamCaptureMode modes[] = {cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal};
    struct lane l;
    cudaGraph_t graph;
    void *p;

    lane_open(&l);
    for (enum cudaStreamCaptureMode mode : modes) {
        ok(cudaStreamBeginCapture(l.a, mode));
        assert_int_equal(cudaMalloc(&p, 4), cudaErrorStreamCaptureUnsupported);
        assert_int_equal(cudaMemsetAsync(l.device, 0, 4, l.a), cudaErrorStreamCaptureInvalidated);
        assert_int_equal(cudaStreamEndCapture(l.a, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
    }
    ok(cudaStreamBeginCapture(l.a, cudaStreamCaptureModeRelaxed));
    ok(cudaMalloc(&p, 4));
    assert_int_equal(cudaStreamSynchronize(l.a), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(l.a, &graph), cudaErrorStreamCaptureInvalidated);
    ok(cudaFree(p));
    assert_int_equal(cudaGetLastError(), cudaErrorStreamCaptureInvalidated);
    lane_close(&l);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static void launch__impossible__refused(void **)
{
    float *x = device_new<float>(1);

    CUDA_LAUNCH(add_kernel, 0, 32, 0, NULL, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    CUDA_LAUNCH(add_kernel, 1, 1025, 0, NULL, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    CUDA_LAUNCH(poison_kernel, 1, 1, 48 * 1024 + 1, NULL, x);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    ok(cudaFuncSetAttribute(mirror_kernel<64>, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10));
    assert_int_equal(cudaFuncSetAttribute(mirror_kernel<64>, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    ok(cudaFree(x));
    x = device_new<float>(64);
    CUDA_LAUNCH(mirror_kernel<64>, 1, 64, 200 << 10, NULL, x, 1);
    ok(cudaGetLastError());
    ok(cudaDeviceSynchronize());
    ok(cudaFree(x));
}

static void fault__nth_call__fails_once(void **)
{
    struct lane l;
    uint64_t before;

    lane_open(&l);
    before = cuda_host_calls();
    cuda_host_fail(3, cudaErrorLaunchFailure, false);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
    ok(cudaGetLastError());
    fetch(&l, l.a);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
    assert_int_equal(cuda_host_calls() - before, 3);
    assert_int_equal(cudaGetLastError(), cudaErrorLaunchFailure);
    fetch(&l, l.a);
    ok(cudaStreamSynchronize(l.a));
    assert_true(l.host[0] == 1);
    lane_close(&l);
}

static void fault__sticky__every_later_call_fails(void **)
{
    struct lane l;
    float x;

    lane_open(&l);
    CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
    fetch(&l, l.a);
    cuda_host_fail(1, cudaErrorIllegalAddress, true);
    assert_int_equal(cudaStreamSynchronize(l.a), cudaErrorIllegalAddress);
    assert_int_equal(cudaMemcpy(&x, l.device, 4, cudaMemcpyDeviceToHost), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    assert_int_equal(cudaGetLastError(), cudaErrorIllegalAddress);
    /* What is released is released. */
    assert_int_equal(cudaStreamDestroy(l.a), cudaErrorIllegalAddress);
    assert_int_equal(cudaStreamDestroy(l.b), cudaErrorIllegalAddress);
    assert_int_equal(cudaEventDestroy(l.event), cudaErrorIllegalAddress);
    assert_int_equal(cudaFree(l.device), cudaErrorIllegalAddress);
    assert_true(l.host[0] == 0);
    assert_int_equal(cudaFreeHost(l.host), cudaErrorIllegalAddress);
    cuda_host_fail(0, 0, false);
    ok(cudaGetLastError());
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

static void bfloat16__rounds_to_nearest_even(void **)
{
    const struct {
        uint32_t from;
        uint16_t to;
    } cases[] = {{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81},
                 {0x7f7fffff, 0x7f80}, {0x80000000, 0x8000}, {0x7f800001, 0x7fff}, {0x00018000, 0x0002}};

    assert_int_equal(sizeof(__nv_bfloat16), 2);
    for (auto c : cases) {
        __nv_bfloat16 h = __float2bfloat16(__uint_as_float(c.from));

        assert_int_equal(__bfloat16_as_ushort(h), c.to);
        if (c.to != 0x7fff)
            assert_int_equal(__float_as_uint(__bfloat162float(h)), (uint32_t)c.to << 16);
    }
}

static void arithmetic__bits_and_bounds(void **)
{
    assert_int_equal(__clz(1), 31);
    assert_int_equal(__clz(0), 32);
    assert_int_equal(__ffs(8), 4);
    assert_int_equal(__popc(0xf0f0), 8);
    assert_int_equal(__umulhi(0x80000000, 6), 3);
    assert_int_equal(min(3, 5u), 3);
    assert_int_equal(max(-1, 5u), 0xffffffff);
    assert_true(max(NAN, 2.0f) == 2.0f && min(1.0f, 2.0) == 1.0);
    assert_true(rsqrtf(4.0f) == 0.5f && fmaf(3, 4, 5) == __fmaf_rn(3, 4, 5));
}

#define test(name) cmocka_unit_test_teardown(name, nothing_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(launch__any_grid__each_thread_runs_once),
        test(barrier__shared_memory__values_cross),
        test(barrier__threads_that_returned__not_waited_for),
        test(shuffle__all_forms_and_types__lanes_trade),
        test(vote__lanes_and_halves__counted),
        test(barrier__nobody_can_go_on__aborts_with_the_place),
        test(memory__new__is_nan_and_counted),
        test(memory__more_than_there_is__refused),
#ifdef __SANITIZE_ADDRESS__
        test(memory__one_element_beyond__the_sanitizer_sees),
#endif
        test(shared__not_written__is_nan),
        test(stream__nobody_waits__nothing_happens),
        test(stream__waits_for_event__only_what_is_before_it),
        test(stream__destroyed_or_freed_under__work_is_done),
        test(copy__pageable__source_taken_at_the_call),
        test(stream__blocking__ordered_with_the_legacy_one),
        test(graph__captured_and_launched__replays),
        test(capture__unsafe_call__invalidates),
        test(launch__impossible__refused),
        test(fault__nth_call__fails_once),
        test(fault__sticky__every_later_call_fails),
        test(bfloat16__rounds_to_nearest_even),
        test(arithmetic__bits_and_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
