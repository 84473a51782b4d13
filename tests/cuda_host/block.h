/* SPDX-License-Identifier: Apache-2.0
 *
 * One launch after another, from its first block to its last; see cuda_runtime.h. Under the caller's lock. */
#ifndef CUDA_HOST_BLOCK_H
#define CUDA_HOST_BLOCK_H

#include <stdint.h>

#include "tests/cuda_host/launch.h"

/* Where the thread that runs is, for who looks for races: see races.cpp. */
struct block_now {
    bool runs;
    const char *name;
    uint32_t launch, block, thread;
    uint32_t barriers, warp_barriers[32]; /* that the block has passed, and each of its warps */
    size_t shared;
    const struct fiber *fiber; /* whose stack it is on */
};
extern struct block_now block_now;

void block_run_all(const struct cuda_host_kernel *k);
void block_seed(uint64_t seed);
/* Launches that ran. */
uint64_t block_launches(void);

#endif
