/* SPDX-License-Identifier: Apache-2.0
 *
 * Data messages per second through the whole daemon with a model that only scales, every result delivered.
 *
 * One peer keeps the window of its streams full for a few seconds; the rate counts results that came back, load
 * generator included in the machine. Twice: messages of one chunk (the cost of a message), and messages of 64 chunks
 * (the cost of a chunk). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "bench/lib/peer.h"
#include "bench/lib/report.h"

#define FRAMES  160 /* of a chunk: 10 ms at 16 kHz */
#define SECONDS 4
#define AHEAD   (48u << 10) /* bytes on the way for one stream */

static void run(void *zmq, const char *endpoint, uint32_t streams, uint32_t chunks)
{
    struct peer peer;
    float samples[FRAMES];
    uint64_t begin, now, messages = 0, warm = 0, warm_results = 0;
    uint32_t at = 0;

    for (int i = 0; i < FRAMES; i++)
        samples[i] = (float)i / FRAMES;
    peer_open(&peer, zmq, endpoint, "throughput-", streams, "scale", 16000, true);
    begin = now = bench_now_ns();
    while (now - begin < (SECONDS + 1) * 1000000000ull) {
        uint32_t sent = 0;

        for (uint32_t i = 0; i < streams / chunks; i++, at = (at + chunks) % streams) {
            if ((peer.stream[at].sent - peer.stream[at].received) * sizeof(float) > AHEAD)
                break;
            peer_send(&peer, at, chunks, FRAMES, samples, 0);
            sent++;
        }
        messages += sent;
        (void)peer_poll(&peer, sent ? 0 : 10);
        now = bench_now_ns();
        if (!warm && now - begin > 1000000000ull) {
            warm = now;
            warm_results = peer.result_frames;
        }
    }
    double chunk_rate = (double)(peer.result_frames - warm_results) / FRAMES / ((double)(now - warm) * 1e-9);
    while (peer_poll(&peer, 1000) > 0)
        ;
    bench_report("throughput",
                 "\"chunks_per_message\": %u, \"streams\": %u, \"frames\": %d, \"messages_per_s\": %.0f, "
                 "\"chunks_per_s\": %.0f, \"results_per_message\": %.3f, \"errors\": %llu",
                 chunks, streams, FRAMES, chunk_rate / chunks, chunk_rate,
                 (double)peer.result_frames / FRAMES / (double)(messages * chunks), (unsigned long long)peer.errors);
    peer_close(&peer);
}

int main(void)
{
    const char *endpoint = getenv("SSMD_ENDPOINT");
    void *zmq = zmq_ctx_new();

    if (!endpoint) {
        fprintf(stderr, "throughput: SSMD_ENDPOINT is not set; run it by `make bench`\n");
        return 64;
    }
    run(zmq, endpoint, 16, 1);
    run(zmq, endpoint, 128, 1);
    run(zmq, endpoint, 256, 64);
    zmq_ctx_term(zmq);
    return 0;
}
