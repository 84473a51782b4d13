/* SPDX-License-Identifier: Apache-2.0
 *
 * libssmclient by itself: opens a stream at the daemon, sends ten seconds of a tone, takes every result, closes the
 * stream. Not a part of the library.
 *
 *     cc example.c $(pkg-config --cflags --libs ssmclient) -lm && ./a.out [ENDPOINT]
 */
#include <math.h>
#include <stdio.h>
#include <ssmclient.h>

#define RATE   100
#define CHUNK  10 /* frames: 100 ms */
#define FRAMES (10 * RATE)

static unsigned results;

/* Takes what has come; 0, or a negative status. */
static int take(struct ssmc_stream *stream)
{
    struct ssmc_result result;
    int rc;

    while ((rc = ssmc_next(stream, &result)) > 0)
        results += result.frames;
    return rc == SSMC_ENDED ? 0 : rc;
}

int main(int argc, char **argv)
{
    const struct ssmc_options options = {.endpoint = argc > 1 ? argv[1] : NULL, .name = "example"};
    const struct ssmc_open_options open = {
        .id = "example", .model = "forecast", .rate = RATE, .channels = 1, .mode = SSMC_CREATE, .results = 1};
    struct ssmc_stream *stream = NULL;
    struct ssmc *client;
    char err[256];
    float chunk[CHUNK];
    int rc;

    if (ssmc_connect(&client, &options, err, sizeof(err)) != 0) {
        fprintf(stderr, "%s\n", err);
        return 1;
    }
    rc = ssmc_open(client, &stream, &open, 5000);
    for (int t = 0; rc == 0 && t < FRAMES; t += CHUNK) {
        for (int i = 0; i < CHUNK; i++)
            chunk[i] = 0.3f * sinf(0.3f * (float)(t + i));
        while ((rc = ssmc_push(stream, SSMC_F32, chunk, CHUNK, 0, 0)) == SSMC_FULL) /* results make room */
            if ((rc = ssmc_poll(client, 1000)) < 0 || (rc = take(stream)) < 0)
                break;
    }
    while (rc == 0 && (rc = ssmc_close(stream, 5000)) == SSMC_FULL)
        rc = take(stream);
    if (rc == 0)
        rc = take(stream);
    if (rc != 0)
        fprintf(stderr, "%s\n", ssmc_error_text(client));
    printf("%d frames sent, %u results\n", FRAMES, results);
    ssmc_stream_free(stream);
    ssmc_free(client);
    return results == FRAMES ? 0 : 1;
}
