/* SPDX-License-Identifier: Apache-2.0
 *
 * The tick: wait for sockets, signals, time, engine and loader; take what came; form batches; send what is due.
 *
 * The drain is bounded, so that results leave and batches form while a flood of input arrives. With one or two batches
 * in the engine the rest waits in the streams' queues, and the next batch is as large as what gathered: load makes it
 * efficient.
 */
#include "daemon/loop.h"
#include "daemon/admission.h"
#include "daemon/daemon.h"
#include "daemon/deliver.h"
#include "daemon/failure.h"
#include "daemon/generate.h"
#include "daemon/ingest.h"
#include "daemon/log.h"
#include "daemon/metrics.h"
#include "daemon/notify.h"
#include "daemon/reader.h"
#include "daemon/lock.h"
#include "daemon/sockets.h"
#include "daemon/store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sysexits.h>
#include <unistd.h>
#include <zmq.h>

#define TIMER_MS      100
#define BLOCKED_MS    1    /* between tries to send to a full queue */
#define SWEEP_STREAMS 2000 /* looked at in one period of the timer */

/* Those of the units, and then of the ports, are the last. */
enum { ITEM_SIGNAL, ITEM_TIMER, ITEM_LOADER, ITEM_KEEPER, ITEM_HTTP, ITEM_TAP, ITEM_PUBLISH, ITEM_UNITS };

/* ---- batches ----------------------------------------------------------------------------------------------------- */

/* Rows of the lane into the batch; how many. With none its streams wait for something else. */
static uint32_t batch_form(struct loop *loop, struct batcher *b, struct batch *batch, struct lane *lane)
{
    uint32_t n = batch_fill(b, batch, lane, &loop->rings, loop->conf.result_ring, &loop->counters.rings_full);

    if (n > 0) {
        batch->job = (struct job){.kind = JOB_ADVANCE,
                                  .program = lane->site->program,
                                  .rows = batch->rows,
                                  .n = batch->n,
                                  .copies = batch->copies,
                                  .copies_n = batch->copies_n,
                                  .owner = batch};
        batch->job.after = batch->keeps_pairs ? generate_after : NULL;
        batch->in_flight = true;
        b->in_flight++;
    }
    return n;
}

/* The live lanes that have less to do than handing it over costs, one after another, as long as there is time in the tick.
 * Not while more input waits in the socket: then the loop has enough to do, and batches had better grow. */
static void batches_run_here(struct loop *loop)
{
    struct unit *cpu = units_cpu(&loop->units);
    struct batch *batch = cpu ? &cpu->batcher.batch[BATCH_LOOP] : NULL;
    uint64_t left = BATCH_LOOP_NS, ns;
    struct lane *lane, *next;

    if (loop->has_more || !cpu)
        return;
    for (lane = TAILQ_FIRST(&cpu->batcher.lanes.live); lane; lane = next) {
        next = TAILQ_NEXT(lane, link);
        ns = batch_ready_ns(lane, left);
        if (ns > left || batch_form(loop, &cpu->batcher, batch, lane) == 0)
            continue;
        left -= ns;
        engine_run_beside(&batch->job);
        loop_batch_finish(loop, batch);
    }
}

static void unit_batches_form(struct loop *loop, struct unit *unit)
{
    struct batcher *b = &unit->batcher;

    for (int i = 0; i < BATCHES; i++) {
        struct batch *batch = &b->batch[i];
        struct lane *lane = NULL;

        if (batch->in_flight)
            continue;
        while ((lane = lanes_choose(&b->lanes, loop->now_ns)) != NULL && batch_form(loop, b, batch, lane) == 0)
            continue;
        if (!lane)
            return;
        (void)engine_submit(&unit->engine, &batch->job); /* never full: SPSC_SLOTS */
    }
}

static void batches_form(struct loop *loop)
{
    batches_run_here(loop);
    for (uint32_t i = 0; i < loop->units.n; i++)
        unit_batches_form(loop, &loop->units.of[i]);
}

static void unit_jobs_take(struct loop *loop, struct unit *unit)
{
    struct job *job;

    while ((job = engine_take(&unit->engine)) != NULL) {
        if (job->status == SSM_DEVICE)
            failure_device(loop, unit);
        if (job->kind == JOB_ADVANCE)
            loop_batch_finish(loop, job->owner);
        else
            models_compiled(loop, job);
    }
}

void loop_jobs_take(struct loop *loop)
{
    struct load *load;

    for (uint32_t i = 0; i < loop->units.n; i++)
        unit_jobs_take(loop, &loop->units.of[i]);
    while ((load = loader_take(&loop->loader)) != NULL)
        models_loaded(loop, load);
    states_take(loop);
}

/* ---- time -------------------------------------------------------------------------------------------------------- */

static bool is_caught_up(const struct stream *stream)
{
    const struct outlet *outlet;

    if (stream->head || stream->place != PLACE_NONE || (stream->wants_results && stream->received < stream->ring.hi))
        return false;
    TAILQ_FOREACH(outlet, &stream->outlets, of_stream)
        if (outlet->next < stream->ring.hi)
            return false;
    return true;
}

/* How long ago that was, not counting the time before the loop was there to hear of it. */
static uint64_t since(const struct loop *loop, uint64_t then_ns)
{
    return loop->now_ns - (then_ns > loop->back_ns ? then_ns : loop->back_ns);
}

/* Rings of idle streams are given back; closed streams go when their time has passed. */
static void streams_sweep(struct loop *loop)
{
    uint64_t idle_ns = loop->conf.idle_ms * CLOCK_MS, linger_ns = loop->conf.linger_ms * CLOCK_MS;

    for (uint32_t i = 0; i < SWEEP_STREAMS && i < loop->streams.n; i++) {
        struct stream *stream;

        if (loop->swept >= loop->streams.n)
            loop->swept = 0;
        stream = loop->streams.sorted[loop->swept++];
        admission_sweep(loop, stream);
        evict_check(loop, stream);
        if (stream->is_closed && since(loop, stream->active_ns) > linger_ns) {
            loop->counters.streams_lingered++;
            log_event(LOG_INFO, "stream_lingered", "stream=%.*s unreceived=%llu", stream->id_size, stream->id,
                      (unsigned long long)(stream->ring.hi - stream_keep(stream)));
            loop_stream_remove(loop, stream);
        } else if (stream->ring.capacity && loop->now_ns - stream->active_ns > idle_ns && is_caught_up(stream)) {
            loop->counters.rings_released++;
            ring_release(&stream->ring, &loop->rings);
        }
    }
}

static void conns_sweep(struct loop *loop)
{
    uint64_t idle_ns = loop->conf.idle_ms * CLOCK_MS;
    struct conn *conn;

    TAILQ_FOREACH(conn, &loop->conns.all, of_all) {
        if (since(loop, conn->heard_ns) <= idle_ns)
            continue;
        conn->is_gone = true;
        conn_touch(&loop->conns, conn);
    }
}

/* Whether everything accepted is applied, and everything computed was sent to writers that are there. */
static bool is_drained(const struct loop *loop)
{
    if (!units_are_idle(&loop->units) || states_are_busy(&loop->states) || !TAILQ_EMPTY(&loop->settling) ||
        !deliver_is_idle(loop))
        return false;
    for (uint32_t i = 0; i < loop->streams.n; i++) {
        const struct stream *s = loop->streams.sorted[i];
        bool is_hopeless =
            s->place == PLACE_STALLED && !s->outlet; /* its ring is full and nobody is there to take it */

        if ((generate_is_ready(s) && !is_hopeless) || (s->outlet && s->outlet->next < s->ring.hi))
            return false;
    }
    return true;
}

static void timer_take(struct loop *loop)
{
    uint64_t expired;

    if (read(loop->timer_fd, &expired, sizeof(expired)) < 0)
        return;
    sockets_watch(loop);
    /* A process that was stopped, or starved, finds the time gone, and what was said meanwhile still in the sockets. */
    if (expired * TIMER_MS > loop->conf.idle_ms / 2)
        loop->back_ns = loop->now_ns;
    streams_sweep(loop);
    if (!loop->has_more) /* else what the silent said may wait in the socket */
        conns_sweep(loop);
    for (uint32_t i = 0; i < loop->units.n; i++)
        batcher_retry(&loop->units.of[i].batcher);
    versions_sweep(loop);
    if (loop->drain_ns && (is_drained(loop) || loop->now_ns - loop->drain_ns > loop->conf.drain_ms * CLOCK_MS))
        loop->is_over = true;
}

/* ---- signals ----------------------------------------------------------------------------------------------------- */

static void report_log(int priority, const char *event, struct conf_report *report)
{
    char *rest = report->text, *line;

    while (report->lines > 0 && (line = strsep(&rest, "\n")) != NULL)
        log_event(priority, event, "what=%s", line);
}

static void reload(struct loop *loop)
{
    static struct conf_report applied, refused; /* large; the loop is one thread */
    static struct conf next;

    if (conf_load(&next, loop->config_path, &refused) != 0) {
        report_log(LOG_ERR, "reload_refused", &refused);
        return;
    }
    conf_reload(&loop->conf, &next, &applied, &refused);
    log_set_level(log_level_find(loop->conf.log_level));
    loop->input.limit = loop->conf.input_memory;
    loop->rings.limit = loop->conf.ring_memory;
    loop->tap.limit = loop->conf.tap_subscriptions;
    models_configure(loop);
    publish_configure(loop);
    versions_reload(loop, NULL, 0, NULL);
    (void)sockets_limit(loop);
    report_log(LOG_NOTICE, "reload_applied", &applied);
    report_log(LOG_WARNING, "reload_needs_restart", &refused);
    log_event(LOG_NOTICE, "reloaded", "applied=%u refused=%u", applied.lines, refused.lines);
}

void loop_drain(struct loop *loop, const char *reason)
{
    if (loop->drain_ns)
        return;
    loop->drain_ns = loop->now_ns;
    http_phase_set(&loop->http, HTTP_DRAINING);
    notify_send("STOPPING=1\nSTATUS=finishing what was accepted");
    log_event(LOG_NOTICE, "draining", "reason=%s streams=%u limit_ms=%u", reason, loop->streams.n, loop->conf.drain_ms);
}

static void signals_take(struct loop *loop)
{
    struct signalfd_siginfo info;

    while (read(loop->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            reload(loop);
        } else if (loop->drain_ns) {
            log_event(LOG_WARNING, "stopping_fast", "streams=%u", loop->streams.n);
            loop->is_over = loop->is_hurried = true;
        } else {
            loop_drain(loop, info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
        }
    }
}

/* ---- the tick ---------------------------------------------------------------------------------------------------- */

static long timeout_find(struct loop *loop)
{
    bool asleep = units_sleep(&loop->units);

    asleep = spsc_sleep(&loop->loader.done) && asleep;
    asleep = spsc_sleep(&loop->states.keeper.done) && asleep;
    asleep = ports_sleep(&loop->ports) && asleep;
    if (!asleep || loop->has_more)
        return 0;
    return loop->has_blocked || !TAILQ_EMPTY(&loop->settling) ? BLOCKED_MS : -1;
}

static int tick(struct loop *loop, zmq_pollitem_t *items, int n)
{
    if (zmq_poll(items, n, timeout_find(loop)) < 0 && errno != EINTR)
        return -1;
    units_awake(&loop->units, &items[ITEM_UNITS]);
    spsc_awake(&loop->loader.done, items[ITEM_LOADER].revents != 0);
    spsc_awake(&loop->states.keeper.done, items[ITEM_KEEPER].revents != 0);
    loop->now_ns = loop->rings.now_ns = clock_now_ns();
    for (uint32_t i = 0; i < loop->units.n; i++)
        loop->units.of[i].batcher.now_ns = loop->now_ns;
    loop->has_more = false;
    if (items[ITEM_SIGNAL].revents)
        signals_take(loop);
    if (items[ITEM_HTTP].revents)
        http_answer(loop);
    if (items[ITEM_TAP].revents)
        loop->has_more |= tap_drain(&loop->tap);
    if (ports_awake(&loop->ports, &items[ITEM_UNITS + loop->units.n]))
        loop->has_more |= ingest_drain(loop);
    if (items[ITEM_PUBLISH].revents)
        loop->has_more |= publish_drain(loop);
    if (items[ITEM_TIMER].revents)
        timer_take(loop);
    loop_jobs_take(loop);
    batches_form(loop);
    deliver_flush(loop);
    if (!TAILQ_EMPTY(&loop->settling)) {
        loop_settle(loop);
        batches_form(loop);
        deliver_flush(loop);
    }
    return 0;
}

static int loop_run(struct loop *loop)
{
    zmq_pollitem_t items[ITEM_UNITS + UNITS_MAX + PORTS_MAX] = {
        [ITEM_SIGNAL] = {NULL, loop->signal_fd, ZMQ_POLLIN, 0},
        [ITEM_TIMER] = {NULL, loop->timer_fd, ZMQ_POLLIN, 0},
        [ITEM_LOADER] = {NULL, loop->loader.done.fd, ZMQ_POLLIN, 0},
        [ITEM_KEEPER] = {NULL, loop->states.keeper.done.fd, ZMQ_POLLIN, 0},
        [ITEM_HTTP] = {NULL, loop->http.wake_fd, ZMQ_POLLIN, 0}, /* -1 when it is off: passed over */
        [ITEM_TAP] = {loop->tap.socket, -1, ZMQ_POLLIN, 0},      /* likewise without a socket */
        [ITEM_PUBLISH] = {loop->publish.socket, -1, ZMQ_POLLIN, 0},
    };
    int n = ITEM_UNITS + (int)(loop->units.n + loop->ports.n);

    units_items(&loop->units, &items[ITEM_UNITS]);
    ports_items(&loop->ports, &items[ITEM_UNITS + loop->units.n]);
    while (!loop->is_over) {
        if (tick(loop, items, n) != 0) {
            log_event(LOG_ERR, "poll_failed", "error=%s", zmq_strerror(errno));
            return EX_OSERR;
        }
    }
    return loop->exit_code;
}

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

static int timers_open(struct loop *loop)
{
    struct itimerspec every = {{0, TIMER_MS * 1000000L}, {0, TIMER_MS * 1000000L}};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0)
        return -1;
    signal(SIGPIPE, SIG_IGN);
    loop->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->signal_fd < 0 || loop->timer_fd < 0)
        return -1;
    return timerfd_settime(loop->timer_fd, 0, &every, NULL);
}

static int loop_init(struct loop *loop)
{
    const struct conf *conf = &loop->conf;

    loop->http.wake_fd = loop->http.done_fd = -1;
    loop->signal_fd = loop->timer_fd = loop->store_fd = loop->store_lock = -1;
    loop->now_ns = clock_now_ns();
    loop->tap.counters = &loop->counters;
    metrics_init(&loop->histograms);
    loop->tap.limit = conf->tap_subscriptions;
    loop->rings.limit = conf->ring_memory;
    TAILQ_INIT(&loop->settling);
    proto_arena_init(&loop->arena);
    input_init(&loop->input, conf->input_memory);
    policy_classes_init(&loop->classes, conf);
    streams_init(&loop->streams);
    evict_init(&loop->evict);
    publish_init(&loop->publish);
    publish_configure(loop);
    loop->deliver = deliver_new();
    if (!loop->deliver || getrandom(loop->incarnation, sizeof(loop->incarnation), 0) != sizeof(loop->incarnation) ||
        conns_init(&loop->conns) != 0 || models_init(&loop->models) != 0 || timers_open(loop) != 0) {
        log_event(LOG_ERR, "start_failed", "error=%s", strerror(errno));
        return EX_OSERR;
    }
    return EX_OK;
}

static int threads_start(struct loop *loop)
{
    int status = units_start(&loop->units, &loop->conf);

    if (status == EX_OK && (worker_start(&loop->loader) != 0 || states_start(&loop->states) != 0)) {
        log_event(LOG_ERR, "start_failed", "error=%s", strerror(errno));
        units_stop(&loop->units);
        status = EX_OSERR;
    }
    return status;
}

static void going_away(struct loop *loop)
{
    Ssmd__FromDaemon message = SSMD__FROM_DAEMON__INIT;
    Ssmd__GoingAway going = SSMD__GOING_AWAY__INIT;
    struct conn *conn;

    going.reason = (char *)"the daemon is stopping";
    going.has_reconnect_ms = true;
    going.reconnect_ms = 1000;
    message.message_case = SSMD__FROM_DAEMON__MESSAGE_GOING_AWAY;
    message.going_away = &going;
    TAILQ_FOREACH(conn, &loop->conns.all, of_all)
        deliver_message(loop, conn, &message.base);
}

static void loop_fini(struct loop *loop)
{
    struct conn *conn;

    while ((conn = TAILQ_FIRST(&loop->conns.all)) != NULL)
        loop_conn_forget(loop, conn);
    while (loop->streams.n > 0)
        loop_stream_remove(loop, loop->streams.sorted[loop->streams.n - 1]);
    http_close(&loop->http);
    sockets_close(loop);
    publish_fini(loop);
    evict_fini(&loop->evict);
    units_fini(&loop->units, &loop->input);
    models_fini(&loop->models);
    streams_fini(&loop->streams);
    conns_fini(&loop->conns);
    input_fini(&loop->input);
    proto_arena_fini(&loop->arena);
    deliver_free(loop->deliver);
    states_fini(&loop->states);
    worker_fini(&loop->loader);
    if (loop->signal_fd >= 0)
        close(loop->signal_fd);
    if (loop->timer_fd >= 0)
        close(loop->timer_fd);
    if (loop->store_fd >= 0)
        close(loop->store_fd);
    lock_release(loop->store_lock);
}

static bool engines_are_busy(const struct loop *loop)
{
    const struct model *model;

    TAILQ_FOREACH(model, &loop->models.all, of_all)
        if (model->state == MODEL_COMPILING || model->state == MODEL_DROPPING)
            return true;
    return units_are_busy(&loop->units);
}

/* The engines' threads must be alive for programs to be freed in them. */
static void threads_stop(struct loop *loop)
{
    struct model *model;

    worker_stop(&loop->loader);
    loop_jobs_take(loop);
    while (engines_are_busy(loop) || loop->states.in_keeper > 0) {
        usleep(200);
        loop_jobs_take(loop);
    }
    states_stop(&loop->states);
    store_save(loop);
    while (loop->streams.n > 0)
        loop_stream_remove(loop, loop->streams.sorted[loop->streams.n - 1]);
    states_drop(loop);
    TAILQ_FOREACH(model, &loop->models.all, of_all)
        (void)sites_drop(loop, model);
    units_stop(&loop->units);
}

int daemon_run(const struct conf *conf, const char *config_path)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    int status;

    if (!loop)
        return EX_OSERR;
    loop->conf = *conf;
    loop->config_path = config_path;
    status = loop_init(loop);
    if (status == EX_OK)
        status = store_open(loop);
    if (status == EX_OK)
        status = sockets_open(loop);
    if (status == EX_OK)
        status = http_open(loop);
    if (status == EX_OK)
        status = threads_start(loop);
    if (status == EX_OK) {
        loop->started_ns = loop->now_ns = clock_now_ns();
        models_list(loop);
        evict_open(loop);
        store_load(loop);
        http_phase_set(&loop->http, HTTP_SERVING);
        notify_send("READY=1\nSTATUS=serving");
        log_event(LOG_NOTICE, "ready", "version=%s endpoint=%s tap=%s", SSMD_VERSION, conf->endpoint.item[0],
                  conf->tap);
        status = loop_run(loop);
        http_phase_set(&loop->http, HTTP_STOPPING);
        going_away(loop);
        log_event(LOG_NOTICE, "stopped", "streams=%u frames=%llu", loop->streams.n,
                  (unsigned long long)loop->counters.frames_applied);
        threads_stop(loop);
    }
    loop_fini(loop);
    free(loop);
    return status;
}
