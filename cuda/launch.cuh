/* SPDX-License-Identifier: Apache-2.0
 *
 * The subset of CUDA C++ that kernels here are written in, so that the same source also compiles as plain C++ against
 * tests/cuda_host, where it runs without a GPU and under the sanitizers.
 *
 *   - a kernel is launched by CUDA_LAUNCH, never by <<<>>>, or by CUDA_LAUNCH_SOON, which see;
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

/* The same for a kernel that may begin before the one in front of it in the stream has ended: what a launch costs, and
 * what the kernel asks memory for at first, pass beside the other's last work. All its threads call cuda_wait_turn(),
 * whatever else they do. Before that call a kernel
 *   - writes nothing that others see;
 *   - reads only what the layer was built with; rows and counts, which were there before the tile's first kernel; and
 *     its layer's own part of a row's state, as long as no kernel of that layer in front of it writes there;
 *   - reads what is not of the build by __ldcg, past a cache that may hold what an earlier tile had there.
 * After it, all that was launched in front has ended. What kernels in front wrote is read without __ldg and without a
 * const __restrict__ pointer: those let the compiler move the load to before the call. */
#define CUDA_LAUNCH_SOON(kernel, grid, block, shared, stream, ...)                                                     \
    cuda_launch_soon(kernel, grid, block, shared, stream, __VA_ARGS__)

/* Waits until what was launched in front has ended, and lets the next kernel begin. In this order: when a kernel
 * begins, all but the one right in front of it has ended. */
__device__ static inline void cuda_wait_turn(void)
{
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}

template <typename T> struct cuda_same {
    typedef T type;
};

/* Devices before 9.0 launch it as any other. */
template <typename... P>
static inline void cuda_launch_soon(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                                    typename cuda_same<P>::type... arguments)
{
    int device = 0, major = 0;
    cudaLaunchAttribute soon = {};
    cudaLaunchConfig_t config = {};

    soon.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    soon.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    config.attrs = &soon;
    if (cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess)
        config.numAttrs = major >= 9;
    (void)cudaLaunchKernelEx(&config, kernel, arguments...); /* which cudaGetLastError remembers */
}
#endif /* else: tests/cuda_host/cuda_runtime.h has them */

/* Whole blocks of `size` that hold n. */
static inline uint32_t cuda_blocks(uint64_t n, uint32_t size)
{
    return (uint32_t)((n + size - 1) / size);
}

#endif
