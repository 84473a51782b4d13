/* SPDX-License-Identifier: Apache-2.0
 *
 * The lab: kernels alone, timed on the device that is here by its own events, against what the device itself copies in
 * the same run. Programs here link the product's kernels and are never linked into it; numbered variants that lost are
 * kept beside them with their timings.
 *
 * `--quick` takes sizes that an emulated device can. What goes wrong ends the program: a figure of a failed launch is
 * none.
 */
#ifndef CUDA_LAB_LAB_CUH
#define CUDA_LAB_LAB_CUH

#include "cuda/device.cuh"
#include "cuda/graph.cuh"

struct lab {
    bool quick;
    struct ssm_device *device;
    struct cuda_build build; /* what layers upload */
    cudaStream_t stream;
    cudaEvent_t begin, end;
    double copy_bytes_per_s; /* read and written, of a copy from device to device */
};

void lab_check(cudaError_t result, const char *what);

/* Opens the device and measures a copy of that many bytes. */
void lab_open(struct lab *lab, int argc, char **argv, size_t copy_bytes);
void lab_close(struct lab *lab);

/* Device memory of zeros, or of noise in [-spread, spread); lab_forget frees all that was given since the last. */
void *lab_memory(size_t bytes);
float *lab_noise(size_t values, float spread);
void lab_forget(void);

/* Milliseconds of one run: the median of many, each timed alone, after a warm-up of some. */
double lab_time(struct lab *lab, cudaError_t (*run)(void *work, cudaStream_t stream), void *work);

/* One line: `what` took `ms`, and `bytes` are what must move. */
void lab_report(const struct lab *lab, const char *what, double ms, double bytes);

#endif
