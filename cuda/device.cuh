/* SPDX-License-Identifier: Apache-2.0
 *
 * One GPU, and how its failures are told.
 *
 * Every call of the runtime is checked. Want of memory is the caller's to bear (SSM_NOMEM, nothing has changed);
 * anything else leaves the device failed for good: what runs on it is not trusted any more, and every later call says
 * SSM_DEVICE. Safe from any thread.
 */
#ifndef CUDA_DEVICE_CUH
#define CUDA_DEVICE_CUH

#include <atomic>

#include "cuda/launch.cuh"
#include "ssm/backend.h"

struct ssm_device {
    int number;
    int processors;           /* multiprocessors */
    std::atomic<int> failure; /* the first cudaError_t that was not want of memory; 0 */
    char text[160];
    char failed[320];                /* the same, and what failed */
    std::atomic<const char *> tells; /* one of these */
};

extern "C" {
int cuda_devices_count(uint32_t *devices, struct ssm_error *err);
int cuda_device_open(struct ssm_device **out, uint32_t number, struct ssm_error *err);
void cuda_device_close(struct ssm_device *device);
const char *cuda_device_describe(const struct ssm_device *device);
}

/* The status of a call's result: SSM_OK, SSM_NOMEM, or SSM_DEVICE, and then for good. */
int cuda_check(struct ssm_device *device, cudaError_t result);
/* Makes it failed for good, unless it is already. */
void cuda_fail(struct ssm_device *device, cudaError_t why);
/* SSM_DEVICE when it has failed; makes it the calling thread's device. To be called first by whoever comes from
 * outside. */
int cuda_enter(struct ssm_device *device);
/* Fills err (may be NULL); returns status. */
int cuda_error_set(struct ssm_error *err, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The sentence for a status that cuda_check gave. */
const char *cuda_failure_text(const struct ssm_device *device, int status);

#endif
