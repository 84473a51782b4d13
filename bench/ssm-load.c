/* SPDX-License-Identifier: Apache-2.0
 *
 * ssm-load: many streams over many connections, as sensors send them, and what becomes of every result. `--help` is its
 * manual; bench/load has the parts.
 *
 * A worker is a thread with its connections, a heap of the chunks that are due next, and one epoll set. The phases of
 * all streams are spread over their periods, as those of real sensors are. Threads meet twice: when every stream is open,
 * and at the end.
 */
#include "bench/lib/report.h"
#include "bench/load/client.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <zmq.h>

#define SLOW_NS     2000000000u  /* a slow connection reads nothing for so long, then reads for so long */
#define START_NS    100000000u   /* from the last open to the first chunk */
#define DRAIN_NS    60000000000u /* for what is under way at the end */
#define EVENTS      64
#define GOLDEN_PART 0.6180339887498949 /* multiples of it are spread evenly over [0, 1) */

struct due {
    uint64_t at_ns, schedule_ns; /* with jitter and gathering, and without */
    uint32_t client, stream;
};

struct run {
    struct load_options options;
    void *zmq;
    pthread_barrier_t met;
    uint64_t begin_ns, end_ns, drained_ns;
    double cpu_s;
};

struct worker {
    struct run *run;
    pthread_t thread;
    uint32_t number, clients;
    struct load_client *client;
    struct tally tally;
    struct due *heap;
    size_t heap_n;
    bool *is_ready; /* clients that have something to do */
    int epoll_fd, timer_fd;
    uint64_t break_ns; /* when the next connection breaks; UINT64_MAX: never */
    uint64_t random;
};

static void check(bool is_good, const char *what)
{
    if (is_good)
        return;
    fprintf(stderr, "ssm-load: %s\n", what);
    exit(1);
}

/* Uniform in (0, 1]. */
static double random_part(struct worker *w)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return ((double)(w->random >> 11) + 1) * 0x1p-53;
}

/* ---- the schedule ------------------------------------------------------------------------------------------------ */

static void heap_sink(struct worker *w, size_t at)
{
    struct due moving = w->heap[at];

    for (size_t child; (child = 2 * at + 1) < w->heap_n; at = child) {
        child += child + 1 < w->heap_n && w->heap[child + 1].at_ns < w->heap[child].at_ns;
        if (moving.at_ns <= w->heap[child].at_ns)
            break;
        w->heap[at] = w->heap[child];
    }
    w->heap[at] = moving;
}

static void due_set(struct worker *w, struct due *due, uint64_t schedule_ns)
{
    uint64_t gather_ns = (uint64_t)(w->run->options.gather_ms * 1e6), past;
    double phase = fmod((w->number + due->client * (double)w->run->options.threads) * GOLDEN_PART, 1);

    due->schedule_ns = schedule_ns;
    due->at_ns = schedule_ns + (uint64_t)(w->run->options.jitter_ms * 1e6 * random_part(w));
    if (gather_ns > 0) { /* the connection's next time to send */
        past = (due->at_ns - (uint64_t)(phase * (double)gather_ns)) % gather_ns;
        due->at_ns += past ? gather_ns - past : 0;
    }
}

static void schedule_make(struct worker *w)
{
    size_t n = 0;

    for (uint32_t i = 0; i < w->clients; i++)
        n += w->client[i].peer.streams;
    w->heap = calloc(n, sizeof(*w->heap));
    check(w->heap, "no memory");
    for (uint32_t i = 0; i < w->clients; i++) {
        load_client_start(&w->client[i], w->run->begin_ns);
        w->is_ready[i] = true;
        for (uint32_t at = 0; at < w->client[i].peer.streams; at++) {
            const struct load_stream *s = &w->client[i].stream[at];
            struct due *due = &w->heap[w->heap_n];
            double phase = fmod((double)s->number * GOLDEN_PART, 1);

            if (s->period_ns == 0)
                continue;
            due->client = i;
            due->stream = at;
            due_set(w, due, w->run->begin_ns + (uint64_t)(phase * (double)s->period_ns));
            w->heap_n++;
        }
    }
    for (size_t i = w->heap_n / 2; i-- > 0;)
        heap_sink(w, i);
}

/* ---- one turn ---------------------------------------------------------------------------------------------------- */

static void client_watch(struct worker *w, uint32_t at)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = at};
    size_t size = sizeof(int);
    int fd;

    check(zmq_getsockopt(w->client[at].peer.socket, ZMQ_FD, &fd, &size) == 0 &&
              epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0,
          "a socket cannot be watched");
}

static void client_break(struct worker *w, uint32_t at)
{
    size_t size = sizeof(int);
    int fd;

    if (zmq_getsockopt(w->client[at].peer.socket, ZMQ_FD, &fd, &size) == 0)
        (void)epoll_ctl(w->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
    load_client_break(&w->client[at]);
    client_watch(w, at);
    w->is_ready[at] = true;
}

static void dues_take(struct worker *w, uint64_t now)
{
    while (w->heap_n > 0 && w->heap[0].at_ns <= now) {
        struct due *due = &w->heap[0];
        struct load_client *c = &w->client[due->client];

        load_client_owe(c, due->stream, due->at_ns);
        w->is_ready[due->client] = true;
        due_set(w, due, due->schedule_ns + c->stream[due->stream].period_ns);
        heap_sink(w, 0);
    }
}

static void break_plan(struct worker *w, uint64_t now)
{
    double per_s = w->run->options.disconnect / w->run->options.threads;

    w->break_ns = per_s > 0 ? now + (uint64_t)(-log(random_part(w)) / per_s * 1e9) : UINT64_MAX;
}

static void breaks_take(struct worker *w, uint64_t now)
{
    uint32_t at = (uint32_t)(random_part(w) * w->clients) % w->clients;

    if (now < w->break_ns)
        return;
    if (peer_is_open(&w->client[at].peer))
        client_break(w, at);
    break_plan(w, now);
}

static void slow_take(struct worker *w, uint64_t now)
{
    bool paused = ((now - w->run->begin_ns) / SLOW_NS) % 2;

    for (uint32_t i = 0; i < w->clients; i++) {
        struct load_client *c = &w->client[i];

        w->is_ready[i] |= c->is_slow && c->is_paused != paused;
        c->is_paused = c->is_slow && paused;
    }
}

/* Runs the clients that have something to do; whether some have more. */
static bool clients_run(struct worker *w)
{
    uint64_t now = bench_now_ns();
    bool more = false;

    for (uint32_t i = 0; i < w->clients; i++) {
        if (!w->is_ready[i] && now < w->client[i].retry_ns)
            continue;
        w->is_ready[i] = load_client_run(&w->client[i]);
        if (w->client[i].peer.is_forgotten)
            client_break(w, i);
        more |= w->is_ready[i];
    }
    return more;
}

/* Asleep until a message comes, a client has something to send again, or until_ns. */
static void messages_wait(struct worker *w, uint64_t until_ns)
{
    struct itimerspec due = {.it_value = {0, 0}};
    struct epoll_event events[EVENTS];
    uint64_t expired;
    int n;

    for (uint32_t i = 0; i < w->clients; i++)
        until_ns = w->client[i].retry_ns < until_ns ? w->client[i].retry_ns : until_ns;
    due.it_value.tv_sec = (time_t)(until_ns / 1000000000u);
    due.it_value.tv_nsec = (long)(until_ns % 1000000000u);
    timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &due, NULL);
    n = epoll_wait(w->epoll_fd, events, EVENTS, -1);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 < w->clients)
            w->is_ready[events[i].data.u32] = true;
        else if (read(w->timer_fd, &expired, sizeof(expired)) < 0)
            continue; /* set anew in the meantime */
    }
}

/* ---- phases ------------------------------------------------------------------------------------------------------ */

typedef bool (*client_is)(const struct load_client *c);

static bool client_is_open(const struct load_client *c)
{
    return peer_is_open(&c->peer);
}

/* Runs until every client is so, or until_ns: whether they are. */
static bool clients_until(struct worker *w, client_is is, uint64_t until_ns)
{
    for (;;) {
        bool more = clients_run(w), all = true;

        for (uint32_t i = 0; i < w->clients; i++)
            all &= is(&w->client[i]);
        if (all || bench_now_ns() > until_ns)
            return all;
        if (!more)
            messages_wait(w, until_ns);
    }
}

static void load_send(struct worker *w)
{
    uint64_t now = bench_now_ns(), end = w->run->end_ns;

    break_plan(w, now);
    while (now < end) {
        uint64_t until, turn_ns = now > w->run->begin_ns ? SLOW_NS - (now - w->run->begin_ns) % SLOW_NS : SLOW_NS;
        bool more;

        dues_take(w, now);
        breaks_take(w, now);
        if (w->run->options.slow > 0 && now > w->run->begin_ns)
            slow_take(w, now);
        more = clients_run(w);
        until = w->heap_n > 0 && w->heap[0].at_ns < end ? w->heap[0].at_ns : end;
        until = until < w->break_ns ? until : w->break_ns;
        until = until < now + turn_ns ? until : now + turn_ns;
        if (!more)
            messages_wait(w, until);
        now = bench_now_ns();
    }
}

static void clients_open(struct worker *w)
{
    for (uint32_t i = 0; i < w->clients; i++) {
        peer_begin(&w->client[i].peer);
        client_watch(w, i);
        w->is_ready[i] = true;
    }
    check(clients_until(w, client_is_open, bench_now_ns() + DRAIN_NS), "the daemon did not open every stream in time");
}

/* Seconds of processor time that the daemon took so far; 0 when nobody says which process it is. */
static double daemon_cpu_s(void)
{
    const char *pid = getenv("SSMD_PID");
    unsigned long user = 0, system = 0;
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid ? pid : "none");
    file = fopen(path, "r");
    if (file && fscanf(file, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        user = system = 0;
    if (file)
        fclose(file);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void *worker_run(void *argument)
{
    struct worker *w = argument;
    struct run *run = w->run;

    clients_open(w);
    if (pthread_barrier_wait(&run->met) == PTHREAD_BARRIER_SERIAL_THREAD) {
        run->begin_ns = bench_now_ns() + START_NS;
        run->end_ns = run->begin_ns + (uint64_t)(run->options.duration_s * 1e9);
        run->cpu_s = daemon_cpu_s();
    }
    pthread_barrier_wait(&run->met);
    schedule_make(w);
    load_send(w);
    for (uint32_t i = 0; i < w->clients; i++) {
        load_client_stop(&w->client[i]);
        w->is_ready[i] = true;
    }
    if (!clients_until(w, load_client_is_done, bench_now_ns() + DRAIN_NS))
        fprintf(stderr, "ssm-load: not everything was applied within %u s of the end\n",
                (unsigned)(DRAIN_NS / 1000000000u));
    if (pthread_barrier_wait(&run->met) == PTHREAD_BARRIER_SERIAL_THREAD) {
        run->drained_ns = bench_now_ns();
        run->cpu_s = daemon_cpu_s() - run->cpu_s;
    }
    pthread_barrier_wait(&run->met);
    for (uint32_t i = 0; i < w->clients; i++)
        load_client_finish(&w->client[i], run->drained_ns);
    return NULL;
}

/* ---- all of it --------------------------------------------------------------------------------------------------- */

static void worker_init(struct worker *w, struct run *run, uint32_t number)
{
    const struct load_options *o = &run->options;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    uint32_t from = (uint32_t)((uint64_t)o->connections * number / o->threads);
    uint32_t to = (uint32_t)((uint64_t)o->connections * (number + 1) / o->threads);

    w->run = run;
    w->number = number;
    w->random = number + 1;
    w->clients = to - from;
    w->client = calloc(w->clients, sizeof(*w->client));
    w->is_ready = calloc(w->clients, sizeof(*w->is_ready));
    w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    check(w->client && w->is_ready && w->epoll_fd >= 0 && w->timer_fd >= 0 &&
              epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->timer_fd, &event) == 0,
          "no memory");
    for (uint32_t i = 0; i < w->clients; i++) {
        uint64_t first = (uint64_t)o->streams * (from + i) / o->connections;
        uint64_t next = (uint64_t)o->streams * (from + i + 1) / o->connections;

        load_client_init(&w->client[i], o, &w->tally, run->zmq, from + i, first, (uint32_t)(next - first));
    }
}

static void worker_fini(struct worker *w)
{
    for (uint32_t i = 0; i < w->clients; i++)
        load_client_fini(&w->client[i]);
    close(w->epoll_fd);
    close(w->timer_fd);
    free(w->client);
    free(w->is_ready);
    free(w->heap);
}

#define MS(h, q) histogram_ms(&t->h, q)

static void report_json(const struct run *run, const struct tally *t, double seconds)
{
    const struct load_options *o = &run->options;

    bench_report(
        o->name,
        "\"model\": \"%s\", \"streams\": %u, \"connections\": %u, \"threads\": %u, \"gather_ms\": %g, \"seconds\": "
        "%.2f, "
        "\"chunks_per_s\": %.0f, \"frames_per_s\": %.0f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"p999_ms\": %.3f, "
        "\"max_ms\": %.3f, \"results\": %llu, \"misses\": %llu, \"lost\": %llu, \"doubled\": %llu, \"wrong\": %llu, "
        "\"refused\": %llu, \"held\": %llu, \"reconnects\": %llu, \"resent\": %llu, \"recovery_max_ms\": %.3f, "
        "\"late_p50_ms\": %.3f, \"late_p99_ms\": %.3f, \"late_max_ms\": %.3f, \"backfills\": %llu, "
        "\"backfill_speed\": %.1f, \"daemon_cpu_s\": %.2f",
        o->model[0].spec, o->streams, o->connections, o->threads, o->gather_ms, seconds, (double)t->chunks / seconds,
        (double)t->frames / seconds, MS(latency, 0.5), MS(latency, 0.99), MS(latency, 0.999), MS(latency, 1),
        (unsigned long long)t->latency.n, (unsigned long long)t->misses, (unsigned long long)t->lost,
        (unsigned long long)t->doubled, (unsigned long long)t->wrong, (unsigned long long)t->refused,
        (unsigned long long)t->held, (unsigned long long)t->reconnects, (unsigned long long)t->resent, MS(recovery, 1),
        MS(lateness, 0.5), MS(lateness, 0.99), MS(lateness, 1), (unsigned long long)t->backfill_streams,
        t->backfill_streams ? t->backfill_speed / (double)t->backfill_streams : 0, run->cpu_s);
}

static void report_text(const struct run *run, const struct tally *t, double seconds)
{
    printf("%u streams over %u connections, %.2f s: %.0f chunks/s, %.0f frames/s\n", run->options.streams,
           run->options.connections, seconds, (double)t->chunks / seconds, (double)t->frames / seconds);
    printf("latency of %llu results   p50 %.3f  p99 %.3f  p99.9 %.3f  max %.3f ms; %llu missed their deadline\n",
           (unsigned long long)t->latency.n, MS(latency, 0.5), MS(latency, 0.99), MS(latency, 0.999), MS(latency, 1),
           (unsigned long long)t->misses);
    printf("result frames: %llu lost, %llu doubled, %llu values wrong\n", (unsigned long long)t->lost,
           (unsigned long long)t->doubled, (unsigned long long)t->wrong);
    printf("chunks: %llu refused, %llu held by a window or connection, %llu sent again after %llu reconnects\n",
           (unsigned long long)t->refused, (unsigned long long)t->held, (unsigned long long)t->resent,
           (unsigned long long)t->reconnects);
    if (t->recovery.n > 0)
        printf("latency of %llu results of broken or slow connections   p50 %.3f  max %.3f ms\n",
               (unsigned long long)t->recovery.n, MS(recovery, 0.5), MS(recovery, 1));
    printf("this generator was late by   p50 %.3f  p99 %.3f  max %.3f ms\n", MS(lateness, 0.5), MS(lateness, 0.99),
           MS(lateness, 1));
    if (t->backfill_streams > 0)
        printf("%llu streams of backfill: %.1f seconds of signal in a second each; the slowest %.1f\n",
               (unsigned long long)t->backfill_streams, t->backfill_speed / (double)t->backfill_streams,
               t->backfill_least);
    if (getenv("SSMD_PID"))
        printf("the daemon took %.2f s of processor time\n", run->cpu_s);
}

int main(int argc, char **argv)
{
    static struct run run;
    static struct tally sum;
    struct worker *workers;
    char refusal[200] = "";
    double seconds;

    load_options_read(&run.options, argc, argv);
    run.zmq = zmq_ctx_new();
    workers = calloc(run.options.threads, sizeof(*workers));
    check(run.zmq && workers, "no memory");
    check(zmq_ctx_set(run.zmq, ZMQ_MAX_SOCKETS, (int)run.options.connections + 64) == 0 &&
              zmq_ctx_set(run.zmq, ZMQ_IO_THREADS, (int)run.options.threads) == 0 &&
              pthread_barrier_init(&run.met, NULL, run.options.threads) == 0,
          "so many connections or threads cannot be");
    for (uint32_t i = 0; i < run.options.threads; i++)
        worker_init(&workers[i], &run, i);
    for (uint32_t i = 0; i < run.options.threads; i++)
        check(pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]) == 0, "no thread");
    for (uint32_t i = 0; i < run.options.threads; i++)
        pthread_join(workers[i].thread, NULL);
    for (uint32_t i = 0; i < run.options.threads; i++) {
        for (uint32_t k = 0; k < workers[i].clients && !refusal[0]; k++)
            snprintf(refusal, sizeof(refusal), "%s", workers[i].client[k].peer.error);
        worker_fini(&workers[i]);
        tally_add(&sum, &workers[i].tally);
    }
    if (refusal[0])
        fprintf(stderr, "ssm-load: refused: %s\n", refusal);
    seconds = (double)(run.drained_ns - run.begin_ns) * 1e-9;
    if (run.options.json)
        report_json(&run, &sum, seconds);
    else
        report_text(&run, &sum, seconds);
    free(workers);
    zmq_ctx_term(run.zmq);
    return sum.lost + sum.doubled + sum.wrong > 0;
}
