/* SPDX-License-Identifier: Apache-2.0
 * The runtime of the emulated device: streams that run when somebody waits, graphs, errors and faults. */
#include "tests/cuda_host/testing.h"

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
    ok(cudaGetLastError());
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

__global__ static void shared_kernel(float *x)
{
    CUDA_SHARED(float, last);

    last += (200 << 10) / sizeof *last - 1;
    *last = 1;
    *x = *last;
}

static void launch__impossible__refused(void **)
{
    float *x = device_new<float>(1);

    CUDA_LAUNCH(add_kernel, 0, 32, 0, NULL, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    CUDA_LAUNCH(add_kernel, 1, 1025, 0, NULL, x, 1.0f);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    CUDA_LAUNCH(shared_kernel, 1, 1, 48 * 1024 + 1, NULL, x);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    ok(cudaFuncSetAttribute(shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10));
    assert_int_equal(cudaFuncSetAttribute(shared_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10),
                     cudaErrorInvalidValue);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidValue);
    CUDA_LAUNCH(shared_kernel, 1, 1, 200 << 10, NULL, x);
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

/* ---- other processes and threads --------------------------------------------------------------------------------- */

/* What the environment says, as another process sees it that runs this program with `what`. */
static int other_process(const char *what)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        execl("/proc/self/exe", "test_runtime", what, (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* 0, or which of its expectations failed. */
static int as_other_process(const char *what)
{
    float *x, *y;
    cudaStream_t stream;
    int devices = 0, device;
    size_t free_bytes, total;

    if (!strcmp(what, "none"))
        return cudaGetDeviceCount(&devices) == cudaErrorNoDevice && devices == 0 ? 0 : 1;
    if (!strcmp(what, "sticky"))
        return cudaGetDeviceCount(&devices) == cudaSuccess && cudaMalloc(&x, 4) == cudaErrorIllegalAddress &&
                       cudaMalloc(&x, 4) == cudaErrorIllegalAddress && cudaSetDevice(1) == cudaSuccess &&
                       cudaMalloc(&x, 4) == cudaSuccess && cudaSetDevice(0) == cudaErrorIllegalAddress
                   ? 0
                   : 2;
    if (cudaGetDeviceCount(&devices) || devices != 2 || cudaMemGetInfo(&free_bytes, &total) || total != 4096)
        return 3;
    if (cudaMalloc(&x, 4096) || cudaMalloc(&y, 4) != cudaErrorMemoryAllocation || cudaStreamCreate(&stream))
        return 4;
    if (cudaSetDevice(2) != cudaErrorInvalidDevice || cudaSetDevice(1) || cudaGetDevice(&device) || device != 1)
        return 5;
    if (cudaMalloc(&y, 4096) || cudaMemcpy(y, x, 4096, cudaMemcpyDeviceToDevice))
        return 6;
    cudaGetLastError();
    CUDA_LAUNCH(add_kernel, 1, 32, 0, stream, y, 1.0f);
    return cudaGetLastError() == cudaErrorInvalidResourceHandle ? 0 : 7;
}

static void environment__another_process__has_what_it_says(void **)
{
    setenv("CUDA_HOST_DEVICES", "0", 1);
    assert_int_equal(other_process("none"), 0);
    setenv("CUDA_HOST_DEVICES", "2", 1);
    setenv("CUDA_HOST_MEMORY", "4096", 1);
    assert_int_equal(other_process("two"), 0);
    setenv("CUDA_HOST_FAIL", "2,sticky", 1);
    assert_int_equal(other_process("sticky"), 0);
    unsetenv("CUDA_HOST_FAIL");
    unsetenv("CUDA_HOST_DEVICES");
    unsetenv("CUDA_HOST_MEMORY");
}

/* Captures, launches and waits, over and over. Returns what it summed. */
static void *advance(void *)
{
    struct lane l;
    int i;

    lane_open(&l);
    for (i = 0; i < 100; i++) {
        cudaGraph_t graph;
        cudaGraphExec_t exec;

        ok(cudaStreamBeginCapture(l.a, cudaStreamCaptureModeThreadLocal));
        CUDA_LAUNCH(add_kernel, 1, 32, 0, l.a, l.device, 1.0f);
        fetch(&l, l.a);
        ok(cudaStreamEndCapture(l.a, &graph));
        ok(cudaGraphInstantiate(&exec, graph));
        ok(cudaGraphDestroy(graph));
        ok(cudaGraphLaunch(exec, l.a));
        ok(cudaEventRecord(l.event, l.a));
        ok(cudaEventSynchronize(l.event));
        assert_true(l.host[31] == (float)(i + 1));
        ok(cudaGraphExecDestroy(exec));
    }
    lane_close(&l);
    return NULL;
}

/* Copies to and fro and allocates, on streams of its own. */
static void *carry(void *)
{
    int i;

    for (i = 0; i < 100; i++) {
        struct lane l;

        lane_open(&l);
        l.host[5] = (float)i;
        ok(cudaMemcpyAsync(l.device, l.host, 32 * sizeof(float), cudaMemcpyHostToDevice, l.b));
        l.host[5] = (float)i + 0.5f;
        CUDA_LAUNCH(add_kernel, 1, 32, 0, l.b, l.device, 2.0f);
        fetch(&l, l.b);
        ok(cudaStreamSynchronize(l.b));
        assert_true(l.host[5] == (float)i + 2.5f);
        lane_close(&l);
    }
    return NULL;
}

static void threads__capture_beside_copies__neither_disturbs_the_other(void **)
{
    pthread_t other;

    assert_int_equal(pthread_create(&other, NULL, carry, NULL), 0);
    advance(NULL);
    pthread_join(other, NULL);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
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
        test(environment__another_process__has_what_it_says),
        test(threads__capture_beside_copies__neither_disturbs_the_other),
    };

    if (argc > 1)
        return as_other_process(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
