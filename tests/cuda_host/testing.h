/* SPDX-License-Identifier: Apache-2.0
 * What the tests of the emulated device share. */
#ifndef CUDA_HOST_TESTING_H
#define CUDA_HOST_TESTING_H

#include <pthread.h>
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

static inline void ok(cudaError_t e)
{
    if (e)
        fail_msg("%s", cudaGetErrorString(e));
}

template <typename T> static inline T *device_new(size_t n)
{
    T *p = NULL;

    ok(cudaMalloc(&p, n * sizeof *p));
    return p;
}

template <typename T> static inline void to_host(T *to, const T *from, size_t n)
{
    ok(cudaDeviceSynchronize());
    ok(cudaMemcpy(to, from, n * sizeof *to, cudaMemcpyDeviceToHost));
}

/* Nothing is left by a test. */
static inline int nothing_left(void **)
{
    struct cuda_host_live live;

    cuda_host_live(&live);
    return !!(live.device_blocks + live.host_blocks + live.streams + live.events + live.graphs + live.queued);
}

#define test(name) cmocka_unit_test_teardown(name, nothing_left)

#endif
