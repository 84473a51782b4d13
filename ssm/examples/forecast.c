/* SPDX-License-Identifier: Apache-2.0
 *
 * libssm by itself: one stream through the built-in forecaster. Not a part of the library.
 *
 *     cc forecast.c $(pkg-config --cflags --libs ssm) -lm && ./a.out
 */
#include <math.h>
#include <stdio.h>
#include <ssm/ssm.h>

#define RATE   100
#define FRAMES (60 * RATE)

int main(void)
{
    static float in[FRAMES], out[FRAMES * 3]; /* the model answers each sample with prediction, error and score */
    const struct ssm_model_hint hint = {.rate = RATE, .channels = 1};
    struct ssm_model *model = NULL;
    struct ssm_engine *engine = NULL;
    struct ssm_program *program = NULL;
    struct ssm_error err;
    struct ssm_row row = {.view = SSM_STEP, .frames = FRAMES, .in = in, .out = out};
    int rc = 1, peak = 5 * RATE;

    for (int t = 0; t < FRAMES; t++) /* a hum that jumps after 40 s */
        in[t] = 0.3f * sinf(0.3f * (float)t) + (t >= 40 * RATE ? 0.2f : 0.0f);

    if (ssm_model_load(&model, "forecast:horizon=0.05", &hint, &err) != 0 || ssm_engine_new(&engine, NULL, &err) != 0 ||
        ssm_program_new(&program, engine, model, 1, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        goto out;
    }
    if (ssm_slot_acquire(program, &row.slot) != 0 || ssm_advance(program, &row, 1) != 0)
        goto out;
    for (int t = peak; t < (int)row.out_frames; t++)
        if (out[t * 3 + 2] > out[peak * 3 + 2])
            peak = t;
    printf("%u results; the least expected sample came at %.2f s, score %.1f\n", row.out_frames, (double)peak / RATE,
           (double)out[peak * 3 + 2]);
    rc = 0;
out:
    ssm_program_free(program); /* the slot goes with it */
    ssm_engine_free(engine);
    ssm_model_free(model);
    return rc;
}
