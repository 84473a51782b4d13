/* SPDX-License-Identifier: Apache-2.0
 *
 * Round trip of one 10 ms chunk (160 frames at 16 kHz), from before its send to after its result, with 1 and 100 live
 * streams, on an idle daemon and while a second peer keeps the workers busy with a model that computes.
 *
 * Every stream sends one chunk each 10 ms at its own phase; the model only scales, so that it takes nothing to speak
 * of. Before it, in the same run, what a bare ZeroMQ echo takes on this machine now. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "bench/lib/peer.h"
#include "bench/lib/report.h"

#define FRAMES    160
#define PERIOD_NS 10000000ull
#define TICKS     500

struct measure {
    double *ns;
    size_t n, capacity;
};

static void result_came(struct peer *peer, uint32_t stream, uint32_t frames, const unsigned char *values)
{
    struct measure *m = peer->context;

    (void)frames;
    (void)values;
    if (m->n < m->capacity)
        m->ns[m->n++] = (double)(bench_now_ns() - (uint64_t)peer->stream[stream].time);
}

static void run(void *zmq, const char *endpoint, uint32_t streams, const char *load)
{
    struct measure m = {.capacity = (size_t)streams * TICKS};
    float samples[FRAMES] = {0.5f};
    struct peer peer;
    uint64_t begin;

    m.ns = calloc(m.capacity, sizeof(*m.ns));
    peer_open(&peer, zmq, endpoint, "roundtrip-", streams, "scale", 16000, true);
    peer.on_result = result_came;
    peer.context = &m;
    begin = bench_now_ns();
    for (uint64_t k = 0; k < (uint64_t)streams * TICKS; k++) {
        peer_wait(&peer, begin + (k + 1) * PERIOD_NS / streams);
        peer_send(&peer, (uint32_t)(k % streams), 1, FRAMES, samples, (int64_t)bench_now_ns());
    }
    while (peer_poll(&peer, 200) > 0)
        ;
    bench_report(
        "roundtrip",
        "\"streams\": %u, \"load\": \"%s\", \"chunks\": %zu, \"p50_ms\": %.4f, \"p99_ms\": %.4f, \"max_ms\": %.4f, "
        "\"missing\": %zu",
        streams, load, m.n, bench_quantile(m.ns, m.n, 0.5) * 1e-6, bench_quantile(m.ns, m.n, 0.99) * 1e-6,
        bench_quantile(m.ns, m.n, 1) * 1e-6, m.capacity - m.n);
    peer_close(&peer);
    free(m.ns);
}

/* ---- what ZeroMQ alone takes here: one echo thread, the same payload, the same pace ------------------------------ */

struct echo {
    void *socket;
    atomic_bool stop;
};

static void *echo_run(void *context)
{
    struct echo *echo = context;
    zmq_pollitem_t item = {.socket = echo->socket, .events = ZMQ_POLLIN};

    while (!atomic_load(&echo->stop)) {
        zmq_msg_t part;

        if (zmq_poll(&item, 1, 100) <= 0)
            continue;
        for (int more = 1; more;) {
            zmq_msg_init(&part);
            if (zmq_msg_recv(&part, echo->socket, 0) < 0)
                return NULL;
            more = zmq_msg_more(&part);
            (void)zmq_msg_send(&part, echo->socket, more ? ZMQ_SNDMORE : 0);
        }
    }
    return NULL;
}

static void floor_run(void *zmq)
{
    const char *dir = getenv("SSMD_DIR");
    void *other = zmq_ctx_new(); /* its own I/O thread, as another process has */
    struct echo echo = {.socket = zmq_socket(other, ZMQ_ROUTER)};
    void *dealer = zmq_socket(zmq, ZMQ_DEALER);
    char endpoint[256], payload[FRAMES * sizeof(float)] = {0};
    double ns[TICKS];
    pthread_t thread;
    uint64_t begin;

    snprintf(endpoint, sizeof(endpoint), "ipc://%s/echo.sock", dir ? dir : "/tmp");
    if (zmq_bind(echo.socket, endpoint) != 0 || zmq_connect(dealer, endpoint) != 0 ||
        pthread_create(&thread, NULL, echo_run, &echo) != 0) {
        fprintf(stderr, "roundtrip: %s: %s\n", endpoint, zmq_strerror(zmq_errno()));
        exit(1);
    }
    begin = bench_now_ns();
    for (int k = 0; k < TICKS; k++) {
        struct timespec due = {.tv_nsec = 0};
        uint64_t at = begin + (uint64_t)(k + 1) * PERIOD_NS, sent;

        due.tv_sec = (time_t)(at / 1000000000u);
        due.tv_nsec = (long)(at % 1000000000u);
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        sent = bench_now_ns();
        (void)zmq_send(dealer, payload, 40, ZMQ_SNDMORE); /* about a header */
        (void)zmq_send(dealer, payload, sizeof(payload), 0);
        (void)zmq_recv(dealer, payload, sizeof(payload), 0);
        (void)zmq_recv(dealer, payload, sizeof(payload), 0);
        ns[k] = (double)(bench_now_ns() - sent);
    }
    bench_report("roundtrip_floor", "\"what\": \"bare ROUTER echo\", \"p50_ms\": %.4f, \"p99_ms\": %.4f",
                 bench_quantile(ns, TICKS, 0.5) * 1e-6, bench_quantile(ns, TICKS, 0.99) * 1e-6);
    atomic_store(&echo.stop, true);
    pthread_join(thread, NULL);
    zmq_close(dealer);
    zmq_close(echo.socket);
    zmq_ctx_term(other);
}

/* ---- beside a load ----------------------------------------------------------------------------------------------- */

struct load {
    void *zmq;
    const char *endpoint;
    atomic_bool stop;
    uint64_t frames;
};

/* Eight streams through the forecaster as fast as it takes them. */
static void *load_run(void *context)
{
    struct load *load = context;
    float samples[2000];
    struct peer peer;

    for (int i = 0; i < 2000; i++)
        samples[i] = (float)(i % 100) / 100;
    peer_open(&peer, load->zmq, load->endpoint, "load-", 8, "forecast", 16000, false);
    while (!atomic_load(&load->stop)) {
        uint32_t sent = 0;

        for (uint32_t i = 0; i < 8; i++)
            for (; (peer.stream[i].sent - peer.stream[i].applied) < 8000; sent++)
                peer_send(&peer, i, 1, 2000, samples, 0);
        (void)peer_poll(&peer, 5);
    }
    for (uint32_t i = 0; i < 8; i++)
        load->frames += peer.stream[i].applied;
    peer_close(&peer);
    return NULL;
}

int main(void)
{
    struct load load = {.endpoint = getenv("SSMD_ENDPOINT")};
    pthread_t thread;
    uint64_t begin;

    if (!load.endpoint) {
        fprintf(stderr, "roundtrip: SSMD_ENDPOINT is not set; run it by `make bench`\n");
        return 64;
    }
    load.zmq = zmq_ctx_new();
    floor_run(load.zmq);
    run(load.zmq, load.endpoint, 1, "none");
    run(load.zmq, load.endpoint, 100, "none");
    begin = bench_now_ns();
    if (pthread_create(&thread, NULL, load_run, &load) != 0)
        return 71;
    run(load.zmq, load.endpoint, 1, "forecast");
    run(load.zmq, load.endpoint, 100, "forecast");
    atomic_store(&load.stop, true);
    pthread_join(thread, NULL);
    bench_report("load", "\"model\": \"forecast\", \"frames_per_s\": %.0f",
                 (double)load.frames / ((double)(bench_now_ns() - begin) * 1e-9));
    zmq_ctx_term(load.zmq);
    return 0;
}
