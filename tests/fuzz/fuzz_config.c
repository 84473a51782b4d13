/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a config.json without tensors; what builds also advances: two frames, as a step and as a scan.
 */
#include <stdlib.h>

#include "ssm/config.h"
#include "ssm/model.h"
#include "tests/fuzz/fuzz.h"

#define STATE_MAX    ((size_t)1 << 20)
#define CHANNELS_MAX 4096u

static void advance(struct ssm_model *model)
{
    const struct ssm_model_info *info = ssm_model_info(model);
    struct ssm_engine *engine = NULL;
    struct ssm_program *program = NULL;
    struct ssm_slot slot;
    if (info->state_bytes > STATE_MAX || info->in_channels > CHANNELS_MAX || info->out_channels > CHANNELS_MAX)
        return;
    float *in = calloc(2 * (size_t)info->in_channels, sizeof(float));
    float *out = calloc(2 * (size_t)info->out_channels, sizeof(float));
    if (in && out && !ssm_engine_new(&engine, &(struct ssm_engine_options){0}, NULL) &&
        !ssm_program_new(&program, engine, model, 1, NULL) && !ssm_slot_acquire(program, &slot)) {
        struct ssm_row row = {.slot = slot, .view = SSM_STEP, .frames = 2, .in = in, .out = out};
        in[0] = 1;
        if (ssm_advance(program, &row, 1))
            abort();
        row.view = SSM_SCAN;
        if (ssm_advance(program, &row, 1))
            abort();
        ssm_slot_release(program, slot);
    }
    ssm_program_free(program);
    ssm_engine_free(engine);
    free(in);
    free(out);
}

int fuzz_config(const uint8_t *bytes, size_t size)
{
    json_t *config = NULL;
    struct ssm_model *model = NULL;
    struct ssm_error err;
    if (ssm_config_parse(&config, (const char *)bytes, size, "fuzz", &err) == SSM_OK &&
        ssm_model_build(&model, config, NULL, "fuzz", 0, &err) == SSM_OK)
        advance(model);
    json_decref(config);
    ssm_model_free(model);
    return 0;
}
