/* SPDX-License-Identifier: Apache-2.0
 *
 * The vector types, with the alignment that the toolkit gives them: a float4 that is read where it may not lie is a
 * fault on a device, and one that the undefined-behaviour sanitizer finds here. */
#ifndef CUDA_HOST_VECTORS_H
#define CUDA_HOST_VECTORS_H

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;

    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
    {
    }
    dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
};

#define CUDA_HOST_VECTORS(base, type)                                                                                  \
    struct base##1                                                                                                     \
    {                                                                                                                  \
        type x;                                                                                                        \
    };                                                                                                                 \
    struct alignas(2 * sizeof(type)) base##2                                                                           \
    {                                                                                                                  \
        type x, y;                                                                                                     \
    };                                                                                                                 \
    struct alignas(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) base##4                                              \
    {                                                                                                                  \
        type x, y, z, w;                                                                                               \
    };                                                                                                                 \
    static inline base##1 make_##base##1(type x)                                                                       \
    {                                                                                                                  \
        return base##1 {x};                                                                                            \
    }                                                                                                                  \
    static inline base##2 make_##base##2(type x, type y)                                                               \
    {                                                                                                                  \
        return base##2 {x, y};                                                                                         \
    }                                                                                                                  \
    static inline base##3 make_##base##3(type x, type y, type z)                                                       \
    {                                                                                                                  \
        return base##3 {x, y, z};                                                                                      \
    }                                                                                                                  \
    static inline base##4 make_##base##4(type x, type y, type z, type w)                                               \
    {                                                                                                                  \
        return base##4 {x, y, z, w};                                                                                   \
    }

#define CUDA_HOST_TRIPLE(base, type)                                                                                   \
    struct base##3                                                                                                     \
    {                                                                                                                  \
        type x, y, z;                                                                                                  \
    };

CUDA_HOST_TRIPLE(char, signed char)
CUDA_HOST_TRIPLE(uchar, unsigned char)
CUDA_HOST_TRIPLE(short, short)
CUDA_HOST_TRIPLE(ushort, unsigned short)
CUDA_HOST_TRIPLE(int, int)
CUDA_HOST_TRIPLE(longlong, long long)
CUDA_HOST_TRIPLE(ulonglong, unsigned long long)
CUDA_HOST_TRIPLE(float, float)
CUDA_HOST_TRIPLE(double, double)

CUDA_HOST_VECTORS(char, signed char)
CUDA_HOST_VECTORS(uchar, unsigned char)
CUDA_HOST_VECTORS(short, short)
CUDA_HOST_VECTORS(ushort, unsigned short)
CUDA_HOST_VECTORS(int, int)
CUDA_HOST_VECTORS(uint, unsigned)
CUDA_HOST_VECTORS(longlong, long long)
CUDA_HOST_VECTORS(ulonglong, unsigned long long)
CUDA_HOST_VECTORS(float, float)
CUDA_HOST_VECTORS(double, double)

#endif
