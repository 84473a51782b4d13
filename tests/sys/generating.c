/* SPDX-License-Identifier: Apache-2.0
 *
 * See generating.h.
 */
#include "tests/sys/generating.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/ssm/making.h"

void generating_init(struct generating *g, const struct reference *r, uint32_t seed, uint32_t n, uint64_t maximum)
{
    ssmd__generate__init(&g->request);
    assert_true(n <= sizeof(g->prompt) / sizeof(*g->prompt));
    for (uint32_t i = 0; i < n; i++)
        g->prompt[i] = making_number(&seed, r->vocab);
    g->request.n_prompt = n;
    g->request.prompt = g->prompt;
    g->request.maximum = maximum;
    g->request.has_temperature = true;
    g->request.temperature = 4;
}

static bool is_stop(const Ssmd__Generate *request, int32_t token)
{
    for (size_t i = 0; i < request->n_stop; i++)
        if (request->stop[i] == (uint32_t)token)
            return true;
    return false;
}

uint32_t generating_by_hand(struct reference *r, const Ssmd__Generate *request, struct ssm_top *out)
{
    static struct ssm_sampler sampler;
    struct ssm_sampling s = {request->repetition_penalty,
                             request->repetition_window,
                             request->temperature,
                             request->top_k,
                             request->top_p,
                             request->min_p,
                             request->seed};
    float *logits = malloc((size_t)(request->n_prompt + 1) * r->vocab * sizeof(*logits));
    float *scratch = malloc(ssm_sample_floats(r->vocab) * sizeof(*scratch));
    int32_t *prompt = malloc((request->n_prompt + 1) * sizeof(*prompt));
    struct ssm_slot slot = running_acquire(&r->running);
    uint64_t index = request->n_prompt;
    uint32_t n = 0;

    assert_true(logits && scratch && prompt && request->n_prompt > 0);
    ssm_sampler_init(&sampler, &s);
    for (size_t i = 0; i < request->n_recent; i++)
        ssm_sampler_push(&sampler, (int32_t)request->recent[i]);
    for (size_t i = 0; i < request->n_prompt; i++) {
        prompt[i] = (int32_t)request->prompt[i];
        ssm_sampler_push(&sampler, prompt[i]);
    }
    running_advance(&r->running, slot, SSM_SCAN, prompt, (uint32_t)request->n_prompt, logits);
    memmove(logits, logits + (request->n_prompt - 1) * r->vocab, r->vocab * sizeof(*logits));
    for (;;) {
        assert_int_equal(ssm_sample(&sampler, logits, r->vocab, index++, scratch, &out[n]), SSM_OK);
        ssm_sampler_push(&sampler, out[n].token);
        n++;
        if (n == request->maximum || is_stop(request, out[n - 1].token))
            break;
        running_advance(&r->running, slot, SSM_STEP, &out[n - 1].token, 1, logits);
    }
    ssm_slot_release(r->running.program, slot);
    free(logits);
    free(scratch);
    free(prompt);
    return n;
}

struct ssm_top generating_token(const struct wire_stream *s, uint64_t index)
{
    struct ssm_top out;

    assert_in_range(index, s->begin, s->begin + s->results - 1);
    memcpy(&out, s->out + (index - s->begin) * s->out_channels, sizeof(out));
    return out;
}

const struct wire_event *generating_wait(struct wire *w, const struct wire_stream *s, size_t nth)
{
    const struct wire_event *event = NULL;
    size_t found = 0;

    WIRE_UNTIL(w, wire_events(w, SSMD__EVENT__KIND__GENERATED) > nth);
    for (size_t i = 0; i < w->events_n && !event; i++)
        if (w->events[i].kind == SSMD__EVENT__KIND__GENERATED && found++ == nth)
            event = &w->events[i];
    if (event->handle == s->handle)
        WIRE_UNTIL(w, s->next >= event->next);
    return event;
}
