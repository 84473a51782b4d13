/* SPDX-License-Identifier: Apache-2.0
 *
 * What libssm-cuda.so exports: one table (ssm/backend.h), and nothing else. */
#include "cuda/program.cuh"

extern "C" {

static int state_store(struct ssm_device_program *program, int32_t slot, void *states)
{
    int status = cuda_enter(program->device);

    return status ? status : cuda_pool_store(&program->pool, slot, states);
}

static int state_load(struct ssm_device_program *program, int32_t slot, const void *states)
{
    int status = cuda_enter(program->device);

    return status ? status : cuda_pool_load(&program->pool, slot, states);
}

static int state_copy(struct ssm_device_program *program, int32_t from, int32_t to)
{
    int status = cuda_enter(program->device);

    return status ? status : cuda_pool_copy(&program->pool, from, to);
}

static void state_forget(struct ssm_device_program *program, int32_t slot)
{
    cuda_pool_forget(&program->pool, slot);
}

__attribute__((visibility("default"))) extern const struct ssm_backend ssm_backend;

const struct ssm_backend ssm_backend = {
    .version = SSM_BACKEND_VERSION,
    .size = sizeof(struct ssm_backend),
    .count = cuda_devices_count,
    .open = cuda_device_open,
    .close = cuda_device_close,
    .describe = cuda_device_describe,
    .compile = cuda_program_compile,
    .discard = cuda_program_discard,
    .tile = cuda_program_tile,
    .submit = cuda_program_submit,
    .wait = cuda_program_wait,
    .store = state_store,
    .load = state_load,
    .copy = state_copy,
    .forget = state_forget,
};
}
