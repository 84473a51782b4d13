/* SPDX-License-Identifier: Apache-2.0
 * Kernels on the emulated device: threads and barriers, shuffles and votes, memory, arithmetic. */
#include "tests/cuda_host/testing.h"

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
    uint32_t i =
        ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * blockDim.x * blockDim.y * blockDim.z +
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

#ifndef __SANITIZE_THREAD__ /* which does not follow a jump from a fiber */
/* Leaves a kernel by a jump, as the handler of a crash does. */
static jmp_buf crash;

__global__ static void crash_kernel(void)
{
    if (blockIdx.x == 0 && threadIdx.x == 5)
        longjmp(crash, 1);
}

static void crash_and_go_on(void)
{
    if (!setjmp(crash)) {
        CUDA_LAUNCH(crash_kernel, 2, 32, 0, NULL);
        cudaDeviceSynchronize();
    }
    cudaDeviceSynchronize();
}

static void crash__caught_by_a_handler__next_call_says_where(void **)
{
    assert_aborts(crash_and_go_on, "kernel crash_kernel, thread 5 of block 0 crashed");
}
#endif

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
        assert_int_equal(total, UINT64_C(16) << 30);
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
    cuda_host_memory(UINT64_C(16) << 30);
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

static void look_through(void)
{
    float *x = device_new<float>(32);

    ok(cudaMemset(x, 0, 32 * sizeof *x));
    x[7] = 1;
}

static void memory__host_looks_through_a_device_pointer__the_sanitizer_sees(void **)
{
    assert_aborts(look_through, "use-after-poison");
}

static void memory__one_element_beyond__the_sanitizer_sees(void **)
{
    assert_aborts(over<0>, "test_kernels.cu");
    assert_aborts(over<1>, "test_kernels.cu");
    assert_aborts(over<2>, "test_kernels.cu");
    assert_aborts(over<3>, "test_kernels.cu");
    assert_aborts(over<4>, "test_kernels.cu");
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

/* ---- races: where `make check-races` runs this ------------------------------------------------------------------- */

__global__ static void race_kernel(int how, float *x, uint32_t *flag)
{
    __shared__ float tile[64];
    CUDA_SHARED(float, dynamic);
    uint32_t t = threadIdx.x;

    switch (how) {
    case 0: /* none: barriers, a warp's own, and one block after another by a fence and an atomic operation */
        tile[t] = (float)t;
        __syncthreads();
        dynamic[t] = tile[t ^ 31];
        __syncwarp();
        tile[t] = dynamic[t ^ 1];
        x[blockIdx.x * 64 + t] = tile[t];
        __syncthreads();
        if (t == 0) {
            __threadfence();
            *dynamic = (float)atomicAdd(flag, 1);
        }
        __syncthreads();
        if (*dynamic == (float)(gridDim.x - 1))
            x[t] += x[(gridDim.x - 1) * 64 + 63 - t];
        break;
    case 1: /* no barrier between write and read */
        tile[t] = 1;
        x[blockIdx.x * 64 + t] = tile[63 - t];
        break;
    case 2: /* nor between read and write: a warp's is too little */
        x[blockIdx.x * 64 + t] = dynamic[63 - t];
        __syncwarp();
        dynamic[t] = 1;
        break;
    case 3: /* blocks write the same */
        x[t] = 1;
        break;
    case 4: /* a shuffle orders no memory */
        tile[t] = __shfl_xor_sync(CUDA_LANES, 1.0f, 1);
        __shfl_xor_sync(CUDA_LANES, 1, 1);
        x[blockIdx.x * 64 + t] = tile[t ^ 1];
        break;
    case 5: /* halves of one word are two places */
        reinterpret_cast<uint16_t *>(dynamic)[t] = (uint16_t)t;
        break;
    }
}

template <int how> static void race(void)
{
    float *x = device_new<float>(3 * 64);
    uint32_t *flag = device_new<uint32_t>(1);

    ok(cudaMemset(flag, 0, sizeof *flag));
    CUDA_LAUNCH(race_kernel, 3, 64, 64 * sizeof(float), NULL, how, x, flag);
    ok(cudaDeviceSynchronize());
    ok(cudaFree(x));
    ok(cudaFree(flag));
}

static void race__nothing_between_two_threads__aborts(void **)
{
    race<0>();
    race<5>();
#ifdef CUDA_HOST_RACES
    assert_aborts(race<1>, "race in kernel race_kernel, on shared memory");
    assert_aborts(race<2>, "race in kernel race_kernel, on shared memory");
    assert_aborts(race<3>, "of 768 of the device");
    assert_aborts(race<4>, "test_kernels.cu");
#endif
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

__global__ static void halve_kernel(float *x)
{
    x[0] *= 0.5f;
}

/* An engine's thread flushes small numbers to zero, a device does not. */
static void arithmetic__host_flushes_small_numbers__kernel_keeps_them(void **)
{
#ifdef __SSE__
    float *x = device_new<float>(1), tiny = 0x1p-126f;
    unsigned before = __builtin_ia32_stmxcsr();

    ok(cudaMemcpy(x, &tiny, sizeof tiny, cudaMemcpyHostToDevice));
    CUDA_LAUNCH(halve_kernel, 1, 1, 0, NULL, x);
    __builtin_ia32_ldmxcsr(before | 0x8040);
    ok(cudaDeviceSynchronize());
    assert_int_equal(__builtin_ia32_stmxcsr() & 0x8040, 0x8040);
    __builtin_ia32_ldmxcsr(before);
    to_host(&tiny, x, 1);
    assert_int_equal(__float_as_uint(tiny), 0x00400000);
    ok(cudaFree(x));
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(launch__any_grid__each_thread_runs_once),
        test(barrier__shared_memory__values_cross),
        test(barrier__threads_that_returned__not_waited_for),
        test(shuffle__all_forms_and_types__lanes_trade),
        test(vote__lanes_and_halves__counted),
#ifndef __SANITIZE_THREAD__
        test(crash__caught_by_a_handler__next_call_says_where),
#endif
        test(barrier__nobody_can_go_on__aborts_with_the_place),
        test(memory__new__is_nan_and_counted),
        test(memory__more_than_there_is__refused),
#ifdef __SANITIZE_ADDRESS__
        test(memory__host_looks_through_a_device_pointer__the_sanitizer_sees),
        test(memory__one_element_beyond__the_sanitizer_sees),
#endif
        test(shared__not_written__is_nan),
        test(race__nothing_between_two_threads__aborts),
        test(bfloat16__rounds_to_nearest_even),
        test(arithmetic__bits_and_bounds),
        test(arithmetic__host_flushes_small_numbers__kernel_keeps_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
