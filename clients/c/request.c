/* SPDX-License-Identifier: Apache-2.0
 *
 * Request ids, and the calls that wait for a reply.
 *
 * A call whose link breaks is sent again on the next one: every request may be repeated. The one that may not be
 * repeated blindly, open with CREATE, is dealt with in stream.c.
 */
#include "clients/c/client.h"

int request_send(struct ssmc *c, struct request *r, Ssmd__FromClient *message, request_answer_fn *answer, void *context)
{
    message->request_id = ++c->last_request;
    if (link_send(c, message) != 0)
        return -1;
    request_forget(c, r);
    *r = (struct request){message->request_id, answer, context, c->requests};
    c->requests = r;
    return 0;
}

void request_forget(struct ssmc *c, struct request *r)
{
    if (r->id == 0)
        return;
    struct request **at = &c->requests;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->id = 0;
}

void request_lose_all(struct ssmc *c)
{
    while (c->requests) {
        struct request *r = c->requests;
        request_forget(c, r);
        r->answer(c, r, NULL);
    }
}

void request_answer(struct ssmc *c, const Ssmd__Reply *reply)
{
    struct request *r = c->requests;
    while (r && r->id != reply->request_id)
        r = r->next;
    if (!r)
        return; /* of a call that gave up */
    request_forget(c, r);
    r->answer(c, r, reply);
}

struct call {
    bool is_answered, is_lost;
    int status;
    Ssmd__Reply__AnswerCase kind;
    reply_fn *done;
    void *context;
};

static void answer_call(struct ssmc *c, struct request *r, const Ssmd__Reply *reply)
{
    struct call *call = r->context;
    if (!reply) {
        call->is_lost = true;
        return;
    }
    call->is_answered = true;
    if (reply->error)
        call->status = fail_refused(c, reply->error);
    else if (reply->answer_case != call->kind)
        call->status = fail(c, SSMC_PROTOCOL, "the daemon answered something else than was asked");
    else
        call->status = call->done ? call->done(c, call->context, reply) : SSMC_OK;
}

int request_call(struct ssmc *c, Ssmd__FromClient *message, Ssmd__Reply__AnswerCase kind, reply_fn *done, void *context,
                 int timeout_ms)
{
    int64_t until = deadline_ns(timeout_ms);
    struct call call = {.is_lost = true, .kind = kind, .done = done, .context = context};
    struct request r = {0};
    int rc;
    do {
        if (call.is_lost && c->link == LINK_UP)
            call.is_lost = request_send(c, &r, message, answer_call, &call) != 0;
        rc = poll_until(c, until);
        if (call.is_answered)
            return call.status;
    } while (rc >= 0 && now_ns() < until);
    request_forget(c, &r);
    if (rc < 0)
        return rc;
    if (c->link != LINK_UP)
        return SSMC_TIMEOUT; /* the text says why there is no link */
    return fail(c, SSMC_TIMEOUT, "the daemon at %s did not answer in time", c->endpoint);
}
