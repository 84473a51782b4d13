/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding a device's plugin (ssm/backend.h). It is loaded at run time, so that nothing here needs its toolkit or its
 * driver, and stays loaded until the process ends: drivers do not like to be unloaded. */
#include <dlfcn.h>
#include <stdlib.h>

#include "ssm/engine.h"

int ssm_plugin_load(const char *library, const struct ssm_backend **out, struct ssm_error *err)
{
    const struct ssm_backend *backend;
    const char *path = library && *library ? library : getenv("SSMD_CUDA_LIBRARY");
    void *handle;

    if (!path || !*path)
        path = "libssm-cuda.so";
    handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle)
        return ssm_error_set(err, SSM_UNSUPPORTED, "no device plugin: %s", dlerror());
    backend = dlsym(handle, SSM_BACKEND_SYMBOL);
    if (!backend || backend->version != SSM_BACKEND_VERSION || backend->size != sizeof(*backend)) {
        dlclose(handle);
        return ssm_error_set(err, SSM_UNSUPPORTED, "%s is %s: build both from one source", path,
                             backend ? "a plugin of another version" : "no device plugin");
    }
    *out = backend;
    return SSM_OK;
}
