/* SPDX-License-Identifier: Apache-2.0
 * Compiling on engines, and choosing among them; see site.h. */
#include "daemon/site.h"

#include "daemon/admission.h"
#include "daemon/log.h"
#include "daemon/loop.h"
#include "daemon/models.h"

#include <string.h>

#define SLOTS_MAX    1000000 /* of max_streams, which a reload may raise; pools grow by slabs */
#define STREAM_BYTES 1024    /* what a stream takes beside its state, about: models without any are spread, too */

void site_init(struct site *site, struct model *model, struct unit *unit)
{
    *site = (struct site){.model = model, .unit = unit};
    lane_init(&site->live, site, false);
    lane_init(&site->backfill, site, true);
}

void site_fini(struct site *site)
{
    lane_fini(&site->live);
    lane_fini(&site->backfill);
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

uint32_t site_load_least(const struct site_load *loads, uint32_t n)
{
    double bytes = 0, least = 0;
    uint32_t best = 0;

    for (uint32_t i = 0; i < n; i++)
        bytes += (double)loads[i].bytes;
    for (uint32_t i = 0; i < n; i++) {
        double load = loads[i].busy + (bytes > 0 ? (double)loads[i].bytes / bytes : 0);

        if (i == 0 || load < least) {
            least = load;
            best = i;
        }
    }
    return best;
}

/* What a stream of the site costs, of all its like: devices of one kind differ by how well that was measured only. */
static double cost_alike(const struct loop *loop, const struct site *site)
{
    const struct model *model = site->model;
    double sum = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < loop->units.n; i++) {
        if (!model->site[i].program || strcmp(model->site[i].unit->text, site->unit->text) != 0)
            continue;
        sum += admission_cost(&model->site[i]);
        n++;
    }
    return n > 0 ? sum / n : 0;
}

static struct site_load unit_load(const struct loop *loop, uint32_t unit)
{
    struct site_load load = {0};
    const struct model *model;

    TAILQ_FOREACH(model, &loop->models.all, of_all) {
        const struct site *site = &model->site[unit];

        if (!site->program)
            continue;
        load.busy += cost_alike(loop, site) * site->live_streams;
        load.bytes += site->slots * (model->info.state_bytes + STREAM_BYTES);
    }
    return load;
}

struct site *site_choose(struct loop *loop, const struct model *model)
{
    struct site_load loads[SITES_MAX];
    struct site *sites[SITES_MAX];
    uint32_t n = 0;

    for (uint32_t i = 0; i < loop->units.n; i++)
        if (model->site[i].program && !loop->units.of[i].has_failed)
            sites[n++] = (struct site *)&model->site[i];
    for (uint32_t i = 0; i < n && n > 1; i++)
        loads[i] = unit_load(loop, (uint32_t)(sites[i] - model->site));
    return n > 1 ? sites[site_load_least(loads, n)] : n == 1 ? sites[0] : NULL;
}

/* ---- compiling --------------------------------------------------------------------------------------------------- */

static bool site_compile(struct site *site)
{
    struct model *model = site->model;

    site->job = (struct job){.kind = JOB_COMPILE, .model = model->model, .max_slots = SLOTS_MAX, .owner = site};
    if (!engine_submit(&site->unit->engine, &site->job)) /* never full: SPSC_SLOTS */
        return false;
    model->jobs++;
    return true;
}

bool sites_compile(struct loop *loop, struct model *model)
{
    for (uint32_t i = 0; i < loop->units.n; i++)
        site_init(&model->site[i], model, &loop->units.of[i]);
    for (uint32_t i = 0; i < loop->units.n; i++)
        if (!loop->units.of[i].is_spare && !loop->units.of[i].has_failed)
            (void)site_compile(&model->site[i]);
    return model->jobs > 0;
}

/* It is compiled: what its batches cost is known from two of them, or from one. */
static void site_begin(struct site *site, const struct job *job)
{
    site->program = job->program;
    site->frame_ns = site->cost_ns = job->frame_ns;
    if (!site->unit->is_device)
        return;
    for (uint32_t i = 0; i < 2 && job->tried[i].ns > 0; i++) {
        cost_take(&site->live_cost, job->tried[i].frames, job->tried[i].ns, BATCH_DEVICE_NS);
        cost_take(&site->backfill_cost, job->tried[i].frames, job->tried[i].ns, BATCH_DEVICE_NS);
    }
    site->frame_ns = site->cost_ns = cost_of_frame(&site->live_cost, BATCH_DEVICE_NS);
}

/* No device has the model: the processor may. */
static bool spare_compile(struct loop *loop, struct model *model)
{
    for (uint32_t i = 0; i < loop->units.n; i++)
        if (loop->units.of[i].is_spare && !model->site[i].job.owner)
            return site_compile(&model->site[i]);
    return false;
}

enum sites_answer sites_take(struct loop *loop, struct job *job)
{
    struct site *site = job->owner;
    struct model *model = site->model;

    model->jobs--;
    if (job->status == SSM_OK)
        site_begin(site, job);
    else if (site->unit->is_device)
        log_event(LOG_WARNING, "model_not_on_device", "model=%s engine=%s error=%s", model->name, site->unit->name,
                  job->error.text);
    if (model->jobs > 0)
        return SITES_WAIT;
    for (uint32_t i = 0; i < loop->units.n; i++)
        if (model->site[i].program)
            return SITES_READY;
    return spare_compile(loop, model) ? SITES_WAIT : SITES_FAILED;
}

bool sites_drop(struct loop *loop, struct model *model)
{
    for (uint32_t i = 0; i < loop->units.n; i++) {
        struct site *site = &model->site[i];

        if (!site->program)
            continue;
        site->job = (struct job){.kind = JOB_DROP, .program = site->program, .owner = site};
        if (!engine_submit(&site->unit->engine, &site->job)) /* never full: SPSC_SLOTS */
            continue;
        site->program = NULL;
        model->jobs++;
    }
    return model->jobs > 0;
}

bool sites_dropped(struct job *job)
{
    struct site *site = job->owner;

    return --site->model->jobs == 0;
}
