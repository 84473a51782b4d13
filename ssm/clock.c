/* SPDX-License-Identifier: Apache-2.0
 *
 * Clocks of a graph; see clock.h. */
#include "ssm/clock.h"

#include <stdlib.h>
#include <string.h>

#define TERM_MAX  UINT32_MAX   /* of a rate, so that products stay within 64 bits */
#define STEPS_MAX (1ull << 28) /* clocks times input frames that settling may count: a second */

static uint64_t gcd(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

static bool clocks_equal(const struct ssm_clock *a, const struct ssm_clock *b)
{
    return a->how == b->how && a->from == b->from && a->with == b->with && a->span == b->span &&
           a->stride == b->stride && a->factor == b->factor;
}

/* The number of that clock, which is new unless there is one just like it. */
static int clock_find(struct ssm_clocks *c, struct ssm_clock clock, uint32_t *out)
{
    uint64_t common = gcd(clock.num, clock.den);
    struct ssm_clock *grown;

    clock.num /= common;
    clock.den /= common;
    if (clock.num > TERM_MAX || clock.den > TERM_MAX)
        return SSM_LIMIT;
    for (*out = 0; *out < c->count; ++*out)
        if (clocks_equal(&c->clock[*out], &clock))
            return SSM_OK;
    grown = realloc(c->clock, (c->count + 1) * sizeof(*grown));
    if (!grown)
        return SSM_NOMEM;
    c->clock = grown;
    c->clock[c->count++] = clock;
    return SSM_OK;
}

int ssm_clocks_init(struct ssm_clocks *c)
{
    uint32_t input;

    *c = (struct ssm_clocks){.hop = 1};
    return clock_find(c, (struct ssm_clock){.how = SSM_CLOCK_INPUT, .num = 1, .den = 1}, &input);
}

int ssm_clock_slower(struct ssm_clocks *c, uint32_t from, uint32_t span, uint32_t stride, uint32_t *out)
{
    const struct ssm_clock *of = &c->clock[from];

    *out = from;
    if (span == 1 && stride == 1)
        return SSM_OK;
    return clock_find(c,
                      (struct ssm_clock){.how = SSM_CLOCK_SLOWER,
                                         .from = from,
                                         .span = span,
                                         .stride = stride,
                                         .num = of->num,
                                         .den = of->den * stride},
                      out);
}

int ssm_clock_faster(struct ssm_clocks *c, uint32_t from, uint32_t factor, uint32_t *out)
{
    const struct ssm_clock *of = &c->clock[from];

    *out = from;
    if (factor == 1)
        return SSM_OK;
    return clock_find(
        c,
        (struct ssm_clock){
            .how = SSM_CLOCK_FASTER, .from = from, .factor = factor, .num = of->num * factor, .den = of->den},
        out);
}

int ssm_clock_join(struct ssm_clocks *c, uint32_t a, uint32_t b, uint32_t *out)
{
    const struct ssm_clock *of = &c->clock[a], *other = &c->clock[b];

    *out = a;
    if (a == b)
        return SSM_OK;
    if (of->num != other->num || of->den != other->den)
        return SSM_CONFIG;
    return clock_find(
        c, (struct ssm_clock){.how = SSM_CLOCK_JOIN, .from = a, .with = b, .num = of->num, .den = of->den}, out);
}

int ssm_clock_pace(struct ssm_clocks *c, uint32_t from, uint32_t *out)
{
    const struct ssm_clock *of = &c->clock[from];

    return clock_find(c, (struct ssm_clock){.how = SSM_CLOCK_PACE, .from = from, .num = of->num, .den = of->den}, out);
}

int ssm_clock_lead(struct ssm_clocks *c, uint32_t clock, uint32_t later, uint32_t *out)
{
    struct ssm_clock_lead *grown = realloc(c->lead, (c->leads + 1) * sizeof(*grown));

    if (!grown)
        return SSM_NOMEM;
    c->lead = grown;
    *out = c->leads++;
    c->lead[*out] = (struct ssm_clock_lead){.clock = clock, .later = later};
    return SSM_OK;
}

void ssm_clocks_pop(struct ssm_clocks *c)
{
    c->count--;
    c->leads--;
}

void ssm_clocks_fini(struct ssm_clocks *c)
{
    free(c->clock);
    free(c->lead);
    memset(c, 0, sizeof(*c));
}

static inline uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void ssm_clocks_count(const struct ssm_clocks *c, uint64_t n, uint64_t *counts)
{
    counts[0] = n;
    for (uint32_t k = 1; k < c->count; k++) {
        const struct ssm_clock *clock = &c->clock[k];
        uint64_t from = counts[clock->from];

        switch (clock->how) {
        case SSM_CLOCK_INPUT:
            break;
        case SSM_CLOCK_SLOWER:
            counts[k] = ssm_clock_windows(from, clock->span, clock->stride);
            break;
        case SSM_CLOCK_FASTER:
            counts[k] = from * clock->factor;
            break;
        case SSM_CLOCK_JOIN:
            counts[k] = least(from, counts[clock->with]);
            break;
        case SSM_CLOCK_PACE:
            counts[k] =
                least(from, n / clock->den * clock->num + (n % clock->den * clock->num + clock->den - 1) / clock->den);
            break;
        }
    }
}

/* The least common multiple of all denominators. */
static int hop_find(struct ssm_clocks *c)
{
    uint64_t hop = 1;

    for (uint32_t k = 0; k < c->count; k++) {
        hop = hop / gcd(hop, c->clock[k].den) * c->clock[k].den;
        if (hop > SSM_HOP_MAX)
            return SSM_LIMIT;
    }
    c->hop = (uint32_t)hop;
    return SSM_OK;
}

static void leads_note(struct ssm_clocks *c, const uint64_t *counts)
{
    for (uint32_t i = 0; i < c->leads; i++) {
        struct ssm_clock_lead *lead = &c->lead[i];
        uint64_t ahead = counts[lead->clock] - counts[lead->later];

        if (ahead > lead->most)
            lead->most = ahead < UINT32_MAX ? (uint32_t)ahead : UINT32_MAX;
    }
}

int ssm_clocks_settle(struct ssm_clocks *c, uint32_t end, const char **what)
{
    const struct ssm_clock *last = &c->clock[end];
    uint64_t *counts = calloc(c->count, sizeof(*counts)), made = 0, lookahead = 0;
    int status = counts ? hop_find(c) : SSM_NOMEM;

    *what = "hop";
    for (uint64_t n = 1, left = c->hop + 1; status == SSM_OK && left > 0; n++) {
        if (n * c->count > STEPS_MAX || n > SSM_LOOKAHEAD_MAX + (uint64_t)c->hop) {
            *what = "lookahead";
            status = SSM_LIMIT;
            break;
        }
        ssm_clocks_count(c, n, counts);
        leads_note(c, counts);
        if (counts[end] > made) { /* output `made` came with input n-1, not with floor(made / ratio) */
            uint64_t late = n - 1 - made * last->den / last->num;

            lookahead = late > lookahead ? late : lookahead;
            made = counts[end];
        }
        if (made > 0) /* the start is over with input n-1: what the hop after it brings, all others bring */
            left--;
    }
    c->lookahead = (uint32_t)lookahead;
    free(counts);
    return status;
}
