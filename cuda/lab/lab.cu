/* SPDX-License-Identifier: Apache-2.0
 * What programs of the lab share; see lab.cuh. */
#include "cuda/lab/lab.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include "bench/lib/report.h"
}

#define REPEATS      200u
#define WARM         5u
#define SECONDS      3.0 /* at most, for one figure */
#define NOISE_FLOATS ((size_t)1 << 22)
#define MEMORIES     64u

static void *memories[MEMORIES];
static uint32_t memories_n;

void lab_check(cudaError_t result, const char *what)
{
    if (result == cudaSuccess)
        return;
    fprintf(stderr, "lab: %s: %s\n", what, cudaGetErrorString(result));
    exit(1);
}

void *lab_memory(size_t bytes)
{
    void *memory = NULL;

    if (memories_n == MEMORIES)
        lab_check(cudaErrorMemoryAllocation, "too many pieces of memory");
    lab_check(cudaMalloc(&memory, bytes ? bytes : 1), "memory");
    lab_check(cudaMemset(memory, 0, bytes), "memory");
    memories[memories_n++] = memory;
    return memory;
}

void lab_forget(void)
{
    while (memories_n > 0)
        lab_check(cudaFree(memories[--memories_n]), "free");
}

/* The same stretch of noise again and again: nothing here looks at its values. */
float *lab_noise(size_t values, float spread)
{
    size_t some = values < NOISE_FLOATS ? values : NOISE_FLOATS;
    float *host = (float *)malloc((some + 1) * sizeof(*host)), *memory = (float *)lab_memory(values * sizeof(*memory));
    uint32_t seed = 12345;

    if (!host)
        exit(1);
    for (size_t i = 0; i < some; i++) {
        seed = seed * 1664525u + 1013904223u;
        host[i] = spread * ((float)(seed >> 8) / 8388608.0f - 1);
    }
    for (size_t at = 0; at < values; at += some)
        lab_check(cudaMemcpy(memory + at, host, (values - at < some ? values - at : some) * sizeof(*host),
                             cudaMemcpyHostToDevice),
                  "noise");
    free(host);
    return memory;
}

double lab_time(struct lab *lab, cudaError_t (*run)(void *work, cudaStream_t stream), void *work)
{
    double ms[REPEATS], all = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < WARM; i++)
        lab_check(run(work, lab->stream), "warm-up");
    while (n < REPEATS && (n < WARM || all < SECONDS * 1e3)) {
        float one = 0;

        lab_check(cudaEventRecord(lab->begin, lab->stream), "event");
        lab_check(run(work, lab->stream), "launch");
        lab_check(cudaEventRecord(lab->end, lab->stream), "event");
        lab_check(cudaEventSynchronize(lab->end), "run");
        lab_check(cudaEventElapsedTime(&one, lab->begin, lab->end), "time");
        all += one;
        ms[n++] = one;
    }
    return bench_quantile(ms, n, 0.5);
}

void lab_report(const struct lab *lab, const char *what, double ms, double bytes)
{
    double rate = bytes / (ms * 1e-3);

    bench_report("cuda-lab", "\"what\": \"%s\", \"ms\": %.4f, \"bytes\": %.0f, \"gb_s\": %.1f, \"of_copy\": %.3f", what,
                 ms, bytes, rate * 1e-9, rate / lab->copy_bytes_per_s);
}

/* ---- the device itself ------------------------------------------------------------------------------------------- */

struct copy {
    void *from, *to;
    size_t bytes;
};

static cudaError_t copy_run(void *work, cudaStream_t stream)
{
    const struct copy *copy = (const struct copy *)work;

    return cudaMemcpyAsync(copy->to, copy->from, copy->bytes, cudaMemcpyDeviceToDevice, stream);
}

static void copy_measure(struct lab *lab, size_t bytes)
{
    struct copy copy = {lab_memory(bytes), lab_memory(bytes), bytes};
    double ms = lab_time(lab, copy_run, &copy), moved = 2.0 * (double)bytes;

    lab->copy_bytes_per_s = moved / (ms * 1e-3);
    lab_report(lab, "copy", ms, moved);
    lab_forget();
}

void lab_open(struct lab *lab, int argc, char **argv, size_t copy_bytes)
{
    struct ssm_error err = {""};

    memset(lab, 0, sizeof(*lab));
    lab->quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
    if (argc > 2 || (argc > 1 && !lab->quick)) {
        fprintf(stderr, "usage: %s [--quick]\n", argv[0]);
        exit(64);
    }
    if (cuda_device_open(&lab->device, 0, &err)) {
        fprintf(stderr, "lab: %s\n", err.text);
        exit(1);
    }
    lab->build.device = lab->device;
    bench_report_device(cuda_device_describe(lab->device));
    lab_check(cudaStreamCreateWithFlags(&lab->stream, cudaStreamNonBlocking), "stream");
    lab_check(cudaEventCreateWithFlags(&lab->begin, cudaEventDefault), "event");
    lab_check(cudaEventCreateWithFlags(&lab->end, cudaEventDefault), "event");
    copy_measure(lab, lab->quick ? 1 << 16 : copy_bytes);
}

void lab_close(struct lab *lab)
{
    cuda_build_fini(&lab->build);
    lab_check(cudaEventDestroy(lab->begin), "close");
    lab_check(cudaEventDestroy(lab->end), "close");
    lab_check(cudaStreamDestroy(lab->stream), "close");
    cuda_device_close(lab->device);
}
