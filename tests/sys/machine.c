/* SPDX-License-Identifier: Apache-2.0
 *
 * See machine.h.
 */
#include "tests/sys/machine.h"
#include "tests/ssm/making.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GRANT  (1u << 20)
#define PERIOD 13 /* of the samples, over which they add up to 0 */

#define BIT(code) (1u << (SSMD__CODE__##code))
#define BIT_OK    1u

static float sample_at(const struct machine_entry *e, uint64_t index)
{
    return (float)((e->number * 5 + index * 7) % PERIOD) - PERIOD / 2;
}

/* The sum of the samples up to and with this one. */
static float sum_at(const struct machine_entry *e, uint64_t index)
{
    float sum = 0;

    for (uint64_t i = index - index % PERIOD; i <= index; i++)
        sum += sample_at(e, i);
    return sum;
}

static uint32_t number(struct machine *m, uint32_t below)
{
    return making_number(&m->seed, below);
}

static bool chance(struct machine *m, uint32_t percent)
{
    return number(m, 100) < percent;
}

static void id_make(const struct machine_entry *e, char *out, size_t size)
{
    snprintf(out, size, "id-%02u", e->number);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

static void view_check(const struct machine_entry *e, struct machine_view *view)
{
    for (; view->s && view->checked < view->s->results; view->checked++, view->index++)
        if (view->s->out[view->checked] != sum_at(e, view->index))
            fail_msg("id %u: result %llu is %g and not %g", e->number, (unsigned long long)view->index,
                     (double)view->s->out[view->checked], (double)sum_at(e, view->index));
}

static bool view_is_complete(const struct machine_entry *e)
{
    const struct wire_stream *s = e->view.s;

    return !e->wants_results || s->next == e->next || (!e->is_granted && s->limit - s->bytes < sizeof(float));
}

/* ---- what is expected -------------------------------------------------------------------------------------------- */

static void refusal_expect(struct machine_conn *c, const struct wire_stream *s, uint32_t codes, uint64_t expected)
{
    assert_true(c->refusals_n < MACHINE_PENDING);
    c->refusals[c->refusals_n++] = (struct machine_refusal){s->handle, codes, expected, NULL};
}

/* Each code is answered once until a chunk is accepted, and GAP only where nothing else was. */
static void refusal_judge(struct machine_conn *c, struct machine_entry *e, uint32_t bit)
{
    if ((e->refused & bit) || (bit == BIT(GAP) && e->refused))
        return;
    e->refused |= bit;
    refusal_expect(c, e->view.s, bit, e->next);
}

static struct machine_answer *answer_expect(struct machine_conn *c, struct machine_entry *e, uint32_t codes)
{
    assert_true(c->answers_n < MACHINE_PENDING);
    c->answers[c->answers_n] = (struct machine_answer){.entry = e,
                                                       .codes = codes,
                                                       .is_closed = e->is_closed,
                                                       .is_attached = e->conn >= 0,
                                                       .epoch = e->epoch,
                                                       .next = e->next};
    return &c->answers[c->answers_n++];
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static void request_send(struct machine *m, struct machine_conn *c, Ssmd__FromClient *message)
{
    c->answers[c->answers_n - 1].kind = (int)message->request_case;
    assert_int_equal(wire_request_send(c->w, message), c->base + c->answers_n);
    m->operations++;
}

static void chunk_send(struct machine *m, struct machine_conn *c, struct machine_entry *e, struct wire_stream *s,
                       uint64_t epoch, uint64_t first, uint32_t frames, int bad)
{
    float samples[2 * MACHINE_CHUNK];
    struct wire_stream as = *s;
    struct wire_chunk chunk = {.stream = &as, .first = first, .frames = frames, .format = SSMD__FORMAT__F32LE};

    for (uint32_t i = 0; i < frames; i++)
        samples[i] = (int)i == bad ? NAN : sample_at(e, first + i);
    as.epoch = epoch;
    chunk.samples = samples;
    chunk.flags = chance(m, 20) ? PROTO_FLAG_BACKFILL : 0;
    wire_send(c->w, &chunk, 1);
    m->operations++;
}

/* A chunk of the handle that is there, and what the daemon makes of it. */
static void chunk_push(struct machine *m, struct machine_conn *c, struct machine_entry *e, uint64_t epoch,
                       uint64_t first, uint32_t frames, int bad)
{
    bool duplicate = first <= e->next && e->next - first >= frames;

    if (epoch != e->epoch) {
        refusal_judge(c, e, BIT(STALE_EPOCH));
    } else if (duplicate) {
        m->counts.duplicate++;
    } else if (e->is_closed) {
        refusal_judge(c, e, BIT(CLOSED));
    } else if (first > e->next) {
        m->counts.gap++;
        refusal_judge(c, e, BIT(GAP));
    } else if (bad >= 0) {
        m->counts.bad_sample++;
        refusal_judge(c, e, BIT(BAD_SAMPLE));
    } else {
        m->counts.trimmed += first < e->next;
        e->next = e->view.s->sent = first + frames;
        e->refused = 0;
    }
    chunk_send(m, c, e, e->view.s, epoch, first, frames, bad);
}

static void valid_push(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    chunk_push(m, c, e, e->epoch, e->next, 1 + number(m, MACHINE_CHUNK), -1);
}

static void any_push(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    uint32_t frames = 1 + number(m, MACHINE_CHUNK);
    uint32_t back = 1 + number(m, MACHINE_CHUNK);

    back = back < e->next ? back : (uint32_t)e->next;
    switch (number(m, 8)) {
    case 0: /* all of it was there */
        if (back > 0)
            chunk_push(m, c, e, e->epoch, e->next - back, 1 + number(m, back), -1);
        break;
    case 1: /* its beginning was */
        chunk_push(m, c, e, e->epoch, e->next - back, back + frames, -1);
        break;
    case 2:
        chunk_push(m, c, e, e->epoch, e->next + 1 + number(m, 1000), frames, -1);
        break;
    case 3:
        chunk_push(m, c, e, chance(m, 50) ? e->epoch - 1 : e->epoch + 1000000, e->next, frames, -1);
        break;
    case 4:
        chunk_push(m, c, e, e->epoch, e->next, frames, (int)number(m, frames));
        break;
    default:
        valid_push(m, c, e);
    }
}

/* So many more bytes of results, and perhaps room for those that came: of a closed stream not, since the last of that
 * ends it at once, amid the round. */
static void credit_send(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    struct wire_stream *s = e->view.s;

    if (!e->is_closed && chance(m, 50))
        e->received = s->next;
    wire_credit(c->w, s, e->received, s->limit + number(m, 60) * sizeof(float) + number(m, 4));
    m->operations++;
}

static void dead_use(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    struct wire_stream *s = e->dead[c->number];
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Reset reset = SSMD__RESET__INIT;

    if (chance(m, 50)) {
        if (e->is_unknown[c->number])
            refusal_expect(c, s, BIT(BAD_HANDLE), UINT64_MAX);
        chunk_send(m, c, e, s, s->epoch, s->sent, 1 + number(m, MACHINE_CHUNK), -1);
        return;
    }
    (void)answer_expect(c, e, BIT(BAD_HANDLE));
    reset.handle = s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_RESET;
    message.reset = &reset;
    request_send(m, c, &message);
}

static void info_ask(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Info info = SSMD__INFO__INIT;
    char id[16];

    (void)answer_expect(c, e, e->exists ? BIT_OK : BIT(NO_STREAM));
    id_make(e, id, sizeof(id));
    info.id = wire_bytes(id);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_INFO;
    message.info = &info;
    request_send(m, c, &message);
}

/* The last of a round for its id: reset, and sometimes a chunk behind it. */
static void reset_ask(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Reset reset = SSMD__RESET__INIT;
    bool races = !e->is_closed && chance(m, 40);

    if (races)
        valid_push(m, c, e); /* whatever was answered before may be answered again */
    (void)answer_expect(c, e, e->is_closed ? BIT(CLOSED) : BIT_OK);
    reset.handle = e->view.s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_RESET;
    message.reset = &reset;
    request_send(m, c, &message);
    if (!races)
        return;
    refusal_expect(c, e->view.s, BIT(BUSY) | BIT(STALE_EPOCH), UINT64_MAX);
    c->refusals[c->refusals_n - 1].racing = e;
    chunk_send(m, c, e, e->view.s, e->epoch, e->next, 1 + number(m, MACHINE_CHUNK), -1);
}

/* Likewise. A stream whose results have no credit gets all, and is received, or stays to be fetched. */
static void close_ask(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Close request = SSMD__CLOSE__INIT;
    bool races = !e->is_closed && chance(m, 40);

    if (races)
        valid_push(m, c, e);
    if (e->wants_results && !e->is_granted) {
        if (chance(m, 50)) {
            e->is_granted = true;
            e->view.s->grant = GRANT;
            e->received = e->view.s->next;
        }
        wire_credit(c->w, e->view.s, e->received, e->view.s->limit + GRANT);
    }
    /* Granted now, a closed stream may have been received before the request is read. */
    (void)answer_expect(c, e, e->is_closed && e->is_granted ? BIT_OK | BIT(BAD_HANDLE) : BIT_OK);
    request.handle = e->view.s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_CLOSE;
    message.close = &request;
    request_send(m, c, &message);
    if (!races)
        return;
    refusal_expect(c, e->view.s, BIT(CLOSED) | BIT(BAD_HANDLE), UINT64_MAX);
    c->refusals[c->refusals_n - 1].racing = e;
    chunk_send(m, c, e, e->view.s, e->epoch, e->next, 1 + number(m, MACHINE_CHUNK), -1);
}

/* Likewise. */
static void open_ask(struct machine *m, struct machine_conn *c, struct machine_entry *e)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Open open = SSMD__OPEN__INIT;
    bool is_other = e->exists && chance(m, 5), takes = chance(m, 60), same = e->writer == c->writer;
    struct machine_answer *answer;
    uint32_t codes = BIT_OK;
    char id[16];

    open.mode = (Ssmd__OpenMode)(chance(m, 50) ? 0 : number(m, 3));
    if (!e->exists && open.mode == SSMD__OPEN_MODE__RESUME)
        codes = BIT(NO_STREAM);
    else if (e->exists && (open.mode == SSMD__OPEN_MODE__CREATE || is_other))
        codes = BIT(EXISTS);
    else if (e->exists && !same && !takes)
        codes = BIT(OWNED);
    answer = answer_expect(c, e, codes);
    answer->created = !e->exists;
    answer->same_epoch = e->exists && same;
    answer->wants_results = chance(m, 80);
    answer->is_granted = chance(m, 70);
    answer->writer = c->writer;
    id_make(e, id, sizeof(id));
    open.id = wire_bytes(id);
    open.model = (char *)(uintptr_t)(is_other ? "twice" : "sum");
    open.has_mode = open.has_take_over = open.has_results = true;
    open.take_over = takes;
    open.results = answer->wants_results;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
    message.open = &open;
    request_send(m, c, &message);
}

static void entry_round(struct machine *m, struct machine_entry *e)
{
    bool stays = e->conn >= 0 && chance(m, 75);
    struct machine_conn *c = &m->conns[stays ? (uint32_t)e->conn : number(m, MACHINE_CONNS)];
    bool holds = e->conn == c->number;

    for (uint32_t n = number(m, 5); n > 0; n--) {
        if (e->dead[c->number] && chance(m, 10))
            dead_use(m, c, e);
        else if (!e->maybe && chance(m, 10))
            info_ask(m, c, e);
        else if (holds && e->wants_results && !e->is_granted && chance(m, 30))
            credit_send(m, c, e);
        else if (holds)
            any_push(m, c, e);
    }
    if (holds && chance(m, 15))
        reset_ask(m, c, e);
    else if (holds && chance(m, 15))
        close_ask(m, c, e);
    else if (!holds || chance(m, 15))
        open_ask(m, c, e);
}

void machine_round(struct machine *m)
{
    for (int i = 0; i < MACHINE_CONNS; i++) {
        struct machine_conn *c = &m->conns[i];

        c->base = c->w->request;
        c->answers_n = c->answered = c->refusals_n = c->w->events_n = 0;
        assert_int_equal(c->w->refusals_n, 0);
    }
    for (int i = 0; i < MACHINE_IDS; i++)
        if (chance(m, 80))
            entry_round(m, &m->entries[i]);
}

/* ---- answers ----------------------------------------------------------------------------------------------------- */

/* The handle is no more; the stream may go on. */
static void entry_detach(struct machine_entry *e, bool is_gone)
{
    if (e->conn < 0)
        return;
    e->dead[e->conn] = e->view.s;
    e->is_unknown[e->conn] = is_gone;
    e->past = e->view;
    e->view.s = NULL;
    e->conn = -1;
}

static void open_answered(struct machine *m, struct machine_conn *c, const struct machine_answer *a,
                          const Ssmd__StreamInfo *info)
{
    struct machine_entry *e = a->entry;

    if (a->created)
        e->next = e->received = 0;
    else if (e->maybe && info->next != e->next)
        e->next += e->maybe;
    assert_int_equal(info->next, e->next);
    assert_int_equal(info->created, a->created);
    assert_int_equal(info->closing, a->is_closed);
    if (a->same_epoch)
        assert_int_equal(info->epoch, e->epoch);
    else
        assert_true(info->epoch > m->epochs);
    m->counts.opened += a->created;
    m->counts.resumed += !a->created && a->same_epoch;
    m->counts.taken_over += !a->created && !a->same_epoch;
    if (e->conn >= 0)
        e->must_hear[e->conn] = true;
    entry_detach(e, false);
    assert_int_equal(info->has_results_from, a->wants_results);
    if (a->wants_results) {
        assert_in_range(info->results_from, e->received, e->next);
        if (e->is_exact || a->created)
            assert_int_equal(info->results_from, e->received);
        e->received = info->results_from;
    }
    e->exists = true;
    e->is_closed = a->is_closed;
    e->is_exact = e->wants_results = a->wants_results;
    e->is_granted = a->wants_results && a->is_granted;
    e->maybe = e->refused = 0;
    e->writer = a->writer;
    e->conn = c->number;
    e->epoch = info->epoch;
    e->view = (struct machine_view){wire_opened(c->w, info), 0, e->received};
    if (e->is_granted) {
        e->view.s->grant = GRANT;
        wire_credit(c->w, e->view.s, e->received, GRANT);
    }
}

static void reset_answered(struct machine *m, struct machine_entry *e, const Ssmd__StreamInfo *info)
{
    struct wire_stream *s = e->view.s;

    view_check(e, &e->view); /* what came before it */
    assert_true(info->epoch > m->epochs);
    assert_int_equal(info->next, 0);
    assert_int_equal(info->result_next, 0);
    s->epoch = e->epoch = info->epoch;
    s->sent = s->applied = s->next = 0;
    e->next = e->received = e->view.index = 0;
    e->is_exact = e->wants_results;
    e->refused = 0;
    m->counts.reset++;
}

static void info_answered(const struct machine_answer *a, const Ssmd__StreamInfo *info)
{
    assert_int_equal(info->epoch, a->epoch);
    assert_int_equal(info->next, a->next);
    assert_int_equal(info->closing, a->is_closed);
    if (a->is_attached)
        assert_true(info->attached);
}

static void answered(struct wire *w, const Ssmd__Reply *reply)
{
    struct machine *m = w->owner;
    struct machine_conn *c = NULL;
    struct machine_answer *a;
    uint32_t code = reply->error ? (uint32_t)reply->error->code : 0;
    uint64_t at;

    for (int i = 0; i < MACHINE_CONNS; i++)
        c = m->conns[i].w == w ? &m->conns[i] : c;
    at = c ? reply->request_id - c->base - 1 : UINT64_MAX;
    if (!c || at >= c->answers_n)
        return;
    a = &c->answers[at];
    assert_false(a->is_done);
    a->is_done = true;
    c->answered++;
    if (!(a->codes >> code & 1))
        fail_msg("id %u: a request of kind %d was answered with %u %s, and not with one of %#x", a->entry->number,
                 a->kind, code, code ? reply->error->text : "OK", a->codes);
    if (code)
        return;
    if (a->kind == SSMD__FROM_CLIENT__REQUEST_OPEN)
        open_answered(m, c, a, reply->stream);
    else if (a->kind == SSMD__FROM_CLIENT__REQUEST_RESET)
        reset_answered(m, a->entry, reply->stream);
    else if (a->kind == SSMD__FROM_CLIENT__REQUEST_CLOSE)
        a->entry->is_closed = true;
    else
        info_answered(a, reply->stream);
}

/* ---- the end of a round ------------------------------------------------------------------------------------------ */

static void refusals_check(struct machine_conn *c)
{
    WIRE_UNTIL(c->w, c->w->refusals_n >= c->refusals_n);
    for (size_t i = 0; i < c->w->refusals_n; i++) {
        const struct wire_refusal *r = &c->w->refusals[i];
        const struct machine_refusal *expected = &c->refusals[i];

        if (i >= c->refusals_n || r->handle != expected->handle || !(expected->codes >> r->code & 1))
            fail_msg("connection %d: refusal %zu is of handle %u: %d %s; expected was handle %u and one of %#x",
                     c->number, i, r->handle, r->code, r->text, i < c->refusals_n ? expected->handle : 0,
                     i < c->refusals_n ? expected->codes : 0);
        if (expected->expected != UINT64_MAX)
            assert_int_equal(r->expected, expected->expected);
        if (expected->racing && r->code != SSMD__CODE__BUSY) /* the reset behind BUSY forgot it */
            expected->racing->refused |= 1u << r->code;
    }
    c->w->refusals_n = 0;
}

static void entry_settle(struct machine *m, struct machine_entry *e)
{
    struct wire *w = e->conn >= 0 ? m->conns[e->conn].w : NULL;

    for (int i = 0; i < MACHINE_CONNS; i++) {
        if (e->must_hear[i])
            WIRE_UNTIL(m->conns[i].w, e->dead[i]->is_taken_over);
        e->must_hear[i] = false;
    }
    if (w) {
        if (!e->is_closed)
            WIRE_UNTIL(w, e->view.s->applied == e->next);
        WIRE_UNTIL(w, view_is_complete(e));
        view_check(e, &e->view);
        if (e->is_granted)
            e->received = e->next;
    }
    m->epochs = e->epoch > m->epochs ? e->epoch : m->epochs;
    if (e->exists && e->is_closed && (!e->wants_results || e->received == e->next)) {
        entry_detach(e, true);
        e->exists = e->is_closed = false;
    }
}

void machine_settle(struct machine *m)
{
    for (int i = 0; i < MACHINE_CONNS; i++)
        WIRE_UNTIL(m->conns[i].w, m->conns[i].answered == m->conns[i].answers_n);
    for (int i = 0; i < MACHINE_IDS; i++)
        entry_settle(m, &m->entries[i]);
    for (int i = 0; i < MACHINE_CONNS; i++) { /* what credit and closed streams were waiting for is done */
        assert_int_equal(wire_ping(m->conns[i].w), SSMD__CODE__OK);
        refusals_check(&m->conns[i]);
        assert_int_equal(m->conns[i].w->errors_n, 0);
    }
    for (int i = 0; i < MACHINE_IDS; i++) {
        view_check(&m->entries[i], &m->entries[i].past);
        m->entries[i].past.s = NULL;
    }
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

static void conn_open(struct machine *m, struct machine_conn *c)
{
    char writer[16];

    snprintf(writer, sizeof(writer), "writer-%d", c->writer);
    c->w = wire_new(m->endpoint, writer);
    c->w->owner = m;
    c->w->on_reply = answered;
}

void machine_break(struct machine *m, bool says_bye)
{
    struct machine_conn *c = &m->conns[number(m, MACHINE_CONNS)];
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Bye bye = SSMD__BYE__INIT;

    for (int i = 0; i < MACHINE_IDS; i++) {
        struct machine_entry *e = &m->entries[i];

        if (e->conn == c->number) {
            if (!says_bye && !e->is_closed && chance(m, 50)) {
                e->maybe = 1 + number(m, MACHINE_CHUNK);
                chunk_send(m, c, e, e->view.s, e->epoch, e->next, e->maybe, -1);
            }
            e->view.s = NULL;
            e->conn = -1;
        }
        e->dead[c->number] = NULL;
    }
    message.request_case = SSMD__FROM_CLIENT__REQUEST_BYE;
    message.bye = &bye;
    c->answers_n = 0;
    if (says_bye)
        assert_int_equal(wire_request(c->w, &message), SSMD__CODE__OK);
    wire_free(c->w);
    conn_open(m, c);
    m->operations++;
}

void machine_init(struct machine *m, const char *endpoint, uint32_t seed)
{
    memset(m, 0, sizeof(*m));
    m->endpoint = endpoint;
    m->seed = seed;
    for (int i = 0; i < MACHINE_IDS; i++) {
        m->entries[i].number = (uint32_t)i;
        m->entries[i].conn = -1;
    }
    for (int i = 0; i < MACHINE_CONNS; i++) {
        m->conns[i].number = i;
        m->conns[i].writer = i % MACHINE_WRITERS;
        conn_open(m, &m->conns[i]);
    }
}

/* The daemon counted what the model did. */
static void counters_check(struct machine *m)
{
    const struct {
        const char *name;
        uint64_t expected;
    } counters[] = {
        {"streams_opened", m->counts.opened},         {"streams_resumed", m->counts.resumed},
        {"streams_taken_over", m->counts.taken_over}, {"streams_reset", m->counts.reset},
        {"chunks_duplicate", m->counts.duplicate},    {"chunks_gap", m->counts.gap},
        {"chunks_trimmed", m->counts.trimmed},        {"chunks_bad_sample", m->counts.bad_sample},
    };

    for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++) {
        uint64_t value = wire_counter(m->conns[0].w, counters[i].name);

        if (value != counters[i].expected)
            fail_msg("%s is %llu and not %llu", counters[i].name, (unsigned long long)value,
                     (unsigned long long)counters[i].expected);
        assert_true(value > 0);
    }
}

void machine_fini(struct machine *m)
{
    struct wire *w = m->conns[0].w;
    char id[16];

    m->conns[0].answers_n = 0;
    counters_check(m);
    for (int i = 0; i < MACHINE_IDS; i++) {
        struct machine_entry *e = &m->entries[i];
        struct wire_stream *s;

        if (!e->exists)
            continue;
        id_make(e, id, sizeof(id));
        s = wire_open(w, id, "sum", WIRE_RESULTS | WIRE_RESUME | WIRE_TAKE_OVER);
        assert_true(s->sent == e->next || (e->maybe && s->sent == e->next + e->maybe));
        e->view = (struct machine_view){s, 0, s->begin};
        assert_in_range(s->begin, e->received, s->sent);
        WIRE_UNTIL(w, s->next == s->sent);
        view_check(e, &e->view);
        (void)wire_close(w, s);
    }
    WIRE_UNTIL(w, wire_counter(w, "streams") == 0);
    for (int i = 0; i < MACHINE_CONNS; i++)
        wire_free(m->conns[i].w);
}
