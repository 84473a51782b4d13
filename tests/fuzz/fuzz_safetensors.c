/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a safetensors file; of what is accepted, every value is read.
 */
#include <stdlib.h>

#include "ssm/safetensors.h"
#include "tests/fuzz/fuzz.h"

int fuzz_safetensors(const uint8_t *bytes, size_t size)
{
    struct ssm_tensors *set;
    struct ssm_error err;
    if (ssm_tensors_parse(&set, bytes, size, "fuzz", &err))
        return 0;
    for (size_t i = 0; i < ssm_tensors_count(set); i++) {
        struct ssm_tensor *t = ssm_tensors_at(set, i);
        uint64_t where;
        if (ssm_tensors_find(set, t->name) != t || t->elements > size)
            abort(); /* accepted what it must refuse */
        if (t->dtype == SSM_DTYPE_OTHER)
            continue;
        float *values = malloc((t->elements + 1) * sizeof(float));
        if (values && ssm_tensor_widen(t, values, &where) == SSM_NONFINITE && where >= t->elements)
            abort();
        free(values);
    }
    ssm_tensors_close(set);
    return 0;
}
