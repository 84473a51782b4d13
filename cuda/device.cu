/* SPDX-License-Identifier: Apache-2.0
 * See device.cuh. */
#include "cuda/device.cuh"

#include <stdarg.h>
#include <stdio.h>

#include <new>

int cuda_error_set(struct ssm_error *err, int status, const char *format, ...)
{
    va_list args;

    if (!err)
        return status;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    return status;
}

void cuda_fail(struct ssm_device *device, cudaError_t why)
{
    int none = cudaSuccess;

    if (!device->failure.compare_exchange_strong(none, (int)why))
        return;
    snprintf(device->failed, sizeof(device->failed), "%s: %s", device->text, cudaGetErrorString(why));
    device->tells.store(device->failed);
}

int cuda_check(struct ssm_device *device, cudaError_t result)
{
    if (result == cudaSuccess)
        return SSM_OK;
    (void)cudaGetLastError(); /* what is not sticky is told once */
    if (result == cudaErrorMemoryAllocation)
        return SSM_NOMEM;
    cuda_fail(device, result);
    return SSM_DEVICE;
}

int cuda_enter(struct ssm_device *device)
{
    if (device->failure.load() != cudaSuccess)
        return SSM_DEVICE;
    return cuda_check(device, cudaSetDevice(device->number));
}

const char *cuda_failure_text(const struct ssm_device *device, int status)
{
    if (status == SSM_NOMEM)
        return "no memory for it on the device or in pinned host memory";
    return cudaGetErrorString((cudaError_t)device->failure.load());
}

int cuda_devices_count(uint32_t *devices, struct ssm_error *err)
{
    int count = 0;
    cudaError_t result = cudaGetDeviceCount(&count);

    *devices = 0;
    if (result != cudaSuccess || count < 1) {
        (void)cudaGetLastError();
        return cuda_error_set(err, SSM_UNSUPPORTED, "no CUDA device: %s",
                              result == cudaSuccess ? "the driver finds none" : cudaGetErrorString(result));
    }
    *devices = (uint32_t)count;
    return SSM_OK;
}

int cuda_device_open(struct ssm_device **out, uint32_t number, struct ssm_error *err)
{
    cudaDeviceProp properties;
    struct ssm_device *device;
    uint32_t count;
    int driver = 0, status = cuda_devices_count(&count, err);

    *out = NULL;
    if (status)
        return status;
    if (number >= count)
        return cuda_error_set(err, SSM_INVAL, "no CUDA device %u: there are %u, counted from 0", number, count);
    device = new (std::nothrow) ssm_device();
    if (!device)
        return cuda_error_set(err, SSM_NOMEM, "no memory for a device");
    device->number = (int)number;
    if ((status = cuda_enter(device)) || (status = cuda_check(device, cudaGetDeviceProperties(&properties, device->number))) ||
        (status = cuda_check(device, cudaDriverGetVersion(&driver)))) {
        cuda_error_set(err, status, "CUDA device %u: %s", number, cuda_failure_text(device, status));
        delete device;
        return status;
    }
    if (properties.major < 8) {
        delete device;
        return cuda_error_set(err, SSM_UNSUPPORTED, "CUDA device %u (%s) has compute capability %d.%d: 8.0 is needed",
                              number, properties.name, properties.major, properties.minor);
    }
    device->processors = properties.multiProcessorCount;
    snprintf(device->text, sizeof(device->text), "%.100s (sm_%d%d), driver %d.%d", properties.name, properties.major,
             properties.minor, driver / 1000, driver % 1000 / 10);
    device->tells.store(device->text);
    *out = device;
    return SSM_OK;
}

void cuda_device_close(struct ssm_device *device)
{
    delete device;
}

const char *cuda_device_describe(const struct ssm_device *device)
{
    return device->tells.load();
}
