/* SPDX-License-Identifier: Apache-2.0
 * Requests about states; see states.h. */
#include "tests/sys/states.h"
#include "tests/sys/serving.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PIECE 100000

struct wire *states_wire_new(const char *endpoint, const char *writer)
{
    struct wire *w = wire_connect(endpoint, writer);

    w->feature = "images";
    assert_int_equal(wire_hello(w), SSMD__CODE__OK);
    assert_int_equal(w->reply->hello->n_features, 1);
    assert_string_equal(w->reply->hello->features[0], "images");
    return w;
}

int states_snapshot_begin(struct wire *w, const char *id, uint32_t *image, uint64_t *bytes)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Snapshot snapshot = SSMD__SNAPSHOT__INIT;
    int code;

    snapshot.id = wire_bytes(id);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_SNAPSHOT;
    message.snapshot = &snapshot;
    code = wire_request(w, &message);
    if (code != SSMD__CODE__OK)
        return code;
    assert_int_equal(w->reply->answer_case, SSMD__REPLY__ANSWER_IMAGE);
    *image = w->reply->image->image;
    *bytes = w->reply->image->bytes;
    return code;
}

int states_fetch(struct wire *w, uint32_t image, uint64_t offset, uint32_t bytes)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Fetch fetch = SSMD__FETCH__INIT;

    fetch.image = image;
    fetch.offset = offset;
    fetch.bytes = bytes;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_FETCH;
    message.fetch = &fetch;
    return wire_request(w, &message);
}

int states_snapshot(struct wire *w, const char *id, struct states_image *out)
{
    uint64_t bytes, at = 0;
    uint32_t image;
    int code = states_snapshot_begin(w, id, &image, &bytes);

    memset(out, 0, sizeof(*out));
    if (code != SSMD__CODE__OK)
        return code;
    out->size = bytes;
    out->epoch = w->reply->image->epoch;
    out->index = w->reply->image->index;
    out->bytes = malloc(bytes);
    assert_non_null(out->bytes);
    while (at < bytes) {
        assert_int_equal(states_fetch(w, image, at, PIECE), SSMD__CODE__OK);
        assert_int_equal(w->reply->answer_case, SSMD__REPLY__ANSWER_PIECE);
        assert_int_equal(w->reply->piece->offset, at);
        assert_in_range(w->reply->piece->data.len, 1, bytes - at);
        memcpy(out->bytes + at, w->reply->piece->data.data, w->reply->piece->data.len);
        at += w->reply->piece->data.len;
        out->pieces++;
    }
    return SSMD__CODE__OK;
}

int states_put(struct wire *w, const unsigned char *bytes, size_t size, size_t piece, uint32_t *image)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Put put = SSMD__PUT__INIT;
    int code;

    message.request_case = SSMD__FROM_CLIENT__REQUEST_PUT;
    message.put = &put;
    put.bytes = size;
    for (size_t at = 0; at < size; at += put.data.len) {
        put.offset = at;
        put.data.data = (uint8_t *)(uintptr_t)bytes + at;
        put.data.len = size - at < piece ? size - at : piece;
        code = wire_request(w, &message);
        if (code != SSMD__CODE__OK)
            return code;
        assert_int_equal(w->reply->answer_case, SSMD__REPLY__ANSWER_IMAGE);
        assert_int_equal(w->reply->image->offset, at + put.data.len);
        put.has_image = true;
        put.image = *image = w->reply->image->image;
    }
    return SSMD__CODE__OK;
}

int states_restore(struct wire *w, const unsigned char *bytes, size_t size, const char *id)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Restore restore = SSMD__RESTORE__INIT;
    int code = states_put(w, bytes, size, PIECE, &restore.image);

    if (code != SSMD__CODE__OK)
        return code;
    restore.has_id = id != NULL;
    if (id)
        restore.id = wire_bytes(id);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_RESTORE;
    message.restore = &restore;
    return wire_request(w, &message);
}

int states_fork(struct wire *w, const char *id, const char *as)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Fork fork = SSMD__FORK__INIT;

    fork.id = wire_bytes(id);
    fork.new_id = wire_bytes(as);
    message.request_case = SSMD__FROM_CLIENT__REQUEST_FORK;
    message.fork = &fork;
    return wire_request(w, &message);
}

int states_rollback(struct wire *w, struct wire_stream *s, uint64_t index)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Rollback rollback = SSMD__ROLLBACK__INIT;
    int code;

    rollback.handle = s->handle;
    rollback.index = index;
    message.request_case = SSMD__FROM_CLIENT__REQUEST_ROLLBACK;
    message.rollback = &rollback;
    code = wire_request(w, &message);
    if (code == SSMD__CODE__OK) {
        const Ssmd__StreamInfo *info = w->reply->stream;

        assert_int_equal(info->next, index);
        assert_true(info->epoch > s->epoch);
        s->epoch = info->epoch;
        s->sent = info->next;
        s->applied = info->applied;
        if (info->result_next < s->next) {
            s->results = info->result_next > s->begin ? info->result_next - s->begin : 0;
            s->next = info->result_next;
        }
    }
    return code;
}

struct wire_stream *states_open_with_history(struct wire *w, const char *id, const char *model, uint32_t interval,
                                             uint32_t depth)
{
    struct wire_stream *s;

    w->history = (Ssmd__History)SSMD__HISTORY__INIT;
    w->history.interval = interval;
    w->history.depth = depth;
    s = wire_open(w, id, model, WIRE_RESULTS);
    assert_non_null(w->reply->stream->history);
    assert_int_equal(w->reply->stream->history->interval, interval);
    assert_true(w->reply->stream->history->has_bytes);
    w->history.interval = 0;
    return s;
}

void states_refused(const struct wire *w, int code, int expected, const char *says)
{
    if (code != expected || !strstr(w->reply->error->text, says))
        fail_msg("expected %d and '%s': %d %s", expected, says, code,
                 w->reply->error ? w->reply->error->text : "no error");
}

/* ---- what the streams are held against --------------------------------------------------------------------------- */

struct reference states_cases[STATES_CASES_MAX];
size_t states_cases_n;
struct reference *states_golden;

const void *states_in_at(const struct reference *r, uint64_t frame)
{
    return (const char *)r->in + frame * r->in_channels * 4;
}

void states_push(struct wire *w, struct wire_stream *s, const struct reference *r, uint64_t from, uint64_t to,
                 uint32_t flags)
{
    for (uint64_t at = from; at < to;) {
        uint32_t n = to - at < 100 ? (uint32_t)(to - at) : 100;
        struct wire_chunk chunk = {.stream = s,
                                   .first = s->sent,
                                   .frames = n,
                                   .format = r->vocab ? SSMD__FORMAT__I32LE : SSMD__FORMAT__F32LE,
                                   .flags = flags,
                                   .samples = states_in_at(r, at)};

        wire_send(w, &chunk, 1);
        s->sent += n;
        at += n;
    }
}

uint64_t states_results(struct reference *r, uint64_t frames)
{
    struct ssm_row row = {.slot = running_acquire(&r->running), .frames = (uint32_t)frames, .in = r->in};

    if (frames > 0) {
        row.out = malloc(ssm_out_frames_max(r->model, frames) * r->out_channels * sizeof(*row.out));
        assert_non_null(row.out);
        assert_int_equal(ssm_advance(r->running.program, &row, 1), SSM_OK);
        free(row.out);
    }
    ssm_slot_release(r->running.program, row.slot);
    return row.out_frames;
}

uint32_t states_interval(const struct reference *r)
{
    uint32_t grid = ssm_model_info(r->model)->grid;

    return (64 + grid - 1) / grid * grid;
}

void states_bits_check(const struct wire_stream *s, struct reference *r, uint64_t end)
{
    end = states_results(r, end);
    assert_int_equal(s->begin + s->results, end);
    if (memcmp(s->out, r->step + s->begin * r->out_channels, s->results * r->out_channels * sizeof(float)) != 0)
        fail_msg("%s: other bits from %llu to %llu", r->name, (unsigned long long)s->begin, (unsigned long long)end);
}

int states_group_open(void **state)
{
    states_cases_n = reference_load_all(states_cases, STATES_CASES_MAX);
    for (size_t i = 0; i < states_cases_n; i++)
        if (strcmp(states_cases[i].name, "case-forecast") == 0)
            states_golden = &states_cases[i];
    assert_non_null(states_golden);
    return serving_group_open(state);
}

int states_group_close(void **state)
{
    reference_free_all(states_cases, states_cases_n);
    return serving_group_close(state);
}
