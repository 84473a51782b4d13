/* SPDX-License-Identifier: Apache-2.0
 *
 * Drain, close, reset, move and rollback: calls that wait until the daemon has everything that was pushed.
 *
 * Close, Reset, Move and Rollback go out only when every frame is applied. So a broken connection never leaves the question whether the
 * tail went in before them, and each may simply be asked again. A call that times out may be repeated: it goes on
 * waiting for what is on its way.
 */
#include "clients/c/client.h"

#include <inttypes.h>

/* The daemon stops taking a stream's input when its ring is full of results that were not taken here; waiting for it
 * then would wait for ever. */
static int check_results(const struct ssmc_stream *s)
{
    uint64_t ring = s->c->daemon.result_ring;
    uint64_t holds = ring < s->buffer_bytes ? ring : s->buffer_bytes;
    if (s->results.waiting < holds / 2 || s->results.waiting == 0)
        return SSMC_OK;
    return fail(s->c, SSMC_FULL, "stream %s: take its results first, %" PRIu64 " bytes are waiting", s->info.id,
                s->results.waiting);
}

/* One turn of waiting; 0 to look again. */
static int wait_turn(struct ssmc_stream *s, int64_t until, const char *what)
{
    int rc = check_results(s);
    if (rc != 0)
        return rc;
    rc = poll_until(s->c, until);
    if (rc == 0 && now_ns() >= until)
        return s->c->link == LINK_UP ? fail(s->c, SSMC_TIMEOUT, "stream %s: %s takes longer", s->info.id, what)
                                     : SSMC_TIMEOUT;
    return rc < 0 ? rc : 0;
}

static int check_writer(const struct ssmc_stream *s)
{
    if (s->reader)
        return fail(s->c, SSMC_INVAL, "stream %s is only read here", s->info.id);
    return stream_check(s);
}

int ssmc_drain(struct ssmc_stream *s, int timeout_ms)
{
    int64_t until = deadline_ns(timeout_ms);
    int rc;
    while ((rc = check_writer(s)) == 0 && s->info.applied < s->kept.next)
        if ((rc = wait_turn(s, until, "applying what was pushed")) != 0)
            return rc;
    return rc;
}

static void answer_close(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct ssmc_stream *s = r->context;
    if (!reply)
        return; /* asked again on the next connection */
    if (reply->error) {
        s->control_status = fail_refused(c, reply->error);
        return;
    }
    if (reply->answer_case == SSMD__REPLY__ANSWER_STREAM && reply->stream->out_channels == s->info.out_channels)
        stream_info_copy(&s->info, reply->stream);
    s->close_answered = true;
}

static void answer_reset(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct ssmc_stream *s = r->context;
    if (!reply)
        return;
    s->is_resetting = false;
    if (reply->error) {
        s->control_status = fail_refused(c, reply->error);
        return;
    }
    if (reply->answer_case != SSMD__REPLY__ANSWER_STREAM || reply->stream->epoch < s->info.epoch) {
        s->control_status = fail(c, SSMC_PROTOCOL, "the daemon answered reset with something else");
        return;
    }
    s->info.version = reply->stream->version;
    s->info.newest_version = reply->stream->has_newest_version ? reply->stream->newest_version : s->info.version;
    s->info.hop = reply->stream->hop;
    s->info.lookahead = reply->stream->lookahead;
    s->info.state_bytes = reply->stream->state_bytes;
    resume_new_epoch(s, reply->stream, 0);
}

static void answer_rollback(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct ssmc_stream *s = r->context;
    if (!reply)
        return;
    s->is_rolling = false;
    if (reply->error) {
        s->control_status = fail_refused(c, reply->error);
        return;
    }
    const Ssmd__StreamInfo *info = reply->answer_case == SSMD__REPLY__ANSWER_STREAM ? reply->stream : NULL;
    if (!info || info->epoch < s->info.epoch || info->next != s->roll_to) {
        s->control_status = fail(c, SSMC_PROTOCOL, "the daemon answered rollback with something else");
        return;
    }
    uint64_t next = s->result_next < info->result_next ? s->result_next : info->result_next;
    uint64_t granted = s->granted_received < next ? s->granted_received : next;
    resume_new_epoch(s, info, next);
    s->granted_received = granted; /* what waits here counts as taken: the daemon's ring may be full of it */
    transmit_credit_mark(s);
    s->info.history_oldest = info->history ? info->history->oldest : 0;
}

/* Sends close, reset, move or rollback as soon as everything is applied and nothing else is being asked. */
static void ask(struct ssmc_stream *s)
{
    Ssmd__FromClient message = SSMD__FROM_CLIENT__INIT;
    Ssmd__Close close_it = SSMD__CLOSE__INIT;
    Ssmd__Reset reset_it = SSMD__RESET__INIT;
    Ssmd__Move move_it = SSMD__MOVE__INIT;
    Ssmd__Rollback rollback = SSMD__ROLLBACK__INIT;
    request_answer_fn *answer = answer_close;
    if (s->state != STREAM_LIVE || s->request.id != 0 || s->info.applied < s->kept.next || s->close_answered)
        return;
    if (s->is_closing) {
        message.request_case = SSMD__FROM_CLIENT__REQUEST_CLOSE;
        message.close = &close_it;
        close_it.handle = s->handle;
    } else if (s->is_resetting && s->is_moving) {
        message.request_case = SSMD__FROM_CLIENT__REQUEST_MOVE;
        message.move = &move_it;
        move_it.handle = s->handle;
        answer = answer_reset;
    } else if (s->is_resetting) {
        message.request_case = SSMD__FROM_CLIENT__REQUEST_RESET;
        message.reset = &reset_it;
        reset_it.handle = s->handle;
        answer = answer_reset;
    } else {
        message.request_case = SSMD__FROM_CLIENT__REQUEST_ROLLBACK;
        message.rollback = &rollback;
        rollback.handle = s->handle;
        rollback.index = s->roll_to;
        answer = answer_rollback;
    }
    if (request_send(s->c, &s->request, &message, answer, s) == 0)
        s->close_sent |= s->is_closing;
}

static bool has_every_result(const struct ssmc_stream *s)
{
    return !s->wants_results || s->is_ended || s->result_next >= s->info.result_next;
}

/* Close, reset or rollback was refused, or the daemon lost the stream and it began again. */
static int take_status(struct ssmc_stream *s)
{
    int status = s->control_status;
    s->control_status = 0;
    s->is_closing = s->is_resetting = s->is_rolling = false;
    return status == SSMC_LOST ? fail(s->c, status, "stream %s: the daemon lost its state; it begins again", s->info.id)
                               : status;
}

int ssmc_close(struct ssmc_stream *s, int timeout_ms)
{
    int64_t until = deadline_ns(timeout_ms);
    int rc;
    if (s->is_resetting || s->is_rolling)
        return fail(s->c, SSMC_INVAL, "stream %s is being reset or goes back", s->info.id);
    s->is_closing = true;
    while ((rc = check_writer(s)) == 0) {
        if (s->control_status != 0)
            return take_status(s);
        ask(s);
        if (s->close_answered && has_every_result(s))
            return SSMC_OK;
        if ((rc = wait_turn(s, until, "closing")) != 0)
            return rc;
    }
    return rc;
}

static int begin_again(struct ssmc_stream *s, bool moves, int timeout_ms)
{
    int64_t until = deadline_ns(timeout_ms);
    int rc;
    if (s->is_closing || s->is_rolling || (s->is_resetting && s->is_moving != moves))
        return fail(s->c, SSMC_INVAL, "stream %s is closing, begins again or goes back", s->info.id);
    s->is_resetting = true;
    s->is_moving = moves;
    while ((rc = check_writer(s)) == 0) {
        if (s->control_status != 0)
            return take_status(s);
        if (!s->is_resetting)
            return SSMC_OK;
        ask(s);
        if ((rc = wait_turn(s, until, moves ? "moving" : "resetting")) != 0)
            return rc;
    }
    return rc;
}

int ssmc_reset(struct ssmc_stream *s, int timeout_ms)
{
    return begin_again(s, false, timeout_ms);
}

int ssmc_move(struct ssmc_stream *s, int timeout_ms)
{
    if (!s->c->has_versions && s->c->link == LINK_UP)
        return fail(s->c, SSMC_INVAL, "the daemon is too old to move streams");
    return begin_again(s, true, timeout_ms);
}

int ssmc_rollback(struct ssmc_stream *s, uint64_t index, int timeout_ms)
{
    int64_t until = deadline_ns(timeout_ms);
    int rc;
    if (s->is_closing || s->is_resetting)
        return fail(s->c, SSMC_INVAL, "stream %s is closing or being reset", s->info.id);
    if (!s->c->has_images && s->c->link == LINK_UP)
        return fail(s->c, SSMC_INVAL, "the daemon is too old to take streams back");
    if (s->is_rolling && index != s->roll_to)
        return fail(s->c, SSMC_INVAL, "stream %s goes back to another index already", s->info.id);
    s->is_rolling = true;
    s->roll_to = index;
    while ((rc = check_writer(s)) == 0) {
        if (s->control_status != 0)
            return take_status(s);
        if (!s->is_rolling)
            return SSMC_OK;
        ask(s);
        if ((rc = wait_turn(s, until, "going back")) != 0)
            return rc;
    }
    return rc;
}
