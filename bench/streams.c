/* SPDX-License-Identifier: Apache-2.0
 *
 * 10,000 streams held open: what each costs the daemon in memory besides its state and ring, and how long opening
 * takes.
 *
 * Memory is the daemon's resident set from /proc, before and after, less the states; every stream has then taken one
 * chunk, so nothing is left to be allocated lazily. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "bench/lib/peer.h"
#include "bench/lib/report.h"

#define STREAMS 10000u

static double resident_bytes(const char *pid)
{
    char path[64], line[128];
    double kib = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%s/status", pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "VmRSS: %lf", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

int main(void)
{
    const char *endpoint = getenv("SSMD_ENDPOINT"), *pid = getenv("SSMD_PID");
    void *zmq = zmq_ctx_new();
    float samples[16] = {0};
    struct peer one, peer;
    double before, opened, after;
    uint64_t begin;

    if (!endpoint || !pid) {
        fprintf(stderr, "streams: SSMD_ENDPOINT and SSMD_PID are not set; run it by `make bench`\n");
        return 64;
    }
    peer_open(&one, zmq, endpoint, "first-", 1, "scale", 16000, false);
    before = resident_bytes(pid);
    begin = bench_now_ns();
    peer_open(&peer, zmq, endpoint, "held-", STREAMS, "scale", 16000, false);
    opened = (double)(bench_now_ns() - begin) * 1e-9;
    for (uint32_t i = 0; i < STREAMS; i += 1000)
        peer_send(&peer, i, 1000, 16, samples, 0);
    while (peer_poll(&peer, 500) > 0)
        ;
    after = resident_bytes(pid);
    bench_report("streams",
                 "\"streams\": %u, \"open_s\": %.2f, \"resident_bytes_per_stream\": %.0f, \"stream_bytes\": %llu, "
                 "\"errors\": %llu",
                 STREAMS, opened, (after - before) / STREAMS, (unsigned long long)peer_counter(&one, "stream_bytes"),
                 (unsigned long long)peer.errors);
    peer_close(&peer);
    peer_close(&one);
    zmq_ctx_term(zmq);
    return 0;
}
