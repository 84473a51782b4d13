/* SPDX-License-Identifier: Apache-2.0
 *
 * A device without a device: what lets cuda/ compile as plain C++ and run on a CPU, under the sanitizers as well.
 *
 * Compiled with -Itests/cuda_host, a .cu finds this file in place of the toolkit's. It holds the subset that cuda/
 * is written in (cuda/launch.cuh says the rules) and no more; what is missing here and needed there is added here.
 *
 *   vectors.h     dim3, float4 and their like, with the alignment that the toolkit gives them
 *   arithmetic.h  intrinsics and what CUDA has beyond <math.h>: by the C library, one rounding where the name says so
 *   thread.h      threadIdx and its like, barriers, shuffles, votes, atomics, cached loads and stores
 *   runtime.h     the runtime calls, signatures as in CUDA 13
 *   launch.h      CUDA_LAUNCH, CUDA_LAUNCH_SOON
 *   races.cpp     threads that touch the same memory with nothing between them, found: make check-races
 *   cuda_host.h   what a test says to the device: make the n-th call fail, count what is left allocated
 *
 * THREADS   of a block are fibers (fiber.h) on the thread of the host that runs the block, in turn. One that meets no
 *           barrier is a plain call; at a barrier its stack is left and another thread goes on. Blocks run one after
 *           another, so that __shared__ is static storage. Each launch takes its blocks and threads forwards or
 *           backwards, and its blocks rotated, by a seed (CUDA_HOST_SEED): nobody is to depend on an order.
 * BARRIERS  are passed when all threads of the block, or all lanes of the mask, that have not returned have come.
 *           Where nobody can go on, or lanes meet with unlike operations, the process ends and says kernel, block and
 *           thread: that is a bug of the kernel, and on a device it would hang or give anything.
 * MEMORY    of the device is the host's, filled with 0xff (NaN) when allocated; so is the launch's shared memory at the
 *           start of each block, and static shared memory at that of each launch, but in templates. Under the address
 *           sanitizer a step beyond either is caught, and so is a pointer of the device that the host looks through.
 * TURNS     Kernels that may begin early begin in their turn here; that all threads of one wait for it, is checked.
 * STREAMS   are queues that run when somebody waits: a synchronisation or a query of the stream, of an event behind
 *           the work, or of the device; a wait of another stream once that one runs; a synchronous copy, for streams
 *           that are not cudaStreamNonBlocking. So a wait that is missing shows as a wrong result. A query that finds
 *           work runs it and says cudaErrorNotReady once. As on a device, copies from pageable host memory take their
 *           source at the call, copies to it end within the call.
 * GRAPHS    record what a stream is given while it captures. Only one stream takes part in a capture.
 * ERRORS    What the runtime refuses for its arguments is refused here where a mistake of ours could cause it: ranges
 *           of copies, sizes of grids and of shared memory, unsafe calls while a stream captures, streams of another
 *           device.
 * ONE LOCK  holds it all; kernels run under it.
 *
 * Environment: CUDA_HOST_DEVICES (1), CUDA_HOST_MEMORY (bytes of each, 16 GiB), CUDA_HOST_FAIL ("n" or "n,sticky": the
 * n-th call fails), CUDA_HOST_SEED (1).
 */
#ifndef CUDA_HOST_CUDA_RUNTIME_H
#define CUDA_HOST_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n)    __attribute__((aligned(n)))
#define __launch_bounds__(...)
/* Its own section, which is filled at the start of each block. The compiler leaves statics of templates out of it. */
#define __shared__ static __attribute__((section("cuda_shared")))

#define CUDA_SHARED(type, name) type *name = reinterpret_cast<type *>(cuda_host_here.shared)
#define CUDA_LAUNCH(kernel, grid, block, shared, stream, ...)                                                          \
    cuda_host_launch(false, #kernel, kernel, grid, block, shared, stream __VA_OPT__(, ) __VA_ARGS__)
#define CUDA_LAUNCH_SOON(kernel, grid, block, shared, stream, ...)                                                     \
    cuda_host_launch(true, #kernel, kernel, grid, block, shared, stream __VA_OPT__(, ) __VA_ARGS__)

#include "tests/cuda_host/vectors.h"
#include "tests/cuda_host/arithmetic.h"
#include "tests/cuda_host/thread.h"
#include "tests/cuda_host/runtime.h"
#include "tests/cuda_host/launch.h"

#endif
