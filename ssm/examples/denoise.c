/* SPDX-License-Identifier: Apache-2.0
 * Denoise standard input to standard output with libssm alone: raw float32 at the model's rate, as it comes.
 *
 *     cc denoise.c $(pkg-config --cflags --libs ssm) -lm -o denoise
 *     arecord -q -t raw -f FLOAT_LE -r 16000 -c 1 | ./denoise MODEL-DIRECTORY | aplay -q -t raw -f FLOAT_LE -r 16000 -c 1 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ssm/ssm.h>

enum { CHUNK = 160 };

int main(int argc, char **argv)
{
    struct ssm_model *model;
    struct ssm_engine *engine;
    struct ssm_program *program;
    struct ssm_row row = {.view = SSM_STEP};
    struct ssm_error err = {"usage: denoise MODEL-DIRECTORY <noisy >clean"};

    if (argc != 2 || ssm_model_load(&model, argv[1], NULL, &err) || ssm_engine_new(&engine, NULL, &err) ||
        ssm_program_new(&program, engine, model, 1, &err) || ssm_slot_acquire(program, &row.slot))
        return fprintf(stderr, "%s\n", err.text), 1;
    const struct ssm_model_info *info = ssm_model_info(model);
    size_t frame = info->in_channels * sizeof(float), zeros = info->lookahead;
    float *in = malloc(CHUNK * frame),
          *out = malloc(ssm_out_frames_max(model, CHUNK) * info->out_channels * sizeof(float));
    uint64_t where, read = 0, written = 0;

    for (size_t n; in && out; written += row.out_frames) {
        read += n = fread(in, frame, CHUNK, stdin);
        if (n == 0) { /* the end: as many zeros as the model looks ahead bring the last results */
            memset(in, 0, CHUNK * frame);
            zeros -= n = zeros < CHUNK ? zeros : CHUNK;
        }
        row = (struct ssm_row){.slot = row.slot, .frames = (uint32_t)n, .in = in, .out = out};
        if (n == 0 || ssm_input_check(model, in, n, &where) || ssm_advance(program, &row, 1))
            return n == 0 ? 0 : 1;
        if (written + row.out_frames > ssm_out_frames(model, read) && zeros < info->lookahead)
            row.out_frames = (uint32_t)(ssm_out_frames(model, read) - written);
        if (fwrite(out, info->out_channels * sizeof(float), row.out_frames, stdout) < row.out_frames || fflush(stdout))
            return 1;
    }
    return 1;
}
