/* SPDX-License-Identifier: Apache-2.0
 *
 * A kernel with the arguments that it was launched with: copied then, as a device does, and again for each thread. */
#ifndef CUDA_HOST_LAUNCH_H
#define CUDA_HOST_LAUNCH_H

#include <tuple>

#include "tests/cuda_host/runtime.h"

struct cuda_host_kernel {
    const char *name;
    const void *entry;
    dim3 blocks, threads;
    size_t shared;
    bool soon;                                        /* all its threads call cuda_wait_turn */
    void (*thread)(const struct cuda_host_kernel *k); /* one thread of it */
    void (*free)(struct cuda_host_kernel *k);
};

template <typename... P> struct cuda_host_bound {
    struct cuda_host_kernel kernel; /* first */
    void (*entry)(P...);
    std::tuple<P...> arguments;
};

template <typename... P> static void cuda_host_bound_thread(const struct cuda_host_kernel *k)
{
    const struct cuda_host_bound<P...> *b = reinterpret_cast<const struct cuda_host_bound<P...> *>(k);

    std::apply(b->entry, b->arguments);
}

template <typename... P> static void cuda_host_bound_free(struct cuda_host_kernel *k)
{
    delete reinterpret_cast<struct cuda_host_bound<P...> *>(k);
}

/* Takes the kernel over. What is wrong shows in cudaGetLastError. */
void cuda_host_enqueue(struct cuda_host_kernel *k, cudaStream_t stream);

template <typename T> struct cuda_host_same {
    typedef T type;
};

/* Arguments convert as in a call: their types are the kernel's. */
template <typename... P>
static inline void cuda_host_launch(bool soon, const char *name, void (*entry)(P...), dim3 blocks, dim3 threads,
                                    size_t shared, cudaStream_t stream, typename cuda_host_same<P>::type... arguments)
{
    struct cuda_host_kernel kernel = {name,
                                      reinterpret_cast<const void *>(entry),
                                      blocks,
                                      threads,
                                      shared,
                                      soon,
                                      cuda_host_bound_thread<P...>,
                                      cuda_host_bound_free<P...>};

    cuda_host_enqueue(&(new cuda_host_bound<P...>{kernel, entry, std::tuple<P...>(arguments...)})->kernel, stream);
}

#endif
