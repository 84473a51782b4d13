/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as the image of a state of a model that has rings, float64 and a time-varying layer. The first byte says
 * whether head and checksum are put right, so that what is behind them is met too; what is taken also advances.
 */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "ssm/config.h"
#include "ssm/model.h"
#include "tests/fuzz/fuzz.h"

static const char CONFIG[] =
    "{\"model_type\":\"ssmd\",\"format_version\":1,\"input\":{\"kind\":\"signal\",\"channels\":2,\"sample_rate\":1},"
    "\"output\":{\"kind\":\"signal\",\"channels\":3,\"sample_rate\":1},\"layers\":[{\"type\":\"mean\"},{\"type\":"
    "\"hippo\",\"measure\":\"legs\",\"channels\":2,\"order\":2,\"discretization\":\"bilinear\",\"scaled\":true},{"
    "\"type\":\"rls\",\"targets\":1,\"horizon\":2,\"forgetting\":0.99,\"regularization\":1,\"short\":3,\"long\":9}]}";

/* What makes an image of any bytes be read to its end. */
static void put_right(const struct ssm_model *model, uint8_t *image, size_t size)
{
    uint64_t bytes = size, checksum;
    uint32_t version = 1, zero = 0;
    if (size < 56)
        return;
    memcpy(image, "ssmstate", 8);
    memcpy(image + 8, &version, sizeof(version));
    memcpy(image + 12, &zero, sizeof(zero));
    memcpy(image + 16, &bytes, sizeof(bytes));
    memcpy(image + 24, model->info.fingerprint, SSM_FINGERPRINT_BYTES);
    checksum = XXH3_64bits(image, size - sizeof(checksum));
    memcpy(image + size - sizeof(checksum), &checksum, sizeof(checksum));
}

static void import(struct ssm_program *program, const uint8_t *image, size_t size)
{
    static const float in[2][2] = {{1, 2}, {3, 4}};
    float out[2][3];
    struct ssm_slot slot;
    struct ssm_row row = {.view = SSM_STEP, .frames = 2, .in = in, .out = out[0]};
    if (ssm_slot_acquire(program, &slot))
        return;
    row.slot = slot;
    if (ssm_slot_import(program, slot, image, size, NULL) == SSM_OK && ssm_advance(program, &row, 1))
        abort();
    ssm_slot_release(program, slot);
}

int fuzz_image(const uint8_t *bytes, size_t size)
{
    struct ssm_engine *engine = NULL;
    struct ssm_program *program = NULL;
    struct ssm_model *model = NULL;
    json_t *config = NULL;
    uint8_t *image = size ? malloc(size) : NULL; /* without the first byte, and never empty */
    if (image && ssm_config_parse(&config, CONFIG, sizeof(CONFIG) - 1, "fuzz", NULL) == SSM_OK &&
        ssm_model_build(&model, config, NULL, "fuzz", 0, NULL) == SSM_OK &&
        ssm_engine_new(&engine, NULL, NULL) == SSM_OK && ssm_program_new(&program, engine, model, 1, NULL) == SSM_OK) {
        memcpy(image, bytes + 1, size - 1);
        if (bytes[0] & 1)
            put_right(model, image, size - 1);
        import(program, image, size - 1);
    }
    ssm_program_free(program);
    ssm_engine_free(engine);
    ssm_model_free(model);
    json_decref(config);
    free(image);
    return 0;
}
