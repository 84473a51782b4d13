/* SPDX-License-Identifier: Apache-2.0
 *
 * What a test says to the emulated device; see cuda_runtime.h. Plain C: a test that loads the plugin finds these by
 * dlsym. */
#ifndef CUDA_HOST_CUDA_HOST_H
#define CUDA_HOST_CUDA_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CUDA_HOST_API __attribute__((visibility("default")))

/* The n-th call from now fails with `error` and does nothing, but that what it should release is released; 1 is the
 * next. Calls are those of the runtime that can fail, and launches. Sticky: so does every later one on that device, and
 * what was queued there never runs. n = 0: none fails, and devices that failed are well again. */
CUDA_HOST_API void cuda_host_fail(uint64_t n, int error, bool sticky);
/* Such calls so far. */
CUDA_HOST_API uint64_t cuda_host_calls(void);

struct cuda_host_live {
    uint64_t device_blocks, device_bytes; /* memory of all devices */
    uint64_t host_blocks;                 /* pinned */
    uint64_t streams, events, graphs;     /* graphs: and executables */
    uint64_t queued;                      /* operations that have not run */
};
/* What is there now: all zero when everything was given back. */
CUDA_HOST_API void cuda_host_live(struct cuda_host_live *live);

/* Kernels that ran so far, those of graphs as well, and graphs that did. */
CUDA_HOST_API uint64_t cuda_host_kernels(void);
CUDA_HOST_API uint64_t cuda_host_replays(void);

/* Bytes that each device has; what is allocated stays. */
CUDA_HOST_API void cuda_host_memory(uint64_t bytes);
CUDA_HOST_API void cuda_host_seed(uint64_t seed);

#ifdef __cplusplus
}
#endif
#endif
