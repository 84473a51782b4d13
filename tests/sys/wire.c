/* SPDX-License-Identifier: Apache-2.0
 *
 * A DEALER with the codec of proto/, and a ledger of everything that came.
 */
#include "tests/sys/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include <cmocka.h>

#define GRANT (1u << 20)

long wire_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- connection -------------------------------------------------------------------------------------------------- */

/* `most` messages are held here before the daemon's own queue fills; 0: any number. */
static struct wire *socket_connect(const char *endpoint, const char *writer, int most)
{
    struct wire *w = calloc(1, sizeof(*w));
    int wait = 1000;

    assert_non_null(w);
    snprintf((char *)w->writer, sizeof(w->writer), "%s", writer);
    w->context = zmq_ctx_new();
    w->socket = zmq_socket(w->context, ZMQ_DEALER);
    assert_non_null(w->socket);
    assert_int_equal(zmq_setsockopt(w->socket, ZMQ_LINGER, &wait, sizeof(wait)), 0);
    wait = WIRE_MS;
    assert_int_equal(zmq_setsockopt(w->socket, ZMQ_SNDTIMEO, &wait, sizeof(wait)), 0);
    assert_int_equal(zmq_setsockopt(w->socket, ZMQ_RCVHWM, &most, sizeof(most)), 0);
    proto_arena_init(&w->arena);
    proto_arena_init(&w->reply_arena);
    assert_int_equal(zmq_connect(w->socket, endpoint), 0);
    return w;
}

struct wire *wire_connect(const char *endpoint, const char *writer)
{
    return socket_connect(endpoint, writer, 0);
}

struct wire *wire_new(const char *endpoint, const char *writer)
{
    struct wire *w = wire_connect(endpoint, writer);

    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    return w;
}

struct wire *wire_slow(const char *endpoint, const char *writer)
{
    struct wire *w = socket_connect(endpoint, writer, 1);

    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    return w;
}

void wire_free(struct wire *w)
{
    if (!w)
        return;
    zmq_close(w->socket);
    zmq_ctx_term(w->context);
    proto_arena_fini(&w->arena);
    proto_arena_fini(&w->reply_arena);
    for (size_t i = 0; i < w->streams_n; i++) {
        if (!w->streams[i])
            continue;
        free(w->streams[i]->out);
        free(w->streams[i]->times);
        free(w->streams[i]);
    }
    free(w->streams);
    free(w);
}

static struct wire_stream *stream_find(const struct wire *w, uint32_t handle)
{
    return handle < w->streams_n ? w->streams[handle] : NULL;
}

/* A handle that is used again names another stream from then on. */
static struct wire_stream *stream_new(struct wire *w, uint32_t handle, const Ssmd__StreamInfo *info)
{
    struct wire_stream *s;

    assert_true(handle < 1000000);
    while (w->streams_n <= handle) {
        w->streams = realloc(w->streams, (w->streams_n + 1) * sizeof(struct wire_stream *));
        assert_non_null(w->streams);
        w->streams[w->streams_n++] = NULL;
    }
    s = w->streams[handle];
    if (s) {
        free(s->out);
        free(s->times);
    } else {
        s = w->streams[handle] = malloc(sizeof(*s));
    }
    assert_non_null(s);
    memset(s, 0, sizeof(*s));
    s->handle = handle;
    assert_in_range(info->id.len, 1, PROTO_ID_MAX);
    memcpy(s->id, info->id.data, info->id.len);
    s->epoch = info->epoch;
    s->in_channels = info->channels;
    s->out_channels = info->out_channels;
    s->sent = info->next;
    s->applied = info->applied;
    s->durable = info->durable;
    s->begin = s->next = info->has_results_from ? info->results_from : info->result_first;
    return s;
}

/* ---- what comes -------------------------------------------------------------------------------------------------- */

static void ack_take(struct wire *w, const Ssmd__Ack *ack)
{
    w->acks_n++;
    for (size_t i = 0; i < ack->n_handle; i++) {
        struct wire_stream *s = stream_find(w, ack->handle[i]);

        assert_non_null(s);
        assert_false(s->is_reader);
        if (ack->epoch[i] != s->epoch) /* of the epoch that the answer to reset ends, or begins */
            continue;
        assert_true(ack->applied[i] >= s->applied);
        assert_true(ack->durable[i] <= ack->applied[i]);
        assert_true(ack->applied[i] <= s->sent);
        s->applied = ack->applied[i];
        s->durable = ack->durable[i];
    }
}

static void refusals_take(struct wire *w, const Ssmd__Refusals *from)
{
    for (size_t i = 0; i < from->n_refusal && w->refusals_n < WIRE_NOTES; i++) {
        const Ssmd__Refusal *r = from->refusal[i];
        struct wire_refusal *to = &w->refusals[w->refusals_n++];

        *to = (struct wire_refusal){.handle = r->handle,
                                    .code = (int)r->error->code,
                                    .epoch = r->epoch,
                                    .expected = r->expected,
                                    .first = r->first,
                                    .index = r->index,
                                    .has_index = r->has_index};
        snprintf(to->text, sizeof(to->text), "%s", r->error->text);
        assert_true(strlen(to->text) > 0);
    }
}

static void event_take(struct wire *w, const Ssmd__Event *event)
{
    struct wire_stream *s = stream_find(w, event->handle);

    if (w->events_n < WIRE_NOTES)
        w->events[w->events_n++] =
            (struct wire_event){(int)event->kind, event->handle, event->epoch, event->first, event->next, 0};
    switch (event->kind) {
    case SSMD__EVENT__KIND__READING:
        assert_non_null(event->stream);
        s = stream_new(w, event->handle, event->stream);
        s->is_reader = true;
        s->begin = s->next = event->first;
        s->limit = w->read_limit;
        break;
    case SSMD__EVENT__KIND__LOST:
        assert_non_null(s);
        assert_true(s->is_reader);
        assert_int_equal(event->first, s->next);
        assert_true(event->next > event->first);
        s->lost += event->next - event->first;
        s->next = event->next;
        break;
    case SSMD__EVENT__KIND__EPOCH:
        assert_non_null(s);
        s->epoch = event->epoch;
        s->next = event->first;
        break;
    case SSMD__EVENT__KIND__ENDED:
    case SSMD__EVENT__KIND__EVICTED:
        assert_non_null(s);
        s->has_ended = true;
        break;
    case SSMD__EVENT__KIND__TAKEN_OVER:
        assert_non_null(s);
        s->is_taken_over = true;
        break;
    case SSMD__EVENT__KIND__GENERATED:
        assert_non_null(s);
        assert_non_null(event->generation);
        assert_true(event->generation->has_ending);
        w->events[w->events_n - 1].first = event->generation->first;
        w->events[w->events_n - 1].next = event->generation->next;
        w->events[w->events_n - 1].ending = (int)event->generation->ending;
        break;
    default:
        fail_msg("an event of kind %d", (int)event->kind);
    }
}

static void reply_take(struct wire *w, Ssmd__Reply *reply)
{
    struct proto_arena arena = w->reply_arena;

    if (reply->request_id == 0) {
        assert_non_null(reply->error);
        if (w->errors_n < WIRE_NOTES) {
            struct wire_error *to = &w->errors[w->errors_n++];

            to->code = (int)reply->error->code;
            snprintf(to->text, sizeof(to->text), "%s", reply->error->text);
            assert_true(strlen(to->text) > 0);
        }
        return;
    }
    if (w->on_reply)
        w->on_reply(w, reply);
    w->reply_arena = w->arena;
    w->arena = arena;
    w->reply = reply;
}

static void control_take(struct wire *w, const void *bytes, size_t size)
{
    Ssmd__FromDaemon *message;

    assert_int_equal(proto_from_daemon_decode(&w->arena, bytes, size, &message), PROTO_OK);
    switch (message->message_case) {
    case SSMD__FROM_DAEMON__MESSAGE_REPLY:
        reply_take(w, message->reply);
        break;
    case SSMD__FROM_DAEMON__MESSAGE_ACK:
        ack_take(w, message->ack);
        break;
    case SSMD__FROM_DAEMON__MESSAGE_REFUSALS:
        refusals_take(w, message->refusals);
        break;
    case SSMD__FROM_DAEMON__MESSAGE_EVENT:
        event_take(w, message->event);
        break;
    case SSMD__FROM_DAEMON__MESSAGE_GOING_AWAY:
        w->is_going_away = true;
        break;
    default:
        fail_msg("a message of kind %d", (int)message->message_case);
    }
}

static void results_keep(struct wire_stream *s, const unsigned char *bytes, uint32_t frames, bool has_time,
                         int64_t time)
{
    size_t frame = s->out_channels * sizeof(float);

    if (s->results + frames > s->capacity) {
        s->capacity = (s->results + frames) * 2;
        s->out = realloc(s->out, s->capacity * frame);
        s->times = realloc(s->times, s->capacity * sizeof(*s->times));
        assert_true(s->out && s->times);
    }
    memcpy((unsigned char *)s->out + s->results * frame, bytes, frames * frame);
    for (uint32_t i = 0; i < frames; i++)
        s->times[s->results + i] = has_time ? time : INT64_MIN;
    s->results += frames;
    s->next += frames;
    s->bytes += frames * frame;
}

static void results_take(struct wire *w, const void *head, size_t head_size, const unsigned char *bytes, size_t size)
{
    Ssmd__ResultHeader *header;
    size_t offset = 0;

    assert_int_equal(proto_result_header_decode(&w->arena, head, head_size, &header), PROTO_OK);
    assert_true(header->n_handle > 0);
    for (size_t i = 0; i < header->n_handle; i++) {
        struct wire_stream *s = stream_find(w, header->handle[i]);
        bool has_time = header->n_flags && (header->flags[i] & PROTO_RESULT_TIME);
        size_t length;

        assert_non_null(s);
        length = (size_t)header->frames[i] * s->out_channels * sizeof(float);
        assert_int_equal(header->epoch[i], s->epoch);
        assert_int_equal(header->first[i], s->next);
        assert_true(header->frames[i] > 0);
        assert_true(length <= size - offset);
        assert_true(s->bytes + length <= s->limit);
        results_keep(s, bytes + offset, header->frames[i], has_time, has_time ? header->time[i] : 0);
        if (!s->is_reader)
            assert_true(s->next <= s->sent); /* every model of these tests gives one frame for one */
        offset += length;
    }
    assert_int_equal(offset, size);
    for (size_t i = 0; i < header->n_handle; i++) {
        struct wire_stream *s = stream_find(w, header->handle[i]);

        if (s->grant > 0 && s->limit - s->bytes < s->grant / 2)
            wire_credit(w, s, s->next, s->bytes + s->grant);
        else if (s->grant > 0)
            wire_credit(w, s, s->next, s->limit);
    }
}

bool wire_poll(struct wire *w, int timeout_ms)
{
    zmq_pollitem_t item = {w->socket, 0, ZMQ_POLLIN, 0};
    zmq_msg_t parts[3];
    int n = 0;

    if (zmq_poll(&item, 1, timeout_ms) <= 0)
        return false;
    do {
        assert_true(n < 3);
        zmq_msg_init(&parts[n]);
        assert_true(zmq_msg_recv(&parts[n], w->socket, 0) >= 0);
    } while (zmq_msg_more(&parts[n++]));
    w->messages_n++;
    if (n == 1)
        control_take(w, zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]));
    else if (n == 2)
        results_take(w, zmq_msg_data(&parts[0]), zmq_msg_size(&parts[0]), zmq_msg_data(&parts[1]),
                     zmq_msg_size(&parts[1]));
    else
        fail_msg("a message of %d parts", n);
    while (n-- > 0)
        zmq_msg_close(&parts[n]);
    return true;
}

/* ---- what is sent ------------------------------------------------------------------------------------------------ */

void wire_send_parts(struct wire *w, size_t n, const void *const *parts, const size_t *sizes)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(zmq_send(w->socket, parts[i], sizes[i], i + 1 < n ? ZMQ_SNDMORE : 0), (int)sizes[i]);
}

static void message_send(struct wire *w, const ProtobufCMessage *message)
{
    size_t size = proto_size(message);
    void *bytes = malloc(size + 1);

    assert_non_null(bytes);
    proto_encode(message, bytes);
    wire_send_parts(w, 1, (const void *const[]){bytes}, &size);
    free(bytes);
}

uint64_t wire_request_send(struct wire *w, Ssmd__FromClient *message)
{
    message->request_id = ++w->request;
    w->reply = NULL;
    message_send(w, &message->base);
    return w->request;
}

struct wire_stream *wire_opened(struct wire *w, const Ssmd__StreamInfo *info)
{
    assert_true(info->has_handle);
    return stream_new(w, info->handle, info);
}

ProtobufCBinaryData wire_bytes(const char *words)
{
    return (ProtobufCBinaryData){strlen(words), (uint8_t *)(uintptr_t)words};
}

int wire_request(struct wire *w, Ssmd__FromClient *message)
{
    (void)wire_request_send(w, message);
    WIRE_UNTIL(w, w->reply && w->reply->request_id == w->request);
    return w->reply->error ? (int)w->reply->error->code : SSMD__CODE__OK;
}

/* The words of w->feature, which lie in `text`; how many. */
static size_t features_split(const struct wire *w, char *text, size_t size, char **words, size_t most)
{
    char *rest = text, *word;
    size_t n = 0;

    snprintf(text, size, "%s", w->feature ? w->feature : "");
    while (n < most && (word = strsep(&rest, " ")) != NULL)
        if (*word)
            words[n++] = word;
    return n;
}

int wire_hello(struct wire *w)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Hello hello = SSMD__HELLO__INIT;
    char text[128], *words[8];
    int code;

    hello.version_min = hello.version_max = PROTO_VERSION;
    hello.writer.data = w->writer;
    hello.writer.len = sizeof(w->writer);
    hello.client = (char *)"test";
    hello.n_features = features_split(w, text, sizeof(text), words, sizeof(words) / sizeof(*words));
    hello.features = words;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_HELLO;
    message.hello = &hello;
    code = wire_request(w, &message);
    if (code == SSMD__CODE__OK) {
        assert_int_equal(w->reply->hello->incarnation.len, sizeof(w->incarnation));
        memcpy(w->incarnation, w->reply->hello->incarnation.data, sizeof(w->incarnation));
    }
    return code;
}

int wire_generate(struct wire *w, struct wire_stream *s, Ssmd__Generate *request)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    uint64_t before = s->sent;
    int code;

    request->handle = s->handle;
    request->epoch = s->epoch;
    request->first = s->sent;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_GENERATE;
    message.generate = request;
    s->sent += request->n_prompt + request->maximum;
    code = wire_request(w, &message);
    if (code != SSMD__CODE__OK)
        s->sent = before;
    return code;
}

int wire_cancel(struct wire *w, const struct wire_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Cancel cancel = SSMD__CANCEL__INIT;

    cancel.handle = s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_CANCEL;
    message.cancel = &cancel;
    return wire_request(w, &message);
}

int wire_ping(struct wire *w)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Ping ping = SSMD__PING__INIT;

    message.request_case = SSMD__FROM_CLIENT__REQUEST_PING;
    message.ping = &ping;
    return wire_request(w, &message);
}

uint64_t wire_counter(struct wire *w, const char *name)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Stats stats = SSMD__STATS__INIT;

    message.request_case = SSMD__FROM_CLIENT__REQUEST_STATS;
    message.stats = &stats;
    assert_int_equal(wire_request(w, &message), SSMD__CODE__OK);
    for (size_t i = 0; i < w->reply->stats->n_counters; i++)
        if (strcmp(w->reply->stats->counters[i]->name, name) == 0)
            return w->reply->stats->counters[i]->value;
    fail_msg("no counter %s", name);
    return 0;
}

int wire_try_open(struct wire *w, struct wire_stream **out, const char *id, const char *model, unsigned flags,
                  uint64_t results_from)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Open open = SSMD__OPEN__INIT;
    struct wire_stream *s;
    int code;

    *out = NULL;
    open.id = wire_bytes(id);
    open.model = (char *)(uintptr_t)model;
    open.has_mode = open.has_take_over = open.has_results = true;
    open.class_ = w->class;
    open.has_top_k = w->top_k > 0;
    open.top_k = w->top_k;
    open.has_generates = open.generates = w->generates;
    open.has_rate = w->rate > 0;
    open.rate = w->rate;
    open.has_native_rate = open.native_rate = w->native_rate;
    open.mode = flags & WIRE_CREATE   ? SSMD__OPEN_MODE__CREATE
                : flags & WIRE_RESUME ? SSMD__OPEN_MODE__RESUME
                                      : SSMD__OPEN_MODE__ANY;
    open.take_over = (flags & WIRE_TAKE_OVER) != 0;
    open.results = (flags & WIRE_RESULTS) != 0;
    open.has_results_from = (flags & WIRE_FROM) != 0;
    open.results_from = results_from;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_OPEN;
    open.history = w->history.interval ? &w->history : NULL;
    message.open = &open;
    code = wire_request(w, &message);
    if (code != SSMD__CODE__OK)
        return code;
    assert_int_equal(w->reply->answer_case, SSMD__REPLY__ANSWER_STREAM);
    *out = s = wire_opened(w, w->reply->stream);
    if (flags & WIRE_FROM)
        assert_int_equal(s->next, results_from);
    if ((flags & WIRE_RESULTS) && !(flags & WIRE_NO_CREDIT)) {
        s->grant = GRANT;
        wire_credit(w, s, s->next, GRANT);
    }
    return code;
}

struct wire_stream *wire_open(struct wire *w, const char *id, const char *model, unsigned flags)
{
    struct wire_stream *s;
    int code = wire_try_open(w, &s, id, model, flags, 0);

    if (code != SSMD__CODE__OK)
        fail_msg("open %s: %d %s", id, code, w->reply->error->text);
    return s;
}

int wire_read(struct wire *w, const char *id, bool prefix, const uint64_t *from, uint64_t limit)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Read read = SSMD__READ__INIT;
    ProtobufCBinaryData name = wire_bytes(id);

    read.has_id = !prefix;
    read.has_prefix = prefix;
    read.id = read.prefix = name;
    read.has_from = from != NULL;
    read.from = from ? *from : 0;
    read.has_limit = true;
    read.limit = w->read_limit = limit;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_READ;
    message.read = &read;
    return wire_request(w, &message);
}

uint64_t wire_close_send(struct wire *w, const struct wire_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Close request = SSMD__CLOSE__INIT;

    request.handle = s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_CLOSE;
    message.close = &request;
    return wire_request_send(w, &message);
}

int wire_close(struct wire *w, const struct wire_stream *s)
{
    uint64_t request = wire_close_send(w, s);

    WIRE_UNTIL(w, w->reply && w->reply->request_id == request);
    return w->reply->error ? (int)w->reply->error->code : SSMD__CODE__OK;
}

/* A request after which the stream begins again. */
static int begin_again(struct wire *w, struct wire_stream *s, Ssmd__FromClient *message)
{
    int code = wire_request(w, message);

    if (code == SSMD__CODE__OK) {
        const Ssmd__StreamInfo *info = w->reply->stream;

        s->epoch = info->epoch;
        s->sent = info->next;
        s->applied = info->applied;
        s->next = info->result_next;
    }
    return code;
}

int wire_reset(struct wire *w, struct wire_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Reset request = SSMD__RESET__INIT;

    request.handle = s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_RESET;
    message.reset = &request;
    return begin_again(w, s, &message);
}

int wire_move(struct wire *w, struct wire_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Move request = SSMD__MOVE__INIT;

    request.handle = s->handle;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_MOVE;
    message.move = &request;
    return begin_again(w, s, &message);
}

void wire_move_send(struct wire *w, const struct wire_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Move request = SSMD__MOVE__INIT;

    request.handle = s->handle;
    message.request_id = ++w->request;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_MOVE;
    message.move = &request;
    message_send(w, &message.base);
}

int wire_reload(struct wire *w, const char *model)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Reload request = SSMD__RELOAD__INIT;

    request.model = (char *)(uintptr_t)model;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_RELOAD;
    message.reload = &request;
    return wire_request(w, &message);
}

void wire_credit(struct wire *w, struct wire_stream *s, uint64_t received, uint64_t limit)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Credit credit = SSMD__CREDIT__INIT;

    credit.n_handle = credit.n_received = credit.n_limit = 1;
    credit.handle = &s->handle;
    credit.received = &received;
    credit.limit = &limit;
    s->limit = limit > s->limit ? limit : s->limit;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_CREDIT;
    message.credit = &credit;
    message_send(w, &message.base);
}

void wire_send(struct wire *w, const struct wire_chunk *chunks, size_t n)
{
    Ssmd__DataHeader header = SSMD__DATA_HEADER__INIT;
    uint32_t *narrow = calloc(n * 4 + 1, sizeof(*narrow));
    uint64_t *wide = calloc(n * 2 + 1, sizeof(*wide));
    int64_t *times = calloc(n + 1, sizeof(*times));
    size_t size = 0, head_size, length;
    unsigned char *payload, *head;

    assert_true(narrow && wide && times);
    for (size_t i = 0; i < n; i++) {
        const struct wire_chunk *c = &chunks[i];

        narrow[i] = c->stream->handle;
        narrow[n + i] = c->frames;
        narrow[2 * n + i] = c->format;
        narrow[3 * n + i] = c->flags;
        wide[i] = c->stream->epoch;
        wide[n + i] = c->first;
        times[i] = c->time;
        header.n_flags |= c->flags ? n : 0;
        header.n_time |= c->flags & PROTO_FLAG_TIME ? n : 0;
        size += (size_t)c->frames * c->stream->in_channels * proto_sample_bytes(c->format);
    }
    header.n_handle = header.n_epoch = header.n_first = header.n_frames = header.n_format = n;
    header.handle = narrow;
    header.frames = narrow + n;
    header.format = narrow + 2 * n;
    header.flags = narrow + 3 * n;
    header.epoch = wide;
    header.first = wide + n;
    header.time = times;
    head_size = proto_size(&header.base);
    head = malloc(head_size + 1);
    payload = malloc(size + 1);
    assert_true(head && payload);
    proto_encode(&header.base, head);
    size = 0;
    for (size_t i = 0; i < n; i++) {
        length = (size_t)chunks[i].frames * chunks[i].stream->in_channels * proto_sample_bytes(chunks[i].format);
        memcpy(payload + size, chunks[i].samples, length);
        size += length;
    }
    wire_send_parts(w, 2, (const void *const[]){head, payload}, (const size_t[]){head_size, size});
    free(head);
    free(payload);
    free(narrow);
    free(wide);
    free(times);
}

void wire_push(struct wire *w, struct wire_stream *s, const float *samples, uint32_t frames, uint32_t flags)
{
    struct wire_chunk chunk = {
        .stream = s, .first = s->sent, .frames = frames, .format = SSMD__FORMAT__F32LE, .flags = flags};

    chunk.samples = samples;
    s->sent += frames;
    wire_send(w, &chunk, 1);
}

/* ---- looking up -------------------------------------------------------------------------------------------------- */

struct wire_stream *wire_find(const struct wire *w, const char *id)
{
    for (size_t i = w->streams_n; i-- > 0;)
        if (w->streams[i] && strcmp(w->streams[i]->id, id) == 0)
            return w->streams[i];
    return NULL;
}

size_t wire_refusals(const struct wire *w, int code)
{
    size_t n = 0;

    for (size_t i = 0; i < w->refusals_n; i++)
        n += w->refusals[i].code == code;
    return n;
}

size_t wire_errors(const struct wire *w, int code)
{
    size_t n = 0;

    for (size_t i = 0; i < w->errors_n; i++)
        n += w->errors[i].code == code;
    return n;
}

size_t wire_events(const struct wire *w, int kind)
{
    size_t n = 0;

    for (size_t i = 0; i < w->events_n; i++)
        n += w->events[i].kind == kind;
    return n;
}

const struct wire_refusal *wire_last_refusal(const struct wire *w)
{
    assert_true(w->refusals_n > 0);
    return &w->refusals[w->refusals_n - 1];
}
