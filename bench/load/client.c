/* SPDX-License-Identifier: Apache-2.0
 *
 * See client.h.
 */
#include "bench/load/client.h"
#include "bench/lib/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPENS_ALL   2048       /* of all connections on the way: while a model loads, the daemon holds 4096 */
#define OPENS_AHEAD 64         /* ... and of one: few enough for its outbox, many enough to come back at once */
#define RETRY_NS    100000000u /* from a refusal to the next try */
#define ROUNDS      8          /* of one connection before it is another's turn */

/* ---- samples ----------------------------------------------------------------------------------------------------- */

/* A sawtooth in [-1, 1) of 16 bits: exact as float32, and times a factor of few bits too. */
static float sample_at(uint64_t stream, uint64_t frame, uint32_t channel)
{
    uint32_t x = (uint32_t)(stream * 7919 + frame * 37 + channel * 9173u) & 0xffffu;

    return ((float)x - 32768) / 32768;
}

static void samples_make(const struct load_stream *s, uint64_t first, uint32_t frames, uint32_t channels, float *out)
{
    for (uint32_t i = 0; i < frames; i++)
        for (uint32_t k = 0; k < channels; k++)
            *out++ = sample_at(s->number, first + i, k);
}

/* Values that are not what they must be; of a model that is not known, those that are not finite. */
static uint64_t values_check(const struct load_stream *s, uint64_t first, uint32_t frames, uint32_t channels,
                             const unsigned char *values)
{
    float factor = (float)s->model->factor, value;
    uint64_t wrong = 0;

    for (uint32_t i = 0; i < frames; i++) {
        for (uint32_t k = 0; k < channels; k++, values += sizeof(value)) {
            memcpy(&value, values, sizeof(value));
            wrong += isnan(factor) ? !isfinite(value) : !(value == factor * sample_at(s->number, first + i, k));
        }
    }
    return wrong;
}

/* ---- what comes -------------------------------------------------------------------------------------------------- */

static void result_came(struct peer *peer, uint32_t at, uint32_t frames, const unsigned char *values)
{
    struct load_client *c = peer->context;
    struct load_stream *s = &c->stream[at];
    const struct peer_stream *p = &peer->stream[at];
    uint64_t before = p->received - frames, sent = (uint64_t)p->time, took, n = 1;

    c->tally->wrong += values_check(s, before, frames, p->out_channels, values);
    if (p->ratio_num ==
        p->ratio_den) /* chunks that end here: batches cut them, and those sent at one time come as one */
        n = p->received / s->frames - before / s->frames;
    if (p->time == 0)
        return;
    took = bench_now_ns() - sent;
    if (took > s->deadline_ns && !c->is_slow && sent >= s->back_ns)
        c->tally->misses += n;
    for (; n > 0; n--)
        histogram_add(c->is_slow || sent < s->back_ns ? &c->tally->recovery : &c->tally->latency, took);
}

/* What depends on the model; the first time. */
static void stream_shape(struct load_client *c, struct load_stream *s, const struct peer_stream *p)
{
    const struct load_options *o = c->options;
    double frames = s->is_backfill ? o->backfill_chunk : o->chunk_ms > 0 ? o->chunk_ms * 1e-3 * p->rate : o->chunk;

    s->frames = frames < 1 ? 1 : frames > 65536 ? 65536 : (uint32_t)(frames + 0.5);
    if (!(p->rate > 0)) {
        fprintf(stderr, "ssm-load: %s has no rate of its own: give one with --rate\n", s->model->spec);
        exit(1);
    }
    if (!isnan(s->model->factor) && (p->out_channels != p->in_channels || p->ratio_num != p->ratio_den)) {
        fprintf(stderr, "ssm-load: %s is no model that only scales: leave --scales out\n", s->model->spec);
        exit(1);
    }
    s->deadline_ns = UINT64_MAX;
    if (!s->is_backfill && o->speed > 0) {
        s->period_ns = (uint64_t)(s->frames / p->rate / o->speed * 1e9);
        s->deadline_ns = o->deadline_ms > 0 ? (uint64_t)(o->deadline_ms * 1e6) : s->period_ns;
    }
}

static void stream_opened(struct peer *peer, uint32_t at)
{
    struct load_client *c = peer->context;
    struct load_stream *s = &c->stream[at];

    if (s->frames == 0) {
        stream_shape(c, s, &peer->stream[at]);
        return;
    }
    s->back_ns = bench_now_ns();
    c->is_behind = true;
}

/* ---- what is sent ------------------------------------------------------------------------------------------------ */

/* Frames of the stream that may be on the way. */
static uint64_t ahead_most(const struct load_client *c, const struct load_stream *s, uint32_t channels)
{
    uint64_t most = (uint64_t)LOAD_AHEAD * s->frames;
    uint64_t window = c->peer.window / sizeof(float) / channels;
    uint64_t share = c->peer.connection_window / sizeof(float) / channels / c->peer.streams;

    most = most < window ? most : window;
    return most < share ? most : share;
}

static bool chunk_may_go(const struct load_client *c, uint32_t at, uint64_t now)
{
    const struct load_stream *s = &c->stream[at];
    const struct peer_stream *p = &c->peer.stream[at];

    if (p->is_refused && now < s->retry_ns)
        return false;
    return p->is_open && (p->is_refused ? p->expected : p->sent) / s->frames < s->owed &&
           (p->sent == p->applied || p->sent + s->frames - p->applied <= ahead_most(c, s, p->in_channels));
}

/* The stream's next chunk: for the first time, or again. */
static void chunk_put(struct load_client *c, uint32_t at, uint64_t now)
{
    struct load_stream *s = &c->stream[at];
    struct peer_stream *p = &c->peer.stream[at];
    uint64_t first, k;

    if (p->is_refused) { /* whatever was sent since was refused too, without a word */
        p->sent = p->expected;
        s->retry_ns = now + RETRY_NS;
    }
    first = p->sent;
    k = first / s->frames;
    if (k >= s->made) {
        s->times[k % LOAD_AHEAD] = s->is_backfill ? 0 : (int64_t)now;
        s->made = k + 1;
        c->tally->chunks++;
        c->tally->frames += s->frames;
    } else {
        c->tally->resent++;
    }
    samples_make(s, first, s->frames, p->in_channels,
                 peer_put(&c->peer, at, s->frames, s->is_backfill ? PROTO_FLAG_BACKFILL : 0, s->times[k % LOAD_AHEAD]));
}

/* What the streams owe and may send; whether there was anything. Live streams begin, so that their chunks do not stand
 * behind backfill in one message. */
static bool owed_send(struct load_client *c, uint64_t now)
{
    bool any = false, refused = false;

    if (!c->is_behind)
        return false;
    c->is_behind = false;
    for (int backfill = 0; backfill < 2; backfill++) {
        for (uint32_t at = 0; at < c->peer.streams; at++) {
            if (c->stream[at].is_backfill != backfill)
                continue;
            for (; chunk_may_go(c, at, now); any = true)
                chunk_put(c, at, now);
            refused |= c->peer.stream[at].is_refused;
            c->is_behind |= c->peer.stream[at].sent / c->stream[at].frames < c->stream[at].owed;
        }
        peer_flush(&c->peer);
    }
    c->retry_ns = refused ? now + RETRY_NS : UINT64_MAX;
    c->is_behind |= refused;
    return any;
}

void load_client_owe(struct load_client *c, uint32_t at, uint64_t due_ns)
{
    struct load_stream *s = &c->stream[at];
    uint64_t now = bench_now_ns();
    bool is_next = c->peer.stream[at].sent == s->owed * s->frames;

    s->owed++;
    if (is_next && !c->peer.stream[at].is_refused && chunk_may_go(c, at, now)) {
        histogram_add(&c->tally->lateness, now > due_ns ? now - due_ns : 0);
        chunk_put(c, at, now);
    } else {
        c->tally->held++;
        c->is_behind = true;
    }
}

/* When backfill is applied to its end. */
static void progress_check(struct load_client *c)
{
    for (uint32_t at = 0; at < c->peer.streams; at++) {
        struct load_stream *s = &c->stream[at];

        if (!s->is_backfill || s->done_ns || c->peer.stream[at].applied < s->owed * s->frames)
            continue;
        s->done_ns = bench_now_ns();
        c->backfills--;
    }
}

bool load_client_run(struct load_client *c)
{
    uint64_t refused = c->peer.errors;
    uint32_t came = 1;
    bool sent = true;

    peer_flush(&c->peer);
    for (int i = 0; i < ROUNDS && (came > 0 || sent); i++) {
        came = c->is_paused ? 0 : peer_poll(&c->peer, 0);
        c->is_behind |= c->peer.errors != refused; /* it sends again from where the daemon is */
        sent = owed_send(c, bench_now_ns());
    }
    if (c->backfills > 0 && c->begin_ns)
        progress_check(c);
    return came > 0 || sent;
}

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

/* Spread evenly by their shares. */
static const struct load_model *model_choose(const struct load_options *o, uint64_t number)
{
    double sum = 0, before = 0, at;

    for (uint32_t i = 0; i < o->models; i++)
        sum += o->model[i].share;
    at = fmod((double)number * 0.6180339887498949, 1) * sum;
    for (uint32_t i = 0; i + 1 < o->models; i++) {
        before += o->model[i].share;
        if (at < before)
            return &o->model[i];
    }
    return &o->model[o->models - 1];
}

void load_client_init(struct load_client *c, const struct load_options *options, struct tally *tally, void *zmq,
                      uint32_t number, uint64_t first, uint32_t streams)
{
    char prefix[32];

    memset(c, 0, sizeof(*c));
    c->options = options;
    c->tally = tally;
    c->is_slow = number < options->slow;
    c->retry_ns = UINT64_MAX;
    c->stream = calloc(streams, sizeof(*c->stream));
    if (!c->stream) {
        fprintf(stderr, "ssm-load: no memory\n");
        exit(1);
    }
    snprintf(prefix, sizeof(prefix), "load-%d-%u-", (int)getpid(), number);
    peer_init(&c->peer, zmq, options->endpoint, prefix, streams, true);
    c->peer.is_tolerant = true;
    c->peer.opens_ahead = OPENS_ALL / options->connections;
    if (c->peer.opens_ahead > OPENS_AHEAD)
        c->peer.opens_ahead = OPENS_AHEAD;
    c->peer.opens_ahead += c->peer.opens_ahead == 0;
    c->peer.on_result = result_came;
    c->peer.on_open = stream_opened;
    c->peer.context = c;
    for (uint32_t i = 0; i < streams; i++) {
        struct load_stream *s = &c->stream[i];

        s->number = first + i;
        s->model = model_choose(options, s->number);
        s->is_backfill =
            floor((double)(s->number + 1) * options->backfill) > floor((double)s->number * options->backfill);
        c->peer.stream[i].model = s->model->spec;
        c->peer.stream[i].rate = options->rate;
    }
}

void load_client_fini(struct load_client *c)
{
    c->tally->lost += c->peer.lost;
    c->tally->doubled += c->peer.doubled;
    c->tally->refused += c->peer.errors;
    peer_fini(&c->peer);
    free(c->stream);
}

void load_client_start(struct load_client *c, uint64_t begin_ns)
{
    c->begin_ns = begin_ns;
    c->is_behind = true;
    for (uint32_t at = 0; at < c->peer.streams; at++) {
        struct load_stream *s = &c->stream[at];

        if (s->is_backfill && c->options->behind_s > 0)
            s->owed = (uint64_t)(c->options->behind_s * c->peer.stream[at].rate / s->frames) + 1;
        else if (s->period_ns == 0)
            s->owed = UINT64_MAX / s->frames;
        c->backfills += s->is_backfill;
    }
}

void load_client_break(struct load_client *c)
{
    c->tally->reconnects++;
    peer_begin(&c->peer);
}

void load_client_stop(struct load_client *c)
{
    c->is_paused = false;
    for (uint32_t at = 0; at < c->peer.streams; at++)
        if (c->stream[at].period_ns == 0)
            c->stream[at].owed = c->stream[at].made;
}

bool load_client_is_done(const struct load_client *c)
{
    if (!peer_is_open(&c->peer))
        return false;
    for (uint32_t at = 0; at < c->peer.streams; at++)
        if (c->peer.stream[at].applied < c->stream[at].owed * c->stream[at].frames)
            return false;
    return true;
}

void load_client_finish(struct load_client *c, uint64_t end_ns)
{
    struct tally *t = c->tally;

    peer_finish(&c->peer);
    for (uint32_t at = 0; at < c->peer.streams; at++) {
        const struct load_stream *s = &c->stream[at];
        const struct peer_stream *p = &c->peer.stream[at];
        uint64_t frames = s->made * s->frames;
        uint64_t results = (frames * p->ratio_num + p->ratio_den - 1) / p->ratio_den;
        uint64_t until = s->done_ns ? s->done_ns : end_ns;
        double speed;

        t->lost += results > p->received ? results - p->received : 0;
        t->doubled += p->received > results ? p->received - results : 0;
        if (!s->is_backfill)
            continue;
        speed = (double)frames / p->rate / ((double)(until - c->begin_ns) * 1e-9);
        t->backfill_least = t->backfill_streams == 0 || speed < t->backfill_least ? speed : t->backfill_least;
        t->backfill_speed += speed;
        t->backfill_streams++;
    }
}
