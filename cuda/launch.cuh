/* SPDX-License-Identifier: Apache-2.0
 *
 * The subset of CUDA C++ that kernels here are written in, so that the same source also compiles as plain C++ against
 * tests/cuda_host, where it runs without a GPU and under the sanitizers.
 *
 *   - a kernel is launched by CUDA_LAUNCH, never by <<<>>>;
 *   - shared memory: `__shared__` arrays of fixed size, or CUDA_SHARED(type, name) for the launch's dynamic bytes;
 *   - barriers are __syncthreads() and __syncwarp(), passed by all threads of a block, or of a warp, that have not
 *     returned; shuffles and votes are the _sync forms with the mask of all lanes (CUDA_LANES), and all lanes take part;
 *   - no cooperative groups, no textures, no dynamic parallelism, no printf, no inline PTX but beside a C++ twin under
 *     #ifdef __CUDA_ARCH__;
 *   - nothing may depend on the order of blocks, or of threads between barriers.
 */
#ifndef CUDA_LAUNCH_CUH
#define CUDA_LAUNCH_CUH

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#define CUDA_WARP  32u
#define CUDA_LANES 0xffffffffu

#ifdef __CUDACC__
/* kernel, dim3 grid, dim3 block, dynamic shared bytes, stream, then the arguments */
#define CUDA_LAUNCH(kernel, grid, block, shared, stream, ...) (kernel<<<grid, block, shared, stream>>>(__VA_ARGS__))
#define CUDA_SHARED(type, name)                                                                                        \
    extern __shared__ __align__(16) unsigned char cuda_shared_bytes[];                                                 \
    type *name = reinterpret_cast<type *>(cuda_shared_bytes)
#endif /* else: tests/cuda_host/cuda_runtime.h has them */

/* Whole blocks of `size` that hold n. */
static inline uint32_t cuda_blocks(uint64_t n, uint32_t size)
{
    return (uint32_t)((n + size - 1) / size);
}

#endif
