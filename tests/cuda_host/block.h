/* SPDX-License-Identifier: Apache-2.0
 *
 * One launch after another, from its first block to its last; see cuda_runtime.h. Under the caller's lock. */
#ifndef CUDA_HOST_BLOCK_H
#define CUDA_HOST_BLOCK_H

#include <stdint.h>

#include "tests/cuda_host/launch.h"

void block_run_all(const struct cuda_host_kernel *k);
void block_seed(uint64_t seed);
/* Launches that ran. */
uint64_t block_launches(void);

#endif
