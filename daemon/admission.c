/* SPDX-License-Identifier: Apache-2.0
 * Sums of rates, kept as streams become live and silent. */
#include "daemon/admission.h"
#include "daemon/log.h"

#include <stdio.h>
#include <string.h>

#define SAID_NS (10000 * CLOCK_MS) /* between two warnings: opens come in crowds */

double admission_cost(const struct site *site)
{
    return site->model ? site->cost_ns * site->model->info.in_rate * 1e-9 : 0;
}

double admission_load(const struct site *site)
{
    return admission_cost(site) * site->live_streams;
}

Ssmd__Code admission_check(struct loop *loop, const struct model *model, char *text, size_t size)
{
    const struct site *site = site_choose(loop, model);
    double cost = site ? admission_cost(site) : 0, sum = cost, most = loop->conf.admission_load / 100.0;
    const struct model *other;
    uint32_t live = 0;

    if (strcmp(loop->conf.admission, "off") == 0 || sum <= 0)
        return SSMD__CODE__OK;
    TAILQ_FOREACH(other, &loop->models.all, of_all) {
        const struct site *beside = &other->site[site - model->site];

        sum += admission_load(beside);
        live += beside->live_streams;
    }
    if (sum <= most)
        return SSMD__CODE__OK;
    if (strcmp(loop->conf.admission, "warn") == 0) {
        loop->counters.opens_warned_load++;
        if (loop->now_ns - loop->overload_ns > SAID_NS || loop->overload_ns == 0) {
            loop->overload_ns = loop->now_ns;
            log_event(LOG_WARNING, "overload_ahead", "model=%s cost_percent=%.3f live=%u load_percent=%.1f limit=%u",
                      model->name, cost * 100, live, sum * 100, loop->conf.admission_load);
        }
        return SSMD__CODE__OK;
    }
    loop->counters.limit_load++;
    snprintf(
        text, size,
        "the daemon has no time for it: a stream of this model takes %.2f%% of the engine, and with the %u that are "
        "live it would be %.2f%%, of %u%% allowed (admission_load)",
        cost * 100, live, sum * 100, loop->conf.admission_load);
    return SSMD__CODE__LIMIT;
}

void admission_live(const struct loop *loop, struct stream *stream)
{
    stream->live_ns = loop->now_ns;
    if (stream->is_live)
        return;
    stream->is_live = true;
    stream->site->live_streams++;
}

void admission_leave(struct stream *stream)
{
    if (!stream->is_live)
        return;
    stream->is_live = false;
    stream->site->live_streams--;
}

void admission_sweep(const struct loop *loop, struct stream *stream)
{
    if (stream->is_live && loop->now_ns - stream->live_ns > ADMISSION_IDLE_NS)
        admission_leave(stream);
}
